//! The place where a scenario happens: a tap device as the guest's wire, and the guest itself.

use crate::report::{Event, Plan};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The host's end of the wire.
pub(crate) const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The guest's end of the wire.
pub(crate) const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Where the probe answers.
pub(crate) const PROBE: SocketAddr = SocketAddr::new(IpAddr::V4(HOST_ADDRESS), 5005);

/// How long a guest may take beyond what it is to watch: to boot, to stop the daemon, to halt.
const GUEST_SLACK: Duration = Duration::from_secs(60);

/// The end of the second guest's wire, when there are two.
pub(crate) const SECOND_GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// The taps of the guests.
pub(crate) const TAPS: [&str; 2] = ["tap0", "tap1"];

/// Makes wires for two guests and joins them with the host's end, in the network namespace of this process.
pub(crate) fn set_up_network_for_two() -> Result<()> {
    let address = format!("{HOST_ADDRESS}/24");
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", "bridge0", "type", "bridge"])?;
    ip(&["address", "add", &address, "dev", "bridge0"])?;
    for tap in TAPS {
        ip(&["tuntap", "add", "dev", tap, "mode", "tap"])?;
        ip(&["link", "set", tap, "master", "bridge0"])?;
        ip(&["link", "set", tap, "up"])?;
    }
    ip(&["link", "set", "bridge0", "up"])
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("running ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", words.join(" "), said.trim());
    Ok(())
}

/// Makes the wire, in the network namespace of this process, which must be a fresh one.
pub(crate) fn set_up_network() -> Result<()> {
    let address = format!("{HOST_ADDRESS}/24");
    for words in [
        &["link", "set", "lo", "up"][..],
        &["tuntap", "add", "dev", "tap0", "mode", "tap"],
        &["address", "add", &address, "dev", "tap0"],
        &["link", "set", "tap0", "up"],
    ] {
        ip(words)?;
    }
    Ok(())
}

/// An event, and how long after the daemon's start it was heard of; zero for those before.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) seconds: f64,
    pub(crate) event: Event,
}

/// Runs a user-mode Linux guest to its end, and returns what it told.
pub(crate) fn run_guest(
    plan: &Plan,
    tap: &str,
    folder: &Path,
    each: impl FnMut(&Heard),
) -> Result<Vec<Heard>> {
    let limit = Duration::from_secs_f64(plan.watch_seconds) + GUEST_SLACK;
    hear(&mut user_mode_linux(plan, tap, folder)?, limit, folder, each)
}

/// Starts a machine whose console is its standard output, and listens to it to the end. The console is kept in `folder`.
pub(crate) fn hear(
    machine: &mut Command,
    limit: Duration,
    folder: &Path,
    mut each: impl FnMut(&Heard),
) -> Result<Vec<Heard>> {
    let mut guest = Guest::start(machine, folder)?;
    let lines = guest.console(folder)?;
    let (started, mut daemon_started) = (Instant::now(), None);
    let (mut events, mut last) = (Vec::new(), String::new());
    loop {
        let left = limit.saturating_sub(started.elapsed());
        let line = match lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => bail!("the guest did not end within {limit:?}"),
        };
        let Some(event) = Event::parse(&line) else {
            last = line;
            continue;
        };
        if event == Event::DaemonStarted {
            daemon_started = Some(Instant::now());
        }
        let seconds = daemon_started.map_or(0.0, |start: Instant| start.elapsed().as_secs_f64());
        let heard = Heard { seconds, event };
        each(&heard);
        events.push(heard);
    }
    ensure!(
        events.last().is_some_and(|heard| heard.event == Event::Done),
        "the guest ended before it was done; its kernel's last words are {last:?}, its console is {}",
        folder.join("console").display()
    );
    Ok(events)
}

/// The command for a user-mode Linux guest: a kernel as a process, with this machine's files.
fn user_mode_linux(plan: &Plan, tap: &str, folder: &Path) -> Result<Command> {
    let (plan_file, init, uml) = (folder.join("plan.json"), folder.join("init.sh"), folder.join("uml"));
    fs::create_dir_all(&uml)?;
    fs::write(&plan_file, serde_json::to_vec_pretty(plan)?)?;
    let program = std::env::current_exe()?;
    fs::write(&init, format!("#!/bin/sh\nexec {} inside {}\n", quoted(&program), quoted(&plan_file)))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new("linux.uml");
    command
        .args(["rootfstype=hostfs", "rootflags=/", "rw", "mem=256M", "con=null", "con0=fd:0,fd:1"])
        .arg(format!("vec0:transport=tap,ifname={tap},depth=64,gro=0"))
        .args(["panic=-1", "quiet"])
        .arg(format!("init={}", init.display()))
        .arg(format!("uml_dir={}/", uml.display()));
    Ok(command)
}

/// A machine that runs; killed when dropped.
struct Guest(Child);

impl Guest {
    fn start(machine: &mut Command, folder: &Path) -> Result<Self> {
        let child = machine
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(File::create(folder.join("machine.stderr"))?))
            .spawn()
            .with_context(|| format!("starting {}", machine.get_program().display()))?;
        Ok(Self(child))
    }

    /// The lines of the console, as they come.
    fn console(&mut self, folder: &Path) -> Result<mpsc::Receiver<String>> {
        let output = self.0.stdout.take().context("the console was taken already")?;
        let mut copy = File::create(folder.join("console"))?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let _full = writeln!(copy, "{line}");
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(lines)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A path as one word for the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// A folder for a scenario's files, made anew.
pub(crate) fn fresh_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    let folder = parent.join(name);
    let _absent = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_for_the_shell() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
