//! Watches a world second by second, for its limits and for its picture.

use crate::{Limits, Outcome, World};
use serde::Serialize;

/// Points of a trace: enough for a picture, and little to keep.
const POINTS_MAX: f64 = 1200.0;

/// What happened between a point and the one before it; seconds, s per s, log2 seconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Point {
    /// Seconds after the start.
    pub time: f64,
    /// Least and greatest error of the clock, system clock minus true time.
    pub error: (f64, f64),
    /// The interval of the error that the client believed in at its widest; `None` where it was not synchronised.
    pub believed: Option<(f64, f64)>,
    /// Least and greatest frequency error of the steered clock, slews included.
    pub frequency_error: (f64, f64),
    /// Frequency that the client gives its clock, without slews; `None` while it does not run.
    pub frequency_given: Option<f64>,
    /// The frequency that would make the clock run true.
    pub frequency_needed: f64,
    /// Least and greatest poll exponent of the sources; `None` without any.
    pub poll: Option<(i8, i8)>,
}

/// Watches.
#[derive(Debug)]
pub(crate) struct Watch {
    limits: Limits,
    half: f64,
    excused_until: f64,
    synchronised_at: Option<f64>,
    ever_synchronised: bool,
    offset_max: (f64, f64),
    square: f64,
    count: u32,
    bound_broken: Option<(f64, f64, f64)>,
    claimed: u64,
    contained: u64,
    first_uncontained: Option<(f64, f64, f64)>,
    liar_followed: Option<(f64, usize)>,
    /// Seconds between two points of the trace, 0: there is none.
    step: f64,
    trace: Vec<Point>,
}

impl Watch {
    pub(crate) fn new(limits: &Limits, duration: f64) -> Self {
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
            claimed: 0,
            contained: 0,
            first_uncontained: None,
            liar_followed: None,
            step: 0.0,
            trace: Vec::new(),
        }
    }

    /// Also keeps a trace of a world that lasts `duration` seconds.
    pub(crate) fn with_trace(mut self, duration: f64) -> Self {
        self.step = (duration / POINTS_MAX).max(1.0);
        self
    }

    /// Something happened to the client: for a while nothing is asked of its clock.
    pub(crate) fn excuse(&mut self, time: f64) {
        self.excused_until = self.excused_until.max(time + self.limits.recover_within);
    }

    pub(crate) fn second(&mut self, world: &World) {
        let (time, error) = (world.clock.time(), world.clock.error());
        let state = world.state().filter(|state| state.synchronized);
        let believed = world.believed_error();
        self.ever_synchronised |= state.is_some();
        self.claimed += u64::from(believed.is_some());
        let holds = believed.is_none_or(|(least, most)| least <= error && error <= most);
        self.contained += u64::from(believed.is_some() && holds);
        let broken = believed.filter(|_| !holds).map(|(least, most)| (time, error, most.max(-least)));
        self.first_uncontained = self.first_uncontained.or(broken);
        if self.step > 0.0 {
            self.draw(world, believed);
        }
        if let Some(liar) = state.as_ref().and_then(|state| world.liar_with(state.reference_id)) {
            self.liar_followed.get_or_insert((time, liar));
        }
        if time < self.excused_until {
            return;
        }
        self.bound_broken = self.bound_broken.or(broken);
        if state.is_some() && error.abs() <= self.limits.offset_max {
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

    fn draw(&mut self, world: &World, believed: Option<(f64, f64)>) {
        let (time, error) = (world.clock.time(), world.clock.error());
        let frequency_error = world.clock.frequency_error();
        if let Some(point) = self.trace.last_mut().filter(|point| time < point.time + self.step) {
            point.error = around(point.error, error);
            point.frequency_error = around(point.frequency_error, frequency_error);
            point.believed = match (point.believed, believed) {
                (Some(before), Some(now)) => Some((before.0.min(now.0), before.1.max(now.1))),
                _ => None,
            };
            return;
        }
        self.trace.push(Point {
            time,
            error: (error, error),
            believed,
            frequency_error: (frequency_error, frequency_error),
            frequency_given: world.state().map(|state| state.frequency_ppm * 1e-6),
            frequency_needed: 1.0 / (1.0 + world.clock.oscillator()) - 1.0,
            poll: world.polls(),
        });
    }

    /// What happened, once the world has ended.
    pub(crate) fn outcome(self, seed: u64, world: World) -> Outcome {
        let needed = 1.0 / (1.0 + world.clock.oscillator()) - 1.0;
        let given = world.state().map_or(0.0, |state| state.frequency_ppm * 1e-6);
        Outcome {
            seed,
            synchronised_at: self.synchronised_at,
            offset_max: self.offset_max.0,
            offset_max_at: self.offset_max.1,
            offset_rms: (self.square / f64::from(self.count.max(1))).sqrt(),
            frequency_error: given - needed,
            bound_broken: self.bound_broken,
            containment: if self.claimed > 0 { self.contained as f64 / self.claimed as f64 } else { 1.0 },
            first_uncontained: self.first_uncontained,
            liar_followed: self.liar_followed,
            ever_synchronised: self.ever_synchronised,
            final_error: world.clock.error(),
            steps: world.clock.steps().to_vec(),
            establishments: world.servers.iter().map(|server| server.establishments).collect(),
            requests: world.requests,
            disk_failures: world.disk_failures(),
            fingerprint: world.fingerprint,
            events: world.events,
            trace: self.trace,
        }
    }
}

fn around(range: (f64, f64), value: f64) -> (f64, f64) {
    (range.0.min(value), range.1.max(value))
}
