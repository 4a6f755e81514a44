//! Interleaved mode of a client: the server says with each answer when it really sent the one before. RFC 9769 §2.
//!
//! ```text
//! server   t2   t3               t6   t7
//!     ─────┬────┬────────────────┬────┬─────       answer 1, basic:         origin = x1, receive = t2, transmit ≈ t3
//!         ╱      ╲              ╱      ╲           request 2:               origin = t2, receive = y2, transmit = x2
//! client ╱        ╲            ╱        ╲          answer 2, interleaved:   origin = y2, receive = t6, transmit = t3
//!     ──┬──────────┬──────────┬──────────┬──
//!       t1         t4         t5         t8        sample of answer 2: t1, t2, t3, t4
//! ```
//!
//! x and y are random, so that an answer that echoes either is as well proven as in basic mode; which one it echoes tells
//! in which mode it is. A server that knows nothing of this answers in basic mode, for ever. The sample of an interleaved
//! answer is one interval old; the discipline knows what was done to the clock in between.

use crate::frequency_transfer::Held;
use crate::{ExchangeId, Timestamped};
use chime_time::{NtpDuration, NtpTimestamp};
use chime_wire::Header;

/// Requests that may refer to one answer. When so many were lost, the timestamps are old and the server has forgotten
/// its own: the next request is a basic one. RFC 9769 §2.
const REQUESTS_MAX: u8 = 4;

/// How an answer was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AnswerMode {
    /// The transmit timestamp is this answer's own. RFC 5905 §8.
    Basic,
    /// The transmit timestamp is that of the answer before. RFC 9769 §2.
    Interleaved,
}

/// The last answered exchange: what the next answer may complete.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Completed {
    pub(crate) exchange: ExchangeId,
    /// T1; may still get better when the card's stamp is late.
    pub(crate) sent: Timestamped,
    /// T2, by which the server knows the exchange.
    pub(crate) remote_receive: NtpTimestamp,
    /// T4.
    pub(crate) received: Timestamped,
    /// Whether it made a sample already, with the transmit timestamp of its own answer.
    pub(crate) sampled: bool,
    /// For how long transparent clocks held its packets.
    pub(crate) held: Option<Held>,
    /// Requests that referred to it.
    requests: u8,
}

/// An exchange with its four timestamps.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Timestamps {
    /// The header to measure by: with T2 and T3.
    pub(crate) header: Header,
    pub(crate) sent: Timestamped,
    pub(crate) received: Timestamped,
    pub(crate) held: Option<Held>,
    pub(crate) mode: AnswerMode,
    /// Whether they make no new sample: this exchange made one.
    pub(crate) sampled: bool,
    /// Whether they make none because the request only went ahead of another.
    pub(crate) ahead: bool,
}

impl Timestamps {
    /// The same after the other side moved its time forward by `moved`, where both of its timestamps are from before.
    pub(crate) fn moved(self, moved: NtpDuration) -> Self {
        if self.mode == AnswerMode::Basic {
            return self;
        }
        let Header { receive, transmit, .. } = self.header;
        let header = Header { receive: receive + moved, transmit: transmit + moved, ..self.header };
        Self { header, ..self }
    }
}

impl Completed {
    pub(crate) const fn new(
        exchange: ExchangeId,
        sent: Timestamped,
        received: Timestamped,
        header: &Header,
        sampled: bool,
    ) -> Self {
        let held = None;
        Self { exchange, sent, remote_receive: header.receive, received, sampled, held, requests: 0 }
    }

    /// The same with what transparent clocks said of it.
    pub(crate) const fn with_held(self, held: Option<Held>) -> Self {
        Self { held, ..self }
    }

    /// What the next request refers to, if it may.
    pub(crate) fn refer(&mut self) -> Option<NtpTimestamp> {
        if self.requests >= REQUESTS_MAX || self.remote_receive.is_zero() {
            return None;
        }
        self.requests += 1;
        Some(self.remote_receive)
    }

    /// The timestamps of this exchange, the last of which came with an interleaved answer.
    pub(crate) const fn complete(&self, answer: &Header) -> Timestamps {
        Timestamps {
            header: Header { receive: self.remote_receive, ..*answer },
            held: self.held,
            sent: self.sent,
            received: self.received,
            mode: AnswerMode::Interleaved,
            sampled: self.sampled,
            ahead: false,
        }
    }
}
