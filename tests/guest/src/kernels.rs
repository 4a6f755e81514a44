//! The kernels of Debian's releases, emulated: is the program of the fast path taken there, and does it answer?
//!
//! Everything happens inside, without a wire to the outside: our server in the first network namespace, our client in another.
//! Cards that are emulated and pairs of virtual ones join them. Programs of tests run there, too: those that show that answers
//! past the sockets are the sockets' own, octet by octet. What is done inside is in [`inside`].
//!
//! The machine is slow, some five times, and its clock is its own. No figure of time is judged.

pub(crate) mod inside;

use crate::build;
use crate::initramfs::Initramfs;
use crate::installation;
use crate::lab;
use crate::pki::{self, Pki};
use crate::report::Event;
use crate::scenario::{NET_BIND_SERVICE, judge_privileges, judge_sayings, print_progress};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use truechimer_test_support::debian::{Suite, Unpacked};

/// The emulator.
const EMULATOR: Unpacked = Unpacked {
    folder: "qemu",
    suite: Suite::Bookworm,
    packages: &["qemu-system-x86"],
    unpacked: &["lib", "qemu-system", "seabios", "zlib"],
};

/// The kernel of a release: that for machines in clouds, which is the same but for drivers of hardware.
const fn kernel(suite: Suite) -> Unpacked {
    let folder = match suite {
        Suite::Bookworm => "kernel-of-bookworm",
        Suite::Trixie => "kernel-of-trixie",
    };
    Unpacked { folder, suite, packages: &["linux-image-cloud-amd64"], unpacked: &["linux-image-6"] }
}

/// Modules for the network, each after those that it needs. What is not there is part of the kernel.
const MODULES: [&str; 9] = [
    "failover",
    "net_failover",
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_net",
    "veth",
];

/// Targets whose tests are run, and how their names begin: the program and its frames; sockets, stamps and privileges.
const TESTS: [(&str, &[&str]); 4] = [
    ("chimed", &["fast_path::", "--test-threads=1", "--nocapture"]),
    ("chime_sys", &["bpf::", "clock::", "udp::", "--test-threads=1", "--nocapture"]),
    ("frame_socket", &["--nocapture"]),
    ("privileges", &[]),
];

/// How the server's end of a connection is called, which `fast-path` it has, and in which way the program works there.
pub(crate) struct Link {
    server: &'static str,
    fast_path: &'static str,
    mode: &'static str,
    /// Whether plain requests come there. Answers by a program in veth's driver are lost, as the other end has no program.
    has_plain: bool,
}

/// All connections; the last is one of emulated cards, whose driver programs work in.
const LINKS: [Link; 3] = [
    Link { server: "pair0", fast_path: "xdp", mode: "generic", has_plain: true },
    Link { server: "pair1", fast_path: "xdp-driver", mode: "driver", has_plain: false },
    Link { server: "card0", fast_path: "xdp", mode: "driver", has_plain: true },
];

/// The server's addresses at a connection: two, as each of the client's sources needs one of its own.
fn addresses(number: usize) -> (String, String) {
    (format!("10.77.{number}.1"), format!("10.77.{number}.3"))
}

/// What the guest is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    /// How the kernel calls itself.
    release: String,
    /// Files of modules, in their order.
    modules: Vec<String>,
    /// Tests: programs with their arguments.
    tests: Vec<Vec<String>>,
}

/// What the line with the counts of answers ends with.
const PAST_SOCKETS: &str = "with NTS past the sockets";

const PLAN: &str = "/plan.json";
const CHIMED: &str = "/chimed";
const SERVER_CONFIGURATION: &str = "/etc/server.toml";
const CLIENT_CONFIGURATION: &str = "/etc/client.toml";
/// Where the server and the client keep their things.
const STATE: [&str; 2] = ["/run/server", "/run/client"];

/// The file system of a scenario's guest.
fn archive_file(folder: &Path) -> PathBuf {
    folder.join("initramfs")
}

/// Gets the emulator and the kernel, and makes the guest's file system; done before the scenario is shut in, as it takes a
/// network.
pub(crate) fn prepare(suite: Suite, chimed: &Path, folder: &Path) -> Result<()> {
    EMULATOR.ensure()?;
    kernel(suite).ensure()?;
    let release = release(suite)?;
    let mut archive = Initramfs::new(&["/proc", "/sys", "/run", "/tmp"]);
    archive.program("/init", &std::env::current_exe()?)?;
    archive.program(CHIMED, chimed)?;
    for tool in ["ip", "insmod"] {
        archive.program(&format!("/sbin/{tool}"), &installation::find(tool)?)?;
    }
    let tests = add_tests(&mut archive)?;
    let modules = add_modules(&mut archive, &kernel(suite).root())?;
    let addresses = (0..LINKS.len()).map(|number| addresses(number).0).collect();
    let pki = pki::make_for(addresses, folder)?;
    for file in [&pki.authority, &pki.chain, &pki.key] {
        archive.copy(&inside_path(file), file)?;
    }
    archive.file(SERVER_CONFIGURATION, server_configuration(&pki).as_bytes());
    archive.file(CLIENT_CONFIGURATION, client_configuration(&pki).as_bytes());
    archive.file("/etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
    archive.file("/etc/group", b"root:x:0:\nnogroup:x:65534:\n");
    archive.file("/etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n");
    archive.file(PLAN, &serde_json::to_vec_pretty(&Plan { release, modules, tests })?);
    fs::write(archive_file(folder), archive.finish())?;
    Ok(())
}

/// The name of the release, as its files have it.
fn release(suite: Suite) -> Result<String> {
    let file = entry_of(&kernel(suite).root().join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(name.trim_start_matches("vmlinuz-").to_owned())
}

fn add_tests(archive: &mut Initramfs) -> Result<Vec<Vec<String>>> {
    let programs = build::test_programs(&TESTS.map(|(target, _)| target))?;
    let mut commands = Vec::new();
    for (program, (_, arguments)) in programs.iter().zip(TESTS) {
        let path = format!("/tests/{}", program.target);
        archive.program(&path, &program.path)?;
        commands.push([path].into_iter().chain(arguments.iter().map(|word| (*word).to_owned())).collect());
    }
    Ok(commands)
}

fn add_modules(archive: &mut Initramfs, kernel: &Path) -> Result<Vec<String>> {
    let modules = entry_of(&kernel.join("lib/modules"), |_| true)
        .or_else(|_| entry_of(&kernel.join("usr/lib/modules"), |_| true))?;
    let mut paths = Vec::new();
    for name in MODULES {
        let plain = format!("{name}.ko");
        let packed = format!("{name}.ko.xz");
        if let Some(file) = find_below(&modules, &[&plain, &packed])? {
            let path = format!("/modules/{}", file.file_name().unwrap_or_default().to_string_lossy());
            archive.copy(&path, &file)?;
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The one entry of a folder whose name is as it should be.
fn entry_of(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found = paths.find(|path| path.file_name().is_some_and(|name| is_wanted(&name.to_string_lossy())));
    found.with_context(|| format!("nothing in {} is what is looked for", folder.display()))
}

/// A file with one of these names, however deep.
fn find_below(folder: &Path, names: &[&str]) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if let Some(found) = find_below(&path, names)? {
                return Ok(Some(found));
            }
        } else if names.iter().any(|name| path.ends_with(name)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Where a file of the scenario's is inside.
fn inside_path(file: &Path) -> String {
    format!("/etc/{}", file.file_name().unwrap_or_default().to_string_lossy())
}

fn server_configuration(pki: &Pki) -> String {
    let mut text = common_configuration(STATE[0]);
    for link in &LINKS {
        text += &format!(
            "\n[[server]]\nlisten = \"0.0.0.0:123\"\ninterface = \"{}\"\nfast-path = \"{}\"\n",
            link.server, link.fast_path
        );
    }
    text + &format!(
        "\n[local-clock]\nstratum = 1\n\n[[nts-ke-server]]\nlisten = \"0.0.0.0:4460\"\n\
         certificate-chain-path = \"{}\"\nprivate-key-path = \"{}\"\n",
        inside_path(&pki.chain),
        inside_path(&pki.key)
    )
}

fn client_configuration(pki: &Pki) -> String {
    let mut text = common_configuration(STATE[1]);
    let trust = format!("certificate-authority = \"{}\"\nsystem-cas = false\n", inside_path(&pki.authority));
    for (number, link) in LINKS.iter().enumerate() {
        let (with_nts, plain) = addresses(number);
        text += &(source("nts", &with_nts) + &trust);
        if link.has_plain {
            text += &source("server", &plain);
        }
    }
    text
}

fn source(mode: &str, address: &str) -> String {
    format!(
        "\n[[source]]\nmode = \"{mode}\"\naddress = \"{address}\"\ninitial-poll-interval = 0\n\
         poll-interval-limits = {{ min = 0, max = 0 }}\n"
    )
}

fn common_configuration(state: &str) -> String {
    format!(
        "user = \"nobody\"\n\n[state]\ndirectory = \"{state}\"\n\n[observability]\n\
         observation-path = \"{state}/control\"\nmetrics-exporter-listen = false\n"
    )
}

/// Boots the machine, and judges what it told. True when all is as expected.
pub(crate) fn run(suite: Suite, seconds: f64, folder: &Path) -> Result<bool> {
    let limit = Duration::from_secs_f64(seconds);
    let events = lab::hear(&mut machine(suite, folder)?, limit, folder, print_progress)?;
    let answers = events.iter().find_map(|heard| match &heard.event {
        Event::Log { line } if line.contains(PAST_SOCKETS) => Some(line.as_str()),
        _ => None,
    });
    println!("  Linux {}: {}", release(suite)?, answers.unwrap_or("no answers"));
    let mut complaints: Vec<String> = events
        .iter()
        .filter_map(|heard| match &heard.event {
            Event::Failed { message } => Some(message.clone()),
            Event::DaemonExited { status, clean: false } => Some(format!("a daemon ended badly: {status}")),
            Event::Privileges { .. } => judge_privileges(&heard.event, NET_BIND_SERVICE),
            _ => None,
        })
        .collect();
    let sayings =
        LINKS.map(|link| format!("a program in the kernel answers at {} ({})", link.server, link.mode));
    complaints.extend(judge_sayings(&events, &sayings.each_ref().map(String::as_str)));
    for complaint in &complaints {
        println!("  WRONG: {complaint}");
    }
    Ok(complaints.is_empty())
}

/// The emulator with two processors, and two cards at one cable.
fn machine(suite: Suite, folder: &Path) -> Result<Command> {
    let root = EMULATOR.root();
    let mut machine = EMULATOR.command("usr/bin/qemu-system-x86_64", None)?;
    let modules = entry_of(&root.join("usr/lib"), |name| name.ends_with("-linux-gnu"))?.join("qemu");
    machine.env("QEMU_MODULE_DIR", modules);
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        machine.arg("-L").arg(root.join(firmware));
    }
    machine.args(["-M", "pc", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "2", "-no-reboot"]);
    machine.args(["-nodefaults", "-display", "none", "-serial", "stdio"]);
    for card in ["0", "1"] {
        machine.arg("-netdev").arg(format!("hubport,hubid=0,id=end{card}"));
        machine.arg("-device").arg(format!("virtio-net-pci,netdev=end{card},romfile="));
    }
    let kernel = kernel(suite).root().join(format!("boot/vmlinuz-{}", release(suite)?));
    machine.arg("-kernel").arg(kernel).arg("-initrd").arg(archive_file(folder));
    machine.args(["-append", &format!("console=ttyS0 quiet panic=-1 tsc=reliable -- kernel {PLAN}")]);
    Ok(machine)
}
