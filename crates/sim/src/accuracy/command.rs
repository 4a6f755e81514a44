//! The command line of the benchmark.

use super::cell::{Cell, Group, table};
use super::measuring::{by_seed, medians};
use super::report::Report;
use super::{Accuracy, Conditions, plot};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Seeds of a full run. Of seven, medians of worlds in which a run is a few memories long differ by a third.
const SEEDS: u64 = 21;
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
    /// Parts of the table instead of all of it: groups, or cells of one.
    pub only: Vec<Only>,
    /// A report that `--json` made, and the picture (SVG) to make of it; nothing is measured.
    pub draw: Option<(PathBuf, PathBuf)>,
}

/// A part of the table.
#[derive(Clone, PartialEq, Debug)]
pub struct Only {
    group: String,
    /// Jitter and wander.
    cell: Option<(f64, f64)>,
}

impl Eq for Only {}

impl Only {
    /// Reads `GROUP` or `GROUP/JITTER/WANDER`.
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split('/').collect();
        let (group, cell) = match words[..] {
            [group] => (group, None),
            [group, jitter, wander] => (group, Some((jitter.parse().ok()?, wander.parse().ok()?))),
            _ => return None,
        };
        Group::ALL.iter().any(|known| known.name() == group).then(|| Self { group: group.to_owned(), cell })
    }

    fn takes(&self, cell: &Cell) -> bool {
        let is_near = |a: f64, b: f64| (a - b).abs() < 1e-3 * b;
        let world = &cell.conditions;
        self.group == cell.group.name()
            && self.cell.is_none_or(|(jitter, wander)| {
                is_near(world.back.jitter, jitter) && is_near(world.wander, wander)
            })
    }
}

impl Options {
    /// Reads `[--json] [--quick] [--seeds COUNT] [--world FILE] [--only GROUP[/JITTER/WANDER]]… [--draw REPORT PICTURE]`; `None` when it is something else.
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
                "--draw" => options.draw = Some((rest.next()?.into(), rest.next()?.into())),
                "--only" => options.only.push(Only::parse(rest.next()?)?),
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
    if let Some((report, picture)) = &options.draw {
        return draw_report(report, picture);
    }
    let seeds = options.seeds();
    if let Some(path) = &options.world {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let world = read_world(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let all = by_seed(std::slice::from_ref(&world), seeds);
        return all.first().map_or_else(|| Err("no result".to_owned()), |all| show_world(all, options));
    }
    let mut cells = table();
    if !options.only.is_empty() {
        cells.retain(|cell| options.only.iter().any(|only| only.takes(cell)));
    }
    if cells.is_empty() {
        return Err("the table has no such cell".to_owned());
    }
    if options.quick {
        for cell in &mut cells {
            (cell.conditions.from, cell.conditions.to) = (FROM_QUICK, TO_QUICK);
        }
    }
    let worlds: Vec<Conditions> = cells.iter().map(|cell| cell.conditions.clone()).collect();
    let report = Report::new(&cells, &medians(&worlds, seeds), seeds);
    if options.json { report.json() } else { Ok(report.text()) }
}

fn draw_report(report: &Path, picture: &Path) -> Result<String, String> {
    let words = |path: &Path, error: String| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(report).map_err(|error| words(report, error.to_string()))?;
    let svg = plot::draw(&text).map_err(|error| words(report, error))?;
    std::fs::write(picture, svg).map_err(|error| words(picture, error.to_string()))?;
    Ok(format!("{} is drawn\n", picture.display()))
}

/// A world file: TOML with the keys of [`Conditions`].
fn read_world(text: &str) -> Result<Conditions, String> {
    let world: Conditions = toml::from_str(text).map_err(|error| error.to_string())?;
    world.check().map(|()| world)
}

/// The figures of one world: the medians, and for each seed.
#[derive(Serialize)]
struct WorldReport<'a> {
    seeds: u64,
    #[serde(flatten)]
    medians: Accuracy,
    /// Of all seeds.
    least_containment: f64,
    /// Of all seeds.
    greatest_rms: f64,
    by_seed: &'a [Accuracy],
}

fn show_world(all: &[Accuracy], options: &Options) -> Result<String, String> {
    let medians = Accuracy::median(all);
    let least_containment = all.iter().map(|accuracy| accuracy.containment).fold(1.0, f64::min);
    let greatest_rms = all.iter().map(|accuracy| accuracy.rms).fold(0.0, f64::max);
    let seeds = options.seeds();
    if options.json {
        let report = WorldReport { seeds, medians, least_containment, greatest_rms, by_seed: all };
        return serde_json::to_string_pretty(&report)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string());
    }
    Ok(format!(
        "{medians} (medians of {seeds} seeds)\nworst seed: error {greatest_rms:.2e} s RMS; the bound holds {:.3} % of \
         the time\n",
        100.0 * least_containment
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_unknown_ones_refused() {
        let all = Options::parse(&["--json", "--quick", "--seeds", "9", "--world", "a.toml"]);
        let expected = Options {
            json: true,
            quick: true,
            seeds: Some(9),
            world: Some("a.toml".into()),
            only: Vec::new(),
            draw: None,
        };
        assert_eq!(all, Some(expected));
        let only = Options::parse(&["--only", "poll16", "--only", "default/1e-2/1e-9"]).expect("two parts");
        let of = |group| table().into_iter().filter(move |cell| cell.group == group);
        assert_eq!(of(Group::Poll16).filter(|cell| only.only[0].takes(cell)).count(), 20);
        assert_eq!(table().iter().filter(|cell| only.only[1].takes(cell)).count(), 1);
        for wrong in ["poll17", "default/1e-2", "default/a/b", ""] {
            assert_eq!(Options::parse(&["--only", wrong]), None, "{wrong}");
        }
        assert_eq!(Options::parse(&["--seeds", "0"]), None);
        assert_eq!(Options::parse(&["--seeds"]), None);
        assert_eq!(Options::parse(&["--fast"]), None);
    }

    const IMPOSSIBLE_SHAPE: &str = "there = { distribution = 'pareto', shape = 1.0 }";

    #[test]
    fn a_world_file_is_read_and_impossible_ones_are_refused() {
        let documented = include_str!("../../../../docs/accuracy.md");
        let examples: Vec<Conditions> = documented
            .split("```toml")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .map(|example| read_world(example).expect("the example is a world"))
            .collect();
        let [routes, queues] = &examples[..] else { panic!("the page has two examples") };
        assert_eq!((routes.servers, routes.routes.len(), routes.frequency_steps.len()), (3, 1, 1));
        assert_eq!((queues.liars.len(), queues.bursts.len(), queues.back.shape), (1, 1, Some(2.0)));
        assert!(read_world("").is_ok_and(|world| world == Conditions::default()));
        assert!(read_world("servers = 2\nroutes = [{ at = 1.0, server = 1 }]").is_ok());
        for wrong in [
            "servers = 0",
            "wander = nan",
            "poll-min = 8\npoll-max = 4",
            "loss = 1.5",
            "delay = 3",
            "routes = [{ at = 1.0, server = 1 }]",
            IMPOSSIBLE_SHAPE,
        ] {
            assert!(read_world(wrong).is_err(), "{wrong}");
        }
    }
}
