//! The time plane: one thread, one owner of all timekeeping state, one loop around poll(2).
//!
//! Carries facts to the engine and wishes from it: datagrams, key establishments, lookups, the clock, the disk. Decides
//! nothing about time. After each change it publishes what the other planes read; nobody locks it.

use crate::broadcasts::Broadcasts;
use crate::card_clocks::CardClocks;
use crate::chronyd::shell::ChronyShell;
use crate::clock_shell::ClockShell;
use crate::desks::Desk;
use crate::event_log::EventLog;
use crate::exchanges::{ExchangeSocket, Exchanges};
use crate::ke_client::KeClients;
use crate::ke_server::{KeToken, KeWorker};
use crate::leap_table::LeapTables;
use crate::logging;
use crate::ntpd::shell::NtpdShell;
use crate::publish::{Beside, Publisher};
use crate::reference_clocks::ReferenceClocks;
use crate::serving::{InlineToken, InlineWorker};
use crate::source_files::SourceFiles;
use crate::state::StateKeeper;
use crate::trust::Trusts;
use crate::wiring;
use chime_config::{NtsTrust, Source};
use chime_control::Snapshot;
use chime_discipline::{ClockCommand, DisciplineEvent, ManualCorrection};
use chime_engine::{
    AddressFamily, Authentication, Command, Config, Engine, EngineReport, Event, Input, LookupId, Reading,
    ReferenceClockId, Request, ResolveFailure, SourceConfig, SourceMode,
};
use chime_server::ClientRecord;
use chime_sys::clock;
use chime_sys::clock_watch::ClockWatch;
use chime_sys::network::NetworkMonitor;
use chime_sys::poll::{Interest, PollSet, Readiness, Wake, WakeReceiver};
use chime_sys::resolver::{Family, ResolveError, Resolver};
use chime_sys::signals::{self, Signal};
use chime_time::{ClockReading, Frequency, MonoTime, NtpDate};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;
use std::{fmt, io};
use tracing::{debug, error, info, warn};

/// What the control plane asks of the time plane.
#[derive(Debug)]
pub enum PlaneCommand {
    /// Something for the engine.
    Engine(Command),
    /// Read the configuration again, as SIGHUP does.
    Reload,
    /// Add a source, until the configuration is read again.
    AddSource(Box<Source>),
    /// The same, as the engine has it; with NTS it trusts the system's authorities.
    AddConfigured(Box<SourceConfig>),
    /// Read files with sources again, and keep what was added.
    ReloadSources,
    /// Set the clock by a time that was typed in.
    SetTime(TypedTime),
    /// Write what is known of the real-time clock.
    WriteRealTimeClock(Tell),
    /// Set the real-time clock, if it is off by enough.
    TrimRealTimeClock,
    /// Have the smoothing of the served time begin, or serve our time as it is from now on.
    Smooth {
        /// Which of the two.
        begin: bool,
    },
    /// Close log files and open them again.
    CycleLogs,
    /// Write everything that the next run wants to know.
    Save,
    /// End, as SIGTERM does.
    Stop,
}

/// A time that was typed in.
pub struct TypedTime {
    /// The time.
    pub time: NtpDate,
    /// Hears what came of it.
    pub tell: Box<dyn FnOnce(Option<ManualCorrection>) + Send>,
}

impl fmt::Debug for TypedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedTime").field(&self.time).finish()
    }
}

/// Hears whether something could be done.
pub struct Tell(pub Box<dyn FnOnce(bool) + Send>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

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

/// What a configuration that was read again changes.
pub struct Reloaded {
    /// For the engine.
    pub engine: Config,
    /// Whom its sources trust.
    pub trusts: Trusts,
    /// Where leap seconds are known from, and how they are served.
    pub leap_seconds: chime_config::LeapSeconds,
    /// Files with sources, if the configuration has any.
    pub source_files: Option<KeptSources>,
}

/// Reads the configuration again; `None` when that failed and the old one stays.
pub type Reload = Box<dyn FnMut() -> Option<Reloaded>>;

/// Files with sources that can be read again by themselves, and what they said last.
pub struct KeptSources {
    /// The files.
    pub files: SourceFiles,
    /// Their sources.
    pub sources: Vec<Source>,
}

/// What the plane is made of beside the engine.
pub struct Parts {
    /// The clock.
    pub clock: ClockShell,
    /// Files.
    pub state: StateKeeper,
    /// What others read.
    pub publisher: Publisher,
    /// Sockets.
    pub exchanges: Exchanges,
    /// Network cards that stamp packets.
    pub cards: CardClocks,
    /// Devices of reference clocks.
    pub reference_clocks: ReferenceClocks,
    /// What is sent without being asked for.
    pub broadcasts: Broadcasts,
    /// Whom the sources trust.
    pub trusts: Trusts,
    /// Files with sources, if the configuration has any.
    pub source_files: Option<KeptSources>,
    /// The list of leap seconds.
    pub leap_tables: LeapTables,
    /// Servers that have no threads of their own (`threads = "single"`).
    pub inline: Inline,
    /// Protocols that have no thread of their own.
    pub desks: InlineDesks,
    /// What a chrony.conf asks for beside keeping time.
    pub chrony: Option<ChronyShell>,
    /// What an ntp.conf asks for beside keeping time.
    pub ntpd: Option<NtpdShell>,
    /// Whether there is no other thread that could send a command: then none is waited for.
    pub alone: bool,
}

/// Servers that live in this loop.
#[derive(Default)]
pub struct Inline {
    /// The NTP server.
    pub ntp: Option<InlineWorker>,
    /// The NTS key establishment server.
    pub ke: Option<KeWorker>,
}

/// The state; with clients when those of the server that lives in the loop are given.
pub type ViewOfLoop = Box<dyn Fn(Option<&[ClientRecord]>) -> Snapshot + Send>;

/// Protocols of other daemons' tools that live in this loop.
#[derive(Default)]
pub struct InlineDesks {
    /// The protocols.
    pub desks: Vec<Box<dyn Desk>>,
    /// The state; with clients when those of the server that lives in this loop are given.
    pub view: Option<ViewOfLoop>,
}

/// A descriptor of the loop.
#[derive(Clone, Copy, Debug)]
enum Token {
    Exchange(ExchangeSocket),
    Establishment(usize),
    ReferenceClock(ReferenceClockId),
    RealTimeClock,
    Lookups,
    Commands,
    Network,
    ClockSet,
    Ntp(InlineToken),
    Ke(KeToken),
    Desk(usize, usize),
}

/// How often the state is published when nothing happens. What changes with time alone (ages, dispersion, the rest of a
/// slew) is worked out by those who read it.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(64);

/// That a request was sent is published with what follows from it, or so long after it. A processor that is busy with
/// telling when the answer comes takes longer to stamp that, in virtual machines by tens of microseconds.
const ANSWER_AWAITED: Duration = Duration::from_millis(500);

/// Sources added while running that survive when files with sources are read again; the engine takes no more either.
const ADDED_MAX: usize = 256;

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
            log: EventLog::default(),
            commands,
            wake,
            reload,
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
        self.state.save_all(&self.engine, now);
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
        self.state.tend(&self.engine, now);
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
                Ok(ClockCommand::Step { by }) => self.cards.system_stepped(*by),
                Ok(ClockCommand::SetFrequency { .. }) => {
                    self.cards.system_frequency_changed(clock::read(), before, self.clock.commanded());
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
                self.resolver.submit(lookup.0, &name, family);
                self.lookups.insert(lookup, name);
            }
            Request::EstablishKeys(wish) => {
                let config = self.trusts.client_config(wish.trust);
                self.establishments.start(wish, config, clock::mono_now());
            }
            Request::CancelEstablishment(establishment) => self.establishments.cancel(establishment),
            Request::CloseExchange(exchange) => self.exchanges.close(exchange),
            Request::ReadReferenceClock(clock) => {
                let readings = self.reference_clocks.read(clock);
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

    fn tell_readings(&mut self, clock: ReferenceClockId, readings: &[Reading], polled: bool) {
        let now = clock::read();
        let input = Input::ReferenceClock { clock, now, readings, polled };
        self.engine.handle_input(now.mono, input);
    }

    /// Waits for something to happen and tells the engine what did.
    fn wait(&mut self, deadlines: [Option<MonoTime>; 2]) -> io::Result<()> {
        self.set.clear();
        self.exchanges.register(&mut self.set, Token::Exchange);
        self.establishments.register(&mut self.set, Token::Establishment);
        self.reference_clocks.register(&mut self.set, Token::ReferenceClock);
        if let Some(clock) = self.chrony.as_ref().and_then(ChronyShell::real_time_clock_descriptor) {
            self.set.add(&clock, Interest::READ, Token::RealTimeClock);
        }
        if let Some(descriptor) = self.resolver.descriptor() {
            self.set.add(&descriptor, Interest::READ, Token::Lookups);
        }
        if let Some(network) = &self.network {
            self.set.add(network, Interest::READ, Token::Network);
        }
        if let Some(watch) = &self.watch {
            self.set.add(watch, Interest::READ, Token::ClockSet);
        }
        if !self.alone {
            self.set.add(&self.wake, Interest::READ, Token::Commands);
        }
        let inline_wake_at = self.register_inline();
        self.register_desks();
        let wake_at = [
            inline_wake_at,
            self.engine.poll_timeout(),
            self.establishments.poll_timeout(),
            self.broadcasts.poll_timeout(),
            self.cards.poll_timeout(),
            self.state.poll_timeout(),
            self.chrony.as_ref().and_then(ChronyShell::poll_timeout),
            self.ntpd.as_ref().and_then(NtpdShell::poll_timeout),
            self.leap_tables.poll_timeout(),
            Some(self.next_publish),
        ];
        let wake = self.set.wait(wake_at.into_iter().chain(deadlines).flatten().min())?;
        self.look_for_interference(wake);
        if wake == Wake::Ready {
            let ready: Vec<(Token, Readiness)> = self.set.ready().collect();
            let mut last_desk = None;
            for (token, readiness) in ready {
                // A desk may drop descriptors, so that later numbers of it mean others: one at a time.
                if let Token::Desk(desk, _) = token
                    && last_desk.replace(desk) == Some(desk)
                {
                    continue;
                }
                self.handle_ready(token, readiness);
            }
        }
        if self.alone {
            // Queued by the desks of this loop, and so without a wake.
            self.obey_queued();
        }
        if let Some(ke) = &mut self.inline.ke {
            ke.handle_timeout(clock::mono_now());
        }
        self.establishments.handle_timeout(clock::mono_now());
        self.broadcasts.handle_timeout(clock::mono_now());
        self.cards.handle_timeout(clock::mono_now());
        while let Some(finished) = self.establishments.finished() {
            if let Some(ntpd) = &mut self.ntpd {
                ntpd.finished(&finished, clock::mono_now());
            }
            self.engine.handle_input(clock::mono_now(), finished);
        }
        Ok(())
    }

    /// Before anything that came in meanwhile is looked at: stamps must not be taken for those of the clock as it is now.
    fn look_for_interference(&mut self, wake: Wake) {
        let is_told = |token: Token| matches!(token, Token::ClockSet);
        let told = wake == Wake::Ready
            && self.set.ready().any(|(token, _)| is_told(token))
            && self.watch.as_ref().is_some_and(ClockWatch::take_change);
        let (now, error) = clock::read_with_error();
        for input in self.clock.look_for_interference(now, error, told) {
            self.cards.forget();
            if matches!(input, Input::Suspended { .. }) {
                self.publisher.clock_stood_still();
                self.chrony.iter_mut().for_each(ChronyShell::slept);
            }
            if let (Some(chrony), Input::ClockStepped { by }) = (&self.chrony, &input)
                && !self.clock.is_ordered_leap_second(*by)
            {
                chrony.jumped(by.as_secs_f64());
            }
            self.engine.handle_input(clock::mono_now(), input);
        }
    }

    /// Adds the sockets of servers without threads; gives when they want to be looked at.
    fn register_inline(&mut self) -> Option<MonoTime> {
        if let Some(ntp) = &mut self.inline.ntp {
            if self.alone {
                // Told by this thread only, if at all, and so without a wake.
                ntp.obey();
            }
            ntp.register(&mut self.set, Token::Ntp, !self.alone);
        }
        let ke = self.inline.ke.as_ref()?;
        let now = clock::mono_now();
        ke.register(&mut self.set, Token::Ke, now);
        Some(ke.poll_timeout(now))
    }

    fn register_desks(&mut self) {
        for (desk, one) in self.desks.desks.iter().enumerate() {
            for (number, (descriptor, interest)) in one.descriptors().into_iter().enumerate() {
                self.set.add(&descriptor, interest, Token::Desk(desk, number));
            }
        }
    }

    fn handle_desk(&mut self, desk: usize, number: usize) {
        let InlineDesks { desks, view: Some(view) } = &mut self.desks else { return };
        if let Some(ntp) = &mut self.inline.ntp {
            // What was ordered by the request before is to be seen.
            ntp.obey();
        }
        let ntp = &self.inline.ntp;
        // A worker of this loop cannot be waited for.
        let clients = || ntp.as_ref().map(InlineWorker::clients).unwrap_or_default();
        let view = |with_clients: bool| view(with_clients.then(clients).as_deref());
        if let Some(desk) = desks.get_mut(desk) {
            desk.handle_ready(number, &view);
        }
    }

    fn handle_ready(&mut self, token: Token, readiness: Readiness) {
        match token {
            Token::Exchange(socket) => {
                self.cards.refresh(clock::mono_now());
                let engine = &mut self.engine;
                self.exchanges
                    .receive(socket, readiness, |fact| engine.handle_input(clock::mono_now(), fact));
            }
            Token::Establishment(connection) => {
                self.establishments.handle_ready(connection, readiness, clock::mono_now());
            }
            Token::ReferenceClock(clock) => {
                let readings = self.reference_clocks.receive(clock);
                self.tell_readings(clock, &readings, false);
            }
            Token::RealTimeClock => {
                let now = clock::read();
                if let Some(chrony) = &mut self.chrony
                    && chrony.tend_real_time_clock(&self.engine, (now, self.clock.commanded()), true)
                {
                    self.next_publish = MonoTime::ZERO;
                }
            }
            Token::Lookups => self.take_lookup(),
            Token::Commands => self.take_commands(),
            Token::Ntp(token) => {
                self.cards.refresh(clock::mono_now());
                if let Some(ntp) = &mut self.inline.ntp {
                    ntp.handle_ready(token, readiness);
                }
            }
            Token::Ke(token) => {
                if let Some(ke) = &mut self.inline.ke {
                    ke.handle_ready(token, readiness, clock::mono_now());
                }
            }
            Token::Desk(desk, number) => self.handle_desk(desk, number),
            // Looked at already.
            Token::ClockSet => {}
            Token::Network => {
                if self.network.as_ref().is_some_and(NetworkMonitor::take_changes) {
                    self.cards.network_changed();
                    self.engine.handle_input(clock::mono_now(), Input::NetworkChanged);
                }
            }
        }
    }

    fn take_lookup(&mut self) {
        let Some(answer) = self.resolver.take() else { return };
        let lookup = LookupId(answer.lookup);
        let name = self.lookups.remove(&lookup).unwrap_or_default();
        let result = match answer.result {
            Ok(addresses) => {
                self.state.remember_addresses(&name, &addresses);
                Ok(addresses)
            }
            // The name service may need the time that we are to get (DNSSEC, DNS over TLS): what the name meant last
            // time will do, since an NTS server proves its name anyway, and a plain one could lie at any address.
            Err(ResolveError::Temporary(reason)) => match self.state.addresses_of(&name) {
                Some(known) => {
                    info!("looking up {name}: {reason}; using the addresses of last time");
                    Ok(known.to_vec())
                }
                None => Err(ResolveFailure::Temporary),
            },
            Err(ResolveError::NotFound) => Err(ResolveFailure::NotFound),
            Err(other) => Err(ResolveFailure::Other(other.to_string())),
        };
        self.engine.handle_input(clock::mono_now(), Input::Resolved { lookup, result });
    }

    fn take_commands(&mut self) {
        // In this order: what comes after the wakes were taken brings its own. All of it, as nothing else would wake us
        // for the rest.
        self.wake.drain();
        self.obey_queued();
    }

    fn obey_queued(&mut self) {
        for command in self.commands.try_iter().collect::<Vec<_>>() {
            self.obey(command);
            // What was changed is to be seen by whoever asks next, even where nothing follows from it.
            self.next_publish = MonoTime::ZERO;
        }
    }

    fn obey(&mut self, command: PlaneCommand) {
        match command {
            PlaneCommand::Engine(command) => {
                if let Command::RemoveSource(address) = &command {
                    self.added.retain(|config| config.name.parse() != Ok(*address));
                }
                let moves = matches!(command, Command::SlewByHand(_) | Command::ChangeFrequencyByHand(_));
                if moves && !self.engine.discipline().settings().steer {
                    warn!("the clock is only watched: it is not moved by hand either");
                }
                self.engine.handle_input(clock::mono_now(), Input::Control(command));
            }
            PlaneCommand::Reload => self.reload(),
            PlaneCommand::AddSource(source) => {
                self.trust(source.authentication.nts_trust(), &source.name);
                self.add_source(wiring::source_config(&source, &self.trusts, self.exchanges.peer_port()));
            }
            PlaneCommand::AddConfigured(mut config) => {
                if let Authentication::Nts(nts) = &mut config.authentication {
                    let wish = NtsTrust::default();
                    self.trust(Some(&wish), &config.name);
                    nts.trust = self.trusts.number_of(&wish).unwrap_or(u32::MAX);
                }
                if let SourceMode::Symmetric { local_port } = &mut config.mode {
                    *local_port = self.exchanges.peer_port();
                }
                self.add_source(*config);
            }
            PlaneCommand::ReloadSources => self.reload_sources(),
            PlaneCommand::SetTime(TypedTime { time, tell }) => {
                let now = clock::read();
                let fast = (now.system - time).as_secs_f64();
                tell(self.engine.discipline_mut().enter_time(now.mono, fast));
            }
            PlaneCommand::WriteRealTimeClock(Tell(tell)) => {
                tell(self.chrony.as_ref().is_some_and(ChronyShell::write_real_time_clock));
            }
            PlaneCommand::TrimRealTimeClock => {
                if let Some(chrony) = &mut self.chrony {
                    chrony.trim_real_time_clock(&self.engine, clock::read(), self.clock.commanded());
                }
            }
            PlaneCommand::Smooth { begin } => {
                self.publisher.smooth(begin, &self.engine, clock::read());
                self.publisher.publish_time(&self.engine, self.clock.commanded(), clock::read());
            }
            PlaneCommand::CycleLogs => {
                // Without log files there is nothing to do.
                if let Some(chrony) = &mut self.chrony {
                    chrony.cycle_logs();
                }
            }
            PlaneCommand::Save => {
                self.state.save_all(&self.engine, clock::read());
                if let Some(chrony) = &self.chrony {
                    chrony.dump(&self.engine);
                }
            }
            PlaneCommand::Stop => self.stopping = true,
        }
    }

    /// Reads whom a source that is added trusts.
    fn trust(&mut self, wish: Option<&NtsTrust>, name: &str) {
        if let Some(wish) = wish
            && let Err(error) = self.trusts.add(wish)
        {
            // Without these certificates it trusts nobody, and says so at each attempt.
            error!("{name}: {error:#}");
        }
    }

    fn add_source(&mut self, config: SourceConfig) {
        if self.added.len() < ADDED_MAX {
            self.added.push(config.clone());
        }
        self.engine.handle_input(clock::mono_now(), Input::Control(Command::AddSource(Box::new(config))));
    }

    /// Whether a signal asks to stop; others are carried out.
    fn handle_signals(&mut self) -> bool {
        let hang_up = signals::take(Signal::HangUp);
        // chronyd has no signal to read its configuration again.
        if hang_up && self.chrony.as_ref().is_some_and(ChronyShell::speaks) {
            return true;
        }
        if hang_up {
            logging::reopen();
            self.reload();
        }
        if signals::take(Signal::User1) {
            info!("{}", summary(&self.report()));
        }
        self.stopping
            || [Signal::Terminate, Signal::Interrupt, Signal::Quit].map(signals::take).contains(&true)
    }

    /// What is not of chrony's kind has no files with nothing but sources: all of it is read again, and what was added while
    /// running stays.
    fn reload_sources(&mut self) {
        if let Some(kept) = self.source_files.take() {
            self.source_files = Some(self.exchange_sources(kept));
            return;
        }
        self.reload();
        for config in self.added.clone() {
            let command = Command::AddSource(Box::new(config));
            self.engine.handle_input(clock::mono_now(), Input::Control(command));
        }
    }

    /// As chronyd: a source whose line is as it was keeps its state, or stays away if it was deleted meanwhile.
    fn exchange_sources(&mut self, kept: KeptSources) -> KeptSources {
        let KeptSources { files, sources: before } = kept;
        let Some(model) = files.read() else { return KeptSources { files, sources: before } };
        let after = files.of(&model).to_vec();
        for source in &after {
            self.trust(source.authentication.nts_trust(), &source.name);
        }
        let config =
            |source: &Source| wiring::source_config(source, &self.trusts, self.exchanges.peer_port());
        let [old, new] = [&before, &after].map(|sources| sources.iter().map(config).collect::<Vec<_>>());
        let gone = old.iter().filter(|one| !new.contains(one)).cloned().collect();
        let command = Command::ExchangeSources { gone, fresh: surplus(&new, &old) };
        self.engine.handle_input(clock::mono_now(), Input::Control(command));
        KeptSources { files, sources: after }
    }

    fn reload(&mut self) {
        self.state.reload_key_ring();
        if let Some(reloaded) = (self.reload)() {
            self.trusts = reloaded.trusts;
            self.source_files = reloaded.source_files;
            self.publisher.set_smear(reloaded.leap_seconds.smear);
            self.leap_tables.set_wish(reloaded.leap_seconds);
            let command = Command::Reconfigure(Box::new(reloaded.engine));
            self.engine.handle_input(clock::mono_now(), Input::Control(command));
        }
    }
}

/// What is in `these` more often than in `those`: a line that is there twice is a mistake to be told.
fn surplus<T: Clone + PartialEq>(these: &[T], those: &[T]) -> Vec<T> {
    let mut those: Vec<&T> = those.iter().collect();
    let is_more = |one: &&T| match those.iter().position(|other| other == one) {
        Some(place) => {
            those.remove(place);
            false
        }
        None => true,
    };
    these.iter().filter(is_more).cloned().collect()
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

#[cfg(test)]
mod tests {
    use super::surplus;

    #[test]
    fn a_surplus_is_counted() {
        assert_eq!(surplus(&[1, 2, 2, 3], &[2, 4]), [1, 2, 3]);
        assert_eq!(surplus(&[2], &[2, 2]), [0; 0]);
    }
}
