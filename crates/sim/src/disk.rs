//! The client's state directory: what survives a crash.

use chime_discipline::SavedFrequency;
use chime_engine::{
    ClockIdentity, Config, Engine, SavedAssociation, SavedSamples, decode_clock, decode_nts_state,
    encode_clock, encode_nts_state,
};

/// How often the daemon writes what it learnt about the clock, seconds; the first time sooner.
const CLOCK_SECONDS: f64 = 600.0;
/// When it first does, seconds after its start.
const CLOCK_FIRST_SECONDS: f64 = 60.0;

/// Files as the daemon replaces them: as a whole, or not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    nts: Option<Vec<u8>>,
    clock: Option<Vec<u8>>,
    samples: Option<(ClockIdentity, Vec<SavedSamples>)>,
    clock_due: f64,
    /// Whether writing fails.
    pub(crate) full: bool,
    /// How often it failed.
    pub(crate) failures: u64,
}

impl Disk {
    /// The daemon starts at `time`, seconds after the start of the world.
    pub(crate) fn daemon_starts(&mut self, time: f64) {
        self.clock_due = time + CLOCK_FIRST_SECONDS;
    }

    /// Writes the NTS state for the time after a crash.
    pub(crate) fn save_nts(&mut self, engine: &mut Engine) {
        if self.can_write() {
            self.nts = Some(encode_nts_state(&engine.set_nts_state_aside()).to_vec());
            engine.nts_state_saved();
        }
    }

    /// Writes what was learnt about the clock when that is due.
    pub(crate) fn tend(&mut self, engine: &Engine, time: f64) {
        if time >= self.clock_due {
            self.clock_due = time + CLOCK_SECONDS;
            self.save_clock(engine);
        }
    }

    /// The daemon ends in order, and leaves this clock: it writes everything.
    pub(crate) fn daemon_ends(&mut self, engine: &Engine, left: ClockIdentity) {
        if self.can_write() {
            self.nts = Some(encode_nts_state(&engine.nts_state()).to_vec());
        }
        self.save_clock(engine);
        if self.can_write() {
            let samples = engine.samples(left.now.mono);
            self.samples = Some((left, samples));
        }
    }

    fn save_clock(&mut self, engine: &Engine) {
        if self.can_write() {
            self.clock = Some(encode_clock(&engine.clock_state()));
        }
    }

    /// The configuration of a daemon that starts with these files, and the NTS state for it, which no later
    /// daemon finds; or none when that cannot be seen to.
    pub(crate) fn load(&mut self, mut config: Config) -> (Config, Vec<SavedAssociation>) {
        if let Some(clock) = self.clock.as_deref().and_then(|octets| decode_clock(octets).ok()) {
            config.saved_frequency =
                clock.frequency.map(|(frequency, skew)| SavedFrequency { frequency, skew });
            config.known_time.last_good_unix_seconds = clock.last_good_unix_seconds;
        }
        let nts = if self.full { None } else { self.nts.take() };
        let nts = nts.and_then(|octets| decode_nts_state(&octets).ok());
        (config, nts.unwrap_or_default())
    }

    /// Gives a daemon that starts with this clock the samples of the one before, as long as they mean anything.
    pub(crate) fn restore_samples(&self, engine: &mut Engine, now: &ClockIdentity) {
        if let Some((before, samples)) = self.samples.clone() {
            // Of another clock they are worth nothing.
            let _taken = engine.take_over_samples(now, &before, samples);
        }
    }

    fn can_write(&mut self) -> bool {
        self.failures += u64::from(self.full);
        !self.full
    }
}
