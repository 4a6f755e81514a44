//! The daemon as a process, and what it shows of itself.

use chime_control::chrony::OpenReports;
use chime_control::mode6::Variable;
use chime_server::{AccessRule, RateLimitSettings, Subnet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The daemon as a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// User whose identity is taken once the sockets are open; `None`: stay.
    pub user: Option<String>,
    /// Threads that answer requests.
    pub threads: Threads,
    /// Processors that the threads answering NTP are pinned to, one after the other; none: wherever the kernel puts them.
    pub cpus: Vec<u16>,
    /// Microseconds for which their sockets look for packets before they wait for an interrupt; `None`: not.
    pub busy_poll_micros: Option<u32>,
    /// The real-time priority of the thread that keeps the time, 1 to 99; `None`: it is a thread like others.
    pub real_time_priority: Option<u8>,
    /// Whether the process's memory is never paged out.
    pub lock_memory: bool,
    /// The DSCP of all NTP packets, 0 to 63; `None`: the kernel's, which is 0.
    pub dscp: Option<u8>,
    /// Where drift, keys and associations are kept.
    pub state_directory: PathBuf,
    /// Whether the measurements of a run are kept for the next one, as long as the clock runs on as it was left.
    pub sample_history: bool,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            user: Some("truechimer".to_owned()),
            threads: Threads::PerCore,
            cpus: Vec::new(),
            busy_poll_micros: None,
            real_time_priority: None,
            lock_memory: false,
            dscp: None,
            state_directory: PathBuf::from("/var/lib/truechimer"),
            sample_history: true,
        }
    }
}

impl Process {
    /// The highest real-time priority of Linux.
    pub const REAL_TIME_PRIORITY_MAX: u8 = 99;

    /// Asks for a real-time priority as chronyd and ntpd are asked: 0 is none, and what is above the highest is the highest.
    pub fn ask_for_priority(&mut self, priority: u8) {
        let priority = priority.min(Self::REAL_TIME_PRIORITY_MAX);
        self.real_time_priority = Some(priority).filter(|priority| *priority != 0);
    }
}

/// Threads that answer requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threads {
    /// One per processor.
    PerCore,
    /// None: the thread that keeps the time also answers.
    Single,
    /// So many, 1 to 1024.
    Count(u16),
}

/// Logs, control socket, metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observability {
    /// Least severe messages that are logged.
    pub log_level: LogLevel,
    /// HTTP over this Unix socket; `None`: no control socket.
    pub control_socket: Option<PathBuf>,
    /// Permission bits of the socket.
    pub control_socket_mode: u32,
    /// `/metrics` over TCP; `None`: over the Unix socket only.
    pub metrics_listen: Option<SocketAddr>,
    /// chrony's command protocol over this Unix datagram socket, with commands; `None`: not.
    pub chrony_socket: Option<PathBuf>,
    /// The same over UDP at these addresses, with reports only.
    pub chrony_listen: Vec<SocketAddr>,
    /// NTP mode 6, for ntpq.
    pub ntpq: Ntpq,
    /// ntpd-rs's observation socket, for its tools; `None`: not.
    pub ntpd_rs_socket: Option<PathBuf>,
    /// Permission bits of that socket, which only shows.
    pub ntpd_rs_socket_mode: u32,
    /// Who beside this machine is answered over UDP, in the order of the rules; nobody without them.
    pub chrony_rules: Vec<AccessRule>,
    /// What is shown over UDP.
    pub chrony_open: OpenReports,
    /// How often each address but this machine's own is answered over UDP; `None`: always.
    pub chrony_rate_limit: Option<RateLimitSettings>,
    /// The only interface over which UDP is answered.
    pub chrony_interface: Option<String>,
}

/// NTP mode 6, for ntpq: off without an address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ntpq {
    /// Addresses and ports. Where an NTP server has them already, it takes the requests.
    pub listen: Vec<SocketAddr>,
    /// Who may ask beside this machine; the longest network decides, and who is in none may not.
    pub rules: Vec<NtpqRule>,
    /// The number of the key that permits changes and the lists of addresses; `None`: nobody may.
    pub control_key: Option<u32>,
    /// Variables of the operator's own.
    pub variables: Vec<Variable>,
}

impl Ntpq {
    /// Adds a variable in the place of another one of its name; those that are shown unasked come last.
    pub(crate) fn set_variable(&mut self, variable: Variable) {
        self.variables.retain(|one| one.name != variable.name);
        self.variables.push(variable);
        self.variables.sort_by_key(|one| one.is_default);
    }
}

/// A variable of the operator's own; `None` when ntpq could not tell it from others.
pub(crate) fn ntpq_variable(name: &str, value: &str, is_default: bool) -> Option<Variable> {
    let is_name =
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let is_value = value.chars().all(|letter| !letter.is_control() && letter != ',' && letter != '"');
    (is_name && is_value).then(|| Variable { name: name.to_owned(), value: value.to_owned(), is_default })
}

/// What a network may do with mode 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NtpqRule {
    /// The network.
    pub subnet: Subnet,
    /// Ask: not with `noquery`.
    pub query: bool,
    /// Change sources, with the control key: not with `nomodify`.
    pub modify: bool,
    /// See the server's clients: not with `nomrulist`.
    pub clients: bool,
}

impl Default for Observability {
    fn default() -> Self {
        Self {
            log_level: LogLevel::Info,
            control_socket: Some(PathBuf::from("/run/truechimer/control.sock")),
            control_socket_mode: 0o660,
            metrics_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9975))),
            chrony_socket: None,
            chrony_listen: Vec::new(),
            ntpq: Ntpq::default(),
            ntpd_rs_socket: None,
            ntpd_rs_socket_mode: 0o666,
            chrony_rules: Vec::new(),
            chrony_open: OpenReports::default(),
            chrony_rate_limit: None,
            chrony_interface: None,
        }
    }
}

/// Severity of log messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// What only an error needs.
    Error,
    /// What an operator must look at.
    Warn,
    /// What an operator wants to know.
    Info,
    /// Each decision.
    Debug,
    /// Each packet.
    Trace,
}

impl LogLevel {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
