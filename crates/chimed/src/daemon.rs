//! The life of the daemon: open, give up privileges, start the planes, run, stop.

mod changes;
mod identity;
mod opening;
mod starting;
mod view;

use crate::broadcasts::Broadcasts;
use crate::chrony_host::ChronyDesk;
use crate::chronyd::files::PidFile;
use crate::chronyd::shell::ChronyShell;
use crate::cli::{Habits, Options};
use crate::cookie_ring::Rotation;
use crate::event_log::EventLog;
use crate::leap_table::LeapTables;
use crate::load::{ChronyFiles, Told};
use crate::logging::Verbosity;
use crate::ntpd::shell::NtpdShell;
use crate::oscillator::Oscillator;
use crate::predecessor::Inheritance;
use crate::publish::Publisher;
use crate::real_time_clock::RtcShell;
use crate::reference_clocks::ReferenceClocks;
use crate::service_manager::ServiceManager;
use crate::serving::Shared;
use crate::source_files::SourceFiles;
use crate::state::StateKeeper;
use crate::time_plane::{Parts, Stop, TimePlane, Turn, summary};
use crate::trust::Trusts;
use crate::{chronyd, desks, fast_path, left_slew, load, logging, once, urgency, wiring};
use anyhow::{Context, Result};
use changes::reload;
use chime_config::Model;
use chime_engine::{Config, Engine};
use chime_sys::adjust::ClockError;
use chime_sys::signals::Signal;
use chime_sys::{clock, poll, signals};
use chime_time::MonoTime;
use identity::{give_up_privileges, identity, warn_of_unreadable};
use opening::{
    exchanges, open_cards, open_chronyc, open_control, open_desks, open_ke_servers, open_mode6, open_servers,
    open_store, random_octets, take_clock,
};
use starting::{Servers, chrony_ways, commands_to, start_control, start_desks, start_servers, tell};
use std::io;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tracing::{error, info};
use view::View;

/// Exit status: something failed, or no trustworthy time was measured.
pub const EXIT_FAILURE: u8 = 1;
/// Exit status: a permission is missing (`EX_NOPERM` of sysexits.h).
pub const EXIT_NO_PERMISSION: u8 = 77;
/// Exit status: the configuration is wrong (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIGURATION: u8 = 78;

/// How long `-q` and `-Q` measure when nothing else is said.
const MEASURE_LIMIT: Duration = Duration::from_secs(10);

/// Runs the daemon as the options say; the whole program.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let Told { loaded, path, chrony } = match load::load_as_told(options) {
        Ok(loaded) => loaded,
        Err(error) => {
            // Written as it is: the message has several lines with a caret under the mistake.
            say(&mut io::stderr(), error);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    logging::init(Verbosity::wanted(options.debug, loaded.model.observability.log_level));
    if !loaded.warnings.is_empty() {
        say(&mut io::stderr(), loaded.warnings.render(false));
    }
    let observe = options.observe || !loaded.model.synchronization.tuning.steer;
    let options = &Options { observe, ..options.clone() };
    let outcome = if options.end_slew {
        left_slew::end(&loaded.model.process.state_directory).map(|done| {
            info!("{done}");
            ExitCode::SUCCESS
        })
    } else if options.once() {
        measure_once(options, &loaded.model)
    } else {
        greet(path.as_deref());
        serve(options, (loaded.model, chrony), None, None, || ())
    };
    outcome.unwrap_or_else(|error| {
        error!("{error:#}");
        let denied = error.chain().any(|cause| {
            matches!(cause.downcast_ref(), Some(ClockError::NotPermitted))
                || cause
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        });
        ExitCode::from(if denied { EXIT_NO_PERMISSION } else { EXIT_FAILURE })
    })
}

fn greet(path: Option<&Path>) {
    match path {
        Some(path) => {
            info!("chimed {} starting, configuration {}", env!("CARGO_PKG_VERSION"), path.display())
        }
        None => {
            info!("chimed {} starting, built-in configuration: five NTS servers", env!("CARGO_PKG_VERSION"))
        }
    }
}

/// Keeps time until a signal or the time limit, by a model and, where that was one, the chrony.conf that it is of. `ready` is called when everything is open; `pid_file` is given to the
/// daemon's user, and removed at the end.
pub(crate) fn serve(
    options: &Options,
    configuration: (Model, Option<ChronyFiles>),
    slew: Option<f64>,
    pid_file: Option<PidFile>,
    ready: impl FnOnce(),
) -> Result<ExitCode> {
    let mut daemon = Daemon::start(options, configuration)?;
    if let Some(forward) = slew {
        daemon.plane.command(chime_engine::Command::SlewByHand(forward));
    }
    ready();
    let outcome = daemon.run(options);
    drop(pid_file);
    outcome
}

/// Writes a line, if it can be written: a full disk or a reader that is gone is no reason to end, as `eprintln` would.
fn say(to: &mut impl Write, line: impl std::fmt::Display) {
    let _lost = writeln!(to, "{line}");
}

fn measure_once(options: &Options, model: &Model) -> Result<ExitCode> {
    signals::install(&[Signal::Terminate, Signal::Interrupt])?;
    let limit = options.timeout.unwrap_or(MEASURE_LIMIT);
    let measurement = once::measure(model, limit, options.set_once)?;
    say(&mut io::stdout(), once::verdict(&measurement, options.set_once));
    let complete = measurement.trustworthy && !measurement.interrupted;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}

/// The running daemon.
struct Daemon {
    plane: TimePlane,
    servers: Servers,
    control: Option<chime_web::Handle>,
    desks: Option<desks::Handle>,
    fast: Option<fast_path::Keeper>,
    manager: ServiceManager,
    thrift: urgency::Thrift,
}

impl Daemon {
    /// Opens everything that needs privileges, gives them up, and starts the planes.
    fn start(options: &Options, (model, chrony_files): (Model, Option<ChronyFiles>)) -> Result<Self> {
        signals::install(&Signal::ALL)?;
        let now = clock::read();
        let trusts = Trusts::load(&model)?;
        let source_files = chrony_files.map(|files| SourceFiles::keep(files, options, &model));
        let mut config = with_habits(wiring::engine_config(&model, &trusts, options.steers())?, options);
        let shared = Arc::new(Shared::unsynchronized(config.discipline.precision.exponent()));

        let user = identity(options, &model)?;
        let cards = open_cards(&model, &shared)?;
        let workers = open_servers(options, &model, &shared)?;
        let ke_workers = open_ke_servers(options, &model, &shared)?;
        let control = open_control(&model, user);
        let chronyc = open_chronyc(&model, user);
        let mut desks = open_desks(&model, user);
        let store = open_store(options, &model);
        let mode6 = open_mode6(&model, &shared, &workers)?;
        let reference_clocks = ReferenceClocks::open(&model)?;
        let clock = take_clock(options, now, model.synchronization.marks_kernel)?;
        let real_time_clock = RtcShell::open(&model.chrony.real_time_clock, now.mono);
        let inheritance = Inheritance::read(&model, matches!(options.habits, Habits::Chronyd(_)));
        urgency::claim(&model.process);
        give_up_privileges(options, user, store.as_ref())?;
        warn_of_unreadable(&model, options.config.as_deref());
        let oscillator = Oscillator::of_kernel(options.steers());
        let chrony = ChronyShell::new(&model, options, (now.mono, oscillator), real_time_clock);

        let mut state = StateKeeper::new(store, shared.clone(), now.mono).of_oscillator(oscillator);
        let remembered = state.remembered();
        config.known_time = remembered.known_time(config.known_time);
        let frequency = chrony.saved_frequency().or(remembered.frequency).or(inheritance.frequency);
        config.saved_frequency = frequency.and_then(|saved| oscillator.from_file(saved));
        if !model.nts_ke_servers.is_empty() || !model.servers.is_empty() {
            let inherited = (inheritance.cookie_keys, inheritance.cookie_keys_file);
            state.open_key_ring(rotation(&model), inherited, now.system).context("no cookie keys")?;
        }
        let known_time = config.known_time;
        let mut engine = Engine::new(config, random_octets()?, now);
        state.restore_nts_state(&mut engine, now.mono);
        state.restore_samples(&mut engine, model.process.sample_history);
        chrony.restore_dumps(&mut engine, &model);

        let (publisher, leap_tables) = publishing(&model, shared.clone(), now.mono, options);
        let (sender, commands) = mpsc::channel();
        let (waker, wake) = poll::waker().context("no pipe")?;
        let (exchanges, broadcasts) =
            (exchanges(&model, &shared), Broadcasts::of(&model, shared.clone(), now.mono)?);
        // Threads only from here on: what was given up above was given up by all.
        let (servers, inline) = start_servers(&model, &shared, workers, ke_workers)?;
        let fast = fast_path::Keeper::start(shared.clone())?;
        let tally = mode6.as_ref().map(|(mode6, _)| mode6.tally()).unwrap_or_default();
        let view = View::new(&model, (publisher.reports(), shared.clone()), servers.clone(), tally)?;
        if !chronyc.is_empty() {
            let ways = chrony_ways(&model, &view, tell(sender.clone(), waker.clone()))?;
            desks.push(Box::new(ChronyDesk::new(chronyc, ways)));
        }
        if let Some((mode6, sockets)) = mode6 {
            desks.push(Box::new(mode6.connected(sockets, tell(sender.clone(), waker.clone()))));
        }
        let (desks, inline_desks) = start_desks(model.process.threads, desks, &view)?;
        let ntpd = ntpd_shell(&model, options, view.clone(), now.mono);
        let control = start_control(control, view, commands_to(sender, waker))?;
        let (thrift, log) = (urgency::Thrift::of(&model, now.mono), event_log(&model));
        let reload = reload(options.clone(), model, known_time, servers.clone());
        let parts = Parts {
            clock,
            state,
            publisher,
            exchanges,
            cards,
            reference_clocks,
            broadcasts,
            trusts,
            source_files,
            leap_tables,
            inline,
            desks: inline_desks,
            chrony: Some(chrony),
            ntpd,
            log,
            alone: control.is_none() && desks.is_none(),
        };
        let plane = TimePlane::new(engine, parts, (commands, wake), reload)?;
        let manager = ServiceManager::from_environment();
        Ok(Self { plane, servers, control, desks, fast, manager, thrift })
    }

    fn run(self, options: &Options) -> Result<ExitCode> {
        let Self { mut plane, servers, control, desks, fast, mut manager, mut thrift } = self;
        let deadline = options.timeout.map(|limit| clock::mono_now().saturating_add(limit));
        manager.ready();
        let stop = plane.run(deadline, |engine, now| {
            thrift.tend(now.mono);
            manager.status(now.mono, || summary(&engine.report(now)));
            Turn::Continue(manager.keep_alive(now.mono))
        });
        manager.stopping();
        plane.save();
        let stratum = plane.report().tracking.stratum;
        // The control plane first: it shows what the others count.
        drop((control, desks));
        drop((fast, servers));
        match (stop?, &options.habits) {
            (Stop::GivenUp, _) => return Ok(ExitCode::from(EXIT_FAILURE)),
            (Stop::Signal, Habits::Ours) => info!("chimed exiting on signal"),
            (_, Habits::Ours) => info!("chimed exiting: the time limit has come"),
            (_, Habits::Ntpd(_)) => info!("ERR: ntpd exiting on signal 15 (Terminated)"),
            (Stop::Signal, Habits::Chronyd(_)) => {}
            (_, Habits::Chronyd(_)) => {
                info!("Timeout reached");
                if stratum == 0 {
                    return Ok(ExitCode::from(EXIT_FAILURE));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the name of another daemon makes of the configuration: how far requests to different servers are apart, whether they
/// say how often they come, and what reports show of pools.
fn with_habits(config: Config, options: &Options) -> Config {
    match &options.habits {
        Habits::Ours | Habits::Ntpd(_) => config,
        Habits::Chronyd(_) => Config {
            poll_separation_seconds: chronyd::POLL_SEPARATION_SECONDS,
            announce_poll: true,
            spare_pool_places: true,
            ..config
        },
    }
}

/// What an ntp.conf asks for beside keeping time.
fn ntpd_shell(model: &Model, options: &Options, view: View, now: MonoTime) -> Option<NtpdShell> {
    NtpdShell::new(model, options, Box::new(move || view.snapshot(false)), now)
}

fn event_log(model: &Model) -> EventLog {
    EventLog::new(model.synchronization.warns_of_steps)
}

fn rotation(model: &Model) -> Rotation {
    let interval_seconds = u32::try_from(model.keyset.rotation_interval.as_secs()).unwrap_or(u32::MAX);
    Rotation { interval_seconds, keep: model.keyset.stale_keys }
}

/// What shows our time to others, and what it knows of leap seconds.
fn publishing(
    model: &Model,
    shared: Arc<Shared>,
    started: MonoTime,
    options: &Options,
) -> (Publisher, LeapTables) {
    let smear = model.leap_seconds.smear;
    let publisher = Publisher::new(shared, started, options.steers()).with_smear(smear);
    let publisher = publisher.with_smoothing(model.synchronization.smoothing);
    (publisher, LeapTables::new(model.leap_seconds.clone()))
}
