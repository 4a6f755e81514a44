//! The life of the daemon: open, give up privileges, start the planes, run, stop.

use crate::broadcasts::Broadcasts;
use crate::card_clocks::{CardClocks, KernelCards};
use crate::chrony_host::{self, ChronyDesk};
use crate::chronyd;
use crate::chronyd::files::PidFile;
use crate::chronyd::shell::ChronyShell;
use crate::cli::{Habits, Options};
use crate::clock_shell::ClockShell;
use crate::desks::{self, Desk};
use crate::exchanges::Exchanges;
use crate::fast_path;
use crate::ke_server::{self, CertificateFiles, KeListener, KeServerSettings, KeServing, KeWorker};
use crate::leap_table::LeapTables;
use crate::load::{self, LoadError};
use crate::logging::{self, Verbosity};
use crate::mode6_host::{self, Mode6};
use crate::ntpd::key_log::KeyLog;
use crate::ntpd::shell::NtpdShell;
use crate::observation_host::Observation;
use crate::oscillator::Oscillator;
use crate::predecessor::Inheritance;
use crate::publish::{Dated, Publisher};
use crate::real_time_clock::RtcShell;
use crate::reference_clocks::ReferenceClocks;
use crate::runtime_access::{self, RuntimeAccess};
use crate::service_manager::ServiceManager;
use crate::serving::{self, Listener, Serving, ServingSettings, Shared};
use crate::source_files::SourceFiles;
use crate::state::{Rotation, StateKeeper};
use crate::store::Store;
use crate::tally::Tally;
use crate::time_plane::{
    Inline, InlineDesks, KeptSources, Parts, PlaneCommand, Reload, Reloaded, Stop, TimePlane, Turn, summary,
};
use crate::trust::Trusts;
use crate::{once, restart_only, rivals, urgency, wiring};
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use chime_config::{Model, NtpServer, Threads};
use chime_control::{ClientReport, Command, ControlReport, KeServerReport, SmoothingReport, Snapshot};
use chime_engine::{Config, Engine, KnownTime};
use chime_server::{Access, AccessList, AccessRule, ClientRecord, ClientTable, Policy};
use chime_sys::adjust::{ClockDriver, ClockError, KernelClock, ObserveOnly};
use chime_sys::poll::Waker;
use chime_sys::privileges::{self, Capability};
use chime_sys::signals::{self, Signal};
use chime_sys::udp::UdpSocket;
use chime_sys::{clock, poll, random};
use chime_time::MonoTime;
use chime_web::Refused;
use chime_wire::mac::SymmetricKey;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use tracing::{error, info, warn};

/// Exit status: something failed, or no trustworthy time was measured.
pub const EXIT_FAILURE: u8 = 1;
/// Exit status: a permission is missing (`EX_NOPERM` of sysexits.h).
pub const EXIT_NO_PERMISSION: u8 = 77;
/// Exit status: the configuration is wrong (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIGURATION: u8 = 78;

/// How long `-q` and `-Q` measure when nothing else is said.
const MEASURE_LIMIT: Duration = Duration::from_secs(10);

/// How long a report waits for the workers that remember clients.
const CLIENTS_PATIENCE: Duration = Duration::from_millis(200);

/// The user that is taken when it exists and nothing else is configured.
const USUAL_USER: &str = "truechimer";

/// Runs the daemon as the options say; the whole program.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let (loaded, path) = match load::load(options.config.as_deref(), options.dialect) {
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
    let outcome = if options.once() {
        measure_once(options, &loaded.model)
    } else {
        greet(path.as_deref());
        serve(options, loaded.model, None, None, || ())
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

/// Keeps time until a signal or the time limit. `ready` is called when everything is open; `pid_file` is given to the
/// daemon's user, and removed at the end.
pub(crate) fn serve(
    options: &Options,
    model: Model,
    slew: Option<f64>,
    pid_file: Option<PidFile>,
    ready: impl FnOnce(),
) -> Result<ExitCode> {
    let mut daemon = Daemon::start(options, model)?;
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

/// The serving plane, as far as it is configured.
#[derive(Clone, Default)]
struct Servers {
    ntp: Option<Arc<Serving>>,
    ke: Option<Arc<KeServing>>,
}

/// The running daemon.
struct Daemon {
    plane: TimePlane,
    servers: Servers,
    control: Option<chime_web::Handle>,
    desks: Option<desks::Handle>,
    fast: Option<fast_path::Keeper>,
    manager: ServiceManager,
}

impl Daemon {
    /// Opens everything that needs privileges, gives them up, and starts the planes.
    fn start(options: &Options, model: Model) -> Result<Self> {
        signals::install(&Signal::ALL)?;
        let now = clock::read();
        let trusts = Trusts::load(&model)?;
        let source_files = kept_sources(options, &model);
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
        let inheritance = Inheritance::read(&model);
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
        state.inherit(inheritance.cookie_keys);
        if !model.nts_ke_servers.is_empty() || !model.servers.is_empty() {
            state.open_key_ring(rotation(&model), now.system).context("no cookie keys")?;
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
        let counts = view.clone();
        let ntpd = NtpdShell::new(&model, options, Box::new(move || counts.snapshot(false)), now.mono);
        let control = start_control(control, view, commands_to(sender, waker))?;
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
            alone: control.is_none() && desks.is_none(),
        };
        let plane = TimePlane::new(engine, parts, (commands, wake), reload)?;
        Ok(Self { plane, servers, control, desks, fast, manager: ServiceManager::from_environment() })
    }

    fn run(self, options: &Options) -> Result<ExitCode> {
        let Self { mut plane, servers, control, desks, fast, mut manager } = self;
        let deadline = options.timeout.map(|limit| clock::mono_now().saturating_add(limit));
        manager.ready();
        let stop = plane.run(deadline, |engine, now| {
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

/// How many clients the servers remember in all.
fn clients_max(model: &Model) -> u64 {
    let policies = model.possible_servers().map(NtpServer::policy);
    policies.filter(|policy| policy.client_records).map(|policy| policy.clients_max as u64).sum()
}

/// Who asks with chronyc over UDP; nobody is remembered where the server does not either.
fn command_clients(model: &Model) -> Result<Option<chrony_host::SharedClients>> {
    /// Few have a reason to ask, and nobody who is not allowed to is remembered.
    const CLIENTS_WITHOUT_LIMIT: usize = 256;
    let mut servers = model.possible_servers().peekable();
    let forgets = servers.peek().is_some() && !servers.any(|server| server.client_records);
    if model.observability.chrony_listen.is_empty() || forgets {
        return Ok(None);
    }
    let limit = model.observability.chrony_rate_limit;
    let size = limit.map_or(CLIENTS_WITHOUT_LIMIT, |_| Policy::CLIENTS_DEFAULT);
    let hash_key = [u64::from_ne_bytes(random_octets()?), u64::from_ne_bytes(random_octets()?)];
    Ok(Some(Arc::new(Mutex::new(ClientTable::new(size, limit, hash_key)))))
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

/// Files with sources, as they were when the model was read.
fn kept_sources(options: &Options, model: &Model) -> Option<KeptSources> {
    let files = SourceFiles::keep(options)?;
    let sources = files.of(model).to_vec();
    Some(KeptSources { files, sources })
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

/// The user to become, if any. The usual one need not exist: then we stay, without most privileges, and say so.
fn identity(options: &Options, model: &Model) -> Result<Option<privileges::User>> {
    let Some(name) = model.process.user.as_deref().filter(|_| privileges::is_root() && !options.keep_user)
    else {
        return Ok(None);
    };
    match privileges::find_user(name).with_context(|| format!("looking for the user {name}"))? {
        Some(user) => Ok(Some(user)),
        None if name == USUAL_USER && matches!(options.habits, Habits::Chronyd(_)) => {
            warn!("Running with root privileges");
            Ok(None)
        }
        None if name == USUAL_USER => {
            warn!("there is no user {name}: staying root, with only the privileges that are needed");
            Ok(None)
        }
        None => bail!("there is no user {name}: create it, or configure another one as user"),
    }
}

/// Has network cards stamp packets; before sockets are opened, which ask for that where there are cards.
fn open_cards(model: &Model, shared: &Shared) -> Result<CardClocks> {
    CardClocks::open(&model.hardware_stamps, Box::new(KernelCards), shared.cards.clone())
}

/// The sockets of requests to come.
fn exchanges(model: &Model, shared: &Shared) -> Exchanges {
    Exchanges::of(model).with_cards(shared.cards.clone(), model.hardware_stamps.timeout)
}

fn random_octets<const N: usize>() -> Result<[u8; N]> {
    let mut octets = [0; N];
    random::fill(&mut octets).context("no randomness")?;
    Ok(octets)
}

fn open_servers(options: &Options, model: &Model, shared: &Arc<Shared>) -> Result<Vec<serving::Worker>> {
    if model.servers.is_empty() {
        return Ok(Vec::new());
    }
    let listeners = match &options.habits {
        Habits::Ours | Habits::Ntpd(_) => listeners(model)?,
        Habits::Chronyd(_) => serving::bindable(listeners(model)?)?,
    };
    let settings = serving_settings(model, listeners)?;
    let fast =
        fast_path::open(&model.servers, &settings.listeners, (model.process.threads, settings.workers));
    let mut workers = serving::bind(&settings, shared)?;
    if let Some(fast_path::Opened { fast, desks }) = fast {
        if let Some(dscp) = settings.dscp {
            warn!("what the fast path answers is sent without the DSCP {dscp}");
        }
        let _only_once = shared.fast.set(fast);
        serving::deal(desks, &mut workers);
    }
    Ok(workers)
}

fn serving_settings(model: &Model, listeners: Vec<Listener>) -> Result<ServingSettings> {
    let process = &model.process;
    Ok(ServingSettings {
        listeners,
        workers: match process.threads {
            Threads::PerCore if !process.cpus.is_empty() => process.cpus.len(),
            threads => workers(threads),
        },
        cpus: process.cpus.clone(),
        busy_poll_micros: process.busy_poll_micros,
        dscp: process.dscp,
        // Sockets of peers and broadcasts have the servers' ports, too.
        share_ports: model.has_peers() || !model.broadcasts.is_empty(),
        seed: random_octets()?,
    })
}

fn listeners(model: &Model) -> Result<Vec<Listener>> {
    let keys = chime_server::KeyTable::new(wiring::symmetric_keys(model)?);
    Ok(model.servers.iter().map(|server| listener(server, &keys)).collect())
}

fn listener(server: &NtpServer, keys: &chime_server::KeyTable) -> Listener {
    Listener {
        address: server.listen,
        interface: server.interface.clone(),
        policy: Arc::new(chime_server::Policy { keys: keys.clone(), ..server.policy() }),
    }
}

fn open_ke_servers(options: &Options, model: &Model, shared: &Arc<Shared>) -> Result<Vec<KeWorker>> {
    let listeners = match &options.habits {
        Habits::Ours | Habits::Ntpd(_) => {
            let key_log = KeyLog::new(model, options).map(Arc::new);
            let told = |listener| KeListener { key_log: key_log.clone(), ..listener };
            ke_listeners(model).into_iter().map(told).collect()
        }
        Habits::Chronyd(_) => ke_server::bindable(ke_listeners(model), shared),
    };
    if listeners.is_empty() {
        return Ok(Vec::new());
    }
    let settings = KeServerSettings { listeners, workers: workers(model.process.threads) };
    ke_server::bind(&settings, shared)
}

fn ke_listeners(model: &Model) -> Vec<KeListener> {
    let listener = |server: &chime_config::NtsKeServer| {
        let files = |pair: &chime_config::CertificatePair| CertificateFiles {
            chain: pair.chain.clone(),
            key: pair.key.clone(),
        };
        KeListener {
            connections_max: server.connections_max,
            connections_per_address_max: KeListener::per_address_default(server.connections_max),
            rate_limit: server.rate_limit,
            timeout: server.timeout,
            ntp_server: server.ntp_server.clone(),
            ntp_port: server.ntp_port,
            aeads: server.aeads.clone(),
            access: ke_access(model, server),
            ..KeListener::new(server.listen, server.certificates.iter().map(files).collect())
        }
    };
    model.nts_ke_servers.iter().map(listener).collect()
}

/// Who may establish keys: as configured, or the same who are answered by the first NTP server, or everybody when there
/// is none here.
fn ke_access(model: &Model, server: &chime_config::NtsKeServer) -> AccessList {
    if let Some(rules) = &server.rules {
        return AccessList::from_rules(rules);
    }
    model.servers.first().map_or_else(|| AccessList::uniform(Access::Allow), |server| server.policy().access)
}

fn workers(threads: Threads) -> usize {
    match threads {
        Threads::PerCore => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        Threads::Single => 1,
        Threads::Count(count) => usize::from(count),
    }
}

/// Starts the servers' threads; with `threads = "single"` the time plane gets the workers instead.
fn start_servers(
    model: &Model,
    shared: &Arc<Shared>,
    workers: Vec<serving::Worker>,
    ke_workers: Vec<KeWorker>,
) -> Result<(Servers, Inline)> {
    let (mut servers, mut inline) = (Servers::default(), Inline::default());
    if model.process.threads == Threads::Single {
        if !workers.is_empty() {
            let (serving, worker) = serving::start_inline(workers, shared)?;
            (servers.ntp, inline.ntp) = (Some(Arc::new(serving)), Some(worker));
        }
        if !ke_workers.is_empty() {
            let (serving, worker) = ke_server::start_inline(ke_workers)?;
            (servers.ke, inline.ke) = (Some(Arc::new(serving)), Some(worker));
        }
    } else {
        servers.ntp =
            (!workers.is_empty()).then(|| serving::start(workers, shared)).transpose()?.map(Arc::new);
        servers.ke =
            (!ke_workers.is_empty()).then(|| ke_server::start(ke_workers)).transpose()?.map(Arc::new);
    }
    if !model.servers_in_waiting.is_empty() {
        servers.ntp.get_or_insert_with(|| Arc::new(Serving::none(shared)));
    }
    Ok((servers, inline))
}

/// The control plane's sockets. The daemon keeps time without them, and says that it has to.
fn open_control(model: &Model, user: Option<privileges::User>) -> Option<chime_web::Sockets> {
    let settings = chime_web::Settings {
        socket: model.observability.control_socket.clone(),
        socket_mode: model.observability.control_socket_mode,
        socket_owner: user.map(|user| (user.uid, user.gid)),
        metrics: model.observability.metrics_listen,
    };
    if let Some(folder) = settings.socket.as_deref().and_then(Path::parent).filter(|folder| !folder.exists())
    {
        let made = std::fs::create_dir_all(folder).and_then(|()| match user {
            Some(user) => std::os::unix::fs::chown(folder, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        });
        if let Err(error) = made {
            warn!("{}: {error}", folder.display());
        }
    }
    if settings.socket.is_none() && settings.metrics.is_none() {
        return None;
    }
    let without_metrics = chime_web::Settings { metrics: None, ..settings.clone() };
    match chime_web::Sockets::open(&settings) {
        Ok(sockets) => Some(sockets),
        Err(error @ chime_web::OpenError::Metrics(..)) => {
            warn!("{error}; metrics are at the control socket only");
            chime_web::Sockets::open(&without_metrics).inspect_err(|error| warn!("{error}")).ok()
        }
        Err(error) => {
            warn!("{error}; chime and other tools cannot reach this daemon");
            None
        }
    }
}

/// Starts the thread of the control plane, when there is one.
fn start_control(
    sockets: Option<chime_web::Sockets>,
    view: View,
    commands: chime_web::Commands,
) -> Result<Option<chime_web::Handle>> {
    let start = |sockets| chime_web::spawn(sockets, Arc::new(move || view.snapshot(true)), commands);
    sockets.map(start).transpose().context("the control plane cannot be started")
}

/// The sockets for chronyc, as far as they are configured and can be opened.
fn open_chronyc(model: &Model, user: Option<privileges::User>) -> chrony_host::Sockets {
    let observability = &model.observability;
    chrony_host::Sockets::open(&chrony_host::Wish {
        path: observability.chrony_socket.as_deref(),
        listen: &observability.chrony_listen,
        rules: &observability.chrony_rules,
        open: observability.chrony_open,
        interface: observability.chrony_interface.as_deref(),
        owner: user.map(|user| (user.uid, user.gid)),
    })
}

/// The tools of other daemons that are answered beside chronyc.
fn open_desks(model: &Model, user: Option<privileges::User>) -> Vec<Box<dyn Desk>> {
    let observability = &model.observability;
    let owner = user.map(|user| (user.uid, user.gid));
    let mut desks: Vec<Box<dyn Desk>> = Vec::new();
    let observation = observability.ntpd_rs_socket.as_deref();
    if let Some(observation) =
        observation.and_then(|path| Observation::open(path, observability.ntpd_rs_socket_mode, owner))
    {
        desks.push(Box::new(observation));
    }
    desks
}

/// Mode 6, as far as it is configured, with sockets of the server's to answer from.
fn open_mode6(
    model: &Model,
    shared: &Shared,
    workers: &[serving::Worker],
) -> Result<Option<(Mode6, Vec<UdpSocket>)>> {
    let ntpq = &model.observability.ntpq;
    if ntpq.listen.is_empty() {
        return Ok(None);
    }
    let keys = chime_server::KeyTable::new(wiring::symmetric_keys(model)?);
    if ntpq.control_key.is_some_and(|key| keys.get(key).is_none()) {
        warn!("ntpq-control-key: there is no such key in the key file, so that ntpq can change nothing");
    }
    let opening = mode6_host::Opening { ntpq, servers: &model.servers, keys };
    let (mode6, hand_over) = Mode6::open(opening).context("mode 6 cannot be served")?;
    // All workers' sockets for an address have the same name.
    let sockets = workers.first().map(|worker| worker.sockets().map(UdpSocket::try_clone).collect());
    let sockets: io::Result<Vec<UdpSocket>> = sockets.unwrap_or(Ok(Vec::new()));
    let _only_once = shared.control.set(hand_over);
    Ok(Some((mode6, sockets.context("a socket cannot be shared")?)))
}

/// Starts the thread that hosts the desks; with `threads = "single"` the time plane gets them instead.
fn start_desks(
    threads: Threads,
    desks: Vec<Box<dyn Desk>>,
    view: &View,
) -> Result<(Option<desks::Handle>, InlineDesks)> {
    let view = view.clone();
    if threads == Threads::Single {
        let serving = view.servers.ntp.clone();
        let view = Box::new(move |own: Option<&[ClientRecord]>| {
            let all = |own| serving.as_ref().map(|ntp| ntp.clients_beside(own, CLIENTS_PATIENCE));
            view.snapshot_with(own.map(|own| all(own).unwrap_or_default()).as_deref())
        });
        return Ok((None, InlineDesks { desks, view: Some(view) }));
    }
    let view = Box::new(move |with_clients| view.snapshot(with_clients));
    let handle =
        desks::spawn(desks, view).context("the thread for tools of other daemons cannot be started")?;
    Ok((handle, InlineDesks::default()))
}

fn take_clock(options: &Options, now: chime_time::ClockReading, marks_kernel: bool) -> Result<ClockShell> {
    let driver: Box<dyn ClockDriver> = if options.steers() {
        let others = rivals::other_daemons();
        // Under a simulator the processes that are seen are not of the machine whose clock it is.
        if !others.is_empty() && clock::suspended().is_some() {
            warn!(
                "two time daemons would fight over the clock, and others are running here: {}",
                others.join(", ")
            );
        }
        let steering = KernelClock::take_over();
        Box::new(steering.context("the clock cannot be steered; with -x the daemon only watches it")?)
    } else {
        match &options.habits {
            Habits::Ours | Habits::Ntpd(_) => info!("the clock is only watched (-x)"),
            Habits::Chronyd(_) => info!("Disabled control of system clock"),
        }
        Box::new(ObserveOnly)
    };
    Ok(ClockShell::new(driver, now).marking_kernel(marks_kernel))
}

/// The state directory; chronyd keeps our files only where it keeps its own.
fn open_store(options: &Options, model: &Model) -> Option<Store> {
    let wanted = !matches!(options.habits, Habits::Chronyd(_)) || model.chrony.nts_directory.is_some();
    wanted.then(|| Store::open(&model.process.state_directory, Some(&model.cookie_key_path())))
}

fn give_up_privileges(
    options: &Options,
    user: Option<privileges::User>,
    store: Option<&Store>,
) -> Result<()> {
    if options.keep_user || !privileges::is_root() {
        return Ok(());
    }
    let wanted = [Capability::NetBindService, Capability::SysTime];
    let keep: Vec<Capability> = wanted
        .into_iter()
        .filter(|capability| *capability != Capability::SysTime || options.steers())
        .filter(|capability| privileges::has_capability(*capability))
        .collect();
    match user {
        Some(user) => {
            if let Some(store) = store {
                store
                    .give_to(user.uid, user.gid)
                    .context("the state directory cannot be given to the daemon's user")?;
            }
            privileges::drop_to(user, &keep).context("privileges cannot be given up")
        }
        None => privileges::keep_only(&keep)
            .and_then(|()| privileges::forbid_new_privileges())
            .context("privileges cannot be given up"),
    }
}

/// Says which files can only be read again by a restart, as they were read with privileges that are gone.
fn warn_of_unreadable(model: &Model, config: Option<&Path>) {
    let pairs = model.nts_ke_servers.iter().flat_map(|server| &server.certificates);
    let files = pairs.flat_map(|pair| [pair.chain.as_path(), pair.key.as_path()]);
    let files: BTreeSet<&Path> = files.chain(model.key_file.as_deref()).chain(config).collect();
    for path in files {
        if let Err(error) = File::open(path) {
            warn!(
                "{}: {error}, now that privileges are given up: changes (a renewed certificate) need a restart",
                path.display()
            );
        }
    }
}

/// What the control plane shows: the time plane's last report as it is now, and the serving plane's counts.
#[derive(Clone)]
struct View {
    reports: Arc<ArcSwap<Dated>>,
    shared: Arc<Shared>,
    servers: Servers,
    chrony: Arc<Tally>,
    mode6: Arc<Tally>,
    clients_max: u64,
    command_clients: Option<chrony_host::SharedClients>,
}

impl View {
    fn new(
        model: &Model,
        (reports, shared): (Arc<ArcSwap<Dated>>, Arc<Shared>),
        servers: Servers,
        mode6: Arc<Tally>,
    ) -> Result<Self> {
        let (clients_max, command_clients) = (clients_max(model), command_clients(model)?);
        Ok(Self { reports, shared, servers, chrony: Arc::default(), mode6, clients_max, command_clients })
    }

    /// The state as it is now. Clients are collected from the workers, which may take a while, and so only on demand.
    fn snapshot(&self, with_clients: bool) -> Snapshot {
        let ask =
            || self.servers.ntp.as_ref().map(|serving| serving.clients(CLIENTS_PATIENCE)).unwrap_or_default();
        self.snapshot_with(with_clients.then(ask).as_deref())
    }

    /// The same, with clients when those of the NTP server are given.
    fn snapshot_with(&self, ntp_clients: Option<&[ClientRecord]>) -> Snapshot {
        let now = clock::mono_now();
        let dated = self.reports.load();
        let mut snapshot = dated.snapshot.clone().aged(now.saturating_since(dated.at).as_secs_f64());
        snapshot.control = ControlReport { chrony: self.chrony.read(), mode6: self.mode6.read() };
        snapshot.server.clients_max = self.clients_max;
        if let Some(smoothing) = &mut snapshot.program.smoothing {
            *smoothing = SmoothingReport::new(self.shared.time.load().smoothing, now);
        }
        if let Some(serving) = &self.servers.ntp {
            let stats = serving.stats();
            snapshot.server.add(&stats.requests);
            snapshot.server.listening = serving.addresses();
            snapshot.server.clients_forgotten = stats.clients_replaced;
            let stamps = &mut snapshot.server.timestamps;
            stamps.kernel_rx = stats.kernel_timestamps - stats.card_timestamps.min(stats.kernel_timestamps);
            stamps.hardware_rx = stats.card_timestamps;
            stamps.daemon_rx = stats.requests.received.saturating_sub(stats.kernel_timestamps);
            stamps.kernel_tx = stats.transmit_stamps - stats.card_transmit_stamps.min(stats.transmit_stamps);
            stamps.hardware_tx = stats.card_transmit_stamps;
            stamps.daemon_tx = stats.requests.answered().saturating_sub(stats.transmit_stamps);
            snapshot.server.fast_path = serving.fast().map(|fast| fast.report(&stats));
        }
        if let Some(ntp) = ntp_clients {
            let remembered = |table: &chrony_host::SharedClients| -> Vec<ClientRecord> {
                table.lock().unwrap_or_else(PoisonError::into_inner).clients().collect()
            };
            let command = self.command_clients.as_ref().map(remembered).unwrap_or_default();
            snapshot.clients = ClientReport::of(ntp, &command, now);
        }
        if let Some(serving) = &self.servers.ke {
            snapshot.ke_server = ke_report(serving);
        }
        snapshot
    }
}

/// The way of anything from a desk into the time plane; it gives whether that still takes any.
fn tell(sender: mpsc::Sender<PlaneCommand>, waker: Waker) -> Box<dyn Fn(PlaneCommand) -> bool + Send> {
    Box::new(move |command| {
        let sent = sender.send(command).is_ok();
        waker.wake();
        sent
    })
}

/// What commands of chronyc can do.
fn chrony_ways(
    model: &Model,
    view: &View,
    tell: Box<dyn Fn(PlaneCommand) -> bool + Send>,
) -> Result<chrony_host::Ways> {
    let servers = view.servers.clone();
    let reset_clients = move |addresses: &[IpAddr]| {
        servers.ntp.iter().for_each(|serving| serving.reset_clients(addresses));
    };
    Ok(chrony_host::Ways {
        tell,
        tally: view.chrony.clone(),
        ntp_access: ntp_access(model, view.servers.clone()),
        clients: view.command_clients.clone(),
        reset_clients: Box::new(reset_clients),
        read_keys: key_reader(model),
    })
}

/// The access list of the NTP servers, which chronyc can change; those who establish keys follow where they have no
/// rules of their own.
fn ntp_access(model: &Model, servers: Servers) -> Option<RuntimeAccess> {
    let rules = runtime_access::rules_of(model)?;
    // Those that serve come first, in the order in which they were opened.
    let model = RefCell::new(model.clone());
    let apply = move |rules: &[AccessRule]| {
        let mut model = model.borrow_mut();
        let mut wanted = model.clone();
        let Model { servers: open, servers_in_waiting: waiting, .. } = &mut wanted;
        open.iter_mut().chain(waiting).for_each(|server| server.rules = Some(rules.to_vec()));
        if let Some(ntp) = &servers.ntp {
            match listeners(&wanted) {
                Ok(listeners) => {
                    let policies: Vec<_> = listeners.into_iter().map(|one| one.policy).collect();
                    ntp.set_policies(&policies);
                    open_waiting(&mut wanted, ntp);
                }
                Err(error) => {
                    error!("the access list stays as it was: {error:#}");
                    return false;
                }
            }
        }
        *model = wanted;
        if let (Some(ke), Some(server)) = (&servers.ke, model.nts_ke_servers.first()) {
            ke.set_access(std::iter::repeat(ke_access(&model, server)));
        }
        true
    };
    Some(RuntimeAccess::new(rules, Box::new(apply)))
}

/// Opens the servers of whose family somebody is let in now. As with chronyd, one that cannot be opened is told, and the
/// next change of the list tries again.
fn open_waiting(model: &mut Model, serving: &Serving) {
    let is_wanted = |server: &NtpServer| server.policy().access.allows_any_of(server.listen.is_ipv4());
    let (wanted, waiting): (Vec<NtpServer>, _) =
        std::mem::take(&mut model.servers_in_waiting).into_iter().partition(is_wanted);
    model.servers_in_waiting = waiting;
    for server in wanted {
        match open_later(model, &server, serving) {
            Ok(()) => model.servers.push(server),
            Err(error) => {
                error!("Could not open NTP socket on {} : {error:#}", server.listen);
                model.servers_in_waiting.push(server);
            }
        }
    }
}

fn open_later(model: &Model, server: &NtpServer, serving: &Serving) -> Result<()> {
    let keys = chime_server::KeyTable::new(wiring::symmetric_keys(model)?);
    serving.open(&serving_settings(model, vec![listener(server, &keys)])?)
}

/// Reads the key file again.
fn key_reader(model: &Model) -> Box<dyn Fn() -> Option<Vec<SymmetricKey>> + Send> {
    let model = model.clone();
    Box::new(move || {
        let keys = wiring::symmetric_keys(&model);
        keys.inspect_err(|error| error!("keys not read again, the old ones stay: {error:#}")).ok()
    })
}

fn ke_report(serving: &KeServing) -> KeServerReport {
    let stats = serving.stats();
    let mut report = KeServerReport { listening: serving.addresses().to_vec(), ..KeServerReport::default() };
    report.results = stats.by_result().map(|(result, count)| (result.kind().to_owned(), count)).collect();
    let (refused, cut) = (stats.denied + stats.over_limit, stats.timed_out + stats.evicted);
    report.accepted = report.results.values().sum::<u64>() + cut;
    report.dropped = refused + stats.accept_failures;
    for (name, count) in [
        ("timed-out", stats.timed_out),
        ("evicted", stats.evicted),
        ("denied", stats.denied),
        ("over-limit", stats.over_limit),
    ] {
        report.results.insert(name.to_owned(), count);
    }
    report
}

/// The way of commands into the time plane.
fn commands_to(sender: mpsc::Sender<PlaneCommand>, waker: Waker) -> chime_web::Commands {
    let sender = std::sync::Mutex::new(sender);
    Arc::new(move |command: Command| {
        let command = command.for_engine().map_or(PlaneCommand::Reload, PlaneCommand::Engine);
        let sent = sender.lock().is_ok_and(|sender| sender.send(command).is_ok());
        waker.wake();
        if sent { Ok(()) } else { Err(Refused("the daemon is stopping".to_owned())) }
    })
}

/// Reads the configuration again. Sources, trust, keys and the policies of servers change; what needs privileges
/// (addresses, user, clock) stays as it is until a restart.
fn reload(options: Options, running: Model, known_time: KnownTime, servers: Servers) -> Reload {
    let read = move || -> Result<Reloaded> {
        let (loaded, _) =
            load::load_as_told(&options).map_err(|error: LoadError| anyhow::anyhow!("{error}"))?;
        if !loaded.warnings.is_empty() {
            warn!("{}", loaded.warnings.render(false));
        }
        let trusts = Trusts::load(&loaded.model)?;
        // What was known of the time at the start is known still.
        let engine = wiring::engine_config(&loaded.model, &trusts, options.steers())?;
        let engine = Config { known_time, ..with_habits(engine, &options) };
        let waiting = restart_only::waiting(&running, &loaded.model);
        // chronyd reads files with sources again, and of nothing else is anything expected.
        if !waiting.is_empty() && options.habits == Habits::Ours {
            warn!("changed, and in force only after a restart: {}", waiting.join("; "));
        }
        if let Some(serving) = &servers.ntp {
            let in_order = restart_only::servers_in_order(&running, &loaded.model);
            let listeners = listeners(&Model { servers: in_order, ..loaded.model.clone() })?;
            let policies: Vec<_> = listeners.into_iter().map(|listener| listener.policy).collect();
            serving.set_policies(&policies);
        }
        if let Some(serving) = &servers.ke {
            // A server that is not configured any more keeps what it had, as its socket stays open.
            if let Some(server) = loaded.model.nts_ke_servers.first() {
                serving.set_access(std::iter::repeat(ke_access(&loaded.model, server)));
            }
            serving.reload_certificates();
        }
        let source_files = kept_sources(&options, &loaded.model);
        Ok(Reloaded { engine, trusts, leap_seconds: loaded.model.leap_seconds, source_files })
    };
    Box::new(move || {
        read().inspect_err(|error| error!("configuration not read again, the old one stays: {error:#}")).ok()
    })
}
