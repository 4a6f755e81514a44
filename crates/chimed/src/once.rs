//! Measuring once: `chimed -Q`, `chimed -q` and `chime query`.

use crate::broadcasts::Broadcasts;
use crate::card_clocks::CardClocks;
use crate::clock_shell::ClockShell;
use crate::event_log::EventLog;
use crate::exchanges::Exchanges;
use crate::leap_table::LeapTables;
use crate::publish::Publisher;
use crate::reference_clocks::ReferenceClocks;
use crate::serving::Shared;
use crate::state::StateKeeper;
use crate::time_plane::{Inline, InlineDesks, Parts, Reload, Stop, TimePlane, Turn};
use crate::trust::Trusts;
use crate::{urgency, wiring};
use anyhow::{Context, Result, anyhow};
use chime_config::Model;
use chime_discipline::ClockCommand;
use chime_engine::{Engine, EngineReport, SourceReport};
use chime_sys::adjust::{ClockDriver, KernelClock, ObserveOnly};
use chime_sys::{clock, poll, random};
use chime_time::{ClockReading, NtpDuration};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Samples of each answering source that are waited for, if there is time.
const SAMPLES_WANTED: u32 = 4;

/// What measuring gave.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The state of everything at the end.
    pub report: EngineReport,
    /// Whether a trustworthy time was found: enough sources agree, as the policy asks.
    pub trustworthy: bool,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Whether the time limit ended it.
    pub timed_out: bool,
}

impl Measurement {
    /// How far the clock is off, as found at the end; seconds, positive = the system clock is behind.
    #[must_use]
    pub fn offset_seconds(&self) -> f64 {
        self.report.tracking.system_offset_seconds
    }

    /// The bound of the error of [`Measurement::offset_seconds`]; seconds.
    #[must_use]
    pub fn error_bound_seconds(&self) -> f64 {
        self.report.tracking.root_delay_seconds / 2.0 + self.report.tracking.root_dispersion_seconds
    }
}

/// Measures by the sources of `model` for at most `limit`; with `set` the clock is then stepped by what was found.
///
/// # Errors
/// When files that the sources need cannot be read, or the clock may not be set although that is asked for.
pub fn measure(model: &Model, limit: Duration, set: bool) -> Result<Measurement> {
    measure_until(model, limit, set, (SAMPLES_WANTED, 0.0))
}

/// The same, until `wanted` samples of each source that answers; requests to different servers are so many seconds apart.
///
/// # Errors
/// As [`measure`].
pub fn measure_until(
    model: &Model,
    limit: Duration,
    set: bool,
    (wanted, separation): (u32, f64),
) -> Result<Measurement> {
    urgency::claim(&model.process);
    let trusts = Trusts::load(model)?;
    let now = clock::read();
    let mut config = wiring::engine_config(model, &trusts, false)?;
    config.poll_separation_seconds = separation;
    // One look, not a clock to be trusted to it: what a single answer says is shown, with its error bound, and slow
    // sources are waited for no longer than the limit allows.
    let believes_the_first = config.discipline.samples_min == 1;
    config.discipline.samples_min = 1;
    config.discipline.patience = config.discipline.patience.min(limit.as_secs_f64() / 2.0);
    let mut seed = [0; 32];
    random::fill(&mut seed).context("no randomness")?;
    let precision = config.discipline.precision.exponent();
    let driver: Box<dyn ClockDriver> = if set {
        Box::new(KernelClock::take_over().context("the clock cannot be set")?)
    } else {
        Box::new(ObserveOnly)
    };
    let shared = Arc::new(Shared::unsynchronized(precision));
    let (_sender, commands) = mpsc::channel();
    let (_waker, wake) = poll::waker().context("no pipe")?;
    let parts = parts(model, trusts, (driver, now), (&shared, set))?;
    let engine = Engine::new(config, seed, now);
    let mut plane = TimePlane::new(engine, parts, (commands, wake), Reload::never())?;
    let deadline = now.mono.saturating_add(limit);
    let wanted = if believes_the_first { 1 } else { wanted };
    let stop = plane.run(Some(deadline), |engine, now| {
        if is_settled(engine, now, wanted) || is_hopeless(engine, now) {
            Turn::Done
        } else {
            Turn::Continue(None)
        }
    })?;
    let report = plane.report();
    let trustworthy = report.tracking.synchronized;
    let interrupted = stop == Stop::Signal;
    if set && trustworthy && !interrupted {
        let by = NtpDuration::from_secs_f64(report.tracking.system_offset_seconds);
        plane
            .clock
            .apply(ClockCommand::Step { by })
            .map_err(|failure| anyhow!("the clock could not be stepped: {failure}"))?;
    }
    Ok(Measurement { report, trustworthy, interrupted, timed_out: stop == Stop::Timeout })
}

/// What a time plane has that looks at the clock once, and that nobody is told of.
pub(crate) fn parts(
    model: &Model,
    trusts: Trusts,
    (driver, now): (Box<dyn ClockDriver>, ClockReading),
    (shared, set): (&Arc<Shared>, bool),
) -> Result<Parts> {
    Ok(Parts {
        clock: ClockShell::new(driver, now),
        state: StateKeeper::new(None, shared.clone(), now.mono),
        publisher: Publisher::new(shared.clone(), now.mono, set),
        exchanges: Exchanges::of(model),
        cards: CardClocks::none(shared.cards.clone()),
        reference_clocks: ReferenceClocks::open(model)?,
        // Nobody is told the time of a clock that is looked at once.
        broadcasts: Broadcasts::of(&chime_config::Model::default(), shared.clone(), now.mono)?,
        trusts,
        source_files: None,
        // One look needs none, and must not change what the kernel knows.
        leap_tables: LeapTables::default(),
        inline: Inline::default(),
        desks: InlineDesks::default(),
        chrony: None,
        ntpd: None,
        log: EventLog::new(model.synchronization.warns_of_steps),
        alone: true,
    })
}

/// Whether more measuring would not tell much more: a time is agreed on, and every source that answers has answered
/// as often as is wanted.
fn is_settled(engine: &Engine, now: ClockReading, wanted: u32) -> bool {
    if !engine.discipline().system(now.mono).synchronized {
        return false;
    }
    let report = engine.report(now);
    report.sources.iter().filter(|source| source.reach != 0).all(|source| source.statistics.samples >= wanted)
}

/// Whether every source was asked as often as its reach register has places, and none answers.
fn is_hopeless(engine: &Engine, now: ClockReading) -> bool {
    const REQUESTS: u64 = 8;
    let sources = engine.report(now).sources;
    let is_gone = |source: &SourceReport| source.reach == 0 && source.ntp.total_tx >= REQUESTS;
    !sources.is_empty() && sources.iter().all(is_gone)
}

/// What `-Q` and `-q` print.
#[must_use]
pub fn verdict(measurement: &Measurement, set: bool) -> String {
    if measurement.interrupted {
        return "Interrupted before the measurement was complete; the clock is as it was".into();
    }
    if !measurement.trustworthy {
        return "No trustworthy time: no source, or too few of them, could be measured".into();
    }
    // chrony's words and sign: positive means that the clock must go forward.
    format!(
        "System clock wrong by {:.6} seconds ({}), at most {:.6} seconds off that, {}",
        measurement.offset_seconds(),
        if set { "step" } else { "ignored" },
        measurement.error_bound_seconds(),
        if measurement.report.tracking.authenticated { "authenticated" } else { "NOT authenticated" },
    )
}
