//! A run of a scenario, for people and as JSON.

use super::ScenarioFile;
use crate::{Fleet, Limits, Outcome, Point, StratumReport, Verdict};
use serde::Serialize;
use std::fmt::Write as _;

/// How a scenario went.
#[derive(Clone, Debug, Serialize)]
pub struct Simulation {
    /// What it is called.
    pub title: String,
    /// The seed of the world.
    pub seed: u64,
    /// How long the world lasted, seconds.
    pub duration: f64,
    /// Whether all limits were met.
    pub met: bool,
    /// Each limit.
    pub limits: Vec<Verdict>,
    /// When the clock was first synchronised (and within its limit, if it has one), seconds; null when never.
    pub synchronised_at: Option<f64>,
    /// Greatest error afterwards, seconds.
    pub error_max: f64,
    /// Root mean square of the error in the last half, seconds.
    pub error_rms: f64,
    /// The clock's error at the end, seconds.
    pub error_end: f64,
    /// Error of the frequency correction at the end, s per s.
    pub frequency_error: f64,
    /// Share of the seconds with a claimed bound in which it held.
    pub containment: f64,
    /// Steps of the clock, seconds.
    pub steps: Vec<f64>,
    /// Requests sent.
    pub requests: u64,
    /// Key establishments by server.
    pub establishments: Vec<u32>,
    /// Answers that were discarded, and why.
    pub discards: Vec<(String, usize)>,
    /// How often the daemon could not write its state.
    pub disk_failures: u64,
    /// Of a fleet: each stratum.
    pub strata: Vec<StratumReport>,
    /// The world over time.
    #[serde(skip)]
    pub trace: Vec<Point>,
    /// When something happened in the world, seconds.
    #[serde(skip)]
    pub event_times: Vec<f64>,
}

/// Runs a scenario with a seed.
#[must_use]
pub fn simulate(file: &ScenarioFile, seed: u64) -> Simulation {
    if let Some(fleet) = &file.fleet {
        return simulate_fleet(file, fleet, seed);
    }
    let outcome = file.scenario.run_with_trace(seed, &file.limits);
    let limits = outcome.verdicts(&file.limits);
    Simulation {
        title: file.title.clone(),
        seed,
        duration: file.scenario.duration,
        met: limits.iter().all(|verdict| verdict.met),
        limits,
        synchronised_at: outcome.synchronised_at,
        error_max: outcome.offset_max,
        error_rms: outcome.offset_rms,
        error_end: outcome.final_error,
        frequency_error: outcome.frequency_error,
        containment: outcome.containment,
        requests: outcome.requests,
        establishments: outcome.establishments.clone(),
        discards: discards(&outcome),
        disk_failures: outcome.disk_failures,
        strata: Vec::new(),
        steps: outcome.steps,
        trace: outcome.trace,
        event_times: file.scenario.actions.iter().map(|action| action.0).collect(),
    }
}

/// The nodes below the first stratum, taken together.
fn simulate_fleet(file: &ScenarioFile, fleet: &Fleet, seed: u64) -> Simulation {
    let strata = fleet.run(seed);
    let below = || strata.iter().skip(1);
    let worst = |figure: fn(&StratumReport) -> f64| below().map(figure).fold(0.0, f64::max);
    let outcome = FleetOutcome {
        synchronised_at: worst(|stratum| stratum.all_synchronised_at),
        error_max: worst(|stratum| stratum.max),
        error_rms: worst(|stratum| stratum.rms),
        containment: 1.0 - worst(|stratum| 1.0 - stratum.containment),
    };
    let limits = outcome.verdicts(&file.limits);
    Simulation {
        title: file.title.clone(),
        seed,
        duration: fleet.duration,
        met: limits.iter().all(|verdict| verdict.met),
        limits,
        synchronised_at: Some(outcome.synchronised_at).filter(|at| at.is_finite()),
        error_max: outcome.error_max,
        error_rms: outcome.error_rms,
        error_end: f64::NAN,
        frequency_error: f64::NAN,
        containment: outcome.containment,
        steps: Vec::new(),
        requests: below().map(|stratum| stratum.requests).sum(),
        establishments: Vec::new(),
        discards: Vec::new(),
        disk_failures: 0,
        strata,
        trace: Vec::new(),
        event_times: Vec::new(),
    }
}

/// The worst stratum in each figure.
struct FleetOutcome {
    synchronised_at: f64,
    error_max: f64,
    error_rms: f64,
    containment: f64,
}

impl FleetOutcome {
    fn verdicts(&self, limits: &Limits) -> Vec<Verdict> {
        let asked = [
            ("sync-by", self.synchronised_at <= limits.sync_by, limits.sync_by, self.synchronised_at),
            ("offset-max", self.error_max <= limits.offset_max, limits.offset_max, self.error_max),
            ("offset-rms", self.error_rms <= limits.offset_rms, limits.offset_rms, self.error_rms),
        ];
        let wanted = { asked }.into_iter().filter(|(_, _, limit, _)| *limit < f64::MAX);
        let mut verdicts: Vec<Verdict> = wanted
            .map(|(limit, met, asked, found)| {
                let text = if limit == "sync-by" { span } else { seconds };
                let found = format!("{} in the worst stratum", text(found));
                Verdict { limit, met, asked: text(asked), found }
            })
            .collect();
        if limits.containment > 0.0 {
            verdicts.push(Verdict {
                limit: "containment",
                met: self.containment >= limits.containment,
                asked: format!("{} %", 100.0 * limits.containment),
                found: format!("{:.3} % in the worst stratum", 100.0 * self.containment),
            });
        }
        verdicts
    }
}

fn discards(outcome: &Outcome) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for event in &outcome.events {
        if let chime_engine::Event::Discarded { reason, .. } = event {
            *counts.entry(format!("{reason}")).or_default() += 1;
        }
    }
    counts.into_iter().collect()
}

impl Simulation {
    /// A summary for people. `replay`: the command that runs this world again.
    #[must_use]
    pub fn text(&self, replay: &str) -> String {
        let mut text = format!("{} ({}, seed {})\n\n", self.title, span(self.duration), self.seed);
        if !self.strata.is_empty() {
            self.add_strata(&mut text);
            self.add_limits(&mut text, replay);
            return text;
        }
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<14} {value}");
        };
        line(
            "synchronised",
            self.synchronised_at.map_or_else(|| "never".to_owned(), |at| format!("after {}", span(at))),
        );
        let (max, rms, end) = (seconds(self.error_max), seconds(self.error_rms), seconds(self.error_end));
        line("error", format!("{rms} RMS in the last half, {max} at most, {end} at the end"));
        line("frequency", format!("wrong by {:.3} ppm at the end", self.frequency_error * 1e6));
        line("error bound", format!("held {:.3} % of the time", 100.0 * self.containment));
        line("steps", self.steps_text());
        let establishments: u32 = self.establishments.iter().sum();
        line("requests", format!("{}, and {establishments} key establishments", self.requests));
        for (reason, count) in &self.discards {
            line("discarded", format!("{count}: {reason}"));
        }
        if self.disk_failures > 0 {
            line("disk", format!("{} writes failed", self.disk_failures));
        }
        self.add_limits(&mut text, replay);
        text
    }

    fn add_strata(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "  stratum   nodes  all synchronised  synchronised  error RMS     at most       bound   it holds   requests"
        );
        for stratum in &self.strata {
            let _ = writeln!(
                text,
                "  {:>7} {:>7}  {:>16}  {:>10.3} %  {:>9}  {:>10}  {:>10}  {:>7.3} %  {:>9}",
                stratum.stratum,
                stratum.nodes,
                span(stratum.all_synchronised_at),
                100.0 * stratum.synchronised,
                seconds(stratum.rms),
                seconds(stratum.max),
                seconds(stratum.bound),
                100.0 * stratum.containment,
                stratum.requests,
            );
        }
    }

    fn steps_text(&self) -> String {
        match &self.steps[..] {
            [] => "none".to_owned(),
            steps if steps.len() <= 4 => {
                steps.iter().map(|step| seconds(*step)).collect::<Vec<_>>().join(", ")
            }
            steps => format!("{}", steps.len()),
        }
    }

    fn add_limits(&self, text: &mut String, replay: &str) {
        if self.limits.is_empty() {
            return;
        }
        text.push('\n');
        for Verdict { limit, met, asked, found } in &self.limits {
            let mark = if *met { "met    " } else { "BROKEN " };
            let _ = writeln!(text, "  {mark} {limit:<18} {asked:<12} {found}");
        }
        let broken = self.limits.iter().filter(|verdict| !verdict.met).count();
        let _ = match broken {
            0 => writeln!(text, "\nAll {} limits were met.", self.limits.len()),
            _ => writeln!(text, "\n{broken} of {} limits broken. Replay: {replay}", self.limits.len()),
        };
    }
}

/// Seconds with a unit that suits them.
pub(crate) fn seconds(seconds: f64) -> String {
    let magnitude = seconds.abs();
    match magnitude {
        0.0 => "0 s".to_owned(),
        m if m < 0.999_5e-6 => format!("{:.0} ns", seconds * 1e9),
        m if m < 0.999_5e-3 => format!("{:.1} us", seconds * 1e6),
        m if m < 0.999_5 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{seconds:.3} s"),
    }
}

/// A time span with a unit that suits it.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.3} min", s / 60.0).replace(".000", ""),
        s if s < 172_800.0 => format!("{:.2} h", s / 3600.0).replace(".00", ""),
        s => format!("{:.2} days", s / 86_400.0).replace(".00", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_tells_which_limits_were_met_and_how_to_replay_it() {
        let file = ScenarioFile::parse(
            "title = 'short'\nduration = '5m'\n[limits]\nsync-by = '1m'\noffset-max = '1ns'\ncontainment = 0.999",
        );
        let simulation = simulate(&file.expect("a scenario"), 3);
        assert!(!simulation.met);
        let met: Vec<_> = simulation.limits.iter().map(|verdict| (verdict.limit, verdict.met)).collect();
        assert_eq!(met, [("containment", true), ("sync-by", false), ("offset-max", true)]);
        let text = simulation.text("chime simulate short.toml --seed 3");
        assert!(text.contains("Replay: chime simulate short.toml --seed 3"), "{text}");
        assert!(!simulation.trace.is_empty());
    }

    #[test]
    fn units_suit_their_numbers() {
        assert_eq!(seconds(1.25e-5), "12.5 us");
        assert_eq!(seconds(-0.5), "-500.00 ms");
        assert_eq!(span(90.0), "90 s");
        assert_eq!(span(7200.0), "2 h");
        assert_eq!(span(150.0), "2.500 min");
    }
}
