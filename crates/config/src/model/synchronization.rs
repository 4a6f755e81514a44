//! When sources are believed and how the clock is moved.

use chime_discipline::{LocalReference, Settings};

/// Selection and steering.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Synchronization {
    /// Sources that must agree; `None`: see [`crate::Model::minimum_agreeing_sources`].
    pub minimum_agreeing_sources: Option<usize>,
    /// Serve our own time while there is nothing to follow.
    pub local_clock: Option<LocalReference>,
    /// Everything else; use [`crate::Model::discipline_settings`], which has the fields above filled in.
    pub tuning: Settings,
}
