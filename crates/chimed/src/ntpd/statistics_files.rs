//! The statistics files of ntpd: their names, which change with the date, and the link to the last one.

use crate::appended_file::AppendedFile;
use chime_config::{FileInterval, NtpdFiles, NtpdStatistic, StatisticsFile};
use chime_control::CivilDate;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Where ntpd writes without `statsdir`.
const USUAL_DIRECTORY: &str = "/var/NTP/";

/// The files that are wanted, and those of them that are open.
#[derive(Debug)]
pub struct StatisticsFiles {
    directory: PathBuf,
    wanted: BTreeMap<NtpdStatistic, StatisticsFile>,
    open: BTreeMap<NtpdStatistic, OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// `None`: it could not be opened, and that was said.
    file: Option<AppendedFile>,
}

impl StatisticsFiles {
    /// None is open yet; the directory is made where it is missing.
    #[must_use]
    pub fn new(files: &NtpdFiles) -> Self {
        let directory = files.statistics_directory.clone().unwrap_or_else(|| PathBuf::from(USUAL_DIRECTORY));
        if !files.statistics.is_empty()
            && let Err(error) = fs::create_dir_all(&directory)
        {
            warn!("no statistics: {}: {error}", directory.display());
        }
        Self { directory, wanted: files.statistics.clone(), open: BTreeMap::new() }
    }

    /// Whether any are wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether these are wanted.
    #[must_use]
    pub fn wants(&self, statistic: NtpdStatistic) -> bool {
        self.wanted.contains_key(&statistic)
    }

    /// Appends a line to the file of this instant; `age` is for how long the daemon runs, seconds.
    pub fn write(&mut self, statistic: NtpdStatistic, (unix_seconds, age): (f64, f64), line: &str) {
        let Some(wanted) = self.wanted.get(&statistic) else { return };
        let base = self.directory.join(&wanted.name);
        let mut name = base.as_os_str().to_owned();
        name.push(suffix(wanted.every, unix_seconds, age));
        let path = PathBuf::from(name);
        let open =
            self.open.entry(statistic).or_insert_with(|| OpenFile { path: PathBuf::new(), file: None });
        if open.path != path {
            let link = (wanted.link && wanted.every != FileInterval::None).then_some(base.as_path());
            let file = open_file(&path, link)
                .inspect_err(|error| warn!("no statistics: {}: {error}", path.display()));
            *open = OpenFile { path, file: file.ok() };
        }
        if let Some(file) = &mut open.file {
            file.append(format_args!("{line}\n"));
        }
    }
}

/// Opens a file to append to it, and makes `link` another name of it.
fn open_file(path: &Path, link: Option<&Path>) -> io::Result<AppendedFile> {
    let file = AppendedFile::open(path)?;
    if let Some(link) = link {
        make_way(link)?;
        fs::hard_link(path, link)?;
    }
    Ok(file)
}

/// Takes an old link away. A file that has no other name is no link: it is kept, under another name, as ntpd does.
fn make_way(link: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(link) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if metadata.is_file() && metadata.nlink() == 1 {
        let mut other = link.as_os_str().to_owned();
        other.push(format!(".C{}", std::process::id()));
        return fs::rename(link, PathBuf::from(other));
    }
    fs::remove_file(link)
}

/// What a file's name ends in.
fn suffix(every: FileInterval, unix_seconds: f64, age: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of any date that a clock can have")]
    let seconds = unix_seconds.floor() as i64;
    let CivilDate { year, month, day, .. } = CivilDate::from_unix(seconds);
    match every {
        FileInterval::None => String::new(),
        FileInterval::Pid => format!(".#{}", std::process::id()),
        FileInterval::Day => format!(".{year:04}{month:02}{day:02}"),
        FileInterval::Month => format!(".{year:04}{month:02}"),
        FileInterval::Year => format!(".{year:04}"),
        // ntpd has the day of the year modulo 7 where the number of the week should be.
        FileInterval::Week => format!(".{year:04}w{:02}", day_of_year(seconds) % 7),
        FileInterval::Age => format!(".a{:08}", (age / 86_400.0).floor().max(0.0) * 86_400.0),
    }
}

/// From 0 on the first of January.
fn day_of_year(unix_seconds: i64) -> i64 {
    let day = unix_seconds.div_euclid(86_400);
    let year = CivilDate::from_unix(unix_seconds).year;
    (0..366).find(|back| CivilDate::from_unix((day - back - 1) * 86_400).year != year).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-27 00:00:00
    const MIDNIGHT: f64 = 1_795_737_600.0;

    #[test]
    fn names_end_in_the_date() {
        let at = |every| suffix(every, MIDNIGHT, 100_000.0);
        assert_eq!(at(FileInterval::None), "");
        assert_eq!(at(FileInterval::Day), ".20261127");
        assert_eq!(suffix(FileInterval::Day, MIDNIGHT - 0.5, 0.0), ".20261126");
        assert_eq!((at(FileInterval::Month), at(FileInterval::Year)), (".202611".into(), ".2026".into()));
        assert_eq!(at(FileInterval::Week), ".2026w01", "day 330 counted from 0");
        assert_eq!(at(FileInterval::Age), ".a00086400");
        assert_eq!(at(FileInterval::Pid), format!(".#{}", std::process::id()));
    }

    #[test]
    fn a_new_day_begins_a_new_file_and_the_link_follows() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("ntpstats");
        let statistic = NtpdStatistic::Loop;
        let files = NtpdFiles {
            statistics_directory: Some(directory.clone()),
            statistics: BTreeMap::from([(statistic, StatisticsFile::usual(statistic))]),
            ..NtpdFiles::default()
        };
        fs::create_dir_all(&directory).expect("a folder");
        fs::write(directory.join("loopstats"), "a file of somebody's\n").expect("it can be written");
        let mut files = StatisticsFiles::new(&files);
        assert!(files.wants(statistic) && !files.wants(NtpdStatistic::Raw));
        for (at, line) in [(MIDNIGHT - 2.0, "a"), (MIDNIGHT - 1.0, "b"), (MIDNIGHT, "c")] {
            files.write(statistic, (at, 0.0), line);
            files.write(NtpdStatistic::Raw, (at, 0.0), line);
        }
        let read = |name: &str| fs::read_to_string(directory.join(name)).expect("it is there");
        assert_eq!(read("loopstats.20261126"), "a\nb\n");
        assert_eq!((read("loopstats.20261127"), read("loopstats")), ("c\n".into(), "c\n".into()));
        assert_eq!(read(&format!("loopstats.C{}", std::process::id())), "a file of somebody's\n");
        assert_eq!(fs::read_dir(&directory).expect("a folder").count(), 4);
    }

    #[test]
    fn a_directory_that_cannot_be_made_costs_the_statistics_only() {
        let statistic = NtpdStatistic::Peer;
        let files = NtpdFiles {
            statistics_directory: Some(PathBuf::from("/proc/nowhere")),
            statistics: BTreeMap::from([(statistic, StatisticsFile::usual(statistic))]),
            ..NtpdFiles::default()
        };
        let mut files = StatisticsFiles::new(&files);
        files.write(statistic, (MIDNIGHT, 0.0), "a");
        files.write(statistic, (MIDNIGHT, 0.0), "b");
    }
}
