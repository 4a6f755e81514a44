//! What desks count while others read it.

use chime_control::{Handled, Handling};
use std::sync::atomic::{AtomicU64, Ordering};

/// Datagrams of one protocol, by what became of them.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; Handling::ALL.len()]);

impl Tally {
    /// Counts a datagram.
    pub fn count(&self, handling: Handling) {
        self.0[handling as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far.
    #[must_use]
    pub fn read(&self) -> Handled {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Handling::ALL.into_iter().zip(counts).collect()
    }
}
