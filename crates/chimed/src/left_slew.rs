//! What a daemon that was killed leaves behind: a clock that goes on slewing.
//!
//! A slew is a frequency until we take it back; nothing in the kernel ends it, and the fastest one moves the clock by a second
//! in twelve. The next start begins with the saved frequency. Where that is not to come at once, or not at all, the service
//! manager runs `chimed --end-slew` when the daemon is gone: what was saved is set, without asking anybody for the time.

use crate::state_files::decode_drift;
use crate::store::{Report, StateFile, Store};
use anyhow::{Context, Result, bail};
use chime_discipline::SavedFrequency;
use chime_sys::adjust::{ClockDriver, KernelClock, kernel_state};
use chime_time::Frequency;
use std::path::Path;

/// A clock this near to the saved frequency is not slewing: what is saved is up to ten minutes old, and the temperature may be
/// compensated beside it. A slew that is slower does little harm until somebody looks.
const NEAR_SAVED_PPM: f64 = 10.0;

/// Where nothing is saved any frequency that an oscillator may lack is let be: the kernel's own limit.
const NEAR_ZERO_PPM: f64 = 500.0;

/// Takes back the slew of a daemon that kept its state in `directory`; says what it did.
///
/// # Errors
/// When a daemon is running there, or the clock cannot be set.
pub(crate) fn end(directory: &Path) -> Result<String> {
    let mut store = Store::open(directory, None);
    if let Some(report @ Report::InUse { .. }) = store.poll_report() {
        bail!("a daemon that runs ends its slews itself: {report}");
    }
    let saved = store.load(StateFile::Drift, decode_drift);
    let found = kernel_state().context("the kernel does not say how its clock runs")?.frequency;
    let Some(right) = frequency_to_leave(found, saved) else {
        return Ok(format!("the clock is not slewing: it runs at {:+.3} ppm", found.as_ppm()));
    };
    let set = KernelClock::take_over().and_then(|mut clock| clock.set_frequency(right))?;
    Ok(format!("the clock ran at {:+.3} ppm; it was set to {:+.3} ppm", found.as_ppm(), set.as_ppm()))
}

/// The frequency for a clock that nobody steers any more; `None` when it can be left as it is.
fn frequency_to_leave(found: Frequency, saved: Option<SavedFrequency>) -> Option<Frequency> {
    let (right, near_ppm) =
        saved.map_or((Frequency::ZERO, NEAR_ZERO_PPM), |saved| (saved.frequency, NEAR_SAVED_PPM));
    ((found.as_ppm() - right.as_ppm()).abs() > near_ppm).then_some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_files::encode_drift;
    use tempfile::TempDir;

    fn ppm(ppm: f64) -> Frequency {
        Frequency::from_ppm(ppm)
    }

    #[test]
    fn a_clock_that_was_left_slewing_gets_the_saved_frequency() {
        let saved = Some(SavedFrequency { frequency: ppm(-30.0), skew: 1e-8 });
        assert_eq!(frequency_to_leave(ppm(83_000.0), saved), Some(ppm(-30.0)));
        assert_eq!(frequency_to_leave(ppm(-530.0), saved), Some(ppm(-30.0)));
        assert_eq!(frequency_to_leave(ppm(-20.1), saved), None);
        assert_eq!(frequency_to_leave(ppm(-19.9), saved), Some(ppm(-30.0)));
    }

    #[test]
    fn where_nothing_is_saved_only_what_no_oscillator_lacks_is_taken_back() {
        assert_eq!(frequency_to_leave(ppm(-501.0), None), Some(Frequency::ZERO));
        assert_eq!(frequency_to_leave(ppm(-499.0), None), None);
    }

    #[test]
    fn a_daemon_that_runs_is_not_interfered_with() {
        let directory = TempDir::new().expect("a folder");
        let mut store = Store::open(directory.path(), None);
        let far = SavedFrequency { frequency: ppm(90_000.0), skew: 1e-8 };
        assert!(store.save(StateFile::Drift, encode_drift(&far).as_bytes()));
        let refused = end(directory.path()).expect_err("the directory is claimed").to_string();
        assert!(refused.contains("another daemon"), "{refused}");
    }
}
