//! The way between the client and a server: delays, and what happens to datagrams on it.

use crate::Chance;
use serde::Deserialize;

/// How queueing delays are distributed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Exponential; the jitter is its mean and its standard deviation.
    #[default]
    Exponential,
    /// Between 0 and twice the jitter, its mean.
    Uniform,
    /// Normal around 0 with the jitter as its standard deviation. A delay is never negative: this needs a base of several
    /// times the jitter.
    Gaussian,
    /// A heavy tail: Pareto (Lomax) of shape 2.5, whose mean is the jitter and whose variance is five times that of an
    /// exponential one.
    Pareto,
}

/// Shape of [`Distribution::Pareto`]: above 2, so that the variance exists.
const PARETO_SHAPE: f64 = 2.5;

impl Distribution {
    /// One delay for a jitter of 1.
    fn draw(self, chance: &mut Chance) -> f64 {
        match self {
            Self::Exponential => chance.exponential(),
            Self::Uniform => 2.0 * chance.uniform(),
            Self::Gaussian => chance.normal(),
            Self::Pareto => (PARETO_SHAPE - 1.0) * (chance.uniform().powf(-1.0 / PARETO_SHAPE) - 1.0),
        }
    }
}

/// One direction of a path.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Direction {
    /// The shortest delay, seconds.
    pub base: f64,
    /// Mean of the queueing delay, seconds; see [`Distribution`].
    pub jitter: f64,
    /// How the queueing delay is distributed.
    pub distribution: Distribution,
}

impl Default for Direction {
    fn default() -> Self {
        Self { base: 1e-3, jitter: 1e-5, distribution: Distribution::Exponential }
    }
}

impl Direction {
    /// The delay of one datagram, seconds.
    pub fn delay(&self, chance: &mut Chance) -> f64 {
        (self.base + self.jitter * self.distribution.draw(chance)).max(0.0)
    }
}

/// Both directions of a path, and its faults; probabilities per datagram and direction.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Path {
    /// To the server.
    pub there: Direction,
    /// Back to the client.
    pub back: Direction,
    /// Lost.
    pub loss: f64,
    /// Delivered twice.
    pub duplication: f64,
    /// Overtaken by others: delayed by up to [`REORDER_SECONDS_MAX`] more.
    pub reordering: f64,
    /// One bit or a few are changed.
    pub bit_flips: f64,
}

/// The longest extra delay of a datagram that is overtaken.
pub const REORDER_SECONDS_MAX: f64 = 3.0;

impl Default for Path {
    fn default() -> Self {
        Self {
            there: Direction::default(),
            back: Direction::default(),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            bit_flips: 0.0,
        }
    }
}

impl Path {
    /// What becomes of one datagram in `direction`: a delay (seconds) and the octets for each copy that arrives.
    pub fn carry(&self, direction: Direction, octets: &[u8], chance: &mut Chance) -> Vec<(f64, Vec<u8>)> {
        let copies = if chance.happens(self.loss) {
            0
        } else if chance.happens(self.duplication) {
            2
        } else {
            1
        };
        (0..copies)
            .map(|_| {
                let mut delay = direction.delay(chance);
                if chance.happens(self.reordering) {
                    delay += REORDER_SECONDS_MAX * chance.uniform();
                }
                let mut octets = octets.to_vec();
                if chance.happens(self.bit_flips) {
                    flip_bits(&mut octets, chance);
                }
                (delay, octets)
            })
            .collect()
    }
}

/// Changes one to four bits.
fn flip_bits(octets: &mut [u8], chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let (at, bit) = (chance.below(octets.len()), chance.below(8));
        if let Some(octet) = octets.get_mut(at) {
            *octet ^= 1 << bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_the_mean_and_the_variance_of_their_distribution() {
        let cases = [
            (Distribution::Exponential, 1.0, 1.0),
            (Distribution::Uniform, 1.0, 1.0 / 3.0),
            (Distribution::Gaussian, 0.0, 1.0),
            (Distribution::Pareto, 1.0, 5.0),
        ];
        for (distribution, mean, variance) in cases {
            let mut chance = Chance::new(5);
            let path = Direction { base: 1e-3, jitter: 1e-5, distribution };
            let queues: Vec<f64> =
                (0..200_000).map(|_| (path.delay(&mut chance) - path.base) / path.jitter).collect();
            let count = queues.len() as f64;
            let measured = queues.iter().sum::<f64>() / count;
            let spread = queues.iter().map(|queue| (queue - measured).powi(2)).sum::<f64>() / count;
            assert!((measured - mean).abs() < 0.02, "{distribution:?}: mean {measured}");
            // The fourth moment of the heavy tail does not exist: its variance converges slowly.
            let tolerance = if distribution == Distribution::Pareto { 0.4 } else { 0.02 };
            assert!((spread / variance - 1.0).abs() < tolerance, "{distribution:?}: variance {spread}");
        }
    }

    #[test]
    fn faults_happen_as_often_as_they_should() {
        let mut chance = Chance::new(3);
        let path = Path { loss: 0.2, duplication: 0.1, ..Path::default() };
        let arrived: usize = (0..10_000).map(|_| path.carry(path.there, &[1, 2], &mut chance).len()).sum();
        assert!((8_500..9_100).contains(&arrived), "0.8 arrive, of these 0.1 twice: {arrived}");
        let (delay, octets) = Path::default().carry(path.back, &[1, 2], &mut chance).remove(0);
        assert!(delay > 1e-3 && octets == [1, 2]);
        let flipped = Path { bit_flips: 1.0, ..Path::default() }.carry(path.back, &[0; 48], &mut chance);
        assert!(flipped[0].1.iter().any(|octet| *octet != 0));
    }
}
