//! The server and the client: this binary again, twice, as child processes.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use super::certificates::Certificates;
use super::toml_path;
use crate::client::Daemon;

/// The children end by themselves after so many seconds, should nobody end them.
const LIFE_SECONDS: &str = "20";

/// Free ports on loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// UDP: NTP.
    pub(crate) ntp: u16,
    /// TCP: key establishment.
    pub(crate) key_establishment: u16,
}

impl Ports {
    /// Asks the system for ports that nobody has.
    pub(crate) fn find() -> io::Result<Self> {
        let ntp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let key_establishment = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Ok(Self { ntp, key_establishment })
    }
}

/// The two children; they are ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Daemons {
    /// The server's control socket.
    pub(crate) server: Daemon,
    /// The client's control socket.
    pub(crate) client: Daemon,
    children: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    role: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemons {
    /// Starts both; the client is sent to the relay for its time.
    pub(crate) fn start(
        folder: &Path,
        certificates: &Certificates,
        ports: Ports,
        relay_port: u16,
    ) -> Result<Self> {
        let server = server_configuration(certificates, ports, relay_port);
        let client = client_configuration(certificates, ports);
        let children = vec![start(folder, "server", &server)?, start(folder, "client", &client)?];
        Ok(Self {
            server: Daemon::new(&socket(folder, "server")),
            client: Daemon::new(&socket(folder, "client")),
            children: Mutex::new(children),
        })
    }

    /// An error with its log when one of the children has ended.
    pub(crate) fn still_run(&self) -> Result<()> {
        let mut children = self.children.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for running in children.iter_mut() {
            if let Some(status) = running.child.try_wait()? {
                bail!("the {} has ended ({status})\n{}", running.role, running.last_words());
            }
        }
        Ok(())
    }

    /// The logs of both.
    pub(crate) fn last_words(&self) -> String {
        let children = self.children.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        children.iter().map(Running::last_words).collect()
    }

    /// Ends both.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        let children = self.children.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for running in children {
            // They have nothing that is worth saving, and may have ended already.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl Running {
    fn last_words(&self) -> String {
        const LINES_MAX: usize = 20;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LINES_MAX);
        format!("--- log of the {}\n{}\n", self.role, lines[from..].join("\n"))
    }
}

fn start(folder: &Path, role: &'static str, configuration: &str) -> Result<Running> {
    let home = folder.join(role);
    fs::create_dir(&home)?;
    let file = home.join("truechimer.toml");
    let common = format!(
        "user = false\nthreads = 1\n[state]\ndirectory = {}\n[observability]\nobservation-path = {}\n\
         metrics-exporter-listen = \"off\"\n",
        toml_path(&home),
        toml_path(&socket(folder, role)),
    );
    fs::write(&file, format!("{common}{configuration}"))?;
    let log = home.join("log");
    let child = Command::new(std::env::current_exe().context("this program cannot be found again")?)
        .args(["daemon", "-x", "--keep-user", "-t", LIFE_SECONDS, "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()
        .with_context(|| format!("the {role} cannot be started"))?;
    Ok(Running { role, child, log })
}

fn socket(folder: &Path, role: &str) -> PathBuf {
    folder.join(role).join("control.sock")
}

/// Serves this machine's own time as a stratum 1 would, and sends clients to the relay.
fn server_configuration(certificates: &Certificates, ports: Ports, relay_port: u16) -> String {
    format!(
        "[local-clock]\nstratum = 1\n\
         [[server]]\nlisten = \"127.0.0.1:{}\"\n\
         [[nts-ke-server]]\nlisten = \"127.0.0.1:{}\"\nntp-server = \"127.0.0.1\"\nntp-port = {relay_port}\n\
         certificate-chain-path = {}\nprivate-key-path = {}\n",
        ports.ntp,
        ports.key_establishment,
        toml_path(&certificates.chain),
        toml_path(&certificates.key),
    )
}

/// Asks four times each second, so that the demo is short.
fn client_configuration(certificates: &Certificates, ports: Ports) -> String {
    format!(
        "[[source]]\nmode = \"nts\"\naddress = \"127.0.0.1:{}\"\nauthentication = \"required\"\niburst = false\n\
         poll-interval-limits = {{ min = -2, max = -2 }}\nsystem-cas = false\ncertificate-authority = {}\n",
        ports.key_establishment,
        toml_path(&certificates.authority),
    )
}
