//! Reports with one line for each source.

use std::fmt::Write as _;

use chime_engine::{AuthenticationMode, LeapReport, SelectionOptionsReport, SourceKind, SourceReport};

use super::number::{frequency, interval, magnitude, offset, signed_frequency};
use super::{Layout, header};
use crate::{Paint, Snapshot, visible};

/// `chronyc sources`.
#[must_use]
pub fn sources(snapshot: &Snapshot, layout: Layout) -> String {
    let mut out = header("MS Name/IP address         Stratum Poll Reach LastRx Last sample               ");
    for source in visible(&snapshot.engine.sources, layout.all) {
        let _ = writeln!(
            out,
            "{}{} {:<27}  {:2}  {:2}   {:3o}  {}  {}[{}] +/- {}",
            kind_letter(source),
            painted_sign(source, layout.paint),
            layout.names.of(source),
            source.stratum,
            source.poll,
            source.reach,
            interval(source.last_sample_age_seconds),
            offset(source.offset_seconds),
            offset(source.measured_offset_seconds),
            magnitude(source.error_seconds),
        );
    }
    out
}

/// `chronyc sourcestats`.
#[must_use]
pub fn sourcestats(snapshot: &Snapshot, layout: Layout) -> String {
    let mut out = header("Name/IP Address            NP  NR  Span  Frequency  Freq Skew  Offset  Std Dev");
    for source in visible(&snapshot.engine.sources, layout.all) {
        let statistics = &source.statistics;
        let _ = writeln!(
            out,
            "{:<25} {:3} {:3}  {} {} {}  {}  {}",
            layout.names.of(source),
            statistics.samples,
            statistics.runs,
            interval(Some(statistics.span_seconds)),
            signed_frequency(statistics.frequency_ppm),
            frequency(statistics.skew_ppm),
            offset(statistics.offset_seconds),
            magnitude(statistics.standard_deviation_seconds),
        );
    }
    out
}

/// `chronyc authdata`.
#[must_use]
pub fn authdata(snapshot: &Snapshot, layout: Layout) -> String {
    let mut out = header("Name/IP address             Mode KeyID Type KLen Last Atmp  NAK Cook CLen");
    for source in visible(&snapshot.engine.sources, layout.all) {
        let authentication = &source.authentication;
        let mode = mode_letters(authentication.mode);
        let mode = match authentication.mode {
            AuthenticationMode::None => layout.paint.warning(&format!("{mode:>4}")),
            _ => layout.paint.good(&format!("{mode:>4}")),
        };
        let _ = writeln!(
            out,
            "{:<27} {mode} {:5} {:4} {:4} {} {:4} {:4} {:4} {:4}",
            layout.names.of(source),
            authentication.key_id,
            authentication.key_type,
            authentication.key_bits,
            interval(authentication.last_establishment_age_seconds),
            authentication.attempts,
            u8::from(authentication.nak),
            authentication.cookies,
            authentication.cookie_octets,
        );
    }
    out
}

/// The NTS sources that hold cookies, and how many: a guide has people ask chronyc for it, which has no such report. With none
/// of them nothing is shown, not even a heading: no keys could be established.
#[must_use]
pub fn ntsdatastats(snapshot: &Snapshot, layout: Layout) -> String {
    let mut out = String::new();
    for source in visible(&snapshot.engine.sources, layout.all).into_iter().filter(|it| has_cookies(it)) {
        if out.is_empty() {
            out = header("Name/IP address             Cookies CLen Last Atmp  NAK");
        }
        let authentication = &source.authentication;
        let _ = writeln!(
            out,
            "{:<27} {:7} {:4} {} {:4} {:4}",
            layout.names.of(source),
            authentication.cookies,
            authentication.cookie_octets,
            interval(authentication.last_establishment_age_seconds),
            authentication.attempts,
            u8::from(authentication.nak),
        );
    }
    out
}

pub(crate) fn has_cookies(source: &SourceReport) -> bool {
    source.authentication.mode == AuthenticationMode::Nts && source.authentication.cookies > 0
}

/// `chronyc selectdata`.
#[must_use]
pub fn selectdata(snapshot: &Snapshot, layout: Layout) -> String {
    let mut out = header("S Name/IP Address        Auth COpts EOpts Last Score     Interval  Leap");
    for source in visible(&snapshot.engine.sources, layout.all) {
        let selection = &source.selection;
        let _ = writeln!(
            out,
            "{} {:<25} {} {} {} {} {:5.1} {} {}  {}",
            paint_state(source.state, source.state, layout.paint),
            layout.names.of(source),
            authenticated_letter(source),
            option_letters(selection.configured).iter().collect::<String>(),
            option_letters(selection.effective).iter().collect::<String>(),
            interval(Some(selection.last_sample_age_seconds)),
            selection.score,
            offset(selection.low_seconds),
            offset(selection.high_seconds),
            leap_letter(selection.leap),
        );
    }
    out
}

/// The sign of `sources`, from the letter of `selectdata`: `*` selected, `+` combined, `-` not
/// combined, `x` falseticker, `~` too variable, `?` not usable.
pub(crate) const fn sign(state: char) -> char {
    match state {
        '*' | '+' | 'x' | '~' => state,
        'W' | 'P' | 'D' | 'L' => '-',
        _ => '?',
    }
}

/// A server, `^`, a peer, `=`, or a reference clock, `#`.
pub(crate) const fn kind_letter(source: &SourceReport) -> char {
    match source.kind {
        SourceKind::Server | SourceKind::Pool => '^',
        SourceKind::Peer => '=',
        SourceKind::ReferenceClock => '#',
    }
}

/// `NTS`, `SK` for a symmetric key, `-` for none.
pub(crate) const fn mode_letters(mode: AuthenticationMode) -> &'static str {
    match mode {
        AuthenticationMode::None => "-",
        AuthenticationMode::Key => "SK",
        AuthenticationMode::Nts => "NTS",
    }
}

/// Whether a source is authenticated, `Y` or `N`.
pub(crate) fn authenticated_letter(source: &SourceReport) -> char {
    if source.authentication.mode == AuthenticationMode::None { 'N' } else { 'Y' }
}

/// Noselect, prefer, trust, require, and a column that chronyc keeps free.
pub(crate) const fn option_letters(options: SelectionOptionsReport) -> [char; 5] {
    [
        if options.no_select { 'N' } else { '-' },
        if options.prefer { 'P' } else { '-' },
        if options.trust { 'T' } else { '-' },
        if options.require { 'R' } else { '-' },
        '-',
    ]
}

const fn leap_letter(leap: LeapReport) -> char {
    match leap {
        LeapReport::Normal => 'N',
        LeapReport::Insert => '+',
        LeapReport::Delete => '-',
        LeapReport::Unsynchronized => '?',
    }
}

fn painted_sign(source: &SourceReport, paint: Paint) -> String {
    paint_state(source.state, sign(source.state), paint)
}

fn paint_state(state: char, shown: char, paint: Paint) -> String {
    let shown = shown.to_string();
    match sign(state) {
        '*' | '+' => paint.good(&shown),
        'x' | '~' => paint.bad(&shown),
        '?' => paint.warning(&shown),
        _ => shown,
    }
}
