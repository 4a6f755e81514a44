//! Checks a folder of vectors: `cargo xtask vectors FOLDER`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: cargo xtask vectors FOLDER");
        return ExitCode::from(2);
    };
    match truechimer_vectors::check_folder(&PathBuf::from(folder)) {
        Ok(report) => {
            for failure in &report.failures {
                println!("{failure}");
            }
            println!("{} passed, {} failed", report.passed, report.failures.len());
            if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("vectors: {error:#}");
            ExitCode::FAILURE
        }
    }
}
