//! One step of a check: a name, something to run, how long it took and what it counted.

use crate::Outcome;
use crate::workspace::{cargo, root};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a step found: tests, or itself as one test when it does not count any.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// A named part of a check: a child process whose output is shown and whose result lines are
/// added up.
pub(crate) struct Step {
    name: &'static str,
    program: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Step {
    /// A step that runs cargo in the root of the tree.
    pub(crate) fn cargo(name: &'static str, arguments: &[&str]) -> Self {
        Self::process(name, cargo(), arguments)
    }

    /// A step that runs another command of this program.
    pub(crate) fn xtask(name: &'static str, arguments: &[&str]) -> Self {
        let own =
            std::env::current_exe().map_or_else(|_| "xtask".to_owned(), |path| path.display().to_string());
        Self::process(name, own, arguments)
    }

    /// The same step with one more environment variable.
    pub(crate) fn environment(mut self, variable: &'static str, value: &'static str) -> Self {
        self.environment.push((variable, value));
        self
    }

    fn process(name: &'static str, program: String, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { name, program, arguments, environment: Vec::new() }
    }

    fn run(&self) -> Tally {
        run_process(&self.program, &self.arguments, &self.environment).unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", self.name);
            Tally::one(false)
        })
    }
}

impl Tally {
    fn one(is_good: bool) -> Self {
        if is_good { Self { passed: 1, failed: 0 } } else { Self { passed: 0, failed: 1 } }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs all steps, also after a failure, and prints a table and the sum.
pub(crate) fn run_all(steps: &[Step]) -> Outcome {
    let mut rows: Vec<(&str, Duration, Tally)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("--- {} ({} of {})", step.name, index + 1, steps.len());
        let start = Instant::now();
        let tally = step.run();
        rows.push((step.name, start.elapsed(), tally));
    }
    println!("\n{:16} {:>9} {:>8} {:>8}", "step", "seconds", "passed", "failed");
    let mut sum = Tally::default();
    for (name, elapsed, tally) in &rows {
        let mark = if tally.failed == 0 { "" } else { "  FAILED" };
        println!("{name:16} {:9.1} {:8} {:8}{mark}", elapsed.as_secs_f64(), tally.passed, tally.failed);
        sum.add(*tally);
    }
    println!("\n{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed == 0 { Outcome::Passed } else { Outcome::Failed }
}

fn run_process(program: &str, arguments: &[String], environment: &[(&str, &str)]) -> Result<Tally> {
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            tally.add(parse_result_line(&line).unwrap_or_default());
        }
    }
    let is_good = child.wait()?.success();
    if is_good != (tally.failed == 0) || tally == Tally::default() {
        tally.add(Tally::one(is_good));
    }
    Ok(tally)
}

/// Understands `test result: ok. 12 passed; 0 failed; …`, `12 passed, 0 failed` and `12 worlds passed, 0 failed`.
fn parse_result_line(line: &str) -> Option<Tally> {
    let rest = match line.trim().strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => line.trim(),
    };
    let (passed, rest) = rest.split_once(" passed")?;
    let rest = rest.strip_prefix("; ").or_else(|| rest.strip_prefix(", "))?;
    let (failed, _) = rest.split_once(" failed")?;
    let passed = passed.split(' ').next()?;
    Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_of_cargo_and_of_our_own_tools_are_added_up() {
        let cargo = "test result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(parse_result_line(cargo), Some(Tally { passed: 12, failed: 1 }));
        assert_eq!(parse_result_line("3 passed, 0 failed"), Some(Tally { passed: 3, failed: 0 }));
        assert_eq!(parse_result_line("50 worlds passed, 1 failed"), Some(Tally { passed: 50, failed: 1 }));
        assert_eq!(parse_result_line("the bus passed, 2 failed"), None);
    }

    #[test]
    fn a_process_that_fails_without_counting_counts_once() {
        let run = |script: &str| run_process("sh", &["-c".to_owned(), script.to_owned()], &[]).unwrap();
        assert_eq!(run("true"), Tally { passed: 1, failed: 0 });
        assert_eq!(run("exit 3"), Tally { passed: 0, failed: 1 });
        assert_eq!(run("echo 5 passed, 0 failed; exit 1"), Tally { passed: 5, failed: 1 });
        assert_eq!(run("echo 5 passed, 2 failed; exit 1"), Tally { passed: 5, failed: 2 });
    }
}
