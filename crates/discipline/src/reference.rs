//! What our clock derives from: the system variables of RFC 5905 §11.1.

use crate::clock_discipline::ClockDiscipline;
use crate::combine::Combined;
use crate::election::Choice;
use crate::selection::CorrectnessInterval;
use crate::source::{Candidate, INTERVAL_MARGIN, Source};
use crate::{Leap, LocalReference, Settings, SystemState};
use chime_time::MonoTime;

/// Stratum from which on nobody may follow. RFC 5905 §7.3 (MAXSTRAT).
const STRATUM_MAX: u8 = 15;
/// Standard errors of the frequency by which the error bound grows.
const SKEW_SIGMAS: f64 = 3.0;
/// Weight of the newest offset in the long-term average of their squares.
const RMS_WEIGHT: f64 = 0.1;

/// The state at the last clock update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    at: MonoTime,
    stratum: u8,
    reference_id: [u8; 4],
    /// What most sources announce.
    pub(crate) leap: Leap,
    root_delay: f64,
    /// At `at`, without what remains to be corrected.
    root_dispersion: f64,
    pub(crate) last_offset: f64,
    mean_square_offset: f64,
    update_interval: f64,
    /// By how much the estimate of the frequency differed from the frequency in use, s per s.
    pub(crate) residual_frequency: f64,
}

impl Reference {
    /// The state after an update at `now` by `source` as the selected one.
    pub(crate) fn new(
        now: MonoTime,
        source: &Source,
        choice: &Choice,
        combined: &Combined,
        before: Option<&Self>,
    ) -> Self {
        let selected = &choice.selected;
        let square = combined.offset * combined.offset;
        let CorrectnessInterval { low, high } = choice.possible;
        let reach = (high - combined.offset).max(combined.offset - low) - INTERVAL_MARGIN;
        Self {
            at: now,
            stratum: if source.options.copy_reference {
                source.stratum
            } else {
                source.stratum.saturating_add(1).min(STRATUM_MAX + 1)
            },
            reference_id: source.reference_id,
            leap: choice.leap,
            root_delay: selected.estimate.root_delay,
            // True time is within the root distance of the selected source, from which the others pulled us away; or where any
            // majority says, if the selected source is not in it.
            root_dispersion: (selected.estimate.root_dispersion
                + (combined.offset - selected.estimate.offset).abs())
            .max(reach - selected.estimate.root_delay / 2.0)
                + doubt(&choice.truechimers),
            last_offset: combined.offset,
            // The first offset is that of a clock which nobody had set yet: it is no measure of how well it is kept.
            mean_square_offset: match before.map(|before| before.mean_square_offset) {
                None => 0.0,
                Some(0.0) => square,
                Some(mean) => mean + RMS_WEIGHT * (square - mean),
            },
            update_interval: before.map_or(0.0, |before| now.seconds_since(before.at)),
            residual_frequency: 0.0,
        }
    }

    /// When the clock was updated.
    pub(crate) const fn at(&self) -> MonoTime {
        self.at
    }

    /// Fills in what follows from the last update at `now`.
    pub(crate) fn describe(
        &self,
        now: MonoTime,
        clock: &ClockDiscipline,
        settings: &Settings,
        state: &mut SystemState,
    ) {
        let elapsed = now.seconds_since(self.at).max(0.0);
        let rate = clock.oscillator_change(now, settings) + SKEW_SIGMAS * clock.skew;
        state.stratum = self.stratum;
        state.reference_id = self.reference_id;
        state.reference_at = Some(self.at);
        state.last_offset = self.last_offset;
        state.rms_offset = self.mean_square_offset.sqrt();
        state.residual_frequency_ppm = self.residual_frequency * 1e6;
        state.root_delay = self.root_delay;
        // A clock that is only watched stays wrong: what is served is corrected by that, and it is no error.
        let uncorrected = if settings.steer { state.system_offset.abs() } else { 0.0 };
        state.root_dispersion = self.root_dispersion + elapsed * rate + uncorrected;
        state.root_dispersion_rate = rate;
        state.estimated_error = clock.estimate.map_or(1.0, |estimate| estimate.error + elapsed * clock.skew);
        state.update_interval = self.update_interval;
    }
}

/// By how much more our clock may be wrong if those of the truechimers are right whose newest samples contradict what they said
/// before: our clock may have been moved, or theirs. As long as most of them have nothing to contradict, 0.
fn doubt(truechimers: &[Candidate]) -> f64 {
    let mut doubts: Vec<f64> = truechimers.iter().map(|candidate| candidate.estimate.doubt).collect();
    doubts.sort_by(f64::total_cmp);
    doubts.get(doubts.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

impl SystemState {
    /// Replaces what only a synchronised clock may claim, or what the local reference claims instead.
    /// `is_allowed`: whether the local reference may be active at all by now.
    pub(crate) fn finish(&mut self, local: Option<&LocalReference>, is_allowed: bool) {
        let distance = self.root_distance();
        self.synchronized &= self.stratum <= STRATUM_MAX;
        if let Some(local) = local {
            self.local_active = is_allowed && (!self.synchronized || distance > local.distance);
        }
        if self.local_active {
            self.leap = Leap::NoWarning;
            self.stratum = local.map_or(STRATUM_MAX, |local| local.stratum.clamp(1, STRATUM_MAX));
            self.reference_id = local.map_or(LocalReference::REFERENCE_ID, |local| local.reference_id);
            self.reference_at = None;
            (self.root_delay, self.root_dispersion, self.root_dispersion_rate) = (0.0, 0.0, 0.0);
        } else if !self.synchronized {
            self.leap = Leap::Unsynchronized;
            self.stratum = 0;
            self.reference_id = [0; 4];
            self.reference_at = None;
            (self.root_delay, self.root_dispersion) = (1.0, 1.0);
        }
    }
}
