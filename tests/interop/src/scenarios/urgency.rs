//! Priority and memory: what the kernel gives our daemon is what it gives chronyd on the same file.

use super::PATIENCE;
use crate::install::Suite::Trixie;
use crate::peers::chrony::{self, Chrony};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("urgency/priority-and-memory-are-those-of-chronyd", as_chronyd),
    ("urgency/a-refusal-is-told-and-the-daemon-goes-on-as-chronyd", refused),
];

const WISHES: &str = "local\nsched_priority 7\nlock_all\n";
/// What a daemon loses that may not have them.
const PRIVILEGES: &str = "-sys_nice,-sys_resource,-ipc_lock";
/// What each says when it is refused: chronyd is silent about the priority, as it looks for a sign that never comes.
const OURS: &[&str] = &["pthread_setschedparam() failed : ", "mlockall() failed : "];
const THEIRS: &[&str] = &["setrlimit() failed"];

/// Real-time priority, policy, and whether memory is locked.
fn rank(daemon: &Chrony) -> Result<(u32, u32, bool)> {
    let stat = daemon.of_process("stat")?;
    // Counted behind the name, which may have blanks: it ends the second field.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse().ok());
    let (priority, policy) = (field(40).context("rt_priority")?, field(41).context("policy")?);
    let status = daemon.of_process("status")?;
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).context("VmLck")?;
    Ok((priority, policy, locked.trim() != "0 kB"))
}

fn answering(stage: &Stage, daemon: &Chrony) -> Result<()> {
    stage.until("it answers", PATIENCE, || daemon.chronyc(&["tracking"])).map(drop)
}

fn as_chronyd(stage: &mut Stage) -> Result<()> {
    let (two, four) = (stage.node(2)?, stage.node(4)?);
    for (name, text) in [("ordinary", "local\n"), ("urgent", WISHES)] {
        let ours = chrony::of_text(stage, &two, Trixie, (&format!("{name}-ours"), text), true)?;
        let theirs = chrony::of_text(stage, &four, Trixie, (&format!("{name}-theirs"), text), false)?;
        answering(stage, &ours)?;
        answering(stage, &theirs)?;
        let (our, their) = (rank(&ours)?, rank(&theirs)?);
        // Without root both are refused by the kernel, and it is the same again.
        ensure!(our == their, "{name}: {our:?}, of chronyd {their:?}");
        ensure!(name == "urgent" || our == (0, 0, false), "{name}: {our:?} without being asked");
        ours.stop()?;
        theirs.stop()?;
    }
    Ok(())
}

fn refused(stage: &mut Stage) -> Result<()> {
    let (two, four) = (stage.node(2)?, stage.node(4)?);
    for (node, name, ours) in [(&two, "ours", true), (&four, "theirs", false)] {
        let daemon = chrony::without(stage, node, Trixie, (name, WISHES), (PRIVILEGES, ours))?;
        answering(stage, &daemon)?;
        ensure!(rank(&daemon)? == (0, 0, false), "{name}: {:?}", rank(&daemon)?);
        let log = daemon.log();
        for line in if ours { OURS } else { THEIRS } {
            ensure!(log.contains(line), "{name} has no line {line}: {log}");
        }
        daemon.stop()?;
    }
    Ok(())
}
