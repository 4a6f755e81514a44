//! The commands that have a meaning here, and the way from a command to its meaning.

use std::path::PathBuf;

use chime_server::{CLIENTS_MAX, SmearPlace, SmearSettings, SmearShape};
use chime_time::Frequency;

use super::line::{Fault, Line, Parsed, Word, unknown};
use super::{Reader, association, interfaces, nts, reference_clock, restrict, statistics, unsupported};
use crate::model::ntpq_variable;
use crate::{Diagnostic, DriftFile, KeyFormat, LocalReference, LoggedEvents, PanicThreshold, Severity};

type Handler = for<'f, 'l, 't> fn(&mut Reader<'f>, &mut Line<'t>) -> Parsed<()>;

/// Every command with a meaning.
const COMMANDS: &[(&str, Handler)] = &[
    ("controlkey", |reader, line| {
        let number = line.integer_in(&(1..=65_535))?;
        reader.model.observability.ntpq.control_key = u32::try_from(number).ok();
        line.end()
    }),
    ("disable", |reader, line| switch(reader, line, false)),
    ("driftfile", drift_file),
    ("dscp", |reader, line| {
        reader.model.process.dscp = u8::try_from(line.integer_in(&(0..=63))?).ok();
        line.end()
    }),
    ("enable", |reader, line| switch(reader, line, true)),
    ("end", |reader, line| {
        reader.ended = true;
        line.end()
    }),
    ("extra", extra),
    ("filegen", statistics::read_file),
    ("fudge", reference_clock::read_fudge),
    ("includefile", |reader, line| {
        let path = line.require("a file or a directory")?;
        line.end()?;
        reader.include(line, path.text)
    }),
    ("interface", interfaces::read),
    ("keys", |reader, line| {
        reader.model.key_file = Some(PathBuf::from(line.require("a path")?.text));
        reader.model.key_format = KeyFormat::Ntpsec;
        line.end()
    }),
    ("leapfile", |reader, line| {
        reader.model.leap_seconds.file = Some(PathBuf::from(line.require("a path")?.text));
        line.end()
    }),
    ("leapsmearinterval", leap_smear),
    ("limit", limit),
    ("logconfig", log_classes),
    ("logfile", statistics::read_log_file),
    ("mru", mru),
    ("nic", interfaces::read),
    ("ntpsigndsocket", |reader, line| {
        reader.signing_directory = Some(PathBuf::from(line.require("a directory")?.text));
        line.end()
    }),
    ("nts", nts::read),
    ("peer", association::read),
    ("pidfile", |reader, line| {
        reader.model.chrony.pid_file = Some(PathBuf::from(line.require("a path")?.text));
        line.end()
    }),
    ("pool", association::read),
    ("refclock", reference_clock::read),
    ("reset", reset),
    ("restrict", restrict::read),
    ("rlimit", limits_of_process),
    ("server", association::read),
    ("setvar", set_variable),
    ("statistics", statistics::read),
    ("statsdir", statistics::read_directory),
    ("tinker", tinker),
    ("tos", tos),
    ("trustedkey", trusted_keys),
    ("unconfig", association::read_removal),
    ("unpeer", association::read_removal),
    ("unrestrict", restrict::read_removal),
];

/// Commands that chronyd has, too.
const SHARED: &[&str] = &["driftfile", "dscp", "peer", "pidfile", "pool", "refclock", "server"];

/// Whether ntpd has a command of that name, and chronyd has no directive of it.
pub(super) fn is_command(word: &str) -> bool {
    let removed = unsupported::REMOVED.iter().map(|(name, _)| *name).filter(|name| *name != "broadcast");
    names().chain(removed).any(|known| known == word) && !SHARED.contains(&word)
}

fn names() -> impl Iterator<Item = &'static str> {
    let ours = COMMANDS.iter().map(|(name, _)| *name);
    ours.chain(unsupported::COMMANDS.iter().map(|(name, ..)| *name))
}

/// Does what a line says.
pub(super) fn apply(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let name = line.command.text;
    if let Some((_, handle)) = COMMANDS.iter().find(|(known, _)| *known == name) {
        return handle(reader, line);
    }
    if let Some((_, help)) = unsupported::REMOVED.iter().find(|(known, _)| *known == name) {
        let fault = Fault::new(&line.command, format!("NTPsec has dropped `{name}`"));
        return Err(fault.with_help(*help));
    }
    let Some((_, shape, why)) = unsupported::COMMANDS.iter().find(|(known, ..)| *known == name) else {
        return Err(unknown(&line.command, "command", &names().collect::<Vec<_>>()));
    };
    unsupported::check(line, shape)?;
    let word = line.command;
    reader.no_effect(line, &word, why);
    Ok(())
}

fn drift_file(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let Some(path) = line.next() else { return Ok(()) };
    if line.peek().is_some() {
        line.number()?;
    }
    reader.model.predecessor.drift_file =
        Some(DriftFile { path: PathBuf::from(path.text), positive_is_fast: false });
    line.end()
}

fn extra(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let word = line.require("`port` and a number")?;
    if word.text != "port" {
        return Err(unknown(&word, "item", &["port"]));
    }
    reader.extra_port = Some(nts::port(line)?);
    line.end()
}

/// `leapsmearinterval SECONDS`: evenly, ending with the leap second, as NTPsec does it; the ntpd that it comes from follows a
/// cosine. 0 is off.
fn leap_smear(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const SECONDS_MAX: i64 = 7 * 86_400;
    let word = line.peek();
    let seconds = line.integer_in(&(0..=SECONDS_MAX))?;
    line.end()?;
    let smear =
        SmearSettings { shape: SmearShape::Linear, seconds: seconds as f64, place: SmearPlace::Before };
    reader.model.leap_seconds.smear = (seconds > 0).then_some(smear);
    if let Some(word) = word.filter(|_| seconds > 0) {
        let message = "leap seconds are smeared for clients; most builds of ntpd ignore this line, and clients must not \
                       mix servers that smear with others";
        reader.warn(line, &word, message);
    }
    Ok(())
}

/// `setvar NAME = VALUE [default]`.
fn set_variable(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let name = line.require("a name, `=` and a value")?;
    let sign = line.require("`=` and a value")?;
    if sign.text != "=" {
        return Err(Fault::new(&sign, "`=` belongs between the name and the value, with blanks around it"));
    }
    let value = line.require("a value")?;
    let is_default = match line.next() {
        Some(word) if word.text == "default" => true,
        Some(word) => return Err(unknown(&word, "word", &["default"])),
        None => false,
    };
    line.end()?;
    let variable = ntpq_variable(name.text, value.text, is_default).ok_or_else(|| {
        Fault::new(&name, "a variable has a name of letters, digits and `_`, and a value without a comma")
    })?;
    reader.model.observability.ntpq.set_variable(variable);
    Ok(())
}

/// How many kisses of death ntpd sends in a second unless it is told otherwise.
const KISSES_DEFAULT: f64 = 0.5;

/// `logconfig [=+-]CLASSEVENT ...`: of what ntpd's masks are for, the lines of events are here. Without such a line all of them
/// are logged; ntpd begins with none of them, and so do `+` and `-`.
fn log_classes(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let first = line.require("classes of events, such as `=allall`")?;
    for word in std::iter::once(first).chain(line.rest()) {
        let (how, name) = match word.text.split_at_checked(1) {
            Some((sign @ ("=" | "+" | "-"), name)) => (sign, name),
            _ => ("=", word.text),
        };
        let Some(named) = events_of(name) else {
            reader.no_effect(line, &word, "ntpd has no such class of events, either");
            continue;
        };
        let before = reader.logged_events.unwrap_or(LoggedEvents { system: false, peers: false });
        reader.logged_events = Some(match how {
            "+" => LoggedEvents { system: before.system || named.system, peers: before.peers || named.peers },
            "-" => {
                LoggedEvents { system: before.system && !named.system, peers: before.peers && !named.peers }
            }
            _ => named,
        });
    }
    Ok(())
}

/// The lines of events among what a class and its kind stand for.
fn events_of(name: &str) -> Option<LoggedEvents> {
    const CLASSES: [&str; 5] = ["clock", "peer", "sync", "sys", "all"];
    const KINDS: [&str; 5] = ["info", "events", "status", "statistics", "all"];
    let class = *CLASSES.iter().find(|class| name.starts_with(**class))?;
    let kind = name.strip_prefix(class)?;
    // `all` alone is what happens to the system: ntpd writes no lines of associations with it.
    let is_known = KINDS.contains(&kind) || kind.is_empty() && class == "all";
    if !is_known {
        return None;
    }
    let are_events = ["events", "all", ""].contains(&kind);
    Some(LoggedEvents {
        system: are_events && ["sys", "all"].contains(&class),
        peers: are_events && ["peer", "all"].contains(&class) && name != "all",
    })
}

/// `limit [average N] [burst N] [kod N]`.
fn limit(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    while let Some(word) = line.next() {
        match word.text {
            "average" => reader.limit.0 = line.number()?.max(0.0),
            "burst" => reader.limit.1 = line.number()?.max(0.0),
            "kod" => {
                let rate = line.number()?;
                reader.tells_of_limits = rate > 0.0;
                if rate > 0.0 && rate != KISSES_DEFAULT {
                    let why =
                        "every second request beyond the limit is told so, if `kod` is set; with 0 none is";
                    reader.no_effect(line, &word, why);
                }
            }
            _ => return Err(unknown(&word, "item", &["average", "burst", "kod"])),
        }
    }
    Ok(())
}

/// `mru`: how many clients are remembered.
fn mru(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const CLIENTS_PER_KILOBYTE: f64 = 10_922.0 / 1024.0;
    const ITEMS: &[&str] =
        &["incalloc", "incmem", "initalloc", "initmem", "maxage", "maxdepth", "maxmem", "minage", "mindepth"];
    while let Some(word) = line.next() {
        if !ITEMS.contains(&word.text) {
            return Err(unknown(&word, "item", ITEMS));
        }
        let number = line.integer()?;
        let clients = match word.text {
            "maxdepth" => number,
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and is brought into range below")]
            "maxmem" => (number as f64 * CLIENTS_PER_KILOBYTE) as i64,
            // How its memory is taken shows nowhere, and when a place may be given to another client, no more: it is
            // when it is needed.
            "incalloc" | "incmem" | "initalloc" | "initmem" | "maxage" | "mindepth" => continue,
            _ => {
                reader.no_effect(
                    line,
                    &word,
                    "the place of whoever was silent the longest is given away when it is needed",
                );
                continue;
            }
        };
        let clients = if clients < 0 { CLIENTS_MAX } else { usize::try_from(clients).unwrap_or(CLIENTS_MAX) };
        reader.clients = clients.clamp(16, CLIENTS_MAX);
    }
    Ok(())
}

fn tos(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const ITEMS: &[&str] = &[
        "ceiling",
        "floor",
        "maxclock",
        "maxdisp",
        "maxdist",
        "minclock",
        "mindist",
        "minsane",
        "orphan",
        "orphanwait",
    ];
    while let Some(word) = line.next() {
        tos_item(reader, line, &word, ITEMS)?;
    }
    Ok(())
}

fn tos_item(reader: &mut Reader<'_>, line: &mut Line<'_>, word: &Word<'_>, items: &[&str]) -> Parsed<()> {
    let count = |number: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "brought into range before"
        )]
        let count = number.clamp(1.0, 255.0) as usize;
        count
    };
    match word.text {
        "minsane" => {
            let number = line.integer_in(&(0..=i64::from(i32::MAX)))?.clamp(1, 255);
            reader.model.synchronization.minimum_agreeing_sources = usize::try_from(number).ok();
        }
        "maxclock" => reader.tuning.associations_max = Some(count(line.number()?)),
        "maxdist" => reader.model.synchronization.tuning.max_distance = line.number()?.max(1e-9),
        "orphan" => {
            let stratum = line.integer()?;
            reader.tuning.orphan_stratum =
                u8::try_from(stratum).ok().filter(|stratum| (1..16).contains(stratum));
            if reader.tuning.orphan_stratum.is_some() {
                let message = "orphans of this daemon and of chrony agree on the one that they follow; ntpd's choose another \
                               way, and do not agree with them";
                reader.warn(line, word, message);
            }
        }
        "floor" => reader.model.synchronization.tuning.strata.0 = stratum(line)?,
        // ntpd uses the strata below it.
        "ceiling" => reader.model.synchronization.tuning.strata.1 = stratum(line)?.saturating_sub(1),
        "orphanwait" => {
            // ntpd's usual wait in place of one that is none.
            let seconds = Some(line.integer()? as f64).filter(|seconds| *seconds >= 1.0);
            reader.tuning.orphan_wait = seconds.unwrap_or(LocalReference::ORPHAN_WAIT_SECONDS);
        }
        "minclock" => {
            let survivors = count(line.number()?).min(SURVIVORS_MAX);
            reader.model.synchronization.tuning.survivors_min = survivors;
        }
        "mindist" => reader.model.synchronization.tuning.min_distance = line.number()?.max(0.0),
        "maxdisp" => reader.tuning.dispersion_max = line.number()?.max(1e-9),
        _ => return Err(unknown(word, "item", items)),
    }
    Ok(())
}

/// A number of sources that is more than there ever are.
const SURVIVORS_MAX: usize = 64;

fn stratum(line: &mut Line<'_>) -> Parsed<u8> {
    Ok(u8::try_from(line.integer_in(&(0..=16))?).unwrap_or(16))
}

fn tinker(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const ITEMS: &[&str] =
        &["allan", "dispersion", "freq", "huffpuff", "panic", "step", "stepback", "stepfwd", "stepout"];
    while let Some(word) = line.next() {
        if !ITEMS.contains(&word.text) {
            return Err(unknown(&word, "item", ITEMS));
        }
        let given = line.peek();
        let number = line.number()?;
        if let Some(given) = given.filter(|_| number < 0.0 && !["freq", "allan"].contains(&word.text)) {
            return Err(Fault::new(&given, format!("`{}` must be at least 0", word.text)));
        }
        let tuning = &mut reader.model.synchronization.tuning;
        match word.text {
            "panic" => {
                // 0 is how ntpd writes "no limit".
                let limit = Some(number).filter(|number| *number > 0.0);
                tuning.step.running_panic = PanicThreshold { forward: limit, backward: limit };
                tuning.step.startup_panic = tuning.step.running_panic;
            }
            // 0 is how ntpd writes "never".
            "step" => {
                tuning.step.threshold = Some(number).filter(|number| *number > 0.0);
                tuning.step.backward_threshold = None;
            }
            "stepfwd" => {
                let both = tuning.step.threshold.unwrap_or(f64::INFINITY);
                tuning.step.backward_threshold.get_or_insert(both);
                tuning.step.threshold = Some(number).filter(|number| *number > 0.0);
            }
            "stepback" => {
                tuning.step.backward_threshold = Some(if number > 0.0 { number } else { f64::INFINITY });
            }
            "dispersion" => tuning.max_clock_error = Frequency::from_ppm(number.clamp(1e-3, 100_000.0)),
            "freq" => {
                let ppm = number.clamp(-500.0, 500.0);
                reader.model.synchronization.initial_frequency = Some(Frequency::from_ppm(ppm));
            }
            // Which is as long as ntpd waits anyway.
            "stepout" if number <= 300.0 => {}
            "stepout" => {
                reader.no_effect(line, &word, "a step needs the agreement of the sources, and no time");
            }
            // The one is ntpd's own value, the other is off.
            "allan" if number == 11.0 => {}
            "huffpuff" if number == 0.0 => {}
            _ => reader.no_effect(line, &word, "the filters adapt themselves"),
        }
    }
    Ok(())
}

fn switch(reader: &mut Reader<'_>, line: &mut Line<'_>, on: bool) -> Parsed<()> {
    const FLAGS: &[&str] = &["calibrate", "kernel", "monitor", "ntp", "stats"];
    let mut word = Some(line.require("what is to be switched")?);
    while let Some(flag) = word {
        match (flag.text, on) {
            ("ntp", on) => reader.model.synchronization.tuning.steer = on,
            // The clock is steered without the kernel's loop, which nobody sees.
            ("kernel", _) | ("calibrate", false) => {}
            ("monitor", on) => {
                let place = || Diagnostic::new(Severity::Warning, line.text, &flag.span(), "", None);
                reader.unwatched = (!on).then(place);
            }
            ("calibrate", true) => reader.no_effect(line, &flag, "reference clocks are not calibrated"),
            ("stats", on) => reader.writes_statistics = on,
            _ => return Err(unknown(&flag, "switch", FLAGS)),
        }
        word = line.next();
    }
    Ok(())
}

/// `reset WORD ...`: ntpd does it when it starts, as counters are 0 then here.
fn reset(_reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const WORDS: &[&str] = &["allpeers", "auth", "ctl", "io", "mem", "sys", "timer"];
    let mut word = Some(line.require(&format!("one or more of {}", WORDS.join(", ")))?);
    while let Some(given) = word {
        if !WORDS.contains(&given.text) {
            return Err(unknown(&given, "word", WORDS));
        }
        word = line.next();
    }
    Ok(())
}

/// `rlimit [memlock N] [stacksize N] [filenum N]`; ntpd does nothing about the first, either.
fn limits_of_process(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const WORDS: &[&str] = &["memlock", "stacksize", "filenum"];
    while let Some(word) = line.next() {
        if !WORDS.contains(&word.text) {
            return Err(unknown(&word, "option", WORDS));
        }
        line.number()?;
        if word.text != "memlock" {
            reader.no_effect(line, &word, "limits of the process are the service manager's to set");
        }
    }
    Ok(())
}

/// `trustedkey N ... (A ... B) ...`.
fn trusted_keys(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let words = line.rest();
    let number = |word: &Word<'_>| {
        let digits = word.text.trim_matches(['(', ')']);
        let number = digits.parse().ok().filter(|number| (1..=65_535).contains(number));
        number.ok_or_else(|| Fault::new(word, format!("`{}` is not the number of a key", word.text)))
    };
    let mut rest = words.iter().filter(|word| !["(", ")"].contains(&word.text)).peekable();
    if rest.peek().is_none() {
        return Err(Fault::new(&line.command, "`trustedkey` is followed by the numbers of keys"));
    }
    while let Some(word) = rest.next() {
        let first = number(word)?;
        let mut last = first;
        if rest.peek().is_some_and(|word| word.text == "...") {
            let dots = rest.next();
            let end = rest.next().or(dots).unwrap_or(word);
            last = number(end)?;
        }
        reader.trusted_keys.push(first..=last);
    }
    Ok(())
}
