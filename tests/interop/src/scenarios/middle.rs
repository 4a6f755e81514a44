//! A man in the middle between our client and a chronyd with NTS.
//!
//! With the good answer behind the spoilt ones, time must be kept and each spoilt one counted.
//! With spoilt answers alone, the client must never believe anything.

use super::PATIENCE;
use crate::install::Suite::Trixie;
use crate::middle;
use crate::network::v4;
use crate::peers::{ClientOf, ServerOf, chimed, chrony};
use crate::process::Daemon;
use crate::stage::Stage;
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Duration;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("middle/truncated-answers", |stage| never_believed(stage, "truncate")),
    ("middle/flipped-bits", |stage| never_believed(stage, "flip")),
    ("middle/plain-answers", |stage| never_believed(stage, "strip")),
    ("middle/answers-without-authenticator", |stage| never_believed(stage, "strip-authenticator")),
    ("middle/forged-answers", |stage| never_believed(stage, "forge")),
    ("middle/replayed-answers", |stage| never_believed(stage, "replay")),
    ("middle/unauthenticated-deny", |stage| never_believed(stage, "deny")),
    ("middle/truncated-answers-before-good-ones", |stage| survived(stage, "truncate", &[])),
    ("middle/flipped-bits-before-good-answers", |stage| survived(stage, "flip", &["authenticator-failed"])),
    ("middle/plain-answers-before-good-ones", |stage| survived(stage, "strip", &["no-unique-identifier"])),
    ("middle/forged-answers-before-good-ones", |stage| survived(stage, "forge", &["no-authenticator"])),
    ("middle/replayed-answers-before-good-ones", |stage| survived(stage, "replay", &["origin-mismatch"])),
    ("middle/unauthenticated-deny-before-good-answers", |stage| {
        survived(stage, "deny", &["unauthenticated-kiss"])
    }),
    ("middle/unauthenticated-nak-before-good-answers", |stage| survived(stage, "nak", &["nts-nak"])),
    ("middle/duplicated-answers", |stage| survived(stage, "duplicate", &[])),
    ("middle/reordered-answers", reordered),
];

/// Starts server, relay and client; the client asks the relay for the time.
fn set_up(
    stage: &mut Stage,
    mischief: &str,
    also: Option<&str>,
) -> Result<(Vec<Daemon>, chrony::Chrony, chimed::Chimed)> {
    let (one, two, three) = (stage.node(1)?, stage.node(2)?, stage.node(3)?);
    let relay_address = v4(3).to_string();
    let options = ServerOf { ntp_server: Some(&relay_address), ..ServerOf::nts(&stage.pki().by_name) };
    let server = chrony::server(stage, &one, Trixie, &options)?;
    let relay = middle::spawn(stage, &three, v4(1), mischief, also)?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server4.test"))?;
    Ok((vec![relay], server, client))
}

/// Nothing but spoilt answers: polls go unanswered and nothing is selected.
fn never_believed(stage: &mut Stage, mischief: &str) -> Result<()> {
    let (relay, _server, client) = set_up(stage, mischief, None)?;
    stage.until("ten spoilt answers", PATIENCE, || {
        let count = relay[0].log().lines().count();
        ensure!(count >= 10, "only {count}");
        Ok(())
    })?;
    let view = client.view()?;
    ensure!(view.reach == 0 && !view.is_selected, "something was believed: {view:?}");
    let source = client.source()?;
    let discards = source.pointer("/discards").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(discards > 0, "nothing was counted");
    Ok(())
}

/// Spoilt answers first, the good one behind: each poll counts, and so does each bad answer.
fn survived(stage: &mut Stage, mischief: &str, reasons: &[&str]) -> Result<()> {
    let (_relay, _server, client) = set_up(stage, mischief, Some("also-good"))?;
    stage.until("reach 377", PATIENCE, || client.view()?.expect_selected(0xff))?;
    for reason in reasons {
        let count = client.discards(reason)?;
        ensure!(count >= 4, "{count} discards for {reason}: {}", client.source()?);
    }
    ensure!(client.establishments()? == 1, "the mischief caused a new key establishment");
    expect_small_offset(&client)
}

/// Answers that come behind the next request's are late, not wrong: the others keep the time.
fn reordered(stage: &mut Stage) -> Result<()> {
    let (_relay, _server, client) = set_up(stage, "reorder", None)?;
    stage
        .until("some answers", PATIENCE + Duration::from_secs(20), || client.view()?.expect_selected(0x01))?;
    expect_small_offset(&client)
}

/// Both clocks are the same one; a forged answer would show as an hour, a late one as a second.
fn expect_small_offset(client: &chimed::Chimed) -> Result<()> {
    let source = client.source()?;
    let offset = source.pointer("/statistics/offset_seconds").and_then(Value::as_f64).unwrap_or(f64::MAX);
    ensure!(offset.abs() < 0.05, "offset {offset} s: {source}");
    Ok(())
}
