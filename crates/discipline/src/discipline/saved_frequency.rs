//! A frequency from an earlier run is believed until the first measurements say otherwise: the file may be another
//! machine's, or this one got another oscillator.

use super::{Discipline, SKEW_UNKNOWN};
use crate::source::Source;
use crate::{DisciplineEvent, Sample, SourceId};

/// Clock updates after which the frequency is what was measured.
const TRIAL_UPDATES: u64 = 8;
/// So many standard errors of the saved frequency, and this much beside what the round trip explains, are no accident;
/// seconds.
const DOUBT_SIGMAS: f64 = 20.0;
const DOUBT_MARGIN: f64 = 1e-3;

impl Discipline {
    /// Gives the saved frequency up when the selected source's measurement cannot be true if it is. Then as little is known of
    /// the oscillator as without it, and what was measured so far is dropped.
    pub(super) fn doubt_saved_frequency(&mut self, id: SourceId, sample: &Sample) {
        // Others may say what they like.
        if !self.is_frequency_on_trial || self.selected != Some(id) {
            return;
        }
        if self.clock.updates >= TRIAL_UPDATES {
            self.is_frequency_on_trial = false;
            return;
        }
        let clock = self.clock.correction.at(sample.at);
        let before = self.source(id).and_then(|source| source.history.last());
        let Some((before, then)) = before.filter(|(before, _)| before.at < sample.at) else { return };
        let elapsed = clock.free - then.free;
        let changed = (sample.offset - before.offset).as_secs_f64() + clock.correction - then.correction;
        let contradiction = changed - self.clock.frequency * elapsed;
        let error =
            |sample: &Sample| sample.delay.as_secs_f64().max(0.0) / 2.0 + sample.dispersion.as_secs_f64();
        let explained =
            error(sample) + error(&before) + DOUBT_SIGMAS * self.clock.skew * elapsed + DOUBT_MARGIN;
        if contradiction.abs() <= explained {
            return;
        }
        self.is_frequency_on_trial = false;
        self.clock.skew = SKEW_UNKNOWN;
        self.clock.trust_frequency();
        self.sources.iter_mut().for_each(Source::clear);
        self.push_event(DisciplineEvent::SavedFrequencyRefuted { ppm: self.clock.frequency * 1e6 });
    }
}
