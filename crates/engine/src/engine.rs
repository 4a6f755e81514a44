//! The engine as the shell sees it. (The inside is being filled in: the signatures are final.)

use crate::{
    Config, EngineReport, Event, Input, Request, SavedAssociation, SavedClock, SourceMatch, Transmit,
};
use chime_discipline::{ClockCommand, Discipline};
use chime_nts::{Cookie, NtsKeys};
use chime_time::{ClockReading, MonoTime};

/// What a key establishment gave. (To be replaced by the type of the same name in `chime-ke`.)
#[derive(Clone, Debug)]
pub struct KeOutcome {
    /// The keys.
    pub keys: NtsKeys,
    /// The other key set of AEAD 30.
    pub alternative_keys: Option<NtsKeys>,
    /// The cookies, 1 to 8.
    pub cookies: Vec<Cookie>,
    /// The negotiated NTP server.
    pub ntp_server: Option<String>,
    /// The negotiated NTP port.
    pub ntp_port: Option<u16>,
    /// First second of validity; Unix seconds.
    pub certificate_not_before: i64,
    /// Last second of validity; Unix seconds.
    pub certificate_not_after: i64,
}

/// All associations, and the discipline that they feed.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    discipline: Discipline,
}

impl Engine {
    /// Starts. `seed` feeds all randomness.
    #[must_use]
    pub fn new(config: Config, _seed: [u8; 32], now: ClockReading) -> Self {
        let discipline = Discipline::new(config.discipline, config.saved_frequency, now.mono);
        Self { config, discipline }
    }

    /// Tells one fact about the world. Every queue may have changed afterwards.
    pub fn handle_input(&mut self, _now: MonoTime, _input: Input<'_>) {}

    /// Does what is due. Early or repeated calls are harmless; each call makes progress.
    pub fn handle_timeout(&mut self, _now: MonoTime) {}

    /// A datagram to send; may change after each `handle_*`.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// Something to do that takes a while; may change after each `handle_*`.
    pub fn poll_request(&mut self) -> Option<Request> {
        None
    }

    /// What to do with the clock; may change after each `handle_*`. Answered by [`Input::ClockApplied`].
    pub fn poll_clock(&mut self) -> Option<ClockCommand> {
        self.discipline.poll_command()
    }

    /// What happened; may change after each `handle_*`.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When to call [`Engine::handle_timeout`] next; may change after each `handle_*`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.discipline.poll_timeout()
    }

    /// What reports show.
    #[must_use]
    pub fn report(&self, _now: ClockReading) -> EngineReport {
        EngineReport::default()
    }

    /// The discipline, for what the server serves.
    #[must_use]
    pub const fn discipline(&self) -> &Discipline {
        &self.discipline
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// How many associations and wanted associations a command would be about; 0 = no such source.
    #[must_use]
    pub fn count_matching(&self, _matching: &SourceMatch) -> usize {
        0
    }

    /// The NTS state of all associations, for [`crate::encode_nts_state`].
    #[must_use]
    pub fn nts_state(&self) -> Vec<SavedAssociation> {
        Vec::new()
    }

    /// Takes NTS state from before a restart, so that no key establishment is needed; call before the first
    /// `handle_*`. Gives how many associations were restored.
    pub fn restore_nts_state(&mut self, _now: MonoTime, _saved: Vec<SavedAssociation>) -> usize {
        0
    }

    /// What was learnt about the clock, for [`crate::encode_clock`].
    #[must_use]
    pub fn clock_state(&self) -> SavedClock {
        SavedClock::default()
    }
}
