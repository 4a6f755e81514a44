//! The command line of the daemon.

use crate::chronyd::options::ChronydOptions;
use crate::load::CommandLines;
use chime_config::Dialect;
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The time daemon of Truechimer: NTP client and server secured by Network Time Security.
///
/// Exit status: 0 stopped as asked, or time was measured; 1 something failed while running (with -q and -Q: no
/// trustworthy time within the time limit); 2 the command line is wrong; 78 the configuration is wrong; 77 a permission
/// is missing.
#[derive(Parser, Clone, Debug)]
#[command(name = "chimed", version, max_term_width = 110)]
pub struct Options {
    /// Read the configuration from FILE instead of /etc/truechimer/truechimer.toml
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Take the configuration as written in DIALECT: native (TOML), chrony (chrony.conf), ntpsec (ntp.conf) or
    /// ntpd-rs (ntp.toml); seen from the file unless given
    #[arg(long, value_name = "DIALECT")]
    pub dialect: Option<Dialect>,

    /// Do not touch the clock: measure, report and serve, but leave time, frequency and the kernel's state alone
    #[arg(short = 'x', long = "observe")]
    pub observe: bool,

    /// Measure once, print the offset, and exit without touching the clock
    #[arg(short = 'Q', long = "measure", conflicts_with = "set_once")]
    pub measure: bool,

    /// Measure once, set the clock, and exit
    #[arg(short = 'q', long = "set", conflicts_with = "observe")]
    pub set_once: bool,

    /// Take back the slew of a daemon that was killed, and exit: the clock gets the frequency that was saved
    #[arg(long = "end-slew", conflicts_with_all = ["observe", "measure", "set_once"])]
    pub end_slew: bool,

    /// Exit after SECONDS; with -q and -Q the limit for measuring (10 unless given)
    #[arg(short = 't', long = "timeout", value_name = "SECONDS", value_parser = parse_seconds)]
    pub timeout: Option<Duration>,

    /// Log to standard error, also what is only of interest when something is being looked for; twice for more
    #[arg(short = 'd', long = "debug", action = clap::ArgAction::Count)]
    pub debug: u8,

    /// Stay the user that started it instead of becoming the configured one
    #[arg(long = "keep-user")]
    pub keep_user: bool,

    /// Whose habits the daemon has; set by the name under which it is started.
    #[arg(skip)]
    pub habits: Habits,
}

/// Whose words, signals and exit codes are used, and what the command line says whenever the configuration is read.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Habits {
    /// Our own.
    #[default]
    Ours,
    /// chronyd's: see [`crate::chronyd`].
    Chronyd(Arc<ChronydOptions>),
    /// ntpd's: see [`crate::ntpd`].
    Ntpd(Arc<CommandLines>),
}

/// Under what name the program is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    /// Our own.
    Chimed,
    /// chronyd: see [`crate::chronyd`].
    Chronyd,
    /// ntpd of NTPsec: see [`crate::ntpd`].
    Ntpd,
    /// ntp-daemon of ntpd-rs: see [`crate::ntp_daemon`].
    NtpDaemon,
}

/// As what a process is started: by its own name, or by `--as NAME` as the first argument.
#[must_use]
pub fn name_of(arguments: &[OsString]) -> (Name, &[OsString]) {
    let by_name = arguments.first().and_then(|program| Path::new(program).file_name());
    let rest = arguments.get(1..).unwrap_or_default();
    let (name, rest) = match rest {
        [option, name, rest @ ..] if option == "--as" => (Some(name.as_os_str()), rest),
        [option, rest @ ..] => match option.to_str().and_then(|option| option.strip_prefix("--as=")) {
            Some(name) => (Some(OsStr::new(name)), rest),
            None => (by_name, arguments.get(1..).unwrap_or_default()),
        },
        [] => (by_name, rest),
    };
    let name = match name.and_then(OsStr::to_str) {
        Some("chronyd") => Name::Chronyd,
        Some("ntpd") => Name::Ntpd,
        Some("ntp-daemon") => Name::NtpDaemon,
        _ => Name::Chimed,
    };
    (name, rest)
}

impl Options {
    /// Whether the clock may be set and steered at all.
    #[must_use]
    pub fn steers(&self) -> bool {
        !self.observe && !self.measure
    }

    /// Whether the daemon is to measure once and stop.
    #[must_use]
    pub fn once(&self) -> bool {
        self.measure || self.set_once
    }
}

/// A time limit: seconds, fractions allowed, above zero and at most a year.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 366.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(Duration::from_secs_f64(seconds)),
        Ok(_) => Err("must be above 0 and at most a year".into()),
        Err(_) => Err("must be a number of seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_or_the_first_option_says_as_what_it_is_started() {
        let name = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let (name, rest) = name_of(&arguments);
            (name, rest.len())
        };
        assert_eq!(name(&["/usr/sbin/chronyd", "-d"]), (Name::Chronyd, 1));
        assert_eq!(name(&["chimed", "--as", "chronyd", "-d"]), (Name::Chronyd, 1));
        assert_eq!(name(&["chimed", "--as=chronyd"]), (Name::Chronyd, 0));
        assert_eq!(name(&["chronyd", "--as", "chimed", "-x"]), (Name::Chimed, 1));
        assert_eq!(name(&["chimed", "-d", "--as=chronyd"]), (Name::Chimed, 2));
        assert_eq!(name(&[]), (Name::Chimed, 0));
        assert_eq!(name(&["/usr/sbin/ntpd", "-g"]), (Name::Ntpd, 1));
        assert_eq!(name(&["chimed", "--as", "ntp-daemon"]), (Name::NtpDaemon, 0));
    }

    #[test]
    fn the_options_of_other_daemons_are_understood() {
        let options = Options::parse_from(["chimed", "-Q", "-t", "2.5", "-c", "/x.toml", "-dd"]);
        assert!(options.measure && options.once() && !options.steers());
        assert_eq!(options.timeout, Some(Duration::from_millis(2500)));
        assert_eq!(options.debug, 2);
        assert!(Options::try_parse_from(["chimed", "-q", "-Q"]).is_err());
        assert!(
            Options::try_parse_from(["chimed", "-q", "-x"]).is_err(),
            "set the clock and do not touch it"
        );
        assert!(Options::parse_from(["chimed", "--end-slew"]).end_slew);
        assert!(Options::try_parse_from(["chimed", "--end-slew", "-x"]).is_err());
        assert!(Options::try_parse_from(["chimed", "-t", "0"]).is_err());
        assert!(Options::try_parse_from(["chimed", "-t", "nan"]).is_err());
    }
}
