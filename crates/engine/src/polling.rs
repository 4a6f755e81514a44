//! When one association asks: reach register, bursts, and the adaptation of the poll interval. RFC 5905 §13, §11.3.

mod pace;

use crate::{POLL_TARGET, SourceConfig};
use chime_discipline::PollAdvice;
use chime_time::PollExponent;
use pace::Pace;

/// Between the requests of a burst; seconds. RFC 5905 §13.
pub(crate) const BURST_SECONDS: f64 = 2.0;
/// Unanswered polls after which an association counts as unreachable: the reach register is empty. RFC 5905 §13.
pub(crate) const UNREACHABLE_POLLS: u32 = 8;
/// Servers with a longer round trip than this are asked once a second at most, however short the interval that is allowed:
/// only a server in the same network is to be asked more often, as with chronyd.
const NEAR_SECONDS_MAX: f64 = 0.01;
/// By how much an interval grows with each poll that an unreachable server does not answer.
const SILENCE_GROWTH: f64 = 1.35;
/// By how much an interval grows with each measurement at the most: what the estimator believes early may be wrong. Slower,
/// and the start costs more requests than it is worth.
const GROWTH: f64 = 1.35;
/// The same for each measurement that a source with a smaller target does without.
const TARGET_GROWTH: f64 = 1.05;
/// The longest pause, as a multiple of the interval. An interval that has just become short is not stretched to what was usual
/// before.
const STRETCH_MAX: f64 = 2.0;

/// Requests in quick succession.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Burst {
    /// Good answers after which it ends.
    pub(crate) good: u8,
    /// Requests after which it ends.
    pub(crate) total: u8,
    /// Whether it is the way in which a poll is made, and no beginning.
    pub(crate) is_poll: bool,
}

/// Requests of the burst that a poll can be.
const POLL_BURST_REQUESTS: f64 = 4.0;

/// The polling of one association.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Polling {
    /// Between requests outside of bursts, seconds, on average.
    interval: f64,
    pace: Pace,
    min: PollExponent,
    max: PollExponent,
    /// Raised by RATE: the interval never goes below this again while the association lives.
    floor: PollExponent,
    reach: u8,
    unanswered: u32,
    /// The interval before it became longer as nobody answered.
    before_silence: Option<f64>,
    /// Whether the last answer came from near by, or there was none yet.
    near: bool,
    burst: Option<Burst>,
    /// Seconds to the next request while the interval opens up after a burst.
    ramp: Option<f64>,
    /// Whether each poll is a burst.
    polls_in_bursts: bool,
    /// From which interval on requests are sent in advance, and how many of them at a poll.
    presend: Option<(PollExponent, u8)>,
    /// How many requests in advance there were for the next poll, counted down from the first one.
    ahead: u8,
    target: u32,
    /// Whether polling stops after the burst.
    pub(crate) offline_after_burst: bool,
}

impl Polling {
    pub(crate) fn new(config: &SourceConfig) -> Self {
        let max = config.poll_max.max(config.poll_min);
        let exponent = config.poll_initial.unwrap_or(config.poll_min).clamp(config.poll_min, max);
        let mut polling = Self {
            interval: exponent.seconds(),
            pace: Pace::EVEN,
            min: config.poll_min,
            max,
            floor: config.poll_min,
            reach: 0,
            unanswered: 0,
            before_silence: None,
            near: true,
            burst: None,
            ramp: None,
            polls_in_bursts: config.burst,
            presend: config.presend_from.map(|from| (from, if config.interleaved { 2 } else { 1 })),
            ahead: 0,
            target: config.poll_target.max(1),
            offline_after_burst: false,
        };
        if config.iburst {
            polling.start_burst(initial_burst(config));
        }
        polling
    }

    /// The interval in use as the nearest power of two; log2 seconds. The intervals themselves have no steps.
    pub(crate) fn exponent(&self) -> PollExponent {
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a finite number")]
        PollExponent::new(self.interval.log2().round() as i8).clamp(self.min, self.max)
    }

    pub(crate) const fn limits(&self) -> (PollExponent, PollExponent) {
        (self.min, self.max)
    }

    /// Other limits of the operator's; an interval that the server asked for stays.
    pub(crate) fn set_limits(&mut self, min: PollExponent, max: PollExponent) {
        if self.floor == self.min {
            self.floor = min;
        }
        (self.min, self.max) = (min, max.max(min).max(self.floor));
        self.set(self.interval);
    }

    pub(crate) const fn reach(&self) -> u8 {
        self.reach
    }

    /// The register as an earlier run left it.
    pub(crate) const fn restore_reach(&mut self, reach: u8) {
        self.reach = reach;
    }

    /// Exchanges in a row without a good answer.
    pub(crate) const fn unanswered(&self) -> u32 {
        self.unanswered
    }

    pub(crate) const fn burst(&self) -> Option<Burst> {
        self.burst
    }

    pub(crate) const fn start_burst(&mut self, burst: Burst) {
        if self.burst.is_none() && burst.total > 0 {
            self.burst = Some(burst);
        }
    }

    /// Ends the burst. The interval opens up from its pace: what a burst says about the frequency is soon worth nothing, and
    /// four requests more than make up for it.
    pub(crate) fn end_burst(&mut self) {
        if self.burst.take().is_some_and(|burst| !burst.is_poll) {
            self.ramp = Some(2.0 * BURST_SECONDS).filter(|&seconds| seconds < self.interval);
        }
    }

    /// Whether the request that is about to leave only goes ahead of the one that counts.
    pub(crate) fn goes_ahead(&mut self) -> bool {
        let Some((from, requests)) = self.presend.filter(|_| self.burst.is_none()) else { return false };
        self.ahead = match self.ahead {
            0 if self.exponent() >= from => requests,
            more => more.saturating_sub(1),
        };
        self.ahead > 0
    }

    /// A request leaves: how long until the next one, before jitter; seconds.
    pub(crate) fn sent(&mut self) -> f64 {
        if self.ahead > 0 {
            return self.interval_seconds();
        }
        if self.polls_in_bursts && self.burst.is_none() {
            // On average there are not more requests than the shortest interval allows.
            let share = (self.interval / self.min.max(self.floor).seconds()).min(POLL_BURST_REQUESTS);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 4")]
            let total = share as u8;
            self.burst = (total > 1).then_some(Burst { good: 1, total, is_poll: true });
        }
        if let Some(burst) = &mut self.burst {
            burst.total = burst.total.saturating_sub(1);
            if burst.total == 0 {
                self.end_burst();
            }
        } else {
            self.ramp = self.ramp.map(|seconds| 2.0 * seconds).filter(|&seconds| seconds < self.interval);
        }
        self.interval_seconds()
    }

    /// The interval that is in force; seconds.
    pub(crate) fn interval_seconds(&self) -> f64 {
        let (least, most) = self.bounds();
        let paced = (self.pace.factor * self.interval).clamp(least, most);
        let regular = if self.near { paced } else { paced.max(1.0) };
        let soon = self.burst.is_some() || self.ahead > 0;
        let at_most = if soon { Some(BURST_SECONDS) } else { self.ramp };
        at_most.map_or(regular, |seconds| seconds.min(regular))
    }

    /// An exchange ended with an authentic answer of a synchronised server. Gives whether it was unreachable before.
    pub(crate) fn answered(&mut self) -> bool {
        let was_unreachable = self.reach == 0;
        self.reach = self.reach << 1 | 1;
        self.unanswered = 0;
        // It is asked less often only for as long as it is not there.
        if let Some(interval) = self.before_silence.take() {
            self.set(interval);
        }
        was_unreachable
    }

    /// An answer took `delay_seconds`.
    pub(crate) fn took(&mut self, delay_seconds: f64) {
        self.near = delay_seconds <= NEAR_SECONDS_MAX;
    }

    /// A measurement was accepted.
    pub(crate) fn measured(&mut self) {
        if let Some(burst) = &mut self.burst {
            burst.good = burst.good.saturating_sub(1);
            if burst.good == 0 {
                self.end_burst();
            }
        }
    }

    /// An exchange ended without such an answer. Gives whether the association became unreachable just now.
    pub(crate) fn missed(&mut self) -> bool {
        self.reach <<= 1;
        self.unanswered = self.unanswered.saturating_add(1);
        // It may just be too far away for its answer to come before the next request.
        self.near &= self.interval >= 1.0;
        // A server that is gone is asked less and less often.
        if self.reach == 0 && self.unanswered >= UNREACHABLE_POLLS && self.burst.is_none() {
            self.before_silence.get_or_insert(self.interval);
            self.set(self.interval * SILENCE_GROWTH);
        }
        self.unanswered == UNREACHABLE_POLLS
    }

    /// Adapts the interval to what the discipline advises after a measurement: shorter at once, longer little by little.
    pub(crate) fn adapt(&mut self, advice: PollAdvice) {
        let denser = f64::from(POLL_TARGET) / f64::from(self.target);
        let longest = self.interval * GROWTH.powf(denser.min(1.0)).max(TARGET_GROWTH.powf(denser));
        self.pace.factor = 1.0;
        match advice {
            PollAdvice::Shortest => self.set(0.0),
            // Who is content with few measurements does not wait for many.
            PollAdvice::Few { seconds } if self.target < POLL_TARGET => {
                self.set(self.interval.max((seconds * denser).min(longest)));
            }
            PollAdvice::Keep | PollAdvice::Few { .. } => {}
            PollAdvice::Interval { seconds, error, sway } => {
                let wanted = seconds * denser;
                self.set(wanted.min(longest));
                let (least, most) = self.pace_bounds();
                // While the interval still grows it is not stretched as well, or it would open up at once. Who wants more
                // measurements than usual wants no long pauses either.
                let most = if wanted > longest || denser < 1.0 { 1.0 } else { most };
                self.pace.follow(error, sway, (least, most));
            }
        }
    }

    /// Takes another target for the number of measurements.
    pub(crate) fn set_target(&mut self, target: u32) {
        self.target = target.max(1);
    }

    /// An answer did not come: the next request may be due sooner, but not forever.
    pub(crate) fn hurry(&mut self, advice: PollAdvice) {
        self.pace.factor = 1.0;
        if let PollAdvice::Interval { error, sway, .. } = advice
            && self.unanswered < UNREACHABLE_POLLS
        {
            self.pace.compare(error, sway, self.pace_bounds());
        }
    }

    /// The shortest interval that the operator and the server allow, seconds.
    pub(crate) fn shortest_seconds(&self) -> f64 {
        self.bounds().0
    }

    /// Whether the next request is due sooner than after a whole interval.
    pub(crate) fn is_hurried(&self) -> bool {
        self.pace.factor < 1.0
    }

    fn pace_bounds(&self) -> (f64, f64) {
        let (least, most) = self.bounds();
        (least / self.interval, (most / self.interval).min(STRETCH_MAX))
    }

    /// The server asks for fewer requests (authentic RATE): one step up at least, to what it names if that is more, and
    /// never down again. The operator's longest interval gives way. RFC 5905 §7.4.
    pub(crate) fn rate_limited(&mut self, server_poll: i8) {
        // What the server names is believed up to the usual longest interval, so that it cannot silence us for days.
        const BELIEVED_MAX: i8 = 13;
        let wanted = (self.exponent().exponent() + 1).max(server_poll.min(BELIEVED_MAX));
        self.floor = PollExponent::new(wanted.min(BELIEVED_MAX.max(self.max.exponent())));
        self.max = self.max.max(self.floor);
        (self.burst, self.ramp) = (None, None);
        self.set(self.interval);
    }

    /// The network or the clock changed: ask soon and often again.
    pub(crate) fn restart(&mut self, burst: Option<Burst>) {
        self.unanswered = 0;
        self.before_silence = None;
        self.pace = Pace::EVEN;
        self.set(0.0);
        if let Some(burst) = burst {
            self.start_burst(burst);
        }
    }

    /// The shortest and the longest time between requests, seconds.
    fn bounds(&self) -> (f64, f64) {
        (self.min.max(self.floor).seconds(), self.max.seconds())
    }

    /// Sets the interval, within its limits.
    fn set(&mut self, seconds: f64) {
        let (least, most) = self.bounds();
        self.interval = seconds.clamp(least, most);
    }
}

/// The burst at the start and after changes: until so many good answers, at most twice as many requests.
pub(crate) fn initial_burst(config: &SourceConfig) -> Burst {
    let good = config.iburst_requests.clamp(1, 8);
    Burst { good, total: good * 2, is_poll: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SourceConfig {
        SourceConfig {
            poll_min: PollExponent::new(4),
            poll_max: PollExponent::new(6),
            ..SourceConfig::server("a")
        }
    }

    #[test]
    fn a_distant_server_is_asked_once_a_second_at_most() {
        let quick = PollExponent::new(-6);
        let mut polling = Polling::new(&SourceConfig {
            poll_min: quick,
            poll_max: quick,
            iburst: false,
            ..SourceConfig::server("a")
        });
        assert!((polling.sent() - 1.0 / 64.0).abs() < 1e-12);
        polling.missed();
        assert!((polling.sent() - 1.0).abs() < 1e-12, "no answer in that time");
        polling.took(0.009);
        assert!((polling.sent() - 1.0 / 64.0).abs() < 1e-12);
        polling.took(0.011);
        assert!((polling.sent() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_first_burst_ends_after_four_good_answers_or_eight_requests_and_opens_up() {
        let mut good = Polling::new(&config());
        for _ in 0..3 {
            assert!((good.sent() - 2.0).abs() < 1e-9);
            good.measured();
        }
        good.sent();
        good.measured();
        assert!((good.interval_seconds() - 4.0).abs() < 1e-9);
        let mut lost = Polling::new(&config());
        let intervals: Vec<f64> = (0..11).map(|_| lost.sent()).collect();
        assert_eq!(intervals, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0, 8.0, 16.0, 16.0]);
    }

    #[test]
    fn a_poll_can_be_a_burst_that_ends_with_a_good_answer() {
        let burst = SourceConfig { burst: true, iburst: false, ..config() };
        let mut short = Polling::new(&burst);
        assert!((short.sent() - 16.0).abs() < 1e-9, "more than one request would be too many");
        let mut polling = Polling::new(&SourceConfig { poll_initial: Some(PollExponent::new(6)), ..burst });
        let unanswered: Vec<f64> = (0..5).map(|_| polling.sent()).collect();
        assert_eq!(unanswered, [2.0, 2.0, 2.0, 64.0, 2.0]);
        polling.measured();
        assert!((polling.interval_seconds() - 64.0).abs() < 1e-9);
    }

    #[test]
    fn a_request_goes_ahead_where_intervals_are_long() {
        let ahead = |from: i8, interleaved: bool| {
            let presend_from = Some(PollExponent::new(from));
            let source = SourceConfig { presend_from, interleaved, iburst: false, ..config() };
            let mut polling = Polling::new(&source);
            (0..4).map(|_| (polling.goes_ahead(), polling.sent())).collect::<Vec<_>>()
        };
        let (first, counts) = ((true, 2.0), (false, 16.0));
        assert_eq!(ahead(5, false), [counts; 4]);
        assert_eq!(ahead(4, false), [first, counts, first, counts]);
        assert_eq!(ahead(4, true), [first, first, counts, first]);
    }

    #[test]
    fn who_is_content_with_few_measurements_asks_less_often() {
        let after = |poll_target: u32, advice: PollAdvice| {
            let mut polling = Polling::new(&SourceConfig { poll_target, ..config() });
            polling.adapt(advice);
            polling.interval
        };
        let (few, advice) = (PollAdvice::Few { seconds: 100.0 }, even(17.0));
        assert_eq!((after(8, few), after(8, advice)), (16.0, 17.0));
        assert!((after(1, few) - 16.0 * TARGET_GROWTH.powi(8)).abs() < 1e-9);
        assert!((after(4, advice) - 16.0 * GROWTH).abs() < 1e-9);
        assert_eq!(after(16, advice), 16.0);
    }

    #[test]
    fn the_reach_register_remembers_eight_polls() {
        let mut polling = Polling::new(&config());
        assert!(polling.answered());
        assert!(!polling.answered());
        assert_eq!(polling.reach(), 0b11);
        let unreachable: Vec<bool> = (0..9).map(|_| polling.missed()).collect();
        assert_eq!(unreachable, [false, false, false, false, false, false, false, true, false]);
        assert_eq!(polling.reach(), 0);
    }

    /// Advice for a clock that is as sure as ever.
    fn even(seconds: f64) -> PollAdvice {
        PollAdvice::Interval { seconds, error: 1e-5, sway: 0.0 }
    }

    fn advise(polling: &mut Polling, seconds: f64, times: u32) {
        (0..times).for_each(|_| polling.adapt(even(seconds)));
    }

    #[test]
    fn the_interval_grows_slowly_and_shrinks_at_once() {
        let mut polling = Polling::new(&config());
        advise(&mut polling, 40.0, 1);
        assert!((polling.interval - 16.0 * GROWTH).abs() < 1e-9);
        advise(&mut polling, 40.0, 20);
        assert!((polling.interval - 40.0).abs() < 1e-9);
        assert_eq!(polling.exponent().exponent(), 5);
        advise(&mut polling, 1e9, 100);
        assert_eq!((polling.interval, polling.exponent().exponent()), (64.0, 6));
        advise(&mut polling, 20.0, 1);
        assert!((polling.interval - 20.0).abs() < 1e-9);
        polling.adapt(PollAdvice::Keep);
        assert!((polling.interval - 20.0).abs() < 1e-9);
        polling.adapt(PollAdvice::Shortest);
        assert_eq!(polling.interval, 16.0);
    }

    #[test]
    fn while_the_interval_grows_no_pause_is_stretched() {
        let mut polling =
            Polling::new(&SourceConfig { poll_max: PollExponent::new(10), iburst: false, ..config() });
        let mut last = polling.interval_seconds();
        for number in 1..12_i32 {
            // Surer with each answer.
            let error = 1e-5 * 0.8_f64.powi(number);
            polling.adapt(PollAdvice::Interval { seconds: 900.0, error, sway: 1.0 });
            let pause = polling.interval_seconds();
            assert!(pause <= last * GROWTH + 1e-9, "{pause} after {last}");
            last = pause;
        }
        assert!(last > 300.0, "{last}");
    }

    #[test]
    fn who_wants_many_measurements_gets_no_long_pauses_and_they_come_slowly() {
        let mut polling = Polling::new(&SourceConfig {
            poll_target: 64,
            poll_max: PollExponent::new(10),
            iburst: false,
            ..config()
        });
        let mut intervals = Vec::new();
        for number in 0..100_i32 {
            // Surer and less sure in turns.
            let error = if number % 2 == 0 { 1e-6 } else { 1e-5 };
            polling.adapt(PollAdvice::Interval { seconds: 64.0 * 8.0, error, sway: 1.0 });
            assert!(polling.interval_seconds() <= polling.interval, "{number}");
            intervals.push(polling.interval);
        }
        assert!(intervals[8] < 23.0, "after as many as usually let it grow tenfold: {}", intervals[8]);
        assert!((intervals[99] - 64.0).abs() < 1e-9, "an eighth of what is advised: {}", intervals[99]);
    }

    #[test]
    fn a_doubtful_clock_and_a_lost_answer_bring_the_next_request_forward() {
        let mut polling = Polling::new(&SourceConfig { iburst: false, ..config() });
        let advice = |error| PollAdvice::Interval { seconds: 40.0, error, sway: 1.0 };
        (0..20).for_each(|_| polling.adapt(advice(1e-5)));
        assert!((polling.interval_seconds() - 40.0).abs() < 1e-9);
        polling.adapt(advice(1.2e-5));
        assert!((16.0..39.0).contains(&polling.interval_seconds()) && polling.is_hurried());
        polling.adapt(advice(1e-5));
        polling.missed();
        polling.hurry(advice(1e-3));
        assert!((polling.interval_seconds() - 16.0).abs() < 1e-9, "never sooner than is allowed");
        polling.adapt(advice(1e-9));
        assert!((polling.interval_seconds() - 64.0).abs() < 1e-9, "never later than is allowed");
        (0..8).for_each(|_| {
            polling.missed();
            polling.hurry(advice(1e-3));
        });
        assert!(!polling.is_hurried(), "a server that is gone is not pressed");
    }

    #[test]
    fn an_interval_that_became_short_is_not_stretched_to_what_was_usual() {
        let mut polling =
            Polling::new(&SourceConfig { poll_max: PollExponent::new(10), iburst: false, ..config() });
        let advice = |seconds, error| PollAdvice::Interval { seconds, error, sway: 1.0 };
        (0..40).for_each(|_| polling.adapt(advice(900.0, 1e-4)));
        assert!(polling.interval_seconds() > 800.0);
        // After so little time the clock is surer than it ever was.
        polling.adapt(advice(100.0, 1e-5));
        assert!((polling.interval_seconds() - 200.0).abs() < 1e-9, "{}", polling.interval_seconds());
    }

    #[test]
    fn limits_may_be_moved_anywhere_while_it_polls() {
        let exponent = PollExponent::new;
        let mut polling = Polling::new(&SourceConfig::server("a"));
        for (min, max) in [(5, 5), (6, 10), (3, 5), (-2, 0), (10, 4), (6, 10)] {
            polling.set_limits(exponent(min), exponent(max));
            let interval = polling.interval_seconds();
            let (least, most) = (exponent(min).seconds(), exponent(max.max(min)).seconds());
            assert!((least..=most).contains(&polling.interval), "{min} {max}: {interval}");
            assert!((min..=max.max(min)).contains(&polling.exponent().exponent()));
        }
        polling.rate_limited(0);
        let asked_for = polling.interval;
        polling.set_limits(exponent(3), exponent(4));
        assert!(polling.interval >= asked_for, "what the server asked for stays");
    }

    #[test]
    fn rate_raises_the_interval_for_good() {
        let mut polling = Polling::new(&config());
        polling.rate_limited(0);
        assert_eq!(polling.exponent().exponent(), 5);
        polling.rate_limited(8);
        assert_eq!((polling.exponent().exponent(), polling.limits().1.exponent()), (8, 8));
        advise(&mut polling, 1.0, 10);
        polling.restart(None);
        assert_eq!(polling.exponent().exponent(), 8);
        for _ in 0..300 {
            polling.rate_limited(127);
        }
        assert_eq!(polling.exponent().exponent(), 13);
    }

    #[test]
    fn a_silent_server_is_asked_less_often() {
        let mut polling = Polling::new(&SourceConfig { iburst: false, ..config() });
        for _ in 0..8 {
            polling.missed();
        }
        assert!((polling.interval - 16.0 * SILENCE_GROWTH).abs() < 1e-9);
        for _ in 0..80 {
            polling.missed();
        }
        assert_eq!(polling.exponent().exponent(), 6);
        polling.answered();
        assert_eq!(polling.interval, 16.0, "it is there again");
        polling.restart(Some(Burst { good: 4, total: 8, is_poll: false }));
        assert!((polling.interval_seconds() - 2.0).abs() < 1e-9);
    }
}
