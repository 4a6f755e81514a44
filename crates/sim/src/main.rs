//! Sweeps over drawn worlds: `chime-sim --seeds N` runs the first N, `chime-sim --seed S` one of them in detail;
//! `chime-sim accuracy` measures the error in steady state.

use chime_sim::simulate::{SimulateOptions, run_file};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--seeds", count] => count.parse().map_or_else(|_| usage(), |count| sweep(0, count)),
        ["--seeds", count, "--from", first] => match (count.parse::<u64>(), first.parse()) {
            (Ok(count), Ok(first)) => sweep(first, count),
            _ => usage(),
        },
        ["--seed", seed] => seed.parse().map_or_else(
            |_| usage(),
            |seed| {
                println!("{}", chime_sim::sweep::describe(seed));
                if chime_sim::sweep::check(seed).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            },
        ),
        ["--speed"] => {
            print!("{}", chime_sim::accuracy::speed());
            ExitCode::SUCCESS
        }
        ["accuracy", options @ ..] => {
            chime_sim::accuracy::Options::parse(options).map_or_else(usage, |options| accuracy(&options))
        }
        ["simulate", file, rest @ ..] => simulate(file, rest),
        _ => usage(),
    }
}

/// `simulate FILE [--seed SEED] [--plot OUT] [--json]`, as `chime simulate` does it.
fn simulate(file: &str, rest: &[&str]) -> ExitCode {
    let mut options = SimulateOptions { file: file.into(), ..SimulateOptions::default() };
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        match (*argument, rest.as_slice().first()) {
            ("--json", _) => options.json = true,
            ("--seed", Some(seed)) => match seed.parse() {
                Ok(seed) => options.seed = Some(seed),
                Err(_) => return usage(),
            },
            ("--plot", Some(path)) => options.plot = Some(path.into()),
            _ => return usage(),
        }
        if *argument != "--json" {
            rest.next();
        }
    }
    match run_file(&options) {
        Ok((text, met)) => {
            print!("{text}");
            if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("chime-sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn accuracy(options: &chime_sim::accuracy::Options) -> ExitCode {
    match chime_sim::accuracy::run(options) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("chime-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: chime-sim --seeds COUNT [--from FIRST] | --seed SEED | --speed | \
         accuracy [--json] [--quick] [--seeds COUNT] [--world FILE | --only GROUP[/JITTER/WANDER]... | --draw REPORT PICTURE] | \
         simulate FILE [--seed SEED] [--plot OUT] [--json]"
    );
    ExitCode::from(2)
}

/// Runs the worlds and prints one line for each that fails.
fn sweep(first: u64, count: u64) -> ExitCode {
    let begin = std::time::Instant::now();
    let broken = chime_sim::sweep::run(first..first.saturating_add(count));
    for (seed, why) in &broken {
        println!("seed {seed}: {why}; replay: cargo xtask sim --seed {seed}");
    }
    let passed = count - broken.len() as u64;
    println!("{passed} worlds passed, {} failed, in {:.0} s", broken.len(), begin.elapsed().as_secs_f64());
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
