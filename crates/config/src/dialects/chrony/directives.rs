//! The directives that have a meaning here, and the way from a directive to its meaning.

use std::path::PathBuf;
use std::time::Duration;

use chime_discipline::{CorrectionTime, FallbackDrift, LeapMode};
use chime_nts::AeadAlgorithm;
use chime_server::{SmearPlace, SmearSettings, SmearShape, SmoothingSettings};
use chime_time::Frequency;

use super::line::{Fault, Line, Parsed, unknown};
use super::serving::{read_bind, read_broadcast, read_client_limit, read_local, read_rate_limit, read_rule};
use super::{Reader, Request, access, files, hardware_stamps, refclock, source, unsupported};
use crate::{AuthenticationPolicy, Diagnostic, PanicThreshold, Severity};

type Handler = for<'f, 'l, 't> fn(&mut Reader<'f>, &mut Line<'t>) -> Parsed<()>;

const INT: i32 = i32::MAX;
/// The longest time that is understood, seconds: infinite limits become this one.
const SECONDS_MAX: f64 = 1e9;

/// Every directive with a meaning.
const DIRECTIVES: &[(&str, Handler)] = &[
    ("acquisitionport", |reader, line| {
        reader.model.client_sockets.port = Some(line.only_integer(&(0..=u16::MAX))?);
        Ok(())
    }),
    ("allow", read_rule),
    ("authselectmode", authentication_mode),
    ("bindacqaddress", |reader, line| {
        let sockets = &mut reader.model.client_sockets;
        read_bind(line, &mut sockets.v4, &mut sockets.v6)
    }),
    ("bindacqdevice", |reader, line| {
        reader.model.client_sockets.interface = Some(line.only("an interface")?.text.to_owned());
        Ok(())
    }),
    ("bindaddress", |reader, line| read_bind(line, &mut reader.serving.v4, &mut reader.serving.v6)),
    ("bindcmdaddress", access::read_bind),
    ("bindcmddevice", |reader, line| {
        reader.commands.interface = Some(line.only("an interface")?.text.to_owned());
        Ok(())
    }),
    ("binddevice", |reader, line| {
        reader.serving.interface = Some(line.only("an interface")?.text.to_owned());
        Ok(())
    }),
    ("broadcast", read_broadcast),
    ("clientloglimit", read_client_limit),
    ("clockprecision", |reader, line| {
        let seconds = line.real_from_zero()?;
        reader.model.synchronization.precision = None;
        if seconds > 0.0 {
            reader.model.synchronization.set_precision(seconds);
        }
        line.end()
    }),
    ("cmdallow", access::read_rule),
    ("cmddeny", access::read_rule),
    ("cmdport", |reader, line| {
        reader.commands.port = line.only_integer(&(0..=u16::MAX))?;
        Ok(())
    }),
    ("cmdratelimit", access::read_rate_limit),
    ("combinelimit", |reader, line| set_real(line, &mut reader.model.synchronization.tuning.combine_limit)),
    ("confdir", |reader, line| {
        let directories = directories(line)?;
        reader.include(line, &Request::ConfigurationDirectories(directories))
    }),
    ("corrtimeratio", |reader, line| {
        let ratio = line.real_from_zero()?.clamp(1e-3, 1e6);
        reader.model.synchronization.tuning.correction_time = CorrectionTime::Ratio(ratio);
        line.end()
    }),
    ("deny", read_rule),
    ("driftfile", files::read_drift_file),
    ("dscp", |reader, line| {
        let dscp = line.only_integer(&(0..=63_u8))?;
        reader.model.process.dscp = Some(dscp).filter(|dscp| *dscp != 0);
        Ok(())
    }),
    ("dumpdir", |reader, line| files::read_path(&mut reader.model.chrony.dump_directory, line)),
    ("fallbackdrift", fallback_drift),
    ("hwclockfile", |reader, line| {
        files::read_path(&mut reader.model.chrony.real_time_clock.adjtime_file, line)
    }),
    ("hwtimestamp", hardware_stamps::read),
    ("hwtstimeout", hardware_stamps::read_timeout),
    ("include", |reader, line| {
        let pattern = line.only("a file name or pattern")?.text.to_owned();
        reader.include(line, &Request::Include(pattern))
    }),
    ("initstepslew", files::read_first_correction),
    ("keyfile", |reader, line| {
        reader.model.key_file = Some(path(line)?);
        Ok(())
    }),
    ("leapseclist", |reader, line| {
        reader.model.leap_seconds.file = Some(path(line)?);
        Ok(())
    }),
    ("leapsecmode", leap_second_mode),
    ("leapsectz", |reader, line| {
        reader.model.leap_seconds.zone = Some(line.only("a time zone")?.text.to_owned());
        Ok(())
    }),
    ("local", read_local),
    ("lock_all", |reader, line| {
        reader.model.process.lock_memory = true;
        line.end()
    }),
    ("log", files::read_log),
    ("logbanner", |reader, line| {
        reader.model.chrony.logs.banner = line.only_integer(&(0..=INT.unsigned_abs()))?;
        Ok(())
    }),
    ("logchange", |reader, line| set_real(line, &mut reader.model.chrony.log_change.0)),
    ("logdir", |reader, line| files::read_path(&mut reader.model.chrony.logs.directory, line)),
    ("mailonchange", files::read_mail),
    ("makestep", make_step),
    ("manual", |reader, line| {
        reader.model.synchronization.tuning.manual = true;
        line.end()
    }),
    ("maxchange", max_change),
    ("maxclockerror", |reader, line| set_ppm(line, &mut reader.model.synchronization.tuning.max_clock_error)),
    ("maxdistance", |reader, line| set_real(line, &mut reader.model.synchronization.tuning.max_distance)),
    ("maxdrift", |reader, line| set_ppm(line, &mut reader.model.synchronization.tuning.max_drift)),
    ("maxjitter", |reader, line| set_real(line, &mut reader.model.synchronization.tuning.max_jitter)),
    ("maxntsconnections", |reader, line| {
        reader.serving.nts_connections =
            usize::try_from(line.only_integer(&(1..=INT))?).unwrap_or(usize::MAX);
        Ok(())
    }),
    ("maxsamples", max_samples),
    ("maxslewrate", |reader, line| set_ppm(line, &mut reader.model.synchronization.tuning.max_slew)),
    ("maxupdateskew", |reader, line| set_ppm(line, &mut reader.model.synchronization.tuning.max_update_skew)),
    ("maxstratum", |reader, line| {
        reader.model.synchronization.tuning.strata.1 = stratum(line)?;
        Ok(())
    }),
    ("minsamples", min_samples),
    ("minstratum", |reader, line| {
        reader.model.synchronization.tuning.strata.0 = stratum(line)?;
        Ok(())
    }),
    ("minsources", |reader, line| {
        let count = usize::try_from(line.only_integer(&(1..=INT))?).unwrap_or(usize::MAX);
        reader.model.synchronization.minimum_agreeing_sources = Some(count);
        Ok(())
    }),
    ("nosystemcert", |reader, line| {
        reader.certificates.no_system = true;
        line.end()
    }),
    ("nocerttimecheck", |reader, line| {
        let updates = line.only_integer(&(0..=INT))?;
        reader.model.synchronization.unchecked_certificate_updates = updates.unsigned_abs();
        Ok(())
    }),
    ("noclientlog", |reader, line| {
        reader.serving.without_records = true;
        line.end()
    }),
    ("ntpsigndsocket", |reader, line| {
        reader.serving.signing_directory = Some(path(line)?);
        Ok(())
    }),
    ("ntsaeads", aeads),
    ("ntscachedir", |reader, line| files::read_path(&mut reader.model.chrony.nts_directory, line)),
    ("ntsdumpdir", |reader, line| files::read_path(&mut reader.model.chrony.nts_directory, line)),
    ("ntsntpserver", nts_ntp_server),
    ("ntsport", |reader, line| {
        reader.serving.nts_port = line.only_integer(&(1..=u16::MAX))?;
        Ok(())
    }),
    ("ntsprocesses", |reader, line| {
        reader.serving.nts_processes = line.only_integer(&(0..=1000))?;
        if reader.serving.nts_processes != 1 {
            let word = line.directive;
            reader.warn(
                line,
                &word,
                "key establishment runs in threads, one per processor; the number counts only for \
                 `maxntsconnections`",
            );
        }
        Ok(())
    }),
    ("ntsrefresh", |reader, line| {
        reader.model.refresh.nts_keys = line.only_integer(&(0..=INT))?.unsigned_abs();
        Ok(())
    }),
    ("ntsrotate", nts_rotate),
    ("ntsratelimit", super::serving::read_nts_rate_limit),
    ("ntsservercert", |reader, line| {
        let place = place(line);
        reader.serving.chains.push((path(line)?, place));
        Ok(())
    }),
    ("ntsserverkey", |reader, line| {
        let place = place(line);
        reader.serving.keys.push((path(line)?, place));
        Ok(())
    }),
    ("ntstrustedcerts", trusted_certificates),
    ("opencommands", access::read_open),
    ("peer", source::read),
    ("pidfile", |reader, line| files::read_path(&mut reader.model.chrony.pid_file, line)),
    ("pool", source::read),
    ("port", |reader, line| {
        reader.serving.port = line.only_integer(&(0..=u16::MAX))?;
        Ok(())
    }),
    ("ptpdomain", |reader, line| {
        reader.serving.ptp.domain = line.only_integer(&(0..=u8::MAX))?;
        Ok(())
    }),
    ("ptpport", |reader, line| {
        reader.serving.ptp.port = line.only_integer(&(0..=u16::MAX))?;
        Ok(())
    }),
    ("ratelimit", read_rate_limit),
    ("refclock", refclock::read),
    ("refresh", |reader, line| {
        reader.model.refresh.names = line.only_integer(&(0..=INT))?.unsigned_abs();
        Ok(())
    }),
    ("reselectdist", |reader, line| {
        set_real(line, &mut reader.model.synchronization.tuning.reselect_distance)
    }),
    ("rtcautotrim", files::read_rtc_trim),
    ("rtcdevice", |reader, line| {
        reader.model.chrony.real_time_clock.device = path(line)?;
        Ok(())
    }),
    ("rtcfile", files::read_rtc_file),
    ("rtconutc", |reader, line| {
        reader.model.chrony.real_time_clock.keeps_utc = true;
        line.end()
    }),
    ("rtcsync", |reader, line| {
        reader.model.synchronization.marks_kernel = true;
        line.end()
    }),
    ("sched_priority", |reader, line| {
        reader.model.process.ask_for_priority(line.only_integer(&(0..=100_u8))?);
        Ok(())
    }),
    ("server", source::read),
    ("smoothtime", smooth_time),
    ("sourcedir", |reader, line| {
        reader.source_directories.extend(directories(line)?);
        reader.source_place.get_or_insert_with(|| place(line));
        Ok(())
    }),
    ("stratumweight", |reader, line| set_real(line, &mut reader.model.synchronization.tuning.stratum_weight)),
    ("tempcomp", files::read_temperature),
    ("user", |reader, line| {
        reader.model.process.user = Some(line.only("a user")?.text.to_owned());
        Ok(())
    }),
];

/// Whether chrony has a directive of that name, in any case of its letters.
pub(super) fn is_directive(word: &str) -> bool {
    let name = word.to_ascii_lowercase();
    names().any(|known| known == name)
}

fn names() -> impl Iterator<Item = &'static str> {
    let ours = DIRECTIVES.iter().map(|(name, _)| *name);
    ours.chain(unsupported::DIRECTIVES.iter().map(|(name, ..)| *name))
}

/// Does what a line says.
pub(super) fn apply(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let name = line.directive.folded();
    if let Some((_, handle)) = DIRECTIVES.iter().find(|(known, _)| *known == name) {
        return handle(reader, line);
    }
    let unsupported = unsupported::DIRECTIVES.iter().find(|(known, ..)| *known == name);
    let Some((_, shape, why)) = unsupported else {
        return Err(unknown(&line.directive, "directive", &names().collect::<Vec<_>>()));
    };
    unsupported::check(line, shape)?;
    if let Some(why) = why {
        let word = line.directive;
        reader.no_effect(line, &word, why);
    }
    Ok(())
}

pub(super) fn place(line: &Line<'_>) -> Diagnostic {
    Diagnostic::new(Severity::Warning, line.text, &line.directive.span(), "", None)
}

pub(super) fn path(line: &mut Line<'_>) -> Parsed<PathBuf> {
    line.only("a path").map(|word| PathBuf::from(word.text))
}

fn directories(line: &mut Line<'_>) -> Parsed<Vec<PathBuf>> {
    const DIRECTORIES_MAX: usize = 10;
    let mut found = vec![PathBuf::from(line.require("a directory")?.text)];
    while let Some(word) = line.next() {
        if found.len() == DIRECTORIES_MAX {
            return Err(Fault::new(&word, "more than 10 directories"));
        }
        found.push(PathBuf::from(word.text));
    }
    Ok(found)
}

fn set_real(line: &mut Line<'_>, target: &mut f64) -> Parsed<()> {
    *target = line.real_from_zero()?.min(SECONDS_MAX);
    line.end()
}

/// Parts per million; chrony's limit for every frequency is 100000.
fn set_ppm(line: &mut Line<'_>, target: &mut Frequency) -> Parsed<()> {
    const PPM_MAX: f64 = 100_000.0;
    *target = Frequency::from_ppm(line.real_from_zero()?.clamp(1e-3, PPM_MAX));
    line.end()
}

fn stratum(line: &mut Line<'_>) -> Parsed<u8> {
    const HIGHEST: i32 = 16;
    line.only_integer(&(0..=INT)).map(|stratum| u8::try_from(stratum.min(HIGHEST)).unwrap_or(0))
}

fn authentication_mode(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const MODES: &[(&str, AuthenticationPolicy)] = &[
        ("require", AuthenticationPolicy::Required),
        ("prefer", AuthenticationPolicy::Preferred),
        ("mix", AuthenticationPolicy::Mixed),
        ("ignore", AuthenticationPolicy::Ignored),
    ];
    let word = line.only("require, prefer, mix or ignore")?;
    let found = MODES.iter().find(|(name, _)| *name == word.folded());
    let names: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
    reader.model.authentication = found.ok_or_else(|| unknown(&word, "mode", &names))?.1;
    Ok(())
}

fn make_step(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let threshold = line.real()?.clamp(0.0, SECONDS_MAX);
    let updates = line.integer(&(-INT..=INT))?;
    line.end()?;
    let step = &mut reader.model.synchronization.tuning.step;
    step.threshold = Some(threshold);
    step.updates_limit = u32::try_from(updates).ok();
    Ok(())
}

fn leap_second_mode(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const MODES: &[(&str, LeapMode)] = &[
        ("system", LeapMode::System),
        ("step", LeapMode::Step),
        ("slew", LeapMode::Slew),
        ("ignore", LeapMode::Ignore),
    ];
    let names: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
    let word = line.only(&names.join(", "))?;
    let folded = word.folded();
    let mode =
        MODES.iter().find(|(name, _)| *name == folded).ok_or_else(|| unknown(&word, "mode", &names))?;
    reader.model.synchronization.tuning.leap_mode = mode.1;
    Ok(())
}

/// `smoothtime FREQUENCY WANDER [leaponly]`: ppm and ppm per second.
fn smooth_time(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let ppm = |line: &mut Line<'_>, most: f64| {
        let word = line.peek();
        let number = line.real()?;
        match word {
            Some(word) if !(1e-9..=most).contains(&number) => {
                Err(Fault::new(&word, format!("must be above 0 and at most {most}")))
            }
            _ => Ok(number * 1e-6),
        }
    };
    let (rate_max, change) = (ppm(line, 1e5)?, ppm(line, 1000.0)?);
    match line.next() {
        Some(word) if word.folded() == "leaponly" => {}
        Some(word) => return Err(unknown(&word, "option", &["leaponly"])),
        None => reader.model.synchronization.smoothing = Some(SmoothingSettings { rate_max, change }),
    }
    line.end()?;
    reader.model.leap_seconds.smear = Some(SmearSettings {
        shape: SmearShape::Ramp { rate_max, change },
        place: SmearPlace::After,
        ..SmearSettings::default()
    });
    Ok(())
}

fn max_change(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let offset = line.real_from_zero()?;
    let start = line.integer(&(-INT..=INT))?;
    let ignored = line.integer(&(-INT..=INT))?;
    line.end()?;
    let limit = Some(offset).filter(|offset| offset.is_finite());
    let threshold = PanicThreshold { forward: limit, backward: limit };
    let step = &mut reader.model.synchronization.tuning.step;
    (step.startup_panic, step.running_panic) = (threshold, threshold);
    step.panic_after = u32::try_from(start).unwrap_or(0);
    step.refusals_max = u32::try_from(ignored).ok();
    Ok(())
}

fn fallback_drift(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const EXPONENTS: std::ops::RangeInclusive<u8> = 0..=31;
    let (min, max) = (line.integer(&EXPONENTS)?, line.integer(&EXPONENTS)?);
    line.end()?;
    // Both zero is how chrony writes that there are none.
    reader.model.synchronization.tuning.fallback =
        (max > 0 && min <= max).then_some(FallbackDrift { min, max });
    Ok(())
}

fn max_samples(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let tuning = &mut reader.model.synchronization.tuning;
    tuning.samples_max = line.only_integer(&(0..=INT))?.unsigned_abs();
    // The first answer is enough.
    if tuning.samples_max == 1 {
        tuning.samples_min = 1;
    }
    Ok(())
}

fn min_samples(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    if line.only_integer(&(0..=INT))?.unsigned_abs() > unsupported::MIN_SAMPLES_USUAL {
        let word = line.directive;
        reader.no_effect(line, &word, unsupported::MIN_SAMPLES);
    }
    Ok(())
}

/// `ntsaeads`, of both roles: what is not known is passed over, as by chronyd, as long as something is left.
fn aeads(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let first = line.peek();
    let mut given = Vec::new();
    while given.is_empty() || line.peek().is_some() {
        given.push(line.integer(&(0..=INT))?);
    }
    let known = |id: i32| u16::try_from(id).ok().and_then(AeadAlgorithm::offered_as);
    let mut used: Vec<AeadAlgorithm> = Vec::new();
    for aead in given.into_iter().filter_map(known) {
        if !used.contains(&aead) {
            used.push(aead);
        }
    }
    match first {
        Some(word) if used.is_empty() => {
            Err(Fault::new(&word, "none of these AEADs is known, and NTS needs one")
                .with_help("30 and 15 are"))
        }
        _ => {
            reader.serving.aeads = used;
            Ok(())
        }
    }
}

/// A name for the server record: ASCII without blanks. RFC 8915 §4.1.7.
fn nts_ntp_server(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const NAME_OCTETS_MAX: usize = 255;
    let word = line.only("a host name or an address")?;
    if word.text.len() > NAME_OCTETS_MAX || !word.text.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(Fault::new(&word, "must be a host name or an address, at most 255 ASCII letters"));
    }
    reader.serving.nts_server = Some(word.text.to_owned());
    Ok(())
}

fn nts_rotate(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const SHORTEST: i32 = 60;
    const LONGEST: i32 = 366 * 86_400;
    let seconds = line.only_integer(&(0..=INT))?;
    let word = line.directive;
    // Zero: somebody else renews what is in `ntskeys`.
    let used = if seconds == 0 { 0 } else { seconds.clamp(SHORTEST, LONGEST) };
    if used != seconds {
        reader.warn(line, &word, &format!("cookie keys are rotated every {used} seconds"));
    }
    reader.model.keyset.rotation_interval = Duration::from_secs(u64::from(used.unsigned_abs()));
    Ok(())
}

/// `ntstrustedcerts [ID] PATH`.
fn trusted_certificates(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let first = line.require("a path, or a number and a path")?;
    let (set, path) = match line.next() {
        None => (0, first),
        Some(path) => {
            let set = first.text.parse();
            (set.map_err(|_| Fault::new(&first, "the number of a certificate set is expected here"))?, path)
        }
    };
    line.end()?;
    reader.certificates.files.entry(set).or_default().push(PathBuf::from(path.text));
    Ok(())
}
