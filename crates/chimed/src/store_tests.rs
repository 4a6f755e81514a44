//! Tests of the state directory: damage, permissions, and a disk that fills up at every octet.

use super::*;
use crate::replaced_file::tests::SmallDisk;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const OLD: &[u8] = b"truechimer old contents\n";
const NEW: &[u8] = b"truechimer new contents, longer than the old\n";

fn understood(octets: &[u8]) -> Result<Vec<u8>, &'static str> {
    let whole = octets.starts_with(b"truechimer ") && octets.ends_with(b"\n");
    if whole { Ok(octets.to_vec()) } else { Err("not understood") }
}

fn store() -> (TempDir, Store) {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path(), None);
    (directory, store)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_loaded() {
    let (directory, mut store) = store();
    for file in StateFile::ALL {
        assert_eq!(store.load(file, understood), None);
        assert!(store.save(file, OLD) && store.save(file, NEW));
        assert_eq!(store.load(file, understood).as_deref(), Some(NEW));
        let mode = fs::metadata(store.path(file)).unwrap().mode() & 0o777;
        assert_eq!(mode, if file.is_secret() { 0o600 } else { 0o644 }, "{file:?}");
        assert!(store.modified(file).is_some());
    }
    assert!(store.poll_report().is_none());
    assert_eq!(names(directory.path()).len(), StateFile::ALL.len());
    assert!(store.take_away(StateFile::Associations));
    assert_eq!(store.load(StateFile::Associations, understood), None);
    assert!(store.take_away(StateFile::Associations), "it is gone");
    assert!(store.poll_report().is_none());
}

#[test]
fn a_file_of_every_shorter_length_is_set_aside() {
    let (directory, mut store) = store();
    let path = store.path(StateFile::Drift);
    for length in 0..OLD.len() {
        fs::write(&path, &OLD[..length]).unwrap();
        assert_eq!(store.load(StateFile::Drift, understood), None, "{length}");
        let report = store.poll_report().expect("a report");
        let Report::Damaged { reason, set_aside: Some(aside), .. } = &report else { panic!("{report}") };
        assert_eq!(fs::read(aside).unwrap(), &OLD[..length]);
        assert_eq!(reason, "not understood");
        assert!(report.to_string().starts_with(&path.display().to_string()), "{report}");
        assert!(!path.exists());
    }
    assert_eq!(names(directory.path()).len(), DAMAGED_COPIES_MAX as usize, "bounded");
    assert_eq!(fs::read(with_suffix(&path, ".damaged-1")).unwrap(), b"", "the first one stays");
}

#[test]
fn what_is_no_file_of_ours_is_set_aside_unread() {
    let (_directory, mut store) = store();
    let path = store.path(StateFile::ServerNames);
    fs::create_dir(&path).unwrap();
    assert_eq!(store.load(StateFile::ServerNames, understood), None);
    assert!(matches!(store.poll_report(), Some(Report::Damaged { set_aside: Some(_), .. })));
    File::create(&path).unwrap().set_len(FILE_OCTETS_MAX + 1).unwrap();
    assert_eq!(store.load(StateFile::ServerNames, understood), None);
    let report = store.poll_report().unwrap().to_string();
    assert!(report.contains("too long") && report.contains(".damaged-2"), "{report}");
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert_eq!(store.load(StateFile::ServerNames, understood), None);
    assert!(store.save(StateFile::ServerNames, NEW));
    assert_eq!(fs::read(&path).unwrap(), NEW);
}

#[test]
fn keys_that_others_can_read_are_used_with_a_warning() {
    let (_directory, mut store) = store();
    store.save(StateFile::CookieKeys, OLD);
    let path = store.path(StateFile::CookieKeys);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(store.load(StateFile::CookieKeys, understood).as_deref(), Some(OLD));
    assert!(matches!(store.poll_report(), Some(Report::TooOpen { mode: 0o640, .. })));
    store.save(StateFile::CookieKeys, NEW);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    // Drift is no secret.
    store.save(StateFile::Drift, OLD);
    assert!(store.load(StateFile::Drift, understood).is_some() && store.poll_report().is_none());
}

#[test]
fn the_cookie_keys_may_live_elsewhere() {
    let directory = TempDir::new().unwrap();
    let elsewhere = directory.path().join("shared-keys");
    let mut store = Store::open(&directory.path().join("state"), Some(&elsewhere));
    assert!(store.save(StateFile::CookieKeys, OLD) && store.save(StateFile::Drift, OLD));
    assert_eq!(fs::read(elsewhere).unwrap(), OLD);
    assert_eq!(names(&directory.path().join("state")), ["drift"]);
}

#[test]
fn a_crash_while_writing_leaves_the_old_file_and_does_not_prevent_the_next_write() {
    let (directory, mut store) = store();
    store.save(StateFile::Drift, OLD);
    fs::write(with_suffix(&store.path(StateFile::Drift), ".new"), b"half a fi").unwrap();
    assert_eq!(store.load(StateFile::Drift, understood).as_deref(), Some(OLD));
    assert!(store.save(StateFile::Drift, NEW));
    assert_eq!(names(directory.path()), ["drift"]);
}

#[test]
fn a_directory_that_cannot_be_is_told_once() {
    let directory = TempDir::new().unwrap();
    let blocked = directory.path().join("file");
    fs::write(&blocked, b"").unwrap();
    let mut store = Store::open(&blocked.join("state"), None);
    assert_eq!(store.load(StateFile::Drift, understood), None);
    let _not_a_directory = store.poll_report();
    assert!(!store.save(StateFile::Drift, OLD) && !store.save(StateFile::Drift, NEW) && !store.retry());
    assert!(matches!(store.poll_report(), Some(Report::NotWritten { .. })));
    assert!(store.poll_report().is_none());
    fs::remove_file(&blocked).unwrap();
    fs::create_dir_all(blocked.join("state")).unwrap();
    assert!(store.retry());
    assert_eq!(store.load(StateFile::Drift, understood).as_deref(), Some(NEW), "the latest contents");
    assert!(store.poll_report().unwrap().is_recovery());
}

#[test]
fn a_directory_without_write_permission_is_told_once() {
    // Root may write anywhere: a read-only mount or an immutable directory looks the same from here as this.
    let (directory, mut store) = store();
    store.save(StateFile::Drift, OLD);
    fs::set_permissions(directory.path(), Permissions::from_mode(0o555)).unwrap();
    let may_write_anyway = fs::write(directory.path().join("probe"), b"").is_ok();
    if !may_write_anyway {
        assert!(!store.save(StateFile::Drift, NEW) && !store.retry());
        assert!(matches!(store.poll_report(), Some(Report::NotWritten { .. })));
        assert!(store.poll_report().is_none());
        fs::write(store.path(StateFile::Drift), b"damaged").unwrap();
        assert_eq!(store.load(StateFile::Drift, understood), None);
        assert!(matches!(store.poll_report(), Some(Report::Damaged { set_aside: None, .. })));
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(store.save(StateFile::Drift, NEW));
}

#[test]
fn of_two_daemons_with_one_directory_the_first_writes() {
    let (directory, mut first) = store();
    assert!(first.save(StateFile::CookieKeys, OLD) && first.sibling().save(StateFile::Drift, OLD));
    let mut second = Store::open(directory.path(), None);
    let report = second.poll_report().expect("it is told at once").to_string();
    assert!(report.contains("another daemon"), "{report}");
    assert_eq!(second.load(StateFile::CookieKeys, understood).as_deref(), Some(OLD));
    assert!(!second.save(StateFile::CookieKeys, NEW) && !second.retry());
    assert!(!second.take_away(StateFile::Drift), "what it says is the first one's to use");
    second.load(StateFile::CookieKeys, |_| Err::<(), _>("not understood"));
    assert_eq!(names(directory.path()), ["cookie-keys", "drift"]);
    assert_eq!(first.load(StateFile::CookieKeys, understood).as_deref(), Some(OLD));
    drop(first);
    assert!(second.retry(), "the first one has ended");
    assert_eq!(second.load(StateFile::CookieKeys, understood).as_deref(), Some(NEW));
}

#[test]
fn keys_that_cannot_be_read_are_not_lost_by_new_ones() {
    let (directory, mut store) = store();
    let path = store.path(StateFile::CookieKeys);
    // A file that gives an error to whoever reads it, root or not.
    std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
    assert_eq!(store.load(StateFile::CookieKeys, understood), None);
    assert!(matches!(store.poll_report(), Some(Report::Unreadable { .. })));
    assert!(path.is_symlink(), "it may be readable again");
    assert!(store.save(StateFile::CookieKeys, NEW));
    assert!(matches!(store.poll_report(), Some(Report::Damaged { set_aside: Some(_), .. })));
    assert_eq!(names(directory.path()), ["cookie-keys", "cookie-keys.damaged-1"]);
    assert!(store.save(StateFile::CookieKeys, OLD) && store.poll_report().is_none());
}

#[test]
fn a_disk_that_fills_up_at_any_octet_leaves_the_old_file() {
    let directory = TempDir::new().unwrap();
    for room in 0..NEW.len() {
        fs::write(directory.path().join("drift"), OLD).unwrap();
        let disk = SmallDisk::with_room(room);
        let mut store = Store::on(disk.clone(), directory.path(), None);
        assert!(!store.save(StateFile::Drift, NEW), "{room}");
        assert_eq!(store.load(StateFile::Drift, understood).as_deref(), Some(OLD), "{room}");
        assert_eq!(names(directory.path()), ["drift"], "nothing is left behind");
        let report = store.poll_report().unwrap();
        assert!(matches!(&report, Report::NotWritten { .. }) && !report.is_recovery(), "{report}");
        disk.set_room(0);
        assert!(!store.retry() && store.poll_report().is_none(), "told once");
        disk.set_room(NEW.len());
        assert!(store.retry() && store.retry());
        assert!(store.poll_report().unwrap().is_recovery());
        assert_eq!(store.load(StateFile::Drift, understood).as_deref(), Some(NEW), "{room}");
    }
}

#[test]
fn a_disk_that_fails_to_sync_leaves_the_old_file() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("drift"), OLD).unwrap();
    let disk = SmallDisk::that_fails_to_sync();
    let mut store = Store::on(disk, directory.path(), None);
    assert!(!store.save(StateFile::Drift, NEW));
    assert_eq!(store.load(StateFile::Drift, understood).as_deref(), Some(OLD));
}

/// Runs `test` where a folder is a file system of its own, which nobody else sees; false: that is not permitted.
fn with_mounted(directory: &Path, options: &str, test: impl FnOnce() + Send) -> bool {
    let none: Option<&str> = None;
    let mounted = || {
        // Only this thread has these mounts, and they end with it.
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("test"), directory, Some("tmpfs"), MsFlags::empty(), Some(options))
    };
    std::thread::scope(|scope| {
        let shown = scope.spawn(|| {
            mounted().is_ok_and(|()| {
                test();
                true
            })
        });
        shown.join().expect("the test passes")
    })
}

#[test]
fn on_a_disk_that_became_read_only_nothing_is_used_that_may_be_used_once() {
    let directory = TempDir::new().unwrap();
    let shown = with_mounted(directory.path(), "size=64k", || {
        let mut store = Store::open(directory.path(), None);
        assert!(store.save(StateFile::Associations, OLD));
        let none: Option<&str> = None;
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, directory.path(), none, read_only, none).unwrap();
        assert_eq!(store.load(StateFile::Associations, understood).as_deref(), Some(OLD));
        assert!(!store.take_away(StateFile::Associations));
        let report = store.poll_report().expect("it is told").to_string();
        assert!(report.contains("cannot be removed: Read-only file system"), "{report}");
        for _ in 0..3 {
            assert!(!store.save(StateFile::Drift, NEW) && !store.retry());
        }
        assert!(matches!(store.poll_report(), Some(Report::NotWritten { .. })));
        assert!(store.poll_report().is_none(), "it is told once");
        mount(none, directory.path(), none, MsFlags::MS_REMOUNT, none).unwrap();
        assert!(store.retry() && store.poll_report().is_some_and(|report| report.is_recovery()));
        assert_eq!(store.load(StateFile::Drift, understood).as_deref(), Some(NEW));
        assert!(store.take_away(StateFile::Associations));
    });
    if !shown {
        eprintln!("not shown: mounts of one's own are not permitted here");
    }
}

#[test]
fn a_disk_without_room_keeps_the_old_contents_and_gives_up_what_may_be_used_once() {
    let directory = TempDir::new().unwrap();
    let shown = with_mounted(directory.path(), "size=64k", || {
        let mut store = Store::open(directory.path(), None);
        assert!(store.save(StateFile::Drift, OLD) && store.save(StateFile::Associations, OLD));
        let ballast = directory.path().join("ballast");
        let full = fs::write(&ballast, vec![1; 128 << 10]).expect_err("there is no room for it");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(!store.save(StateFile::Drift, NEW));
        assert!(matches!(store.poll_report(), Some(Report::NotWritten { .. })));
        assert_eq!(store.load(StateFile::Drift, understood).as_deref(), Some(OLD));
        assert_eq!(names(directory.path()), ["associations", "ballast", "drift"], "nothing half written");
        fs::remove_file(&ballast).unwrap();
        assert!(store.retry());
        assert_eq!(store.load(StateFile::Drift, understood).as_deref(), Some(NEW));
        let _full = fs::write(&ballast, vec![1; 128 << 10]);
        assert!(store.take_away(StateFile::Associations), "that needs no room");
        assert_eq!(store.load(StateFile::Associations, understood), None);
    });
    if !shown {
        eprintln!("not shown: mounts of one's own are not permitted here");
    }
}
