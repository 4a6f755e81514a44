//! The cookie keys of the time daemon that served here before, or whose name this one has.
//!
//! Under another name the file belongs to that daemon: it is read and never written. Under chronyd's name it is made where it
//! is missing, and rotated, as chronyd does.

use super::contents;
use crate::plain_file;
use crate::replaced_file::{Disk, Mode, Refusal, replace};
use chime_config::{CookieKeyFile, CookieKeyFormat, Model};
use chime_nts::{PredecessorFormat, PredecessorKeys};
use chime_sys::random;
use chime_time::NtpDate;
use std::io;
use std::sync::Arc;
use tracing::{info, warn};

/// Nobody but the daemon reads keys.
const MODE: Mode = Mode::AtMost(0o600);

/// The file, and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PredecessorKeysFile {
    file: CookieKeyFile,
    /// Whether it is ours to make and to rotate.
    is_ours: bool,
    refusal: Refusal,
}

impl PredecessorKeysFile {
    /// The file that is configured, or chronyd's in its directory, where anybody is served who has cookies; under chronyd's
    /// name it is ours.
    #[must_use]
    pub fn of(model: &Model, is_chronyd: bool) -> Option<Self> {
        let is_served = !model.nts_ke_servers.is_empty();
        let chrony = || {
            let directory = model.chrony.nts_directory.as_ref().filter(|_| is_served)?;
            Some(CookieKeyFile { path: directory.join("ntskeys"), format: CookieKeyFormat::Chrony })
        };
        let file = model.predecessor.cookie_keys.clone().or_else(chrony);
        let file = file.filter(|_| is_served || !model.servers.is_empty())?;
        // With an interval of zero somebody else rotates the keys.
        let is_ours =
            is_chronyd && file.format == CookieKeyFormat::Chrony && !model.keyset.rotation_interval.is_zero();
        Some(Self { file, is_ours, refusal: Refusal::default() })
    }

    /// Whose keys they are.
    #[must_use]
    pub const fn program(&self) -> &'static str {
        self.file.format.name()
    }

    /// Its keys; `None` when it is not there or of no use, which is said.
    #[must_use]
    pub fn read(&self) -> Option<Arc<PredecessorKeys>> {
        let path = &self.file.path;
        let octets = contents(path)?;
        let format = match self.file.format {
            CookieKeyFormat::Chrony => PredecessorFormat::Chrony,
            CookieKeyFormat::Ntpsec => PredecessorFormat::Ntpsec,
            CookieKeyFormat::NtpdRs => PredecessorFormat::NtpdRs,
        };
        // If that cannot be told, in 1970: its keys are old then.
        let written = plain_file::written(path).unwrap_or(NtpDate::from_unix(0, 0));
        let path = path.display();
        match PredecessorKeys::decode(format, &octets, written) {
            Ok(keys) => {
                let program = self.program();
                info!("{path}: {} keys of {program} open the cookies that its clients have", keys.len());
                Some(Arc::new(keys))
            }
            Err(error) => {
                warn!("{path}: {error}: its clients need new cookies");
                None
            }
        }
    }

    /// The first keys, written to the file, when it is ours and there is none.
    #[must_use]
    pub fn make(&mut self, now: NtpDate) -> Option<Arc<PredecessorKeys>> {
        if !self.is_ours || self.file.path.exists() {
            return None;
        }
        let made = draw(|random| Some(PredecessorKeys::new_of_chrony(random, now)));
        self.keep(made, now)
    }

    /// The keys after a rotation, written to the file, when it is ours.
    #[must_use]
    pub fn rotate(&mut self, keys: &PredecessorKeys, now: NtpDate) -> Option<Arc<PredecessorKeys>> {
        if !self.is_ours {
            return None;
        }
        let rotated = draw(|random| keys.rotated(random, now));
        self.keep(rotated, now)
    }

    /// Keys that could not be written are not used: cookies made with them would be lost with this run.
    fn keep(
        &mut self,
        keys: io::Result<Option<PredecessorKeys>>,
        now: NtpDate,
    ) -> Option<Arc<PredecessorKeys>> {
        let written = keys.and_then(|keys| {
            let Some(text) = keys.as_ref().and_then(|keys| keys.encode_for_chrony(now)) else {
                return Ok(None);
            };
            replace(&Disk, &self.file.path, text.as_bytes(), MODE)?;
            Ok(keys)
        });
        self.refusal.tell(&self.file.path, written)?.map(Arc::new)
    }
}

/// What is drawn from random octets, unless there are none.
fn draw<T>(make: impl FnOnce(&mut dyn FnMut(&mut [u8])) -> T) -> io::Result<T> {
    let mut failed = None;
    let made = make(&mut |room| {
        if let Err(error) = random::fill(room) {
            failed = Some(error);
        }
    });
    failed.map_or(Ok(made), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const NOW: NtpDate = NtpDate::from_unix(1_795_200_000, 0);

    fn file(folder: &Path, is_ours: bool) -> PredecessorKeysFile {
        let file = CookieKeyFile { path: folder.join("ntskeys"), format: CookieKeyFormat::Chrony };
        PredecessorKeysFile { file, is_ours, refusal: Refusal::default() }
    }

    #[test]
    fn under_chronyds_name_its_file_is_made_and_rotated() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let mut file = file(folder.path(), true);
        let path = file.file.path.clone();
        let text = || fs::read_to_string(&path).expect("it was written");
        let made = file.make(NOW).expect("there was none");
        let first = text();
        assert_eq!(first.lines().count(), 6);
        let mode = fs::metadata(&file.file.path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(file.make(NOW).is_none(), "there is one");
        assert_eq!(file.read().map(|keys| keys.len()), Some(4));
        let rotated = file.rotate(&made, NOW).expect("it is ours");
        assert_eq!(text().lines().nth(2), first.lines().nth(3));
        // A folder where the file is to be: nothing can be renamed to that.
        fs::remove_file(&file.file.path).expect("it is there");
        fs::create_dir_all(file.file.path.join("x")).expect("it can be made");
        assert!(file.rotate(&rotated, NOW).is_none(), "what is not on disk is not used");
        assert_ne!(file.refusal, Refusal::default(), "that is said once");
    }

    #[test]
    fn the_file_of_another_program_is_never_written() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let ours = file(folder.path(), true).make(NOW).expect("there was none");
        let before = fs::read(folder.path().join("ntskeys")).expect("it was written");
        let mut theirs = file(folder.path(), false);
        assert!(theirs.rotate(&ours, NOW).is_none());
        assert_eq!(fs::read(folder.path().join("ntskeys")).expect("it is there"), before);
        let elsewhere = tempfile::TempDir::new().expect("a folder");
        assert!(file(elsewhere.path(), false).make(NOW).is_none());
        assert!(!elsewhere.path().join("ntskeys").exists());
    }
}
