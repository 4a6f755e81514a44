//! The first process of an emulated machine: runs tests, then our server and our client, and looks at what they say.

use super::{
    CHIMED, CLIENT_CONFIGURATION, LINKS, Link, PAST_SOCKETS, Plan, SERVER_CONFIGURATION, STATE, addresses,
};
use crate::inside::{as_first_process, print_privileges, start, stop};
use crate::report::Event;
use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use truechimer_test_support::snapshot;

/// How long devices, daemons and answers may take, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The other network namespace.
const CLIENTS_NETWORK: &str = "client";

/// Answers that each source must have had.
const REACH: u64 = 0x0f;

/// Does what the plan says, and halts the machine, whatever happens.
pub(crate) fn run(plan: &Path) -> Result<bool> {
    as_first_process(|| {
        for (kind, place) in [("devtmpfs", "/dev"), ("sysfs", "/sys"), ("tmpfs", "/tmp")] {
            let none: Option<&str> = None;
            mount(Some(kind), place, Some(kind), MsFlags::empty(), none).context(place)?;
        }
        let vendor = fs::read_to_string("/sys/class/dmi/id/sys_vendor")?;
        ensure!(vendor.trim() == "QEMU", "this machine is not emulated");
        Event::Booted.print();
        let plan: Plan = serde_json::from_slice(&fs::read(plan)?)?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        ensure!(release.trim() == plan.release, "this is Linux {release}, not {}", plan.release);
        say(&format!("Linux {}", plan.release));
        follow(&plan)
    })
}

fn say(line: &str) {
    Event::Log { line: line.to_owned() }.print();
}

fn follow(plan: &Plan) -> Result<()> {
    for path in &plan.modules {
        tool("insmod", path)?;
    }
    ip("link set lo up")?;
    for words in &plan.tests {
        run_tests(words)?;
    }
    lay_cables()?;
    serve()
}

/// Runs a program of tests. What is skipped there is not shown here either.
fn run_tests(words: &[String]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no tests")?;
    let started = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/sbin")
        .current_dir("/tmp")
        .output()
        .context("running tests")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let skipped = ["not shown", "skipped", "ok. 0 passed"];
    let is_shown = output.status.success() && !skipped.iter().any(|words| said.contains(words));
    for line in said.lines().filter(|line| !is_shown || line.starts_with("test result")) {
        say(line);
    }
    ensure!(is_shown, "{program}: not all tests passed: {}", output.status);
    say(&format!("{program}: passed after {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// A connection of each kind between the two namespaces.
fn lay_cables() -> Result<()> {
    until("the cards are there", || Ok(Path::new("/sys/class/net/eth1").exists()))?;
    fs::create_dir_all("/run/netns")?;
    ip(&format!("netns add {CLIENTS_NETWORK}"))?;
    ip(&format!("-n {CLIENTS_NETWORK} link set lo up"))?;
    for (number, link) in LINKS.iter().enumerate() {
        let (here, there) = (link.server, format!("peer{number}"));
        if here.starts_with("card") {
            ip(&format!("link set eth0 name {here}"))?;
            ip(&format!("link set eth1 name {there}"))?;
        } else {
            ip(&format!("link add {here} type veth peer name {there}"))?;
        }
        ip(&format!("link set {there} netns {CLIENTS_NETWORK}"))?;
        let (with_nts, plain) = addresses(number);
        ip(&format!("address add {with_nts}/24 dev {here}"))?;
        ip(&format!("address add {plain}/24 dev {here}"))?;
        ip(&format!("link set {here} up"))?;
        ip(&format!("-n {CLIENTS_NETWORK} address add 10.77.{number}.2/24 dev {there}"))?;
        ip(&format!("-n {CLIENTS_NETWORK} link set {there} up"))?;
    }
    Ok(())
}

fn ip(words: &str) -> Result<String> {
    tool("ip", words)
}

/// Runs a tool to its end, and gives what it prints.
fn tool(name: &str, words: &str) -> Result<String> {
    let output =
        Command::new(format!("/sbin/{name}")).args(words.split(' ')).output().context(name.to_owned())?;
    ensure!(output.status.success(), "{name} {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the server and the client until each source was answered often enough; then each must say that it was in the way that
/// is asked for.
fn serve() -> Result<()> {
    for folder in STATE {
        fs::create_dir_all(folder)?;
    }
    let [servers, clients] = STATE.map(|folder| Path::new(folder).join("control"));
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let mut server = start(&words(&format!("{CHIMED} -x -d -c {SERVER_CONFIGURATION}")))?;
    Event::DaemonStarted.print();
    until("the server tells of itself", || Ok(servers.exists()))?;
    let client = format!("/sbin/ip netns exec {CLIENTS_NETWORK} {CHIMED} -x -d -c {CLIENT_CONFIGURATION}");
    let mut client = start(&words(&client))?;
    let answered = until("all sources are reached", || {
        let told = snapshot(&clients).unwrap_or_default();
        let sources = told.pointer("/engine/sources").and_then(Value::as_array).cloned().unwrap_or_default();
        let reached = sources.iter().filter(|source| number(source, "/reach") & REACH == REACH).count();
        let wanted = LINKS.iter().map(|link| 1 + usize::from(link.has_plain)).sum::<usize>();
        Ok(reached == wanted)
    });
    let told = answered.and_then(|()| snapshot(&clients));
    let client_stopped = stop(&mut client);
    // Some are counted after the answer has left.
    let counted = until("all is counted, and nothing by sockets", || {
        let told = snapshot(&servers)?;
        Ok(Counts::of(&told)?.are_without_sockets())
    });
    let server_told = snapshot(&servers);
    print_privileges(&server);
    let is_loaded = ip("link show")?.contains("xdp");
    // Stopped in any case, so that its last words are heard.
    let stopped = client_stopped.and(stop(&mut server));
    judge_client(&told?)?;
    judge_server(&server_told?)?;
    counted.and(stopped)?;
    ensure!(is_loaded, "there is no program at any interface");
    ensure!(!ip("link show")?.contains("xdp"), "programs have stayed");
    Ok(())
}

/// Answers: plain ones and those with NTS, of all, and of these on the way around the sockets.
struct Counts {
    plain: u64,
    nts: u64,
    by_program: u64,
    in_frames: u64,
    /// What the program left to the sockets, as on a machine that stands still for seconds it is not told the time.
    stale: u64,
}

impl Counts {
    fn of(told: &Value) -> Result<Self> {
        let fast = told.pointer("/server/fast_path").context("the server tells nothing of a fast path")?;
        Ok(Self {
            plain: number(told, "/server/responses/plain_time"),
            nts: number(told, "/server/responses/nts_time"),
            by_program: number(fast, "/answered"),
            in_frames: number(fast, "/frames_answered"),
            stale: number(fast, "/stale"),
        })
    }

    fn are_without_sockets(&self) -> bool {
        (self.plain, self.nts) == (self.by_program + self.stale, self.in_frames)
    }
}

/// No request has come to a socket, and no frame was lost.
fn judge_server(told: &Value) -> Result<()> {
    let counts = Counts::of(told)?;
    let Counts { plain, nts, by_program, in_frames, .. } = counts;
    say(&format!("{by_program} of {plain} plain answers by programs, {in_frames} of {nts} {PAST_SOCKETS}"));
    let fast = &told["server"]["fast_path"];
    let are_enough = by_program >= 6 && nts >= 12;
    ensure!(are_enough && counts.are_without_sockets(), "requests came to sockets: {}", told["server"]);
    for Link { server, mode, .. } in &LINKS {
        ensure!(fast["interfaces"][server] == *mode, "at {server} in another way: {fast}");
        let way = fast["nts_interfaces"][server].as_str().context("no frames are handed over")?;
        say(&format!("{server}: {mode} and {way}"));
    }
    ensure!(fast["problems"].as_array().is_some_and(Vec::is_empty), "{fast}");
    ensure!(number(fast, "/frames_dropped") == 0, "frames were dropped: {fast}");
    // A machine that stands still for a tenth of a second makes requests late: these are refused, and counted as no others are.
    let unstamped = number(told, "/server/timestamps/daemon_rx");
    let late = number(told, "/server/silences/late");
    ensure!(
        unstamped <= late,
        "{unstamped} requests without a stamp of the kernel or the program: {}",
        told["server"]
    );
    Ok(())
}

/// What the client sent and received was stamped by the kernel.
fn judge_client(told: &Value) -> Result<()> {
    for source in told.pointer("/engine/sources").and_then(Value::as_array).into_iter().flatten() {
        let ntp = source.get("ntp").context("no counts")?;
        let [sent, received, by_kernel_sent, by_kernel_received] =
            ["/total_tx", "/total_rx", "/total_kernel_tx", "/total_kernel_rx"].map(|name| number(ntp, name));
        ensure!(
            received == by_kernel_received,
            "{by_kernel_received} of {received} stamps of the kernel: {ntp}"
        );
        // The stamp of the last request may be on its way.
        ensure!(sent.abs_diff(by_kernel_sent) <= 1, "{by_kernel_sent} of {sent} stamps of the kernel: {ntp}");
        ensure!(number(ntp, "/total_valid_rx") == received, "answers were refused: {ntp}");
    }
    Ok(())
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if holds()? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(250));
    }
    bail!("not within {PATIENCE:?}: {what}")
}
