//! NTPsec's ntpd, which stays up when it may not touch the clock.

use super::{ClientOf, KEYS_NTPSEC, ServerOf, View, output};
use crate::install::Suite;
use crate::network::Node;
use crate::process::Daemon;
use crate::stage::Stage;
use crate::tree::own_program;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::process::Command;

/// A running ntpd.
#[derive(Debug)]
pub(crate) struct Ntpsec {
    daemon: Daemon,
    suite: Suite,
    node: Node,
}

/// A server that calls its own clock good.
pub(crate) fn server(stage: &Stage, node: &Node, suite: Suite, options: &ServerOf) -> Result<Ntpsec> {
    let mut text = String::from("tos orphan 5 orphanwait 1\n");
    if let Some(identity) = options.identity {
        let (chain, key) = (identity.chain.display(), identity.key.display());
        let cookies = stage.folder().join("ntpsec-cookies");
        text += &format!("nts enable\nnts cert {chain}\nnts key {key}\nnts cookie {}\n", cookies.display());
    }
    start(stage, node, suite, "ntpsec-server", &text)
}

/// A client that polls as often as it can.
pub(crate) fn client(stage: &Stage, node: &Node, suite: Suite, options: &ClientOf) -> Result<Ntpsec> {
    let mut line = format!("server {} iburst minpoll 0 maxpoll 0", options.server);
    if options.nts {
        line += &format!(" nts ca {}", stage.pki().ca.display());
    }
    if let Some(key) = options.key {
        line += &format!(" key {key}");
    }
    start(stage, node, suite, "ntpsec-client", &format!("{line}\ntos minsane 1 minclock 1\n"))
}

/// An ntpd of this configuration, or our daemon in its place, on the same file and with the same options.
pub(crate) fn of_text(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    (name, text): (&str, &str),
    ours: bool,
) -> Result<Ntpsec> {
    if !ours {
        return start(stage, node, suite, name, text);
    }
    let mut command = Command::new(own_program("chimed")?);
    // One that may not touch the clock says so and ends, where ntpd goes on.
    command.args(["--as", "ntpd"]);
    start_program(stage, node, suite, (name, &format!("{text}disable ntp\n")), command)
}

fn start(stage: &Stage, node: &Node, suite: Suite, name: &str, text: &str) -> Result<Ntpsec> {
    let command = suite.command("usr/sbin/ntpd", None)?;
    start_program(stage, node, suite, (name, text), command)
}

fn start_program(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    (name, text): (&str, &str),
    mut command: Command,
) -> Result<Ntpsec> {
    let keys = stage.write("ntpsec.keys", KEYS_NTPSEC)?;
    let common = format!(
        "keys {}\ntrustedkey 1 2 3 4\nunrestrict default noquery nomodify limited kod\nrestrict 127.0.0.1\n",
        keys.display()
    );
    let configuration = stage.write(&format!("{name}.conf"), &(common + text))?;
    command.args(["-n", "-g", "-c"]).arg(configuration);
    command.arg("-p").arg(stage.folder().join(format!("{name}.pid")));
    let daemon = Daemon::spawn(name, node.wrap(&command), stage.folder())?;
    Ok(Ntpsec { daemon, suite, node: node.clone() })
}

impl Ntpsec {
    /// What ntpq prints about its own host.
    pub(crate) fn ntpq(&self, arguments: &[&str]) -> Result<String> {
        let root = self.suite.root();
        let mut command = python(self.suite)?;
        command.arg(root.join("usr/bin/ntpq")).args(arguments).arg("127.0.0.1");
        output(&mut self.node.wrap(&command))
    }

    /// A command of its own host's tools, such as `usr/bin/ntpq`, with Python's answer to it.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> Result<(bool, String)> {
        tool(self.suite, &self.node, program, arguments)
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<()> {
        self.daemon.stop()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon.signal(signal)
    }

    /// What it thinks of its one server.
    pub(crate) fn view(&self) -> Result<View> {
        let text = self.ntpq(&["-n", "-p"])?;
        let line = text.lines().nth(2).with_context(|| format!("ntpq -p: {text}"))?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        ensure!(fields.len() > 6, "ntpq -p: {line}");
        let reach = u8::from_str_radix(fields[6], 8).context("ntpq -p: reach")?;
        Ok(View { reach, is_selected: line.starts_with('*') })
    }
}

/// Whether a tool of the suite such as `usr/bin/ntpq` succeeded on a node, and all that it printed.
pub(crate) fn tool(suite: Suite, node: &Node, program: &str, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = python(suite)?;
    command.arg(suite.root().join(program)).args(arguments);
    command.env("TERM", "dumb").env("COLUMNS", "80");
    let output = node.wrap(&command).output().with_context(|| format!("cannot run {program}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// The suite's own Python, which comes with ntpq: `usr/bin/python3.NN`.
pub(crate) fn python(suite: Suite) -> Result<Command> {
    let root = suite.root();
    let folder = root.join("usr/bin");
    let names = std::fs::read_dir(&folder)?.filter_map(Result::ok);
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let name =
        names.find(|name| name.strip_prefix("python3.").is_some_and(|rest| rest.parse::<u8>().is_ok()));
    let name = name.with_context(|| format!("no python3 in {}", folder.display()))?;
    let mut command = suite.command(&format!("usr/bin/{name}"), None)?;
    command.env("PYTHONHOME", root.join("usr")).env("PYTHONPATH", root.join("usr/lib/python3/dist-packages"));
    Ok(command)
}
