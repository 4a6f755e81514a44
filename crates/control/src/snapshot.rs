//! Everything that the daemon shows of itself, as one value.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use chime_engine::EngineReport;
use chime_server::{COOKIE_AGES, ClientRecord, ResponseKind, ServerCounters, SilenceReason, SmoothingCourse};
use chime_time::MonoTime;
use serde::{Deserialize, Serialize};

use crate::ControlReport;

/// The state of the daemon at one instant; published by the time plane, never changed after.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// The program.
    pub program: ProgramReport,
    /// The clock and its sources.
    pub engine: EngineReport,
    /// The NTP server; all zero when there is none.
    pub server: ServerReport,
    /// The NTS key establishment server; all zero when there is none.
    pub ke_server: KeServerReport,
    /// What other daemons' tools asked.
    pub control: ControlReport,
    /// Clients of the NTP server, as far as they are remembered.
    pub clients: Vec<ClientReport>,
}

/// The program.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramReport {
    /// Version of the daemon.
    pub version: String,
    /// Since the start; seconds.
    pub uptime_seconds: f64,
    /// Since the time plane last reported, which it does at least once a minute; seconds.
    pub report_age_seconds: f64,
    /// Whether the system clock is steered; not with `-x`.
    pub steers_clock: bool,
    /// Clock updates since the start.
    pub clock_updates: u64,
    /// Steps of the clock since the start.
    pub clock_steps: u64,
    /// Sources that must agree before the clock is touched.
    pub minimum_agreeing_sources: usize,
    /// Whether a correction beyond the panic thresholds is being refused.
    pub quarantined: bool,
    /// How often other programs stepped, slewed or retuned the clock since the start.
    pub interferences: u64,
    /// The same in the last hour.
    pub recent_interferences: usize,
    /// The clock's root dispersion grows at this rate; seconds per second.
    pub root_dispersion_rate: f64,
    /// Precision of the clock; log2 seconds.
    pub precision: i8,
    /// Sum of the magnitudes of all steps since the start; seconds.
    pub accumulated_steps_seconds: f64,
    /// Beyond this sum no step is made any more; seconds, `None`: without a limit.
    pub accumulated_steps_threshold_seconds: Option<f64>,
    /// The list of leap seconds.
    pub leap_table: LeapTableReport,
    /// The smearing of leap seconds for clients, where that is configured.
    pub smear: Option<SmearReport>,
    /// The smoothing of the time that is served, where that is configured.
    pub smoothing: Option<SmoothingReport>,
    /// The battery-backed clock, where it is looked at.
    pub real_time_clock: Option<RealTimeClockReport>,
}

/// How the time that is served is smoothed.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SmoothingReport {
    /// Whether it has begun.
    pub active: bool,
    /// By how much what is served is ahead of our clock, seconds.
    pub offset_seconds: f64,
    /// At which rate that changes, seconds per second.
    pub rate: f64,
    /// At which rate the rate changes, per second.
    pub change: f64,
    /// Since it last took up a correction of our clock; seconds.
    pub since_update_seconds: f64,
    /// Until our time is served, if nothing is corrected any more; seconds.
    pub remaining_seconds: f64,
}

impl SmoothingReport {
    /// What is served at `now`; `None`: it has not begun.
    #[must_use]
    pub fn new(course: Option<SmoothingCourse>, now: MonoTime) -> Self {
        let Some(course) = course else { return Self::default() };
        let point = course.at(now);
        Self {
            active: true,
            offset_seconds: point.offset,
            rate: point.rate,
            change: point.change,
            since_update_seconds: course.elapsed(now),
            remaining_seconds: course.remaining(now),
        }
    }
}

/// What `smoothing` shows: the smoothing of everything, or that of leap seconds alone.
pub(crate) struct SmoothingView {
    pub(crate) active: bool,
    pub(crate) leap_seconds_only: bool,
    pub(crate) offset_seconds: f64,
    pub(crate) rate_ppm: f64,
    /// ppm per second.
    pub(crate) change_ppm: f64,
    pub(crate) since_update_seconds: f64,
    pub(crate) remaining_seconds: f64,
}

impl SmoothingView {
    /// `None`: nothing is smoothed.
    pub(crate) fn of(snapshot: &Snapshot) -> Option<Self> {
        const PPM: f64 = 1e6;
        if let Some(smoothing) = &snapshot.program.smoothing {
            return Some(Self {
                active: smoothing.active,
                leap_seconds_only: false,
                offset_seconds: smoothing.offset_seconds,
                rate_ppm: smoothing.rate * PPM,
                change_ppm: smoothing.change * PPM,
                since_update_seconds: smoothing.since_update_seconds,
                remaining_seconds: smoothing.remaining_seconds,
            });
        }
        let smear = snapshot.program.smear.as_ref()?;
        Some(Self {
            // As chronyd: it is ready for one as soon as there is time to serve.
            active: smear.active || snapshot.engine.tracking.synchronized,
            leap_seconds_only: true,
            offset_seconds: smear.offset_seconds,
            rate_ppm: smear.rate * PPM,
            // The rate does not change but in steps, and what is shown is of now.
            change_ppm: 0.0,
            since_update_seconds: 0.0,
            remaining_seconds: smear.remaining_seconds,
        })
    }

    pub(crate) const fn active_word(&self) -> &'static str {
        if self.active { "Yes" } else { "No" }
    }

    pub(crate) const fn kind_words(&self) -> &'static str {
        if self.leap_seconds_only { "(leap second only)" } else { "" }
    }
}

/// What is known of the machine's battery-backed clock.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RealTimeClockReport {
    /// Whether anything is known of it yet; all that follows but the samples is zero before.
    pub known: bool,
    /// What it showed when it was last looked at; Unix seconds.
    pub reference_unix_seconds: i64,
    /// Looks that the rest is made of.
    pub samples: usize,
    /// Runs of residuals with the same sign.
    pub runs: usize,
    /// From the first of these looks to the last; seconds.
    pub span_seconds: i64,
    /// By how much it was fast, seconds.
    pub fast_seconds: f64,
    /// What it gains; ppm.
    pub rate_ppm: f64,
}

/// Where the list of leap seconds comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LeapTableReport {
    /// The file or time zone in use.
    pub name: Option<String>,
    /// What is wrong with those that are configured and cannot be used.
    pub problems: Vec<String>,
}

/// How clients are served around a leap second.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SmearReport {
    /// Whether the served time differs from ours now.
    pub active: bool,
    /// By how much, seconds; positive: what is served is ahead of our clock.
    pub offset_seconds: f64,
    /// At which rate that changes, seconds per second.
    pub rate: f64,
    /// How long the smear goes on, seconds; 0 when none is under way.
    pub remaining_seconds: f64,
}

/// Counts of the NTP server over all its workers since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerReport {
    /// Addresses that are listened on.
    pub listening: Vec<SocketAddr>,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams that were not answered.
    pub dropped: u64,
    /// Answers with NTS or a MAC.
    pub authenticated: u64,
    /// Answers in interleaved mode (RFC 9769).
    pub interleaved: u64,
    /// Requests of a version below 4.
    pub old_versions: u64,
    /// Cookies that were sent in answers.
    pub cookies_made: u64,
    /// Good cookies by the age of their key: the current one, three before it, and older ones.
    pub cookies_opened: [u64; COOKIE_AGES],
    /// Clients that can be remembered.
    pub clients_max: u64,
    /// Clients that were forgotten for want of memory.
    pub clients_forgotten: u64,
    /// Answers by kind.
    pub responses: BTreeMap<String, u64>,
    /// Datagrams without answer by reason.
    pub silences: BTreeMap<String, u64>,
    /// Who stamped the packets.
    pub timestamps: TimestampCounts,
    /// The way around the sockets, where one is configured.
    pub fast_path: Option<FastPathReport>,
}

/// What answers plain requests before they come to the sockets, and hands those with NTS to workers past them; its counts are
/// among those of the server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FastPathReport {
    /// Interfaces that it works at, each with the way: `driver` or `generic`.
    pub interfaces: BTreeMap<String, String>,
    /// Requests that it answered.
    pub answered: u64,
    /// Requests that it did not answer with the time, as there were too many from their senders.
    pub limited: u64,
    /// Requests that it left to the sockets, as it had not been told the time for too long.
    pub stale: u64,
    /// Interfaces where it hands over requests with NTS, each with the way: `copy` or `zero-copy`.
    pub nts_interfaces: BTreeMap<String, String>,
    /// Requests with NTS that it handed over.
    pub handed_over: u64,
    /// Answers of workers to these.
    pub frames_answered: u64,
    /// Of these what workers dropped: not in good order, or no room for an answer.
    pub frames_dropped: u64,
    /// Why sockets answer where it was wished for.
    pub problems: Vec<String>,
}

/// Who stamped packets, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TimestampCounts {
    /// Received, stamped by the daemon.
    pub daemon_rx: u64,
    /// Sent, stamped by the daemon.
    pub daemon_tx: u64,
    /// Received, stamped by the kernel.
    pub kernel_rx: u64,
    /// Sent, stamped by the kernel.
    pub kernel_tx: u64,
    /// Received, stamped by the network card.
    pub hardware_rx: u64,
    /// Sent, stamped by the network card.
    pub hardware_tx: u64,
}

/// Counts of the NTS key establishment server since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeServerReport {
    /// Addresses that are listened on.
    pub listening: Vec<SocketAddr>,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused or cut for want of room.
    pub dropped: u64,
    /// Finished sessions by result.
    pub results: BTreeMap<String, u64>,
    /// What they took, by result; empty where it is not measured.
    #[serde(default)]
    pub times: BTreeMap<String, SessionTimes>,
}

/// What key establishments took in all, microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SessionTimes {
    /// From their first octet to their end.
    pub wall_micros: u64,
    /// Of the processor.
    pub processor_micros: u64,
}

/// One client: of the NTP server, and of chronyc's protocol over UDP.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClientReport {
    /// Its address.
    pub address: IpAddr,
    /// Its use of the NTP server.
    #[serde(flatten)]
    pub ntp: UseReport,
    /// Its use of the key establishment server.
    #[serde(default)]
    pub ke: UseReport,
    /// Its use of chronyc.
    #[serde(default)]
    pub command: UseReport,
}

/// What a client did at one service.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UseReport {
    /// Requests.
    pub hits: u32,
    /// Requests that were not answered.
    pub drops: u32,
    /// Average interval of requests; log2 seconds.
    pub interval_log2: Option<f32>,
    /// Average interval of requests while they were limited; log2 seconds.
    pub limited_interval_log2: Option<f32>,
    /// Since the last request; seconds, `None`: there was none.
    pub last_age_seconds: Option<f64>,
}

impl Snapshot {
    /// What the snapshot would say `elapsed` seconds later if nothing had happened: ages grow, and
    /// so does the error bound. The time plane publishes when something happens, not each second.
    #[must_use]
    pub fn aged(mut self, elapsed: f64) -> Self {
        // A clock that was stepped back must not make anything younger than it is.
        let elapsed = if elapsed.is_finite() { elapsed.max(0.0) } else { 0.0 };
        self.program.uptime_seconds += elapsed;
        self.program.report_age_seconds += elapsed;
        self.engine.unix_seconds += elapsed;
        if self.engine.tracking.synchronized {
            self.engine.tracking.root_dispersion_seconds += elapsed * self.program.root_dispersion_rate;
        }
        for source in &mut self.engine.sources {
            for age in [
                &mut source.last_sample_age_seconds,
                &mut source.authentication.last_establishment_age_seconds,
            ] {
                *age = age.map(|age| age + elapsed);
            }
        }
        for establishment in &mut self.engine.establishments {
            let wait = &mut establishment.retry_seconds;
            *wait = wait.map(|wait| (wait - elapsed).max(0.0));
        }
        for client in &mut self.clients {
            for age in [&mut client.ntp.last_age_seconds, &mut client.command.last_age_seconds] {
                *age = age.map(|age| age + elapsed);
            }
        }
        self
    }

    /// Largest error that our clock can have: what is left to correct, half of the root delay and
    /// the root dispersion; seconds. `None` when it is not synchronised.
    #[must_use]
    pub fn error_bound_seconds(&self) -> Option<f64> {
        let tracking = &self.engine.tracking;
        tracking.synchronized.then(|| {
            tracking.system_offset_seconds.abs()
                + tracking.root_delay_seconds / 2.0
                + tracking.root_dispersion_seconds
        })
    }
}

impl ServerReport {
    /// Adds the counts of one worker.
    pub fn add(&mut self, counters: &ServerCounters) {
        self.received += counters.received;
        self.dropped += counters.dropped();
        self.authenticated += counters.authenticated();
        self.interleaved += counters.interleaved;
        self.old_versions += counters.old_versions;
        self.cookies_made += counters.cookies_made;
        self.cookies_opened.iter_mut().zip(counters.cookies_opened).for_each(|(sum, count)| *sum += count);
        for kind in ResponseKind::ALL {
            *self.responses.entry(kind.name().to_owned()).or_default() += counters.responses(*kind);
        }
        for reason in SilenceReason::ALL {
            *self.silences.entry(reason.name().to_owned()).or_default() += counters.silences(*reason);
        }
    }
}

impl ClientReport {
    /// What is remembered of the clients of the services, as of `now`; by address.
    #[must_use]
    pub fn of(
        ntp: &[ClientRecord],
        ke: &[ClientRecord],
        command: &[ClientRecord],
        now: MonoTime,
    ) -> Vec<Self> {
        let mut clients: BTreeMap<IpAddr, Self> = BTreeMap::new();
        let mut of = |record: &ClientRecord, service: fn(&mut Self) -> &mut UseReport| {
            let client = clients.entry(record.address).or_insert_with(|| Self::new(record.address));
            *service(client) = UseReport::new(record, now);
        };
        ntp.iter().for_each(|record| of(record, |client| &mut client.ntp));
        ke.iter().for_each(|record| of(record, |client| &mut client.ke));
        command.iter().for_each(|record| of(record, |client| &mut client.command));
        clients.into_values().collect()
    }

    /// One that has not asked for anything yet.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let [ntp, ke, command] = [UseReport::default(); 3];
        Self { address, ntp, ke, command }
    }

    /// Whether it asked the NTP server.
    #[must_use]
    pub const fn asked_for_time(&self) -> bool {
        self.ntp.last_age_seconds.is_some()
    }
}

impl UseReport {
    fn new(record: &ClientRecord, now: MonoTime) -> Self {
        Self {
            hits: record.hits,
            drops: record.drops,
            interval_log2: record.interval_log2,
            limited_interval_log2: record.dropped_interval_log2,
            last_age_seconds: Some(now.saturating_since(record.last).as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::SourceReport;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.engine.sources =
            vec![SourceReport { last_sample_age_seconds: Some(3.0), ..SourceReport::default() }];
        snapshot
    }

    #[test]
    fn ages_grow_and_absent_ones_stay_absent() {
        let aged = snapshot().aged(4.5);
        let source = &aged.engine.sources[0];
        assert_eq!(source.last_sample_age_seconds, Some(7.5));
        assert_eq!(source.authentication.last_establishment_age_seconds, None);
    }

    #[test]
    fn a_clock_that_went_back_makes_nothing_younger() {
        assert_eq!(snapshot().aged(-5.0), snapshot());
        assert_eq!(snapshot().aged(f64::NAN), snapshot());
    }

    #[test]
    fn json_of_an_older_daemon_that_lacks_fields_still_reads() {
        let read: Snapshot = serde_json::from_str("{\"program\":{\"version\":\"0.0.1\"}}")
            .expect("missing fields have defaults");
        assert_eq!(read.program.version, "0.0.1");
    }

    #[test]
    fn a_snapshot_survives_json() {
        let mut snapshot = snapshot();
        snapshot.engine.sources[0].state = '*';
        snapshot.server.add(&ServerCounters::default());
        let json = serde_json::to_string(&snapshot).expect("it can be written");
        let read: Snapshot = serde_json::from_str(&json).expect("it can be read");
        assert_eq!(read, snapshot);
    }

    #[test]
    fn the_error_bound_counts_what_is_left_to_correct() {
        let mut snapshot = Snapshot::default();
        assert_eq!(snapshot.error_bound_seconds(), None);
        let tracking = &mut snapshot.engine.tracking;
        tracking.synchronized = true;
        tracking.system_offset_seconds = -0.5;
        tracking.root_delay_seconds = 0.25;
        tracking.root_dispersion_seconds = 0.125;
        assert_eq!(snapshot.error_bound_seconds(), Some(0.75));
    }
}
