//! Real clients whose requests are answered in the kernel, or handed over by it, before they come to our server's sockets.

use super::PATIENCE;
use crate::install::Suite::{Bookworm, Trixie};
use crate::network::Node;
use crate::peers::chimed::Chimed;
use crate::peers::{ClientOf, chimed, chrony, ntpsec};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Command;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("fast-path/answers-plain-requests-and-hands-over-those-with-nts", answers_plain_requests_and_hands_over),
    ("fast-path/hands-over-nts-in-the-driver", hands_over_nts_in_the_driver),
    ("fast-path/without-af-xdp-sockets-answer-nts", without_af_xdp_sockets_answer_nts),
];

/// Counts of the server, and why it is not as fast as it was told to be.
struct Counts {
    snapshot: Value,
}

impl Counts {
    fn of(server: &Chimed) -> Result<Self> {
        Ok(Self { snapshot: server.snapshot()? })
    }

    fn number(&self, pointer: &str) -> u64 {
        self.snapshot.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    fn fast(&self, name: &str) -> u64 {
        self.number(&format!("/server/fast_path/{name}"))
    }

    fn nts(&self) -> u64 {
        self.number("/server/responses/nts_time")
    }

    fn problem(&self) -> Option<&str> {
        self.snapshot.pointer("/server/fast_path/problems/0").and_then(Value::as_str)
    }

    /// All answers with NTS went past the sockets.
    fn expect_handed_over(&self) -> Result<()> {
        let (nts, handed_over, answered) =
            (self.nts(), self.fast("handed_over"), self.fast("frames_answered"));
        ensure!(
            answered >= 8 && nts.abs_diff(answered) <= 1,
            "{answered} past the sockets of {nts} with NTS"
        );
        ensure!(handed_over >= answered, "{handed_over} handed over, {answered} answered");
        ensure!(self.fast("frames_dropped") == 0, "{} dropped", self.fast("frames_dropped"));
        Ok(())
    }
}

/// Where programs in the kernel are not permitted, what must hold is that the daemon says so and answers all the same; true
/// there.
fn nothing_is_permitted(server: &Chimed, counts: &Counts, node: &Node) -> Result<bool> {
    let Some(problem) = counts.problem() else { return Ok(false) };
    let is_known = problem.contains("does not permit") || problem.contains("Linux 6.1");
    let is_unused = counts.fast("answered") == 0 && counts.fast("handed_over") == 0 && !has_program(node)?;
    ensure!(is_known && is_unused, "{problem}");
    ensure!(counts.nts() >= 8, "only {} answers with NTS", counts.nts());
    ensure!(server.log().contains(problem), "the log does not say so");
    Ok(true)
}

fn answers_plain_requests_and_hands_over(stage: &mut Stage) -> Result<()> {
    let (one, two, other) = (stage.node(1)?, stage.node(2)?, stage.node(5)?);
    let server = chimed::fast_server(stage, &one, ("xdp", None))?;
    let plain = chrony::client(stage, &two, Trixie, &ClientOf::plain("server4.test"))?;
    let over_ipv6 = ntpsec::client(stage, &other, Bookworm, &ClientOf::plain("server6.test"))?;
    let with_nts =
        chrony::client_named(stage, &two, Trixie, &ClientOf::nts("server6.test"), "chronyd-with-nts")?;
    stage.until("reach 377", PATIENCE, || plain.view()?.expect_selected(0xff))?;
    stage.until("reach 377 with NTS", PATIENCE, || with_nts.view()?.expect_selected(0xff))?;
    stage.until("four answers", PATIENCE, || over_ipv6.view()?.expect_selected(0x0f))?;

    let counts = Counts::of(&server)?;
    if nothing_is_permitted(&server, &counts, &one)? {
        return Ok(());
    }
    ensure!(counts.problem().is_none(), "{:?}", counts.problem());
    let (fast, plain) = (counts.fast("answered"), counts.number("/server/responses/plain_time"));
    ensure!(fast >= 12, "only {fast} answers from the kernel");
    ensure!(plain == fast, "{plain} plain answers, of which the kernel has given {fast}");
    counts.expect_handed_over()?;
    ensure!(has_program(&one)?, "there is no program");
    let status = server.report_text("status")?;
    ensure!(status.contains("answered at eth0 (generic)"), "{status}");
    ensure!(status.contains("with NTS past the sockets at eth0 (AF_XDP, copy)"), "{status}");
    server.stop()?;
    ensure!(!has_program(&one)?, "the program has stayed");
    Ok(())
}

/// Over both families, and with both AEADs that there are: Debian 12's chronyd knows one of them.
fn hands_over_nts_in_the_driver(stage: &mut Stage) -> Result<()> {
    let (one, two, other) = (stage.node(1)?, stage.node(2)?, stage.node(5)?);
    let server = chimed::fast_server(stage, &one, ("xdp-driver", None))?;
    let over_ipv4 = chrony::client(stage, &two, Trixie, &ClientOf::nts("server4.test"))?;
    let over_ipv6 =
        chrony::client_named(stage, &other, Bookworm, &ClientOf::nts("server6.test"), "chronyd-of-bookworm")?;
    stage.until("reach 377", PATIENCE, || over_ipv4.view()?.expect_selected(0xff))?;
    stage.until("reach 377 over IPv6", PATIENCE, || over_ipv6.view()?.expect_selected(0xff))?;
    let counts = Counts::of(&server)?;
    if nothing_is_permitted(&server, &counts, &one)? {
        return Ok(());
    }
    ensure!(counts.problem().is_none(), "{:?}", counts.problem());
    counts.expect_handed_over()?;
    let stamps = counts.number("/server/timestamps/daemon_rx");
    ensure!(stamps == 0, "{stamps} requests without a stamp of the program");
    server.stop()
}

/// AF_XDP takes a privilege of its own. Without it all else stays as it is, and the daemon says what it lacks.
fn without_af_xdp_sockets_answer_nts(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chimed::fast_server(stage, &one, ("xdp", Some("net_raw")))?;
    let plain = chrony::client(stage, &two, Trixie, &ClientOf::plain("server4.test"))?;
    let with_nts =
        chrony::client_named(stage, &two, Trixie, &ClientOf::nts("server6.test"), "chronyd-with-nts")?;
    stage.until("reach 377", PATIENCE, || plain.view()?.expect_selected(0xff))?;
    stage.until("reach 377 with NTS", PATIENCE, || with_nts.view()?.expect_selected(0xff))?;
    let counts = Counts::of(&server)?;
    let problem = counts.problem().context("no problem is shown")?.to_owned();
    if problem.contains("AF_XDP") {
        ensure!(counts.fast("answered") >= 8, "the program answers plain requests");
    } else {
        ensure!(nothing_is_permitted(&server, &counts, &one)?);
    }
    ensure!(counts.nts() >= 8 && counts.fast("handed_over") == 0, "{} with NTS", counts.nts());
    ensure!(server.log().contains(&problem), "the log does not say so");
    let status = server.report_text("status")?;
    ensure!(status.contains(&problem), "{status}");
    server.stop()
}

/// Whether an XDP program is at the node's interface.
fn has_program(node: &Node) -> Result<bool> {
    let mut show = Command::new("ip");
    show.args(["link", "show", "dev", "eth0"]);
    let output = node.wrap(&show).output().context("cannot run ip")?;
    ensure!(output.status.success(), "ip link show failed");
    Ok(String::from_utf8_lossy(&output.stdout).contains("xdp"))
}
