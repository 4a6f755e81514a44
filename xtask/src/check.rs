//! `quick`, `test` and `ci`: lists of steps, run one after the other, with a sum at the end.

mod step;

use crate::{Outcome, arch};
use anyhow::Result;
use step::{Step, run_all};

/// The inner loop: under a minute when warm.
pub(crate) fn quick(_arguments: &[String]) -> Result<Outcome> {
    Ok(run_all(&[formatting(), architecture(), pure_tests()]))
}

/// Everything that can be shown on one machine, from unit tests to a real kernel clock.
pub(crate) fn test(_arguments: &[String]) -> Result<Outcome> {
    Ok(run_all(&test_steps()))
}

/// What CI runs: the lints and documents first, since they fail fastest.
pub(crate) fn ci(_arguments: &[String]) -> Result<Outcome> {
    let mut steps = vec![lints(), documents(), dependencies()];
    steps.extend(test_steps());
    Ok(run_all(&steps))
}

fn test_steps() -> Vec<Step> {
    vec![
        formatting(),
        architecture(),
        all_tests(),
        vectors(),
        simulation(),
        peers_installed(),
        interop(),
        guest(),
    ]
}

fn formatting() -> Step {
    Step::cargo("formatting", &["fmt", "--all", "--check"])
}

fn architecture() -> Step {
    Step::xtask("arch", &["arch"])
}

fn dependencies() -> Step {
    Step::xtask("deny", &["deny"])
}

/// The pure crates' own tests: no network, no files, seconds.
fn pure_tests() -> Step {
    let mut arguments = vec!["test", "--quiet", "--lib"];
    arguments.extend(arch::pure_crates().flat_map(|name| ["--package", name]));
    Step::cargo("pure crates", &arguments)
}

/// Unit, vector, property, scenario, command line and documentation tests of every crate.
fn all_tests() -> Step {
    Step::cargo("workspace", &["test", "--quiet", "--workspace", "--no-fail-fast"])
}

fn lints() -> Step {
    Step::cargo("clippy", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn documents() -> Step {
    Step::cargo("documents", &["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"])
        .environment("RUSTDOCFLAGS", "-D warnings")
}

fn peers_installed() -> Step {
    Step::xtask("install peers", &["install-peers"])
}

/// Exchanges recorded with real daemons, one count for each.
fn vectors() -> Step {
    Step::xtask("vectors", &["vectors", "tests/vectors/data"])
}

/// Drawn worlds; a failure prints the command that replays it.
fn simulation() -> Step {
    Step::xtask("simulation", &["sim", "--seeds", "1000"])
}

/// Real chronyd, NTPsec and ntpd-rs in network namespaces, both directions.
fn interop() -> Step {
    Step::cargo("interop", &["run", "--quiet", "--package", "truechimer-interop", "--", "run"])
}

/// A real kernel clock, a day wrong, steered by the real daemon in a user-mode Linux guest.
fn guest() -> Step {
    Step::cargo("guest", &["run", "--quiet", "--package", "truechimer-guest", "--", "run"])
}
