//! The daemon under the name of NTPsec's ntpd: its options, exit codes, default paths and files.
//!
//! [`run`] takes the arguments of a process whose name is `ntpd`, or what follows `--as ntpd`. Everything else is the
//! daemon as it is: its planes, its log in our words, its control socket.

pub mod options;

use crate::chronyd::files::PidFile;
use crate::cli::{Habits, Options};
use crate::load::{self, CommandLines, LoadError};
use crate::logging::{self, Destination, Verbosity, Words};
use crate::{daemon, once};
use anyhow::{Context, Result, anyhow};
use chime_config::{Dialect, Loaded, PanicThreshold};
use chime_sys::background::{self, Parent};
use chime_sys::signals::{self, Signal};
use options::{Asked, NtpdOptions, USAGE};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};

/// Where the configuration is when `-c` does not say: the distributions differ.
const FILES: [&str; 2] = ["/etc/ntpsec/ntp.conf", "/etc/ntp.conf"];

/// How long `-q` measures.
const MEASURE_LIMIT: Duration = Duration::from_secs(60);

/// Runs as ntpd; the whole program.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match options::parse(arguments) {
        Asked::Run(options) => *options,
        Asked::Version => {
            return print(&format!("ntpd ntpsec-1.2.5-truechimer-{}", env!("CARGO_PKG_VERSION")));
        }
        Asked::Help => return print(USAGE),
        Asked::Mistake(mistake) => {
            say(&mut io::stderr(), &format!("ntpd: {mistake}\n{USAGE}"));
            return ExitCode::FAILURE;
        }
    };
    let mut parent = None;
    if !options.foreground {
        match background::fork() {
            Ok(waiting) => parent = Some(waiting),
            Err(error) => {
                say(&mut io::stderr(), &format!("ntpd: cannot go to the background: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
    live(&options, &mut parent).unwrap_or_else(|fault| {
        error!("{fault:#}");
        if let Some(parent) = parent {
            parent.failed(&format!("ntpd: {fault:#}"));
        }
        ExitCode::FAILURE
    })
}

/// From the log to the end. `parent` waits until the daemon is ready.
fn live(options: &NtpdOptions, parent: &mut Option<Parent>) -> Result<ExitCode> {
    open_log(options)?;
    info!("INIT: ntpd ntpsec-1.2.5-truechimer-{}: Starting", env!("CARGO_PKG_VERSION"));
    options.without_effect.iter().for_each(|what| warn!("option {what}"));
    let mut daemon_options = daemon_options(options);
    let loaded = load(&daemon_options).map_err(|error| anyhow!("{error}"))?;
    for warning in &loaded.warnings.0 {
        warn!(
            "CONFIG: {} line {} column {}: {}",
            warning.file, warning.line, warning.column, warning.message
        );
    }
    let mut model = loaded.model;
    daemon_options.observe |= !model.synchronization.tuning.steer;
    if options.any_first_correction {
        model.synchronization.tuning.step.startup_panic = PanicThreshold::default();
    }
    if options.user.is_some() {
        model.process.user.clone_from(&options.user);
    }
    if options.quit {
        return measure(&daemon_options, &model);
    }
    let pid_file = options.pid_file.clone().or_else(|| model.chrony.pid_file.clone());
    let pid_file = pid_file.map(PidFile::claim).transpose()?;
    let ready = || {
        if let Some(parent) = parent.take() {
            parent.ready();
        }
    };
    let outcome = daemon::serve(&daemon_options, model, None, pid_file, ready);
    info!("ntpd exiting");
    outcome
}

fn open_log(options: &NtpdOptions) -> Result<()> {
    let verbosity = if options.debug > 0 { Verbosity::Debug } else { Verbosity::Normal };
    let destination = match &options.log_file {
        Some(path) => Destination::File(
            File::options()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(path)
                .with_context(|| format!("cannot open log file {}", path.display()))?,
        ),
        None if options.foreground => Destination::StandardError,
        None => {
            chime_sys::syslog::open(c"ntpd");
            Destination::Syslog
        }
    };
    logging::init_to(destination, Words::Ours, verbosity);
    Ok(())
}

/// The file, if there is one, between what the options say.
fn load(options: &Options) -> Result<Loaded, LoadError> {
    load::load_as_told(options).map(|(loaded, _)| loaded)
}

fn daemon_options(options: &NtpdOptions) -> Options {
    let usual = || FILES.iter().map(PathBuf::from).find(|path| path.exists());
    let file = options.file.clone().or_else(usual).unwrap_or_else(|| Path::new(FILES[1]).to_owned());
    Options {
        config: Some(file),
        dialect: Some(Dialect::Ntpsec),
        observe: false,
        measure: false,
        set_once: options.quit,
        timeout: None,
        debug: options.debug,
        keep_user: false,
        habits: Habits::Ours,
        lines: Some(Arc::new(CommandLines { before: options.before.clone(), after: options.after.clone() })),
    }
}

/// `-q`: the clock is set once. Exit status 0 when it was.
fn measure(options: &Options, model: &chime_config::Model) -> Result<ExitCode> {
    signals::install(&[Signal::Terminate, Signal::Interrupt, Signal::Quit])?;
    let mut model = model.clone();
    model.sources.iter_mut().for_each(|source| source.iburst = true);
    let measurement = once::measure(&model, MEASURE_LIMIT, options.steers())?;
    say(&mut io::stdout(), &once::verdict(&measurement, options.steers()).to_string());
    let complete = measurement.trustworthy && !measurement.interrupted;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(text: &str) -> ExitCode {
    say(&mut io::stdout(), text);
    ExitCode::SUCCESS
}

/// Writes a line, if it can be written.
fn say(to: &mut impl Write, line: &str) {
    let _lost = writeln!(to, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(words: &[&str]) -> Loaded {
        let Asked::Run(options) = options::parse(words.iter().map(OsString::from)) else {
            panic!("{words:?}");
        };
        load(&daemon_options(&options)).expect("it is right")
    }

    #[test]
    fn options_and_file_come_together_in_the_order_of_ntpd() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ntp.conf");
        std::fs::write(&file, "server file.example\nkeys /file\ntinker step 5\n").expect("it can be written");
        let file = file.to_str().expect("a plain path");
        let model = loaded(&["-c", file, "-k", "/option", "-x", "-I", "192.0.2.1", "arg.example"]).model;
        let names: Vec<&str> = model.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["arg.example", "file.example"]);
        assert_eq!(model.key_file, Some(PathBuf::from("/option")));
        assert_eq!(model.synchronization.tuning.step.threshold, Some(600.0));
        let listens: Vec<String> = model.servers.iter().map(|server| server.listen.to_string()).collect();
        assert_eq!(listens, ["192.0.2.1:123"]);
    }

    #[test]
    fn a_file_that_is_missing_is_no_mistake() {
        let loaded = loaded(&["-c", "/nonexistent/ntp.conf", "arg.example"]);
        assert_eq!(loaded.model.sources.len(), 1);
        assert!(loaded.warnings.0.iter().any(|it| it.message.contains("/nonexistent/ntp.conf")));
    }
}
