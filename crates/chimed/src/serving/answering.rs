//! From the requests of a batch to their answers, whoever brings them: a socket or a queue of frames.

use super::carrier::{Carried, Carrier};
use super::outside::Outside;
use super::signing::SigningDesk;
use super::stats::ServingStats;
use super::worker::BATCH_REQUESTS;
use crate::mode6_host::HandOver;
use arrayvec::ArrayVec;
use chime_server::{
    AnswerMark, Arrival, Begun, NTS_REQUESTS_MAX, PendingNts, Published, Responder, ResponseKind,
    SilenceReason, Verdict,
};
use chime_sys::batch::BatchedRequest;
use chime_sys::{TimestampSource, Timestamped};
use chime_time::{ClockReading, MonoTime, NtpDuration};

/// A request that waited longer than this is not answered: its client has given up, or will take the answer for that of a
/// server far away, and another one can be answered in time meanwhile.
const LATENESS_MAX: NtpDuration = NtpDuration::from_nanos(100_000_000);

/// Who takes what a responder does not finish.
#[derive(Default)]
pub(super) struct Others<'a> {
    /// Requests of mode 6, with the number of the listener that they come to.
    pub(super) control: Option<(&'a HandOver, usize)>,
    /// Answers that are to be signed.
    pub(super) signing: Option<&'a SigningDesk>,
}

/// An answer to a request of the batch.
pub(super) struct Answer {
    pub(super) number: usize,
    pub(super) octets: usize,
    pub(super) kind: ResponseKind,
    pub(super) carrier: Carrier,
    pub(super) follow_up: Option<AnswerMark>,
}

/// Answers requests of a batch, each with its number and the room for its answer, until there are as many with NTS fields as
/// are finished together, or so many with others among them; gives the answers, in the order of their requests, and the number
/// of the request that comes next, or `end` when there is none. The clocks showed `now` when the batch was received.
pub(super) fn answer<'a>(
    (requests, end, now): (
        impl Iterator<Item = (usize, BatchedRequest<'a>, &'a mut [u8])>,
        usize,
        ClockReading,
    ),
    (responder, ptp_domain): (&mut Responder, Option<u8>),
    published: &Published<'_>,
    outside: &mut Outside,
    stats: &mut ServingStats,
    others: &Others<'_>,
) -> (ArrayVec<Answer, BATCH_REQUESTS>, usize) {
    let (mut answers, mut next, mut sealed) = (ArrayVec::new(), end, Sealed::default());
    for (number, request, room) in requests {
        let Some(carried) = open(&request, now, ptp_domain, responder, stats) else { continue };
        let (carrier, prefix) = (carried.by, carried.by.prefix_octets());
        let Some(room) = room.get_mut(prefix..) else { continue };
        let arrival = arrival(&request, &carried, now.mono, outside, stats);
        match responder.begin(carried.request, &arrival, published, outside, room) {
            Begun::Done(Verdict::Respond { octets, kind }) => {
                let follow_up = responder.take_follow_up();
                answers.push(Answer { number, octets: prefix + octets, kind, carrier, follow_up });
                // Its time cannot be written any more, so it waits for no others.
                if kind == ResponseKind::Keyed {
                    next = number + 1;
                    break;
                }
            }
            Begun::Done(Verdict::Silence(SilenceReason::Control)) => {
                if let Some((control, listener)) = others.control.filter(|_| carrier == Carrier::Udp) {
                    control.take(listener, request.octets, request.from, request.destination);
                }
            }
            Begun::Done(Verdict::Silence(_)) => {}
            Begun::Sign(unsigned) => {
                let signing = others.signing;
                let taken = signing.is_some_and(|it| it.take(unsigned, request.from, request.destination));
                responder.count_signing(taken);
            }
            Begun::Nts(request) => sealed.push(number, carrier, request),
        }
        if !sealed.numbers.is_empty() && answers.len() + sealed.numbers.len() >= outside.at_once.sealed {
            next = number + 1;
            break;
        }
    }
    sealed.finish(&mut answers, responder, published, outside);
    answers.sort_unstable_by_key(|answer| answer.number);
    (answers, next)
}

/// Requests whose answers are sealed together.
#[derive(Default)]
struct Sealed<'a> {
    numbers: ArrayVec<usize, NTS_REQUESTS_MAX>,
    carriers: ArrayVec<Carrier, NTS_REQUESTS_MAX>,
    pending: ArrayVec<PendingNts<'a>, NTS_REQUESTS_MAX>,
}

impl<'a> Sealed<'a> {
    fn push(&mut self, number: usize, carrier: Carrier, request: PendingNts<'a>) {
        self.numbers.push(number);
        self.carriers.push(carrier);
        self.pending.push(request);
    }

    /// Adds their answers to those that leave with them.
    fn finish(
        mut self,
        answers: &mut ArrayVec<Answer, BATCH_REQUESTS>,
        responder: &mut Responder,
        published: &Published<'_>,
        outside: &mut Outside,
    ) {
        let before = |number: usize| answers.iter().filter(|answer| answer.number < number).count();
        outside.begin_sealing(&self.numbers, before, answers.len());
        let finished = responder.finish(&mut self.pending, published, outside);
        outside.end_sealing();
        for ((number, carrier), (verdict, follow_up)) in
            self.numbers.into_iter().zip(self.carriers).zip(finished)
        {
            if let Verdict::Respond { octets, kind } = verdict {
                let octets = carrier.prefix_octets() + octets;
                answers.push(Answer { number, octets, kind, carrier, follow_up });
            }
        }
    }
}

/// A request, out of what it was carried in; `None` for one that is not looked at.
fn open<'a>(
    request: &BatchedRequest<'a>,
    now: ClockReading,
    ptp_domain: Option<u8>,
    responder: &mut Responder,
    stats: &mut ServingStats,
) -> Option<Carried<'a>> {
    if request.truncated {
        stats.oversized += 1;
        return None;
    }
    if is_late(&request.received, now) {
        responder.refuse(SilenceReason::Late);
        return None;
    }
    let carried = Carrier::open(ptp_domain, request.octets);
    carried.inspect_err(|_| responder.refuse(SilenceReason::PtpMalformed)).ok()
}

/// When it came, and what is known of its way.
fn arrival(
    request: &BatchedRequest<'_>,
    carried: &Carried<'_>,
    mono: MonoTime,
    outside: &Outside,
    stats: &mut ServingStats,
) -> Arrival {
    let (received, duration) = outside.received(request);
    stats.kernel_timestamps += u64::from(received.source != TimestampSource::Daemon);
    stats.card_timestamps += u64::from(received.source == TimestampSource::Hardware);
    // Of a card's stamp it is known by how much it was moved; the others are of no such precision.
    let correction = duration.filter(|_| carried.by != Carrier::Udp);
    let correction = correction.map(|duration| duration + carried.correction);
    let received = received.at.system.timestamp();
    Arrival { correction, ..Arrival::new(request.from.ip(), received, mono) }
}

/// Whether a request waited for too long, as after a stop of the whole machine or when its queue was larger than what is
/// answered in that time. Only the kernel knows when it came.
fn is_late(received: &Timestamped, now: ClockReading) -> bool {
    let waited = now.system - received.at.system;
    received.source != TimestampSource::Daemon && waited > LATENESS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_late_after_a_tenth_of_a_second_by_the_kernels_stamp() {
        let at = |millis: i64| {
            let system = chime_time::NtpDate::from_unix(1_800_000_000, 0)
                + NtpDuration::from_nanos(millis * 1_000_000);
            ClockReading { mono: MonoTime::ZERO, system }
        };
        let stamp = |millis, source| Timestamped { at: at(millis), source };
        for (came, now, late) in [(0, 0, false), (0, 100, false), (0, 101, true), (50, 0, false)] {
            assert_eq!(is_late(&stamp(came, TimestampSource::Kernel), at(now)), late, "{came} {now}");
            assert!(!is_late(&stamp(came, TimestampSource::Daemon), at(now)));
        }
    }
}
