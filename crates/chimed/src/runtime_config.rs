//! Lines of an ntp.conf that ntpq sends to a running daemon: sources are added and removed, and nothing else.

use crate::time_plane::PlaneCommand;
use chime_config::{Authentication, NtsTrust, PollLimits, Source, SourceKind};
use chime_control::{Snapshot, mode6};
use chime_engine::{Command, SourceReport};
use std::net::IpAddr;
use std::path::PathBuf;

/// Lines that one request may have.
const LINES_MAX: usize = 16;
/// Poll exponents that NTP knows. RFC 5905 §7.2.
const POLL_RANGE: std::ops::RangeInclusive<i8> = 0..=17;

/// What the lines ask for; all of it or nothing.
///
/// # Errors
/// In words, what is wrong and where, as NTPsec's `column N …`.
pub(crate) fn read(text: &str, snapshot: &Snapshot) -> Result<Vec<PlaneCommand>, String> {
    let lines =
        text.lines().map(|line| line.split('#').next().unwrap_or("")).filter(|line| !line.trim().is_empty());
    let lines: Vec<&str> = lines.collect();
    if lines.is_empty() {
        return Err("column 0 syntax error".to_owned());
    }
    if lines.len() > LINES_MAX {
        return Err(format!("column 0 syntax error: more than {LINES_MAX} lines"));
    }
    lines.into_iter().map(|line| command(line, snapshot)).collect()
}

/// Words with the columns that they begin in.
fn words(line: &str) -> Vec<(usize, &str)> {
    let start = |word: &str| word.as_ptr() as usize - line.as_ptr() as usize;
    line.split_whitespace().map(|word| (start(word), word)).collect()
}

fn command(line: &str, snapshot: &Snapshot) -> Result<PlaneCommand, String> {
    let words = words(line);
    match &words[..] {
        [(_, kind @ ("server" | "pool" | "peer")), (_, address), options @ ..] => {
            let source = source(*kind == "pool", address, options)?;
            let is_known = |one: &&SourceReport| one.name.eq_ignore_ascii_case(address);
            if snapshot.engine.sources.iter().any(|one| is_known(&one)) {
                return Err(format!("{address} is a source already"));
            }
            Ok(PlaneCommand::AddSource(Box::new(source)))
        }
        [(_, "unpeer" | "unconfig"), (_, which)] => remove(which, snapshot),
        [(_, "server" | "pool" | "peer" | "unpeer" | "unconfig"), ..] => {
            Err(format!("column {} syntax error", line.trim_end().len()))
        }
        [(column, word), ..] => Err(format!(
            "column {column} {word}: only server, pool and unpeer are taken while the daemon runs; change the \
             configuration file and reload it"
        )),
        [] => Err("column 0 syntax error".to_owned()),
    }
}

fn source(is_pool: bool, address: &str, options: &[(usize, &str)]) -> Result<Source, String> {
    const POOL_MEMBERS: usize = 4;
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if address.parse::<IpAddr>().is_err() => {
            (host, Some(port.parse::<u16>().map_err(|_| format!("{address}: no such port"))?))
        }
        _ => (address, None),
    };
    let mut source = Source::new(host);
    // ntpd's defaults.
    (source.iburst, source.poll) = (false, PollLimits { min: 6, max: 10, initial: 6 });
    if is_pool {
        source.kind = SourceKind::Pool { count: POOL_MEMBERS, ignore: Vec::new() };
    }
    let mut trust = NtsTrust { port: port.unwrap_or(NtsTrust::default().port), ..NtsTrust::default() };
    let (mut is_nts, mut minpoll, mut maxpoll) = (false, None, None);
    let mut rest = options.iter();
    while let Some((column, option)) = rest.next() {
        let fault = || format!("column {column} syntax error");
        let mut value = || rest.next().map(|(_, value)| *value).ok_or_else(fault);
        match *option {
            "iburst" => source.iburst = true,
            "prefer" => source.prefer = true,
            "noselect" => source.no_select = true,
            "true" => source.trust = true,
            "nts" => is_nts = true,
            "minpoll" => minpoll = Some(poll(value()?).ok_or_else(fault)?),
            "maxpoll" => maxpoll = Some(poll(value()?).ok_or_else(fault)?),
            "key" => source.authentication = Authentication::Key(value()?.parse().map_err(|_| fault())?),
            "ca" => {
                trust.certificate_authorities = vec![PathBuf::from(value()?)];
                trust.system_cas = false;
            }
            "noval" => return Err(format!("column {column} noval: certificates are always checked here")),
            _ => return Err(fault()),
        }
    }
    let min = minpoll.unwrap_or(source.poll.min.min(maxpoll.unwrap_or(source.poll.min)));
    source.poll = PollLimits { min, max: maxpoll.unwrap_or(source.poll.max).max(min), initial: min };
    if is_nts {
        source.authentication = Authentication::Nts(trust);
    } else if port.is_some() {
        return Err(format!("{address}: a port is that of the key establishment, which only nts has"));
    }
    Ok(source)
}

fn poll(text: &str) -> Option<i8> {
    text.parse().ok().filter(|exponent| POLL_RANGE.contains(exponent))
}

/// By number of the association, by address, or by the name that it was configured with.
fn remove(which: &str, snapshot: &Snapshot) -> Result<PlaneCommand, String> {
    let sources = &snapshot.engine.sources;
    let found = match which.parse::<u16>() {
        Ok(number) => mode6::find(snapshot, number),
        Err(_) => sources.iter().find(|source| {
            let is_address =
                source.remote.is_some_and(|remote| which.parse() == Ok(remote.ip().to_canonical()));
            is_address || source.name.eq_ignore_ascii_case(which)
        }),
    };
    let source = found.ok_or_else(|| format!("{which}: no such source"))?;
    Ok(PlaneCommand::Engine(match source.remote {
        Some(remote) => Command::RemoveSource(remote.ip()),
        None => Command::RemoveByKey(source.source_key()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.engine.sources = vec![
            SourceReport {
                id: 4,
                name: "a.example".to_owned(),
                remote: Some("192.0.2.1:123".parse().expect("an address")),
                ..SourceReport::default()
            },
            SourceReport {
                id: 0x8000_0100,
                source: 1,
                name: "b.example".to_owned(),
                ..SourceReport::default()
            },
        ];
        snapshot
    }

    fn added(text: &str) -> Source {
        match read(text, &snapshot()).expect("good").pop() {
            Some(PlaneCommand::AddSource(source)) => *source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn servers_and_pools_are_added_with_their_options() {
        let source = added("server ntp.example iburst minpoll 4 maxpoll 7 prefer key 3");
        assert_eq!((source.name.as_str(), source.iburst, source.prefer), ("ntp.example", true, true));
        assert_eq!(source.poll, PollLimits { min: 4, max: 7, initial: 4 });
        assert_eq!(source.authentication, Authentication::Key(3));
        let source = added("server ntp.example:4461 nts ca /etc/ca.pem # a comment");
        let trust = source.authentication.nts_trust().expect("nts");
        assert_eq!((trust.port, trust.system_cas), (4461, false));
        assert!(matches!(added("pool ntp.example").kind, SourceKind::Pool { count: 4, .. }));
        assert_eq!(added("server ntp.example maxpoll 3").poll, PollLimits { min: 3, max: 3, initial: 3 });
    }

    #[test]
    fn sources_are_removed_by_number_address_or_name() {
        for which in ["5", "192.0.2.1", "A.example"] {
            let commands = read(&format!("unpeer {which}"), &snapshot()).expect("good");
            assert!(
                matches!(commands[..], [PlaneCommand::Engine(Command::RemoveSource(_))]),
                "{which}: {commands:?}"
            );
        }
        let commands = read("unconfig b.example", &snapshot()).expect("good");
        assert!(matches!(commands[..], [PlaneCommand::Engine(Command::RemoveByKey(_))]), "{commands:?}");
    }

    #[test]
    fn everything_else_is_refused_in_words_and_nothing_is_done() {
        for (text, wanted) in [
            ("", "column 0 syntax error"),
            ("nonsense directive", "column 0 nonsense: only server"),
            ("  driftfile /tmp/x", "column 2 driftfile: only server"),
            ("server", "column 6 syntax error"),
            ("server c.example minpoll", "column 17 syntax error"),
            ("server c.example minpoll 99", "column 17 syntax error"),
            ("server c.example xleave", "column 17 syntax error"),
            ("server c.example nts noval", "certificates are always checked"),
            ("server c.example:123", "only nts has"),
            ("server a.example", "a source already"),
            ("unpeer 192.0.2.9", "no such source"),
            ("unpeer 77", "no such source"),
            ("server c.example\nnonsense", "only server"),
        ] {
            let refusal = read(text, &snapshot()).expect_err(text);
            assert!(refusal.contains(wanted), "{text}: {refusal}");
        }
        assert!(read(&"server c.example\n".repeat(17), &Snapshot::default()).is_err());
    }
}
