//! A small Ethernet per scenario: a bridge in a namespace of its own, and nodes around it.

use crate::install::run;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

/// The IPv4 address of a node; every network uses the same ones.
pub(crate) fn v4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

/// The IPv6 address of a node.
pub(crate) fn v6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host))
}

/// The networks of a scenario; removed when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    prefix: String,
    nodes: Vec<String>,
}

/// One namespace on the bridge, with [`v4`] and [`v6`] of its number.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    namespace: String,
    host: u8,
}

impl Network {
    /// Makes the bridge. `prefix` is unique in this run and short.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let network = Self { prefix: prefix.to_owned(), nodes: Vec::new() };
        run(Command::new("ip").args(["netns", "add", prefix]))?;
        ip(
            prefix,
            "link set lo up\nlink add br0 type bridge mcast_snooping 0 forward_delay 0\nlink set br0 up\n",
        )?;
        Ok(network)
    }

    /// Makes a node.
    pub(crate) fn node(&mut self, host: u8) -> Result<Node> {
        let namespace = format!("{}-{host}", self.prefix);
        run(Command::new("ip").args(["netns", "add", &namespace]))?;
        self.nodes.push(namespace.clone());
        let port = format!("p{host}");
        ip(
            &self.prefix,
            &format!(
                "link add {port} type veth peer name eth0 netns {namespace}\n\
                 link set {port} master br0\nlink set {port} up\n"
            ),
        )?;
        let (v4, v6) = (v4(host), v6(host));
        ip(
            &namespace,
            &format!(
                "link set lo up\naddr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\nlink set eth0 up\n\
                 route add default dev eth0\n"
            ),
        )?;
        Ok(Node { namespace, host })
    }

    /// Cuts or mends the cable of a node: its interface loses its carrier, not its addresses.
    pub(crate) fn set_cable(&self, host: u8, is_up: bool) -> Result<()> {
        let state = if is_up { "up" } else { "down" };
        ip(&self.prefix, &format!("link set p{host} {state}\n"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.nodes.iter().chain([&self.prefix]) {
            // Nothing to do about a failure here: the sandbox forgets the namespace at its end.
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

impl Node {
    /// The IPv4 address.
    pub(crate) fn v4(&self) -> Ipv4Addr {
        v4(self.host)
    }

    /// The same command, run in this node's network.
    pub(crate) fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("nsenter");
        wrapped.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--");
        wrapped.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped
    }
}

/// Runs a batch of `ip` lines in a namespace.
fn ip(namespace: &str, batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip (package iproute2)")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "ip -n {namespace}: {}\n{batch}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
