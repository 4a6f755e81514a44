//! `chime demo`: authenticated time, end to end, on loopback and without installing anything.
//!
//! A throw-away certificate authority, an NTS server and a client (both watch the clock and leave it alone) in
//! child processes of this very binary, and between the two a relay that forges an answer at the end.

mod certificates;
mod daemons;
mod relay;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chime_control::text::Layout;
use chime_control::{Form, Report, Snapshot};
use chime_engine::DiscardReason;

use crate::exit::Exit;
use crate::terminal::{Terminal, print};
use certificates::Certificates;
use daemons::{Daemons, Ports};
use relay::{FORGED_SECONDS, Relay};

/// The reach register after eight answers.
const REACH_FULL: u8 = 0xff;
/// Longest wait for authenticated time, which takes about two seconds.
const SYNCHRONISE_MAX: Duration = Duration::from_secs(7);
/// Longest wait for the forged answer to be refused: the client asks several times each second.
const REFUSE_MAX: Duration = Duration::from_secs(2);
/// Pause between two looks at the daemons.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs the daemon in place of the demo: the hidden command that the demo starts its children with.
pub(crate) fn daemon(options: &chimed::cli::Options) -> ExitCode {
    chimed::run(options)
}

/// Runs the demo.
pub(crate) fn demo(terminal: Terminal) -> Result<Exit> {
    let folder =
        tempfile::Builder::new().prefix("chime-demo-").tempdir().context("no temporary directory")?;
    let story = Story { terminal };
    let certificates = Certificates::make(folder.path()).context("the certificates cannot be made")?;
    story.tell("1", "A certificate authority that lives for a day, and a certificate for 127.0.0.1", "")?;

    let ports = Ports::find().context("no free ports on loopback")?;
    let relay = Relay::start(ports.ntp).context("no relay")?;
    let daemons = Daemons::start(folder.path(), &certificates, ports, relay.port())?;
    let place = format!(
        "key establishment on 127.0.0.1:{}, NTP on 127.0.0.1:{}, as an ordinary user",
        ports.key_establishment, ports.ntp
    );
    story.tell("2", "An NTS server, and a client that trusts only this authority", &place)?;

    let snapshot = authenticated_time(&daemons)?;
    story.tell("3", "The client has authenticated time", "")?;
    for report in [Report::Authdata, Report::Sources, Report::Tracking] {
        story.report("client", report, &snapshot)?;
    }
    story.report("server", Report::Serverstats, &daemons.server.snapshot()?)?;

    let text = format!("a man in the middle moves the next answer's time by {FORGED_SECONDS} s");
    story.tell("4", "Now somebody forges", &text)?;
    let (refused, snapshot) = forged_answer_is_refused(&daemons, &relay, &snapshot)?;
    story.refusal(refused, &snapshot)?;
    daemons.stop();
    Ok(Exit::Success)
}

/// Waits until the client is synchronised by answers that all verified, eight of them in a row: the first would do,
/// but the reports show more then.
fn authenticated_time(daemons: &Daemons) -> Result<Snapshot> {
    let started = Instant::now();
    loop {
        daemons.still_run()?;
        // The sockets of the children appear when they are ready.
        if let Ok(snapshot) = daemons.client.snapshot() {
            let tracking = &snapshot.engine.tracking;
            let steady = snapshot.engine.sources.iter().all(|source| source.reach == REACH_FULL);
            if tracking.synchronized && tracking.authenticated && steady {
                return Ok(snapshot);
            }
        }
        if started.elapsed() > SYNCHRONISE_MAX {
            bail!("no authenticated time within {} s\n{}", SYNCHRONISE_MAX.as_secs(), daemons.last_words());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Lets the relay forge one answer, and waits until the client has counted it as refused.
fn forged_answer_is_refused(
    daemons: &Daemons,
    relay: &Relay,
    before: &Snapshot,
) -> Result<(DiscardReason, Snapshot)> {
    let known = discards(before);
    relay.forge_next();
    let started = Instant::now();
    loop {
        daemons.still_run()?;
        let snapshot = daemons.client.snapshot()?;
        let news = discards(&snapshot).into_iter().find(|counted| !known.contains(counted));
        if let (true, Some((reason, _))) = (relay.has_forged(), news) {
            return Ok((reason, snapshot));
        }
        if started.elapsed() > REFUSE_MAX {
            bail!("the forged answer was not refused\n{}", daemons.last_words());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn discards(snapshot: &Snapshot) -> Vec<(DiscardReason, u64)> {
    let sources = snapshot.engine.sources.iter().flat_map(|source| &source.discards);
    sources.map(|discard| (discard.reason, discard.count)).collect()
}

/// What the reader sees.
struct Story {
    terminal: Terminal,
}

impl Story {
    fn tell(&self, step: &str, what: &str, more: &str) -> Result<()> {
        let paint = self.terminal.paint;
        let more = if more.is_empty() { String::new() } else { format!("   {}\n", paint.faint(more)) };
        let gap = if step == "4" { "\n" } else { "" };
        print(&format!("{gap}{} {}\n{more}", paint.good(&format!("{step}.")), paint.strong(what)))?;
        Ok(())
    }

    fn report(&self, whose: &str, report: Report, snapshot: &Snapshot) -> Result<()> {
        let paint = self.terminal.paint;
        let layout = Layout { paint, ..Layout::default() };
        let text = report.show(snapshot, Form::Text, layout, None);
        print(&format!("\n{}\n{text}", paint.faint(&format!("$ chime {}   ({whose})", report.name()))))?;
        Ok(())
    }

    fn refusal(&self, reason: DiscardReason, snapshot: &Snapshot) -> Result<()> {
        let paint = self.terminal.paint;
        let offset = snapshot.engine.tracking.system_offset_seconds;
        print(&format!(
            "   {}: {reason}\n   The client's clock is where it was: offset {offset:+.9} s.\n\n{}\n",
            paint.good("refused"),
            paint.strong("Nothing was installed, and no clock was touched."),
        ))?;
        Ok(())
    }
}

/// A path as a TOML string.
fn toml_path(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}
