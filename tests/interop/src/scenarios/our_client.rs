//! Our client against real servers.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::{v4, v6};
use crate::peers::{ClientOf, ServerOf, chimed, chrony, ntpd_rs, ntpsec};
use crate::stage::Stage;
use anyhow::{Result, ensure};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("our-client/ntpsec-1.2.2-nts-ipv4", |stage| of_ntpsec(stage, Bookworm, &ClientOf::nts("server4.test"))),
    ("our-client/ntpsec-1.2.3-nts-ipv6", |stage| of_ntpsec(stage, Trixie, &ClientOf::nts("server6.test"))),
    ("our-client/ntpsec-1.2.2-plain", |stage| of_ntpsec(stage, Bookworm, &ClientOf::plain("server.test"))),
    ("our-client/ntpsec-1.2.2-key-sha1", |stage| {
        of_ntpsec(stage, Bookworm, &ClientOf::keyed("server.test", 2))
    }),
    ("our-client/ntpsec-1.2.3-key-aes128", |stage| {
        of_ntpsec(stage, Trixie, &ClientOf::keyed("server.test", 4))
    }),
    ("our-client/ntpd-rs-nts-ipv4", |stage| of_ntpd_rs(stage, &ClientOf::nts("server4.test"))),
    ("our-client/ntpd-rs-nts-ipv6", |stage| of_ntpd_rs(stage, &ClientOf::nts("server6.test"))),
    ("our-client/ntpd-rs-plain", |stage| of_ntpd_rs(stage, &ClientOf::plain("server.test"))),
    ("our-client/chrony-4.3-nts-aead-15-ipv4", |stage| {
        of_chrony(stage, Bookworm, &ClientOf::nts("server4.test"), Some(15))
    }),
    ("our-client/chrony-4.3-nts-aead-15-ipv6", |stage| {
        of_chrony(stage, Bookworm, &ClientOf::nts("server6.test"), Some(15))
    }),
    ("our-client/chrony-4.6.1-nts-aead-30-ipv4", |stage| {
        of_chrony(stage, Trixie, &ClientOf::nts("server4.test"), Some(30))
    }),
    ("our-client/chrony-4.6.1-nts-aead-30-ipv6", |stage| {
        of_chrony(stage, Trixie, &ClientOf::nts("server6.test"), Some(30))
    }),
    ("our-client/chrony-4.6.1-nts-certificate-for-ipv4-address", |stage| {
        of_chrony_by_address(stage, &v4(1).to_string())
    }),
    ("our-client/chrony-4.6.1-nts-certificate-for-ipv6-address", |stage| {
        of_chrony_by_address(stage, &v6(1).to_string())
    }),
    ("our-client/chrony-nts-with-a-dead-address-first", |stage| {
        of_chrony(stage, Trixie, &ClientOf::nts("half-dead.test"), Some(30))
    }),
    ("our-client/chrony-4.6.1-nts-other-server-negotiated", of_chrony_elsewhere),
    ("our-client/chrony-4.3-plain", |stage| {
        of_chrony(stage, Bookworm, &ClientOf::plain("server4.test"), None)
    }),
    ("our-client/chrony-4.6.1-plain-ipv6", |stage| {
        of_chrony(stage, Trixie, &ClientOf::plain("server6.test"), None)
    }),
    ("our-client/chrony-4.3-key-md5", |stage| {
        of_chrony(stage, Bookworm, &ClientOf::keyed("server.test", 1), None)
    }),
    ("our-client/chrony-4.3-key-sha256", |stage| {
        of_chrony(stage, Bookworm, &ClientOf::keyed("server.test", 3), None)
    }),
    ("our-client/chrony-4.6.1-key-aes128", |stage| {
        of_chrony(stage, Trixie, &ClientOf::keyed("server.test", 4), None)
    }),
    ("our-client/our-server-nts", of_ourselves),
];

/// Follows until eight polls in a row were answered; with NTS, with this AEAD.
fn follow(stage: &mut Stage, options: &ClientOf, aead: Option<u64>) -> Result<()> {
    let node = stage.node(2)?;
    let client = chimed::client(stage, &node, options)?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    if let Some(aead) = aead {
        client.expect_nts(aead)?;
        ensure!(client.establishments()? == 1, "more than one key establishment was needed");
        let text = client.report_text("authdata")?;
        let line = text.lines().find(|line| line.contains(" NTS ")).unwrap_or_default();
        let shown = line.split_whitespace().nth(3).unwrap_or_default();
        ensure!(shown == aead.to_string(), "chime authdata: {text}");
    }
    client.stop()
}

fn of_chrony(stage: &mut Stage, suite: Suite, options: &ClientOf, aead: Option<u64>) -> Result<()> {
    let node = stage.node(1)?;
    let _server = chrony::server(stage, &node, suite, &ServerOf::nts(&stage.pki().by_name))?;
    follow(stage, options, aead)
}

fn of_chrony_by_address(stage: &mut Stage, address: &str) -> Result<()> {
    let node = stage.node(1)?;
    let _server = chrony::server(stage, &node, Trixie, &ServerOf::nts(&stage.pki().by_address))?;
    follow(stage, &ClientOf::nts(address), Some(30))
}

/// Keys over IPv4, then time over IPv6, by a name that the certificate need not have.
fn of_chrony_elsewhere(stage: &mut Stage) -> Result<()> {
    let node = stage.node(1)?;
    let options = ServerOf { ntp_server: Some("server6.test"), ..ServerOf::nts(&stage.pki().by_name) };
    let _server = chrony::server(stage, &node, Trixie, &options)?;
    follow(stage, &ClientOf::nts("server4.test"), Some(30))
}

fn of_ntpsec(stage: &mut Stage, suite: Suite, options: &ClientOf) -> Result<()> {
    let node = stage.node(1)?;
    let _server = ntpsec::server(stage, &node, suite, &ServerOf::nts(&stage.pki().by_name))?;
    follow(stage, options, options.nts.then_some(15))
}

fn of_ntpd_rs(stage: &mut Stage, options: &ClientOf) -> Result<()> {
    let (one, four) = (stage.node(1)?, stage.node(4)?);
    let _upstream = chrony::server(stage, &four, Bookworm, &ServerOf::plain())?;
    let _server = ntpd_rs::server(stage, &one, &ServerOf::nts(&stage.pki().by_name), "source.test")?;
    follow(stage, options, options.nts.then_some(15))
}

fn of_ourselves(stage: &mut Stage) -> Result<()> {
    let node = stage.node(1)?;
    let _server = chimed::server(stage, &node, &ServerOf::nts(&stage.pki().by_name))?;
    follow(stage, &ClientOf::nts("server.test"), Some(30))
}
