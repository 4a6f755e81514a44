//! The machine's battery-backed clock next to ours: how far it is off, how fast it goes wrong, when it is to be set.
//!
//! It is looked at when one of its seconds begins; each look says by how much it is fast of our best time. A line through
//! the looks goes into a file, by which the next start of the machine can tell the time from that clock, whatever it
//! shows. Nothing of it ever moves our clock while that follows sources.
//!
//! Signs: *fast* is positive when the real-time clock is ahead of us, and a *rate* when it gains.

use std::collections::VecDeque;

/// Looks that are kept.
pub const RTC_SAMPLES_MAX: usize = 64;
/// A clock that is off by less is not set: its setting knows whole seconds only.
pub const RTC_TRIM_SECONDS_MIN: f64 = 1.0;

/// The first looks are so far apart, seconds.
const PERIOD_MIN: u32 = 15;
/// Each time that there are so many looks the interval doubles, at last to four minutes; as chronyd's.
const PERIOD_DOUBLES_AT: [usize; 4] = [4, 6, 10, 14];
/// Looks in a row after the clock was set.
const BURST: usize = 8;
/// A look that misses the line by more is at a clock that somebody else has set, seconds.
const MISS_MAX: f64 = 1.0;
/// Where the signs of the residuals change that much too seldom, in standard deviations, the line is no line.
const RUNS_DEVIATIONS_MAX: f64 = 2.3;
/// With fewer looks the signs say nothing.
const RUNS_SAMPLES_MIN: usize = 8;
/// Looks whose runs are counted at all; with fewer, reports show 0.
const RUNS_COUNTED_MIN: usize = 4;
/// Rates beyond this are no clock's, s per s.
const RATE_MAX: f64 = 0.1;

/// What is known of a real-time clock, and what its file holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RtcEstimate {
    /// What the real-time clock showed when this was true; Unix seconds.
    pub at: i64,
    /// By how much it was fast then, seconds.
    pub fast: f64,
    /// What it gains, s per s.
    pub rate: f64,
}

impl RtcEstimate {
    /// By how much it is fast when it shows `rtc`, Unix seconds; in seconds.
    #[must_use]
    pub fn fast_at(&self, rtc: i64) -> f64 {
        self.fast + self.rate * rtc.saturating_sub(self.at) as f64
    }

    /// Reads chronyd's file: whether the rest holds, Unix seconds, seconds fast, ppm. `None` when there is nothing to go by.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (valid, at) = (words.next()?, words.next()?.parse().ok()?);
        let mut number = || words.next()?.parse::<f64>().ok().filter(|number| number.is_finite());
        let (fast, rate) = (number()?, number()? * 1e-6);
        (valid == "1" && rate.abs() <= RATE_MAX).then_some(Self { at, fast, rate })
    }

    /// The line for that file.
    #[must_use]
    pub fn line(&self) -> String {
        format!("1 {} {:.6} {:.3}\n", self.at, self.fast, self.rate * 1e6)
    }
}

/// Whether an adjtime file of hwclock(8) says that the real-time clock keeps UTC; `None` when it does not say.
#[must_use]
pub fn hwclock_keeps_utc(adjtime: &str) -> Option<bool> {
    match adjtime.lines().nth(2)?.trim() {
        "UTC" => Some(true),
        "LOCAL" => Some(false),
        _ => None,
    }
}

/// What the real-time clock says of the time when the machine starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FirstLook {
    /// The second that it began; Unix seconds.
    pub rtc: i64,
    /// Our clock then, Unix seconds.
    pub ours: f64,
    /// What its file says of it.
    pub known: Option<RtcEstimate>,
}

/// What to do with our clock at the start; seconds, positive forward.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum FirstSetting {
    /// It is right, as far as that can be told.
    Leave,
    /// It is off by so little that it can be slewed.
    Slew(f64),
    /// The real-time clock has the time.
    Step(f64),
    /// The real-time clock shows a time that is past: of all that is known the time when `last` was written is latest.
    StepToLast(f64),
}

/// What to do with our clock at the start. `last`: when the daemon last wrote a file, Unix seconds; it cannot be earlier now.
/// Without a real-time clock, and with one that must be wrong, that is all there is.
#[must_use]
pub fn first_setting(look: Option<FirstLook>, ours: f64, last: Option<f64>) -> FirstSetting {
    let restored = match last {
        Some(last) if last > ours => FirstSetting::StepToLast(last - ours),
        _ => FirstSetting::Leave,
    };
    let Some(look) = look else { return restored };
    let time = look.rtc as f64 - look.known.map_or(0.0, |known| known.fast_at(look.rtc));
    if last.is_some_and(|last| time < last) {
        return restored;
    }
    match (time - look.ours, look.known) {
        (forward, _) if forward.abs() >= RTC_TRIM_SECONDS_MIN => FirstSetting::Step(forward),
        (forward, Some(_)) => FirstSetting::Slew(forward),
        (_, None) => FirstSetting::Leave,
    }
}

/// What reports show.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RtcSummary {
    /// What is known; `None`: nothing yet.
    pub estimate: Option<RtcEstimate>,
    /// Looks that the line is made of.
    pub samples: usize,
    /// Runs of residuals with the same sign.
    pub runs: usize,
    /// From the first look to the last, seconds.
    pub span: i64,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    rtc: i64,
    fast: f64,
}

/// The looks at a real-time clock, and what they say.
#[derive(Clone, Debug, Default)]
pub struct RealTimeClock {
    looks: VecDeque<Look>,
    estimate: Option<RtcEstimate>,
    runs: usize,
    /// It was set, and what it shows now is found out by looks in a row.
    bursting: bool,
}

impl RealTimeClock {
    /// It began the second `rtc` (Unix seconds), `fast` seconds before that second.
    pub fn look(&mut self, rtc: i64, fast: f64) {
        let went_back = self.looks.back().is_some_and(|last| rtc <= last.rtc);
        let missed = self.expected(rtc).is_some_and(|expected| (fast - expected).abs() > MISS_MAX);
        if went_back || missed {
            *self = Self::default();
        }
        if self.looks.len() == RTC_SAMPLES_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back(Look { rtc, fast });
        if !self.bursting {
            self.fit();
        } else if self.looks.len() == BURST {
            self.end_burst(rtc);
        }
    }

    /// Our clock was found to be wrong, and its time went forward by so many seconds.
    pub fn moved(&mut self, forward: f64) {
        self.looks.iter_mut().for_each(|look| look.fast -= forward);
        if let Some(estimate) = &mut self.estimate {
            estimate.fast -= forward;
        }
    }

    /// The real-time clock was set forward by so many seconds, give or take a second: looks in a row will tell. Its rate is
    /// the same as before.
    pub fn was_set(&mut self, forward: f64) {
        self.looks.clear();
        self.runs = 0;
        self.bursting = true;
        if let Some(estimate) = &mut self.estimate {
            estimate.fast += forward;
        }
    }

    /// Whether the next second is to be looked at, too.
    #[must_use]
    pub const fn is_bursting(&self) -> bool {
        self.bursting
    }

    /// How long to wait for the next look, seconds.
    #[must_use]
    pub fn period(&self) -> u32 {
        PERIOD_MIN << PERIOD_DOUBLES_AT.iter().filter(|count| self.looks.len() >= **count).count()
    }

    /// What is known.
    #[must_use]
    pub const fn estimate(&self) -> Option<RtcEstimate> {
        self.estimate
    }

    /// Whether the clock is off by more than `threshold` seconds, and can be set better than that.
    #[must_use]
    pub fn is_off_by(&self, threshold: f64) -> bool {
        let fast = self.estimate.filter(|_| !self.bursting).map_or(0.0, |estimate| estimate.fast);
        fast.abs() > threshold.max(RTC_TRIM_SECONDS_MIN)
    }

    /// For reports.
    #[must_use]
    pub fn summary(&self) -> RtcSummary {
        let span = match (self.looks.front(), self.looks.back()) {
            (Some(first), Some(last)) => last.rtc - first.rtc,
            _ => 0,
        };
        RtcSummary { estimate: self.estimate, samples: self.looks.len(), runs: self.runs, span }
    }

    /// Where the next look is expected, while that can be told.
    fn expected(&self, rtc: i64) -> Option<f64> {
        self.estimate.filter(|_| !self.bursting).map(|estimate| estimate.fast_at(rtc))
    }

    /// All looks in a row are one: the clock may have been late to begin them, and their median was not.
    fn end_burst(&mut self, rtc: i64) {
        let rate = self.estimate.map(|estimate| estimate.rate);
        let mut fast: Vec<f64> =
            self.looks.iter().map(|look| look.fast + rate.unwrap_or(0.0) * (rtc - look.rtc) as f64).collect();
        let fast = median(&mut fast);
        self.looks = VecDeque::from([Look { rtc, fast }]);
        self.estimate = rate.map(|rate| RtcEstimate { at: rtc, fast, rate });
        self.bursting = false;
    }

    /// The line through the looks: the median of the slopes between any two, and of what is left. A busy machine sees some
    /// seconds late; those must not count. The oldest looks go while the line is none: temperatures change.
    fn fit(&mut self) {
        loop {
            let Some((estimate, signs)) = line_through(&self.looks) else { return };
            self.estimate = Some(estimate);
            self.runs = if signs.len() < RUNS_COUNTED_MIN { 0 } else { runs(&signs) };
            if signs.len() <= RUNS_SAMPLES_MIN || !is_bent(&signs) {
                return;
            }
            self.looks.drain(..signs.len() / 4);
        }
    }
}

/// The line as of the last look, and on which side of it each look is. `None` with fewer than two.
fn line_through(looks: &VecDeque<Look>) -> Option<(RtcEstimate, Vec<bool>)> {
    let last = looks.back().filter(|_| looks.len() > 1)?;
    let mut slopes = Vec::with_capacity(looks.len() * (looks.len() - 1) / 2);
    for (number, one) in looks.iter().enumerate() {
        let later = looks.iter().skip(number + 1);
        slopes.extend(later.map(|other| (other.fast - one.fast) / (other.rtc - one.rtc) as f64));
    }
    let rate = median(&mut slopes).clamp(-RATE_MAX, RATE_MAX);
    let rest: Vec<f64> = looks.iter().map(|look| look.fast + rate * (last.rtc - look.rtc) as f64).collect();
    let fast = median(&mut rest.clone());
    let signs = rest.iter().map(|rest| *rest > fast).collect();
    Some((RtcEstimate { at: last.rtc, fast, rate }, signs))
}

/// The middle of some numbers; 0 of none.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers {
        [] => 0.0,
        numbers if numbers.len() % 2 == 1 => numbers[middle],
        numbers => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

fn runs(signs: &[bool]) -> usize {
    1 + signs.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// Whether the residuals change their sign too seldom for chance (Wald and Wolfowitz).
fn is_bent(signs: &[bool]) -> bool {
    let count = signs.len() as f64;
    let above = signs.iter().filter(|sign| **sign).count() as f64;
    let mean = 2.0 * above * (count - above) / count + 1.0;
    let deviation = ((mean - 1.0) * (mean - 2.0) / (count - 1.0)).max(0.0).sqrt();
    (runs(signs) as f64) < mean - RUNS_DEVIATIONS_MAX * deviation
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_795_771_119;

    /// A clock that was `fast` at the start and gains `rate`, looked at every `step` seconds `count` times.
    fn watched(fast: f64, rate: f64, step: i64, count: i64) -> RealTimeClock {
        let mut clock = RealTimeClock::default();
        for number in 0..count {
            clock.look(START + step * number, fast + rate * (step * number) as f64);
        }
        clock
    }

    fn assert_near(estimate: Option<RtcEstimate>, fast: f64, rate: f64) {
        let estimate = estimate.expect("it is known");
        assert!((estimate.fast - fast).abs() < 1e-4, "{estimate:?}, not {fast}");
        assert!((estimate.rate - rate).abs() < 1e-6, "{estimate:?}, not {rate}");
    }

    #[test]
    fn the_file_is_chronyds_and_nonsense_is_nothing_to_go_by() {
        let line = "1 1795771119 2.316241 498.604\n";
        let estimate = RtcEstimate::parse(line).expect("it is right");
        assert_eq!(estimate.line(), line);
        assert!((estimate.fast_at(START + 1000) - 2.814_845).abs() < 1e-9);
        for wrong in ["", "0 1 2 3", "1 1 2", "1 x 2 3", "1 1 nan 3", "1 1 2 inf", "1 1 2 200000", "2 1 2 3"]
        {
            assert_eq!(RtcEstimate::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_third_line_of_hwclocks_file_says_what_the_clock_keeps() {
        let file = |third: &str| format!("0.0 1795771119 0.0\n1795771119\n{third}\n");
        assert_eq!(hwclock_keeps_utc(&file("UTC")), Some(true));
        assert_eq!(hwclock_keeps_utc(&file("LOCAL")), Some(false));
        assert_eq!(hwclock_keeps_utc(&file("MARS")), None);
        assert_eq!(hwclock_keeps_utc("0.0 0 0.0\n"), None);
    }

    #[test]
    fn a_start_takes_the_time_from_a_clock_that_is_known() {
        let known = RtcEstimate { at: START - 1_000_000, fast: 2.0, rate: 1e-5 };
        let setting =
            |ours: f64, known, last| first_setting(Some(FirstLook { rtc: START, ours, known }), ours, last);
        let right = START as f64 - 12.0;
        let near = |setting, wanted: f64| match setting {
            FirstSetting::Step(forward) | FirstSetting::Slew(forward) => (forward - wanted).abs() < 1e-6,
            _ => false,
        };
        let stepped = setting(right - 100.0, Some(known), None);
        assert!(matches!(stepped, FirstSetting::Step(_)) && near(stepped, 100.0), "{stepped:?}");
        let slewed = setting(right + 0.25, Some(known), Some(right));
        assert!(matches!(slewed, FirstSetting::Slew(_)) && near(slewed, -0.25), "{slewed:?}");
        // Of a clock that nothing is known of a second is all that can be believed.
        assert_eq!(setting(START as f64 + 0.5, None, None), FirstSetting::Leave);
        assert_eq!(setting(START as f64 + 1.5, None, None), FirstSetting::Step(-1.5));
    }

    #[test]
    fn a_clock_with_an_empty_battery_is_not_believed() {
        let last = START as f64;
        let empty = FirstLook { rtc: 946_684_800, ours: 946_684_800.0, known: None };
        assert_eq!(first_setting(Some(empty), last - 500.0, Some(last)), FirstSetting::StepToLast(500.0));
        assert_eq!(first_setting(Some(empty), last + 1.0, Some(last)), FirstSetting::Leave);
        assert_eq!(first_setting(None, last - 500.0, Some(last)), FirstSetting::StepToLast(500.0));
        assert_eq!(first_setting(None, last, None), FirstSetting::Leave);
    }

    #[test]
    fn one_look_says_nothing_and_two_are_a_line() {
        assert_eq!(watched(2.0, 1e-4, 15, 1).estimate(), None);
        let clock = watched(2.0, 1e-4, 15, 2);
        assert_near(clock.estimate(), 2.0015, 1e-4);
        assert_eq!(clock.estimate().expect("it is known").at, START + 15);
    }

    #[test]
    fn seconds_that_were_seen_late_do_not_count() {
        let mut clock = RealTimeClock::default();
        for number in 0..20_i64 {
            let late = if number % 4 == 3 { 0.03 } else { 0.0 };
            clock.look(START + 15 * number, 0.5 + 2e-5 * (15 * number) as f64 - late);
        }
        assert_near(clock.estimate(), 0.5 + 2e-5 * 285.0, 2e-5);
    }

    #[test]
    fn looks_get_rarer_as_more_is_known() {
        let periods: Vec<u32> =
            [1, 3, 4, 5, 6, 9, 10, 13, 14, 64].map(|count| watched(0.0, 0.0, 15, count).period()).into();
        assert_eq!(periods, [15, 15, 30, 30, 60, 60, 120, 120, 240, 240]);
    }

    #[test]
    fn reports_count_what_the_line_is_made_of() {
        let summary = watched(0.0, 1e-5, 15, 3).summary();
        assert_eq!((summary.samples, summary.runs, summary.span), (3, 0, 30));
        let full = watched(0.0, 1e-5, 15, 200).summary();
        assert_eq!((full.samples, full.span), (RTC_SAMPLES_MAX, 15 * 63));
        assert_eq!(RealTimeClock::default().summary(), RtcSummary::default());
    }

    #[test]
    fn when_the_rate_changes_the_old_looks_go() {
        let mut clock = watched(0.0, 0.0, 480, 32);
        for number in 0..40_i64 {
            // A clock that got colder, and a reading that is never quite the same.
            let wobble = if number % 2 == 0 { 1e-5 } else { -1e-5 };
            clock.look(START + 480 * (32 + number), 5e-6 * (480 * number) as f64 + wobble);
        }
        assert!(clock.summary().samples < RTC_SAMPLES_MAX);
        assert_near(clock.estimate(), 5e-6 * 480.0 * 39.0, 5e-6);
    }

    #[test]
    fn a_correction_of_ours_moves_what_is_known_and_not_the_rate() {
        let mut clock = watched(2.0, 1e-4, 15, 4);
        clock.moved(0.5);
        assert_near(clock.estimate(), 1.5 + 1e-4 * 45.0, 1e-4);
        clock.look(START + 60, 1.5 + 1e-4 * 60.0);
        assert_eq!(clock.summary().samples, 5);
        assert_near(clock.estimate(), 1.5 + 1e-4 * 60.0, 1e-4);
    }

    #[test]
    fn a_clock_that_somebody_else_has_set_is_a_new_one() {
        let mut clock = watched(2.0, 1e-4, 15, 4);
        clock.look(START + 60, 0.9);
        assert_eq!((clock.summary().samples, clock.estimate()), (1, None));
        let mut set_back = watched(0.0, 0.0, 15, 4);
        set_back.look(START, 0.0);
        assert_eq!(set_back.summary().samples, 1);
        let mut almost = watched(2.0, 1e-4, 15, 4);
        almost.look(START + 60, 2.9);
        assert_eq!(almost.summary().samples, 5);
    }

    #[test]
    fn it_is_set_only_when_that_makes_it_better() {
        let off = |fast: f64, threshold: f64| watched(fast, 0.0, 15, 2).is_off_by(threshold);
        assert!(off(1.1, 0.5) && off(-1.1, 0.0) && off(30.1, 30.0));
        assert!(!off(0.9, 0.5) && !off(-0.9, 0.0) && !off(29.9, 30.0));
        assert!(!RealTimeClock::default().is_off_by(0.0), "nothing is known of it");
    }

    #[test]
    fn after_it_was_set_looks_in_a_row_tell_what_it_shows_and_its_rate_stays() {
        let mut clock = watched(-7.75, -3e-4, 15, 2);
        clock.was_set(7.0);
        assert!(clock.is_bursting() && !clock.is_off_by(0.0));
        for number in 0..8_i64 {
            assert!(clock.is_bursting(), "{number}");
            let late = if number == 3 { 0.03 } else { 0.0 };
            clock.look(START + 100 + number, -0.25 - 3e-4 * number as f64 - late);
        }
        assert!(!clock.is_bursting());
        assert_near(clock.estimate(), -0.25 - 3e-4 * 7.0, -3e-4);
        clock.look(START + 127, -0.25 - 3e-4 * 27.0);
        assert_eq!(clock.summary().samples, 2);
        assert_near(clock.estimate(), -0.25 - 3e-4 * 27.0, -3e-4);
    }
}
