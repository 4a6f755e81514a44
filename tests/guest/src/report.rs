//! What the two sides of the console tell each other: the plan goes in as a file, events come out as lines.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What the guest is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// How wrong the guest's clock is to be: guest minus host, in seconds.
    pub(crate) wrong_by_seconds: f64,
    /// The daemon and its arguments; without one the clock driver is exercised alone.
    pub(crate) daemon: Vec<String>,
    /// How long to watch the daemon, in seconds.
    pub(crate) watch_seconds: f64,
    /// End earlier, once the clock has been this near to the truth for so long.
    pub(crate) settled: Option<Settled>,
    /// Folders to make before the daemon starts, under /run.
    pub(crate) folders: Vec<PathBuf>,
    /// Files to write there, and their contents.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// The guest's address.
    pub(crate) address: Ipv4Addr,
    /// A frequency that the kernel's clock has been left with, in ppm.
    pub(crate) frequency_ppm: Option<f64>,
    /// What others do to the clock while the daemon runs; in order of time.
    pub(crate) deeds: Vec<Deed>,
    /// The daemon is killed while it slews, and what it leaves behind is looked at.
    pub(crate) is_killed: bool,
}

/// Something that another program does to the clock.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Deed {
    /// When, in seconds after the daemon's start.
    pub(crate) at: f64,
    pub(crate) what: Meddling,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Meddling {
    /// Steps it by so many seconds.
    Step(f64),
    /// Sets its frequency, in ppm.
    Frequency(f64),
}

/// When the clock counts as right.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// The largest error, in seconds.
    pub(crate) error_max: f64,
    /// For how long, in seconds.
    pub(crate) seconds: f64,
}

/// Something that happened in the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The guest runs our program.
    Booted,
    /// The clock has been set wrong.
    ClockSet {
        /// The error now, in seconds.
        error: f64,
    },
    /// The daemon has been started.
    DaemonStarted,
    /// Another program did something to the clock.
    Meddled {
        /// What.
        what: Meddling,
    },
    /// The daemon wrote a line.
    Log {
        /// The line.
        line: String,
    },
    /// The guest's clock was compared with the host's.
    Offset {
        /// Guest minus host, in seconds.
        error: f64,
        /// The round trip of the best answer, in seconds; half of it bounds the error of the comparison.
        round_trip: f64,
    },
    /// What the guest's kernel says about its clock.
    Kernel {
        /// Whether it calls itself synchronised.
        synchronized: bool,
        /// Its frequency correction.
        frequency_ppm: f64,
        /// Its own bound, in seconds.
        max_error: f64,
        /// TAI minus UTC, in seconds.
        tai_offset: i32,
    },
    /// As whom the daemon runs.
    Privileges {
        /// The user's number.
        user: Option<u64>,
        /// Bits of the capabilities that it has.
        effective: Option<u64>,
        /// Bits of the capabilities that it or what it starts could get.
        bounding: Option<u64>,
        /// Whether the kernel refuses it every gain of privilege.
        no_new: bool,
    },
    /// Something was measured without a daemon.
    Check {
        /// What.
        what: String,
        /// What it should be.
        expected: f64,
        /// What it is.
        measured: f64,
        /// How far these may be apart.
        tolerance: f64,
    },
    /// The daemon has ended.
    DaemonExited {
        /// How, in words.
        status: String,
        /// Whether it ended as asked, with success.
        clean: bool,
    },
    /// Something went wrong in the guest.
    Failed {
        /// What.
        message: String,
    },
    /// The guest halts.
    Done,
}

/// What starts a line with an event.
const MARK: &str = "@@";

impl Event {
    /// Writes the event to the console.
    pub(crate) fn print(&self) {
        match serde_json::to_string(self) {
            Ok(json) => println!("{MARK}{json}"),
            Err(error) => println!("an event that cannot be written: {error}"),
        }
    }

    /// Reads an event from a line of the console; `None` for other lines, such as the kernel's.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim_end().strip_prefix(MARK)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_were_written() {
        let line = r#"@@{"event":"offset","error":-1.5e-5,"round_trip":0.00014}"#;
        assert_eq!(Event::parse(line), Some(Event::Offset { error: -1.5e-5, round_trip: 0.000_14 }));
        assert_eq!(
            Event::parse("@@{\"event\":\"done\"}\r"),
            Some(Event::Done),
            "a console ends lines its own way"
        );
        assert_eq!(Event::parse("[    0.00] Linux version 6.1"), None);
        assert_eq!(Event::parse("@@{\"event\":\"unheard-of\"}"), None);
    }
}
