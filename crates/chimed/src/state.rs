//! What outlives the process, and when it is written: cookie keys, NTS state, drift, the last good time.

use crate::oscillator::Oscillator;
use crate::predecessor::PredecessorKeysFile;
use crate::sample_history::{self, clock_identity};
use crate::serving::Shared;
use crate::state_files::{
    NAMES_MAX, decode_drift, decode_last_good_time, decode_server_names, encode_drift, encode_last_good_time,
    encode_server_names,
};
use crate::store::{Report, StateFile, Store};
use crate::store_writer::StoreWriter;
use chime_discipline::SavedFrequency;
use chime_engine::{Engine, KnownTime, decode_nts_state, encode_nts_state};
use chime_nts::{CookieKey, KeyRing, PredecessorKeys};
use chime_time::{ClockReading, MonoTime, NtpDate};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

/// Keys and cookies are written this long after they changed, so that a burst is one write.
const NTS_STATE_DELAY: Duration = Duration::from_secs(1);

/// And not more often than this: cookies change with every poll, and flash memory wears.
const NTS_STATE_INTERVAL: Duration = Duration::from_secs(60);

/// How often drift and the last good time are written.
const CLOCK_INTERVAL: Duration = Duration::from_secs(600);

/// The first time is sooner: a machine that is switched off after a few minutes has learnt something, too.
const CLOCK_FIRST: Duration = Duration::from_secs(60);

/// How often what could not be written is tried again, and the age of the cookie key is looked at. Nobody is woken when
/// there is neither.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// How the cookie keys of a server are renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// Age at which the current key is replaced; seconds, 0 = never.
    pub interval_seconds: u32,
    /// Old keys that still open cookies.
    pub keep: usize,
}

/// The keeper of the state directory.
pub struct StateKeeper {
    store: Option<Store>,
    /// Writes what may be written late; started with the first of that, when privileges are given up already.
    writer: Option<StoreWriter>,
    ring: Option<(KeyRing, Rotation)>,
    /// What opens the cookies of the program that served here before, and where that is kept.
    predecessor: Option<Arc<PredecessorKeys>>,
    predecessor_file: Option<PredecessorKeysFile>,
    shared: Arc<Shared>,
    oscillator: Oscillator,
    names: BTreeMap<String, Vec<IpAddr>>,
    names_changed: bool,
    /// Whether samples are kept over a restart.
    keeps_samples: bool,
    nts_due: Option<MonoTime>,
    nts_written: Option<MonoTime>,
    /// Whether cookies were given to be written, and it is not known yet that they were.
    nts_is_on_its_way: bool,
    clock_due: MonoTime,
    retry_due: Option<MonoTime>,
}

/// What an earlier run learnt.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The oscillator.
    pub frequency: Option<SavedFrequency>,
    /// A time that is certainly past.
    pub last_good_unix_seconds: Option<i64>,
}

impl StateKeeper {
    /// A keeper of `store`; without one nothing is read or written.
    #[must_use]
    pub fn new(store: Option<Store>, shared: Arc<Shared>, now: MonoTime) -> Self {
        Self {
            store,
            writer: None,
            ring: None,
            predecessor: None,
            predecessor_file: None,
            names: BTreeMap::new(),
            names_changed: false,
            keeps_samples: false,
            shared,
            oscillator: Oscillator::Steered,
            nts_due: None,
            nts_written: None,
            nts_is_on_its_way: false,
            clock_due: now.saturating_add(CLOCK_FIRST),
            retry_due: Some(now.saturating_add(RETRY_INTERVAL)),
        }
    }

    /// The same for a clock that may only be watched.
    #[must_use]
    pub const fn of_oscillator(mut self, oscillator: Oscillator) -> Self {
        self.oscillator = oscillator;
        self
    }

    /// Reads what an earlier run learnt about oscillator and time.
    pub fn remembered(&mut self) -> Remembered {
        let Some(store) = &mut self.store else { return Remembered::default() };
        let remembered = Remembered {
            frequency: store.load(StateFile::Drift, decode_drift),
            last_good_unix_seconds: store
                .load(StateFile::LastGoodTime, decode_last_good_time)
                .map(NtpDate::unix_seconds),
        };
        self.names = store.load(StateFile::ServerNames, decode_server_names).unwrap_or_default();
        self.log_reports();
        remembered
    }

    /// Gives the engine the keys and cookies of an earlier run, once no later one can find them. RFC 8915 §5.7: a cookie is
    /// sent once.
    pub fn restore_nts_state(&mut self, engine: &mut Engine, now: MonoTime) {
        let Some(store) = &mut self.store else { return };
        if let Some(saved) = store.load(StateFile::Associations, decode_nts_state)
            && store.take_away(StateFile::Associations)
        {
            let restored = engine.restore_nts_state(now, saved);
            if restored > 0 {
                info!(
                    "keys and cookies of {restored} NTS sources are still there: no key establishment needed"
                );
            }
        }
        self.log_reports();
    }

    /// Opens the cookies of another program, too, from the next [`StateKeeper::open_key_ring`] on, and makes such while its
    /// keys are fresh.
    pub fn inherit(&mut self, predecessor: Option<Arc<PredecessorKeys>>, file: Option<PredecessorKeysFile>) {
        self.predecessor = predecessor;
        self.predecessor_file = file;
    }

    /// Gives the engine the samples of an earlier run, when the clock has run on since as it was left, and has them
    /// kept when this one ends; nothing of that unless `wanted`.
    pub fn restore_samples(&mut self, engine: &mut Engine, wanted: bool) {
        self.keeps_samples = wanted;
        let Some(store) = self.store.as_mut().filter(|_| wanted) else { return };
        if let Some((before, saved)) = store.load(StateFile::Samples, sample_history::decode) {
            match clock_identity().map(|now| engine.take_over_samples(&now, &before, saved)) {
                Some(Ok(sources)) => {
                    info!("measurements of {sources} sources of the last run are taken over")
                }
                Some(Err(reason)) => info!("measurements of the last run are not taken over: {reason}"),
                None => {}
            }
        }
        self.log_reports();
    }

    /// Writes the samples: at the end, when the clock has been left as it is to run on.
    pub fn save_samples(&mut self, engine: &Engine) {
        let Some(store) = self.store.as_mut().filter(|_| self.keeps_samples) else { return };
        if let Some(clock) = clock_identity() {
            let saved = engine.samples(clock.now.mono);
            let text = sample_history::encode(&clock, &saved);
            store.save(StateFile::Samples, text.as_bytes());
        }
        self.log_reports();
    }

    /// Loads the cookie keys, or makes the first one, and publishes them.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn open_key_ring(&mut self, rotation: Rotation, now: NtpDate) -> std::io::Result<()> {
        let loaded = self.store.as_mut().and_then(|store| store.load(StateFile::CookieKeys, KeyRing::decode));
        let is_new = loaded.is_none();
        let ring = match loaded {
            Some(ring) => ring,
            None => KeyRing::new(fresh_key(now)?),
        };
        if self.predecessor.is_none() {
            self.predecessor = self.predecessor_file.as_ref().and_then(|file| file.make(now));
        }
        self.ring = Some((ring, rotation));
        self.open_way_back(now);
        self.retry_due.get_or_insert(MonoTime::ZERO);
        if is_new {
            self.save_ring();
        }
        self.publish_ring();
        self.log_reports();
        Ok(())
    }

    /// Reads the cookie keys again, as when a fleet copies them to all of its servers; also those of another program, where
    /// we renew none.
    pub fn reload_key_ring(&mut self, now: NtpDate) {
        let Some((ring, rotation)) = &mut self.ring else { return };
        if rotation.interval_seconds == 0
            && let Some(read) = self.predecessor_file.as_ref().and_then(PredecessorKeysFile::read)
        {
            self.predecessor = Some(read);
        }
        let loaded = self.store.as_mut().and_then(|store| store.load(StateFile::CookieKeys, KeyRing::decode));
        if let Some(loaded) = loaded {
            if loaded.current_id() != ring.current_id() {
                info!(
                    "cookie keys were replaced from outside: key {:08x} is current now",
                    loaded.current_id()
                );
            }
            let way_back = ring.keeps_way_back();
            *ring = loaded.with_predecessor(self.predecessor.clone()).with_way_back(way_back);
        } else if self.store.as_ref().is_some_and(|store| !store.path(StateFile::CookieKeys).exists()) {
            // Damaged and set aside, or removed: without a file the keys in use would end with this run.
            self.save_ring();
        }
        self.open_way_back(now);
        self.publish_ring();
        self.log_reports();
    }

    /// Notes that keys or cookies of associations changed.
    pub fn nts_state_changed(&mut self, now: MonoTime) {
        let soon = now.saturating_add(NTS_STATE_DELAY);
        let due = self.nts_written.map_or(soon, |last| soon.max(last.saturating_add(NTS_STATE_INTERVAL)));
        self.nts_due.get_or_insert(due);
    }

    /// Notes the addresses of a name, for a start without a name service.
    pub fn remember_addresses(&mut self, name: &str, addresses: &[IpAddr]) {
        // Servers of key establishment name NTP servers: any number of names, in the long run.
        if !self.names.contains_key(name) && self.names.len() >= NAMES_MAX {
            return;
        }
        if self.names.get(name).is_none_or(|known| known != addresses) {
            self.names.insert(name.to_owned(), addresses.to_vec());
            self.names_changed = true;
        }
    }

    /// The addresses that a name had.
    #[must_use]
    pub fn addresses_of(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// When [`StateKeeper::tend`] has something to do next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let nts_due = self.nts_due.filter(|_| !self.nts_is_on_its_way);
        [nts_due, Some(self.clock_due), self.retry_due].into_iter().flatten().min()
    }

    /// Writes what is due.
    pub fn tend(&mut self, engine: &mut Engine, now: ClockReading) {
        if self.nts_is_on_its_way && !self.is_behind() {
            self.nts_is_on_its_way = false;
            engine.nts_state_saved();
        }
        if self.nts_due.is_some_and(|due| now.mono >= due) && !self.nts_is_on_its_way {
            self.save_nts_state(engine, now.mono);
        }
        if now.mono >= self.clock_due {
            self.save_clock(engine, now.mono);
            self.clock_due = now.mono.saturating_add(CLOCK_INTERVAL);
        }
        if self.retry_due.is_some_and(|due| now.mono >= due) {
            if let Some(store) = &mut self.store {
                store.retry();
            }
            if let Some(writer) = self.writer.as_ref().filter(|writer| writer.is_behind()) {
                writer.retry();
            }
            // A clock that nobody believes knows no ages: a machine that wakes up in 1970 would renew its keys at every
            // start, and lose the old ones that its clients' cookies need.
            if engine.discipline().system(now.mono).stratum != 0 {
                self.rotate_if_due(now.system);
                self.tend_way_back(now.system);
            }
            self.retry_due = None;
            if self.ring.is_some() || self.is_behind() {
                self.look_again_after(now.mono);
            }
        }
        self.log_reports();
    }

    /// Writes everything as it is now: somebody asked for it.
    pub fn save_all(&mut self, engine: &mut Engine, now: ClockReading) {
        if !self.nts_is_on_its_way {
            self.save_nts_state(engine, now.mono);
        }
        self.save_clock(engine, now.mono);
        self.log_reports();
    }

    /// Writes everything: the daemon stops, and sends nothing more.
    pub fn save_at_end(&mut self, engine: &Engine, now: ClockReading) {
        self.write(StateFile::Associations, encode_nts_state(&engine.nts_state()), now.mono);
        self.save_clock(engine, now.mono);
        for report in self.writer.take().map(StoreWriter::finish).unwrap_or_default() {
            log(&report);
        }
        self.log_reports();
    }

    /// Has cookies written down that are out of use from now on. One such file at a time: what is to become of the cookies of
    /// several could not be told.
    fn save_nts_state(&mut self, engine: &mut Engine, now: MonoTime) {
        self.nts_due = None;
        if self.store.is_some() {
            self.nts_written = Some(now);
            self.nts_is_on_its_way = true;
            self.write(StateFile::Associations, encode_nts_state(&engine.set_nts_state_aside()), now);
        }
    }

    fn save_clock(&mut self, engine: &Engine, now: MonoTime) {
        if std::mem::take(&mut self.names_changed) {
            let text = encode_server_names(&self.names);
            self.write(StateFile::ServerNames, Zeroizing::new(text.into_bytes()), now);
        }
        let found = engine.discipline().frequency_to_save();
        if let Some(saved) = found.and_then(|found| self.oscillator.to_file(found)) {
            self.write(StateFile::Drift, Zeroizing::new(encode_drift(&saved).into_bytes()), now);
        }
        if let Some(seconds) = engine.clock_state().last_good_unix_seconds {
            let text = encode_last_good_time(NtpDate::from_unix(seconds, 0));
            self.write(StateFile::LastGoodTime, Zeroizing::new(text.into_bytes()), now);
        }
    }

    /// Has a file replaced on the writer's thread, or here when there can be no thread.
    fn write(&mut self, file: StateFile, octets: Zeroizing<Vec<u8>>, now: MonoTime) {
        self.look_again_after(now);
        let Some(store) = &mut self.store else { return };
        if self.writer.is_none() {
            self.writer = StoreWriter::start(store.sibling()).ok();
        }
        match &self.writer {
            Some(writer) => writer.save(file, octets),
            None => drop(store.save(file, &octets)),
        }
    }

    /// Whether anything is not on the disk yet, or could not be written.
    fn is_behind(&self) -> bool {
        self.store.as_ref().is_some_and(Store::is_behind)
            || self.writer.as_ref().is_some_and(StoreWriter::is_behind)
    }

    fn look_again_after(&mut self, now: MonoTime) {
        self.retry_due.get_or_insert(now.saturating_add(RETRY_INTERVAL));
    }

    /// Puts a new cookie key in front when the current one is old. It is used only once it is on disk: cookies made with
    /// a key that a crash would lose are lost with it.
    fn rotate_if_due(&mut self, now: NtpDate) {
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
        if self.save_ring() {
            self.publish_ring();
            info!("a new cookie key is in use");
        } else if let Some((ring, _)) = &mut self.ring {
            *ring = before;
            // What waits to be written must be the ring in use, not one that was given up.
            self.save_ring();
        }
    }

    /// Renews the other program's keys where they are ours to renew, and ends with them when they are old.
    fn tend_way_back(&mut self, now: NtpDate) {
        let (Some(file), Some(keys), Some((ring, rotation))) =
            (&self.predecessor_file, &self.predecessor, &self.ring)
        else {
            return;
        };
        let interval = i64::from(rotation.interval_seconds);
        let is_due = interval > 0 && !keys.is_fresh(now, interval - 1);
        let rotated = is_due.then(|| file.rotate(keys, now)).flatten();
        if rotated.is_none() && ring.keeps_way_back() == is_way_back_open(keys, *rotation, now) {
            return;
        }
        self.predecessor = rotated.or(self.predecessor.take());
        self.open_way_back(now);
        self.publish_ring();
    }

    /// Has cookies made with the other program's keys, or not any more, as they are now.
    fn open_way_back(&mut self, now: NtpDate) {
        let Some((ring, rotation)) = &mut self.ring else { return };
        let is_open = self.predecessor.as_ref().is_some_and(|keys| is_way_back_open(keys, *rotation, now));
        if let Some(file) = self.predecessor_file.as_ref().filter(|_| is_open != ring.keeps_way_back()) {
            let program = file.program();
            match is_open {
                true => {
                    info!("cookies are made with the keys of {program}, which can serve its clients again")
                }
                false => info!("the keys of {program} are old: cookies are made with our own from now on"),
            }
        }
        *ring = ring.clone().with_predecessor(self.predecessor.clone()).with_way_back(is_open);
    }

    /// Whether the ring is on disk now; without a directory there is nowhere better.
    fn save_ring(&mut self) -> bool {
        match (&mut self.store, &self.ring) {
            (Some(store), Some((ring, _))) => store.save(StateFile::CookieKeys, &ring.encode()),
            _ => true,
        }
    }

    fn publish_ring(&self) {
        if let Some((ring, _)) = &self.ring {
            self.shared.keys.store(Some(Arc::new(ring.clone())));
        }
    }

    fn log_reports(&mut self) {
        while let Some(report) = self.store.as_mut().and_then(Store::poll_report) {
            log(&report);
        }
        while let Some(report) = self.writer.as_ref().and_then(StoreWriter::poll_report) {
            log(&report);
        }
    }
}

fn log(report: &Report) {
    if report.is_recovery() {
        info!("{report}");
    } else {
        warn!("{report}");
    }
}

impl Remembered {
    /// Adds what was remembered to what is known about the time.
    #[must_use]
    pub fn known_time(&self, known: KnownTime) -> KnownTime {
        KnownTime { last_good_unix_seconds: self.last_good_unix_seconds, ..known }
    }
}

/// Whether the other program would make its cookies with these keys, or would still open them for as long again.
fn is_way_back_open(keys: &PredecessorKeys, rotation: Rotation, now: NtpDate) -> bool {
    rotation.interval_seconds == 0 || keys.is_fresh(now, 2 * i64::from(rotation.interval_seconds))
}

fn fresh_key(now: NtpDate) -> std::io::Result<CookieKey> {
    let mut octets = Zeroizing::new([0; 32]);
    chime_sys::random::fill(&mut octets[..])?;
    let mut id = [0; 4];
    chime_sys::random::fill(&mut id)?;
    Ok(CookieKey::new(u32::from_be_bytes(id), *octets, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::{Config, SavedAssociation, SourceConfig};
    use chime_nts::{AeadAlgorithm, AeadKey, Cookie, NtsKeys};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    const CREATED: NtpDate = NtpDate::from_unix(1_795_000_000, 0);
    const ROTATION: Rotation = Rotation { interval_seconds: 86_400, keep: 7 };

    /// A keeper with a ring of one key, and what it publishes.
    fn keeper(directory: &TempDir) -> (StateKeeper, Arc<Shared>) {
        let shared = Arc::new(Shared::unsynchronized(-20));
        let store = Store::open(directory.path(), None);
        let mut keeper = StateKeeper::new(Some(store), shared.clone(), MonoTime::ZERO);
        keeper.open_key_ring(ROTATION, CREATED).expect("there is randomness");
        (keeper, shared)
    }

    fn published(shared: &Shared) -> u32 {
        shared.keys.load().as_ref().expect("keys are published").current_id()
    }

    fn on_disk(directory: &TempDir) -> Option<u32> {
        let mut store = Store::open(directory.path(), None);
        store.load(StateFile::CookieKeys, KeyRing::decode).map(|ring| ring.current_id())
    }

    #[test]
    fn a_ring_that_could_not_be_written_is_never_written_later() {
        let directory = TempDir::new().expect("a folder");
        let (mut keeper, shared) = keeper(&directory);
        let first = published(&shared);
        // Nothing can be made where a folder that is not empty has the temporary name; permissions do not stop root.
        let obstacle = directory.path().join("cookie-keys.new");
        fs::create_dir_all(obstacle.join("x")).expect("it can be made");
        keeper.rotate_if_due(CREATED + chime_time::NtpDuration::from_seconds(90_000));
        assert_eq!(published(&shared), first, "a key that a crash would lose is not used");
        fs::remove_dir_all(&obstacle).expect("it can be removed");
        assert!(keeper.store.as_mut().is_some_and(Store::retry));
        assert_eq!(on_disk(&directory), Some(first));
    }

    #[test]
    fn keys_in_use_survive_a_damaged_copy_from_outside() {
        let directory = TempDir::new().expect("a folder");
        let (mut keeper, shared) = keeper(&directory);
        let first = published(&shared);
        let path = directory.path().join("cookie-keys");
        fs::write(&path, "half a fi").expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        keeper.reload_key_ring(CREATED);
        assert_eq!((published(&shared), on_disk(&directory)), (first, Some(first)));
        assert!(directory.path().join("cookie-keys.damaged-1").exists());
    }

    const NTS_SOURCE: &str = "nts.example";
    const START: ClockReading = ClockReading { mono: MonoTime::ZERO, system: CREATED };

    fn engine() -> Engine {
        Engine::new(
            Config { sources: vec![SourceConfig::nts(NTS_SOURCE)], ..Config::default() },
            [7; 32],
            START,
        )
    }

    /// Leaves what a daemon with so many cookies leaves at its end.
    fn leave_cookies(directory: &TempDir, count: u8) {
        let key = |octet| AeadKey::new(AeadAlgorithm::AesSivCmac256, &[octet; 32]).expect("32 octets");
        let saved = SavedAssociation {
            name: NTS_SOURCE.to_owned(),
            ke_port: 4460,
            trust: 0,
            ke_address: None,
            remote: "192.0.2.1:123".parse().expect("an address"),
            keys: NtsKeys { c2s: key(1), s2c: key(2) },
            cookies: (0..count).map(|octet| Cookie::new(&[octet; 100]).expect("a cookie")).collect(),
            established_unix_seconds: CREATED.unix_seconds(),
            establishments: 1,
            certificate: None,
        };
        let mut store = Store::open(directory.path(), None);
        assert!(store.save(StateFile::Associations, &encode_nts_state(&[saved])));
    }

    fn cookies_of(saved: &[SavedAssociation]) -> Vec<u8> {
        saved.iter().flat_map(|saved| &saved.cookies).map(|cookie| cookie.as_bytes()[0]).collect()
    }

    fn cookies_on_disk(directory: &TempDir) -> Option<Vec<u8>> {
        let octets = fs::read(directory.path().join("associations")).ok()?;
        Some(cookies_of(&decode_nts_state(&octets).expect("it is whole")))
    }

    fn start(directory: &TempDir, engine: &mut Engine) -> StateKeeper {
        let shared = Arc::new(Shared::unsynchronized(-20));
        let mut keeper = StateKeeper::new(Some(Store::open(directory.path(), None)), shared, MonoTime::ZERO);
        keeper.restore_nts_state(engine, MonoTime::ZERO);
        keeper
    }

    /// Lets the keeper do what is due at `seconds`, and the disk do it.
    fn tend(keeper: &mut StateKeeper, engine: &mut Engine, seconds: f64) {
        let now = ClockReading { mono: MonoTime::ZERO.add_secs_f64(seconds), system: CREATED };
        keeper.tend(engine, now);
        while keeper.writer.as_ref().is_some_and(StoreWriter::is_behind) {
            std::thread::yield_now();
        }
        keeper.tend(engine, now);
    }

    #[test]
    fn cookies_are_taken_off_the_disk_before_they_are_used() {
        let directory = TempDir::new().expect("a folder");
        leave_cookies(&directory, 8);
        let mut first = engine();
        let keeper = start(&directory, &mut first);
        assert_eq!((cookies_of(&first.nts_state()).len(), cookies_on_disk(&directory)), (8, None));
        // It crashes before anything is written.
        drop(keeper);
        let mut second = engine();
        start(&directory, &mut second);
        assert_eq!(second.nts_state(), []);
    }

    #[test]
    fn what_a_crash_leaves_was_set_aside() {
        let directory = TempDir::new().expect("a folder");
        leave_cookies(&directory, 8);
        let mut engine = engine();
        let mut keeper = start(&directory, &mut engine);
        for (seconds, left) in [(2.0, [6, 7]), (3602.0, [4, 5]), (7202.0, [2, 3])] {
            keeper.nts_state_changed(MonoTime::ZERO.add_secs_f64(seconds - 1.0));
            tend(&mut keeper, &mut engine, seconds);
            assert_eq!(cookies_on_disk(&directory), Some(left.to_vec()));
        }
        // Those of the two files before are in use again.
        assert_eq!(cookies_of(&engine.set_nts_state_aside()), [0, 1]);
        keeper.save_at_end(&engine, START);
        assert_eq!(
            cookies_on_disk(&directory).map(|left| left.len()),
            Some(8),
            "nothing is sent after the end"
        );
    }

    #[test]
    fn cookies_that_cannot_be_taken_off_the_disk_are_not_used() {
        let directory = TempDir::new().expect("a folder");
        leave_cookies(&directory, 8);
        let other = Store::open(directory.path(), None);
        let mut engine = engine();
        start(&directory, &mut engine);
        assert_eq!(
            (engine.nts_state().len(), cookies_on_disk(&directory).map(|left| left.len())),
            (0, Some(8))
        );
        drop(other);
    }

    #[test]
    fn while_nothing_can_be_written_the_cookies_of_one_file_are_out_of_use() {
        let directory = TempDir::new().expect("a folder");
        leave_cookies(&directory, 8);
        let mut engine = engine();
        let mut keeper = start(&directory, &mut engine);
        let obstacle = directory.path().join("associations.new");
        fs::create_dir_all(obstacle.join("x")).expect("it can be made");
        for hour in 0..24 {
            let seconds = f64::from(hour) * 3600.0;
            keeper.nts_state_changed(MonoTime::ZERO.add_secs_f64(seconds));
            let now = ClockReading { mono: MonoTime::ZERO.add_secs_f64(seconds + 2.0), system: CREATED };
            keeper.tend(&mut engine, now);
            assert!(keeper.poll_timeout().is_none_or(|due| due > now.mono), "nothing spins");
        }
        fs::remove_dir_all(&obstacle).expect("it can be removed");
        keeper.writer.take().expect("it was started").retry();
        assert_eq!(cookies_on_disk(&directory), Some(vec![6, 7]));
        assert_eq!(cookies_of(&engine.nts_state()).len(), 8);
    }

    #[test]
    fn the_way_back_is_open_while_the_keys_of_the_other_program_are_fresh() {
        use chime_config::{CookieKeyFile, CookieKeyFormat};
        let directory = TempDir::new().expect("a folder");
        let path = directory.path().join("nts-keys");
        let made = CREATED.unix_seconds() - 1000;
        let text = format!("T: {made}\nL: 32\nI: 7\nK: {}\n", "5a".repeat(32));
        fs::write(&path, &text).expect("it can be written");
        let mut model = chime_config::Model::default();
        model.predecessor.cookie_keys =
            Some(CookieKeyFile { path: path.clone(), format: CookieKeyFormat::Ntpsec });
        assert!(PredecessorKeysFile::of(&model, false).is_none(), "nobody is served");
        model.servers.push(chime_config::NtpServer::new(([127, 0, 0, 1], 123).into()));
        let file = PredecessorKeysFile::of(&model, false).expect("it is configured");

        let shared = Arc::new(Shared::unsynchronized(-20));
        let mut keeper = StateKeeper::new(None, shared.clone(), MonoTime::ZERO);
        keeper.inherit(file.read(), Some(file));
        keeper.open_key_ring(ROTATION, NtpDate::from_unix(0, 0)).expect("there is randomness");
        let is_open = || shared.keys.load().as_ref().is_some_and(|ring| ring.keeps_way_back());
        assert!(!is_open(), "in 1970 nobody knows how old they are");
        for (age, open) in [(1000, true), (2 * 86_400, true), (2 * 86_400 + 1, false), (999, true)] {
            keeper.tend_way_back(NtpDate::from_unix(made + age, 0));
            assert_eq!(is_open(), open, "after {age} s");
        }
        assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
    }

    #[test]
    fn names_that_servers_think_up_are_bounded() {
        let mut keeper = StateKeeper::new(None, Arc::new(Shared::unsynchronized(-20)), MonoTime::ZERO);
        for number in 0..2 * NAMES_MAX {
            keeper.remember_addresses(
                &format!("n{number}.example"),
                &["192.0.2.1".parse().expect("an address")],
            );
        }
        assert_eq!(keeper.names.len(), NAMES_MAX);
        let address = ["192.0.2.2".parse().expect("an address")];
        keeper.remember_addresses("n0.example", &address);
        assert_eq!(keeper.addresses_of("n0.example"), Some(&address[..]), "known ones are kept up to date");
    }
}
