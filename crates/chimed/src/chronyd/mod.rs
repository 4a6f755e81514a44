//! The daemon under the name of chronyd: its options, exit codes, files, signals and words.
//!
//! [`run`] takes the arguments of a process whose name is `chronyd`, or what follows `--as chronyd`. The time plane then
//! answers and serves in its one thread, as chronyd does, and there is no HTTP: who wants the other planes starts the
//! same file as `chimed -c`.

pub mod dumps;
pub mod files;
pub mod first_correction;
pub mod from_rtc;
mod mail;
pub mod options;
pub mod shell;
pub mod temperature;

use crate::cli::{Habits, Options};
use crate::detach::{self, Complaints};
use crate::load::{LoadError, Told};
use crate::logging::{self, Destination, Verbosity, Words};
use crate::{daemon, load, once};
use anyhow::{Context, Result, anyhow, bail};
use chime_config::{AddressFamily, Diagnostic, Dialect, LogLevel, Model, Severity, Text, Threads};
use chime_sys::background::Parent;
use chime_sys::privileges;
use chime_sys::signals::{self, Signal};
use options::{Asked, ChronydOptions, Family, USAGE};
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Where the configuration is when `-f` does not say: the distributions differ.
const FILES: [&str; 2] = ["/etc/chrony/chrony.conf", "/etc/chrony.conf"];

/// Where the process's number is kept unless another place is configured.
const PID_FILE: &str = "/run/chrony/chronyd.pid";

/// Our own files are in this folder of `ntsdumpdir`, which chronyd's share.
const STATE_FOLDER: &str = "truechimer";

/// chronyd's requests to different servers leave at least this far apart, so that one does not delay the other.
pub const POLL_SEPARATION_SECONDS: f64 = 0.2;

/// What this program can do, in the list that scripts look into.
const FEATURES: &str = "+CMDMON +REFCLOCK +RTC +PRIVDROP -SCFILTER +SIGND +NTS +SECHASH +IPV6 -DEBUG";

/// How long `-q` and `-Q` measure at most when `-t` does not say: chronyd has no limit, and gives up when no source is
/// left to hope for.
const MEASURE_LIMIT: Duration = Duration::from_secs(600);

/// Runs as chronyd; the whole program.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match options::parse(arguments) {
        Asked::Run(options) => *options,
        Asked::Version => return print(&format!("chronyd (chrony) version {} ({FEATURES})", version())),
        Asked::Help => return print(USAGE),
        Asked::Mistake(mistake) => {
            say(&mut io::stderr(), &format!("chronyd: {mistake}\n{USAGE}"));
            return ExitCode::FAILURE;
        }
    };
    if options.print {
        return print_configuration(&options);
    }
    let complaints = Complaints {
        no_fork: "Could not detach, fork failed : ",
        logged: "Fatal error : ",
        printed: "Fatal error : ",
    };
    detach::run(is_foreground(&options), complaints, |parent| live(&options, parent))
}

/// The number of the version of chrony whose behaviour this is, with our own.
fn version() -> String {
    format!("4.8-truechimer-{}", env!("CARGO_PKG_VERSION"))
}

const fn is_foreground(options: &ChronydOptions) -> bool {
    options.foreground || options.debug > 0 || options.set_once || options.measure
}

/// From the log to the end. `parent` waits until the daemon is ready.
fn live(options: &ChronydOptions, parent: &mut Option<Parent>) -> Result<ExitCode> {
    open_log(options)?;
    info!("chronyd version {} starting ({FEATURES})", version());
    options.without_effect.iter().for_each(|what| warn!("Option {what}"));
    if !options.any_user && !options.measure && !privileges::is_root() {
        bail!("Not superuser");
    }
    let Told { loaded, path, chrony } = load(options).map_err(|error| anyhow!(one_line(&error)))?;
    loaded.warnings.0.iter().for_each(|warning| warn!("{}", place(warning)));
    let model = loaded.model;
    let daemon_options = daemon_options(options, path);
    if daemon_options.once() {
        return measure(&daemon_options, options, &model);
    }
    let pid_file = match files::PidFile::place(&model, PID_FILE) {
        Some(path) => Some(files::PidFile::claim("chronyd", path)?),
        None => None,
    };
    let ready = || {
        if let Some(parent) = parent.take() {
            parent.ready();
        }
        if let Some(descriptor) = options.ready_descriptor {
            files::tell_ready(descriptor);
        }
    };
    let from_rtc = options.from_rtc.then(|| from_rtc::set_clock(&model, daemon_options.steers())).flatten();
    let slew = match &model.chrony.first_correction {
        Some(wish) if daemon_options.steers() && !options.restart => first_correction::correct(&model, wish)?,
        _ => from_rtc,
    };
    let outcome = daemon::serve(&daemon_options, (model, chrony), slew, pid_file, ready);
    if outcome.is_ok() {
        info!("chronyd exiting");
    }
    outcome
}

fn open_log(options: &ChronydOptions) -> Result<()> {
    let verbosity = match (options.log_level, options.debug) {
        (..0, _) | (_, 2..) => Verbosity::Debug,
        (0, _) => Verbosity::Normal,
        (1, _) => Verbosity::Warnings,
        _ => Verbosity::Errors,
    };
    let destination = match &options.log_file {
        Some(path) => {
            Destination::file(path).with_context(|| format!("Could not open log file {}", path.display()))?
        }
        None if options.debug > 0 || options.set_once || options.measure => Destination::StandardError,
        None => {
            chime_sys::syslog::open(c"chronyd");
            Destination::Syslog
        }
    };
    logging::init_to(destination, Words::Chrony, verbosity);
    Ok(())
}

/// The configuration that the options name, and what they make of it; also gives the file that was read.
///
/// # Errors
/// As [`load::load`].
pub fn load(options: &ChronydOptions) -> Result<Told, LoadError> {
    let (mut loaded, files) = load::load_chrony(main_text(options)?)?;
    adapt(&mut loaded.model, options);
    let path = options.directives.is_empty().then(|| file(options).to_owned());
    Ok(Told { loaded, path, chrony: Some(files) })
}

/// The main file, or the directives of the command line in its place.
///
/// # Errors
/// As [`load::load`].
fn main_text(options: &ChronydOptions) -> Result<Text, LoadError> {
    if options.directives.is_empty() {
        load::main_text(Some(file(options)))
    } else {
        Ok(load::as_text(&options.directives))
    }
}

fn file(options: &ChronydOptions) -> &Path {
    let usual = || FILES.iter().map(Path::new).find(|path| path.exists()).unwrap_or(Path::new(FILES[1]));
    options.file.as_deref().unwrap_or_else(usual)
}

/// What the name and the options make of a configuration.
pub(crate) fn adapt(model: &mut Model, options: &ChronydOptions) {
    model.process.threads = Threads::Single;
    model.observability.control_socket = None;
    model.observability.metrics_listen = None;
    model.observability.log_level = LogLevel::Info;
    model.chrony.read_dumps = options.reload;
    if options.user.is_some() {
        model.process.user.clone_from(&options.user);
    }
    if let Some(priority) = options.priority {
        model.process.ask_for_priority(priority);
    }
    model.process.lock_memory |= options.lock_memory;
    if options.restart {
        let step = &mut model.synchronization.tuning.step;
        if step.updates_limit.is_some() {
            step.threshold = None;
        }
    }
    if let Some(family) = options.family {
        keep_family(model, family);
    }
    if let Some(directory) = &model.chrony.nts_directory {
        model.process.state_directory = directory.join(STATE_FOLDER);
    }
}

fn keep_family(model: &mut Model, family: Family) {
    let wanted = |address: SocketAddr| address.is_ipv4() == (family == Family::V4);
    model.servers.retain(|server| wanted(server.listen));
    model.servers_in_waiting.retain(|server| wanted(server.listen));
    model.nts_ke_servers.retain(|server| wanted(server.listen));
    model.observability.chrony_listen.retain(|address| wanted(*address));
    for source in &mut model.sources {
        source.address_family = match family {
            Family::V4 => AddressFamily::V4,
            Family::V6 => AddressFamily::V6,
        };
    }
}

fn daemon_options(options: &ChronydOptions, path: Option<PathBuf>) -> Options {
    Options {
        config: path,
        dialect: Some(Dialect::Chrony),
        observe: options.observe,
        measure: options.measure,
        end_slew: false,
        set_once: options.set_once && !options.observe,
        timeout: options.timeout,
        debug: options.debug.saturating_sub(1),
        keep_user: false,
        habits: Habits::Chronyd(Arc::new(options.clone())),
    }
}

/// `-q` and `-Q`.
fn measure(daemon_options: &Options, options: &ChronydOptions, model: &Model) -> Result<ExitCode> {
    signals::install(&[Signal::Terminate, Signal::Interrupt, Signal::Quit, Signal::HangUp])?;
    if !daemon_options.steers() {
        info!("Disabled control of system clock");
    }
    let limit = options.timeout.unwrap_or(MEASURE_LIMIT);
    let measurement = once::measure(model, limit, daemon_options.set_once)?;
    let found = measurement.trustworthy && !measurement.interrupted;
    if found {
        let what = if daemon_options.set_once { "step" } else { "ignored" };
        info!("System clock wrong by {:.6} seconds ({what})", measurement.offset_seconds());
    } else {
        if measurement.timed_out {
            info!("Timeout reached");
        }
        warn!("No suitable source for synchronisation");
    }
    info!("chronyd exiting");
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `-p`: every directive, in the order in which they count.
fn print_configuration(options: &ChronydOptions) -> ExitCode {
    match main_text(options).and_then(|main| load::chrony_lines(&main)) {
        Ok(lines) => {
            lines.iter().for_each(|line| say(&mut io::stdout(), line));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&mut io::stderr(), &format!("Fatal error : {}", one_line(&error)));
            ExitCode::FAILURE
        }
    }
}

fn one_line(error: &LoadError) -> String {
    match error {
        LoadError::Mistakes(mistakes) => {
            let first = mistakes.0.iter().find(|mistake| mistake.severity == Severity::Error);
            first.map_or_else(|| error.to_string(), place)
        }
        LoadError::Unreadable { path, error } => format!("Could not open {} : {error}", path.display()),
    }
}

/// A message about a place in a file, in one line.
fn place(message: &Diagnostic) -> String {
    let help = message.help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
    let file = if message.file.is_empty() { String::new() } else { format!(" in file {}", message.file) };
    format!("{}{help} at line {}{file}", message.message, message.line)
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

    fn read(line: &str, options: &ChronydOptions) -> Model {
        let mut model = load::load_chrony(load::as_text(&[line.to_owned()])).expect("it is right").0.model;
        adapt(&mut model, options);
        model
    }

    #[test]
    fn one_thread_and_no_http_is_what_the_name_stands_for() {
        let model = read("server a.example", &ChronydOptions::default());
        assert_eq!(model.process.threads, Threads::Single);
        assert_eq!((model.observability.control_socket, model.observability.metrics_listen), (None, None));
    }

    #[test]
    fn after_a_restart_the_clock_is_stepped_only_where_it_may_be_at_any_time() {
        let options = ChronydOptions { restart: true, ..ChronydOptions::default() };
        let threshold = |line| read(line, &options).synchronization.tuning.step.threshold;
        assert_eq!(threshold("makestep 1 3"), None);
        assert_eq!(threshold("makestep 1 -1"), Some(1.0));
    }

    #[test]
    fn one_family_is_kept_everywhere() {
        let options = ChronydOptions { family: Some(Family::V6), ..ChronydOptions::default() };
        let model = read("allow", &options);
        assert!(model.servers.iter().all(|server| server.listen.is_ipv6()) && model.servers.len() == 1);
        assert_eq!(model.observability.chrony_listen.len(), 1);
        assert_eq!(read("server a.example", &options).sources[0].address_family, AddressFamily::V6);
    }

    /// `chronyc reload sources`.
    #[test]
    fn what_the_command_line_says_counts_when_the_configuration_is_read_again() {
        let options = ChronydOptions {
            directives: vec!["server a.example".to_owned()],
            family: Some(Family::V6),
            ..ChronydOptions::default()
        };
        let Told { loaded: first, path, .. } = load(&options).expect("no mistake");
        let Told { loaded: again, .. } =
            load::load_as_told(&daemon_options(&options, path)).expect("no mistake");
        assert_eq!(again.model, first.model);
        assert_eq!(
            (again.model.sources.len(), again.model.sources[0].address_family),
            (1, AddressFamily::V6)
        );
    }

    #[test]
    fn priority_and_memory_are_asked_for_in_the_file_or_on_the_command_line() {
        let ordinary = read("server a.example", &ChronydOptions::default()).process;
        assert_eq!((ordinary.real_time_priority, ordinary.lock_memory), (None, false));
        let options = ChronydOptions { priority: Some(100), lock_memory: true, ..ChronydOptions::default() };
        let urgent = read("sched_priority 1", &options).process;
        assert_eq!((urgent.real_time_priority, urgent.lock_memory), (Some(99), true));
        let options = ChronydOptions { priority: Some(0), ..ChronydOptions::default() };
        assert_eq!(read("sched_priority 1", &options).process.real_time_priority, None);
    }

    #[test]
    fn our_files_are_apart_from_those_of_chronyd() {
        let model = read("ntsdumpdir /var/lib/chrony", &ChronydOptions::default());
        assert_eq!(model.process.state_directory, Path::new("/var/lib/chrony/truechimer"));
    }

    #[test]
    fn a_mistake_is_one_line_with_its_place() {
        let error = load::load_chrony(load::as_text(&["server a.example".into(), "makstep 1 3".into()]))
            .expect_err("wrong");
        assert_eq!(one_line(&error), "unknown directive `makstep` (did you mean `makestep`?) at line 2");
    }
}
