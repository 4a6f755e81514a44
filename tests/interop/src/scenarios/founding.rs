//! What readers of the guides to NTS type, and what they are told to expect: commands, scripts and outputs, with our
//! daemon in place of the one that the guide is about.

use super::PATIENCE;
use crate::install::Suite::{Bookworm, Trixie};
use crate::network::Node;
use crate::peers::chrony::{self, Chrony};
use crate::peers::ntpd_rs::{self, Program};
use crate::peers::{ClientOf, ServerOf, chimed};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("founding/chrony-client-and-its-reports", chrony_client),
    ("founding/chrony-server-and-the-quick-test", chrony_server),
    ("founding/chrony-monitoring-scripts", monitoring),
    ("founding/chrony-files-of-dhcp-and-logrotate", files),
    ("founding/ntpd-rs-client-with-its-own-authority", ntpd_rs_client),
    ("founding/ntpd-rs-server-whose-certificate-is-renewed", ntpd_rs_server),
];

/// The check for unauthenticated sources, as it is printed in the guide.
const CHECK_FOR_FALLBACK: &str = r#"#!/bin/bash
UNAUTH=$(chronyc authdata | grep -v "NTS" | grep -v "^Name" | grep -v "^==")
if [ -n "$UNAUTH" ]; then
echo "ALERT: Unauthenticated NTP sources in use:"
echo "$UNAUTH"
exit 1
fi
echo "All NTP sources authenticated."
"#;

/// The offset of the clock, as a guide takes it out of the report.
const OFFSET: &str = r#"OFFSET=$(chronyc tracking | grep "System time" | awk '{print $4}')
echo "Clock offset: ${OFFSET} seconds"
"#;

fn trust(stage: &Stage) -> String {
    format!("nosystemcert\nntstrustedcerts {}\n", stage.pki().ca.display())
}

/// The lines of the guides, with this network's server.
fn client_text(stage: &Stage) -> String {
    format!(
        "# Use NTS-authenticated NTP servers.\nserver server.test iburst nts minpoll 0 maxpoll 0 # Tolerated: copied.\n\
         minsources 1\nmakestep 1.0 3\nlog tracking measurements statistics\ndeny all\n{}",
        trust(stage)
    )
}

fn our_client(stage: &mut Stage, text: &str) -> Result<Chrony> {
    let node = stage.node(2)?;
    let daemon = chrony::of_text(stage, &node, Trixie, ("ours", text), true)?;
    stage.until("it is selected", PATIENCE, || daemon.view()?.expect_selected(0xff))?;
    Ok(daemon)
}

/// `chronyc -N authdata`, `chronyc -N sources`, `chronyc tracking`: the headings and the columns of the guide.
fn chrony_client(stage: &mut Stage) -> Result<()> {
    let one = stage.node(1)?;
    let _server = chrony::server(stage, &one, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    let text = client_text(stage);
    let ours = our_client(stage, &text)?;
    stage.until("authdata of the guide", PATIENCE, || {
        let text = said(&ours, "chronyc -N authdata", stage)?;
        let lines: Vec<&str> = text.lines().collect();
        let heading = "Name/IP address             Mode KeyID Type KLen Last Atmp  NAK Cook CLen";
        ensure!(lines.len() == 3 && lines[0] == heading, "{text}");
        let row: Vec<&str> = lines[2].split_whitespace().collect();
        ensure!(row.len() == 10 && row[..5] == ["server.test", "NTS", "1", "15", "256"], "{text}");
        ensure!(row[6..] == ["0", "0", "8", "100"], "{text}");
        Ok(())
    })?;
    let text = said(&ours, "chronyc -N sources", stage)?;
    ensure!(text.starts_with("MS Name/IP address         Stratum Poll Reach LastRx Last sample"), "{text}");
    ensure!(text.lines().nth(2).is_some_and(|row| row.starts_with("^* server.test ")), "{text}");
    let text = said(&ours, "chronyc sources -v", stage)?;
    ensure!(text.contains("'*' = current best, '+' = combined"), "{text}");
    let text = said(&ours, "chronyc tracking", stage)?;
    for label in [
        "Reference ID    : ",
        "Stratum         : 9",
        "System time     : ",
        "Last offset     : ",
        "RMS offset      : ",
        "Frequency       : ",
        "Residual freq   : ",
        "Skew            : ",
        "Root delay      : ",
        "Root dispersion : ",
    ] {
        ensure!(text.contains(label), "no `{label}` in: {text}");
    }
    // What the guide writes in this place is no command of chronyc; `chime` has it.
    let (succeeded, text) = ours.chronyc_says(&["ntsdatastats"])?;
    ensure!(!succeeded && text.contains("Unrecognized command"), "{text}");
    ensure!(ours.folder().join("truechimer").is_dir(), "nothing is kept of keys and cookies");
    Ok(())
}

/// An NTS server by two lines, the quick test from a client's machine, and the counts on the server.
fn chrony_server(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let identity = &stage.pki().by_name;
    let text = format!(
        "ntsserverkey {}\nntsservercert {}\nlocal stratum 8\nallow\n",
        identity.key.display(),
        identity.chain.display()
    );
    let server = chrony::of_text(stage, &one, Trixie, ("server", &text), true)?;
    stage.until("it answers", PATIENCE, || server.chronyc(&["tracking"]))?;
    let (ours, theirs) = (quick_test(stage, &two, true)?, quick_test(stage, &two, false)?);
    for text in [&ours, &theirs] {
        let lines: Vec<&str> = text.lines().collect();
        ensure!(lines.len() == 4, "{text}");
        let words: Vec<&str> =
            lines.iter().filter_map(|line| line.split_once("Z ")).map(|(_, text)| text).collect();
        ensure!(words.len() == 4, "each line has a time: {text}");
        ensure!(
            words[0].starts_with("chronyd version 4.") && words[0].contains(" starting (+CMDMON "),
            "{text}"
        );
        ensure!(words[0].contains(" +NTS ") && words[1] == "Disabled control of system clock", "{text}");
        ensure!(
            words[2].starts_with("System clock wrong by ") && words[2].ends_with(" seconds (ignored)"),
            "{text}"
        );
        ensure!(words[3] == "chronyd exiting", "{text}");
    }
    let text = said(&server, "chronyc serverstats", stage)?;
    for (label, least) in [
        ("NTP packets received       : ", 2),
        ("NTP packets dropped        : ", 0),
        ("Command packets received   : ", 1),
        ("Command packets dropped    : ", 0),
        ("Client log records dropped : ", 0),
        ("NTS-KE connections accepted: ", 2),
        ("NTS-KE connections dropped : ", 0),
        ("Authenticated NTP packets  : ", 2),
    ] {
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix(label))
            .and_then(|it| it.trim().parse::<u64>().ok());
        ensure!(count.is_some_and(|count| count >= least), "`{label}` in: {text}");
    }
    Ok(())
}

/// `chronyd -Q -t 3 'server ... iburst nts maxsamples 1'`, of our daemon and of chronyd itself.
fn quick_test(stage: &Stage, node: &Node, ours: bool) -> Result<String> {
    let mut command = chrony::program(Trixie, ours, None)?;
    // The address by IPv4 for chronyd, which tries IPv6 first and has three seconds.
    command.args(["-Q", "-t", "3", "server server4.test iburst nts maxsamples 1"]);
    command.args(trust(stage).lines()).arg("pidfile /");
    if !ours {
        command.arg("user root");
    }
    stage.until("the clock's error", PATIENCE, || {
        let Output { status, stdout, stderr } = node.wrap(&command).output().context("cannot run it")?;
        let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        ensure!(status.success(), "{status}: {text}");
        // chronyd says so of the user of these tests.
        Ok(text
            .lines()
            .filter(|line| !line.ends_with("root privileges"))
            .map(|line| format!("{line}\n"))
            .collect())
    })
}

/// The scripts of the guide, unchanged.
fn monitoring(stage: &mut Stage) -> Result<()> {
    let (one, four) = (stage.node(1)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let _plain = chrony::server_named(stage, &four, Trixie, "plain")?;
    let text = client_text(stage);
    let ours = our_client(stage, &text)?;
    let (succeeded, text) = script(stage, &ours, CHECK_FOR_FALLBACK)?;
    ensure!(succeeded && text == "All NTP sources authenticated.\n", "{text}");
    let (succeeded, text) = script(stage, &ours, OFFSET)?;
    let offset = text.strip_prefix("Clock offset: ").and_then(|rest| rest.strip_suffix(" seconds\n"));
    let offset = offset.and_then(|number| number.parse::<f64>().ok());
    ensure!(succeeded && offset.is_some_and(|offset| offset.abs() < 0.1), "{text}");
    let (succeeded, text) = script(
        stage,
        &ours,
        "chronyc -N authdata | awk 'NR > 2 && $2 != \"NTS\" {bad = 1} END {exit bad}'\n",
    )?;
    ensure!(succeeded, "{text}");
    let (succeeded, text) = script(stage, &ours, "chronyc waitsync 10 0.1 0 1 >/dev/null && echo ready\n")?;
    ensure!(succeeded && text == "ready\n", "{text}");
    ensure!(ours.chronyc_says(&["add", "server", "10.77.0.4"])?.0, "a source more");
    let (succeeded, text) = script(stage, &ours, CHECK_FOR_FALLBACK)?;
    ensure!(!succeeded && text.starts_with("ALERT: Unauthenticated NTP sources in use:\n"), "{text}");
    ensure!(
        text.lines()
            .nth(1)
            .is_some_and(|row| row.starts_with("source.test ") || row.starts_with("10.77.0.4 ")),
        "{text}"
    );
    Ok(())
}

/// Sources that DHCP brings and takes away, and log files that are moved away.
fn files(stage: &mut Stage) -> Result<()> {
    let (one, four) = (stage.node(1)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let _plain = chrony::server_named(stage, &four, Trixie, "plain")?;
    let (sources, logs) = (stage.folder().join("chrony-dhcp"), stage.folder().join("chrony-logs"));
    fs::create_dir_all(&sources)?;
    let text = client_text(stage) + &format!("sourcedir {}\nlogdir {}\n", sources.display(), logs.display());
    let ours = our_client(stage, &text)?;
    let lease = sources.join("eth0.sources");
    let expect = |names: &[&str]| {
        stage.until("the sources", PATIENCE, || {
            let text = said(&ours, "chronyc -N -c sources", stage)?;
            let found: Vec<&str> = text.lines().filter_map(|line| line.split(',').nth(2)).collect();
            ensure!(found == names, "{found:?}");
            Ok(())
        })
    };
    fs::write(&lease, "server source4.test iburst\n")?;
    expect(&["server.test"])?;
    reload(&ours)?;
    expect(&["server.test", "source4.test"])?;
    fs::write(&lease, "server source4.test iburst\nserver 10.77.0.5\n")?;
    reload(&ours)?;
    expect(&["server.test", "source4.test", "10.77.0.5"])?;
    fs::remove_file(&lease)?;
    reload(&ours)?;
    expect(&["server.test"])?;
    ensure!(ours.view()?.is_selected, "the configured source was not left alone");
    rotated(stage, &ours, &logs)
}

fn reload(daemon: &Chrony) -> Result<()> {
    let said = daemon.chronyc_says(&["reload", "sources"])?;
    ensure!(said == (true, "200 OK\n".to_owned()), "reload sources: {said:?}");
    Ok(())
}

/// What logrotate does: `postrotate chronyc cyclelogs`.
fn rotated(stage: &Stage, daemon: &Chrony, logs: &Path) -> Result<()> {
    for name in ["tracking.log", "measurements.log", "statistics.log"] {
        let (path, old) = (logs.join(name), logs.join(format!("{name}.1")));
        stage.until(name, PATIENCE, || Ok(fs::metadata(&path).map(|_| ())?))?;
        fs::rename(&path, &old)?;
    }
    let (succeeded, text) = script(stage, daemon, "chronyc cyclelogs >/dev/null 2>&1 || true\n")?;
    ensure!(succeeded, "{text}");
    for name in ["tracking.log", "measurements.log", "statistics.log"] {
        let path = logs.join(name);
        stage.until(name, PATIENCE, || {
            let text = fs::read_to_string(&path)?;
            ensure!(text.starts_with("=====") && text.lines().count() > 3, "{text}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What a shell prints for a line that must succeed.
fn said(daemon: &Chrony, line: &str, stage: &Stage) -> Result<String> {
    let (succeeded, text) = script(stage, daemon, &format!("{line}\n"))?;
    ensure!(succeeded, "{line}: {text}");
    Ok(text)
}

/// Runs a script with `chronyc` in its PATH; whether it succeeded, and what it printed.
fn script(stage: &Stage, daemon: &Chrony, text: &str) -> Result<(bool, String)> {
    let folder = daemon.folder_with_chronyc()?;
    let path = stage.write("script", text)?;
    let output = Command::new("bash")
        .arg(path)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .output()
        .context("cannot run bash")?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// `[[source]]` with `certificate-authority`; eight cookies, of which each answer replaces the one that was used.
fn ntpd_rs_client(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let client = ntpd_rs::client_by(Program::Ours, stage, &two, &ClientOf::nts("server.test"))?;
    stage.until("answers for ten seconds", PATIENCE, || client.view()?.expect_selected(0xff))?;
    let cookies = client.metric("ntp_source_nts_cookies_available")?;
    ensure!((7.0..=8.0).contains(&cookies), "{cookies} cookies are left");
    Ok(())
}

/// `[[nts-ke-server]]` with a `[keyset]`, and certbot's hook, which restarts the daemon: no client needs new keys.
fn ntpd_rs_server(stage: &mut Stage) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let _upstream = chrony::server(stage, &four, Trixie, &ServerOf::plain())?;
    let options = ServerOf::nts(&stage.pki().by_name);
    let start = |stage: &Stage| ntpd_rs::server_by(Program::Ours, stage, &one, &options, "source.test");
    let server = start(stage)?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server4.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    drop(server);
    let server = start(stage)?;
    stage.until("sixteen authenticated answers", PATIENCE, || {
        let answered = server.metric("ntp_server_nts_received_packets_total")?;
        ensure!(answered >= 16.0, "{answered} so far");
        client.view()?.expect_selected(0xff)
    })?;
    ensure!(client.establishments()? == 1, "the client established keys anew");
    Ok(())
}
