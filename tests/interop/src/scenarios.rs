//! Everything that is tried. A scenario's name says what must hold.

mod changes;
mod chronyc;
mod chronyc_commands;
mod chronyc_fields;
mod chronyc_serving;
mod fast_path;
mod founding;
mod garbage;
mod harness;
mod keys;
mod leap;
mod malformed;
mod middle;
mod modes;
mod ntp_ctl;
mod ntpd_files;
mod ntpq;
mod our_client;
mod our_server;
mod over_ptp;
mod real_time_clock;
mod reference_clocks;
mod refusals;
mod samba;
mod smoothing;
mod takeover;
mod tools;
mod urgency;

pub(crate) use samba::ask as ask_samba;

use crate::stage::Stage;
use anyhow::Result;
use std::time::Duration;

/// Name and function of a scenario, as the modules list them.
type Entry = (&'static str, fn(&mut Stage) -> Result<()>);

/// One thing that must hold.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Stage) -> Result<()>,
}

/// Enough for key establishment, the initial burst and eight polls, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// All scenarios; the slow ones first, so that they overlap with the rest.
pub(crate) fn all() -> Vec<Scenario> {
    let lists = [
        keys::SCENARIOS,
        refusals::SCENARIOS,
        middle::SCENARIOS,
        changes::SCENARIOS,
        garbage::SCENARIOS,
        our_client::SCENARIOS,
        our_server::SCENARIOS,
        fast_path::SCENARIOS,
        modes::SCENARIOS,
        over_ptp::SCENARIOS,
        leap::SCENARIOS,
        samba::SCENARIOS,
        smoothing::SCENARIOS,
        takeover::SCENARIOS,
        tools::SCENARIOS,
        urgency::SCENARIOS,
        founding::SCENARIOS,
        chronyc::SCENARIOS,
        chronyc_commands::SCENARIOS,
        chronyc_fields::SCENARIOS,
        chronyc_serving::SCENARIOS,
        malformed::SCENARIOS,
        ntp_ctl::SCENARIOS,
        ntpq::SCENARIOS,
        real_time_clock::SCENARIOS,
        reference_clocks::SCENARIOS,
        ntpd_files::SCENARIOS,
        harness::SCENARIOS,
    ];
    lists.into_iter().flatten().map(|&(name, run)| Scenario { name, run }).collect()
}
