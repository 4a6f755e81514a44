//! NTP inside PTP messages, in both layouts: chrony 4.3 and 4.6.1 have the experimental one, and we speak either.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::v4;
use crate::peers::{ServerOf, chimed, chrony};
use crate::stage::Stage;
use anyhow::{Result, ensure};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("over-ptp/our-client-follows-chrony-4.3", |stage| ours_of_chrony(stage, Bookworm)),
    ("over-ptp/our-client-follows-chrony-4.6.1", |stage| ours_of_chrony(stage, Trixie)),
    ("over-ptp/chrony-4.3-follows-our-server", |stage| chrony_of_ours(stage, Bookworm)),
    ("over-ptp/chrony-4.3-follows-our-peer-with-key-interleaved", peers),
    ("over-ptp/fields-of-chrony-4.3-are-asked-for-and-filled", fields),
    ("over-ptp/ours-with-ours-and-another-domain-gets-nothing", ours_with_ours),
];

const PORT: &str = "[ntp-over-ptp]\n";
const OUR_SERVER: &str = "[[server]]\nlisten = \"0.0.0.0:123\"\n";
const SERVER: &str = "[[server]]\nlisten = \"0.0.0.0:319\"\n";

/// A source of ours at this host's PTP port.
fn source(mode: &str, host: u8, more: &str) -> String {
    format!(
        "[[source]]\nmode = \"{mode}\"\naddress = \"{}:319\"\npoll-interval-limits = {{ min = 0, max = 0 }}\n\
         initial-poll-interval = 0\n{more}\n",
        v4(host)
    )
}

fn ours_of_chrony(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let text = "local stratum 8\nallow all\nptpport 319\n";
    let server = chrony::start(stage, &one, suite, "chronyd-server", text)?;
    let client = chimed::client_of_sources(stage, &two, &format!("{}{PORT}", source("server", 1, "")))?;
    stage.until("it is followed", PATIENCE, || client.view()?.expect_selected(0x0f))?;
    let clients = server.chronyc(&["clients"])?;
    ensure!(clients.contains("10.77.0.2"), "chronyc clients: {clients}");
    client.stop()
}

fn chrony_of_ours(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server_with(stage, &one, &ServerOf::plain(), &format!("{SERVER}\n{PORT}"))?;
    let text = format!("server {} port 319 iburst minpoll 0 maxpoll 0\nptpport 319\n", v4(1));
    let client = chrony::start(stage, &two, suite, "chronyd-client", &text)?;
    stage.until("it is followed", PATIENCE, || client.view()?.expect_selected(0x0f))?;
    let snapshot = server.snapshot()?;
    let answered = snapshot.pointer("/server/responses/plain_time").and_then(serde_json::Value::as_u64);
    ensure!(answered > Some(3), "{snapshot}");
    Ok(())
}

fn peers(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let table = source("peer", 2, "key = 2\ninterleaved = true");
    let local = "[local-clock]\nstratum = 8\nactivate = 0\n";
    let ours = chimed::client_of_sources(stage, &one, &format!("{local}\n{table}\n{PORT}"))?;
    let text = format!("peer {} port 319 minpoll 0 maxpoll 0 key 2 xleave\nptpport 319\n", v4(1));
    let theirs = chrony::start(stage, &two, Bookworm, "chronyd-peer", &text)?;
    stage.until("chronyd follows us", PATIENCE, || {
        let sources = theirs.chronyc(&["-c", "sources"])?;
        ensure!(sources.starts_with("=,*,"), "chronyc sources: {sources}");
        let data = theirs.chronyc(&["ntpdata"])?;
        for line in ["Remote port     : 319", "Interleaved     : Yes", "Authenticated   : Yes"] {
            ensure!(data.contains(line), "chronyc ntpdata: {data}");
        }
        Ok(())
    })?;
    ours.stop()
}

/// chrony's experimental field, in both roles, as a peer and with NTS.
fn fields(stage: &mut Stage) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let theirs = chrony::server(stage, &one, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    let table = format!(
        "[[source]]\nmode = \"nts\"\naddress = \"server4.test\"\ncertificate-authority = \"{}\"\n\
         system-cas = false\nfrequency-transfer = true\nnetwork-correction = true\n\
         poll-interval-limits = {{ min = 0, max = 0 }}\ninitial-poll-interval = 0\n",
        stage.pki().ca.display()
    );
    let ours = chimed::client_of_sources(stage, &two, &format!("{table}\n{OUR_SERVER}"))?;
    stage.until("chronyd with the fields is followed", PATIENCE, || ours.view()?.expect_selected(0x0f))?;
    let text = format!("server {} iburst minpoll 0 maxpoll 0 extfield F323\nport 0\n", v4(2));
    let client = chrony::start(stage, &four, Bookworm, "chronyd-client", &text)?;
    stage.until("we are followed", PATIENCE, || client.view()?.expect_selected(0x0f))?;
    drop(theirs);
    ours.stop()
}

fn ours_with_ours(stage: &mut Stage) -> Result<()> {
    let nodes = [stage.node(1)?, stage.node(2)?, stage.node(4)?];
    let [one, two, four] = &nodes;
    let server = chimed::server_with(stage, one, &ServerOf::plain(), &format!("{SERVER}\n{PORT}"))?;
    let table = source("server", 1, "");
    let client = chimed::client_of_sources(stage, two, &format!("{table}{PORT}"))?;
    stage.until("it is followed", PATIENCE, || client.view()?.expect_selected(0x0f))?;
    client.stop()?;
    let stranger = chimed::client_of_sources(stage, four, &format!("{table}{PORT}domain = 5\n"))?;
    stage.until("its requests are counted", PATIENCE, || {
        let snapshot = server.snapshot()?;
        let refused = snapshot.pointer("/server/silences/ptp_malformed").and_then(serde_json::Value::as_u64);
        ensure!(refused > Some(3), "{snapshot}");
        Ok(())
    })?;
    let source = stranger.source()?;
    ensure!(source.pointer("/reach").and_then(serde_json::Value::as_u64) == Some(0), "{source}");
    stranger.stop()
}
