//! The daemons of a scenario: an NTS server outside, which does not touch the clock, and the one inside.

use crate::lab::HOST_ADDRESS;
use crate::pki::Pki;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Our daemon.
    pub(crate) chimed: PathBuf,
    /// The daemon that the harness is checked with.
    pub(crate) chronyd: Option<Vec<String>>,
}

impl Programs {
    /// From the environment, as [`crate::run`] set it.
    pub(crate) fn from_environment() -> Result<Self> {
        let chimed = std::env::var_os("TRUECHIMER_CHIMED").context("TRUECHIMER_CHIMED is not set")?;
        let named = std::env::var("TRUECHIMER_CHRONYD").ok().map(|path| vec![path]);
        Ok(Self { chimed: chimed.into(), chronyd: named.or_else(unpacked_chronyd) })
    }

    fn chronyd(&self) -> Result<Vec<String>> {
        self.chronyd
            .clone()
            .context("no chronyd: `cargo xtask install-peers`, or set TRUECHIMER_CHRONYD to one")
    }
}

/// The newest chronyd that the interop tests have unpacked, with the loader and the libraries of its own suite.
fn unpacked_chronyd() -> Option<Vec<String>> {
    let lab = truechimer_test_support::root().join(".lab");
    ["trixie", "bookworm"].iter().find_map(|suite| {
        let root = lab.join(suite).join("root");
        let program = root.join("usr/sbin/chronyd");
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let loader = libraries.join("ld-linux-x86-64.so.2");
        let text = |path: &Path| path.display().to_string();
        (program.is_file() && loader.is_file())
            .then(|| vec![text(&loader), "--library-path".to_owned(), text(&libraries), text(&program)])
    })
}

/// A drift file of ours that is very sure of a frequency.
pub(crate) fn drift_file(ppm: f64) -> String {
    format!(
        "# Truechimer drift 1: frequency correction in ppm (positive speeds the clock up), and its skew in ppm\n\
         {ppm:.6} 0.010000\n"
    )
}

/// Where it is, of a daemon that keeps its things in `folder`.
pub(crate) fn drift_path(folder: &Path) -> PathBuf {
    folder.join("state/drift")
}

/// Where the daemon inside keeps its things: on a file system of the guest's own.
pub(crate) const INSIDE_FOLDER: &str = "/run/truechimer-guest";

/// Which daemon runs inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Daemon {
    /// None: the clock driver is exercised alone.
    None,
    /// Ours.
    Chimed,
    /// The one that the harness is checked with.
    Chronyd,
}

/// Writes the configuration of the daemon inside; returns its command line.
///
/// Without a public key infrastructure it asks without NTS. `more` is more of the configuration of ours.
pub(crate) fn inside(
    daemon: Daemon,
    programs: &Programs,
    (pki, more): (Option<&Pki>, &str),
    folder: &Path,
) -> Result<Vec<String>> {
    let (program, name, text, options): (_, _, _, &[&str]) = match daemon {
        Daemon::None => return Ok(Vec::new()),
        Daemon::Chimed => (
            vec![programs.chimed.display().to_string()],
            "inside.toml",
            chimed_client(pki) + more,
            &["-d", "-c"],
        ),
        Daemon::Chronyd => {
            (programs.chronyd()?, "inside.conf", chronyd_client(pki), &["-d", "-u", "root", "-f"])
        }
    };
    let file = folder.join(name);
    fs::write(&file, text)?;
    let words = program
        .into_iter()
        .chain(options.iter().map(|option| (*option).to_owned()))
        .chain([file.display().to_string()]);
    Ok(words.collect())
}

/// A daemon outside; killed when dropped.
pub(crate) struct Server(Child);

impl Server {
    /// Starts an NTS server, observing only, on `address`; returns when it accepts connections. None for none.
    pub(crate) fn start(
        daemon: Daemon,
        programs: &Programs,
        address: Ipv4Addr,
        pki: &Pki,
        folder: &Path,
    ) -> Result<Option<Self>> {
        let (file, log) = (folder.join("outside.conf"), folder.join("outside.log"));
        let own = folder.join("outside");
        fs::create_dir_all(&own)?;
        let (program, text, options): (_, _, &[&str]) = match daemon {
            Daemon::None => return Ok(None),
            Daemon::Chimed => {
                let text = chimed_server(address, pki, &own);
                (vec![programs.chimed.display().to_string()], text, &["-x", "--keep-user", "-c"])
            }
            Daemon::Chronyd => {
                (programs.chronyd()?, chronyd_server(address, pki, &own), &["-x", "-d", "-u", "root", "-f"])
            }
        };
        fs::write(&file, text)?;
        let mut server = Self(
            Command::new(&program[0])
                .args(&program[1..])
                .args(options)
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::from(File::create(&log)?))
                .spawn()
                .with_context(|| format!("starting {}", program.join(" ")))?,
        );
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if let Some(status) = server.0.try_wait()? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("the server ended by itself: {status}\n{said}");
            }
            if TcpStream::connect(SocketAddr::from((address, 4460))).is_ok() {
                return Ok(Some(server));
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the server does not accept connections; its log is {}", log.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn chimed_client(pki: Option<&Pki>) -> String {
    let source = pki.map_or_else(
        || "mode = \"server\"".to_owned(),
        |pki| {
            let authority = pki.authority.display();
            format!("mode = \"nts\"\ncertificate-authority = \"{authority}\"\nsystem-cas = false")
        },
    );
    format!(
        r#"# The guest's daemon: one server, polled as often as it may be; steered by an unprivileged user.
user = "nobody"

[[source]]
{source}
address = "{HOST_ADDRESS}"
poll-interval-limits = {{ min = 2, max = 4 }}
initial-poll-interval = 2

[synchronization]
minimum-agreeing-sources = 1

[state]
directory = "{INSIDE_FOLDER}/state"

[observability]
observation-path = "{INSIDE_FOLDER}/control"
metrics-exporter-listen = false
"#,
    )
}

fn chimed_server(address: Ipv4Addr, pki: &Pki, folder: &Path) -> String {
    format!(
        r#"# The server outside: the host's clock, as it is.
[local-clock]
stratum = 1

[[server]]
listen = "{address}:123"

[[nts-ke-server]]
listen = "{address}:4460"
certificate-chain-path = "{chain}"
private-key-path = "{key}"

[state]
directory = "{folder}/state"

[observability]
observation-path = "{folder}/control"
metrics-exporter-listen = false
"#,
        chain = pki.chain.display(),
        key = pki.key.display(),
        folder = folder.display(),
    )
}

fn chronyd_client(pki: Option<&Pki>) -> String {
    let (option, trust) = pki.map_or_else(Default::default, |pki| {
        let authority = pki.authority.display();
        (" nts", format!("ntstrustedcerts {authority}\nnosystemcert\nnocerttimecheck 1\n"))
    });
    format!(
        "server {HOST_ADDRESS}{option} iburst minpoll 2 maxpoll 4\n{trust}makestep 1 3\nrtcsync\nport 0\ncmdport 0\n\
         pidfile {INSIDE_FOLDER}/chronyd.pid\nbindcmdaddress /\n",
    )
}

fn chronyd_server(address: Ipv4Addr, pki: &Pki, folder: &Path) -> String {
    format!(
        "local stratum 1\nallow\nbindaddress {address}\nntsserverkey {}\nntsservercert {}\ncmdport 0\n\
         pidfile {folder}/chronyd.pid\nbindcmdaddress /\n",
        pki.key.display(),
        pki.chain.display(),
        folder = folder.display(),
    )
}
