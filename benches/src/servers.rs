//! The servers that are measured: ours, and chronyd of Debian 13 as `truechimer-interop install` unpacks it.

use crate::Subject;
use crate::sandbox::{LOAD_CORE, SERVER_CORE, SERVER_CORES, folder, on_server, run};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// In the folder of a server that is followed up by chronyc.
const COMMAND_SOCKET: &str = "chronyd.sock";

/// A daemon to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Program {
    /// Ours
    Chimed,
    /// Ours, with plain requests answered by its XDP program, and those with NTS handed over by it
    ChimedXdp,
    /// chronyd 4.6.1 of Debian 13
    Chronyd,
    /// Ours, with one thread for everything, as it has under chronyd's name
    ChimedSingle,
    /// Ours, on the core of the load
    ChimedBeside,
    /// Ours, with a worker on each of two cores
    ChimedTwo,
    /// ntp-daemon of ntpd-rs 1.9, Debian 13
    NtpdRs,
    /// The ceiling of one datagram to a system call: recvfrom, sendto
    Echo,
    /// The ceiling of batches: recvmmsg, sendmmsg of 64
    EchoBatch,
}

impl Program {
    /// Those that have one core each.
    pub(crate) const ALL: [Self; 7] = [
        Self::Chimed,
        Self::ChimedXdp,
        Self::ChimedSingle,
        Self::Chronyd,
        Self::NtpdRs,
        Self::Echo,
        Self::EchoBatch,
    ];

    /// Whether it is measured by answers to such requests.
    pub(crate) const fn can(self, subject: Subject) -> bool {
        match self {
            Self::Chimed | Self::ChimedBeside | Self::ChimedTwo => true,
            Self::ChimedSingle => false,
            Self::NtpdRs => matches!(subject, Subject::Ke),
            Self::Chronyd => !matches!(subject, Subject::KePostQuantum),
            Self::ChimedXdp => matches!(subject, Subject::Plain | Subject::Nts15 | Subject::Nts30),
            Self::Echo | Self::EchoBatch => matches!(subject, Subject::Plain),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Chimed => "chimed",
            Self::ChimedXdp => "chimed XDP",
            Self::ChimedSingle => "chimed, one thread",
            Self::ChimedBeside => "chimed beside the load",
            Self::ChimedTwo => "chimed, two workers",
            Self::NtpdRs => "ntpd-rs",
            Self::Chronyd => "chronyd",
            Self::Echo => "bare echo",
            Self::EchoBatch => "echo by 64",
        }
    }
}

/// A certificate chain and its key, as files.
#[derive(Debug)]
pub(crate) struct Identity {
    chain: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// ECDSA with P-256, signed by itself: our clients do not look.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let certified = rcgen::generate_simple_self_signed(["server.test".to_owned()])?;
        let identity = Self { chain: folder.join("chain.pem"), key: folder.join("key.pem") };
        fs::write(&identity.chain, certified.cert.pem())?;
        fs::write(&identity.key, certified.signing_key.serialize_pem())?;
        Ok(identity)
    }
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    child: Child,
    log: PathBuf,
}

/// Starts a server on its core and in its network.
pub(crate) fn start(program: Program, identity: &Identity) -> Result<Server> {
    start_following(program, identity, None)
}

/// The same, which follows the server at this address, asking it every second, and can be asked by chronyc.
pub(crate) fn start_following(
    program: Program,
    identity: &Identity,
    upstream: Option<&str>,
) -> Result<Server> {
    let folder = folder().join(program.name().replace(' ', "-"));
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let mut command = match program {
        Program::Chimed => chimed(&folder, identity, "none", &SERVER_CORES)?,
        Program::ChimedBeside => chimed(&folder, identity, "none", &(LOAD_CORE..=LOAD_CORE))?,
        Program::ChimedTwo => chimed(&folder, identity, "none", &(SERVER_CORE..=LOAD_CORE))?,
        Program::ChimedSingle => chimed_single(&folder, identity)?,
        Program::NtpdRs => ntpd_rs(&folder, identity)?,
        Program::ChimedXdp => chimed(&folder, identity, "xdp-driver", &SERVER_CORES)?,
        Program::Chronyd => chronyd(&folder, identity)?,
        Program::Echo => echo(1)?,
        Program::EchoBatch => echo(64)?,
    };
    if let Some(upstream) = upstream {
        follow(program, &folder, upstream)?;
    }
    let log = folder.join("log");
    let output = File::create(&log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot start {}", program.name()))?;
    Ok(Server { program, child, log })
}

impl Server {
    pub(crate) const fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Whether it answers with the time, and not with the question.
    pub(crate) const fn tells_time(&self) -> bool {
        !matches!(self.program, Program::Echo | Program::EchoBatch)
    }

    /// Whether a program in the kernel is to answer such requests.
    pub(crate) const fn answers_in_kernel(&self, subject: Subject) -> bool {
        matches!((self.program, subject), (Program::ChimedXdp, Subject::Plain))
    }

    /// What its log must say, as whoever is answered by sockets instead is not to be measured by mistake.
    pub(crate) const fn must_say(&self, subject: Subject) -> &'static str {
        match (self.program, subject) {
            (Program::ChimedXdp, Subject::Plain) => "answers at load1 (driver)",
            (Program::ChimedXdp, _) => "handed over at load1 (AF_XDP",
            _ => "",
        }
    }

    /// The process, whose children are the server's, too.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// How far it believes the system clock to be off, in seconds, as it tells chronyc. Nobody sets or slews that clock, and
    /// who is followed serves it as it is, so that all of it is error.
    pub(crate) fn clock_error(&self) -> Result<f64> {
        let folder = self.log.parent().context("the log is in a folder")?;
        let mut command = of_debian("usr/bin/chronyc", None)?;
        let output = command.arg("-c").arg("-h").arg(folder.join(COMMAND_SOCKET)).arg("tracking").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let fields: Vec<&str> = text.trim().split(',').collect();
        ensure!(fields.get(2) == Some(&"9"), "{} follows nobody: {text}{}", self.name(), self.log());
        fields[4].parse().with_context(|| format!("chronyc says {text}"))
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0));
        if process.as_raw() > 0 {
            let _ended = kill(process, Signal::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// With one worker for each core.
fn chimed(
    folder: &Path,
    identity: &Identity,
    fast_path: &str,
    cores: &RangeInclusive<usize>,
) -> Result<Command> {
    let cpus: Vec<String> = cores.clone().map(|cpu| cpu.to_string()).collect();
    let threads = format!("threads = {}\ncpus = [{}]", cpus.len(), cpus.join(", "));
    chimed_with(folder, identity, (&threads, fast_path), cores)
}

fn chimed_single(folder: &Path, identity: &Identity) -> Result<Command> {
    chimed_with(folder, identity, ("threads = \"single\"", "none"), &SERVER_CORES)
}

fn chimed_with(
    folder: &Path,
    identity: &Identity,
    (threads, fast_path): (&str, &str),
    cores: &RangeInclusive<usize>,
) -> Result<Command> {
    let (chain, key) = (identity.chain.display(), identity.key.display());
    let at = folder.display();
    let text = format!(
        "{threads}\nuser = false\n[[server]]\nlisten = \"0.0.0.0:123\"\n\
         fast-path = \"{fast_path}\"\n[[nts-ke-server]]\n\
         listen = \"0.0.0.0:4460\"\ncertificate-chain-path = \"{chain}\"\nprivate-key-path = \"{key}\"\n\
         [local-clock]\nstratum = 8\n[state]\ndirectory = \"{at}\"\n[observability]\n\
         observation-path = false\nmetrics-exporter-listen = false\n"
    );
    let configuration = folder.join("truechimer.toml");
    fs::write(&configuration, text)?;
    let program = std::env::current_exe()?.with_file_name("chimed");
    ensure!(
        program.exists(),
        "{} is missing: build it with the same profile (cargo build --release --bin chimed)",
        program.display()
    );
    let mut command = on_server(&program, cores);
    command.args(["-x", "-d", "-c"]).arg(configuration);
    Ok(command)
}

/// Adds a source to the configuration of chimed or chronyd, and a socket for chronyc.
fn follow(program: Program, folder: &Path, upstream: &str) -> Result<()> {
    let socket = folder.join(COMMAND_SOCKET);
    let socket = socket.display();
    let (file, before, after) = match program {
        Program::Chronyd => {
            ("chrony.conf", "", format!("server {upstream} minpoll 0 maxpoll 0\nbindcmdaddress {socket}\n"))
        }
        _ => (
            "truechimer.toml",
            "authentication = \"mixed\"\n",
            format!(
                "chrony-command-path = \"{socket}\"\n[[source]]\nmode = \"server\"\naddress = \"{upstream}\"\n\
                 poll-interval-limits = {{ min = 0, max = 0 }}\ninitial-poll-interval = 0\n"
            ),
        ),
    };
    let path = folder.join(file);
    let text = fs::read_to_string(&path)?;
    Ok(fs::write(&path, format!("{before}{text}{after}"))?)
}

fn echo(at_once: usize) -> Result<Command> {
    let mut command = on_server(&std::env::current_exe()?, &SERVER_CORES);
    command.args(["--echo", &at_once.to_string()]);
    Ok(command)
}

fn chronyd(folder: &Path, identity: &Identity) -> Result<Command> {
    let (chain, key) = (identity.chain.display(), identity.key.display());
    let at = folder.display();
    let text = format!(
        "local stratum 8\nallow all\nntsservercert {chain}\nntsserverkey {key}\nntsprocesses 1\nuser root\n\
         pidfile {at}/pid\nbindcmdaddress /\ncmdport 0\nntsdumpdir {at}\n"
    );
    let configuration = folder.join("chrony.conf");
    fs::write(&configuration, text)?;
    let mut command = of_debian("usr/sbin/chronyd", None)?;
    command.args(["-x", "-d", "-f"]).arg(configuration);
    Ok(command)
}

/// It ends when it may not touch the clock, and so is told that it did, as in the interop tests.
fn ntpd_rs(folder: &Path, identity: &Identity) -> Result<Command> {
    let (chain, key) = (identity.chain.display(), identity.key.display());
    let text = format!(
        "[[nts-ke-server]]\nlisten = \"0.0.0.0:4460\"\ncertificate-chain-path = \"{chain}\"\n\
         private-key-path = \"{key}\"\n[keyset]\nkey-storage-path = \"{0}/cookies\"\n[observability]\n\
         log-level = \"warn\"\nobservation-path = \"{0}/observe\"\n",
        folder.display()
    );
    let configuration = folder.join("ntp.toml");
    fs::write(&configuration, text)?;
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, include_str!("../../tests/interop/src/peers/shim.c"))?;
    run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-lm"))
        .context("the C compiler makes what ntpd-rs needs instead of a clock")?;
    let mut command = of_debian("usr/bin/ntp-daemon", Some(&library))?;
    command.arg("-c").arg(configuration);
    Ok(command)
}

/// A program of Debian 13 with its own libraries, on the server's core.
fn of_debian(program: &str, preload: Option<&Path>) -> Result<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(".lab").join("trixie/root");
    let loader =
        find(&root.join("usr/lib64"), "ld-linux").or_else(|_| find(&root.join("usr/lib"), "ld-linux"));
    let loader = loader.with_context(|| {
        format!("{program} is missing: cargo run -p truechimer-interop -- install unpacks it")
    })?;
    let libraries = find(&root.join("usr/lib"), "-linux-gnu")?;
    let mut command = on_server(&loader, &SERVER_CORES);
    command.arg("--library-path").arg(libraries);
    if let Some(library) = preload {
        command.arg("--preload").arg(library);
    }
    command.arg(root.join(program));
    Ok(command)
}

/// The first entry of a folder whose name contains `part`.
fn find(folder: &Path, part: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let found =
        entries.filter_map(Result::ok).find(|entry| entry.file_name().to_string_lossy().contains(part));
    Ok(found.with_context(|| format!("no {part} in {}", folder.display()))?.path())
}
