//! What one scenario has: a network, a folder, certificates, and time that is bounded.

use crate::network::{Network, Node};
use crate::pki::Pki;
use anyhow::{Result, bail};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Lines of each log that a failure shows.
const LOG_LINES_SHOWN: usize = 40;

/// The surroundings of one scenario.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: PathBuf,
    network: Network,
    pki: Arc<Pki>,
    deadline: Instant,
}

impl Stage {
    /// Sets the stage. `prefix` names its namespaces; nothing waits past `deadline`.
    pub(crate) fn new(prefix: &str, folder: PathBuf, pki: Arc<Pki>, deadline: Instant) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { network: Network::new(prefix)?, folder, pki, deadline })
    }

    /// A node of this number: see the names in [`crate::sandbox`].
    pub(crate) fn node(&mut self, host: u8) -> Result<Node> {
        self.network.node(host)
    }

    /// The network, for cutting cables.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Certificates, made once per run.
    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The folder of this scenario.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file of this scenario and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Looks until `look` finds something. An error in `look` is what we are still waiting for,
    /// and the last one is part of the failure.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        let end = (start + within).min(self.deadline);
        loop {
            let error = match look() {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            if Instant::now() >= end {
                bail!("not within {:.0} s: {what}: {error:#}", start.elapsed().as_secs_f64());
            }
            sleep(LOOK_EVERY);
        }
    }

    /// The ends of all logs, for the report of a failure.
    pub(crate) fn logs(folder: &Path) -> String {
        let mut text = String::new();
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
            let content = fs::read(path).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            let lines: Vec<&str> = content.lines().collect();
            let _ = writeln!(text, "--- {}", path.file_name().unwrap_or_default().to_string_lossy());
            for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }
}
