//! Tests of replacing files: a disk that fills up, one that refuses any step, one that loses power after any step.

use super::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

const OLD: &[u8] = b"old contents\n";
const NEW: &[u8] = b"new contents, longer than the old\n";
const PATH: &str = "/state/file";

/// The real disk, on which a number of octets fit, over all files.
#[derive(Clone)]
pub(crate) struct SmallDisk {
    room: Rc<Cell<usize>>,
    sync_fails: bool,
}

impl SmallDisk {
    pub(crate) fn with_room(octets: usize) -> Self {
        Self { room: Rc::new(Cell::new(octets)), sync_fails: false }
    }

    pub(crate) fn that_fails_to_sync() -> Self {
        Self { sync_fails: true, ..Self::with_room(usize::MAX) }
    }

    pub(crate) fn set_room(&self, octets: usize) {
        self.room.set(octets);
    }
}

pub(crate) struct SmallDiskFile {
    file: File,
    disk: SmallDisk,
}

impl Medium for SmallDisk {
    type Sink = SmallDiskFile;

    fn create_new(&self, path: &Path, mode: Mode) -> io::Result<SmallDiskFile> {
        Ok(SmallDiskFile { file: Disk.create_new(path, mode)?, disk: self.clone() })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        Disk.sync_directory_of(path)
    }
}

impl Write for SmallDiskFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let fits = octets.len().min(self.disk.room.get());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.room.set(self.disk.room.get() - fits);
        self.file.write(&octets[..fits])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for SmallDiskFile {
    fn sync(&mut self) -> io::Result<()> {
        if self.disk.sync_fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// A disk that keeps for sure what was synced, and of everything later as much as it likes.
#[derive(Clone)]
struct LosingDisk(Rc<RefCell<Platters>>);

struct Platters {
    files: Vec<Contents>,
    /// The names as they were since the directory was synced, the newest last: a loss of power leaves one of these.
    names: Vec<BTreeMap<PathBuf, usize>>,
    step: usize,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// This step and all later ones are not done.
    PowerLossAt(usize),
    /// This step is not done.
    RefusalAt(usize),
}

#[derive(Clone, Default)]
struct Contents {
    octets: Vec<u8>,
    synced: usize,
}

impl LosingDisk {
    /// With these files.
    fn with(files: &[(&str, &[u8])], fault: Fault) -> Self {
        let names = files.iter().enumerate().map(|(number, (name, _))| (PathBuf::from(name), number));
        let contents = |octets: &[u8]| Contents { octets: octets.to_vec(), synced: octets.len() };
        Self(Rc::new(RefCell::new(Platters {
            names: vec![names.collect()],
            files: files.iter().map(|(_, octets)| contents(octets)).collect(),
            step: 0,
            fault,
        })))
    }

    /// Does a step, unless that is the one.
    fn step<T>(&self, act: impl FnOnce(&mut Platters) -> io::Result<T>) -> io::Result<T> {
        let mut platters = self.0.borrow_mut();
        platters.step += 1;
        let is_done = match platters.fault {
            Fault::None => true,
            Fault::PowerLossAt(step) => platters.step < step,
            Fault::RefusalAt(step) => platters.step != step,
        };
        if is_done { act(&mut platters) } else { Err(io::Error::other("the disk fails")) }
    }

    /// What may be in the file after a loss of power: one of these. `None`: no file.
    fn after_power_loss(&self) -> BTreeSet<Option<Vec<u8>>> {
        let platters = self.0.borrow();
        let mut possible = BTreeSet::new();
        for names in &platters.names {
            let Some(number) = names.get(Path::new(PATH)) else {
                possible.insert(None);
                continue;
            };
            let file = &platters.files[*number];
            for length in file.synced..=file.octets.len() {
                possible.insert(Some(file.octets[..length].to_vec()));
            }
        }
        possible
    }

    /// The files as programs see them.
    fn seen(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let platters = self.0.borrow();
        let names = platters.names.last().expect("there is always one");
        names.iter().map(|(name, number)| (name.clone(), platters.files[*number].octets.clone())).collect()
    }
}

impl Platters {
    fn rename_all(
        &mut self,
        change: impl FnOnce(&mut BTreeMap<PathBuf, usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut names = self.names.last().cloned().unwrap_or_default();
        change(&mut names)?;
        self.names.push(names);
        Ok(())
    }
}

struct LosingFile {
    disk: LosingDisk,
    number: usize,
}

impl Medium for LosingDisk {
    type Sink = LosingFile;

    fn create_new(&self, path: &Path, _mode: Mode) -> io::Result<LosingFile> {
        self.step(|platters| {
            let number = platters.files.len();
            platters.rename_all(|names| match names.insert(path.to_owned(), number) {
                None => Ok(()),
                Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            })?;
            platters.files.push(Contents::default());
            Ok(LosingFile { disk: self.clone(), number })
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|platters| {
            platters.rename_all(|names| {
                let number = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
                names.insert(to.to_owned(), number);
                Ok(())
            })
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|platters| {
            platters.rename_all(|names| Ok(names.remove(path).map(drop).ok_or(io::ErrorKind::NotFound)?))
        })
    }

    fn sync_directory_of(&self, _path: &Path) -> io::Result<()> {
        self.step(|platters| {
            platters.names.drain(..platters.names.len() - 1);
            Ok(())
        })
    }
}

impl Write for LosingFile {
    /// A few octets at once.
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let some = &octets[..octets.len().min(5)];
        self.disk.step(|platters| {
            platters.files[self.number].octets.extend_from_slice(some);
            Ok(some.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for LosingFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.step(|platters| {
            let file = &mut platters.files[self.number];
            file.synced = file.octets.len();
            Ok(())
        })
    }
}

/// The disks that there may be before: with or without the file, with or without what a crash left.
fn disks(fault: Fault) -> Vec<(LosingDisk, Option<Vec<u8>>)> {
    let (old, half): ((_, &[u8]), (_, &[u8])) = ((PATH, OLD), ("/state/file.new", b"half a fi"));
    let disk = |files: &[(&str, &[u8])]| LosingDisk::with(files, fault);
    vec![
        (disk(&[]), None),
        (disk(&[half]), None),
        (disk(&[old]), Some(OLD.to_vec())),
        (disk(&[old, half]), Some(OLD.to_vec())),
    ]
}

/// Steps of one replacement: removing, making, seven writes, syncing, renaming, syncing.
const STEPS: usize = 12;

fn replace_on(disk: &LosingDisk) -> io::Result<()> {
    replace(disk, Path::new(PATH), NEW, Mode::Exactly(0o644))
}

#[test]
fn a_loss_of_power_at_any_step_leaves_the_old_file_or_the_new_one() {
    for step in 1..=STEPS {
        for (disk, old) in disks(Fault::PowerLossAt(step)) {
            assert!(replace_on(&disk).is_err(), "{step}");
            let allowed = BTreeSet::from([old, Some(NEW.to_vec())]);
            let possible = disk.after_power_loss();
            assert!(possible.is_subset(&allowed), "{step}: {possible:?}");
        }
    }
}

#[test]
fn what_was_replaced_stays_so_over_a_loss_of_power() {
    for (disk, _) in disks(Fault::None) {
        replace_on(&disk).expect("nothing is wrong with this disk");
        assert_eq!(disk.0.borrow().step, STEPS);
        assert_eq!(disk.after_power_loss(), BTreeSet::from([Some(NEW.to_vec())]));
    }
}

#[test]
fn a_step_that_is_refused_leaves_a_whole_file_and_no_other_and_does_not_prevent_the_next_attempt() {
    for step in 1..=STEPS {
        for (disk, old) in disks(Fault::RefusalAt(step)) {
            assert!(replace_on(&disk).is_err(), "{step}");
            let seen = disk.seen();
            // Only the last one, which makes it sure, comes after the new file is there.
            let expected = if step == STEPS { Some(NEW.to_vec()) } else { old };
            assert_eq!(seen.get(Path::new(PATH)), expected.as_ref(), "{step}");
            assert!(step == 1 || !seen.contains_key(Path::new("/state/file.new")), "{step}");
            replace_on(&disk).expect("the next time it works");
            assert_eq!(disk.after_power_loss(), BTreeSet::from([Some(NEW.to_vec())]), "{step}");
        }
    }
}

#[test]
fn files_of_our_own_have_their_mode_and_others_what_the_umask_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    let mode_of = |mode| {
        replace(&Disk, &path, NEW, mode).expect("it can be written");
        fs::metadata(&path).expect("it is there").mode() & 0o777
    };
    // More than any umask leaves to others.
    fs::write(folder.path().join("any"), "").expect("it can be written");
    let usual = fs::metadata(folder.path().join("any")).expect("it is there").mode() & 0o777;
    assert_eq!(mode_of(Mode::Exactly(0o666)), 0o666);
    assert_eq!(mode_of(Mode::AtMost(0o666)), usual);
    assert_eq!(mode_of(Mode::AtMost(0o600)) & !0o600, 0);
    assert_eq!(fs::read(&path).expect("it is there"), NEW);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    assert!(replace(&Disk, &folder.path().join("absent/file"), NEW, Mode::PUBLIC).is_err());
}

#[test]
fn that_a_file_cannot_be_written_is_said_once_and_its_end_too() {
    let mut refusal = Refusal::default();
    let failure = || Err::<u8, _>(io::Error::from(io::ErrorKind::StorageFull));
    assert_eq!(refusal.news(&Ok(1)), None);
    assert_eq!(refusal.news(&failure()), Some(News::Refused));
    assert_eq!(refusal.news(&failure()), None);
    assert_eq!(refusal.news(&Ok(1)), Some(News::WrittenAgain));
    assert_eq!(refusal.news(&Ok(1)), None);
    let path = Path::new(PATH);
    assert_eq!((refusal.tell(path, failure()), refusal.tell(path, Ok(2))), (None, Some(2)));
}
