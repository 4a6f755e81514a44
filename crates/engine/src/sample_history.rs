//! Samples across restarts: what is given away to be saved, and what is taken back.

use crate::engine::Engine;
use crate::packet_tests::reference_id;
use crate::reference_clock::STANDARD_ERROR_MIN;
use chime_discipline::{Sample, SavedEstimate, SourceId};
use chime_time::MonoTime;
use std::net::SocketAddr;

/// Sources whose samples from an earlier run wait for the source to be found; more than are ever followed.
const WAITING_MAX: usize = 256;

/// Whose samples are saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SampleOwner {
    /// The server or peer with this address.
    Remote(SocketAddr),
    /// The reference clock with this identifier.
    ReferenceClock([u8; 4]),
}

/// The last samples of one source.
#[derive(Clone, PartialEq, Debug)]
pub struct SavedSamples {
    /// The source.
    pub owner: SampleOwner,
    /// Whether they were authenticated.
    pub authenticated: bool,
    /// The reach register, when they count at once; 0: from the first answer on.
    pub reach: u8,
    /// The samples, oldest first, as a clock would have measured them that had always run at its last frequency.
    pub samples: Vec<Sample>,
    /// What was known of the source beyond them.
    pub estimate: Option<SavedEstimate>,
}

impl Engine {
    /// The last samples of all sources at `now`.
    #[must_use]
    pub fn samples(&self, now: MonoTime) -> Vec<SavedSamples> {
        let clocks = self.reference_clocks.iter().map(|clock| SavedSamples {
            owner: SampleOwner::ReferenceClock(clock.config.reference_id),
            authenticated: false,
            reach: 0,
            samples: self.discipline.samples(now, clock.id),
            estimate: self.discipline.saved_estimate(clock.id),
        });
        let remotes = self.associations.iter().map(|association| SavedSamples {
            owner: SampleOwner::Remote(association.remote),
            authenticated: association.is_authenticated(),
            reach: 0,
            samples: self.discipline.samples(now, association.id),
            estimate: self.discipline.saved_estimate(association.id),
        });
        clocks.chain(remotes).filter(|saved| !saved.samples.is_empty()).collect()
    }

    /// Takes the samples of an earlier run; each source gets its own, now or as soon as its address is known. The clock must
    /// have run since then as it was left: whoever gives them knows. Gives how many sources have theirs at once.
    pub fn restore_samples(&mut self, now: MonoTime, saved: Vec<SavedSamples>) -> usize {
        self.waiting_samples = saved;
        self.waiting_samples.truncate(WAITING_MAX);
        let before = self.waiting_samples.len();
        for index in 0..self.reference_clocks.len() {
            self.give_samples_to_clock(now, index);
        }
        for index in 0..self.associations.len() {
            self.give_samples(now, index);
        }
        // One that is offline is asked nothing, and still has the samples by which it can be followed.
        for index in 0..self.sources.len() {
            if !self.sources[index].online && self.waits_for(index) {
                self.take_place_by_address(now, index);
            }
        }
        before - self.waiting_samples.len()
    }

    /// Whether there are samples of a source that is configured by its address.
    fn waits_for(&self, index: usize) -> bool {
        let (address, port) =
            (self.sources[index].resolution.addresses().first(), self.sources[index].config.port);
        let remote = address.map(|address| SampleOwner::Remote(SocketAddr::new(*address, port)));
        self.waiting_samples.iter().any(|saved| Some(saved.owner) == remote)
    }

    fn give_samples_to_clock(&mut self, now: MonoTime, index: usize) {
        let (id, reference_id) =
            (self.reference_clocks[index].id, self.reference_clocks[index].config.reference_id);
        // Of several with one identifier it cannot be told whose they are.
        if self.reference_clocks.iter().filter(|clock| clock.config.reference_id == reference_id).count() > 1
        {
            return;
        }
        let owner = SampleOwner::ReferenceClock(reference_id);
        let Some(saved) = self.take_waiting(|saved| saved.owner == owner) else { return };
        // In chronyd's files nothing better was written down than what the readings scatter by.
        let error = |sample: &Sample| match sample.standard_error {
            known if known >= STANDARD_ERROR_MIN => known,
            _ => sample.dispersion.as_secs_f64().max(STANDARD_ERROR_MIN),
        };
        let with_error = |sample: Sample| Sample { reference_id, standard_error: error(&sample), ..sample };
        self.give(now, id, saved.samples.into_iter().map(with_error).collect(), saved.estimate);
        if saved.reach != 0 {
            self.reference_clocks[index].reach = saved.reach;
            self.discipline.reach_restored(now, id, saved.reach);
        }
    }

    fn take_waiting(&mut self, is_it: impl Fn(&SavedSamples) -> bool) -> Option<SavedSamples> {
        let place = self.waiting_samples.iter().position(is_it)?;
        Some(self.waiting_samples.swap_remove(place))
    }

    /// Gives a new association the samples that wait for it.
    pub(crate) fn give_samples(&mut self, now: MonoTime, index: usize) {
        let Some(association) = self.associations.get(index) else { return };
        let (id, owner) = (association.id, SampleOwner::Remote(association.remote));
        let (is_authenticated, ours) =
            (association.is_authenticated(), reference_id(association.remote.ip()));
        // What was not authenticated says nothing about a source that must be.
        let belongs =
            |saved: &SavedSamples| saved.owner == owner && (saved.authenticated || !is_authenticated);
        let Some(mut saved) = self.take_waiting(belongs) else { return };
        saved.samples.iter_mut().for_each(|sample| sample.reference_id = ours);
        self.give(now, id, saved.samples, saved.estimate);
        if saved.reach != 0 {
            self.associations[index].polling.restore_reach(saved.reach);
            self.discipline.reach_restored(now, id, saved.reach);
        }
    }

    fn give(&mut self, now: MonoTime, id: SourceId, samples: Vec<Sample>, estimate: Option<SavedEstimate>) {
        let taken = self.discipline.restore_samples(now, id, &samples);
        // It goes on from the last of them.
        if let Some(estimate) = estimate.filter(|_| taken == samples.len()) {
            self.discipline.restore_estimate(id, &estimate);
        }
    }
}
