//! What the time plane shows the others: values that are replaced as a whole and never locked.

use crate::serving::Shared;
use arc_swap::ArcSwap;
use chime_control::{ProgramReport, Snapshot};
use chime_discipline::{Leap, SystemState};
use chime_engine::Engine;
use chime_server::{STRATUM_UNSYNCHRONIZED, ServerTime};
use chime_time::{ClockReading, Frequency, MonoTime, NtpDuration, NtpShort, Precision};
use chime_wire::{LeapIndicator, ReferenceId};
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

    /// Publishes the state of `engine`, whose clock was last told to run at `frequency`.
    pub fn publish(&self, engine: &Engine, frequency: Frequency, now: ClockReading) {
        let system = engine.discipline().system(now.mono);
        let settings = engine.discipline().settings();
        self.shared.time.store(Arc::new(server_time(&system, frequency, now, settings.precision)));
        let program = ProgramReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            report_age_seconds: 0.0,
            uptime_seconds: now.mono.saturating_since(self.started).as_secs_f64(),
            steers_clock: self.steers,
            clock_updates: system.updates,
            clock_steps: system.steps,
            minimum_agreeing_sources: settings.minimum_agreeing_sources,
            quarantined: system.quarantined,
            root_dispersion_rate: system.root_dispersion_rate,
        };
        let snapshot = Snapshot { program, engine: engine.report(now), ..Snapshot::default() };
        self.reports.store(Arc::new(Dated { snapshot, at: now.mono }));
    }
}

/// The state of our clock as answers to clients show it. RFC 5905 §11.1.
///
/// `frequency` is what the clock was last told to run at, slew included.
#[must_use]
pub fn server_time(
    system: &SystemState,
    frequency: Frequency,
    now: ClockReading,
    precision: Precision,
) -> ServerTime {
    let unsynchronized = ServerTime { at: now.mono, ..ServerTime::unsynchronized(precision.exponent()) };
    if !(1..STRATUM_UNSYNCHRONIZED).contains(&system.stratum) || system.leap == Leap::Unsynchronized {
        return unsynchronized;
    }
    // The system clock at the last update: it ran with the monotonic clock since.
    let since_update = system.reference_at.map_or(0.0, |at| now.mono.seconds_since(at).max(0.0));
    ServerTime {
        leap: match system.leap {
            Leap::NoWarning => LeapIndicator::NoWarning,
            Leap::Insert => LeapIndicator::Insert,
            Leap::Delete => LeapIndicator::Delete,
            Leap::Unsynchronized => LeapIndicator::Unsynchronized,
        },
        stratum: system.stratum,
        root_delay: NtpShort::from_duration_ceil(NtpDuration::from_secs_f64(system.root_delay)),
        root_dispersion: NtpDuration::from_secs_f64(system.root_dispersion),
        dispersion_rate: system.root_dispersion_rate,
        reference_id: ReferenceId(system.reference_id),
        reference: (now.system - NtpDuration::from_secs_f64(since_update)).timestamp(),
        correction: NtpDuration::from_secs_f64(system.system_offset),
        slew_rate: (frequency.as_ratio() - Frequency::from_ppm(system.frequency_ppm).as_ratio()).abs(),
        ..unsynchronized
    }
}
