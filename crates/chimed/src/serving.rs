//! The serving plane: threads that answer NTP requests and share nothing but what they read.
//!
//! Each worker has its own socket for every address that is served (`SO_REUSEPORT`), its own rate limits, random octets
//! and buffers. It reads two values that others publish, the state of the clock and the keys of cookies, and writes
//! counters that nobody else writes. Start at [`spawn`]; a daemon without threads calls [`bind`] and lets its own loop
//! call [`Worker::serve`].

mod answering;
mod at_once;
mod carrier;
mod departures;
mod follow_up;
mod frames;
mod outside;
mod signing;
mod stats;
mod worker;

pub use frames::FrameDesk;
pub use stats::{ServingStats, merge_clients};
pub use worker::Worker;

use crate::card_clocks::CardLines;
use crate::fast_path::Fast;
use crate::mode6_host::HandOver;
use anyhow::{Context, Result, bail};
use arc_swap::{ArcSwap, ArcSwapOption};
use chime_nts::KeyRing;
use chime_server::{ClientRecord, PlainCounts, Policy, ServerTime, TransmitTimes};
use chime_sys::batch::spread_by_sender;
use chime_sys::poll::{Interest, PollSet, Readiness, WakeReceiver, Waker, waker};
use chime_sys::udp::{UdpOptions, UdpSocket};
use rand_chacha::rand_core::Rng;
use signing::Signer;
use stats::WorkerCounters;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Add;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::error;

/// The most workers that are started.
pub const WORKERS_MAX: usize = 256;

/// What the rest of the daemon publishes for those who answer; replaced as a whole, never locked.
#[derive(Debug)]
pub struct Shared {
    /// The state of the clock.
    pub time: ArcSwap<ServerTime>,
    /// The keys of our cookies; none when NTS is not served.
    pub keys: ArcSwapOption<KeyRing>,
    /// Who takes requests of mode 6; nobody when the protocol is off.
    pub control: OnceLock<HandOver>,
    /// What stamps of network cards mean.
    pub cards: Arc<CardLines>,
    /// Who answers plain requests before they come to the sockets; nobody unless that is configured.
    pub fast: OnceLock<Fast>,
}

impl Shared {
    /// A clock that is not synchronised, and no keys. `precision` is log2 seconds.
    #[must_use]
    pub fn unsynchronized(precision: i8) -> Self {
        Self {
            time: ArcSwap::from_pointee(ServerTime::unsynchronized(precision)),
            keys: ArcSwapOption::empty(),
            control: OnceLock::new(),
            cards: Arc::default(),
            fast: OnceLock::new(),
        }
    }

    /// Publishes the state of the clock to all who answer.
    pub fn set_time(&self, time: ServerTime) {
        if let Some(fast) = self.fast.get() {
            fast.publish(&time);
        }
        self.time.store(Arc::new(time));
    }
}

/// An address that is served.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Address and UDP port; an IPv6 one takes IPv6 only.
    pub address: SocketAddr,
    /// The only network interface to serve; `None`: all.
    pub interface: Option<String>,
    /// The PTP domain, where NTP messages come in PTP messages; `None`: plain NTP.
    pub ptp_domain: Option<u8>,
    /// Who is answered there, and how.
    pub policy: Arc<Policy>,
    /// The directory of the Samba that signs answers.
    pub signing_directory: Option<PathBuf>,
}

/// What is served, and by how many.
#[derive(Clone)]
pub struct ServingSettings {
    /// Where; each with its own policy.
    pub listeners: Vec<Listener>,
    /// How many workers; at least 1, at most [`WORKERS_MAX`].
    pub workers: usize,
    /// Processors that the workers are pinned to, one after the other; none: wherever the kernel puts them.
    pub cpus: Vec<u16>,
    /// Microseconds for which sockets look for packets before they wait for an interrupt.
    pub busy_poll_micros: Option<u32>,
    /// The DSCP of answers; `None`: the kernel's.
    pub dscp: Option<u8>,
    /// Whether the ports are shared with sockets of peers in symmetric mode.
    pub share_ports: bool,
    /// Secret and random; every worker makes its own random numbers from it.
    pub seed: [u8; 32],
}

impl std::fmt::Debug for ServingSettings {
    /// Without the seed, which is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServingSettings({} workers at {:?})", self.workers(), self.listeners)
    }
}

impl ServingSettings {
    fn workers(&self) -> usize {
        self.workers.clamp(1, WORKERS_MAX)
    }

    /// What is asked of the sockets of a listener.
    fn wishes(&self, listener: &Listener, shared: &Shared) -> UdpOptions {
        UdpOptions {
            hardware_timestamps: shared.cards.is_active(),
            share_port: self.share_ports || listener.ptp_domain.is_some(),
            busy_poll_micros: self.busy_poll_micros,
            dscp: self.dscp,
            ..UdpOptions::default()
        }
    }
}

/// What a worker can be told.
enum Order {
    /// Send the clients that you remember.
    Clients(Sender<Vec<ClientRecord>>),
    /// Have the counts of these clients begin again.
    ResetClients(Arc<[IpAddr]>),
    /// Serve by these policies from now on, one for each listener.
    Policies(Vec<Arc<Policy>>),
    /// Serve listener number `index` through this socket from now on, or not at all; `done` is dropped when that is so.
    Socket {
        index: usize,
        socket: Option<UdpSocket>,
        done: Sender<()>,
    },
    Stop,
}

/// The worker's end of the line on which it is told things.
struct Orders {
    receiver: Receiver<Order>,
    wake: WakeReceiver,
}

/// The running workers. They stop when it is dropped.
#[derive(Debug)]
pub struct Serving {
    /// Those of the start, then those that were opened later.
    groups: RwLock<Vec<Group>>,
    shared: Arc<Shared>,
    /// What the workers remembered when they were last asked, and when that was.
    remembered: Mutex<Option<(Instant, Vec<ClientRecord>)>>,
}

/// Workers that have the same listeners.
#[derive(Debug)]
struct Group {
    places: Vec<Place>,
    settings: Arc<ServingSettings>,
    handles: Vec<WorkerHandle>,
}

/// A listener of a group, with the port that the kernel chose where 0 was asked for.
#[derive(Debug)]
struct Place {
    listener: Listener,
    is_open: bool,
}

/// Workers are not asked for their clients more often: it holds up their answers, and whoever can fetch the metrics can
/// cause it.
const CLIENTS_INTERVAL: Duration = Duration::from_secs(1);
/// Workers that have not closed a socket by then are busier than any worker ever is.
const CLOSING_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct WorkerHandle {
    orders: Sender<Order>,
    waker: Waker,
    counters: Arc<WorkerCounters>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    /// The line to a worker, which has no thread yet.
    fn new(worker: &Worker) -> Result<(Self, Orders)> {
        let (orders, receiver) = channel();
        let (waker, wake) = waker().context("cannot make a pipe")?;
        Ok((Self { orders, waker, counters: worker.counters(), thread: None }, Orders { receiver, wake }))
    }

    /// A worker that has ended takes no orders, which is all the same to those who give them.
    fn tell(&self, order: Order) {
        let _ended = self.orders.send(order);
        self.waker.wake();
    }
}

/// Opens the sockets of all workers. Privileges that this takes can be given up afterwards.
///
/// # Errors
/// When an address cannot be bound, with the address.
pub fn bind(settings: &ServingSettings, shared: &Arc<Shared>) -> Result<Vec<Worker>> {
    let count = settings.workers();
    let mut spread = outside::random(settings.seed, u64::MAX);
    let mut sockets: Vec<Vec<UdpSocket>> = (0..count).map(|_| Vec::new()).collect();
    for listener in &settings.listeners {
        let group = bind_group(listener, count, settings.wishes(listener, shared), spread.next_u32())
            .with_context(|| format!("cannot serve NTP at {} (UDP)", listener.address))?;
        sockets.iter_mut().zip(group).for_each(|(worker, socket)| worker.push(socket));
    }
    // The one thing that workers write for each other, without locks.
    let transmit_times = Arc::new(TransmitTimes::new([spread.next_u64(), spread.next_u64()]));
    let signers = signers(&settings.listeners);
    let kept = Arc::new(settings.clone());
    let workers = sockets.into_iter().enumerate().map(|(number, sockets)| {
        let listeners = sockets.into_iter().zip(&settings.listeners).map(|(socket, listener)| {
            let signer = listener.signing_directory.as_ref().and_then(|directory| signers.get(directory));
            (socket, listener.clone(), signer.cloned())
        });
        let cpu = settings.cpus.get(number % settings.cpus.len().max(1)).copied();
        Worker::new(listeners, shared.clone(), &transmit_times, (kept.clone(), number as u64)).pinned_to(cpu)
    });
    Ok(workers.collect())
}

/// One for each directory, whoever of the listeners has it.
fn signers(listeners: &[Listener]) -> BTreeMap<PathBuf, Arc<Signer>> {
    let directories = listeners.iter().filter_map(|listener| listener.signing_directory.as_ref());
    directories.map(|directory| (directory.clone(), Arc::new(Signer::new(directory)))).collect()
}

/// Has the workers take turns at what comes past the sockets.
pub fn deal(desks: Vec<FrameDesk>, workers: &mut [Worker]) {
    let count = workers.len();
    for (number, desk) in desks.into_iter().enumerate() {
        if let Some(worker) = workers.get_mut(number % count.max(1)) {
            worker.add_frame_desk(desk);
        }
    }
}

/// The listeners whose addresses can be bound. As chronyd does, the others are told and left out: a machine may be without
/// one of the address families.
///
/// # Errors
/// When there are some, and none can be bound.
pub fn bindable(listeners: Vec<Listener>) -> Result<Vec<Listener>> {
    let is_bindable = |listener: &Listener| {
        let bound = bind_group(listener, 1, UdpOptions::default(), 0);
        bound
            .inspect_err(|error| error!("Could not open NTP socket on {} : {error:#}", listener.address))
            .is_ok()
    };
    let some = !listeners.is_empty();
    let bindable: Vec<Listener> = listeners.into_iter().filter(is_bindable).collect();
    if some && bindable.is_empty() {
        bail!("Could not open NTP sockets");
    }
    Ok(bindable)
}

/// The sockets of all workers for one address, with these wishes beside those that all have.
fn bind_group(
    listener: &Listener,
    count: usize,
    wishes: UdpOptions,
    spread_seed: u32,
) -> Result<Vec<UdpSocket>> {
    let options = UdpOptions {
        packet_info: true,
        stamps_on_request: true,
        reuse_port: count > 1,
        free_bind: true,
        // No answer is longer than its request, which had a way that is wide enough.
        unfragmented: true,
        receive_buffer: Some(RECEIVE_QUEUE_OCTETS),
        interface: listener.interface.clone(),
        ..wishes
    };
    if count > 1 || options.share_port {
        // Sockets that may share a port would share it with another daemon's, too, without a word.
        let alone = UdpOptions { reuse_port: false, share_port: false, ..options.clone() };
        drop(UdpSocket::bound_to(listener.address, &alone)?);
    }
    let first = UdpSocket::bound_to(listener.address, &options)?;
    let address = first.local_addr()?;
    let mut group = vec![first];
    while group.len() < count {
        group.push(UdpSocket::bound_to(address, &options)?);
    }
    if let (true, Some(first)) = (count > 1 && listener.policy.rate_limit.is_some(), group.first()) {
        spread_by_sender(first, u32::try_from(count)?, spread_seed)
            .context("cannot spread clients over the workers")?;
    }
    Ok(group)
}

/// Octets of requests that may wait in a socket: one or two thousand requests, some ten milliseconds of full load. More would
/// only make answers late; the kernel drops what does not fit.
const RECEIVE_QUEUE_OCTETS: u32 = 1 << 20;

/// Opens the sockets and starts the workers.
///
/// # Errors
/// When an address cannot be bound or a thread not started.
pub fn spawn(settings: &ServingSettings, shared: &Arc<Shared>) -> Result<Serving> {
    start(bind(settings, shared)?, shared)
}

/// Starts workers whose sockets are open.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(workers: Vec<Worker>, shared: &Arc<Shared>) -> Result<Serving> {
    Ok(Serving::of(start_threads(workers)?, shared))
}

fn start_threads(workers: Vec<Worker>) -> Result<Group> {
    let mut group = Group::of(&workers)?;
    for (number, worker) in workers.into_iter().enumerate() {
        let (mut handle, orders) = WorkerHandle::new(&worker)?;
        let thread = std::thread::Builder::new()
            .name(format!("ntp-{number}"))
            .spawn(move || worker.run(&orders))
            .context("cannot start a thread that serves NTP")?;
        handle.thread = Some(thread);
        group.handles.push(handle);
    }
    Ok(group)
}

/// For a daemon without other threads: a worker that the caller's own loop drives, and the handle to it.
///
/// # Errors
/// When there is no worker, or no pipe.
pub fn start_inline(workers: Vec<Worker>, shared: &Arc<Shared>) -> Result<(Serving, InlineWorker)> {
    let mut group = Group::of(&workers)?;
    let worker = workers.into_iter().next().context("there is at least one worker")?;
    let (handle, orders) = WorkerHandle::new(&worker)?;
    group.handles.push(handle);
    Ok((Serving::of(group, shared), InlineWorker { worker, orders }))
}

/// A worker without a thread.
pub struct InlineWorker {
    worker: Worker,
    orders: Orders,
}

/// A descriptor of an [`InlineWorker`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InlineToken {
    /// The socket of listener number so-and-so.
    Listener(usize),
    /// The line on which the worker is told things.
    Orders,
}

impl InlineWorker {
    /// Adds every socket to what the loop waits for; with `orders` the line on which it is told things, too.
    pub fn register<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(InlineToken) -> T, orders: bool) {
        for (index, socket) in self.worker.sockets() {
            set.add(socket, Interest::READ, token(InlineToken::Listener(index)));
        }
        if orders {
            set.add(&self.orders.wake, Interest::READ, token(InlineToken::Orders));
        }
    }

    /// The clients that are remembered.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientRecord> {
        self.worker.clients()
    }

    /// A descriptor is ready.
    pub fn handle_ready(&mut self, token: InlineToken, readiness: Readiness) {
        match token {
            InlineToken::Listener(index) => self.worker.handle_ready(index, readiness),
            InlineToken::Orders => self.obey(),
        }
    }

    /// Carries out what the worker was told.
    pub fn obey(&mut self) {
        // Whoever drives the worker also decides when it ends.
        let _goes_on = self.worker.obey(&self.orders);
    }
}

impl Group {
    /// With a handle to no worker yet.
    fn of(workers: &[Worker]) -> Result<Self> {
        let worker = workers.first().context("there is at least one worker")?;
        let place = |(address, listener): (SocketAddr, &Listener)| Place {
            listener: Listener { address, ..listener.clone() },
            is_open: true,
        };
        let settings = worker.settings.clone();
        let places = worker.addresses().into_iter().zip(&settings.listeners).map(place).collect();
        Ok(Self { places, settings, handles: Vec::new() })
    }

    /// Opens or closes listener number `index`.
    fn set_open(&mut self, index: usize, open: bool, shared: &Shared) -> Result<()> {
        let Self { places, settings, handles } = self;
        let Some(place) = places.get_mut(index).filter(|place| place.is_open != open) else { return Ok(()) };
        let mut sockets = Vec::new();
        if open {
            let wishes = settings.wishes(&place.listener, shared);
            // Nobody knows it, which is all that matters.
            let spread = outside::random(settings.seed, u64::MAX).next_u32();
            sockets = bind_group(&place.listener, settings.workers(), wishes, spread)?;
        }
        let (done, closed) = channel();
        let mut sockets = sockets.into_iter();
        for worker in handles.iter() {
            worker.tell(Order::Socket { index, socket: sockets.next(), done: done.clone() });
        }
        drop(done);
        // Until then the port is taken, if somebody wants it back at once. A loop that drives its worker obeys before it
        // does anything else.
        if handles.iter().all(|worker| worker.thread.is_some()) {
            let _closed_by_all = closed.recv_timeout(CLOSING_PATIENCE);
        }
        place.is_open = open;
        Ok(())
    }
}

impl Serving {
    fn of(group: Group, shared: &Arc<Shared>) -> Self {
        Self { groups: RwLock::new(vec![group]), shared: shared.clone(), remembered: Mutex::default() }
    }

    /// Nothing is served yet; see [`Self::open`].
    #[must_use]
    pub fn none(shared: &Arc<Shared>) -> Self {
        Self { groups: RwLock::default(), shared: shared.clone(), remembered: Mutex::default() }
    }

    /// Serves at more addresses, by threads of their own; in the order of the listeners they come last.
    ///
    /// # Errors
    /// As [`spawn`]; then nothing has changed.
    pub fn open(&self, settings: &ServingSettings) -> Result<()> {
        let group = start_threads(bind(settings, &self.shared)?)?;
        self.groups.write().unwrap_or_else(PoisonError::into_inner).push(group);
        Ok(())
    }

    /// Closes the ports of listeners at addresses that are not wanted, and opens those again that are. What is counted, and
    /// known of clients, stays. One that cannot be opened is told, and stays closed.
    pub fn keep_open(&self, is_wanted: impl Fn(SocketAddr) -> bool) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        for group in groups.iter_mut() {
            for index in 0..group.places.len() {
                let address = group.places[index].listener.address;
                if let Err(error) = group.set_open(index, is_wanted(address), &self.shared) {
                    error!("Could not open NTP socket on {address} : {error:#}");
                }
            }
        }
    }

    fn groups(&self) -> RwLockReadGuard<'_, Vec<Group>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        for worker in self.groups().iter().flat_map(|group| &group.handles) {
            worker.tell(order());
        }
    }
}

impl Serving {
    /// The addresses that are served, with the ports that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let groups = self.groups();
        let open = groups.iter().flat_map(|group| &group.places).filter(|place| place.is_open);
        open.map(|place| place.listener.address).collect()
    }

    /// What all workers have counted, and the kernel for them. Cheap: it disturbs no worker.
    #[must_use]
    pub fn stats(&self) -> ServingStats {
        let groups = self.groups();
        let workers = groups.iter().flat_map(|group| &group.handles).map(|worker| worker.counters.read());
        let mut stats = workers.fold(ServingStats::default(), Add::add);
        if let Some(fast) = self.fast() {
            let counters = fast.counters();
            stats.requests.add_plain(&PlainCounts {
                answered: counters.answered,
                kissed: counters.kissed,
                limited: counters.limited,
                old_versions: counters.old_versions,
            });
            let stamped = counters.answered + counters.kissed;
            stats.kernel_timestamps += stamped + counters.limited;
            stats.transmit_stamps += stamped;
        }
        stats
    }

    /// Who answers before the sockets do.
    #[must_use]
    pub fn fast(&self) -> Option<&Fast> {
        self.shared.fast.get()
    }

    /// The clients that the workers remember, by address. The workers are asked, and those that do not answer within
    /// `patience` are left out: not for a loop that must not wait. Within a second, the same answer is given again.
    #[must_use]
    pub fn clients(&self, patience: Duration) -> Vec<ClientRecord> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, clients)) = remembered.as_ref()
            && at.elapsed() < CLIENTS_INTERVAL
        {
            return clients.clone();
        }
        let clients = self.ask_for_clients(patience, false);
        *remembered = Some((Instant::now(), clients.clone()));
        clients
    }

    /// The same for a loop that drives a worker itself, whose clients are `own`: only those with threads are asked.
    #[must_use]
    pub fn clients_beside(&self, own: &[ClientRecord], patience: Duration) -> Vec<ClientRecord> {
        merge_clients([self.ask_for_clients(patience, true), own.to_vec()].concat())
    }

    fn ask_for_clients(&self, patience: Duration, threads_only: bool) -> Vec<ClientRecord> {
        let deadline = Instant::now() + patience;
        let (sender, receiver) = channel();
        for worker in self.groups().iter().flat_map(|group| &group.handles) {
            if worker.thread.is_some() || !threads_only {
                worker.tell(Order::Clients(sender.clone()));
            }
        }
        drop(sender);
        let mut clients = Vec::new();
        while let Ok(mut records) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            clients.append(&mut records);
        }
        merge_clients(clients)
    }

    /// Has the counts of these clients begin again.
    pub fn reset_clients(&self, addresses: &[IpAddr]) {
        let addresses: Arc<[IpAddr]> = addresses.into();
        self.tell_all(|| Order::ResetClients(Arc::clone(&addresses)));
        // Whoever asks next is to see it.
        *self.remembered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Changes the policies, one for each listener, in their order. Missing ones stay.
    pub fn set_policies(&self, policies: &[Arc<Policy>]) {
        if let Some(fast) = self.fast() {
            fast.set_policies(policies);
        }
        let mut rest = policies;
        for group in self.groups().iter() {
            let (own, others) = rest.split_at(group.places.len().min(rest.len()));
            for worker in &group.handles {
                worker.tell(Order::Policies(own.to_vec()));
            }
            rest = others;
        }
    }

    /// Stops the workers and waits for them; requests that wait are not answered.
    pub fn stop(mut self) {
        self.stop_workers();
    }

    fn stop_workers(&mut self) {
        self.tell_all(|| Order::Stop);
        let groups = self.groups.get_mut().unwrap_or_else(PoisonError::into_inner);
        let workers = groups.iter_mut().flat_map(|group| &mut group.handles);
        for thread in workers.filter_map(|worker| worker.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("a thread that served NTP had ended by a panic");
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop_workers();
    }
}

#[cfg(test)]
mod tests;
