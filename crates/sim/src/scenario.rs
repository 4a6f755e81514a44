//! A world described in a few words, and what must hold in it.

use crate::clock::Course;
use crate::watch::Watch;
use crate::{
    Action, Adversary, Burst, Chance, Lie, Limits, Outcome, Path, SimulatedClock, SimulatedServer, World,
};
use chime_discipline::LeapMode;
use chime_engine::{AuthenticationPolicy, Config, Engine, SourceConfig};
use chime_time::{NtpDate, NtpDuration, PollExponent, Precision};
use chime_wire::LeapIndicator;
use std::ops::Range;

/// Where worlds start when nothing else is said: an ordinary day in 2026, Unix seconds.
pub const START_UNIX_SECONDS: i64 = 1_795_187_154;

/// 1 January 2027, 00:00 UTC, for worlds with a leap second.
const MIDNIGHT_UNIX_SECONDS: i64 = 1_798_761_600;

/// Seconds, for readable scenarios.
#[must_use]
pub const fn seconds(seconds: f64) -> f64 {
    seconds
}

/// Minutes as seconds.
#[must_use]
pub const fn minutes(minutes: f64) -> f64 {
    60.0 * minutes
}

/// Milliseconds as seconds.
#[must_use]
pub const fn millis(millis: f64) -> f64 {
    millis * 1e-3
}

/// Microseconds as seconds.
#[must_use]
pub const fn micros(micros: f64) -> f64 {
    micros * 1e-6
}

/// A client of some servers, and what happens to it.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(crate) servers: Vec<ServerPlan>,
    pub(crate) path: Path,
    pub(crate) clock: ClockPlan,
    pub(crate) client: ClientPlan,
    pub(crate) bursts: Vec<Burst>,
    pub(crate) start: NtpDate,
    pub(crate) duration: f64,
    pub(crate) leap: LeapIndicator,
    pub(crate) adversary: Option<Adversary>,
    pub(crate) actions: Vec<(f64, Action)>,
    configure: fn(&mut Config),
}

/// A server as a scenario has it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct ServerPlan {
    pub(crate) lie: Lie,
    /// Another path than the usual one.
    pub(crate) path: Option<Path>,
    /// Standard deviation of the error of its time stamps, seconds.
    pub(crate) stamp_noise: f64,
    /// 1 when absent.
    pub(crate) stratum: Option<u8>,
}

/// The client's clock as a scenario has it; seconds, s per s.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ClockPlan {
    pub(crate) offset: f64,
    pub(crate) frequency: f64,
    pub(crate) wander: f64,
    pub(crate) course: Course,
    pub(crate) resolution: f64,
    pub(crate) stamp_noise: f64,
}

/// The client as a scenario has it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct ClientPlan {
    pub(crate) nts: bool,
    pub(crate) poll_min: Option<PollExponent>,
    pub(crate) poll_max: Option<PollExponent>,
    pub(crate) iburst: Option<bool>,
    pub(crate) minimum_agreeing_sources: Option<usize>,
    pub(crate) leap_mode: Option<LeapMode>,
}

impl Scenario {
    /// A client of so many right servers, 1 ms away, without NTS. Its clock starts right, its oscillator is 20 ppm fast.
    #[must_use]
    pub fn client_of(servers: usize) -> Self {
        let (resolution, stamp_noise) = (0.0, 0.0);
        Self {
            servers: vec![ServerPlan::default(); servers],
            path: Path::default(),
            clock: ClockPlan {
                offset: 0.0,
                frequency: 2e-5,
                wander: 1e-9,
                course: Course::default(),
                resolution,
                stamp_noise,
            },
            client: ClientPlan::default(),
            bursts: Vec::new(),
            start: NtpDate::from_unix(START_UNIX_SECONDS, 0),
            duration: minutes(30.0),
            leap: LeapIndicator::NoWarning,
            adversary: None,
            actions: Vec::new(),
            configure: |_| {},
        }
    }

    /// All sources use NTS, and authentication is required.
    #[must_use]
    pub fn nts(mut self) -> Self {
        self.client.nts = true;
        self
    }

    /// So many of the servers are wrong, each by another multiple of `error` seconds.
    #[must_use]
    pub fn falsetickers(self, count: usize, error: f64) -> Self {
        let sign = |index: usize| if index.is_multiple_of(2) { 1.0 } else { -1.0 };
        self.liars(
            (0..count)
                .map(|index| Lie { offset: sign(index) * error * (index / 2 + 1) as f64, ..Lie::default() }),
        )
    }

    /// The last servers tell these lies.
    #[must_use]
    pub fn liars(mut self, lies: impl ExactSizeIterator<Item = Lie>) -> Self {
        let right = self.servers.len().saturating_sub(lies.len());
        for (server, lie) in self.servers.iter_mut().skip(right).zip(lies) {
            server.lie = lie;
        }
        self
    }

    /// Mean queueing delay on each direction, seconds.
    #[must_use]
    pub const fn jitter(mut self, jitter: f64) -> Self {
        self.path.there.jitter = jitter;
        self.path.back.jitter = jitter;
        self
    }

    /// Shortest delay on each direction, seconds.
    #[must_use]
    pub const fn delay(mut self, there: f64, back: f64) -> Self {
        self.path.there.base = there;
        self.path.back.base = back;
        self
    }

    /// The path as a whole.
    #[must_use]
    pub const fn path(mut self, path: Path) -> Self {
        self.path = path;
        self
    }

    /// Random walk of the oscillator, s per s in each second.
    #[must_use]
    pub const fn wander(mut self, wander: f64) -> Self {
        self.clock.wander = wander;
        self
    }

    /// Our clock starts wrong by so many seconds, its oscillator by so many s per s.
    #[must_use]
    pub const fn clock(mut self, offset: f64, frequency: f64) -> Self {
        self.clock.offset = offset;
        self.clock.frequency = frequency;
        self
    }

    /// The world starts at this date.
    #[must_use]
    pub const fn start(mut self, start: NtpDate) -> Self {
        self.start = start;
        self
    }

    /// How long it is watched, seconds.
    #[must_use]
    pub const fn duration(mut self, duration: f64) -> Self {
        self.duration = duration;
        self
    }

    /// What the servers announce.
    #[must_use]
    pub const fn leap(mut self, leap: LeapIndicator) -> Self {
        self.leap = leap;
        self
    }

    /// Somebody is on the way from the start.
    #[must_use]
    pub fn adversary(mut self, adversary: Adversary) -> Self {
        self.adversary = Some(adversary);
        self
    }

    /// Something happens at a time, seconds; in the order of time.
    #[must_use]
    pub fn at(mut self, time: f64, action: Action) -> Self {
        self.actions.push((time, action));
        self.actions.sort_by(|a, b| a.0.total_cmp(&b.0));
        self
    }

    /// All pass a leap second at `time`, seconds, the end of the year 2026: announced by the servers from the start, and passed
    /// by the client in this way.
    #[must_use]
    pub fn leap_second(mut self, time: f64, insert: bool, mode: Option<LeapMode>) -> Self {
        self.start = NtpDate::from_unix(MIDNIGHT_UNIX_SECONDS, 0) - NtpDuration::from_secs_f64(time);
        self.leap = if insert { LeapIndicator::Insert } else { LeapIndicator::Delete };
        self.client.leap_mode = mode.or(self.client.leap_mode);
        // One that is left out ends a second before midnight.
        self.start = self.start - NtpDuration::from_seconds(i64::from(!insert));
        self.at(time, Action::LeapSecond(insert))
    }

    /// Whether there is a leap second already.
    pub(crate) fn has_leap_second(&self) -> bool {
        self.actions.iter().any(|(_, action)| matches!(action, Action::LeapSecond(_)))
    }

    /// Changes the configuration.
    #[must_use]
    pub fn configure(mut self, configure: fn(&mut Config)) -> Self {
        self.configure = configure;
        self
    }

    /// What must hold.
    #[must_use]
    pub const fn expect(self, limits: Limits) -> Expectation {
        Expectation { scenario: self, limits }
    }

    /// The client must never say that it is synchronised, and never touch its clock's time.
    #[must_use]
    pub const fn expect_no_synchronisation(self) -> Expectation {
        self.expect(Limits::no_synchronisation())
    }

    /// Builds the world of a seed.
    #[must_use]
    pub fn world(&self, seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let plan = &self.clock;
        let clock = SimulatedClock::new(self.start, plan.offset, plan.frequency, plan.wander)
            .with_course(plan.course.clone())
            .with_stamps(plan.resolution, plan.stamp_noise);
        let servers = (0..).zip(&self.servers).map(|(number, plan)| {
            let mut server = SimulatedServer::new(number, self.start, &mut chance);
            server.lie = plan.lie;
            server.stamp_noise = plan.stamp_noise;
            server.stratum = plan.stratum.unwrap_or(1);
            server.leap = self.leap;
            server
        });
        let servers = servers.collect();
        let engine = Engine::new(self.config(), chance.octets(), clock.read());
        let paths = self.servers.iter().map(|server| server.path.unwrap_or(self.path)).collect();
        let mut world = World::new(engine, clock, servers, paths, chance);
        world.set_bursts(&self.bursts);
        world.act(&Action::Adversary(self.adversary.clone()));
        world
    }

    fn config(&self) -> Config {
        let policy =
            if self.client.nts { AuthenticationPolicy::Required } else { AuthenticationPolicy::Mixed };
        let mut config = Config {
            sources: (0..self.servers.len()).map(|index| self.source(index)).collect(),
            authentication: policy,
            ..Config::default()
        };
        config.known_time.build_unix_seconds = self.start.unix_seconds() - 30 * 86_400;
        if let Some(minimum) = self.client.minimum_agreeing_sources {
            config.discipline.minimum_agreeing_sources = minimum;
        }
        if let Some(mode) = self.client.leap_mode {
            config.discipline.leap_mode = mode;
        }
        if self.clock.resolution > 0.0 {
            config.discipline.precision =
                precision_of(self.clock.resolution).max(config.discipline.precision);
        }
        (self.configure)(&mut config);
        config
    }

    fn source(&self, index: usize) -> SourceConfig {
        let name = World::name(index);
        let usual = if self.client.nts { SourceConfig::nts(&name) } else { SourceConfig::server(&name) };
        SourceConfig {
            poll_min: self.client.poll_min.unwrap_or(usual.poll_min),
            poll_max: self.client.poll_max.unwrap_or(usual.poll_max),
            iburst: self.client.iburst.unwrap_or(usual.iburst),
            ..usual
        }
    }

    /// Runs one world; the error counts against `limits` as described there.
    #[must_use]
    pub fn run(&self, seed: u64, limits: &Limits) -> Outcome {
        self.run_watched(seed, Watch::new(limits, self.duration))
    }

    /// Runs one world, and keeps how it went over time.
    #[must_use]
    pub fn run_with_trace(&self, seed: u64, limits: &Limits) -> Outcome {
        self.run_watched(seed, Watch::new(limits, self.duration).with_trace(self.duration))
    }

    fn run_watched(&self, seed: u64, mut watch: Watch) -> Outcome {
        let mut world = self.world(seed);
        for (time, action) in &self.actions {
            world.run(*time, &mut |world| watch.second(world));
            world.act(action);
            watch.excuse(world.clock.time());
        }
        world.run(self.duration, &mut |world| watch.second(world));
        watch.outcome(seed, world)
    }
}

/// The precision of a clock that ticks every `resolution` seconds, rounded up, as the daemon would measure it.
pub(crate) fn precision_of(resolution: f64) -> Precision {
    let exponents = -32i8..=0;
    let fits = |exponent: &i8| 2f64.powi(i32::from(*exponent)) >= resolution;
    Precision::new({ exponents }.find(fits).unwrap_or(0))
}

/// A scenario and its limits.
#[derive(Clone, Debug)]
pub struct Expectation {
    scenario: Scenario,
    limits: Limits,
}

impl Expectation {
    /// Runs the worlds of these seeds and gives their outcomes.
    ///
    /// # Panics
    /// When a limit is broken; the message names the seed.
    pub fn run_seeds(self, seeds: Range<u64>) -> Vec<Outcome> {
        seeds
            .map(|seed| {
                let outcome = self.scenario.run(seed, &self.limits);
                if let Err(broken) = outcome.check(&self.limits) {
                    panic!("seed {seed}: {broken}\nreplay it alone with .run_seeds({seed}..{})", seed + 1);
                }
                outcome
            })
            .collect()
    }

    /// Runs one world and says what does not hold.
    ///
    /// # Errors
    /// The limit that is broken.
    pub fn check(&self, seed: u64) -> Result<Outcome, String> {
        let outcome = self.scenario.run(seed, &self.limits);
        outcome.check(&self.limits).map(|()| outcome)
    }

    /// The scenario.
    #[must_use]
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// The offset of a date from the start of an ordinary world, as [`NtpDuration`]; for scenarios around a date.
#[must_use]
pub fn before(date: NtpDate, seconds: i64) -> NtpDate {
    date - NtpDuration::from_seconds(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_ticks_has_the_precision_of_its_ticks() {
        assert_eq!(precision_of(0.01), Precision::new(-6));
        assert_eq!(precision_of(1e-6), Precision::new(-19));
        assert_eq!(precision_of(0.5), Precision::new(-1));
    }
}
