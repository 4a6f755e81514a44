//! One world in steady state, and the client's error in it.

use crate::{
    Action, Chance, Direction, Path, START_UNIX_SECONDS, SimulatedClock, SimulatedServer, Sine, World,
};
use chime_engine::{Config, Engine, SourceConfig};
use chime_time::{NtpDate, PollExponent};
use serde::Deserialize;

/// Error of the clock at the start, seconds: just what the usual step policy still slews.
const INITIAL_OFFSET: f64 = 0.1;

/// What a client meets: the keys of a world file (docs/accuracy.md).
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Conditions {
    /// How many servers it follows, all of them right.
    pub servers: u8,
    /// The shortest poll interval, log2 seconds.
    pub poll_min: i8,
    /// The longest poll interval, log2 seconds.
    pub poll_max: i8,
    /// What the oscillator's frequency gains in a random direction each second, standard deviation in s per s.
    pub wander: f64,
    /// A part of the frequency that comes and goes.
    pub sine: Option<Sine>,
    /// Sudden changes of the frequency.
    pub frequency_steps: Vec<FrequencyStep>,
    /// To the servers.
    pub there: Direction,
    /// Back.
    pub back: Direction,
    /// Probability that a datagram is lost, for each direction.
    pub loss: f64,
    /// Other delays from some time on.
    pub routes: Vec<Route>,
    /// When the error begins to count, seconds.
    pub from: f64,
    /// When the world ends, seconds.
    pub to: f64,
}

/// A sudden change of the oscillator.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrequencyStep {
    /// Seconds after the start.
    pub at: f64,
    /// Change in s per s.
    pub by: f64,
}

/// A change of the paths to all servers.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Seconds after the start.
    pub at: f64,
    /// To the servers.
    pub there: Direction,
    /// Back.
    pub back: Direction,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            servers: 1,
            poll_min: 4,
            poll_max: 10,
            wander: 1e-9,
            sine: None,
            frequency_steps: Vec::new(),
            there: Direction::default(),
            back: Direction::default(),
            loss: 0.0,
            routes: Vec::new(),
            from: 20_000.0,
            to: 120_000.0,
        }
    }
}

/// What came out, over the seconds that count.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Accuracy {
    /// Root mean square of the system clock's true error, taken once a second; seconds.
    pub rms: f64,
    /// Root mean square of its true frequency error, slews included; s per s.
    pub frequency_rms: f64,
    /// Seconds between the requests to one server.
    pub mean_interval: f64,
}

/// Sums over the seconds that count.
#[derive(Default)]
struct Sums {
    seconds: f64,
    square: f64,
    frequency_square: f64,
    requests_before: Option<u64>,
}

impl Conditions {
    /// Polls every 2^`exponent` seconds.
    #[must_use]
    pub const fn poll(mut self, exponent: i8) -> Self {
        (self.poll_min, self.poll_max) = (exponent, exponent);
        self
    }

    /// Mean queueing delay there and back, seconds.
    #[must_use]
    pub const fn jitter(mut self, there: f64, back: f64) -> Self {
        (self.there.jitter, self.back.jitter) = (there, back);
        self
    }

    /// What cannot be simulated, in words.
    ///
    /// # Errors
    /// The first key with an impossible value.
    pub fn check(&self) -> Result<(), String> {
        let times = self.frequency_steps.iter().map(|step| step.at).chain(self.routes.iter().map(|r| r.at));
        let directions =
            self.routes.iter().flat_map(|route| [route.there, route.back]).chain([self.there, self.back]);
        let small = |value: f64, limit: f64| value.abs() <= limit;
        let rules = [
            ("servers: 1 to 16", (1..=16).contains(&self.servers)),
            ("poll-min, poll-max: 0 to 17, in this order", 0 <= self.poll_min && self.poll_max <= 17),
            ("poll-min is above poll-max", self.poll_min <= self.poll_max),
            ("wander: 0 to 1e-5 s per s", (0.0..=1e-5).contains(&self.wander)),
            ("loss: 0 to 1", (0.0..=1.0).contains(&self.loss)),
            ("from, to: 0 <= from < to <= 1e8 s", 0.0 <= self.from && self.from < self.to && self.to <= 1e8),
            (
                "sine: amplitude up to 1e-3 s per s, period from 1 s",
                self.sine.is_none_or(|sine| small(sine.amplitude, 1e-3) && sine.period >= 1.0),
            ),
            (
                "frequency-steps: by up to 1e-3 s per s",
                self.frequency_steps.iter().all(|s| small(s.by, 1e-3)),
            ),
            ("at: 0 to 1e8 s", { times }.all(|at| (0.0..=1e8).contains(&at))),
            (
                "base, jitter: 0 to 10 s",
                { directions }.all(|d| (0.0..=10.0).contains(&d.base) && (0.0..=10.0).contains(&d.jitter)),
            ),
        ];
        rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(rule, _)| Err((*rule).to_owned()))
    }

    /// Simulates the world of a seed.
    #[must_use]
    pub fn measure(&self, seed: u64) -> Accuracy {
        let mut world = self.world(seed);
        let mut sums = Sums::default();
        let mut watch = |world: &World| {
            if world.clock.time() >= self.from {
                sums.add(world);
            }
        };
        for (at, action) in self.actions() {
            if at < self.to {
                world.run(at, &mut watch);
                world.act(&action);
            }
        }
        world.run(self.to, &mut watch);
        let seconds = sums.seconds.max(1.0);
        let requests = world.requests - sums.requests_before.unwrap_or(world.requests);
        Accuracy {
            rms: (sums.square / seconds).sqrt(),
            frequency_rms: (sums.frequency_square / seconds).sqrt(),
            mean_interval: (self.to - self.from) * f64::from(self.servers) / (requests.max(1) as f64),
        }
    }

    fn world(&self, seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let start = NtpDate::from_unix(START_UNIX_SECONDS, 0);
        let sign = if chance.happens(0.5) { 1.0 } else { -1.0 };
        let frequency = sign * 10f64.powf(-5.0 + chance.uniform());
        let clock = SimulatedClock::new(start, INITIAL_OFFSET, frequency, self.wander).with_sine(self.sine);
        let servers = (0..self.servers).map(|n| SimulatedServer::new(n, start, &mut chance)).collect();
        let engine = Engine::new(self.config(), chance.octets(), clock.read());
        let paths = vec![self.path(self.there, self.back); usize::from(self.servers)];
        World::new(engine, clock, servers, paths, chance)
    }

    fn config(&self) -> Config {
        let source = |index| SourceConfig {
            poll_min: PollExponent::new(self.poll_min),
            poll_max: PollExponent::new(self.poll_max),
            ..SourceConfig::server(&World::name(usize::from(index)))
        };
        let mut config = Config { sources: (0..self.servers).map(source).collect(), ..Config::default() };
        config.known_time.build_unix_seconds = START_UNIX_SECONDS - 30 * 86_400;
        config
    }

    fn path(&self, there: Direction, back: Direction) -> Path {
        Path { there, back, loss: self.loss, ..Path::default() }
    }

    /// What happens in the world, in the order of time.
    fn actions(&self) -> Vec<(f64, Action)> {
        let steps = self.frequency_steps.iter().map(|step| (step.at, Action::ChangeOscillator(step.by)));
        let routes =
            self.routes.iter().map(|route| (route.at, Action::Paths(self.path(route.there, route.back))));
        let mut actions: Vec<(f64, Action)> = steps.chain(routes).collect();
        actions.sort_by(|a, b| a.0.total_cmp(&b.0));
        actions
    }
}

impl Sums {
    fn add(&mut self, world: &World) {
        self.requests_before.get_or_insert(world.requests);
        self.seconds += 1.0;
        self.square += world.clock.error().powi(2);
        self.frequency_square += world.clock.frequency_error().powi(2);
    }
}
