//! The NTS-KE side of the serving plane: threads that hand out keys and cookies over TLS. RFC 8915 §4.
//!
//! Each worker has its own listening sockets (`SO_REUSEPORT`) and its own connections; they share limits, certificates
//! and the keys of cookies. Connections are bounded in number, in number per address and prefix, and in time; in a full house
//! a newcomer takes the place of whoever has waited longest without an answer. Certificates are read again when their
//! files change. Start at [`spawn`]; a daemon without threads calls [`bind`] and lets its own loop
//! drive the [`KeWorker`].

mod admission;
mod certificates;
mod connection;
mod counters;
mod fairness;
mod places;
mod waiting;
mod worker;

pub use certificates::{CERTIFICATES_CHECK_INTERVAL, CertificateFiles};
pub use counters::KeServingStats;
pub use worker::{KeToken, KeWorker};

use crate::ntpd::key_log::KeyLog;
use crate::serving::{Shared, merge_clients};
use admission::Admission;
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use certificates::Certificates;
use chime_nts::AeadAlgorithm;
use chime_server::{AccessList, ClientRecord, ClientTable, Policy, RateDecision, RateLimitSettings};
use chime_sys::limits::allow_descriptors;
use chime_sys::poll::{Waker, waker};
use chime_sys::random;
use chime_sys::tcp::TcpListener;
use chime_time::MonoTime;
use counters::KeCounters;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::{error, warn};

/// Connections at a time when nothing else is configured.
pub const CONNECTIONS_MAX_DEFAULT: usize = chime_config::KE_CONNECTIONS_MAX_DEFAULT;

/// Duration of a connection when nothing else is configured.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// The most workers that are started.
const WORKERS_MAX: usize = 64;

/// More connections than this none needs.
const CONNECTIONS_MAX: usize = 65_536;

/// Descriptors that a daemon has beside those of its connections, generously.
const OTHER_DESCRIPTORS: usize = 512;

/// One address at which keys are established.
#[derive(Clone, Debug)]
pub struct KeListener {
    /// Address and TCP port; an IPv6 one takes IPv6 only.
    pub address: SocketAddr,
    /// Certificates, chosen by the name that a client asks for; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Who is let in: the same as for NTP.
    pub access: AccessList,
    /// Connections at a time, of all workers together.
    pub connections_max: usize,
    /// Connections at a time from one IPv4 address or one IPv6 network of 64 bits.
    pub connections_per_address_max: usize,
    /// How often one address is served; `None`: as often as it comes.
    pub rate_limit: Option<RateLimitSettings>,
    /// Whether who comes is remembered for reports, where no limit takes that anyway.
    pub client_records: bool,
    /// How long a connection may last.
    pub timeout: Duration,
    /// The NTP server that clients are sent to; `None`: this host.
    pub ntp_server: Option<String>,
    /// The UDP port that clients are sent to; `None`: 123.
    pub ntp_port: Option<u16>,
    /// The algorithms that are given keys for.
    pub aeads: Vec<AeadAlgorithm>,
    /// Who is told of each session; `None`: nobody.
    pub key_log: Option<Arc<KeyLog>>,
    /// Whether anybody is shown what sessions take.
    pub timed: bool,
}

impl KeListener {
    /// With the usual limits, open to everyone.
    #[must_use]
    pub fn new(address: SocketAddr, certificates: Vec<CertificateFiles>) -> Self {
        Self {
            address,
            certificates,
            access: AccessList::uniform(chime_server::Access::Allow),
            connections_max: CONNECTIONS_MAX_DEFAULT,
            connections_per_address_max: Self::per_address_default(CONNECTIONS_MAX_DEFAULT),
            rate_limit: None,
            client_records: false,
            timeout: TIMEOUT_DEFAULT,
            ntp_server: None,
            ntp_port: None,
            aeads: AeadAlgorithm::OFFERED.to_vec(),
            key_log: None,
            timed: false,
        }
    }

    /// A quarter of all: many clients may share an address, and one address must not keep all others out.
    #[must_use]
    pub const fn per_address_default(connections_max: usize) -> usize {
        let quarter = connections_max / 4;
        if quarter == 0 { 1 } else { quarter }
    }
}

/// What is served, and by how many.
#[derive(Clone, Debug, Default)]
pub struct KeServerSettings {
    /// Where.
    pub listeners: Vec<KeListener>,
    /// How many threads; at least 1, at most 64.
    pub workers: usize,
}

/// What all workers know of one listener.
#[derive(Debug)]
struct Desk {
    certificates: Certificates,
    access: ArcSwap<AccessList>,
    admission: Arc<Admission>,
    clients: Option<Mutex<ClientTable>>,
    /// The kernel deals connections evenly; so each worker looks after its own share and need not ask the others.
    connections_per_worker_max: usize,
    timeout: Duration,
    ntp_server: Option<String>,
    ntp_port: Option<u16>,
    aeads: Arc<[AeadAlgorithm]>,
    key_log: Option<Arc<KeyLog>>,
    timed: bool,
}

impl Desk {
    /// Whether what sessions take is measured.
    const fn is_timed(&self) -> bool {
        self.timed || self.key_log.is_some()
    }
}

/// The listeners whose certificates can be used and whose addresses can be bound. As chronyd does, the others are told and
/// left out.
#[must_use]
pub fn bindable(listeners: Vec<KeListener>, shared: &Arc<Shared>) -> Vec<KeListener> {
    let is_bindable = |listener: &KeListener| {
        let alone = KeServerSettings { listeners: vec![listener.clone()], workers: 1 };
        let bound = bind(&alone, shared);
        bound
            .inspect_err(|error| error!("Could not open NTS-KE socket on {} : {error:#}", listener.address))
            .is_ok()
    };
    listeners.into_iter().filter(is_bindable).collect()
}

/// Reads the certificates and opens the sockets of all workers. Privileges that this takes can be given up afterwards;
/// for certificates to be read again later, their files must stay readable.
///
/// # Errors
/// When a certificate cannot be used or an address not be bound, with the file or the address.
pub fn bind(settings: &KeServerSettings, shared: &Arc<Shared>) -> Result<Vec<KeWorker>> {
    let count = settings.workers.clamp(1, WORKERS_MAX);
    make_room_for(settings);
    let counters = Arc::new(KeCounters::default());
    let mut workers: Vec<KeWorker> =
        (0..count).map(|number| KeWorker::new(number, shared.clone(), counters.clone())).collect();
    for listener in &settings.listeners {
        let connections_max = listener.connections_max.clamp(1, CONNECTIONS_MAX);
        let desk = Arc::new(Desk {
            certificates: Certificates::read(&listener.certificates)
                .with_context(|| format!("cannot serve NTS-KE at {}", listener.address))?,
            access: ArcSwap::from_pointee(listener.access.clone()),
            admission: Admission::new(listener.connections_per_address_max.max(1)),
            clients: clients_of(listener)?,
            connections_per_worker_max: connections_max.div_ceil(count),
            timeout: listener.timeout,
            ntp_server: listener.ntp_server.clone(),
            ntp_port: listener.ntp_port,
            aeads: listener.aeads.as_slice().into(),
            key_log: listener.key_log.clone(),
            timed: listener.timed,
        });
        let sockets = bind_group(listener.address, count)
            .with_context(|| format!("cannot serve NTS-KE at {} (TCP)", listener.address))?;
        for (worker, socket) in workers.iter_mut().zip(sockets) {
            worker.add_listener(socket, desk.clone());
        }
    }
    Ok(workers)
}

/// Who came, for a limit or for reports.
fn clients_of(listener: &KeListener) -> Result<Option<Mutex<ClientTable>>> {
    if listener.rate_limit.is_none() && !listener.client_records {
        return Ok(None);
    }
    let mut octets = [0; 16];
    random::fill(&mut octets).context("no randomness")?;
    let (one, other) = octets.split_at(8);
    let half = |octets: &[u8]| octets.iter().fold(0, |half, octet| half << 8 | u64::from(*octet));
    let hash_key = [half(one), half(other)];
    Ok(Some(Mutex::new(ClientTable::new(Policy::CLIENTS_DEFAULT, listener.rate_limit, hash_key))))
}

impl Desk {
    /// Whether an address that may come comes too often.
    fn asks_too_often(&self, address: IpAddr, now: MonoTime) -> bool {
        let Some(clients) = &self.clients else { return false };
        let mut random = |octets: &mut [u8]| {
            if random::fill(octets).is_err() {
                // Nobody is served beyond the limit.
                octets.fill(u8::MAX);
            }
        };
        let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.check(address, now, &mut random) != RateDecision::Answer
    }
}

/// Each connection takes a descriptor, and what a process gets without asking is often 1024.
fn make_room_for(settings: &KeServerSettings) {
    let connections: usize = settings.listeners.iter().map(|listener| listener.connections_max).sum();
    let wanted = (connections.min(CONNECTIONS_MAX) + OTHER_DESCRIPTORS) as u64;
    match allow_descriptors(wanted) {
        Ok(allowed) if allowed < wanted => warn!(
            "this process may open {allowed} files and sockets only, fewer than the {connections} connections of \
             concurrent-connections: beyond that the oldest is closed for each new one (LimitNOFILE= in systemd's unit)"
        ),
        Ok(_) => {}
        Err(error) => warn!("cannot ask for more files and sockets: {error}"),
    }
}

/// The sockets of all workers for one address.
fn bind_group(address: SocketAddr, count: usize) -> std::io::Result<Vec<TcpListener>> {
    if count > 1 {
        // Sockets that may share a port would share it with another daemon's, too, without a word.
        drop(TcpListener::bind(address, false)?);
    }
    let first = TcpListener::bind(address, count > 1)?;
    let address = first.local_addr()?;
    let mut group = vec![first];
    while group.len() < count {
        group.push(TcpListener::bind(address, true)?);
    }
    Ok(group)
}

/// The running workers. They stop when it is dropped.
#[derive(Debug)]
pub struct KeServing {
    addresses: Vec<SocketAddr>,
    desks: Vec<Arc<Desk>>,
    counters: Arc<KeCounters>,
    stop: Arc<AtomicBool>,
    threads: Vec<(Waker, JoinHandle<()>)>,
}

/// Reads the certificates, opens the sockets and starts the workers.
///
/// # Errors
/// As [`bind`], and when a thread cannot be started.
pub fn spawn(settings: &KeServerSettings, shared: &Arc<Shared>) -> Result<KeServing> {
    start(bind(settings, shared)?)
}

/// Starts workers whose sockets are open.
///
/// # Errors
/// When there is no worker, or a thread cannot be started.
pub fn start(workers: Vec<KeWorker>) -> Result<KeServing> {
    let mut serving = KeServing::of(&workers)?;
    for (number, worker) in workers.into_iter().enumerate() {
        let (waker, wake) = waker().context("cannot make a pipe")?;
        let stop = serving.stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("nts-ke-{number}"))
            .spawn(move || worker.run(&wake, &stop))
            .context("cannot start a thread that serves NTS-KE")?;
        serving.threads.push((waker, thread));
    }
    Ok(serving)
}

/// For a daemon without other threads: a worker that the caller's own loop drives, and the handle to it.
///
/// # Errors
/// When there is no worker.
pub fn start_inline(workers: Vec<KeWorker>) -> Result<(KeServing, KeWorker)> {
    let serving = KeServing::of(&workers)?;
    Ok((serving, workers.into_iter().next().context("there is at least one worker")?))
}

impl KeServing {
    /// A handle to workers that are not started yet.
    fn of(workers: &[KeWorker]) -> Result<Self> {
        let first = workers.first().context("there is at least one worker")?;
        Ok(Self {
            addresses: first.addresses(),
            desks: first.desks().cloned().collect(),
            counters: first.counters().clone(),
            stop: Arc::default(),
            threads: Vec::new(),
        })
    }

    /// The addresses that are served, with the ports that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What all workers have counted. Cheap: it disturbs no worker.
    #[must_use]
    pub fn stats(&self) -> KeServingStats {
        let connections = self.desks.iter().map(|desk| desk.admission.connections()).sum();
        let certificate_not_after = self.desks.iter().filter_map(|desk| desk.certificates.not_after()).min();
        KeServingStats { connections, certificate_not_after, ..self.counters.read() }
    }

    /// Who came, as far as that is remembered; by address.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientRecord> {
        let mut all = Vec::new();
        self.tables().for_each(|table| all.extend(table.clients()));
        merge_clients(all)
    }

    /// Has the counts of these clients begin again.
    pub fn reset_clients(&self, addresses: &[IpAddr]) {
        self.tables().for_each(|mut table| table.reset_counts(addresses));
    }

    fn tables(&self) -> impl Iterator<Item = MutexGuard<'_, ClientTable>> {
        let tables = self.desks.iter().filter_map(|desk| desk.clients.as_ref());
        tables.map(|table| table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the access lists, one for each listener, in their order. Missing ones stay.
    pub fn set_access(&self, lists: impl IntoIterator<Item = AccessList>) {
        for (desk, list) in self.desks.iter().zip(lists) {
            desk.access.store(Arc::new(list));
        }
    }

    /// Reads the certificates again now, whether or not their files changed; one that cannot be used is not taken, and
    /// that is logged.
    pub fn reload_certificates(&self) {
        for desk in &self.desks {
            desk.certificates.reload();
        }
    }

    /// Stops the workers and waits for them; sessions under way are cut.
    pub fn stop(mut self) {
        self.stop_workers();
    }

    fn stop_workers(&mut self) {
        self.stop.store(true, Ordering::Release);
        for (waker, _) in &self.threads {
            waker.wake();
        }
        for (_, thread) in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that served NTS-KE had ended by a panic");
            }
        }
    }
}

impl Drop for KeServing {
    fn drop(&mut self) {
        self.stop_workers();
    }
}

#[cfg(test)]
mod tests;
