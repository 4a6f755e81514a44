//! The Truechimer daemon.

use chimed::cli::{self, Habits, Options};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match cli::habits_of(&arguments) {
        (Habits::Chronyd, rest) => chimed::chronyd::run(rest.iter().cloned()),
        (Habits::Ours, rest) => {
            let name = OsString::from("chimed");
            chimed::run(&Options::parse_from(std::iter::once(&name).chain(rest)))
        }
    }
}
