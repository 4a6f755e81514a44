//! Waiting for slower sources after a start, and when all were gone: the first answer must not set the clock against a
//! majority that is about to be heard.

use crate::Settings;
use crate::source::Source;
use chime_time::MonoTime;

/// The time that the first selectable source waits for others after a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// No source was selectable yet.
    Unasked,
    /// The first one waits until then.
    Until(MonoTime),
    /// Whoever is selectable decides.
    Over,
}

impl Patience {
    /// Whether to wait at `now`; the first question starts the time, which is `seconds` long.
    pub(crate) fn lasts(&mut self, now: MonoTime, seconds: f64) -> bool {
        match *self {
            Self::Unasked => *self = Self::Until(now.add_secs_f64(seconds)),
            Self::Until(end) if end <= now => *self = Self::Over,
            Self::Until(_) | Self::Over => {}
        }
        *self != Self::Over
    }

    pub(crate) const fn deadline(self) -> Option<MonoTime> {
        match self {
            Self::Until(end) => Some(end),
            Self::Unasked | Self::Over => None,
        }
    }
}

/// The longest time that is waited for sources that come back, seconds: two polls at the usual longest interval. The clock
/// runs on by what is known of its oscillator meanwhile, and says with its dispersion how sure that is.
const RETURN_SECONDS_MAX: f64 = 2048.0;

/// How long sources are waited for that were there before an interruption, seconds: one whose address has changed meanwhile is
/// missed for a burst before it is looked for elsewhere.
const INTERRUPTED_SECONDS: f64 = 64.0;

/// How long the first selectable source waits for others, seconds. When all were gone (`returning`) they come back one by one,
/// each with its own poll. `interrupted`: all measurements were dropped, and others were there before.
pub(crate) fn seconds(sources: &[Source], settings: &Settings, returning: bool, interrupted: bool) -> f64 {
    let least = if interrupted { settings.patience.max(INTERRUPTED_SECONDS) } else { settings.patience };
    let missing = sources.iter().filter(|source| returning && source.reach == 0 && !source.options.no_select);
    let polls = missing.filter_map(|source| source.filter.interval()).map(|interval| 2.0 * interval);
    polls.fold(least, f64::max).min(RETURN_SECONDS_MAX.max(least))
}

/// Whether more sources are about to be selectable: some are collecting samples, or most were not heard yet, the `absent` ones
/// among them. A peer that has no time itself may wait for ours.
pub(crate) fn would_gain_by_waiting(
    sources: &[Source],
    absent: usize,
    selectable: usize,
    samples_min: usize,
) -> bool {
    let may_vote = |source: &&Source| !source.options.no_select && !source.is_waiting_peer();
    let voters = absent + sources.iter().filter(may_vote).count();
    sources.iter().any(|source| source.is_collecting(samples_min)) || 2 * selectable <= voters
}
