//! The scenarios, and one of them run: inside namespaces of its own, with everything that belongs to it.

use crate::forger::{self, Genuine, HIDDEN_SERVER};
use crate::lab::{self, GUEST_ADDRESS, HOST_ADDRESS, Heard, PROBE, TAPS};
use crate::leaping::{self, Leaping};
use crate::report::{Deed, Event, Meddling, Plan, Settled};
use crate::server::{Daemon, INSIDE_FOLDER, Programs, Server};
use crate::turncoat::{self, Lie};
use crate::{kernels, pki, probe, rivals, server};
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::atomic::Ordering;
use truechimer_test_support::debian::Suite;

/// A day, in seconds.
const DAY: f64 = 86_400.0;

/// A guest with a wrong clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    daemon: Daemon,
    /// Guest minus truth at the start, in seconds.
    wrong_by: f64,
    forger: Option<Genuine>,
    /// Instead of the NTS server one without NTS, that lies for a while.
    lie: Option<Lie>,
    /// Instead of the NTS server one without NTS, in a world that passes a leap second.
    leaping: Option<Leaping>,
    /// The frequency that the kernel's clock was left with, and that the drift file claims; in ppm.
    wrong_frequency_ppm: Option<f64>,
    /// More of the configuration of our daemon.
    more: &'static str,
    /// What others do to the clock.
    deeds: &'static [Deed],
    /// The daemon is killed while it slews.
    is_killed: bool,
    expected: Expected,
}

/// Ours against a right server, with nothing strange about it.
const PLAIN: Scenario = Scenario {
    name: "",
    about: "",
    daemon: Daemon::Chimed,
    wrong_by: 0.0,
    forger: None,
    lie: None,
    leaping: None,
    wrong_frequency_ppm: None,
    more: "",
    deeds: &[],
    is_killed: false,
    expected: PROMISED,
};

/// What the guest's clock must do.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Come within `error_max` seconds of the truth before `within` seconds are over, and stay there.
    Settles { error_max: f64, within: f64 },
    /// Do as it is told: every check holds.
    Obeys { seconds: f64 },
    /// Be within `error_max` seconds of the truth in each of these spans of time, in seconds after the daemon's start; and
    /// the daemon says each of these things.
    Endures { error_max: f64, right: &'static [(f64, f64)], says: &'static [&'static str] },
    /// Be within `error_max` seconds of the truth before a leap second and after it, from `settle` seconds on until `seconds`
    /// are over; and the daemon says this, and does not take it for the work of others.
    Leaps { error_max: f64, settle: f64, seconds: f64, says: &'static str },
    /// Be kept at least as well as by chronyd in another guest, at the same time.
    Rivals { settle: f64, seconds: f64 },
    /// Not move for `seconds`, but for the drift of its oscillator.
    Stays { seconds: f64 },
    /// Serve on the way around the sockets on the kernel of a release, within `seconds`.
    Serves { on: Suite, seconds: f64 },
}

/// What the issue promises: 100 µs in under 60 s.
const PROMISED: Expected = Expected::Settles { error_max: 100e-6, within: 60.0 };

/// How long the clock must stay right to be believed, in seconds.
const SETTLED_SECONDS: f64 = 10.0;

/// How far a clock that nobody steers may drift, in seconds per second.
const DRIFT_MAX: f64 = 200e-6;

/// Noise of a comparison on a loaded machine, in seconds.
const COMPARISON_NOISE: f64 = 2e-3;

/// All scenarios.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "clock-driver",
        about: "no daemon, but our clock driver: steps, frequencies up to ten per cent, the kernel's status",
        daemon: Daemon::None,
        wrong_by: -0.5,
        expected: Expected::Obeys { seconds: 60.0 },
        ..PLAIN
    },
    Scenario {
        name: "day-behind",
        about: "a clock that is a day behind, certificates that are not yet valid for it",
        wrong_by: -DAY,
        ..PLAIN
    },
    Scenario {
        name: "day-ahead",
        about: "a clock that is a day ahead, certificates that have expired for it",
        wrong_by: DAY,
        ..PLAIN
    },
    Scenario {
        name: "forger",
        about: "a man in the middle who holds back every true answer and forges others: the clock never moves",
        wrong_by: 0.25,
        forger: Some(Genuine::Withheld),
        expected: Expected::Stays { seconds: 45.0 },
        ..PLAIN
    },
    Scenario {
        name: "forger-first",
        about: "a man in the middle whose forgeries come before every true answer: the true ones count",
        wrong_by: -30.0,
        forger: Some(Genuine::AfterForgeries),
        // The forger adds delays of its own to one direction.
        expected: Expected::Settles { error_max: 5e-3, within: 60.0 },
        ..PLAIN
    },
    Scenario {
        name: "reference",
        about: "chronyd in our place, to check the harness (only when named; TRUECHIMER_CHRONYD is its path)",
        daemon: Daemon::Chronyd,
        wrong_by: -DAY,
        ..PLAIN
    },
    Scenario {
        name: "meddler",
        about: "another program steps the clock by an hour and retunes it: noticed, said and repaired; Linux 6.1 takes the \
                program of the server's fast path",
        more: "[[server]]\nlisten = \"0.0.0.0:123\"\nfast-path = \"xdp\"\n",
        deeds: &[
            Deed { at: 15.0, what: Meddling::Step(3600.25) },
            Deed { at: 30.0, what: Meddling::Step(-0.004) },
            Deed { at: 45.0, what: Meddling::Frequency(2_000.0) },
        ],
        expected: Expected::Endures {
            error_max: 1e-3,
            // Steps are noticed at once; a pace when the daemon next wakes up, at the latest for its next request.
            right: &[(8.0, 14.5), (19.0, 29.5), (34.0, 44.5), (75.0, 85.0)],
            says: &[
                "a program in the kernel answers at vec0 (generic)",
                // Debian's kernel for guests is without.
                "requests with NTS cannot be handed over at vec0 (AF_XDP)",
                "another program stepped the system clock by +3600.2",
                "another program stepped the system clock by -0.00",
                "another program changed the pace of the system clock",
            ],
        },
        ..PLAIN
    },
    Scenario {
        name: "five-per-cent",
        about: "a kernel clock left five per cent fast, and a drift file that says it has to be",
        wrong_by: -3.0,
        wrong_frequency_ppm: Some(50_000.0),
        expected: Expected::Settles { error_max: 1e-3, within: 75.0 },
        ..PLAIN
    },
    Scenario {
        name: "killed",
        about: "a daemon killed in the middle of a slew: the kernel slews on, until `chimed --end-slew` ends it",
        wrong_by: -1.5,
        wrong_frequency_ppm: Some(30.0),
        more: "[synchronization.algorithm]\nstep-threshold = \"inf\"\n",
        is_killed: true,
        expected: Expected::Obeys { seconds: 60.0 },
        ..PLAIN
    },
    Scenario {
        name: "turncoat",
        about: "the only server goes wrong by hours for half a minute: not followed, kept, and followed again",
        lie: Some(Lie { from: 20.0, until: 50.0, by: 10_000.0 }),
        expected: Expected::Endures {
            error_max: 2e-3,
            right: &[(8.0, 85.0)],
            says: &["refused. The clock is not steered", "corrections are within the thresholds again"],
        },
        ..PLAIN
    },
    Scenario {
        name: "leap-system",
        about: "a leap second known from a list, made by the kernel",
        wrong_by: -0.3,
        leaping: Some(Leaping { mode: "system", listed: true, until_right: 0.0 }),
        expected: leaps("the kernel has made it"),
        ..PLAIN
    },
    Scenario {
        name: "leap-step",
        about: "a leap second announced by the server, made by a step of ours",
        wrong_by: -0.3,
        leaping: Some(Leaping { mode: "step", listed: false, until_right: 2.0 }),
        expected: leaps(": the clock is stepped"),
        ..PLAIN
    },
    Scenario {
        name: "leap-slew",
        about: "a leap second known from a list, slewed",
        wrong_by: -0.3,
        leaping: Some(Leaping { mode: "slew", listed: true, until_right: 16.0 }),
        expected: leaps("the clock is slewed"),
        ..PLAIN
    },
    Scenario {
        name: "rivals",
        about: "chronyd and ours in two guests at the same time, with the same server: ours is not further off",
        expected: Expected::Rivals { settle: 40.0, seconds: 110.0 },
        ..PLAIN
    },
    Scenario {
        name: "debian-12",
        about: "Debian 12's kernel (Linux 6.1) in an emulator: it takes the program of the server's fast path, which answers",
        expected: Expected::Serves { on: Suite::Bookworm, seconds: 180.0 },
        ..PLAIN
    },
    Scenario {
        name: "debian-13",
        about: "the same with Debian 13's kernel (Linux 6.12)",
        expected: Expected::Serves { on: Suite::Trixie, seconds: 180.0 },
        ..PLAIN
    },
];

/// What is expected around a leap second.
const fn leaps(says: &'static str) -> Expected {
    Expected::Leaps { error_max: 2e-3, settle: 10.0, seconds: 50.0, says }
}

impl Scenario {
    /// Whether the scenario runs when none is named.
    pub(crate) fn is_default(&self) -> bool {
        self.daemon != Daemon::Chronyd
    }

    /// Whether a failure may be the machine's, when something else keeps it busy: what measures is tried again. What must
    /// never happen is not: once is too often.
    pub(crate) fn may_try_again(&self) -> bool {
        !matches!(self.expected, Expected::Stays { .. })
    }

    /// The release whose kernel the guest has, when that is one of Debian's own.
    pub(crate) fn kernel(&self) -> Option<Suite> {
        match self.expected {
            Expected::Serves { on, .. } => Some(on),
            _ => None,
        }
    }

    /// The longest that the guest is watched, in seconds.
    pub(crate) fn watch_seconds(&self) -> f64 {
        match self.expected {
            Expected::Settles { within, .. } => within + SETTLED_SECONDS,
            Expected::Endures { right, .. } => right.iter().map(|span| span.1).fold(0.0, f64::max),
            Expected::Stays { seconds }
            | Expected::Obeys { seconds }
            | Expected::Leaps { seconds, .. }
            | Expected::Serves { seconds, .. }
            | Expected::Rivals { seconds, .. } => seconds,
        }
    }

    pub(crate) fn plan(&self, daemon: Vec<String>) -> Plan {
        let settled = match self.expected {
            Expected::Settles { error_max, .. } => Some(Settled { error_max, seconds: SETTLED_SECONDS }),
            _ => None,
        };
        let state = Path::new(INSIDE_FOLDER).join("state");
        let drift = server::drift_path(Path::new(INSIDE_FOLDER));
        let drift = self.wrong_frequency_ppm.map(|ppm| (drift, server::drift_file(ppm)));
        let list = self.leaping.map(|_| (leap_list(), leaping::list()));
        Plan {
            wrong_by_seconds: self.wrong_by,
            daemon,
            watch_seconds: self.watch_seconds(),
            settled,
            folders: vec![INSIDE_FOLDER.into(), state],
            files: drift.into_iter().chain(list).collect(),
            address: GUEST_ADDRESS,
            frequency_ppm: self.wrong_frequency_ppm,
            deeds: self.deeds.to_vec(),
            is_killed: self.is_killed,
        }
    }
}

/// Where the guest has its list of leap seconds.
fn leap_list() -> std::path::PathBuf {
    Path::new(INSIDE_FOLDER).join("leap-seconds.list")
}

/// Finds a scenario by its name.
pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// Runs one scenario, in the namespaces of this process, which must be fresh ones. True when all is as expected.
pub(crate) fn run(name: &str, folder: &Path) -> Result<bool> {
    let scenario = find(name).with_context(|| format!("there is no scenario {name}"))?;
    if let Expected::Serves { on, seconds } = scenario.expected {
        return kernels::run(on, seconds, folder);
    }
    let programs = Programs::from_environment()?;
    if let Expected::Rivals { settle, .. } = scenario.expected {
        return rivals::run(scenario, settle, &programs, folder);
    }
    lab::set_up_network()?;
    let outside = scenario.leaping.map(leaping::start).transpose()?;
    if outside.is_none() {
        probe::serve(PROBE)?;
    }
    let pki = pki::make(folder)?;
    let server_address = if scenario.forger.is_some() { HIDDEN_SERVER } else { HOST_ADDRESS };
    let is_plain = scenario.lie.is_some() || outside.is_some();
    let kind = if is_plain { Daemon::None } else { scenario.daemon };
    let _server = Server::start(kind, &programs, server_address, &pki, folder)?;
    scenario.lie.map(turncoat::start).transpose()?;
    let deeds = scenario.forger.map(forger::start).transpose()?;
    let leaping = scenario.leaping.map(|leaping| leaping::configuration(leaping, &leap_list()));
    let more = scenario.more.to_owned() + &leaping.unwrap_or_default();
    let pki = (!is_plain).then_some(&pki);
    let plan = scenario.plan(server::inside(scenario.daemon, &programs, (pki, &more), folder)?);
    let events = lab::run_guest(&plan, TAPS[0], folder, print_progress)?;
    let mut complaints = judge(scenario, &events);
    if let (Some(outside), Some(leaping)) = (outside, scenario.leaping) {
        complaints.extend(outside.judge(leaping));
    }
    if let Some(deeds) = deeds {
        let (requests, forgeries) =
            (deeds.requests.load(Ordering::Relaxed), deeds.forgeries.load(Ordering::Relaxed));
        println!("  forged {forgeries} answers to {requests} requests");
        if forgeries < 100 {
            complaints.push(format!("only {forgeries} answers were forged: nothing was shown"));
        }
    }
    for complaint in &complaints {
        println!("  WRONG: {complaint}");
    }
    Ok(complaints.is_empty())
}

/// What is wrong with what the guest told; nothing when all is as expected. Prints the figures.
fn judge(scenario: &Scenario, events: &[Heard]) -> Vec<String> {
    let mut complaints: Vec<String> = events
        .iter()
        .filter_map(|heard| match &heard.event {
            Event::Failed { message } => Some(message.clone()),
            Event::DaemonExited { status, clean: false } => Some(format!("the daemon ended badly: {status}")),
            Event::Privileges { .. } if scenario.daemon == Daemon::Chimed => {
                judge_privileges(&heard.event, SYS_TIME_AND_NET_BIND_SERVICE)
            }
            Event::Check { what, expected, measured, tolerance } => {
                // Not-a-number is no pass.
                let holds = (measured - expected).abs() <= *tolerance;
                (!holds).then(|| format!("{what}: {measured} instead of {expected} ± {tolerance}"))
            }
            _ => None,
        })
        .collect();
    let errors = offsets(events);
    let synchronized = events.iter().rev().find_map(|heard| match heard.event {
        Event::Kernel { synchronized, .. } => Some(synchronized),
        _ => None,
    });
    match scenario.expected {
        Expected::Settles { error_max, within } => {
            complaints.extend(judge_settling(&errors, error_max, within));
            if synchronized != Some(true) {
                complaints.push("the kernel does not say that its clock is synchronised".to_owned());
            }
        }
        Expected::Endures { error_max, right, says } => {
            complaints.extend(judge_spans(&errors, error_max, right));
            complaints.extend(judge_sayings(events, says));
        }
        Expected::Leaps { error_max, settle, seconds, says } => {
            complaints.extend(judge_leap(scenario, events, error_max, (settle, seconds)));
            complaints.extend(judge_sayings(events, &[says]));
        }
        // Judged by themselves: there are two clocks, or none that is looked at.
        Expected::Rivals { .. } | Expected::Serves { .. } => {}
        Expected::Obeys { .. } => {
            let checks = events.iter().filter(|heard| matches!(heard.event, Event::Check { .. })).count();
            println!("  checked: {checks} things that the clock was told to do");
            if checks == 0 {
                complaints.push("nothing was checked".to_owned());
            }
        }
        Expected::Stays { .. } => {
            complaints.extend(judge_staying(&errors, scenario.wrong_by));
            if synchronized != Some(false) {
                complaints.push("the kernel says that its clock is synchronised".to_owned());
            }
        }
    }
    complaints
}

/// What is wrong around a leap second. The daemon was started a moment after the guest first asked for the time.
fn judge_leap(
    scenario: &Scenario,
    events: &[Heard],
    error_max: f64,
    (settle, seconds): (f64, f64),
) -> Vec<String> {
    /// From the first question to the daemon's start, on a loaded machine, in seconds.
    const START_MAX: f64 = 6.0;
    let leap_at = leaping::LEAPS_AFTER as f64;
    let until_right = scenario.leaping.map_or(0.0, |leaping| leaping.until_right).max(2.0);
    let errors: Vec<(f64, f64)> = offsets(events);
    let spans = [(settle, leap_at - START_MAX), (leap_at + until_right, seconds)];
    let mut complaints = judge_spans(&errors, error_max, &spans);
    let blamed =
        |heard: &&Heard| matches!(&heard.event, Event::Log { line } if line.contains("another program"));
    if let Some(heard) = events.iter().find(blamed) {
        complaints.push(format!("others are blamed: {:?}", heard.event));
    }
    let tai = events.iter().rev().find_map(|heard| match heard.event {
        Event::Kernel { tai_offset, .. } => Some(tai_offset),
        _ => None,
    });
    if scenario.leaping.is_some_and(|leaping| leaping.listed) && tai != Some(leaping::TAI_OFFSET) {
        complaints.push(format!("the kernel says that TAI minus UTC is {tai:?}"));
    }
    complaints
}

/// When the clocks were compared, in seconds after the daemon's start, and what the guest's was off.
fn offsets(events: &[Heard]) -> Vec<(f64, f64)> {
    let offset = |heard: &Heard| match heard.event {
        Event::Offset { error, .. } => Some((heard.seconds, error)),
        _ => None,
    };
    events.iter().filter_map(offset).collect()
}

/// Capabilities of a daemon that steers.
const SYS_TIME_AND_NET_BIND_SERVICE: u64 = 1 << 25 | NET_BIND_SERVICE;

/// That of one that serves only.
pub(crate) const NET_BIND_SERVICE: u64 = 1 << 10;

/// Our daemon runs as somebody who may do what it has to and nothing else.
pub(crate) fn judge_privileges(told: &Event, allowed: u64) -> Option<String> {
    match told {
        Event::Privileges { user: Some(1..), effective, bounding, no_new: true }
            if *effective == Some(allowed) && *bounding == Some(allowed) =>
        {
            None
        }
        other => Some(format!("the daemon kept privileges: {other:?}")),
    }
}

fn judge_settling(errors: &[(f64, f64)], error_max: f64, within: f64) -> Option<String> {
    let bad = errors.iter().rposition(|(_, error)| error.abs() > error_max);
    let settled = errors.get(bad.map_or(0, |bad| bad + 1));
    let Some((seconds, _)) = settled else {
        let last = errors.last().map_or(f64::NAN, |(_, error)| *error);
        return Some(format!("not within {error_max:e} s of the truth at the end, but off by {last:+.6} s"));
    };
    let after: Vec<f64> =
        errors.iter().filter(|(at, _)| at >= seconds).map(|(_, error)| error.abs()).collect();
    let worst = after.iter().copied().fold(0.0, f64::max);
    let square = after.iter().map(|error| error * error).sum::<f64>() / after.len().max(1) as f64;
    println!(
        "  within {:.0} µs for good after {seconds:.1} s; then at most {:.1} µs off, {:.1} µs RMS",
        error_max * 1e6,
        worst * 1e6,
        square.sqrt() * 1e6
    );
    (*seconds >= within).then(|| format!("that took {seconds:.1} s, longer than {within} s"))
}

/// What is wrong in the spans in which the clock has to be right.
fn judge_spans(errors: &[(f64, f64)], error_max: f64, right: &[(f64, f64)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (from, until) in right {
        let within: Vec<f64> = errors
            .iter()
            .filter(|(at, _)| (*from..=*until).contains(at))
            .map(|(_, error)| error.abs())
            .collect();
        let worst = within.iter().copied().fold(0.0, f64::max);
        println!("  from {from} s to {until} s at most {:.1} µs off", worst * 1e6);
        if within.len() < 3 {
            complaints.push(format!("only {} comparisons from {from} s to {until} s", within.len()));
        }
        if worst > error_max {
            complaints.push(format!("off by {worst:.6} s between {from} s and {until} s"));
        }
    }
    complaints
}

/// What the daemon should have said and did not.
pub(crate) fn judge_sayings(events: &[Heard], says: &[&str]) -> Vec<String> {
    let said = |words: &str| {
        events.iter().any(|heard| matches!(&heard.event, Event::Log { line } if line.contains(words)))
    };
    says.iter().filter(|words| !said(words)).map(|words| format!("the daemon did not say: {words}")).collect()
}

fn judge_staying(errors: &[(f64, f64)], wrong_by: f64) -> Option<String> {
    let Some((last, _)) = errors.last() else {
        return Some("the clocks were never compared".to_owned());
    };
    let worst = errors.iter().map(|(_, error)| (error - wrong_by).abs()).fold(0.0, f64::max);
    println!("  moved at most {:.3} ms in {last:.0} s", worst * 1e3);
    let allowed = COMPARISON_NOISE + DRIFT_MAX * last;
    (worst > allowed).then(|| format!("the clock moved by {worst:.6} s"))
}

/// Shows the daemon's lines as they come; the comparisons are summed up at the end.
pub(crate) fn print_progress(heard: &Heard) {
    match &heard.event {
        Event::Log { line } => println!("  {:7.3}  | {line}", heard.seconds),
        Event::Offset { error, round_trip } => {
            println!("  {:7.3}  off by {error:+.6} s (round trip {:.0} µs)", heard.seconds, round_trip * 1e6);
        }
        Event::Check { what, expected, measured, .. } => {
            println!("  {:7.3}  {what}: {measured:.9} (expected {expected})", heard.seconds);
        }
        other => println!("  {:7.3}  {other:?}", heard.seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_settled_when_it_stays_right() {
        let late = [(1.0, -5.0), (2.0, 1e-5), (61.0, 2e-4), (62.0, 1e-6)];
        assert!(judge_settling(&late, 1e-4, 60.0).is_some_and(|complaint| complaint.contains("62.0")));
        let good = [(1.0, -5.0), (2.0, 1e-4), (3.0, -1e-4)];
        assert_eq!(judge_settling(&good, 1e-4, 60.0), None);
        assert!(judge_settling(&good[..1], 1e-4, 60.0).is_some());
        assert!(judge_settling(&[], 1e-4, 60.0).is_some());
    }

    #[test]
    fn a_clock_that_endures_is_right_in_each_span_and_its_daemon_says_why() {
        let errors: Vec<(f64, f64)> =
            (0..20).map(|second| (f64::from(second), if second == 10 { 0.5 } else { 1e-5 })).collect();
        assert!(judge_spans(&errors, 1e-3, &[(0.0, 9.0), (11.0, 19.0)]).is_empty());
        assert_eq!(judge_spans(&errors, 1e-3, &[(0.0, 9.0), (9.5, 19.0)]).len(), 1);
        assert_eq!(judge_spans(&errors, 1e-3, &[(30.0, 40.0)]).len(), 1, "nothing was compared");
        let events =
            [Heard { seconds: 1.0, event: Event::Log { line: "WARN it was stepped by others".to_owned() } }];
        assert!(judge_sayings(&events, &["stepped by others"]).is_empty());
        assert_eq!(judge_sayings(&events, &["stepped", "retuned"]).len(), 1);
    }

    #[test]
    fn a_clock_stays_but_for_its_drift() {
        assert_eq!(judge_staying(&[(1.0, 0.25), (40.0, 0.252)], 0.25), None);
        assert!(judge_staying(&[(1.0, 0.25), (2.0, 0.24), (3.0, 0.25)], 0.25).is_some());
        assert!(judge_staying(&[], 0.25).is_some());
    }
}
