//! Tests on a real kernel clock: a user-mode Linux guest whose clock is set wrong, with the daemon inside.
//!
//! The clock of the machine that runs the tests is never touched. Each scenario runs in a network and process
//! namespace of its own, which ends with its first process, whatever happens; everything that it starts ends with it.
//!
//! ```text
//!   run ──unshare──▶ scenario: tap device, NTS server (-x), forger, probe
//!                       └─ linux.uml ──init──▶ inside: sets its own clock wrong, starts the daemon, asks the probe
//! ```
//!
//! Two scenarios are of another kind: [`kernels`] of Debian's releases in an emulator, with nothing of them outside.
//!
//! This one program is all three: [`run`], [`scenario`] and [`inside`]. What the guest reports comes over its console,
//! one line of JSON each: [`report::Event`].

mod build;
mod exercise;
mod forger;
mod initramfs;
mod inside;
mod installation;
mod kernels;
mod killing;
mod lab;
mod leaping;
mod pki;
mod probe;
mod report;
mod rivals;
mod run;
mod scenario;
mod server;
mod turncoat;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["run", names @ ..] => run::run(names),
        ["list"] => {
            run::list();
            Ok(true)
        }
        ["scenario", name, folder] => scenario::run(name, folder.as_ref()),
        ["inside", plan] => inside::run(plan.as_ref()),
        ["kernel", plan] => kernels::inside::run(plan.as_ref()),
        _ => {
            eprintln!("usage: truechimer-guest run [SCENARIO…] | list");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("truechimer-guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
