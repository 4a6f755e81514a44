//! The way around the sockets: an XDP program that answers plain requests and hands those with NTS to the workers, as far as
//! it can be had.
//!
//! [`open`] loads and attaches while there are privileges; what is opened then is all that is needed later. Whoever
//! publishes the state of the clock publishes it here first, and a [`Keeper`] says it again each second: a program that is
//! told nothing leaves its requests to the sockets after some seconds. Every reason why it does not work is logged and shown.

mod keeper;
mod kernel;
#[cfg(test)]
mod kernel_tests;
mod sockets;

pub use keeper::Keeper;

use crate::serving::{FrameDesk, Listener, ServingStats};
use arc_swap::ArcSwap;
use chime_config::{FastPath, NtpServer, Threads};
use chime_control::FastPathReport;
use chime_fast::{Counters, FastReading, ListenerRules, ServiceTable, TimeSlot, judge, services};
use chime_server::{Policy, ServerTime};
use chime_sys::{clock, network};
use kernel::Kernel;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::{info, warn};

/// What became of the wish.
#[derive(Debug)]
pub struct Fast {
    /// The program and its maps; `None`: only sockets answer.
    kernel: Option<Kernel>,
    /// What is served where, as the program has been told; workers ask whose a frame is.
    table: ArcSwap<ServiceTable>,
    /// Workers, each with rate limits of its own.
    workers: usize,
    inside: Mutex<Inside>,
}

/// What there is of the way around the sockets.
#[derive(Debug)]
pub struct Opened {
    /// Who is told the time, and asked for counters.
    pub fast: Fast,
    /// Where workers take what is handed over to them.
    pub desks: Vec<FrameDesk>,
}

/// What changes. Held for the length of some system calls, by whoever publishes, and once a second by the keeper.
#[derive(Debug)]
struct Inside {
    listeners: Vec<FastListener>,
    /// Why there is no program, or not everywhere; for good.
    lasting_problems: Vec<String>,
    /// Why listeners do not use it, as they are configured now.
    problems: Vec<String>,
    /// What was published last.
    time: Option<ServerTime>,
    /// Whether the last publication failed.
    is_mute: bool,
}

/// A listener that wishes to be fast, or that others must not answer for.
#[derive(Clone, Debug)]
struct FastListener {
    address: SocketAddr,
    interface: Option<String>,
    wanted: FastPath,
    policy: Arc<Policy>,
}

/// Loads and attaches the program where servers wish for it; `None` when none does. What goes wrong is said, and the
/// sockets answer.
#[must_use]
pub fn open(
    servers: &[NtpServer],
    listeners: &[Listener],
    (threads, workers): (Threads, usize),
) -> Option<Opened> {
    // Listeners that could not be opened are left out of the list.
    let wants = |listener: &Listener| {
        // The program knows no PTP messages.
        if listener.ptp_domain.is_some() {
            return FastPath::None;
        }
        let same =
            |server: &&NtpServer| server.listen == listener.address && server.interface == listener.interface;
        servers.iter().find(same).map_or(FastPath::None, |server| server.fast_path)
    };
    let listeners: Vec<FastListener> = listeners
        .iter()
        .map(|listener| FastListener {
            address: listener.address,
            interface: listener.interface.clone(),
            wanted: wants(listener),
            policy: listener.policy.clone(),
        })
        .collect();
    if !listeners.iter().any(FastListener::is_wanted) {
        return None;
    }
    let Attached { kernel, desks, problems: lasting_problems } = match threads {
        Threads::Single => {
            Attached::nowhere("threads = \"single\" leaves nobody to keep it informed".to_owned())
        }
        _ => attach(&listeners),
    };
    for problem in &lasting_problems {
        warn!("fast path: {problem}; sockets answer there");
    }
    let inside = Inside { listeners, lasting_problems, problems: Vec::new(), time: None, is_mute: false };
    let fast = Fast { kernel, table: ArcSwap::default(), workers, inside: Mutex::new(inside) };
    fast.lock().judge_listeners(workers);
    fast.tend();
    Some(Opened { fast, desks })
}

/// What could be had of the kernel.
struct Attached {
    kernel: Option<Kernel>,
    desks: Vec<FrameDesk>,
    problems: Vec<String>,
}

impl Attached {
    fn nowhere(problem: String) -> Self {
        Self { kernel: None, desks: Vec::new(), problems: vec![problem] }
    }
}

/// The program at every interface where somebody who wants it is asked, and what is wrong with the others.
fn attach(listeners: &[FastListener]) -> Attached {
    let wanted: Vec<&FastListener> = listeners.iter().filter(|listener| listener.is_wanted()).collect();
    let ports: Vec<u16> = wanted.iter().map(|listener| listener.address.port()).collect();
    let interfaces = match network::interfaces() {
        Ok(interfaces) => interfaces,
        Err(error) => return Attached::nowhere(format!("the network interfaces are not known: {error}")),
    };
    let limited = wanted.iter().map(|listener| &listener.policy).filter(|policy| policy.rate_limit.is_some());
    let mut kernel = match Kernel::new(limited.map(|policy| policy.clients_max).max().unwrap_or(0)) {
        Ok(kernel) => kernel,
        Err(problem) => return Attached::nowhere(problem),
    };
    let (mut desks, mut problems) = (Vec::new(), Vec::new());
    for (name, interface) in &interfaces {
        let asked = wanted.iter().find(|listener| listener.is_asked_at(name, interface));
        let Some(asked) = asked.filter(|_| !interface.is_loopback) else { continue };
        let sockets_max = sockets::SOCKETS_MAX - desks.len();
        match kernel.attach(name, interface, (asked.wanted, &ports), sockets_max) {
            Ok(here) => {
                info!("fast path: a program in the kernel answers at {name} ({})", here.mode);
                say_desks(name, &here.desks);
                desks.extend(here.desks);
                problems.extend(here.problem);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if kernel.is_attached() {
        return Attached { kernel: Some(kernel), desks, problems };
    }
    if problems.is_empty() {
        problems.push("there is no interface with an address that is served, but for loopback".to_owned());
    }
    Attached { kernel: None, desks, problems }
}

fn say_desks(name: &str, desks: &[FrameDesk]) {
    let queues = match desks.len() {
        0 => return,
        1 => "1 queue".to_owned(),
        queues => format!("{queues} queues"),
    };
    let way = if desks.iter().all(FrameDesk::is_zero_copy) { "zero copy" } else { "copy" };
    info!("fast path: requests with NTS are handed over at {name} (AF_XDP, {way}, {queues})");
}

impl FastListener {
    fn is_wanted(&self) -> bool {
        self.wanted != FastPath::None
    }

    /// Whether requests to it come in at an interface, by the addresses that this has now.
    fn is_asked_at(&self, name: &str, interface: &network::Interface) -> bool {
        let ip = self.address.ip();
        let hears = |address: &std::net::IpAddr| {
            *address == ip || (ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4())
        };
        match &self.interface {
            Some(wanted) => wanted == name,
            None => interface.is_up && interface.addresses.iter().any(hears),
        }
    }

    fn rules(&self, workers: usize) -> ListenerRules {
        let served = judge(&self.policy, workers).served.filter(|_| self.is_wanted());
        ListenerRules { address: self.address, interface: self.interface.clone(), served }
    }
}

impl Inside {
    /// Finds out again which listeners can be served by the program, and says what has changed.
    fn judge_listeners(&mut self, workers: usize) {
        let mut problems = Vec::new();
        for listener in self.listeners.iter().filter(|listener| listener.is_wanted()) {
            if let Some(why) = judge(&listener.policy, workers).left {
                problems.push(format!("the server at {} does without: {why}", listener.address));
            }
        }
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            warn!("fast path: {problem}; sockets answer there");
        }
        self.problems = problems;
    }
}

impl Fast {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the program the time. Where that fails, it leaves its requests to the sockets as soon as what it knows is old.
    pub fn publish(&self, time: &ServerTime) {
        let mut inside = self.lock();
        inside.time = Some(*time);
        self.tell(&mut inside);
    }

    /// Says once more what was published last. What is published meanwhile waits, and so is never replaced by what was
    /// before it.
    fn repeat(&self) {
        self.tell(&mut self.lock());
    }

    fn tell(&self, inside: &mut Inside) {
        let (Some(kernel), Some(time)) = (&self.kernel, &inside.time) else { return };
        let slot = clock::read_with_tai().map_or(TimeSlot::STALE, |(tai_nanos, clocks)| {
            TimeSlot::new(time, &FastReading { tai_nanos, clocks })
        });
        let result = kernel.publish(&slot);
        if let (Err(error), false) = (&result, inside.is_mute) {
            warn!("fast path: the program in the kernel cannot be told the time, sockets answer: {error}");
        }
        inside.is_mute = result.is_err();
    }

    /// Serves by these policies from now on, one for each listener. Missing ones stay.
    pub(crate) fn set_policies(&self, policies: &[Arc<Policy>]) {
        let mut inside = self.lock();
        for (listener, policy) in inside.listeners.iter_mut().zip(policies) {
            listener.policy = policy.clone();
        }
        inside.judge_listeners(self.workers);
        drop(inside);
        self.tend();
    }

    /// Writes the tables anew, by the addresses that the machine has now.
    pub(crate) fn tend(&self) {
        let Some(kernel) = &self.kernel else { return };
        let inside = self.lock();
        let rules: Vec<ListenerRules> =
            inside.listeners.iter().map(|listener| listener.rules(self.workers)).collect();
        let result = network::interfaces().and_then(|interfaces| {
            let interfaces = kernel.numbered(interfaces);
            let table = services(&interfaces, &rules);
            self.table.store(Arc::new(table.clone()));
            kernel.set_tables(&table, &rules)
        });
        if let Err(error) = result {
            warn!("fast path: the program in the kernel cannot be told whom to answer: {error}");
        }
    }

    /// What is served where.
    #[must_use]
    pub(crate) fn table(&self) -> Arc<ServiceTable> {
        self.table.load_full()
    }

    /// What the program has counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.kernel.as_ref().and_then(|kernel| kernel.counters().ok()).unwrap_or_default()
    }

    /// For those who look at the daemon; with what the workers have counted.
    #[must_use]
    pub fn report(&self, workers: &ServingStats) -> FastPathReport {
        let counters = self.counters();
        let inside = self.lock();
        let mute = inside.is_mute.then(|| "the program in the kernel cannot be told the time".to_owned());
        let problems = inside.lasting_problems.iter().chain(&inside.problems).cloned().chain(mute).collect();
        FastPathReport {
            interfaces: self.kernel.as_ref().map(Kernel::interfaces).unwrap_or_default(),
            answered: counters.answered,
            limited: counters.kissed + counters.limited,
            stale: counters.stale,
            nts_interfaces: self.kernel.as_ref().map(Kernel::nts_interfaces).unwrap_or_default(),
            handed_over: counters.handed_over,
            frames_answered: workers.frames_answered,
            frames_dropped: workers.frames_dropped,
            problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn server(address: &str, fast_path: FastPath) -> (NtpServer, Listener) {
        let address = address.parse().expect("an address");
        let server = NtpServer { fast_path, ..NtpServer::new(address) };
        let policy = Arc::new(server.policy());
        (server, Listener { address, interface: None, ptp_domain: None, policy, signing_directory: None })
    }

    fn opened(servers: Vec<(NtpServer, Listener)>, threads: Threads) -> Option<Fast> {
        let (servers, listeners): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
        open(&servers, &listeners, (threads, 2)).map(|opened| opened.fast)
    }

    fn report(fast: &Fast) -> FastPathReport {
        fast.report(&ServingStats::default())
    }

    #[test]
    fn nothing_is_loaded_unless_somebody_wants_it() {
        assert!(opened(vec![server("0.0.0.0:123", FastPath::None)], Threads::PerCore).is_none());
    }

    #[test]
    fn what_does_not_work_is_shown_and_counts_nothing() {
        let wanted = server("0.0.0.0:123", FastPath::Xdp);
        let fast = opened(vec![wanted], Threads::Single).expect("it was wanted");
        let report = report(&fast);
        assert!(report.interfaces.is_empty() && report.problems[0].contains("single"), "{report:?}");
        fast.publish(&ServerTime::unsynchronized(-20));
        assert_eq!(fast.counters(), Counters::default());
    }

    #[test]
    fn a_policy_that_only_sockets_can_keep_is_a_problem_until_it_goes() {
        let (mut limited, listener) = server("127.0.0.1:123", FastPath::Xdp);
        limited.rate_limit_entries = 8;
        limited.rate_limit_cutoff = std::time::Duration::from_secs(1);
        let listener = Listener { policy: Arc::new(limited.policy()), ..listener };
        let fast = opened(vec![(limited, listener)], Threads::Single).expect("it was wanted");
        assert!(report(&fast).problems[1].contains("rate limit"), "{:?}", report(&fast));
        fast.set_policies(&[Arc::new(Policy::open())]);
        assert_eq!(report(&fast).problems.len(), 1);
    }

    #[test]
    fn interfaces_are_chosen_by_name_or_by_their_addresses() {
        let interface = network::Interface {
            is_up: true,
            addresses: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
            ..network::Interface::default()
        };
        let listener = |address: &str, name: Option<&str>| FastListener {
            address: address.parse().expect("an address"),
            interface: name.map(str::to_owned),
            wanted: FastPath::Xdp,
            policy: Arc::new(Policy::open()),
        };
        for (address, name, asked) in [
            ("0.0.0.0:123", None, true),
            ("192.0.2.1:123", None, true),
            ("192.0.2.2:123", None, false),
            ("[::]:123", None, false),
            ("[::]:123", Some("eth0"), true),
            ("0.0.0.0:123", Some("eth1"), false),
        ] {
            assert_eq!(listener(address, name).is_asked_at("eth0", &interface), asked, "{address} {name:?}");
        }
        let down = network::Interface { is_up: false, ..interface };
        assert!(!listener("0.0.0.0:123", None).is_asked_at("eth0", &down));
    }
}
