//! What happens in a scenario file, and when.

use super::file::NetworkTable;
use super::span::Span;
use crate::{Action, Adversary, Attack, Manner, Path};
use chime_wire::KissCode;
use serde::Deserialize;

/// One `[[events]]`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventTable {
    /// When it begins.
    at: Span,
    /// When it ends, for what can end.
    lasting: Option<Span>,
    /// It comes again after so much time, until the end.
    every: Option<Span>,
    /// What happens.
    #[serde(rename = "do")]
    deed: Deed,
}

/// What can happen.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
enum Deed {
    /// All links are down.
    NetworkDown,
    /// The way to and from all servers is another one.
    Network(Box<NetworkTable>),
    /// The way to and from one server is another one.
    Route { server: usize, network: Box<NetworkTable> },
    /// An address translator forgets us.
    NatRebinding,
    /// Somebody on the way does these things.
    Adversary(Vec<AttackName>),
    /// Another process steps the clock by so many seconds.
    StepClock {
        by: f64,
        #[serde(default)]
        noticed: bool,
    },
    /// Another process sets the clock's frequency, s per s.
    RetuneClock(f64),
    /// A leap second: `insert` or `delete`.
    LeapSecond(LeapName),
    /// The oscillator runs faster by so many s per s.
    FrequencyStep(f64),
    /// The machine sleeps, and its battery-backed clock errs.
    Suspend {
        seconds: Span,
        #[serde(default)]
        rtc_error: f64,
    },
    /// The daemon is killed, or ends in order, and starts again with its files.
    Restart {
        after: Span,
        #[serde(default)]
        orderly: bool,
    },
    /// The daemon may not set the clock.
    NotPermitted,
    /// Nothing can be written.
    DiskFull,
    /// The server does not answer.
    ServerDown(usize),
    /// The server restarts and has lost its cookie keys.
    LoseKeys(usize),
    /// The server makes a new cookie key and keeps the old ones.
    RotateKeys(usize),
    /// Key establishment with the server fails.
    KeFails(usize),
    /// The server has another address, and its name too.
    Readdress(usize),
    /// The server answers one request a minute.
    RateLimit(usize),
    /// The server answers with DENY.
    Deny(usize),
    /// The server's clock is wrong by so many seconds more.
    ServerOffset { server: usize, by: f64 },
}

/// What kind of leap second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LeapName {
    Insert,
    Delete,
}

/// What somebody on the way can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AttackName {
    /// Answers before the server does, an hour off.
    Forge,
    /// The same with fields that look authenticated.
    ForgeAuthenticator,
    /// Sends earlier answers again.
    Replay,
    /// Sends random octets.
    Garbage,
    /// Removes the authentication and shifts the time.
    Strip,
    /// Shifts the time.
    Alter,
    /// Cuts answers off.
    Truncate,
    /// Sends the kiss code DENY.
    KissDeny,
    /// Sends the kiss code RATE.
    KissRate,
    /// Sends an NTS NAK.
    KissNtsn,
}

impl AttackName {
    const fn attack(self) -> Attack {
        let offset = 3600.0;
        match self {
            Self::Forge => Attack::Forge { offset },
            Self::ForgeAuthenticator => Attack::ForgeAuthenticator { offset },
            Self::Replay => Attack::Replay,
            Self::Garbage => Attack::Garbage,
            Self::Strip => Attack::Strip { offset },
            Self::Alter => Attack::Alter { offset },
            Self::Truncate => Attack::Truncate,
            Self::KissDeny => Attack::Kiss(KissCode::DENY),
            Self::KissRate => Attack::Kiss(KissCode::RATE),
            Self::KissNtsn => Attack::Kiss(KissCode::NTSN),
        }
    }
}

/// What was before, to come back when an event ends.
pub(super) struct Usual<'a> {
    /// The path of each server.
    pub(super) paths: &'a [Path],
    /// Whether all servers have the same.
    pub(super) path: Path,
    /// The adversary.
    pub(super) adversary: Option<&'a Adversary>,
    /// When the world ends, seconds.
    pub(super) duration: f64,
}

/// What a kernel lets its clock's frequency be set to, s per s.
const RETUNE_MAX: f64 = 0.1;

/// The most times that an event is repeated.
const REPETITIONS_MAX: usize = 100_000;

impl EventTable {
    /// The actions of this event in their time.
    ///
    /// # Errors
    /// What is impossible about it.
    pub(super) fn actions(&self, usual: &Usual<'_>) -> Result<Vec<(f64, Action)>, String> {
        let Span(at) = self.at;
        let lasting = self.lasting.map(|Span(lasting)| lasting);
        let every = self.every.map(|Span(every)| every);
        if !(0.0..=1e8).contains(&at) || lasting.is_some_and(|lasting| lasting <= 0.0) {
            return Err("at: 0 to 1e8 s; lasting: above 0".to_owned());
        }
        if every.is_some_and(|every| every < 1.0 || every < lasting.unwrap_or(0.0)) {
            return Err("every: not less than 1 s and than lasting".to_owned());
        }
        let (begin, end) = self.deed.actions(usual)?;
        if end.is_empty() && lasting.is_some() {
            return Err("this does not last: leave lasting away".to_owned());
        }
        let times = (0..REPETITIONS_MAX).map_while(|turn| {
            let time = at + every.unwrap_or(0.0) * turn as f64;
            (turn == 0 || (every.is_some() && time < usual.duration)).then_some(time)
        });
        let mut actions = Vec::new();
        for time in times {
            actions.extend(begin.iter().map(|(delay, action)| (time + delay, action.clone())));
            if let Some(lasting) = lasting {
                actions.extend(end.iter().map(|action| (time + lasting, action.clone())));
            }
        }
        Ok(actions)
    }
}

/// Actions with their delays, and those that undo them.
type BeginAndEnd = (Vec<(f64, Action)>, Vec<Action>);

impl Deed {
    /// How it begins (actions with their delays), and how it ends.
    fn actions(&self, usual: &Usual<'_>) -> Result<BeginAndEnd, String> {
        let server = |server: usize| {
            let count = usual.paths.len();
            if server < count {
                Ok(server)
            } else {
                Err(format!("there is no server {server}: they count from 0 to {}", count.saturating_sub(1)))
            }
        };
        let now = |action: Action| vec![(0.0, action)];
        Ok(match self {
            Self::NetworkDown => (now(Action::Network(false)), vec![Action::Network(true)]),
            Self::Network(table) => {
                let own = (0..).zip(usual.paths).map(|(server, path)| Action::Path(server, *path));
                (now(Action::Paths(table.path(usual.path)?)), own.collect())
            }
            Self::Route { server: at, network } => {
                let before = usual.paths[server(*at)?];
                (now(Action::Path(*at, network.path(before)?)), vec![Action::Path(*at, before)])
            }
            Self::NatRebinding => (now(Action::NatRebinding), vec![]),
            Self::Adversary(attacks) => {
                let adversary = Adversary::new(attacks.iter().map(|name| name.attack()).collect());
                (now(Action::Adversary(Some(adversary))), vec![Action::Adversary(usual.adversary.cloned())])
            }
            Self::StepClock { by, noticed } => (now(Action::StepClock(*by, *noticed)), vec![]),
            Self::RetuneClock(ratio) if ratio.abs() <= RETUNE_MAX => {
                (now(Action::RetuneClock(*ratio)), vec![])
            }
            Self::RetuneClock(_) => return Err(format!("retune-clock: at most {RETUNE_MAX} s per s")),
            Self::LeapSecond(name) => (now(Action::LeapSecond(*name == LeapName::Insert)), vec![]),
            Self::FrequencyStep(by) => {
                (now(Action::ChangeOscillator(*by)), vec![Action::ChangeOscillator(-by)])
            }
            Self::Suspend { seconds, rtc_error } => (now(Action::Suspend(seconds.0, *rtc_error)), vec![]),
            Self::Restart { after, orderly } if after.0 > 0.0 => {
                let end = if *orderly { Action::Stop } else { Action::Kill };
                (vec![(0.0, end), (after.0, Action::Start)], vec![])
            }
            Self::Restart { .. } => return Err("restart: after is above 0".to_owned()),
            Self::NotPermitted => (now(Action::Permit(false)), vec![Action::Permit(true)]),
            Self::DiskFull => (now(Action::DiskFull(true)), vec![Action::DiskFull(false)]),
            Self::ServerDown(at) => (now(Action::Up(server(*at)?, false)), vec![Action::Up(*at, true)]),
            Self::LoseKeys(at) => (now(Action::LoseKeys(server(*at)?)), vec![]),
            Self::RotateKeys(at) => (now(Action::RotateKeys(server(*at)?)), vec![]),
            Self::KeFails(at) => (
                now(Action::EstablishmentFails(server(*at)?, true)),
                vec![Action::EstablishmentFails(*at, false)],
            ),
            Self::Readdress(at) => (now(Action::Readdress(server(*at)?)), vec![]),
            Self::RateLimit(at) => (
                now(Action::Manner(server(*at)?, Manner::RateLimit)),
                vec![Action::Manner(*at, Manner::Open)],
            ),
            Self::Deny(at) => {
                (now(Action::Manner(server(*at)?, Manner::Deny)), vec![Action::Manner(*at, Manner::Open)])
            }
            Self::ServerOffset { server: at, by } => {
                (now(Action::ServerError(server(*at)?, *by)), vec![Action::ServerError(*at, 0.0)])
            }
        })
    }
}
