//! All scenarios, one after the other, each in namespaces of its own.

use crate::scenario::{self, SCENARIOS, Scenario};
use crate::{build, installation, kernels, lab};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a scenario may take beyond watching its guest: to start, to boot, to stop.
const SCENARIO_SLACK: Duration = Duration::from_secs(120);

/// Prints the names of the scenarios.
pub(crate) fn list() {
    for scenario in SCENARIOS {
        println!("{:14} {}", scenario.name, scenario.about);
    }
}

/// Runs the scenarios with these names, or all; true when all went as expected.
pub(crate) fn run(names: &[&str]) -> Result<bool> {
    let scenarios = chosen(names)?;
    installation::ensure_tools()?;
    let (chimed, parent) = (build::chimed()?, build::target().join("guest"));
    let mut failed = Vec::new();
    for scenario in &scenarios {
        println!("{}: {}", scenario.name, scenario.about);
        let mut passed = attempt(scenario, &chimed, &parent)?;
        if !passed && scenario.may_try_again() {
            println!("{}: once more, in case the machine was busy", scenario.name);
            passed = attempt(scenario, &chimed, &parent)?;
        }
        if !passed {
            failed.push(scenario.name);
        }
    }
    println!("{} passed, {} failed", scenarios.len() - failed.len(), failed.len());
    Ok(failed.is_empty())
}

/// Runs one scenario and tells how it went.
fn attempt(scenario: &Scenario, chimed: &Path, parent: &Path) -> Result<bool> {
    let folder = lab::fresh_folder(parent, scenario.name)?;
    if let Some(release) = scenario.kernel() {
        kernels::prepare(release, chimed, &folder)?;
    }
    let started = Instant::now();
    let passed = run_one(scenario, chimed, &folder)?;
    show(&folder, passed);
    let word = if passed { "ok" } else { "FAILED" };
    println!("{}: {word} ({:.0} s)", scenario.name, started.elapsed().as_secs_f64());
    if !passed {
        println!("{}: see {}", scenario.name, folder.display());
    }
    Ok(passed)
}

fn chosen(names: &[&str]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().filter(|scenario| scenario.is_default()).collect());
    }
    names
        .iter()
        .map(|name| scenario::find(name).with_context(|| format!("there is no scenario {name}")))
        .collect()
}

/// Runs one scenario in a process of its own, the first of its process namespace: when that ends, or when we do,
/// everything in there ends, and with it the network namespace and the wire.
fn run_one(scenario: &Scenario, chimed: &Path, folder: &Path) -> Result<bool> {
    let program = std::env::current_exe()?;
    let output = File::create(folder.join("output"))?;
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let mut child = command
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(program)
        .args(["scenario", scenario.name])
        .arg(folder)
        .env("TRUECHIMER_CHIMED", chimed)
        .stdin(Stdio::null())
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(output))
        .spawn()
        .context("running unshare")?;
    let limit = Duration::from_secs_f64(scenario.watch_seconds()) + SCENARIO_SLACK;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if started.elapsed() > limit {
            let _gone = child.kill();
            let _status = child.wait();
            println!("  did not end within {limit:?}");
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Prints what a scenario said: all of it when it failed, the figures when all is well.
fn show(folder: &Path, passed: bool) {
    let output = fs::read_to_string(folder.join("output")).unwrap_or_default();
    let is_figure =
        |line: &&str| line.starts_with("  ") && !line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    for line in output.lines().filter(|line| !passed || is_figure(line)) {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn names_choose_scenarios() -> Result<()> {
        assert_eq!(chosen(&["forger"])?.len(), 1);
        assert!(chosen(&[])?.iter().all(|scenario| scenario.name != "reference"));
        let Err(error) = chosen(&["nonsense"]) else { bail!("a name that nobody has") };
        assert!(error.to_string().contains("nonsense"));
        Ok(())
    }
}
