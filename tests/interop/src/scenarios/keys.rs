//! Cookie keys and client state over restarts: kept, rotated, lost.

use super::PATIENCE;
use crate::install::Suite::{Bookworm, Trixie};
use crate::peers::{ClientOf, ServerOf, chimed, chrony};
use crate::stage::Stage;
use anyhow::{Result, ensure};
use std::time::Duration;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("keys/our-server-rotates-and-chrony-notices-nothing", our_server_rotates),
    ("keys/our-server-restarts-with-its-keys", our_server_restarts),
    ("keys/our-server-loses-its-keys", our_server_forgets),
    ("keys/chrony-server-restarts-with-its-keys", chrony_server_restarts),
    ("keys/chrony-server-loses-its-keys", chrony_server_forgets),
    ("keys/our-client-restarts-with-its-cookies", our_client_restarts),
];

/// The shortest rotation that the configuration allows.
const ROTATION: Duration = Duration::from_secs(60);

fn our_server_rotates(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let rotation = format!("[keyset]\nkey-rotation-interval = {}\n", ROTATION.as_secs());
    let server = chimed::server_with(stage, &one, &ServerOf::nts(&stage.pki().by_name), &rotation)?;
    let client = chrony::client(stage, &two, Bookworm, &ClientOf::nts("server.test"))?;
    stage.until("a rotation", ROTATION + PATIENCE, || {
        ensure!(server.log().contains("a new cookie key is in use"), "the log says nothing of a new key");
        Ok(())
    })?;
    // Longer than the eight cookies of the old key last.
    std::thread::sleep(Duration::from_secs(10));
    client.view()?.expect_selected(0xff)?;
    let data = client.auth_data()?;
    ensure!(data.key_id == 1 && data.naks == 0, "a new key establishment was needed: {data:?}");
    Ok(())
}

fn our_server_restarts(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chrony::client(stage, &two, Bookworm, &ClientOf::nts("server.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    server.stop()?;
    stage.until("a missed poll", PATIENCE, || {
        ensure!(client.view()?.reach & 1 == 0, "still answered");
        Ok(())
    })?;
    let _server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    stage.until("reach 377 again", PATIENCE, || client.view()?.expect_selected(0xff))?;
    let data = client.auth_data()?;
    ensure!(data.key_id == 1 && data.naks == 0, "a new key establishment was needed: {data:?}");
    Ok(())
}

fn our_server_forgets(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chrony::client(stage, &two, Bookworm, &ClientOf::nts("server.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    server.stop()?;
    chimed::forget_state(stage, "chimed-server")?;
    let _server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    stage.until("a second key establishment", PATIENCE, || {
        let data = client.auth_data()?;
        ensure!(data.key_id == 2, "{data:?}");
        Ok(())
    })?;
    stage.until("reach 377 again", PATIENCE, || client.view()?.expect_selected(0xff))
}

/// Runs our client against a chronyd that restarts; with `forgets`, its keys are gone.
fn chrony_restarts(stage: &mut Stage, forgets: bool) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    server.stop()?;
    if forgets {
        chimed::forget_state(stage, "chronyd-server")?;
    } else {
        stage.until("a missed poll", PATIENCE, || {
            ensure!(client.view()?.reach & 1 == 0, "still answered");
            Ok(())
        })?;
    }
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let wanted = if forgets { 2 } else { 1 };
    stage.until("reach 377 again", PATIENCE, || {
        client.view()?.expect_selected(0xff)?;
        let count = client.establishments()?;
        ensure!(count >= wanted, "{count} key establishments");
        Ok(())
    })?;
    ensure!(client.establishments()? == wanted, "more key establishments than needed");
    ensure!(!forgets || client.discards("nts-nak")? > 0, "no NTS NAK was counted");
    Ok(())
}

fn chrony_server_restarts(stage: &mut Stage) -> Result<()> {
    chrony_restarts(stage, false)
}

fn chrony_server_forgets(stage: &mut Stage) -> Result<()> {
    chrony_restarts(stage, true)
}

/// The second client finds cookies on disk and never opens a TCP connection.
fn our_client_restarts(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    client.stop()?;
    let before = server.sessions_served()?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server.test"))?;
    stage.until("reach 377 again", PATIENCE, || client.view()?.expect_selected(0xff))?;
    ensure!(server.sessions_served()? == before, "the restarted client asked for new keys");
    Ok(())
}
