//! The keys of our server's cookies: loaded, renewed and published; beside them those of the program that served here before.

use crate::predecessor::PredecessorKeysFile;
use crate::serving::Shared;
use crate::store::{StateFile, Store};
use chime_nts::{CookieKey, KeyRing, PredecessorKeys};
use chime_time::NtpDate;
use std::io;
use std::sync::Arc;
use tracing::{error, info};
use zeroize::Zeroizing;

/// How the cookie keys of a server are renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// Age at which the current key is replaced; seconds, 0 = never.
    pub interval_seconds: u32,
    /// Old keys that still open cookies.
    pub keep: usize,
}

/// The keeper of the cookie keys. Where they are kept is told with each call: `None` is nowhere.
pub struct CookieRing {
    /// With it, what opens the cookies of the program that served here before.
    ring: Option<(KeyRing, Rotation)>,
    /// Where that is kept.
    predecessor_file: Option<PredecessorKeysFile>,
    shared: Arc<Shared>,
}

impl CookieRing {
    /// No keys yet; they are published to `shared`.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self { ring: None, predecessor_file: None, shared }
    }

    /// Whether there are keys.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.ring.is_some()
    }

    /// Loads the keys, or makes the first one, and publishes them. The cookies of another program are opened, too, and such are
    /// made while its keys are fresh.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn open(
        &mut self,
        mut store: Option<&mut Store>,
        rotation: Rotation,
        (predecessor, file): (Option<Arc<PredecessorKeys>>, Option<PredecessorKeysFile>),
        now: NtpDate,
    ) -> io::Result<()> {
        let loaded = load(store.as_deref_mut());
        let is_new = loaded.is_none();
        let ring = match loaded {
            Some(ring) => ring,
            None => KeyRing::new(fresh_key(now)?),
        };
        self.predecessor_file = file;
        let make = || self.predecessor_file.as_mut()?.make(now);
        let predecessor = predecessor.or_else(make);
        self.ring = Some((ring, rotation));
        self.open_way_back(predecessor, now);
        if is_new {
            self.save(store);
        }
        self.publish();
        Ok(())
    }

    /// Reads the keys again, as when a fleet copies them to all of its servers; also those of another program, where we renew
    /// none.
    pub fn reload(&mut self, mut store: Option<&mut Store>, now: NtpDate) {
        let Some((ring, rotation)) = &mut self.ring else { return };
        let file = self.predecessor_file.as_ref().filter(|_| rotation.interval_seconds == 0);
        let before = ring.predecessor().cloned();
        let predecessor = file.and_then(PredecessorKeysFile::read).or(before.clone());
        if let Some(loaded) = load(store.as_deref_mut()) {
            if loaded.current_id() != ring.current_id() {
                info!(
                    "cookie keys were replaced from outside: key {:08x} is current now",
                    loaded.current_id()
                );
            }
            *ring = loaded.with_predecessor(before).with_way_back(ring.keeps_way_back());
        } else if store.as_ref().is_some_and(|store| !store.path(StateFile::CookieKeys).exists()) {
            // Damaged and set aside, or removed: without a file the keys in use would end with this run.
            self.save(store);
        }
        self.open_way_back(predecessor, now);
        self.publish();
    }

    /// Renews what is due, by a clock that is believed.
    pub fn tend(&mut self, store: Option<&mut Store>, now: NtpDate) {
        self.rotate_if_due(store, now);
        self.tend_way_back(now);
    }

    /// Puts a new key in front when the current one is old. It is used only once it is on disk: cookies made with a key that a
    /// crash would lose are lost with it.
    fn rotate_if_due(&mut self, mut store: Option<&mut Store>, now: NtpDate) {
        let Some((ring, rotation)) = &mut self.ring else { return };
        if rotation.interval_seconds == 0 || !ring.is_rotation_due(now, rotation.interval_seconds) {
            return;
        }
        let fresh = match fresh_key(now) {
            Ok(fresh) => fresh,
            Err(error) => return error!("no new cookie key can be made: {error}"),
        };
        let before = ring.clone();
        ring.rotate(fresh, rotation.keep);
        if self.save(store.as_deref_mut()) {
            self.publish();
            info!("a new cookie key is in use");
        } else if let Some((ring, _)) = &mut self.ring {
            *ring = before;
            // What waits to be written must be the ring in use, not one that was given up.
            self.save(store);
        }
    }

    /// Renews the other program's keys where they are ours to renew, and ends with them when they are old.
    fn tend_way_back(&mut self, now: NtpDate) {
        let (Some(file), Some((ring, rotation))) = (&mut self.predecessor_file, &self.ring) else { return };
        let Some(keys) = ring.predecessor() else { return };
        let interval = i64::from(rotation.interval_seconds);
        let is_due = interval > 0 && !keys.is_fresh(now, interval - 1);
        let rotated = is_due.then(|| file.rotate(keys, now)).flatten();
        if rotated.is_none() && ring.keeps_way_back() == is_way_back_open(keys, *rotation, now) {
            return;
        }
        let keys = rotated.unwrap_or_else(|| keys.clone());
        self.open_way_back(Some(keys), now);
        self.publish();
    }

    /// Has cookies made with the other program's keys, which are these now, or not any more.
    fn open_way_back(&mut self, predecessor: Option<Arc<PredecessorKeys>>, now: NtpDate) {
        let Some((ring, rotation)) = &mut self.ring else { return };
        let is_open = predecessor.as_ref().is_some_and(|keys| is_way_back_open(keys, *rotation, now));
        if let Some(file) = self.predecessor_file.as_ref().filter(|_| is_open != ring.keeps_way_back()) {
            let program = file.program();
            match is_open {
                true => {
                    info!("cookies are made with the keys of {program}, which can serve its clients again")
                }
                false => info!("the keys of {program} are old: cookies are made with our own from now on"),
            }
        }
        *ring = ring.clone().with_predecessor(predecessor).with_way_back(is_open);
    }

    /// Whether the keys are on disk now; without a directory there is nowhere better.
    fn save(&self, store: Option<&mut Store>) -> bool {
        match (store, &self.ring) {
            (Some(store), Some((ring, _))) => store.save(StateFile::CookieKeys, &ring.encode()),
            _ => true,
        }
    }

    fn publish(&self) {
        if let Some((ring, _)) = &self.ring {
            self.shared.keys.store(Some(Arc::new(ring.clone())));
        }
    }
}

fn load(store: Option<&mut Store>) -> Option<KeyRing> {
    store?.load(StateFile::CookieKeys, KeyRing::decode)
}

/// Whether the other program would make its cookies with these keys, or would still open them for as long again.
fn is_way_back_open(keys: &PredecessorKeys, rotation: Rotation, now: NtpDate) -> bool {
    rotation.interval_seconds == 0 || keys.is_fresh(now, 2 * i64::from(rotation.interval_seconds))
}

fn fresh_key(now: NtpDate) -> io::Result<CookieKey> {
    let mut octets = Zeroizing::new([0; 32]);
    chime_sys::random::fill(&mut octets[..])?;
    let mut id = [0; 4];
    chime_sys::random::fill(&mut id)?;
    Ok(CookieKey::new(u32::from_be_bytes(id), *octets, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_config::{CookieKeyFile, CookieKeyFormat, Model, NtpServer};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    const CREATED: NtpDate = NtpDate::from_unix(1_795_000_000, 0);
    const ROTATION: Rotation = Rotation { interval_seconds: 86_400, keep: 7 };

    /// A ring of one key, and where it is kept and published.
    fn ring(directory: &TempDir) -> (CookieRing, Store, Arc<Shared>) {
        let shared = Arc::new(Shared::unsynchronized(-20));
        let mut store = Store::open(directory.path(), None);
        let mut ring = CookieRing::new(shared.clone());
        ring.open(Some(&mut store), ROTATION, (None, None), CREATED).expect("there is randomness");
        (ring, store, shared)
    }

    fn published(shared: &Shared) -> u32 {
        shared.keys.load().as_ref().expect("keys are published").current_id()
    }

    fn on_disk(directory: &TempDir) -> Option<u32> {
        load(Some(&mut Store::open(directory.path(), None))).map(|ring| ring.current_id())
    }

    #[test]
    fn a_ring_that_could_not_be_written_is_never_written_later() {
        let directory = TempDir::new().expect("a folder");
        let (mut ring, mut store, shared) = ring(&directory);
        let first = published(&shared);
        // Nothing can be made where a folder that is not empty has the temporary name; permissions do not stop root.
        let obstacle = directory.path().join("cookie-keys.new");
        fs::create_dir_all(obstacle.join("x")).expect("it can be made");
        ring.tend(Some(&mut store), CREATED + chime_time::NtpDuration::from_seconds(90_000));
        assert_eq!(published(&shared), first, "a key that a crash would lose is not used");
        fs::remove_dir_all(&obstacle).expect("it can be removed");
        assert!(store.retry());
        assert_eq!(on_disk(&directory), Some(first));
    }

    #[test]
    fn keys_in_use_survive_a_damaged_copy_from_outside() {
        let directory = TempDir::new().expect("a folder");
        let (mut ring, mut store, shared) = ring(&directory);
        let first = published(&shared);
        let path = directory.path().join("cookie-keys");
        fs::write(&path, "half a fi").expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        ring.reload(Some(&mut store), CREATED);
        assert_eq!((published(&shared), on_disk(&directory)), (first, Some(first)));
        assert!(directory.path().join("cookie-keys.damaged-1").exists());
    }

    /// Keys of NTPsec's that are a thousand seconds old, in a file, and a model that names it.
    fn of_ntpsec(directory: &TempDir) -> (String, Model) {
        let path = directory.path().join("nts-keys");
        let made = CREATED.unix_seconds() - 1000;
        let text = format!("T: {made}\nL: 32\nI: 7\nK: {}\n", "5a".repeat(32));
        fs::write(&path, &text).expect("it can be written");
        let mut model = Model::default();
        model.predecessor.cookie_keys = Some(CookieKeyFile { path, format: CookieKeyFormat::Ntpsec });
        (text, model)
    }

    #[test]
    fn the_way_back_is_open_while_the_keys_of_the_other_program_are_fresh() {
        let directory = TempDir::new().expect("a folder");
        let (text, mut model) = of_ntpsec(&directory);
        assert!(PredecessorKeysFile::of(&model, false).is_none(), "nobody is served");
        model.servers.push(NtpServer::new(([127, 0, 0, 1], 123).into()));
        let file = PredecessorKeysFile::of(&model, false).expect("it is configured");

        let shared = Arc::new(Shared::unsynchronized(-20));
        let mut ring = CookieRing::new(shared.clone());
        let inherited = (file.read(), Some(file));
        ring.open(None, ROTATION, inherited, NtpDate::from_unix(0, 0)).expect("there is randomness");
        let is_open = || shared.keys.load().as_ref().is_some_and(|ring| ring.keeps_way_back());
        assert!(!is_open(), "in 1970 nobody knows how old they are");
        let made = CREATED.unix_seconds() - 1000;
        for (age, open) in [(1000, true), (2 * 86_400, true), (2 * 86_400 + 1, false), (999, true)] {
            ring.tend(None, NtpDate::from_unix(made + age, 0));
            assert_eq!(is_open(), open, "after {age} s");
        }
        let after = fs::read_to_string(directory.path().join("nts-keys"));
        assert_eq!(after.expect("it is there"), text);
    }

    #[test]
    fn keys_that_somebody_else_renews_are_read_again() {
        let directory = TempDir::new().expect("a folder");
        let (text, mut model) = of_ntpsec(&directory);
        model.servers.push(NtpServer::new(([127, 0, 0, 1], 123).into()));
        let file = PredecessorKeysFile::of(&model, false).expect("it is configured");
        for (interval_seconds, is_read) in [(0, true), (86_400, false)] {
            let path = directory.path().join("nts-keys");
            fs::write(&path, &text).expect("it can be written");
            let shared = Arc::new(Shared::unsynchronized(-20));
            let mut ring = CookieRing::new(shared.clone());
            let inherited = (file.read(), Some(file.clone()));
            let rotation = Rotation { interval_seconds, keep: 7 };
            ring.open(None, rotation, inherited, CREATED).expect("there is randomness");
            let keys = || shared.keys.load().as_ref().and_then(|ring| ring.predecessor().map(|it| it.len()));
            assert_eq!(keys(), Some(1));
            fs::write(&path, format!("{text}I: 8\nK: {}\n", "6b".repeat(32))).expect("it can be written");
            ring.reload(None, CREATED);
            assert_eq!(keys(), Some(if is_read { 2 } else { 1 }));
        }
    }
}
