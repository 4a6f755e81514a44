//! Runs scenarios side by side and reports them one by one.

use crate::pki::Pki;
use crate::sandbox;
use crate::scenarios::{self, Scenario};
use crate::stage::Stage;
use anyhow::{Result, anyhow, ensure};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many scenarios run at once unless told: they mostly wait for packets.
const JOBS_DEFAULT: usize = 8;

/// No scenario takes longer: every wait ends here.
const SCENARIO_MAX: Duration = Duration::from_secs(180);

/// What must never happen is not tried again: once is too often. Everything else has time limits that a busy machine with
/// several scenarios at once can miss, and gets a second try on its own.
const NEVER_AGAIN: [&str; 3] = ["middle/", "refusals/", "garbage/"];

/// Runs the scenarios whose names contain one of the words; true when all of them passed.
pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let (jobs, words) = parse(arguments)?;
    sandbox::prepare()?;
    let chosen: Vec<Scenario> = scenarios::all()
        .into_iter()
        .filter(|scenario| words.is_empty() || words.iter().any(|word| scenario.name.contains(word.as_str())))
        .collect();
    ensure!(!chosen.is_empty(), "no scenario is called like that");
    let pki = Arc::new(Pki::new(&sandbox::folder().join("pki"))?);
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let console = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(chosen.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = chosen.get(number) else { break };
                    if !run_one(scenario, number, &pki, &console) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.retain(|&number| {
        let scenario = &chosen[number];
        if NEVER_AGAIN.iter().any(|prefix| scenario.name.starts_with(prefix)) {
            return true;
        }
        println!("{}: once more, alone", scenario.name);
        !run_one(scenario, number, &pki, &console)
    });
    let failed = failed.len();
    println!("{} passed, {failed} failed", chosen.len() - failed);
    Ok(failed == 0)
}

fn parse(arguments: &[String]) -> Result<(usize, Vec<String>)> {
    let mut jobs = JOBS_DEFAULT;
    let mut words = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--jobs" {
            jobs = arguments.next().ok_or_else(|| anyhow!("--jobs needs a number"))?.parse()?;
        } else {
            words.push(argument.clone());
        }
    }
    Ok((jobs.max(1), words))
}

fn run_one(scenario: &Scenario, number: usize, pki: &Arc<Pki>, console: &Mutex<()>) -> bool {
    let start = Instant::now();
    let folder = sandbox::folder().join(scenario.name);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut stage =
            Stage::new(&format!("n{number}"), folder.clone(), Arc::clone(pki), start + SCENARIO_MAX)?;
        (scenario.run)(&mut stage)
    }));
    let result = result.unwrap_or_else(|_| Err(anyhow!("the scenario panicked")));
    let seconds = start.elapsed().as_secs_f64();
    let _guard = console.lock().unwrap_or_else(PoisonError::into_inner);
    match result {
        Ok(()) => {
            println!("pass {:58} {seconds:6.1} s", scenario.name);
            true
        }
        Err(error) => {
            println!("FAIL {:58} {seconds:6.1} s\n  {error:#}\n{}", scenario.name, Stage::logs(&folder));
            false
        }
    }
}
