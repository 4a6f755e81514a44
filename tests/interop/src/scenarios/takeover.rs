//! Our server in another's place, and the other one back in its own: the clients of an NTS server keep their cookies.

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
    ("takeover/chronyds-file-of-cookie-keys", as_chrony),
];

fn from_chrony(stage: &mut Stage, suite: crate::install::Suite) -> Result<()> {
    let node = stage.node(1)?;
    let server = chrony::server(stage, &node, suite, &ServerOf::nts(&stage.pki().by_name))?;
    let client = established(stage)?;
    server.stop()?;
    let keys = stage.folder().join("chronyd-server/ntskeys");
    take_over(stage, &node, &client, (&keys, "chrony"))?;
    let _again = chrony::server(stage, &node, suite, &ServerOf::nts(&stage.pki().by_name))?;
    goes_on(stage, &client)
}

/// Under chronyd's name: there is no file with keys, and chronyd goes on with that of ours, and we with chronyd's.
fn as_chrony(stage: &mut Stage) -> Result<()> {
    let node = stage.node(1)?;
    let server = |stage: &Stage, is_ours| {
        chrony::server_by(stage, &node, (Trixie, is_ours), &ServerOf::nts(&stage.pki().by_name))
    };
    let first = server(stage, true)?;
    let client = established(stage)?;
    first.stop()?;
    for is_ours in [false, true, false] {
        let server = server(stage, is_ours)?;
        goes_on(stage, &client)?;
        server.stop()?;
    }
    Ok(())
}

fn from_ntpsec(stage: &mut Stage) -> Result<()> {
    let node = stage.node(1)?;
    let server = ntpsec::server(stage, &node, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    let client = established(stage)?;
    drop(server);
    let keys = stage.folder().join("ntpsec-cookies");
    take_over(stage, &node, &client, (&keys, "ntpsec"))?;
    let _again = ntpsec::server(stage, &node, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    goes_on(stage, &client)
}

fn from_ntpd_rs(stage: &mut Stage) -> Result<()> {
    let (one, four) = (stage.node(1)?, stage.node(4)?);
    let _upstream = chrony::server(stage, &four, Bookworm, &ServerOf::plain())?;
    let server = ntpd_rs::server(stage, &one, &ServerOf::nts(&stage.pki().by_name), "source.test")?;
    let client = established(stage)?;
    drop(server);
    let keys = stage.folder().join("ntpd-rs-server.cookies");
    take_over(stage, &one, &client, (&keys, "ntpd-rs"))?;
    let _again = ntpd_rs::server(stage, &one, &ServerOf::nts(&stage.pki().by_name), "source.test")?;
    goes_on(stage, &client)
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

/// The server that is there now answers: more often than there were cookies, so that they are its own by then.
fn goes_on(stage: &Stage, client: &chimed::Chimed) -> Result<()> {
    let before = client.valid_answers()?;
    stage.until("sixteen authenticated answers from the next server", PATIENCE, || {
        let more = client.valid_answers()? - before;
        ensure!(more >= 16, "{more} so far");
        client.view()?.expect_selected(0xff)
    })?;
    ensure!(client.establishments()? == 1, "the client established keys anew");
    Ok(())
}
