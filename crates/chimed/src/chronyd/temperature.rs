//! Temperature compensation: a sensor is read now and then, and the clock runs faster by what its curve says.

use crate::plain_file::{self, SMALL_OCTETS_MAX};
use chime_config::{TemperatureCompensation, TemperatureCurve};
use chime_time::{Frequency, MonoTime};
use std::path::Path;
use tracing::warn;

/// The sensor, its curve, and when it is read next.
#[derive(Debug)]
pub struct Thermometer {
    settings: TemperatureCompensation,
    due: MonoTime,
    /// The same trouble is told once.
    in_trouble: bool,
}

/// What was read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// The sensor's number.
    pub temperature: f64,
    /// By how much the clock is to be faster.
    pub compensation: Frequency,
}

impl Thermometer {
    /// A sensor that is read at once. `None`, with a warning, when its points cannot be read.
    #[must_use]
    pub fn new(mut settings: TemperatureCompensation, now: MonoTime) -> Option<Self> {
        if let TemperatureCurve::PointsFile(path) = &settings.curve {
            let text = plain_file::read_text(path, SMALL_OCTETS_MAX);
            let curve = text.as_deref().ok().and_then(TemperatureCurve::from_points);
            let Some(curve) = curve else {
                warn!("Could not read temperature compensation points from {}", path.display());
                return None;
            };
            settings.curve = curve;
        }
        Some(Self { settings, due: now, in_trouble: false })
    }

    /// When the sensor is read next.
    #[must_use]
    pub const fn due(&self) -> MonoTime {
        self.due
    }

    /// Reads the sensor when that is due. Without a sound reading the clock stays as it is.
    pub fn read(&mut self, now: MonoTime) -> Option<Reading> {
        if now < self.due {
            return None;
        }
        self.due = now.saturating_add(self.settings.interval);
        let reading = read(&self.settings.sensor).and_then(|temperature| {
            let ppm = self.settings.curve.ppm_at(temperature)?;
            Some(Reading { temperature, compensation: Frequency::from_ppm(ppm) })
        });
        if reading.is_none() && !self.in_trouble {
            warn!(
                "Could not read temperature from {}, or its compensation is beyond 10 ppm",
                self.settings.sensor.display()
            );
        }
        self.in_trouble = reading.is_none();
        reading
    }
}

fn read(sensor: &Path) -> Option<f64> {
    let text = plain_file::read_text(sensor, SMALL_OCTETS_MAX).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().filter(|temperature: &f64| temperature.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn a_sensor_is_read_when_it_is_due_and_nonsense_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let sensor = folder.path().join("temperature");
        fs::write(&sensor, "45000\n").expect("it can be written");
        let curve = TemperatureCurve::Quadratic { t0: 40_000.0, k0: 0.5, k1: 1e-4, k2: 0.0 };
        let interval = Duration::from_secs(30);
        let settings = TemperatureCompensation { sensor: sensor.clone(), interval, curve };
        let mut thermometer = Thermometer::new(settings, MonoTime::ZERO).expect("no file of points");
        let first = thermometer.read(MonoTime::ZERO).expect("it is due");
        assert!((first.compensation.as_ppm() - 1.0).abs() < 1e-12 && first.temperature > 44_999.0);
        assert_eq!(thermometer.read(MonoTime::ZERO.add_secs_f64(29.0)), None);
        fs::write(&sensor, "hot\n").expect("it can be written");
        assert_eq!(thermometer.read(MonoTime::ZERO.add_secs_f64(30.0)), None);
        assert_eq!(thermometer.due(), MonoTime::ZERO.add_secs_f64(60.0));
    }

    #[test]
    fn points_come_from_a_file_that_must_be_sound() {
        let folder = tempfile::tempdir().expect("a folder");
        let points = folder.path().join("points");
        let settings = TemperatureCompensation {
            sensor: folder.path().join("absent"),
            interval: Duration::from_secs(1),
            curve: TemperatureCurve::PointsFile(points.clone()),
        };
        assert!(Thermometer::new(settings.clone(), MonoTime::ZERO).is_none());
        fs::write(&points, "20 1\n30 2\n").expect("it can be written");
        assert!(Thermometer::new(settings, MonoTime::ZERO).is_some());
    }
}
