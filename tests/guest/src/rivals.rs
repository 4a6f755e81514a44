//! Two guests at the same time, one with chronyd and one with ours, with the same server: whose clock is further off?

use crate::lab::{self, GUEST_ADDRESS, HOST_ADDRESS, Heard, PROBE, SECOND_GUEST_ADDRESS, TAPS};
use crate::report::{Event, Plan};
use crate::scenario::Scenario;
use crate::server::{self, Daemon, Programs, Server};
use crate::{pki, probe};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::thread;

/// A difference below says nothing, in seconds: answers take longer to come in than requests to go out (75 µs and 55), by
/// chance more so in one guest than in the other. chronyd's own medians differ by 5 µs RMS from one run to the next, what
/// 90 % of its errors are below by 6.
const COMPARISON_ERROR: f64 = 15e-6;

/// Comparisons that must be there after settling.
const COMPARISONS_MIN: usize = 60;

/// A comparison whose round trip took so many times the usual one says more about the machine than about the clock.
const ROUND_TRIP_FACTOR: f64 = 1.5;

/// Runs both, and judges them by what they were off from `settle` seconds on. True when ours is not further off.
pub(crate) fn run(scenario: &Scenario, settle: f64, programs: &Programs, folder: &Path) -> Result<bool> {
    lab::set_up_network_for_two()?;
    probe::serve(PROBE)?;
    let pki = pki::make(folder)?;
    let _server = Server::start(Daemon::Chimed, programs, HOST_ADDRESS, &pki, folder)?;
    let guests =
        [(Daemon::Chimed, GUEST_ADDRESS, "ours"), (Daemon::Chronyd, SECOND_GUEST_ADDRESS, "chronyd")];
    let mut runs = Vec::new();
    for ((daemon, address, name), tap) in guests.into_iter().zip(TAPS) {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let plan = Plan { address, ..scenario.plan(server::inside(daemon, programs, (None, ""), &folder)?) };
        runs.push((name, thread::spawn(move || lab::run_guest(&plan, tap, &folder, |_| {}))));
    }
    let mut errors = Vec::new();
    for (name, run) in runs {
        let events = run.join().ok().with_context(|| format!("the guest of {name}"))??;
        errors.push(errors_from(&events, settle));
    }
    let complaints = judge(&errors[0], &errors[1]);
    for complaint in &complaints {
        println!("  WRONG: {complaint}");
    }
    Ok(complaints.is_empty())
}

/// By how much the clock was off, in order of size, in seconds.
fn errors_from(events: &[Heard], settle: f64) -> Vec<f64> {
    let all: Vec<(f64, f64)> = events
        .iter()
        .filter(|heard| heard.seconds >= settle)
        .filter_map(|heard| match heard.event {
            Event::Offset { error, round_trip } => Some((error.abs(), round_trip)),
            _ => None,
        })
        .collect();
    let usual = quantile(&sorted(all.iter().map(|(_, round_trip)| *round_trip)), 0.5);
    sorted(
        all.iter()
            .filter(|(_, round_trip)| *round_trip <= usual * ROUND_TRIP_FACTOR)
            .map(|(error, _)| *error),
    )
}

fn judge(ours: &[f64], theirs: &[f64]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, errors) in [("ours", ours), ("chronyd", theirs)] {
        println!(
            "  {name:8} median {:5.1} µs, 90 % below {:5.1} µs, at most {:5.1} µs off, in {} comparisons",
            quantile(errors, 0.5) * 1e6,
            quantile(errors, 0.9) * 1e6,
            quantile(errors, 1.0) * 1e6,
            errors.len()
        );
        if errors.len() < COMPARISONS_MIN {
            complaints.push(format!("only {} comparisons of {name} after settling", errors.len()));
        }
    }
    for (word, share) in [("the median of", 0.5), ("90 % of", 0.9)] {
        let (own, other) = (quantile(ours, share), quantile(theirs, share));
        // Not-a-number is no pass.
        let holds = own <= other + COMPARISON_ERROR;
        if !holds {
            complaints.push(format!(
                "{word} our errors: {:.1} µs, chronyd's {:.1} µs",
                own * 1e6,
                other * 1e6
            ));
        }
    }
    complaints
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_further_off_is_named() {
        let (good, bad): (Vec<f64>, Vec<f64>) =
            ((0..100).map(|_| 1e-5).collect(), (0..100).map(|_| 1e-4).collect());
        assert!(judge(&good, &bad).is_empty() && judge(&good, &good).is_empty());
        assert_eq!(judge(&bad, &good).len(), 2);
        assert!(!judge(&[], &[]).is_empty(), "nothing was compared");
    }
}
