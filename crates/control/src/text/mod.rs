//! Reports as text, column for column in the layout of chronyc, so that people and their scripts
//! find what they know.

mod clients;
mod clocks;
mod ntpdata;
pub(crate) mod number;
mod sources;
mod tracking;

use chime_engine::{LeapReport, TimestampSource};

pub(crate) use clients::server_counts;
pub use clients::{activity, clients, serverstats};
pub use clocks::{rtcdata, smoothing};
pub use ntpdata::ntpdata;
pub(crate) use ntpdata::{
    is_called, leap_of, local_reference_id, mode_words, poll_seconds, reference_letters, test_groups,
};
pub use sources::{authdata, ntsdatastats, selectdata, sources, sourcestats};
pub(crate) use sources::{
    authenticated_letter, has_cookies, kind_letter, mode_letters, option_letters, sign,
};
pub(crate) use tracking::reference_name;
pub use tracking::tracking;

use crate::{Names, Paint};

/// How a list is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// What stands in the name column.
    pub names: Names,
    /// Whether sources without an address are listed too.
    pub all: bool,
    /// Colours.
    pub paint: Paint,
}

/// A header and the rule under it, which is as long as the header with its trailing blanks.
fn header(columns: &str) -> String {
    format!("{columns}\n{}\n", "=".repeat(columns.chars().count()))
}

/// Leap status in words.
pub(crate) const fn leap_words(leap: LeapReport) -> &'static str {
    match leap {
        LeapReport::Normal => "Normal",
        LeapReport::Insert => "Insert second",
        LeapReport::Delete => "Delete second",
        LeapReport::Unsynchronized => "Not synchronised",
    }
}

/// Who stamped a packet, in words.
pub(crate) const fn timestamping_words(source: Option<TimestampSource>) -> &'static str {
    match source {
        Some(TimestampSource::Daemon) => "Daemon",
        Some(TimestampSource::Kernel) => "Kernel",
        Some(TimestampSource::Hardware) => "Hardware",
        None => "Invalid",
    }
}

/// A reference identifier as text: its letters while they are printable, which they are for
/// strata 0 and 1. RFC 5905 §7.3.
pub(crate) fn reference_id_letters(id: [u8; 4]) -> String {
    id.iter()
        .take_while(|octet| **octet != 0)
        .map(|octet| char::from(*octet))
        .filter(|letter| letter.is_ascii_graphic() || *letter == ' ')
        .collect()
}

/// A reference identifier in hexadecimal.
pub(crate) fn reference_id_hex(id: [u8; 4]) -> String {
    format!("{:08X}", u32::from_be_bytes(id))
}
