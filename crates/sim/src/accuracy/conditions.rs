//! One world in steady state, and the client's error in it.

use crate::clock::Course;
use crate::scenario::precision_of;
use crate::{
    Action, Burst, Chance, Direction, Lie, Path, Ramp, START_UNIX_SECONDS, SimulatedClock, SimulatedServer,
    Sine, World,
};
use chime_engine::{Config, Engine, SourceConfig};
use chime_time::{NtpDate, PollExponent};
use serde::Deserialize;

/// What a client meets: the keys of a world file (docs/accuracy.md).
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Conditions {
    /// How many servers it follows, the liars included.
    pub servers: u8,
    /// The shortest poll interval, log2 seconds.
    pub poll_min: i8,
    /// The longest poll interval, log2 seconds.
    pub poll_max: i8,
    /// Whether polling starts with a burst.
    pub iburst: bool,
    /// Requests of that burst; the daemon's own number when absent.
    pub iburst_requests: Option<u8>,
    /// Error of the clock at the start, seconds; the default is just what the usual step policy still slews.
    pub offset: f64,
    /// Error of the oscillator at the start, s per s; 1e-5 to 1e-4 in either direction when absent.
    pub frequency: Option<f64>,
    /// What the oscillator's frequency gains in a random direction each second, standard deviation in s per s.
    pub wander: f64,
    /// A part of the frequency that comes and goes.
    pub sine: Option<Sine>,
    /// More such parts.
    pub sines: Vec<Sine>,
    /// What the frequency gains in a day, s per s.
    pub ageing: f64,
    /// Slow changes of the frequency.
    pub ramps: Vec<Ramp>,
    /// Sudden changes of the frequency.
    pub frequency_steps: Vec<FrequencyStep>,
    /// To the servers.
    pub there: Direction,
    /// Back.
    pub back: Direction,
    /// Probability that a datagram is lost, for each direction.
    pub loss: f64,
    /// Probability that a datagram is delivered twice, for each direction.
    pub duplication: f64,
    /// Probability that a datagram is delayed by up to three seconds more, for each direction.
    pub reordering: f64,
    /// Other delays from some time on.
    pub routes: Vec<Route>,
    /// Times of congestion.
    pub bursts: Vec<Burst>,
    /// Standard deviation of the error of the client's time stamps, seconds.
    pub client_noise: f64,
    /// Standard deviation of the error of the servers' time stamps, seconds.
    pub server_noise: f64,
    /// The client's time stamps are multiples of so many seconds; 0 = exact.
    pub resolution: f64,
    /// Servers that are wrong: the last ones.
    pub liars: Vec<Lie>,
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

/// A change of the paths to all servers, or to one.
#[derive(Clone, Copy, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Seconds after the start.
    pub at: f64,
    /// Whose path changes, the first server is 0; everybody's when absent.
    pub server: Option<u8>,
    /// To the servers.
    pub there: Direction,
    /// Back.
    pub back: Direction,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            servers: 1,
            poll_min: 6,
            poll_max: 10,
            iburst: true,
            iburst_requests: None,
            offset: 0.1,
            frequency: None,
            wander: 1e-9,
            sine: None,
            sines: Vec::new(),
            ageing: 0.0,
            ramps: Vec::new(),
            frequency_steps: Vec::new(),
            there: Direction::default(),
            back: Direction::default(),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            routes: Vec::new(),
            bursts: Vec::new(),
            client_noise: 0.0,
            server_noise: 0.0,
            resolution: 0.0,
            liars: Vec::new(),
            from: 20_000.0,
            to: 120_000.0,
        }
    }
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
        self.check_numbers()?;
        self.bursts.iter().try_for_each(Burst::check)?;
        self.liars.iter().try_for_each(Lie::check)?;
        let routes = self.routes.iter().flat_map(|route| [route.there, route.back]);
        routes.chain([self.there, self.back]).try_for_each(|direction| direction.check())
    }

    fn check_numbers(&self) -> Result<(), String> {
        let times = self.frequency_steps.iter().map(|step| step.at).chain(self.routes.iter().map(|r| r.at));
        let small = |value: f64, limit: f64| value.abs() <= limit;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let rules = [
            ("servers: 1 to 16", (1..=16).contains(&self.servers)),
            ("poll-min, poll-max: 0 to 17, in this order", 0 <= self.poll_min && self.poll_max <= 17),
            ("poll-min is above poll-max", self.poll_min <= self.poll_max),
            ("iburst-requests: 1 to 8", self.iburst_requests.is_none_or(|count| (1..=8).contains(&count))),
            ("offset: up to 1e9 s", small(self.offset, 1e9)),
            ("frequency: up to 1e-2 s per s", self.frequency.is_none_or(|value| small(value, 1e-2))),
            ("wander: 0 to 1e-5 s per s", (0.0..=1e-5).contains(&self.wander)),
            (
                "loss, duplication, reordering: 0 to 1",
                [self.loss, self.duplication, self.reordering].into_iter().all(share),
            ),
            ("from, to: 0 <= from < to <= 1e8 s", 0.0 <= self.from && self.from < self.to && self.to <= 1e8),
            (
                "sine, sines: amplitude up to 1e-3 s per s, period from 1 s",
                self.all_sines().all(Sine::is_possible),
            ),
            ("ageing: up to 1e-5 s per s in a day", small(self.ageing, 1e-5)),
            (
                "ramps: by up to 1e-3 s per s, lasting from 1 s, at 0 to 1e8 s",
                self.ramps.iter().all(Ramp::is_possible),
            ),
            (
                "frequency-steps: by up to 1e-3 s per s",
                self.frequency_steps.iter().all(|s| small(s.by, 1e-3)),
            ),
            ("at: 0 to 1e8 s", { times }.all(|at| (0.0..=1e8).contains(&at))),
            (
                "client-noise, server-noise, resolution: 0 to 1 s",
                [self.client_noise, self.server_noise, self.resolution].into_iter().all(share),
            ),
            (
                "routes: server 0 to servers - 1",
                self.routes.iter().all(|route| route.server.is_none_or(|server| server < self.servers)),
            ),
            ("liars: not more than servers", self.liars.len() <= usize::from(self.servers)),
        ];
        rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(rule, _)| Err((*rule).to_owned()))
    }

    /// Builds the world of a seed.
    pub(super) fn world(&self, seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let start = NtpDate::from_unix(START_UNIX_SECONDS, 0);
        let sign = if chance.happens(0.5) { 1.0 } else { -1.0 };
        let drawn = sign * 10f64.powf(-5.0 + chance.uniform());
        let frequency = self.frequency.unwrap_or(drawn);
        let clock = SimulatedClock::new(start, self.offset, frequency, self.wander)
            .with_course(Course {
                sines: self.all_sines().copied().collect(),
                ageing: self.ageing,
                ramps: self.ramps.clone(),
            })
            .with_stamps(self.resolution, self.client_noise);
        let servers = (0..self.servers).map(|number| self.server(number, start, &mut chance)).collect();
        let engine = Engine::new(self.config(), chance.octets(), clock.read());
        let paths = vec![self.path(self.there, self.back); usize::from(self.servers)];
        let mut world = World::new(engine, clock, servers, paths, chance);
        world.set_bursts(&self.bursts);
        world
    }

    fn all_sines(&self) -> impl Iterator<Item = &Sine> {
        self.sine.iter().chain(&self.sines)
    }

    fn server(&self, number: u8, start: NtpDate, chance: &mut Chance) -> SimulatedServer {
        let mut server = SimulatedServer::new(number, start, chance);
        server.stamp_noise = self.server_noise;
        server.lie = self.lie(number);
        server
    }

    /// What the server with this number tells: the liars come last.
    fn lie(&self, number: u8) -> Lie {
        let place = usize::from(number).checked_sub(usize::from(self.servers) - self.liars.len());
        place.and_then(|place| self.liars.get(place)).copied().unwrap_or_default()
    }

    fn config(&self) -> Config {
        let source = |index| {
            let mut source = SourceConfig {
                poll_min: PollExponent::new(self.poll_min),
                poll_max: PollExponent::new(self.poll_max),
                iburst: self.iburst,
                ..SourceConfig::server(&World::name(usize::from(index)))
            };
            source.iburst_requests = self.iburst_requests.unwrap_or(source.iburst_requests);
            source
        };
        let mut config = Config { sources: (0..self.servers).map(source).collect(), ..Config::default() };
        config.known_time.build_unix_seconds = START_UNIX_SECONDS - 30 * 86_400;
        if self.resolution > 0.0 {
            // The daemon measures the precision of its clock.
            config.discipline.precision = precision_of(self.resolution).max(config.discipline.precision);
        }
        config
    }

    fn path(&self, there: Direction, back: Direction) -> Path {
        let Self { loss, duplication, reordering, .. } = *self;
        Path { there, back, loss, duplication, reordering, ..Path::default() }
    }

    /// What happens in the world, in the order of time.
    pub(super) fn actions(&self) -> Vec<(f64, Action)> {
        let steps = self.frequency_steps.iter().map(|step| (step.at, Action::ChangeOscillator(step.by)));
        let routes = self.routes.iter().map(|route| {
            let path = self.path(route.there, route.back);
            let of = |server: u8| Action::Path(usize::from(server), path);
            (route.at, route.server.map_or(Action::Paths(path), of))
        });
        let mut actions: Vec<(f64, Action)> = steps.chain(routes).collect();
        actions.sort_by(|a, b| a.0.total_cmp(&b.0));
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_servers_lie() {
        let liars = vec![
            Lie { offset: 0.5, ..Lie::default() },
            Lie { offset: 0.1, drift: 1e-5, at: 100.0, ..Lie::default() },
        ];
        let world = Conditions { servers: 3, liars, ..Conditions::default() };
        assert!(world.check().is_ok());
        let built = world.world(1);
        let errors = |time| built.servers.iter().map(|s| s.error_at(time)).collect::<Vec<f64>>();
        assert_eq!(errors(0.0), [0.0, 0.5, 0.0]);
        assert!((errors(200.0)[2] - 0.101).abs() < 1e-9);
    }
}
