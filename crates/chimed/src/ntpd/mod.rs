//! The daemon under the name of NTPsec's ntpd: its options, exit codes, default paths and files.
//!
//! [`run`] takes the arguments of a process whose name is `ntpd`, or what follows `--as ntpd`. Everything else is the
//! daemon as it is: its planes, its control socket; its log has ntpd's words where ntpd has any.

pub mod key_log;
pub mod options;
pub mod shell;
pub mod statistics_files;

use crate::chronyd::files::PidFile;
use crate::cli::{Habits, Options};
use crate::detach::{self, Complaints};
use crate::load::{self, CommandLines, LoadError};
use crate::logging::{self, Destination, Verbosity, Words};
use crate::{daemon, once};
use anyhow::{Context, Result, anyhow};
use chime_config::{Dialect, Loaded, Model, PanicThreshold};
use chime_sys::background::Parent;
use chime_sys::signals::{self, Signal};
use options::{Asked, NtpdOptions, USAGE};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

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
            return print(&format!("ntpd {}", version()));
        }
        Asked::Help => return print(USAGE),
        Asked::Mistake(mistake) => {
            say(&mut io::stderr(), &format!("ntpd: {mistake}\n{USAGE}"));
            return ExitCode::FAILURE;
        }
    };
    let complaints =
        Complaints { no_fork: "ntpd: cannot go to the background: ", logged: "", printed: "ntpd: " };
    detach::run(options.foreground, complaints, |parent| live(&options, parent))
}

/// From the configuration, which says where the log is, to the end. `parent` waits until the daemon is ready.
fn live(options: &NtpdOptions, parent: &mut Option<Parent>) -> Result<ExitCode> {
    let mut daemon_options = daemon_options(options);
    let loaded = load(&daemon_options);
    let configured = loaded.as_ref().ok().and_then(|loaded| loaded.model.ntpd.log_file.clone());
    open_log(options, configured.as_deref())?;
    info!("INIT: ntpd {}: Starting", version());
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    info!("INIT: Command line: {}", words.join(" "));
    options.without_effect.iter().for_each(|what| warn!("option {what}"));
    if let Some(file) = &daemon_options.config {
        info!("CONFIG: readconfig: parsing file: {}", file.display());
    }
    let loaded = loaded.map_err(|error| anyhow!("{error}"))?;
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
    if let Some(priority) = options.priority {
        model.process.ask_for_priority(priority);
    }
    if options.quit {
        return measure(&daemon_options, &model);
    }
    let pid_file = options.pid_file.clone().or_else(|| model.chrony.pid_file.clone());
    let pid_file = pid_file.map(|path| PidFile::claim("ntpd", path)).transpose()?;
    let opened = lines_of_servers(&model);
    let ready = || {
        opened.iter().for_each(|line| info!("{line}"));
        if let Some(parent) = parent.take() {
            parent.ready();
        }
    };
    daemon::serve(&daemon_options, (model, None), None, pid_file, ready)
}

/// The version of NTPsec whose behaviour this is, with our own.
fn version() -> String {
    format!("ntpsec-1.2.5-truechimer-{}", env!("CARGO_PKG_VERSION"))
}

/// What ntpd says when it listens. Nothing is said before it is true.
fn lines_of_servers(model: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, server) in model.servers.iter().enumerate() {
        let wildcard = if server.listen.is_ipv4() { "v4wildcard" } else { "v6wildcard" };
        let name = server.interface.as_deref().unwrap_or(wildcard);
        lines.push(format!("IO: Listen normally on {number} {name} {}", server.listen));
    }
    if let Some(server) = model.nts_ke_servers.first() {
        lines.push(format!("NTSs: starting NTS-KE server listening on port {}", server.listen.port()));
        for pair in &server.certificates {
            lines.push(format!("NTSs: loaded certificate (chain) from {}", pair.chain.display()));
            lines.push(format!("NTSs: loaded private key from {}", pair.key.display()));
        }
        lines.push("NTSs: Private Key OK".to_owned());
    }
    for server in &model.nts_ke_servers {
        lines.push(format!("NTSs: listen{} worked", if server.listen.is_ipv4() { 4 } else { 6 }));
    }
    let mut roots = BTreeSet::new();
    for trust in model.sources.iter().filter_map(|source| source.authentication.nts_trust()) {
        let files = trust.certificate_authorities.iter();
        roots.extend(files.map(|path| format!("NTSc: Using file {} for root certificates.", path.display())));
        if trust.system_cas {
            roots.insert("NTSc: Using system default root certificates.".to_owned());
        }
    }
    lines.extend(roots);
    lines
}

/// `configured` is `logfile`, which `-l` overrules.
fn open_log(options: &NtpdOptions, configured: Option<&Path>) -> Result<()> {
    let verbosity = if options.debug > 0 { Verbosity::Debug } else { Verbosity::Normal };
    let file = options.log_file.as_deref().or(configured);
    let destination = match file.map(|path| (path, Destination::file(path))) {
        Some((_, Ok(file))) => file,
        Some((path, Err(error))) if options.log_file.is_some() => {
            return Err(error).with_context(|| format!("cannot open log file {}", path.display()));
        }
        _ if options.foreground => Destination::StandardError,
        _ => {
            chime_sys::syslog::open(c"ntpd");
            Destination::Syslog
        }
    };
    let is_file = matches!(destination, Destination::File(_));
    logging::init_to(destination, Words::Ntpd, verbosity);
    match file {
        Some(path) if is_file => info!("LOG: switching logging to file {}", path.display()),
        // As with ntpd the log stays where it was then.
        Some(path) => warn!("LOG: check_logfile: couldn't open {}", path.display()),
        None => {}
    }
    Ok(())
}

/// The file, if there is one, between what the options say.
fn load(options: &Options) -> Result<Loaded, LoadError> {
    load::load_as_told(options).map(|told| told.loaded)
}

fn daemon_options(options: &NtpdOptions) -> Options {
    let usual = || FILES.iter().map(PathBuf::from).find(|path| path.exists());
    let file = options.file.clone().or_else(usual).unwrap_or_else(|| Path::new(FILES[1]).to_owned());
    Options {
        config: Some(file),
        dialect: Some(Dialect::Ntpsec),
        observe: false,
        measure: false,
        end_slew: false,
        set_once: options.quit,
        timeout: None,
        debug: options.debug,
        keep_user: false,
        habits: Habits::Ntpd(Arc::new(CommandLines {
            before: options.before.clone(),
            after: options.after.clone(),
        })),
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
