//! Real clients whose requests are answered in the kernel, before they come to our server's sockets.

use super::PATIENCE;
use crate::install::Suite::{Bookworm, Trixie};
use crate::network::Node;
use crate::peers::{ClientOf, chimed, chrony, ntpsec};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Command;

pub(super) const SCENARIOS: &[super::Entry] =
    &[("fast-path/answers-plain-requests-and-leaves-the-rest", answers_plain_requests_and_leaves_the_rest)];

/// Where programs in the kernel are not permitted, what must hold is that the daemon says so and answers all the same.
fn answers_plain_requests_and_leaves_the_rest(stage: &mut Stage) -> Result<()> {
    let (one, two, other) = (stage.node(1)?, stage.node(2)?, stage.node(5)?);
    let server = chimed::fast_server(stage, &one, &stage.pki().by_name)?;
    let plain = chrony::client(stage, &two, Trixie, &ClientOf::plain("server4.test"))?;
    let over_ipv6 = ntpsec::client(stage, &other, Bookworm, &ClientOf::plain("server6.test"))?;
    let with_nts =
        chrony::client_named(stage, &two, Trixie, &ClientOf::nts("server6.test"), "chronyd-with-nts")?;
    stage.until("reach 377", PATIENCE, || plain.view()?.expect_selected(0xff))?;
    stage.until("reach 377 with NTS", PATIENCE, || with_nts.view()?.expect_selected(0xff))?;
    stage.until("four answers", PATIENCE, || over_ipv6.view()?.expect_selected(0x0f))?;

    let snapshot = server.snapshot()?;
    let number = |pointer: &str| snapshot.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let (fast, nts) = (number("/server/fast_path/answered"), number("/server/responses/nts_time"));
    ensure!(nts >= 8, "only {nts} answers with NTS");
    let problem = snapshot.pointer("/server/fast_path/problems/0").and_then(Value::as_str);
    if let Some(problem) = problem {
        let is_known = problem.contains("does not permit") || problem.contains("Linux 6.1");
        ensure!(is_known && fast == 0 && !has_program(&one)?, "{problem}");
        ensure!(server.log().contains(problem), "the log does not say so");
        return Ok(());
    }
    ensure!(fast >= 12, "only {fast} answers from the kernel");
    let plain = number("/server/responses/plain_time");
    ensure!(plain == fast, "{plain} plain answers, of which the kernel has given {fast}");
    ensure!(has_program(&one)?, "there is no program");
    let status = server.report_text("status")?;
    ensure!(status.contains("answered at eth0 (generic)"), "{status}");
    server.stop()?;
    ensure!(!has_program(&one)?, "the program has stayed");
    Ok(())
}

/// Whether an XDP program is at the node's interface.
fn has_program(node: &Node) -> Result<bool> {
    let mut show = Command::new("ip");
    show.args(["link", "show", "dev", "eth0"]);
    let output = node.wrap(&show).output().context("cannot run ip")?;
    ensure!(output.status.success(), "ip link show failed");
    Ok(String::from_utf8_lossy(&output.stdout).contains("xdp"))
}
