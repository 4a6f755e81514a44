//! A hardware clock that stamps pulses: its time need not be right, as its stamps are made ours by readings of both clocks.

use chime_discipline::{CardClock, CardReading, CardSettings};
use chime_engine::Reading;
use chime_sys::pulse_input::{PulseInput, PulseStamp};
use chime_time::{Frequency, NtpDate, NtpDuration};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The device.
pub(super) trait StampPulses: std::fmt::Debug {
    /// What is readable when there are stamps.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Reads the clock so many times, next to the system clock.
    fn read(&self, count: usize) -> io::Result<Vec<CardReading>>;

    /// The stamps that wait, of any channel.
    fn stamps(&self) -> io::Result<Vec<PulseStamp>>;
}

impl StampPulses for PulseInput {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn read(&self, count: usize) -> io::Result<Vec<CardReading>> {
        let readings = self.clock().read(count)?.into_iter();
        Ok(readings
            .map(|one| CardReading { before: one.before, card: one.hardware, after: one.after })
            .collect())
    }

    fn stamps(&self) -> io::Result<Vec<PulseStamp>> {
        Self::stamps(self)
    }
}

/// A clock whose pulses are followed.
#[derive(Debug)]
pub(super) struct PulseStamper {
    device: Box<dyn StampPulses>,
    /// Which of several with the same device are told of each other's stamps.
    path: String,
    channel: u32,
    relation: CardClock,
    last: Option<NtpDate>,
    /// Pulses that were found by another that has the same device.
    found: Vec<Reading>,
}

/// Readings that nobody takes are of a clock that is not asked any more.
const FOUND_MAX: usize = 64;

impl PulseStamper {
    /// `precision`: how well a pair of readings is one instant, seconds.
    pub(super) fn new(
        device: Box<dyn StampPulses>,
        (path, channel): (&str, u32),
        precision: Option<f64>,
    ) -> Self {
        let usual = CardSettings::default();
        let settings = CardSettings { precision: precision.unwrap_or(usual.precision), ..usual };
        let (relation, path) = (CardClock::new(settings), path.to_owned());
        Self { device, path, channel, relation, last: None, found: Vec::new() }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.device.descriptor()
    }

    /// Compares the two clocks, and gives the pulses that others have found meanwhile.
    ///
    /// # Errors
    /// When the clock cannot be read.
    pub(super) fn poll(&mut self, count: usize) -> io::Result<Vec<Reading>> {
        let _verdict = self.relation.add(&self.device.read(count)?);
        Ok(std::mem::take(&mut self.found))
    }

    /// The stamps that wait, and the device that they are of; each is to be told to all who have that device.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub(super) fn stamps(&self) -> io::Result<(String, Vec<PulseStamp>)> {
        Ok((self.path.clone(), self.device.stamps()?))
    }

    /// Takes note of a stamp of the device with this path. Before the clocks were compared often enough it says nothing.
    pub(super) fn note(&mut self, path: &str, stamp: PulseStamp) {
        // Each who has the device open may be given the same one.
        if path != self.path || stamp.channel != self.channel || self.last.replace(stamp.at) == Some(stamp.at)
        {
            return;
        }
        if let Some(line) = self.relation.line().filter(|_| self.found.len() < FOUND_MAX) {
            self.found.push(Reading::pulse(line.system_at(stamp.at)));
        }
    }

    /// The pulses that were noted.
    pub(super) fn take(&mut self) -> Vec<Reading> {
        std::mem::take(&mut self.found)
    }

    /// We stepped the system clock.
    pub(super) fn system_stepped(&mut self, by: NtpDuration) {
        self.relation.system_stepped(by);
    }

    /// The system clock, which showed `at` when it happened, runs at another frequency now.
    pub(super) fn system_frequency_changed(&mut self, at: NtpDate, from: Frequency, to: Frequency) {
        self.relation.system_frequency_changed(at, from, to);
    }

    /// Somebody else moved the system clock.
    pub(super) fn forget(&mut self) {
        self.relation.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::ReadingKind;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A clock that is 1000 s ahead and 100 ppm fast.
    #[derive(Debug, Default)]
    struct Simulated {
        now: RefCell<f64>,
        stamps: RefCell<Vec<PulseStamp>>,
    }

    const START: i64 = 1_800_000_000;

    fn system(seconds: f64) -> NtpDate {
        NtpDate::from_unix(START, 0) + NtpDuration::from_secs_f64(seconds)
    }

    fn hardware(seconds: f64) -> NtpDate {
        system(1000.0 + seconds * (1.0 + 1e-4))
    }

    impl StampPulses for Rc<Simulated> {
        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn read(&self, count: usize) -> io::Result<Vec<CardReading>> {
            let now = *self.now.borrow();
            let one =
                CardReading { before: system(now - 1e-6), card: hardware(now), after: system(now + 1e-6) };
            Ok(vec![one; count])
        }

        fn stamps(&self) -> io::Result<Vec<PulseStamp>> {
            Ok(std::mem::take(&mut self.stamps.borrow_mut()))
        }
    }

    fn pulse_offset(reading: &Reading) -> f64 {
        match reading.kind {
            ReadingKind::Pulse(offset) => offset.as_secs_f64(),
            other => panic!("{other:?}"),
        }
    }

    fn take(stamper: &mut PulseStamper) -> Vec<Reading> {
        let (path, stamps) = stamper.stamps().expect("stamps");
        stamps.into_iter().for_each(|stamp| stamper.note(&path, stamp));
        stamper.take()
    }

    #[test]
    fn a_pulse_is_placed_in_our_time_whatever_the_clock_shows() {
        let device = Rc::new(Simulated::default());
        let mut stamper = PulseStamper::new(Box::new(device.clone()), ("/dev/ptp0", 1), None);
        let stamp = |seconds: f64, channel| PulseStamp { at: hardware(seconds), channel };
        device.stamps.borrow_mut().push(stamp(0.25, 1));
        assert!(take(&mut stamper).is_empty(), "the clocks were not compared yet");
        for second in 0..10 {
            *device.now.borrow_mut() = f64::from(second);
            assert!(stamper.poll(5).expect("a reading").is_empty());
        }
        // Our clock is 0.2 s ahead of the pulses; the same stamp comes twice, and others of another channel.
        device.stamps.borrow_mut().extend([stamp(9.2, 1), stamp(9.2, 1), stamp(9.5, 0)]);
        let readings = take(&mut stamper);
        assert_eq!(readings.len(), 1);
        assert!((pulse_offset(&readings[0]) + 0.2).abs() < 1e-7, "{readings:?}");
        // After a step of ours it is where it was.
        stamper.system_stepped(NtpDuration::from_secs_f64(-0.2));
        device.stamps.borrow_mut().push(stamp(9.2 + 1.0, 1));
        let offset = pulse_offset(&take(&mut stamper)[0]);
        assert!(offset.abs() < 1e-7 || (offset + 1.0).abs() < 1e-7, "{offset}");
    }

    #[test]
    fn stamps_that_another_took_from_the_queue_are_given_at_the_next_poll() {
        let device = Rc::new(Simulated::default());
        let mut stamper = PulseStamper::new(Box::new(device.clone()), ("/dev/ptp0", 0), None);
        for second in 0..3 {
            *device.now.borrow_mut() = f64::from(second);
            stamper.poll(5).expect("a reading");
        }
        let stamp = PulseStamp { at: hardware(2.5), channel: 0 };
        stamper.note("/dev/ptp1", stamp);
        assert!(stamper.poll(5).expect("a reading").is_empty(), "of another device");
        stamper.note("/dev/ptp0", stamp);
        assert_eq!(stamper.poll(5).expect("a reading").len(), 1);
        for number in 0..1000 {
            stamper.note("/dev/ptp0", PulseStamp { at: hardware(f64::from(number)), channel: 0 });
        }
        assert_eq!(stamper.take().len(), FOUND_MAX);
    }
}
