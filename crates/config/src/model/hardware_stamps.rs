//! Time stamps that network cards make.

use chime_discipline::CardSettings;
use std::time::Duration;

/// Which cards stamp our packets.
#[derive(Clone, PartialEq, Debug)]
pub struct HardwareStamps {
    /// Every card that can and that nobody else has set up otherwise, when none is named.
    pub automatic: bool,
    /// The cards that were named.
    pub cards: Vec<CardWish>,
    /// How long a card may take to tell when a packet left before the answer to it is looked at without that.
    pub timeout: Duration,
}

impl Default for HardwareStamps {
    fn default() -> Self {
        Self { automatic: true, cards: Vec::new(), timeout: Duration::from_millis(1) }
    }
}

impl HardwareStamps {
    /// No card is used unless it is named: what other daemons do.
    #[must_use]
    pub fn named_only() -> Self {
        Self { automatic: false, ..Self::default() }
    }
}

/// What is wanted of a card.
#[derive(Clone, PartialEq, Debug)]
pub struct CardWish {
    /// The interface; `None`: every one that can.
    pub interface: Option<String>,
    /// Shortest time between two readings of its clock: log2 seconds.
    pub poll_min: i8,
    /// Longest time between two readings while stamps are made: log2 seconds.
    pub poll_max: i8,
    /// How its clock is related to ours.
    pub relation: CardSettings,
    /// Seconds between the card's transmit stamps and the packet on its wire; added.
    pub transmit_compensation: f64,
    /// Seconds between a packet on its wire and the card's receive stamps; subtracted.
    pub receive_compensation: f64,
    /// Whether its clock may be read by hardware that latches both clocks at once.
    pub cross_timestamps: bool,
    /// Which packets it stamps; `None`: NTP packets if it has a filter for them, or else all.
    pub filter: Option<CardFilter>,
}

impl CardWish {
    /// How often clocks are read at the most and the least: every 1/64 s and every 12 days.
    pub const POLLS: core::ops::RangeInclusive<i8> = -6..=20;

    /// chrony's defaults.
    #[must_use]
    pub fn new(interface: Option<String>) -> Self {
        Self {
            interface,
            poll_min: 0,
            poll_max: 1,
            relation: CardSettings::default(),
            transmit_compensation: 0.0,
            receive_compensation: 0.0,
            cross_timestamps: true,
            filter: None,
        }
    }
}

/// Which received packets a card is told to stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CardFilter {
    /// None: only sent ones.
    None,
    /// NTP packets.
    Ntp,
    /// PTP packets.
    Ptp,
    /// All.
    All,
}

impl CardFilter {
    /// The words of configurations.
    pub const WORDS: [(&'static str, Self); 4] =
        [("none", Self::None), ("ntp", Self::Ntp), ("ptp", Self::Ptp), ("all", Self::All)];

    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ntp => "ntp",
            Self::Ptp => "ptp",
            Self::All => "all",
        }
    }
}
