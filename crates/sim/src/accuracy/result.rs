//! What came out of one world.

use super::Conditions;
use crate::World;
use serde::Serialize;

/// An error of a clock that most people would call right, seconds.
const RIGHT_SECONDS: f64 = 1e-3;
/// For so long it must stay right to count, seconds.
const RIGHT_FOR_SECONDS: f64 = 60.0;

/// What came out; over the seconds that count where nothing else is said.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Accuracy {
    /// Root mean square of the system clock's true error, taken once a second; seconds.
    pub rms: f64,
    /// Greatest error, seconds.
    pub max: f64,
    /// Root mean square of its true frequency error, slews included; s per s.
    pub frequency_rms: f64,
    /// Seconds between the requests to one server, those of the start included.
    pub mean_interval: f64,
    /// Of all seconds from the start in which the client says that it is synchronised: the share in which true time lies
    /// in the interval that it believes in.
    pub containment: f64,
    /// Mean width of that interval, from its earliest to its latest end; seconds.
    pub bound_width: f64,
    /// Share of the seconds in which the client says that it is synchronised.
    pub synchronized: f64,
    /// From when on the error stayed below 1 ms for a minute, seconds after the start; infinite when it never did.
    pub right_after: f64,
}

/// Sums over the seconds of a world.
#[derive(Default)]
struct Sums {
    seconds: f64,
    square: f64,
    max: f64,
    frequency_square: f64,
    width: f64,
    synchronized: f64,
    /// From the start: seconds in which the client claimed a bound, and those in which it held.
    claimed: f64,
    contained: f64,
    /// Since when the error has been small, and whether that has been long enough.
    right: Option<(f64, bool)>,
}

impl Sums {
    fn second(&mut self, world: &World, from: f64) {
        let (time, error) = (world.clock.time(), world.clock.error());
        let believed = world.believed_error();
        if let Some((least, most)) = believed {
            self.claimed += 1.0;
            self.contained += f64::from(least <= error && error <= most);
        }
        self.right = match self.right {
            Some((since, true)) => Some((since, true)),
            _ if error.abs() >= RIGHT_SECONDS => None,
            None => Some((time, false)),
            Some((since, false)) => Some((since, time - since >= RIGHT_FOR_SECONDS)),
        };
        if time < from {
            return;
        }
        self.seconds += 1.0;
        self.square += error * error;
        self.max = self.max.max(error.abs());
        self.frequency_square += world.clock.frequency_error().powi(2);
        if let Some((least, most)) = believed {
            self.synchronized += 1.0;
            self.width += most - least;
        }
    }
}

impl Conditions {
    /// Simulates the world of a seed.
    #[must_use]
    pub fn measure(&self, seed: u64) -> Accuracy {
        let mut world = self.world(seed);
        let mut sums = Sums::default();
        let mut watch = |world: &World| sums.second(world, self.from);
        for (at, action) in self.actions() {
            if at < self.to {
                world.run(at, &mut watch);
                world.act(&action);
            }
        }
        world.run(self.to, &mut watch);
        let seconds = sums.seconds.max(1.0);
        Accuracy {
            rms: (sums.square / seconds).sqrt(),
            max: sums.max,
            frequency_rms: (sums.frequency_square / seconds).sqrt(),
            mean_interval: self.to * f64::from(self.servers) / (world.requests.max(1) as f64),
            containment: if sums.claimed > 0.0 { sums.contained / sums.claimed } else { 1.0 },
            bound_width: sums.width / sums.synchronized.max(1.0),
            synchronized: sums.synchronized / seconds,
            right_after: sums.right.filter(|right| right.1).map_or(f64::INFINITY, |right| right.0),
        }
    }
}

impl Accuracy {
    /// The median of each figure.
    pub(super) fn median(all: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut values: Vec<f64> = all.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            rms: of(|accuracy| accuracy.rms),
            max: of(|accuracy| accuracy.max),
            frequency_rms: of(|accuracy| accuracy.frequency_rms),
            mean_interval: of(|accuracy| accuracy.mean_interval),
            containment: of(|accuracy| accuracy.containment),
            bound_width: of(|accuracy| accuracy.bound_width),
            synchronized: of(|accuracy| accuracy.synchronized),
            right_after: of(|accuracy| accuracy.right_after),
        }
    }
}

impl std::fmt::Display for Accuracy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "error {:.2e} s RMS, {:.1e} s at most; frequency error {:.1e}; interval {:.0} s; \
             bound {:.1e} s wide, holds {:.3} % of the time; right after {:.0} s",
            self.rms,
            self.max,
            self.frequency_rms,
            self.mean_interval,
            self.bound_width,
            100.0 * self.containment,
            self.right_after,
        )
    }
}
