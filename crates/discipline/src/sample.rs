//! What the engine tells the discipline about its sources.

use chime_time::{MonoTime, NtpDuration};
use serde::{Deserialize, Serialize};

/// One association, as the engine numbers them; never reused while the daemon runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SourceId(pub u32);

/// What a source says about the leap second at the end of the current month. RFC 5905 §7.3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leap {
    /// The last minute has 60 seconds.
    NoWarning,
    /// The last minute has 61 seconds.
    Insert,
    /// The last minute has 59 seconds.
    Delete,
    /// The clock is not synchronised.
    #[default]
    Unsynchronized,
}

/// One measurement of one source: the on-wire calculation of RFC 5905 §8 with what the packet said about its server.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// The middle between sending the request and receiving the response.
    pub at: MonoTime,
    /// Remote minus local; positive means that our clock is behind.
    pub offset: NtpDuration,
    /// Round trip to the source without the time spent in it; negative values are read as zero, but where there is a
    /// [`Self::lever`], which may be mistaken.
    pub delay: NtpDuration,
    /// Error bound of the measurement itself: both precisions and the drift during the exchange; not negative.
    pub dispersion: NtpDuration,
    /// Round trip from the source to its primary reference; not negative.
    pub root_delay: NtpDuration,
    /// Error bound of the source relative to its primary reference; not negative.
    pub root_dispersion: NtpDuration,
    /// Stratum of the source: 0 for a reference clock, 1 to 15 for a server; more is not synchronised. RFC 5905 §7.3.
    pub stratum: u8,
    /// Leap indicator of the source.
    pub leap: Leap,
    /// What *we* publish as our reference identifier when this source is selected: for an IPv4 server its address,
    /// for IPv6 the first four octets of the MD5 of its address. RFC 5905 §7.3.
    pub reference_id: [u8; 4],
    /// Standard error of the offset where the measurement itself tells it, as that of a reference clock does, which has no
    /// round trip; seconds. 0: round trips tell.
    pub standard_error: f64,
    /// Nothing where request and answer are of one round trip.
    pub lever: Lever,
}

/// The lever of the frequency on a delay whose two packets are not of one round trip: a peer sends when its own poll comes, up to
/// an interval after ours came there, or before it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Lever {
    /// From sending our packet to receiving the other one; negative when that came first. 0: one round trip.
    pub seconds: f64,
    /// Frequency that the oscillator was taken to lack when the delay was measured, s per s.
    pub frequency: f64,
}

impl Lever {
    /// By how much the delay is longer when the oscillator lacks this frequency, seconds.
    pub(crate) const fn change(self, frequency: f64) -> f64 {
        (frequency - self.frequency) * self.seconds
    }
}

impl Sample {
    /// Its delay when the oscillator lacks this frequency (s per s), seconds.
    #[must_use]
    pub fn delay_at(&self, frequency: f64) -> f64 {
        self.delay.as_secs_f64() + self.lever.change(frequency)
    }

    /// Whether its source can be followed with that stratum: only a reference clock has 0.
    pub(crate) fn has_possible_stratum(&self) -> bool {
        (1..16).contains(&self.stratum) || self.stratum == 0 && self.standard_error > 0.0
    }
}

/// What became of a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SampleVerdict {
    /// It counts.
    Stored,
    /// No source has this number.
    UnknownSource,
    /// The source has newer samples, or one of the same time.
    NotNewer,
    /// A value is outside of what a measurement can be: more than 68 years.
    OutOfRange,
    /// The source says that it is not synchronised: its stratum or leap indicator is noted, the offset is not.
    Unsynchronized,
    /// A leap second is happening: not every server passes it at the same instant.
    LeapSecond,
}

impl SampleVerdict {
    /// Whether the sample counts.
    #[must_use]
    pub const fn is_stored(self) -> bool {
        matches!(self, Self::Stored)
    }
}

/// What the operator says about a source.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct SourceOptions {
    /// Choose this source over truechimers without the option.
    pub prefer: bool,
    /// Watch this source but never follow it.
    pub no_select: bool,
    /// This source is known to be right: when such sources are selectable, only they vote.
    pub trust: bool,
    /// The clock is set only while at least one source with this option is selectable.
    pub require: bool,
    /// Added to each measured offset: corrects a known asymmetry of the path; seconds, positive when our clock would
    /// otherwise end up behind.
    pub offset_correction: f64,
    /// This source smears leap seconds: it is never mixed with sources that do not.
    pub smeared: bool,
    /// The source counts as one of this stratum at least; 0: as what it says.
    pub stratum_min: u8,
    /// Polls for which the source can still be followed by what is known of it after its reach register ran empty, unless a
    /// reachable source knows nothing older; 0: not at all.
    pub unreachable_polls_max: u32,
    /// When the source is selected, its stratum and reference identifier are ours, as if we were it.
    pub copy_reference: bool,
    /// Samples that count, as far as that is possible without a window: what is older than so many is forgotten little by
    /// little; 0 or 64 and more: by what the oscillator wanders alone. `None`: as of all sources ([`crate::Settings::samples_max`]).
    pub samples_max: Option<u32>,
}
