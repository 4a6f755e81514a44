//! The cells of the table: a world, and what others reached in it.

use super::Conditions;
use super::recorded::{Figures, OTHERS, ROWS};
use serde::Serialize;

/// Worlds that are summed up together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Group {
    /// One server, every 16 s.
    Poll16,
    /// One server, every 64 s.
    Poll64,
    /// One server, the daemon's own choice of interval.
    Default,
    /// Three servers, every 16 s.
    ThreeServers,
    /// Queues on one direction only, every 16 s.
    OneSided,
    /// The same with the daemon's own choice.
    OneSidedDefault,
    /// Loss on both directions, every 16 s.
    Loss,
    /// The same with the daemon's own choice.
    LossDefault,
}

impl Group {
    /// All of them, in the order of the report.
    pub(super) const ALL: [Self; 8] = [
        Self::Poll16,
        Self::Poll64,
        Self::Default,
        Self::ThreeServers,
        Self::OneSided,
        Self::OneSidedDefault,
        Self::Loss,
        Self::LossDefault,
    ];

    /// For scripts.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Poll16 => "poll16",
            Self::Poll64 => "poll64",
            Self::Default => "default",
            Self::ThreeServers => "three-servers",
            Self::OneSided => "one-sided",
            Self::OneSidedDefault => "one-sided-default",
            Self::Loss => "loss",
            Self::LossDefault => "loss-default",
        }
    }

    /// For people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Poll16 => "every 16 s",
            Self::Poll64 => "every 64 s",
            Self::Default => "default polling",
            Self::ThreeServers => "three servers, every 16 s",
            Self::OneSided => "queues on one direction only, every 16 s",
            Self::OneSidedDefault => "queues on one direction only, default polling",
            Self::Loss => "loss on both directions, every 16 s",
            Self::LossDefault => "loss on both directions, default polling",
        }
    }

    /// Whether the interval is the daemon's own choice.
    pub(super) const fn is_default(self) -> bool {
        matches!(self, Self::Default | Self::OneSidedDefault | Self::LossDefault)
    }
}

/// One world of the table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) group: Group,
    pub(super) conditions: Conditions,
    pub(super) others: Figures,
    /// chrony's mean interval, seconds, where it was recorded.
    pub(super) chrony_interval: Option<f64>,
}

/// The whole table, in the order of the report.
pub(super) fn table() -> Vec<Cell> {
    let mut cells: Vec<Cell> = ROWS
        .iter()
        .flat_map(|row| {
            let world =
                Conditions { wander: row.wander, ..Conditions::default() }.jitter(row.jitter, row.jitter);
            let three = Conditions { servers: 3, ..world.clone() }.poll(4);
            let alone = Figures { chrony: row.three_servers, ..Figures::default() };
            let cell = |group, conditions, others| Cell { group, conditions, others, chrony_interval: None };
            [
                cell(Group::Poll16, world.clone().poll(4), row.at_16),
                cell(Group::Poll64, world.clone().poll(6), row.at_64),
                Cell { chrony_interval: Some(row.interval), ..cell(Group::Default, world, row.default) },
                cell(Group::ThreeServers, three, alone),
            ]
        })
        .chain(others())
        .collect();
    cells.sort_by_key(|cell| Group::ALL.iter().position(|group| *group == cell.group));
    cells
}

fn others() -> impl Iterator<Item = Cell> {
    OTHERS.iter().flat_map(|other| {
        let there = if other.one_sided { 0.0 } else { other.jitter };
        let world = Conditions { loss: other.loss, ..Conditions::default() }.jitter(there, other.jitter);
        let fixed = Figures { chrony: other.chrony_16, ..Figures::default() };
        let free = Figures { chrony: other.chrony, ntpd_rs: Some(other.ntpd_rs), linear_bound: None };
        let groups = if other.one_sided {
            [Group::OneSided, Group::OneSidedDefault]
        } else {
            [Group::Loss, Group::LossDefault]
        };
        let cell = |group, conditions, others| Cell { group, conditions, others, chrony_interval: None };
        [cell(groups[0], world.clone().poll(4), fixed), cell(groups[1], world, free)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_there_with_its_worlds() {
        let table = table();
        for group in Group::ALL {
            let count = table.iter().filter(|cell| cell.group == group).count();
            let expected = match group {
                Group::Poll16 | Group::Poll64 | Group::Default | Group::ThreeServers => 20,
                _ => 4,
            };
            assert_eq!(count, expected, "{group:?}");
        }
        assert!(table.iter().all(|cell| cell.conditions.check().is_ok() && cell.others.chrony > 0.0));
        let first = &table[0];
        assert_eq!((first.conditions.poll_min, first.conditions.poll_max), (4, 4));
        assert!((first.others.chrony - 2.7e-7).abs() < 1e-12);
    }
}
