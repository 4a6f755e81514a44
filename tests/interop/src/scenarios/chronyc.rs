//! Unmodified chronyc against our daemon: it prints what `chime` prints.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::Node;
use crate::peers::chimed::{self, Chimed};
use crate::peers::{ServerOf, chrony};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("chronyc/4.3-shows-what-chime-shows", |stage| shows(stage, Bookworm)),
    ("chronyc/4.6-shows-what-chime-shows", |stage| shows(stage, Trixie)),
    ("chronyc/4.3-commands-over-the-unix-socket-only", |stage| commands(stage, Bookworm)),
    ("chronyc/4.6-commands-over-the-unix-socket-only", |stage| commands(stage, Trixie)),
    ("chronyc/4.6-other-reports-are-opened-over-udp", open_reports),
];

/// Reports whose text depends on nothing but the state.
const REPORTS: [&str; 7] =
    ["tracking", "sources", "sourcestats", "authdata", "selectdata", "ntpdata", "activity"];

/// An age or a slew may go on by a digit between two questions, and so there are several.
const REPORT_PATIENCE: Duration = Duration::from_secs(8);

/// A daemon that follows one NTS server, on a socket for chronyc and on UDP.
struct Scene {
    daemon: Chimed,
    node: Node,
    socket: PathBuf,
    suite: Suite,
    _server: chrony::Chrony,
}

fn scene(stage: &mut Stage, suite: Suite) -> Result<Scene> {
    scene_with(stage, suite, "")
}

/// `observability`: more lines of that table.
fn scene_with(stage: &mut Stage, suite: Suite, observability: &str) -> Result<Scene> {
    let (one, node) = (stage.node(1)?, stage.node(2)?);
    let server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let folder = stage.folder().join("chrony");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    let socket = folder.join("chronyd.sock");
    let sources = format!(
        "chrony-command-path = \"{}\"\nchrony-command-listen = [\"127.0.0.1:323\", \"[::1]:323\"]\n{observability}\n\n\
         [[source]]\nmode = \"nts\"\naddress = \"server.test\"\ncertificate-authority = \"{}\"\nsystem-cas = false\n\
         poll-interval-limits = {{ min = 4, max = 4 }}\n",
        socket.display(),
        stage.pki().ca.display()
    );
    let daemon = chimed::client_of_sources(stage, &node, &sources)?;
    let scene = Scene { daemon, node, socket, suite, _server: server };
    // The initial burst is over: nothing changes for a while but ages.
    stage.until("four samples", PATIENCE, || {
        let view = scene.daemon.view()?;
        ensure!(view.is_selected && view.reach.count_ones() >= 4, "{view:?}");
        Ok(())
    })?;
    Ok(scene)
}

impl Scene {
    /// Exit status and output of chronyc.
    fn chronyc(&self, host: &Path, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = self.suite.command("usr/bin/chronyc", None)?;
        command.arg("-h").arg(host).args(arguments);
        let output = self.node.wrap(&command).output().context("cannot run chronyc")?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    fn says(&self, arguments: &[&str], status: &str) -> Result<()> {
        let (_, text) = self.chronyc(&self.socket, arguments)?;
        ensure!(text.trim() == status, "chronyc {arguments:?}: {text}, wanted {status}");
        Ok(())
    }

    fn refuses_over_udp(&self, commands: &[&str]) -> Result<()> {
        for command in commands {
            let (succeeded, text) = self.chronyc(Path::new("127.0.0.1"), &[*command])?;
            ensure!(!succeeded && text.ends_with("501 Not authorised\n"), "{command} over UDP: {text}");
        }
        Ok(())
    }
}

fn shows(stage: &mut Stage, suite: Suite) -> Result<()> {
    let scene = scene(stage, suite)?;
    for report in REPORTS {
        for form in [&["-N"][..], &["-c", "-N"]] {
            stage.until(report, REPORT_PATIENCE, || {
                let ours = scene.daemon.report_as(report, form.contains(&"-c"))?;
                let (_, theirs) = scene.chronyc(&scene.socket, &[form, &[report]].concat())?;
                ensure!(
                    same(report, &ours, &theirs, suite == Bookworm),
                    "chime:\n{ours}\nchronyc:\n{theirs}"
                );
                Ok(())
            })?;
        }
    }
    for (report, word) in [("serverstats", "NTP packets received"), ("clients", "Hostname")] {
        let (succeeded, text) = scene.chronyc(&scene.socket, &[report])?;
        ensure!(succeeded && text.contains(word), "{report}: {text}");
    }
    for host in ["127.0.0.1", "::1"] {
        let (succeeded, text) = scene.chronyc(Path::new(host), &["-N", "sources"])?;
        ensure!(succeeded && text.contains("^* server.test"), "over {host}: {text}");
        let (succeeded, text) = scene.chronyc(Path::new(host), &["waitsync", "1"])?;
        ensure!(succeeded, "over {host}: {text}");
    }
    Ok(())
}

/// Whether both say the same. Where the clock itself is shown, dispersion grows between the two questions, and instants
/// have more digits than the snapshot. chronyc 4.3 (`is_old`) ends `ntpdata` earlier.
fn same(report: &str, ours: &str, theirs: &str, is_old: bool) -> bool {
    if report != "tracking" && report != "ntpdata" {
        return ours == theirs;
    }
    let words = |text: &str| text.trim_end().split([',', '\n', ' ']).map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (words(ours), words(theirs));
    let near = |one: &str, other: &str| {
        let numbers = one.parse::<f64>().ok().zip(other.parse::<f64>().ok());
        one == other || numbers.is_some_and(|(one, other)| (one - other).abs() <= 1e-6)
    };
    let may_lack = if is_old && report == "ntpdata" { usize::MAX } else { 0 };
    ours.len().checked_sub(theirs.len()).is_some_and(|lacking| lacking <= may_lack)
        && theirs.len() > 10
        && ours.iter().zip(&theirs).all(|(one, other)| near(one, other))
}

fn commands(stage: &mut Stage, suite: Suite) -> Result<()> {
    let scene = scene(stage, suite)?;
    let activity = |wanted: &str| {
        stage.until(wanted, PATIENCE, || {
            let (_, text) = scene.chronyc(&scene.socket, &["activity"])?;
            ensure!(text.contains(wanted), "{text}");
            Ok(())
        })
    };
    scene.says(&["offline"], "200 OK")?;
    activity("1 sources offline")?;
    scene.says(&["online"], "200 OK")?;
    activity("1 sources online")?;
    for command in [&["burst", "1/2"][..], &["refresh"], &["reselect"], &["reset", "sources"]] {
        scene.says(command, "200 OK")?;
    }
    scene.says(&["offline", "192.0.2.1"], "503 No such source")?;
    scene.says(&["makestep"], "500 Failure")?;
    scene.says(&["rtcdata"], "513 RTC driver not running")?;
    scene.says(&["smoothing"], "505 Facility not enabled in daemon")?;
    scene.says(&["allow", "192.0.2.0/24"], "500 Failure")?; // There is no server.
    scene.says(&["accheck", "192.0.2.1"], "209 Access denied")?;
    scene.refuses_over_udp(&["offline", "makestep", "serverstats", "clients"])
}

fn open_reports(stage: &mut Stage) -> Result<()> {
    let scene = scene_with(
        stage,
        Trixie,
        "chrony-command-open = [\"authdata\", \"clients\", \"serverstats\", \"sourcename\", \"sources\"]",
    )?;
    for (report, word) in [
        (&["-N", "authdata"][..], "server.test"),
        (&["-N", "sources"], "^* server.test"),
        (&["serverstats"], "NTP packets received"),
        (&["clients"], "Hostname"),
    ] {
        let (succeeded, text) = scene.chronyc(Path::new("127.0.0.1"), report)?;
        ensure!(succeeded && text.contains(word), "{report:?} over UDP: {text}");
    }
    scene.refuses_over_udp(&["tracking", "activity", "makestep"])?;
    // The Unix socket is as it was.
    let (succeeded, text) = scene.chronyc(&scene.socket, &["tracking"])?;
    ensure!(succeeded, "over the socket: {text}");
    Ok(())
}
