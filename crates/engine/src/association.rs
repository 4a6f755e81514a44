//! Protocol state for one remote address. RFC 5905 §9.1.

use crate::back_off::BackOff;
use crate::certificate_dates::Claim;
use crate::delay_window::DelayWindow;
use crate::event::DiscardCounters;
use crate::frequency_transfer::ServerScale;
use crate::interleaved::{AnswerMode, Completed};
use crate::median_filter::MedianFilter;
use crate::nts_state::NtsState;
use crate::packet_tests::{Measurement, PacketTests};
use crate::polling::Polling;
use crate::symmetric::Peer;
use crate::{ExchangeId, RecentReport, SourceConfig, SourceKey, TimestampSource, Timestamped};
use arrayvec::ArrayVec;
use chime_discipline::SourceId;
use chime_nts::{AeadKey, Cookie};
use chime_time::{MonoTime, NtpTimestamp};
use chime_wire::Header;
use std::net::{IpAddr, SocketAddr};

/// How answers of one association prove where they come from.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    /// They do not.
    None,
    /// A symmetric key of the configuration, by its number.
    Key(u32),
    /// NTS.
    Nts(Box<NtsState>),
}

/// One remote address and all that is known about it.
#[derive(Debug)]
pub(crate) struct Association {
    pub(crate) id: SourceId,
    pub(crate) source: SourceKey,
    pub(crate) remote: SocketAddr,
    pub(crate) credentials: Credentials,
    pub(crate) polling: Polling,
    pub(crate) exchange: Option<Exchange>,
    /// The last answered exchange, for interleaved mode.
    pub(crate) completed: Option<Completed>,
    /// Instead of exchanges: what symmetric mode remembers.
    pub(crate) peer: Option<Peer>,
    /// Whether any good answer ever came.
    pub(crate) confirmed: bool,
    /// Whether another address should take its place as soon as there is one.
    pub(crate) replace: bool,
    /// Until when the server wants no requests (authentic DENY or RSTR).
    pub(crate) denied_until: Option<MonoTime>,
    /// Key establishments since the last authentic answer, and how long the next one has to wait.
    pub(crate) keys_back_off: BackOff,
    /// What the first sample says about our clock, while the certificate is provisional.
    pub(crate) claim: Option<Claim>,
    /// Samples in a row during which the discipline called it a falseticker.
    pub(crate) falseticker_samples: u32,
    /// Whether its use without authentication was announced.
    pub(crate) unauthenticated_announced: bool,
    pub(crate) delays: DelayWindow,
    /// What the server said last of its scale without corrections.
    pub(crate) server_scale: Option<ServerScale>,
    /// Measurements that become one.
    pub(crate) median: MedianFilter,
    pub(crate) last: Option<LastAnswer>,
    /// The last measurements, newest first, for reports.
    pub(crate) recent: ArrayVec<RecentReport, RECENT_KEPT>,
    pub(crate) counters: PacketCounters,
    pub(crate) discards: DiscardCounters,
    pub(crate) last_error: Option<String>,
}

/// One request and what is needed to recognise its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) id: ExchangeId,
    /// When the request was made; the next one follows an interval later.
    pub(crate) asked_at: MonoTime,
    /// The random transmit timestamp, which a true answer returns as its origin.
    pub(crate) origin: NtpTimestamp,
    /// The random receive timestamp of an interleaved request, which a true interleaved answer returns as its origin.
    pub(crate) interleaved_origin: Option<NtpTimestamp>,
    pub(crate) version: u8,
    pub(crate) proof: Proof,
    /// T1.
    pub(crate) sent: Option<Timestamped>,
    pub(crate) outcome: Outcome,
    /// Whether the request only goes ahead of the one that counts.
    pub(crate) ahead: bool,
    /// Whether the system clock was stepped since the request was made.
    pub(crate) disturbed: bool,
}

/// What an answer has to show.
#[derive(Debug)]
pub(crate) enum Proof {
    None,
    Key(u32),
    Nts(Box<NtsProof>),
}

/// What an NTS answer has to show, and what the request cost.
#[derive(Debug)]
pub(crate) struct NtsProof {
    pub(crate) unique_identifier: [u8; 32],
    pub(crate) s2c: AeadKey,
    pub(crate) cookie: Cookie,
    pub(crate) placeholders: usize,
}

/// How far an exchange is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Nothing that counts came.
    Waiting,
    /// An NTSN came; something better may follow.
    Nak,
    /// It is answered; the socket stays open to the deadline so that duplicates are seen and counted.
    Answered,
}

/// The last valid answer, for reports.
#[derive(Clone, Debug)]
pub(crate) struct LastAnswer {
    pub(crate) header: Header,
    pub(crate) measurement: Measurement,
    pub(crate) local: Option<IpAddr>,
    pub(crate) mode: AnswerMode,
    pub(crate) tests: PacketTests,
    pub(crate) transmitted_by: TimestampSource,
    pub(crate) received_by: TimestampSource,
    /// T4, by our system clock as it was.
    pub(crate) received: NtpTimestamp,
}

/// Measurements that reports show of each association: what NTP's clock filter holds. RFC 5905 §10.
pub(crate) const RECENT_KEPT: usize = 8;

/// What `ntpdata` counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PacketCounters {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) valid: u64,
    pub(crate) good: u64,
    pub(crate) kernel_sent: u64,
    pub(crate) kernel_received: u64,
    pub(crate) hardware_sent: u64,
    pub(crate) hardware_received: u64,
    /// Valid answers in interleaved mode.
    pub(crate) interleaved: u64,
}

impl PacketCounters {
    pub(crate) const fn count_sent(&mut self, by: TimestampSource) {
        match by {
            TimestampSource::Daemon => {}
            TimestampSource::Kernel => self.kernel_sent += 1,
            TimestampSource::Hardware => self.hardware_sent += 1,
        }
    }

    pub(crate) const fn count_received(&mut self, by: TimestampSource) {
        self.received += 1;
        match by {
            TimestampSource::Daemon => {}
            TimestampSource::Kernel => self.kernel_received += 1,
            TimestampSource::Hardware => self.hardware_received += 1,
        }
    }
}

impl Association {
    pub(crate) fn new(
        id: SourceId,
        source: SourceKey,
        config: &SourceConfig,
        remote: SocketAddr,
        credentials: Credentials,
    ) -> Self {
        Self {
            id,
            source,
            remote,
            credentials,
            polling: Polling::new(config),
            exchange: None,
            completed: None,
            peer: None,
            confirmed: false,
            replace: false,
            denied_until: None,
            keys_back_off: BackOff::default(),
            claim: None,
            falseticker_samples: 0,
            unauthenticated_announced: false,
            delays: DelayWindow::default(),
            server_scale: None,
            median: MedianFilter::default(),
            last: None,
            recent: ArrayVec::new(),
            counters: PacketCounters::default(),
            discards: DiscardCounters::default(),
            last_error: None,
        }
    }

    pub(crate) fn nts(&self) -> Option<&NtsState> {
        match &self.credentials {
            Credentials::Nts(nts) => Some(nts),
            Credentials::None | Credentials::Key(_) => None,
        }
    }

    pub(crate) fn nts_mut(&mut self) -> Option<&mut NtsState> {
        match &mut self.credentials {
            Credentials::Nts(nts) => Some(nts),
            Credentials::None | Credentials::Key(_) => None,
        }
    }

    pub(crate) const fn is_authenticated(&self) -> bool {
        !matches!(self.credentials, Credentials::None)
    }

    /// Whether the certificate's dates still wait to be judged.
    pub(crate) fn is_provisional(&self) -> bool {
        self.nts().and_then(|nts| nts.certificate).is_some_and(|certificate| certificate.provisional)
    }

    /// Whether the server wants no requests now.
    pub(crate) fn is_denied(&self, now: MonoTime) -> bool {
        self.denied_until.is_some_and(|until| until > now)
    }

    /// Remembers a measurement for reports.
    pub(crate) fn note_recent(&mut self, measurement: &Measurement) {
        if self.recent.is_full() {
            self.recent.pop();
        }
        self.recent.insert(
            0,
            RecentReport {
                offset_seconds: measurement.offset.as_secs_f64(),
                delay_seconds: measurement.delay.as_secs_f64().max(0.0),
                dispersion_seconds: measurement.dispersion.as_secs_f64(),
            },
        );
    }
}
