//! `refclock`, the classic `server 127.127.T.U`, and `fudge`.

use super::Reader;
use super::line::{Fault, Line, Parsed, Word, unknown};
use crate::{Diagnostic, Origin, ReferenceClock, Severity};

/// Name and number of each driver of NTPsec.
const DRIVERS: &[(&str, u8)] = &[
    ("local", 1),
    ("spectracom", 4),
    ("truetime", 5),
    ("generic", 8),
    ("arbiter", 11),
    ("modem", 18),
    ("nmea", 20),
    ("pps", 22),
    ("hpgps", 26),
    ("shm", 28),
    ("trimble", 29),
    ("oncore", 30),
    ("jjy", 40),
    ("zyfer", 42),
    ("gpsd", 46),
];
/// The stratum of the undisciplined local clock unless given.
const LOCAL_STRATUM: u8 = 5;
const OPTIONS: &[&str] = &[
    "baud", "burst", "flag1", "flag2", "flag3", "flag4", "holdover", "iburst", "key", "maxpoll", "minpoll",
    "mode", "noselect", "path", "ppspath", "prefer", "refid", "stratum", "subtype", "time1", "time2", "true",
    "unit", "version",
];

/// A reference clock to which later lines may add.
pub(super) struct ClockDraft {
    clock: ReferenceClock,
    unit: u8,
    stratum: Option<u8>,
    path: Option<String>,
    pps_path: Option<String>,
    /// Offsets, seconds: what they are of differs from driver to driver.
    times: [f64; 2],
    flags: [bool; 4],
}

/// Speeds of a line that bits 4 to 6 of `mode` stand for, bit/s.
const MODE_BAUDS: [u32; 6] = [4800, 9600, 19_200, 38_400, 57_600, 115_200];

impl ClockDraft {
    /// Whether it is this unit of a driver.
    pub(super) fn is(&self, driver: &str, unit: u8) -> bool {
        self.clock.driver == driver && self.unit == unit
    }

    /// The stratum to serve at, when this is the clock of the machine itself.
    pub(super) fn local_stratum(&self) -> Option<u8> {
        (self.clock.driver == "local").then(|| self.stratum.unwrap_or(LOCAL_STRATUM))
    }

    /// The clock, and one of pulses if it is a receiver that also tells these: it is they that are meant to be followed.
    fn finish(self) -> (ReferenceClock, Option<ReferenceClock>) {
        let Self { mut clock, unit, path, pps_path, times: [time1, time2], flags, .. } = self;
        let (usual_path, usual_name) = match clock.driver.as_str() {
            "nmea" => (format!("/dev/gps{unit}"), "GPS"),
            "pps" => (format!("/dev/pps{unit}"), "PPS"),
            "shm" => (unit.to_string(), "SHM"),
            _ => (unit.to_string(), ""),
        };
        clock.parameter = path.filter(|_| clock.driver != "shm").unwrap_or(usual_path);
        if clock.reference_id.is_none() && !usual_name.is_empty() {
            clock.reference_id = Some(usual_name.to_owned());
        }
        clock.offset_correction = time1;
        if clock.driver == "pps" && flags[1] {
            clock.parameter.push_str(":clear");
        }
        if clock.driver != "nmea" {
            return (clock, None);
        }
        clock.offset_correction = time2;
        if !flags[0] {
            return (clock, None);
        }
        let device = pps_path.unwrap_or_else(|| format!("/dev/gpspps{unit}"));
        let pulses = ReferenceClock {
            parameter: if flags[1] { format!("{device}:clear") } else { device },
            reference_id: Some("PPS".to_owned()),
            lock: clock.reference_id.clone(),
            offset_correction: time1,
            driver: "pps".to_owned(),
            baud: None,
            ..clock.clone()
        };
        (ReferenceClock { prefer: false, no_select: true, ..clock }, Some(pulses))
    }

    /// All clocks. Pulses of a receiver that have a line of their own as well are one clock.
    pub(super) fn finish_all(drafts: Vec<Self>) -> Vec<ReferenceClock> {
        let mut clocks = Vec::new();
        let mut of_receivers = Vec::new();
        for draft in drafts {
            let (clock, pulses) = draft.finish();
            clocks.push(clock);
            of_receivers.extend(pulses);
        }
        for pulses in of_receivers {
            let same =
                |clock: &&mut ReferenceClock| clock.driver == "pps" && clock.device() == pulses.device();
            match clocks.iter_mut().find(same) {
                Some(clock) => {
                    clock.lock = pulses.lock;
                    clock.prefer |= pulses.prefer;
                }
                None => clocks.push(pulses),
            }
        }
        clocks
    }
}

/// Type and unit of an address that stands for a reference clock.
pub(super) fn pseudo_address(text: &str) -> Option<(u8, u8)> {
    let (clock_type, unit) = text.strip_prefix("127.127.")?.split_once('.')?;
    Some((clock_type.parse().ok()?, unit.parse().ok()?))
}

/// `refclock DRIVER [unit N] [options]`.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let word = line.require("a driver")?;
    let names: Vec<&str> = DRIVERS.iter().map(|(name, _)| *name).collect();
    if !names.contains(&word.text) {
        return Err(unknown(&word, "reference clock driver", &names).fatal());
    }
    read_clock(reader, line, word.text, 0)
}

/// `server 127.127.T.U [options]`.
pub(super) fn read_classic(
    reader: &mut Reader<'_>,
    line: &mut Line<'_>,
    word: &Word<'_>,
    clock_type: u8,
    unit: u8,
) -> Parsed<()> {
    let driver = DRIVERS.iter().find(|(_, number)| *number == clock_type).map(|(name, _)| *name);
    let driver = driver.ok_or_else(|| {
        Fault::new(word, format!("there is no reference clock of type {clock_type}")).fatal()
    })?;
    read_clock(reader, line, driver, unit)
}

fn read_clock(reader: &mut Reader<'_>, line: &mut Line<'_>, driver: &str, unit: u8) -> Parsed<()> {
    let place = Diagnostic::new(Severity::Warning, line.text, &line.command.span(), "", None);
    let clock = ReferenceClock {
        origin: Some(Origin { file: place.file.clone(), line: place.line }),
        ..ReferenceClock::new(driver, &unit.to_string())
    };
    let is_supported = clock.is_supported();
    let mut draft = ClockDraft {
        clock,
        unit,
        stratum: None,
        path: None,
        pps_path: None,
        times: [0.0; 2],
        flags: [false; 4],
    };
    let result = read_options(line, &mut draft);
    let message = if driver == "local" {
        Some("the local clock is served when there is nothing to follow, and never taken for a source")
    } else if !is_supported {
        Some("there is no driver for this reference clock; the clock follows the other sources")
    } else {
        None
    };
    if let Some(message) = message {
        reader.push(Diagnostic { message: message.to_owned(), ..place });
    }
    reader.clocks.push(draft);
    result
}

/// The name of the driver with a number.
pub(super) fn driver_of(clock_type: u8) -> Option<&'static str> {
    DRIVERS.iter().find(|(_, number)| *number == clock_type).map(|(name, _)| *name)
}

/// `fudge 127.127.T.U options`: more options of a clock.
pub(super) fn read_fudge(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let word = line.require("an address 127.127.TYPE.UNIT")?;
    let (clock_type, unit) = pseudo_address(word.text)
        .ok_or_else(|| Fault::new(&word, format!("`{}` is not 127.127.TYPE.UNIT", word.text)))?;
    let driver = driver_of(clock_type);
    let mut clocks = reader.clocks.iter_mut();
    let found = clocks.find(|draft| driver.is_some_and(|driver| draft.is(driver, unit)));
    let Some(draft) = found else {
        reader.no_effect(line, &word, "no `server` has this address");
        return Ok(());
    };
    read_options(line, draft)
}

fn read_options(line: &mut Line<'_>, draft: &mut ClockDraft) -> Parsed<()> {
    while let Some(word) = line.next() {
        let clock = &mut draft.clock;
        match word.text {
            "unit" => draft.unit = u8::try_from(line.integer_in(&(0..=255))?).unwrap_or(u8::MAX),
            "path" => draft.path = Some(line.require("a path")?.text.to_owned()),
            "ppspath" => draft.pps_path = Some(line.require("a path")?.text.to_owned()),
            "prefer" => clock.prefer = true,
            "noselect" => clock.no_select = true,
            "true" => clock.trust = true,
            "refid" => clock.reference_id = Some(reference_id(line)?),
            "time1" => draft.times[0] = line.number()?,
            "time2" => draft.times[1] = line.number()?,
            "stratum" => {
                let stratum = u8::try_from(line.integer_in(&(0..=16))?).unwrap_or(16);
                clock.stratum = stratum;
                draft.stratum = Some(stratum);
            }
            "minpoll" => clock.poll_exponent = i8::try_from(line.integer()?.clamp(0, 17)).ok(),
            "burst" | "iburst" => {}
            "flag1" => draft.flags[0] = flag(line)?,
            "flag2" => draft.flags[1] = flag(line)?,
            "flag3" => draft.flags[2] = flag(line)?,
            "flag4" => draft.flags[3] = flag(line)?,
            "baud" => clock.baud = u32::try_from(line.integer()?).ok().filter(|baud| *baud > 0),
            "mode" if clock.driver == "nmea" => {
                let bits = usize::try_from(line.integer()? >> 4 & 7).unwrap_or(0);
                clock.baud = clock.baud.or(MODE_BAUDS.get(bits).copied());
            }
            "holdover" | "key" | "maxpoll" | "mode" | "subtype" | "version" => {
                line.integer()?;
            }
            _ => return Err(unknown(&word, "option", OPTIONS)),
        }
    }
    Ok(())
}

fn flag(line: &mut Line<'_>) -> Parsed<bool> {
    Ok(["1", "true"].contains(&line.require("0 or 1")?.text))
}

fn reference_id(line: &mut Line<'_>) -> Parsed<String> {
    let word = line.require("up to four letters")?;
    let fits = word.text.len() <= 4 && word.text.bytes().all(|octet| octet.is_ascii_graphic());
    if fits { Ok(word.text.to_owned()) } else { Err(Fault::new(&word, "a refid has at most four letters")) }
}
