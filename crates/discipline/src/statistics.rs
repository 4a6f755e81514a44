//! Reports: what is known about each source, and about our own clock.

use crate::{KnownLeap, Leap, SourceId, SourceOptions};
use chime_time::MonoTime;
use serde::Serialize;

/// What the selection made of a source; the letters are those that chronyc's users know from `selectdata`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectionState {
    /// `N`: the operator excluded it.
    NoSelect,
    /// `M`: not enough samples yet.
    #[default]
    MissingSamples,
    /// `s`: the source is not synchronised.
    Unsynchronized,
    /// `r`: its stratum is not one of those that are wanted.
    WrongStratum,
    /// `d`: its root distance is too great.
    Distant,
    /// `~`: its samples vary too much.
    Jittery,
    /// `w`: waits for other sources to collect samples.
    WaitsForSamples,
    /// `S`: unreachable, and what is known of it is too old.
    Stale,
    /// `O`: serves its own time, as we do, and is followed only if nobody else can be.
    Orphan,
    /// `T`: not inside the interval on which the trusted sources agree.
    Untrusted,
    /// `l`: smears leap seconds, and those that are followed do not; or the other way round.
    Smeared,
    /// `x`: disagrees with the majority.
    Falseticker,
    /// `W`: would do, but too few sources agree or a required one is missing.
    WaitsForSources,
    /// `P`: would do, but another one is preferred.
    NotPreferred,
    /// `D`: agrees, but is too distant to be combined.
    NotCombined,
    /// `L`: agrees, but was cut off by the cluster algorithm.
    Outlier,
    /// `+`: combined with the selected one.
    Combined,
    /// `*`: selected.
    Selected,
}

impl SelectionState {
    /// The letter of `selectdata`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::NoSelect => 'N',
            Self::MissingSamples => 'M',
            Self::Unsynchronized => 's',
            Self::WrongStratum => 'r',
            Self::Distant => 'd',
            Self::Jittery => '~',
            Self::WaitsForSamples => 'w',
            Self::Stale => 'S',
            Self::Orphan => 'O',
            Self::Untrusted => 'T',
            Self::Smeared => 'l',
            Self::Falseticker => 'x',
            Self::WaitsForSources => 'W',
            Self::NotPreferred => 'P',
            Self::NotCombined => 'D',
            Self::Outlier => 'L',
            Self::Combined => '+',
            Self::Selected => '*',
        }
    }

    /// Whether the source agrees with the majority.
    #[must_use]
    pub const fn is_truechimer(self) -> bool {
        matches!(self.sign(), '*' | '+' | '-')
    }

    /// The sign of `sources`: `*` selected, `+` combined, `-` not combined, `x` falseticker, `~` jittery, `?` other.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Selected => '*',
            Self::Combined => '+',
            Self::Falseticker => 'x',
            Self::Jittery => '~',
            Self::WaitsForSources | Self::NotPreferred | Self::NotCombined | Self::Outlier => '-',
            _ => '?',
        }
    }
}

/// What is known about leap seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LeapStatus {
    /// The next one, as far as one is known.
    pub next: Option<KnownLeap>,
    /// The last one that the clock has passed, as far as one is known.
    pub last: Option<KnownLeap>,
    /// TAI minus UTC, seconds; `None` without a table.
    pub tai_offset: Option<i32>,
    /// Whether there is a table of leap seconds, and from which Unix second on it is not complete any more.
    pub table: Option<Option<i64>>,
    /// Whether the clock follows sources that smear leap seconds.
    pub follows_smeared: bool,
}

/// Everything that reports show about one source. Offsets are remote minus local: positive means that our clock is
/// behind (chronyc's source reports show the opposite sign). Times in seconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct SourceStatistics {
    /// What the selection made of it.
    pub state: SelectionState,
    /// Options of the operator.
    pub options: SourceOptions,
    /// Reach register, newest poll in bit 0.
    pub reach: u8,
    /// Stratum in the last packet; 0 before.
    pub stratum: u8,
    /// Leap indicator of the last packet.
    pub leap: Leap,
    /// Time since the last sample.
    pub last_sample_age: Option<f64>,
    /// How old the last sample was when the last selection was made; 0 while there was none.
    pub sample_age_when_selected: f64,
    /// Offset of the last sample as measured.
    pub measured_offset: f64,
    /// Offset of the last sample, adjusted for what was done to the clock since.
    pub adjusted_offset: f64,
    /// Error bound of the last sample: half its root delay plus its root dispersion.
    pub sample_error: f64,
    /// Round trip of the last sample.
    pub last_delay: f64,
    /// Samples in the regression.
    pub samples: usize,
    /// Runs of residuals with the same sign.
    pub runs: usize,
    /// Time from the oldest to the newest of these samples.
    pub span: f64,
    /// Frequency of the source relative to our corrected clock, ppm; positive when our clock loses.
    pub frequency_ppm: f64,
    /// Uncertainty of the frequency, ppm; 2000 when unknown.
    pub skew_ppm: f64,
    /// Estimated offset now.
    pub offset: f64,
    /// Standard error of the estimated offset.
    pub offset_error: f64,
    /// Standard deviation of the samples; 4 when unknown.
    pub standard_deviation: f64,
    /// Round trip to the primary source.
    pub root_delay: f64,
    /// Error bound relative to the primary source, without half the round trip.
    pub root_dispersion: f64,
    /// Score against the selected source; 1 is neutral, 10 takes over.
    pub score: f64,
    /// Lower end of the interval in which true time lies, as an offset.
    pub low: f64,
    /// Upper end of the interval in which true time lies, as an offset.
    pub high: f64,
}

/// What we know about our own clock: what the server serves and `tracking` shows. Times in seconds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SystemState {
    /// Whether the clock follows sources.
    pub synchronized: bool,
    /// Whether our own time is served because there is nothing to follow; `stratum` and `leap` say so too.
    pub local_active: bool,
    /// Leap indicator that we serve; `Unsynchronized` unless `synchronized` or `local_active`.
    pub leap: Leap,
    /// Our stratum; 0 when unsynchronised.
    pub stratum: u8,
    /// Our reference identifier; zero when unsynchronised.
    pub reference_id: [u8; 4],
    /// When the clock was last updated.
    #[serde(skip)]
    pub reference_at: Option<MonoTime>,
    /// What remains to be corrected; positive means that our clock is behind (slow).
    pub system_offset: f64,
    /// Offset found at the last update; positive means that our clock was behind.
    pub last_offset: f64,
    /// Long-term average of the offsets found.
    pub rms_offset: f64,
    /// Frequency correction in use, without slew, ppm; positive speeds our clock up (the oscillator is slow).
    pub frequency_ppm: f64,
    /// Difference between the last estimate of the frequency and the one in use, ppm.
    pub residual_frequency_ppm: f64,
    /// Uncertainty of the frequency, ppm.
    pub skew_ppm: f64,
    /// Round trip to the primary source.
    pub root_delay: f64,
    /// Error bound at `now`, without half the round trip.
    pub root_dispersion: f64,
    /// How fast `root_dispersion` grows, s per s.
    pub root_dispersion_rate: f64,
    /// Standard error of the estimate of our offset.
    pub estimated_error: f64,
    /// Time between the last two updates.
    pub update_interval: f64,
    /// The selected source.
    pub selected: Option<SourceId>,
    /// Clock updates since start.
    pub updates: u64,
    /// Steps since start.
    pub steps: u64,
    /// Sum of the magnitudes of these steps.
    pub accumulated_steps: f64,
    /// Whether a correction beyond the panic thresholds is being refused: the clock is not steered, and what was known of
    /// it before gets less certain.
    pub quarantined: bool,
    /// How often others stepped, slewed or retuned the clock since start.
    pub interferences: u64,
    /// In the last hour.
    pub recent_interferences: usize,
    /// The correction that is refused; positive means that our clock would be behind.
    pub refused_correction: Option<f64>,
}

impl Default for SystemState {
    /// A clock that nobody has set.
    fn default() -> Self {
        Self {
            synchronized: false,
            local_active: false,
            leap: Leap::Unsynchronized,
            stratum: 0,
            reference_id: [0; 4],
            reference_at: None,
            system_offset: 0.0,
            last_offset: 0.0,
            rms_offset: 0.0,
            frequency_ppm: 0.0,
            residual_frequency_ppm: 0.0,
            skew_ppm: 0.0,
            root_delay: 1.0,
            root_dispersion: 1.0,
            root_dispersion_rate: 0.0,
            estimated_error: 1.0,
            update_interval: 0.0,
            selected: None,
            updates: 0,
            steps: 0,
            accumulated_steps: 0.0,
            quarantined: false,
            interferences: 0,
            recent_interferences: 0,
            refused_correction: None,
        }
    }
}

impl SystemState {
    /// Bound of the error of our clock at the time of the report: half the root delay plus the root dispersion.
    #[must_use]
    pub fn root_distance(&self) -> f64 {
        self.root_delay / 2.0 + self.root_dispersion
    }
}

/// What a source's poll interval should be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PollAdvice {
    /// The newest samples contradict the others: what is true must be known soon.
    Shortest,
    /// As it is: too little is known.
    Keep,
    /// So few measurements say little; for who must do with few, this interval is safe.
    Few {
        /// Seconds; not negative and finite.
        seconds: f64,
    },
    /// This interval buys accuracy best.
    Interval {
        /// Seconds; positive and finite.
        seconds: f64,
        /// Standard error that the clock has after so long without another measurement, seconds; positive and finite.
        error: f64,
        /// How much a single measurement may change that, 0 to 1: little where all that is known comes from many.
        sway: f64,
    },
}
