//! Files that another program keeps, from which this one takes over what it had learnt.

use std::path::PathBuf;

/// Files of the time daemon whose configuration is read. They are read where our own files have nothing yet, and not
/// written, so that the other program can be started again; under chronyd's name its cookie keys are rotated.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Predecessor {
    /// The frequency of the clock: a number in ppm, perhaps followed by its uncertainty.
    pub drift_file: Option<DriftFile>,
    /// The keys with which it made its NTS cookies.
    pub cookie_keys: Option<CookieKeyFile>,
}

/// A file with the frequency of the clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriftFile {
    /// The file.
    pub path: PathBuf,
    /// Whether a positive number says that the clock is fast, as chronyd writes it; ntpd writes how much the clock is
    /// made to run faster.
    pub positive_is_fast: bool,
}

/// A file with the keys that seal NTS cookies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CookieKeyFile {
    /// The file.
    pub path: PathBuf,
    /// Who wrote it.
    pub format: CookieKeyFormat,
}

/// How a file with cookie keys is written, and how the cookies are made with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CookieKeyFormat {
    /// chronyd's `ntskeys`.
    Chrony,
    /// NTPsec's `nts-keys`.
    Ntpsec,
    /// The binary file of ntpd-rs.
    NtpdRs,
}

impl CookieKeyFormat {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chrony => "chrony",
            Self::Ntpsec => "ntpsec",
            Self::NtpdRs => "ntpd-rs",
        }
    }
}
