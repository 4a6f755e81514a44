//! Our daemon under the name of ntpd, on ntpd's file: its log and its statistics have the lines that ntpd writes in the
//! same situation, and what people do with them goes on.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::peers::ntpsec::{self, Ntpsec};
use crate::peers::{ServerOf, chrony};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("ntpd/1.2.2-statistics-have-its-columns", |stage| statistics(stage, Bookworm)),
    ("ntpd/1.2.3-statistics-have-its-columns", |stage| statistics(stage, Trixie)),
    ("ntpd/1.2.3-logconfig-chooses-the-events", logged_events),
    ("founding/ntpsec-quick-start", quick_start),
];

/// Kinds of statistics that are written as something happens.
const KINDS: [&str; 4] = ["loopstats", "peerstats", "rawstats", "protostats"];

fn statistics(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let folders = ["ours", "theirs"].map(|name| stage.folder().join(format!("{name}-statistics")));
    let text = |folder: &Path| {
        format!(
            "server server4.test iburst minpoll 0 maxpoll 0\ntos minsane 1 minclock 1\nstatsdir {}\n\
             statistics {} sysstats usestats\nfilegen protostats file protocol type none nolink enable\n\
             filegen rawstats type month\n",
            folder.display(),
            KINDS.join(" ")
        )
    };
    for folder in &folders {
        fs::create_dir_all(folder)?;
    }
    let _ours = ntpsec::of_text(stage, &two, suite, ("ours", &text(&folders[0])), true)?;
    let _theirs = ntpsec::of_text(stage, &four, suite, ("theirs", &text(&folders[1])), false)?;
    for kind in KINDS {
        stage.until(kind, PATIENCE, || {
            let [ours, theirs] = [lines(&folders[0], kind)?, lines(&folders[1], kind)?];
            same_columns(kind, &ours, &theirs)
        })?;
    }
    for (kind, named) in [("loopstats", true), ("rawstats", true), ("protostats", false)] {
        let [ours, theirs] = [names(&folders[0], kind)?, names(&folders[1], kind)?];
        ensure!(ours == theirs && (ours.len() == 2) == named, "{kind}: {ours:?}, of ntpd {theirs:?}");
    }
    Ok(())
}

/// What a kind's files are called, without a day that may have passed meanwhile.
fn names(folder: &Path, kind: &str) -> Result<Vec<String>> {
    let start = if kind == "protostats" { "protocol" } else { kind };
    let names =
        fs::read_dir(folder)?.filter_map(Result::ok).map(|it| it.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(start)).collect();
    names.sort();
    Ok(names)
}

fn lines(folder: &Path, kind: &str) -> Result<Vec<String>> {
    let name = if kind == "protostats" { "protocol" } else { kind };
    let text = fs::read_to_string(folder.join(name)).with_context(|| format!("no {kind} yet"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// `logconfig`: events of the system and of associations are in the log of both, or of neither.
fn logged_events(stage: &mut Stage) -> Result<()> {
    const LINES: [&str; 7] = [
        "=syncall",
        "=syncstatus +sysevents",
        "=allall -peerall",
        "=peerevents",
        "=all",
        "=allall",
        "+sysall",
    ];
    let nodes = [stage.node(2)?, stage.node(4)?];
    for (number, line) in LINES.into_iter().enumerate() {
        let mut logged = Vec::new();
        for (ours, node) in [true, false].into_iter().zip(&nodes) {
            let name = format!("{}-{number}", if ours { "ours" } else { "theirs" });
            let log = stage.folder().join(format!("{name}-log"));
            let text = format!(
                "logfile {}\nlogconfig {line}\ntos orphan 5 orphanwait 1\nserver 10.77.0.1 iburst\n",
                log.display()
            );
            let daemon = ntpsec::of_text(stage, node, Trixie, (&name, &text), ours)?;
            // By then both have told of their start and of what they will ask.
            stage.until("it answers", PATIENCE, || daemon.ntpq(&["-c", "rv 0 leap"]))?;
            daemon.stop()?;
            let text = fs::read_to_string(&log)?;
            logged.push([" 06 restart", " mobilize assoc"].map(|event| text.contains(event)));
        }
        ensure!(logged[0] == logged[1], "{line}: {:?}, of ntpd {:?}", logged[0], logged[1]);
    }
    Ok(())
}

/// The same number of columns, each written in the same way, and equal where the situation decides.
fn same_columns(kind: &str, ours: &[String], theirs: &[String]) -> Result<()> {
    /// From 0: the addresses, leap, version, mode, stratum, and where the server has its time from.
    const EQUAL: [(&str, &[usize]); 4] = [
        ("loopstats", &[]),
        ("peerstats", &[2, 3]),
        ("rawstats", &[2, 8, 9, 10, 11, 13, 16, 18, 19]),
        ("protostats", &[]),
    ];
    if kind == "protostats" {
        return same_events(ours, theirs);
    }
    // The last ones: by then both are as they stay. ntpd takes minutes to its second update of the clock.
    let least = if kind == "loopstats" { 1 } else { 4 };
    ensure!(ours.len() > 8 && theirs.len() >= least, "{kind}: {} and {} lines", ours.len(), theirs.len());
    let split = |lines: &[String]| -> Vec<String> {
        lines.last().map(|line| line.split(' ').map(str::to_owned).collect()).unwrap_or_default()
    };
    let (our, their) = (split(ours), split(theirs));
    let shapes = |columns: &[String]| columns.iter().map(|column| shape(column)).collect::<Vec<_>>();
    ensure!(shapes(&our) == shapes(&their), "{kind}:\n{our:?}, of ntpd\n{their:?}");
    let equal = EQUAL.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, columns)| columns);
    for column in equal {
        ensure!(our[*column] == their[*column], "{kind}, column {column}:\n{our:?}, of ntpd\n{their:?}");
    }
    Ok(())
}

/// How a column is written: digits behind the point, as an address, or as it is.
fn shape(column: &str) -> String {
    if column.parse::<std::net::IpAddr>().is_ok() {
        return "address".to_owned();
    }
    match column.trim_start_matches('-').split_once('.') {
        Some((whole, digits)) if whole.bytes().all(|octet| octet.is_ascii_digit()) => {
            format!("digits {}", digits.len())
        }
        _ => "word".to_owned(),
    }
}

/// The events that a start has in both, in the same form.
fn same_events(ours: &[String], theirs: &[String]) -> Result<()> {
    for event in ["06 restart", "81 mobilize assoc", "84 reachable", "8a sys_peer"] {
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(event)).cloned();
        let (our, their) = (find(ours), find(theirs));
        let their = their.with_context(|| format!("ntpd has no {event}: {theirs:?}"))?;
        let our = our.with_context(|| format!("no {event}: {ours:?}, of ntpd {their}"))?;
        let columns = |line: &str| line.split(' ').skip(2).map(str::to_owned).collect::<Vec<_>>();
        let (our, their) = (columns(&our), columns(&their));
        // Address and event; the numbers of associations are each one's own.
        ensure!(our[0] == their[0] && our[2..4] == their[2..4], "{our:?}, of ntpd {their:?}");
        ensure!(our[1].len() == 4 && our.len() == their.len(), "{our:?}, of ntpd {their:?}");
    }
    Ok(())
}

/// `nts` behind a server; `nts enable`, `nts key`, `nts cert`, `nts cookie`; then the log, `ntpq -p` and `ntpq -c nts`.
fn quick_start(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let identity = &stage.pki().by_name;
    let (key, chain) = (identity.key.display(), identity.chain.display());
    let [server_log, client_log] =
        ["server", "client"].map(|name| stage.folder().join(format!("ntpd-{name}-log")));
    let text = format!(
        "tos orphan 5 orphanwait 1\nnts enable\nnts key {key}\nnts cert {chain}\nnts cookie {}\nlogfile {}\n",
        stage.folder().join("nts-keys").display(),
        server_log.display()
    );
    let _server = ntpsec::of_text(stage, &one, Trixie, ("server", &text), true)?;
    expect_lines(
        stage,
        &server_log,
        &[
            "INIT: ntpd ntpsec-1.",
            "INIT: Command line: ",
            "CONFIG: readconfig: parsing file: ",
            "NTSs: starting NTS-KE server listening on port 4460",
            &format!("NTSs: loaded certificate (chain) from {chain}"),
            &format!("NTSs: loaded private key from {key}"),
            "NTSs: Private Key OK",
            "NTSs: listen4 worked",
            "NTSs: listen6 worked",
        ],
    )?;
    let text = format!(
        "server server.test nts ca {} iburst minpoll 0 maxpoll 0 # TLS1.3 only\nlogfile {}\n",
        stage.pki().ca.display(),
        client_log.display()
    );
    let client = ntpsec::of_text(stage, &two, Trixie, ("client", &text), true)?;
    stage.until("it is selected", PATIENCE, || client.view()?.expect_selected(0xff))?;
    expect_lines(
        stage,
        &client_log,
        &[
            "DNS: dns_probe: server.test, cast_flags:1, flags:21901",
            "NTSc: connecting to server.test+4460 => ",
            "NTSc: set cert host: server.test",
            "NTSc: Using TLSv1.3",
            "NTSc: certificate subject name: ",
            "NTSc: certificate issuer name: ",
            "NTSc: SAN:DNS server.test",
            "NTSc: certificate is valid.",
            "NTSc: Good ALPN from server.test",
            "NTSc: Got 8 cookies, length ",
            "NTSc: NTS-KE req to server.test took 0.",
            "DNS: dns_take_status: server.test=>good, 0",
            "PROTO: fd77::1 ",
        ],
    )?;
    expect_lines(stage, &server_log, &["NTSs: NTS-KE from "])?;
    billboard(stage, &client)?;
    rotated(stage, &client, &client_log)
}

fn billboard(stage: &Stage, client: &Ntpsec) -> Result<()> {
    stage.until("column t", PATIENCE, || {
        let text = client.ntpq(&["-p"])?;
        let row: Vec<&str> = text.lines().nth(2).unwrap_or_default().split_whitespace().collect();
        // The name takes the place of the reference identifier, as in the guide, when it is long.
        ensure!(row.first().is_some_and(|name| name.starts_with('*')) && row.contains(&"8"), "{text}");
        Ok(())
    })?;
    let text = client.ntpq(&["-c", "nts"])?;
    for label in ["NTS client sends:", "NTS server recvs", "NTS make cookies:", "NTS KE"] {
        ensure!(text.contains(label), "no `{label}` in: {text}");
    }
    let (succeeded, text) = client.tool("usr/sbin/ntpwait", &["-n", "3", "-s", "1", "-v"])?;
    ensure!(succeeded, "ntpwait: {text}");
    Ok(())
}

/// What logrotate does with ntpd's log: another name for the old one, and a signal.
fn rotated(stage: &Stage, client: &Ntpsec, log: &Path) -> Result<()> {
    let old = PathBuf::from(format!("{}.1", log.display()));
    fs::rename(log, &old)?;
    client.signal(Signal::SIGHUP)?;
    stage.until("a new log", PATIENCE, || {
        let text = fs::read_to_string(log)?;
        ensure!(text.contains(" ntpd["), "{text}");
        Ok(())
    })?;
    ensure!(client.view()?.is_selected, "the signal cost it its server");
    Ok(())
}

/// The lines that begin so are in the log, behind the time and the name and number of the process.
fn expect_lines(stage: &Stage, log: &Path, wanted: &[&str]) -> Result<()> {
    stage.until("the log", PATIENCE, || {
        let text = fs::read_to_string(log)?;
        let said: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("]: ")).map(|(_, said)| said).collect();
        let missing: Vec<&&str> =
            wanted.iter().filter(|start| !said.iter().any(|line| line.starts_with(**start))).collect();
        ensure!(missing.is_empty(), "missing: {missing:?} in\n{text}");
        let times =
            text.lines().filter(|line| line.get(10..11) == Some("T") && line.get(19..25) == Some(" ntpd["));
        ensure!(times.count() == text.lines().count(), "{text}");
        Ok(())
    })
}
