//! Namespaces for a whole run: mounts, network, processes and, without root, users.
//!
//! The run re-enters this program as process 1 of a new process namespace. When it ends in any way, the kernel kills
//! what it started and forgets its networks. CAP_SYS_TIME is dropped on the way in: nobody can touch the clock.

use crate::Placement;
use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, Uid};
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The core that the server has.
pub(crate) const SERVER_CORE: usize = 0;
/// The same, as all that a server has.
pub(crate) const SERVER_CORES: RangeInclusive<usize> = SERVER_CORE..=SERVER_CORE;
/// The core that the load has.
pub(crate) const LOAD_CORE: usize = 1;
/// Where the load arrives.
pub(crate) const SERVER_LOAD_ADDRESS: [u8; 4] = [10, 99, 0, 1];
/// The first two octets of the addresses that the load comes from.
pub(crate) const SOURCES: [u8; 2] = [10, 98];
/// The server's address for connections.
pub(crate) const SERVER_TALK_ADDRESS: [u8; 4] = [10, 97, 0, 1];
/// Our own address on that cable.
pub(crate) const LOAD_ADDRESS: &str = "10.97.0.2";
/// The first two octets of the addresses that a crowd of connections comes from.
pub(crate) const CROWD: [u8; 2] = [10, 96];
/// The interface, on this side, that the load leaves by.
pub(crate) const LOAD_INTERFACE: &str = "load0";
/// The MAC address that answers go to. It is nobody's, so they are counted on arrival and dropped at once.
const NOBODY: &str = "02:00:00:00:00:99";
const NAMESPACE: &str = "server";

/// Runs this program again with the same arguments in a sandbox; true when it succeeds.
pub(crate) fn reenter() -> Result<bool> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(
        cores > LOAD_CORE,
        "this takes two cores, one for the server and one for the load; here is {cores}"
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !Uid::effective().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]);
    unshare.arg(std::env::current_exe()?).arg("--inside").args(std::env::args_os().skip(1));
    let status = unshare.status().context("cannot run unshare (package util-linux)")?;
    Ok(status.success())
}

/// Has the scheduler prefer this run to other sessions' work, where that is allowed: Linux shares processor time out
/// by sessions first, so that a compiler elsewhere would take half of a core whatever its niceness.
pub(crate) fn go_before_others() {
    let preferred = nix::unistd::setsid().is_ok() && std::fs::write("/proc/self/autogroup", "-20").is_ok();
    if !preferred {
        eprintln!("benches: other work on this machine has the same rights to its cores as this run");
    }
}

/// Pins the calling thread to the core of the load.
pub(crate) fn pin_to_load_core() -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(LOAD_CORE)?;
    sched_setaffinity(Pid::from_raw(0), &cores).context("cannot pin a thread of the load to its core")
}

/// The folder for everything that a run writes; a tmpfs that ends with it.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from("/run/bench")
}

/// Two cables between this network and the server's: one for load, one for connections.
#[derive(Debug)]
pub(crate) struct Network {
    /// The MAC address of the server's end of the load cable.
    pub(crate) server_mac: [u8; 6],
}

impl Network {
    /// Makes the mounts and the networks.
    pub(crate) fn new(placement: Placement) -> Result<Self> {
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))?;
        std::fs::create_dir_all(folder())?;
        std::fs::create_dir_all("/run/netns")?;
        // Whoever establishes thousands of keys in a second has used up its ports in four: those of connections that
        // ended a second ago serve again, where otherwise each connection searches for one.
        std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1").context("cannot set tcp_tw_reuse")?;
        run(Command::new("ip").args(["netns", "add", NAMESPACE]))?;
        let dotted = |address: [u8; 4]| std::net::Ipv4Addr::from(address).to_string();
        let ([first, second], [crowd_first, crowd_second]) = (SOURCES, CROWD);
        ip(
            None,
            &format!(
                "link set lo up\nlink add {LOAD_INTERFACE} type veth peer name load1 netns {NAMESPACE}\n\
                 link add talk0 type veth peer name talk1 netns {NAMESPACE}\nlink set {LOAD_INTERFACE} up\n\
                 link set talk0 up\naddr add {LOAD_ADDRESS}/24 dev talk0\n\
                 route add local {crowd_first}.{crowd_second}.0.0/16 dev lo\n"
            ),
        )?;
        ip(
            Some(NAMESPACE),
            &format!(
                "link set lo up\nlink set load1 up\nlink set talk1 up\naddr add {}/24 dev load1\n\
                 addr add {}/24 dev talk1\nneigh add 10.99.0.2 lladdr {NOBODY} nud permanent dev load1\n\
                 route add {first}.{second}.0.0/16 via 10.99.0.2\n\
                 route add {crowd_first}.{crowd_second}.0.0/16 via 10.97.0.2\n",
                dotted(SERVER_LOAD_ADDRESS),
                dotted(SERVER_TALK_ADDRESS)
            ),
        )?;
        if placement == Placement::One {
            let steer = format!("echo {:x} > /sys/class/net/load1/queues/rx-0/rps_cpus", 1 << SERVER_CORE);
            run(Command::new("ip").args(["netns", "exec", NAMESPACE, "sh", "-c", &steer]))?;
        }
        let output = Command::new("ip").args(["-n", NAMESPACE, "-o", "link", "show", "load1"]).output()?;
        Ok(Self {
            server_mac: mac_of(&String::from_utf8_lossy(&output.stdout))
                .context("load1 has no MAC address")?,
        })
    }
}

/// A program in the server's network, on these cores.
pub(crate) fn on_server(program: &std::path::Path, cores: &RangeInclusive<usize>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{NAMESPACE}")).arg("--");
    command.args(["taskset", "-c", &format!("{}-{}", cores.start(), cores.end())]).arg(program);
    command
}

/// Runs a command to its end; the error has the command and the end of what it printed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let text = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot run {text}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text} failed ({}): {}", output.status, stderr.trim());
    Ok(())
}

fn ip(namespace: Option<&str>, batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip (package iproute2)")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ip: {}\n{batch}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The address behind `link/ether` in what `ip -o link` prints.
fn mac_of(text: &str) -> Option<[u8; 6]> {
    let (_, rest) = text.split_once("link/ether ")?;
    let mut octets = [0; 6];
    let mut parts = rest.split_whitespace().next()?.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_is_found_in_what_ip_prints() {
        let text =
            "4: load1@if3: <UP> mtu 1500 qdisc noqueue state UP\\    link/ether 2a:00:ff:01:02:03 brd ff:ff";
        assert_eq!(mac_of(text), Some([0x2a, 0, 0xff, 1, 2, 3]));
        assert_eq!(mac_of("link/loopback 00"), None);
    }
}
