//! Real clients against our server.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::{Node, v4, v6};
use crate::peers::{ClientOf, ServerOf, chimed, chrony, ntpd_rs, ntpsec};
use crate::pki::Pki;
use crate::stage::Stage;
use anyhow::{Result, ensure};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("our-server/ntpsec-1.2.2-nts-ipv4", |stage| for_ntpsec(stage, Bookworm, &ClientOf::nts("server4.test"))),
    ("our-server/ntpsec-1.2.3-nts-ipv6", |stage| for_ntpsec(stage, Trixie, &ClientOf::nts("server6.test"))),
    ("our-server/ntpsec-1.2.2-plain", |stage| for_ntpsec(stage, Bookworm, &ClientOf::plain("server4.test"))),
    ("our-server/ntpsec-1.2.2-key-sha1", |stage| {
        for_ntpsec(stage, Bookworm, &ClientOf::keyed("server4.test", 2))
    }),
    ("our-server/ntpd-rs-nts-ipv4", |stage| for_ntpd_rs(stage, &ClientOf::nts("server4.test"))),
    ("our-server/ntpd-rs-nts-ipv6", |stage| for_ntpd_rs(stage, &ClientOf::nts("server6.test"))),
    ("our-server/ntpd-rs-plain", |stage| for_ntpd_rs(stage, &ClientOf::plain("server.test"))),
    ("our-server/chrony-4.3-nts-aead-15-ipv4", |stage| chrony_with_nts(stage, Bookworm, "server4.test", 15)),
    ("our-server/chrony-4.3-nts-aead-15-ipv6", |stage| chrony_with_nts(stage, Bookworm, "server6.test", 15)),
    ("our-server/chrony-4.6.1-nts-aead-30-ipv4", |stage| chrony_with_nts(stage, Trixie, "server4.test", 30)),
    ("our-server/chrony-4.6.1-nts-aead-30-ipv6", |stage| chrony_with_nts(stage, Trixie, "server6.test", 30)),
    ("our-server/chrony-4.6.1-nts-certificate-for-ipv4-address", |stage| {
        chrony_with_nts_by_address(stage, &v4(1).to_string())
    }),
    ("our-server/chrony-4.6.1-nts-certificate-for-ipv6-address", |stage| {
        chrony_with_nts_by_address(stage, &v6(1).to_string())
    }),
    ("our-server/chrony-4.3-plain", |stage| for_chrony(stage, Bookworm, &ClientOf::plain("server4.test"))),
    ("our-server/chrony-4.6.1-plain-ipv6", |stage| {
        for_chrony(stage, Trixie, &ClientOf::plain("server6.test"))
    }),
    ("our-server/chrony-4.3-key-md5", |stage| {
        for_chrony(stage, Bookworm, &ClientOf::keyed("server.test", 1))
    }),
    ("our-server/chrony-4.3-key-sha256", |stage| {
        for_chrony(stage, Bookworm, &ClientOf::keyed("server.test", 3))
    }),
    ("our-server/chrony-4.6.1-key-aes128", |stage| {
        for_chrony(stage, Trixie, &ClientOf::keyed("server.test", 4))
    }),
];

/// The bits of an AEAD's key, as chronyc shows them.
fn key_bits(aead: u16) -> u16 {
    if aead == 30 { 128 } else { 256 }
}

/// Starts our server with a certificate, and makes a node for the client.
fn serve(stage: &mut Stage, identity: fn(&Pki) -> &crate::pki::Identity) -> Result<(chimed::Chimed, Node)> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server(stage, &one, &ServerOf::nts(identity(stage.pki())))?;
    Ok((server, two))
}

fn for_chrony(stage: &mut Stage, suite: Suite, options: &ClientOf) -> Result<()> {
    let (_server, node) = serve(stage, |pki| &pki.by_name)?;
    let client = chrony::client(stage, &node, suite, options)?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))
}

/// `chronyc -N authdata` shows one key establishment, the AEAD, its bits, and eight cookies.
fn check_chrony_with_nts(stage: &Stage, node: &Node, suite: Suite, name: &str, aead: u16) -> Result<()> {
    let client = chrony::client(stage, node, suite, &ClientOf::nts(name))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    stage.until("eight cookies", PATIENCE, || {
        let data = client.auth_data()?;
        ensure!(data.mode == "NTS" && data.key_id == 1 && data.cookies == 8, "{data:?}");
        ensure!(data.key_type == aead && data.key_bits == key_bits(aead), "{data:?}");
        ensure!(data.attempts == 0 && data.naks == 0 && data.cookie_octets % 4 == 0, "{data:?}");
        Ok(())
    })
}

fn chrony_with_nts(stage: &mut Stage, suite: Suite, name: &str, aead: u16) -> Result<()> {
    let (_server, node) = serve(stage, |pki| &pki.by_name)?;
    check_chrony_with_nts(stage, &node, suite, name, aead)
}

fn chrony_with_nts_by_address(stage: &mut Stage, address: &str) -> Result<()> {
    let (_server, node) = serve(stage, |pki| &pki.by_address)?;
    check_chrony_with_nts(stage, &node, Trixie, address, 30)
}

fn for_ntpsec(stage: &mut Stage, suite: Suite, options: &ClientOf) -> Result<()> {
    let (_server, node) = serve(stage, |pki| &pki.by_name)?;
    let client = ntpsec::client(stage, &node, suite, options)?;
    stage.until("four answers", PATIENCE, || client.view()?.expect_selected(0x0f))
}

fn for_ntpd_rs(stage: &mut Stage, options: &ClientOf) -> Result<()> {
    let (_server, node) = serve(stage, |pki| &pki.by_name)?;
    let client = ntpd_rs::client(stage, &node, options)?;
    stage.until("ten seconds of answers", PATIENCE, || client.view()?.expect_selected(0xff))?;
    if options.nts {
        let cookies = client.metric("ntp_source_nts_cookies_available")?;
        ensure!(cookies >= 7.0, "only {cookies} cookies");
    }
    Ok(())
}
