//! Figures for people and for programs.

mod tables;

use crate::arithmetic::Line;
use crate::clients::Clients;
use crate::cores::Cores;
use crate::footprint::Footprint;
use crate::idle::Idle;
use crate::ke_flood::KeFlood;
use crate::measure::{Figure, median};
use crate::servers::Program;
use crate::stamps::Stamps;
use crate::{Placement, Subject};
use anyhow::Result;
use serde::Serialize;

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    placement: Placement,
    /// What a core of ours does by what one of chronyd's does, in the same run.
    ratios_vs_chronyd: Ratios,
    rows: Vec<Row>,
    /// The ciphers of one NTS request alone.
    pub(crate) arithmetic: Vec<Line>,
    /// Key establishment beside a crowd of silent connections.
    pub(crate) idle: Vec<Idle>,
    /// Requests and key establishment beside a flood of full handshakes.
    pub(crate) ke_flood: Vec<KeFlood>,
    /// How true the transmit timestamps are.
    pub(crate) stamps: Vec<Stamps>,
    /// Two cores against one.
    pub(crate) cores: Vec<Cores>,
    /// How well daemons keep time while they are saturated.
    pub(crate) clients: Vec<Clients>,
    /// Key establishments of ours by those of ntpd-rs, by processor time.
    ke_ratio_vs_ntpd_rs: Option<f64>,
    pub(crate) footprint: Option<Footprint>,
}

/// What was not measured has no ratio.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
struct Ratios {
    ntp_sockets: Option<f64>,
    ntp_fast: Option<f64>,
    nts_sockets: Option<f64>,
    nts_fast: Option<f64>,
    ke: Option<f64>,
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
    pub(crate) fn new(placement: Placement) -> Self {
        Self {
            placement,
            ratios_vs_chronyd: Ratios::default(),
            rows: Vec::new(),
            arithmetic: Vec::new(),
            idle: Vec::new(),
            ke_flood: Vec::new(),
            stamps: Vec::new(),
            cores: Vec::new(),
            clients: Vec::new(),
            ke_ratio_vs_ntpd_rs: None,
            footprint: None,
        }
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

    /// Ours by chronyd's: by answers per second, or, where it is the clients who limit these, by processor time.
    fn ratio(&self, subject: Subject) -> Option<f64> {
        self.ratio_of(Program::Chimed, subject, Program::Chronyd)
    }

    fn ratio_of(&self, ours: Program, subject: Subject, theirs: Program) -> Option<f64> {
        let rate = |program: Program| {
            let row = self.rows.iter().find(|row| row.subject == subject && row.server == program.name())?;
            Some(if subject == Subject::Ke { 1.0 / row.cpu_microseconds } else { row.per_second })
        };
        Some(rate(ours)? / rate(theirs)?)
    }

    pub(crate) fn print(&mut self, json: bool) -> Result<()> {
        self.ratios_vs_chronyd = Ratios {
            ntp_sockets: self.ratio(Subject::Plain),
            ntp_fast: self.ratio_of(Program::ChimedXdp, Subject::Plain, Program::Chronyd),
            nts_sockets: self.ratio(Subject::Nts15),
            nts_fast: self.ratio_of(Program::ChimedXdp, Subject::Nts15, Program::Chronyd),
            ke: self.ratio(Subject::Ke),
        };
        self.ke_ratio_vs_ntpd_rs = self.ratio_of(Program::Chimed, Subject::Ke, Program::NtpdRs);
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        self.print_rows();
        for subject in [Subject::Plain, Subject::Nts15, Subject::Nts30, Subject::Ke] {
            if let Some(ratio) = self.ratio(subject) {
                println!("{:<14} {ratio:.2} times chronyd", subject.text());
            }
        }
        for subject in [Subject::Plain, Subject::Nts15, Subject::Nts30] {
            if let Some(ratio) = self.ratio_of(Program::ChimedXdp, subject, Program::Chronyd) {
                println!("{:<14} {ratio:.2} times chronyd, past the sockets", subject.text());
            }
        }
        for line in &self.arithmetic {
            println!(
                "arithmetic of a request, AEAD {}, {} together, {}: {:.0} ns",
                line.aead, line.batch, line.arithmetic, line.nanos
            );
        }
        self.print_crowds();
        if let Some(ratio) = self.ke_ratio_vs_ntpd_rs {
            println!("{:<14} {ratio:.2} times ntpd-rs", Subject::Ke.text());
        }
        for cores in &self.cores {
            println!(
                "{:<14} two cores {:.2} times one: an answer costs {:.2} µs with one worker, {:.2} with one \
                 beside the load, {:.2} with both",
                cores.subject.text(),
                cores.ratio,
                cores.one,
                cores.one_beside_load,
                cores.two
            );
        }
        for clients in &self.clients {
            println!(
                "{} as a client believes {:.2} µs of a clock that is right (RMS) at rest, {:.2} while saturated",
                clients.server, clients.error_at_rest, clients.error_saturated
            );
        }
        self.print_stamps();
        if let Some(footprint) = self.footprint {
            println!(
                "a client alone: {} KiB resident, {} KiB private and dirty, {} threads, {:.3} wake-ups per second",
                footprint.resident, footprint.private_dirty, footprint.threads, footprint.wake_ups
            );
        }
        Ok(())
    }

    fn print_crowds(&self) {
        for idle in &self.idle {
            let ([rest, rest_99], [median, last]) = (idle.milliseconds_at_rest, idle.milliseconds);
            println!(
                "{}, {} idle and slow connections, {:.0}/s: {} of {} good clients served, in {median:.1} ms (99 %: {last:.1}; \
                 at rest {rest:.1} and {rest_99:.1}), {} KiB resident before and {} at most",
                idle.server,
                idle.attempted,
                idle.attempted_per_second,
                idle.good_clients_served,
                idle.good_clients,
                idle.resident_before,
                idle.resident_peak
            );
        }
        for flood in &self.ke_flood {
            for (when, seen) in [("at rest", flood.at_rest), ("flooded", flood.flooded)] {
                let ([wait, wait_99], [took, took_99]) = (seen.microseconds, seen.milliseconds);
                println!(
                    "{:<14} {:<10} {when}, {:.0}/s offered: {:.1} % answered in {wait:.0} µs (99 %: {wait_99:.0}), {:.0} handshakes/s, \
                     {:.1} % of good clients served in {took:.1} ms (99 %: {took_99:.1})",
                    flood.subject.text(),
                    flood.server,
                    flood.offered_per_second,
                    seen.answered * 100.0,
                    seen.handshakes_per_second,
                    seen.good_clients_served * 100.0,
                );
            }
        }
    }

    fn print_stamps(&self) {
        if self.stamps.is_empty() {
            return;
        }
        println!("\nTransmit timestamps, µs from the time of leaving: median and 99th percentile.\n");
        println!("{:<14} {:<10} {:>13} {:>8} {:>8} {:>8}", "", "", "offered", "median", "99 %", "late by");
        for row in &self.stamps {
            let offered =
                row.offered_per_second.map_or_else(|| "all".to_owned(), |offer| format!("{offer:.0}"));
            let [median, last] = row.error_nanoseconds.map(|value| value / 1e3);
            println!(
                "{:<14} {:<10} {offered:>13} {median:>8.2} {last:>8.2} {:>8.2}{}",
                row.subject.text(),
                row.server,
                row.late_nanoseconds / 1e3,
                match self.is_truer_than_chronyd(row) {
                    Some(true) => "  no worse than chronyd's",
                    Some(false) => "  WORSE than chronyd's",
                    None => "",
                }
            );
        }
    }

    /// Whether ours are no worse than chronyd's under the same load; none for chronyd itself.
    fn is_truer_than_chronyd(&self, ours: &Stamps) -> Option<bool> {
        let chronyd = self.stamps.iter().find(|row| {
            row.server == Program::Chronyd.name()
                && (row.subject, row.offered_per_second) == (ours.subject, ours.offered_per_second)
        })?;
        let mut pairs = ours.error_nanoseconds.into_iter().zip(chronyd.error_nanoseconds);
        (ours.server != chronyd.server).then(|| pairs.all(|(ours, theirs)| ours <= theirs))
    }

    fn print_rows(&self) {
        if self.rows.is_empty() {
            return;
        }
        let placement = match self.placement {
            Placement::Split => "the way into the sockets is on the load's core",
            Placement::One => "the server's core pays for everything",
        };
        println!("One core; medians; {placement}.\n");
        println!(
            "{:<14} {:<10} {:>12} {:>12} {:>18} {:>13}",
            "", "", "per second", "µs CPU each", "range", "offered"
        );
        for row in &self.rows {
            let range = format!("{:.0}-{:.0}", row.per_second_min, row.per_second_max);
            let offered =
                row.offered_per_second.map_or_else(|| "-".to_owned(), |offered| format!("{offered:.0}"));
            println!(
                "{:<14} {:<10} {:>12.0} {:>12.2} {range:>18} {offered:>13}",
                row.subject.text(),
                row.server,
                row.per_second,
                row.cpu_microseconds
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_ours_by_chronyds_and_none_where_one_is_missing() {
        let mut report = Report::new(Placement::Split);
        let figure = |per_second| Figure { per_second, cpu_microseconds: 1.0, offered_per_second: None };
        report.add(Subject::Plain, Program::Chimed, &[figure(300.0)]);
        report.add(Subject::Plain, Program::Chronyd, &[figure(200.0)]);
        report.add(Subject::Nts30, Program::Chimed, &[figure(9.0)]);
        let busy = |cpu_microseconds| Figure { per_second: 9.0, cpu_microseconds, offered_per_second: None };
        report.add(Subject::Ke, Program::Chimed, &[busy(100.0)]);
        report.add(Subject::Ke, Program::Chronyd, &[busy(200.0)]);
        assert_eq!(report.ratio(Subject::Plain), Some(1.5));
        assert_eq!(report.ratio(Subject::Ke), Some(2.0), "what a core could do, not what was asked for");
        assert_eq!((report.ratio(Subject::Nts30), report.ratio(Subject::Nts15)), (None, None));
    }
}
