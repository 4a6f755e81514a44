//! Reference clocks as configured.

use super::Origin;

/// A reference clock that was asked for. Whether there is a driver for it is for the daemon to say.
#[derive(Clone, PartialEq, Debug)]
pub struct ReferenceClock {
    /// The driver in lower case: `shm`, `sock`, `pps`, `phc`, `nmea`, `rtc`, ...
    pub driver: String,
    /// What the driver reads: a path, or the number of a unit or of a memory segment.
    pub parameter: String,
    /// The name in reports, at most four ASCII letters; `None`: the driver's own.
    pub reference_id: Option<String>,
    /// How often a measurement is used: exponent of 2, seconds; `None`: the driver's own.
    pub poll_exponent: Option<i8>,
    /// Added to each measured offset; seconds, positive when the reference is known to be behind.
    pub offset_correction: f64,
    /// Standard deviation of its measurements, seconds; `None`: the driver's own.
    pub precision: Option<f64>,
    /// The stratum of the reference itself, 0 to 15.
    pub stratum: u8,
    /// Preferred over the sources without it.
    pub prefer: bool,
    /// Measured and shown, never believed.
    pub no_select: bool,
    /// Can be outvoted by other trusted sources only.
    pub trust: bool,
    /// One such source at least must be selectable before the clock is touched.
    pub require: bool,
    /// Where it was configured.
    pub origin: Option<Origin>,
}

impl ReferenceClock {
    /// A reference clock with every default.
    #[must_use]
    pub fn new(driver: &str, parameter: &str) -> Self {
        Self {
            driver: driver.to_owned(),
            parameter: parameter.to_owned(),
            reference_id: None,
            poll_exponent: None,
            offset_correction: 0.0,
            precision: None,
            stratum: 0,
            prefer: false,
            no_select: false,
            trust: false,
            require: false,
            origin: None,
        }
    }
}
