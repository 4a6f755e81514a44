//! Things that change while our client runs: the network, the servers, its configuration.

use super::PATIENCE;
use crate::install::Suite::{Bookworm, Trixie};
use crate::peers::{ClientOf, ServerOf, chimed, chrony};
use crate::sandbox::POOL;
use crate::stage::Stage;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("changes/no-network-at-start", no_network_at_start),
    ("changes/server-of-a-pool-dies-and-is-replaced", pool_member_dies),
    ("changes/reload-turns-a-plain-source-into-an-authenticated-one", reload),
    ("changes/pinned-self-signed-certificate", pinned),
];

/// What a client may take from the moment the cable is plugged in; its back-off had grown longer.
const PLUGGED_IN: Duration = Duration::from_secs(10);

/// Key establishment fails for a while and backs off; then the network comes, and it does not wait.
fn no_network_at_start(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    stage.network().set_cable(2, false)?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server.test"))?;
    stage.until("a long back-off", PATIENCE, || {
        let failures: u64 = client.establishment_failures()?.iter().map(|(_, count)| count).sum();
        ensure!(failures >= 3, "{failures} failures");
        Ok(())
    })?;
    stage.network().set_cable(2, true)?;
    stage.until("time", PLUGGED_IN, || client.view()?.expect_selected(0x01))
}

/// Two of three servers are used; when one of them dies, the third takes its place.
fn pool_member_dies(stage: &mut Stage) -> Result<()> {
    let mut servers = Vec::new();
    for &host in POOL {
        let node = stage.node(host)?;
        servers.push((node.v4(), chrony::server_named(stage, &node, Bookworm, &format!("chronyd-{host}"))?));
    }
    let two = stage.node(2)?;
    let sources = "[[source]]\nmode = \"pool\"\naddress = \"pool.test\"\ncount = 2\n\
        poll-interval-limits = { min = 0, max = 0 }\ninitial-poll-interval = 0\n";
    let client = chimed::client_of_sources(stage, &two, sources)?;
    let members = || -> Result<Vec<String>> {
        let reached = |source: &&Value| source["reach"].as_u64().is_some_and(|reach| reach & 0x0f == 0x0f);
        let addresses: Vec<String> =
            client.sources()?.iter().filter(reached).map(|source| source["remote"].to_string()).collect();
        ensure!(addresses.len() == 2, "reached: {addresses:?}");
        Ok(addresses)
    };
    let before = stage.until("two members", PATIENCE, members)?;
    let is_used = |address: &str| before.iter().any(|member| member.contains(address));
    let place = servers.iter().position(|(address, _)| is_used(&format!("\"{address}:"))).unwrap_or(0);
    let (dead, server) = servers.swap_remove(place);
    server.stop()?;
    stage.until("another member", PATIENCE + PATIENCE, || {
        let now = members()?;
        ensure!(!now.iter().any(|member| member.contains(&format!("\"{dead}:"))), "still {now:?}");
        Ok(())
    })
}

/// The file changes, SIGHUP comes, and the same process goes on with NTS.
fn reload(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let mut client = chimed::client(stage, &two, &ClientOf::plain("server.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    chimed::write_client(stage, &ClientOf::nts("server.test"), None)?;
    client.signal(Signal::SIGHUP)?;
    stage.until("NTS", PATIENCE, || {
        client.view()?.expect_selected(0x0f)?;
        client.expect_nts(30)
    })?;
    chimed::write_client_text(stage, "[[source]]\nmod = \"nts\"\n")?;
    client.signal(Signal::SIGHUP)?;
    stage.until("a complaint about the file", PATIENCE, || {
        ensure!(client.log().contains("did you mean `mode`"), "the log says nothing of it");
        Ok(())
    })?;
    client.check_alive()?;
    client.expect_nts(30)
}

/// A self-signed certificate is good when the operator has said that it is this one.
fn pinned(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let identity = stage.pki().self_signed.clone();
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&identity))?;
    let trust = format!("system-cas = false\npinned-certificates = \"{}\"\n", identity.chain.display());
    let client = chimed::client_with(stage, &two, &ClientOf::nts("server.test"), Some(&trust))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))
}
