//! Our server in another's place: the clients of an NTS server keep their cookies.

use super::PATIENCE;
use crate::install::Suite::{Bookworm, Trixie};
use crate::network::Node;
use crate::peers::{ClientOf, ServerOf, chimed, chrony, ntpd_rs, ntpsec};
use crate::stage::Stage;
use anyhow::{Result, ensure};
use std::path::Path;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("takeover/chrony-4.3-cookies", |stage| from_chrony(stage, Bookworm)),
    ("takeover/chrony-4.6.1-cookies", |stage| from_chrony(stage, Trixie)),
    ("takeover/ntpsec-1.2.2-cookies", from_ntpsec),
    ("takeover/ntpd-rs-cookies", from_ntpd_rs),
];

fn from_chrony(stage: &mut Stage, suite: crate::install::Suite) -> Result<()> {
    let node = stage.node(1)?;
    let server = chrony::server(stage, &node, suite, &ServerOf::nts(&stage.pki().by_name))?;
    let client = established(stage)?;
    server.stop()?;
    let keys = stage.folder().join("chronyd-server/ntskeys");
    take_over(stage, &node, &client, (&keys, "chrony"))
}

fn from_ntpsec(stage: &mut Stage) -> Result<()> {
    let node = stage.node(1)?;
    let server = ntpsec::server(stage, &node, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    let client = established(stage)?;
    drop(server);
    let keys = stage.folder().join("ntpsec-cookies");
    take_over(stage, &node, &client, (&keys, "ntpsec"))
}

fn from_ntpd_rs(stage: &mut Stage) -> Result<()> {
    let (one, four) = (stage.node(1)?, stage.node(4)?);
    let _upstream = chrony::server(stage, &four, Bookworm, &ServerOf::plain())?;
    let server = ntpd_rs::server(stage, &one, &ServerOf::nts(&stage.pki().by_name), "source.test")?;
    let client = established(stage)?;
    drop(server);
    let keys = stage.folder().join("ntpd-rs-server.cookies");
    take_over(stage, &one, &client, (&keys, "ntpd-rs"))
}

/// A client that has its cookies.
fn established(stage: &mut Stage) -> Result<chimed::Chimed> {
    let node = stage.node(2)?;
    let client = chimed::client(stage, &node, &ClientOf::nts("server4.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    ensure!(client.establishments()? == 1, "more than one key establishment was needed");
    Ok(client)
}

/// Our server answers with the other's keys, and nobody establishes keys anew.
fn take_over(
    stage: &mut Stage,
    node: &Node,
    client: &chimed::Chimed,
    (keys, format): (&Path, &str),
) -> Result<()> {
    ensure!(keys.exists(), "{} is not there", keys.display());
    let before = std::fs::read(keys)?;
    let predecessor =
        format!("[predecessor]\ncookie-keys = \"{}\"\ncookie-key-format = \"{format}\"\n", keys.display());
    let options = ServerOf::nts(&stage.pki().by_name);
    let server = chimed::server_with(stage, node, &options, &predecessor)?;
    stage.until("sixteen authenticated answers", PATIENCE, || {
        let served = server.authenticated_served()?;
        ensure!(served >= 16, "{served} so far");
        client.view()?.expect_selected(0xff)
    })?;
    ensure!(server.sessions_served()? == 0, "keys were established with the new server");
    ensure!(client.establishments()? == 1, "the client established keys anew");
    ensure!(std::fs::read(keys)? == before, "the other's keys were changed");
    Ok(())
}
