//! What must hold in a world, and whether it did.

use crate::watch::Point;
use crate::{millis, minutes};
use chime_discipline::DisciplineEvent;
use chime_engine::{DiscardReason, Event};
use serde::Serialize;

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
    /// Whether the error must always be within the bound that the client claims while it says that it is synchronised;
    /// not asked while the client recovers.
    pub bound_holds: bool,
    /// In which share of all seconds that must be so, those of recovery included; 0 to 1.
    pub containment: f64,
    /// Greatest number of requests.
    pub requests_max: u64,
    /// Whether the client must never follow a server whose clock is clearly wrong.
    pub follows_no_liar: bool,
    /// Whether the client must say that there is no majority.
    pub says_no_majority: bool,
    /// Whether the client must say that a server disagrees with the majority.
    pub says_falseticker: bool,
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
            containment: 0.0,
            requests_max: u64::MAX,
            follows_no_liar: false,
            says_no_majority: false,
            says_falseticker: false,
        }
    }
}

impl Limits {
    /// Nothing is asked.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            sync_by: f64::MAX,
            offset_max: f64::INFINITY,
            offset_rms: f64::INFINITY,
            frequency_max: f64::INFINITY,
            steps_max: usize::MAX,
            recover_within: 0.0,
            bound_holds: false,
            containment: 0.0,
            requests_max: u64::MAX,
            follows_no_liar: false,
            says_no_majority: false,
            says_falseticker: false,
        }
    }

    /// The client must never say that it is synchronised, and never touch its clock's time.
    #[must_use]
    pub const fn no_synchronisation() -> Self {
        Self { sync_by: f64::INFINITY, steps_max: 0, bound_holds: true, ..Self::none() }
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
    /// Share of the seconds in which the client said that it is synchronised in which the error was within its bound.
    pub containment: f64,
    /// The first time at which it was not, times of recovery included: time, error, bound.
    pub first_uncontained: Option<(f64, f64, f64)>,
    /// When the client first followed a server whose clock was clearly wrong, and which.
    pub liar_followed: Option<(f64, usize)>,
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
    /// How often the daemon could not write its state.
    pub disk_failures: u64,
    /// Of all datagrams of the client.
    pub fingerprint: u64,
    /// The world over time, when asked for.
    pub trace: Vec<Point>,
}

/// One limit, and whether it was met.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verdict {
    /// The limit, by the key of a scenario file.
    pub limit: &'static str,
    /// Whether it was met.
    pub met: bool,
    /// What was asked for.
    pub asked: String,
    /// What happened, in words.
    pub found: String,
}

impl Outcome {
    /// What does not hold, in words.
    ///
    /// # Errors
    /// The first limit that is broken.
    pub fn check(&self, limits: &Limits) -> Result<(), String> {
        let broken = self.verdicts(limits).into_iter().find(|verdict| !verdict.met);
        broken.map_or(Ok(()), |verdict| Err(verdict.found))
    }

    /// All limits that were asked for.
    #[must_use]
    pub fn verdicts(&self, limits: &Limits) -> Vec<Verdict> {
        let mut verdicts = self.general_verdicts(limits);
        if limits.sync_by.is_infinite() {
            let found = if self.ever_synchronised { "it synchronised" } else { "it never synchronised" };
            verdicts.push(verdict("sync-by", !self.ever_synchronised, "never".to_owned(), found.to_owned()));
        } else {
            self.clock_verdicts(limits, &mut verdicts);
        }
        verdicts
    }

    fn general_verdicts(&self, limits: &Limits) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut push = |limit, met, asked, found| verdicts.push(verdict(limit, met, asked, found));
        if limits.steps_max < usize::MAX {
            let found = match self.steps.len() {
                0 => "no step".to_owned(),
                count => format!("{count} steps: {:?}", self.steps),
            };
            push("steps-max", self.steps.len() <= limits.steps_max, limits.steps_max.to_string(), found);
        }
        if limits.bound_holds {
            let found = self.bound_broken.map_or_else(
                || "the error was always within the bound".to_owned(),
                |(time, error, bound)| {
                    format!("at {time:.0} s the error {error:+.3e} s was beyond the bound {bound:.3e} s")
                },
            );
            push("bound-holds", self.bound_broken.is_none(), "always".to_owned(), found);
        }
        if limits.containment > 0.0 {
            let first = self.first_uncontained.map_or_else(String::new, |(time, error, bound)| {
                format!(", first not at {time:.0} s: {error:+.3e} s, bound {bound:.3e} s")
            });
            let found = format!(
                "the error was within the bound {:.3} % of the time{first}",
                100.0 * self.containment
            );
            let asked = format!("{} %", 100.0 * limits.containment);
            push("containment", self.containment >= limits.containment, asked, found);
        }
        if limits.requests_max < u64::MAX {
            let met = self.requests <= limits.requests_max;
            push("requests-max", met, limits.requests_max.to_string(), format!("{} requests", self.requests));
        }
        if limits.follows_no_liar {
            let found = self.liar_followed.map_or_else(
                || "no liar was followed".to_owned(),
                |(time, server)| format!("at {time:.0} s it followed server {server}, which lies"),
            );
            push("follows-no-liar", self.liar_followed.is_none(), "true".to_owned(), found);
        }
        if limits.says_no_majority {
            let said = self.said(|event| matches!(event, DisciplineEvent::NoMajority { .. }));
            let found = if said { "it said so" } else { "it never said that there is no majority" };
            push("says-no-majority", said, "true".to_owned(), found.to_owned());
        }
        if limits.says_falseticker {
            let said = self.said(|event| matches!(event, DisciplineEvent::Falseticker(_)));
            let found = if said { "it said so" } else { "it never said that servers disagree" };
            push("says-falseticker", said, "true".to_owned(), found.to_owned());
        }
        verdicts
    }

    fn clock_verdicts(&self, limits: &Limits, verdicts: &mut Vec<Verdict>) {
        let mut push = |limit, met, asked, found| verdicts.push(verdict(limit, met, asked, found));
        if limits.sync_by < f64::MAX {
            let found = match self.synchronised_at {
                None => format!("it never synchronised; error {:+.3e} s", self.final_error),
                Some(at) => format!("it synchronised after {at:.0} s"),
            };
            let met = self.synchronised_at.is_some_and(|at| at <= limits.sync_by);
            push("sync-by", met, format!("{:.0} s", limits.sync_by), found);
        }
        if limits.offset_max.is_finite() {
            let found = format!("at {:.0} s the error was {:.3e} s", self.offset_max_at, self.offset_max);
            push(
                "offset-max",
                self.offset_max <= limits.offset_max,
                format!("{:.1e} s", limits.offset_max),
                found,
            );
        }
        if limits.offset_rms.is_finite() {
            let found = format!("the error was {:.3e} s RMS", self.offset_rms);
            push(
                "offset-rms",
                self.offset_rms <= limits.offset_rms,
                format!("{:.1e} s", limits.offset_rms),
                found,
            );
        }
        if limits.frequency_max.is_finite() {
            let found = format!("the frequency was wrong by {:.3e}", self.frequency_error);
            let met = self.frequency_error.abs() <= limits.frequency_max;
            push("frequency-max", met, format!("{:.1e}", limits.frequency_max), found);
        }
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

const fn verdict(limit: &'static str, met: bool, asked: String, found: String) -> Verdict {
    Verdict { limit, met, asked, found }
}
