//! The daemon under the name of ntpd-rs's ntp-daemon: its two options, its default file, its exit codes.

use crate::cli::{Habits, Options};
use crate::daemon;
use crate::load::{self, LoadError};
use crate::logging::{self, Destination, Verbosity, Words};
use chime_config::{Dialect, Loaded, LogLevel, Text};
use chime_sys::adjust::ClockError;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing::{error, info, warn};

/// Where the configuration is when `-c` does not say.
const FILE: &str = "/etc/ntpd-rs/ntp.toml";
/// Exit status: something failed while running (`EX_SOFTWARE` of sysexits.h).
const EXIT_SOFTWARE: u8 = 70;
const USAGE: &str = "\
usage: ntp-daemon [-c PATH] [-l LOG_LEVEL]
  -c, --config PATH      change the config .toml file
  -l, --log-level LEVEL  change the log level: error, warn, info, debug, trace
  -h, --help             display help
  -v, --version          display version";

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Run { file: Option<PathBuf>, level: Option<LogLevel> },
    Version,
    Help,
    Mistake(String),
}

/// Runs as ntp-daemon; the whole program.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (file, level) = match parse(arguments) {
        Asked::Run { file, level } => (file, level),
        Asked::Version => {
            return say(&format!("ntp-daemon 1.9.0-truechimer-{}", env!("CARGO_PKG_VERSION")), 0);
        }
        Asked::Help => return say(USAGE, 0),
        Asked::Mistake(mistake) => {
            return say(&format!("Error: Custom {{ kind: InvalidInput, error: \"{mistake}\" }}"), 1);
        }
    };
    let loaded = match read(file.as_deref()) {
        Ok(loaded) => loaded,
        Err(fault) => {
            let text = format!("There was an error loading the config: {fault}");
            return say(&text, daemon::EXIT_CONFIGURATION);
        }
    };
    let level = level.unwrap_or(loaded.model.observability.log_level);
    match destination(loaded.model.ntpd.log_file.as_deref()) {
        Ok(destination) => logging::init_to(destination, Words::Ours, Verbosity::wanted(0, level)),
        Err(fault) => return say(&fault, EXIT_SOFTWARE),
    }
    let shown = file.as_deref().unwrap_or(Path::new(FILE)).display();
    info!("using config file path=\"{shown}\"");
    loaded.warnings.0.iter().for_each(|warning| {
        warn!("{}:{}:{}: {}", warning.file, warning.line, warning.column, warning.message);
    });
    if loaded.model.sources.is_empty() {
        info!("No sources configured. Daemon will not change system time.");
    }
    daemon::serve(&options(file), (loaded.model, None), None, None, || ()).unwrap_or_else(|fault| {
        error!("{fault:#}");
        ExitCode::from(exit_code(&fault))
    })
}

/// Where the log goes: standard error, or the file of `log-path`, which is appended to. ntpd-rs would empty it.
fn destination(file: Option<&Path>) -> Result<Destination, String> {
    let Some(path) = file else { return Ok(Destination::StandardError) };
    Destination::file(path).map_err(|error| {
        format!("log-path: cannot open {}: {error}; create its directory, or remove the key", path.display())
    })
}

/// 77 where a permission is missing, 70 for everything else; without permission to set the clock ntpd-rs says 70.
fn exit_code(fault: &anyhow::Error) -> u8 {
    let is_clock = fault.chain().any(|cause| matches!(cause.downcast_ref(), Some(ClockError::NotPermitted)));
    let is_denied = fault.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    });
    if is_denied && !is_clock { daemon::EXIT_NO_PERMISSION } else { EXIT_SOFTWARE }
}

/// The file that was named, which must be there, or the usual one, which need not be.
fn read(file: Option<&Path>) -> Result<Loaded, LoadError> {
    let usual = Path::new(FILE);
    let absent = file.is_none() && std::fs::File::open(usual).is_err();
    if absent {
        let empty = Text::new(FILE, "");
        return chime_config::dialects::ntpd_rs::parse(&empty).map_err(LoadError::Mistakes);
    }
    load::load(Some(file.unwrap_or(usual)), Some(Dialect::NtpdRs)).map(|(loaded, _)| loaded)
}

fn options(file: Option<PathBuf>) -> Options {
    Options {
        config: Some(file.unwrap_or_else(|| PathBuf::from(FILE))),
        dialect: Some(Dialect::NtpdRs),
        observe: false,
        measure: false,
        end_slew: false,
        set_once: false,
        timeout: None,
        debug: 0,
        keep_user: false,
        habits: Habits::Ours,
    }
}

/// Reads the arguments, without the name of the program. Words that are no options are passed over.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Asked {
    let mut rest = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
    let (mut file, mut level) = (None, None);
    while let Some(word) = rest.next() {
        let (name, attached) = match word.strip_prefix("--") {
            Some(long) => match long.split_once('=') {
                Some((name, value)) => (format!("--{name}"), Some(value.to_owned())),
                None => (word.clone(), None),
            },
            None => {
                let end = word.char_indices().nth(2).map_or(word.len(), |(at, _)| at);
                let (name, attached) = word.split_at(end);
                (name.to_owned(), (!attached.is_empty()).then(|| attached.to_owned()))
            }
        };
        let refused = || Asked::Mistake(format!("invalid option provided: {word}"));
        match name.as_str() {
            "-h" | "--help" => return Asked::Help,
            "-v" | "--version" => return Asked::Version,
            "-c" | "--config" => match attached.or_else(|| rest.next()) {
                Some(value) if !value.starts_with('=') && !value.is_empty() => {
                    file = Some(PathBuf::from(value))
                }
                _ => return refused(),
            },
            "-l" | "--log-level" => match attached.or_else(|| rest.next()).as_deref().and_then(level_of) {
                Some(value) => level = Some(value),
                None => return refused(),
            },
            name if name.starts_with('-') => return refused(),
            _ => {}
        }
    }
    Asked::Run { file, level }
}

fn level_of(word: &str) -> Option<LogLevel> {
    [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
        .into_iter()
        .find(|level| level.name() == word)
}

/// Writes a text to standard error, as ntp-daemon does with all of them, and gives an exit status.
fn say(text: &str, status: u8) -> ExitCode {
    let _lost = writeln!(io::stderr(), "{text}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Asked {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn the_log_goes_where_log_path_says_or_the_daemon_does_not_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ntpd-rs.log");
        assert!(matches!(destination(None), Ok(Destination::StandardError)));
        assert!(matches!(destination(Some(&path)), Ok(Destination::File(_))));
        assert!(path.is_file());
        let nowhere = folder.path().join("none/ntpd-rs.log");
        let fault = destination(Some(&nowhere)).expect_err("there is no such directory");
        assert!(fault.contains("none/ntpd-rs.log") && fault.contains("create its directory"), "{fault}");
    }

    #[test]
    fn options_are_those_of_ntp_daemon() {
        let run = |file: &str, level| Asked::Run { file: Some(PathBuf::from(file)), level };
        assert_eq!(asked(&["-c", "/x.toml"]), run("/x.toml", None));
        assert_eq!(asked(&["-c/x.toml", "surplus"]), run("/x.toml", None));
        assert_eq!(asked(&["--config=/x.toml", "-l", "debug"]), run("/x.toml", Some(LogLevel::Debug)));
        assert_eq!(asked(&[]), Asked::Run { file: None, level: None });
        assert_eq!((asked(&["-v"]), asked(&["-h"])), (Asked::Version, Asked::Help));
        assert_eq!(asked(&["--bogus"]), Asked::Mistake("invalid option provided: --bogus".to_owned()));
        for wrong in [&["-c=/x.toml"][..], &["-c"], &["-l", "loud"], &["-z"]] {
            assert!(matches!(asked(wrong), Asked::Mistake(_)), "{wrong:?}");
        }
    }
}
