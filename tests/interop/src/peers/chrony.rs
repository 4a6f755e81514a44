//! chronyd, always with `-x` or with a clock that only seems to be set.

use super::{ClientOf, KEYS_CHRONY, ServerOf, View, harmless_clock, output, preloaded};
use crate::install::Suite;
use crate::network::Node;
use crate::process::Daemon;
use crate::stage::Stage;
use crate::tree::own_program;
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A clock of the test's for either daemon.
const REAL_TIME_CLOCK: &str = include_str!("real_time_clock.c");

/// A running chronyd.
#[derive(Debug)]
pub(crate) struct Chrony {
    daemon: Daemon,
    suite: Suite,
    node: Node,
    folder: PathBuf,
}

/// One line of `chronyc authdata`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AuthData {
    pub(crate) mode: String,
    pub(crate) key_id: u32,
    pub(crate) key_type: u16,
    pub(crate) key_bits: u16,
    pub(crate) attempts: u32,
    pub(crate) naks: u32,
    pub(crate) cookies: u8,
    pub(crate) cookie_octets: u16,
}

/// A server that calls its own clock good (stratum 8).
pub(crate) fn server(stage: &Stage, node: &Node, suite: Suite, options: &ServerOf) -> Result<Chrony> {
    server_by(stage, node, (suite, false), options)
}

/// The same, or our daemon in its place.
pub(crate) fn server_by(
    stage: &Stage,
    node: &Node,
    (suite, ours): (Suite, bool),
    options: &ServerOf,
) -> Result<Chrony> {
    let mut text = String::from("local stratum 8\nallow all\n");
    if let Some(identity) = options.identity {
        let (chain, key) = (identity.chain.display(), identity.key.display());
        text += &format!("ntsservercert {chain}\nntsserverkey {key}\nntsprocesses 1\n");
    }
    if let Some(name) = options.ntp_server {
        text += &format!("ntsntpserver {name}\n");
    }
    of_text(stage, node, suite, ("chronyd-server", &text), ours)
}

/// A plain server by another name, for several on the same stage.
pub(crate) fn server_named(stage: &Stage, node: &Node, suite: Suite, name: &str) -> Result<Chrony> {
    start(stage, node, suite, name, "local stratum 8\nallow all\n")
}

/// A client that polls every second.
pub(crate) fn client(stage: &Stage, node: &Node, suite: Suite, options: &ClientOf) -> Result<Chrony> {
    client_named(stage, node, suite, options, "chronyd-client")
}

/// The same by another name, for a second one on the same stage.
pub(crate) fn client_named(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    options: &ClientOf,
    name: &str,
) -> Result<Chrony> {
    let mut line = format!("server {} iburst minpoll 0 maxpoll 0", options.server);
    if options.nts {
        line += " nts";
    }
    if let Some(key) = options.key {
        line += &format!(" key {key}");
    }
    if options.interleaved {
        line += " xleave";
    }
    let ca = stage.pki().ca.display();
    start(stage, node, suite, name, &format!("{line}\nnosystemcert\nntstrustedcerts {ca}\nport 0\n"))
}

/// A chronyd of this configuration, or our daemon in its place, on the same file and with the same options.
pub(crate) fn of_text(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    (name, text): (&str, &str),
    ours: bool,
) -> Result<Chrony> {
    start_program(stage, node, suite, (name, text), program(suite, ours, None)?)
}

/// The same without these of its privileges, as setpriv names them.
pub(crate) fn without(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    named: (&str, &str),
    (privileges, ours): (&str, bool),
) -> Result<Chrony> {
    let whole = program(suite, ours, None)?;
    let mut less = Command::new("setpriv");
    less.args(["--bounding-set", privileges, "--inh-caps", privileges]);
    less.arg(whole.get_program()).args(whole.get_args());
    start_program(stage, node, suite, named, less)
}

/// The same with a real-time clock that is described in the file `clock`; the words that matter are in the source.
pub(crate) fn with_real_time_clock(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    (name, text): (&str, &str),
    (clock, ours): (&Path, bool),
) -> Result<Chrony> {
    start_program(stage, node, suite, (name, text), simulated(suite, (clock, ours), None)?)
}

/// A daemon that believes to steer the system clock.
pub(crate) fn steering(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    named: (&str, &str),
    ours: bool,
) -> Result<Chrony> {
    start_with(stage, node, suite, named, program(suite, ours, Some(&harmless_clock()?))?)
}

/// The same as at the start of the machine (`-s`), with a system clock that only seems to be set.
pub(crate) fn at_boot(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    (name, text): (&str, &str),
    (clock, ours): (&Path, bool),
) -> Result<Chrony> {
    let mut program = simulated(suite, (clock, ours), Some(harmless_clock()?))?;
    program.arg("-s");
    start_with(stage, node, suite, (name, text), program)
}

/// A daemon with a simulated real-time clock, and another library preloaded beside it.
fn simulated(suite: Suite, (clock, ours): (&Path, bool), beside: Option<PathBuf>) -> Result<Command> {
    let libraries = std::iter::once(preloaded("real-time-clock", REAL_TIME_CLOCK)?).chain(beside);
    let libraries: Vec<String> = libraries.map(|library| library.display().to_string()).collect();
    let mut program = program(suite, ours, Some(Path::new(&libraries.join(":"))))?;
    program.env("SIMULATED_RTC", clock);
    Ok(program)
}

/// chronyd, or our daemon in its place.
pub(crate) fn program(suite: Suite, ours: bool, preload: Option<&Path>) -> Result<Command> {
    if !ours {
        return suite.command("usr/sbin/chronyd", preload);
    }
    let mut command = Command::new(own_program("chimed")?);
    command.args(["--as", "chronyd"]);
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    Ok(command)
}

/// Any configuration, by a name of its own.
pub(crate) fn start(stage: &Stage, node: &Node, suite: Suite, name: &str, text: &str) -> Result<Chrony> {
    let program = suite.command("usr/sbin/chronyd", None)?;
    start_program(stage, node, suite, (name, text), program)
}

fn start_program(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    named: (&str, &str),
    mut command: Command,
) -> Result<Chrony> {
    command.arg("-x");
    start_with(stage, node, suite, named, command)
}

fn start_with(
    stage: &Stage,
    node: &Node,
    suite: Suite,
    (name, text): (&str, &str),
    mut command: Command,
) -> Result<Chrony> {
    let folder = stage.folder().join(name);
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    let keys = stage.write("chrony.keys", KEYS_CHRONY)?;
    let at = folder.display();
    let common = format!(
        "user root\nkeyfile {}\npidfile {at}/pid\nbindcmdaddress {at}/socket\ncmdport 0\nntsdumpdir {at}\n",
        keys.display()
    );
    let configuration = stage.write(&format!("{name}.conf"), &(common + text))?;
    command.args(["-d", "-f"]).arg(configuration);
    let daemon = Daemon::spawn(name, node.wrap(&command), stage.folder())?;
    Ok(Chrony { daemon, suite, node: node.clone(), folder })
}

impl Chrony {
    /// What chronyc prints.
    pub(crate) fn chronyc(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.suite.command("usr/bin/chronyc", None)?;
        command.arg("-n").arg("-h").arg(self.folder.join("socket")).args(arguments);
        output(&mut self.node.wrap(&command))
    }

    /// Whether chronyc succeeded, and all that it printed.
    pub(crate) fn chronyc_says(&self, arguments: &[&str]) -> Result<(bool, String)> {
        self.chronyc_at(&self.folder.join("socket"), arguments)
    }

    /// The same over UDP.
    pub(crate) fn chronyc_over_udp(&self, arguments: &[&str]) -> Result<(bool, String)> {
        self.chronyc_at(Path::new("127.0.0.1"), arguments)
    }

    fn chronyc_at(&self, host: &Path, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = self.suite.command("usr/bin/chronyc", None)?;
        command.arg("-n").arg("-h").arg(host).args(arguments);
        let output = self.node.wrap(&command).output().context("cannot run chronyc")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// A folder with a `chronyc` that asks this daemon, for the PATH of scripts.
    pub(crate) fn folder_with_chronyc(&self) -> Result<PathBuf> {
        let mut command = self.suite.command("usr/bin/chronyc", None)?;
        command.arg("-h").arg(self.folder.join("socket"));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let folder = self.folder.join("bin");
        fs::create_dir_all(&folder)?;
        let program = folder.join("chronyc");
        fs::write(&program, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        Ok(folder)
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.daemon.log()
    }

    /// What the kernel tells of its process.
    pub(crate) fn of_process(&self, file: &str) -> Result<String> {
        self.daemon.of_process(file)
    }

    /// An error when it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.daemon.check_alive()
    }

    /// What it thinks of its one server.
    pub(crate) fn view(&self) -> Result<View> {
        let text = self.chronyc(&["-c", "sources"])?;
        let fields: Vec<&str> = text.trim().split(',').collect();
        ensure!(fields.len() > 5, "chronyc sources: {text}");
        let reach = u8::from_str_radix(fields[5], 8).context("chronyc sources: reach")?;
        Ok(View { reach, is_selected: fields[1] == "*" })
    }

    /// How it authenticates its one server.
    pub(crate) fn auth_data(&self) -> Result<AuthData> {
        let text = self.chronyc(&["-N", "authdata"])?;
        let line = text.lines().nth(2).with_context(|| format!("chronyc authdata: {text}"))?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        ensure!(fields.len() == 10, "chronyc authdata: {line}");
        Ok(AuthData {
            mode: fields[1].to_owned(),
            key_id: fields[2].parse()?,
            key_type: fields[3].parse()?,
            key_bits: fields[4].parse()?,
            attempts: fields[6].parse()?,
            naks: fields[7].parse()?,
            cookies: fields[8].parse()?,
            cookie_octets: fields[9].parse()?,
        })
    }

    /// Ends it; keys and cookies stay on disk, and a new one on the same stage finds them.
    pub(crate) fn stop(self) -> Result<()> {
        self.daemon.stop()
    }
}
