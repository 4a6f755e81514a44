//! `chime`: reports, checks, one-shot queries, diagnosis, demonstration.
//!
//! Shows what the daemon knows and decides nothing. Commands that ask the daemon fetch one snapshot over
//! its Unix socket and lay it out here, with the same functions that the daemon's HTTP side uses.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod config_check;
mod config_show;
mod demo;
mod exit;
mod generate;
mod ke;
mod query;
mod reports;
mod simulate;
mod terminal;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command, ConfigCommand};
use client::{Daemon, DaemonError};
use exit::Exit;
use terminal::{Terminal, print};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if let Some(Command::Daemon(options)) = &cli.command {
        return demo::daemon(options);
    }
    let exit = run(&cli).unwrap_or_else(|error| {
        eprintln!("chime: {error:#}");
        let unreachable = error
            .downcast_ref::<DaemonError>()
            .is_some_and(|error| !matches!(error, DaemonError::Refused(_)));
        if unreachable { Exit::NoDaemon } else { Exit::Failure }
    });
    exit.into()
}

fn run(cli: &Cli) -> Result<Exit> {
    let daemon = Daemon::find(cli.common.socket.as_deref());
    let terminal = Terminal::detect(cli.common.color);
    let Some(command) = &cli.command else {
        return reports::show_status(&daemon, cli.json, terminal);
    };
    if let Some(report) = command.report() {
        return reports::show_report(&daemon, report, terminal);
    }
    if let Some(command) = command.for_daemon() {
        daemon.command(&command)?;
        print("200 OK\n")?;
        return Ok(Exit::Success);
    }
    match command {
        Command::Status { json } => reports::show_status(&daemon, *json || cli.json, terminal),
        Command::Check(options) => reports::check(&daemon, options),
        Command::Query(options) => query::query(options, terminal),
        Command::Demo => demo::demo(terminal),
        Command::Simulate(options) => simulate::run(options),
        Command::Config { command } => configuration(command, terminal),
        Command::Ke(options) => ke::run(options, terminal),
        Command::Generate { what } => generate::generate(what),
        _ => unreachable!("reports, commands to the daemon and the daemon itself are handled above"),
    }
}

fn configuration(command: &ConfigCommand, terminal: Terminal) -> Result<Exit> {
    match command {
        ConfigCommand::Check(file) => config_check::check(file, terminal),
        ConfigCommand::Show(file) => config_show::show(file, terminal),
        ConfigCommand::Convert { file, to: _ } => config_show::convert(file, terminal),
        ConfigCommand::Explain(file) => config_show::explain(file, terminal),
    }
}

/// Usage errors exit with 2, except for `check`: to a monitoring system that would be CRITICAL.
fn usage(error: &clap::Error) -> ExitCode {
    const UNKNOWN: u8 = 3;
    let _ = error.print();
    let is_check = std::env::args_os().skip(1).any(|argument| argument == "check")
        && !std::env::args_os().any(|argument| argument == "config");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_check => ExitCode::from(UNKNOWN),
        _ => ExitCode::from(2),
    }
}
