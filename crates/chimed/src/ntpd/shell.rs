//! What the time plane does beside keeping time when an ntp.conf asks for it: ntpd's words, its statistics files.

use super::statistics_files::StatisticsFiles;
use crate::cli::{Habits, Options};
use crate::reference_clocks;
use chime_config::{LoggedEvents, Model, NtpdStatistic, SourceKind};
use chime_control::Snapshot;
use chime_control::ntpd_statistics::{self as layout, Totals, Usage};
use chime_control::ntpd_words::{Established, NtpdWords, OF_THE_SYSTEM, PROTOCOL, SourceFlags};
use chime_engine::{
    Engine, EngineReport, EstablishKeys, EstablishmentId, Event, Input, ReferenceClockId, Request,
};
use chime_ke::{CertificateInfo, KeOutcome};
use chime_sys::usage;
use chime_time::{ClockReading, MonoTime};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tracing::{info, warn};

/// How often what was counted is written.
const HOUR: Duration = Duration::from_secs(3600);

/// The statistics of an hour.
const HOURLY: [NtpdStatistic; 4] =
    [NtpdStatistic::Sys, NtpdStatistic::Use, NtpdStatistic::Nts, NtpdStatistic::NtsKe];

/// A reference clock, as far as `clockstats` is concerned.
#[derive(Debug)]
struct SpeakingClock {
    driver: String,
    device: String,
    /// Between two lines: a poll, as with ntpd.
    interval: Duration,
    next: MonoTime,
}

/// Gives the state of everything, with the counts of the servers.
pub type View = Box<dyn Fn() -> Snapshot + Send>;

/// The habits of ntpd, as far as they are asked for.
pub struct NtpdShell {
    speaks: bool,
    events: LoggedEvents,
    words: NtpdWords,
    files: StatisticsFiles,
    view: View,
    started: MonoTime,
    hour_ends: MonoTime,
    totals: Totals,
    usage: Usage,
    updates: u64,
    /// Reference clocks, by the numbers of the engine.
    clocks: Vec<SpeakingClock>,
    /// Key establishments under way, and since when.
    establishing: BTreeMap<EstablishmentId, (String, MonoTime)>,
}

impl fmt::Debug for NtpdShell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NtpdShell")
            .field("speaks", &self.speaks)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl NtpdShell {
    /// As `model` and the options ask for; `None` when they ask for nothing.
    #[must_use]
    pub fn new(model: &Model, options: &Options, view: View, now: MonoTime) -> Option<Self> {
        let files = StatisticsFiles::new(&model.ntpd);
        let speaks = matches!(options.habits, Habits::Ntpd(_));
        if !speaks && files.is_empty() {
            return None;
        }
        let totals = Totals::of(&view());
        let sources = model.sources.iter().map(|source| (source.name.clone(), flags(source))).collect();
        Some(Self {
            speaks,
            events: model.ntpd.events,
            words: NtpdWords::new(sources),
            files,
            view,
            started: now,
            hour_ends: now.saturating_add(HOUR),
            totals,
            usage: used(),
            updates: 0,
            clocks: speaking_clocks(model, now),
            establishing: BTreeMap::new(),
        })
    }

    /// The loop begins.
    pub fn begin(&mut self, report: &EngineReport) {
        let line = self.words.started(report);
        self.tell(&[line], report.unix_seconds);
    }

    /// Something happened: what is to be said and written about it. Gives whether the log has its line.
    pub fn note(&mut self, event: &Event, engine: &Engine, now: impl Fn() -> ClockReading) -> bool {
        let report = || engine.report(now());
        self.write_answer(event, &report);
        let lines = self.words.event(event, report);
        let beside = self.words.beside(event, report);
        if lines.is_none() && beside.is_none() {
            return false;
        }
        let unix_seconds = now().system.unix_seconds_f64();
        beside.into_iter().for_each(|line| self.tell(&[line], unix_seconds));
        lines.iter().for_each(|lines| self.tell(lines, unix_seconds));
        lines.is_some() && self.speaks
    }

    /// The queues of the engine are empty.
    pub fn settled(&mut self, engine: &Engine, now: ClockReading) {
        let updates = engine.discipline().system(now.mono).updates;
        let updated = std::mem::replace(&mut self.updates, updates) != updates;
        if !updated || !self.files.wants(NtpdStatistic::Loop) {
            return;
        }
        let report = engine.report(now);
        let selected = report.sources.iter().find(|source| source.state == '*');
        let line =
            layout::update(report.unix_seconds, &report.tracking, selected.map_or(0, |source| source.poll));
        self.write(NtpdStatistic::Loop, report.unix_seconds, &line);
    }

    /// When [`NtpdShell::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        HOURLY.into_iter().any(|statistic| self.files.wants(statistic)).then_some(self.hour_ends)
    }

    /// Writes what was counted in an hour, when one is over.
    pub fn handle_timeout(&mut self, now: ClockReading) {
        if now.mono < self.hour_ends {
            return;
        }
        self.hour_ends = now.mono.saturating_add(HOUR);
        let (totals, usage) = (Totals::of(&(self.view)()), used());
        let (unix_seconds, uptime) = (now.system.unix_seconds_f64(), self.age(now.mono));
        let before = &self.totals;
        for (statistic, line) in [
            (NtpdStatistic::Sys, layout::system(unix_seconds, uptime, &totals, before)),
            (NtpdStatistic::Use, layout::usage(unix_seconds, uptime, &usage, &self.usage)),
            (NtpdStatistic::Nts, layout::nts(unix_seconds, uptime, &totals, before)),
            (NtpdStatistic::NtsKe, layout::nts_ke(unix_seconds, uptime, &totals, before)),
        ] {
            self.files.write(statistic, (unix_seconds, uptime), &line);
        }
        (self.totals, self.usage) = (totals, usage);
    }

    /// A reference clock told the time, or was looked at: `words` are what it has to say since the last time.
    pub fn heard(
        &mut self,
        clock: ReferenceClockId,
        words: impl FnOnce() -> Option<String>,
        now: ClockReading,
    ) {
        if !self.files.wants(NtpdStatistic::Clock) {
            return;
        }
        let Some(clock) = self.clocks.get_mut(clock.0).filter(|clock| now.mono >= clock.next) else { return };
        let Some(words) = words() else { return };
        clock.next = now.mono.saturating_add(clock.interval);
        let unix_seconds = now.system.unix_seconds_f64();
        let line = layout::clock(unix_seconds, (&clock.driver, &clock.device), &words);
        self.write(NtpdStatistic::Clock, unix_seconds, &line);
    }

    /// The engine wants something of the world.
    pub fn requested(&mut self, request: &Request, now: MonoTime) {
        if !self.speaks {
            return;
        }
        match request {
            Request::Resolve { name, .. } if name.parse::<IpAddr>().is_err() => {
                info!("{}", self.words.looking_up(name));
            }
            Request::EstablishKeys(EstablishKeys { establishment, addresses, port, server_name, .. }) => {
                self.establishing.insert(*establishment, (server_name.clone(), now));
                let first = addresses.first().map(|address| SocketAddr::new(*address, *port));
                let lines = first.map(|address| self.words.connecting(server_name, address));
                lines.into_iter().flatten().for_each(|line| info!("{line}"));
            }
            Request::CancelEstablishment(establishment) => {
                self.establishing.remove(establishment);
            }
            _ => {}
        }
    }

    /// Something came of it.
    pub fn finished(&mut self, input: &Input<'_>, now: MonoTime) {
        let Input::KeFinished { establishment, result, .. } = input else { return };
        let Some((name, since)) = self.establishing.remove(establishment) else { return };
        let seconds = now.saturating_since(since).as_secs_f64();
        if let Ok(outcome) = result {
            let lines = self.words.established(&name, &established(outcome), seconds);
            lines.iter().for_each(|line| info!("{line}"));
        }
    }

    fn write_answer(&mut self, event: &Event, report: &impl Fn() -> EngineReport) {
        let (association, is_sample) = match event {
            Event::Sampled { association, .. } => (association, true),
            Event::Discarded { association: Some(association), reason, .. } if reason.is_of_an_answer() => {
                (association, false)
            }
            _ => return,
        };
        let (raw, peer) =
            (self.files.wants(NtpdStatistic::Raw), is_sample && self.files.wants(NtpdStatistic::Peer));
        if !raw && !peer {
            return;
        }
        let report = report();
        let Some(source) = report.sources.iter().find(|source| source.id == association.0) else { return };
        // Pulses and other reference clocks have no packets.
        if raw && source.remote.is_some() {
            let line = layout::answer(report.unix_seconds, source);
            self.write(NtpdStatistic::Raw, report.unix_seconds, &line);
        }
        if peer {
            let line = layout::measurement(report.unix_seconds, source);
            self.write(NtpdStatistic::Peer, report.unix_seconds, &line);
        }
    }

    /// Says lines, but events that nobody wants to hear of, and writes those of the protocol.
    fn tell(&mut self, lines: &[String], unix_seconds: f64) {
        for line in lines {
            let event = line.strip_prefix(PROTOCOL);
            let is_wanted = event.is_none_or(|text| match text.starts_with(OF_THE_SYSTEM) {
                true => self.events.system,
                false => self.events.peers,
            });
            if self.speaks && is_wanted {
                info!("{line}");
            }
            if let Some(text) = event {
                let entry = layout::event(unix_seconds, text);
                self.write(NtpdStatistic::Proto, unix_seconds, &entry);
            }
        }
    }

    fn write(&mut self, statistic: NtpdStatistic, unix_seconds: f64, line: &str) {
        let age = self.age(chime_sys::clock::mono_now());
        self.files.write(statistic, (unix_seconds, age), line);
    }

    fn age(&self, now: MonoTime) -> f64 {
        now.saturating_since(self.started).as_secs_f64()
    }
}

fn speaking_clocks(model: &Model, now: MonoTime) -> Vec<SpeakingClock> {
    let clocks = reference_clocks::engine_configs(model).into_iter();
    let clock = |clock: chime_engine::ReferenceClockConfig| SpeakingClock {
        interval: Duration::from_secs_f64(f64::from(clock.poll).exp2()),
        driver: clock.driver,
        device: clock.device,
        next: now,
    };
    clocks.map(clock).collect()
}

fn flags(source: &chime_config::Source) -> SourceFlags {
    SourceFlags {
        iburst: source.iburst,
        prefer: source.prefer,
        no_select: source.no_select,
        named: source.name.parse::<IpAddr>().is_err(),
        nts: source.authentication.nts_trust().is_some(),
        pool: matches!(source.kind, SourceKind::Pool { .. }),
    }
}

fn established(outcome: &KeOutcome) -> Established {
    let certificate = outcome.certificate_chain.first().and_then(|der| CertificateInfo::read(der).ok());
    let (subject, issuer, names) =
        certificate.map_or_else(Default::default, |info| (info.subject, info.issuer, info.names));
    Established {
        subject,
        issuer,
        names,
        cookie_octets: outcome.cookies.first().map_or(0, |cookie| cookie.as_bytes().len()),
        cookies: outcome.cookies.len(),
        aead: outcome.keys.algorithm().id(),
    }
}

/// What this process has used; nothing where the system does not say.
fn used() -> Usage {
    let used = usage::of_this_process().inspect_err(|error| warn!("usestats: {error}")).unwrap_or_default();
    Usage {
        user_seconds: used.user_seconds,
        system_seconds: used.system_seconds,
        counts: [
            used.minor_faults,
            used.major_faults,
            0,
            used.blocks_read,
            used.blocks_written,
            used.voluntary_switches,
            used.involuntary_switches,
            0,
        ],
        memory_kilobytes: used.memory_kilobytes,
    }
}
