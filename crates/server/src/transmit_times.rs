//! When answers really left, for clients in interleaved mode. RFC 9769 §2.
//!
//! This is the one thing that a server must remember of its clients. It remembers only those who ask for it, in a table of
//! fixed size without owners or locks: whoever is pushed out by others is answered in basic mode once.

use chime_time::NtpTimestamp;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Answers that are remembered: more than a thousand a second during the shortest usual interval, 16 s. A mebibyte, of
/// which only what is used is ever touched.
const ANSWERS: usize = 1 << 16;

/// One answer to one client, as the table knows it: a keyed hash of both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnswerMark(u64);

/// A transmit timestamp, and the same mixed with the mark of its answer.
///
/// Several threads write without a lock. If two write to one place at the same time, the two halves do not fit each other
/// and nobody finds either.
#[derive(Debug, Default)]
struct Place {
    transmit: AtomicU64,
    check: AtomicU64,
}

/// The transmit timestamps of the latest answers; shared by all workers, as a client asks from another port each time and
/// the kernel deals by ports.
#[derive(Debug)]
pub struct TransmitTimes {
    places: Box<[Place]>,
    hash_key: [u64; 2],
}

impl TransmitTimes {
    /// Remembers nothing yet. `hash_key` is secret and random, so that nobody can choose whom to push out.
    #[must_use]
    pub fn new(hash_key: [u64; 2]) -> Self {
        Self { places: (0..ANSWERS).map(|_| Place::default()).collect(), hash_key }
    }

    /// The mark of the answer to `client` with this receive timestamp.
    #[must_use]
    pub fn mark(&self, client: IpAddr, receive: NtpTimestamp) -> AnswerMark {
        let address = match client {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (high, low) = ((address >> 64) as u64, address as u64);
        let mut hash = fold(receive.to_bits() ^ self.hash_key[0], 0x9e37_79b9_7f4a_7c15);
        hash = fold(hash ^ low ^ self.hash_key[1], self.hash_key[0] | 1);
        AnswerMark(fold(hash ^ high, self.hash_key[1] | 1))
    }

    /// When the answer left, if that is remembered.
    #[must_use]
    pub fn find(&self, mark: AnswerMark) -> Option<NtpTimestamp> {
        let place = self.place(mark);
        let transmit = place.transmit.load(Ordering::Relaxed);
        let check = place.check.load(Ordering::Relaxed);
        (transmit != 0 && transmit ^ check == mark.0).then(|| NtpTimestamp::from_bits(transmit))
    }

    /// Notes when an answer left; a later note about the same answer goes before an earlier one.
    pub fn note(&self, mark: AnswerMark, transmit: NtpTimestamp) {
        let place = self.place(mark);
        place.transmit.store(transmit.to_bits(), Ordering::Relaxed);
        place.check.store(transmit.to_bits() ^ mark.0, Ordering::Relaxed);
    }

    fn place(&self, mark: AnswerMark) -> &Place {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let index = mark.0 as usize % ANSWERS;
        &self.places[index]
    }
}

/// Folded multiplication: each bit of the result depends on each bit of both.
const fn fold(one: u64, other: u64) -> u64 {
    let product = one as u128 * other as u128;
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (high, low) = ((product >> 64) as u64, product as u64);
    high ^ low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(bits: u64) -> NtpTimestamp {
        NtpTimestamp::from_bits(bits)
    }

    fn client(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn an_answer_is_found_by_its_client_and_its_receive_timestamp_only() {
        let times = TransmitTimes::new([1, 2]);
        let mark = times.mark(client(1), stamp(1000));
        assert_eq!(times.find(mark), None);
        times.note(mark, stamp(1007));
        assert_eq!(times.find(mark), Some(stamp(1007)));
        times.note(mark, stamp(1008));
        assert_eq!(times.find(mark), Some(stamp(1008)));
        assert_eq!(times.find(times.mark(client(2), stamp(1000))), None);
        assert_eq!(times.find(times.mark(client(1), stamp(1001))), None);
        let v6 = "2001:db8::1".parse().expect("an address");
        assert_eq!(times.find(times.mark(v6, stamp(1000))), None);
    }

    #[test]
    fn what_is_pushed_out_is_not_taken_for_another() {
        let times = TransmitTimes::new([3, 4]);
        for number in 1..=4 * ANSWERS as u64 {
            times.note(times.mark(client(1), stamp(number)), stamp(number + 7));
        }
        let found = (1..=4 * ANSWERS as u64)
            .filter_map(|number| Some((number, times.find(times.mark(client(1), stamp(number)))?)))
            .inspect(|(number, transmit)| assert_eq!(*transmit, stamp(number + 7)))
            .count();
        assert!((ANSWERS / 2..=ANSWERS).contains(&found), "{found}");
    }

    #[test]
    fn halves_that_do_not_fit_are_nothing() {
        let times = TransmitTimes::new([5, 6]);
        let mark = times.mark(client(1), stamp(1));
        times.note(mark, stamp(2));
        times.place(mark).transmit.store(3, Ordering::Relaxed);
        assert_eq!(times.find(mark), None);
    }
}
