//! A few short runs, over time, are what they were: true error, error bound, frequency and poll interval. A change of the
//! estimator that no limit forbids is seen here.
//!
//! `tests/golden/NAME.txt` are the records, with `NAME.svg` as their picture. A run that differs by more than chance would is
//! drawn over its record. When it is meant to differ: `GOLDEN=write cargo test -p chime-sim --test golden`, and look at the
//! pictures before committing them.

use chime_sim::Point;
use chime_sim::simulate::{ScenarioFile, simulate};
use plotters::prelude::*;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Rows of a record.
const ROWS: usize = 24;
/// Seeds that a row is the median of.
const SEEDS: u64 = 3;
/// Figures may differ by this factor in one row, and by the second one in the geometric mean of all rows.
const FACTORS: [(&str, f64, f64); 3] = [("error", 3.0, 1.25), ("bound", 1.6, 1.15), ("frequency", 4.0, 1.35)];
/// Poll exponents may differ by so much in one row, and by the second one on average.
const POLL: (f64, f64) = (1.0, 0.34);
/// What is smaller than this is all the same: seconds, s per s.
const LEAST: [f64; 3] = [1e-9, 1e-9, 1e-10];

const COLD_START: &str = r#"
duration = "1h"
clock = { offset = 0.1, frequency = 5e-5 }
network = { there = { jitter = 1e-4 }, back = { jitter = 1e-4 } }
servers = [{ count = 1 }]
"#;

const THREE_SERVERS: &str = r#"
duration = "6h"
clock = { frequency = -1e-5, wander = 1e-9 }
network = { there = { base = 5e-3, jitter = 1e-3 }, back = { base = 5e-3, jitter = 1e-3 }, loss = 0.1 }
client = { poll-min = 4, poll-max = 6 }
"#;

const DISTURBED: &str = r#"
duration = "6h"
network = { there = { jitter = 1e-4 }, back = { jitter = 1e-4 } }
client = { poll-min = 4, poll-max = 4 }
servers = [{ count = 1 }]
bursts = [{ at = 14_400.0, lasting = 1_800.0, factor = 30.0 }]
events = [
    { at = "1h", do = { network = { there = { base = 6e-3, jitter = 1e-4 } } } },
    { at = "2h", do = { network = { there = { base = 1e-3, jitter = 1e-4 } } } },
    { at = "3h", do = { frequency-step = 2e-6 } },
    { at = "5h", do = { restart = { after = "30s", orderly = true } } },
]
"#;

const GROWING_OLD: &str = r#"
duration = "24h"
clock = { wander = 1e-10, ageing = 1e-8, ramps = [
    { by = 1e-6, lasting = 1200.0, settling = true },
    { at = 43_200.0, by = 1e-6, lasting = 7200.0 },
] }
network = { there = { jitter = 1e-5 }, back = { jitter = 1e-4 } }
client = { poll-min = 6, poll-max = 10 }
servers = [{ count = 1 }]
"#;

/// One row: when, and the greatest error, the widest bound, the error of the frequency given, and the shortest poll
/// exponent since the row before.
#[derive(Clone, Copy, Debug)]
struct Row {
    time: f64,
    figures: [f64; 3],
    poll: f64,
}

fn rows_of(trace: &[Point], duration: f64) -> Vec<Row> {
    let width = duration / ROWS as f64;
    let row = |number: usize| {
        let until = width * (number + 1) as f64;
        let points: Vec<&Point> =
            trace.iter().filter(|point| (until - width..until).contains(&point.time)).collect();
        let most = |figure: fn(&Point) -> f64| points.iter().map(|point| figure(point)).fold(0.0, f64::max);
        Row {
            time: until,
            figures: [
                most(|point| point.error.1.max(-point.error.0)),
                most(|point| point.believed.map_or(0.0, |(least, greatest)| greatest - least)),
                most(|point| {
                    point.frequency_given.map_or(0.0, |given| (given - point.frequency_needed).abs())
                }),
            ],
            poll: points
                .iter()
                .filter_map(|point| point.poll)
                .map(|poll| f64::from(poll.0))
                .fold(17.0, f64::min),
        }
    };
    (0..ROWS).map(row).collect()
}

/// The medians of a few seeds.
fn measured(scenario: &str) -> Vec<Row> {
    let file = ScenarioFile::parse(scenario).expect("it is a scenario");
    let runs: Vec<Vec<Row>> = (1..=SEEDS)
        .map(|seed| {
            let simulation = simulate(&file, seed);
            rows_of(&simulation.trace, simulation.duration)
        })
        .collect();
    let median = |figure: &dyn Fn(&[Row]) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(|run| figure(run)).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    (0..ROWS)
        .map(|row| Row {
            time: runs[0][row].time,
            figures: [0, 1, 2].map(|figure| median(&|run| run[row].figures[figure])),
            poll: median(&|run| run[row].poll),
        })
        .collect()
}

fn text_of(rows: &[Row]) -> String {
    let mut text = "# until s, error s, bound s, frequency error s/s, poll log2 s\n".to_owned();
    for Row { time, figures: [error, bound, frequency], poll } in rows {
        let _infallible = writeln!(text, "{time} {error:.2e} {bound:.2e} {frequency:.2e} {poll}");
    }
    text
}

fn rows_from(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [time, error, bound, frequency, poll] = numbers[..] else { panic!("five numbers: {line}") };
        Row { time, figures: [error, bound, frequency], poll }
    };
    text.lines().skip(1).map(row).collect()
}

/// In what the rows differ from those of the record.
fn differences(rows: &[Row], record: &[Row]) -> Vec<String> {
    let mut all = Vec::new();
    for (figure, (name, one, mean)) in FACTORS.into_iter().enumerate() {
        let ratio = |(now, then): (&Row, &Row)| {
            let of = |row: &Row| row.figures[figure].max(LEAST[figure]);
            of(now) / of(then)
        };
        let ratios: Vec<f64> = rows.iter().zip(record).map(ratio).collect();
        for (row, ratio) in rows.iter().zip(&ratios).filter(|(_, ratio)| !(1.0 / one..=one).contains(*ratio))
        {
            all.push(format!("{name} until {} s: {ratio:.2} times that of the record", row.time));
        }
        let geometric = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        if !(1.0 / mean..=mean).contains(&geometric) {
            all.push(format!("{name} as a whole: {geometric:.2} times that of the record"));
        }
    }
    let polls: Vec<f64> = rows.iter().zip(record).map(|(now, then)| now.poll - then.poll).collect();
    let mean = polls.iter().sum::<f64>() / polls.len() as f64;
    if polls.iter().any(|by| by.abs() > POLL.0) || mean.abs() > POLL.1 {
        all.push(format!("poll exponents differ by {polls:?}"));
    }
    all
}

/// The figures of the record (thin) and of the run (thick) over time.
fn picture(name: &str, rows: &[Row], record: &[Row]) -> String {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (720, 420)).into_drawing_area();
        root.fill(&WHITE).expect("it can be drawn");
        let end = rows.last().map_or(1.0, |row| row.time);
        let mut chart = ChartBuilder::on(&root)
            .caption(
                format!("{name}: bound, error (s), frequency error (s/s), 2^poll ns"),
                ("sans-serif", 15),
            )
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..end, (1e-10..1.0).log_scale())
            .expect("it can be drawn");
        let power = |value: &f64| format!("{value:.0e}");
        let mesh = chart.configure_mesh().max_light_lines(0).y_label_formatter(&power).draw();
        mesh.expect("it can be drawn");
        let colors = [RGBColor(0x0b, 0x5f, 0xa5), RGBColor(0xd9, 0x5f, 0x02), RGBColor(0x77, 0x77, 0x77)];
        let value = |row: &Row, figure: usize| match figure {
            3 => 1e-9 * row.poll.exp2(),
            _ => row.figures[figure].max(1e-10),
        };
        for (rows, width) in [(record, 1), (rows, 3)] {
            for (figure, color) in colors.into_iter().chain([RGBColor(0x1b, 0x7f, 0x5a)]).enumerate() {
                let points = rows.iter().map(|row| (row.time, value(row, figure)));
                let line = LineSeries::new(points, color.stroke_width(width));
                chart.draw_series(line).expect("it can be drawn");
            }
        }
        root.present().expect("it can be drawn");
    }
    text
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares a run with its record, or writes that.
fn compare(name: &str, scenario: &str) {
    let rows = measured(scenario);
    let record = folder().join(name).with_extension("txt");
    if std::env::var_os("GOLDEN").is_some_and(|wish| wish == "write") {
        std::fs::write(&record, text_of(&rows)).expect("it can be written");
        let picture = picture(name, &rows, &[]);
        std::fs::write(record.with_extension("svg"), picture).expect("it can be written");
        return;
    }
    let before = rows_from(&std::fs::read_to_string(&record).expect("the record is there"));
    assert_eq!(before.len(), rows.len(), "rows of the record");
    let differences = differences(&rows, &before);
    if !differences.is_empty() {
        let drawn = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("svg");
        std::fs::write(&drawn, picture(name, &rows, &before)).expect("it can be written");
        panic!(
            "{name} is not what it was; {} shows both (thin: the record).\n{}\n{}",
            drawn.display(),
            differences.join("\n"),
            text_of(&rows),
        );
    }
}

#[test]
fn a_cold_start_is_what_it_was() {
    compare("cold-start", COLD_START);
}

#[test]
fn three_servers_are_what_they_were() {
    compare("three-servers", THREE_SERVERS);
}

#[test]
fn disturbances_are_what_they_were() {
    compare("disturbed", DISTURBED);
}

#[test]
fn an_oscillator_that_grows_old_is_what_it_was() {
    compare("growing-old", GROWING_OLD);
}

#[test]
fn a_regression_is_seen() {
    let record = measured(COLD_START);
    assert!(differences(&record, &record).is_empty());
    let changed = |change: fn(&mut Row)| {
        let mut rows = record.clone();
        rows[12..].iter_mut().for_each(change);
        differences(&rows, &record)
    };
    let once = |change: fn(&mut Row)| {
        let mut rows = record.clone();
        change(&mut rows[20]);
        differences(&rows, &record)
    };
    assert!(changed(|row| row.figures[0] *= 1.7).iter().any(|text| text.starts_with("error as a whole")));
    assert!(changed(|row| row.figures[1] *= 1.5).iter().any(|text| text.starts_with("bound as a whole")));
    assert!(once(|row| row.figures[2] = row.figures[2].max(1e-10) * 5.0)[0].starts_with("frequency until"));
    assert!(once(|row| row.poll -= 2.0)[0].starts_with("poll"));
    assert!(once(|row| row.figures[0] *= 1.2).is_empty());
    assert!(picture("a", &record, &record).matches("<polyline").count() >= 8);
}
