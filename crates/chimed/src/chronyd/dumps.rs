//! chronyd's dump files: the samples of each source, for a restart with `-r`.
//!
//! ```text
//! SRC0
//! ntp1.example.net                    the name as it was configured
//! 1 377 8 1 0                         authenticated, reach (octal), polls in it, stratum, leap
//! 19 18                               samples, run of the asymmetry
//! 1795186980.403838462 2.44e-06 …     time; offset now and as measured, positive = our clock is fast; delay and dispersion,
//!                                     to the server and in all
//! ```

use crate::plain_file::{self, SMALL_OCTETS_MAX};
use crate::replaced_file::{Disk, Mode, replace};
use chime_config::{Model, Source};
use chime_control::chrony_logs::exponent;
use chime_discipline::{Leap, Lever, Sample};
use chime_engine::{
    Engine, LeapReport, ReferenceClockConfig, SampleOwner, SavedSamples, SourceKind, SourceReport,
};
use chime_time::{ClockReading, NtpDuration};
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

const HEAD: &str = "SRC0";
const EXTENSION: &str = "dat";
/// Samples in a file; chronyd has no more.
const SAMPLES_MAX: usize = 64;
/// Files that are read: more than chronyd ever writes.
const FILES_MAX: usize = 256;
/// Reference clocks have no name, and where the addresses of servers come from does not matter here.
const UNNAMED: &str = ".";
/// What the names of the files of reference clocks begin with.
const CLOCK_PREFIX: &str = "refid:";

/// The samples in one file.
#[derive(Clone, PartialEq, Debug)]
struct Dump {
    name: String,
    authenticated: bool,
    reach: u8,
    stratum: u8,
    leap: Leap,
    lines: Vec<Line>,
}

/// One sample: Unix seconds with nanoseconds, and seconds of everything else.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Line {
    at: (i64, u32),
    /// Positive when our clock is fast.
    offset: f64,
    delay: f64,
    dispersion: f64,
    root_delay: f64,
    root_dispersion: f64,
}

/// Writes one file for each source that has samples.
pub fn save(directory: &Path, engine: &Engine, now: ClockReading) {
    let report = engine.report(now);
    for saved in engine.samples(now.mono) {
        let is_owner = |source: &&SourceReport| match saved.owner {
            SampleOwner::Remote(remote) => source.remote == Some(remote),
            SampleOwner::ReferenceClock(id) => {
                source.kind == SourceKind::ReferenceClock && source.reference_id == id
            }
        };
        let Some(source) = report.sources.iter().find(is_owner) else { continue };
        let path = Stem::of(saved.owner).path(directory);
        if let Err(error) = replace(&Disk, &path, encode(source, &saved, now).as_bytes(), Mode::PUBLIC) {
            warn!("Could not write {} : {error}", path.display());
        }
    }
}

/// Reads the files of the last run when `wanted`, and removes them: what they say is true once.
#[must_use]
pub fn load(
    directory: &Path,
    wanted: bool,
    model: &Model,
    clocks: &[ReferenceClockConfig],
    now: ClockReading,
) -> Vec<SavedSamples> {
    let Ok(files) = fs::read_dir(directory) else { return Vec::new() };
    let mut loaded = Vec::new();
    for path in files.filter_map(|file| Some(file.ok()?.path())).take(FILES_MAX) {
        let Some(stem) = Stem::in_path(&path) else { continue };
        if wanted {
            let dump = read(&path);
            let (name, saved) = match stem {
                Stem::Address(address) => {
                    (address.to_string(), dump.and_then(|dump| samples_of(&dump, address, model, now)))
                }
                Stem::ReferenceId(id) => {
                    let clock = clocks.iter().find(|clock| clock.reference_id == id);
                    let name =
                        clock.map_or_else(|| format!("{:08X}", u32::from_be_bytes(id)), |it| it.name());
                    let dump = dump.filter(|_| clock.is_some());
                    (name, dump.and_then(|dump| dump.saved(SampleOwner::ReferenceClock(id), now)))
                }
            };
            match saved {
                Some(saved) => {
                    info!("Loaded dump file for {name}");
                    loaded.push(saved);
                }
                None => warn!("Could not load dump file for {name}"),
            }
        }
        // One that stays is read again after the next start, and found too old.
        let _stays = fs::remove_file(&path);
    }
    loaded
}

/// How a file says in its name whose samples it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stem {
    /// `192.0.2.1.dat`
    Address(IpAddr),
    /// `refid:50505330.dat`: a reference clock by its identifier, here `PPS0`.
    ReferenceId([u8; 4]),
}

impl Stem {
    const fn of(owner: SampleOwner) -> Self {
        match owner {
            SampleOwner::Remote(remote) => Self::Address(remote.ip()),
            SampleOwner::ReferenceClock(id) => Self::ReferenceId(id),
        }
    }

    fn path(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Address(address) => format!("{address}.{EXTENSION}"),
            Self::ReferenceId(id) => format!("{CLOCK_PREFIX}{:08x}.{EXTENSION}", u32::from_be_bytes(id)),
        })
    }

    /// `None`: it is none of these files.
    fn in_path(path: &Path) -> Option<Self> {
        let is_dump = path.extension().is_some_and(|extension| extension == EXTENSION);
        let stem = path.file_stem().filter(|_| is_dump)?.to_str()?;
        match stem.strip_prefix(CLOCK_PREFIX) {
            Some(id) => u32::from_str_radix(id, 16).ok().map(|id| Self::ReferenceId(id.to_be_bytes())),
            None => stem.parse().ok().map(Self::Address),
        }
    }
}

fn read(path: &Path) -> Option<Dump> {
    decode(&plain_file::read_text(path, SMALL_OCTETS_MAX).ok()?)
}

/// What a file is worth now: its source must be configured still, and what was not authenticated says nothing about one that
/// must be.
fn samples_of(dump: &Dump, address: IpAddr, model: &Model, now: ClockReading) -> Option<SavedSamples> {
    let is_meant = |source: &&Source| {
        (source.name == dump.name || (dump.name == UNNAMED && source.name.parse() == Ok(address)))
            && (dump.authenticated || !source.is_authenticated())
    };
    let source = model.sources.iter().find(is_meant)?;
    dump.saved(SampleOwner::Remote(SocketAddr::new(address, source.port)), now)
}

fn encode(source: &SourceReport, saved: &SavedSamples, now: ClockReading) -> String {
    let leap = match source.selection.leap {
        LeapReport::Normal => 0,
        LeapReport::Insert => 1,
        LeapReport::Delete => 2,
        LeapReport::Unsynchronized => 3,
    };
    let newest = &saved.samples[saved.samples.len().saturating_sub(SAMPLES_MAX)..];
    let (reach, polls) = (source.reach, u8::BITS - source.reach.leading_zeros());
    let mut text = format!(
        "{HEAD}\n{}\n{} {reach:o} {polls} {} {leap}\n{} 0\n",
        if source.kind == SourceKind::ReferenceClock { UNNAMED } else { &source.name },
        u8::from(saved.authenticated),
        source.stratum,
        newest.len(),
    );
    let number = |value| exponent(value, 6, 0);
    for sample in newest {
        let ago = NtpDuration::from_secs_f64(now.mono.seconds_since(sample.at));
        let at = now.system - ago;
        let (fast, delay) = (-sample.offset.as_secs_f64(), sample.delay.as_secs_f64());
        let dispersion = sample.dispersion.as_secs_f64();
        let _infallible = writeln!(
            text,
            "{}.{:09} {} {} {} {} {} {}",
            at.unix_seconds(),
            at.subsec_nanos(),
            number(fast),
            number(fast),
            number(delay),
            number(dispersion),
            number(delay + sample.root_delay.as_secs_f64()),
            number(dispersion + sample.root_dispersion.as_secs_f64()),
        );
    }
    text
}

fn decode(text: &str) -> Option<Dump> {
    let mut lines = text.lines();
    if lines.next()? != HEAD {
        return None;
    }
    let name = lines.next()?.to_owned();
    let state: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    let [authenticated, reach, _polls, stratum, leap] = state[..] else { return None };
    let count: usize = lines.next()?.split_ascii_whitespace().next()?.parse().ok()?;
    let lines: Vec<Line> = lines.map(Line::decode).collect::<Option<_>>()?;
    let is_ascending = lines.is_sorted_by(|a, b| a.at < b.at);
    (lines.len() == count && (1..=SAMPLES_MAX).contains(&count) && is_ascending).then_some(Dump {
        name,
        authenticated: authenticated == "1",
        reach: u8::from_str_radix(reach, 8).ok()?,
        stratum: stratum.parse().ok()?,
        leap: [Leap::NoWarning, Leap::Insert, Leap::Delete, Leap::Unsynchronized]
            .get(leap.parse::<usize>().ok()?)
            .copied()?,
        lines,
    })
}

impl Dump {
    fn saved(&self, owner: SampleOwner, now: ClockReading) -> Option<SavedSamples> {
        let samples = self.lines.iter().map(|line| line.sample(self, now));
        Some(SavedSamples {
            owner,
            authenticated: self.authenticated,
            reach: self.reach,
            samples: samples.collect::<Option<Vec<Sample>>>()?,
            estimate: None,
        })
    }
}

impl Line {
    fn decode(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [at, offset, _measured, delay, dispersion, root_delay, root_dispersion] = words[..] else {
            return None;
        };
        let (seconds, nanos) = at.split_once('.')?;
        let number = |word: &str| word.parse().ok().filter(|value: &f64| value.is_finite());
        Some(Self {
            at: (seconds.parse().ok()?, nanos.parse().ok().filter(|nanos| *nanos < 1_000_000_000)?),
            offset: number(offset)?,
            delay: number(delay)?,
            dispersion: number(dispersion)?,
            root_delay: number(root_delay)?,
            root_dispersion: number(root_dispersion)?,
        })
    }

    /// `None` when it would be in the future, or before our clocks began.
    fn sample(&self, dump: &Dump, now: ClockReading) -> Option<Sample> {
        let at = chime_time::NtpDate::from_unix(self.at.0, self.at.1);
        let ago = (now.system - at).as_secs_f64();
        let mono = now.mono.add_secs_f64(-ago);
        let seconds = NtpDuration::from_secs_f64;
        let is_right = ago > 0.0 && (now.mono.seconds_since(mono) - ago).abs() < 1e-3;
        is_right.then_some(Sample {
            at: mono,
            offset: -seconds(self.offset),
            delay: seconds(self.delay.max(0.0)),
            dispersion: seconds(self.dispersion.max(0.0)),
            root_delay: seconds((self.root_delay - self.delay).max(0.0)),
            root_dispersion: seconds((self.root_dispersion - self.dispersion).max(0.0)),
            stratum: dump.stratum,
            leap: dump.leap,
            reference_id: [0; 4],
            standard_error: 0.0,
            lever: Lever::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::{MonoTime, NtpDate};

    const RECORDED: &str = "SRC0\nntp1.example.net\n1 377 8 1 0\n2 18\n\
        1795186980.403838462 2.444927e-06 2.605000e-06 7.742000e-06 1.552746e-07 7.742000e-06 1.552746e-07\n\
        1795186988.500000000 -1.0e-06 -1.0e-06 8.0e-06 1.5e-07 1.8e-05 3.5e-07\n";

    fn now() -> ClockReading {
        ClockReading {
            mono: MonoTime::from_nanos(5_000_000_000_000),
            system: NtpDate::from_unix(1_795_187_000, 0),
        }
    }

    fn model(text: &str) -> Model {
        crate::load::load_chrony(crate::load::as_text(&[text.to_owned()])).expect("it is right").0.model
    }

    fn address() -> IpAddr {
        [127, 0, 0, 11].into()
    }

    #[test]
    fn a_file_of_chronyd_is_understood_with_its_signs() {
        let dump = decode(RECORDED).expect("it is whole");
        let saved =
            samples_of(&dump, address(), &model("server ntp1.example.net nts"), now()).expect("it is right");
        let owner = SampleOwner::Remote(SocketAddr::new(address(), 123));
        assert_eq!((saved.owner, saved.authenticated, saved.reach), (owner, true, 0o377));
        let [first, second] = &saved.samples[..] else { panic!("two samples") };
        assert!((first.offset.as_secs_f64() + 2.444_927e-6).abs() < 1e-9, "we were fast");
        assert!((now().mono.seconds_since(second.at) - 11.5).abs() < 1e-6);
        assert!((second.root_delay.as_secs_f64() - 1e-5).abs() < 1e-9);
        assert_eq!((second.stratum, second.leap), (1, Leap::NoWarning));
    }

    #[test]
    fn what_does_not_fit_the_configuration_or_the_time_is_refused() {
        let dump = decode(RECORDED).expect("it is whole");
        let plain = Dump { authenticated: false, ..dump.clone() };
        let fits = |dump: &Dump, line: &str| samples_of(dump, address(), &model(line), now()).is_some();
        assert!(fits(&plain, "server ntp1.example.net") && !fits(&plain, "server ntp1.example.net key 1"));
        assert!(!fits(&dump, "server ntp2.example.net"), "it is another's");
        let earlier = ClockReading { system: NtpDate::from_unix(1_795_186_985, 0), ..now() };
        assert!(
            samples_of(&dump, address(), &model("server ntp1.example.net"), earlier).is_none(),
            "the future"
        );
        for (right, wrong) in
            [("SRC0", "SRC1"), ("2 18", "3 18"), ("8.0e-06", "inf"), ("988.5", "900.5"), ("1 0\n", "1 9\n")]
        {
            assert_eq!(decode(&RECORDED.replacen(right, wrong, 1)), None, "{wrong}");
        }
        assert_eq!(decode(""), None);
    }

    #[test]
    fn what_is_written_is_read_again_and_then_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let dump = decode(RECORDED).expect("it is whole");
        let model = model("server 127.0.0.11");
        let named = Dump { name: "127.0.0.11".to_owned(), ..dump };
        let saved = samples_of(&named, address(), &model, now()).expect("it is right");
        let source =
            SourceReport { name: named.name.clone(), reach: 0o17, stratum: 1, ..SourceReport::default() };
        let text = encode(&source, &saved, now());
        let again = decode(&text).expect("it is whole");
        assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("1 17 4 1 ")), "{text}");
        assert_eq!((again.lines.len(), again.reach), (2, 0o17));
        // Our times have steps of a quarter of a nanosecond.
        let words: Vec<&str> = text.lines().nth(4).expect("a sample").split(' ').collect();
        assert!(
            words[0] == "1795186980.403838462" && words[1].starts_with("2.444") && words[1].ends_with("e-06")
        );
        let path = Stem::Address(address()).path(folder.path());
        fs::write(folder.path().join("other.txt"), "x").expect("it can be written");
        for (wanted, count) in [(true, 1), (false, 0)] {
            fs::write(&path, &text).expect("it can be written");
            assert_eq!(load(folder.path(), wanted, &model, &[], now()).len(), count);
            assert!(!path.exists() && folder.path().join("other.txt").exists());
        }
    }

    #[test]
    fn the_file_of_a_reference_clock_is_read_when_there_is_that_clock() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = ReferenceClockConfig::new(*b"SHM0");
        let report = SourceReport {
            kind: SourceKind::ReferenceClock,
            name: clock.name(),
            reach: 0o3,
            ..SourceReport::default()
        };
        let dump = Dump { authenticated: false, ..decode(RECORDED).expect("it is whole") };
        let owner = SampleOwner::ReferenceClock(clock.reference_id);
        let saved = dump.saved(owner, now()).expect("of the past");
        let text = encode(&report, &saved, now());
        assert!(text.starts_with("SRC0\n.\n0 3 2 "), "{text}");
        for (clocks, read) in [(vec![clock], vec![owner]), (vec![], vec![])] {
            fs::write(folder.path().join("refid:53484d30.dat"), &text).expect("it can be written");
            let loaded = load(folder.path(), true, &model(""), &clocks, now());
            assert_eq!(loaded.iter().map(|saved| saved.owner).collect::<Vec<_>>(), read);
        }
    }
}
