//! What no client and no tool sends: real daemons are asked the same, and answer as we do, or otherwise by name.

use super::PATIENCE;
use crate::install::Suite::{self, Trixie};
use crate::malformed::{commands, questions, requests};
use crate::network::Node;
use crate::peers::chrony::{self, Chrony};
use crate::peers::ntpsec::{self, Ntpsec};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use chime_control::Handling;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("chronyc/malformed-commands-end-as-with-chronyd", of_chronyc),
    ("ntpq/1.2.3-malformed-questions-end-as-with-ntpd", |stage| of_ntpq(stage, Trixie)),
    ("our-server/malformed-requests-end-as-with-chronyd-and-ntpd", of_clients),
];

/// What chronyd 4.6 does otherwise: it still knows two commands that are gone since 4.7, and adds a source without a name.
const COMMANDS_OTHERWISE: &[&str] = &["command 0", "a command that was dropped", "a source without a name"];

/// Ignored, and counted among the requests by chronyd.
const COUNTED_BY_CHRONYD: &[&str] = &["version 0", "version 1", "version 4"];

/// Reports whose numbers only a command changes: the clock is not synchronised, and the source is offline.
const STATE: &[&str] = &[
    "tracking",
    "sources -a",
    "sourcestats",
    "selectdata -a",
    "authdata -a",
    "activity",
    "manual list",
    "smoothing",
    "accheck 192.0.2.1",
    "cmdaccheck 192.0.2.1",
];

/// What no chronyc sends ends as with chronyd: the same reply or none, as many requests counted, and the same state as before.
fn of_chronyc(stage: &mut Stage) -> Result<()> {
    let (two, four) = (stage.node(2)?, stage.node(4)?);
    let text = "port 0\nserver 192.0.2.9 offline\nmanual\nsmoothtime 400 0.01 leaponly\n";
    let ours = chrony::of_text(stage, &two, Trixie, ("ours", text), true)?;
    let theirs = chrony::of_text(stage, &four, Trixie, ("theirs", text), false)?;
    let mut different = Vec::new();
    let mut replies = Vec::new();
    for (whose, daemon) in [("ours", &ours), ("chronyd", &theirs)] {
        stage.until("it answers", PATIENCE, || daemon.chronyc(&["tracking"]))?;
        let (state, packets) = (state(daemon)?, packets(daemon)?);
        replies.push(replies_of(daemon)?);
        // Each kind is followed by a good request, and the count is asked for once more.
        let counted = packets_since(daemon, packets)? - i64::try_from(commands::all().len())? - 1;
        let is_counted = |(name, _, fate): &(&str, Vec<u8>, commands::Fate)| {
            let by_chronyd = whose == "chronyd" && COUNTED_BY_CHRONYD.contains(name);
            by_chronyd || fate.handling() != Handling::Malformed
        };
        let requests = commands::all().iter().filter(|kind| is_counted(kind)).count();
        if counted != i64::try_from(requests)? {
            different.push(format!("{whose}: {counted} of {requests} requests were counted"));
        }
        let after = self::state(daemon)?;
        // chronyd adds a source without a name.
        if whose == "ours" && state != after {
            different.push(format!("the state was {state:#?} and is {after:#?}"));
        }
    }
    for (name, our) in &replies[0] {
        let their = &replies[1][name];
        if (our == their) == COMMANDS_OTHERWISE.contains(name) {
            different.push(format!("{name}: {our:?}, of chronyd {their:?}"));
        }
    }
    ensure!(different.is_empty(), "{}", different.join("\n"));
    Ok(())
}

fn state(daemon: &Chrony) -> Result<Vec<String>> {
    STATE.iter().map(|report| Ok(daemon.chronyc_says(&report.split(' ').collect::<Vec<_>>())?.1)).collect()
}

/// `Command packets received` of serverstats, before this question.
fn packets(daemon: &Chrony) -> Result<i64> {
    let text = daemon.chronyc(&["-c", "serverstats"])?;
    text.split(',')
        .nth(2)
        .and_then(|count| count.trim().parse().ok())
        .with_context(|| format!("serverstats: {text}"))
}

fn packets_since(daemon: &Chrony, before: i64) -> Result<i64> {
    Ok(packets(daemon)? - before)
}

fn replies_of(daemon: &Chrony) -> Result<BTreeMap<&'static str, Option<Vec<u8>>>> {
    let own = daemon.folder().join("client");
    // A second try finds that of the first.
    let _ = fs::remove_file(&own);
    let socket = UnixDatagram::bind(own)?;
    socket.connect(daemon.folder().join("socket"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    commands::all().into_iter().map(|(name, datagram, _)| Ok((name, reply_to(&socket, &datagram)?))).collect()
}

/// The reply to a datagram; `None` when the next request is answered instead.
fn reply_to(socket: &UnixDatagram, datagram: &[u8]) -> Result<Option<Vec<u8>>> {
    const NEXT: [u8; 4] = *b"next";
    let mut next = vec![6, 1, 0, 0, 0, 33, 0, 0];
    next.extend(NEXT);
    next.resize(104, 0);
    socket.send(datagram)?;
    socket.send(&next)?;
    let mut room = [0; 1024];
    let mut reply = None;
    loop {
        let octets = socket.recv(&mut room).context("no reply to a good request")?;
        if room[16..20] == NEXT {
            return Ok(reply);
        }
        reply = Some(room[..octets].to_vec());
    }
}

/// The answers of the daemon on a node, by kind.
fn answers(node: &Node, protocol: &str) -> Result<BTreeMap<String, String>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["malformed", protocol]);
    let output = node.wrap(&command).output().context("cannot ask")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect())
}

/// What ntpd 1.2.3 does otherwise.
const QUESTIONS_OTHERWISE: &[(&str, &str)] = &[("a configuration with half a MAC", "error 1")];

/// What no ntpq sends ends as with ntpd, the same error or none; `ss_numctlreq` counts what was a question. (ntpd's
/// counts some of what it ignores, too.)
fn of_ntpq(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (two, four) = (stage.node(2)?, stage.node(4)?);
    let text = "tos orphan 5 orphanwait 1\ncontrolkey 1\n";
    let ours = ntpsec::of_text(stage, &two, suite, ("ours", text), true)?;
    let theirs = ntpsec::of_text(stage, &four, suite, ("theirs", text), false)?;
    for daemon in [&ours, &theirs] {
        stage.until("it answers", PATIENCE, || daemon.ntpq(&["-c", "rv 0 leap"]))?;
    }
    let first = questions_counted(&ours)?;
    let own = questions_counted(&ours)? - first;
    let before = questions_counted(&ours)?;
    let our = answers(&two, "mode6")?;
    let counted = questions_counted(&ours)? - before;
    let their = answers(&four, "mode6")?;
    let mut different = Vec::new();
    let mut questions = own;
    for (name, _, fate) in questions::all() {
        let wanted = match fate {
            questions::Fate::Ignored | questions::Fate::Unproven => "none".to_owned(),
            questions::Fate::Refused(code) => format!("error {code}"),
        };
        let theirs = ("ntpd", their[name].as_str());
        different.extend(differences(name, &wanted, &our[name], theirs, QUESTIONS_OTHERWISE));
        // Each kind is followed by a good question.
        questions += 1 + i64::from(fate.handling() == Handling::Refused);
    }
    ensure!(different.is_empty(), "{}", different.join("\n"));
    ensure!(counted == questions, "{counted} of {questions} questions were counted");
    Ok(())
}

/// `control requests` of sysstats.
fn questions_counted(daemon: &Ntpsec) -> Result<i64> {
    let text = daemon.ntpq(&["-c", "rv 0 ss_numctlreq"])?;
    let count = text.split("ss_numctlreq=").nth(1).and_then(|rest| rest.trim().parse().ok());
    count.with_context(|| format!("ntpq: {text}"))
}

/// What chronyd 4.6 does otherwise.
const REQUESTS_OTHERWISE_CHRONYD: &[(&str, &str)] =
    &[("two unique identifiers", "nak"), ("a unique identifier of 600 octets", "nak")];
/// What ntpd 1.2.3 does otherwise: it never sends an NTS NAK.
const REQUESTS_OTHERWISE_NTPD: &[(&str, &str)] = &[
    ("a cookie of nobody", "none"),
    ("a nonce longer than its field", "none"),
    ("a ciphertext longer than its field", "none"),
];

/// What no client sends ends as with chronyd and ntpd.
fn of_clients(stage: &mut Stage) -> Result<()> {
    let (two, three, four) = (stage.node(2)?, stage.node(3)?, stage.node(4)?);
    let identity = &stage.pki().by_name;
    let (chain, key) = (identity.chain.display(), identity.key.display());
    let cookies = stage.folder().join("cookies");
    let ntpd = format!(
        "tos orphan 5 orphanwait 1\nnts enable\nnts cert {chain}\nnts key {key}\nnts cookie {}\n",
        cookies.display()
    );
    let chronyd =
        format!("local stratum 8\nallow all\nntsservercert {chain}\nntsserverkey {key}\nntsprocesses 1\n");
    let ours = chrony::of_text(stage, &two, Trixie, ("ours", &chronyd), true)?;
    let chronyd = chrony::of_text(stage, &three, Trixie, ("chronyd", &chronyd), false)?;
    let ntpd = ntpsec::of_text(stage, &four, Trixie, ("ntpd", &ntpd), false)?;
    for daemon in [&ours, &chronyd] {
        stage.until("it answers", PATIENCE, || daemon.chronyc(&["tracking"]))?;
    }
    stage.until("it answers", PATIENCE, || ntpd.ntpq(&["-c", "rv 0 leap"]))?;
    let all = [&two, &three, &four].map(|node| answers(node, "ntp"));
    let [ours, chronyd, ntpd] = all;
    let (ours, chronyd, ntpd) = (ours?, chronyd?, ntpd?);
    let mut different = Vec::new();
    for (name, _, fate) in requests::all() {
        let wanted = if fate == requests::Fate::Nak { "nak" } else { "none" };
        for (theirs, otherwise) in [
            (("chronyd", chronyd[name].as_str()), REQUESTS_OTHERWISE_CHRONYD),
            (("ntpd", ntpd[name].as_str()), REQUESTS_OTHERWISE_NTPD),
        ] {
            different.extend(differences(name, wanted, &ours[name], theirs, otherwise));
        }
    }
    ensure!(different.is_empty(), "{}", different.join("\n"));
    Ok(())
}

/// What is not as it should be about one kind: our answer is the wanted one, and so is theirs unless it is listed.
fn differences(
    name: &str,
    wanted: &str,
    ours: &str,
    (whose, theirs): (&str, &str),
    otherwise: &[(&str, &str)],
) -> Vec<String> {
    let known = otherwise.iter().find(|(known, _)| *known == name).map_or(wanted, |(_, answer)| *answer);
    let ours = (ours != wanted).then(|| format!("{name}: {ours}, and should be {wanted}"));
    let theirs = (theirs != known).then(|| format!("{name}: {theirs} of {whose}, and known is {known}"));
    ours.into_iter().chain(theirs).collect()
}
