//! What happens, in the words of chronyd: the lines that its users, monitoring and tests look for.
//!
//! [`ChronyWords`] is told of each event and gives the lines that chronyd would log. What chronyd says nothing about is
//! at most a debug line, but for what it must be said of: unauthenticated sources beside authenticated ones, and
//! certificates that are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use chime_discipline::{ClockCommand, DisciplineEvent, Leap, LeapOutcome, SourceId, StepEvidence};
use chime_engine::{
    AuthenticationMode, EngineReport, Event, KeFailure, RemovalReason, SourceKey, SourceKind, SourceRefusal,
    SourceReport,
};
use chime_wire::KissCode;

/// How important a line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// For those who look for a fault.
    Debug,
    /// Ordinary.
    Info,
    /// Worth a look.
    Warning,
    /// Something does not work.
    Error,
}

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// How important it is.
    pub severity: Severity,
    /// The text.
    pub text: String,
}

/// What decides about lines.
#[derive(Clone, PartialEq, Debug)]
pub struct WordSettings {
    /// Offsets greater than this are logged; seconds.
    pub log_change: f64,
    /// `maxdistance`, seconds.
    pub max_distance: f64,
    /// `maxjitter`, seconds.
    pub max_jitter: f64,
    /// `minstratum` and `maxstratum`.
    pub strata: (u8, u8),
    /// Names of sources whose configuration comes and goes: they are announced at the start, too.
    pub announced: BTreeSet<String>,
    /// With `-x`: the offset from which on the clock would be stepped, seconds, and in how many first updates.
    pub impossible_step: Option<(f64, Option<u32>)>,
}

/// Remembers names, and what was said.
#[derive(Debug)]
pub struct ChronyWords {
    settings: WordSettings,
    sources: BTreeMap<SourceId, Known>,
    /// Addresses given up for another one that is about to come.
    leaving: BTreeMap<SourceKey, SocketAddr>,
    /// The state of sources in the last report, by their number.
    states: BTreeMap<u32, char>,
    /// Names of the reference clocks.
    clocks: BTreeMap<SourceId, String>,
    stepped: bool,
    /// A leap second has passed since the kernel was told to make one.
    leap_passed: bool,
    /// Whether the sources of the start are known: those that come later are worth a line.
    begun: bool,
}

#[derive(Clone, Debug)]
struct Known {
    source: SourceKey,
    name: String,
    remote: SocketAddr,
}

impl ChronyWords {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(settings: WordSettings) -> Self {
        Self {
            settings,
            sources: BTreeMap::new(),
            leaving: BTreeMap::new(),
            states: BTreeMap::new(),
            clocks: BTreeMap::new(),
            stepped: false,
            leap_passed: false,
            begun: false,
        }
    }

    /// The lines about an event; `report` gives the state of everything, where a line needs it.
    pub fn event(&mut self, event: &Event, report: impl Fn() -> EngineReport) -> Vec<Line> {
        match event {
            Event::SourceAdded { name, is_pool, number, .. } => {
                let text = format!("Added {}", configured(name, *is_pool, *number, None));
                vec![if self.begun || self.settings.announced.contains(name) {
                    info(text)
                } else {
                    debug(text)
                }]
            }
            Event::SourceRemoved { name, is_pool, number, remote } => {
                vec![info(format!("Removed {}", configured(name, *is_pool, *number, *remote)))]
            }
            Event::AssociationAdded { association, source, name, remote } => {
                let known = Known { source: *source, name: name.clone(), remote: *remote };
                let line = match self.leaving.remove(source) {
                    Some(old) if old.ip() != remote.ip() => {
                        let named = of_name(name, remote);
                        info(format!("Source {} replaced with {}{named}", old.ip(), remote.ip()))
                    }
                    _ => debug(format!("Added source {}", shown(&known))),
                };
                self.sources.insert(*association, known);
                vec![line]
            }
            Event::ReferenceClockAdded { clock, name } => {
                self.clocks.insert(*clock, name.clone());
                vec![debug(format!("Added refclock {name}"))]
            }
            Event::ReferenceClockRead { .. }
            | Event::ReferenceClockSampled { .. }
            | Event::ReadingRefused { .. } => Vec::new(),
            Event::AssociationRemoved { association, remote, reason } => {
                let known = self.sources.remove(association);
                let shown = known.as_ref().map_or_else(|| remote.ip().to_string(), shown);
                if let Some(known) = known.filter(|_| is_for_another(*reason)) {
                    self.leaving.insert(known.source, *remote);
                }
                vec![debug(format!("Removed source {shown}"))]
            }
            Event::Kiss { remote, code: KissCode::RATE, .. } => {
                vec![warning(format!("Received KoD RATE from {}", remote.ip()))]
            }
            Event::EstablishmentFailed { name, failure, .. } => vec![establishment_failed(name, failure)],
            Event::SourceRefused { name, reason, .. } => vec![warning(refused(name, *reason))],
            Event::ResolveFailed { name, failure, .. } => {
                vec![warning(format!("Could not resolve address of {name} : {failure}"))]
            }
            Event::CertificateRefused { name, reason, .. } => {
                vec![error(format!("Certificate of {name} is not valid : {reason}"))]
            }
            Event::UnauthenticatedInUse { association, .. } => self.unauthenticated(*association, &report()),
            Event::Discipline(event) => self.discipline(event, report),
            other => vec![debug(format!("{other:?}"))],
        }
    }

    /// The sources of the start are known.
    pub const fn begin(&mut self) {
        self.begun = true;
    }

    /// The lines about an update of the clock; `report` is the state after it.
    pub fn updated(&mut self, report: &EngineReport) -> Vec<Line> {
        let mut lines = Vec::new();
        // A step is in the report already; its own event has said so.
        let stepped = std::mem::take(&mut self.stepped);
        let offset = -report.tracking.last_offset_seconds;
        if !stepped && offset.abs() > self.settings.log_change {
            lines.push(warning(format!("System clock wrong by {offset:.6} seconds")));
        }
        lines
    }

    /// The lines that are due when `-x` keeps an update from stepping the clock; `updates` is its number, from 1.
    #[must_use]
    pub fn step_not_possible(&self, report: &EngineReport, updates: u64) -> Vec<Line> {
        let wanted = self.settings.impossible_step.is_some_and(|(threshold, limit)| {
            limit.is_none_or(|limit| updates <= u64::from(limit))
                && report.tracking.system_offset_seconds.abs() > threshold
        });
        if wanted { vec![error("Could not step system clock".to_owned())] } else { Vec::new() }
    }

    /// The lines about sources whose state changed since the last report. One of which nothing is known for a while, as its
    /// samples begin anew, is as it was: what was said of it is not said again.
    pub fn states(&mut self, report: &EngineReport) -> Vec<Line> {
        let mut lines = Vec::new();
        let judged = |source: &&SourceReport| !matches!(source.state, 'M' | 'W');
        for source in report.sources.iter().filter(judged) {
            let last = self.states.insert(source.id, source.state);
            if last == Some(source.state) {
                continue;
            }
            let address = match source.remote {
                Some(remote) => remote.ip().to_string(),
                None if source.kind == SourceKind::ReferenceClock => source.name.clone(),
                None => continue,
            };
            let (distance, jitter) = (self.settings.max_distance, self.settings.max_jitter);
            match source.state {
                'd' => lines.push(warning(format!(
                    "Root distance of {address} exceeds maxdistance of {distance:.3} seconds"
                ))),
                'r' if source.stratum < self.settings.strata.0 => lines.push(warning(format!(
                    "Stratum of {address} below minstratum of {}",
                    self.settings.strata.0
                ))),
                'r' => lines.push(warning(format!(
                    "Stratum of {address} above maxstratum of {}",
                    self.settings.strata.1
                ))),
                '~' => lines
                    .push(warning(format!("Jitter of {address} exceeds maxjitter of {jitter:.3} seconds"))),
                _ => {}
            }
        }
        lines
    }

    /// The line about a clock that somebody else moved; seconds, positive forward.
    #[must_use]
    pub fn jumped(&self, by: f64) -> Line {
        let way = if by < 0.0 { "Backward" } else { "Forward" };
        warning(format!("{way} time jump detected!"))
    }

    fn discipline(&mut self, event: &DisciplineEvent, report: impl Fn() -> EngineReport) -> Vec<Line> {
        match event {
            DisciplineEvent::Selected(id) => vec![info(format!("Selected source {}", self.shown(*id)))],
            DisciplineEvent::Falseticker(id) => {
                vec![warning(format!("Detected falseticker {}", self.shown(*id)))]
            }
            DisciplineEvent::NoMajority { .. } => vec![warning(no_majority(&report().sources))],
            DisciplineEvent::TooFewSources { agreeing, required } if agreeing >= required => {
                vec![cannot("no required source in selectable sources")]
            }
            DisciplineEvent::TooFewSources { .. } => vec![cannot("not enough selectable sources")],
            DisciplineEvent::CannotSynchronise => vec![nobody(&report().sources)],
            DisciplineEvent::Stepped(evidence) => self.was_stepped(evidence),
            DisciplineEvent::StepRefused(refusal) => vec![warning(format!(
                "Adjustment of {:.3} seconds exceeds the allowed maximum of {:.3} seconds ({}) ",
                refusal.by,
                refusal.limit,
                if refusal.is_last { "exiting" } else { "ignored" }
            ))],
            DisciplineEvent::TaiOffsetSet(seconds) => {
                vec![info(format!("System clock TAI offset set to {seconds} seconds"))]
            }
            DisciplineEvent::KernelLeapSecond(leap) => vec![info(self.kernel_leap(*leap))],
            DisciplineEvent::LeapSecondPassed { outcome, .. } => {
                self.leap_passed = true;
                leap_passed(*outcome).into_iter().collect()
            }
            DisciplineEvent::CommandFailed { command: ClockCommand::Step { .. }, .. } => {
                vec![error("Could not step system clock".to_owned())]
            }
            DisciplineEvent::CommandFailed { command, failure } => {
                vec![error(format!("Could not adjust system clock : {failure} ({command:?})"))]
            }
            other => vec![debug(format!("{other:?}"))],
        }
    }

    fn was_stepped(&mut self, evidence: &StepEvidence) -> Vec<Line> {
        let by = evidence.by;
        self.stepped = true;
        let wrong = (by.abs() > self.settings.log_change)
            .then(|| warning(format!("System clock wrong by {by:.6} seconds")));
        wrong.into_iter().chain([warning(format!("System clock was stepped by {by:.6} seconds"))]).collect()
    }

    fn kernel_leap(&mut self, leap: Leap) -> String {
        let passed = std::mem::take(&mut self.leap_passed);
        let status = match leap {
            Leap::Insert => "set to insert leap second",
            Leap::Delete => "set to delete leap second",
            _ if passed => "reset after leap second",
            _ => "set to not insert/delete leap second",
        };
        format!("System clock status {status}")
    }

    /// chronyd has no word for it. It is news only where other sources are authenticated.
    fn unauthenticated(&self, id: SourceId, report: &EngineReport) -> Vec<Line> {
        let some = |source: &SourceReport| source.authentication.mode != AuthenticationMode::None;
        if report.sources.iter().any(some) {
            vec![warning(format!("Source {} is not authenticated and in use", self.shown(id)))]
        } else {
            vec![debug(format!("Source {} is not authenticated", self.shown(id)))]
        }
    }

    fn shown(&self, id: SourceId) -> String {
        let clock = self.clocks.get(&id).cloned();
        clock.or_else(|| self.sources.get(&id).map(shown)).unwrap_or_else(|| format!("ID#{:010}", id.0))
    }
}

/// What was configured: a pool by its name, a source by its address, or the number that stands for it, and its name.
fn configured(name: &str, is_pool: bool, number: u32, remote: Option<IpAddr>) -> String {
    if is_pool {
        return format!("pool {name}");
    }
    match (name.parse::<IpAddr>(), remote) {
        (Ok(address), _) => format!("source {address}"),
        (Err(_), Some(address)) => format!("source {address} ({name})"),
        (Err(_), None) => format!("source ID#{number:010} ({name})"),
    }
}

/// An address, and the name behind it when that is another.
fn shown(known: &Known) -> String {
    format!("{}{}", known.remote.ip(), of_name(&known.name, &known.remote))
}

fn of_name(name: &str, remote: &SocketAddr) -> String {
    let is_address = name.parse() == Ok(remote.ip());
    if is_address { String::new() } else { format!(" ({name})") }
}

const fn is_for_another(reason: RemovalReason) -> bool {
    matches!(
        reason,
        RemovalReason::Unreachable
            | RemovalReason::Falseticker
            | RemovalReason::AddressGone
            | RemovalReason::ServerChanged
    )
}

/// The line about a leap second that the kernel did not make.
fn leap_passed(outcome: LeapOutcome) -> Option<Line> {
    let text = match outcome {
        LeapOutcome::ByKernel => return None,
        LeapOutcome::NotByKernel | LeapOutcome::Slew => "Adjusting system clock for leap second",
        LeapOutcome::Step => "System clock was stepped for leap second",
        LeapOutcome::Ignored => "Ignoring leap second",
    };
    Some(warning(text.to_owned()))
}

fn no_majority(sources: &[SourceReport]) -> String {
    // Those that were voted on are all falsetickers now.
    let voting: Vec<&SourceReport> = sources.iter().filter(|source| source.state == 'x').collect();
    let trusted = voting.iter().any(|source| source.selection.effective.trust);
    let voting: Vec<_> =
        voting.into_iter().filter(|source| !trusted || source.selection.effective.trust).collect();
    let kind = if trusted { "trusted sources" } else { "sources" };
    let agreeing = voting.iter().map(|one| {
        // The most intervals that have a point in common have it at some lower end.
        let low = one.selection.low_seconds;
        voting
            .iter()
            .filter(|other| other.selection.low_seconds <= low && low <= other.selection.high_seconds)
            .count()
    });
    match agreeing.max().unwrap_or(0) {
        0 | 1 => format!("Can't synchronise: no majority (no agreement among {} {kind})", voting.len()),
        most => format!("Can't synchronise: no majority (only {most} of {} {kind} agree)", voting.len()),
    }
}

fn nobody(sources: &[SourceReport]) -> Line {
    if sources.is_empty() {
        return cannot("no sources");
    }
    let unreachable = sources.iter().filter(|source| source.reach == 0).count();
    cannot(&match unreachable {
        0 => "no selectable sources".to_owned(),
        1 => "no selectable sources (1 unreachable source)".to_owned(),
        more => format!("no selectable sources ({more} unreachable sources)"),
    })
}

fn cannot(why: &str) -> Line {
    warning(format!("Can't synchronise: {why}"))
}

fn refused(name: &str, reason: SourceRefusal) -> String {
    match reason {
        SourceRefusal::UnknownKey(number) => format!("Key {number} is missing"),
        SourceRefusal::AddressInUse(_) => format!("Could not add source {name} : in use by another source"),
        SourceRefusal::TooMany => format!("Could not add source {name} : {reason}"),
        SourceRefusal::Unauthenticated => format!("Source {name} is not used : {reason}"),
    }
}

fn establishment_failed(name: &str, failure: &KeFailure) -> Line {
    error(if failure.network {
        format!("Could not connect to {name} : {failure}")
    } else if failure.kind.starts_with("tls") || failure.kind.contains("certificate") {
        format!("TLS handshake with {name} failed : {failure}")
    } else {
        format!("Received invalid NTS-KE response from {name} : {failure}")
    })
}

const fn debug(text: String) -> Line {
    Line { severity: Severity::Debug, text }
}

const fn info(text: String) -> Line {
    Line { severity: Severity::Info, text }
}

const fn warning(text: String) -> Line {
    Line { severity: Severity::Warning, text }
}

const fn error(text: String) -> Line {
    Line { severity: Severity::Error, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::SelectionReport;

    fn words() -> ChronyWords {
        ChronyWords::new(WordSettings {
            log_change: 1.0,
            max_distance: 3.0,
            max_jitter: 1.0,
            strata: (0, 15),
            announced: BTreeSet::new(),
            impossible_step: None,
        })
    }

    fn added(words: &mut ChronyWords, number: u32, name: &str, address: &str) -> String {
        let remote = SocketAddr::new(address.parse().expect("an address"), 123);
        let event = Event::AssociationAdded {
            association: SourceId(number),
            source: SourceKey(7),
            name: name.to_owned(),
            remote,
        };
        said(words, &event, &EngineReport::default())
    }

    fn said(words: &mut ChronyWords, event: &Event, report: &EngineReport) -> String {
        let lines = words.event(event, || report.clone());
        lines.into_iter().map(|line| line.text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_name_is_shown_where_it_says_more_than_the_address() {
        let mut words = words();
        added(&mut words, 1, "192.0.2.1", "192.0.2.1");
        added(&mut words, 2, "ntp.example", "192.0.2.2");
        let selected = |id| Event::Discipline(DisciplineEvent::Selected(SourceId(id)));
        let nothing = EngineReport::default();
        assert_eq!(said(&mut words, &selected(1), &nothing), "Selected source 192.0.2.1");
        assert_eq!(said(&mut words, &selected(2), &nothing), "Selected source 192.0.2.2 (ntp.example)");
        let removed = Event::AssociationRemoved {
            association: SourceId(2),
            remote: "192.0.2.2:123".parse().expect("an address"),
            reason: RemovalReason::Unreachable,
        };
        said(&mut words, &removed, &nothing);
        assert_eq!(
            added(&mut words, 3, "ntp.example", "192.0.2.3"),
            "Source 192.0.2.2 replaced with 192.0.2.3 (ntp.example)"
        );
    }

    #[test]
    fn a_step_is_told_with_what_was_wrong_and_small_ones_without() {
        let mut words = words();
        let stepped = |by| {
            Event::Discipline(DisciplineEvent::Stepped(StepEvidence { by, error: 0.1, sources: Vec::new() }))
        };
        let nothing = EngineReport::default();
        assert_eq!(
            said(&mut words, &stepped(-100.5), &nothing),
            "System clock wrong by -100.500000 seconds\nSystem clock was stepped by -100.500000 seconds"
        );
        assert_eq!(said(&mut words, &stepped(0.5), &nothing), "System clock was stepped by 0.500000 seconds");
    }

    #[test]
    fn an_address_that_another_source_has_is_told() {
        let address = "192.0.2.1".parse().expect("an address");
        let event = Event::SourceRefused {
            source: SourceKey(1),
            name: "192.0.2.1".to_owned(),
            reason: SourceRefusal::AddressInUse(address),
        };
        let line = said(&mut words(), &event, &EngineReport::default());
        assert_eq!(line, "Could not add source 192.0.2.1 : in use by another source");
    }

    #[test]
    fn leap_seconds_are_told_as_the_kernel_is_told_of_them() {
        let mut words = words();
        let mut line = |event| words.event(&Event::Discipline(event), EngineReport::default).remove(0).text;
        let kernel = DisciplineEvent::KernelLeapSecond;
        let passed = |outcome| DisciplineEvent::LeapSecondPassed {
            leap: chime_time::LeapSecond { midnight: 1_483_228_800, insert: true },
            outcome,
        };
        assert_eq!(line(DisciplineEvent::TaiOffsetSet(37)), "System clock TAI offset set to 37 seconds");
        assert_eq!(line(kernel(Leap::Insert)), "System clock status set to insert leap second");
        assert_eq!(line(kernel(Leap::NoWarning)), "System clock status set to not insert/delete leap second");
        assert_eq!(line(kernel(Leap::Delete)), "System clock status set to delete leap second");
        assert_eq!(line(passed(LeapOutcome::Slew)), "Adjusting system clock for leap second");
        assert_eq!(line(passed(LeapOutcome::Step)), "System clock was stepped for leap second");
        assert_eq!(line(kernel(Leap::NoWarning)), "System clock status reset after leap second");
        assert_eq!(line(passed(LeapOutcome::Ignored)), "Ignoring leap second");
        let by_kernel = Event::Discipline(passed(LeapOutcome::ByKernel));
        assert_eq!(words.event(&by_kernel, EngineReport::default), [], "the kernel has its own word for it");
    }

    #[test]
    fn an_update_is_told_when_it_is_beyond_logchange() {
        let mut words = words();
        let mut report = EngineReport::default();
        report.tracking.last_offset_seconds = 1.0;
        assert_eq!(words.updated(&report), []);
        report.tracking.last_offset_seconds = 1.000_002;
        assert_eq!(words.updated(&report), [warning("System clock wrong by -1.000002 seconds".to_owned())]);
    }

    fn voter(state: char, reach: u8, low: f64, high: f64) -> SourceReport {
        let selection =
            SelectionReport { low_seconds: low, high_seconds: high, ..SelectionReport::default() };
        SourceReport { state, reach, selection, ..SourceReport::default() }
    }

    #[test]
    fn who_agrees_and_who_is_unreachable_is_counted() {
        let mut words = words();
        let sources = |list: &[(f64, f64)]| EngineReport {
            sources: list.iter().map(|&(low, high)| voter('x', 1, low, high)).collect(),
            ..EngineReport::default()
        };
        let event = Event::Discipline(DisciplineEvent::NoMajority { selectable: 5 });
        let apart = sources(&[(0.0, 0.1), (1.0, 1.1), (2.0, 2.1)]);
        assert_eq!(
            said(&mut words, &event, &apart),
            "Can't synchronise: no majority (no agreement among 3 sources)"
        );
        let two = sources(&[(0.0, 0.1), (0.1, 0.2), (1.0, 1.1), (2.0, 2.1), (3.0, 3.1)]);
        assert_eq!(
            said(&mut words, &event, &two),
            "Can't synchronise: no majority (only 2 of 5 sources agree)"
        );
        let nobody = Event::Discipline(DisciplineEvent::CannotSynchronise);
        let silent = EngineReport {
            sources: vec![voter('M', 0, 0.0, 0.0), voter('M', 1, 0.0, 0.0)],
            ..EngineReport::default()
        };
        assert_eq!(
            said(&mut words, &nobody, &silent),
            "Can't synchronise: no selectable sources (1 unreachable source)"
        );
    }

    #[test]
    fn a_source_that_is_too_far_away_is_told_once() {
        let mut words = words();
        let remote = Some("192.0.2.1:123".parse().expect("an address"));
        let report = |state| EngineReport {
            sources: vec![SourceReport { remote, ..voter(state, 1, 0.0, 0.0) }],
            ..EngineReport::default()
        };
        let lines = words.states(&report('d'));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].text, "Root distance of 192.0.2.1 exceeds maxdistance of 3.000 seconds");
        // Nor when its samples begin anew, which may take a while; but when it was near in between.
        let again = ['d', 'M', 'W', 'd', '*', 'd'].map(|state| words.states(&report(state)).len());
        assert_eq!(again, [0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn sources_that_come_and_go_are_told_and_those_of_the_start_are_not() {
        let mut words = words();
        words.settings.announced.insert("dhcp.example".to_owned());
        let added = |name: &str, is_pool| Event::SourceAdded {
            source: SourceKey(1),
            name: name.to_owned(),
            is_pool,
            number: 7,
        };
        let report = EngineReport::default;
        let mut line = |event: &Event, begun: bool| {
            if begun {
                words.begin();
            }
            words.event(event, report).remove(0)
        };
        assert_eq!(line(&added("a.example", false), false).severity, Severity::Debug);
        let told = line(&added("dhcp.example", true), false);
        assert_eq!((told.severity, told.text.as_str()), (Severity::Info, "Added pool dhcp.example"));
        assert_eq!(line(&added("192.0.2.1", false), true).text, "Added source 192.0.2.1");
        assert_eq!(line(&added("a.example", false), true).text, "Added source ID#0000000007 (a.example)");
        let remote = "192.0.2.7".parse().ok();
        let gone = Event::SourceRemoved { name: "a.example".to_owned(), is_pool: false, number: 7, remote };
        assert_eq!(line(&gone, true).text, "Removed source 192.0.2.7 (a.example)");
    }
}
