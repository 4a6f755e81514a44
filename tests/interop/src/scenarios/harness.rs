//! Peers among themselves: shows that the harness works, so that a failure elsewhere is ours.

use super::PATIENCE;
use crate::install::Suite::{Bookworm, Trixie};
use crate::middle;
use crate::network::v4;
use crate::peers::{ClientOf, ServerOf, chrony, ntpd_rs, ntpsec};
use crate::stage::Stage;
use anyhow::{Result, ensure};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("harness/chronyd-and-chronyd-with-nts", chrony_and_chrony),
    ("harness/chronyd-and-ntpd-rs-with-nts", chrony_and_ntpd_rs),
    ("harness/ntpsec-and-ntpsec-with-nts", ntpsec_and_ntpsec),
    ("harness/ntpd-rs-and-chronyd-with-nts", ntpd_rs_and_chrony),
    ("harness/chronyd-and-a-man-in-the-middle", chrony_and_middle),
];

fn chrony_and_chrony(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chrony::client(stage, &two, Trixie, &ClientOf::nts("server.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    let data = client.auth_data()?;
    ensure!(data.mode == "NTS" && data.key_type == 30 && data.cookies >= 7, "{data:?}");
    Ok(())
}

fn chrony_and_ntpd_rs(stage: &mut Stage) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let _upstream = chrony::server(stage, &four, Bookworm, &ServerOf::plain())?;
    let _server = ntpd_rs::server(stage, &one, &ServerOf::nts(&stage.pki().by_name), "source.test")?;
    let client = chrony::client(stage, &two, Bookworm, &ClientOf::nts("server.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))
}

fn ntpsec_and_ntpsec(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = ntpsec::server(stage, &one, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    let client = ntpsec::client(stage, &two, Trixie, &ClientOf::nts("server.test"))?;
    stage.until("four answers", PATIENCE, || client.view()?.expect_selected(0x0f))
}

fn ntpd_rs_and_chrony(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    let client = ntpd_rs::client(stage, &two, &ClientOf::nts("server.test"))?;
    stage.until("ten seconds of answers", PATIENCE, || client.view()?.expect_selected(0xff))
}

/// chronyd refuses what we want to refuse: the mischief is real and goes where it should.
fn chrony_and_middle(stage: &mut Stage) -> Result<()> {
    let (one, two, three) = (stage.node(1)?, stage.node(2)?, stage.node(3)?);
    let relay_address = v4(3).to_string();
    let options = ServerOf { ntp_server: Some(&relay_address), ..ServerOf::nts(&stage.pki().by_name) };
    let _server = chrony::server(stage, &one, Trixie, &options)?;
    let _relay = middle::spawn(stage, &three, v4(1), "flip", Some("also-good"))?;
    let client = chrony::client(stage, &two, Trixie, &ClientOf::nts("server4.test"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    let data = client.chronyc(&["ntpdata"])?;
    let counts = |name: &str| {
        let line = data.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|word| word.parse::<u32>().ok()).unwrap_or(0)
    };
    let (received, valid) = (counts("Total RX"), counts("Total valid RX"));
    ensure!(received >= valid * 8, "{received} received, {valid} valid: the mischief did not arrive");
    Ok(())
}
