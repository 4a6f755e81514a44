//! What happened, for logs, metrics and tests; and why answers made no sample.

use crate::reference_clock::ReadingRefusal;
use crate::{ExchangeId, KeFailure, ResolveFailure, SendFailure, SourceKey};
use chime_discipline::{DisciplineEvent, Leap, SourceId};
use chime_time::{NtpDate, NtpDuration};
use chime_wire::KissCode;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Why a datagram made no sample. The order is the order of the checks: what is not authentic is not looked at further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiscardReason {
    /// It came to an exchange that is over, or that never was.
    UnknownExchange,
    /// The sender's address or port is not the one that was asked.
    WrongSender,
    /// The request was answered already.
    Duplicate,
    /// Shorter than a header, or with impossible fields.
    Malformed,
    /// Not the version of the request.
    WrongVersion,
    /// Not a server's answer.
    WrongMode,
    /// The origin timestamp is not what the request carried. RFC 5905 §8, TEST2.
    OriginMismatch,
    /// An answer to an NTS request without unique identifier. RFC 8915 §5.7.
    NoUniqueIdentifier,
    /// An answer to an NTS request with another unique identifier: a replay, most likely.
    UniqueIdentifierMismatch,
    /// An answer to an NTS request without authenticator.
    NoAuthenticator,
    /// The authenticator does not open: altered on the way, or sealed with another key.
    AuthenticatorFailed,
    /// NTS fields that contradict each other, or garbage inside of the authenticator.
    NtsMalformed,
    /// An NTSN to our request: the server does not know the cookie. Noted, and the wait goes on. RFC 8915 §5.7.
    NtsNak,
    /// A kiss code that nobody vouches for, to a request that asked for authentication.
    UnauthenticatedKiss,
    /// An answer without MAC, or with one of another key, to a request with a symmetric key.
    NoMac,
    /// The MAC is wrong.
    MacFailed,
    /// The server says that our symmetric key is wrong. RFC 5905 §9.2.
    CryptoNak,
    /// An authentic kiss code: RATE.
    KissRate,
    /// An authentic kiss code: DENY or RSTR.
    KissDeny,
    /// Another authentic kiss code; only shown. RFC 5905 §7.4.
    KissOther,
    /// The receive or transmit timestamp is zero. TEST3.
    ZeroTimestamp,
    /// The server is not synchronised, or its stratum is impossible. TEST6.
    ServerUnsynchronized,
    /// The server's root distance is impossible. TEST7.
    RootDistance,
    /// The server's timestamps contradict each other, or the round trip is too long. Test A.
    Delay,
    /// The request only went ahead of the one that counts.
    SentAhead,
    /// The exchange that it completes made a sample already, from a basic answer. RFC 9769 §2.
    Counted,
    /// The round trip is too long compared with the shortest. Tests B and C.
    DelayRatio,
    /// The server follows us. Test D.
    Loop,
    /// The request's departure was never reported, so there is no T1.
    NoTransmitTimestamp,
    /// The system clock was stepped while the exchange was under way: T1 and T4 are of two clocks.
    ClockStepped,
    /// The policy asks for authentication and the source has none.
    Unauthenticated,
    /// The certificate had expired at the time that its own server measures.
    CertificateExpired,
    /// The certificate was not valid yet at the time that its own server measures.
    CertificateNotYetValid,
    /// The server offers a time before the lower bound of the true time.
    BeforeLowerBound,
    /// Authentic, but the certificate is not judged yet; the measurement waits for other sources.
    AwaitingJudgement,
    /// The discipline did not store it.
    NotStored,
}

impl DiscardReason {
    /// All of them, for tables of counters.
    pub const ALL: [Self; 36] = [
        Self::UnknownExchange,
        Self::WrongSender,
        Self::Duplicate,
        Self::Malformed,
        Self::WrongVersion,
        Self::WrongMode,
        Self::OriginMismatch,
        Self::NoUniqueIdentifier,
        Self::UniqueIdentifierMismatch,
        Self::NoAuthenticator,
        Self::AuthenticatorFailed,
        Self::NtsMalformed,
        Self::NtsNak,
        Self::UnauthenticatedKiss,
        Self::NoMac,
        Self::MacFailed,
        Self::CryptoNak,
        Self::KissRate,
        Self::KissDeny,
        Self::KissOther,
        Self::ZeroTimestamp,
        Self::ServerUnsynchronized,
        Self::RootDistance,
        Self::Delay,
        Self::SentAhead,
        Self::Counted,
        Self::DelayRatio,
        Self::Loop,
        Self::NoTransmitTimestamp,
        Self::ClockStepped,
        Self::Unauthenticated,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::BeforeLowerBound,
        Self::AwaitingJudgement,
        Self::NotStored,
    ];

    /// The stable name for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownExchange => "unknown-exchange",
            Self::WrongSender => "wrong-sender",
            Self::Duplicate => "duplicate",
            Self::Malformed => "malformed",
            Self::WrongVersion => "wrong-version",
            Self::WrongMode => "wrong-mode",
            Self::OriginMismatch => "origin-mismatch",
            Self::NoUniqueIdentifier => "no-unique-identifier",
            Self::UniqueIdentifierMismatch => "unique-identifier-mismatch",
            Self::NoAuthenticator => "no-authenticator",
            Self::AuthenticatorFailed => "authenticator-failed",
            Self::NtsMalformed => "nts-malformed",
            Self::NtsNak => "nts-nak",
            Self::UnauthenticatedKiss => "unauthenticated-kiss",
            Self::NoMac => "no-mac",
            Self::MacFailed => "mac-failed",
            Self::CryptoNak => "crypto-nak",
            Self::KissRate => "kiss-rate",
            Self::KissDeny => "kiss-deny",
            Self::KissOther => "kiss-other",
            Self::ZeroTimestamp => "zero-timestamp",
            Self::ServerUnsynchronized => "server-unsynchronized",
            Self::RootDistance => "root-distance",
            Self::Delay => "delay",
            Self::SentAhead => "sent-ahead",
            Self::Counted => "counted",
            Self::DelayRatio => "delay-ratio",
            Self::Loop => "loop",
            Self::NoTransmitTimestamp => "no-transmit-timestamp",
            Self::ClockStepped => "clock-stepped",
            Self::Unauthenticated => "unauthenticated",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotYetValid => "certificate-not-yet-valid",
            Self::BeforeLowerBound => "before-lower-bound",
            Self::AwaitingJudgement => "awaiting-judgement",
            Self::NotStored => "not-stored",
        }
    }

    /// Whether the datagram was an authentic answer to an open request, and only what it said or how long it took made
    /// it useless: its header is in the reports.
    #[must_use]
    pub const fn is_of_an_answer(self) -> bool {
        matches!(
            self,
            Self::ZeroTimestamp
                | Self::ServerUnsynchronized
                | Self::RootDistance
                | Self::Delay
                | Self::SentAhead
                | Self::Counted
                | Self::DelayRatio
                | Self::Loop
                | Self::NotStored
        )
    }

    /// The position in [`DiscardReason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DiscardReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownExchange => "belongs to no open exchange",
            Self::WrongSender => "comes from an address or port that was not asked",
            Self::Duplicate => "the request is answered already",
            Self::Malformed => "is not a well-formed NTP packet",
            Self::WrongVersion => "has another version than the request",
            Self::WrongMode => "is not a server's answer",
            Self::OriginMismatch => "does not carry the request's timestamp",
            Self::NoUniqueIdentifier => "has no unique identifier",
            Self::UniqueIdentifierMismatch => "has another unique identifier",
            Self::NoAuthenticator => "has no authenticator",
            Self::AuthenticatorFailed => "the authenticator does not open: altered or forged",
            Self::NtsMalformed => "has contradictory NTS fields",
            Self::NtsNak => "NTS NAK: the server does not accept the cookie",
            Self::UnauthenticatedKiss => "a kiss code without authentication",
            Self::NoMac => "has no MAC of the agreed key",
            Self::MacFailed => "the MAC is wrong",
            Self::CryptoNak => "crypto-NAK: the server does not accept the key",
            Self::KissRate => "RATE: the server wants fewer requests",
            Self::KissDeny => "DENY or RSTR: the server refuses service",
            Self::KissOther => "an unknown kiss code",
            Self::ZeroTimestamp => "lacks a timestamp",
            Self::ServerUnsynchronized => "the server is not synchronised",
            Self::RootDistance => "the server is too far from a primary source",
            Self::Delay => "the round trip is too long or impossible",
            Self::SentAhead => "answers a request that only went ahead of another",
            Self::Counted => "completes an exchange that was measured already",
            Self::DelayRatio => "the round trip is too long compared with others",
            Self::Loop => "the server follows this machine",
            Self::NoTransmitTimestamp => "the request's departure is unknown",
            Self::ClockStepped => "the clock was stepped while it was under way",
            Self::Unauthenticated => "not authenticated, which the policy requires",
            Self::CertificateExpired => "certificate expired at the measured time",
            Self::CertificateNotYetValid => "certificate not yet valid at the measured time",
            Self::BeforeLowerBound => "offers a time that is certainly past",
            Self::AwaitingJudgement => "waits for other sources to confirm the time",
            Self::NotStored => "was not stored by the discipline",
        })
    }
}

/// How many datagrams were discarded, by reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscardCounters([u64; DiscardReason::ALL.len()]);

impl Default for DiscardCounters {
    fn default() -> Self {
        Self([0; DiscardReason::ALL.len()])
    }
}

impl DiscardCounters {
    /// How many for this reason.
    #[must_use]
    pub const fn get(&self, reason: DiscardReason) -> u64 {
        self.0[reason.index()]
    }

    pub(crate) const fn count(&mut self, reason: DiscardReason) {
        self.0[reason.index()] = self.0[reason.index()].saturating_add(1);
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DiscardReason, u64)> + '_ {
        DiscardReason::ALL
            .into_iter()
            .map(|reason| (reason, self.get(reason)))
            .filter(|(_, count)| *count > 0)
    }
}

/// One thing that an operator, a metric or a test wants to know. Strangers can cause only [`Event::Discarded`] and
/// [`Event::SendFailed`], which a log must limit.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A datagram made no sample.
    Discarded {
        /// Whose socket.
        exchange: ExchangeId,
        /// Which association, unless the exchange is unknown.
        association: Option<SourceId>,
        /// The sender.
        from: SocketAddr,
        /// Why.
        reason: DiscardReason,
    },
    /// A request could not be sent, or the network refused it.
    SendFailed {
        /// Which association.
        association: SourceId,
        /// Where to.
        to: SocketAddr,
        /// Why.
        failure: SendFailure,
    },
    /// A sample entered the discipline.
    Sampled {
        /// Which association.
        association: SourceId,
        /// Remote minus local; positive = our clock is behind.
        offset: NtpDuration,
        /// Round trip.
        delay: NtpDuration,
        /// Whether it was authenticated.
        authenticated: bool,
    },
    /// A reference clock was taken up.
    ReferenceClockAdded {
        /// Its number in the discipline.
        clock: SourceId,
        /// Its reference identifier.
        name: String,
    },
    /// A reading of a reference clock went into its filter.
    ReferenceClockRead {
        /// Which one.
        clock: SourceId,
        /// When, by our system clock.
        at: NtpDate,
        /// Readings of the device since the last sample.
        number: u32,
        /// What it says of leap seconds.
        leap: Leap,
        /// Whether it was a pulse.
        is_pulse: bool,
        /// As it was measured; reference minus local, positive = our clock is behind.
        raw: NtpDuration,
        /// With its second and the configured correction; positive = our clock is behind.
        offset: NtpDuration,
        /// What is known of its uncertainty, seconds.
        dispersion: f64,
    },
    /// A reading of a reference clock does not count.
    ReadingRefused {
        /// Which one.
        clock: SourceId,
        /// Why.
        refusal: ReadingRefusal,
    },
    /// The readings of a reference clock became a sample.
    ReferenceClockSampled {
        /// Which one.
        clock: SourceId,
        /// When, by our system clock.
        at: NtpDate,
        /// What it says of leap seconds.
        leap: Leap,
        /// Reference minus local; positive = our clock is behind.
        offset: NtpDuration,
        /// Their scatter, seconds.
        dispersion: f64,
    },
    /// The first sample of a reference clock, or the first one after eight polls without; or eight polls without.
    ReferenceClockReachable {
        /// Which one.
        clock: SourceId,
        /// Its reference identifier.
        name: String,
        /// Whether there are samples.
        reachable: bool,
    },
    /// A source was configured, at the start or later.
    SourceAdded {
        /// Which.
        source: SourceKey,
        /// Its name as configured.
        name: String,
        /// Whether it is a pool.
        is_pool: bool,
        /// The number that reports show in place of an address.
        number: u32,
    },
    /// A source is configured no more.
    SourceRemoved {
        /// Its name as it was configured.
        name: String,
        /// Whether it was a pool.
        is_pool: bool,
        /// The number that reports showed in place of an address.
        number: u32,
        /// The address that was in use.
        remote: Option<IpAddr>,
    },
    /// An association was made.
    AssociationAdded {
        /// Its number in the discipline.
        association: SourceId,
        /// For which source.
        source: SourceKey,
        /// The source's name as configured.
        name: String,
        /// The remote address.
        remote: SocketAddr,
    },
    /// An association was given up.
    AssociationRemoved {
        /// Its number in the discipline.
        association: SourceId,
        /// The remote address.
        remote: SocketAddr,
        /// Why.
        reason: RemovalReason,
    },
    /// The first good answer of an association, or the first one after silence.
    Reachable {
        /// Which association.
        association: SourceId,
        /// The remote address.
        remote: SocketAddr,
    },
    /// Eight polls in a row had no good answer.
    Unreachable {
        /// Which association.
        association: SourceId,
        /// The remote address.
        remote: SocketAddr,
    },
    /// An authentic kiss code.
    Kiss {
        /// Which association.
        association: SourceId,
        /// The remote address.
        remote: SocketAddr,
        /// The code.
        code: KissCode,
    },
    /// A server answered with NTSN and nothing better came before the deadline.
    NtsNak {
        /// Which association.
        association: SourceId,
        /// The remote address.
        remote: SocketAddr,
        /// Whether the other key set of AEAD 30 is tried first.
        other_keys_tried: bool,
    },
    /// Keys were established.
    KeysEstablished {
        /// For which source.
        source: SourceKey,
        /// The source's name.
        name: String,
        /// The AEAD's number.
        aead: u16,
        /// How many cookies came with them.
        cookies: usize,
        /// Where the NTP server is, when it was negotiated: name or address literal.
        ntp_server: Option<String>,
        /// The negotiated NTP port.
        ntp_port: Option<u16>,
    },
    /// Keys could not be established.
    EstablishmentFailed {
        /// For which source.
        source: SourceKey,
        /// The source's name.
        name: String,
        /// Why.
        failure: KeFailure,
        /// When it is tried again; seconds from now.
        retry_seconds: f64,
    },
    /// A certificate is not valid at the time that its server, or the authenticated majority, measures.
    CertificateRefused {
        /// For which source.
        source: SourceKey,
        /// The source's name.
        name: String,
        /// [`DiscardReason::CertificateExpired`], [`DiscardReason::CertificateNotYetValid`] or
        /// [`DiscardReason::BeforeLowerBound`].
        reason: DiscardReason,
        /// The measured time, or the lower bound; Unix seconds.
        unix_seconds: i64,
        /// First second of the certificate's validity; Unix seconds.
        not_before: i64,
        /// Last second of the certificate's validity; Unix seconds.
        not_after: i64,
    },
    /// A name has addresses.
    Resolved {
        /// For which source.
        source: SourceKey,
        /// The name.
        name: String,
        /// Its usable addresses.
        addresses: Vec<IpAddr>,
    },
    /// A name has no addresses.
    ResolveFailed {
        /// For which source.
        source: SourceKey,
        /// The name.
        name: String,
        /// Why.
        failure: ResolveFailure,
        /// When it is tried again; seconds from now.
        retry_seconds: f64,
    },
    /// An unauthenticated source takes part in the time; said once per source and change.
    UnauthenticatedInUse {
        /// Which association.
        association: SourceId,
        /// The source's name.
        name: String,
        /// The remote address.
        remote: SocketAddr,
    },
    /// A source cannot be used as configured.
    SourceRefused {
        /// Which source.
        source: SourceKey,
        /// The source's name.
        name: String,
        /// Why.
        reason: SourceRefusal,
    },
    /// The configuration was replaced.
    Reconfigured {
        /// Sources added.
        added: usize,
        /// Sources removed.
        removed: usize,
        /// Sources that went on unchanged.
        kept: usize,
    },
    /// Something in the discipline.
    Discipline(DisciplineEvent),
}

/// Why an association was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemovalReason {
    /// Its source was removed or changed.
    Configuration,
    /// Other addresses of the name answered sooner.
    NotNeeded,
    /// It did not answer and another address is tried.
    Unreachable,
    /// It disagrees with the majority and another address is tried.
    Falseticker,
    /// The server refuses service.
    Denied,
    /// Key establishment led to another server.
    ServerChanged,
    /// Its name no longer has this address.
    AddressGone,
    /// Its certificate was refused.
    Certificate,
    /// Another source has a better right to its address, and it had no authentic answer from there.
    AddressTaken,
}

/// Why a source cannot be used as configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceRefusal {
    /// It is not authenticated, and the policy requires that.
    Unauthenticated,
    /// Its symmetric key is not among the keys.
    UnknownKey(u32),
    /// Another source has the same address.
    AddressInUse(IpAddr),
    /// There are too many sources or associations.
    TooMany,
}

impl fmt::Display for SourceRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated => f.write_str("not authenticated, which the policy requires"),
            Self::UnknownKey(number) => write!(f, "the symmetric key {number} is not among the keys"),
            Self::AddressInUse(address) => write!(f, "{address} is the address of another source"),
            Self::TooMany => f.write_str("there are too many sources"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_where_their_index_says_and_have_names_of_their_own() {
        for (index, reason) in DiscardReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index, "{reason}");
            assert_eq!(DiscardReason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }
}
