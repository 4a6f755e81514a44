//! Leap seconds between daemons: a leap second that we announce, one that we smear, and who recognises what.
//!
//! The leap second is some hours away by a list of the scenario's own, so that nothing depends on the time of day and nobody
//! passes it while the test runs.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::v4;
use crate::peers::{chimed, chrony};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use chime_discipline::write_leap_seconds_list;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("leap/chrony-4.3-hears-our-announcement", |stage| announced(stage, Bookworm)),
    ("leap/chrony-4.6.1-hears-our-announcement", |stage| announced(stage, Trixie)),
    ("leap/chrony-4.3-follows-our-smear", |stage| smeared(stage, Bookworm)),
    ("leap/chrony-4.6.1-follows-our-smear", |stage| smeared(stage, Trixie)),
    ("leap/our-client-recognises-our-smear", recognised),
];

/// How far away it is, in seconds: half of a smear's day is spread in the 24 hours around it.
const SECONDS_AWAY: i64 = 6 * 3600;

/// A daemon of ours on node 2 that follows the chronyd on node 1 and knows of a leap second; more lines for its table.
fn relay(stage: &mut Stage, more: &str) -> Result<(chrony::Chrony, chimed::Chimed)> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let upstream = chrony::server_named(stage, &one, Trixie, "chronyd-upstream")?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let leap = now + SECONDS_AWAY;
    let list = write_leap_seconds_list(&[(1_483_228_800, 37), (leap, 38)], leap + 200 * 86_400);
    let list = stage.write("leap-seconds.list", &list)?;
    let text = format!(
        "[[source]]\nmode = \"server\"\naddress = \"{}\"\npoll-interval-limits = {{ min = 0, max = 0 }}\n\
         initial-poll-interval = 0\n\n[[server]]\nlisten = \"0.0.0.0:123\"\n\n\
         [leap-seconds]\nfile = \"{}\"\n{more}",
        v4(1),
        list.display()
    );
    let ours = chimed::client_of_sources(stage, &two, &text)?;
    stage.until("our daemon follows its source", PATIENCE, || {
        let view = ours.view()?;
        ensure!(view.is_selected, "{view:?}");
        Ok(())
    })?;
    Ok((upstream, ours))
}

/// A chronyd on node 3 that follows ours.
fn follower(stage: &mut Stage, suite: Suite) -> Result<chrony::Chrony> {
    let three = stage.node(3)?;
    let text = format!("server {} iburst minpoll 0 maxpoll 0\nport 0\n", v4(2));
    chrony::start(stage, &three, suite, "chronyd-client", &text)
}

/// What stands behind a label of a report.
fn value<'a>(report: &'a str, label: &str) -> Result<&'a str> {
    let line = report.lines().find(|line| line.starts_with(label));
    let text =
        line.and_then(|line| line.split_once(": ")).with_context(|| format!("no {label}: {report}"))?;
    Ok(text.1.trim())
}

fn announced(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (_upstream, ours) = relay(stage, "mode = \"step\"\n")?;
    let client = follower(stage, suite)?;
    stage.until("the announcement", PATIENCE, || {
        let report = client.chronyc(&["ntpdata"])?;
        let leap = value(&report, "Leap status")?;
        ensure!(leap == "Insert second", "{leap}");
        client.view()?.expect_selected(0x0f)
    })?;
    let tracking = ours.report_text("tracking")?;
    ensure!(value(&tracking, "Leap status")? == "Insert second", "chime tracking: {tracking}");
    let status = ours.report_text("status")?;
    ensure!(status.contains("Leap second") && status.contains("by the list"), "chime status: {status}");
    let check = ours.snapshot()?;
    ensure!(check.pointer("/engine/leap_seconds/tai_offset_seconds") == Some(&Value::from(37)), "{check}");
    Ok(())
}

/// The smear of our server now, in seconds.
fn smear_of(ours: &chimed::Chimed) -> Result<f64> {
    let snapshot = ours.snapshot()?;
    let smear = snapshot.pointer("/program/smear/offset_seconds").and_then(Value::as_f64);
    let smear = smear.with_context(|| format!("no smear: {}", snapshot["program"]))?;
    // A quarter of the second after a quarter of the day.
    ensure!((smear.abs() - 0.25).abs() < 0.01, "the smear is {smear} s");
    Ok(smear)
}

fn smeared(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (_upstream, ours) = relay(stage, "mode = \"slew\"\nsmear = \"linear\"\n")?;
    let client = follower(stage, suite)?;
    stage.until("the smeared time", PATIENCE, || {
        let report = client.chronyc(&["ntpdata"])?;
        // A chronyd that does not steer keeps a clock of its own, and shows how far the machine's is from it.
        let tracking = client.chronyc(&["tracking"])?;
        let offset: f64 = value(&tracking, "System time")?.split(' ').next().unwrap_or_default().parse()?;
        let smear = smear_of(&ours)?;
        ensure!((offset.abs() - smear.abs()).abs() < 2e-3, "an offset of {offset} s, a smear of {smear} s");
        ensure!(value(&report, "Leap status")? == "Normal", "{report}");
        ensure!(value(&report, "Reference ID")?.starts_with("7F7F01FF"), "{report}");
        client.view()?.expect_selected(0x0f)
    })
}

fn recognised(stage: &mut Stage) -> Result<()> {
    let (_upstream, ours) = relay(stage, "mode = \"slew\"\nsmear = \"linear\"\n")?;
    let three = stage.node(3)?;
    let text = format!(
        "[[source]]\nmode = \"server\"\naddress = \"{}\"\npoll-interval-limits = {{ min = 0, max = 0 }}\n\
         initial-poll-interval = 0\n\n[leap-seconds]\nfile = \"{}\"\n",
        v4(2),
        stage.folder().join("leap-seconds.list").display()
    );
    let client = chimed::another_client(stage, &three, "chimed-second", &text)?;
    stage.until("the smear is recognised", PATIENCE, || {
        smear_of(&ours)?;
        let snapshot = client.snapshot()?;
        let follows = snapshot.pointer("/engine/leap_seconds/follows_smeared");
        ensure!(follows == Some(&Value::Bool(true)), "{}", snapshot["engine"]["leap_seconds"]);
        client.view()?.expect_selected(0x0f)
    })?;
    ensure!(client.log().contains("smears leap seconds"), "it was not told: {}", client.log());
    Ok(())
}
