//! An NTP server without sockets: a request goes in, an answer or a reason for silence comes out.
//!
//! Owns access lists, rate limits, the answers to plain, keyed and NTS requests (RFC 5905 §9, RFC 8915 §5.7), and what
//! is counted about them. Keeps no state of the protocol but for what interleaved mode needs (RFC 9769), answers with no more octets than it was asked with, never
//! gives unauthenticated time to a packet with an NTS field, and allocates nothing per packet. It reads no clock and
//! no socket: time, keys and random octets come in as values. Start at [`Responder`], [`Policy`] and [`ServerTime`].
#![forbid(unsafe_code)]

mod access;
mod broadcast;
mod counters;
mod policy;
mod ranges;
mod rate_limit;
mod responder;
mod server_time;
mod signing;
mod smear;
mod smoothing;
mod subnet;
mod terms;
mod transmit_times;

pub use access::{Access, AccessList, AccessRule, Refusal};
pub use broadcast::{BROADCAST_OCTETS_MAX, write_broadcast};
pub use counters::{COOKIE_AGES, PlainCounts, ResponseKind, ServerCounters, SilenceReason};
pub use policy::{KeyTable, Policy, RequireNts, Versions};
pub use rate_limit::{CLIENTS_MAX, ClientRecord, ClientTable, RateDecision, RateLimitSettings};
pub use responder::{
    Arrival, Begun, Environment, NTS_REQUESTS_MAX, PendingNts, Published, Responder, Verdict,
    restamp_transmit,
};
pub use server_time::{
    DISPERSION_RATE, MonotonicScale, SMEARED_REFERENCE_ID, STRATUM_UNSYNCHRONIZED, ServerTime,
};
pub use signing::{
    SIGNED_OCTETS, SIGNING_MESSAGE_OCTETS, SIGNING_REPLY_OCTETS_MAX, SigningError, Unsigned, signing_key,
};
pub use smear::{Smear, SmearPlace, SmearSettings, SmearShape, SmearWindow};
pub use smoothing::{BestTime, SmoothedClock, Smoother, SmoothingCourse, SmoothingPoint, SmoothingSettings};
pub use subnet::{Subnet, SubnetError};
pub use terms::{Terms, TermsList, TermsRule};
pub use transmit_times::{AnswerMark, TransmitTimes};
