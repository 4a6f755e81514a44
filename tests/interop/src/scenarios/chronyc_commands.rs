//! Every command of chronyc, right and wrong: it prints of our daemon what it prints of chronyd on the same file.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::peers::ServerOf;
use crate::peers::chrony::{self, Chrony};
use crate::stage::Stage;
use anyhow::{Result, ensure};
use std::fs;
use std::path::PathBuf;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("chronyc/4.3-every-command-as-for-chronyd", |stage| every_command(stage, Bookworm)),
    ("chronyc/4.6-every-command-as-for-chronyd", |stage| every_command(stage, Trixie)),
    ("chronyc/4.6-no-more-samples-than-maxsamples", most_samples),
    ("chronyc/habits-of-scripts-go-on", habits),
    ("chronyc/4.3-reload-sources-as-with-chronyd", |stage| reloads(stage, Bookworm)),
    ("chronyc/4.6-reload-sources-as-with-chronyd", |stage| reloads(stage, Trixie)),
];

/// One after the other, so that what one changes is there for the next.
const COMMANDS: &[&str] = &[
    "activity",
    "online",
    "offline",
    "online",
    "offline 192.0.2.1",
    "burst 1/2 192.0.2.1",
    "onoffline",
    "refresh",
    "reselect",
    "reselectdist 0.001",
    "reset sources",
    "reload sources",
    "add server 10.77.0.9 offline",
    "add server 10.77.0.9",
    "add server 10.77.0.8 minpoll 3 maxpoll 5 key 1 prefer offline",
    "add server 2001:db8::7 offline",
    "add peer 10.77.0.7 minpoll 2 maxpoll 6 offline",
    "delete 10.77.0.7",
    "add server",
    "add nonsense 10.77.0.6",
    "sourcename 10.77.0.9",
    "sourcename 192.0.2.1",
    "online 10.77.0.9",
    "offline 10.77.0.0/16",
    "offline 255.255.255.0/192.0.2.0",
    "burst 2/4 10.77.0.8",
    "minpoll 10.77.0.9 3",
    "minpoll 10.77.0.9 99",
    "minpoll 192.0.2.1 3",
    "minpoll",
    "maxpoll 10.77.0.9 8",
    "maxpoll 192.0.2.1 8",
    "maxdelay 10.77.0.9 0.5",
    "maxdelay 192.0.2.1 0.5",
    "maxdelayratio 10.77.0.9 2.5",
    "maxdelayratio 192.0.2.1 2.5",
    "maxdelaydevratio 10.77.0.9 2.5",
    "maxdelaydevratio 192.0.2.1 2.5",
    "minstratum 192.0.2.1 2",
    "minstratum 10.77.0.9 2",
    "polltarget 192.0.2.1 9",
    "polltarget 10.77.0.9 9",
    "offset 192.0.2.1 0.1",
    "offset 10.77.0.9 0.1",
    "selectopts 10.77.0.9 +prefer -trust",
    "selectopts 192.0.2.1 +prefer",
    "delete 10.77.0.9",
    "delete 10.77.0.9",
    "delete 10.77.0.8",
    "delete 2001:db8::7",
    "delete nonsense.invalid",
    "accheck 10.77.1.1",
    "accheck 192.0.2.1",
    "allow 192.0.2.0/24",
    "accheck 192.0.2.1",
    "deny 192.0.2.128/25",
    "accheck 192.0.2.200",
    "accheck 192.0.2.1",
    "allow all 192.0.2.0/24",
    "accheck 192.0.2.200",
    "deny all",
    "accheck 10.77.1.1",
    "allow all",
    "accheck 2001:db8::1",
    "allow 2001:db8::/32",
    "allow 10.0.0.0/33",
    "allow nonsense.invalid",
    "cmdaccheck 10.77.1.1",
    "cmdallow 10.0.0.0/8",
    "cmdaccheck 10.77.1.1",
    "cmddeny 10.0.0.0/9",
    "cmdaccheck 10.77.1.1",
    "cmdallow all 10.0.0.0/8",
    "cmdaccheck 10.77.1.1",
    "cmddeny all",
    "cmdaccheck 10.77.1.1",
    "local stratum 9",
    "local stratum 9 orphan",
    "local off",
    "local stratum 99",
    "makestep 0.1 3",
    "makestep 0.5 -1",
    "makestep",
    "maxupdateskew 100",
    "dump",
    "rekey",
    "cyclelogs",
    "rtcdata",
    "writertc",
    "trimrtc",
    "smoothing",
    "smoothtime reset",
    "smoothtime activate",
    "smoothtime nonsense",
    "manual list",
    "manual delete 0",
    "settime 12:00:00",
    "manual on",
    "manual reset",
    "manual nonsense",
    "manual list",
    "manual off",
    "settime 12:00:00",
    "dfreq 1",
    "doffset 0.1",
    "frobnicate",
];

/// Reports of which the form is the same whatever the times in them are.
const REPORTS: &[&str] = &[
    "sources -v",
    "sourcestats -v",
    "authdata -v",
    "selectdata -v",
    "tracking",
    "ntpdata",
    "serverstats",
    "clients",
    "clients -r",
];

fn text_of(stage: &Stage) -> String {
    format!(
        "server server.test iburst minpoll 4 maxpoll 4 nts\nnosystemcert\nntstrustedcerts {}\nallow 10.77.0.0/16\n",
        stage.pki().ca.display()
    )
}

fn every_command(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let text = text_of(stage);
    let ours = chrony::of_text(stage, &two, suite, ("ours", &text), true)?;
    let theirs = chrony::of_text(stage, &four, suite, ("theirs", &text), false)?;
    for daemon in [&ours, &theirs] {
        stage.until("it is selected", PATIENCE, || {
            let view = daemon.view()?;
            ensure!(view.is_selected && view.reach.count_ones() >= 4, "{view:?}");
            Ok(())
        })?;
    }
    for report in REPORTS {
        let (our, their) = both(&ours, &theirs, report)?;
        ensure!(our.0 == their.0 && form(&our.1) == form(&their.1), "{report}:\n{}\n{}", our.1, their.1);
    }
    let mut different = Vec::new();
    for command in COMMANDS {
        let (our, their) = both(&ours, &theirs, command)?;
        if our != their {
            different.push(format!("{command}: {our:?}, of chronyd {their:?}"));
        }
    }
    ensure!(different.is_empty(), "{}", different.join("\n"));
    stops(stage, ours)
}

fn stops(stage: &Stage, mut daemon: Chrony) -> Result<()> {
    let (succeeded, text) = daemon.chronyc_says(&["shutdown"])?;
    ensure!(succeeded && text == "200 OK\n", "shutdown: {text}");
    stage.until("the end", PATIENCE, || {
        ensure!(daemon.check_alive().is_err(), "it runs on");
        Ok(())
    })
}

type Said = (bool, String);

fn both(ours: &Chrony, theirs: &Chrony, command: &str) -> Result<(Said, Said)> {
    let words: Vec<&str> = command.split(' ').collect();
    Ok((ours.chronyc_says(&words)?, theirs.chronyc_says(&words)?))
}

/// The words of a report without its numbers, units and signs.
fn form(text: &str) -> Vec<String> {
    const STATES: [&str; 6] = ["fast", "slow", "Normal", "Hardware", "Kernel", "Daemon"];
    let is_number = |word: &&str| word.chars().any(|letter| letter.is_ascii_digit());
    let words = text.split_whitespace().filter(|word| !STATES.contains(word) && !is_number(word));
    words
        .map(|word| word.chars().filter(|letter| letter.is_ascii_alphabetic()).collect::<String>())
        .filter(|word| word.len() > 2)
        .collect()
}

/// By the file, for one and for all, and by a command: as many samples as chronyd keeps once there are enough.
fn most_samples(stage: &mut Stage) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::default())?;
    let poll = "minpoll -2 maxpoll -2";
    let text = format!("maxsamples 7\nserver 10.77.0.1 {poll}\nserver fd77::1 {poll} maxsamples 4\nlocal\n");
    let ours = chrony::of_text(stage, &two, Trixie, ("ours", &text), true)?;
    let theirs = chrony::of_text(stage, &four, Trixie, ("theirs", &text), false)?;
    let samples = |daemon: &Chrony| -> Result<Vec<String>> {
        let text = daemon.chronyc(&["-c", "sourcestats"])?;
        Ok(text.lines().filter_map(|line| line.split(',').nth(1).map(str::to_owned)).collect())
    };
    for daemon in [&ours, &theirs] {
        stage.until("as many as there can be", PATIENCE, || {
            let counts = samples(daemon)?;
            ensure!(counts == ["7", "4"], "{counts:?}");
            Ok(())
        })?;
        daemon.chronyc(&["delete", "fd77::1"])?;
        daemon.chronyc(&["add", "server", "fd77::1", "minpoll", "-2", "maxpoll", "-2", "maxsamples", "5"])?;
        stage.until("those of the new one", PATIENCE, || {
            let counts = samples(daemon)?;
            ensure!(counts == ["7", "5"], "{counts:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A daemon, the file of its sources, and its main file.
struct Reloading {
    daemon: Chrony,
    sources: PathBuf,
    main: PathBuf,
}

impl Reloading {
    fn start(stage: &mut Stage, host: u8, suite: Suite, name: &str, ours: bool) -> Result<Self> {
        let node = stage.node(host)?;
        let folder = stage.folder().join(format!("{name}-sources"));
        fs::create_dir_all(&folder)?;
        let sources = folder.join("x.sources");
        fs::write(&sources, "server 192.0.2.2 offline\nserver 192.0.2.3 offline\n")?;
        let text = format!("server 192.0.2.1 offline\nsourcedir {}\n", folder.display());
        let daemon = chrony::of_text(stage, &node, suite, (name, &text), ours)?;
        stage.until("it answers", PATIENCE, || daemon.chronyc(&["tracking"]))?;
        Ok(Self { daemon, sources, main: stage.folder().join(format!("{name}.conf")) })
    }

    /// The sources after the commands, and what these said.
    fn after(&self, sources: &str, commands: &[&str]) -> Result<String> {
        fs::write(&self.sources, sources)?;
        let mut said = String::new();
        for command in commands.iter().chain(&["-c sources"]) {
            said += &self.daemon.chronyc_says(&command.split(' ').collect::<Vec<_>>())?.1;
        }
        Ok(said)
    }
}

/// Files of sources, what they say then, and commands.
const RELOADS: &[(&str, &[&str])] = &[
    ("server 192.0.2.2 offline\nserver 192.0.2.3 offline\n", &["reload sources"]),
    (
        "server 192.0.2.2 offline\nserver 192.0.2.4 offline\nserver 192.0.2.5 offline\nwrong\n",
        &["reload sources"],
    ),
    // What was deleted stays so, whether it stands in the main file or is as it was in the other.
    (
        "server 192.0.2.2 offline\nserver 192.0.2.4 offline\nserver 192.0.2.5 offline\n",
        &["delete 192.0.2.1", "delete 192.0.2.4", "reload sources"],
    ),
    // What was changed goes with its line, and what was added stays.
    (
        "server 192.0.2.2 offline\n",
        &["minpoll 192.0.2.5 4", "add server 192.0.2.8 offline", "reload sources"],
    ),
    ("server 192.0.2.6 offline maxpoll 7\nserver 192.0.2.9 offline", &["reload sources"]),
    ("", &["reload sources"]),
];

/// The main file is not read again: not even a mistake in it matters.
fn reloads(stage: &mut Stage, suite: Suite) -> Result<()> {
    let ours = Reloading::start(stage, 2, suite, "ours", true)?;
    let theirs = Reloading::start(stage, 4, suite, "theirs", false)?;
    for one in [&ours, &theirs] {
        fs::write(
            &one.main,
            fs::read_to_string(&one.main)?.replace("192.0.2.1 ", "192.0.2.7 ") + "nonsense\n",
        )?;
    }
    for (sources, commands) in RELOADS {
        let (our, their) = (ours.after(sources, commands)?, theirs.after(sources, commands)?);
        ensure!(our == their, "{sources}{commands:?}:\n{our}\nof chronyd:\n{their}");
    }
    Ok(())
}

/// The monitoring script of a guide: offset, mode of authentication, cookies; and the wait of a service.
fn habits(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let text = text_of(stage);
    let ours = chrony::of_text(stage, &two, Trixie, ("ours", &text), true)?;
    stage.until("it is selected", PATIENCE, || {
        ensure!(ours.view()?.is_selected, "not yet");
        Ok(())
    })?;
    let (succeeded, text) = ours.chronyc_says(&["waitsync", "10", "0.5", "0", "1"])?;
    ensure!(succeeded && text.contains("try: 1, refid:"), "waitsync: {text}");
    // grep "System time" | awk '{print $4}'
    let tracking = ours.chronyc(&["tracking"])?;
    let line = tracking.lines().find(|line| line.contains("System time")).unwrap_or_default();
    let offset = line.split_whitespace().nth(3).and_then(|word| word.parse::<f64>().ok());
    ensure!(offset.is_some_and(|offset| offset.abs() < 1.0), "{tracking}");
    // authdata | awk 'NR > 2 {print $2, $9}'
    let authentication = ours.chronyc(&["-N", "authdata"])?;
    let line = authentication.lines().nth(2).unwrap_or_default();
    let fields: Vec<&str> = line.split_whitespace().collect();
    ensure!(fields.first() == Some(&"server.test") && fields.get(1) == Some(&"NTS"), "{authentication}");
    ensure!(fields.get(8).is_some_and(|cookies| ["7", "8"].contains(cookies)), "{authentication}");
    Ok(())
}
