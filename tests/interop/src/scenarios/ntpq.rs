//! Unmodified tools of NTPsec against our daemon: they print of us what they print of ntpd in the same situation.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::Node;
use crate::peers::chimed::{self, Chimed};
use crate::peers::{ClientOf, ServerOf, chrony, ntpsec};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("ntpq/1.2.2-shows-what-it-shows-of-ntpd", |stage| shows(stage, Bookworm)),
    ("ntpq/1.2.3-shows-what-it-shows-of-ntpd", |stage| shows(stage, Trixie)),
    ("ntpq/1.2.2-configures-with-the-key-only", |stage| configures(stage, Bookworm)),
    ("ntpq/1.2.3-configures-with-the-key-only", |stage| configures(stage, Trixie)),
    ("ntpq/strangers-get-no-word", strangers),
    ("ntpq/1.2.2-variables-of-ones-own-as-with-ntpd", |stage| own_variables(stage, Bookworm)),
    ("ntpq/1.2.3-variables-of-ones-own-as-with-ntpd", |stage| own_variables(stage, Trixie)),
    ("ntpmon/1.2.2-shows-peers-and-clients", |stage| monitors(stage, Bookworm)),
    ("ntpmon/1.2.3-shows-peers-and-clients", |stage| monitors(stage, Trixie)),
];

/// Our client, with a server so that the port is shared, and what asks it.
struct Scene {
    daemon: Chimed,
    node: Node,
    suite: Suite,
    keys: PathBuf,
}

fn scene(stage: &mut Stage, suite: Suite, extra: &str) -> Result<Scene> {
    let node = stage.node(2)?;
    let text = format!(
        "ntpq-listen = [\"127.0.0.1:123\", \"[::1]:123\"]\nntpq-control-key = 1\n{extra}\n\
         [[server]]\nlisten = \"0.0.0.0:123\"\n\n\
         [[source]]\nmode = \"nts\"\naddress = \"server.test\"\ncertificate-authority = \"{}\"\nsystem-cas = false\n\
         poll-interval-limits = {{ min = 0, max = 0 }}\ninitial-poll-interval = 0\n",
        stage.pki().ca.display()
    );
    let daemon = chimed::client_of_sources(stage, &node, &text)?;
    let keys = stage.write("ntpq.keys", crate::peers::KEYS_NTPSEC)?;
    Ok(Scene { daemon, node, suite, keys })
}

impl Scene {
    /// Whether it succeeded, and all that ntpq or its like printed of `host`.
    fn tool(&self, program: &str, arguments: &[&str], host: Option<&str>) -> Result<(bool, String)> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(host).collect();
        ntpsec::tool(self.suite, &self.node, program, &arguments)
    }

    fn ntpq(&self, arguments: &[&str]) -> Result<String> {
        let (succeeded, text) = self.tool("usr/bin/ntpq", arguments, Some("127.0.0.1"))?;
        ensure!(succeeded, "ntpq {arguments:?}: {text}");
        Ok(text)
    }

    /// With the control key.
    fn ntpq_signed(&self, command: &str) -> Result<String> {
        let keys = self.keys.to_str().context("a path")?;
        self.ntpq(&["-n", "-a", "1", "-k", keys, "-c", command])
    }
}

fn shows(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (one, four) = (stage.node(1)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let theirs = ntpsec::client(stage, &four, suite, &ClientOf::nts("server.test"))?;
    let ours = scene(stage, suite, "")?;
    stage.until("both are selected", PATIENCE, || {
        ours.daemon.view()?.expect_selected(0xff)?;
        theirs.view()?.expect_selected(0xff)
    })?;
    same_peers(stage, &ours, &theirs)?;
    same_variables(&ours, &theirs)?;
    same_labels(&ours, &theirs)?;
    let (succeeded, text) = ours.tool("usr/sbin/ntpwait", &["-n", "3", "-s", "1", "-v"], None)?;
    ensure!(succeeded, "ntpwait: {text}");
    let clients = ours.ntpq(&["-n", "-c", "mrulist"])?;
    ensure!(clients.contains("remote address"), "mrulist: {clients}");
    Ok(())
}

/// The billboard: name, reference, stratum, `t`, poll and reach are equal; times are near.
fn same_peers(stage: &Stage, ours: &Scene, theirs: &ntpsec::Ntpsec) -> Result<()> {
    let row = |text: &str| -> Result<Vec<String>> {
        let line = text.lines().find(|line| line.starts_with('*')).with_context(|| text.to_owned())?;
        Ok(line.split_whitespace().map(str::to_owned).collect())
    };
    for command in ["peers", "opeers", "apeers"] {
        stage.until(command, PATIENCE, || {
            let (our_text, their_text) = (ours.ntpq(&["-c", command])?, theirs.ntpq(&["-c", command])?);
            let (our_row, their_row) = (row(&our_text)?, row(&their_text)?);
            ensure!(our_row.len() == their_row.len(), "{our_text}\n{their_text}");
            let heading = |text: &str| text.lines().nth(usize::from(command == "apeers")).map(str::to_owned);
            ensure!(heading(&our_text) == heading(&their_text), "{our_text}\n{their_text}");
            // The name; stratum, type and reach are counted from the end. A cookie may be on its way.
            let from_end = |row: &[String], at: usize| row[row.len() - at].clone();
            ensure!(our_row[0] == their_row[0], "{our_text}\n{their_text}");
            for at in [8, 4] {
                ensure!(from_end(&our_row, at) == from_end(&their_row, at), "{our_text}\n{their_text}");
            }
            let cookies = from_end(&our_row, 7);
            ensure!(["7", "8"].contains(&cookies.as_str()), "column t: {our_text}");
            Ok(())
        })?;
    }
    let associations = ours.ntpq(&["-c", "as"])?;
    ensure!(associations.contains("  f61a   yes   yes   ok   sys.peer    sys_peer  1"), "{associations}");
    ensure!(
        theirs.ntpq(&["-c", "as"])?.contains("  f61a   yes   yes   ok   sys.peer    sys_peer  1"),
        "theirs"
    );
    Ok(())
}

/// Every variable of the system and of an association that ntpd shows is shown of us, and what the situation decides has
/// the same value.
fn same_variables(ours: &Scene, theirs: &ntpsec::Ntpsec) -> Result<()> {
    for (command, equal, lacking) in [
        ("rv", &["leap", "stratum", "tc"][..], &["tai", "leapsec", "expire", "release"][..]),
        (
            "rv &1",
            &[
                "srcport", "leap", "hmode", "pmode", "stratum", "hpoll", "unreach", "keyid", "srchost",
                "refid", "srcadr",
            ],
            &[],
        ),
    ] {
        let (our_text, their_text) = (ours.ntpq(&["-c", command])?, theirs.ntpq(&["-c", command])?);
        let (our, their) = (variables(&our_text), variables(&their_text));
        let missing: Vec<&String> = their
            .keys()
            .filter(|name| !our.contains_key(*name) && !lacking.contains(&name.as_str()))
            .collect();
        ensure!(missing.is_empty(), "{command}: {missing:?} are not shown\n{our_text}\n{their_text}");
        for name in equal {
            ensure!(our.get(*name) == their.get(*name), "{command}: {name}\n{our_text}\n{their_text}");
        }
    }
    Ok(())
}

fn variables(text: &str) -> BTreeMap<String, String> {
    let items = text.split([',', '\n']).filter_map(|item| item.trim().split_once('='));
    items.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// The information commands show the same labels, and no label without a value.
fn same_labels(ours: &Scene, theirs: &ntpsec::Ntpsec) -> Result<()> {
    let labels = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.split_once(':')).map(|(label, _)| label.to_owned()).collect()
    };
    // Only the newer ntpq has it.
    let newer = (ours.suite == Trixie).then_some("mssntpinfo");
    let commands = [
        "sysinfo",
        "kerninfo",
        "sysstats",
        "monstats",
        "timerstats",
        "nts",
        "ntsinfo",
        "iostats",
        "pstats &1",
    ];
    for command in commands.into_iter().chain(newer) {
        let (our_text, their_text) = (ours.ntpq(&["-c", command])?, theirs.ntpq(&["-c", command])?);
        ensure!(labels(&our_text) == labels(&their_text), "{command}:\n{our_text}\n{their_text}");
        ensure!(!our_text.contains('?'), "{command}: {our_text}");
    }
    let nts = ours.ntpq(&["-c", "nts"])?;
    let count = |label: &str| {
        let line = nts.lines().find(|line| line.starts_with(label)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    ensure!(count("NTS client sends:") >= 8 && count("NTS KE client probes good:") == 1, "{nts}");
    Ok(())
}

fn configures(stage: &mut Stage, suite: Suite) -> Result<()> {
    let one = stage.node(1)?;
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let scene = scene(stage, suite, "")?;
    stage.until("an answer", PATIENCE, || scene.ntpq(&["-c", "rv 0 leap"]))?;
    let peers = |wanted: usize| {
        stage.until("a number of sources", PATIENCE, || {
            let text = scene.ntpq(&["-n", "-p"])?;
            ensure!(text.lines().skip(2).count() == wanted, "{text}");
            Ok(())
        })
    };
    peers(1)?;
    ensure!(
        scene.ntpq_signed(":config server 10.77.0.9 iburst minpoll 4")?.contains("Config Succeeded"),
        "added"
    );
    peers(2)?;
    ensure!(scene.ntpq_signed(":config unpeer 10.77.0.9")?.contains("Config Succeeded"), "removed");
    peers(1)?;
    for (line, refusal) in [
        (":config driftfile /tmp/x", "only server, pool and unpeer"),
        (":config server 10.77.0.9 xleave", "syntax error"),
        (":config unpeer 10.77.0.8", "no such source"),
    ] {
        let text = scene.ntpq_signed(line)?;
        ensure!(text.contains(refusal), "{line}: {text}");
    }
    let interfaces = scene.ntpq_signed("ifstats")?;
    ensure!(interfaces.contains("0.0.0.0:123"), "ifstats: {interfaces}");
    let restrictions = scene.ntpq_signed("reslist")?;
    ensure!(restrictions.contains("noquery nomodify nomrulist"), "reslist: {restrictions}");
    let keys = scene.keys.to_str().context("a path")?;
    let wrong = ["-n", "-a", "2", "-k", keys, "-c"];
    for command in [":config server 10.77.0.9", "ifstats", "reslist"] {
        let (_, text) = scene.tool("usr/bin/ntpq", &[&wrong[..], &[command]].concat(), Some("127.0.0.1"))?;
        ensure!(!text.contains("Succeeded") && !text.contains(":123"), "{command} with another key: {text}");
    }
    peers(1)
}

/// Who is not named gets nothing, and who is named gets an answer; over the port that the server has.
fn strangers(stage: &mut Stage) -> Result<()> {
    let four = stage.node(4)?;
    let scene = scene(stage, Trixie, "ntpq-allow = [\"10.77.0.3/32\"]")?;
    stage.until("an answer on this machine", PATIENCE, || scene.ntpq(&["-c", "rv 0 leap"]))?;
    let three = stage.node(3)?;
    let ask = |node: &Node| -> Result<String> {
        let mut command = ntpsec::python(Trixie)?;
        command.arg(Trixie.root().join("usr/bin/ntpq")).args([
            "-c",
            "timeout 500",
            "-c",
            "rv 0 leap",
            "10.77.0.2",
        ]);
        let output = node.wrap(&command).output().context("cannot run ntpq")?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let stranger = ask(&four)?;
    ensure!(!stranger.contains("leap="), "a stranger: {stranger}");
    let friend = ask(&three)?;
    ensure!(friend.contains("leap="), "a friend: {friend}");
    let ignored = scene.daemon.snapshot()?["control"]["mode6"]["restricted"].as_u64();
    ensure!(ignored.is_some_and(|count| count > 0), "nothing was counted: {ignored:?}");
    Ok(())
}

/// `setvar`, and a server that answers version 4 only.
fn own_variables(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (two, four) = (stage.node(2)?, stage.node(4)?);
    let text = "setvar site = somewhere default\nsetvar rack = \"r 7\"\nsetvar rack = \"r 8\"\n\
                tos orphan 5 orphanwait 1\n";
    let ours = ntpsec::of_text(stage, &two, suite, ("ours", text), true)?;
    let theirs = ntpsec::of_text(stage, &four, suite, ("theirs", text), false)?;
    for daemon in [&ours, &theirs] {
        stage.until("it answers", PATIENCE, || daemon.ntpq(&["-c", "rv 0 leap"]))?;
    }
    for names in ["site", "rack", "site,rack", "Site", "nothing"] {
        let ask = |daemon: &ntpsec::Ntpsec| {
            daemon.tool("usr/bin/ntpq", &["-c", &format!("rv 0 {names}"), "127.0.0.1"])
        };
        let (our, their) = (ask(&ours)?, ask(&theirs)?);
        ensure!(our == their, "{names}: {our:?}, of ntpd {their:?}");
    }
    for (whose, daemon) in [("ours", &ours), ("ntpd", &theirs)] {
        let all = daemon.ntpq(&["-c", "rv"])?;
        // ntpd 1.2.3 shows all, with `default` or without.
        let hides = !all.contains("rack=") || whose == "ntpd";
        ensure!(all.contains("site=") && hides, "{whose}: {all}");
    }
    Ok(())
}

/// ntpmon needs a terminal, which `script` of Debian's bsdutils makes; it is left with `q`, as people do.
fn monitors(stage: &mut Stage, suite: Suite) -> Result<()> {
    const WATCHED_SECONDS: u32 = 4;
    let (one, four) = (stage.node(1)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let ours = scene(stage, suite, "")?;
    let _client = chrony::client(stage, &four, Trixie, &ClientOf::plain("10.77.0.2"))?;
    stage.until("it is selected", PATIENCE, || ours.daemon.view()?.expect_selected(0xff))?;
    let mut ntpmon = ntpsec::python(suite)?;
    ntpmon.arg(suite.root().join("usr/bin/ntpmon")).args(["-n", "127.0.0.1"]);
    let mut terminal = Command::new("sh");
    terminal.env("TERM", "xterm").env("COLUMNS", "100").env("LINES", "40");
    terminal.envs(ntpmon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let typed = format!("(sleep {WATCHED_SECONDS}; echo q) | script -qec \"$0\" /dev/null");
    terminal.args(["-c", &typed, &words(&ntpmon)]);
    let output = ours.node.wrap(&terminal).output().context("cannot run script")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {text}", output.status);
    for shown in ["fd77::1", "10.77.0.4"] {
        ensure!(text.contains(shown), "no {shown} in {text}");
    }
    ensure!(!text.contains("Traceback"), "{text}");
    Ok(())
}

/// A command line for a shell.
fn words(command: &Command) -> String {
    let quoted = |word: &OsStr| format!("'{}'", word.to_string_lossy());
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}
