//! The Truechimer daemon.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    chimed::run(&chimed::cli::Options::parse())
}
