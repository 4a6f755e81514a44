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
