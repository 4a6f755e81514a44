//! Figures for people and for programs.

use crate::measure::{Figure, median};
use crate::servers::Program;
use crate::{Placement, Subject};
use anyhow::Result;
use serde::Serialize;

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    placement: Placement,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    subject: Subject,
    server: &'static str,
    runs: usize,
    per_second: f64,
    per_second_min: f64,
    per_second_max: f64,
    cpu_microseconds: f64,
    offered_per_second: Option<f64>,
}

impl Report {
    pub(crate) const fn new(placement: Placement) -> Self {
        Self { placement, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, subject: Subject, program: Program, figures: &[Figure]) {
        let Some(middle) = median(figures) else { return };
        let values = || figures.iter().map(|figure| figure.per_second);
        self.rows.push(Row {
            subject,
            server: program.name(),
            runs: figures.len(),
            per_second: middle.per_second,
            per_second_min: values().fold(f64::INFINITY, f64::min),
            per_second_max: values().fold(0.0, f64::max),
            cpu_microseconds: middle.cpu_microseconds,
            offered_per_second: middle.offered_per_second,
        });
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        let placement = match self.placement {
            Placement::Split => "the way into the sockets is on the load's core",
            Placement::One => "the server's core pays for everything",
        };
        println!("One core; medians; {placement}.\n");
        println!(
            "{:<14} {:<9} {:>12} {:>12} {:>18} {:>13}",
            "", "", "per second", "µs CPU each", "range", "offered"
        );
        for row in &self.rows {
            let range = format!("{:.0}-{:.0}", row.per_second_min, row.per_second_max);
            let offered =
                row.offered_per_second.map_or_else(|| "-".to_owned(), |offered| format!("{offered:.0}"));
            println!(
                "{:<14} {:<9} {:>12.0} {:>12.2} {range:>18} {offered:>13}",
                row.subject.text(),
                row.server,
                row.per_second,
                row.cpu_microseconds
            );
        }
        Ok(())
    }
}
