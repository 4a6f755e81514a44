//! The discipline as the engine sees it. (Selection and steering are being filled in: the signatures are final.)

use crate::{
    ClockCommand, ClockFailure, DisciplineEvent, Leap, PollAdvice, Sample, SampleVerdict, SavedFrequency,
    Settings, SourceId, SourceOptions, SourceStatistics, SystemState,
};
use chime_time::{MonoTime, NtpDuration};
use std::collections::VecDeque;

/// All sources, the estimate that is made of them, and the steering of the clock.
///
/// After each call that takes `&mut self`, drain [`poll_command`](Self::poll_command) and
/// [`poll_event`](Self::poll_event); call [`update`](Self::update) after each sample and when
/// [`poll_timeout`](Self::poll_timeout) has passed.
#[derive(Debug)]
pub struct Discipline {
    settings: Settings,
    sources: Vec<(SourceId, SourceOptions)>,
    events: VecDeque<DisciplineEvent>,
}

/// What one [`Discipline::update`] did.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct UpdateSummary {
    /// Whether there was a new estimate of the clock.
    pub updated: bool,
    /// The offset that was found, seconds; positive means that our clock was behind.
    pub offset: f64,
    /// Whether the clock follows sources now.
    pub synchronized: bool,
}

impl Discipline {
    /// Starts without sources. `saved` is what an earlier run learnt about the oscillator.
    #[must_use]
    pub fn new(settings: Settings, _saved: Option<SavedFrequency>, _now: MonoTime) -> Self {
        Self { settings, sources: Vec::new(), events: VecDeque::new() }
    }

    /// The settings in use.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds a source without samples; one that exists keeps its samples and gets the options.
    pub fn add_source(&mut self, id: SourceId, options: SourceOptions) {
        self.remove_source(id);
        self.sources.push((id, options));
    }

    /// Forgets a source.
    pub fn remove_source(&mut self, id: SourceId) {
        self.sources.retain(|source| source.0 != id);
    }

    /// Changes the options of a source.
    pub fn set_source_options(&mut self, id: SourceId, options: SourceOptions) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.0 == id) {
            source.1 = options;
        }
    }

    /// Drops the samples of a source: its address changed, or it is another server now.
    pub fn reset_source(&mut self, _id: SourceId) {}

    /// Gives one measurement of a source. Call [`update`](Self::update) afterwards.
    pub fn add_sample(&mut self, _now: MonoTime, id: SourceId, _sample: Sample) -> SampleVerdict {
        if self.sources.iter().any(|source| source.0 == id) {
            SampleVerdict::Stored
        } else {
            SampleVerdict::UnknownSource
        }
    }

    /// Notes the reach register of a source: 8 bits, newest poll in bit 0; 0 makes it unselectable. RFC 5905 §9.2.
    pub fn set_reach(&mut self, _id: SourceId, _reach: u8) {}

    /// Selects, combines and steers.
    pub fn update(&mut self, _now: MonoTime) -> UpdateSummary {
        UpdateSummary::default()
    }

    /// The next wish about the clock; the one after it is given once the result of this one was reported to
    /// [`command_applied`](Self::command_applied). May change after any call that takes `&mut self`.
    pub fn poll_command(&mut self) -> Option<ClockCommand> {
        None
    }

    /// Reports what was done about the last command, as soon as it was done: with the values that the clock really
    /// took, or why not.
    pub fn command_applied(&mut self, _now: MonoTime, _result: Result<ClockCommand, ClockFailure>) {}

    /// Somebody else stepped the clock (positive `by`: forward): all samples are dropped.
    pub fn clock_stepped_externally(&mut self, _now: MonoTime, _by: NtpDuration) {
        self.events.push_back(DisciplineEvent::Reset);
    }

    /// The machine slept: what was measured before says nothing about the clock now.
    pub fn suspended(&mut self, _now: MonoTime) {
        self.events.push_back(DisciplineEvent::Reset);
    }

    /// When [`update`](Self::update) must be called next: the end of a slew, or of waiting for slow sources.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        None
    }

    /// The next thing that an operator should know. May change after any call that takes `&mut self`.
    pub fn poll_event(&mut self) -> Option<DisciplineEvent> {
        self.events.pop_front()
    }

    /// What the server serves and what `tracking` shows, at `now`.
    #[must_use]
    pub fn system(&self, _now: MonoTime) -> SystemState {
        SystemState {
            synchronized: false,
            local_active: false,
            leap: Leap::Unsynchronized,
            stratum: 0,
            reference_id: [0; 4],
            reference_at: None,
            system_offset: 0.0,
            last_offset: 0.0,
            rms_offset: 0.0,
            frequency_ppm: 0.0,
            residual_frequency_ppm: 0.0,
            skew_ppm: 0.0,
            root_delay: 1.0,
            root_dispersion: 1.0,
            root_dispersion_rate: 0.0,
            estimated_error: 1.0,
            update_interval: 0.0,
            selected: None,
            updates: 0,
            steps: 0,
            accumulated_steps: 0.0,
            quarantined: false,
        }
    }

    /// What is known about one source, at `now`.
    #[must_use]
    pub fn source_report(&self, _now: MonoTime, _id: SourceId) -> Option<SourceStatistics> {
        None
    }

    /// What the samples of a source say about its poll interval.
    #[must_use]
    pub fn poll_advice(&self, _id: SourceId) -> PollAdvice {
        PollAdvice::Keep
    }

    /// What is worth saving for the next run, once the frequency is known well enough.
    #[must_use]
    pub fn frequency_to_save(&self) -> Option<SavedFrequency> {
        None
    }
}
