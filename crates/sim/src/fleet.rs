//! Thousands of nodes in strata: each has an oscillator of its own and runs the whole engine, follows some nodes of the
//! stratum above it, and answers those of the one below with what it knows, through the daemon's own responder.

mod node;

use crate::{Chance, Path, START_UNIX_SECONDS};
use chime_server::{Access, AccessList, Policy, Responder};
use chime_time::NtpDate;
use node::{Node, address};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tree of servers.
#[derive(Clone, PartialEq, Debug)]
pub struct Fleet {
    /// Nodes in each stratum, from stratum 1 on, whose clocks are right.
    pub strata: Vec<usize>,
    /// How many nodes of the stratum above each follows.
    pub parents: usize,
    /// The path between a node and those that it follows.
    pub path: Path,
    /// Clocks start wrong by up to so many seconds, oscillators by up to so many s per s.
    pub offset: f64,
    /// See [`Fleet::offset`].
    pub frequency: f64,
    /// Random walk of the oscillators, s per s in each second.
    pub wander: f64,
    /// How long it lasts, seconds.
    pub duration: f64,
    /// From when on errors count, seconds.
    pub from: f64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            strata: vec![4, 40, 400],
            parents: 3,
            path: Path::default(),
            offset: 0.5,
            frequency: 5e-5,
            wander: 1e-9,
            duration: 3600.0,
            from: 1200.0,
        }
    }
}

/// How one stratum did, over the time that counts.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
pub struct StratumReport {
    /// Its number, from 1 on.
    pub stratum: u8,
    /// How many nodes it has.
    pub nodes: usize,
    /// When the last of them was synchronised for the first time, seconds; infinite when one never was.
    pub all_synchronised_at: f64,
    /// Share of the looks at a node at which it was synchronised, and at this stratum.
    pub synchronised: f64,
    /// Root mean square of the errors, seconds.
    pub rms: f64,
    /// Greatest error, seconds.
    pub max: f64,
    /// Share of the claimed bounds that held.
    pub containment: f64,
    /// Mean of the claimed bounds, seconds.
    pub bound: f64,
    /// Requests sent.
    pub requests: u64,
}

/// How often all nodes are looked at, seconds.
const LOOK_SECONDS: f64 = 10.0;

/// What is on its way.
enum Pending {
    Wake { node: usize, turn: u64 },
    ToServer { from: usize, exchange: chime_engine::ExchangeId, to: usize, octets: Vec<u8> },
    ToClient { node: usize, exchange: chime_engine::ExchangeId, from: usize, octets: Vec<u8> },
    Resolved { node: usize, lookup: chime_engine::LookupId, name: String },
}

/// A fleet that runs.
struct Running {
    path: Path,
    time: f64,
    nodes: Vec<Node>,
    responder: Responder,
    /// By the bits of the time, which order as the times do, and a number.
    queue: BTreeMap<(u64, u64), Pending>,
    queued: u64,
    chance: Chance,
}

impl Fleet {
    /// What cannot be simulated, in words.
    ///
    /// # Errors
    /// The first number that is impossible.
    pub fn check(&self) -> Result<(), String> {
        let nodes: usize = self.strata.iter().map(|nodes| nodes.min(&100_000)).sum();
        let rules = [
            (
                "strata: 2 to 15, each with nodes",
                (2..=15).contains(&self.strata.len()) && !self.strata.contains(&0),
            ),
            ("strata: up to 60000 nodes", nodes <= 60_000),
            ("parents: 1 to 16", (1..=16).contains(&self.parents)),
            ("from, duration: 0 <= from < duration", 0.0 <= self.from && self.from < self.duration),
            ("wander: 0 to 1e-5 s per s", (0.0..=1e-5).contains(&self.wander)),
            ("offset: 0 to 1e6 s", (0.0..=1e6).contains(&self.offset)),
            ("frequency: 0 to 1e-2 s per s", (0.0..=1e-2).contains(&self.frequency)),
        ];
        rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(rule, _)| Err((*rule).to_owned()))
    }

    /// Runs the fleet of a seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Vec<StratumReport> {
        let mut running = self.start(seed);
        let mut sums: Vec<Sums> = self.strata.iter().map(|_| Sums::default()).collect();
        let mut look = LOOK_SECONDS;
        while look <= self.duration {
            running.run(look);
            for node in &mut running.nodes {
                node.advance(look);
                sums[node.level].add(node, look, look >= self.from);
            }
            look += LOOK_SECONDS;
        }
        let report = |(level, (sums, nodes)): (usize, (Sums, &usize))| {
            let stratum = u8::try_from(level + 1).unwrap_or(u8::MAX);
            let of_level = || running.nodes.iter().filter(move |node| node.level == level);
            let latest = of_level().map(|node| node.synchronised_at).fold(0.0, f64::max);
            StratumReport {
                requests: of_level().map(|node| node.requests).sum(),
                ..sums.report(stratum, *nodes, latest)
            }
        };
        sums.into_iter().zip(&self.strata).enumerate().map(report).collect()
    }

    fn start(&self, seed: u64) -> Running {
        let mut chance = Chance::new(seed);
        let start = NtpDate::from_unix(START_UNIX_SECONDS, 0);
        let mut nodes = Vec::new();
        let mut above = 0..0;
        for (level, count) in self.strata.iter().enumerate() {
            let first = nodes.len();
            for number in first..first + count {
                let parents = choose(above.clone(), self.parents, &mut chance);
                nodes.push(Node::new(self, number, level, &parents, start, &mut chance));
            }
            above = first..nodes.len();
        }
        let policy = Policy { clients_max: 1, ..Policy::new(AccessList::uniform(Access::Allow)) };
        let responder = Responder::new(Arc::new(policy), [seed, 2]);
        let queue = BTreeMap::new();
        let mut running = Running { path: self.path, time: 0.0, nodes, responder, queue, queued: 0, chance };
        for node in 0..running.nodes.len() {
            running.settle(node);
        }
        running
    }
}

/// Some of `all`, each once.
fn choose(all: std::ops::Range<usize>, count: usize, chance: &mut Chance) -> Vec<usize> {
    let mut left: Vec<usize> = all.collect();
    let mut chosen = Vec::new();
    while chosen.len() < count && !left.is_empty() {
        chosen.push(left.swap_remove(chance.below(left.len())));
    }
    chosen
}

impl Running {
    fn run(&mut self, until: f64) {
        while let Some(entry) = self.queue.first_entry() {
            let time = f64::from_bits(entry.key().0);
            if time > until {
                break;
            }
            let pending = entry.remove();
            self.time = time;
            self.happen(pending);
        }
        self.time = until;
    }

    fn happen(&mut self, pending: Pending) {
        match pending {
            Pending::Wake { node, turn } => {
                if self.nodes[node].turn == turn {
                    self.nodes[node].wake(self.time);
                    self.settle(node);
                }
            }
            Pending::ToServer { from, exchange, to, octets } => {
                let answer = self.nodes[to].answer(
                    &octets,
                    address(from),
                    self.time,
                    &mut self.responder,
                    &mut self.chance,
                );
                if let Some(octets) = answer {
                    let delay = self.path.carry(self.path.back, 1.0, &octets, &mut self.chance);
                    for (delay, octets) in delay {
                        self.later(delay, Pending::ToClient { node: from, exchange, from: to, octets });
                    }
                }
            }
            Pending::ToClient { node, exchange, from, octets } => {
                if self.nodes[node].receive(self.time, exchange, address(from), &octets) {
                    self.settle(node);
                }
            }
            Pending::Resolved { node, lookup, name } => {
                self.nodes[node].resolved(self.time, lookup, &name);
                self.settle(node);
            }
        }
    }

    /// Carries out what a node wants, and wakes it when it wants to be woken.
    fn settle(&mut self, node: usize) {
        for wish in self.nodes[node].drain(self.time) {
            match wish {
                node::Wish::Send { exchange, to, octets } => {
                    let carried = self.path.carry(self.path.there, 1.0, &octets, &mut self.chance);
                    for (delay, octets) in carried {
                        self.later(delay, Pending::ToServer { from: node, exchange, to, octets });
                    }
                }
                node::Wish::Resolve { lookup, name } => {
                    self.later(0.02, Pending::Resolved { node, lookup, name });
                }
            }
        }
        self.nodes[node].turn += 1;
        if let Some(at) = self.nodes[node].next_wake() {
            let turn = self.nodes[node].turn;
            self.later((at - self.time).max(0.0), Pending::Wake { node, turn });
        }
    }

    fn later(&mut self, seconds: f64, pending: Pending) {
        self.queued += 1;
        self.queue.insert(((self.time + seconds).to_bits(), self.queued), pending);
    }
}

/// Sums over the looks at a stratum.
#[derive(Default)]
struct Sums {
    looks: f64,
    synchronised: f64,
    square: f64,
    max: f64,
    contained: f64,
    bound: f64,
}

impl Sums {
    fn add(&mut self, node: &mut Node, time: f64, counts: bool) {
        let (error, bound) = (node.error(), node.bound());
        if bound.is_some() {
            node.synchronised_at = node.synchronised_at.min(time);
        }
        if !counts {
            return;
        }
        self.looks += 1.0;
        self.square += error * error;
        self.max = self.max.max(error.abs());
        if let Some(bound) = bound {
            self.synchronised += 1.0;
            self.bound += bound;
            self.contained += f64::from(u8::from(error.abs() <= bound));
        }
    }

    fn report(&self, stratum: u8, nodes: usize, all_synchronised_at: f64) -> StratumReport {
        let looks = self.looks.max(1.0);
        let claims = self.synchronised.max(1.0);
        StratumReport {
            stratum,
            nodes,
            all_synchronised_at,
            synchronised: self.synchronised / looks,
            rms: (self.square / looks).sqrt(),
            max: self.max,
            containment: if self.synchronised > 0.0 { self.contained / claims } else { 1.0 },
            bound: self.bound / claims,
            requests: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stratum_follows_the_one_above_and_knows_how_well() {
        let fleet = Fleet { strata: vec![3, 6, 20, 40], duration: 1800.0, from: 900.0, ..Fleet::default() };
        assert!(fleet.check().is_ok());
        let reports = fleet.run(1);
        assert_eq!(reports, fleet.run(1), "it repeats with its seed");
        for (report, nodes) in reports.iter().zip([3, 6, 20, 40]) {
            assert_eq!(report.nodes, nodes);
            assert!(report.synchronised > 0.999 && report.containment > 0.999, "{report:?}");
            assert!(report.max < 2e-3, "{report:?}");
        }
        assert!(reports[3].bound > reports[1].bound, "errors add up: {reports:?}");
        let late = reports.iter().map(|report| report.all_synchronised_at);
        assert!(late.clone().is_sorted() && late.fold(0.0, f64::max) < 120.0, "{reports:?}");
    }

    #[test]
    fn impossible_fleets_are_refused() {
        for strata in [vec![3], vec![3, 0], vec![1; 16], vec![3, 70_000]] {
            assert!(Fleet { strata: strata.clone(), ..Fleet::default() }.check().is_err(), "{strata:?}");
        }
        assert!(Fleet { parents: 0, ..Fleet::default() }.check().is_err());
    }
}
