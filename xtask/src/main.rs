//! Every developer command: `cargo xtask COMMAND`.
//!
//! Owns the table of commands and nothing else: each command is a module with a
//! `run(arguments) -> anyhow::Result<Outcome>`. To add one, add the module and a line in
//! [`COMMANDS`].

mod accuracy;
mod arch;
mod bench;
mod check;
mod deny;
#[cfg(test)]
mod documents;
mod peers;
mod rfc;
mod sim;
mod vectors;
mod workspace;

use std::process::ExitCode;

/// How a command ended, when it could be carried out at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Everything that was checked holds.
    Passed,
    /// Something does not hold; the command has printed what.
    Failed,
}

impl Outcome {
    /// `Passed` when there is nothing to complain about.
    pub(crate) fn from_failures(failures: usize) -> Self {
        if failures == 0 { Self::Passed } else { Self::Failed }
    }
}

/// One developer command.
struct Command {
    name: &'static str,
    help: &'static str,
    run: fn(&[String]) -> anyhow::Result<Outcome>,
}

/// The commands, in the order in which `cargo xtask` lists them.
const COMMANDS: &[Command] = &[
    Command { name: "quick", help: "formatting, arch, unit tests of the pure crates", run: check::quick },
    Command { name: "test", help: "everything, from unit tests to interop and guest", run: check::test },
    Command { name: "ci", help: "what CI runs: lints, docs, deny, then test", run: check::ci },
    Command { name: "arch", help: "dependency arrows, and what pure crates must not do", run: arch::run },
    Command { name: "deny", help: "licences, bans and sources of the dependencies", run: deny::run },
    Command { name: "rfc", help: "lists the RFC sections cited in code and in tests", run: rfc::run },
    Command { name: "vectors", help: "FOLDER: recorded exchanges with real daemons", run: vectors::run },
    Command {
        name: "bench",
        help: "requests per second, next to chronyd; or only: ntp nts ke ke-idle stamps cores clients footprint",
        run: bench::run,
    },
    Command {
        name: "accuracy",
        help: "error in steady state, next to chrony's: [--json] [--quick] [--seeds COUNT] [--world FILE]",
        run: accuracy::run,
    },
    Command {
        name: "sim",
        help: "drawn worlds: --seeds COUNT [--from FIRST], --seed SEED, or --speed",
        run: sim::run,
    },
    Command { name: "install-peers", help: "chrony, NTPsec and ntpd-rs into .lab/", run: peers::run },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        print_help();
        return ExitCode::from(2);
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("xtask: no command `{name}`");
        print_help();
        return ExitCode::from(2);
    };
    match (command.run)(&arguments.collect::<Vec<_>>()) {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_help() {
    eprintln!("usage: cargo xtask COMMAND [ARGUMENTS]\n");
    for command in COMMANDS {
        eprintln!("  {:14} {}", command.name, command.help);
    }
}
