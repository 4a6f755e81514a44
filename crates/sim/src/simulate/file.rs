//! The tables of a scenario file.

use super::event::{EventTable, Usual};
use super::span::Span;
use crate::clock::Course;
use crate::scenario::{ClientPlan, ServerPlan};
use crate::{Action, Burst, Direction, Fleet, Lie, Limits, Path, Ramp, Scenario, Sine};
use chime_discipline::LeapMode;
use chime_time::PollExponent;
use serde::Deserialize;

/// A scenario as its file describes it.
#[derive(Clone, Debug)]
pub struct ScenarioFile {
    /// What it is called.
    pub title: String,
    /// What it shows, in a few words; may be empty.
    pub description: String,
    /// The seed that is used when nobody asks for another one.
    pub seed: u64,
    /// The world.
    pub scenario: Scenario,
    /// A tree of servers instead of the one client.
    pub fleet: Option<Fleet>,
    /// What must hold.
    pub limits: Limits,
}

/// Why a file is no scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileError(String);

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FileError {}

/// The file as a whole.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Tables {
    title: String,
    description: String,
    seed: u64,
    duration: Span,
    clock: ClockTable,
    client: ClientTable,
    network: NetworkTable,
    bursts: Vec<Burst>,
    servers: Vec<ServerTable>,
    events: Vec<EventTable>,
    fleet: Option<FleetTable>,
    limits: LimitsTable,
}

/// `[fleet]`: thousands of nodes instead of one client of some servers.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FleetTable {
    strata: Vec<usize>,
    parents: usize,
    from: Span,
}

impl Default for FleetTable {
    fn default() -> Self {
        let Fleet { strata, parents, from, .. } = Fleet::default();
        Self { strata, parents, from: Span(from) }
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            title: "a scenario without a title".to_owned(),
            description: String::new(),
            seed: 1,
            duration: Span(7200.0),
            clock: ClockTable::default(),
            client: ClientTable::default(),
            network: NetworkTable::default(),
            bursts: Vec::new(),
            servers: vec![ServerTable { count: 3, ..ServerTable::default() }],
            events: Vec::new(),
            fleet: None,
            limits: LimitsTable::default(),
        }
    }
}

/// `[clock]`: the machine's oscillator and its clock.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ClockTable {
    offset: f64,
    frequency: f64,
    wander: f64,
    sines: Vec<Sine>,
    ageing: f64,
    ramps: Vec<Ramp>,
    resolution: f64,
    stamp_noise: f64,
}

impl Default for ClockTable {
    fn default() -> Self {
        Self {
            offset: 0.0,
            frequency: 2e-5,
            wander: 1e-9,
            sines: Vec::new(),
            ageing: 0.0,
            ramps: Vec::new(),
            resolution: 0.0,
            stamp_noise: 0.0,
        }
    }
}

/// `[client]`: how the daemon is configured.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ClientTable {
    nts: bool,
    poll_min: Option<i8>,
    poll_max: Option<i8>,
    iburst: Option<bool>,
    minimum_agreeing_sources: Option<usize>,
    leap_mode: Option<LeapModeName>,
}

/// `leap-mode`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LeapModeName {
    System,
    Step,
    Slew,
    Ignore,
}

/// `[network]`: delays and faults. What is left away stays as it was.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct NetworkTable {
    there: Option<Direction>,
    back: Option<Direction>,
    loss: Option<f64>,
    duplication: Option<f64>,
    reordering: Option<f64>,
    bit_flips: Option<f64>,
}

/// `[[servers]]`: one or several that are alike.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ServerTable {
    count: usize,
    lie: Lie,
    stratum: u8,
    stamp_noise: f64,
    network: Option<NetworkTable>,
}

impl Default for ServerTable {
    fn default() -> Self {
        Self { count: 1, lie: Lie::default(), stratum: 1, stamp_noise: 0.0, network: None }
    }
}

/// `[limits]`: what must hold. What is left away is not asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsTable {
    sync_by: Option<Span>,
    never_synchronises: bool,
    offset_max: Option<Span>,
    offset_rms: Option<Span>,
    frequency_max: Option<f64>,
    steps_max: Option<usize>,
    recover_within: Span,
    containment: f64,
    requests_max: Option<u64>,
    follows_no_liar: bool,
    says_no_majority: bool,
    says_falseticker: bool,
}

/// More servers than that are no use to one client.
const SERVERS_MAX: usize = 64;
/// The longest world, seconds: a year.
const DURATION_MAX: f64 = 366.0 * 86_400.0;

impl ScenarioFile {
    /// Reads a scenario: TOML.
    ///
    /// # Errors
    /// What is wrong, with line and column where it is one key.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let tables: Tables = toml::from_str(text).map_err(|error| FileError(error.to_string()))?;
        tables.build().map_err(FileError)
    }
}

impl Tables {
    fn build(self) -> Result<ScenarioFile, String> {
        self.check()?;
        let path = self.network.path(Path::default()).map_err(|error| format!("network: {error}"))?;
        let servers = self.servers(path)?;
        if !(1..=SERVERS_MAX).contains(&servers.len()) {
            return Err(format!("servers: there are {}, and 1 to {SERVERS_MAX} are possible", servers.len()));
        }
        let fleet = self.fleet(path).transpose()?;
        let mut scenario = Scenario::client_of(0);
        let paths: Vec<Path> = servers.iter().map(|server| server.path.unwrap_or(path)).collect();
        let usual = Usual { paths: &paths, path, adversary: None, duration: self.duration.0 };
        for (index, event) in self.events.iter().enumerate() {
            let actions = event.actions(&usual).map_err(|error| format!("event {}: {error}", index + 1))?;
            for (time, action) in actions {
                scenario = match action {
                    Action::LeapSecond(_) if scenario.has_leap_second() => {
                        return Err(format!("event {}: a world has one leap second", index + 1));
                    }
                    Action::LeapSecond(insert) => scenario.leap_second(time, insert, None),
                    other => scenario.at(time, other),
                };
            }
        }
        let ClockTable { offset, frequency, wander, sines, ageing, ramps, resolution, stamp_noise } =
            self.clock;
        let course = Course { sines, ageing, ramps };
        scenario.clock =
            crate::scenario::ClockPlan { offset, frequency, wander, course, resolution, stamp_noise };
        scenario.servers = servers;
        scenario.path = path;
        scenario.client = self.client.plan();
        scenario.bursts = self.bursts;
        scenario.duration = self.duration.0;
        Ok(ScenarioFile {
            title: self.title,
            description: self.description.trim().to_owned(),
            seed: self.seed,
            scenario,
            fleet,
            limits: self.limits.limits(),
        })
    }

    fn fleet(&self, path: Path) -> Option<Result<Fleet, String>> {
        let table = self.fleet.as_ref()?;
        let fleet = Fleet {
            strata: table.strata.clone(),
            parents: table.parents,
            path,
            offset: self.clock.offset.abs(),
            frequency: self.clock.frequency.abs(),
            wander: self.clock.wander,
            duration: self.duration.0,
            from: table.from.0,
        };
        let checked = if self.events.is_empty() && self.bursts.is_empty() {
            fleet.check()
        } else {
            Err("events and bursts are for one client".to_owned())
        };
        Some(checked.map(|()| fleet).map_err(|error| format!("fleet: {error}")))
    }

    fn servers(&self, usual: Path) -> Result<Vec<ServerPlan>, String> {
        let mut servers = Vec::new();
        for table in &self.servers {
            table.lie.check().map_err(|error| format!("servers: {error}"))?;
            let path = table.network.as_ref().map(|network| network.path(usual)).transpose()?;
            let stratum = Some(table.stratum);
            let plan = ServerPlan { lie: table.lie, path, stamp_noise: table.stamp_noise, stratum };
            servers.extend(std::iter::repeat_n(plan, table.count.min(SERVERS_MAX + 1)));
        }
        Ok(servers)
    }

    fn check(&self) -> Result<(), String> {
        let clock = &self.clock;
        let small = |value: f64, limit: f64| value.abs() <= limit;
        let second = |value: f64| (0.0..=1.0).contains(&value);
        let poll = |poll: Option<i8>| poll.is_none_or(|poll| (0..=17).contains(&poll));
        let rules = [
            ("duration: above 0, at most a year", self.duration.0 > 0.0 && self.duration.0 <= DURATION_MAX),
            ("clock: offset up to 1e9 s", small(clock.offset, 1e9)),
            ("clock: frequency up to 1e-2 s per s", small(clock.frequency, 1e-2)),
            ("clock: wander 0 to 1e-5 s per s", (0.0..=1e-5).contains(&clock.wander)),
            (
                "clock: sines with an amplitude up to 1e-3 s per s and a period from 1 s",
                clock.sines.iter().all(Sine::is_possible),
            ),
            ("clock: ageing up to 1e-5 s per s in a day", small(clock.ageing, 1e-5)),
            (
                "clock: ramps by up to 1e-3 s per s, lasting from 1 s, at 0 to 1e8 s",
                clock.ramps.iter().all(Ramp::is_possible),
            ),
            (
                "clock: resolution, stamp-noise 0 to 1 s",
                second(clock.resolution) && second(clock.stamp_noise),
            ),
            ("client: poll-min, poll-max 0 to 17", poll(self.client.poll_min) && poll(self.client.poll_max)),
            (
                "client: poll-min is above poll-max",
                self.client.poll_min.unwrap_or(4) <= self.client.poll_max.unwrap_or(10),
            ),
            (
                "servers: stratum 1 to 15, stamp-noise 0 to 1 s",
                self.servers.iter().all(|s| (1..=15).contains(&s.stratum) && second(s.stamp_noise)),
            ),
            ("limits: containment 0 to 1", second(self.limits.containment)),
        ];
        if let Some((rule, _)) = rules.iter().find(|(_, holds)| !holds) {
            return Err((*rule).to_owned());
        }
        self.bursts.iter().try_for_each(Burst::check)
    }
}

impl ClientTable {
    fn plan(&self) -> ClientPlan {
        ClientPlan {
            nts: self.nts,
            poll_min: self.poll_min.map(PollExponent::new),
            poll_max: self.poll_max.map(PollExponent::new),
            iburst: self.iburst,
            minimum_agreeing_sources: self.minimum_agreeing_sources,
            leap_mode: self.leap_mode.map(|name| match name {
                LeapModeName::System => LeapMode::System,
                LeapModeName::Step => LeapMode::Step,
                LeapModeName::Slew => LeapMode::Slew,
                LeapModeName::Ignore => LeapMode::Ignore,
            }),
        }
    }
}

impl NetworkTable {
    /// This path; what is not named is as in `usual`.
    ///
    /// # Errors
    /// The first number that is impossible.
    pub(super) fn path(&self, usual: Path) -> Result<Path, String> {
        let path = Path {
            there: self.there.unwrap_or(usual.there),
            back: self.back.unwrap_or(usual.back),
            loss: self.loss.unwrap_or(usual.loss),
            duplication: self.duplication.unwrap_or(usual.duplication),
            reordering: self.reordering.unwrap_or(usual.reordering),
            bit_flips: self.bit_flips.unwrap_or(usual.bit_flips),
        };
        path.there.check()?;
        path.back.check()?;
        let shares = [path.loss, path.duplication, path.reordering, path.bit_flips];
        if shares.into_iter().all(|share| (0.0..=1.0).contains(&share)) {
            Ok(path)
        } else {
            Err("loss, duplication, reordering, bit-flips: 0 to 1".to_owned())
        }
    }
}

impl LimitsTable {
    fn limits(&self) -> Limits {
        let none = Limits::none();
        let or = |span: Option<Span>, usual: f64| span.map_or(usual, |Span(seconds)| seconds);
        Limits {
            sync_by: if self.never_synchronises { f64::INFINITY } else { or(self.sync_by, none.sync_by) },
            offset_max: or(self.offset_max, none.offset_max),
            offset_rms: or(self.offset_rms, none.offset_rms),
            frequency_max: self.frequency_max.unwrap_or(none.frequency_max),
            steps_max: self.steps_max.unwrap_or(none.steps_max),
            recover_within: self.recover_within.0,
            bound_holds: false,
            containment: self.containment,
            requests_max: self.requests_max.unwrap_or(none.requests_max),
            follows_no_liar: self.follows_no_liar,
            says_no_majority: self.says_no_majority,
            says_falseticker: self.says_falseticker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_client_of_three_servers() {
        let file = ScenarioFile::parse("").expect("everything has a default");
        assert_eq!((file.scenario.servers.len(), file.seed, file.limits), (3, 1, Limits::none()));
    }

    #[test]
    fn everything_finds_its_place() {
        let file = ScenarioFile::parse(
            "duration = '2h'\n[network]\nloss = 0.1\n[[servers]]\ncount = 2\n[[servers]]\nlie = { offset = 1 }\n\
             [[events]]\nat = '10m'\nlasting = 60\nevery = '1h'\ndo = { server-down = 2 }\n\
             [[events]]\nat = 5\ndo = { restart = { after = '10s' } }\n[limits]\nsync-by = '1m'\noffset-max = '1ms'",
        );
        let file = file.expect("it is a scenario");
        let times: Vec<f64> = file.scenario.actions.iter().map(|action| action.0).collect();
        assert_eq!(times, [5.0, 15.0, 600.0, 660.0, 4200.0, 4260.0]);
        assert!((file.scenario.servers[2].lie.offset - 1.0).abs() < 1e-12);
        assert!((file.scenario.path.loss - 0.1).abs() < 1e-12);
        assert!((file.limits.offset_max - 1e-3).abs() < 1e-12 && file.limits.offset_rms.is_infinite());
    }

    #[test]
    fn what_is_impossible_is_refused_with_its_place() {
        for (text, word) in [
            ("durations = 1", "durations"),
            ("duration = 'soon'", "units"),
            ("[network]\nloss = 2", "loss"),
            ("[[events]]\nat = 1\ndo = { server-down = 7 }", "no server 7"),
            ("[[events]]\nat = 1\nlasting = 5\ndo = 'nat-rebinding'", "does not last"),
            ("[[events]]\nat = 1\ndo = 'explode'", "explode"),
            ("[[servers]]\ncount = 0", "1 to 64"),
            ("[client]\npoll-min = 8\npoll-max = 4", "poll-min"),
            ("[clock]\nwander = 1.0", "wander"),
            ("[fleet]\nstrata = [3]", "strata"),
            ("[fleet]\n[[events]]\nat = 1\ndo = 'network-down'", "one client"),
        ] {
            let error = ScenarioFile::parse(text).expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
