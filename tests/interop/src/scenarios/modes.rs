//! Interleaved and symmetric mode, broadcast.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::peers::{ClientOf, ServerOf, chimed, chrony};
use crate::stage::Stage;
use anyhow::{Result, ensure};
use serde_json::Value;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("modes/our-client-interleaved-with-chrony-4.3-plain", |stage| {
        ours_interleaved(stage, Bookworm, &ClientOf::plain("server4.test"))
    }),
    ("modes/our-client-interleaved-with-chrony-4.3-nts", |stage| {
        ours_interleaved(stage, Bookworm, &ClientOf::nts("server4.test"))
    }),
    ("modes/our-client-interleaved-with-chrony-4.6.1-nts-ipv6", |stage| {
        ours_interleaved(stage, Trixie, &ClientOf::nts("server6.test"))
    }),
    ("modes/our-client-interleaved-with-chrony-4.6.1-key", |stage| {
        ours_interleaved(stage, Trixie, &ClientOf::keyed("server4.test", 2))
    }),
    ("modes/chrony-4.3-interleaved-with-our-server-plain", |stage| {
        chrony_interleaved(stage, Bookworm, &ClientOf::plain("server4.test"))
    }),
    ("modes/chrony-4.6.1-interleaved-with-our-server-nts", |stage| {
        chrony_interleaved(stage, Trixie, &ClientOf::nts("server4.test"))
    }),
    ("modes/chrony-4.6.1-interleaved-with-our-server-key-ipv6", |stage| {
        chrony_interleaved(stage, Trixie, &ClientOf::keyed("server6.test", 3))
    }),
    ("modes/our-client-and-server-interleaved-nts", ours_with_ours),
];

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// Our client got ten interleaved answers, believes them, and its measurements are those of a quiet network.
fn expect_ours_interleaved(client: &chimed::Chimed) -> Result<()> {
    let source = client.source()?;
    let answers = number(&source, "/ntp/total_interleaved_rx");
    ensure!(answers >= 10, "{answers} interleaved answers");
    client.view()?.expect_selected(0xff)?;
    ensure!(source.pointer("/ntp/interleaved") == Some(&Value::Bool(true)), "the last one was not: {source}");
    ensure!(number(&source, "/ntp/total_good_rx") >= 10, "they make no samples: {source}");
    let offset = source.pointer("/ntp/offset_seconds").and_then(Value::as_f64).unwrap_or(1.0);
    // Both daemons read one clock.
    ensure!(offset.abs() < 1e-3, "an offset of {offset} s");
    Ok(())
}

fn ours_interleaved(stage: &mut Stage, suite: Suite, options: &ClientOf) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chrony::server(stage, &one, suite, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chimed::client(stage, &two, &options.clone().interleaved())?;
    stage.until("ten interleaved answers", PATIENCE, || expect_ours_interleaved(&client))?;
    let text = client.report_text("ntpdata")?;
    ensure!(text.contains("Interleaved     : Yes"), "chime ntpdata: {text}");
    let statistics = server.chronyc(&["serverstats"])?;
    ensure!(count(&statistics, "Interleaved NTP packets") >= 10, "chronyc serverstats: {statistics}");
    client.stop()
}

/// The number behind a label that a report begins a line with.
fn count(report: &str, label: &str) -> u64 {
    let line = report.lines().find(|line| line.starts_with(label)).unwrap_or_default();
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn chrony_interleaved(stage: &mut Stage, suite: Suite, options: &ClientOf) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chrony::client(stage, &two, suite, &options.clone().interleaved())?;
    stage.until("interleaved answers and reach 377", PATIENCE, || {
        let text = client.chronyc(&["ntpdata"])?;
        ensure!(text.contains("Interleaved     : Yes"), "chronyc ntpdata: {text}");
        let answers = number(&server.snapshot()?, "/server/interleaved");
        ensure!(answers >= 10, "{answers} interleaved answers");
        client.view()?.expect_selected(0xff)
    })?;
    let snapshot = server.snapshot()?;
    ensure!(number(&snapshot, "/server/timestamps/kernel_tx") >= 5, "no stamps of the kernel: {snapshot}");
    let tests = client.chronyc(&["ntpdata"])?;
    ensure!(tests.contains("NTP tests       : 111 111 1111"), "chronyc ntpdata: {tests}");
    Ok(())
}

fn ours_with_ours(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::server(stage, &one, &ServerOf::nts(&stage.pki().by_name))?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server4.test").interleaved())?;
    stage.until("ten interleaved answers", PATIENCE, || expect_ours_interleaved(&client))?;
    let text = server.report_text("serverstats")?;
    ensure!(count(&text, "Interleaved NTP packets") >= 10, "chime serverstats: {text}");
    client.stop()
}
