//! Reference clocks: when they are read, and what becomes of the readings.
//!
//! The shell reads the device when [`crate::Request::ReadReferenceClock`] asks for it, or tells what came by itself; here
//! pulses find their second, readings are collected in a median filter, and the discipline gets a sample of them at each poll.

use crate::engine::Engine;
use crate::pace::Pace;
use crate::sample_noise::SampleNoise;
use crate::timers::Timer;
use crate::{Event, ReferenceClockConfig, ReferenceClockId, Request};
use chime_discipline::{Leap, Lever, Sample, SampleVerdict, SourceId, SourceOptions};
use chime_refclock::{Filtered, MedianFilter, Reading, ReadingKind, Stored, pulse};
use chime_time::{ClockReading, Frequency, MonoTime, NtpDuration};

/// How far ahead of our clock a reading may be, seconds: rounding only.
const LEAD_SECONDS_MAX: f64 = 1e-5;
/// A standard error that is certainly none, seconds: what marks the samples of reference clocks is that they have one.
pub(crate) const STANDARD_ERROR_MIN: f64 = 1e-12;
/// The shortest time between two readings of a device, log2 seconds.
const DRIVER_POLL_MIN: i8 = -6;
/// The longest, log2 seconds: a day and a half, as for servers.
const DRIVER_POLL_MAX: i8 = 17;
/// The most readings that are taken over at once.
const READINGS_MAX: usize = 1024;
/// Samples of an even clock that are further apart say nothing about the time in between.
const PACE_POLLS_MAX: f64 = 4.0;
/// Our clock must be known this well before it says which pulse it was: half of the time between two pulses.
const SELF_SHARE: f64 = 0.5;

/// One reference clock.
#[derive(Debug)]
pub(crate) struct ReferenceClock {
    /// Its number in the discipline.
    pub(crate) id: SourceId,
    pub(crate) config: ReferenceClockConfig,
    /// What the discipline is told.
    pub(crate) effective: SourceOptions,
    pub(crate) reach: u8,
    filter: MedianFilter,
    /// The newest reading that was taken over, for those that are locked to it.
    newest: Option<Stored>,
    /// Scatter of its readings lately, seconds.
    scatter: f64,
    leap: Leap,
    /// Readings of the device since the last sample.
    polled: u32,
    /// Of one that only runs evenly: how our oscillator keeps pace with it.
    pace: Pace,
    last_sample: Option<(MonoTime, NtpDuration)>,
    noise: SampleNoise,
    /// Whether it has said anything that counts since then.
    is_alive: bool,
    /// Readings from before are of a clock that was stepped since.
    not_before: MonoTime,
    next_poll: MonoTime,
    /// Whether it tells pulses which our own clock completes.
    completes_itself: bool,
}

/// Why a reading does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadingRefusal {
    /// It is of the future, too old, from before a step of our clock, or not newer than the last one.
    Time,
    /// It is a pulse, and what could say of which second has said nothing lately.
    NotLocked,
    /// It is a pulse, and too far from what is known of the time to say of which second.
    Ambiguous,
    /// It is further from our clock than the operator lets it be.
    TooFar,
    /// It is TAI, and no list of leap seconds says how far that is from UTC.
    TaiUnknown,
}

impl ReferenceClock {
    pub(crate) fn new(id: SourceId, config: ReferenceClockConfig, now: MonoTime) -> Self {
        Self {
            id,
            effective: config.options,
            reach: 0,
            filter: MedianFilter::new(config.filter),
            newest: None,
            scatter: 0.0,
            leap: Leap::Unsynchronized,
            polled: 0,
            pace: Pace::default(),
            last_sample: None,
            noise: SampleNoise::default(),
            is_alive: false,
            not_before: now,
            next_poll: now,
            completes_itself: false,
            config,
        }
    }

    /// Its name in reports.
    pub(crate) fn name(&self) -> String {
        self.config.name()
    }

    fn driver_poll(&self) -> i8 {
        self.config.driver_poll.min(self.config.poll).clamp(DRIVER_POLL_MIN, DRIVER_POLL_MAX)
    }

    fn poll(&self) -> i8 {
        self.config.poll.clamp(DRIVER_POLL_MIN, DRIVER_POLL_MAX)
    }

    /// Readings of the device for one sample.
    fn polls_wanted(&self) -> u32 {
        1 << u32::from((self.poll() - self.driver_poll()).unsigned_abs())
    }

    /// Forgets readings: the clock was stepped at `now`.
    pub(crate) fn forget(&mut self, now: MonoTime) {
        self.filter.clear();
        (self.newest, self.last_sample) = (None, None);
        self.noise.interrupt();
        self.not_before = now;
    }

    /// The instant of a reading on the monotonic scale.
    fn place(&self, reading: &Reading, now: ClockReading) -> Result<MonoTime, ReadingRefusal> {
        let age = (now.system - reading.at).as_secs_f64();
        let oldest = 2f64.powi(i32::from(self.poll()) + 1);
        if !(-LEAD_SECONDS_MAX..=oldest).contains(&age) {
            return Err(ReadingRefusal::Time);
        }
        let at = now.mono.add_secs_f64(-age.max(0.0));
        if at < self.not_before { Err(ReadingRefusal::Time) } else { Ok(at) }
    }
}

impl Engine {
    /// Takes up the configured reference clocks.
    pub(crate) fn add_reference_clocks(&mut self, now: MonoTime) {
        for config in self.config.reference_clocks.clone() {
            let id = SourceId(self.next_association);
            self.next_association = self.next_association.wrapping_add(1);
            let clock = ReferenceClock::new(id, config, now);
            self.event(Event::ReferenceClockAdded { clock: id, name: clock.name() });
            self.reference_clocks.push(clock);
        }
        self.apply_policy_to_reference_clocks();
        for index in 0..self.reference_clocks.len() {
            let clock = &self.reference_clocks[index];
            if !clock.config.local {
                self.discipline.add_source(clock.id, clock.effective);
            }
            self.schedule_reading(index, now);
        }
    }

    /// Where authenticated servers decide over others, reference clocks decide with them: nobody on the network can be
    /// one.
    pub(crate) fn apply_policy_to_reference_clocks(&mut self) {
        let decides = crate::policy::authenticated_decide(self.config.authentication, &self.config.sources);
        for clock in &mut self.reference_clocks {
            let mut options = SourceOptions { offset_correction: 0.0, ..clock.config.options };
            if decides && !options.no_select {
                (options.trust, options.require) = (true, true);
            }
            clock.effective = options;
            self.discipline.set_source_options(clock.id, options);
        }
    }

    /// The reference identifier of a reference clock.
    #[must_use]
    pub fn reference_clock_name(&self, id: SourceId) -> Option<String> {
        self.reference_clock_index(id).map(|index| self.reference_clocks[index].name())
    }

    pub(crate) fn reference_clock_index(&self, id: SourceId) -> Option<usize> {
        self.reference_clocks.iter().position(|clock| clock.id == id)
    }

    /// The device is due.
    pub(crate) fn read_reference_clock(&mut self, now: MonoTime, id: SourceId) {
        let Some(index) = self.reference_clock_index(id) else { return };
        self.requests.push_back(Request::ReadReferenceClock(ReferenceClockId(index)));
        self.schedule_reading(index, now);
    }

    /// Sets the next reading an interval after the last one was due, and not in the past.
    fn schedule_reading(&mut self, index: usize, now: MonoTime) {
        let clock = &mut self.reference_clocks[index];
        let interval = 2f64.powi(i32::from(clock.driver_poll()));
        let next = clock.next_poll.add_secs_f64(interval);
        clock.next_poll = if next <= now { now.add_secs_f64(interval) } else { next };
        let (timer, at) = (Timer::ReferenceClock(clock.id), clock.next_poll);
        self.timers.set(timer, at);
    }

    /// Takes over what a device said; `polled`: because it was asked, so that a sample may be due.
    pub(crate) fn handle_readings(
        &mut self,
        now: ClockReading,
        clock: ReferenceClockId,
        readings: &[Reading],
        polled: bool,
    ) {
        if self.reference_clocks.get(clock.0).is_none() {
            return;
        }
        self.clock = now;
        for reading in readings.iter().take(READINGS_MAX) {
            self.take_reading(now, clock.0, reading);
        }
        let clock_state = &mut self.reference_clocks[clock.0];
        clock_state.polled += u32::from(polled);
        if clock_state.polled >= clock_state.polls_wanted() {
            clock_state.polled = 0;
            self.make_reference_sample(now, clock.0);
        }
    }

    fn take_reading(&mut self, now: ClockReading, index: usize, reading: &Reading) {
        let pps = self.reference_clocks[index].config.pps;
        let (raw, is_pulse) = match reading.kind {
            ReadingKind::Time(offset) => (offset, pps),
            ReadingKind::Pulse(offset) => (offset, true),
            ReadingKind::Alive => {
                self.reference_clocks[index].is_alive = true;
                return;
            }
        };
        let cooked = self.cook(now, index, reading, (raw, is_pulse));
        let clock = &mut self.reference_clocks[index];
        let result = cooked.and_then(|(stored, leap)| {
            if !clock.filter.add(stored) {
                return Err(ReadingRefusal::Time);
            }
            (clock.newest, clock.leap) = (Some(stored), leap);
            clock.is_alive = true;
            Ok(stored)
        });
        let clock = &self.reference_clocks[index];
        let precision = self.precision_of(index);
        let event = match result {
            Ok(stored) => Event::ReferenceClockRead {
                clock: clock.id,
                at: reading.at,
                number: clock.polled,
                leap: clock.leap,
                is_pulse,
                raw,
                offset: stored.offset,
                dispersion: stored.dispersion.hypot(precision),
            },
            Err(refusal) => Event::ReadingRefused { clock: clock.id, refusal },
        };
        self.event(event);
    }

    /// A reading with its instant, its second and what the operator adds; and what is known of leap seconds with it.
    fn cook(
        &mut self,
        now: ClockReading,
        index: usize,
        reading: &Reading,
        (raw, is_pulse): (NtpDuration, bool),
    ) -> Result<(Stored, Leap), ReadingRefusal> {
        let clock = &self.reference_clocks[index];
        let at = clock.place(reading, now)?;
        let limit = clock.config.max_offset;
        if !is_pulse && limit > 0.0 && raw.as_secs_f64().abs() > limit {
            return Err(ReadingRefusal::TooFar);
        }
        let tai = if clock.config.tai {
            // By what the clock says, as ours may be decades off.
            let date = if is_pulse { reading.at } else { reading.at + raw };
            let offset = self.discipline.leap_status(date).tai_offset;
            NtpDuration::from_seconds(i64::from(offset.ok_or(ReadingRefusal::TaiUnknown)?))
        } else {
            NtpDuration::ZERO
        };
        let correction = NtpDuration::from_secs_f64(clock.config.options.offset_correction) - tai;
        let dispersion = if reading.dispersion.is_finite() { reading.dispersion.abs() } else { 0.0 };
        let stored = |offset| Stored { at, offset, dispersion };
        if !is_pulse {
            let leap = if clock.config.local { Leap::Unsynchronized } else { reading.leap };
            return Ok((stored(raw + correction), leap));
        }
        let pulses = clock.config.pulses;
        let wrapped = pulse::wrapped(raw + correction, pulses);
        let (reference, error, leap) = self.what_completes(index, at)?;
        let aligned = pulse::align(wrapped, pulses, reference.as_secs_f64(), error);
        let offset = aligned.ok_or(ReadingRefusal::Ambiguous)?;
        Ok((stored(NtpDuration::from_secs_f64(offset)), leap))
    }

    /// What our offset is at `at` by the clock that says which pulse it was, within which error, and its leap status: the
    /// clock that this one is locked to, or our own.
    fn what_completes(
        &mut self,
        index: usize,
        at: MonoTime,
    ) -> Result<(NtpDuration, f64, Leap), ReadingRefusal> {
        let clock = &self.reference_clocks[index];
        let pulses = clock.config.pulses;
        if let Some(lock) = clock.config.lock {
            let other = self.reference_clocks.iter().find(|other| other.config.reference_id == lock);
            let other = other.ok_or(ReadingRefusal::NotLocked)?;
            let newest = other.newest.ok_or(ReadingRefusal::NotLocked)?;
            // A single reading of it may be off by that, too.
            let error = newest.dispersion.max(other.scatter);
            let leap = other.leap;
            let age = at.seconds_since(newest.at);
            if age.abs() > f64::from(clock.config.max_lock_pulses) * pulses.interval() {
                return Err(ReadingRefusal::NotLocked);
            }
            let change = NtpDuration::from_secs_f64(self.discipline.expected_change(newest.at, at).0);
            return Ok((newest.offset + change, error, leap));
        }
        let system = self.discipline.system(at);
        let uncorrected = if self.config.discipline.steer { 0.0 } else { system.system_offset.abs() };
        let is_known = system.synchronized || system.local_active;
        if !is_known || system.root_distance() - uncorrected >= SELF_SHARE * pulses.interval() {
            // What was collected was completed by a clock that is not known any more.
            self.reference_clocks[index].filter.clear();
            return Err(ReadingRefusal::NotLocked);
        }
        self.reference_clocks[index].completes_itself = true;
        Ok((NtpDuration::from_secs_f64(system.system_offset), 0.0, system.leap))
    }

    /// What each reading of a clock is uncertain by, seconds.
    fn precision_of(&self, index: usize) -> f64 {
        let configured = self.reference_clocks[index].config.precision;
        configured.unwrap_or_else(|| self.config.discipline.precision.seconds())
    }

    /// A poll: the filter gives a sample, or the clock is a little less reachable.
    fn make_reference_sample(&mut self, now: ClockReading, index: usize) {
        let precision = self.precision_of(index);
        let discipline = &self.discipline;
        let clock = &mut self.reference_clocks[index];
        let expected = usize::try_from(clock.polls_wanted()).unwrap_or(usize::MAX);
        let filtered =
            clock.filter.take(expected, precision, |from, to| discipline.expected_change(from, to).0);
        let limit = clock.config.max_dispersion;
        let filtered = filtered.filter(|sample| limit <= 0.0 || sample.dispersion <= limit);
        let was_reachable = clock.reach != 0;
        clock.reach = clock.reach << 1 | u8::from(std::mem::take(&mut clock.is_alive));
        let (id, reach, leap, name) = (clock.id, clock.reach, clock.leap, clock.name());
        if was_reachable != (reach != 0) {
            self.event(Event::ReferenceClockReachable { clock: id, name, reachable: reach != 0 });
        }
        self.discipline.set_reach(id, reach);
        if let Some(filtered) = filtered {
            let scatter = &mut self.reference_clocks[index].scatter;
            *scatter = if *scatter > 0.0 {
                f64::midpoint(*scatter, filtered.dispersion)
            } else {
                filtered.dispersion
            };
            let age = now.mono.seconds_since(filtered.at);
            self.event(Event::ReferenceClockSampled {
                clock: id,
                at: now.system - NtpDuration::from_secs_f64(age),
                leap,
                offset: filtered.offset,
                dispersion: filtered.dispersion,
            });
            let moved = self.free_move(index, &filtered);
            if self.reference_clocks[index].config.local {
                return self.keep_pace(index, moved);
            }
            let noise = &mut self.reference_clocks[index].noise;
            let stated = filtered.standard_error;
            let standard_error = match moved {
                Some((elapsed, moved)) => noise.note(elapsed, moved, stated),
                None => {
                    noise.interrupt();
                    noise.standard_error(stated)
                }
            };
            let stratum = self.reference_stratum(now.mono, index);
            let config = &self.reference_clocks[index].config;
            let sample = Sample {
                at: filtered.at,
                offset: filtered.offset,
                delay: NtpDuration::ZERO,
                dispersion: NtpDuration::from_secs_f64(filtered.dispersion),
                root_delay: NtpDuration::from_secs_f64(config.delay),
                root_dispersion: NtpDuration::ZERO,
                stratum,
                leap,
                reference_id: config.reference_id,
                standard_error: standard_error.max(STANDARD_ERROR_MIN),
                lever: Lever::default(),
            };
            let _verdict: SampleVerdict = self.discipline.add_sample(now.mono, id, sample);
        }
        self.discipline.update(now.mono);
    }

    /// How long ago the sample before was, and by how much our oscillator has moved away from the clock since then, had
    /// nobody steered it; seconds. `None`: there was none lately.
    fn free_move(&mut self, index: usize, sample: &Filtered) -> Option<(f64, f64)> {
        let clock = &mut self.reference_clocks[index];
        let (from, offset) = clock.last_sample.replace((sample.at, sample.offset))?;
        let elapsed = sample.at.seconds_since(from);
        let longest = PACE_POLLS_MAX * 2f64.powi(i32::from(clock.poll()));
        if elapsed <= 0.0 || elapsed > longest {
            return None;
        }
        let frequency = self.discipline.system(sample.at).frequency_ppm * 1e-6;
        let expected = self.discipline.expected_change(from, sample.at).0;
        Some((elapsed, (sample.offset - offset).as_secs_f64() - expected + frequency * elapsed))
    }

    /// A sample of a clock that only runs evenly.
    fn keep_pace(&mut self, index: usize, moved: Option<(f64, f64)>) {
        let Some((elapsed, moved)) = moved.filter(|_| self.config.discipline.steer) else { return };
        let compensation = self.reference_clocks[index].pace.note(moved / elapsed, elapsed);
        self.requests.push_back(Request::Compensate(Frequency::from_ratio(compensation)));
    }

    /// The stratum of a clock: as configured, but for pulses that our own clock completes while it follows nothing better
    /// than them. They make it run well, and know no more of the time than it does.
    fn reference_stratum(&self, now: MonoTime, index: usize) -> u8 {
        let clock = &self.reference_clocks[index];
        let system = self.discipline.system(now);
        let is_own = |id: [u8; 4]| {
            let mut others = self.reference_clocks.iter();
            others.any(|other| other.config.reference_id == id && other.completes_itself)
        };
        let follows_itself = system.local_active || system.synchronized && is_own(system.reference_id);
        if clock.completes_itself && follows_itself {
            system.stratum.saturating_sub(1)
        } else {
            clock.config.stratum
        }
    }
}
