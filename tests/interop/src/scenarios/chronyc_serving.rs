//! What chronyc shows and changes of the server, and what it may over UDP: as with chronyd on the same file.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::Node;
use crate::peers::chrony::{self, Chrony};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::process::Command;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("chronyc/4.3-clients-are-counted-from-the-beginning-again", |stage| clients(stage, Bookworm)),
    ("chronyc/4.6-clients-are-counted-from-the-beginning-again", |stage| clients(stage, Trixie)),
    ("chronyc/4.3-allow-begins-to-serve", |stage| allows(stage, Bookworm)),
    ("chronyc/4.6-allow-begins-to-serve", |stage| allows(stage, Trixie)),
    ("chronyc/4.3-deny-closes-the-port", |stage| closes(stage, Bookworm)),
    ("chronyc/4.6-deny-closes-the-port", |stage| closes(stage, Trixie)),
    ("chronyc/4.6-precision-is-what-the-file-says", precision),
    ("chronyc/4.6-udp-permits-what-chronyd-permits", permissions),
    ("chronyc/4.6-no-limits-without-client-records", without_records),
];

/// Our daemon and chronyd, each on a node of its own.
struct Pair {
    both: [(Chrony, Node); 2],
}

fn pair(stage: &mut Stage, suite: Suite, text: &str) -> Result<Pair> {
    let (two, four) = (stage.node(2)?, stage.node(4)?);
    let ours = chrony::of_text(stage, &two, suite, ("ours", text), true)?;
    let theirs = chrony::of_text(stage, &four, suite, ("theirs", text), false)?;
    for daemon in [&ours, &theirs] {
        stage.until("it answers", PATIENCE, || daemon.chronyc(&["tracking"]))?;
    }
    Ok(Pair { both: [(ours, two), (theirs, four)] })
}

impl Pair {
    /// What both say, which must be the same.
    fn same(&self, what: &str, ask: impl Fn(&Chrony, &Node) -> Result<String>) -> Result<String> {
        let [ours, theirs] = &self.both;
        let (our, their) = (ask(&ours.0, &ours.1)?, ask(&theirs.0, &theirs.1)?);
        ensure!(our == their, "{what}: {our}\nof chronyd: {their}");
        Ok(our)
    }
}

/// Six requests for the time.
fn six_requests(node: &Node) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["malformed", "good"]);
    let output = node.wrap(&command).output().context("cannot ask")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Address, requests and drops of each client, with NTP and with chronyc.
fn counts(clients: &str) -> String {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        [0, 1, 2, 6, 7].map(|field| fields.get(field).copied().unwrap_or("?")).join(" ")
    };
    clients.lines().map(row).collect::<Vec<_>>().join("\n")
}

/// `clients -r` and the counts before and after it; who uses the Unix socket is no client.
fn clients(stage: &mut Stage, suite: Suite) -> Result<()> {
    let pair = pair(stage, suite, "allow\nlocal\ncmdport 323\n")?;
    pair.same("three reports and six requests", |daemon, node| {
        six_requests(node)?;
        for _ in 0..3 {
            let (succeeded, text) = daemon.chronyc_over_udp(&["activity"])?;
            ensure!(succeeded, "{text}");
        }
        Ok(String::new())
    })?;
    let ask = |arguments: &'static [&str]| {
        move |daemon: &Chrony, _: &Node| Ok(counts(&daemon.chronyc_says(arguments)?.1))
    };
    let before = pair.same("before", ask(&["-c", "clients"]))?;
    ensure!(before == "127.0.0.1 6 0 3 0", "{before}");
    ensure!(pair.same("the last report", ask(&["-c", "clients", "-r"]))? == before, "not as it was");
    let after = pair.same("after", ask(&["-c", "clients"]))?;
    ensure!(after == "127.0.0.1 0 0 0 0", "{after}");
    pair.same("at least one", ask(&["-c", "clients", "-p", "1"]))?;
    pair.same("six more", |_, node| six_requests(node).map(|()| String::new()))?;
    ensure!(pair.same("in the end", ask(&["-c", "clients"]))? == "127.0.0.1 6 0 0 0", "not counted again");
    pair.same("serverstats are as they were", |daemon, _| {
        let text = daemon.chronyc_says(&["-c", "serverstats"])?.1;
        Ok(text.split(',').next().unwrap_or_default().to_owned())
    })?;
    Ok(())
}

/// Which families have the NTP port open.
fn open_families(node: &Node) -> Result<String> {
    const NTP_PORT: &str = ":007B ";
    let mut command = Command::new("cat");
    command.args(["/proc/net/udp", "/proc/net/udp6"]);
    let output = node.wrap(&command).output().context("cannot look at the sockets")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let local = |line: &str| line.split_whitespace().nth(1).map(|address| format!("{address} "));
    let addresses = text.lines().filter_map(local).filter(|address| address.contains(NTP_PORT));
    let mut families: Vec<&str> =
        addresses.map(|address| if address.len() > 20 { "IPv6" } else { "IPv4" }).collect();
    families.sort_unstable();
    families.dedup();
    Ok(families.join(" and "))
}

/// Without `allow` in the file no port is open; a command opens that of its family, and clients are served.
fn allows(stage: &mut Stage, suite: Suite) -> Result<()> {
    let pair = pair(stage, suite, "local\n")?;
    let open = |what| pair.same(what, |_, node| open_families(node));
    let say = |command: &'static str| {
        let words: Vec<&str> = command.split(' ').collect();
        pair.same(command, |daemon, _| Ok(format!("{:?}", daemon.chronyc_says(&words)?)))
    };
    ensure!(open("at the start")?.is_empty(), "somebody is served already");
    say("accheck 127.0.0.1")?;
    say("deny 192.0.2.0/24")?;
    say("clients")?;
    ensure!(open("with somebody denied")?.is_empty(), "somebody is served already");
    say("allow 127.0.0.1")?;
    say("accheck 127.0.0.1")?;
    say("accheck ::1")?;
    ensure!(open("with IPv4")? == "IPv4", "IPv4 alone");
    pair.same("six requests", |daemon, node| {
        six_requests(node)?;
        Ok(counts(&daemon.chronyc_says(&["-c", "clients"])?.1))
    })?;
    say("allow ::/0")?;
    ensure!(open("with both")? == "IPv4 and IPv6", "both");
    say("accheck ::1")?;
    say("deny all")?;
    say("accheck 127.0.0.1")?;
    ensure!(open("with everybody denied")?.is_empty(), "a port is open that answers nobody");
    pair.same("what is known of clients", |daemon, _| {
        Ok(counts(&daemon.chronyc_says(&["-c", "clients"])?.1))
    })?;
    say("allow 10.0.0.0/8")?;
    ensure!(open("with one family again")? == "IPv4", "IPv4 again");
    say("allow 127.0.0.0/8")?;
    pair.same("six requests more", |daemon, node| {
        six_requests(node)?;
        Ok(counts(&daemon.chronyc_says(&["-c", "clients"])?.1))
    })?;
    Ok(())
}

/// What is allowed by the file is closed by a command, for a family or for both, and opened by the next.
fn closes(stage: &mut Stage, suite: Suite) -> Result<()> {
    let pair = pair(stage, suite, "local\nallow\n")?;
    let say = |command: &'static str, families: &'static str| {
        let words: Vec<&str> = command.split(' ').collect();
        pair.same(command, |daemon, _| Ok(format!("{:?}", daemon.chronyc_says(&words)?)))?;
        let open = pair.same(command, |_, node| open_families(node))?;
        ensure!(open == families, "{command}: open for {open:?}");
        Ok(())
    };
    say("deny 192.0.2.1", "IPv4 and IPv6")?;
    say("deny ::/0", "IPv4")?;
    say("deny all", "")?;
    say("allow ::1", "IPv6")?;
    say("allow 127.0.0.1", "IPv4 and IPv6")?;
    pair.same("six requests", |daemon, node| {
        six_requests(node)?;
        Ok(counts(&daemon.chronyc_says(&["-c", "clients"])?.1))
    })?;
    Ok(())
}

/// The exponent that clients are told: of a precision between two the nearest, which is the finer one here.
fn precision(stage: &mut Stage) -> Result<()> {
    let _both = pair(stage, Trixie, "allow\nlocal\nclockprecision 2.5e-6\n")?;
    let five = stage.node(5)?;
    let text = "server 10.77.0.2 iburst\nserver 10.77.0.4 iburst\n";
    let client = chrony::of_text(stage, &five, Trixie, ("client", text), false)?;
    for server in ["10.77.0.2", "10.77.0.4"] {
        stage.until("its answer", PATIENCE, || {
            let data = client.chronyc(&["-c", "ntpdata", server])?;
            ensure!(data.split(',').nth(11) == Some("-19"), "{server} tells another precision: {data}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Over UDP, from this machine: reports that are open, and no change, not even with `manual`.
fn permissions(stage: &mut Stage) -> Result<()> {
    let pair = pair(stage, Trixie, "allow\nmanual\ncmdport 323\n")?;
    for command in [
        "activity",
        "manual list",
        "settime 12:00:00",
        "manual on",
        "manual delete 0",
        "clients",
        "clients -r",
        "serverstats",
        "allow",
        "accheck 127.0.0.1",
        "reload sources",
        "reset sources",
        "shutdown",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        pair.same(command, |daemon, _| Ok(format!("{:?}", daemon.chronyc_over_udp(&words)?)))?;
    }
    // Permitted over the socket: of a clock that is only watched, the time that is served is set. By how much depends on the
    // time of the day.
    pair.same("settime over the socket", |daemon, _| {
        let (_, text) = daemon.chronyc_says(&["settime", "12:00:00"])?;
        Ok(text.replace(|letter: char| letter.is_ascii_digit(), ""))
    })?;
    Ok(())
}

/// A limit without the records that it takes: both daemons end at once and say so.
fn without_records(stage: &mut Stage) -> Result<()> {
    let (two, four) = (stage.node(2)?, stage.node(4)?);
    for limit in ["ratelimit", "cmdratelimit", "ntsratelimit"] {
        let text = format!("noclientlog\n{limit}\n");
        for (node, name, ours) in [(&two, "ours", true), (&four, "theirs", false)] {
            let name = format!("{name}-{limit}");
            let mut daemon = chrony::of_text(stage, node, Trixie, (&name, &text), ours)?;
            stage.until("its end", PATIENCE, || {
                ensure!(daemon.check_alive().is_err(), "{name} runs on");
                Ok(())
            })?;
        }
    }
    Ok(())
}
