//! `refclock`.

use super::line::{Fault, Line, Parsed, Word, unknown};
use super::{Reader, unsupported};
use crate::{Diagnostic, Origin, ReferenceClock, Severity};

const DRIVERS: &[&str] = &["PHC", "PPS", "RTC", "SHM", "SOCK"];
const OPTIONS: &[&str] = &[
    "delay",
    "dpoll",
    "filter",
    "local",
    "lock",
    "maxdispersion",
    "maxlockage",
    "maxsamples",
    "maxunreach",
    "minsamples",
    "noselect",
    "offset",
    "poll",
    "pps",
    "precision",
    "prefer",
    "rate",
    "refid",
    "require",
    "stratum",
    "tai",
    "trust",
    "width",
];
/// What each driver takes behind its parameter.
const DRIVER_OPTIONS: &[(&str, &[&str])] = &[
    ("PHC", &["channel", "clear", "extpps", "nocrossts", "pin"]),
    ("PPS", &["clear"]),
    ("RTC", &["utc"]),
    ("SHM", &["perm"]),
    ("SOCK", &[]),
];
const INT_MAX: u32 = i32::MAX.cast_unsigned();

/// `refclock DRIVER PARAMETER[:OPTION[=VALUE]]... [option]...`.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let driver = line.require("a driver")?;
    if !DRIVERS.contains(&driver.text) {
        return Err(unknown(&driver, "refclock driver", DRIVERS));
    }
    let parameter = line.require("the driver's parameter")?;
    check_parameter(&driver, &parameter)?;
    let mut clock = ReferenceClock {
        max_unreachable_polls: 100_000,
        ..ReferenceClock::new(&driver.folded(), parameter.text)
    };
    while let Some(word) = line.next() {
        read_option(reader, line, &word, &mut clock)?;
    }
    let name = clock.name(reader.model.reference_clocks.len());
    let mut others = reader.model.reference_clocks.iter();
    if others.any(|other| other.reference_id.as_ref() == Some(&name)) {
        let fault = Fault::new(&driver, format!("another refclock has the refid `{name}` already"));
        return Err(fault.with_help("give each its own with `refid`"));
    }
    clock.reference_id = Some(name);
    let place = Diagnostic::new(Severity::Warning, line.text, &line.directive.span(), "", None);
    clock.origin = Some(Origin { file: place.file.clone(), line: place.line });
    reader.model.reference_clocks.push(clock);
    reader.refclock_places.push(place);
    Ok(())
}

fn check_parameter(driver: &Word<'_>, parameter: &Word<'_>) -> Parsed<()> {
    let known = DRIVER_OPTIONS.iter().find(|(name, _)| *name == driver.text);
    let known = known.map_or(&[][..], |(_, known)| known);
    for option in parameter.text.split(':').skip(1) {
        let name = option.split('=').next().unwrap_or_default();
        if !known.contains(&name) {
            let fault = Fault::new(parameter, format!("`{name}` is no option of the driver {}", driver.text));
            return Err(if known.is_empty() {
                fault
            } else {
                fault.with_help(format!("it has {}", known.join(", ")))
            });
        }
    }
    for (name, least) in [("pin", -1), ("channel", 0)] {
        let numbers = parameter.text.split(':').skip(1).filter_map(|option| option.split_once('='));
        let is_wrong = |value: &str| value.parse::<i32>().map_or(true, |number| number < least);
        if numbers.into_iter().any(|(option, value)| option == name && is_wrong(value)) {
            return Err(Fault::new(parameter, format!("`{name}` is a number, {least} at least")));
        }
    }
    let device = parameter.text.split(':').next().unwrap_or_default();
    if driver.text == "SHM" && device.parse::<u8>().is_err() {
        return Err(Fault::new(parameter, "the unit of a shared memory segment is a number from 0 to 255"));
    }
    Ok(())
}

fn read_option(
    reader: &mut Reader<'_>,
    line: &mut Line<'_>,
    word: &Word<'_>,
    clock: &mut ReferenceClock,
) -> Parsed<()> {
    match word.folded().as_str() {
        "delay" => clock.delay = line.real_from_zero()?,
        "dpoll" => clock.driver_poll_exponent = line.integer(&(-32..=32))?,
        "filter" => clock.filter = line.integer(&(0..=INT_MAX))?.clamp(1, 32_768),
        "local" => clock.local = true,
        "lock" => clock.lock = Some(reference_id(line)?),
        "maxdispersion" => clock.max_dispersion = line.real_from_zero()?,
        "maxlockage" => clock.max_lock_pulses = line.integer(&(0..=INT_MAX))?,
        "maxsamples" => clock.max_samples = Some(line.integer(&(0..=INT_MAX))?),
        "minsamples" => {
            if line.integer(&(0..=INT_MAX))? > unsupported::MIN_SAMPLES_USUAL {
                reader.no_effect(line, word, unsupported::MIN_SAMPLES);
            }
        }
        "maxunreach" => clock.max_unreachable_polls = line.integer(&(0..=INT_MAX))?,
        "noselect" => clock.no_select = true,
        "offset" => clock.offset_correction = line.real()?,
        "poll" => clock.poll_exponent = Some(line.integer(&(-32..=32))?),
        "pps" => clock.pps = true,
        "precision" => clock.precision = Some(line.real_from_zero()?),
        "prefer" => clock.prefer = true,
        "rate" => clock.rate = line.integer(&(1..=INT_MAX))?.min(1_000_000),
        "refid" => clock.reference_id = Some(reference_id(line)?),
        "require" => clock.require = true,
        "stratum" => clock.stratum = line.integer(&(0..=15))?,
        "tai" => clock.tai = true,
        "trust" => clock.trust = true,
        "width" => clock.pulse_width = line.real_from_zero()?,
        _ => return Err(unknown(word, "option", OPTIONS)),
    }
    Ok(())
}

fn reference_id(line: &mut Line<'_>) -> Parsed<String> {
    let word = line.require("one to four characters")?;
    let fits = word.text.len() <= 4 && word.text.bytes().all(|octet| octet.is_ascii_graphic());
    if fits { Ok(word.text.to_owned()) } else { Err(Fault::new(&word, "a refid has one to four characters")) }
}

impl Reader<'_> {
    /// What can be said of reference clocks once the whole file is read.
    pub(super) fn finish_reference_clocks(&mut self) {
        let leap_seconds = &self.model.leap_seconds;
        let has_leap_table = leap_seconds.file.is_some() || leap_seconds.zone.is_some();
        let clocks = &self.model.reference_clocks;
        let mut found = Vec::new();
        for (clock, place) in clocks.iter().zip(&self.refclock_places) {
            if let Some(lock) = &clock.lock
                && !clocks.iter().any(|other| other.reference_id.as_ref() == Some(lock))
            {
                let message = format!("no refclock has the refid {lock}: this one cannot be locked to it");
                found.push(Diagnostic { message, ..place.clone() });
            }
            if clock.tai && !has_leap_table {
                let message = "nothing says how far TAI is from UTC".to_owned();
                let help = Some("give `leapseclist FILE` or `leapsectz right/UTC`".to_owned());
                found.push(Diagnostic { severity: Severity::Error, message, help, ..place.clone() });
            }
            let sets_it = self.model.synchronization.marks_kernel || self.rtc_file_place.is_some();
            if clock.is_real_time_clock() && sets_it {
                let message = "a refclock RTC cannot be used together with rtcsync or rtcfile".to_owned();
                let help =
                    Some("what is followed must not be set by our own clock: remove one of them".to_owned());
                found.push(Diagnostic { severity: Severity::Error, message, help, ..place.clone() });
            }
        }
        found.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }
}
