//! Garbage of every length on every port: the daemon lives on, serves on, and never amplifies.

use super::PATIENCE;
use crate::install::Suite::Trixie;
use crate::network::{v4, v6};
use crate::peers::{ClientOf, ServerOf, chimed, chrony};
use crate::process::Daemon;
use crate::stage::Stage;
use anyhow::{Result, bail, ensure};
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("garbage/every-length-on-ipv4", |stage| thrown(stage, v4(1).into())),
    ("garbage/every-length-on-ipv6", |stage| thrown(stage, v6(1).into())),
];

fn thrown(stage: &mut Stage, address: IpAddr) -> Result<()> {
    let (one, two, five) = (stage.node(1)?, stage.node(2)?, stage.node(5)?);
    let mut server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    let first = chrony::client(stage, &two, Trixie, &ClientOf::nts("server.test"))?;
    stage.until("reach 377", PATIENCE, || first.view()?.expect_selected(0xff))?;

    let mut command = Command::new(std::env::current_exe()?);
    command.args(["garbage", &address.to_string()]);
    let mut thrower = Daemon::spawn("garbage", five.wrap(&command), stage.folder())?;
    let log = stage.until("all garbage thrown", PATIENCE + Duration::from_secs(30), || {
        let log = thrower.log();
        let is_done = thrower.check_alive().is_err();
        if is_done { Ok(log) } else { bail!("still throwing: {log}") }
    })?;
    ensure!(log.contains("streams"), "the thrower failed: {log}");

    server.check_alive()?;
    ensure!(!server.log().contains("panicked"), "a panic in the log");
    // The old client goes on undisturbed, and a new one gets keys and time.
    stage.until("reach 377 again", PATIENCE, || first.view()?.expect_selected(0xff))?;
    ensure!(first.auth_data()?.key_id == 1, "the client had to establish keys again");
    let second = chrony::client_named(stage, &five, Trixie, &ClientOf::nts("server.test"), "chronyd-second")?;
    stage.until("a second client", PATIENCE, || second.view()?.expect_selected(0x0f))?;
    server.stop()
}
