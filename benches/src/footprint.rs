//! What our client takes of a machine: memory, and how often it wakes the processor.

use crate::sandbox::folder;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// From the start to the first count: the first polls are quick ones, and after a minute the clock's frequency is saved.
const SETTLING: Duration = Duration::from_secs(100);
/// Two polls of 64 s.
const WATCHED: Duration = Duration::from_secs(128);

/// A client that does nothing else.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Footprint {
    /// Kibibytes in memory, shared ones included.
    pub(crate) resident: u64,
    /// Kibibytes that it alone has and has written to.
    pub(crate) private_dirty: u64,
    pub(crate) threads: usize,
    /// Times that one of its threads came to a processor, per second, at poll 64 s.
    pub(crate) wake_ups: f64,
}

/// Starts a client of one server, plain and at poll 64 s, and watches it. Its server is our own on loopback.
pub(crate) fn measure() -> Result<Footprint> {
    let client = "authentication = \"mixed\"\n[[source]]\nmode = \"server\"\naddress = \"127.0.0.1\"\n\
                  poll-interval-limits = { min = 6, max = 6 }\ninitial-poll-interval = 6";
    let _server = serve("127.0.0.1")?;
    let client = start("footprint-client", client)?;
    sleep(SETTLING);
    let process = client.0.id();
    let before = wake_ups(process)?;
    sleep(WATCHED);
    let after = wake_ups(process)?;
    let rollup =
        fs::read_to_string(format!("/proc/{process}/smaps_rollup")).context("the client has ended")?;
    Ok(Footprint {
        resident: kibibytes(&rollup, "Rss:")?,
        private_dirty: kibibytes(&rollup, "Private_Dirty:")?,
        threads: fs::read_dir(format!("/proc/{process}/task"))?.count(),
        wake_ups: (after - before) as f64 / WATCHED.as_secs_f64(),
    })
}

/// A daemon that ends with this value.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Ours, which serves this machine's time at an address of this network.
pub(crate) fn serve(address: &str) -> Result<Daemon> {
    let text = format!("[[server]]\nlisten = \"{address}:123\"\n[local-clock]\nstratum = 8");
    start("footprint-server", &text)
}

fn start(name: &str, configuration: &str) -> Result<Daemon> {
    let configuration = format!(
        "user = false\n{configuration}\n[observability]\nobservation-path = false\n\
         metrics-exporter-listen = false\n"
    );
    let folder = folder().join(name);
    fs::create_dir_all(&folder)?;
    let path = folder.join("truechimer.toml");
    fs::write(&path, format!("{configuration}[state]\ndirectory = \"{}\"\n", folder.display()))?;
    let program = std::env::current_exe()?.with_file_name("chimed");
    ensure!(program.exists(), "{} is missing", program.display());
    let child = daemon(&program, &path).spawn().with_context(|| format!("cannot start {name}"))?;
    Ok(Daemon(child))
}

fn daemon(program: &Path, configuration: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-x", "-d", "-c"]).arg(configuration);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// How often the threads of a process came to a processor: the third number of `schedstat`.
fn wake_ups(process: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).context("the client has ended")? {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().nth(2).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// A size in what the kernel says of a process.
pub(crate) fn kibibytes(rollup: &str, label: &str) -> Result<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok());
    number.with_context(|| format!("no {label} in what the kernel says"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_read_by_their_labels() {
        let text = "Rss:  8192 kB\nPss: 9 kB\nPrivate_Dirty:      1300 kB\n";
        assert_eq!(super::kibibytes(text, "Rss:").unwrap(), 8192);
        assert_eq!(super::kibibytes(text, "Private_Dirty:").unwrap(), 1300);
        assert!(super::kibibytes(text, "Swap:").is_err());
    }
}
