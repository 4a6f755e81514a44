//! The list of leap seconds on disk: read at the start, on reload, and when the file changes.

use chime_config::LeapSeconds;
use chime_control::LeapTableReport;
use chime_discipline::{
    LeapTable, LeapTableError, parse_leap_seconds_list, parse_leap_seconds_list_unchecked, parse_tzif,
};
use chime_time::MonoTime;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// How often the files are looked at: new lists come twice a year.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);
/// The largest file that is read: real ones have 5 kB.
const FILE_OCTETS_MAX: u64 = 1 << 20;
/// Where time zones are.
const ZONES: &str = "/usr/share/zoneinfo";

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("too large for a list of leap seconds")]
    TooLarge,
    #[error("not the name of a time zone")]
    ZoneName,
    #[error("{0}")]
    Contents(#[from] LeapTableError),
}

/// The files that are watched.
#[derive(Debug, Default)]
pub struct LeapTables {
    wish: LeapSeconds,
    seen: Vec<Option<Stamp>>,
    report: LeapTableReport,
    next_look: Option<MonoTime>,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    modified: Option<SystemTime>,
    octets: u64,
}

impl LeapTables {
    /// Watches what `wish` names; nothing is read before [`Self::look`].
    #[must_use]
    pub fn new(wish: LeapSeconds) -> Self {
        Self { wish, ..Self::default() }
    }

    /// Where the list came from, and what is wrong with those that could not be used.
    #[must_use]
    pub const fn report(&self) -> &LeapTableReport {
        &self.report
    }

    /// When [`Self::look`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        (!self.paths().is_empty()).then(|| self.next_look.unwrap_or(MonoTime::ZERO))
    }

    /// Looks whether it is time and there is something new: gives the list then, or that there is none any more.
    pub fn look(&mut self, now: MonoTime) -> Option<Option<LeapTable>> {
        if self.next_look.is_some_and(|next| now < next) {
            return None;
        }
        let first = self.next_look.is_none();
        self.next_look = Some(now.saturating_add(LOOK_INTERVAL));
        let paths = self.paths();
        let seen: Vec<_> = paths.iter().map(|path| fs::metadata(path).ok().as_ref().map(stamp)).collect();
        if !first && seen == self.seen {
            return None;
        }
        self.seen = seen;
        Some(self.read())
    }

    /// Watches other files from now on.
    pub fn set_wish(&mut self, wish: LeapSeconds) {
        (self.wish, self.next_look) = (wish, None);
    }

    /// The file, and the zone's.
    fn paths(&self) -> Vec<PathBuf> {
        let zone = self.wish.zone.as_deref().and_then(|zone| zone_path(Path::new(ZONES), zone));
        self.wish.file.iter().cloned().chain(zone).collect()
    }

    /// The file goes before the zone; what cannot be used is told.
    fn read(&mut self) -> Option<LeapTable> {
        let mut report = LeapTableReport::default();
        let mut found = None;
        if let Some(path) = &self.wish.file {
            found = note(&mut report, path.display().to_string(), read_list(path));
        }
        if let (None, Some(zone)) = (&found, &self.wish.zone) {
            found = note(&mut report, format!("time zone {zone}"), read_zone(Path::new(ZONES), zone));
        }
        self.report = report;
        found
    }
}

fn note(report: &mut LeapTableReport, name: String, read: Result<LeapTable, Problem>) -> Option<LeapTable> {
    match read {
        Ok(table) => {
            info!("{} leap seconds known from {name}", table.len());
            report.name = Some(name);
            Some(table)
        }
        Err(problem) => {
            let help = if matches!(&problem, Problem::Unreadable(error) if error.kind() == io::ErrorKind::NotFound)
                && name.starts_with("time zone right/")
            {
                "; Debian has these zones in the package tzdata-legacy; `file` reads a leap-seconds.list instead"
            } else {
                ""
            };
            let text = format!("{name}: {problem}{help}");
            warn!("leap seconds cannot be read from {text}");
            report.problems.push(text);
            None
        }
    }
}

fn read_list(path: &Path) -> Result<LeapTable, Problem> {
    let octets = read_small(path)?;
    // Comments may be in any encoding; what counts is ASCII.
    let text = String::from_utf8_lossy(&octets);
    match parse_leap_seconds_list(&text) {
        Err(LeapTableError::NoDigest) => {
            let table = parse_leap_seconds_list_unchecked(&text)?;
            warn!("{} has no SHA-1 digest (#h): whether it is damaged cannot be told", path.display());
            Ok(table)
        }
        checked => Ok(checked?),
    }
}

fn read_zone(zones: &Path, zone: &str) -> Result<LeapTable, Problem> {
    let path = zone_path(zones, zone).ok_or(Problem::ZoneName)?;
    Ok(parse_tzif(&read_small(&path)?)?)
}

/// The file of a zone; `None` for a name that leads elsewhere.
fn zone_path(zones: &Path, zone: &str) -> Option<PathBuf> {
    let inside = Path::new(zone).components().all(|part| matches!(part, Component::Normal(_)));
    (inside && !zone.is_empty()).then(|| zones.join(zone))
}

fn read_small(path: &Path) -> Result<Vec<u8>, Problem> {
    let about = fs::metadata(path)?;
    if !about.is_file() || about.len() > FILE_OCTETS_MAX {
        return Err(Problem::TooLarge);
    }
    Ok(fs::read(path)?)
}

fn stamp(about: &Metadata) -> Stamp {
    Stamp { modified: about.modified().ok(), octets: about.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = include_str!("../../discipline/testdata/leap-seconds.list");

    #[test]
    fn a_list_is_read_at_once_and_again_when_it_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("leap-seconds.list");
        let mut tables = LeapTables::new(LeapSeconds { file: Some(path.clone()), ..LeapSeconds::default() });
        let at = |seconds: f64| MonoTime::ZERO.add_secs_f64(1.0 + seconds);
        assert_eq!(tables.look(at(0.0)), Some(None), "there is no such file");
        assert_eq!(tables.report().problems.len(), 1);
        fs::write(&path, LIST).expect("it can be written");
        assert_eq!(tables.look(at(3599.0)), None);
        let table = tables.look(at(3600.0)).flatten().expect("now it is there");
        assert_eq!(table.len(), 27);
        assert_eq!(
            (tables.report().name.clone(), tables.report().problems.len()),
            (Some(path.display().to_string()), 0)
        );
        assert_eq!(tables.look(at(7201.0)), None, "unchanged");
        fs::write(&path, "# damaged\n").expect("it can be written");
        assert_eq!(tables.look(at(10_802.0)), Some(None));
        tables.set_wish(LeapSeconds::default());
        assert_eq!(tables.look(at(10_803.0)), Some(None));
        assert_eq!(tables.poll_timeout(), None);
    }

    #[test]
    fn the_zone_is_read_where_the_file_cannot_be_and_that_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("right")).expect("it can be made");
        let zone = include_bytes!("../../discipline/testdata/right-UTC.tzif");
        fs::write(folder.path().join("right/UTC"), zone).expect("it can be written");
        assert_eq!(read_zone(folder.path(), "right/UTC").expect("it is there").len(), 27);
        for wrong in ["../right/UTC", "/etc/passwd", "", "right"] {
            assert!(read_zone(folder.path(), wrong).is_err(), "{wrong:?}");
        }
        let mut report = LeapTableReport::default();
        let missing = read_zone(folder.path(), "right/Mars");
        assert_eq!(note(&mut report, "time zone right/Mars".to_owned(), missing), None);
        assert!(report.problems[0].contains("tzdata-legacy"), "{:?}", report.problems);
    }
}
