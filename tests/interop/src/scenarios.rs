//! Everything that is tried. A scenario's name says what must hold.

mod harness;

use crate::stage::Stage;
use anyhow::Result;

/// Name and function of a scenario, as the modules list them.
type Entry = (&'static str, fn(&mut Stage) -> Result<()>);

/// One thing that must hold.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Stage) -> Result<()>,
}

/// All scenarios; the slow ones first, so that they overlap with the rest.
pub(crate) fn all() -> Vec<Scenario> {
    harness::SCENARIOS.iter().map(|&(name, run)| Scenario { name, run }).collect()
}
