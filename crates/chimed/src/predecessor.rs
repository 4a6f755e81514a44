//! What is taken over from the time daemon that ran here before: its frequency and its cookie keys.
//!
//! Its files belong to it and its user. They are read before privileges are given up and not written, so that it can be
//! started again.

mod cookie_keys;

pub use cookie_keys::PredecessorKeysFile;

use crate::plain_file::{self, SMALL_OCTETS_MAX};
use chime_config::{DriftFile, Model};
use chime_discipline::SavedFrequency;
use chime_nts::PredecessorKeys;
use chime_time::Frequency;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tracing::{info, warn};
use zeroize::Zeroizing;

/// How sure a frequency without a word about it is: what temperature does to a quartz from one day to the next.
const SKEW_PPM: f64 = 1.0;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Inheritance {
    /// The oscillator.
    pub frequency: Option<SavedFrequency>,
    /// What opens the cookies that clients have.
    pub cookie_keys: Option<Arc<PredecessorKeys>>,
    /// Where that is kept.
    pub cookie_keys_file: Option<PredecessorKeysFile>,
}

impl Inheritance {
    /// Reads the files that the configuration names, those of chronyd as its own where that is whose name we have. What is
    /// not there is not missed; what cannot be used is said.
    #[must_use]
    pub fn read(model: &Model, is_chronyd: bool) -> Self {
        let file = PredecessorKeysFile::of(model, is_chronyd);
        Self {
            frequency: frequency(model),
            cookie_keys: file.as_ref().and_then(PredecessorKeysFile::read),
            cookie_keys_file: file,
        }
    }
}

/// What the other daemon had learnt of the oscillator, or else what the operator knows of it.
fn frequency(model: &Model) -> Option<SavedFrequency> {
    let configured = || {
        let frequency = model.synchronization.initial_frequency?;
        Some(SavedFrequency { frequency, skew: SKEW_PPM * 1e-6 })
    };
    model.predecessor.drift_file.as_ref().and_then(read_drift).or_else(configured)
}

fn read_drift(file: &DriftFile) -> Option<SavedFrequency> {
    let octets = contents(&file.path)?;
    let path = file.path.display();
    let saved = std::str::from_utf8(&octets).ok().and_then(|text| parse_drift(text, file.positive_is_fast));
    match saved {
        Some(saved) => info!("{path}: frequency {:.3} ppm", saved.frequency.as_ppm()),
        None => warn!("{path}: not a frequency in ppm: going on without it"),
    }
    saved
}

/// A number in ppm, and perhaps its uncertainty.
fn parse_drift(text: &str, positive_is_fast: bool) -> Option<SavedFrequency> {
    /// The largest frequency that a clock can be corrected by.
    const PPM_MAX: f64 = 100_000.0;
    let mut words = text.split_ascii_whitespace();
    let ppm: f64 = words.next()?.parse().ok().filter(|ppm: &f64| ppm.abs() <= PPM_MAX)?;
    let skew = words.next().map_or(Some(SKEW_PPM), |word| word.parse().ok());
    let skew = skew.filter(|skew| skew.is_finite() && *skew >= 0.0)?;
    let correction = if positive_is_fast { -ppm } else { ppm };
    Some(SavedFrequency { frequency: Frequency::from_ppm(correction), skew: skew * 1e-6 })
}

/// The contents of a file; `None` when it is not there, or cannot be read, which is said.
fn contents(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    match plain_file::read(path, SMALL_OCTETS_MAX) {
        Ok(octets) => Some(octets),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            warn!("{}: cannot be read: {error}; going on without it", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_config::{CookieKeyFile, CookieKeyFormat};
    use std::path::PathBuf;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/testdata/keys").join(name)
    }

    fn model(contents: &str) -> Model {
        let text = chime_config::Text::new("t", contents);
        chime_config::dialects::native::parse(&text, &[]).expect("it is right").model
    }

    #[test]
    fn frequencies_have_the_sign_of_their_writer() {
        let ppm = |text: &str, fast| parse_drift(text, fast).map(|it| (it.frequency.as_ppm(), it.skew));
        assert_eq!(ppm("-12.345678\n", false), Some((-12.345678, 1e-6)));
        assert_eq!(ppm("   -0.004199   0.015080\n", true).map(|(ppm, _)| ppm), Some(0.004199));
        for wrong in ["", "x", "1 x", "nan", "inf", "1 -1", "200000"] {
            assert_eq!(ppm(wrong, true), None, "{wrong}");
        }
    }

    #[test]
    fn a_frequency_that_was_configured_counts_where_there_is_no_drift_file() {
        let mut model = model("[synchronization]\ninitial-frequency = -3.5e-6\n");
        let ppm = |model: &Model| Inheritance::read(model, false).frequency.map(|it| it.frequency.as_ppm());
        assert!(ppm(&model).is_some_and(|ppm| (ppm + 3.5).abs() < 1e-9));
        model.predecessor.drift_file =
            Some(DriftFile { path: fixture("ntp.drift"), positive_is_fast: false });
        assert!(ppm(&model).is_some_and(|ppm| (ppm + 3.5).abs() > 1e-3));
    }

    #[test]
    fn the_files_of_others_are_found_and_read() {
        let mut model = model("[[server]]\nlisten = \"127.0.0.1:123\"\n");
        model.predecessor.drift_file =
            Some(DriftFile { path: fixture("ntp.drift"), positive_is_fast: false });
        for (name, format, keys) in [
            ("nts-keys.ntpsec", CookieKeyFormat::Ntpsec, Some(2)),
            ("nts-keys.ntpd-rs.bin", CookieKeyFormat::NtpdRs, Some(3)),
            ("nts-keys.ntpd-rs.bin", CookieKeyFormat::Chrony, None),
            ("absent", CookieKeyFormat::Chrony, None),
        ] {
            model.predecessor.cookie_keys = Some(CookieKeyFile { path: fixture(name), format });
            let found = Inheritance::read(&model, false);
            assert_eq!(found.cookie_keys.map(|keys| keys.len()), keys, "{name}");
            assert_eq!(found.frequency.map(|it| it.frequency.as_ppm()), Some(-12.345678));
        }
        model.servers.clear();
        assert!(Inheritance::read(&model, false).cookie_keys.is_none(), "nobody to open cookies for");
    }
}
