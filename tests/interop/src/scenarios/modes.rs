//! Interleaved and symmetric mode, broadcast.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::listen;
use crate::network::{Node, v4};
use crate::peers::{ClientOf, ServerOf, chimed, chrony, ntpsec};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("modes/packets-have-the-dscp-that-chronyd-and-ntpd-give-them", dscp),
    ("modes/our-client-interleaved-with-chrony-4.3-plain", |stage| {
        ours_interleaved(stage, Bookworm, &ClientOf::plain("server4.test"))
    }),
    ("modes/our-client-interleaved-with-chrony-4.3-nts", |stage| {
        ours_interleaved(stage, Bookworm, &ClientOf::nts("server4.test"))
    }),
    ("modes/our-client-interleaved-with-chrony-4.6.1-nts-ipv6", |stage| {
        ours_interleaved(stage, Trixie, &ClientOf::nts("server6.test"))
    }),
    ("modes/our-client-interleaved-with-chrony-4.6.1-key", |stage| {
        ours_interleaved(stage, Trixie, &ClientOf::keyed("server4.test", 2))
    }),
    ("modes/chrony-4.3-interleaved-with-our-server-plain", |stage| {
        chrony_interleaved(stage, Bookworm, &ClientOf::plain("server4.test"))
    }),
    ("modes/chrony-4.6.1-interleaved-with-our-server-nts", |stage| {
        chrony_interleaved(stage, Trixie, &ClientOf::nts("server4.test"))
    }),
    ("modes/chrony-4.6.1-interleaved-with-our-server-key-ipv6", |stage| {
        chrony_interleaved(stage, Trixie, &ClientOf::keyed("server6.test", 3))
    }),
    ("modes/our-client-and-server-interleaved-nts", ours_with_ours),
    ("modes/peer-follows-chrony-4.3-with-key", |stage| peer_of_chrony(stage, Bookworm, "key 2", false, "")),
    ("modes/peer-follows-chrony-4.6.1-with-aes-key-interleaved", |stage| {
        peer_of_chrony(stage, Trixie, "key 4", true, "")
    }),
    ("modes/peer-follows-chrony-4.3-beside-a-server-of-ours", |stage| {
        peer_of_chrony(stage, Bookworm, "key 3", true, OUR_SERVER)
    }),
    ("modes/chrony-4.3-follows-peer", |stage| chrony_as_peer(stage, Bookworm, false)),
    ("modes/chrony-4.6.1-follows-peer-interleaved", |stage| chrony_as_peer(stage, Trixie, true)),
    ("modes/peer-without-the-key-is-not-believed", peer_without_key),
    ("modes/broadcasts-arrive-beside-the-server", broadcasts_arrive),
];

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// Our client got ten interleaved answers, believes them, and its measurements are those of a quiet network.
fn expect_ours_interleaved(client: &chimed::Chimed) -> Result<()> {
    let source = client.source()?;
    let answers = number(&source, "/ntp/total_interleaved_rx");
    ensure!(answers >= 10, "{answers} interleaved answers");
    client.view()?.expect_selected(0xff)?;
    ensure!(source.pointer("/ntp/interleaved") == Some(&Value::Bool(true)), "the last one was not: {source}");
    ensure!(number(&source, "/ntp/total_good_rx") >= 10, "they make no samples: {source}");
    let offset = source.pointer("/ntp/offset_seconds").and_then(Value::as_f64).unwrap_or(1.0);
    // Both daemons read one clock.
    ensure!(offset.abs() < 1e-3, "an offset of {offset} s");
    Ok(())
}

fn ours_interleaved(stage: &mut Stage, suite: Suite, options: &ClientOf) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chrony::server(stage, &one, suite, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chimed::client(stage, &two, &options.clone().interleaved())?;
    stage.until("ten interleaved answers", PATIENCE, || expect_ours_interleaved(&client))?;
    let text = client.report_text("ntpdata")?;
    ensure!(text.contains("Interleaved     : Yes"), "chime ntpdata: {text}");
    let statistics = server.chronyc(&["serverstats"])?;
    ensure!(count(&statistics, "Interleaved NTP packets") >= 10, "chronyc serverstats: {statistics}");
    client.stop()
}

/// The number behind a label that a report begins a line with.
fn count(report: &str, label: &str) -> u64 {
    let line = report.lines().find(|line| line.starts_with(label)).unwrap_or_default();
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn chrony_interleaved(stage: &mut Stage, suite: Suite, options: &ClientOf) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chrony::client(stage, &two, suite, &options.clone().interleaved())?;
    stage.until("interleaved answers and reach 377", PATIENCE, || {
        let text = client.chronyc(&["ntpdata"])?;
        ensure!(text.contains("Interleaved     : Yes"), "chronyc ntpdata: {text}");
        let answers = number(&server.snapshot()?, "/server/interleaved");
        ensure!(answers >= 10, "{answers} interleaved answers");
        client.view()?.expect_selected(0xff)
    })?;
    let snapshot = server.snapshot()?;
    ensure!(number(&snapshot, "/server/timestamps/kernel_tx") >= 5, "no stamps of the kernel: {snapshot}");
    let tests = client.chronyc(&["ntpdata"])?;
    ensure!(tests.contains("NTP tests       : 111 111 1111"), "chronyc ntpdata: {tests}");
    Ok(())
}

fn ours_with_ours(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server4.test").interleaved())?;
    stage.until("ten interleaved answers", PATIENCE, || expect_ours_interleaved(&client))?;
    let text = server.report_text("serverstats")?;
    ensure!(count(&text, "Interleaved NTP packets") >= 10, "chime serverstats: {text}");
    client.stop()
}

/// Lines for a daemon of ours that serves on the port which its peers use.
const OUR_SERVER: &str = "[[server]]\nlisten = \"0.0.0.0:123\"\n\n[[server]]\nlisten = \"[::]:123\"\n";

/// A source of ours: the peer at `v4(host)`.
fn peer_table(host: u8, key: u32, interleaved: bool) -> String {
    format!(
        "[[source]]\nmode = \"peer\"\naddress = \"{}\"\nkey = {key}\ninterleaved = {interleaved}\n\
         poll-interval-limits = {{ min = 0, max = 0 }}\ninitial-poll-interval = 0\n",
        v4(host)
    )
}

fn peer_line(host: u8, key: &str, interleaved: bool) -> String {
    let xleave = if interleaved { " xleave" } else { "" };
    format!("peer {} minpoll 0 maxpoll 0 {key}{xleave}\n", v4(host))
}

/// chronyd has time and our daemon has not.
fn peer_of_chrony(stage: &mut Stage, suite: Suite, key: &str, interleaved: bool, extra: &str) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let lines = format!("local stratum 8\n{}", peer_line(2, key, interleaved));
    let theirs = chrony::start(stage, &one, suite, "chronyd-peer", &lines)?;
    let key_number = key.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let table = peer_table(1, key_number, interleaved);
    let ours = chimed::client_of_sources(stage, &two, &format!("{table}\n{extra}"))?;
    stage.until("the peer is followed", PATIENCE, || {
        // Packets that cross each other are not about each other, so that now and then a poll goes without.
        ours.view()?.expect_selected(0x03)?;
        let source = ours.source()?;
        let is_interleaved = source.pointer("/ntp/interleaved") == Some(&Value::Bool(true));
        ensure!(is_interleaved == interleaved, "interleaved: {source}");
        ensure!(source.pointer("/ntp/authenticated") == Some(&Value::Bool(true)), "without key: {source}");
        ensure!(number(&source, "/ntp/mode") == 1, "not in symmetric mode: {source}");
        let offset = source.pointer("/ntp/offset_seconds").and_then(Value::as_f64).unwrap_or(1.0);
        ensure!(offset.abs() < 2e-3, "an offset of {offset} s");
        Ok(())
    })?;
    let text = ours.report_text("sources")?;
    ensure!(text.contains("=* 10.77.0.1"), "chime sources: {text}");
    // It hears from us as well, and notices that we follow it.
    stage.until("chronyd hears us", PATIENCE, || {
        let data = theirs.chronyc(&["ntpdata"])?;
        ensure!(
            data.contains("Symmetric active") && count(&data, "Total valid RX") > 5,
            "chronyc ntpdata: {data}"
        );
        ensure!(data.contains("111 111 1110"), "no loop is seen: {data}");
        Ok(())
    })?;
    if !extra.is_empty() {
        // Strangers are served beside the peer, and the peer's packets do not get lost among theirs.
        let four = stage.node(4)?;
        let client = chrony::client(stage, &four, suite, &ClientOf::plain(&v4(2).to_string()))?;
        stage.until("a client is served", PATIENCE, || client.view()?.expect_selected(0x0f))?;
        ours.view()?.expect_selected(0)?;
    }
    ours.stop()
}

/// Our daemon has time and chronyd has not.
fn chrony_as_peer(stage: &mut Stage, suite: Suite, interleaved: bool) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let table = format!("[local-clock]\nstratum = 8\nactivate = 0\n\n{}", peer_table(2, 2, interleaved));
    let ours = chimed::client_of_sources(stage, &one, &table)?;
    let theirs = chrony::start(stage, &two, suite, "chronyd-peer", &peer_line(1, "key 2", interleaved))?;
    stage.until("chronyd follows us", PATIENCE, || {
        let sources = theirs.chronyc(&["-c", "sources"])?;
        ensure!(sources.starts_with("=,*,"), "chronyc sources: {sources}");
        let data = theirs.chronyc(&["ntpdata"])?;
        let wanted = if interleaved { "Interleaved     : Yes" } else { "Interleaved     : No" };
        ensure!(data.contains(wanted) && data.contains("111 111 1111"), "chronyc ntpdata: {data}");
        ensure!(data.contains("Authenticated   : Yes"), "chronyc ntpdata: {data}");
        ensure!(count(&data, "Total good RX") >= 8, "chronyc ntpdata: {data}");
        Ok(())
    })?;
    ensure!(ours.discards("loop")? > 0, "we do not see that it follows us");
    ours.stop()
}

/// A peer with another key is heard and not believed.
fn peer_without_key(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let lines = format!("local stratum 8\n{}", peer_line(2, "", false));
    let _theirs = chrony::start(stage, &one, Bookworm, "chronyd-peer", &lines)?;
    let ours = chimed::client_of_sources(stage, &two, &peer_table(1, 2, false))?;
    stage.until("ten packets without a MAC", PATIENCE, || {
        let discards = ours.discards("no-mac")?;
        ensure!(discards >= 10, "{discards}");
        Ok(())
    })?;
    let source = ours.source()?;
    ensure!(number(&source, "/ntp/total_valid_rx") == 0 && number(&source, "/reach") == 0, "{source}");
    ours.stop()
}

/// What is broadcast is seen by a socket elsewhere on the network, while clients of the same server are served.
fn broadcasts_arrive(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let tables = "[[broadcast]]\naddress = \"10.77.0.255\"\ninterval = 1\nkey = 2\n\n\
                  [[broadcast]]\naddress = \"10.77.0.2:1123\"\ninterval = 2\n";
    let listener = listen::spawn(stage, &two, &[123, 1123])?;
    let _server = chimed::server_with(stage, &one, &ServerOf::plain(), tables)?;
    let four = stage.node(4)?;
    let client = chrony::client(stage, &four, Bookworm, &ClientOf::plain("server4.test"))?;
    stage.until("a client is served", PATIENCE, || client.view()?.expect_selected(0x0f))?;
    stage.until("three packets on each port", PATIENCE, || {
        let log = listener.log();
        // Port, sender with port, octets, mode, key.
        let with_mac = log.matches("123 from 10.77.0.1:123: 72 octets, mode 5, stratum 8, key 2").count();
        let without = log.matches("1123 from 10.77.0.1:123: 48 octets, mode 5, stratum 8, no MAC").count();
        ensure!(with_mac >= 3 && without >= 3, "{log}");
        Ok(())
    })
}

/// The traffic class of an answer to a request of this host, and of the first request that comes to it from another.
const TRAFFIC_CLASSES: &str = "
import socket
IP_RECVTOS = 13
def receive(s):
    s.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
    s.settimeout(30)
    return s.recvmsg(512, 64)[1][0][2][0]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
if ROLE == 'server':
    s.bind(('0.0.0.0', 123))
else:
    s.sendto(bytes([0x23]) + bytes(47), ('127.0.0.1', 123))
print(receive(s))
";

fn traffic_class(node: &Node, role: &str) -> Result<u32> {
    let mut command = ntpsec::python(Trixie)?;
    command.arg("-c").arg(TRAFFIC_CLASSES.replace("ROLE", &format!("'{role}'")));
    let output = node.wrap(&command).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let class = text.trim().parse();
    class.with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Answers and requests, of the usual and of a configured DSCP.
fn dscp(stage: &mut Stage) -> Result<()> {
    let nodes = [stage.node(2)?, stage.node(4)?];
    let watcher = stage.node(5)?;
    for (number, (line, chronyd, ntpd)) in [("", 0, 46), ("dscp 10\n", 10, 10)].into_iter().enumerate() {
        for (node, ours) in nodes.iter().zip([true, false]) {
            let text = format!("server 10.77.0.5 iburst\nallow\nlocal\n{line}");
            let name = format!("chronyd-{number}-{ours}");
            let daemon = chrony::of_text(stage, node, Trixie, (&name, &text), ours)?;
            let classes = (traffic_class(&watcher, "server")?, traffic_class(node, "client")?);
            ensure!(classes == (chronyd << 2, chronyd << 2), "{name}: {classes:?}");
            daemon.stop()?;
            let text = format!("server 10.77.0.5 iburst\n{line}");
            let name = format!("ntpd-{number}-{ours}");
            let daemon = ntpsec::of_text(stage, node, Trixie, (&name, &text), ours)?;
            let classes = (traffic_class(&watcher, "server")?, traffic_class(node, "client")?);
            ensure!(classes == (ntpd << 2, ntpd << 2), "{name}: {classes:?}");
            daemon.stop()?;
        }
    }
    Ok(())
}
