//! Samples across restarts: what is given away to be saved, and what is taken back.

use crate::association::Association;
use crate::engine::Engine;
use crate::packet_tests::reference_id;
use chime_discipline::Sample;
use chime_time::MonoTime;
use std::net::SocketAddr;

/// Sources whose samples from an earlier run wait for the source to be found; more than are ever followed.
const WAITING_MAX: usize = 256;

/// The last samples of one source.
#[derive(Clone, PartialEq, Debug)]
pub struct SavedSamples {
    /// The source's address.
    pub remote: SocketAddr,
    /// Whether they were authenticated.
    pub authenticated: bool,
    /// The reach register, when they count at once; 0: from the first answer on.
    pub reach: u8,
    /// The samples, oldest first, as a clock would have measured them that had always run at its last frequency.
    pub samples: Vec<Sample>,
}

impl Engine {
    /// The last samples of all sources at `now`.
    #[must_use]
    pub fn samples(&self, now: MonoTime) -> Vec<SavedSamples> {
        let saved = self.associations.iter().map(|association| SavedSamples {
            remote: association.remote,
            authenticated: association.is_authenticated(),
            reach: 0,
            samples: self.discipline.samples(now, association.id),
        });
        saved.filter(|saved| !saved.samples.is_empty()).collect()
    }

    /// Takes the samples of an earlier run; each source gets its own, now or as soon as its address is known. The clock must
    /// have run since then as it was left: whoever gives them knows. Gives how many sources have theirs at once.
    pub fn restore_samples(&mut self, now: MonoTime, saved: Vec<SavedSamples>) -> usize {
        self.waiting_samples = saved;
        self.waiting_samples.truncate(WAITING_MAX);
        let before = self.waiting_samples.len();
        for index in 0..self.associations.len() {
            self.give_samples(now, index);
        }
        before - self.waiting_samples.len()
    }

    /// Gives a new association the samples that wait for it.
    pub(crate) fn give_samples(&mut self, now: MonoTime, index: usize) {
        let Some(association) = self.associations.get(index) else { return };
        let id = association.id;
        let Some(place) = self.waiting_samples.iter().position(|saved| belong(saved, association)) else {
            return;
        };
        let mut saved = self.waiting_samples.swap_remove(place);
        let ours = reference_id(association.remote.ip());
        saved.samples.iter_mut().for_each(|sample| sample.reference_id = ours);
        self.discipline.restore_samples(now, id, &saved.samples);
        if saved.reach != 0 {
            self.associations[index].polling.restore_reach(saved.reach);
            self.discipline.reach_restored(now, id, saved.reach);
        }
    }
}

/// What was not authenticated says nothing about a source that must be.
fn belong(saved: &SavedSamples, association: &Association) -> bool {
    saved.remote == association.remote && (saved.authenticated || !association.is_authenticated())
}
