//! Reference clocks as configured.

use super::Origin;

/// A reference clock that was asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct ReferenceClock {
    /// The driver in lower case: one of [`ReferenceClock::DRIVERS`], or one that is not to be had here.
    pub driver: String,
    /// What the driver reads: a path, or the number of a unit or of a memory segment; behind it, each after a colon, options
    /// of the driver as chrony has them.
    pub parameter: String,
    /// The name in reports, at most four ASCII letters; `None`: made from the driver, see [`ReferenceClock::name`].
    pub reference_id: Option<String>,
    /// How often a sample is used: exponent of 2, seconds; `None`: the driver's own.
    pub poll_exponent: Option<i8>,
    /// How often the device is read: exponent of 2, seconds.
    pub driver_poll_exponent: i8,
    /// Readings in the median filter; 1 at least.
    pub filter: u32,
    /// Added to each measured offset; seconds, positive when the reference is known to be behind.
    pub offset_correction: f64,
    /// Round trip to the primary reference that it claims, seconds.
    pub delay: f64,
    /// Standard deviation of its measurements, seconds; `None`: the precision of the clock.
    pub precision: Option<f64>,
    /// Samples with a greater dispersion are not used, seconds; 0: no limit.
    pub max_dispersion: f64,
    /// Readings that are further from our clock than that are not used, seconds; 0: no limit.
    pub max_offset: f64,
    /// The stratum of the reference itself, 0 to 16.
    pub stratum: u8,
    /// The reference identifier of the clock that says of which second its pulses are; `None`: our own clock does.
    pub lock: Option<String>,
    /// Pulses in each second; 1 at least.
    pub rate: u32,
    /// How many pulses may come after the last reading of the clock that it is locked to.
    pub max_lock_pulses: u32,
    /// Width of the pulses, seconds; 0: only one edge of each is reported.
    pub pulse_width: f64,
    /// Whether only the fraction of the second counts.
    pub pps: bool,
    /// Whether it tells TAI.
    pub tai: bool,
    /// Whether it only runs evenly, and does not know the time.
    pub local: bool,
    /// Speed of a serial line, bit/s; `None`: as it is set.
    pub baud: Option<u32>,
    /// The one sentence that the time is taken from, of NMEA receivers only; `None`: whichever comes first.
    pub sentence: Option<ReceiverSentence>,
    /// Whether what came of its readings is counted in ntpd's `clockstats`; of shared memory only.
    pub counts_readings: bool,
    /// Whether its position is left out of ntpd's `clockstats`; of NMEA receivers only.
    pub hides_position: bool,
    /// Polls for which it can still be followed when it says nothing any more, as [`crate::Source::max_unreachable_polls`].
    pub max_unreachable_polls: u32,
    /// As [`crate::Source::max_samples`].
    pub max_samples: Option<u32>,
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

/// A sentence of NMEA 0183 with time and date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceiverSentence {
    /// Position and time.
    Rmc,
    /// Time and date.
    Zda,
}

impl ReceiverSentence {
    /// Each with its name.
    pub const ALL: [(&'static str, Self); 2] = [("RMC", Self::Rmc), ("ZDA", Self::Zda)];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rmc => "RMC",
            Self::Zda => "ZDA",
        }
    }
}

impl ReferenceClock {
    /// The drivers that there are.
    pub const DRIVERS: &[&str] = &["nmea", "phc", "pps", "rtc", "shm", "sock"];

    /// A reference clock with every default.
    #[must_use]
    pub fn new(driver: &str, parameter: &str) -> Self {
        Self {
            driver: driver.to_owned(),
            parameter: parameter.to_owned(),
            reference_id: None,
            poll_exponent: None,
            driver_poll_exponent: 0,
            filter: 64,
            offset_correction: 0.0,
            delay: 1e-9,
            precision: None,
            max_dispersion: 0.0,
            max_offset: 0.0,
            stratum: 0,
            lock: None,
            rate: 1,
            max_lock_pulses: 2,
            pulse_width: 0.0,
            pps: false,
            tai: false,
            local: false,
            baud: None,
            sentence: None,
            counts_readings: false,
            hides_position: false,
            max_unreachable_polls: 0,
            max_samples: None,
            prefer: false,
            no_select: false,
            trust: false,
            require: false,
            origin: None,
        }
    }

    /// Whether there is a driver for it.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        Self::DRIVERS.contains(&self.driver.as_str())
    }

    /// Whether it tells pulses only, and another clock of which second they are.
    #[must_use]
    pub fn tells_pulses(&self) -> bool {
        self.pps || self.driver == "pps" || self.stamps_pulses()
    }

    /// Whether it is a hardware clock of which only the pulses count that it stamps.
    #[must_use]
    pub fn stamps_pulses(&self) -> bool {
        self.driver == "phc" && self.driver_options().any(|(name, _)| name == "extpps")
    }

    /// The channel that stamps pulses.
    #[must_use]
    pub fn pulse_channel(&self) -> u32 {
        self.driver_number("channel").and_then(|channel| channel.try_into().ok()).unwrap_or(0)
    }

    /// The pin at which they come in; `None`: the channel has one that cannot be changed.
    #[must_use]
    pub fn pulse_pin(&self) -> Option<u32> {
        self.driver_number("pin").unwrap_or(0).try_into().ok()
    }

    fn driver_number(&self, option: &str) -> Option<i32> {
        self.driver_options().find(|(name, _)| *name == option)?.1?.parse().ok()
    }

    /// Whether it is the machine's battery-backed clock, which must not be set by ours then.
    #[must_use]
    pub fn is_real_time_clock(&self) -> bool {
        self.driver == "rtc"
    }

    /// Whether it can be followed without another source.
    #[must_use]
    pub fn votes(&self) -> bool {
        self.is_supported() && !self.no_select && !self.local && !self.tells_pulses()
    }

    /// The reference identifier: as configured, or three letters of the driver and its place among all reference clocks,
    /// which from the eleventh on leaves two letters.
    #[must_use]
    pub fn name(&self, index: usize) -> String {
        if let Some(name) = &self.reference_id {
            return name.clone();
        }
        let letters = if index < 10 { 3 } else { 2 };
        let driver: String = self.driver.to_ascii_uppercase().chars().take(letters).collect();
        format!("{driver}{}", index % 100)
    }

    /// The parameter without the driver's options. A receiver's line has none, and may have colons in its path.
    #[must_use]
    pub fn device(&self) -> &str {
        if self.driver == "nmea" {
            return &self.parameter;
        }
        self.parameter.split(':').next().unwrap_or_default()
    }

    /// The driver's options: names, and what stands behind `=`.
    pub fn driver_options(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.parameter.split(':').skip(1).map(|option| match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_the_driver_and_its_place() {
        let clock = ReferenceClock::new("sock", "/run/x.sock");
        assert_eq!((clock.name(1), clock.name(12)), ("SOC1".to_owned(), "SO12".to_owned()));
        let named = ReferenceClock { reference_id: Some("GPS".to_owned()), ..clock };
        assert_eq!(named.name(1), "GPS");
    }

    #[test]
    fn options_of_the_driver_stand_behind_its_parameter() {
        let clock = ReferenceClock::new("phc", "eth0:nocrossts:pin=1");
        assert_eq!(clock.device(), "eth0");
        assert_eq!(clock.driver_options().collect::<Vec<_>>(), [("nocrossts", None), ("pin", Some("1"))]);
        let line = ReferenceClock::new("nmea", "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0");
        assert_eq!(line.device(), line.parameter);
        assert!(clock.votes() && !clock.stamps_pulses());
        let pulses = ReferenceClock::new("phc", "eth0:extpps");
        assert!(pulses.stamps_pulses() && pulses.tells_pulses() && !pulses.votes());
        assert_eq!((pulses.pulse_pin(), pulses.pulse_channel()), (Some(0), 0));
        let fixed = ReferenceClock::new("phc", "/dev/ptp0:extpps:pin=-1:channel=2");
        assert_eq!((fixed.pulse_pin(), fixed.pulse_channel()), (None, 2));
    }
}
