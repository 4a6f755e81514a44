//! What the engine shows: everything that chronyc's reports need, as plain serializable values.
//!
//! Instants are Unix seconds by our system clock; offsets say their sign, because reports differ in it.

use crate::reporting::UNRESOLVED_ID_BASE;
use crate::{AuthenticationPolicy, SourceKey, TimestampSource};
use std::net::{IpAddr, SocketAddr};

/// A snapshot of everything.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct EngineReport {
    /// When the snapshot was taken; Unix seconds.
    pub unix_seconds: f64,
    /// `chronyc tracking`.
    pub tracking: TrackingReport,
    /// One entry for each association, and one for each association that a source still wants, in configuration order.
    pub sources: Vec<SourceReport>,
    /// `chronyc activity`.
    pub activity: ActivityReport,
    /// Key establishment, one entry for each NTS source.
    pub establishments: Vec<EstablishmentReport>,
    /// Leap seconds.
    #[serde(default)]
    pub leap_seconds: LeapSecondsReport,
    /// Times that were typed in.
    #[serde(default)]
    pub manual: ManualReport,
    /// What may be used.
    pub authentication_policy: AuthenticationPolicy,
    /// Names of unauthenticated sources that take part in the time now (selected or combined).
    pub unauthenticated_in_use: Vec<String>,
    /// Datagrams that belonged to no association, by reason.
    pub discards: Vec<DiscardReport>,
}

/// Times that were typed in, `chronyc manual list`.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ManualReport {
    /// Whether more may be.
    pub enabled: bool,
    /// The times, oldest first.
    pub entries: Vec<ManualEntryReport>,
}

/// One time that was typed in; offsets in seconds, positive = the clock was fast.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ManualEntryReport {
    /// When; Unix seconds.
    pub unix_seconds: f64,
    /// As it would have been, had the clock been corrected then as it is now.
    pub slewed_seconds: f64,
    /// As it was.
    pub original_seconds: f64,
    /// What remains beside a straight line through all of them.
    pub residual_seconds: f64,
}

/// The state of our clock.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct TrackingReport {
    /// Whether the clock is synchronised.
    pub synchronized: bool,
    /// Reference identifier, as in our own packets.
    pub reference_id: [u8; 4],
    /// Address of the selected source.
    pub address: Option<IpAddr>,
    /// Name of the selected source as configured.
    pub name: Option<String>,
    /// 0 when not synchronised.
    pub stratum: u8,
    /// Leap status.
    pub leap: LeapReport,
    /// Time of the last update; Unix seconds, 0 = never.
    pub reference_unix_seconds: f64,
    /// What is left to correct; seconds, positive = the system clock is behind (slow).
    pub system_offset_seconds: f64,
    /// Offset at the last update; seconds, positive = the clock was ahead (fast), as chrony shows it.
    pub last_offset_seconds: f64,
    /// Long-term average of the offset; seconds.
    pub rms_offset_seconds: f64,
    /// Frequency error of the free-running clock; ppm, positive = runs fast, as chrony shows it.
    pub frequency_ppm: f64,
    /// Difference between the sources' frequency and the one in use; ppm.
    pub residual_frequency_ppm: f64,
    /// Error bound of the frequency; ppm.
    pub skew_ppm: f64,
    /// Root delay; seconds.
    pub root_delay_seconds: f64,
    /// Root dispersion now; seconds.
    pub root_dispersion_seconds: f64,
    /// Between the last two updates; seconds.
    pub update_interval_seconds: f64,
    /// Whether the last update came from authenticated sources only.
    pub authenticated: bool,
    /// A correction beyond the panic thresholds that the sources ask for, and do not get: the clock is not steered
    /// meanwhile; seconds, positive = the clock would be behind.
    #[serde(default)]
    pub refused_correction_seconds: Option<f64>,
}

/// Leap status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeapReport {
    /// No warning.
    Normal,
    /// A second will be inserted.
    Insert,
    /// A second will be deleted.
    Delete,
    /// Not synchronised.
    #[default]
    Unsynchronized,
}

/// What is known about leap seconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LeapSecondsReport {
    /// Who makes the clock pass one: `system`, `step`, `slew` or `ignore`.
    pub mode: String,
    /// The next one, as far as one is known.
    pub next: Option<LeapSecondReport>,
    /// The last one, as far as one is known.
    pub last: Option<LeapSecondReport>,
    /// TAI minus UTC, seconds; none without a list of leap seconds.
    pub tai_offset_seconds: Option<i32>,
    /// Whether there is a list of leap seconds.
    pub listed: bool,
    /// From when on that may lack some; Unix seconds, none when it does not say.
    pub list_expires_unix_seconds: Option<i64>,
    /// How long that is from the time of the report, in seconds; negative: it has come.
    pub list_expires_in_seconds: Option<i64>,
    /// Whether the clock follows sources that smear leap seconds.
    pub follows_smeared: bool,
}

/// One leap second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct LeapSecondReport {
    /// The midnight UTC after it; Unix seconds.
    pub unix_seconds: i64,
    /// Whether a second is inserted; otherwise one is left out.
    pub insert: bool,
    /// Whether it is from the list; otherwise the sources announce it.
    pub listed: bool,
}

/// What kind of source it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A server.
    #[default]
    Server,
    /// A member of a pool.
    Pool,
    /// A peer in symmetric mode.
    Peer,
    /// A reference clock: it has no address, and its name is its reference identifier.
    ReferenceClock,
}

/// One association, or the place of one that is still wanted.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct SourceReport {
    /// The association's number, or that of a place without one, which is far above.
    pub id: u32,
    /// The configured source.
    pub source: u32,
    /// Its name as configured.
    pub name: String,
    /// Server or pool.
    pub kind: SourceKind,
    /// The driver of a reference clock (`shm`, `pps`, ...), empty for others.
    #[serde(default)]
    pub driver: String,
    /// What the driver reads: a path or a number; empty for others.
    #[serde(default)]
    pub device: String,
    /// Where requests go; `None` while it is unknown.
    pub remote: Option<SocketAddr>,
    /// Our reference identifier for this source: its IPv4 address, or the start of the MD5 of its IPv6 address.
    pub reference_id: [u8; 4],
    /// Whether it is polled.
    pub online: bool,
    /// Whether a burst is on, and whether the source goes offline after it.
    pub burst: BurstReport,
    /// Poll exponent in use; log2 seconds.
    pub poll: i8,
    /// Shortest allowed poll exponent.
    pub poll_min: i8,
    /// Longest allowed poll exponent.
    pub poll_max: i8,
    /// Stratum in the last sample; 0 = no sample.
    pub stratum: u8,
    /// Reach register; newest poll in bit 0.
    pub reach: u8,
    /// Since the last sample; seconds.
    pub last_sample_age_seconds: Option<f64>,
    /// The state character of chrony's `selectdata`.
    pub state: char,
    /// The offset of the last sample, adjusted for corrections since; seconds, positive = our clock is ahead (fast).
    pub offset_seconds: f64,
    /// The offset of the last sample as it was measured; seconds, positive = our clock is ahead (fast).
    pub measured_offset_seconds: f64,
    /// Error bound of the last sample: half of the root delay plus the root dispersion; seconds.
    pub error_seconds: f64,
    /// `chronyc sourcestats`.
    pub statistics: StatisticsReport,
    /// `chronyc selectdata`.
    pub selection: SelectionReport,
    /// `chronyc authdata`.
    pub authentication: AuthenticationReport,
    /// `chronyc ntpdata`.
    pub ntp: NtpReport,
    /// Datagrams without a sample, by reason.
    pub discards: Vec<DiscardReport>,
    /// What went wrong last, in plain words.
    pub last_error: Option<String>,
}

/// Whether a burst is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BurstReport {
    /// None.
    #[default]
    None,
    /// One, after which the source is polled as usual.
    ReturnToOnline,
    /// One, after which the source is polled no more.
    ReturnToOffline,
}

/// The statistics of a source's samples.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct StatisticsReport {
    /// Samples kept.
    pub samples: u32,
    /// Runs of residuals of the same sign.
    pub runs: u32,
    /// From the oldest sample to the newest; seconds.
    pub span_seconds: f64,
    /// Residual frequency of our clock against the source; ppm, positive = our clock gains.
    pub frequency_ppm: f64,
    /// Error bound of the frequency; ppm.
    pub skew_ppm: f64,
    /// Estimated offset now; seconds, positive = our clock is ahead (fast).
    pub offset_seconds: f64,
    /// Error bound of the estimated offset; seconds.
    pub offset_error_seconds: f64,
    /// Standard deviation of the samples; seconds.
    pub standard_deviation_seconds: f64,
}

/// What selection made of a source.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct SelectionReport {
    /// Options as configured.
    pub configured: SelectionOptionsReport,
    /// Options after the authentication policy.
    pub effective: SelectionOptionsReport,
    /// Leap status of the source.
    pub leap: LeapReport,
    /// How old its last sample was when the selection was made; seconds, 0 while there is none.
    #[serde(default)]
    pub last_sample_age_seconds: f64,
    /// Score against the selected source; 1 when it is as good.
    pub score: f64,
    /// Lower end of the interval in which the source's time lies; seconds, positive = our clock is ahead (fast).
    pub low_seconds: f64,
    /// Upper end of the interval; seconds, positive = our clock is ahead (fast).
    pub high_seconds: f64,
}

/// Selection options.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct SelectionOptionsReport {
    /// Measured, never selected.
    pub no_select: bool,
    /// Preferred over those that are not.
    pub prefer: bool,
    /// Outvoted by other trusted sources only.
    pub trust: bool,
    /// One such source must be selectable.
    pub require: bool,
}

/// How a source is authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthenticationMode {
    /// Not at all.
    #[default]
    None,
    /// With a symmetric key.
    Key,
    /// With NTS.
    Nts,
}

/// `chronyc authdata`.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct AuthenticationReport {
    /// How.
    pub mode: AuthenticationMode,
    /// Key number, or how many key establishments succeeded.
    pub key_id: u32,
    /// chrony's number of the key's algorithm, or the number of the AEAD.
    pub key_type: u16,
    /// Bits of the key.
    pub key_bits: u16,
    /// Since the last successful key establishment; seconds.
    pub last_establishment_age_seconds: Option<f64>,
    /// Attempts since the last success.
    pub attempts: u32,
    /// Whether the latest request was answered with NTSN.
    pub nak: bool,
    /// Cookies held, 0 to 8.
    pub cookies: u8,
    /// Octets of the cookie that is used next.
    pub cookie_octets: u16,
    /// Last second at which the server's certificate is valid; Unix seconds.
    pub certificate_not_after: Option<i64>,
    /// Whether the certificate's dates still wait to be judged.
    pub certificate_provisional: bool,
}

/// `chronyc ntpdata`. Header fields are those of the last valid answer.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct NtpReport {
    /// Whether any valid answer ever came; if not, only the counters mean something.
    pub answered: bool,
    /// The address of ours at which the answer arrived.
    pub local: Option<IpAddr>,
    /// Leap indicator, 0 to 3.
    pub leap: u8,
    /// Version.
    pub version: u8,
    /// Mode.
    pub mode: u8,
    /// Stratum.
    pub stratum: u8,
    /// Poll exponent.
    pub poll: i8,
    /// Precision exponent.
    pub precision: i8,
    /// Root delay; seconds.
    pub root_delay_seconds: f64,
    /// Root dispersion; seconds.
    pub root_dispersion_seconds: f64,
    /// Reference identifier.
    pub reference_id: [u8; 4],
    /// Reference time; Unix seconds, 0 = none.
    pub reference_unix_seconds: f64,
    /// Offset; seconds, NTP's sign: positive = our clock is behind (slow).
    pub offset_seconds: f64,
    /// Round trip; seconds.
    pub delay_seconds: f64,
    /// Dispersion of the sample; seconds.
    pub dispersion_seconds: f64,
    /// How long the server held the request; seconds.
    pub response_seconds: f64,
    /// Jitter asymmetry, -0.5 to 0.5.
    pub jitter_asymmetry: f64,
    /// Results of the tests 1 2 3, 5 6 7, A B C D from bit 9 down to bit 0; 1 = passed.
    pub tests: u16,
    /// Whether the answer was interleaved (RFC 9769).
    pub interleaved: bool,
    /// Whether the source is authenticated.
    pub authenticated: bool,
    /// Who stamped the request.
    pub tx_timestamping: Option<TimestampSource>,
    /// Who stamped the answer.
    pub rx_timestamping: Option<TimestampSource>,
    /// Requests sent.
    pub total_tx: u64,
    /// Datagrams received.
    pub total_rx: u64,
    /// Of these, authentic answers to an open request with valid timestamps.
    pub total_valid_rx: u64,
    /// Of these, accepted measurements.
    pub total_good_rx: u64,
    /// Transmit stamps from the kernel.
    pub total_kernel_tx: u64,
    /// Receive stamps from the kernel.
    pub total_kernel_rx: u64,
    /// When the last valid answer left, as its header says; an NTP timestamp, 0 = none.
    #[serde(default)]
    pub transmit_bits: u64,
    /// When it arrived, by our system clock; an NTP timestamp, 0 = none.
    #[serde(default)]
    pub received_bits: u64,
    /// The last measurements, newest first.
    #[serde(default)]
    pub recent: Vec<RecentReport>,
    /// Transmit stamps from the network card.
    pub total_hardware_tx: u64,
    /// Receive stamps from the network card.
    pub total_hardware_rx: u64,
    /// Valid answers in interleaved mode (RFC 9769).
    #[serde(default)]
    pub total_interleaved_rx: u64,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct RecentReport {
    /// Offset; seconds, NTP's sign: positive = our clock is behind (slow).
    pub offset_seconds: f64,
    /// Round trip; seconds.
    pub delay_seconds: f64,
    /// Dispersion; seconds.
    pub dispersion_seconds: f64,
}

/// `chronyc activity`.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ActivityReport {
    /// Polled.
    pub online: u32,
    /// Not polled.
    pub offline: u32,
    /// In a burst, then online.
    pub burst_online: u32,
    /// In a burst, then offline.
    pub burst_offline: u32,
    /// Without address.
    pub unresolved: u32,
}

/// Key establishment with the servers of one source.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct EstablishmentReport {
    /// The configured source.
    pub source: u32,
    /// Its name.
    pub name: String,
    /// The TCP port.
    pub port: u16,
    /// Successes.
    pub succeeded: u64,
    /// Failures, by the short word for the cause.
    pub failed: Vec<(String, u64)>,
    /// Whether one is under way.
    pub running: bool,
    /// When the next attempt is allowed; seconds from now, `None` when nothing waits.
    pub retry_seconds: Option<f64>,
    /// What went wrong last, in plain words; gone after a success.
    pub last_error: Option<String>,
}

/// How often one reason occurred.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct DiscardReport {
    /// The reason.
    pub reason: crate::DiscardReason,
    /// How often.
    pub count: u64,
}

impl SourceReport {
    /// The configured source's key.
    #[must_use]
    pub const fn source_key(&self) -> SourceKey {
        SourceKey(self.source)
    }

    /// What stands for the address of a place that has none (`ID#`): such places are counted from 1.
    #[must_use]
    pub const fn place_number(&self) -> u32 {
        self.id & !UNRESOLVED_ID_BASE
    }
}
