//! A world described in a few words, and what must hold in it.

use crate::{Action, Adversary, Chance, Path, SimulatedClock, SimulatedServer, World};
use chime_discipline::DisciplineEvent;
use chime_engine::{AuthenticationPolicy, Config, DiscardReason, Engine, Event, SourceConfig};
use chime_time::{NtpDate, NtpDuration};
use chime_wire::LeapIndicator;
use std::ops::Range;

/// Where worlds start when nothing else is said: an ordinary day in 2026, Unix seconds.
pub const START_UNIX_SECONDS: i64 = 1_795_187_154;

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
    servers: usize,
    nts: bool,
    falsetickers: Vec<f64>,
    path: Path,
    initial_offset: f64,
    frequency_error: f64,
    wander: f64,
    start: NtpDate,
    duration: f64,
    leap: LeapIndicator,
    adversary: Option<Adversary>,
    actions: Vec<(f64, Action)>,
    configure: fn(&mut Config),
}

/// What must hold; seconds, and s per s.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// When the clock must be synchronised and within `offset_max`; infinite: it must never be synchronised.
    pub sync_by: f64,
    /// Greatest error of the clock afterwards.
    pub offset_max: f64,
    /// Greatest root mean square of the error in the last half of the time.
    pub offset_rms: f64,
    /// Greatest error of the frequency correction at the end.
    pub frequency_max: f64,
    /// Greatest number of steps.
    pub steps_max: usize,
    /// For so long after each action nothing is asked of the clock.
    pub recover_within: f64,
    /// Whether the error must always be within the bound that the client claims while it says that it is synchronised.
    pub bound_holds: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sync_by: minutes(2.0),
            offset_max: millis(1.0),
            offset_rms: millis(1.0),
            frequency_max: 1e-6,
            steps_max: 1,
            recover_within: minutes(5.0),
            bound_holds: true,
        }
    }
}

/// What happened in one world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed of the world.
    pub seed: u64,
    /// When the clock was first synchronised and within the limit.
    pub synchronised_at: Option<f64>,
    /// Greatest error after that, outside of the times of recovery, and when it was.
    pub offset_max: f64,
    /// When the greatest error was.
    pub offset_max_at: f64,
    /// Root mean square of the error in the last half, outside of the times of recovery.
    pub offset_rms: f64,
    /// Error of the frequency correction at the end.
    pub frequency_error: f64,
    /// The first time at which the error was beyond the bound claimed: time, error, bound.
    pub bound_broken: Option<(f64, f64, f64)>,
    /// Whether the client ever said that it is synchronised.
    pub ever_synchronised: bool,
    /// The clock's error at the end.
    pub final_error: f64,
    /// Steps commanded.
    pub steps: Vec<f64>,
    /// Everything the engine said.
    pub events: Vec<Event>,
    /// Key establishments by server.
    pub establishments: Vec<u32>,
    /// Requests sent.
    pub requests: u64,
    /// Of all datagrams of the client.
    pub fingerprint: u64,
}

impl Scenario {
    /// A client of so many right servers, 1 ms away, without NTS. Its clock starts right, its oscillator is 20 ppm fast.
    #[must_use]
    pub fn client_of(servers: usize) -> Self {
        Self {
            servers,
            nts: false,
            falsetickers: Vec::new(),
            path: Path::default(),
            initial_offset: 0.0,
            frequency_error: 2e-5,
            wander: 1e-9,
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
        self.nts = true;
        self
    }

    /// So many of the servers are wrong, each by another multiple of `error` seconds.
    #[must_use]
    pub fn falsetickers(mut self, count: usize, error: f64) -> Self {
        let sign = |index: usize| if index.is_multiple_of(2) { 1.0 } else { -1.0 };
        self.falsetickers = (0..count).map(|index| sign(index) * error * (index / 2 + 1) as f64).collect();
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
        self.wander = wander;
        self
    }

    /// Our clock starts wrong by so many seconds, its oscillator by so many s per s.
    #[must_use]
    pub const fn clock(mut self, offset: f64, frequency: f64) -> Self {
        self.initial_offset = offset;
        self.frequency_error = frequency;
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
        let limits = Limits {
            sync_by: f64::INFINITY,
            offset_max: f64::INFINITY,
            offset_rms: f64::INFINITY,
            frequency_max: f64::INFINITY,
            steps_max: 0,
            recover_within: 0.0,
            bound_holds: true,
        };
        self.expect(limits)
    }

    /// Builds the world of a seed.
    #[must_use]
    pub fn world(&self, seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let clock = SimulatedClock::new(self.start, self.initial_offset, self.frequency_error, self.wander);
        let servers = (0..self.servers)
            .map(|index| {
                let number = u8::try_from(index).expect("a scenario has few servers");
                let mut server = SimulatedServer::new(number, self.start, &mut chance);
                // Falsetickers come last.
                let right = self.servers.saturating_sub(self.falsetickers.len());
                server.error = index.checked_sub(right).map_or(0.0, |place| self.falsetickers[place]);
                server.leap = self.leap;
                server
            })
            .collect();
        let engine = Engine::new(self.config(), chance.octets(), clock.read());
        let mut world = World::new(engine, clock, servers, vec![self.path; self.servers], chance);
        world.act(&Action::Adversary(self.adversary.clone()));
        world
    }

    fn config(&self) -> Config {
        let source = |index| {
            let name = World::name(index);
            if self.nts { SourceConfig::nts(&name) } else { SourceConfig::server(&name) }
        };
        let mut config = Config {
            sources: (0..self.servers).map(source).collect(),
            authentication: if self.nts {
                AuthenticationPolicy::Required
            } else {
                AuthenticationPolicy::Mixed
            },
            ..Config::default()
        };
        config.known_time.build_unix_seconds = self.start.unix_seconds() - 30 * 86_400;
        (self.configure)(&mut config);
        config
    }

    /// Runs one world; the error counts against `limits` as described there.
    #[must_use]
    pub fn run(&self, seed: u64, limits: &Limits) -> Outcome {
        let mut world = self.world(seed);
        let mut watch = Watch::new(limits, self.duration);
        for (time, action) in &self.actions {
            world.run(*time, &mut |world| watch.second(world));
            world.act(action);
            watch.excused_until = watch.excused_until.max(world.clock.time() + limits.recover_within);
        }
        world.run(self.duration, &mut |world| watch.second(world));
        watch.outcome(seed, world)
    }
}

/// Watches a world second by second.
struct Watch {
    limits: Limits,
    half: f64,
    excused_until: f64,
    synchronised_at: Option<f64>,
    ever_synchronised: bool,
    offset_max: (f64, f64),
    square: f64,
    count: u32,
    bound_broken: Option<(f64, f64, f64)>,
}

impl Watch {
    const fn new(limits: &Limits, duration: f64) -> Self {
        Self {
            limits: *limits,
            half: duration / 2.0,
            excused_until: 0.0,
            synchronised_at: None,
            ever_synchronised: false,
            offset_max: (0.0, 0.0),
            square: 0.0,
            count: 0,
            bound_broken: None,
        }
    }

    fn second(&mut self, world: &World) {
        let (time, error) = (world.clock.time(), world.clock.error());
        let state = world.engine.discipline().system(world.clock.read().mono);
        self.ever_synchronised |= state.synchronized;
        if time < self.excused_until {
            return;
        }
        if state.synchronized && error.abs() > state.root_distance() {
            self.bound_broken.get_or_insert((time, error, state.root_distance()));
        }
        if state.synchronized && error.abs() <= self.limits.offset_max {
            self.synchronised_at.get_or_insert(time);
        }
        if self.synchronised_at.is_some_and(|at| time >= at) && error.abs() > self.offset_max.0 {
            self.offset_max = (error.abs(), time);
        }
        if time >= self.half {
            self.square += error * error;
            self.count += 1;
        }
    }

    fn outcome(self, seed: u64, world: World) -> Outcome {
        let state = world.engine.discipline().system(world.clock.read().mono);
        let needed = 1.0 / (1.0 + world.clock.oscillator()) - 1.0;
        Outcome {
            seed,
            synchronised_at: self.synchronised_at,
            offset_max: self.offset_max.0,
            offset_max_at: self.offset_max.1,
            offset_rms: (self.square / f64::from(self.count.max(1))).sqrt(),
            frequency_error: state.frequency_ppm * 1e-6 - needed,
            bound_broken: self.bound_broken,
            ever_synchronised: self.ever_synchronised,
            final_error: world.clock.error(),
            steps: world.clock.steps().to_vec(),
            establishments: world.servers.iter().map(|server| server.establishments).collect(),
            requests: world.requests,
            fingerprint: world.fingerprint,
            events: world.events,
        }
    }
}

impl Outcome {
    /// What does not hold, in words.
    ///
    /// # Errors
    /// The first limit that is broken.
    pub fn check(&self, limits: &Limits) -> Result<(), String> {
        if self.steps.len() > limits.steps_max {
            return Err(format!("{} steps: {:?}", self.steps.len(), self.steps));
        }
        if let Some((time, error, bound)) = self.bound_broken.filter(|_| limits.bound_holds) {
            return Err(format!(
                "at {time:.0} s the error {error:+.3e} s was beyond the bound {bound:.3e} s"
            ));
        }
        if limits.sync_by.is_infinite() {
            return if self.ever_synchronised { Err("it synchronised".to_owned()) } else { Ok(()) };
        }
        match self.synchronised_at {
            None => return Err(format!("it never synchronised; error {:+.3e} s", self.final_error)),
            Some(at) if at > limits.sync_by => return Err(format!("it synchronised after {at:.0} s")),
            Some(_) => {}
        }
        if self.offset_max > limits.offset_max {
            return Err(format!("at {:.0} s the error was {:.3e} s", self.offset_max_at, self.offset_max));
        }
        if self.offset_rms > limits.offset_rms {
            return Err(format!("the error was {:.3e} s RMS", self.offset_rms));
        }
        if self.frequency_error.abs() > limits.frequency_max {
            return Err(format!("the frequency was wrong by {:.3e}", self.frequency_error));
        }
        Ok(())
    }

    /// How many datagrams were discarded for this reason.
    #[must_use]
    pub fn discarded(&self, reason: DiscardReason) -> usize {
        let counts = |event: &&Event| matches!(event, Event::Discarded { reason: r, .. } if *r == reason);
        self.events.iter().filter(counts).count()
    }

    /// How many samples entered the discipline.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Sampled { .. })).count()
    }

    /// Whether the discipline said this.
    #[must_use]
    pub fn said(&self, matches: impl Fn(&DisciplineEvent) -> bool) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Discipline(event) if matches(event)))
    }
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
