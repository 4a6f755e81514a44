//! Reports of chronyc field by field: what does not depend on the moment is the same of our daemon as of chronyd.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::network::Node;
use crate::peers::ServerOf;
use crate::peers::chrony::{self, Chrony};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::process::Command;

pub(super) const SCENARIOS: &[super::Entry] = &[
    // The daemon of 4.3 has other algorithms, and another state for sources that have said nothing.
    ("chronyc/4.6-fields-as-of-chronyd", fields),
    ("chronyc/4.3-counts-who-establishes-keys", |stage| establishing(stage, Bookworm)),
    ("chronyc/4.6-counts-who-establishes-keys", |stage| establishing(stage, Trixie)),
];

/// Reports, and the fields of a line that are the same for both.
const REPORTS: &[(&str, &[usize])] = &[
    ("sources", &[0, 1, 2, 3, 4, 5]),
    ("sources -a", &[0, 1, 2, 3, 4, 5]),
    ("sourcestats", &[0]),
    ("authdata", &[0, 1, 2, 3, 4, 6, 7, 9]),
    ("authdata -a", &[0, 1, 2, 3, 4, 6, 7, 9]),
    ("selectdata", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 17]),
    ("selectdata -a", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 17]),
    ("tracking", &[0, 1, 2, 13]),
    ("activity", &[0, 1, 2, 3, 4]),
    ("serverstats", &[0, 1, 3, 4, 5, 6, 7, 8, 9, 10]),
    // Without our address, the times, the delays, and the counts.
    ("ntpdata", &[0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 22, 23, 24, 25, 26, 27, 28, 29]),
];

fn chosen(text: &str, fields: &[usize]) -> String {
    let row = |line: &str| {
        let all: Vec<&str> = line.split(',').collect();
        fields.iter().map(|at| all.get(*at).copied().unwrap_or("missing")).collect::<Vec<_>>().join(",")
    };
    text.lines().map(row).collect::<Vec<_>>().join("\n")
}

fn ask(daemon: &Chrony, options: &[&str], report: &str) -> Result<String> {
    let words: Vec<&str> = options.iter().copied().chain(report.split(' ')).collect();
    Ok(daemon.chronyc_says(&words)?.1)
}

fn fields(stage: &mut Stage) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let text = format!(
        "server server4.test iburst minpoll 1 maxpoll 1 nts prefer\n\
         server fd77::1 iburst minpoll 1 maxpoll 1 key 2 xleave noselect\n\
         server 192.0.2.1 offline\nserver 192.0.2.2 minpoll 2 maxpoll 2 trust require\nserver nowhere.invalid\n\
         nosystemcert\nntstrustedcerts {}\nallow\n",
        stage.pki().ca.display()
    );
    let ours = chrony::of_text(stage, &two, Trixie, ("ours", &text), true)?;
    let theirs = chrony::of_text(stage, &four, Trixie, ("theirs", &text), false)?;
    for daemon in [&ours, &theirs] {
        stage.until("two sources are known well", PATIENCE, || {
            let sources = daemon.chronyc(&["-c", "sources"])?;
            let full = sources.lines().filter(|line| line.split(',').nth(5) == Some("377")).count();
            ensure!(full == 2 && sources.contains("^,*"), "{sources}");
            Ok(())
        })?;
    }
    let mut different = Vec::new();
    for options in [&["-c"][..], &["-c", "-N"]] {
        for (report, places) in REPORTS {
            let [our, their] = [&ours, &theirs].map(|daemon| ask(daemon, options, report));
            let (our, their) = (chosen(&our?, places), chosen(&their?, places));
            if our != their {
                different.push(format!("{options:?} {report}:\n{our}\nof chronyd:\n{their}"));
            }
        }
    }
    ensure!(different.is_empty(), "{}", different.join("\n\n"));
    Ok(())
}

/// A connection that nothing is said on counts, too.
fn connect(node: &Node) -> Result<()> {
    let mut command = Command::new("bash");
    command.args(["-c", "exec 3<>/dev/tcp/127.0.0.1/4460"]);
    let output = node.wrap(&command).output().context("cannot connect")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn establishing(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (two, four) = (stage.node(2)?, stage.node(4)?);
    let identity = &stage.pki().by_name;
    let text = format!(
        "local\nallow\nntsservercert {}\nntsserverkey {}\n",
        identity.chain.display(),
        identity.key.display()
    );
    let ours = chrony::of_text(stage, &two, suite, ("ours", &text), true)?;
    let theirs = chrony::of_text(stage, &four, suite, ("theirs", &text), false)?;
    for (daemon, node) in [(&ours, &two), (&theirs, &four)] {
        stage.until("it answers", PATIENCE, || daemon.chronyc(&["tracking"]))?;
        for _ in 0..3 {
            connect(node)?;
        }
        for (options, counts) in [
            (&["-c", "clients", "-k"][..], "127.0.0.1,0,0,3,0"),
            (&["-c", "clients", "-k", "-r"], "127.0.0.1,0,0,3,0"),
            (&["-c", "clients", "-k"], "127.0.0.1,0,0,0,0"),
        ] {
            stage.until("the connections", PATIENCE, || {
                let clients = daemon.chronyc(options)?;
                ensure!(chosen(&clients, &[0, 1, 2, 6, 7]) == counts, "{options:?}: {clients}");
                Ok(())
            })?;
        }
    }
    Ok(())
}
