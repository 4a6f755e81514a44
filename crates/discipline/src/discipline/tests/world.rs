//! A small world for tests: an oscillator that wanders, paths with queues, servers that are right or wrong.

use crate::{ClockCommand, ClockFailure, Discipline, Leap, Lever, Sample, Settings, SourceId, SourceOptions};
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration};

/// A small generator of good numbers (SplitMix64): tests must repeat bit for bit.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 (not included) and 1.
    pub(super) fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// A server and the way to it.
#[derive(Clone, Copy)]
pub(super) struct Server {
    /// Its clock minus true time, seconds.
    pub(super) error: f64,
    pub(super) base: f64,
    /// Mean queueing delay there and back.
    pub(super) jitter: (f64, f64),
    pub(super) poll: f64,
    /// Polls of the first burst, 2 s apart.
    pub(super) burst: u32,
    pub(super) stratum: u8,
    pub(super) root_dispersion: f64,
    pub(super) leap: Leap,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            error: 0.0,
            base: 5e-5,
            jitter: (1e-5, 1e-5),
            poll: 16.0,
            burst: 8,
            stratum: 1,
            root_dispersion: 1e-5,
            leap: Leap::NoWarning,
        }
    }
}

/// One client in it.
pub(super) struct World {
    pub(super) discipline: Discipline,
    pub(super) servers: Vec<Server>,
    next_poll: Vec<(f64, u32)>,
    random: Random,
    /// True time, our clock minus true time, the monotonic clock; seconds.
    pub(super) time: f64,
    pub(super) clock_error: f64,
    mono: f64,
    /// Frequency error of the oscillator and the frequency that was set.
    pub(super) oscillator: f64,
    pub(super) frequency: f64,
    pub(super) wander: f64,
    next_wander: f64,
    /// How late timers are, seconds.
    pub(super) lateness: f64,
    pub(super) failure: Option<ClockFailure>,
    pub(super) steps: Vec<f64>,
    pub(super) status: Option<ClockCommand>,
    pub(super) tai_offset: Option<i32>,
    /// True time at the start, Unix seconds, in worlds in which the date matters. The world counts on without leap
    /// seconds: clocks that pass one are wrong by it from then on.
    pub(super) start: Option<i64>,
    /// Of servers whose reference identifier matters.
    pub(super) reference_ids: std::collections::BTreeMap<usize, [u8; 4]>,
}

impl World {
    pub(super) fn new(seed: u64, settings: Settings, servers: &[Server]) -> Self {
        let now = MonoTime::from_nanos(1_000_000_000);
        let mut discipline = Discipline::new(settings, None, now);
        for index in 0..servers.len() {
            discipline.add_source(id(index), SourceOptions::default());
        }
        Self {
            discipline,
            servers: servers.to_vec(),
            next_poll: (0..servers.len()).map(|index| (0.1 + 0.01 * index as f64, 0)).collect(),
            random: Random(seed),
            time: 0.0,
            clock_error: 0.0,
            mono: 1.0,
            oscillator: 0.0,
            frequency: 0.0,
            wander: 0.0,
            next_wander: 1.0,
            lateness: 1e-4,
            failure: None,
            steps: Vec::new(),
            status: None,
            tai_offset: None,
            start: None,
            reference_ids: std::collections::BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(self.mono)
    }

    /// Lets the oscillator run until `time`.
    fn advance(&mut self, time: f64) {
        while self.time < time {
            let until = time.min(self.next_wander);
            let elapsed = until - self.time;
            let advance = (1.0 + self.oscillator) * (1.0 + self.frequency) * elapsed;
            self.clock_error += advance - elapsed;
            self.mono += advance;
            self.time = until;
            if until >= self.next_wander {
                self.next_wander += 1.0;
                self.oscillator += self.wander * self.random.normal();
            }
        }
    }

    /// Carries out what the discipline wants.
    pub(super) fn drain(&mut self) {
        while let Some(command) = self.discipline.poll_command() {
            let result = match (self.failure, command) {
                (Some(failure), _) => Err(failure),
                (None, ClockCommand::Step { by }) => {
                    self.clock_error += by.as_secs_f64();
                    self.steps.push(by.as_secs_f64());
                    Ok(command)
                }
                (None, ClockCommand::SetFrequency { frequency }) => {
                    self.frequency = frequency.as_ratio();
                    Ok(command)
                }
                (None, ClockCommand::SetTaiOffset { seconds }) => {
                    self.tai_offset = Some(seconds);
                    Ok(command)
                }
                (None, ClockCommand::SetStatus { .. }) => {
                    self.status = Some(command);
                    Ok(command)
                }
            };
            self.discipline.command_applied(self.now(), result);
        }
    }

    fn exchange(&mut self, index: usize) {
        let server = self.servers[index];
        let there = server.base + server.jitter.0 * self.random.exponential();
        let back = server.base + server.jitter.1 * self.random.exponential();
        let (sent_error, sent) = (self.clock_error, self.mono);
        let end = self.time + there + back;
        self.run_timers(end);
        let (received_error, received) = (self.clock_error, self.mono);
        let offset = server.error + (there - back - sent_error - received_error) / 2.0;
        let sample = Sample {
            at: MonoTime::ZERO.add_secs_f64(sent.midpoint(received)),
            offset: NtpDuration::from_secs_f64(offset),
            delay: NtpDuration::from_secs_f64(there + back + received_error - sent_error),
            dispersion: NtpDuration::from_secs_f64(1e-7),
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::from_secs_f64(server.root_dispersion),
            stratum: server.stratum,
            leap: server.leap,
            reference_id: self.reference_ids.get(&index).copied().unwrap_or([192, 0, 2, 1]),
            standard_error: 0.0,
            lever: Lever::default(),
        };
        self.discipline.add_sample(self.now(), id(index), sample);
        self.update();
        self.drain();
    }

    /// Both clocks.
    pub(super) fn reading(&self) -> Option<ClockReading> {
        let passed = NtpDuration::from_secs_f64(self.time + self.clock_error);
        self.start
            .map(|start| ClockReading { mono: self.now(), system: NtpDate::from_unix(start, 0) + passed })
    }

    fn update(&mut self) {
        self.discipline.update(self.now());
        if let Some(reading) = self.reading() {
            self.discipline.tend_leap_seconds(reading);
        }
    }

    /// Runs to `time`, serving the discipline's timers.
    fn run_timers(&mut self, time: f64) {
        while let Some(deadline) = self.discipline.poll_timeout() {
            let wait =
                deadline.seconds_since(self.now()) / ((1.0 + self.oscillator) * (1.0 + self.frequency));
            let at = self.time + wait.max(0.0) + self.lateness;
            if at >= time {
                break;
            }
            self.advance(at);
            self.update();
            assert!(
                self.discipline.poll_timeout().is_none_or(|next| next > deadline),
                "each timeout moves the deadline"
            );
            self.drain();
        }
        self.advance(time);
    }

    /// Runs until true time is `end`, calling `watch` once a second.
    pub(super) fn run(&mut self, end: f64, mut watch: impl FnMut(&Self)) {
        self.drain();
        let mut next_watch = self.time.floor() + 1.0;
        loop {
            let poll = (0..self.servers.len())
                .min_by(|&a, &b| self.next_poll[a].0.total_cmp(&self.next_poll[b].0))
                .filter(|&index| self.next_poll[index].0 < end);
            let until = poll.map_or(end, |index| self.next_poll[index].0);
            while next_watch <= until {
                self.run_timers(next_watch);
                watch(self);
                next_watch += 1.0;
            }
            self.run_timers(until);
            let Some(index) = poll else { break };
            self.exchange(index);
            let (at, count) = self.next_poll[index];
            let server = &self.servers[index];
            let interval = if count + 1 < server.burst { 2.0 } else { server.poll };
            self.next_poll[index] = (at + interval, count + 1);
        }
    }

    /// Restarts the bursts of all servers, as the engine does when the world changed.
    pub(super) fn burst(&mut self) {
        for (index, next) in self.next_poll.iter_mut().enumerate() {
            *next = (self.time + 0.1 + 0.01 * index as f64, 0);
        }
    }

    /// Lets the servers from `first` on answer only from true time `at`.
    pub(super) fn delay_polls(&mut self, first: usize, at: f64) {
        for (index, next) in self.next_poll.iter_mut().enumerate().skip(first) {
            *next = (at + 0.01 * index as f64, 0);
        }
    }

    /// Root mean square of the true error from `from` to `to`, seconds.
    pub(super) fn rms(&mut self, from: f64, to: f64) -> f64 {
        self.run(from, |_| {});
        let (mut square, mut count) = (0.0, 0u32);
        self.run(to, |world| {
            square += world.clock_error * world.clock_error;
            count += 1;
        });
        (square / f64::from(count)).sqrt()
    }

    /// All events so far.
    pub(super) fn events(&mut self) -> Vec<crate::DisciplineEvent> {
        std::iter::from_fn(|| self.discipline.poll_event()).collect()
    }
}

pub(super) fn id(index: usize) -> SourceId {
    SourceId(u32::try_from(index).expect("few sources"))
}
