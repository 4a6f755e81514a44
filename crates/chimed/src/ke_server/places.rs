//! The connections of one worker: each in its slot, all by deadline, and those that have no answer yet by age.

use super::connection::{Connection, Fate};
use chime_time::MonoTime;
use std::collections::BTreeSet;

/// What a connection takes before its client says something, beside what the kernel has of it: octets.
const SILENT_OCTETS_MAX: usize = 256;
/// Its entries in two trees, of which a third may be empty.
const TREE_OCTETS: usize = 2 * size_of::<(usize, u64, usize)>() * 3 / 2;
const _: () = assert!(size_of::<Option<Place>>() + TREE_OCTETS <= SILENT_OCTETS_MAX);

#[derive(Default)]
pub(super) struct Places {
    /// Slots are used again.
    slots: Vec<Option<Place>>,
    free: Vec<usize>,
    deadlines: BTreeSet<(MonoTime, usize)>,
    /// By listener, then by arrival.
    unanswered: BTreeSet<(usize, u64, usize)>,
    arrivals: u64,
    /// How many connections each listener has.
    counts: Vec<usize>,
}

struct Place {
    connection: Connection,
    listener: usize,
    arrival: u64,
    /// The one under which it is found: that of the connection may have changed in the turn in which it ended.
    deadline: MonoTime,
}

impl Places {
    /// Takes a connection in; gives its slot.
    pub(super) fn add(&mut self, listener: usize, connection: Connection) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.arrivals += 1;
        self.counts.resize(self.counts.len().max(listener + 1), 0);
        self.counts[listener] += 1;
        let deadline = connection.deadline();
        self.deadlines.insert((deadline, slot));
        self.unanswered.insert((listener, self.arrivals, slot));
        self.slots[slot] = Some(Place { connection, listener, arrival: self.arrivals, deadline });
        slot
    }

    /// How many connections a listener has.
    pub(super) fn count(&self, listener: usize) -> usize {
        self.counts.get(listener).copied().unwrap_or(0)
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Connection> {
        self.slots.get(slot)?.as_ref().map(|place| &place.connection)
    }

    /// All connections with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Connection)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, place)| Some((slot, &place.as_ref()?.connection)))
    }

    /// Has a connection go on, and lets it go when it is over. Gives it if it is not.
    pub(super) fn serve(
        &mut self,
        slot: usize,
        go_on: impl FnOnce(&mut Connection) -> Fate,
    ) -> Option<&Connection> {
        let place = self.slots.get_mut(slot)?.as_mut()?;
        if go_on(&mut place.connection) == Fate::Close {
            self.remove(slot);
            return None;
        }
        let place = self.slots.get_mut(slot)?.as_mut()?;
        if place.connection.is_answered() {
            self.unanswered.remove(&(place.listener, place.arrival, slot));
        }
        let deadline = place.connection.deadline();
        if place.deadline != deadline {
            self.deadlines.remove(&(place.deadline, slot));
            self.deadlines.insert((deadline, slot));
            place.deadline = deadline;
        }
        Some(&place.connection)
    }

    /// Lets a connection go.
    pub(super) fn remove(&mut self, slot: usize) -> Option<Connection> {
        let Place { connection, listener, arrival, deadline } = self.slots.get_mut(slot)?.take()?;
        self.deadlines.remove(&(deadline, slot));
        self.unanswered.remove(&(listener, arrival, slot));
        self.counts[listener] -= 1;
        self.free.push(slot);
        Some(connection)
    }

    /// Lets one connection go whose time is over.
    pub(super) fn remove_due(&mut self, now: MonoTime) -> Option<Connection> {
        let (deadline, slot) = *self.deadlines.first()?;
        if deadline <= now { self.remove(slot) } else { None }
    }

    /// When the first connection's time is over.
    pub(super) fn next_deadline(&self) -> Option<MonoTime> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The connection of a listener that has waited longest without an answer. A good client speaks at once, so that this
    /// is rarely one.
    pub(super) fn oldest_unanswered(&self, listener: usize) -> Option<usize> {
        self.unanswered
            .range((listener, 0, 0)..)
            .next()
            .filter(|oldest| oldest.0 == listener)
            .map(|oldest| oldest.2)
    }
}
