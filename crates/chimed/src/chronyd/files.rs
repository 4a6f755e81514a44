//! The files of chronyd: the PID file, the drift file, and the log files.

use crate::appended_file::AppendedFile;
use anyhow::{Context, Result, bail};
use chime_config::{ChronyLog, ChronyLogs, Model};
use chime_discipline::SavedFrequency;
use chime_time::Frequency;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// A file with the number of this process, which is removed when this is dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Where it is to be: as configured, or at `usual`; `None` when it is not wanted.
    #[must_use]
    pub fn place(model: &Model, usual: &str) -> Option<PathBuf> {
        let path = model.chrony.pid_file.clone().unwrap_or_else(|| PathBuf::from(usual));
        (path != Path::new("/")).then_some(path)
    }

    /// Writes it for `program`, unless it holds the number of a process that lives.
    ///
    /// # Errors
    /// When there is one, or the file cannot be written.
    pub fn claim(program: &str, path: PathBuf) -> Result<Self> {
        let other = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(pid) =
            other.filter(|pid| *pid != std::process::id() && Path::new(&format!("/proc/{pid}")).exists())
        {
            bail!("Another {program} may already be running (pid={pid}), check {}", path.display());
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)
                .with_context(|| format!("Could not create directory {}", folder.display()))?;
        }
        // Not through a link that somebody put there.
        let _absent = fs::remove_file(&path);
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()))
            .with_context(|| format!("Could not write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Without privileges for its folder it stays, and tells a dead process.
        let _stays = fs::remove_file(&self.0);
    }
}

/// Writes a line end to the descriptor of `-N`.
pub fn tell_ready(descriptor: i32) {
    // Through the file system: the number is the caller's, and may be no descriptor at all.
    let path = format!("/proc/self/fd/{descriptor}");
    if let Err(error) = File::options().write(true).open(path).and_then(|mut file| file.write_all(b"\n")) {
        warn!("Could not write to descriptor {descriptor} : {error}");
    }
}

/// What a drift file says: the error of the clock in ppm, positive when it is fast, and how sure that is.
#[must_use]
pub fn parse_drift(text: &str) -> Option<SavedFrequency> {
    /// The largest frequency that a clock can be corrected by, in ppm.
    const PPM_MAX: f64 = 100_000.0;
    let mut values = text.split_ascii_whitespace().map(str::parse::<f64>);
    let (Some(Ok(fast)), Some(Ok(skew))) = (values.next(), values.next()) else { return None };
    let sound = fast.abs() <= PPM_MAX && skew.is_finite() && skew >= 0.0;
    sound.then(|| SavedFrequency { frequency: Frequency::from_ppm(-fast), skew: skew * 1e-6 })
}

/// The contents of a drift file.
#[must_use]
pub fn drift_line(saved: &SavedFrequency) -> String {
    format!("{:20.6} {:20.6}\n", -saved.frequency.as_ppm(), saved.skew * 1e6)
}

/// The log files that are open.
#[derive(Debug)]
pub struct LogFiles {
    settings: ChronyLogs,
    files: BTreeMap<&'static str, LogFile>,
}

#[derive(Debug)]
struct LogFile {
    /// `None`: it could not be opened, and that was said.
    file: Option<AppendedFile>,
    entries: u32,
}

impl LogFiles {
    /// None is open yet; the directory is made where it is missing.
    #[must_use]
    pub fn new(settings: ChronyLogs) -> Self {
        if let Some(directory) = settings.directory.as_deref().filter(|_| !settings.kinds.is_empty())
            && let Err(error) = fs::create_dir_all(directory)
        {
            warn!("Could not create directory {} : {error}", directory.display());
        }
        Self { settings, files: BTreeMap::new() }
    }

    /// Whether any of these is wanted.
    #[must_use]
    pub fn wants(&self, kind: ChronyLog) -> bool {
        self.settings.kinds.contains(&kind)
    }

    /// Appends an entry to the file `NAME.log`, with a heading where one is due.
    pub fn write(&mut self, name: &'static str, heading: &str, entry: &str) {
        let (directory, banner) = (self.settings.directory.as_deref(), self.settings.banner);
        let log =
            self.files.entry(name).or_insert_with(|| LogFile { file: open(directory, name), entries: 0 });
        let Some(file) = &mut log.file else { return };
        let heading_due = banner > 0 && log.entries.is_multiple_of(banner);
        let text = if heading_due { chime_control::chrony_logs::banner(heading) } else { String::new() };
        log.entries = log.entries.wrapping_add(1);
        file.append(format_args!("{text}{entry}\n"));
    }

    /// Closes the files; the next entry opens its file again, which may be another one by then.
    pub fn cycle(&mut self) {
        self.files.clear();
    }
}

fn open(directory: Option<&Path>, name: &str) -> Option<AppendedFile> {
    let Some(directory) = directory else {
        warn!("logdir not specified");
        return None;
    };
    let path = directory.join(name).with_extension("log");
    AppendedFile::open(&path).inspect_err(|error| warn!("Could not open {} : {error}", path.display())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_drift_file_of_chronyd_is_read_and_written_with_its_sign() {
        let saved = parse_drift("           -0.004199             0.015080\n").expect("it is sound");
        assert!(
            (saved.frequency.as_ppm() - 0.004_199).abs() < 1e-12 && (saved.skew - 0.015_08e-6).abs() < 1e-18
        );
        assert_eq!(drift_line(&saved), "           -0.004199             0.015080\n");
        assert!(parse_drift("5e+01\n1e5").is_some(), "any white space will do");
        for wrong in ["", "1", "x 1", "1 x", "nan 1", "200000 1", "1 -1", "1 inf"] {
            assert_eq!(parse_drift(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_number_of_a_living_process_is_respected_and_that_of_a_dead_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made/chronyd.pid");
        let pid_file = PidFile::claim("chronyd", path.clone()).expect("nobody is there");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), format!("{}\n", std::process::id()));
        drop(pid_file);
        assert!(!path.exists());
        fs::write(&path, "1\n").expect("it can be written");
        let refused =
            PidFile::claim("chronyd", path.clone()).expect_err("process 1 always lives").to_string();
        assert!(refused.starts_with("Another chronyd may already be running (pid=1)"), "{refused}");
        fs::write(&path, "4194305\n").expect("it can be written");
        assert!(PidFile::claim("chronyd", path).is_ok(), "there is no such number");
        let mut model = Model::default();
        assert_eq!(PidFile::place(&model, "/x"), Some(PathBuf::from("/x")));
        model.chrony.pid_file = Some(PathBuf::from("/"));
        assert_eq!(PidFile::place(&model, "/x"), None);
    }

    #[test]
    fn headings_come_first_and_again_and_a_new_file_after_cycling() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("logs");
        let kinds = BTreeSet::from([ChronyLog::Tracking]);
        let mut logs = LogFiles::new(ChronyLogs { directory: Some(directory.clone()), kinds, banner: 2 });
        assert!(logs.wants(ChronyLog::Tracking) && !logs.wants(ChronyLog::Statistics));
        for entry in ["a", "b", "c"] {
            logs.write("tracking", "H", entry);
        }
        let read = |name: &str| fs::read_to_string(directory.join(name)).expect("it is there");
        assert_eq!(read("tracking.log"), "=\nH\n=\na\nb\n=\nH\n=\nc\n");
        fs::rename(directory.join("tracking.log"), directory.join("old")).expect("it can be moved");
        logs.write("tracking", "H", "d");
        assert!(read("old").ends_with("c\nd\n"));
        logs.cycle();
        logs.write("tracking", "H", "e");
        assert_eq!(read("tracking.log"), "=\nH\n=\ne\n");
    }

    #[test]
    fn without_a_directory_nothing_is_written() {
        let mut logs = LogFiles::new(ChronyLogs::default());
        logs.write("tracking", "H", "a");
        logs.write("tracking", "H", "b");
    }
}
