//! The summary for people: is my time right, who says so, and what should I look at?

use std::fmt::Write as _;

use chime_engine::{AuthenticationMode, AuthenticationPolicy, SourceKind, SourceReport};

use crate::check::{REPORT_AGE_MAX, interference, leap_list, usable_sources, wanted};
use crate::text::number::{date, human, human_age};
use crate::text::{mode_letters, sign};
use crate::{Names, Paint, Snapshot, visible};

/// The summary; lines are at most `width` columns wide where words allow it.
#[must_use]
pub fn status(snapshot: &Snapshot, paint: Paint, width: usize) -> String {
    let mut out = String::new();
    for (label, text) in [
        ("Clock", clock(snapshot, paint)),
        ("Authenticated", authenticated(snapshot, paint)),
        ("Offset", offset_line(snapshot)),
        ("Sources", source_counts(snapshot)),
    ] {
        let _ = writeln!(out, "{} {text}", paint.strong(&format!("{label:<14}")));
    }
    if let Some(leap) = leap_second(snapshot) {
        let _ = writeln!(out, "{} {leap}", paint.strong(&format!("{:<14}", "Leap second")));
    }
    if let Some(served) = served(snapshot) {
        let _ = writeln!(out, "{} {served}", paint.strong(&format!("{:<14}", "Served")));
    }
    if let Some(path) = fast_path(snapshot, paint) {
        let _ = writeln!(out, "{} {path}", paint.strong(&format!("{:<14}", "Fast path")));
    }
    let listed = visible(&snapshot.engine.sources, false);
    if !listed.is_empty() {
        out.push('\n');
    }
    for source in listed {
        let _ = writeln!(out, "{}", source_line(source, paint, width));
    }
    let warnings = warnings(snapshot);
    if !warnings.is_empty() {
        out.push('\n');
    }
    for warning in warnings {
        let _ = writeln!(out, "{}", wrapped(&warning, paint, width));
    }
    out
}

/// The next leap second, as far as one is known; nothing otherwise.
fn leap_second(snapshot: &Snapshot) -> Option<String> {
    let next = snapshot.engine.leap_seconds.next?;
    let what = if next.insert { "inserted before" } else { "left out before" };
    let who = if next.listed { "by the list" } else { "as the sources announce" };
    #[expect(clippy::cast_precision_loss, reason = "a date needs far fewer than 53 bits")]
    let at = date(next.unix_seconds as f64);
    Some(format!("{what} {at} UTC, {who}; mode {}", snapshot.engine.leap_seconds.mode))
}

/// What an operator should look at, one sentence each.
#[must_use]
pub fn warnings(snapshot: &Snapshot) -> Vec<String> {
    let engine = &snapshot.engine;
    let mut found = Vec::new();
    if snapshot.program.report_age_seconds > REPORT_AGE_MAX {
        let age = human_age(snapshot.program.report_age_seconds);
        found.push(format!("the daemon's clock loop has not reported for {age}: all of this is old"));
    }
    if snapshot.program.quarantined {
        found.push(format!(
            "the sources want a correction{}: it is refused, and the clock runs on unsteered; if they \
             are right, accept it with `chime makestep`",
            wanted(snapshot)
        ));
    }
    if let Some(text) = interference(snapshot) {
        found.push(format!("{text}: the daemon's log says what was done and who may have done it"));
    }
    found.extend(leap_list(snapshot));
    if engine.sources.is_empty() {
        found.push("no sources are configured".to_owned());
    }
    for name in &engine.unauthenticated_in_use {
        found.push(format!("{name} is not authenticated and moves the clock"));
    }
    for establishment in &engine.establishments {
        if let Some(error) = &establishment.last_error {
            found.push(format!(
                "keys with {}: {error}{}",
                establishment.name,
                retry(establishment.retry_seconds)
            ));
        }
    }
    for source in visible(&engine.sources, false) {
        found.extend(source_warning(source));
    }
    found
}

fn retry(seconds: Option<f64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!("; next attempt in {}", human_age(seconds)))
}

fn source_warning(source: &SourceReport) -> Option<String> {
    let name = &source.name;
    let waits_for_keys =
        source.authentication.mode == AuthenticationMode::Nts && source.authentication.cookies == 0;
    match source {
        s if s.state == 'x' => Some(format!("{name} disagrees with the majority")),
        s if !s.online => None,
        s if s.reach == 0 && s.ntp.total_tx > 0 => {
            let why = s.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            Some(format!("{name} does not answer{why}"))
        }
        s if s.kind == SourceKind::ReferenceClock => (s.reach == 0)
            .then(|| format!("reference clock {name} ({} {}) gives no time", s.driver, s.device)),
        s if s.remote.is_none() && !waits_for_keys => Some(format!("{name} has no address")),
        _ => None,
    }
}

fn clock(snapshot: &Snapshot, paint: Paint) -> String {
    let tracking = &snapshot.engine.tracking;
    let observed = if snapshot.program.steers_clock { "" } else { ", observed only and not steered" };
    if !tracking.synchronized {
        let local = tracking.stratum != 0;
        let text = if local { "local time served, not synchronised" } else { "not synchronised" };
        return format!("{}{observed}", paint.bad(text));
    }
    let to = tracking.name.as_deref().unwrap_or("its sources");
    let others = snapshot.engine.sources.iter().filter(|s| sign(s.state) == '+').count();
    let others = match others {
        0 => String::new(),
        1 => " and one other".to_owned(),
        more => format!(" and {more} others"),
    };
    let stratum = tracking.stratum;
    format!("{} to {to}{others}, stratum {stratum}{observed}", paint.good("synchronised"))
}

fn authenticated(snapshot: &Snapshot, paint: Paint) -> String {
    let engine = &snapshot.engine;
    let policy = match engine.authentication_policy {
        AuthenticationPolicy::Required => "required",
        AuthenticationPolicy::Preferred => "preferred",
        AuthenticationPolicy::Mixed => "mixed with unauthenticated sources where configured",
        AuthenticationPolicy::Ignored => "not asked for",
    };
    let used = |mode| {
        let uses = |s: &&SourceReport| matches!(sign(s.state), '*' | '+') && s.authentication.mode == mode;
        engine.sources.iter().filter(uses).count()
    };
    let (nts, keys) = (used(AuthenticationMode::Nts), used(AuthenticationMode::Key));
    let mut by = Vec::new();
    if nts > 0 {
        by.push(format!("{nts} with NTS"));
    }
    if keys > 0 {
        by.push(format!("{keys} with a symmetric key"));
    }
    let by = if by.is_empty() { String::new() } else { format!(": {}", by.join(", ")) };
    let answer = if !engine.unauthenticated_in_use.is_empty() {
        paint.bad("no")
    } else if engine.tracking.synchronized && engine.tracking.authenticated {
        paint.good("yes")
    } else if engine.tracking.synchronized {
        paint.bad("no")
    } else {
        paint.warning("not yet")
    };
    format!("{answer}{by} ({policy})")
}

fn offset_line(snapshot: &Snapshot) -> String {
    let Some(bound) = snapshot.error_bound_seconds() else {
        return "unknown".to_owned();
    };
    let offset = snapshot.engine.tracking.system_offset_seconds;
    let side = if offset > 0.0 { "behind" } else { "ahead" };
    format!("{} {side}, error at most {}", human(offset), human(bound))
}

fn source_counts(snapshot: &Snapshot) -> String {
    let sources = &snapshot.engine.sources;
    let reachable = sources.iter().filter(|source| source.reach != 0).count();
    let needed = snapshot.program.minimum_agreeing_sources;
    let usable = usable_sources(snapshot);
    format!("{} in all, {reachable} reachable, {usable} usable, {needed} must agree", sources.len())
}

fn served(snapshot: &Snapshot) -> Option<String> {
    let (server, ke) = (&snapshot.server, &snapshot.ke_server);
    if server.listening.is_empty() && ke.listening.is_empty() {
        return None;
    }
    Some(format!(
        "{} requests, {} of them authenticated, {} not answered; {} key establishments",
        server.received, server.authenticated, server.dropped, ke.accepted
    ))
}

/// Where requests are answered before they come to the sockets, or why not.
fn fast_path(snapshot: &Snapshot, paint: Paint) -> Option<String> {
    let path = snapshot.server.fast_path.as_ref()?;
    let at: Vec<String> = path.interfaces.iter().map(|(name, mode)| format!("{name} ({mode})")).collect();
    let working = match at.is_empty() {
        true => "not in use".to_owned(),
        false => format!("{} requests answered at {}", path.answered, at.join(", ")),
    };
    let nts: Vec<String> =
        path.nts_interfaces.iter().map(|(name, way)| format!("{name} (AF_XDP, {way})")).collect();
    let nts = (!nts.is_empty())
        .then(|| format!("{} with NTS past the sockets at {}", path.frames_answered, nts.join(", ")));
    let problems = path.problems.iter().map(|problem| paint.warning(problem));
    Some(std::iter::once(working).chain(nts).chain(problems).collect::<Vec<_>>().join("; "))
}

fn source_line(source: &SourceReport, paint: Paint, width: usize) -> String {
    const BESIDE_NAME: usize = 48;
    const NAME_MIN: usize = 16;
    const NAME_MAX: usize = 39;
    let column = width.saturating_sub(BESIDE_NAME).clamp(NAME_MIN, NAME_MAX);
    let shown = sign(source.state).to_string();
    let shown = match sign(source.state) {
        '*' | '+' => paint.good(&shown),
        'x' | '~' => paint.bad(&shown),
        _ => paint.faint(&shown),
    };
    let mode = mode_letters(source.authentication.mode);
    let mode = if source.authentication.mode == AuthenticationMode::None {
        paint.warning(&format!("{mode:>4}"))
    } else {
        paint.good(&format!("{mode:>4}"))
    };
    let state = match source.last_sample_age_seconds {
        Some(age) => format!(
            "{:>6} {} +/- {:>6}, {:>5} ago",
            human(source.offset_seconds),
            if source.offset_seconds < 0.0 { "behind" } else { "ahead " },
            human(source.error_seconds),
            human_age(age),
        ),
        None => paint.faint("no measurement yet"),
    };
    format!("  {shown} {:<column$} {mode}  {state}", Names::Configured.of(source))
}

/// A warning, wrapped at blanks, its later lines under its first.
fn wrapped(text: &str, paint: Paint, width: usize) -> String {
    const INDENT: &str = "           ";
    const WORDS_MIN: usize = 20;
    let room = width.saturating_sub(INDENT.len()).max(WORDS_MIN);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let needs_new = lines
            .last()
            .is_some_and(|line| !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room);
        if needs_new {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    format!("  {} {}", paint.warning("warning:"), lines.join(&format!("\n{INDENT}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::{AuthenticationReport, EstablishmentReport, LeapSecondReport};

    fn source(name: &str, state: char, mode: AuthenticationMode) -> SourceReport {
        SourceReport {
            name: name.to_owned(),
            state,
            online: true,
            remote: Some("192.0.2.1:123".parse().expect("an address")),
            reach: 255,
            last_sample_age_seconds: Some(12.0),
            offset_seconds: -120e-6,
            error_seconds: 0.008,
            authentication: AuthenticationReport { mode, cookies: 8, ..AuthenticationReport::default() },
            ..SourceReport::default()
        }
    }

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.program.steers_clock = true;
        snapshot.program.minimum_agreeing_sources = 2;
        let engine = &mut snapshot.engine;
        engine.authentication_policy = AuthenticationPolicy::Required;
        engine.tracking.synchronized = true;
        engine.tracking.authenticated = true;
        engine.tracking.stratum = 2;
        engine.tracking.name = Some("nts.example.net".to_owned());
        engine.tracking.system_offset_seconds = 2.5e-6;
        engine.tracking.root_delay_seconds = 0.016;
        engine.sources = vec![
            source("nts.example.net", '*', AuthenticationMode::Nts),
            source("nts.example.org", '+', AuthenticationMode::Nts),
            source("ntp.example.com", 'N', AuthenticationMode::None),
        ];
        snapshot
    }

    #[test]
    fn a_good_clock_in_eight_lines() {
        assert_eq!(
            status(&snapshot(), Paint::Plain, 80),
            "\
Clock          synchronised to nts.example.net and one other, stratum 2
Authenticated  yes: 2 with NTS (required)
Offset         2.5us behind, error at most 8.0ms
Sources        3 in all, 3 reachable, 2 usable, 2 must agree

  * nts.example.net                   NTS   120us behind +/-  8.0ms,   12s ago
  + nts.example.org                   NTS   120us behind +/-  8.0ms,   12s ago
  ? ntp.example.com                     -   120us behind +/-  8.0ms,   12s ago
"
        );
    }

    #[test]
    fn a_leap_second_to_come_and_an_old_list_are_shown() {
        let mut snapshot = snapshot();
        let leap = &mut snapshot.engine.leap_seconds;
        leap.mode = "system".to_owned();
        leap.next = Some(LeapSecondReport { unix_seconds: 1_909_094_400, insert: true, listed: true });
        leap.list_expires_in_seconds = Some(3 * 86_400 + 7);
        let text = status(&snapshot, Paint::Plain, 100);
        let line = "Leap second    inserted before Mon Jul 01 00:00:00 2030 UTC, by the list; mode system\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("the list of leap seconds expires in 3 days"), "{text}");
    }

    #[test]
    fn no_line_of_a_narrow_terminal_is_wider_than_it() {
        let mut snapshot = snapshot();
        snapshot.engine.establishments = vec![EstablishmentReport {
            name: "nts.example.com".to_owned(),
            last_error: Some("the certificate expired on 2026-11-01, which is in the past".to_owned()),
            retry_seconds: Some(64.0),
            ..EstablishmentReport::default()
        }];
        let text = status(&snapshot, Paint::Plain, 72);
        assert!(text.lines().all(|line| line.chars().count() <= 72), "{text}");
        assert!(text.contains("next attempt in 64s"), "{text}");
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let mut snapshot = snapshot();
        snapshot.engine.sources[1].state = 'x';
        snapshot.engine.sources[2].reach = 0;
        snapshot.engine.sources[2].ntp.total_tx = 3;
        snapshot.engine.sources[2].last_error = Some("no route to the server".to_owned());
        snapshot.engine.unauthenticated_in_use = vec!["ntp.example.com".to_owned()];
        assert_eq!(
            warnings(&snapshot),
            [
                "ntp.example.com is not authenticated and moves the clock",
                "nts.example.org disagrees with the majority",
                "ntp.example.com does not answer: no route to the server",
            ]
        );
        let empty = status(&Snapshot::default(), Paint::Plain, 80);
        assert!(empty.contains("not synchronised") && empty.contains("no sources are configured"), "{empty}");
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        assert!(!status(&snapshot(), Paint::Plain, 80).contains('\x1b'));
        assert!(status(&snapshot(), Paint::Ansi, 80).contains("\x1b[32msynchronised\x1b[0m"));
    }
}
