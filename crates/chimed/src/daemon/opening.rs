//! What needs privileges is opened here, before they are given up: the clock, sockets, the state directory.

use crate::card_clocks::{CardClocks, KernelCards};
use crate::cli::{Habits, Options};
use crate::clock_shell::ClockShell;
use crate::desks::Desk;
use crate::exchanges::Exchanges;
use crate::ke_server::{CertificateFiles, KeListener, KeServerSettings, KeWorker};
use crate::mode6_host::Mode6;
use crate::ntpd::key_log::KeyLog;
use crate::observation_host::Observation;
use crate::serving::{Listener, ServingSettings, Shared};
use crate::store::Store;
use crate::{chrony_host, fast_path, ke_server, mode6_host, rivals, serving, wiring};
use anyhow::{Context, Result};
use chime_config::{Model, NtpServer, NtpdStatistic, Threads};
use chime_server::{Access, AccessList};
use chime_sys::adjust::{ClockDriver, KernelClock, ObserveOnly};
use chime_sys::udp::UdpSocket;
use chime_sys::{clock, privileges, random};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tracing::{info, warn};

/// Has network cards stamp packets; before sockets are opened, which ask for that where there are cards.
pub(super) fn open_cards(model: &Model, shared: &Shared) -> Result<CardClocks> {
    CardClocks::open(&model.hardware_stamps, Box::new(KernelCards), shared.cards.clone())
}

/// The sockets of requests to come.
pub(super) fn exchanges(model: &Model, shared: &Shared) -> Exchanges {
    Exchanges::of(model).with_cards(shared.cards.clone(), model.hardware_stamps.timeout)
}

pub(super) fn random_octets<const N: usize>() -> Result<[u8; N]> {
    let mut octets = [0; N];
    random::fill(&mut octets).context("no randomness")?;
    Ok(octets)
}

pub(super) fn take_clock(
    options: &Options,
    now: chime_time::ClockReading,
    marks_kernel: bool,
) -> Result<ClockShell> {
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
pub(super) fn open_store(options: &Options, model: &Model) -> Option<Store> {
    let wanted = !matches!(options.habits, Habits::Chronyd(_)) || model.chrony.nts_directory.is_some();
    wanted.then(|| Store::open(&model.process.state_directory, Some(&model.cookie_key_path())))
}

pub(super) fn open_servers(
    options: &Options,
    model: &Model,
    shared: &Arc<Shared>,
) -> Result<Vec<serving::Worker>> {
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

pub(super) fn serving_settings(model: &Model, listeners: Vec<Listener>) -> Result<ServingSettings> {
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

pub(super) fn listeners(model: &Model) -> Result<Vec<Listener>> {
    let keys = chime_server::KeyTable::new(wiring::symmetric_keys(model)?);
    Ok(model.servers.iter().map(|server| listener(model, server, &keys)).collect())
}

pub(super) fn listener(model: &Model, server: &NtpServer, keys: &chime_server::KeyTable) -> Listener {
    let ptp_domain = model.ptp_domain_at(server.listen.port());
    Listener {
        ptp_domain,
        address: server.listen,
        interface: server.interface.clone(),
        policy: Arc::new(chime_server::Policy { keys: keys.clone(), ..server.policy() }),
        // Signed answers are sent as they are, which here would not be understood.
        signing_directory: server.signing_directory.clone().filter(|_| ptp_domain.is_none()),
    }
}

pub(super) fn open_ke_servers(
    options: &Options,
    model: &Model,
    shared: &Arc<Shared>,
) -> Result<Vec<KeWorker>> {
    let listeners = match &options.habits {
        Habits::Ours | Habits::Ntpd(_) => {
            let key_log = KeyLog::new(model, options).map(Arc::new);
            let timed = !model.observability.ntpq.listen.is_empty()
                || model.ntpd.statistics.contains_key(&NtpdStatistic::NtsKe);
            let told = |listener| KeListener { key_log: key_log.clone(), timed, ..listener };
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

pub(super) fn ke_listeners(model: &Model) -> Vec<KeListener> {
    let listener = |server: &chime_config::NtsKeServer| {
        let files = |pair: &chime_config::CertificatePair| CertificateFiles {
            chain: pair.chain.clone(),
            key: pair.key.clone(),
        };
        KeListener {
            connections_max: server.connections_max,
            connections_per_address_max: KeListener::per_address_default(server.connections_max),
            rate_limit: server.rate_limit,
            // As of those who ask for the time.
            client_records: model.possible_servers().any(|ntp| ntp.policy().client_records),
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
pub(super) fn ke_access(model: &Model, server: &chime_config::NtsKeServer) -> AccessList {
    if let Some(rules) = &server.rules {
        return AccessList::from_rules(rules);
    }
    model.servers.first().map_or_else(|| AccessList::uniform(Access::Allow), |server| server.policy().access)
}

pub(super) fn workers(threads: Threads) -> usize {
    match threads {
        Threads::PerCore => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        Threads::Single => 1,
        Threads::Count(count) => usize::from(count),
    }
}

/// The control plane's sockets. The daemon keeps time without them, and says that it has to.
pub(super) fn open_control(model: &Model, user: Option<privileges::User>) -> Option<chime_web::Sockets> {
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

/// The sockets for chronyc, as far as they are configured and can be opened.
pub(super) fn open_chronyc(model: &Model, user: Option<privileges::User>) -> chrony_host::Sockets {
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
pub(super) fn open_desks(model: &Model, user: Option<privileges::User>) -> Vec<Box<dyn Desk>> {
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
pub(super) fn open_mode6(
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
    let sockets =
        workers.first().map(|worker| worker.sockets().map(|(_, socket)| socket.try_clone()).collect());
    let sockets: io::Result<Vec<UdpSocket>> = sockets.unwrap_or(Ok(Vec::new()));
    let _only_once = shared.control.set(hand_over);
    Ok(Some((mode6, sockets.context("a socket cannot be shared")?)))
}
