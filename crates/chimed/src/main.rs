//! The Truechimer daemon.

use chimed::cli::{self, Name, Options};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let (name, rest) = cli::name_of(&arguments);
    match name {
        Name::Chronyd => chimed::chronyd::run(rest.iter().cloned()),
        Name::Ntpd => chimed::ntpd::run(rest.iter().cloned()),
        Name::NtpDaemon => chimed::ntp_daemon::run(rest.iter().cloned()),
        Name::Chimed => {
            let name = OsString::from("chimed");
            chimed::run(&Options::parse_from(std::iter::once(&name).chain(rest)))
        }
    }
}
