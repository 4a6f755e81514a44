//! Frequencies for files, and frequencies to think in.
//!
//! What is kept over a restart is the frequency that the oscillator lacks. A clock that is only watched (`-x`) is measured as
//! it runs, at whatever frequency the kernel was given by somebody else: that lies in between.

use chime_discipline::SavedFrequency;
use chime_sys::adjust::kernel_state;
use chime_time::Frequency;

/// The oscillator behind our clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Oscillator {
    /// We steer: the discipline thinks in the oscillator's own frequency.
    Steered,
    /// We watch, and the kernel had this frequency when we began; `None` where it does not say.
    Watched(Option<Frequency>),
}

impl Oscillator {
    /// The oscillator of the kernel's clock.
    #[must_use]
    pub fn of_kernel(is_steered: bool) -> Self {
        if is_steered { Self::Steered } else { Self::Watched(kernel_frequency()) }
    }

    /// What of the frequency in the discipline may go into a file now. Nothing where somebody else steers the clock: what it
    /// was measured against is gone.
    #[must_use]
    pub fn to_file(self, found: SavedFrequency) -> Option<SavedFrequency> {
        self.to_file_at(found, kernel_frequency)
    }

    /// What a file says, for the discipline; nothing where it is not known against what.
    #[must_use]
    pub fn from_file(self, saved: SavedFrequency) -> Option<SavedFrequency> {
        let base = match self {
            Self::Steered => return Some(saved),
            Self::Watched(base) => base?,
        };
        let ratio = (1.0 + saved.frequency.as_ratio()) / (1.0 + base.as_ratio()) - 1.0;
        Some(SavedFrequency { frequency: Frequency::from_ratio(ratio), ..saved })
    }

    fn to_file_at(
        self,
        found: SavedFrequency,
        kernel: impl FnOnce() -> Option<Frequency>,
    ) -> Option<SavedFrequency> {
        let base = match self {
            Self::Steered => return Some(found),
            Self::Watched(base) => base.filter(|base| kernel() == Some(*base))?,
        };
        let ratio = (1.0 + found.frequency.as_ratio()) * (1.0 + base.as_ratio()) - 1.0;
        Some(SavedFrequency { frequency: Frequency::from_ratio(ratio), ..found })
    }
}

fn kernel_frequency() -> Option<Frequency> {
    kernel_state().ok().map(|state| state.frequency)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm(ppm: f64) -> Frequency {
        Frequency::from_ppm(ppm)
    }

    fn saved(frequency: f64) -> SavedFrequency {
        SavedFrequency { frequency: ppm(frequency), skew: 1e-7 }
    }

    fn is_about(found: Option<SavedFrequency>, frequency: f64) -> bool {
        found.is_some_and(|it| (it.frequency.as_ppm() - frequency).abs() < 1e-2 && it.skew == 1e-7)
    }

    #[test]
    fn a_steered_clocks_frequency_is_the_oscillators() {
        assert_eq!(Oscillator::Steered.to_file_at(saved(7.0), || None), Some(saved(7.0)));
        assert_eq!(Oscillator::Steered.from_file(saved(7.0)), Some(saved(7.0)));
    }

    #[test]
    fn what_a_watched_clock_was_given_is_part_of_what_its_oscillator_lacks() {
        let watched = Oscillator::Watched(Some(ppm(-20.0)));
        assert!(is_about(watched.to_file_at(saved(3.0), || Some(ppm(-20.0))), -17.0));
        assert!(is_about(watched.from_file(saved(-17.0)), 3.0));
    }

    #[test]
    fn nothing_is_known_where_others_steer_or_the_kernel_is_silent() {
        let watched = Oscillator::Watched(Some(ppm(-20.0)));
        assert_eq!(watched.to_file_at(saved(3.0), || Some(ppm(-20.1))), None);
        assert_eq!(watched.to_file_at(saved(3.0), || None), None);
        let silent = Oscillator::Watched(None);
        assert_eq!(silent.to_file_at(saved(3.0), || None), None);
        assert_eq!(silent.from_file(saved(3.0)), None);
    }
}
