//! The table, for people and as JSON.

use super::Accuracy;
use super::cell::{Cell, Group};
use serde::Serialize;
use std::fmt::Write as _;

/// Everything that was measured.
#[derive(Serialize)]
pub(super) struct Report {
    /// Of the ratios to chrony's error at equal polling: one server, every 16 s and every 64 s.
    geometric_mean_vs_chrony: f64,
    /// The greatest of these ratios.
    worst_cell_vs_chrony: f64,
    seeds: u64,
    from_seconds: f64,
    to_seconds: f64,
    groups: Vec<Summary>,
    cells: Vec<Line>,
}

/// One group in two figures.
#[derive(Serialize)]
struct Summary {
    group: Group,
    geometric_mean_vs_chrony: f64,
    worst_cell_vs_chrony: f64,
}

/// One cell.
#[derive(Serialize)]
struct Line {
    group: Group,
    servers: u8,
    poll_min: i8,
    poll_max: i8,
    jitter_there: f64,
    jitter_back: f64,
    wander: f64,
    loss: f64,
    rms: f64,
    frequency_rms: f64,
    mean_interval: f64,
    chrony: f64,
    chrony_interval: Option<f64>,
    ntpd_rs: Option<f64>,
    linear_bound: Option<f64>,
    vs_chrony: f64,
}

impl Line {
    fn new(cell: &Cell, accuracy: &Accuracy) -> Self {
        let world = &cell.conditions;
        Self {
            group: cell.group,
            servers: world.servers,
            poll_min: world.poll_min,
            poll_max: world.poll_max,
            jitter_there: world.there.jitter,
            jitter_back: world.back.jitter,
            wander: world.wander,
            loss: world.loss,
            rms: accuracy.rms,
            frequency_rms: accuracy.frequency_rms,
            mean_interval: accuracy.mean_interval,
            chrony: cell.others.chrony,
            chrony_interval: cell.chrony_interval,
            ntpd_rs: cell.others.ntpd_rs,
            linear_bound: cell.others.linear_bound,
            vs_chrony: accuracy.rms / cell.others.chrony,
        }
    }
}

/// Geometric mean and maximum of the ratios of some lines.
fn sum_up<'a>(lines: impl Iterator<Item = &'a Line>) -> (f64, f64) {
    let (mut logarithms, mut count, mut worst) = (0.0, 0u32, 0.0f64);
    for line in lines {
        logarithms += line.vs_chrony.ln();
        count += 1;
        worst = worst.max(line.vs_chrony);
    }
    ((logarithms / f64::from(count.max(1))).exp(), worst)
}

impl Report {
    pub(super) fn new(cells: &[Cell], accuracies: &[Accuracy], seeds: u64) -> Self {
        let lines: Vec<Line> =
            cells.iter().zip(accuracies).map(|(cell, accuracy)| Line::new(cell, accuracy)).collect();
        let equal_polling = |line: &&Line| matches!(line.group, Group::Poll16 | Group::Poll64);
        let (mean, worst) = sum_up(lines.iter().filter(equal_polling));
        let groups = Group::ALL
            .into_iter()
            .filter(|group| lines.iter().any(|line| line.group == *group))
            .map(|group| {
                let (mean, worst) = sum_up(lines.iter().filter(|line| line.group == group));
                Summary { group, geometric_mean_vs_chrony: mean, worst_cell_vs_chrony: worst }
            })
            .collect();
        let (from, to) = cells.first().map_or((0.0, 0.0), |cell| (cell.conditions.from, cell.conditions.to));
        Self {
            geometric_mean_vs_chrony: mean,
            worst_cell_vs_chrony: worst,
            seeds,
            from_seconds: from,
            to_seconds: to,
            groups,
            cells: lines,
        }
    }

    pub(super) fn json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(|error| error.to_string())
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "RMS of the true time error in seconds, {:.0} to {:.0} s; medians of {} seeds\n",
            self.from_seconds, self.to_seconds, self.seeds
        );
        for summary in &self.groups {
            let lines = self.cells.iter().filter(|line| line.group == summary.group);
            write_group(&mut text, summary, lines);
        }
        let _ = writeln!(text, "\n{:<46} {:>14}  {:>10}", "ratio to chrony", "geometric mean", "worst cell");
        for summary in &self.groups {
            let (mean, worst) = (summary.geometric_mean_vs_chrony, summary.worst_cell_vs_chrony);
            let _ = writeln!(text, "{:<46} {mean:>14.2}  {worst:>10.2}", summary.group.title());
        }
        let (mean, worst) = (self.geometric_mean_vs_chrony, self.worst_cell_vs_chrony);
        let _ = writeln!(text, "{:<46} {mean:>14.2}  {worst:>10.2}", "16 s and 64 s together");
        text
    }
}

fn write_group<'a>(text: &mut String, summary: &Summary, lines: impl Iterator<Item = &'a Line>) {
    let _ = write!(
        text,
        "\n{}\n  jitter  wander  loss  truechimer    chrony   ntpd-rs     bound  ratio  frequency  interval  (chrony's)\n",
        summary.group.title()
    );
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1e}"));
    for line in lines {
        let interval = if line.group.is_default() {
            line.chrony_interval.map_or_else(String::new, |interval| format!("{interval:>10.0}"))
        } else {
            String::new()
        };
        let row = format!(
            "{:>8.0e} {:>7.0e} {:>5.2} {:>11.1e} {:>9.1e} {:>9} {:>9} {:>6.2} {:>10.1e} {:>9.0}  {interval}",
            line.jitter_back,
            line.wander,
            line.loss,
            line.rms,
            line.chrony,
            optional(line.ntpd_rs),
            optional(line.linear_bound),
            line.vs_chrony,
            line.frequency_rms,
            line.mean_interval,
        );
        let _ = writeln!(text, "{}", row.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::cell::table;

    #[test]
    fn the_sums_are_those_of_equal_polling() {
        let cells = table();
        let accuracies: Vec<Accuracy> = cells
            .iter()
            .map(|cell| {
                let factor = match cell.group {
                    Group::Poll16 => 0.25,
                    Group::Poll64 => 1.0,
                    _ => 9.0,
                };
                Accuracy {
                    rms: factor * cell.others.chrony,
                    frequency_rms: 1e-9,
                    mean_interval: 16.0,
                    ..Accuracy::default()
                }
            })
            .collect();
        let report = Report::new(&cells, &accuracies, 7);
        assert!((report.geometric_mean_vs_chrony - 0.5).abs() < 1e-9);
        assert!((report.worst_cell_vs_chrony - 1.0).abs() < 1e-9);
        let json: serde_json::Value =
            serde_json::from_str(&report.json().expect("it is finite")).expect("it is JSON");
        assert_eq!(json["cells"].as_array().map(Vec::len), Some(cells.len()));
        assert!((json["geometric_mean_vs_chrony"].as_f64().unwrap_or(0.0) - 0.5).abs() < 1e-9);
        assert!(report.text().contains("three servers, every 16 s"));
    }
}
