//! A daemon that is killed while it slews: the kernel goes on with the slew, and `chimed --end-slew` ends it.

use crate::exercise::{FREQUENCY_ERROR_PPM, check, running_ppm};
use crate::report::Event;
use crate::server::{self, INSIDE_FOLDER};
use anyhow::{Context, Result, bail, ensure};
use chime_sys::adjust::kernel_state;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// A clock that runs so much too fast or too slow is slewing, in ppm.
const SLEWING_PPM: f64 = 10_000.0;

/// How long the daemon may take until it slews.
const SLEW_WAIT: Duration = Duration::from_secs(20);

/// Waits for the slew, kills the daemon, looks, ends the slew, and looks again.
pub(crate) fn run(words: &[String], daemon: &mut Child) -> Result<()> {
    let started = Instant::now();
    while kernel_ppm()?.abs() < SLEWING_PPM {
        ensure!(started.elapsed() < SLEW_WAIT, "the daemon does not slew");
        thread::sleep(Duration::from_millis(50));
    }
    // Somebody runs it by hand: the daemon is there and ends its slews itself.
    let (succeeds, said) = end_slew(words)?;
    ensure!(!succeeds && said.contains("another daemon"), "not refused while a daemon runs: {said}");
    ensure!(kernel_ppm()?.abs() > SLEWING_PPM, "what was refused was done");

    daemon.kill()?;
    let _killed = daemon.wait()?;
    let left_ppm = kernel_ppm()?;
    ensure!(left_ppm.abs() > SLEWING_PPM, "the slew was over: nothing is shown");
    check("pace that a killed daemon leaves, in ppm", left_ppm, running_ppm()?, FREQUENCY_ERROR_PPM);

    let (succeeds, said) = end_slew(words)?;
    ensure!(succeeds, "it fails: {said}");
    let saved_ppm = saved_ppm()?;
    check("frequency that was saved, in ppm", saved_ppm, kernel_ppm()?, 1e-3);
    check("pace of the clock with it, in ppm", saved_ppm, running_ppm()?, FREQUENCY_ERROR_PPM);

    let (succeeds, said) = end_slew(words)?;
    ensure!(succeeds && said.contains("not slewing"), "a clock that is let be: {said}");
    check("frequency then, in ppm", saved_ppm, kernel_ppm()?, 1e-3);
    Ok(())
}

/// Tick and frequency of the kernel's clock, together.
fn kernel_ppm() -> Result<f64> {
    Ok(kernel_state()?.frequency.as_ppm())
}

/// Runs `chimed --end-slew` with the daemon's configuration, as the service manager does; whether it succeeds, and what it says.
fn end_slew(daemon: &[String]) -> Result<(bool, String)> {
    let [program, .., configuration] = daemon else { bail!("the plan names no daemon") };
    let output = Command::new(program).args(["--end-slew", "-c", configuration]).output()?;
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    for line in said.lines() {
        Event::Log { line: line.to_owned() }.print();
    }
    Ok((output.status.success(), said.into_owned()))
}

/// What the drift file says now.
fn saved_ppm() -> Result<f64> {
    let file = server::drift_path(Path::new(INSIDE_FOLDER));
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let word = text.lines().nth(1).and_then(|line| line.split(' ').next()).context("an empty drift file")?;
    word.parse().with_context(|| format!("{word} is no frequency"))
}
