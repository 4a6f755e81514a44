//! Compensation of the clock's frequency by a temperature.

use std::path::PathBuf;
use std::time::Duration;

/// `tempcomp`: a file with a temperature, and what it means for the clock.
#[derive(Clone, PartialEq, Debug)]
pub struct TemperatureCompensation {
    /// The file that has the temperature, a number in its first line.
    pub sensor: PathBuf,
    /// How often it is read.
    pub interval: Duration,
    /// From temperature to frequency.
    pub curve: TemperatureCurve,
}

/// By how much a clock is to be made faster at a temperature.
#[derive(Clone, PartialEq, Debug)]
pub enum TemperatureCurve {
    /// `k0 + (T − t0)·k1 + (T − t0)²·k2` ppm.
    Quadratic {
        /// The temperature in the middle.
        t0: f64,
        /// ppm at that temperature.
        k0: f64,
        /// ppm per unit of temperature.
        k1: f64,
        /// ppm per square of it.
        k2: f64,
    },
    /// A file of points, a temperature and its ppm in each line.
    PointsFile(PathBuf),
    /// Points by rising temperature, with ppm; straight lines between and beyond them. At least two.
    Points(Vec<(f64, f64)>),
}

/// Compensations of more than this are a fault of the sensor, not of the clock.
const PPM_MAX: f64 = 10.0;

impl TemperatureCurve {
    /// The points of a file; `None` when it has fewer than two, or something else.
    #[must_use]
    pub fn from_points(text: &str) -> Option<Self> {
        let mut points = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<f64>);
            let (Some(Ok(temperature)), Some(Ok(ppm))) = (numbers.next(), numbers.next()) else {
                return None;
            };
            if !temperature.is_finite() || !ppm.is_finite() {
                return None;
            }
            points.push((temperature, ppm));
        }
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        (points.len() >= 2).then_some(Self::Points(points))
    }

    /// The compensation at `temperature`, ppm; `None` when it is beyond ±10 ppm or no number.
    #[must_use]
    pub fn ppm_at(&self, temperature: f64) -> Option<f64> {
        let ppm = match self {
            Self::Quadratic { t0, k0, k1, k2 } => {
                let above = temperature - t0;
                k0 + above * k1 + above * above * k2
            }
            Self::Points(points) => {
                let place = points.partition_point(|point| point.0 < temperature);
                let place = place.clamp(1, points.len().checked_sub(1)?);
                let (&(t0, ppm0), &(t1, ppm1)) = (points.get(place - 1)?, points.get(place)?);
                let slope = if t1 > t0 { (ppm1 - ppm0) / (t1 - t0) } else { 0.0 };
                ppm0 + (temperature - t0) * slope
            }
            Self::PointsFile(_) => return None,
        };
        (ppm.abs() <= PPM_MAX).then_some(ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(curve: &TemperatureCurve, temperature: f64, ppm: f64) -> bool {
        curve.ppm_at(temperature).is_some_and(|found| (found - ppm).abs() < 1e-12)
    }

    #[test]
    fn a_parabola_has_its_middle_and_nonsense_is_refused() {
        let curve = TemperatureCurve::Quadratic { t0: 25.0, k0: 0.5, k1: 0.1, k2: 0.01 };
        assert!(near(&curve, 25.0, 0.5) && near(&curve, 35.0, 2.5) && near(&curve, 15.0, 0.5));
        assert_eq!(curve.ppm_at(1000.0), None);
        assert_eq!(curve.ppm_at(f64::NAN), None);
    }

    #[test]
    fn between_points_and_beyond_them_it_goes_straight_on() {
        let curve = TemperatureCurve::from_points("30 2.0\n20 1.0\n\n25 1.0\n").expect("three points");
        assert!(near(&curve, 20.0, 1.0) && near(&curve, 22.0, 1.0) && near(&curve, 27.5, 1.5));
        assert!(near(&curve, 35.0, 3.0) && near(&curve, 10.0, 1.0));
        for wrong in ["", "1 1", "1 1\n2", "1 1\nx 2", "1 1\n2 inf"] {
            assert_eq!(TemperatureCurve::from_points(wrong), None, "{wrong}");
        }
    }
}
