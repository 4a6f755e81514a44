//! The command line of the benchmark.

use super::cell::table;
use super::measuring::medians;
use super::report::Report;
use super::{Accuracy, Conditions};
use serde::Serialize;
use std::path::PathBuf;

/// Seeds of a full run: enough for a median.
const SEEDS: u64 = 7;
/// Seeds and seconds of a quick one.
const SEEDS_QUICK: u64 = 3;
const FROM_QUICK: f64 = 10_000.0;
const TO_QUICK: f64 = 40_000.0;

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// An object instead of a table.
    pub json: bool,
    /// Fewer seeds and shorter worlds.
    pub quick: bool,
    /// How many seeds.
    pub seeds: Option<u64>,
    /// A world of one's own instead of the table.
    pub world: Option<PathBuf>,
}

impl Options {
    /// Reads `[--json] [--quick] [--seeds COUNT] [--world FILE]`; `None` when it is something else.
    #[must_use]
    pub fn parse(arguments: &[&str]) -> Option<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--json" => options.json = true,
                "--quick" => options.quick = true,
                "--seeds" => options.seeds = Some(rest.next()?.parse().ok().filter(|seeds| *seeds > 0)?),
                "--world" => options.world = Some(rest.next()?.into()),
                _ => return None,
            }
        }
        Some(options)
    }

    fn seeds(&self) -> u64 {
        self.seeds.unwrap_or(if self.quick { SEEDS_QUICK } else { SEEDS })
    }
}

/// Measures, and gives the text to print.
///
/// # Errors
/// When the world file cannot be read or describes no possible world.
pub fn run(options: &Options) -> Result<String, String> {
    let seeds = options.seeds();
    if let Some(path) = &options.world {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let world = read_world(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let accuracies = medians(std::slice::from_ref(&world), seeds);
        return accuracies
            .first()
            .map_or_else(|| Err("no result".to_owned()), |a| show_world(a, seeds, options));
    }
    let mut cells = table();
    if options.quick {
        for cell in &mut cells {
            (cell.conditions.from, cell.conditions.to) = (FROM_QUICK, TO_QUICK);
        }
    }
    let worlds: Vec<Conditions> = cells.iter().map(|cell| cell.conditions.clone()).collect();
    let report = Report::new(&cells, &medians(&worlds, seeds), seeds);
    if options.json { report.json() } else { Ok(report.text()) }
}

/// A world file: TOML with the keys of [`Conditions`].
fn read_world(text: &str) -> Result<Conditions, String> {
    let world: Conditions = toml::from_str(text).map_err(|error| error.to_string())?;
    world.check().map(|()| world)
}

/// The figures of one world.
#[derive(Serialize)]
struct WorldReport {
    seeds: u64,
    rms: f64,
    frequency_rms: f64,
    mean_interval: f64,
}

fn show_world(accuracy: &Accuracy, seeds: u64, options: &Options) -> Result<String, String> {
    let Accuracy { rms, frequency_rms, mean_interval } = *accuracy;
    if options.json {
        let report = WorldReport { seeds, rms, frequency_rms, mean_interval };
        return serde_json::to_string_pretty(&report)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string());
    }
    Ok(format!(
        "RMS time error {rms:.2e} s, frequency error {frequency_rms:.1e}, interval {mean_interval:.0} s; \
         medians of {seeds} seeds\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_unknown_ones_refused() {
        let all = Options::parse(&["--json", "--quick", "--seeds", "9", "--world", "a.toml"]);
        let expected = Options { json: true, quick: true, seeds: Some(9), world: Some("a.toml".into()) };
        assert_eq!(all, Some(expected));
        assert_eq!(Options::parse(&["--seeds", "0"]), None);
        assert_eq!(Options::parse(&["--seeds"]), None);
        assert_eq!(Options::parse(&["--fast"]), None);
    }

    #[test]
    fn a_world_file_is_read_and_impossible_ones_are_refused() {
        let documented = include_str!("../../../../docs/accuracy.md");
        let example = documented.split("```toml").nth(1).and_then(|rest| rest.split("```").next());
        let world = read_world(example.expect("the page has an example")).expect("the example is a world");
        assert_eq!((world.servers, world.routes.len(), world.frequency_steps.len()), (3, 1, 1));
        assert!(read_world("").is_ok_and(|world| world == Conditions::default()));
        for wrong in ["servers = 0", "wander = nan", "poll-min = 8\npoll-max = 4", "loss = 1.5", "delay = 3"]
        {
            assert!(read_world(wrong).is_err(), "{wrong}");
        }
    }
}
