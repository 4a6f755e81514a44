//! What the exchange fields of an answer are good for: a server's corrections told apart from our clock's errors, and the time
//! that packets spent in switches taken out of a measurement.
//!
//! A server that sets its clock, or slews it by what it believes to be wrong, moves its time for all its clients, and each of
//! them would take that for an error of its own clock's frequency until it has measured for long enough. With its receive
//! timestamps on a scale that it never sets, a client knows by how much it was moved, and moves what it knows along: the
//! frequency is handed down a chain of servers as fast as the time is.

use chime_time::{NtpDate, NtpDuration, NtpTimestamp};
use chime_wire::MonotonicReceive;

/// Corrections beyond this are no corrections of a clock that was right before, but a new beginning; leap seconds are among them.
const CORRECTION_MAX: f64 = 0.5;
/// Corrections of servers beyond this are not believed.
const SERVER_CORRECTION_MAX: NtpDuration = NtpDuration::from_seconds(16);
/// Transparent clocks may run fast by this share: so much of what they report is left in the delay.
const TRANSPARENT_CLOCK_ERROR: f64 = 100e-6;

/// Our own scale without corrections of phase.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct OwnScale {
    /// What is to be added to our best time.
    pub(crate) offset: NtpDuration,
    /// Its number.
    pub(crate) epoch: u32,
    /// Corrections that are not yet in the offset, seconds; positive: forward.
    moved: f64,
}

impl OwnScale {
    /// A scale with a number of its own: no two runs of a host begin within the same microseconds.
    pub(crate) const fn begun_at(now: NtpDate) -> Self {
        let [_, _, high, low, first, second, ..] = now.timestamp().to_be_bytes();
        Self::new(u32::from_be_bytes([high, low, first, second]))
    }

    const fn new(epoch: u32) -> Self {
        Self { offset: NtpDuration::ZERO, epoch, moved: 0.0 }
    }

    /// Our best time was moved forward by so many seconds.
    pub(crate) const fn note(&mut self, by: f64) {
        self.moved += by;
    }

    /// Nothing is known of where our time is on the scale any more.
    pub(crate) const fn break_off(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Takes over what was noted.
    pub(crate) fn settle(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        self.offset -= NtpDuration::from_secs_f64(moved);
        if moved.abs() > CORRECTION_MAX {
            self.break_off();
        }
    }
}

/// The last that a server said of its scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct ServerScale {
    epoch: u32,
    receive: NtpTimestamp,
    monotonic: NtpTimestamp,
}

impl ServerScale {
    /// Takes over what an authentic answer says whose receive timestamp is `receive`; gives by how much the server's time was
    /// moved forward since the one before.
    pub(crate) fn hear(
        before: &mut Option<Self>,
        receive: NtpTimestamp,
        said: Option<MonotonicReceive>,
    ) -> NtpDuration {
        let said = said.filter(|said| !said.receive.is_zero());
        let now = said.map(|said| Self { epoch: said.epoch, receive, monotonic: said.receive });
        let (Some(before), Some(now)) = (std::mem::replace(before, now), now) else {
            return NtpDuration::ZERO;
        };
        if before.epoch != now.epoch {
            return NtpDuration::ZERO;
        }
        let moved = (now.receive - before.receive) - (now.monotonic - before.monotonic);
        if moved.abs() > SERVER_CORRECTION_MAX { NtpDuration::ZERO } else { moved }
    }
}

/// For how long transparent clocks held the two packets of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// Ours.
    pub(crate) there: NtpDuration,
    /// The answer.
    pub(crate) back: NtpDuration,
}

impl Held {
    /// What is to be added to the offset and taken off the delay (seconds); `None` when that cannot be, as what they say is not
    /// authenticated.
    pub(crate) fn corrections(self, delay: NtpDuration) -> Option<(NtpDuration, NtpDuration)> {
        if self.there <= NtpDuration::ZERO || self.back <= NtpDuration::ZERO {
            return None;
        }
        let sum = (self.there + self.back).as_secs_f64() * (1.0 - TRANSPARENT_CLOCK_ERROR);
        let sum = NtpDuration::from_secs_f64(sum);
        (sum <= delay).then(|| ((self.back - self.there).half(), sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(monotonic: u64, epoch: u32) -> Option<MonotonicReceive> {
        let receive = NtpTimestamp::from_bits(monotonic << 32);
        Some(MonotonicReceive { receive, epoch, ..MonotonicReceive::default() })
    }

    #[test]
    fn a_servers_correction_is_what_its_two_scales_differ_by() {
        let mut scale = None;
        let mut hear = |receive: u64, said| {
            ServerScale::hear(&mut scale, NtpTimestamp::from_bits(receive << 32), said).as_secs_f64()
        };
        assert_eq!(hear(1000, said(2000, 7)), 0.0, "nothing to compare with");
        assert_eq!(hear(1064, said(2064, 7)), 0.0);
        assert_eq!(hear(1130, said(2128, 7)), 2.0, "set forward by two seconds");
        assert_eq!(hear(1192, said(2192, 7)), -2.0);
        assert_eq!(hear(1256, said(2250, 8)), 0.0, "another scale");
        assert_eq!(hear(1320, None), 0.0);
        assert_eq!(hear(1384, said(2300, 8)), 0.0, "there was none before");
        assert_eq!(hear(1448, said(2347, 8)), 0.0, "too much to be believed");
        assert_eq!(hear(1464, said(0, 8)), 0.0, "not known");
    }

    #[test]
    fn our_scale_takes_corrections_back_and_begins_anew_after_great_ones() {
        let mut scale = OwnScale::new(5);
        scale.note(0.3);
        scale.note(-0.1);
        scale.settle();
        assert!((scale.offset.as_secs_f64() + 0.2).abs() < 1e-9 && scale.epoch == 5);
        scale.settle();
        assert!((scale.offset.as_secs_f64() + 0.2).abs() < 1e-9, "once");
        // A leap second: back by one second.
        scale.note(-1.0);
        scale.settle();
        assert!((scale.offset.as_secs_f64() - 0.8).abs() < 1e-9 && scale.epoch == 6);
    }

    #[test]
    fn what_transparent_clocks_say_is_taken_off_if_it_can_be_true() {
        let micros = |n: i64| NtpDuration::from_nanos(n * 1000);
        let held = |there, back| Held { there: micros(there), back: micros(back) };
        let (offset, delay) = held(100, 300).corrections(micros(500)).expect("it is less than the delay");
        assert!((offset - micros(100)).abs() < NtpDuration::from_nanos(1));
        assert!((delay.as_secs_f64() - 400e-6 * 0.9999).abs() < 1e-9);
        for wrong in [held(0, 300), held(300, 0), held(-1, 300), held(300, 300)] {
            assert_eq!(wrong.corrections(micros(500)), None, "{wrong:?}");
        }
    }
}
