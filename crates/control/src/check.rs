//! The judgement of a monitoring plug-in: is this machine's time good, and good because somebody
//! authenticated said so?

use std::fmt::{self, Display, Formatter};

use chime_engine::SourceReport;

use crate::Snapshot;
use crate::text::number::{human, human_age};
use crate::text::sign;

/// What a plug-in says; the numbers are its exit codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// All is well.
    Ok = 0,
    /// Somebody should look.
    Warning = 1,
    /// Time is not good.
    Critical = 2,
    /// Nobody knows.
    Unknown = 3,
}

impl State {
    /// The exit code of the plug-in.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        self as u8
    }

    /// The word of monitoring plug-ins for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What is asked of the clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Expectations {
    /// A larger offset is a warning; seconds.
    pub offset_warning: f64,
    /// A larger offset is critical; seconds.
    pub offset_critical: f64,
    /// A larger error bound is a warning; seconds.
    pub error_bound_warning: f64,
    /// A larger error bound is critical; seconds.
    pub error_bound_critical: f64,
    /// Fewer usable sources are a warning; `None`: as many as must agree.
    pub sources_min: Option<usize>,
    /// How bad it is when unauthenticated sources move the clock.
    pub unauthenticated: State,
}

impl Default for Expectations {
    fn default() -> Self {
        Self {
            offset_warning: 0.05,
            offset_critical: 0.5,
            error_bound_warning: 0.5,
            error_bound_critical: 2.0,
            sources_min: None,
            unauthenticated: State::Warning,
        }
    }
}

/// The plug-in's answer: one line, and the exit code in its state.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// The worst of all findings.
    pub state: State,
    /// What was found, the worst first.
    pub summary: String,
    /// Performance data, `label=value;warning;critical` separated by blanks.
    pub performance: String,
}

impl Verdict {
    /// Nothing could be found out.
    #[must_use]
    pub fn unknown(why: &str) -> Self {
        Self { state: State::Unknown, summary: one_line(why), performance: String::new() }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "TIME {} - {}", self.state.word(), self.summary)?;
        if self.performance.is_empty() { Ok(()) } else { write!(f, " | {}", self.performance) }
    }
}

/// A time plane that is silent for longer is stuck: it reports at least each 64 s.
pub(crate) const REPORT_AGE_MAX: f64 = 200.0;

/// Judges a snapshot.
#[must_use]
pub fn check(snapshot: &Snapshot, expected: &Expectations) -> Verdict {
    let mut findings: Vec<(State, String)> = Vec::new();
    findings.push(synchronisation(snapshot));
    findings.push(authentication(snapshot, expected));
    if snapshot.program.report_age_seconds > REPORT_AGE_MAX {
        let age = human_age(snapshot.program.report_age_seconds);
        findings.push((State::Critical, format!("the daemon's clock loop has not reported for {age}")));
    }
    if snapshot.program.quarantined {
        findings.push((State::Critical, format!("a correction{} is refused", wanted(snapshot))));
    }
    if let Some(text) = interference(snapshot) {
        findings.push((State::Warning, text));
    }
    if let Some(path) = &snapshot.server.fast_path
        && let Some(problem) = path.problems.first()
    {
        let how = if path.interfaces.is_empty() { "not in use" } else { "not in full use" };
        findings.push((State::Warning, format!("fast path {how}: {problem}")));
    }
    findings.extend(leap_list(snapshot).map(|text| (State::Warning, text)));
    if snapshot.engine.tracking.synchronized {
        findings.push(size_of_offset(snapshot, expected));
        findings.extend(size_of_bound(snapshot, expected));
    }
    findings.push(sources(snapshot, expected));
    // A stable sort: the worst comes first, and otherwise the order is the reader's.
    findings.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
    let texts: Vec<&str> = findings.iter().map(|(_, text)| text.as_str()).collect();
    Verdict {
        state: findings.iter().map(|(state, _)| *state).max().unwrap_or(State::Unknown),
        summary: one_line(&texts.join(", ")),
        performance: performance(snapshot, expected),
    }
}

/// Other programs that touch the clock which this daemon steers.
pub(crate) fn interference(snapshot: &Snapshot) -> Option<String> {
    let times = match snapshot.program.recent_interferences {
        0 => return None,
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    Some(format!("another program set the clock {times} in the last hour"))
}

/// A list of leap seconds that ends sooner should have been replaced: new ones come half a year before.
const LEAP_LIST_SECONDS_MIN: i64 = 30 * 86_400;

/// What is wrong with the list of leap seconds, where one is configured.
pub(crate) fn leap_list(snapshot: &Snapshot) -> Option<String> {
    let table = &snapshot.program.leap_table;
    if table.name.is_none()
        && let Some(problem) = table.problems.first()
    {
        return Some(format!("no list of leap seconds: {problem}"));
    }
    let left = snapshot.engine.leap_seconds.list_expires_in_seconds?;
    match left {
        ..=0 => Some("the list of leap seconds has expired".to_owned()),
        1..LEAP_LIST_SECONDS_MIN => {
            Some(format!("the list of leap seconds expires in {} days", left.div_euclid(86_400)))
        }
        _ => None,
    }
}

/// ` of +5000s beyond the panic threshold`.
pub(crate) fn wanted(snapshot: &Snapshot) -> String {
    let of = snapshot.engine.tracking.refused_correction_seconds.map_or_else(String::new, |seconds| {
        format!(" of {}{}", if seconds < 0.0 { "-" } else { "+" }, human(seconds))
    });
    format!("{of} beyond the panic threshold")
}

/// Sources that could set the clock: reachable, with samples, and not found to be wrong.
#[must_use]
pub fn usable_sources(snapshot: &Snapshot) -> usize {
    let usable = |source: &&SourceReport| source.reach != 0 && matches!(sign(source.state), '*' | '+' | '-');
    snapshot.engine.sources.iter().filter(usable).count()
}

fn synchronisation(snapshot: &Snapshot) -> (State, String) {
    let tracking = &snapshot.engine.tracking;
    if !tracking.synchronized {
        return (State::Critical, "not synchronised".to_owned());
    }
    let to = tracking.name.as_deref().unwrap_or("its sources");
    (State::Ok, format!("synchronised to {to} at stratum {}", tracking.stratum))
}

fn authentication(snapshot: &Snapshot, expected: &Expectations) -> (State, String) {
    let names = &snapshot.engine.unauthenticated_in_use;
    if !names.is_empty() {
        return (expected.unauthenticated, format!("unauthenticated sources in use: {}", names.join(" ")));
    }
    if !snapshot.engine.tracking.synchronized {
        return (State::Ok, "nothing unauthenticated is in use".to_owned());
    }
    if snapshot.engine.tracking.authenticated {
        (State::Ok, "authenticated".to_owned())
    } else {
        (expected.unauthenticated, "not authenticated".to_owned())
    }
}

fn size_of_offset(snapshot: &Snapshot, expected: &Expectations) -> (State, String) {
    let value = snapshot.engine.tracking.system_offset_seconds;
    let state = level(value.abs(), expected.offset_warning, expected.offset_critical);
    (state, format!("offset {}{}", if value < 0.0 { "-" } else { "+" }, human(value)))
}

fn size_of_bound(snapshot: &Snapshot, expected: &Expectations) -> Option<(State, String)> {
    let bound = snapshot.error_bound_seconds()?;
    let state = level(bound, expected.error_bound_warning, expected.error_bound_critical);
    Some((state, format!("error at most {}", human(bound))))
}

fn sources(snapshot: &Snapshot, expected: &Expectations) -> (State, String) {
    let usable = usable_sources(snapshot);
    let wanted = wanted_sources(snapshot, expected);
    let text = format!("{usable} of {} sources usable", snapshot.engine.sources.len());
    if usable == 0 {
        (State::Critical, text)
    } else if usable < wanted {
        (State::Warning, format!("{text}, {wanted} wanted"))
    } else {
        (State::Ok, text)
    }
}

fn wanted_sources(snapshot: &Snapshot, expected: &Expectations) -> usize {
    expected.sources_min.unwrap_or(snapshot.program.minimum_agreeing_sources).max(1)
}

/// A value that is not a number is as bad as it can be.
fn level(value: f64, warning: f64, critical: f64) -> State {
    if value <= warning {
        State::Ok
    } else if value <= critical {
        State::Warning
    } else {
        State::Critical
    }
}

fn performance(snapshot: &Snapshot, expected: &Expectations) -> String {
    let tracking = &snapshot.engine.tracking;
    let mut fields = vec![
        format!("synchronised={}", u8::from(tracking.synchronized)),
        format!("authenticated={}", u8::from(tracking.authenticated)),
    ];
    if let Some(bound) = snapshot.error_bound_seconds() {
        let (warning, critical) = (expected.offset_warning, expected.offset_critical);
        fields.push(format!(
            "offset={:.9}s;-{warning}:{warning};-{critical}:{critical}",
            tracking.system_offset_seconds
        ));
        fields.push(format!(
            "error_bound={bound:.9}s;{};{};0",
            expected.error_bound_warning, expected.error_bound_critical
        ));
    }
    let wanted = wanted_sources(snapshot, expected);
    fields.push(format!(
        "sources={};{wanted}:;1:;0;{}",
        usable_sources(snapshot),
        snapshot.engine.sources.len()
    ));
    fields.push(format!("unauthenticated={};0", snapshot.engine.unauthenticated_in_use.len()));
    fields.push(format!("stratum={}", tracking.stratum));
    fields.join(" ")
}

/// A plug-in speaks one line, in which `|` starts the performance data.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.program.minimum_agreeing_sources = 2;
        let tracking = &mut snapshot.engine.tracking;
        tracking.synchronized = true;
        tracking.authenticated = true;
        tracking.stratum = 2;
        tracking.name = Some("nts.example.net".to_owned());
        tracking.system_offset_seconds = -2e-6;
        tracking.root_delay_seconds = 0.02;
        tracking.root_dispersion_seconds = 0.001;
        let source = |state| SourceReport { state, reach: 255, ..SourceReport::default() };
        snapshot.engine.sources = vec![source('*'), source('+'), source('x')];
        snapshot
    }

    fn judged(snapshot: &Snapshot) -> (State, String) {
        let verdict = check(snapshot, &Expectations::default());
        (verdict.state, verdict.to_string())
    }

    #[test]
    fn good_time_is_ok_in_one_line_with_performance_data() {
        assert_eq!(
            judged(&good()),
            (
                State::Ok,
                "TIME OK - synchronised to nts.example.net at stratum 2, authenticated, offset \
                 -2.0us, error at most 11.0ms, 2 of 3 sources usable | synchronised=1 \
                 authenticated=1 offset=-0.000002000s;-0.05:0.05;-0.5:0.5 \
                 error_bound=0.011002000s;0.5;2;0 sources=2;2:;1:;0;3 unauthenticated=0;0 stratum=2"
                    .to_owned()
            )
        );
    }

    #[test]
    fn no_synchronisation_is_critical_and_said_first() {
        let (state, text) = judged(&Snapshot::default());
        assert_eq!(state, State::Critical);
        assert!(text.starts_with("TIME CRITICAL - not synchronised, 0 of 0"), "{text}");
    }

    #[test]
    fn an_unauthenticated_source_in_use_is_a_warning_or_what_was_asked_for() {
        let mut snapshot = good();
        snapshot.engine.tracking.authenticated = false;
        snapshot.engine.unauthenticated_in_use = vec!["pool.example.org".to_owned()];
        let (state, text) = judged(&snapshot);
        assert_eq!(state, State::Warning);
        assert!(text.contains("WARNING - unauthenticated sources in use: pool.example.org"), "{text}");
        let strict = Expectations { unauthenticated: State::Critical, ..Expectations::default() };
        assert_eq!(check(&snapshot, &strict).state, State::Critical);
        let lax = Expectations { unauthenticated: State::Ok, ..Expectations::default() };
        assert_eq!(check(&snapshot, &lax).state, State::Ok);
    }

    #[test]
    fn offsets_are_judged_on_both_sides_of_both_thresholds() {
        let cases = [
            (0.05, State::Ok),
            (-0.051, State::Warning),
            (0.5, State::Warning),
            (-0.51, State::Critical),
            (f64::NAN, State::Critical),
        ];
        for (value, state) in cases {
            let mut snapshot = good();
            snapshot.engine.tracking.system_offset_seconds = value;
            assert_eq!(judged(&snapshot).0, state, "{value}");
        }
    }

    #[test]
    fn too_few_sources_are_a_warning_and_none_are_critical() {
        let mut snapshot = good();
        snapshot.engine.sources[1].reach = 0;
        assert_eq!(judged(&snapshot).0, State::Warning);
        snapshot.engine.sources[0].state = '?';
        assert_eq!(judged(&snapshot).0, State::Critical);
    }

    #[test]
    fn a_daemon_that_is_stuck_is_critical_however_good_its_last_words_were() {
        assert_eq!(judged(&good().aged(190.0)).0, State::Ok);
        let (state, text) = judged(&good().aged(300.0));
        assert_eq!(state, State::Critical);
        assert!(
            text.starts_with("TIME CRITICAL - the daemon's clock loop has not reported for 300s"),
            "{text}"
        );
    }

    #[test]
    fn a_refused_correction_is_critical() {
        let mut snapshot = good();
        snapshot.program.quarantined = true;
        snapshot.engine.tracking.refused_correction_seconds = Some(-5000.0);
        let (state, text) = judged(&snapshot);
        assert_eq!(state, State::Critical, "although the clock is still synchronised");
        assert!(text.contains("a correction of -5000s beyond the panic threshold is refused"), "{text}");
    }

    #[test]
    fn another_program_that_sets_the_clock_is_a_warning() {
        let mut snapshot = good();
        snapshot.program.recent_interferences = 2;
        let (state, text) = judged(&snapshot);
        assert_eq!(state, State::Warning);
        assert!(text.contains("another program set the clock 2 times in the last hour"), "{text}");
    }

    #[test]
    fn a_list_of_leap_seconds_that_expires_is_a_warning_in_time() {
        let with = |left| {
            let mut snapshot = good();
            snapshot.engine.leap_seconds.list_expires_in_seconds = left;
            judged(&snapshot)
        };
        for left in [None, Some(30 * 86_400), Some(i64::MAX)] {
            assert_eq!(with(left).0, State::Ok, "{left:?}");
        }
        let (state, text) = with(Some(30 * 86_400 - 1));
        assert!(state == State::Warning && text.contains("expires in 29 days"), "{text}");
        for left in [0, -1, i64::MIN] {
            let (state, text) = with(Some(left));
            assert!(state == State::Warning && text.contains("leap seconds has expired"), "{text}");
        }
        let mut unreadable = good();
        unreadable.program.leap_table.problems = vec!["/x: not a list".to_owned()];
        let (state, text) = judged(&unreadable);
        assert!(
            state == State::Warning && text.contains("no list of leap seconds: /x: not a list"),
            "{text}"
        );
        unreadable.program.leap_table.name = Some("time zone right/UTC".to_owned());
        assert_eq!(judged(&unreadable).0, State::Ok, "another one is in use");
    }

    #[test]
    fn names_cannot_break_the_line_or_forge_performance_data() {
        let verdict = Verdict::unknown("cannot\nconnect | offset=0");
        assert_eq!(verdict.to_string(), "TIME UNKNOWN - cannot connect   offset=0");
        assert_eq!(verdict.state.exit_code(), 3);
    }
}
