//! Unmodified tools of ntpd-rs against our daemon: they print of us what they print of their own daemon.

use super::PATIENCE;
use crate::install::Suite::Trixie;
use crate::network::Node;
use crate::peers::{ClientOf, ServerOf, chimed, chrony, ntpd_rs, output};
use crate::process::Daemon;
use crate::stage::Stage;
use crate::tree::{self, own_program};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("ntp-ctl/status-shows-what-it-shows-of-ntpd-rs", status),
    ("ntp-ctl/the-newest-and-metrics-exporter-show-everything", newest),
    ("ntp-ctl/validate-and-config-check-refuse-the-same-files", validate),
];

/// Files of ntpd-rs, right and wrong.
const FILES: &str = "crates/config/testdata/ntptoml";

/// What ntp-ctl says of a file that cannot be read as a configuration; it ends with 1 for mere warnings, too.
const REFUSED: &str = "Could not load configuration";

/// Files that ntp-ctl 1.4 refuses and we read: forms of newer releases of ntpd-rs, two mistakes that are read as meant, with a
/// warning, and one that names a certificate which is not there, as we look for it at the start only.
const READ_HERE: &[&str] = &[
    "alpha2-csptp.toml",
    "bad-accumulated-inf.toml",
    "bad-underscore-keys.toml",
    "client-mixed.toml",
    "nts-pool.toml",
    "seed-nts-private-ca.toml",
    "server-full.toml",
    "stratum1-gps-pps.toml",
];

/// What `ntp-ctl validate` refuses is refused by `chime config check`, with exit status 78, but for files that are listed; and
/// nothing else is.
fn validate(stage: &mut Stage) -> Result<()> {
    let node = stage.node(2)?;
    let mut different = Vec::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(tree::root().join(FILES))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut theirs = Trixie.command("usr/bin/ntp-ctl", None)?;
        theirs.args(["validate", "-c"]).arg(file);
        let mut ours = Command::new(own_program("chime")?);
        ours.args(["config", "check", "--dialect", "ntpd-rs"]).arg(file);
        let (theirs, ours) = (node.wrap(&theirs).output()?, node.wrap(&ours).output()?);
        let said = String::from_utf8_lossy(&theirs.stderr).into_owned();
        let wanted = said.contains(REFUSED) && !READ_HERE.contains(&name.as_str());
        let status = if wanted { 78 } else { 0 };
        if ours.status.code() != Some(status)
            || (READ_HERE.contains(&name.as_str()) && !said.contains(REFUSED))
        {
            different.push(format!(
                "{name}: ours {:?}, ntp-ctl {:?}: {said}",
                ours.status.code(),
                theirs.status.code()
            ));
        }
    }
    ensure!(files.len() > 15, "{} files", files.len());
    ensure!(different.is_empty(), "{}", different.join("\n"));
    Ok(())
}

/// The configuration of the tools, which tells them no more than where the socket is.
struct Tool {
    node: Node,
    configuration: PathBuf,
}

impl Tool {
    fn says(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Trixie.command("usr/bin/ntp-ctl", None)?;
        command.args(arguments).arg("-c").arg(&self.configuration);
        let output = self.node.wrap(&command).output().context("cannot run ntp-ctl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ntp-ctl {arguments:?}: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn status(stage: &mut Stage) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let theirs = ntpd_rs::client(stage, &four, &ClientOf::nts("server.test"))?;
    let socket = stage.folder().join("observe");
    let ours = chimed::client_of_sources(stage, &two, &observed_text(stage, &socket))?;
    let text = format!("[observability]\nobservation-path = \"{}\"\n", socket.display());
    let tool = Tool { node: two.clone(), configuration: stage.write("ntp-ctl.toml", &text)? };
    stage.until("both are selected", PATIENCE, || {
        ours.view()?.expect_selected(0x0f)?;
        theirs.view()?.expect_selected(0xff)
    })?;
    let plain = tool.says(&["status"])?;
    for wanted in [
        "Stratum: 9\n",
        "server.test:4460/[fd77::1]:123 [NTS]",
        "poll interval: 1s",
        "NTS cookies: ",
        "0.0.0.0:123: received 0",
    ] {
        ensure!(plain.contains(wanted), "no {wanted:?} in: {plain}");
    }
    let metrics = tool.says(&["status", "-f", "prometheus"])?;
    let missing: Vec<String> = names(&theirs.metrics()?);
    let found = names(&metrics);
    // They have no server, so that ours is the only one that has counts.
    let missing: Vec<&String> = missing.iter().filter(|name| !found.contains(name)).collect();
    ensure!(missing.is_empty(), "not shown of us: {missing:?}\n{metrics}");
    for (name, least, most) in [
        ("ntp_system_stratum", 9.0, 9.0),
        ("ntp_system_leap_indicator", 0.0, 0.0),
        ("ntp_source_nts_cookies_available", 6.0, 8.0),
        ("ntp_source_unanswered_polls", 0.0, 1.0),
        ("ntp_source_poll_interval_seconds", 0.9, 1.1),
        ("ntp_source_offset_seconds", -0.01, 0.01),
        ("ntp_source_delay_seconds", 0.0, 0.05),
        ("ntp_system_root_dispersion_seconds", 0.0, 0.1),
        ("ntp_server_received_packets_total", 0.0, 0.0),
    ] {
        let value = value(&metrics, name)?;
        ensure!((least..=most).contains(&value), "{name}: {value}\n{metrics}");
    }
    Ok(())
}

/// Every metric of ntpd-rs 1.9, with what ours may be, and how far it may move from one look to the next.
const METRICS: &[(&str, f64, f64)] = &[
    ("ntp_uptime_seconds", 1.0, 1e4),
    ("ntp_system_poll_interval_seconds", 0.9, 1.1),
    ("ntp_system_accumulated_steps_seconds", 0.0, 0.0),
    ("ntp_system_accumulated_steps_threshold_seconds", -1.0, -1.0),
    ("ntp_system_leap_indicator", 0.0, 0.0),
    ("ntp_system_root_delay_seconds", 0.0, 0.1),
    ("ntp_system_root_dispersion_seconds", 0.0, 0.1),
    ("ntp_system_stratum", 9.0, 9.0),
    ("ntp_source_poll_interval_seconds", 0.9, 1.1),
    ("ntp_source_unanswered_polls", 0.0, 1.0),
    ("ntp_source_nts_cookies_available", 6.0, 8.0),
    ("ntp_source_offset_seconds", -0.01, 0.01),
    ("ntp_source_delay_seconds", 0.0, 0.05),
    ("ntp_source_uncertainty_seconds", 0.0, 0.05),
    ("ntp_source_root_delay_seconds", 0.0, 0.05),
    ("ntp_source_root_dispersion_seconds", 0.0, 0.1),
    ("ntp_server_received_packets_total", 1.0, 1000.0),
    ("ntp_server_accepted_packets_total", 1.0, 1000.0),
    ("ntp_server_denied_packets_total", 0.0, 0.0),
    ("ntp_server_ignored_packets_total", 0.0, 0.0),
    ("ntp_server_rate_limited_packets_total", 0.0, 0.0),
    ("ntp_server_response_send_errors_total", 0.0, 0.0),
    ("ntp_server_nts_received_packets_total", 0.0, 0.0),
    ("ntp_server_nts_accepted_packets_total", 0.0, 0.0),
    ("ntp_server_nts_denied_packets_total", 0.0, 0.0),
    ("ntp_server_nts_rate_limited_packets_total", 0.0, 0.0),
    ("ntp_server_nts_nak_packets_total", 0.0, 0.0),
];

/// A server with NTS upstream and one client of its own, seen by the tools of ntpd-rs's newest release.
fn newest(stage: &mut Stage) -> Result<()> {
    let (one, two, three) = (stage.node(1)?, stage.node(2)?, stage.node(3)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let socket = stage.folder().join("observe");
    let ours = chimed::client_of_sources(stage, &two, &observed_text(stage, &socket))?;
    let _client = chrony::client(stage, &three, Trixie, &ClientOf::plain(&two.v4().to_string()))?;
    let text = format!(
        "[observability]\nobservation-path = \"{}\"\nmetrics-exporter-listen = \"127.0.0.1:9975\"\n",
        socket.display()
    );
    let configuration = stage.write("ntpd-rs-tools.toml", &text)?;
    let tool = |name: &str, arguments: &[&str]| -> Result<Command> {
        let mut command = tree::ntpd_rs_tool(name)?;
        command.args(arguments).arg("-c").arg(&configuration);
        Ok(two.wrap(&command))
    };
    let mut exporter =
        Daemon::spawn("ntp-metrics-exporter", tool("ntp-metrics-exporter", &[])?, stage.folder())?;
    stage.until("the client is answered", PATIENCE, || {
        ours.view()?.expect_selected(0x0f)?;
        let metrics = body(&scrape(&two)?)?;
        ensure!(value(&metrics, "ntp_server_accepted_packets_total")? > 0.0, "no client yet: {metrics}");
        Ok(())
    })?;
    exporter.check_alive()?;
    let metrics = body(&scrape(&two)?)?;
    for (name, least, most) in METRICS {
        let value = value(&metrics, name)?;
        ensure!((least..=most).contains(&&value), "{name}: {value}\n{metrics}");
    }
    let known: Vec<&str> = METRICS.iter().map(|(name, ..)| *name).collect();
    let others: Vec<String> =
        names(&metrics).into_iter().filter(|name| !known.contains(&name.as_str())).collect();
    ensure!(others.is_empty(), "metrics that are not in the list: {others:?}");
    ensure!(metrics.ends_with("# EOF\n"), "it does not end: {metrics}");
    let text = output(&mut tool("ntp-ctl", &["status", "-f", "prometheus"])?)?;
    ensure!(names(&text) == names(&metrics), "ntp-ctl shows others: {text}\n{metrics}");
    let plain = output(&mut tool("ntp-ctl", &["status"])?)?;
    for wanted in [
        "\tStratum:\t9\n",
        "server.test:4460 [fd77::1]:123 [NTS] (",
        "\tPoll interval:\t\t1s\n",
        "\tNTS cookies:\t\t",
        "Servers:\n\n0.0.0.0:123\n",
        "\tNTS NAK\t\t\t0\n",
    ] {
        ensure!(plain.contains(wanted), "no {wanted:?} in: {plain}");
    }
    drop(ours);
    let answer = scrape(&two)?;
    ensure!(answer.contains(" 500 "), "the exporter still shows something: {answer}");
    Ok(())
}

fn observed_text(stage: &Stage, socket: &Path) -> String {
    format!(
        "ntpd-rs-observation-path = \"{}\"\n\n[[server]]\nlisten = \"0.0.0.0:123\"\n\n\
         [[source]]\nmode = \"nts\"\naddress = \"server.test\"\ncertificate-authority = \"{}\"\nsystem-cas = false\n\
         poll-interval-limits = {{ min = 0, max = 0 }}\ninitial-poll-interval = 0\n",
        socket.display(),
        stage.pki().ca.display()
    )
}

/// What the exporter answers to a monitoring server.
fn scrape(node: &Node) -> Result<String> {
    let script = "exec 3<>/dev/tcp/127.0.0.1/9975 && \
                  printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3 && cat <&3";
    let mut command = Command::new("bash");
    command.args(["-c", script]);
    output(&mut node.wrap(&command))
}

fn body(answer: &str) -> Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer}"))?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(body.to_owned())
}

/// The metrics that have a sample.
fn names(text: &str) -> Vec<String> {
    let samples = text.lines().filter(|line| line.starts_with("ntp_"));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

fn value(text: &str, name: &str) -> Result<f64> {
    let mut lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let value = lines.next().and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.with_context(|| format!("no {name} in: {text}"))
}
