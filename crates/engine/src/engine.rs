//! The engine as the shell sees it: the methods, the queues, and who handles what.

use crate::association::Association;
use crate::frequency_transfer::OwnScale;
use crate::random::Random;
use crate::reference_clock::ReferenceClock;
use crate::sample_history::SavedSamples;
use crate::source::Source;
use crate::timers::{Timer, Timers, WAIT_SECONDS_MIN};
use crate::{
    Config, DiscardCounters, Event, ExchangeId, Input, Request, SavedClock, SourceKey, TimestampSource,
    Timestamped, Transmit,
};
use chime_discipline::{ClockCommand, ClockFailure, Discipline, DisciplineEvent, SourceId};
use chime_server::MonotonicScale;
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration};
use std::collections::VecDeque;

/// The most events that wait to be fetched; older ones are dropped. A shell that drains after each call never sees that.
const EVENTS_MAX: usize = 4096;
/// A reading of the system clock that differs by more from what the last one leads to is from before a step.
const READING_DIFFERENCE_MAX: NtpDuration = NtpDuration::from_bits(1 << 31);
/// Changes of the network closer together than this are one; seconds.
const NETWORK_SETTLES_SECONDS: f64 = 10.0;
/// How long changes of keys and cookies collect before the shell is asked to save them; seconds.
const SAVE_SECONDS: f64 = 5.0;
/// The same for cookies alone, which change with each answer; seconds. Flash memory wears out.
const SAVE_LATER_SECONDS: f64 = 3600.0;

/// All associations, and the discipline that they feed.
///
/// ```
/// use chime_engine::{Config, Engine, Request, SourceConfig};
/// use chime_time::{ClockReading, MonoTime, NtpDate};
///
/// let config = Config { sources: vec![SourceConfig::server("ntp.example.net")], ..Config::default() };
/// let now = ClockReading { mono: MonoTime::ZERO, system: NtpDate::from_unix(1_795_187_154, 0) };
/// let mut engine = Engine::new(config, [7; 32], now);
/// engine.handle_timeout(engine.poll_timeout().expect("there is a name to look up"));
/// assert!(matches!(engine.poll_request(), Some(Request::Resolve { .. })));
/// ```
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) sources: Vec<Source>,
    pub(crate) associations: Vec<Association>,
    pub(crate) reference_clocks: Vec<ReferenceClock>,
    /// Samples of an earlier run, of sources that are not found yet.
    pub(crate) waiting_samples: Vec<SavedSamples>,
    pub(crate) discipline: Discipline,
    pub(crate) timers: Timers,
    pub(crate) random: Random,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) requests: VecDeque<Request>,
    pub(crate) events: VecDeque<Event>,
    /// The last reading of both clocks, moved along when the system clock is stepped.
    pub(crate) clock: ClockReading,
    /// When certificates' first claims came; see `certificate_dates`.
    pub(crate) first_claim_at: Option<MonoTime>,
    /// Whether enough sources spoke, so that samples of provisional associations count.
    pub(crate) claims_settled: bool,
    /// Our time without corrections of phase.
    pub(crate) scale: OwnScale,
    pub(crate) last_good_unix: Option<i64>,
    pub(crate) stray_discards: DiscardCounters,
    pub(crate) network_changed_at: Option<MonoTime>,
    /// What the discipline waits for rings no sooner, so that no mistake can make the loop spin.
    not_before: MonoTime,
    /// When the latest request left.
    pub(crate) asked_at: Option<MonoTime>,
    pub(crate) next_source: u32,
    /// Places of all sources so far, for the numbers of those without an address.
    pub(crate) places: u32,
    pub(crate) next_association: u32,
    pub(crate) next_number: u64,
}

impl Engine {
    /// Starts with all sources that are configured online. `seed` feeds all randomness.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32], now: ClockReading) -> Self {
        let discipline = Discipline::new(config.discipline, config.saved_frequency, now.mono);
        let mut engine = Self {
            sources: Vec::new(),
            associations: Vec::new(),
            reference_clocks: Vec::new(),
            waiting_samples: Vec::new(),
            discipline,
            timers: Timers::default(),
            random: Random::new(seed),
            transmits: VecDeque::new(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
            clock: now,
            first_claim_at: None,
            claims_settled: false,
            scale: OwnScale::begun_at(now.system),
            last_good_unix: None,
            stray_discards: DiscardCounters::default(),
            network_changed_at: None,
            not_before: MonoTime::ZERO,
            asked_at: None,
            next_source: 0,
            places: 0,
            next_association: 0,
            next_number: 0,
            config,
        };
        engine.add_reference_clocks(now.mono);
        for source in engine.config.sources.clone() {
            engine.add_source(now.mono, source);
        }
        engine
    }

    /// Tells one fact about the world. Every queue and the deadline may have changed afterwards.
    pub fn handle_input(&mut self, now: MonoTime, input: Input<'_>) {
        let before = self.discipline.correction_left(now);
        self.take_input(now, input);
        self.after_discipline(now);
        self.settle_scale(now, before);
    }

    fn take_input(&mut self, now: MonoTime, input: Input<'_>) {
        match input {
            Input::Datagram { exchange, from, local, received, path, octets } => {
                self.note_reading(&received);
                self.handle_datagram(
                    now,
                    exchange,
                    &crate::answer::Datagram { from, local, received, path, octets },
                );
            }
            Input::Transmitted { token, sent } => self.handle_transmitted(now, token.exchange(), sent),
            Input::TransmitTimestamp { exchange, sent } => {
                self.handle_transmit_timestamp(now, exchange, sent)
            }
            Input::ExchangeFailed { exchange, failure } => self.handle_exchange_failed(exchange, failure),
            Input::ClockApplied { result } => self.handle_clock_applied(now, result),
            Input::Resolved { lookup, result } => self.handle_resolved(now, lookup, result),
            Input::KeFinished { establishment, address, result } => {
                self.handle_ke_finished(now, establishment, address, result);
            }
            Input::ReferenceClock { clock, now, readings, polled } => {
                self.handle_readings(now, clock, readings, polled);
            }
            Input::Control(command) => self.handle_command(now, command),
            Input::NetworkChanged => self.network_changed(now),
            Input::ClockStepped { by } => self.handle_clock_stepped(now, by),
            Input::LeapTable(table) => self.discipline.set_leap_table(table),
            Input::Suspended { slept } => {
                self.system_clock_moved(now, slept);
                self.scale.break_off();
                self.discipline.suspended(now, slept);
                self.handle_network_changed(now);
            }
            Input::ClockAdjusted { frequency, slew, since } => {
                if self.discipline.clock_adjusted_externally(now, frequency, slew, since) {
                    self.restart_polling(now);
                }
            }
        }
    }

    /// Does what is due. Early or repeated calls are harmless; each call at or after [`Engine::poll_timeout`] emits
    /// something or moves the deadline forward.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        let before = self.discipline.correction_left(now);
        for timer in self.timers.take_due(now) {
            match timer {
                Timer::ExchangeDeadline(id) => self.exchange_deadline(now, id),
                Timer::ReferenceClock(id) => self.read_reference_clock(now, id),
                Timer::Poll(id) => self.poll(now, id),
                Timer::Resolve(key) => self.resolve_due(now, key),
                Timer::Establish(key) => self.drive_source(now, key),
                Timer::EstablishmentOverdue(key) => self.establishment_overdue(now, key),
                Timer::NetworkSettles => self.handle_network_changed(now),
                Timer::Save => self.requests.push_back(Request::SaveState),
            }
        }
        if self.discipline.poll_timeout().is_some_and(|at| at <= now) {
            self.discipline.update(now);
        }
        self.after_discipline(now);
        self.settle_scale(now, before);
        self.timers.defer_due(now);
        self.not_before = now.add_secs_f64(WAIT_SECONDS_MIN);
    }

    /// A datagram to send; may change after each `handle_*`.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Something to do that takes a while; may change after each `handle_*`.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// What to do with the clock; may change after each `handle_*`. Answered by [`Input::ClockApplied`].
    pub fn poll_clock(&mut self) -> Option<ClockCommand> {
        self.discipline.poll_command()
    }

    /// What happened; may change after each `handle_*`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Engine::handle_timeout`] next, `None` = not before some input; may change after each `handle_*`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let discipline = self.discipline.poll_timeout().map(|at| at.max(self.not_before));
        [self.timers.next(), discipline].into_iter().flatten().min()
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

    /// What was learnt about the clock, for [`crate::encode_clock`].
    #[must_use]
    pub fn clock_state(&self) -> SavedClock {
        let frequency = self.discipline.frequency_to_save();
        let known = self.config.known_time.last_good_unix_seconds;
        SavedClock {
            frequency: frequency.map(|saved| (saved.frequency, saved.skew)),
            last_good_unix_seconds: self.last_good_unix.max(known),
        }
    }

    /// Our time scale without corrections of phase, for servers.
    #[must_use]
    pub const fn scale(&self) -> MonotonicScale {
        MonotonicScale { offset: self.scale.offset, epoch: self.scale.epoch }
    }

    /// Whatever moved our best time at this instant was a correction of it; `before`: what was left to correct before.
    fn settle_scale(&mut self, now: MonoTime, before: f64) {
        self.scale.note(self.discipline.correction_left(now) - before);
        self.scale.settle();
    }

    /// Our system clock's date at `now`, as far as it follows from the last reading.
    pub(crate) fn system_date(&self, now: MonoTime) -> NtpDate {
        self.clock.system + NtpDuration::from_secs_f64(now.seconds_since(self.clock.mono))
    }

    pub(crate) fn event(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(crate) const fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// There are new keys: worth writing soon.
    pub(crate) fn save_soon(&mut self, now: MonoTime) {
        self.timers.set_no_later(Timer::Save, now.add_secs_f64(SAVE_SECONDS));
    }

    /// Cookies changed, as they do with each answer: now and then fresh ones are set aside, as a server forgets its keys.
    pub(crate) fn save_later(&mut self, now: MonoTime) {
        self.timers.set_no_later(Timer::Save, now.add_secs_f64(SAVE_LATER_SECONDS));
    }

    pub(crate) fn source_index(&self, key: SourceKey) -> Option<usize> {
        self.sources.iter().position(|source| source.key == key)
    }

    pub(crate) fn association_index(&self, id: SourceId) -> Option<usize> {
        self.associations.iter().position(|association| association.id == id)
    }

    pub(crate) fn exchange_owner(&self, exchange: ExchangeId) -> Option<usize> {
        self.associations.iter().position(|association| {
            association.exchange.as_ref().is_some_and(|open| open.id == exchange)
                || association.peer.is_some_and(|peer| peer.socket == exchange)
        })
    }

    /// Interfaces come up in several steps, and a bad cable changes the network all the time: the first change counts at
    /// once, those that follow it closely count once, together.
    fn network_changed(&mut self, now: MonoTime) {
        let settles = self.network_changed_at.map(|at| at.add_secs_f64(NETWORK_SETTLES_SECONDS));
        if let Some(settles) = settles.filter(|settles| *settles > now) {
            self.timers.set(Timer::NetworkSettles, settles);
        } else {
            self.handle_network_changed(now);
        }
    }

    /// Somebody else stepped the clock: the kernel, at a leap second, and then all samples stay; or whoever it was.
    fn handle_clock_stepped(&mut self, now: MonoTime, by: NtpDuration) {
        let without = ClockReading { mono: now, system: self.system_date(now) };
        let is_leap_second = self.discipline.is_leap_second(without, by.as_secs_f64());
        self.system_clock_moved(now, by);
        if !is_leap_second {
            self.scale.break_off();
            self.discipline.clock_stepped_externally(now, by);
            self.restart_polling(now);
        }
    }

    fn handle_clock_applied(&mut self, now: MonoTime, result: Result<ClockCommand, ClockFailure>) {
        if let Ok(ClockCommand::Step { by }) = result {
            self.system_clock_moved(now, by);
            self.scale.note(by.as_secs_f64());
        }
        self.discipline.command_applied(now, result);
    }

    /// Keeps the last reading of both clocks. A stamp of the kernel's that lay in a socket while the clock was stepped is
    /// of the clock as it was before, and is not taken for a reading of the clock as it is.
    pub(crate) fn note_reading(&mut self, stamp: &Timestamped) {
        let expected = self.system_date(stamp.at.mono);
        let is_plausible = (stamp.at.system - expected).abs() < READING_DIFFERENCE_MAX;
        if stamp.source == TimestampSource::Daemon || is_plausible {
            self.clock = stamp.at;
        }
    }

    /// The system clock was stepped: what was read from it before is moved along. Answers to requests under way make no
    /// samples, as nobody knows which side of the step their stamps are from.
    fn system_clock_moved(&mut self, now: MonoTime, by: NtpDuration) {
        self.reference_clocks.iter_mut().for_each(|clock| clock.forget(now));
        self.clock.system = self.clock.system + by;
        for association in &mut self.associations {
            if let Some(exchange) = &mut association.exchange {
                exchange.disturbed = true;
            }
            association.completed = None;
            association.median.clear();
            if let Some(peer) = &mut association.peer {
                peer.forget();
            }
            if let Some(claim) = &mut association.claim {
                claim.offset -= by.as_secs_f64();
            }
        }
    }

    /// Fetches what the discipline has to say, and draws conclusions.
    pub(crate) fn after_discipline(&mut self, now: MonoTime) {
        self.discipline.tend_leap_seconds(ClockReading { mono: now, system: self.system_date(now) });
        while let Some(event) = self.discipline.poll_event() {
            let is_undecided = matches!(event, DisciplineEvent::NoMajority { .. });
            self.event(Event::Discipline(event));
            if is_undecided {
                self.ask_those_not_heard_lately(now);
            }
        }
        self.note_trusted_time(now);
        self.announce_unauthenticated(now);
    }
}
