//! `interface`: where the server listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use chime_server::Subnet;

use super::Reader;
use super::line::{Line, Parsed, unknown};
use crate::NtpServer;

const ACTIONS: &[&str] = &["listen", "ignore", "drop"];

#[derive(Clone)]
enum Which {
    All,
    Family { v4: bool },
    Wildcard,
    Named(String),
    Network(Subnet),
}

/// The rules, of which the last that matches decides; everything is listened on without one.
#[derive(Clone, Default)]
pub(super) struct Interfaces {
    rules: Vec<(Which, bool)>,
}

/// One `interface` or `nic` line.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let action = line.require("listen, ignore or drop")?;
    if !ACTIONS.contains(&action.text) {
        return Err(unknown(&action, "action", ACTIONS));
    }
    let word = line.require("all, ipv4, ipv6, wildcard, a name or an address")?;
    let (address, prefix) = word.text.split_once('/').unwrap_or((word.text, ""));
    let address = address.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let network = address.and_then(|address| match prefix.parse() {
        Ok(prefix) => Subnet::new(address, prefix).ok(),
        Err(_) => Some(Subnet::host(address)),
    });
    let which = match word.text {
        "all" => Which::All,
        "ipv4" => Which::Family { v4: true },
        "ipv6" => Which::Family { v4: false },
        "wildcard" => Which::Wildcard,
        name => network.map_or_else(|| Which::Named(name.to_owned()), Which::Network),
    };
    let listen = action.text == "listen";
    if !listen && matches!(which, Which::Named(_) | Which::Network(_)) {
        let why = "one interface cannot be left out; list the others with `interface ignore all` before them";
        reader.no_effect(line, &word, why);
    } else if listen && network.is_some_and(|network| network != Subnet::host(network.address())) {
        reader.no_effect(line, &word, "addresses to listen on are given one by one");
    } else {
        reader.interfaces.rules.push((which, listen));
    }
    line.end()
}

impl Interfaces {
    /// The sockets on a port.
    pub(super) fn servers(&self, port: u16) -> Vec<NtpServer> {
        const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let mut servers = Vec::new();
        for any in ANY {
            let listened = self.verdict(any, |which| matches!(which, Which::All)).unwrap_or(true);
            if listened {
                servers.push(NtpServer::new(SocketAddr::new(any, port)));
                continue;
            }
            for (which, _) in &self.rules {
                match which {
                    Which::Network(network) if network.address().is_ipv4() == any.is_ipv4() => {
                        let address = network.address();
                        let is_it = |which: &Which| match which {
                            Which::Network(network) => network.covers(&Subnet::host(address)),
                            other => matches!(other, Which::All),
                        };
                        if self.verdict(address, is_it) == Some(true) {
                            servers.push(NtpServer::new(SocketAddr::new(address, port)));
                        }
                    }
                    Which::Named(name) => {
                        let is_it = |which: &Which| match which {
                            Which::Named(other) => other == name,
                            other => matches!(other, Which::All),
                        };
                        if self.verdict(any, is_it) == Some(true) {
                            let server = NtpServer::new(SocketAddr::new(any, port));
                            servers.push(NtpServer { interface: Some(name.clone()), ..server });
                        }
                    }
                    _ => {}
                }
            }
        }
        servers
    }

    /// What the last rule says that matches an address of the family.
    fn verdict(&self, address: IpAddr, matches: impl Fn(&Which) -> bool) -> Option<bool> {
        let applies = |which: &Which| match which {
            Which::Family { v4 } => *v4 == address.is_ipv4(),
            other => matches(other),
        };
        self.rules.iter().rev().find(|(which, _)| applies(which)).map(|(_, listen)| *listen)
    }

    /// Adds what `-I` says: only there.
    #[cfg(test)]
    pub(super) fn listen_only(rules: &[(&str, bool)]) -> Self {
        let rules = rules.iter().map(|(word, listen)| {
            let which = match *word {
                "all" => Which::All,
                "wildcard" => Which::Wildcard,
                "ipv4" => Which::Family { v4: true },
                "ipv6" => Which::Family { v4: false },
                name => name.parse().map_or_else(
                    |_| Which::Named(name.to_owned()),
                    |address| Which::Network(Subnet::host(address)),
                ),
            };
            (which, *listen)
        });
        Self { rules: rules.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listens(rules: &[(&str, bool)]) -> Vec<String> {
        let servers = Interfaces::listen_only(rules).servers(123);
        let shown = servers.iter().map(|server| match &server.interface {
            Some(name) => format!("{} on {name}", server.listen),
            None => server.listen.to_string(),
        });
        shown.collect()
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        assert_eq!(listens(&[]), ["0.0.0.0:123", "[::]:123"]);
        assert_eq!(listens(&[("wildcard", false)]), ["0.0.0.0:123", "[::]:123"]);
        assert_eq!(listens(&[("ipv6", false)]), ["0.0.0.0:123"]);
        assert_eq!(listens(&[("all", false), ("192.0.2.1", true)]), ["192.0.2.1:123"]);
        assert_eq!(listens(&[("192.0.2.1", true), ("all", false)]), [""; 0]);
        assert_eq!(listens(&[("all", false), ("eth1", true)]), ["0.0.0.0:123 on eth1", "[::]:123 on eth1"]);
        assert_eq!(listens(&[("all", false), ("eth1", true), ("ipv6", false)]), ["0.0.0.0:123 on eth1"]);
        assert_eq!(listens(&[("all", false)]), [""; 0]);
    }
}
