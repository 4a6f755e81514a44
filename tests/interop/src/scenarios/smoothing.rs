//! Smoothing of the served time: chronyd and our daemon on the same file, after the same corrections by hand.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::v4;
use crate::peers::chrony::{self, Chrony};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("smoothing/4.3-as-of-chronyd", |stage| as_chronyd(stage, Bookworm)),
    ("smoothing/4.6-as-of-chronyd", |stage| as_chronyd(stage, Trixie)),
];

/// The clock only seems to obey, so it had better be slewed by next to nothing while this lasts.
const TEXT: &str = "local stratum 8\nallow\nmaxslewrate 1\nsmoothtime 400 10\n";

/// How far fields of `-c smoothing` may be apart: seconds, ppm, ppm per second, seconds, seconds. Between the two corrections,
/// and between these and the reports, both daemons have had a little time, in which the rate changes by 10 ppm a second.
const TOLERANCES: [f64; 5] = [1e-3, 30.0, 1e-6, 3.0, 3.0];

fn as_chronyd(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (one, two, three) = (stage.node(1)?, stage.node(2)?, stage.node(3)?);
    let theirs = chrony::steering(stage, &one, suite, ("chronyd", TEXT), false)?;
    let ours = chrony::steering(stage, &two, suite, ("chimed", TEXT), true)?;
    for daemon in [&theirs, &ours] {
        stage.until("it answers", PATIENCE, || daemon.chronyc(&["tracking"]))?;
    }
    let both = |words: &str| -> Result<()> {
        let words: Vec<&str> = words.split(' ').collect();
        let (their, our) = (theirs.chronyc_says(&words)?, ours.chronyc_says(&words)?);
        ensure!(their == our, "{words:?}: {our:?}, of chronyd {their:?}");
        Ok(())
    };
    both("smoothing")?;
    both("doffset 0.05")?;
    both("smoothing")?;
    both("smoothtime activate")?;
    both("smoothtime activate")?;
    both("smoothtime nonsense")?;
    both("-c smoothtime")?;
    both("doffset 0.1")?;
    stage.until("the same course", PATIENCE, || same_course(&theirs, &ours, 0.1))?;
    both("doffset -0.3")?;
    stage.until("the same course", PATIENCE, || same_course(&theirs, &ours, -0.2))?;
    both("dfreq 20")?;
    stage.until("the same course", PATIENCE, || same_course(&theirs, &ours, -0.2))?;
    for number in [1, 2] {
        // Nobody sees what was corrected: the first of the four was before the smoothing began.
        let off = seen(stage, &three, number)?;
        ensure!((off + 0.05).abs() < 0.02, "a client of {number} sees {off}");
    }
    both("smoothtime reset")?;
    stage.until("it is reset", PATIENCE, || same_course(&theirs, &ours, 0.0))?;
    for number in [1, 2] {
        let off = seen(stage, &three, number)?;
        ensure!((off - 0.15).abs() < 0.02, "a client of {number} sees {off} after the reset");
    }
    let words = "Activated time smoothing";
    ensure!(ours.log().contains(words) && ours.log().contains("Reset time smoothing"), "{}", ours.log());
    Ok(())
}

/// Both report the same, near `offset`.
fn same_course(theirs: &Chrony, ours: &Chrony, offset: f64) -> Result<()> {
    let fields = |daemon: &Chrony| -> Result<Vec<f64>> {
        let text = daemon.chronyc(&["-c", "smoothing"])?;
        let numbers = text.trim().strip_prefix("Yes,,").with_context(|| text.clone())?;
        numbers.split(',').map(|field| Ok(field.parse()?)).collect()
    };
    let (theirs, ours) = (fields(theirs)?, fields(ours)?);
    ensure!(theirs.len() == TOLERANCES.len() && ours.len() == TOLERANCES.len(), "{theirs:?} {ours:?}");
    let near =
        theirs.iter().zip(&ours).zip(TOLERANCES).all(|((their, our), most)| (their - our).abs() < most);
    ensure!(near && (ours[0] - offset).abs() < 2e-3, "{ours:?}, of chronyd {theirs:?}, wanted {offset}");
    Ok(())
}

/// By how much a client's clock seems to be behind that of a server; all have the machine's clock.
fn seen(stage: &Stage, node: &crate::network::Node, server: u8) -> Result<f64> {
    let mut command = chrony::program(Trixie, false, None)?;
    command.args(["-Q", "-t", "5", &format!("server {} iburst maxsamples 1", v4(server))]);
    command.args(["user root", "pidfile /"]);
    stage.until("an answer", PATIENCE, || {
        let output = node.wrap(&command).output().context("cannot run chronyd")?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let after = text.split("System clock wrong by ").nth(1).with_context(|| text.clone())?;
        Ok(after.split(' ').next().context("a number")?.parse()?)
    })
}
