//! The machine's battery-backed clock: chronyd and our daemon on the same file, each with a clock of the test's, do and say
//! the same.

use super::PATIENCE;
use crate::install::Suite::Bookworm;
use crate::peers::chrony::{self, Chrony};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use chime_sys::clock;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("real-time-clock/is-followed-and-set-as-by-chronyd", as_chronyd),
    ("real-time-clock/has-the-time-at-the-start-as-for-chronyd", at_boot),
    ("real-time-clock/where-there-is-none-it-is-said-as-by-chronyd", none),
];

/// By how much the clocks are fast at first, seconds, and what they gain, s per s.
const FAST: f64 = 3.25;
const RATE: f64 = 5e-4;

/// A daemon and its clock.
struct Place {
    daemon: Chrony,
    clock: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn start(stage: &mut Stage, number: u8, name: &'static str, ours: bool) -> Result<Self> {
        let folder = stage.folder().join(name);
        fs::create_dir_all(folder.join("rtc"))?;
        let clock = folder.join("clock");
        fs::write(&clock, format!("{:.6} {FAST} {RATE}\n", clock::system_now().unix_seconds_f64()))?;
        let at = folder.display();
        let text = format!(
            "rtcfile {at}/rtc/file\nrtconutc\nlogdir {at}\nlog rtc\nlocal stratum 8\nport 0\ncmdport 0\n"
        );
        let node = stage.node(number)?;
        let daemon = chrony::with_real_time_clock(stage, &node, Bookworm, (name, &text), (&clock, ours))?;
        Ok(Self { daemon, clock, folder })
    }

    /// The fields of `rtcdata`: reference time, samples, runs, span, seconds fast, ppm.
    fn fields(&self) -> Result<Vec<f64>> {
        let text = self.daemon.chronyc(&["-c", "rtcdata"])?;
        let fields: Vec<f64> =
            text.trim().split(',').map(str::parse).collect::<Result<_, _>>().context(text)?;
        ensure!(fields.len() == 6, "{fields:?}");
        Ok(fields)
    }

    /// By how much the clock is fast, as the test knows it.
    fn truth(&self) -> Result<f64> {
        let text = fs::read_to_string(&self.clock)?;
        let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [at, fast, rate] = numbers[..] else { anyhow::bail!("{text}") };
        Ok(fast + rate * (clock::system_now().unix_seconds_f64() - at))
    }

    fn file(&self) -> Result<String> {
        fs::read_to_string(self.folder.join("rtc/file")).context("the file of the clock")
    }
}

fn as_chronyd(stage: &mut Stage) -> Result<()> {
    let places = [Place::start(stage, 1, "chronyd", false)?, Place::start(stage, 2, "chimed", true)?];
    for place in &places {
        stage.until("it is known", PATIENCE, || {
            let fields = place.fields()?;
            ensure!(fields[1] >= 2.0, "{fields:?}");
            // A busy machine sees a second late, which looks like a slower clock.
            ensure!((fields[4] - place.truth()?).abs() < 0.2, "{fields:?}");
            Ok(())
        })?;
    }
    both_say(&places, &["rtcdata"])?;
    both_say(&places, &["writertc"])?;
    ensure!(mask(&places[0].file()?) == mask(&places[1].file()?), "{:?}", places[1].file());
    for place in &places {
        fs::remove_dir_all(place.folder.join("rtc"))?;
    }
    both_say(&places, &["writertc"])?;
    for place in &places {
        fs::create_dir(place.folder.join("rtc"))?;
    }
    both_say(&places, &["trimrtc"])?;
    for (place, most) in places.iter().zip([1.1, 0.2]) {
        stage.until("it is set", PATIENCE, || {
            let (truth, fields) = (place.truth()?, place.fields()?);
            ensure!(truth.abs() < most && (fields[4] - truth).abs() < most, "{truth} {fields:?}");
            Ok(())
        })?;
        ensure!(place.daemon.log().contains("RTC wrong by 3.2"), "{}", place.daemon.log());
    }
    stage.until("it is written", PATIENCE, || {
        let fast: f64 = places[1].file()?.split(' ').nth(2).context("seconds")?.parse()?;
        ensure!(fast.abs() < 0.2, "{fast}");
        Ok(())
    })?;
    let [theirs, ours] = [&places[0], &places[1]].map(|place| first_lines(&place.folder.join("rtc.log")));
    let (theirs, ours) = (theirs?, ours?);
    ensure!(theirs == ours, "{ours:#?}\nof chronyd:\n{theirs:#?}");
    Ok(())
}

/// The same answer and exit status, whatever the numbers are.
fn both_say(places: &[Place; 2], words: &[&str]) -> Result<()> {
    let (theirs, ours) = (places[0].daemon.chronyc_says(words)?, places[1].daemon.chronyc_says(words)?);
    ensure!(
        theirs.0 == ours.0 && mask(&theirs.1) == mask(&ours.1),
        "{words:?}: {ours:?}, chronyd {theirs:?}"
    );
    Ok(())
}

/// A text with every number made the same, and white space squeezed.
fn mask(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        if word.parse::<f64>().is_ok() || word.contains(':') && word.len() == 8 { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The heading, and the form of the first two looks: digits are all the same.
fn first_lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let same = |letter: char| if letter.is_ascii_digit() { '0' } else { letter };
    let lines = text.lines().take(5).map(|line| {
        let line: String = line.chars().map(same).collect();
        // The slope after two looks may have any sign and any size.
        line.chars()
            .enumerate()
            .map(|(at, letter)| if (52..67).contains(&at) { ' ' } else { letter })
            .collect()
    });
    Ok(lines.collect())
}

/// A start of the machine: what is there, and what both then say.
struct Boot {
    name: &'static str,
    fast: f64,
    file: Option<&'static str>,
    /// When the drift file was written, seconds from now.
    drift: Option<u64>,
    said: &'static [&'static str],
}

const BOOTS: &[Boot] = &[
    Boot { name: "far", fast: 7.5, file: Some("1.75"), drift: None, said: &["System time set from RTC"] },
    Boot {
        name: "near",
        fast: 2.0,
        file: Some("1.75"),
        drift: None,
        said: &["System clock off from RTC by -0.", "seconds (slew)"],
    },
    Boot { name: "unknown", fast: 0.25, file: None, drift: None, said: &["No valid rtcfile coefficients"] },
    Boot {
        name: "past",
        fast: 0.25,
        file: Some("0.25"),
        drift: Some(3600),
        said: &[
            "RTC time before last driftfile modification (ignored)",
            "System time restored from driftfile",
        ],
    },
];

fn at_boot(stage: &mut Stage) -> Result<()> {
    let nodes = [stage.node(1)?, stage.node(2)?];
    let mut daemons = Vec::new();
    for boot in BOOTS {
        for (node, name, ours) in [(&nodes[0], "chronyd", false), (&nodes[1], "chimed", true)] {
            let name = format!("{name}-{}", boot.name);
            let folder = stage.folder().join(&name);
            fs::create_dir_all(&folder)?;
            let (at, now) = (folder.display(), clock::system_now());
            let clock = folder.join("clock");
            fs::write(&clock, format!("{:.6} {} 0\n", now.unix_seconds_f64(), boot.fast))?;
            if let Some(known) = boot.file {
                fs::write(folder.join("rtc"), format!("1 {} {known} 0.000\n", now.unix_seconds() - 1000))?;
            }
            if let Some(later) = boot.drift {
                let drift = folder.join("drift");
                fs::write(&drift, "0.0 1.0\n")?;
                File::options()
                    .write(true)
                    .open(&drift)?
                    .set_modified(SystemTime::now() + Duration::from_secs(later))?;
            }
            let text = format!("rtcfile {at}/rtc\nrtconutc\ndriftfile {at}/drift\nport 0\n");
            daemons.push((boot, chrony::at_boot(stage, node, Bookworm, (&name, &text), (&clock, ours))?));
        }
    }
    for (boot, daemon) in &daemons {
        stage.until(boot.name, PATIENCE, || {
            let log = daemon.log();
            ensure!(boot.said.iter().all(|said| log.contains(said)), "{}: {log}", boot.name);
            Ok(())
        })?;
    }
    Ok(())
}

fn none(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let text = "rtcfile /run/no-such-folder/rtc\nrtcdevice /dev/no-such-clock\nport 0\n";
    let theirs = chrony::of_text(stage, &one, Bookworm, ("chronyd", text), false)?;
    let ours = chrony::of_text(stage, &two, Bookworm, ("chimed", text), true)?;
    for words in ["rtcdata", "-c rtcdata", "writertc", "trimrtc"] {
        let words: Vec<&str> = words.split(' ').collect();
        for daemon in [&theirs, &ours] {
            stage.until("it answers", PATIENCE, || {
                let (succeeded, text) = daemon.chronyc_says(&words)?;
                ensure!(!succeeded && text == "513 RTC driver not running\n", "{words:?}: {text}");
                Ok(())
            })?;
        }
    }
    for daemon in [&theirs, &ours] {
        let log = daemon.log();
        let opening = "Could not open RTC device /dev/no-such-clock : No such file or directory";
        ensure!(log.contains(opening) && log.contains("RTC driver could not be initialised"), "{log}");
    }
    let conflict =
        stage.write("conflict.conf", "user root\nrtcfile /run/rtc\nrtcsync\npidfile /run/conflict.pid\n")?;
    for ours in [false, true] {
        let mut command = chrony::program(Bookworm, ours, None)?;
        command.args(["-x", "-d", "-f"]).arg(&conflict);
        let output = one.wrap(&command).output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let fatal = "Fatal error : rtcfile directive cannot be used with rtcsync";
        ensure!(output.status.code() == Some(1) && text.contains(fatal), "{:?}: {text}", output.status);
    }
    Ok(())
}
