//! A daemon under test: started with its output in a file, ended when dropped.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a daemon may take to end after SIGTERM before it is killed.
const END_MAX: Duration = Duration::from_secs(3);

/// A child process with a log.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it. The log is `FOLDER/NAME.log`, appended to when it exists.
    pub(crate) fn spawn(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|_| String::new(), |octets| String::from_utf8_lossy(&octets).into_owned())
    }

    /// An error when it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended ({status})", self.name);
        }
        Ok(())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid()?, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Asks it to end and waits; an error when it must be killed.
    pub(crate) fn stop(mut self) -> Result<()> {
        if !self.end()? {
            bail!("{} did not end within {END_MAX:?} of SIGTERM", self.name);
        }
        Ok(())
    }

    /// What the kernel tells of the process in this file of its.
    pub(crate) fn of_process(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path} of {}", self.name))
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// True when it ended by itself.
    fn end(&mut self) -> Result<bool> {
        if self.child.try_wait()?.is_some() {
            return Ok(true);
        }
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < END_MAX {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(false)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A failure leaves a process to the end of the sandbox, which kills it.
        let _ = self.end();
    }
}
