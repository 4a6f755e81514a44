//! ntpd-rs, which ends when it may not touch the clock, and is told that it did.

use super::{ClientOf, ServerOf, View, harmless_clock, output};
use crate::install::Suite;
use crate::network::Node;
use crate::process::Daemon;
use crate::stage::Stage;
use crate::tree::own_program;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// A running ntp-daemon.
#[derive(Debug)]
pub(crate) struct NtpdRs {
    #[expect(dead_code, reason = "held: ends when dropped")]
    daemon: Daemon,
    node: Node,
    configuration: PathBuf,
}

/// Which program is started as ntp-daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// ntpd-rs's.
    Theirs,
    /// Our daemon, under this name and on the same file.
    Ours,
}

/// A server; it follows `upstream`, since it never calls its own clock good.
pub(crate) fn server(stage: &Stage, node: &Node, options: &ServerOf, upstream: &str) -> Result<NtpdRs> {
    server_by(Program::Theirs, stage, node, options, upstream)
}

/// The same by either program.
pub(crate) fn server_by(
    program: Program,
    stage: &Stage,
    node: &Node,
    options: &ServerOf,
    upstream: &str,
) -> Result<NtpdRs> {
    let mut text = format!("[[source]]\nmode = \"server\"\naddress = \"{upstream}\"\n\n");
    // Its IPv6 sockets take IPv4 too, and a second one for IPv4 would fail.
    text += "[[server]]\nlisten = \"[::]:123\"\n\n";
    if let Some(identity) = options.identity {
        let (chain, key) = (identity.chain.display(), identity.key.display());
        text += &format!(
            "[[nts-ke-server]]\nlisten = \"[::]:4460\"\ncertificate-chain-path = \"{chain}\"\n\
             private-key-path = \"{key}\"\n\n"
        );
        let cookies = stage.folder().join("ntpd-rs-server.cookies");
        text += &format!("[keyset]\nkey-storage-path = \"{}\"\n\n", cookies.display());
    }
    start(program, stage, node, "ntpd-rs-server", &text)
}

/// A client that polls every second.
pub(crate) fn client(stage: &Stage, node: &Node, options: &ClientOf) -> Result<NtpdRs> {
    client_by(Program::Theirs, stage, node, options)
}

/// The same by either program.
pub(crate) fn client_by(program: Program, stage: &Stage, node: &Node, options: &ClientOf) -> Result<NtpdRs> {
    let server = options.server;
    let text = if options.nts {
        let ca = stage.pki().ca.display();
        format!("[[source]]\nmode = \"nts\"\naddress = \"{server}\"\ncertificate-authority = \"{ca}\"\n\n")
    } else {
        format!("[[source]]\nmode = \"server\"\naddress = \"{server}\"\n\n")
    };
    start(program, stage, node, "ntpd-rs-client", &text)
}

fn start(program: Program, stage: &Stage, node: &Node, name: &str, text: &str) -> Result<NtpdRs> {
    let socket = stage.folder().join(format!("{name}.socket"));
    let common = format!(
        "[observability]\nlog-level = \"info\"\nansi-colors = false\nobservation-path = \"{}\"\n\n\
         [source-defaults]\npoll-interval-limits = {{ min = 0, max = 0 }}\ninitial-poll-interval = 0\n\n\
         [synchronization]\nminimum-agreeing-sources = 1\n\n",
        socket.display()
    );
    let configuration = stage.write(&format!("{name}.toml"), &(common + text))?;
    let mut command = match program {
        Program::Theirs => Suite::Trixie.command("usr/bin/ntp-daemon", Some(&harmless_clock()?))?,
        Program::Ours => {
            // Where it usually keeps its state, other scenarios would find it.
            let state = stage.folder().join(format!("{name}.state"));
            std::fs::create_dir_all(&state)?;
            let mut command = Command::new("unshare");
            command.args([
                "--mount",
                "sh",
                "-c",
                "mkdir -p $1 && mount --bind $0 $1 && shift && exec \"$@\"",
            ]);
            command.arg(state).arg("/var/lib/truechimer").arg(own_program("chimed")?);
            command.env("LD_PRELOAD", harmless_clock()?).args(["--as", "ntp-daemon"]);
            command
        }
    };
    command.arg("-c").arg(&configuration);
    let daemon = Daemon::spawn(name, node.wrap(&command), stage.folder())?;
    Ok(NtpdRs { daemon, node: node.clone(), configuration })
}

impl NtpdRs {
    /// What it thinks of its one source. It shows no reach register: ten seconds of one poll each
    /// without an unanswered one count as a full one.
    pub(crate) fn view(&self) -> Result<View> {
        const FULL_REACH_SECONDS: f64 = 10.0;
        let unanswered = self.metric("ntp_source_unanswered_polls")?;
        let uptime = self.metric("ntp_uptime_seconds")?;
        let reach = match (unanswered, uptime) {
            (0.0, FULL_REACH_SECONDS..) => 0xff,
            (0.0, _) => 0x01,
            _ => 0,
        };
        Ok(View { reach, is_selected: self.metric("ntp_system_stratum")? < 16.0 })
    }

    /// The value of one of its metrics.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let text = self.metrics()?;
        let mut values = text.lines().filter(|line| line.starts_with(name));
        let value = values.next().and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.with_context(|| format!("no metric {name}"))
    }

    /// `ntp-ctl status -f prometheus`.
    pub(crate) fn metrics(&self) -> Result<String> {
        let mut command = Suite::Trixie.command("usr/bin/ntp-ctl", None)?;
        command.args(["status", "-f", "prometheus", "-c"]).arg(&self.configuration);
        output(&mut self.node.wrap(&command))
    }
}
