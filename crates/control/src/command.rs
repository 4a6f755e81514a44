//! What an operator can ask of a running daemon.

use chime_engine::SourceMatch;
use serde::{Deserialize, Serialize};

/// A command, as JSON `{"command": "offline", "source": "ntp.example.com"}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Poll a source, or all.
    Online {
        /// Name or address; all sources when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Poll a source no more, or none at all.
    Offline {
        /// Name or address; all sources when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Poll a source quickly for a while, or all.
    Burst {
        /// Name or address; all sources when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Good answers after which it ends.
        #[serde(default = "Command::default_good")]
        good: u8,
        /// Requests after which it ends.
        #[serde(default = "Command::default_total")]
        total: u8,
    },
    /// Look all names up again.
    Refresh,
    /// Step the clock by what is left to correct.
    MakeStep,
    /// Forget the selected source and select again.
    Reselect,
    /// Drop all samples and start again.
    ResetSources,
    /// Read the configuration again, as SIGHUP does.
    Reload,
}

impl Command {
    const fn default_good() -> u8 {
        4
    }

    const fn default_total() -> u8 {
        8
    }

    /// A burst of the usual length.
    #[must_use]
    pub const fn burst(source: Option<String>) -> Self {
        Self::Burst { source, good: Self::default_good(), total: Self::default_total() }
    }

    /// What the engine is told; `None` when it is the shell's to do.
    #[must_use]
    pub fn for_engine(&self) -> Option<chime_engine::Command> {
        use chime_engine::Command as Engine;
        Some(match self {
            Self::Online { source } => Engine::Online(matching(source.as_deref())),
            Self::Offline { source } => Engine::Offline(matching(source.as_deref())),
            Self::Burst { source, good, total } => {
                Engine::Burst { matching: matching(source.as_deref()), good: *good, total: *total }
            }
            Self::Refresh => Engine::Refresh,
            Self::MakeStep => Engine::MakeStep,
            Self::Reselect => Engine::Reselect,
            Self::ResetSources => Engine::ResetSources,
            Self::Reload => return None,
        })
    }
}

fn matching(source: Option<&str>) -> SourceMatch {
    let Some(source) = source else { return SourceMatch::All };
    source.parse().map_or_else(
        |_| SourceMatch::Name(source.to_owned()),
        // A mask of the same family with all bits set is the exact address.
        |address: std::net::IpAddr| SourceMatch::Address {
            address,
            mask: match address {
                std::net::IpAddr::V4(_) => std::net::Ipv4Addr::BROADCAST.into(),
                std::net::IpAddr::V6(_) => std::net::Ipv6Addr::from_bits(u128::MAX).into(),
            },
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_json_and_misspelt_ones_are_not() {
        let read = |json: &str| serde_json::from_str::<Command>(json);
        assert_eq!(
            read(r#"{"command":"offline","source":"a"}"#).ok(),
            Some(Command::Offline { source: Some("a".to_owned()) })
        );
        assert_eq!(
            read(r#"{"command":"burst"}"#).ok(),
            Some(Command::Burst { source: None, good: 4, total: 8 })
        );
        assert_eq!(read(r#"{"command":"make-step"}"#).ok(), Some(Command::MakeStep));
        assert!(read(r#"{"command":"ofline"}"#).is_err());
        assert!(read(r#"{"command":"offline","sorce":"a"}"#).is_err());
    }

    #[test]
    fn sources_are_meant_by_name_or_address() {
        assert_eq!(matching(None), SourceMatch::All);
        assert_eq!(matching(Some("a.example")), SourceMatch::Name("a.example".to_owned()));
        let address = "2001:db8::1".parse().expect("an address");
        let mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().expect("an address");
        assert_eq!(matching(Some("2001:db8::1")), SourceMatch::Address { address, mask });
    }
}
