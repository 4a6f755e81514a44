//! What becomes of the datagrams of other daemons' tools, and how many of each there were.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What became of a datagram. Only those that are answered can have changed anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handling {
    /// It has its reply.
    Answered,
    /// A reply says why not.
    Refused,
    /// No reply: it is no request.
    Malformed,
    /// No reply: the sender may not ask, or has not shown that it receives at its address.
    Restricted,
    /// No reply: the sender, or all senders together, ask too much.
    RateLimited,
    /// No reply: there was no room for it, nobody to send it to, or the daemon is stopping.
    Lost,
}

impl Handling {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Refused, Self::Malformed, Self::Restricted, Self::RateLimited, Self::Lost];

    /// The stable name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Restricted => "restricted",
            Self::RateLimited => "rate_limited",
            Self::Lost => "lost",
        }
    }
}

/// Datagrams of one protocol since the start, by what became of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handled(BTreeMap<Handling, u64>);

impl Handled {
    /// How many ended so.
    #[must_use]
    pub fn of(&self, handling: Handling) -> u64 {
        self.0.get(&handling).copied().unwrap_or_default()
    }

    /// How many were requests, answered or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        [Handling::Answered, Handling::Refused, Handling::RateLimited]
            .map(|handling| self.of(handling))
            .iter()
            .sum()
    }
}

impl FromIterator<(Handling, u64)> for Handled {
    fn from_iter<T: IntoIterator<Item = (Handling, u64)>>(counts: T) -> Self {
        Self(counts.into_iter().collect())
    }
}

/// The protocols of other daemons' tools.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlReport {
    /// chronyc's.
    pub chrony: Handled,
    /// ntpq's: mode 6.
    pub mode6: Handled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_json_by_their_names() {
        let handled: Handled = Handling::ALL.into_iter().zip(1..).collect();
        let json = serde_json::to_string(&handled).expect("it can be written");
        for handling in Handling::ALL {
            assert!(json.contains(&format!("\"{}\":{}", handling.name(), handled.of(handling))), "{json}");
        }
        assert_eq!(serde_json::from_str::<Handled>(&json).expect("it can be read"), handled);
        assert_eq!((handled.requests(), Handled::default().requests()), (1 + 2 + 5, 0));
    }
}
