//! One source as the selection sees it.

use crate::clock_filter::{ClockFilter, FilterEstimate, SAMPLES_MIN};
use crate::correction::ClockPoint;
use crate::history::History;
use crate::selection::CorrectnessInterval;
use crate::{Leap, SelectionState, Settings, SourceId, SourceOptions, SourceStatistics};
use chime_time::MonoTime;

/// Time stamps of good sources differ by this much for reasons that are nobody's fault (interrupts, virtual
/// machines): intervals are wider by it on both sides, so that claims of less do not make falsetickers. Seconds.
pub(crate) const INTERVAL_MARGIN: f64 = 5e-5;
/// Polls without anything to follow after which that is told: a whole reach register. RFC 5905 §13.
pub(crate) const POLLS_TOLD: u8 = 8;
/// Frequency uncertainty shown while there is no regression, ppm; the standard deviation then, seconds.
const UNKNOWN: (f64, f64) = (2000.0, 4.0);

/// A source with its samples and what the selection made of it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) id: SourceId,
    pub(crate) options: SourceOptions,
    pub(crate) filter: ClockFilter,
    pub(crate) history: History,
    pub(crate) reach: u8,
    /// Polls in a row with an empty reach register; `None`: it has not answered yet.
    pub(crate) unreachable_polls: Option<u32>,
    /// Polls so far, until they are enough to say that there is nothing to follow.
    pub(crate) polls: u8,
    pub(crate) stratum: u8,
    pub(crate) leap: Leap,
    pub(crate) reference_id: [u8; 4],
    /// The reference identifier that we have for it.
    pub(crate) our_reference_id: Option<[u8; 4]>,
    /// Whether its last packet said that it is synchronised.
    pub(crate) synchronized: bool,
    /// It may follow us as well as we follow it: RFC 5905 §3, a peer.
    pub(crate) is_peer: bool,
    /// Its packets say that it smears leap seconds; it drifts as one that does; an event said so.
    pub(crate) says_smeared: bool,
    pub(crate) drifts_as_smeared: bool,
    pub(crate) is_told_smeared: bool,
    pub(crate) state: SelectionState,
    /// How old its last sample was when the last selection was made, seconds.
    pub(crate) age_when_selected: f64,
    /// Whether an event called it a falseticker.
    pub(crate) is_falseticker: bool,
    /// How much better than the selected source it has been; at least 1.
    pub(crate) score: f64,
    /// A sample arrived since the last clock update.
    pub(crate) fresh: bool,
}

/// A source that may vote, with its numbers at the time of the selection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its place in the table of sources.
    pub(crate) index: usize,
    pub(crate) estimate: FilterEstimate,
    pub(crate) interval: CorrectnessInterval,
    pub(crate) root_distance: f64,
}

impl Source {
    pub(crate) fn new(id: SourceId, options: SourceOptions) -> Self {
        Self {
            id,
            options,
            filter: ClockFilter::default(),
            history: History::default(),
            reach: 0,
            unreachable_polls: None,
            polls: 0,
            stratum: 0,
            leap: Leap::Unsynchronized,
            reference_id: [0; 4],
            our_reference_id: None,
            synchronized: false,
            is_peer: false,
            says_smeared: false,
            drifts_as_smeared: false,
            is_told_smeared: false,
            state: SelectionState::MissingSamples,
            age_when_selected: 0.0,
            is_falseticker: false,
            score: 1.0,
            fresh: false,
        }
    }

    /// Whether it can be selected on its own merits (RFC 5905 §11.2.1, "fit"), or why not. `oldest`: the age of the oldest
    /// sample of any reachable source, seconds.
    pub(crate) fn candidate(
        &self,
        index: usize,
        (now, clock, oldest): (MonoTime, ClockPoint, f64),
        settings: &Settings,
    ) -> Result<Candidate, SelectionState> {
        if self.options.no_select {
            return Err(SelectionState::NoSelect);
        }
        if self.reach == 0 && !self.is_remembered(now, oldest) {
            let fresh = self.filter.len() == 0;
            return Err(if fresh { SelectionState::MissingSamples } else { SelectionState::Stale });
        }
        if !self.synchronized {
            return Err(if self.stratum == 0 && self.filter.len() == 0 {
                SelectionState::MissingSamples
            } else {
                SelectionState::Unsynchronized
            });
        }
        if settings.local.is_some_and(|local| local.orphan && self.stratum >= local.stratum) {
            return Err(SelectionState::Orphan);
        }
        if !(settings.strata.0..=settings.strata.1).contains(&self.stratum) {
            return Err(SelectionState::WrongStratum);
        }
        let drift = settings.max_clock_error.as_ratio();
        let Some(mut estimate) = self
            .filter
            .estimate(now, clock, drift)
            .filter(|estimate| estimate.samples >= settings.samples_min)
        else {
            return Err(SelectionState::MissingSamples);
        };
        // That is what makes it distant, too, and what is to be said of it.
        if estimate.unrest > settings.max_jitter {
            return Err(SelectionState::Jittery);
        }
        let root_distance = estimate.root_delay / 2.0 + estimate.root_dispersion;
        if !estimate.offset.is_finite() || !root_distance.is_finite() || root_distance > settings.max_distance
        {
            return Err(SelectionState::Distant);
        }
        if estimate.standard_deviation > settings.max_jitter {
            return Err(SelectionState::Jittery);
        }
        if root_distance + estimate.doubt > settings.max_distance {
            // Samples that nobody would follow say nothing about our clock yet.
            estimate.doubt = 0.0;
        }
        let reach = root_distance.max(settings.min_distance) + INTERVAL_MARGIN;
        let interval = CorrectnessInterval::around(estimate.offset, reach);
        Ok(Candidate { index, estimate, interval, root_distance })
    }

    /// Whether a source that is not reachable may be followed all the same, by what it said when it was.
    fn is_remembered(&self, now: MonoTime, oldest: f64) -> bool {
        self.unreachable_polls.is_some_and(|polls| polls <= self.options.unreachable_polls_max)
            && self.options.unreachable_polls_max > 0
            && self.filter.newest_at().is_some_and(|at| now.seconds_since(at) <= oldest)
    }

    /// Whether it is on its way to be selectable: reachable, and only samples are missing.
    pub(crate) fn is_collecting(&self, samples_min: usize) -> bool {
        self.reach != 0 && self.filter.len() < samples_min && self.state == SelectionState::MissingSamples
    }

    /// Whether it is a peer that said that it has no time yet: it may wait for ours.
    pub(crate) const fn is_waiting_peer(&self) -> bool {
        self.is_peer && self.unreachable_polls.is_some() && !self.synchronized
    }

    /// Whether its time is smeared around leap seconds.
    pub(crate) const fn is_smeared(&self) -> bool {
        self.options.smeared || self.says_smeared || self.drifts_as_smeared
    }

    /// Forgets the samples.
    pub(crate) fn clear(&mut self) {
        self.filter.clear();
        self.history.clear();
        self.score = 1.0;
        self.fresh = false;
        self.state = SelectionState::MissingSamples;
    }

    /// Everything that reports show. `frequency`: the correction in use, s per s.
    pub(crate) fn report(
        &self,
        now: MonoTime,
        clock: ClockPoint,
        frequency: f64,
        settings: &Settings,
    ) -> SourceStatistics {
        let estimate = self.filter.estimate(now, clock, settings.max_clock_error.as_ratio());
        let last = self.filter.last_sample(now, clock);
        let mut report = SourceStatistics {
            state: self.state,
            options: self.options,
            reach: self.reach,
            stratum: self.stratum,
            leap: self.leap,
            sample_age_when_selected: self.age_when_selected,
            score: self.score,
            skew_ppm: UNKNOWN.0,
            standard_deviation: UNKNOWN.1,
            ..SourceStatistics::default()
        };
        if let Some(last) = last {
            report.last_sample_age = Some(last.age);
            report.measured_offset = last.measured;
            report.adjusted_offset = last.adjusted;
            report.sample_error = last.error;
            report.last_delay = last.delay;
        }
        if let Some(estimate) = estimate {
            let distance = estimate.root_delay / 2.0 + estimate.root_dispersion;
            report.samples = estimate.shown;
            report.runs = estimate.runs;
            report.span = estimate.span;
            report.offset = estimate.offset;
            report.offset_error = estimate.offset_error;
            report.root_delay = estimate.root_delay;
            report.root_dispersion = estimate.root_dispersion;
            report.low = estimate.offset - distance;
            report.high = estimate.offset + distance;
            if estimate.samples >= SAMPLES_MIN {
                report.frequency_ppm = (estimate.frequency - frequency) * 1e6;
                report.skew_ppm = estimate.skew * 1e6;
                report.standard_deviation = estimate.standard_deviation;
            }
        }
        report
    }
}
