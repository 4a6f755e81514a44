//! Leap smearing: a server spreads a leap second over hours, so that its clients need not know of any.
//!
//! The served time is a count without the leap second, less the share of it that is spread so far: it never jumps, and
//! runs a little slow (or fast) for a while. All good clocks pass the second at one instant somewhere in between, ours
//! too, so what is added to our clock jumps then, by as much and in the other direction.

use chime_time::{DAY_SECONDS, LeapSecond, MonoTime, NtpDate, NtpDuration, NtpTimestamp};
use std::f64::consts::PI;

/// A smear that begins late is not made shorter than this, seconds: clients can follow 1000 ppm.
const SECONDS_MIN: f64 = 1000.0;
/// A clock that differs by more than this from where it should be has passed the leap second; seconds.
const PASSED_DIFFERENCE: f64 = 0.5;
/// The window of a smear to come is known so long before it begins, seconds: whoever answers must have it by then.
const PREPARATION_SECONDS: f64 = 3600.0;

/// How fast the second is spread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SmearShape {
    /// At one rate.
    Linear,
    /// As half a period of a cosine: slowly at first and at the end.
    Cosine,
    /// The rate grows evenly, stays at its greatest, and falls evenly.
    Ramp {
        /// The greatest rate: seconds per second.
        rate_max: f64,
        /// How fast the rate changes: per second.
        change: f64,
    },
}

/// When the second is spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SmearPlace {
    /// Half of it before the leap second: never more than half a second from UTC.
    Around,
    /// It ends with the leap second.
    Before,
    /// It begins with the leap second.
    After,
}

/// What the operator wishes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SmearSettings {
    /// How fast.
    pub shape: SmearShape,
    /// How long, seconds; that of [`SmearShape::Ramp`] follows from its rates.
    pub seconds: f64,
    /// When.
    pub place: SmearPlace,
}

impl Default for SmearSettings {
    /// 24 hours from noon to noon at one rate, as large public servers do.
    fn default() -> Self {
        Self { shape: SmearShape::Linear, seconds: DAY_SECONDS as f64, place: SmearPlace::Around }
    }
}

impl SmearSettings {
    /// How long a smear takes, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        match self.shape {
            SmearShape::Linear | SmearShape::Cosine => self.seconds,
            SmearShape::Ramp { rate_max, change } => {
                let (rise, level) = ramp(rate_max, change);
                2.0 * rise + level
            }
        }
    }

    /// The smear of one leap second. `known_since`: Unix seconds, when it became known while we served already; what should
    /// be spread by then is not made up for with a jump: the rest of the time has to do for it.
    #[must_use]
    pub fn of(&self, leap: LeapSecond, known_since: Option<i64>) -> SmearWindow {
        let (length, midnight) = (self.seconds(), NtpDate::from_unix(leap.happens_at(), 0));
        let nominal = midnight
            - NtpDuration::from_secs_f64(match self.place {
                SmearPlace::Around => length / 2.0,
                SmearPlace::Before => length,
                SmearPlace::After => 0.0,
            });
        let late = known_since.map_or(0.0, |since| (NtpDate::from_unix(since, 0) - nominal).as_secs_f64());
        if late <= 0.0 {
            return SmearWindow { shape: self.shape, leap, start: nominal, seconds: length };
        }
        let start = nominal + NtpDuration::from_secs_f64(late);
        // The ramps' rates are the operator's limits: such a smear only ends later.
        let seconds = match self.shape {
            SmearShape::Ramp { .. } => length,
            SmearShape::Linear | SmearShape::Cosine => (length - late).max(SECONDS_MIN.min(length)),
        };
        SmearWindow { shape: self.shape, leap, start, seconds }
    }
}

/// Rise time and time at the greatest rate, seconds, of a ramp that spreads one second.
fn ramp(rate_max: f64, change: f64) -> (f64, f64) {
    let rise = rate_max / change;
    if rate_max * rise >= 1.0 {
        ((1.0 / change).sqrt(), 0.0)
    } else {
        (rise, (1.0 - rate_max * rise) / rate_max)
    }
}

/// When and how one leap second is smeared.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SmearWindow {
    shape: SmearShape,
    leap: LeapSecond,
    /// By a clock that does not pass the leap second.
    start: NtpDate,
    seconds: f64,
}

impl SmearWindow {
    /// The leap second.
    #[must_use]
    pub const fn leap(&self) -> LeapSecond {
        self.leap
    }

    /// When it begins, by a clock that does not pass the leap second.
    #[must_use]
    pub const fn start(&self) -> NtpDate {
        self.start
    }

    /// How long it takes, seconds.
    #[must_use]
    pub const fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Whether it is under way, or soon will be, when a clock that has or has not `passed` the leap second shows `date`.
    #[must_use]
    pub fn is_near(&self, date: NtpDate, passed: bool) -> bool {
        let elapsed = (self.counted_on(date, passed) - self.start).as_secs_f64();
        (-PREPARATION_SECONDS..self.seconds).contains(&elapsed)
    }

    /// What is published at `at`, when the system clock shows `system` and has or has not `passed` the leap second.
    #[must_use]
    pub fn smear(&self, at: MonoTime, system: NtpDate, passed: bool) -> Smear {
        Smear {
            shape: self.shape,
            start: self.start.timestamp(),
            seconds: self.seconds,
            step: self.leap.step_seconds() as f64,
            at,
            system: system.timestamp(),
            passed,
        }
    }

    fn counted_on(&self, date: NtpDate, passed: bool) -> NtpDate {
        if passed { date - NtpDuration::from_seconds(self.leap.step_seconds()) } else { date }
    }
}

/// A smear as those who answer need it: small and without references.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Smear {
    shape: SmearShape,
    start: NtpTimestamp,
    seconds: f64,
    /// What the leap second does to a clock: -1 or 1 s.
    step: f64,
    at: MonoTime,
    system: NtpTimestamp,
    passed: bool,
}

impl Smear {
    /// What is added to the time of our clock, seconds. `system` is the system clock as it was read at `now`, `corrected`
    /// the best estimate of the time then.
    ///
    /// Whether the system clock has passed the leap second since this was published is seen from the clock itself, as the
    /// kernel steps it between one answer and the next.
    #[must_use]
    pub fn offset(&self, system: NtpTimestamp, corrected: NtpTimestamp, now: MonoTime) -> f64 {
        let expected = self.system + NtpDuration::from_secs_f64(now.seconds_since(self.at));
        let difference = (system - expected).as_secs_f64();
        let passed = self.passed || difference * self.step > PASSED_DIFFERENCE;
        let not_passed = if passed { -self.step } else { 0.0 };
        let elapsed = (corrected - self.start).as_secs_f64() + not_passed;
        not_passed + self.step * self.share(elapsed)
    }

    /// How much of the second is spread after so many seconds: 0 to 1.
    fn share(&self, elapsed: f64) -> f64 {
        if elapsed <= 0.0 {
            return 0.0;
        }
        if elapsed >= self.seconds {
            return 1.0;
        }
        match self.shape {
            SmearShape::Linear => elapsed / self.seconds,
            SmearShape::Cosine => (1.0 - (PI * elapsed / self.seconds).cos()) / 2.0,
            SmearShape::Ramp { rate_max, change } => {
                let (rise, level) = ramp(rate_max, change);
                let rising = change * rise * rise / 2.0;
                let left = self.seconds - elapsed;
                if elapsed < rise {
                    change * elapsed * elapsed / 2.0
                } else if elapsed < rise + level {
                    rising + rate_max * (elapsed - rise)
                } else {
                    1.0 - change * left * left / 2.0
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: i64 = 1_483_228_800; // 1 January 2017
    const LEAP: LeapSecond = LeapSecond { midnight: MIDNIGHT, insert: true };
    const DELETED: LeapSecond = LeapSecond { midnight: MIDNIGHT, insert: false };

    fn date(seconds: f64) -> NtpDate {
        NtpDate::from_unix(MIDNIGHT, 0) + NtpDuration::from_secs_f64(seconds)
    }

    fn mono(seconds: f64) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(1e6 + seconds)
    }

    /// What is served at `counted` seconds from midnight, counted without the leap second, less that count. `published`:
    /// when the smear was, in the same count. The clock passes an inserted second at 0 and a deleted one at -1.
    fn served(window: &SmearWindow, published: f64, counted: f64) -> f64 {
        let step = window.leap.step_seconds() as f64;
        let passes = (window.leap.happens_at() - MIDNIGHT) as f64;
        let clock = |counted: f64| date(counted + if counted >= passes { step } else { 0.0 });
        let smear = window.smear(mono(published), clock(published), published >= passes);
        let system = clock(counted).timestamp();
        (clock(counted) - date(counted)).as_secs_f64() + smear.offset(system, system, mono(counted))
    }

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-6, "{value} and {expected}");
    }

    #[test]
    fn a_day_from_noon_to_noon_is_spread_evenly() {
        let window = SmearSettings::default().of(LEAP, None);
        for (counted, expected) in [
            (-43_201.0, 0.0),
            (-43_200.0, 0.0),
            (-21_600.0, -0.25),
            (0.0, -0.5),
            (21_600.0, -0.75),
            (43_200.0, -1.0),
            (90_000.0, -1.0),
        ] {
            near(served(&window, counted, counted), expected);
        }
        let window = SmearSettings::default().of(DELETED, None);
        near(served(&window, -1.0, -1.0), 0.5);
        near(served(&window, 50_000.0, 50_000.0), 1.0);
    }

    #[test]
    fn no_shape_at_no_place_jumps_or_runs_backwards() {
        let ramp = SmearShape::Ramp { rate_max: 4e-4, change: 1.024e-9 };
        let fast = SmearShape::Ramp { rate_max: 1e-4, change: 1e-7 };
        for shape in [SmearShape::Linear, SmearShape::Cosine, ramp, fast] {
            for place in [SmearPlace::Around, SmearPlace::Before, SmearPlace::After] {
                for leap in [LEAP, DELETED] {
                    let window = SmearSettings { shape, seconds: 20_000.0, place }.of(leap, None);
                    let mut last = served(&window, -100_000.0, -100_000.0);
                    near(last, 0.0);
                    for tenth in -1_000_000..1_000_000 {
                        let counted = f64::from(tenth) / 10.0;
                        // Published once a minute, as the clock plane does at least.
                        let now = served(&window, (counted / 60.0).floor() * 60.0, counted);
                        assert!(
                            (now - last).abs() < 1e-4,
                            "{shape:?} {place:?} {leap:?} at {counted}: {last} to {now}"
                        );
                        last = now;
                    }
                    near(last, leap.step_seconds() as f64);
                }
            }
        }
    }

    #[test]
    fn chronys_recommended_rates_take_seventeen_hours() {
        let shape = SmearShape::Ramp { rate_max: 400e-6, change: 0.001_024e-6 };
        let settings = SmearSettings { shape, seconds: 0.0, place: SmearPlace::After };
        near(settings.seconds() / 100.0, 625.0);
        let window = settings.of(LEAP, None);
        near(served(&window, 31_250.0, 31_250.0), -0.5);
        let limited = SmearSettings { shape: SmearShape::Ramp { rate_max: 1e-4, change: 1e-7 }, ..settings };
        near(limited.seconds(), 11_000.0);
        near(served(&limited.of(LEAP, None), 5_500.0, 5_500.0), -0.5);
    }

    #[test]
    fn the_clocks_passing_is_seen_between_two_publications() {
        let window = SmearSettings::default().of(LEAP, None);
        near(served(&window, -30.0, -0.001), -0.5);
        near(served(&window, -30.0, 0.001), -0.5);
        near(served(&window, -30.0, 33.0), -0.5 - 33.0 / 86_400.0);
    }

    #[test]
    fn one_that_becomes_known_late_is_spread_over_the_rest() {
        let window = SmearSettings::default().of(LEAP, Some(MIDNIGHT - 3_200));
        near(window.seconds(), 46_400.0);
        near(served(&window, -3_200.0, -3_200.0), 0.0);
        near(served(&window, 43_200.0, 43_200.0), -1.0);
        let before = SmearSettings { place: SmearPlace::Before, ..SmearSettings::default() };
        let window = before.of(LEAP, Some(MIDNIGHT - 30));
        near(window.seconds(), 1000.0);
        near(served(&window, -30.0, 970.0), -1.0);
        assert_eq!(before.of(LEAP, Some(MIDNIGHT - 90_000)), before.of(LEAP, None));
    }

    #[test]
    fn a_window_is_near_from_an_hour_before_it_to_its_end() {
        let window = SmearSettings::default().of(LEAP, None);
        assert!(!window.is_near(date(-46_801.0), false) && window.is_near(date(-46_799.0), false));
        assert!(window.is_near(date(43_198.9), true) && !window.is_near(date(43_199.1), true));
    }
}
