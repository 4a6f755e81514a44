//! When answers will leave, foretold from how long it took with those before.
//!
//! An answer says when it left, but that is written before it does: it waits for the seals of others, and for those that
//! the same system call sends before it. Both take about as long as the last time, for as many answers.

use chime_time::NtpDuration;

/// Up to so many answers each number has a class of its own; more have one with all up to the next power of two.
const SMALL: usize = 8;
/// The others are up to 16, 32 and 64.
const CLASSES: usize = SMALL + 3;
/// No answer is foretold to leave later than this: whatever stopped the machine for so long does not come every time.
const EACH_MAX: NtpDuration = NtpDuration::from_nanos(100_000);
/// Of a system call that sends one answer, the part until the kernel has passed it on.
const PASSED_ON_PERCENT: i64 = 50;

/// What was learnt of one worker's socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Departures {
    /// From one answer to the next in a system call that sends so many.
    each: [Usual; CLASSES],
    /// From the reading of the clock that so many sealed answers have to their being sent.
    sealing: [Usual; CLASSES],
}

impl Departures {
    /// From the begin of a system call that sends `count` answers until number `index` of them leaves.
    pub(super) fn after_sending_begins(&self, index: usize, count: usize) -> NtpDuration {
        let each = value(&self.each, count);
        each * small(index) + each * PASSED_ON_PERCENT / 100
    }

    /// From the reading of the clock that `sealed` answers have in common until number `index` of all `count` answers that
    /// are sent together leaves.
    pub(super) fn after_clock(&self, sealed: usize, index: usize, count: usize) -> NtpDuration {
        value(&self.sealing, sealed) + self.after_sending_begins(index, count)
    }

    /// Sending `count` answers took so long.
    pub(super) fn sent(&mut self, count: usize, took: NtpDuration) {
        if count > 0 {
            self.each[class(count)].add(took / small(count));
        }
    }

    /// From the reading of the clock that `count` sealed answers have in common until they were sent it took so long.
    pub(super) fn sealed(&mut self, count: usize, took: NtpDuration) {
        self.sealing[class(count)].add(took);
    }
}

/// What is known of so many answers, or of the next larger number of them: of those each takes less.
fn value(classes: &[Usual; CLASSES], count: usize) -> NtpDuration {
    let known = classes[class(count)..].iter().find_map(|usual| usual.value());
    known.unwrap_or(NtpDuration::ZERO)
}

fn class(count: usize) -> usize {
    match count.clamp(1, 64) {
        count @ ..=SMALL => count - 1,
        9..=16 => SMALL,
        17..=32 => SMALL + 1,
        _ => SMALL + 2,
    }
}

fn small(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What three in four values lately were longer than: an answer that leaves after the time that it tells looks to have been
/// long on its way; one that seemed to leave later could look to have arrived before. It moves by small steps, so that an
/// interruption counts no more than any other value does. Of the first ones it is the least, and told when there are enough.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    value: NtpDuration,
    /// How many values came, up to [`VALUES_MIN`].
    values: usize,
}

const VALUES_MIN: usize = 8;

impl Usual {
    fn value(&self) -> Option<NtpDuration> {
        (self.values == VALUES_MIN).then_some(self.value)
    }

    fn add(&mut self, value: NtpDuration) {
        // The clock may have been stepped meanwhile.
        let value = value.clamp(NtpDuration::ZERO, EACH_MAX);
        if self.values < VALUES_MIN {
            self.value = if self.values == 0 { value } else { self.value.min(value) };
            self.values += 1;
        } else {
            let step = self.value / 64 + NtpDuration::from_nanos(5);
            self.value += (value - self.value).clamp(-step * 3, step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: i64) -> NtpDuration {
        NtpDuration::from_nanos(micros * 1000)
    }

    fn is_near(value: NtpDuration, expected: NtpDuration) -> bool {
        (value - expected).to_nanos().abs() <= expected.to_nanos() / 10
    }

    #[test]
    fn answers_leave_one_after_the_other_as_those_before_did() {
        let mut departures = Departures::default();
        departures.sent(8, micros(16));
        assert_eq!(departures.after_clock(8, 5, 8), NtpDuration::ZERO, "too little is known yet");
        for _ in 0..100 {
            departures.sent(8, micros(16));
            departures.sealed(8, micros(3));
            departures.sent(1, micros(5));
        }
        assert!(is_near(departures.after_sending_begins(0, 8), micros(1)));
        assert!(is_near(departures.after_sending_begins(6, 8), micros(13)));
        assert!(is_near(departures.after_clock(8, 6, 8), micros(16)));
        assert!(is_near(departures.after_sending_begins(0, 1), NtpDuration::from_nanos(2500)));
        assert!(is_near(departures.after_sending_begins(1, 4), micros(3)), "as with the next larger number");
        assert_eq!(departures.after_sending_begins(1, 9), NtpDuration::ZERO);
    }

    #[test]
    fn what_three_in_four_take_longer_than_is_followed() {
        let mut departures = Departures::default();
        for micros in (0..8000).map(|number| number * 37 % 100) {
            departures.sent(1, NtpDuration::from_nanos(micros * 1000));
        }
        let foretold = departures.after_sending_begins(0, 1);
        assert!(foretold > micros(8) && foretold < micros(17), "{foretold:?}");
    }

    #[test]
    fn interruptions_and_steps_of_the_clock_hardly_count() {
        let mut departures = Departures::default();
        for number in 0..2000 {
            let took = match number % 20 {
                3 => NtpDuration::from_seconds(-7),
                7 => NtpDuration::from_seconds(3600),
                _ => micros(20),
            };
            departures.sent(10, took);
        }
        assert!(is_near(departures.after_sending_begins(9, 10), micros(19)));
    }

    #[test]
    fn any_number_of_answers_has_a_class() {
        assert_eq!([0, 1, 2, 8, 9, 16, 17, 64, 65, usize::MAX].map(class), [0, 0, 1, 7, 8, 8, 9, 10, 10, 10]);
        Departures::default().sent(0, micros(1));
    }
}
