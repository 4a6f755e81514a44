//! Who goes first when there are more handshakes than processor time: whoever had fewest of late.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use chime_time::MonoTime;

/// Networks share a counter when their hashes do: the more there are, the fewer innocents stand behind somebody else.
const COUNTERS: usize = 4096;

/// How long it takes until what was had counts half.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// How often each network had its turn lately, in a table of fixed size.
#[derive(Debug)]
pub(super) struct Turns {
    counters: Box<[u16; COUNTERS]>,
    /// Seeded by the system, so that nobody can choose an address that shares another's counter.
    hash: RandomState,
    next_halving: MonoTime,
}

impl Turns {
    pub(super) fn new(now: MonoTime) -> Self {
        let next_halving = now.saturating_add(HALF_LIFE);
        Self { counters: Box::new([0; COUNTERS]), hash: RandomState::new(), next_halving }
    }

    /// Puts those first who had fewest turns, and keeps the order among equals.
    pub(super) fn sort<T>(
        &mut self,
        waiting: &mut [T],
        network: impl Fn(&T) -> Option<IpAddr>,
        now: MonoTime,
    ) {
        if now >= self.next_halving {
            self.next_halving = now.saturating_add(HALF_LIFE);
            self.counters.iter_mut().for_each(|counter| *counter /= 2);
        }
        waiting
            .sort_by_cached_key(|one| network(one).map_or(0, |network| self.counters[self.place(network)]));
    }

    /// Counts a turn.
    pub(super) fn count(&mut self, network: IpAddr) {
        let place = self.place(network);
        self.counters[place] = self.counters[place].saturating_add(1);
    }

    fn place(&self, network: IpAddr) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any of the bits will do")]
        let hash = self.hash.hash_one(network) as usize;
        hash % COUNTERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns in which these networks have a counter each: others would be drawn by chance, now and then.
    fn turns_apart(networks: &[IpAddr]) -> Turns {
        loop {
            let turns = Turns::new(MonoTime::ZERO);
            let mut places: Vec<usize> = networks.iter().map(|network| turns.place(*network)).collect();
            places.sort_unstable();
            places.dedup();
            if places.len() == networks.len() {
                return turns;
            }
        }
    }

    #[test]
    fn who_had_many_turns_comes_after_who_had_few_until_that_is_forgotten() {
        let [busy, other] =
            ["192.0.2.1", "192.0.2.2"].map(|address| address.parse::<IpAddr>().expect("an address"));
        let mut turns = turns_apart(&[busy, other]);
        (0..8).for_each(|_| turns.count(busy));
        let sorted = |turns: &mut Turns, now| {
            let mut waiting = [(1, busy), (2, busy), (3, other), (4, other)];
            turns.sort(&mut waiting, |(_, network)| Some(*network), MonoTime::ZERO.saturating_add(now));
            waiting.map(|(number, _)| number)
        };
        assert_eq!(sorted(&mut turns, Duration::ZERO), [3, 4, 1, 2]);
        for half_life in 1..=4 {
            sorted(&mut turns, HALF_LIFE * half_life);
        }
        assert_eq!(sorted(&mut turns, HALF_LIFE * 4), [1, 2, 3, 4]);
    }

    /// A good client comes first each time that it has something to say, and the crowd shares what is left evenly.
    #[test]
    fn a_crowd_of_few_addresses_holds_up_nobody_else() {
        let [one, other, good] = ["192.0.2.1", "198.51.100.1", "203.0.113.1"]
            .map(|address| address.parse::<IpAddr>().expect("an address"));
        let mut turns = turns_apart(&[one, other, good]);
        let mut had = [0_u32; 2];
        for turn in 0..1000 {
            let mut waiting = [vec![one; 500], vec![other; 500]].concat();
            if turn % 10 == 9 {
                waiting.push(good);
            }
            turns.sort(
                &mut waiting,
                |network| Some(*network),
                MonoTime::ZERO.saturating_add(HALF_LIFE / 100 * turn),
            );
            assert_eq!(waiting[0] == good, turn % 10 == 9, "turn {turn}");
            for network in waiting.into_iter().take(4) {
                turns.count(network);
                had[0] += u32::from(network == one);
                had[1] += u32::from(network == other);
            }
        }
        assert!(had[0] + had[1] == 3900 && had[0].abs_diff(had[1]) < 200, "{had:?}");
    }
}
