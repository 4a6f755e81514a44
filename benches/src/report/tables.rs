//! The figures as the tables of docs/performance.md, and their way into it.
//!
//! Each table stands in the document between two comments that name it. What a run has no figures for stays as it was.

use super::{Report, Row};
use crate::servers::Program;
use crate::{Placement, Subject};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;

const END: &str = "<!-- end of figures -->";
const REQUESTS: [Subject; 3] = [Subject::Plain, Subject::Nts15, Subject::Nts30];

impl Report {
    /// The document with this run's tables in their places; fails when there is no place for one.
    pub(crate) fn written_into(&self, document: &str) -> Result<String> {
        let mut document = document.to_owned();
        for (name, table) in self.tables() {
            document = replaced(&document, &name, &table)?;
        }
        Ok(document)
    }

    /// The tables that this run has figures for, by name.
    fn tables(&self) -> Vec<(String, String)> {
        let placement = match self.placement {
            Placement::Split => "split",
            Placement::One => "one core",
        };
        let tables = [
            (format!("requests, {placement}"), self.requests()),
            (format!("past the sockets, {placement}"), self.past_the_sockets()),
            ("key establishment".to_owned(), self.key_establishment()),
            ("arithmetic".to_owned(), self.arithmetic_table()),
            ("stamps".to_owned(), self.stamps_table()),
            ("idle".to_owned(), self.idle_table()),
            ("flood".to_owned(), self.flood_table()),
            ("cores".to_owned(), self.cores_table()),
            ("clients".to_owned(), self.clients_table()),
            ("footprint".to_owned(), self.footprint_table()),
        ];
        tables.into_iter().filter_map(|(name, table)| Some((name, table?))).collect()
    }

    fn row(&self, subject: Subject, program: Program) -> Option<&Row> {
        self.rows.iter().find(|row| row.subject == subject && row.server == program.name())
    }

    fn requests(&self) -> Option<String> {
        let programs = [Program::Chimed, Program::Chronyd, Program::Echo, Program::EchoBatch];
        let mut table =
            Table::new(&["", "chimed", "chronyd", "bare echo", "echo by 64", "times chronyd", "goal"]);
        for subject in REQUESTS {
            let Some(ratio) = self.ratio(subject) else { continue };
            let goal = match (self.placement, subject) {
                (Placement::Split, Subject::Plain) => "1.3",
                (Placement::Split, Subject::Nts15) => "1.6",
                (Placement::One, Subject::Plain) => "1.5",
                (Placement::One, Subject::Nts15) => "2.5",
                _ => "",
            };
            let cells = programs.map(|program| self.row(subject, program).map(rate).unwrap_or_default());
            let [ours, theirs, echo, batch] = cells;
            table.add(&[subject.text(), &ours, &theirs, &echo, &batch, &format!("{ratio:.2}"), goal]);
        }
        table.text()
    }

    fn past_the_sockets(&self) -> Option<String> {
        let mut table = Table::new(&["", "chimed", "offered", "chronyd", "times chronyd", "goal"]);
        for subject in REQUESTS {
            let pair = (self.row(subject, Program::ChimedXdp), self.row(subject, Program::Chronyd));
            let (Some(ours), Some(theirs)) = pair else { continue };
            let ratio = self.ratio_of(Program::ChimedXdp, subject, Program::Chronyd).unwrap_or(f64::NAN);
            let offered = ours.offered_per_second.map_or_else(|| "by the kernel".to_owned(), thousands);
            let goal = match (self.placement, subject) {
                (Placement::Split, Subject::Plain) => "3",
                (Placement::Split, Subject::Nts15) => "2.2",
                _ => "",
            };
            table.add(&[subject.text(), &rate(ours), &offered, &rate(theirs), &format!("{ratio:.2}"), goal]);
        }
        table.text()
    }

    fn key_establishment(&self) -> Option<String> {
        let mut table = Table::new(&["", "chimed", "chronyd", "ntpd-rs", "times chronyd", "times ntpd-rs"]);
        for (subject, goals) in
            [(Subject::Ke, [" (goal 2)", " (goal 1.4)"]), (Subject::KePostQuantum, ["", ""])]
        {
            let cost = |program| {
                let row = self.row(subject, program);
                row.map(|row| format!("{:.0} µs", row.cpu_microseconds)).unwrap_or_default()
            };
            let ours = cost(Program::Chimed);
            if ours.is_empty() {
                continue;
            }
            let ratio = |program, goal: &str| {
                let ratio = self.ratio_of(Program::Chimed, subject, program);
                ratio.map(|ratio| format!("{ratio:.2}{goal}")).unwrap_or_default()
            };
            table.add(&[
                subject.text(),
                &ours,
                &cost(Program::Chronyd),
                &cost(Program::NtpdRs),
                &ratio(Program::Chronyd, goals[0]),
                &ratio(Program::NtpdRs, goals[1]),
            ]);
        }
        table.text()
    }

    fn arithmetic_table(&self) -> Option<String> {
        let mut table = Table::new(&["ns for a request", "AEAD", "8 together", "alone"]);
        for together in self.arithmetic.iter().filter(|line| line.batch > 1) {
            let is_same = |line: &&crate::arithmetic::Line| {
                line.batch == 1 && (line.arithmetic, line.aead) == (together.arithmetic, together.aead)
            };
            let alone = self.arithmetic.iter().find(is_same);
            let alone = alone.map(|line| format!("{:.0}", line.nanos)).unwrap_or_default();
            let aead = format!("{} (goal {})", together.aead, if together.aead == 15 { 500 } else { 350 });
            table.add(&[together.arithmetic, &aead, &format!("{:.0}", together.nanos), &alone]);
        }
        table.text()
    }

    fn stamps_table(&self) -> Option<String> {
        let mut table = Table::new(&["requests per second", "", "chimed", "chronyd", "no worse"]);
        for ours in self.stamps.iter().filter(|row| row.server == Program::Chimed.name()) {
            let is_theirs = |row: &&crate::stamps::Stamps| {
                row.server != ours.server
                    && (row.subject, row.offered_per_second) == (ours.subject, ours.offered_per_second)
            };
            let text = |row: &crate::stamps::Stamps| {
                let [median, last] = row.error_nanoseconds.map(|value| value / 1e3);
                format!("{median:.1}, {last:.1}")
            };
            let theirs = self.stamps.iter().find(is_theirs).map(text).unwrap_or_default();
            let verdict = self.is_truer_than_chronyd(ours).map(|yes| if yes { "yes" } else { "NO" });
            let offered = ours
                .offered_per_second
                .map_or_else(|| "as many as can be made".to_owned(), |offer| format!("{offer:.0}"));
            table.add(&[&offered, ours.subject.text(), &text(ours), &theirs, verdict.unwrap_or("")]);
        }
        table.text()
    }

    fn idle_table(&self) -> Option<String> {
        let mut table = Table::new(&[
            "",
            "connections per second",
            "good clients served",
            "in (median, 99 %)",
            "at rest",
            "resident before",
            "at most",
        ]);
        for idle in &self.idle {
            let times = |[median, last]: [f64; 2]| format!("{median:.1} ms, {last:.1} ms");
            let size = |kibibytes: u64| format!("{:.1} MB", kibibytes as f64 / 1024.0);
            table.add(&[
                idle.server,
                &format!("{:.0}", idle.attempted_per_second),
                &format!("{} of {}", idle.good_clients_served, idle.good_clients),
                &times(idle.milliseconds),
                &times(idle.milliseconds_at_rest),
                &size(idle.resident_before),
                &size(idle.resident_peak),
            ]);
        }
        table.text()
    }

    fn flood_table(&self) -> Option<String> {
        let mut table = Table::new(&[
            "",
            "",
            "requests answered",
            "in (median, 99 %)",
            "at rest",
            "handshakes",
            "good clients served",
            "in (median, 99 %)",
            "at rest",
        ]);
        for flood in &self.ke_flood {
            let (rest, flooded) = (flood.at_rest, flood.flooded);
            let percent = |share: f64| format!("{:.1} %", share * 100.0);
            let waits = |[median, last]: [f64; 2]| format!("{median:.0} µs, {last:.0} µs");
            let times = |[median, last]: [f64; 2]| format!("{median:.1} ms, {last:.1} ms");
            table.add(&[
                &format!("{}, {}", flood.subject.text(), thousands(flood.offered_per_second)),
                flood.server,
                &percent(flooded.answered),
                &waits(flooded.microseconds),
                &waits(rest.microseconds),
                &format!("{:.0}/s", flooded.handshakes_per_second),
                &percent(flooded.good_clients_served),
                &times(flooded.milliseconds),
                &times(rest.milliseconds),
            ]);
        }
        table.text()
    }

    fn cores_table(&self) -> Option<String> {
        let mut table =
            Table::new(&["an answer costs", "one worker", "beside the load", "both", "two by one", "goal"]);
        for cores in &self.cores {
            let [one, beside, two] =
                [cores.one, cores.one_beside_load, cores.two].map(|cost| format!("{cost:.2} µs"));
            table.add(&[cores.subject.text(), &one, &beside, &two, &format!("{:.2}", cores.ratio), "1.8"]);
        }
        table.text()
    }

    fn clients_table(&self) -> Option<String> {
        let mut table = Table::new(&["error as a client", "at rest", "while saturated", "goal"]);
        for clients in &self.clients {
            let [rest, saturated] =
                [clients.error_at_rest, clients.error_saturated].map(|error| format!("{error:.2} µs"));
            table.add(&[clients.server, &rest, &saturated, "twice that at rest"]);
        }
        table.text()
    }

    fn footprint_table(&self) -> Option<String> {
        let footprint = self.footprint?;
        let mut table = Table::new(&["a client alone", "", "goal"]);
        table.add(&["resident", &format!("{} KiB", footprint.resident), "8192 KiB"]);
        table.add(&["private and dirty", &format!("{} KiB", footprint.private_dirty), "1536 KiB"]);
        table.add(&["threads", &footprint.threads.to_string(), ""]);
        table.add(&["wake-ups per second at poll 64 s", &format!("{:.3}", footprint.wake_ups), "0.05"]);
        table.text()
    }
}

fn thousands(per_second: f64) -> String {
    format!("{:.0}k/s", per_second / 1000.0)
}

fn rate(row: &Row) -> String {
    format!("{}, {:.2} µs", thousands(row.per_second), row.cpu_microseconds)
}

/// A table of Markdown; none without rows.
struct Table {
    text: String,
    rows: usize,
}

impl Table {
    fn new(heads: &[&str]) -> Self {
        let mut table = Self { text: String::new(), rows: 0 };
        table.add(heads);
        table.add(&vec!["---"; heads.len()]);
        table.rows = 0;
        table
    }

    fn add(&mut self, cells: &[&str]) {
        let _a_string_takes_all = writeln!(self.text, "| {} |", cells.join(" | "));
        self.rows += 1;
    }

    fn text(self) -> Option<String> {
        (self.rows > 0).then_some(self.text)
    }
}

fn replaced(document: &str, name: &str, table: &str) -> Result<String> {
    let begin = format!("<!-- figures: {name} -->\n");
    let place = || format!("no place for the figures of {name}: a line {begin}and one {END} after it");
    let (before, rest) = document.split_once(&begin).with_context(place)?;
    let (old, after) = rest.split_once(END).with_context(place)?;
    ensure!(!old.contains("<!--"), place());
    Ok(format!("{before}{begin}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Figure;

    #[test]
    fn a_table_takes_the_place_of_the_one_before_and_of_no_other() {
        let document = "# Title\n<!-- figures: a -->\nold\n<!-- end of figures -->\ntext\n<!-- figures: b -->\n\
                        <!-- end of figures -->\n";
        let once = replaced(document, "b", "| new |\n").unwrap();
        assert!(
            once.contains("old")
                && once.ends_with("<!-- figures: b -->\n\n| new |\n\n<!-- end of figures -->\n")
        );
        assert_eq!(replaced(&once, "b", "| new |\n").unwrap(), once);
        assert!(replaced(document, "c", "").is_err());
        assert!(
            replaced("<!-- figures: a -->\n<!-- figures: b -->\n<!-- end of figures -->", "a", "").is_err()
        );
    }

    #[test]
    fn figures_stand_in_the_row_of_what_they_are_about() {
        let mut report = Report::new(Placement::Split);
        let figure =
            |per_second| Figure { per_second, cpu_microseconds: 4.0, offered_per_second: Some(500_000.0) };
        report.add(Subject::Plain, Program::Chimed, &[figure(260_000.0)]);
        report.add(Subject::Plain, Program::Chronyd, &[figure(200_000.0)]);
        report.add(Subject::Nts30, Program::Chimed, &[figure(9.0)]);
        let tables = report.tables();
        assert_eq!(tables.len(), 1);
        let (name, table) = &tables[0];
        assert_eq!(name, "requests, split");
        assert_eq!(
            table.lines().nth(2),
            Some("| plain NTP | 260k/s, 4.00 µs | 200k/s, 4.00 µs |  |  | 1.30 | 1.3 |")
        );
        assert_eq!(table.lines().count(), 3, "no ratio, no row");
    }

    #[test]
    fn the_document_has_a_place_for_every_table() {
        let document = include_str!("../../../docs/performance.md");
        for name in [
            "requests, split",
            "requests, one core",
            "past the sockets, split",
            "past the sockets, one core",
            "key establishment",
            "arithmetic",
            "stamps",
            "idle",
            "flood",
            "cores",
            "clients",
            "footprint",
        ] {
            replaced(document, name, "").unwrap();
        }
    }
}
