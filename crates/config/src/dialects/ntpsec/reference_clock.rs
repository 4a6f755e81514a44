//! `refclock`, the classic `server 127.127.T.U`, and `fudge`.

use super::Reader;
use super::line::{Fault, Line, Parsed, Word, unknown};
use crate::{Diagnostic, Origin, ReceiverSentence, ReferenceClock, Severity};

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
/// The poll interval of a reference clock that none is given for, exponent of 2, as the daemon has it.
const POLL_USUAL: i8 = 4;
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
    /// `mode`: bits whose meaning differs from driver to driver.
    mode: i64,
    poll_max: Option<i8>,
}

/// Speeds of a line that bits 4 to 6 of `mode` stand for, bit/s.
const MODE_BAUDS: [u32; 6] = [4800, 9600, 19_200, 38_400, 57_600, 115_200];

/// The unit from which on ntpd's shared memory is open to everybody, unless bit 0 of `mode` is set.
const PUBLIC_UNITS: std::ops::RangeFrom<u8> = 2..;
/// How far shared memory may be from our clock where `flag1` asks that this is looked at: seconds, and what `time2` can be.
const DIFFERENCE_SECONDS: f64 = 14_400.0;
const DIFFERENCE_RANGE: std::ops::RangeInclusive<f64> = 1.0..=86_400.0;

/// An option that changes nothing, and why.
type Idle<'t> = (Word<'t>, &'static str);

impl ClockDraft {
    fn new(clock: ReferenceClock, unit: u8) -> Self {
        Self {
            clock,
            unit,
            stratum: None,
            path: None,
            pps_path: None,
            times: [0.0; 2],
            flags: [false; 4],
            mode: 0,
            poll_max: None,
        }
    }

    /// Whether everybody on this machine may write its shared memory.
    fn is_public(&self) -> bool {
        self.clock.driver == "shm" && PUBLIC_UNITS.contains(&self.unit) && self.mode & 1 == 0
    }

    /// Whether it is this unit of a driver.
    pub(super) fn is(&self, driver: &str, unit: u8) -> bool {
        self.clock.driver == driver && self.unit == unit
    }

    /// The stratum to serve at, when this is the clock of the machine itself.
    pub(super) fn local_stratum(&self) -> Option<u8> {
        (self.clock.driver == "local").then(|| self.stratum.unwrap_or(LOCAL_STRATUM))
    }

    /// The clock, and one of pulses if it is a receiver that also tells these: it is they that are meant to be followed.
    fn finish(mut self) -> (ReferenceClock, Option<ReferenceClock>) {
        let unit = self.unit;
        let (usual_path, usual_name) = match self.clock.driver.as_str() {
            "nmea" => (format!("/dev/gps{unit}"), "GPS"),
            "pps" => (format!("/dev/pps{unit}"), "PPS"),
            "shm" => (unit.to_string(), "SHM"),
            _ => (unit.to_string(), ""),
        };
        let path = match self.clock.driver.as_str() {
            "shm" => None,
            // ntpd reads `path` for pulses, too, and `ppspath` says it more clearly.
            "pps" => self.pps_path.take().or(self.path.take()),
            _ => self.path.take(),
        };
        self.clock.parameter = path.unwrap_or(usual_path);
        if self.clock.reference_id.is_none() && !usual_name.is_empty() {
            self.clock.reference_id = Some(usual_name.to_owned());
        }
        // ntpd polls devices in intervals from `minpoll` on; ours have one.
        if let Some(longest) = self.poll_max {
            self.clock.poll_exponent = Some(self.clock.poll_exponent.unwrap_or(POLL_USUAL).min(longest));
        }
        self.apply_fudge();
        match self.pulses() {
            None => (self.clock, None),
            pulses => (ReferenceClock { prefer: false, no_select: true, ..self.clock }, pulses),
        }
    }

    /// What `time1`, `time2`, `mode` and the flags mean to the driver.
    fn apply_fudge(&mut self) {
        let is_public = self.is_public();
        let [time1, time2] = self.times;
        let [looks_at_difference, falling, _, fourth] = self.flags;
        let clock = &mut self.clock;
        clock.offset_correction = time1;
        match clock.driver.as_str() {
            "pps" if falling => clock.parameter.push_str(":clear"),
            "shm" => {
                if is_public {
                    clock.parameter.push_str(":perm=0666");
                }
                let given = Some(time2).filter(|seconds| DIFFERENCE_RANGE.contains(seconds));
                let limit = given.unwrap_or(DIFFERENCE_SECONDS);
                clock.max_offset = if looks_at_difference { limit } else { 0.0 };
                clock.counts_readings = fourth;
            }
            "nmea" => {
                clock.offset_correction = time2;
                clock.hides_position = fourth;
                clock.sentence = sentence_of(self.mode);
            }
            _ => {}
        }
    }

    /// The clock of a receiver's pulses, if they are asked for.
    fn pulses(&self) -> Option<ReferenceClock> {
        let [has_pulses, falling, ..] = self.flags;
        if self.clock.driver != "nmea" || !has_pulses {
            return None;
        }
        let device = self.pps_path.clone().unwrap_or_else(|| format!("/dev/gpspps{}", self.unit));
        Some(ReferenceClock {
            parameter: if falling { format!("{device}:clear") } else { device },
            reference_id: Some("PPS".to_owned()),
            lock: self.clock.reference_id.clone(),
            offset_correction: self.times[0],
            driver: "pps".to_owned(),
            baud: None,
            hides_position: false,
            sentence: None,
            ..self.clock.clone()
        })
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
    let mut draft = ClockDraft::new(clock, unit);
    let mut idle = Vec::new();
    let result = read_options(line, &mut draft, &mut idle);
    let message = if driver == "local" {
        Some("the local clock is served when there is nothing to follow, and never taken for a source")
    } else if !is_supported {
        Some("there is no driver for this reference clock; the clock follows the other sources")
    } else if draft.is_public() {
        Some(
            "as with ntpd every user of this machine may write this unit's shared memory, and set the clock with it; \
             `mode 1` keeps it private",
        )
    } else {
        None
    };
    if let Some(message) = message {
        reader.push(Diagnostic { message: message.to_owned(), ..place });
    }
    say_idle(reader, line, idle);
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
    let mut idle = Vec::new();
    let result = read_options(line, draft, &mut idle);
    say_idle(reader, line, idle);
    result
}

fn say_idle(reader: &mut Reader<'_>, line: &Line<'_>, idle: Vec<Idle<'_>>) {
    for (word, why) in idle {
        reader.no_effect(line, &word, why);
    }
}

fn read_options<'t>(line: &mut Line<'t>, draft: &mut ClockDraft, idle: &mut Vec<Idle<'t>>) -> Parsed<()> {
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
            "flag1" | "flag2" | "flag3" | "flag4" => {
                let is_set = flag(line)?;
                let place = FLAGS.iter().position(|name| *name == word.text);
                place
                    .and_then(|place| draft.flags.get_mut(place))
                    .into_iter()
                    .for_each(|flag| *flag = is_set);
                let why = idle_flag(&clock.driver, word.text).filter(|_| is_set);
                idle.extend(why.map(|why| (word, why)));
            }
            "baud" => clock.baud = u32::try_from(line.integer()?).ok().filter(|baud| *baud > 0),
            "mode" => {
                draft.mode = line.integer()?;
                if clock.driver == "nmea" {
                    let bits = usize::try_from(draft.mode >> 4 & 7).unwrap_or(0);
                    clock.baud = clock.baud.or(MODE_BAUDS.get(bits).copied());
                    idle.extend(idle_mode_of_receiver(draft.mode).map(|why| (word, why)));
                }
            }
            "maxpoll" => draft.poll_max = i8::try_from(line.integer()?.clamp(0, 17)).ok(),
            "holdover" => {
                line.integer()?;
                if clock.is_supported() {
                    idle.push((word, "a clock that says nothing any more is not followed"));
                }
            }
            // ntpd does nothing with them for a reference clock, or for one that there is a driver for here.
            "key" | "subtype" | "version" => {
                line.integer()?;
            }
            _ => return Err(unknown(&word, "option", OPTIONS)),
        }
    }
    Ok(())
}

const FLAGS: [&str; 4] = ["flag1", "flag2", "flag3", "flag4"];

/// Why a flag changes nothing, where ntpd does something about it.
fn idle_flag(driver: &str, flag: &str) -> Option<&'static str> {
    match (driver, flag) {
        ("nmea" | "pps", "flag3") => {
            Some("pulses are followed by the daemon, as without it, and not by the kernel")
        }
        ("pps", "flag4") => Some("pulses are not recorded one by one"),
        _ => None,
    }
}

/// Bits of a receiver's `mode`: its sentences with the time and a date.
const MODE_RMC: i64 = 0x1;
const MODE_ZDA: i64 = 0x8;

/// The one sentence that a receiver's `mode` asks for.
fn sentence_of(mode: i64) -> Option<ReceiverSentence> {
    match (mode & MODE_RMC != 0, mode & MODE_ZDA != 0) {
        (true, false) => Some(ReceiverSentence::Rmc),
        (false, true) => Some(ReceiverSentence::Zda),
        _ => None,
    }
}

/// What bits of a receiver's `mode` ask for in vain.
fn idle_mode_of_receiver(mode: i64) -> Option<&'static str> {
    const SENTENCES: i64 = 0x10f;
    const MORE_STATISTICS: i64 = 0x1_0080;
    if mode & SENTENCES != 0 && mode & (MODE_RMC | MODE_ZDA) == 0 {
        Some("only RMC and ZDA sentences have time and date, and are read")
    } else if mode & MORE_STATISTICS != 0 {
        Some("that more is written: `clockstats` has the sentences alone")
    } else {
        None
    }
}

fn flag(line: &mut Line<'_>) -> Parsed<bool> {
    Ok(["1", "true"].contains(&line.require("0 or 1")?.text))
}

fn reference_id(line: &mut Line<'_>) -> Parsed<String> {
    let word = line.require("up to four letters")?;
    let fits = word.text.len() <= 4 && word.text.bytes().all(|octet| octet.is_ascii_graphic());
    if fits { Ok(word.text.to_owned()) } else { Err(Fault::new(&word, "a refid has at most four letters")) }
}
