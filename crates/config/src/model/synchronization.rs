//! When sources are believed and how the clock is moved.

/// Selection and steering.
#[derive(Clone, PartialEq, Debug)]
pub struct Synchronization {
    /// Sources that must agree; `None`: see [`crate::Model::minimum_agreeing_sources`].
    pub minimum_agreeing_sources: Option<usize>,
    /// When an offset is stepped and not slewed.
    pub stepping: Stepping,
    /// Largest step while running; a larger one is refused.
    pub single_step_panic: Threshold,
    /// Largest first step; a larger one is refused.
    pub startup_step_panic: Threshold,
    /// Largest sum of all steps, seconds; `None`: no limit.
    pub accumulated_step_panic: Option<f64>,
    /// Whether each step is a warning in the log.
    pub warn_on_jump: bool,
    /// Fastest slew, parts per million.
    pub max_slew_ppm: f64,
    /// Largest frequency correction that is believed, parts per million.
    pub max_drift_ppm: f64,
    /// Largest root distance of a usable source, seconds.
    pub max_distance: f64,
    /// Largest jitter of a usable source, seconds.
    pub max_jitter: f64,
    /// Distance that each stratum adds, seconds.
    pub stratum_weight: f64,
    /// Sources within this many distances of the best are combined with it; 0: none are.
    pub combine_limit: f64,
    /// Distance added to the sources not selected, seconds.
    pub reselect_distance: f64,
    /// How far an uncorrected clock may drift, parts per million.
    pub max_clock_error_ppm: f64,
}

impl Default for Synchronization {
    fn default() -> Self {
        Self {
            minimum_agreeing_sources: None,
            stepping: Stepping::default(),
            single_step_panic: Threshold::both(1000.0),
            startup_step_panic: Threshold { forward: None, backward: Some(86_400.0) },
            accumulated_step_panic: None,
            warn_on_jump: true,
            max_slew_ppm: 83_333.333,
            max_drift_ppm: 500_000.0,
            max_distance: 3.0,
            max_jitter: 1.0,
            stratum_weight: 1e-3,
            combine_limit: 3.0,
            reselect_distance: 1e-4,
            max_clock_error_ppm: 1.0,
        }
    }
}

/// When an offset is stepped.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stepping {
    /// Offsets above this are stepped, seconds; `None`: never.
    pub threshold: Option<f64>,
    /// Only in this many first updates of the clock; `None`: always.
    pub updates_limit: Option<u32>,
}

impl Default for Stepping {
    /// Above 1 s in the first three updates, as the distributions configure chrony: the clock is
    /// right soon after the start and does not jump under running programs later.
    fn default() -> Self {
        Self { threshold: Some(1.0), updates_limit: Some(3) }
    }
}

/// Largest steps in both directions, seconds; `None`: no limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Threshold {
    /// Towards the future.
    pub forward: Option<f64>,
    /// Towards the past.
    pub backward: Option<f64>,
}

impl Threshold {
    /// The same limit in both directions.
    #[must_use]
    pub const fn both(seconds: f64) -> Self {
        Self { forward: Some(seconds), backward: Some(seconds) }
    }
}

/// Serving the local clock as if it were right.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LocalClock {
    /// Stratum served, 1 to 15.
    pub stratum: u8,
    /// Reference identifier served; `None`: 127.127.1.1.
    pub reference_id: Option<[u8; 4]>,
    /// Active when the root distance of the sources exceeds this, seconds.
    pub distance: f64,
}

impl LocalClock {
    /// A local clock of a stratum, active without any source.
    #[must_use]
    pub const fn new(stratum: u8) -> Self {
        Self { stratum, reference_id: None, distance: 1.0 }
    }
}
