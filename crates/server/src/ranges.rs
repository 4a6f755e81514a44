//! What holds for each address, as one table that is searched by halves.

use std::collections::BTreeMap;

/// Ranges without gaps or overlaps: each begins at its key and ends before the next one's. There is always one at 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ranges<V> {
    /// What holds from 0 on.
    first: V,
    later: BTreeMap<u128, V>,
}

impl<V: Copy> Ranges<V> {
    /// The same for every address.
    pub(crate) const fn new(value: V) -> Self {
        Self { first: value, later: BTreeMap::new() }
    }

    pub(crate) fn find(&self, address: u128) -> V {
        self.later.range(..=address).next_back().map_or(self.first, |(_, value)| *value)
    }

    /// Where each range begins, and what holds there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, V)> + '_ {
        std::iter::once((0, self.first)).chain(self.later.iter().map(|(start, value)| (*start, *value)))
    }

    /// Has `value` hold from `first` to `last`, whatever held there before.
    pub(crate) fn paint(&mut self, first: u128, last: u128, value: V) {
        let after = last.checked_add(1).map(|next| (next, self.find(next)));
        let covered: Vec<u128> = self.later.range(first..=last).map(|(start, _)| *start).collect();
        for start in covered {
            self.later.remove(&start);
        }
        if first == 0 {
            self.first = value;
        } else {
            self.later.insert(first, value);
        }
        if let Some((next, behind)) = after {
            self.later.entry(next).or_insert(behind);
        }
    }
}
