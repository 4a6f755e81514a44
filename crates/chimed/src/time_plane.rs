//! The time plane: one thread, one owner of all timekeeping state, one loop around poll(2).
//!
//! Carries facts to the engine and wishes from it: datagrams, key establishments, lookups, the clock, the disk. Decides
//! nothing about time. After each change it publishes what the other planes read; nobody locks it.

mod orders;
mod parts;
mod rereading;
mod waiting;

pub use orders::{PlaneCommand, Tell, TypedTime};
pub use parts::{Inline, InlineDesks, KeptSources, Parts, Read, ReadAgain, Reload, Reloaded, ViewOfLoop};

use crate::broadcasts::Broadcasts;
use crate::card_clocks::CardClocks;
use crate::chronyd::shell::ChronyShell;
use crate::clock_shell::ClockShell;
use crate::event_log::EventLog;
use crate::exchanges::Exchanges;
use crate::ke_client::KeClients;
use crate::leap_table::LeapTables;
use crate::ntpd::shell::NtpdShell;
use crate::publish::{Beside, Publisher};
use crate::reference_clocks::ReferenceClocks;
use crate::state::StateKeeper;
use crate::trust::Trusts;
use chime_discipline::{ClockCommand, DisciplineEvent};
use chime_engine::{
    AddressFamily, Command, Engine, EngineReport, Event, Input, LookupId, Reading, ReferenceClockId, Request,
    SourceConfig,
};
use chime_sys::clock_watch::ClockWatch;
use chime_sys::network::NetworkMonitor;
use chime_sys::poll::{PollSet, WakeReceiver};
use chime_sys::resolver::{Family, Resolver};
use chime_sys::{clock, signals};
use chime_time::{ClockReading, Frequency, MonoTime};
use rereading::Rereading;
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;
use std::time::Duration;
use tracing::{debug, info, warn};
use waiting::Token;

/// What the caller of the loop wants after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Go on, and come back no later than this.
    Continue(Option<MonoTime>),
    /// End the loop.
    Done,
}

/// Why the loop ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// SIGTERM or SIGINT.
    Signal,
    /// More corrections had to be refused than the operator allows.
    GivenUp,
    /// The time limit came.
    Timeout,
    /// The caller has what it wanted.
    Done,
}

/// How often the state is published when nothing happens. What changes with time alone (ages, dispersion, the rest of a
/// slew) is worked out by those who read it. Longer than between two requests at the shortest default interval: what follows
/// from these is published anyway, and nobody is woken for more.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(100);

/// That a request was sent is published with what follows from it, or so long after it. A processor that is busy with
/// telling when the answer comes takes longer to stamp that, in virtual machines by tens of microseconds.
const ANSWER_AWAITED: Duration = Duration::from_millis(500);

/// Everything that the loop owns.
pub struct TimePlane {
    /// The brain.
    pub engine: Engine,
    /// The clock.
    pub clock: ClockShell,
    /// Files.
    pub state: StateKeeper,
    /// What others read.
    pub publisher: Publisher,
    exchanges: Exchanges,
    cards: CardClocks,
    reference_clocks: ReferenceClocks,
    broadcasts: Broadcasts,
    inline: Inline,
    desks: InlineDesks,
    chrony: Option<ChronyShell>,
    ntpd: Option<NtpdShell>,
    alone: bool,
    establishments: KeClients,
    trusts: Trusts,
    source_files: Option<KeptSources>,
    leap_tables: LeapTables,
    resolver: Resolver,
    lookups: BTreeMap<LookupId, String>,
    network: Option<NetworkMonitor>,
    watch: Option<ClockWatch>,
    log: EventLog,
    commands: mpsc::Receiver<PlaneCommand>,
    wake: WakeReceiver,
    reload: Reload,
    rereading: Rereading,
    set: PollSet<Token>,
    next_publish: MonoTime,
    /// By how much the clock is made faster because of the temperature, and because of an even reference clock.
    compensations: [Frequency; 2],
    stopping: bool,
    given_up: bool,
    /// Sources that were added while running.
    added: Vec<SourceConfig>,
}

impl TimePlane {
    /// Puts the plane together; nothing is sent before [`TimePlane::run`].
    ///
    /// # Errors
    /// When the system gives no descriptors.
    pub fn new(
        engine: Engine,
        parts: Parts,
        (commands, wake): (mpsc::Receiver<PlaneCommand>, WakeReceiver),
        reload: Reload,
    ) -> io::Result<Self> {
        let Parts {
            clock,
            state,
            publisher,
            exchanges,
            cards,
            reference_clocks,
            broadcasts,
            trusts,
            source_files,
            leap_tables,
            inline,
            desks,
            chrony,
            ntpd,
            log,
            alone,
        } = parts;
        let set = PollSet::with_timer()?;
        if let Some(timer) = set.timer() {
            signals::wake_by(timer);
        }
        let speaks_chrony = chrony.as_ref().is_some_and(ChronyShell::speaks);
        let network = NetworkMonitor::open()
            .inspect_err(|error| match speaks_chrony {
                true => debug!("changes of the network will not be noticed at once: {error}"),
                false => warn!("changes of the network will not be noticed at once: {error}"),
            })
            .ok();
        let watch = ClockWatch::open()
            .inspect_err(|error| {
                info!("steps by other programs are noticed within a minute, not at once: {error}");
            })
            .ok();
        Ok(Self {
            engine,
            clock,
            state,
            publisher,
            establishments: KeClients::new(exchanges.local().clone()),
            exchanges,
            cards,
            reference_clocks,
            broadcasts,
            inline,
            desks,
            chrony,
            ntpd,
            alone,
            trusts,
            source_files,
            leap_tables,
            resolver: Resolver::new()?,
            lookups: BTreeMap::new(),
            network,
            watch,
            log,
            commands,
            wake,
            reload,
            rereading: Rereading::default(),
            set,
            next_publish: MonoTime::ZERO,
            compensations: [Frequency::ZERO; 2],
            stopping: false,
            given_up: false,
            added: Vec::new(),
        })
    }

    /// Runs until a signal, the deadline, or until `turn` wants no more; it is asked after each change.
    ///
    /// # Errors
    /// When the system cannot wait; nothing else ends the daemon.
    pub fn run(
        &mut self,
        deadline: Option<MonoTime>,
        mut turn: impl FnMut(&Engine, ClockReading) -> Turn,
    ) -> io::Result<Stop> {
        let report = self.ntpd.is_some().then(|| self.report());
        if let (Some(ntpd), Some(report)) = (&mut self.ntpd, report) {
            ntpd.begin(&report);
        }
        loop {
            self.settle();
            let now = clock::read();
            let Turn::Continue(wake_at) = turn(&self.engine, now) else { return Ok(Stop::Done) };
            if deadline.is_some_and(|deadline| now.mono >= deadline) {
                return Ok(Stop::Timeout);
            }
            if self.given_up {
                return Ok(Stop::GivenUp);
            }
            if self.handle_signals() {
                return Ok(Stop::Signal);
            }
            self.wait([deadline, wake_at])?;
        }
    }

    /// Tells the engine something that does not come from the world, and does what it then wants.
    pub fn command(&mut self, command: Command) {
        self.engine.handle_input(clock::mono_now(), Input::Control(command));
        self.settle();
    }

    /// The state of everything, now.
    #[must_use]
    pub fn report(&self) -> EngineReport {
        self.engine.report(clock::read())
    }

    /// Saves what the next run wants to know. Call it once, at the end.
    pub fn save(&mut self) {
        let now = clock::read();
        if let Some(chrony) = &mut self.chrony {
            chrony.finish(&self.engine, now.mono);
        }
        self.state.save_at_end(&self.engine, now);
        // With the clock as it stays.
        self.clock.leave();
        self.state.save_samples(&self.engine);
    }

    /// Carries out everything that the engine wants, until it wants nothing more, and publishes the result.
    fn settle(&mut self) {
        self.look_for_leap_seconds();
        if self.engine.poll_timeout().is_some_and(|at| at <= clock::mono_now()) {
            self.engine.handle_timeout(clock::mono_now());
        }
        let (mut changed, mut asked) = (false, false);
        let mut sampled = false;
        loop {
            // The clock first: what is sent after it carries stamps of the corrected clock.
            let (mut news, mut sent_any) = (self.steer(), false);
            while let Some(transmit) = self.engine.poll_transmit() {
                self.cards.refresh(clock::mono_now());
                let sent = self.exchanges.transmit(transmit);
                self.engine.handle_input(clock::mono_now(), sent);
                sent_any = true;
            }
            while let Some(request) = self.engine.poll_request() {
                self.start(request);
                news = true;
            }
            while let Some(event) = self.engine.poll_event() {
                sampled |= matches!(
                    event,
                    Event::Sampled { .. } | Event::ReferenceClockSampled { .. } | Event::Discipline(_)
                );
                self.note(&event);
                news = true;
            }
            (changed, asked) = (changed | news, asked | sent_any);
            if !news && !sent_any {
                break;
            }
        }
        let now = clock::read();
        if asked {
            self.next_publish = self.next_publish.min(now.mono.saturating_add(ANSWER_AWAITED));
        }
        if let Some(chrony) = &mut self.chrony {
            if changed {
                chrony.settled(&self.engine, now, sampled);
            }
            let frequency = self.clock.commanded();
            changed |= chrony.tend_real_time_clock(&self.engine, (now, frequency), false);
            if let Some(compensation) = chrony.compensation(now) {
                self.compensations[0] = compensation;
                self.compensate();
            }
        }
        if let Some(ntpd) = &mut self.ntpd {
            if changed {
                ntpd.settled(&self.engine, now);
            }
            ntpd.handle_timeout(now);
        }
        self.state.tend(&mut self.engine, now);
        if !changed && now.mono >= self.next_publish && self.clock.steers() {
            // The kernel lets its bound grow by 500 ppm, much faster than ours.
            let _reported_when_it_changes = self.clock.apply(self.engine.discipline().status(now.mono));
        }
        if changed || now.mono >= self.next_publish {
            let beside = Beside {
                leap_table: self.leap_tables.report(),
                real_time_clock: self.chrony.as_ref().and_then(ChronyShell::real_time_clock),
            };
            self.publisher.publish(&self.engine, self.clock.commanded(), now, &beside);
            self.next_publish = now.mono.saturating_add(PUBLISH_INTERVAL);
        }
    }

    /// Reads the list of leap seconds when that is new.
    fn look_for_leap_seconds(&mut self) {
        if let Some(table) = self.leap_tables.look(clock::mono_now()) {
            self.engine.handle_input(clock::mono_now(), Input::LeapTable(table));
            self.next_publish = MonoTime::ZERO;
        }
    }

    /// Does to the clock what the engine wants; gives whether that was anything. Servers hear of it before anything else
    /// is done: until then the corrections in their answers are those of the clock as it was.
    fn steer(&mut self) -> bool {
        let mut steered = false;
        while let Some(command) = self.engine.poll_clock() {
            if matches!(command, ClockCommand::Step { .. }) {
                self.publisher.withdraw_time(&self.engine);
            }
            let before = self.clock.commanded();
            let result = self.clock.apply(command);
            match &result {
                Ok(ClockCommand::Step { by }) => {
                    self.cards.system_stepped(*by);
                    self.reference_clocks.system_stepped(*by);
                }
                Ok(ClockCommand::SetFrequency { .. }) => {
                    let (now, after) = (clock::read(), self.clock.commanded());
                    self.cards.system_frequency_changed(now, before, after);
                    self.reference_clocks.system_frequency_changed(now, before, after);
                }
                Ok(_) | Err(_) => {}
            }
            self.engine.handle_input(clock::mono_now(), Input::ClockApplied { result });
            steered = true;
        }
        if steered {
            let now = clock::read();
            let right = self.engine.discipline().system(now.mono).frequency_ppm;
            self.clock.rest_at(Frequency::from_ppm(right));
            self.publisher.publish_time(&self.engine, self.clock.commanded(), now);
        }
        steered
    }

    fn note(&mut self, event: &Event) {
        if let Event::Discipline(DisciplineEvent::StepRefused(refusal)) = event {
            self.given_up |= refusal.is_last;
        }
        if let Some(chrony) = &mut self.chrony {
            chrony.note(event, &self.engine, clock::read);
            if chrony.speaks() {
                return;
            }
        }
        if self.ntpd.as_mut().is_some_and(|ntpd| ntpd.note(event, &self.engine, clock::read)) {
            return;
        }
        self.log.write(event, clock::mono_now());
    }

    fn start(&mut self, request: Request) {
        if let Some(ntpd) = &mut self.ntpd {
            ntpd.requested(&request, clock::mono_now());
        }
        match request {
            Request::Resolve { lookup, name, family } => {
                let family = match family {
                    AddressFamily::Any => Family::Any,
                    AddressFamily::V4 => Family::V4,
                    AddressFamily::V6 => Family::V6,
                };
                match self.resolver.submit(lookup.0, &name, family) {
                    Ok(()) => drop(self.lookups.insert(lookup, name)),
                    Err(error) => self.lookup_ended(lookup, &name, Err(error)),
                }
            }
            Request::EstablishKeys(wish) => {
                let config = self.trusts.client_config(wish.trust);
                self.establishments.start(wish, config, clock::mono_now());
            }
            Request::CancelEstablishment(establishment) => self.establishments.cancel(establishment),
            Request::CloseExchange(exchange) => self.exchanges.close(exchange),
            Request::ReadReferenceClock(clock) => {
                let readings = self.reference_clocks.read(clock);
                self.write_words(clock);
                self.tell_readings(clock, &readings, true);
            }
            Request::Compensate(pace) => {
                self.compensations[1] = pace;
                self.compensate();
            }
            Request::SaveState => self.state.nts_state_changed(clock::mono_now()),
        }
    }

    /// What the temperature and even reference clocks say about the oscillator, together.
    fn compensate(&mut self) {
        let ppm = self.compensations.iter().map(|compensation| compensation.as_ppm()).sum();
        if let Err(failure) = self.clock.compensate(Frequency::from_ppm(ppm)) {
            warn!("the oscillator could not be compensated: {failure}");
        }
    }

    /// For ntpd's `clockstats`.
    fn write_words(&mut self, clock: ReferenceClockId) {
        if let Some(ntpd) = &mut self.ntpd {
            ntpd.heard(clock, || self.reference_clocks.words(clock), clock::read());
        }
    }

    fn tell_readings(&mut self, clock: ReferenceClockId, readings: &[Reading], polled: bool) {
        let now = clock::read();
        let input = Input::ReferenceClock { clock, now, readings, polled };
        self.engine.handle_input(now.mono, input);
    }
}

/// One line about the clock, for the log.
#[must_use]
pub fn summary(report: &EngineReport) -> String {
    let tracking = &report.tracking;
    if let Some(refused) = tracking.refused_correction_seconds {
        return format!(
            "NOT STEERING: a correction of {refused:+.3} s is refused, {} sources",
            report.sources.len()
        );
    }
    if !tracking.synchronized && tracking.stratum != 0 {
        return format!(
            "serving the local clock as stratum {}, {} sources",
            tracking.stratum,
            report.sources.len()
        );
    }
    if !tracking.synchronized {
        return format!("not synchronised, {} sources", report.sources.len());
    }
    format!(
        "synchronised to {} (stratum {}, {}), correction left {:+.9} s, frequency {:+.3} ppm",
        tracking.name.as_deref().unwrap_or("the local clock"),
        tracking.stratum,
        if tracking.authenticated { "authenticated" } else { "NOT authenticated" },
        tracking.system_offset_seconds,
        tracking.frequency_ppm,
    )
}
