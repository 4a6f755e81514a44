//! The sources and their samples, as the engine brings them.

use super::{AbsentSources, Discipline, SKEW_UNKNOWN};
use crate::clock_filter::FrequencyBelief;
use crate::source::{POLLS_TOLD, Source};
use crate::{DisciplineEvent, Leap, Sample, SampleVerdict, SavedEstimate, SourceId, SourceOptions};
use chime_time::{MonoTime, NtpDuration};

impl Discipline {
    /// Adds a source without samples; one that exists keeps its samples and gets the options.
    pub fn add_source(&mut self, id: SourceId, options: SourceOptions) {
        if self.source(id).is_none() {
            self.sources.push(Source::new(id, options));
        }
        self.set_source_options(id, options);
    }

    /// Forgets a source.
    pub fn remove_source(&mut self, id: SourceId) {
        self.sources.retain(|source| source.id != id);
        self.dirty = true;
    }

    /// Notes which sources there should be beside those that were added.
    pub fn set_absent_sources(&mut self, absent: AbsentSources) {
        self.dirty |= absent != self.absent;
        self.absent = absent;
    }

    /// Changes the options of a source.
    pub fn set_source_options(&mut self, id: SourceId, options: SourceOptions) {
        if let Some(source) = self.source_mut(id) {
            source.options = options;
            self.limit_samples();
            self.dirty = true;
        }
    }

    /// Has as many samples of each source count as is wished.
    pub(super) fn limit_samples(&mut self) {
        for source in &mut self.sources {
            source.filter.limit(source.options.samples_max.unwrap_or(self.settings.samples_max));
        }
    }

    /// Notes that a source is a peer, which may follow us as well as we follow it.
    pub fn set_peer(&mut self, id: SourceId) {
        if let Some(source) = self.source_mut(id) {
            source.is_peer = true;
        }
    }

    /// Notes by which reference identifier a source knows us: that of the address at which its answers come in.
    pub fn set_our_reference_id(&mut self, id: SourceId, ours: [u8; 4]) {
        if let Some(source) = self.source_mut(id) {
            source.our_reference_id = Some(ours);
        }
    }

    /// A source moved its own time forward by so much, and says so: what was measured before is moved along.
    pub fn source_moved(&mut self, id: SourceId, by: NtpDuration) {
        let Some(source) = self.source_mut(id).filter(|_| by != NtpDuration::ZERO) else { return };
        // As if our clock had been set back.
        source.filter.step(-by);
        source.history.step(-by);
        // What it said is mixed with what others said, which have not moved.
        if self.joint.as_ref().is_some_and(|joint| joint.has(id)) {
            self.joint = None;
        }
        self.dirty = true;
    }

    /// Drops the samples of a source: its address changed, or it is another server now.
    pub fn reset_source(&mut self, id: SourceId) {
        if let Some(source) = self.source_mut(id) {
            source.clear();
            self.dirty = true;
        }
    }

    /// Gives one measurement of a source, and sets the newest bit of its reach register. Call
    /// [`update`](Self::update) afterwards.
    pub fn add_sample(&mut self, now: MonoTime, id: SourceId, sample: Sample) -> SampleVerdict {
        self.now = self.now.max(now);
        self.doubt_saved_frequency(id, &sample);
        let (frequency, skew) = self.clock.trusted_frequency();
        let belief = FrequencyBelief { frequency, skew: skew.clamp(1e-7, SKEW_UNKNOWN) };
        let floor = self.settings.precision.seconds();
        let Some(source) = self.sources.iter_mut().find(|source| source.id == id) else {
            return SampleVerdict::UnknownSource;
        };
        source.reach |= 1;
        source.unreachable_polls = Some(0);
        source.stratum = sample.stratum.max(source.options.stratum_min);
        source.leap = sample.leap;
        source.reference_id = sample.reference_id;
        source.synchronized =
            sample.leap != Leap::Unsynchronized && source.stratum < 16 && sample.has_possible_stratum();
        self.dirty = true;
        if !source.synchronized {
            return SampleVerdict::Unsynchronized;
        }
        if self.leap.is_close(sample.at) {
            return SampleVerdict::LeapSecond;
        }
        let correction = source.options.offset_correction;
        let verdict = source.filter.add(&sample, correction, &self.clock.correction, floor, belief);
        if verdict.is_stored() {
            source.fresh = true;
            source.history.note(sample, self.clock.correction.at(sample.at));
        }
        verdict
    }

    /// The last samples of a source, oldest first, for [`restore_samples`](Self::restore_samples) in the next run: as if the
    /// clock had always run at the frequency that it is left with.
    #[must_use]
    pub fn samples(&self, now: MonoTime, id: SourceId) -> Vec<Sample> {
        let clock = self.clock.correction.at(now);
        let frequency = if self.settings.steer { self.clock.frequency } else { 0.0 };
        self.source(id).map_or_else(Vec::new, |source| {
            source.history.rebased(now, clock, frequency, self.settings.mono_is_slewed)
        })
    }

    /// Gives a source without samples those of an earlier run, oldest first; gives how many were taken. They count once it
    /// has answered in this run. The clock must have run since then as it was left, at the frequency that this run starts
    /// with.
    pub fn restore_samples(&mut self, now: MonoTime, id: SourceId, samples: &[Sample]) -> usize {
        if self.source(id).is_none_or(|source| source.filter.len() > 0) {
            return 0;
        }
        let past = samples.iter().filter(|sample| sample.at < now);
        let taken = past.filter(|sample| self.add_sample(now, id, **sample).is_stored()).count();
        if let Some(source) = self.source_mut(id) {
            (source.reach, source.unreachable_polls, source.fresh) = (0, None, false);
        }
        taken
    }

    /// What is known of a source beyond its last samples, for [`restore_estimate`](Self::restore_estimate) in the next run.
    #[must_use]
    pub fn saved_estimate(&self, id: SourceId) -> Option<SavedEstimate> {
        self.source(id)?.filter.saved_estimate()
    }

    /// Gives a source that was just given all the [`samples`](Self::samples) of an earlier run what that knew beyond them. It
    /// is believed when it is an estimate of this version that agrees with the samples, and told when not.
    pub fn restore_estimate(&mut self, id: SourceId, saved: &SavedEstimate) -> bool {
        let is_taken = self.source_mut(id).is_some_and(|source| source.filter.restore_estimate(saved));
        if !is_taken {
            self.push_event(DisciplineEvent::SavedEstimateRefused(id));
        }
        is_taken
    }

    /// The samples that a source was given from an earlier run count as if it had gone on: with its reach register.
    pub fn reach_restored(&mut self, now: MonoTime, id: SourceId, reach: u8) {
        if let Some(source) = self.source_mut(id).filter(|source| source.filter.len() > 0) {
            (source.reach, source.unreachable_polls, source.fresh) = (reach, Some(0), true);
            self.dirty = true;
        }
        self.update(now);
    }

    /// Notes the reach register of a source: 8 bits, newest poll in bit 0; 0 makes it unselectable. RFC 5905 §9.2.
    pub fn set_reach(&mut self, id: SourceId, reach: u8) {
        if let Some(source) = self.source_mut(id) {
            let before = source.reach;
            source.reach = reach;
            let told = source.polls + 1 == POLLS_TOLD;
            source.polls = (source.polls + 1).min(POLLS_TOLD);
            source.unreachable_polls = source.unreachable_polls.map(|polls| match reach {
                0 => polls.saturating_add(1),
                _ => 0,
            });
            // Of one that is reachable the register does not matter to the selection, of one that is remembered its age does.
            let remembered = reach == 0 && source.options.unreachable_polls_max > 0;
            self.dirty |= remembered || told || (before == 0) != (reach == 0);
        }
    }
}
