//! What the time plane shows the others: values that are replaced as a whole and never locked.

use crate::serving::Shared;
use arc_swap::ArcSwap;
use chime_control::{ProgramReport, Snapshot};
use chime_engine::{Engine, server_time};
use chime_server::ServerTime;
use chime_time::{ClockReading, Frequency, MonoTime};
use std::sync::Arc;

/// A snapshot, and when it was taken.
#[derive(Debug)]
pub struct Dated {
    /// What the time plane knew.
    pub snapshot: Snapshot,
    /// When.
    pub at: MonoTime,
}

/// Writes what the other planes read.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    reports: Arc<ArcSwap<Dated>>,
    started: MonoTime,
    steers: bool,
}

impl Publisher {
    /// A publisher for a daemon that was started at `started`; `steers` when the clock is steered.
    #[must_use]
    pub fn new(shared: Arc<Shared>, started: MonoTime, steers: bool) -> Self {
        let empty = Dated { snapshot: Snapshot::default(), at: started };
        Self { shared, reports: Arc::new(ArcSwap::from_pointee(empty)), started, steers }
    }

    /// Where reports can be read.
    #[must_use]
    pub fn reports(&self) -> Arc<ArcSwap<Dated>> {
        self.reports.clone()
    }

    /// Has servers say that our clock is not to be followed, until the next time is published: it is about to be stepped,
    /// and what was published does not fit it any more then.
    pub fn withdraw_time(&self, engine: &Engine) {
        let precision = engine.discipline().settings().precision;
        self.shared.time.store(Arc::new(ServerTime::unsynchronized(precision.exponent())));
    }

    /// Publishes what servers say of our clock, which was last told to run at `frequency`.
    pub fn publish_time(&self, engine: &Engine, frequency: Frequency, now: ClockReading) {
        let system = engine.discipline().system(now.mono);
        let precision = engine.discipline().settings().precision;
        self.shared.time.store(Arc::new(server_time(&system, frequency, now, precision)));
    }

    /// Publishes the state of `engine`, whose clock was last told to run at `frequency`.
    pub fn publish(&self, engine: &Engine, frequency: Frequency, now: ClockReading) {
        self.publish_time(engine, frequency, now);
        let system = engine.discipline().system(now.mono);
        let settings = engine.discipline().settings();
        let program = ProgramReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            report_age_seconds: 0.0,
            uptime_seconds: now.mono.saturating_since(self.started).as_secs_f64(),
            steers_clock: self.steers,
            command_packets: 0,
            mode6_answered: 0,
            mode6_ignored: 0,
            clock_updates: system.updates,
            clock_steps: system.steps,
            minimum_agreeing_sources: settings.minimum_agreeing_sources,
            quarantined: system.quarantined,
            interferences: system.interferences,
            recent_interferences: system.recent_interferences,
            root_dispersion_rate: system.root_dispersion_rate,
            precision: settings.precision.exponent(),
            accumulated_steps_seconds: system.accumulated_steps,
            accumulated_steps_threshold_seconds: settings.step.accumulated_panic,
        };
        let snapshot = Snapshot { program, engine: engine.report(now), ..Snapshot::default() };
        self.reports.store(Arc::new(Dated { snapshot, at: now.mono }));
    }
}
