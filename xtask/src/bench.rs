//! `bench`: builds what is measured, unpacks chronyd, and runs the benchmarks.

use crate::Outcome;
use crate::workspace::{cargo, root};
use anyhow::{Context, Result};
use std::process::Command;

/// Arguments go to the benchmarks: `--json`, `--only plain`, `--runs 5`, …
pub(crate) fn run(arguments: &[String]) -> Result<Outcome> {
    let own = |words: &[&str], more: &[String]| {
        let mut command = Command::new(cargo());
        command.current_dir(root()).args(words).args(more);
        command
            .status()
            .with_context(|| format!("cannot run cargo {}", words.join(" ")))
            .map(|status| status.success())
    };
    let steps: [(&[&str], &[String]); 3] = [
        // Both programs in one folder: the benchmarks look for the daemon beside themselves.
        (&["build", "--quiet", "--release", "--package", "chimed", "--package", "truechimer-benches"], &[]),
        (&["run", "--quiet", "--package", "truechimer-interop", "--", "install"], &[]),
        (&["run", "--quiet", "--release", "--package", "truechimer-benches", "--"], arguments),
    ];
    for (words, more) in steps {
        if !own(words, more)? {
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Passed)
}
