//! Noting when answers really left, for clients in interleaved mode. RFC 9769 §2.
//!
//! The kernel is asked for a stamp of just these answers. Until that comes, and where there is none, the clock as it was
//! after sending will do: it is later than the truth by what the system call took.

use crate::card_clocks::CardLines;
use chime_server::{AnswerMark, ServerTime, TransmitTimes};
use chime_sys::batch::ServerBatch;
use chime_sys::clock;
use chime_sys::udp::{ErrorReport, UdpSocket};
use chime_time::{NtpDate, NtpDuration};
use std::sync::Arc;

/// Answers whose stamps are waited for; those of older ones come too late for anybody.
const AWAITED_MAX: usize = 64;
/// Reports that are taken from the error queue at a time.
const REPORTS_MAX: usize = 2 * AWAITED_MAX;
/// A stamp that lies farther from when its answer was sent belongs to another.
const LATENESS_MAX: NtpDuration = NtpDuration::from_nanos(50_000_000);

/// The answers of one socket that are still to be followed up.
#[derive(Debug)]
pub(super) struct FollowUps {
    times: Arc<TransmitTimes>,
    cards: Arc<CardLines>,
    /// Answers in the batch that is not sent yet.
    queued: Vec<AnswerMark>,
    /// Sent, with their stamps' numbers and the time before sending.
    awaited: Vec<(u32, AnswerMark, NtpDate)>,
    /// The number of the next stamp.
    next: u32,
    /// Stamps of the kernel that were used.
    pub(super) kernel_stamps: u64,
    /// Those of a network card among them.
    pub(super) card_stamps: u64,
}

impl FollowUps {
    pub(super) fn new(times: Arc<TransmitTimes>, cards: Arc<CardLines>) -> Self {
        let (queued, awaited) = (Vec::new(), Vec::new());
        Self { times, cards, queued, awaited, next: 0, kernel_stamps: 0, card_stamps: 0 }
    }

    /// Queues the answer to request number `index` of the batch.
    pub(super) fn answer(&mut self, batch: &mut ServerBatch, index: usize, octets: usize, mark: AnswerMark) {
        self.queued.push(mark);
        batch.answer_stamped(index, octets, self.cards.is_active());
    }

    /// Whether one of the answers that are to be sent is to be followed up.
    pub(super) const fn is_due(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Whether stamps of answers that were sent may still come.
    pub(super) const fn is_waiting(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// The queued answers were sent, from `before` on; so many of the whole batch were refused.
    pub(super) fn sent(&mut self, socket: &UdpSocket, before: NtpDate, refused: usize, time: &ServerTime) {
        let now = clock::read();
        for mark in self.queued.drain(..) {
            self.times.note(mark, time.corrected(now.system.timestamp(), now.mono));
            if self.awaited.len() == AWAITED_MAX {
                self.awaited.remove(0);
            }
            self.awaited.push((self.next, mark, before));
            self.next = self.next.wrapping_add(1);
        }
        self.take_stamps(socket, time);
        if refused > 0 {
            // Whether a refused answer took a number is not known.
            self.forget();
            let _no_stamps = socket.restart_stamp_numbers();
        }
    }

    /// Waits for no stamps of answers that were sent; the next one is the first of its socket.
    pub(super) fn forget(&mut self) {
        self.awaited.clear();
        self.next = 0;
    }

    /// Takes what the error queue has; to be called whenever the socket reports errors, or it would do so for ever:
    /// stamps that nobody waits for any more come as well.
    pub(super) fn take_stamps(&mut self, socket: &UdpSocket, time: &ServerTime) {
        for _ in 0..REPORTS_MAX {
            // Simulators answer with a datagram when there is no report.
            if !socket.has_report() {
                return;
            }
            let Ok(report) = socket.recv_error() else { return };
            let ErrorReport::Transmitted { number, sent, hardware, interface } = report else { continue };
            let at = match number {
                Some(number) => self.awaited.iter().position(|(awaited, ..)| *awaited == number),
                // Who does not number them has one at a time.
                None => self.awaited.len().checked_sub(1),
            };
            let Some(at) = at else { continue };
            let sent = self.cards.transmitted(sent, hardware);
            let is_from_card = sent.source == chime_sys::TimestampSource::Hardware;
            // The card's stamp comes after the kernel's, in a report of its own.
            let more_comes =
                socket.wants_hardware_stamps() && !is_from_card && self.cards.may_stamp(interface);
            let (_, mark, before) = if more_comes { self.awaited[at] } else { self.awaited.remove(at) };
            let is_from_kernel = sent.source != chime_sys::TimestampSource::Daemon;
            let lateness = sent.at.system - before;
            if is_from_kernel && lateness >= NtpDuration::ZERO && lateness <= LATENESS_MAX {
                self.times.note(mark, time.corrected(sent.at.system.timestamp(), sent.at.mono));
                self.kernel_stamps += u64::from(!more_comes);
                self.card_stamps += u64::from(is_from_card);
            }
        }
    }
}
