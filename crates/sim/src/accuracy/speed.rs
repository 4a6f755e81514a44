//! How fast the simulator is.

use super::Conditions;
use std::time::Instant;

/// Seconds of the world that is timed: a week of a client with default settings and one server.
const SECONDS: f64 = 7.0 * 86_400.0;
/// The best of so many runs counts: others may use the machine.
const RUNS: u64 = 5;

/// Simulates one default client on one core, and tells how fast that was.
#[must_use]
pub fn speed() -> String {
    let world = Conditions { from: SECONDS / 2.0, to: SECONDS, ..Conditions::default() };
    let run = |seed| {
        let begin = Instant::now();
        let accuracy = world.measure(seed);
        (SECONDS / begin.elapsed().as_secs_f64(), accuracy.mean_interval)
    };
    let runs: Vec<(f64, f64)> = (1..=RUNS).map(run).collect();
    let (best, interval) =
        runs.into_iter().fold((0.0, 0.0), |best, run| if run.0 > best.0 { run } else { best });
    format!(
        "{:.2} million simulated seconds in one second of one core (one default client, one request every {interval:.0} s)\n",
        best * 1e-6
    )
}
