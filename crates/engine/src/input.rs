//! What the engine is told: one value for each fact about the world.

use crate::{Config, SourceConfig};
use chime_discipline::{ClockCommand, ClockFailure, LeapTable, LocalReference};
use chime_ke::{KeError, KeOutcome};
use chime_refclock::Reading;
use chime_time::{ClockReading, Frequency, MonoTime, NtpDuration, PollExponent};
use chime_wire::mac::SymmetricKey;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One request to a server and what comes back for it: one socket with a port of its own (RFC 9109).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExchangeId(pub u64);

/// A configured reference clock: its place in [`Config::reference_clocks`] when the engine started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReferenceClockId(pub usize);

/// One name lookup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LookupId(pub u64);

/// One attempt to establish keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EstablishmentId(pub u64);

/// One configured source, as long as it stays configured; never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct SourceKey(pub u32);

/// The right to report when a request left; spent by [`Input::Transmitted`].
#[derive(Debug, PartialEq, Eq)]
pub struct TxToken {
    pub(crate) exchange: ExchangeId,
}

impl TxToken {
    /// The exchange whose socket sends the request.
    #[must_use]
    pub const fn exchange(&self) -> ExchangeId {
        self.exchange
    }
}

/// Who took a time stamp, from the coarsest to the finest.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampSource {
    /// The daemon, around the system call.
    #[default]
    Daemon,
    /// The kernel.
    Kernel,
    /// The network card.
    Hardware,
}

/// When a packet left or arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamped {
    /// Both clocks at that instant.
    pub at: ClockReading,
    /// Who took the stamp.
    pub source: TimestampSource,
}

impl Timestamped {
    /// A stamp taken by the daemon itself.
    #[must_use]
    pub const fn by_daemon(at: ClockReading) -> Self {
        Self { at, source: TimestampSource::Daemon }
    }
}

/// What network cards and transparent clocks tell of the way of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetworkPath {
    /// How long receiving it took, from the beginning of its frame to the end.
    pub receiving: NtpDuration,
    /// How long transparent clocks say that they held it; not authenticated.
    pub held: NtpDuration,
}

impl NetworkPath {
    /// What a peer is told.
    pub(crate) fn sum(self) -> NtpDuration {
        self.receiving + self.held
    }
}

/// Why a request could not be sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendFailure {
    /// No route to the network or host.
    #[error("no route to the server")]
    Unreachable,
    /// A local rule forbids it.
    #[error("sending is not permitted")]
    NotPermitted,
    /// Nothing listens on the server's port, or the server's host refuses.
    #[error("the server's host refuses the port")]
    Refused,
    /// Any other failure, in the system's words.
    #[error("{0}")]
    Other(String),
}

/// Why a name has no addresses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResolveFailure {
    /// The name does not exist, or has no address.
    #[error("the name does not exist")]
    NotFound,
    /// Nobody could say.
    #[error("name resolution failed for now")]
    Temporary,
    /// Any other failure, in the system's words.
    #[error("{0}")]
    Other(String),
}

/// Why keys could not be established.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct KeFailure {
    /// A short stable word for metrics.
    pub kind: String,
    /// Plain words.
    pub text: String,
    /// Whether the network failed before TLS could say anything: such failures are tried again sooner.
    pub network: bool,
}

impl From<&KeError> for KeFailure {
    fn from(error: &KeError) -> Self {
        Self { kind: error.kind().to_owned(), text: error.to_string(), network: error.is_network() }
    }
}

/// One fact about the world.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack, and mostly the large ones")]
pub enum Input<'a> {
    /// A datagram arrived on an exchange's socket.
    Datagram {
        /// Whose socket.
        exchange: ExchangeId,
        /// The sender, as the socket reports it.
        from: SocketAddr,
        /// The address of ours at which it arrived, when known.
        local: Option<IpAddr>,
        /// When it arrived.
        received: Timestamped,
        /// What is known of its way, with a stamp of a network card.
        path: Option<NetworkPath>,
        /// The datagram.
        octets: &'a [u8],
    },
    /// A reference clock was read, or told something by itself.
    ReferenceClock {
        /// Which one.
        clock: ReferenceClockId,
        /// Both clocks after all of the readings.
        now: ClockReading,
        /// What it said, in order of time; none when there was nothing new.
        readings: &'a [Reading],
        /// Whether this answers [`crate::Request::ReadReferenceClock`].
        polled: bool,
    },
    /// A request left, or could not.
    Transmitted {
        /// From [`crate::Transmit`].
        token: TxToken,
        /// When it left, or why not.
        sent: Result<Timestamped, SendFailure>,
    },
    /// A better stamp of when a request left, from the kernel or the network card.
    TransmitTimestamp {
        /// Whose request.
        exchange: ExchangeId,
        /// When it left.
        sent: Timestamped,
    },
    /// The network reported on an exchange's socket that the request cannot arrive (ICMP). A stranger can say so too;
    /// the engine waits on.
    ExchangeFailed {
        /// Whose request.
        exchange: ExchangeId,
        /// What was reported.
        failure: SendFailure,
    },
    /// A clock command was carried out, or failed.
    ClockApplied {
        /// What was really done.
        result: Result<ClockCommand, ClockFailure>,
    },
    /// A name lookup ended.
    Resolved {
        /// From [`crate::Request::Resolve`].
        lookup: LookupId,
        /// The addresses, in the resolver's order.
        result: Result<Vec<IpAddr>, ResolveFailure>,
    },
    /// A key establishment ended.
    KeFinished {
        /// From [`crate::Request::EstablishKeys`].
        establishment: EstablishmentId,
        /// The address of the server that was reached, if any.
        address: Option<SocketAddr>,
        /// Keys and cookies, or why there are none.
        result: Result<KeOutcome, KeFailure>,
    },
    /// The operator wants something.
    Control(Command),
    /// An interface or route changed.
    NetworkChanged,
    /// Somebody else stepped the system clock.
    ClockStepped {
        /// By how much; positive = forwards.
        by: NtpDuration,
    },
    /// The list of leap seconds was read, or cannot be read any more.
    LeapTable(Option<LeapTable>),
    /// The machine was suspended and runs again.
    Suspended {
        /// For how long, as far as the system clock knows.
        slept: NtpDuration,
    },
    /// Somebody else changed the pace of the system clock, which we steer.
    ClockAdjusted {
        /// The frequency at which it was found, against the hardware.
        frequency: Frequency,
        /// What the kernel was to slew for somebody else: seconds, positive = forwards. It was stopped.
        slew: f64,
        /// When the clock was last seen to run as we had set it.
        since: MonoTime,
    },
}

/// What the operator wants.
#[derive(Clone, Debug)]
pub enum Command {
    /// Poll these sources.
    Online(SourceMatch),
    /// Poll these sources no more.
    Offline(SourceMatch),
    /// Poll these sources quickly for a while.
    Burst {
        /// Which.
        matching: SourceMatch,
        /// Stop after so many good answers.
        good: u8,
        /// Stop after so many requests.
        total: u8,
    },
    /// Look all names up again.
    Refresh,
    /// Step the clock by what is left of the correction.
    MakeStep,
    /// Forget the selected source and select again.
    Reselect,
    /// Drop all samples and start polling again.
    ResetSources,
    /// Add a source.
    AddSource(Box<SourceConfig>),
    /// Remove the source or pool member with this address.
    RemoveSource(IpAddr),
    /// Remove a source that has no address yet, or all of a pool.
    RemoveByKey(SourceKey),
    /// Change these sources, which keep what they know.
    Modify {
        /// Which.
        matching: SourceMatch,
        /// What.
        change: SourceChange,
    },
    /// Change the discipline.
    Tune(Tuning),
    /// Whether the time may be typed in.
    ManualMode(bool),
    /// Forget one of the times that were typed in, by its place; the oldest is 0.
    DeleteEnteredTime(usize),
    /// Forget all of them.
    ForgetEnteredTimes,
    /// Slew the clock forward by so many seconds, whatever the sources say.
    SlewByHand(f64),
    /// Make the clock faster by so much, whatever the sources say.
    ChangeFrequencyByHand(Frequency),
    /// Replace the symmetric keys.
    SetKeys(Arc<Vec<SymmetricKey>>),
    /// Take these sources away, whatever was changed about them since, and add the others.
    ExchangeSources {
        /// Those that go, as they were added.
        gone: Vec<SourceConfig>,
        /// Those that come.
        fresh: Vec<SourceConfig>,
    },
    /// Replace the configuration; sources that did not change keep their state.
    Reconfigure(Box<Config>),
}

/// What changes about a source.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SourceChange {
    /// The shortest poll interval; the longest is raised to it.
    PollMin(PollExponent),
    /// The longest poll interval; the shortest is lowered to it.
    PollMax(PollExponent),
    /// [`SourceConfig::max_delay_seconds`].
    MaxDelay(f64),
    /// [`SourceConfig::max_delay_ratio`].
    MaxDelayRatio(f64),
    /// [`SourceConfig::max_delay_deviation_ratio`].
    MaxDelayDeviationRatio(f64),
    /// [`chime_discipline::SourceOptions::stratum_min`].
    StratumMin(u8),
    /// [`SourceConfig::poll_target`].
    PollTarget(u32),
    /// [`chime_discipline::SourceOptions::offset_correction`].
    OffsetCorrection(f64),
    /// Options of the selection; `None`: as it is.
    Options {
        /// Measured, never selected.
        no_select: Option<bool>,
        /// Preferred over those that are not.
        prefer: Option<bool>,
        /// Outvoted by other trusted sources only.
        trust: Option<bool>,
        /// One such source must be selectable.
        require: Option<bool>,
    },
}

/// What changes about the discipline.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Tuning {
    /// When the clock is stepped.
    Step {
        /// From this correction on; seconds, `None`: never.
        threshold: Option<f64>,
        /// In that many first clock updates; `None`: at any time.
        updates: Option<u32>,
    },
    /// Whether our own time is served when there is nothing to follow.
    Local(Option<LocalReference>),
    /// Seconds added to the distance of sources that are not selected.
    ReselectDistance(f64),
    /// Estimates of the frequency with a greater standard error are not used.
    MaxUpdateSkew(Frequency),
}

/// Which sources a command is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceMatch {
    /// All of them.
    All,
    /// Those whose address equals `address` where `mask` has ones. A mask of another family means the exact address.
    Address {
        /// The address.
        address: IpAddr,
        /// The mask.
        mask: IpAddr,
    },
    /// Those configured by this name.
    Name(String),
    /// One source, with or without address.
    Key(SourceKey),
}
