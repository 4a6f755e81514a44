//! Our own daemon, always with `-x`, seen through the eyes of `chime`.

use super::{ClientOf, KEY_OF_OURS, KEYS_CHRONY, ServerOf, View, output};
use crate::network::Node;
use crate::process::Daemon;
use crate::stage::Stage;
use crate::tree::own_program;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A running chimed.
#[derive(Debug)]
pub(crate) struct Chimed {
    daemon: Daemon,
    node: Node,
    socket: PathBuf,
}

/// The name of a client's files.
const CLIENT: &str = "chimed-client";

/// The usual value of `threads`.
const SINGLE: &str = "\"single\"";

/// Certificate trust of a client beyond [`ClientOf`]; `None`: the authority of the run.
pub(crate) type TrustLines<'a> = Option<&'a str>;

/// A server that calls its own clock good (stratum 8), like the chronyd of these tests.
pub(crate) fn server(stage: &Stage, node: &Node, options: &ServerOf) -> Result<Chimed> {
    server_with(stage, node, options, "")
}

/// The same with more lines of configuration at the end.
pub(crate) fn server_with(stage: &Stage, node: &Node, options: &ServerOf, extra: &str) -> Result<Chimed> {
    let mut text = String::from("[local-clock]\nstratum = 8\nactivate = 0\n\n");
    for address in ["0.0.0.0", "[::]"] {
        text += &format!("[[server]]\nlisten = \"{address}:123\"\n\n");
        if let Some(identity) = options.identity {
            let (chain, key) = (identity.chain.display(), identity.key.display());
            text += &format!(
                "[[nts-ke-server]]\nlisten = \"{address}:4460\"\ncertificate-chain-path = \"{chain}\"\n\
                 private-key-path = \"{key}\"\n"
            );
            if let Some(name) = options.ntp_server {
                text += &format!("ntp-server = \"{name}\"\n");
            }
        }
    }
    start(stage, node, "chimed-server", &format!("{text}\n{extra}"))
}

/// A server with this `fast-path` for both families, which takes a thread; without one of the privileges, as setpriv names it.
pub(crate) fn fast_server(
    stage: &Stage,
    node: &Node,
    (fast_path, without): (&str, Option<&str>),
) -> Result<Chimed> {
    let identity = &stage.pki().by_name;
    let (chain, key) = (identity.chain.display(), identity.key.display());
    let text = format!(
        "[local-clock]\nstratum = 8\nactivate = 0\n\n[[server]]\nlisten = \"[::]:123\"\n\
         fast-path = \"{fast_path}\"\n\n[[server]]\nlisten = \"0.0.0.0:123\"\nfast-path = \"{fast_path}\"\n\n\
         [[nts-ke-server]]\nlisten = \"[::]:4460\"\ncertificate-chain-path = \"{chain}\"\n\
         private-key-path = \"{key}\"\n\n[[nts-ke-server]]\nlisten = \"0.0.0.0:4460\"\n\
         certificate-chain-path = \"{chain}\"\nprivate-key-path = \"{key}\"\n"
    );
    let chimed = Command::new(own_program("chimed")?);
    let program = match without {
        None => chimed,
        Some(privilege) => {
            let mut less = Command::new("setpriv");
            let minus = format!("-{privilege}");
            less.args(["--bounding-set", &minus, "--inh-caps", &minus]).arg(chimed.get_program());
            less
        }
    };
    start_program(stage, node, ("chimed-server", program), "1", &text)
}

/// A client that polls every second.
pub(crate) fn client(stage: &Stage, node: &Node, options: &ClientOf) -> Result<Chimed> {
    client_with(stage, node, options, None)
}

/// The same with another idea of whom to trust.
pub(crate) fn client_with(
    stage: &Stage,
    node: &Node,
    options: &ClientOf,
    trust: TrustLines,
) -> Result<Chimed> {
    start(stage, node, CLIENT, &client_text(stage, options, trust))
}

/// Writes a client's configuration anew without telling it.
pub(crate) fn write_client(stage: &Stage, options: &ClientOf, trust: TrustLines) -> Result<()> {
    write_client_text(stage, &client_text(stage, options, trust))
}

/// The same with any text.
pub(crate) fn write_client_text(stage: &Stage, text: &str) -> Result<()> {
    write_configuration(stage, CLIENT, SINGLE, text).map(|_| ())
}

fn client_text(stage: &Stage, options: &ClientOf, trust: TrustLines) -> String {
    let mode = if options.nts { "nts" } else { "server" };
    let server = options.server;
    let mut text = format!("[[source]]\nmode = \"{mode}\"\naddress = \"{server}\"\n");
    text += "poll-interval-limits = { min = 0, max = 0 }\ninitial-poll-interval = 0\n";
    if options.nts {
        let ca = format!("certificate-authority = \"{}\"\nsystem-cas = false\n", stage.pki().ca.display());
        text += trust.unwrap_or(&ca);
    }
    if let Some(key) = options.key {
        text += &format!("key = {key}\n");
    }
    if options.interleaved {
        text += "interleaved = true\n";
    }
    text
}

/// A client with `[[source]]` tables of the scenario's own.
pub(crate) fn client_of_sources(stage: &Stage, node: &Node, sources: &str) -> Result<Chimed> {
    start(stage, node, CLIENT, sources)
}

/// The same by another name, for a second one on the same stage.
pub(crate) fn another_client(stage: &Stage, node: &Node, name: &str, sources: &str) -> Result<Chimed> {
    start(stage, node, name, sources)
}

fn start(stage: &Stage, node: &Node, name: &str, text: &str) -> Result<Chimed> {
    start_as(stage, node, name, SINGLE, text)
}

fn start_as(stage: &Stage, node: &Node, name: &str, threads: &str, text: &str) -> Result<Chimed> {
    start_program(stage, node, (name, Command::new(own_program("chimed")?)), threads, text)
}

/// The same with a command that runs it.
fn start_program(
    stage: &Stage,
    node: &Node,
    (name, mut command): (&str, Command),
    threads: &str,
    text: &str,
) -> Result<Chimed> {
    let configuration = write_configuration(stage, name, threads, text)?;
    command.args(["-x", "-d", "-c"]).arg(configuration);
    let daemon = Daemon::spawn(name, node.wrap(&command), stage.folder())?;
    Ok(Chimed { daemon, node: node.clone(), socket: stage.folder().join(name).join("socket") })
}

fn write_configuration(stage: &Stage, name: &str, threads: &str, text: &str) -> Result<PathBuf> {
    let folder = stage.folder().join(name);
    fs::create_dir_all(&folder)?;
    let keys = stage.write("chimed.keys", &[KEYS_CHRONY, KEY_OF_OURS].concat())?;
    let (at, keys) = (folder.display(), keys.display());
    let common = format!(
        "user = false\nthreads = {threads}\n\n[state]\ndirectory = \"{at}\"\n\n[keys]\nkey-file = \"{keys}\"\n\n\
         [observability]\nlog-level = \"debug\"\nobservation-path = \"{at}/socket\"\n\
         metrics-exporter-listen = false\n\n"
    );
    stage.write(&format!("{name}.toml"), &(common + text))
}

impl Chimed {
    /// A report of `chime` with configured names, as chronyc prints it with `-N`, or with `-c -N`.
    pub(crate) fn report_as(&self, name: &str, comma_separated: bool) -> Result<String> {
        let mut command = Command::new(own_program("chime")?);
        command.arg("--socket").arg(&self.socket).arg(name);
        if comma_separated {
            command.arg("--csv");
        }
        output(&mut self.node.wrap(&command))
    }

    /// A report of `chime`, as people see it.
    pub(crate) fn report_text(&self, name: &str) -> Result<String> {
        let mut command = Command::new(own_program("chime")?);
        command.arg("--socket").arg(&self.socket).arg(name);
        output(&mut self.node.wrap(&command))
    }

    /// Everything that it shows of itself.
    pub(crate) fn snapshot(&self) -> Result<Value> {
        truechimer_test_support::snapshot(&self.socket)
    }

    /// Everything that it knows of its sources, one entry for each association.
    pub(crate) fn sources(&self) -> Result<Vec<Value>> {
        let snapshot = self.snapshot()?;
        Ok(snapshot.pointer("/engine/sources").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// What it knows of its one source.
    pub(crate) fn source(&self) -> Result<Value> {
        self.sources()?.into_iter().next().context("no source yet")
    }

    /// What it thinks of its one source.
    pub(crate) fn view(&self) -> Result<View> {
        let source = self.source()?;
        let reach = u8::try_from(number(&source, "/reach")?)?;
        Ok(View { reach, is_selected: source.pointer("/state").and_then(Value::as_str) == Some("*") })
    }

    /// How often answers were discarded for this reason.
    pub(crate) fn discards(&self, reason: &str) -> Result<u64> {
        let source = self.source()?;
        let list = source.pointer("/discards").and_then(Value::as_array).cloned().unwrap_or_default();
        let found = list.iter().find(|entry| entry.get("reason").and_then(Value::as_str) == Some(reason));
        Ok(found.and_then(|entry| entry.get("count")?.as_u64()).unwrap_or(0))
    }

    /// How many answers of its one source passed all tests.
    pub(crate) fn valid_answers(&self) -> Result<u64> {
        number(&self.source()?, "/ntp/total_valid_rx")
    }

    /// How many key establishments have succeeded.
    pub(crate) fn establishments(&self) -> Result<u64> {
        number(&self.source()?, "/authentication/key_id")
    }

    /// Checks `authdata` of its one source: NTS, this AEAD, cookies in hand.
    pub(crate) fn expect_nts(&self, aead: u64) -> Result<()> {
        let source = self.source()?;
        let authentication = source.pointer("/authentication").cloned().unwrap_or_default();
        let mode = authentication.get("mode").and_then(Value::as_str);
        ensure!(mode == Some("nts"), "not with NTS: {authentication}");
        ensure!(number(&authentication, "/key_type")? == aead, "not with AEAD {aead}: {authentication}");
        ensure!(number(&authentication, "/cookies")? >= 7, "few cookies: {authentication}");
        Ok(())
    }

    /// How often key establishment with its one source failed, by the word for the cause.
    pub(crate) fn establishment_failures(&self) -> Result<Vec<(String, u64)>> {
        let establishment = self.establishment()?;
        Ok(serde_json::from_value(establishment["failed"].clone())?)
    }

    /// What went wrong last, in plain words.
    pub(crate) fn establishment_error(&self) -> Result<Option<String>> {
        let value = self.establishment()?;
        Ok(value.pointer("/last_error").and_then(Value::as_str).map(str::to_owned))
    }

    fn establishment(&self) -> Result<Value> {
        let snapshot = self.snapshot()?;
        snapshot.pointer("/engine/establishments/0").cloned().context("no key establishment yet")
    }

    /// How many key establishment sessions it has served.
    pub(crate) fn sessions_served(&self) -> Result<u64> {
        number(&self.snapshot()?, "/ke_server/accepted")
    }

    /// How many requests it has answered with NTS or a MAC.
    pub(crate) fn authenticated_served(&self) -> Result<u64> {
        number(&self.snapshot()?, "/server/authenticated")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.daemon.log()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon.signal(signal)
    }

    /// An error when it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.daemon.check_alive()
    }

    /// Ends it; what it keeps on disk stays, and a new one on the same stage finds it.
    pub(crate) fn stop(self) -> Result<()> {
        self.daemon.stop()
    }
}

/// Forgets everything that a daemon of this name has kept on disk.
pub(crate) fn forget_state(stage: &Stage, name: &str) -> Result<()> {
    let folder = stage.folder().join(name);
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

fn number(value: &Value, pointer: &str) -> Result<u64> {
    match value.pointer(pointer).and_then(Value::as_u64) {
        Some(number) => Ok(number),
        None => bail!("no number at {pointer} in {value}"),
    }
}
