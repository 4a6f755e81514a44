//! What an answer says: header, interleaved mode, the fields that were asked for. RFC 5905 §9.2, RFC 9769.

use super::{Arrival, Interleaving, Message};
use crate::{SMEARED_REFERENCE_ID, ServerTime, TransmitTimes};
use chime_time::{NtpDuration, NtpShort, NtpTimestamp};
use chime_wire::{ExchangeFields, Header, LeapIndicator, Mode, NetworkCorrection, ReferenceId};

/// What of a request its answer depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) header: Header,
    pub(super) octets: usize,
    pub(super) arrival: Arrival,
    /// The fields that are asked for.
    pub(super) fields: ExchangeFields,
}

impl Asked {
    /// What the fields say that were asked for, in an answer with this header.
    pub(super) fn told(&self, header: &Header, time: &ServerTime) -> ExchangeFields {
        ExchangeFields {
            correction: self.fields.correction.and(self.arrival.correction).map(NetworkCorrection),
            monotonic: self.fields.monotonic.map(|_| time.monotonic(header.receive, self.arrival.mono)),
        }
    }

    /// The same for an answer whose header is written later: its receive timestamp is known already.
    pub(super) fn told_ahead(&self, message: Message, time: &ServerTime) -> ExchangeFields {
        if message != Message::Time || self.fields.is_empty() {
            return ExchangeFields::default();
        }
        self.told(&self.basic(message, time, self.arrival.received), time)
    }

    /// The header of the answer; the system clock shows `now`.
    pub(super) fn answer(
        &self,
        message: Message,
        time: &ServerTime,
        now: NtpTimestamp,
        transmit_times: Option<&TransmitTimes>,
    ) -> (Header, Interleaving) {
        let basic = self.basic(message, time, now);
        match transmit_times {
            Some(times) if message == Message::Time => self.interleaved(basic, times),
            _ => (basic, Interleaving::default()),
        }
    }

    /// Has an answer tell when the one before left, if the request asks for that and it is known; and has the time of this
    /// one noted. Clients of basic mode send a zero origin and get what they always got. RFC 9769 §2.
    fn interleaved(&self, basic: Header, times: &TransmitTimes) -> (Header, Interleaving) {
        let request = &self.header;
        let is_asked_for = request.mode == Mode::Client
            && !request.origin.is_zero()
            && !request.receive.is_zero()
            && request.receive != request.transmit;
        if !is_asked_for {
            return (basic, Interleaving::default());
        }
        let follow_up = Some(times.mark(self.arrival.from, basic.receive));
        match times.find(times.mark(self.arrival.from, request.origin)) {
            None => (basic, Interleaving { follow_up, is_interleaved: false }),
            Some(transmit) => {
                let header = Header { origin: request.receive, transmit, ..basic };
                (header, Interleaving { follow_up, is_interleaved: true })
            }
        }
    }

    /// RFC 5905 §9.2, figure 20; kisses §7.4.
    pub(super) fn basic(&self, message: Message, time: &ServerTime, now: NtpTimestamp) -> Header {
        let request = &self.header;
        let mono = self.arrival.mono;
        let answer = Header {
            leap: LeapIndicator::Unsynchronized,
            version: request.version,
            mode: if request.mode == Mode::SymmetricActive { Mode::SymmetricPassive } else { Mode::Server },
            stratum: 0,
            poll: request.poll,
            precision: time.precision,
            root_delay: NtpShort::ZERO,
            root_dispersion: NtpShort::ZERO,
            reference_id: ReferenceId::default(),
            reference: NtpTimestamp::ZERO,
            origin: request.transmit,
            receive: time.corrected(self.arrival.received, mono),
            transmit: time.corrected(now, mono),
        };
        match message {
            Message::Kiss(code, _) => Header { reference_id: ReferenceId(code.0), ..answer },
            Message::Time => Self::smeared(
                time,
                &self.arrival,
                Header {
                    leap: if time.is_synchronized() { time.leap } else { LeapIndicator::Unsynchronized },
                    stratum: if time.is_synchronized() { time.stratum } else { 0 },
                    root_delay: time.root_delay,
                    root_dispersion: time.root_dispersion(mono),
                    // With stratum 0 an identifier would be read as a kiss code.
                    reference_id: if time.is_synchronized() {
                        time.reference_id
                    } else {
                        ReferenceId::default()
                    },
                    reference: time.reference,
                    ..answer
                },
            ),
        }
    }

    /// What answers of a server that smears leap seconds or smooths its time say besides: no leap second is announced that is
    /// smeared, and the time is of nobody's clock.
    fn smeared(time: &ServerTime, arrival: &Arrival, header: Header) -> Header {
        if time.is_ours() || !time.is_synchronized() {
            return header;
        }
        let offset = time.served_offset(arrival.received, arrival.mono);
        let reference_id =
            if offset == NtpDuration::ZERO { header.reference_id } else { SMEARED_REFERENCE_ID };
        Header {
            leap: if time.smear.is_some() { LeapIndicator::NoWarning } else { header.leap },
            reference_id,
            reference: header.reference + offset,
            ..header
        }
    }
}
