//! What the time plane does beside keeping time when a chrony.conf asks for it: chronyd's words, its log files, its
//! drift file.

use super::dumps;
use super::files::{LogFiles, drift_line, parse_drift};
use super::mail::ChangeMail;
use super::temperature::Thermometer;
use crate::cli::{Habits, Options};
use crate::oscillator::Oscillator;
use crate::plain_file::{self, SMALL_OCTETS_MAX};
use crate::real_time_clock::{OurTime, RtcShell};
use crate::replaced_file::{Disk, Mode, Refusal, replace};
use chime_config::{ChronyLog, DriftRecord, Model, Source};
use chime_control::RealTimeClockReport;
use chime_control::chrony_logs as layout;
use chime_control::chrony_words::{ChronyWords, Line, Severity, WordSettings};
use chime_discipline::{DisciplineEvent, SavedFrequency};
use chime_engine::{Engine, EngineReport, Event, SourceKind, SourceReport, best_time};
use chime_sys::clock;
use chime_time::{ClockReading, Frequency, MonoTime};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use tracing::{debug, error, info, warn};

/// The habits of chronyd, as far as they are asked for.
#[derive(Debug)]
pub struct ChronyShell {
    /// `None`: the log has our own words.
    words: Option<ChronyWords>,
    logs: LogFiles,
    drift: Option<DriftRecord>,
    drift_due: MonoTime,
    drift_refusal: Refusal,
    /// Where samples are kept over a restart; under chronyd's name only.
    dumps: Option<PathBuf>,
    updates: u64,
    oscillator: Oscillator,
    thermometer: Option<Thermometer>,
    clock: Option<RtcShell>,
    mail: Option<ChangeMail>,
    /// Whether the clock was stepped since the last update, which was told by its own event.
    stepped: bool,
}

/// The logs about single answers.
const ANSWERS: [ChronyLog; 3] = [ChronyLog::Measurements, ChronyLog::RawMeasurements, ChronyLog::Statistics];

impl ChronyShell {
    /// As `model` and the options ask for; the drift file is next written an interval from `now`. `clock`: the real-time
    /// clock, which was opened with privileges.
    #[must_use]
    pub fn new(
        model: &Model,
        options: &Options,
        (now, oscillator): (MonoTime, Oscillator),
        clock: Option<RtcShell>,
    ) -> Self {
        let tuning = &model.synchronization.tuning;
        let words = WordSettings {
            log_change: model.chrony.log_change.0,
            max_distance: tuning.max_distance,
            max_jitter: tuning.max_jitter,
            strata: tuning.strata,
            announced: announced(model),
            impossible_step: tuning
                .step
                .threshold
                .filter(|_| !options.steers())
                .map(|threshold| (threshold, tuning.step.updates_limit)),
        };
        let drift = model.chrony.drift_file.clone();
        let interval = drift.as_ref().map_or_else(Default::default, |drift| drift.interval);
        Self {
            words: (matches!(options.habits, Habits::Chronyd(_))).then(|| ChronyWords::new(words)),
            logs: LogFiles::new(model.chrony.logs.clone()),
            drift,
            drift_due: now.saturating_add(interval),
            drift_refusal: Refusal::default(),
            dumps: model
                .chrony
                .dump_directory
                .clone()
                .filter(|_| matches!(options.habits, Habits::Chronyd(_))),
            updates: 0,
            oscillator,
            thermometer: model
                .chrony
                .temperature
                .clone()
                .and_then(|settings| Thermometer::new(settings, now)),
            clock,
            mail: model.chrony.mail_on_change.clone().and_then(ChangeMail::new),
            stepped: false,
        }
    }

    /// Whether the log has chronyd's words.
    #[must_use]
    pub const fn speaks(&self) -> bool {
        self.words.is_some()
    }

    /// What the drift file says.
    #[must_use]
    pub fn saved_frequency(&self) -> Option<SavedFrequency> {
        let path = &self.drift.as_ref()?.path;
        let text = match plain_file::read_text(path, SMALL_OCTETS_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!("Could not read driftfile {} : {error}", path.display());
                return None;
            }
        };
        let saved = parse_drift(&text);
        match &saved {
            Some(saved) => info!(
                "Frequency {:.3} +/- {:.3} ppm read from {}",
                -saved.frequency.as_ppm(),
                saved.skew * 1e6,
                path.display()
            ),
            None => warn!("Could not read valid frequency and skew from driftfile {}", path.display()),
        }
        saved
    }

    /// Something happened: what is to be said and written about it.
    pub fn note(&mut self, event: &Event, engine: &Engine, now: impl Fn() -> ClockReading) {
        if let Some(words) = &mut self.words {
            words.event(event, || engine.report(now())).into_iter().for_each(say);
        }
        if let (Some(mail), Event::Discipline(DisciplineEvent::Stepped(evidence))) = (&self.mail, event) {
            mail.changed(now().system, evidence.by);
            self.stepped = true;
        }
        self.note_reference_clock(event, engine, &now);
        let (association, is_sample) = match event {
            Event::Sampled { association, .. } => (*association, true),
            Event::Discarded { association: Some(association), reason, .. } if reason.is_of_an_answer() => {
                (*association, false)
            }
            _ => return,
        };
        if ANSWERS.into_iter().any(|log| self.logs.wants(log)) {
            let report = engine.report(now());
            let source = report.sources.iter().find(|source| source.id == association.0);
            source.into_iter().for_each(|source| self.write_answer(&report, source, is_sample));
        }
    }

    /// The queues of the engine are empty: what an update of the clock and a new selection give to say and to write.
    pub fn settled(&mut self, engine: &Engine, now: ClockReading, selected: bool) {
        if let Some(words) = &mut self.words {
            words.begin();
        }
        let updates = engine.discipline().system(now.mono).updates;
        let updated = updates != self.updates;
        self.updates = updates;
        if !updated && !selected {
            return;
        }
        let report = engine.report(now);
        if let Some(words) = &mut self.words {
            words.states(&report).into_iter().for_each(say);
            if updated {
                words.step_not_possible(&report, updates).into_iter().for_each(say);
                words.updated(&report).into_iter().for_each(say);
            }
        }
        if let (Some(mail), true) = (&self.mail, updated && !std::mem::take(&mut self.stepped)) {
            mail.changed(now.system, -report.tracking.last_offset_seconds);
        }
        if updated && self.logs.wants(ChronyLog::Tracking) {
            let combined = report.sources.iter().filter(|source| ['*', '+'].contains(&source.state));
            let selected = report.sources.iter().find(|source| source.state == '*');
            let error = selected.map_or(0.0, |source| source.statistics.offset_error_seconds);
            let entry = layout::tracking(report.unix_seconds, &report.tracking, combined.count(), error);
            self.logs.write("tracking", layout::TRACKING, &entry);
        }
        if selected && self.logs.wants(ChronyLog::Selection) {
            for source in report.sources.iter().filter(|source| is_known(source)) {
                let entry = layout::selection(report.unix_seconds, source);
                self.logs.write("selection", layout::SELECTION, &entry);
            }
        }
        if updated && now.mono >= self.drift_due {
            self.save_drift(engine, now.mono);
        }
    }

    /// When [`ChronyShell::compensation`] or [`ChronyShell::tend_real_time_clock`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let thermometer = self.thermometer.as_ref().map(Thermometer::due);
        let clock = self.clock.as_ref().map(RtcShell::poll_timeout);
        thermometer.into_iter().chain(clock).min()
    }

    /// What becomes readable when the real-time clock begins a second, while that is waited for.
    #[must_use]
    pub fn real_time_clock_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.clock.as_ref()?.descriptor()
    }

    /// Looks at the real-time clock when that is due, or when it is `ready`; gives whether there was anything to see. Our
    /// clock was last told to run at `frequency`.
    pub fn tend_real_time_clock(
        &mut self,
        engine: &Engine,
        (now, frequency): (ClockReading, Frequency),
        ready: bool,
    ) -> bool {
        let Some(clock) = &mut self.clock else { return false };
        let time = our_time(engine, now, frequency);
        clock.follow(time);
        let look = if ready { clock.handle_ready(time) } else { clock.handle_timeout(time) };
        if let Some(look) = look.filter(|_| self.logs.wants(ChronyLog::Rtc)) {
            let entry = layout::real_time_clock(look.unix_seconds, look.fast, &clock.report(), look.period);
            self.logs.write("rtc", layout::RTC, &entry);
        }
        look.is_some()
    }

    /// What is known of the real-time clock, where one is looked at.
    #[must_use]
    pub fn real_time_clock(&self) -> Option<RealTimeClockReport> {
        self.clock.as_ref().map(RtcShell::report)
    }

    /// Sets the real-time clock, if it is off by enough.
    pub fn trim_real_time_clock(&mut self, engine: &Engine, now: ClockReading, frequency: Frequency) {
        if let Some(clock) = &mut self.clock {
            clock.trim(our_time(engine, now, frequency));
        }
    }

    /// The machine slept.
    pub const fn slept(&mut self) {
        if let Some(clock) = &mut self.clock {
            clock.forget();
        }
    }

    /// Writes what is known of the real-time clock; whether that could be done.
    #[must_use]
    pub fn write_real_time_clock(&self) -> bool {
        self.clock.as_ref().is_some_and(RtcShell::write)
    }

    /// By how much the clock is to be faster from now on because of the temperature, when that was read just now.
    pub fn compensation(&mut self, now: ClockReading) -> Option<Frequency> {
        let reading = self.thermometer.as_mut()?.read(now.mono)?;
        if self.logs.wants(ChronyLog::Tempcomp) {
            let ppm = reading.compensation.as_ppm();
            let entry = layout::temperature(now.system.unix_seconds_f64(), reading.temperature, ppm);
            self.logs.write("tempcomp", layout::TEMPCOMP, &entry);
        }
        Some(reading.compensation)
    }

    /// Somebody else stepped the clock; seconds, positive forward.
    pub fn jumped(&self, by: f64) {
        if let Some(words) = &self.words {
            say(words.jumped(by));
        }
    }

    /// Gives sources the samples that chronyd, or an earlier run under its name, has left for them.
    pub fn restore_dumps(&self, engine: &mut Engine, model: &Model) {
        let Some(directory) = self.dumps.as_ref() else { return };
        let now = clock::read();
        let clocks = &engine.config().reference_clocks;
        let saved = dumps::load(directory, model.chrony.read_dumps, model, clocks, now);
        if !saved.is_empty() {
            engine.restore_samples(now.mono, saved);
        }
    }

    /// Writes the samples of all sources where `dumpdir` says.
    pub fn dump(&self, engine: &Engine) {
        if let Some(directory) = &self.dumps {
            dumps::save(directory, engine, clock::read());
        }
    }

    /// The daemon ends: what it has learnt is kept.
    pub fn finish(&mut self, engine: &Engine, now: MonoTime) {
        if self.updates > 0 {
            self.save_drift(engine, now);
        }
        self.dump(engine);
        let _told_in_the_log = self.write_real_time_clock();
    }

    /// Closes the log files, so that others can be put in their place.
    pub fn cycle_logs(&mut self) {
        self.logs.cycle();
    }

    /// What reference clocks say is written as it comes, and their statistics with each sample.
    fn note_reference_clock(&mut self, event: &Event, engine: &Engine, now: &impl Fn() -> ClockReading) {
        let (clock, entry) = match *event {
            Event::ReferenceClockRead { clock, at, number, leap, is_pulse, raw, offset, dispersion } => {
                let reading = Some((number, is_pulse, raw.as_secs_f64()));
                let offset = offset.as_secs_f64();
                (clock, layout::ReferenceClockEntry { at, name: "", reading, leap, offset, dispersion })
            }
            Event::ReferenceClockSampled { clock, at, leap, offset, dispersion } => {
                let offset = offset.as_secs_f64();
                (clock, layout::ReferenceClockEntry { at, name: "", reading: None, leap, offset, dispersion })
            }
            _ => return,
        };
        if self.logs.wants(ChronyLog::Refclocks) {
            let name = engine.reference_clock_name(clock).unwrap_or_default();
            let entry = layout::reference_clock(&layout::ReferenceClockEntry { name: &name, ..entry });
            self.logs.write("refclocks", layout::REFCLOCKS, &entry);
        }
        if entry.reading.is_none() && self.logs.wants(ChronyLog::Statistics) {
            let report = engine.report(now());
            let source = report.sources.iter().find(|source| source.id == clock.0);
            if let Some(source) = source.filter(|source| source.statistics.samples >= 3) {
                let entry = layout::statistics(report.unix_seconds, source);
                self.logs.write("statistics", layout::STATISTICS, &entry);
            }
        }
    }

    fn save_drift(&mut self, engine: &Engine, now: MonoTime) {
        let Some(drift) = &self.drift else { return };
        self.drift_due = now.saturating_add(drift.interval);
        let found = engine.discipline().frequency_to_save();
        let Some(saved) = found.and_then(|found| self.oscillator.to_file(found)) else { return };
        let written = replace(&Disk, &drift.path, drift_line(&saved).as_bytes(), Mode::PUBLIC);
        let _told = self.drift_refusal.tell(&drift.path, written);
    }

    fn write_answer(&mut self, report: &EngineReport, source: &SourceReport, is_sample: bool) {
        let raw = self.logs.wants(ChronyLog::RawMeasurements);
        let valid = self.logs.wants(ChronyLog::Measurements) && layout::is_valid(source);
        if raw || valid {
            let entry = layout::measurement(report.unix_seconds, source);
            self.logs.write("measurements", layout::MEASUREMENTS, &entry);
        }
        if is_sample && self.logs.wants(ChronyLog::Statistics) && source.statistics.samples >= 3 {
            let entry = layout::statistics(report.unix_seconds, source);
            self.logs.write("statistics", layout::STATISTICS, &entry);
        }
    }
}

fn our_time(engine: &Engine, now: ClockReading, frequency: Frequency) -> OurTime {
    let system = engine.discipline().system(now.mono);
    let is_right = system.synchronized || system.local_active;
    OurTime { best: best_time(&system, frequency, now), is_right }
}

/// Whether it has an address, or needs none.
fn is_known(source: &SourceReport) -> bool {
    source.remote.is_some() || source.kind == SourceKind::ReferenceClock
}

/// The sources in files that programs write, as DHCP clients do.
fn announced(model: &Model) -> BTreeSet<String> {
    let in_file = |source: &&Source| {
        let origin = source.origin.as_ref();
        origin.is_some_and(|origin| Path::new(&origin.file).extension().is_some_and(|it| it == "sources"))
    };
    model.sources.iter().filter(in_file).map(|source| source.name.clone()).collect()
}

fn say(line: Line) {
    match line.severity {
        Severity::Debug => debug!("{}", line.text),
        Severity::Info => info!("{}", line.text),
        Severity::Warning => warn!("{}", line.text),
        Severity::Error => error!("{}", line.text),
    }
}
