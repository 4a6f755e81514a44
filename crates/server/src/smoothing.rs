//! Smoothing of the served time: clients follow a clock that never jumps and whose rate changes slowly, whatever ours does.
//!
//! What is served differs from our best time by an offset. When our clock is corrected, the offset and its rate take that
//! up, so that the served time goes on as it was; then they are worked off as fast as two limits allow: the greatest rate,
//! and how fast the rate may change. That is a parabola towards the greatest rate, a straight line, and a parabola back
//! to zero.
//!
//! Signs: an *offset* is served minus ours; positive means that what is served is ahead. A *rate* is its change.

use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration};

/// Corrections smaller than this are put together until there is an update of the clock, seconds.
const FORWARD_MIN: f64 = 1e-6;
/// The same for its frequency, s per s.
const FASTER_MIN: f64 = 1e-9;
/// It begins when the skew (ppm) is below so many times the limit of the rate's change (ppm per second): then most of what
/// is still to be learnt of the frequency can be smoothed. chrony's.
const SKEW_FACTOR: f64 = 1e4;

/// The limits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SmoothingSettings {
    /// The greatest rate, s per s.
    pub rate_max: f64,
    /// How fast it may change, per second.
    pub change: f64,
}

/// A time during which the rate changes evenly.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Stage {
    seconds: f64,
    change: f64,
}

/// The offset and its rate at one instant.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct SmoothingPoint {
    /// Seconds; positive: what is served is ahead.
    pub offset: f64,
    /// Seconds per second.
    pub rate: f64,
    /// Per second.
    pub change: f64,
}

/// How an offset is worked off: small and without references, for those who answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SmoothingCourse {
    at: MonoTime,
    /// Seconds of our best time in one of the monotonic clock: while our clock is slewed they differ.
    pace: f64,
    start: SmoothingPoint,
    stages: [Stage; 3],
}

impl SmoothingCourse {
    /// From `offset` and `rate` at `at` to zero, as fast as the limits allow.
    #[must_use]
    pub fn new(settings: SmoothingSettings, at: MonoTime, offset: f64, rate: f64) -> Self {
        let start = SmoothingPoint { offset, rate, change: 0.0 };
        Self { at, pace: 1.0, start, stages: stages(settings, offset, rate) }
    }

    /// The same where so many seconds pass in one of the monotonic clock.
    #[must_use]
    const fn paced(self, pace: f64) -> Self {
        Self { pace, ..self }
    }

    /// Where it is at `now`; before its beginning, and after its end, as then.
    #[must_use]
    pub fn at(&self, now: MonoTime) -> SmoothingPoint {
        let mut left = self.elapsed(now);
        let SmoothingPoint { mut offset, mut rate, .. } = self.start;
        for stage in self.stages {
            let seconds = left.min(stage.seconds);
            offset += rate * seconds + stage.change * seconds * seconds / 2.0;
            rate += stage.change * seconds;
            if left < stage.seconds {
                return SmoothingPoint { offset, rate, change: stage.change };
            }
            left -= seconds;
        }
        SmoothingPoint::default()
    }

    /// How long it goes on, seconds.
    #[must_use]
    pub fn remaining(&self, now: MonoTime) -> f64 {
        let all: f64 = self.stages.iter().map(|stage| stage.seconds).sum();
        (all - self.elapsed(now)).max(0.0)
    }

    /// How long it goes on already, seconds.
    #[must_use]
    pub fn elapsed(&self, now: MonoTime) -> f64 {
        self.pace * now.seconds_since(self.at).max(0.0)
    }
}

/// The stages that bring an offset and a rate to zero at once.
///
/// Mirrored so that the offset would be positive if the rate went to zero first: then the rate has to become negative, -v.
/// With the limit w of its change, getting from the rate r to -v moves the offset by (r² - v²) / 2w, and from -v to 0 by
/// -v² / 2w. So v² = w·x + r²/2, or what is lacking at the greatest rate is made up for at that rate.
fn stages(settings: SmoothingSettings, offset: f64, rate: f64) -> [Stage; 3] {
    let SmoothingSettings { rate_max, change } = settings;
    let stopped = offset + rate * rate.abs() / (2.0 * change);
    let sign = if stopped < 0.0 { -1.0 } else { 1.0 };
    let (offset, rate) = (sign * offset, sign * rate);
    let peak = (change * offset + rate * rate / 2.0).max(0.0).sqrt().min(rate_max);
    // A rate beyond the limit is slowed down to it first.
    let first = if -rate > peak { change } else { -change };
    let seconds = (rate + peak).abs() / change;
    let moved = (peak * peak - rate * rate) / (2.0 * first) - peak * peak / (2.0 * change);
    let level = if peak > 0.0 { ((offset + moved) / peak).max(0.0) } else { 0.0 };
    [
        Stage { seconds, change: sign * first },
        Stage { seconds: level, change: 0.0 },
        Stage { seconds: peak / change, change: sign * change },
    ]
}

/// The best time that is known, and how it goes on while nothing new is known.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BestTime {
    /// The clocks.
    pub now: ClockReading,
    /// What is still to be added to the system clock, seconds.
    pub correction: f64,
    /// How fast that changes, seconds per second of the monotonic clock.
    pub correction_rate: f64,
}

impl BestTime {
    /// By how much it is ahead of where `last` would be by now, seconds. The monotonic clock makes no steps and runs as the
    /// system clock does.
    #[must_use]
    pub fn gone_forward(&self, last: &Self) -> f64 {
        let base = |time: &Self| -> NtpDate {
            let nanos = i64::try_from(time.now.mono.as_nanos()).unwrap_or(i64::MAX);
            time.now.system - NtpDuration::from_nanos(nanos) + NtpDuration::from_secs_f64(time.correction)
        };
        let passed = self.now.mono.seconds_since(last.now.mono);
        (base(self) - base(last)).as_secs_f64() - last.correction_rate * passed
    }
}

/// What a clock is like that is served.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SmoothedClock {
    /// Its time.
    pub best: BestTime,
    /// The frequency that is thought to be right, s per s.
    pub frequency: f64,
    /// How sure that is, s per s.
    pub skew: f64,
    /// Updates of the clock so far.
    pub updates: u64,
    /// Steps of the clock so far. Whoever is served a clock that is stepped sees the step.
    pub steps: u64,
    /// Whether it follows something.
    pub synchronized: bool,
    /// Whether it is about a leap second that is smeared: that is another's business.
    pub smears: bool,
}

/// The smoothing of a clock that is corrected now and then.
#[derive(Clone, Debug)]
pub struct Smoother {
    settings: SmoothingSettings,
    course: Option<SmoothingCourse>,
    last: Option<SmoothedClock>,
    /// What was not taken up yet: by how much the clock went forward, seconds, and how much faster it became.
    pending: (f64, f64),
}

impl Smoother {
    /// One that waits until the clock is known well enough.
    #[must_use]
    pub const fn new(settings: SmoothingSettings) -> Self {
        Self { settings, course: None, last: None, pending: (0.0, 0.0) }
    }

    /// What is served; `None`: our time as it is.
    #[must_use]
    pub const fn course(&self) -> Option<SmoothingCourse> {
        self.course
    }

    /// Begins now, if it has not yet; gives whether it did.
    pub fn activate(&mut self, now: MonoTime) -> bool {
        let begins = self.course.is_none();
        if begins {
            self.reset(now);
        }
        begins
    }

    /// Serves our time as it is from now on, and smooths what comes.
    pub fn reset(&mut self, now: MonoTime) {
        self.pending = (0.0, 0.0);
        self.course = Some(SmoothingCourse::new(self.settings, now, 0.0, 0.0));
    }

    /// The monotonic clock stood still: what is known of before cannot be compared.
    pub const fn forget(&mut self) {
        self.last = None;
    }

    /// Takes up what was done to the clock since this was last called; gives whether the smoothing began by that.
    pub fn follow(&mut self, clock: SmoothedClock) -> bool {
        let now = clock.best.now.mono;
        let last = self.last.replace(clock);
        if self.course.is_none() {
            return clock.synchronized
                && clock.skew < SKEW_FACTOR * self.settings.change
                && self.activate(now);
        }
        let Some(last) = last else { return false };
        if clock.steps == last.steps {
            let forward = clock.best.gone_forward(&last.best);
            // A leap second that is smeared is the smear's to make up for.
            let leap =
                if clock.smears && (0.5..1.5).contains(&forward.abs()) { forward.signum() } else { 0.0 };
            self.pending.0 += forward - leap;
            self.pending.1 += clock.frequency - last.frequency;
        }
        let (forward, faster) = self.pending;
        let pace = 1.0 + clock.best.correction_rate;
        let is_enough = forward.abs() >= FORWARD_MIN
            || faster.abs() >= FASTER_MIN
            || self.course.is_some_and(|course| course.pace != pace);
        if let Some(course) = self.course.filter(|_| clock.updates != last.updates || is_enough) {
            let point = course.at(now);
            let (offset, rate) = (point.offset - forward, point.rate - faster);
            self.course = Some(SmoothingCourse::new(self.settings, now, offset, rate).paced(pace));
            self.pending = (0.0, 0.0);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: SmoothingSettings = SmoothingSettings { rate_max: 400e-6, change: 10e-6 };

    fn at(seconds: f64) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(1000.0 + seconds)
    }

    fn course(offset: f64, rate: f64) -> SmoothingCourse {
        SmoothingCourse::new(SETTINGS, at(0.0), offset, rate)
    }

    #[test]
    fn a_tenth_of_a_second_takes_as_long_as_chronyd_takes_for_it() {
        let course = course(0.1, 0.0);
        // 40 s to 400 ppm, 210 s at that, 40 s back; chronyd says 290.0.
        assert!((course.remaining(at(0.0)) - 290.0).abs() < 1e-6);
        let point = course.at(at(1.366_143_8));
        assert!((point.offset - 0.099_990_67).abs() < 1e-8 && (point.rate + 13.661_438e-6).abs() < 1e-10);
        assert_eq!(point.change, -10e-6);
        assert!((course.at(at(100.0)).rate + 400e-6).abs() < 1e-12);
        assert!((course.at(at(260.0)).rate + 300e-6).abs() < 1e-12);
        assert_eq!(course.at(at(290.1)), SmoothingPoint::default());
        assert_eq!((course.remaining(at(300.0)), course.at(at(-5.0)).offset), (0.0, 0.1));
    }

    /// From any start to zero, within both limits, without a jump.
    #[test]
    fn every_course_ends_at_zero_and_keeps_the_limits() {
        let values = |scale: f64| [-1.0, -0.3, -0.01, 0.0, 0.02, 0.4, 1.0].map(|value| value * scale);
        for offset in values(0.3) {
            for rate in values(800e-6) {
                let course = course(offset, rate);
                let length = course.remaining(at(0.0));
                let steps = 20_000_u32;
                let mut last = course.at(at(0.0));
                let (mut worst, mut peak) = (0.0_f64, 0.0_f64);
                for step in 1..=steps {
                    let seconds = length * f64::from(step) / f64::from(steps);
                    let point = course.at(at(seconds));
                    let passed = length / f64::from(steps);
                    let limit = 10e-6 * passed * 1.01 + 1e-12;
                    assert!(
                        (point.rate - last.rate).abs() <= limit,
                        "{offset} {rate} at {seconds}: {point:?}"
                    );
                    worst = worst.max((point.offset - last.offset).abs() / passed.max(1e-9));
                    peak = peak.max(point.rate.abs());
                    last = point;
                }
                let allowed = rate.abs().max(400e-6) * 1.01 + 1e-9;
                assert!(worst <= allowed && peak <= allowed, "{offset} {rate}: {worst} {peak}");
                let end = course.at(at(length - 1e-9));
                assert!(end.offset.abs() < 1e-8 && end.rate.abs() < 1e-8, "{offset} {rate}: {end:?}");
            }
        }
    }

    #[test]
    fn no_other_way_is_shorter_than_the_two_parabolas() {
        // 1 ms at 10 ppm per second: 10 s down to -100 ppm, 10 s back.
        assert!((course(1e-3, 0.0).remaining(at(0.0)) - 20.0).abs() < 1e-9);
        // A rate that just ends at zero by itself.
        let alone = course(-50e-6 * 5.0 / 2.0, 50e-6);
        assert!((alone.remaining(at(0.0)) - 5.0).abs() < 1e-3, "{alone:?}");
    }

    fn clock(seconds: f64, correction: f64) -> SmoothedClock {
        let system = NtpDate::from_unix(1_795_000_000, 0) + NtpDuration::from_secs_f64(seconds);
        let now = ClockReading { mono: at(seconds), system };
        SmoothedClock {
            best: BestTime { now, correction, correction_rate: 0.0 },
            frequency: 0.0,
            skew: 1e-6,
            updates: 1,
            steps: 0,
            synchronized: true,
            smears: false,
        }
    }

    fn active() -> Smoother {
        let mut smoother = Smoother::new(SETTINGS);
        assert!(smoother.follow(clock(0.0, 0.0)));
        smoother
    }

    fn point(smoother: &Smoother, seconds: f64) -> SmoothingPoint {
        smoother.course().expect("it has begun").at(at(seconds))
    }

    #[test]
    fn it_begins_when_the_frequency_is_known_well_enough_or_when_told() {
        let limit = SKEW_FACTOR * SETTINGS.change;
        let mut smoother = Smoother::new(SETTINGS);
        assert!(!smoother.follow(SmoothedClock { skew: limit * 1.01, ..clock(0.0, 0.0) }));
        assert!(!smoother.follow(SmoothedClock { synchronized: false, ..clock(1.0, 0.0) }));
        assert!(!smoother.follow(SmoothedClock { skew: f64::NAN, ..clock(2.0, 0.0) }));
        assert_eq!(smoother.course(), None);
        assert!(smoother.follow(SmoothedClock { skew: limit * 0.99, ..clock(3.0, 5.0) }));
        assert_eq!(point(&smoother, 3.0), SmoothingPoint::default(), "what was before is not smoothed");
        let mut told = Smoother::new(SETTINGS);
        assert!(told.activate(at(0.0)) && !told.activate(at(1.0)));
    }

    #[test]
    fn a_correction_is_not_seen_and_worked_off() {
        let mut smoother = active();
        // The clock is found 0.1 s ahead: our best time goes back, and what is served does not.
        smoother.follow(SmoothedClock { updates: 2, ..clock(10.0, -0.1) });
        assert!((point(&smoother, 10.0).offset - 0.1).abs() < 1e-9);
        assert!(point(&smoother, 100.0).offset < 0.09);
        // While the slew goes on nothing is new, but that our best time passes faster than the monotonic clock.
        let slewing = |seconds: f64| {
            let clock = clock(seconds, -0.1 + 0.01 * (seconds - 10.0));
            SmoothedClock { updates: 2, best: BestTime { correction_rate: 0.01, ..clock.best }, ..clock }
        };
        let before = smoother.course();
        smoother.follow(slewing(10.0));
        smoother.follow(slewing(15.0));
        smoother.follow(slewing(18.0));
        let was = |seconds| before.expect("it has begun").at(at(seconds));
        let close = |a: SmoothingPoint, b: SmoothingPoint| (a.offset - b.offset).abs() < 1e-8;
        assert!(close(was(18.08), point(&smoother, 18.0)), "{:?}", point(&smoother, 18.0));
        assert!(!close(was(18.08), was(18.0)));
        // And when it is over, it does not.
        smoother.follow(SmoothedClock { updates: 2, ..clock(20.0, 0.0) });
        assert!(close(was(30.1), point(&smoother, 30.0)), "{:?}", point(&smoother, 30.0));
    }

    #[test]
    fn a_new_frequency_is_taken_up_slowly() {
        let mut smoother = active();
        smoother.follow(SmoothedClock { updates: 2, frequency: 20e-6, ..clock(10.0, 0.0) });
        let start = point(&smoother, 10.0);
        assert!((start.rate + 20e-6).abs() < 1e-12 && start.offset.abs() < 1e-9, "{start:?}");
        assert_eq!(point(&smoother, 100.0), SmoothingPoint::default());
    }

    #[test]
    fn steps_are_seen_at_once_and_suspensions_are_no_correction() {
        let mut smoother = active();
        let stepped = SmoothedClock { steps: 1, updates: 2, ..clock(10.0, -30.0) };
        smoother.follow(stepped);
        assert!(point(&smoother, 10.0).offset.abs() < 1e-9);
        smoother.forget();
        smoother.follow(SmoothedClock { steps: 1, updates: 3, ..clock(20.0, 5000.0) });
        assert!(point(&smoother, 20.0).offset.abs() < 1e-9);
        smoother.follow(SmoothedClock { steps: 1, updates: 4, ..clock(30.0, 5000.25) });
        assert!((point(&smoother, 30.0).offset + 0.25).abs() < 1e-9);
        smoother.reset(at(30.0));
        assert_eq!(point(&smoother, 30.0), SmoothingPoint::default());
    }

    #[test]
    fn a_leap_second_that_is_smeared_is_not_smoothed_too() {
        let mut smoother = active();
        smoother.follow(SmoothedClock { smears: true, ..clock(10.0, -1.001) });
        assert!((point(&smoother, 10.0).offset - 0.001).abs() < 1e-9);
        let mut unsmeared = active();
        unsmeared.follow(clock(10.0, -1.001));
        assert!((point(&unsmeared, 10.0).offset - 1.001).abs() < 1e-9);
    }

    #[test]
    fn what_is_too_small_waits_for_an_update_and_is_not_lost() {
        let mut smoother = active();
        let before = smoother.course();
        for tenth in 1..=5_u32 {
            smoother.follow(clock(f64::from(tenth), -1e-7 * f64::from(tenth)));
        }
        assert_eq!(smoother.course(), before);
        smoother.follow(SmoothedClock { updates: 2, ..clock(6.0, -6e-7) });
        assert!((point(&smoother, 6.0).offset - 6e-7).abs() < 1e-9);
    }
}
