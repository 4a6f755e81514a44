//! Interoperability tests: real peers, real packets, network namespaces, clocks untouched.
//!
//! `install` unpacks the peers into `.lab/` of the tree; `run [WORD…]` runs the scenarios whose
//! names contain one of the words, or all of them. Everything a run makes lives in namespaces of
//! its own ([`sandbox`]), so nothing of it outlives the run, however it ends.

mod garbage;
mod install;
mod listen;
mod malformed;
mod middle;
mod network;
mod peers;
mod pki;
mod process;
mod runner;
mod sandbox;
mod scenarios;
mod stage;
mod tree;

use anyhow::{Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("interop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when everything that was asked for went well.
fn dispatch(arguments: &[String]) -> Result<bool> {
    let (command, rest) =
        arguments.split_first().map_or(("", arguments), |(first, rest)| (first.as_str(), rest));
    match command {
        "install" => install::all().map(|()| true),
        "list" => {
            scenarios::all().iter().for_each(|scenario| println!("{}", scenario.name));
            Ok(true)
        }
        "run" => {
            install::all()?;
            tree::build_own_programs()?;
            tree::build_ntpd_rs_tools()?;
            sandbox::reenter("inside", rest)
        }
        // Only for ourselves, in the sandbox.
        "inside" => runner::run(rest),
        "middle" => middle::run(rest).map(|()| true),
        "listen" => listen::run(rest).map(|()| true),
        "malformed" => malformed::run(rest).map(|()| true),
        "samba" => scenarios::ask_samba(rest).map(|()| true),
        "garbage" => garbage::run(rest).map(|()| true),
        _ => bail!("usage: truechimer-interop install | list | run [--jobs N] [WORD…]"),
    }
}
