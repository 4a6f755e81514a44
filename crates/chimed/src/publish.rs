//! What the time plane shows the others: values that are replaced as a whole and never locked.

use crate::serving::Shared;
use arc_swap::ArcSwap;
use chime_control::{
    LeapTableReport, ProgramReport, RealTimeClockReport, SmearReport, SmoothingReport, Snapshot,
};
use chime_discipline::{LeapKnowledge, LeapStatus, SystemState};
use chime_engine::{Engine, best_time, server_time};
use chime_server::{
    ServerTime, Smear, SmearSettings, SmearWindow, SmoothedClock, Smoother, SmoothingCourse,
    SmoothingSettings,
};
use chime_time::{ClockReading, Frequency, LeapSecond, MonoTime, NtpDate, NtpDuration};
use chime_wire::LeapIndicator;
use std::sync::Arc;
use tracing::info;

/// A snapshot, and when it was taken.
#[derive(Debug)]
pub struct Dated {
    /// What the time plane knew.
    pub snapshot: Snapshot,
    /// When.
    pub at: MonoTime,
}

/// chronyd's words.
const SMOOTHING_BEGINS: &str = "Activated time smoothing";

/// What is reported beside the engine.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// The list of leap seconds.
    pub leap_table: &'a LeapTableReport,
    /// The real-time clock.
    pub real_time_clock: Option<RealTimeClockReport>,
}

/// Writes what the other planes read.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    reports: Arc<ArcSwap<Dated>>,
    started: MonoTime,
    steers: bool,
    smear: Option<SmearSettings>,
    /// A leap second that is not smeared any more, as somebody wants our time as it is.
    unsmeared: Option<LeapSecond>,
    smoother: Option<Smoother>,
}

impl Publisher {
    /// A publisher for a daemon that was started at `started`; `steers` when the clock is steered.
    #[must_use]
    pub fn new(shared: Arc<Shared>, started: MonoTime, steers: bool) -> Self {
        let empty = Dated { snapshot: Snapshot::default(), at: started };
        Self {
            shared,
            reports: Arc::new(ArcSwap::from_pointee(empty)),
            started,
            steers,
            smear: None,
            unsmeared: None,
            smoother: None,
        }
    }

    /// Smooths what is served, or not.
    #[must_use]
    pub fn with_smoothing(self, smoothing: Option<SmoothingSettings>) -> Self {
        Self { smoother: smoothing.map(Smoother::new), ..self }
    }

    /// Smears leap seconds for clients, or not.
    #[must_use]
    pub fn with_smear(self, smear: Option<SmearSettings>) -> Self {
        Self { smear, ..self }
    }

    /// Smears leap seconds for clients from now on, or not.
    pub const fn set_smear(&mut self, smear: Option<SmearSettings>) {
        self.smear = smear;
    }

    /// Has the smoothing begin, or drops what is smoothed and smeared: what is served is our time then.
    pub fn smooth(&mut self, begin: bool, engine: &Engine, now: ClockReading) {
        let begun = self.smoother.as_mut().is_some_and(|smoother| begin && smoother.activate(now.mono));
        if begun {
            info!("{SMOOTHING_BEGINS}");
        }
        if !begin {
            if let Some(smoother) = &mut self.smoother {
                smoother.reset(now.mono);
            }
            self.unsmeared = self.smear_window(engine, now).map(|(window, _)| window.leap());
            info!("Reset time smoothing");
        }
    }

    /// The monotonic clock stood still.
    pub fn clock_stood_still(&mut self) {
        if let Some(smoother) = &mut self.smoother {
            smoother.forget();
        }
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
        self.shared.set_time(ServerTime::unsynchronized(precision.exponent()));
    }

    /// Publishes what servers say of our clock, which was last told to run at `frequency`.
    pub fn publish_time(&mut self, engine: &Engine, frequency: Frequency, now: ClockReading) {
        let system = engine.discipline().system(now.mono);
        let precision = engine.discipline().settings().precision;
        let time = server_time(&system, frequency, now, precision);
        let time = self.smeared(time, engine, now);
        let smoothing = self.smoothed(&system, frequency, now, time.smear.is_some());
        self.shared.set_time(ServerTime { smoothing, scale: Some(engine.scale()), ..time });
    }

    /// Takes up what was done to the clock since; gives what is served otherwise.
    fn smoothed(
        &mut self,
        system: &SystemState,
        frequency: Frequency,
        now: ClockReading,
        smears: bool,
    ) -> Option<SmoothingCourse> {
        let smoother = self.smoother.as_mut()?;
        let begun = smoother.follow(SmoothedClock {
            best: best_time(system, frequency, now),
            frequency: system.frequency_ppm * 1e-6,
            skew: system.skew_ppm * 1e-6,
            updates: system.updates,
            steps: system.steps,
            synchronized: system.synchronized,
            smears,
        });
        if begun {
            info!("{SMOOTHING_BEGINS}");
        }
        smoother.course()
    }

    /// What is served where leap seconds are smeared: none is announced.
    fn smeared(&self, time: ServerTime, engine: &Engine, now: ClockReading) -> ServerTime {
        let Some(settings) = self.smear.filter(|_| time.is_synchronized()) else { return time };
        let corrected = now.system + time.correction;
        let near = self.smear_near(&settings, engine, now, corrected);
        let smear = near.map(|(window, passed)| window.smear(now.mono, now.system, passed));
        ServerTime { leap: LeapIndicator::NoWarning, smear, ..time }
    }

    fn smear_window(&self, engine: &Engine, now: ClockReading) -> Option<(SmearWindow, bool)> {
        self.smear_near(&self.smear?, engine, now, now.system)
    }

    /// The smear of about `date`, unless it was dropped.
    fn smear_near(
        &self,
        settings: &SmearSettings,
        engine: &Engine,
        now: ClockReading,
        date: NtpDate,
    ) -> Option<(SmearWindow, bool)> {
        let near = smear_of(settings, &engine.discipline().leap_status(now.system), date);
        near.filter(|(window, _)| Some(window.leap()) != self.unsmeared)
    }

    fn smear_report(&self, engine: &Engine, now: ClockReading) -> Option<SmearReport> {
        self.smear?;
        let Some((window, passed)) = self.smear_window(engine, now) else {
            return Some(SmearReport::default());
        };
        let smear: Smear = window.smear(now.mono, now.system, passed);
        let offset = |seconds: f64| {
            let at = now.system + NtpDuration::from_secs_f64(seconds);
            smear.offset(at.timestamp(), at.timestamp(), now.mono.add_secs_f64(seconds))
        };
        let step = NtpDuration::from_seconds(if passed { window.leap().step_seconds() } else { 0 });
        let elapsed = (now.system - step - window.start()).as_secs_f64();
        let active = elapsed > 0.0;
        Some(SmearReport {
            active,
            offset_seconds: offset(0.0),
            rate: offset(1.0) - offset(0.0),
            remaining_seconds: if active { (window.seconds() - elapsed).max(0.0) } else { 0.0 },
        })
    }

    /// Publishes the state of `engine`, whose clock was last told to run at `frequency`.
    pub fn publish(&mut self, engine: &Engine, frequency: Frequency, now: ClockReading, beside: &Beside<'_>) {
        self.publish_time(engine, frequency, now);
        let system = engine.discipline().system(now.mono);
        let settings = engine.discipline().settings();
        let program = ProgramReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            report_age_seconds: 0.0,
            uptime_seconds: now.mono.saturating_since(self.started).as_secs_f64(),
            steers_clock: self.steers,
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
            leap_table: beside.leap_table.clone(),
            smear: self.smear_report(engine, now),
            smoothing: self
                .smoother
                .as_ref()
                .map(|smoother| SmoothingReport::new(smoother.course(), now.mono)),
            real_time_clock: beside.real_time_clock,
        };
        let snapshot = Snapshot { program, engine: engine.report(now), ..Snapshot::default() };
        self.reports.store(Arc::new(Dated { snapshot, at: now.mono }));
    }
}

/// The smear that is under way or about to begin at `date`, and whether our clock has passed its leap second.
fn smear_of(settings: &SmearSettings, status: &LeapStatus, date: NtpDate) -> Option<(SmearWindow, bool)> {
    [(status.next, false), (status.last, true)]
        .into_iter()
        .filter_map(|(known, passed)| {
            let known = known?;
            // What a list has was known all along, also to whom was started in the middle of a smear.
            let since = (known.knowledge == LeapKnowledge::Sources).then_some(known.known_since);
            let window = settings.of(known.leap, since);
            window.is_near(date, passed).then_some((window, passed))
        })
        .next()
}
