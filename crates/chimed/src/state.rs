//! What outlives the process, and when it is written: cookie keys, NTS state, drift, the last good time.

use crate::cookie_ring::{CookieRing, Rotation};
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
use chime_nts::PredecessorKeys;
use chime_time::{ClockReading, MonoTime, NtpDate};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};
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

/// The keeper of the state directory.
pub struct StateKeeper {
    store: Option<Store>,
    /// Writes what may be written late; started with the first of that, when privileges are given up already.
    writer: Option<StoreWriter>,
    ring: CookieRing,
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
            ring: CookieRing::new(shared),
            names: BTreeMap::new(),
            names_changed: false,
            keeps_samples: false,
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

    /// Loads the cookie keys, or makes the first one, and publishes them; beside them those of another program, and where they are.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn open_key_ring(
        &mut self,
        rotation: Rotation,
        inherited: (Option<Arc<PredecessorKeys>>, Option<PredecessorKeysFile>),
        now: NtpDate,
    ) -> std::io::Result<()> {
        self.ring.open(self.store.as_mut(), rotation, inherited, now)?;
        self.retry_due.get_or_insert(MonoTime::ZERO);
        self.log_reports();
        Ok(())
    }

    /// Reads the cookie keys again, as when a fleet copies them to all of its servers.
    pub fn reload_key_ring(&mut self, now: NtpDate) {
        self.ring.reload(self.store.as_mut(), now);
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
                self.ring.tend(self.store.as_mut(), now.system);
            }
            self.retry_due = None;
            if self.ring.is_open() || self.is_behind() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::{Config, SavedAssociation, SourceConfig};
    use chime_nts::{AeadAlgorithm, AeadKey, Cookie, NtsKeys};
    use std::fs;
    use tempfile::TempDir;

    const CREATED: NtpDate = NtpDate::from_unix(1_795_000_000, 0);

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
