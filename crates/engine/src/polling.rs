//! When one association asks: reach register, bursts, and the adaptation of the poll interval. RFC 5905 §13, §11.3.

use crate::SourceConfig;
use chime_discipline::PollAdvice;
use chime_time::PollExponent;

/// Between the requests of a burst; seconds. RFC 5905 §13.
pub(crate) const BURST_SECONDS: f64 = 2.0;
/// Unanswered polls after which an association counts as unreachable: the reach register is empty. RFC 5905 §13.
pub(crate) const UNREACHABLE_POLLS: u32 = 8;
/// Servers with a longer round trip than this are asked once a second at most, however short the interval that is allowed:
/// only a server in the same network is to be asked more often, as with chronyd.
const NEAR_SECONDS_MAX: f64 = 0.01;
/// How far the adaptation's counter goes before the interval changes. RFC 5905 §11.3, `LIMIT`.
const ADAPTATION_LIMIT: i32 = 30;

/// Requests in quick succession.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Burst {
    /// Good answers after which it ends.
    pub(crate) good: u8,
    /// Requests after which it ends.
    pub(crate) total: u8,
}

/// The polling of one association.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Polling {
    exponent: PollExponent,
    min: PollExponent,
    max: PollExponent,
    /// Raised by RATE: the interval never goes below this again while the association lives.
    floor: PollExponent,
    reach: u8,
    unanswered: u32,
    adaptation: i32,
    /// Whether the last answer came from near by, or there was none yet.
    near: bool,
    burst: Option<Burst>,
    /// Whether polling stops after the burst.
    pub(crate) offline_after_burst: bool,
}

impl Polling {
    pub(crate) fn new(config: &SourceConfig) -> Self {
        let max = config.poll_max.max(config.poll_min);
        let exponent = config.poll_initial.unwrap_or(config.poll_min).clamp(config.poll_min, max);
        let mut polling = Self {
            exponent,
            min: config.poll_min,
            max,
            floor: config.poll_min,
            reach: 0,
            unanswered: 0,
            adaptation: 0,
            near: true,
            burst: None,
            offline_after_burst: false,
        };
        if config.iburst {
            polling.start_burst(initial_burst(config));
        }
        polling
    }

    /// The exponent in use; log2 seconds.
    pub(crate) const fn exponent(&self) -> PollExponent {
        self.exponent
    }

    pub(crate) const fn limits(&self) -> (PollExponent, PollExponent) {
        (self.min, self.max)
    }

    pub(crate) fn set_limits(&mut self, min: PollExponent, max: PollExponent) {
        (self.min, self.max) = (min, max);
        self.set(self.exponent.exponent());
    }

    pub(crate) const fn reach(&self) -> u8 {
        self.reach
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

    pub(crate) const fn end_burst(&mut self) {
        self.burst = None;
    }

    /// A request leaves: how long until the next one, before jitter; seconds.
    pub(crate) fn sent(&mut self) -> f64 {
        if let Some(burst) = &mut self.burst {
            burst.total = burst.total.saturating_sub(1);
            if burst.total == 0 {
                self.burst = None;
            }
        }
        self.interval_seconds()
    }

    /// The interval that is in force; seconds.
    pub(crate) fn interval_seconds(&self) -> f64 {
        let allowed = self.exponent.seconds();
        let regular = if self.near { allowed } else { allowed.max(1.0) };
        if self.burst.is_some() { regular.min(BURST_SECONDS) } else { regular }
    }

    /// An exchange ended with an authentic answer of a synchronised server. Gives whether it was unreachable before.
    pub(crate) fn answered(&mut self) -> bool {
        let was_unreachable = self.reach == 0;
        self.reach = self.reach << 1 | 1;
        self.unanswered = 0;
        was_unreachable
    }

    /// An answer took `delay_seconds`.
    pub(crate) fn took(&mut self, delay_seconds: f64) {
        self.near = delay_seconds <= NEAR_SECONDS_MAX;
    }

    /// A measurement was accepted.
    pub(crate) const fn measured(&mut self) {
        if let Some(burst) = &mut self.burst {
            burst.good = burst.good.saturating_sub(1);
            if burst.good == 0 {
                self.burst = None;
            }
        }
    }

    /// An exchange ended without such an answer. Gives whether the association became unreachable just now.
    pub(crate) fn missed(&mut self) -> bool {
        self.reach <<= 1;
        self.unanswered = self.unanswered.saturating_add(1);
        // It may just be too far away for its answer to come before the next request.
        self.near &= self.exponent.exponent() >= 0;
        self.adaptation = 0;
        // A server that is gone is asked less and less often, one step for each time the register runs empty.
        if self.reach == 0 && self.unanswered.is_multiple_of(UNREACHABLE_POLLS) && self.burst.is_none() {
            self.set(self.exponent.exponent() + 1);
        }
        self.unanswered == UNREACHABLE_POLLS
    }

    /// Adapts the interval to what the source's regression advises. The counter and its limit are those of RFC 5905
    /// §11.3: one step of advice is not enough, and shortening is quicker than lengthening.
    pub(crate) fn adapt(&mut self, advice: PollAdvice) {
        let step = i32::from(self.exponent.exponent()).max(1);
        self.adaptation += match advice {
            PollAdvice::Shortest => {
                self.set(self.min.exponent());
                -self.adaptation
            }
            PollAdvice::Longer => step,
            PollAdvice::Keep => 0,
            PollAdvice::Shorter => -2 * step,
        };
        if self.adaptation > ADAPTATION_LIMIT {
            self.adaptation = 0;
            self.set(self.exponent.exponent() + 1);
        } else if self.adaptation < -ADAPTATION_LIMIT {
            self.adaptation = 0;
            self.set(self.exponent.exponent() - 1);
        }
    }

    /// The server asks for fewer requests (authentic RATE): one step up at least, to what it names if that is more, and
    /// never down again. The operator's longest interval gives way. RFC 5905 §7.4.
    pub(crate) fn rate_limited(&mut self, server_poll: i8) {
        // What the server names is believed up to the usual longest interval, so that it cannot silence us for days.
        const BELIEVED_MAX: i8 = 13;
        let wanted = (self.exponent.exponent() + 1).max(server_poll.min(BELIEVED_MAX));
        self.floor = PollExponent::new(wanted.min(BELIEVED_MAX.max(self.max.exponent())));
        self.max = self.max.max(self.floor);
        self.burst = None;
        self.adaptation = 0;
        self.exponent = self.exponent.max(self.floor);
    }

    /// The network or the clock changed: ask soon and often again.
    pub(crate) fn restart(&mut self, burst: Option<Burst>) {
        self.adaptation = 0;
        self.unanswered = 0;
        self.set(self.min.exponent());
        if let Some(burst) = burst {
            self.start_burst(burst);
        }
    }

    fn set(&mut self, exponent: i8) {
        self.exponent = PollExponent::new(exponent).clamp(self.min.max(self.floor), self.max);
    }
}

/// The burst at the start and after changes: until so many good answers, at most twice as many requests.
pub(crate) fn initial_burst(config: &SourceConfig) -> Burst {
    let good = config.iburst_requests.clamp(1, 8);
    Burst { good, total: good * 2 }
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
    fn the_first_burst_ends_after_four_good_answers_or_eight_requests() {
        let mut good = Polling::new(&config());
        for _ in 0..3 {
            assert!((good.sent() - 2.0).abs() < 1e-9);
            good.measured();
        }
        good.sent();
        good.measured();
        assert!((good.interval_seconds() - 16.0).abs() < 1e-9);
        let mut lost = Polling::new(&config());
        let intervals: Vec<f64> = (0..9).map(|_| lost.sent()).collect();
        assert_eq!(intervals, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 16.0, 16.0]);
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

    #[test]
    fn the_interval_follows_repeated_advice() {
        let mut polling = Polling::new(&config());
        for _ in 0..8 {
            polling.adapt(PollAdvice::Longer);
        }
        assert_eq!(polling.exponent().exponent(), 5);
        for _ in 0..100 {
            polling.adapt(PollAdvice::Longer);
        }
        assert_eq!(polling.exponent().exponent(), 6);
        for _ in 0..5 {
            polling.adapt(PollAdvice::Shorter);
        }
        assert_eq!(polling.exponent().exponent(), 5);
        for _ in 0..100 {
            polling.adapt(PollAdvice::Shorter);
        }
        assert_eq!(polling.exponent().exponent(), 4);
        for _ in 0..100 {
            polling.adapt(PollAdvice::Longer);
        }
        polling.adapt(PollAdvice::Shortest);
        assert_eq!(polling.exponent().exponent(), 4, "at once");
    }

    #[test]
    fn rate_raises_the_interval_for_good() {
        let mut polling = Polling::new(&config());
        polling.rate_limited(0);
        assert_eq!(polling.exponent().exponent(), 5);
        polling.rate_limited(8);
        assert_eq!((polling.exponent().exponent(), polling.limits().1.exponent()), (8, 8));
        for _ in 0..100 {
            polling.adapt(PollAdvice::Shorter);
        }
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
        assert_eq!(polling.exponent().exponent(), 5);
        for _ in 0..80 {
            polling.missed();
        }
        assert_eq!(polling.exponent().exponent(), 6);
        polling.restart(Some(Burst { good: 4, total: 8 }));
        assert!((polling.interval_seconds() - 2.0).abs() < 1e-9);
    }
}
