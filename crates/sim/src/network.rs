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
    /// A heavy tail: Pareto (Lomax), whose mean is the jitter. The shape is above 1, 2.5 unless said; the variance exists
    /// above 2, and is five times that of an exponential one at 2.5.
    Pareto,
    /// Gamma, whose mean is the jitter: the sum of `shape` exponential delays, 3 unless said.
    Gamma,
    /// Lognormal, whose mean is the jitter; the shape is the standard deviation of the logarithm, 1 unless said.
    Lognormal,
    /// The product of two exponential delays, whose mean is the jitter.
    Product,
}

impl Distribution {
    /// What [`Direction::shape`] is when nobody says.
    const fn usual_shape(self) -> f64 {
        match self {
            Self::Pareto => 2.5,
            Self::Gamma => 3.0,
            _ => 1.0,
        }
    }

    /// One delay for a jitter of 1.
    fn draw(self, shape: f64, chance: &mut Chance) -> f64 {
        match self {
            Self::Exponential => chance.exponential(),
            Self::Uniform => 2.0 * chance.uniform(),
            Self::Gaussian => chance.normal(),
            Self::Pareto => (shape - 1.0) * (chance.uniform().powf(-1.0 / shape) - 1.0),
            Self::Gamma => chance.gamma(shape) / shape,
            Self::Lognormal => (shape * chance.normal() - shape * shape / 2.0).exp(),
            Self::Product => chance.exponential() * chance.exponential(),
        }
    }
}

/// A second way that some datagrams take.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detour {
    /// By how much it is longer, seconds.
    pub by: f64,
    /// Which part of the datagrams takes it, 0 to 1.
    #[serde(default = "half")]
    pub share: f64,
}

const fn half() -> f64 {
    0.5
}

/// A queue that all datagrams of a direction meet and that changes slowly: its delay is exponentially distributed, and
/// two delays `t` seconds apart have the correlation exp(-t / time).
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowQueue {
    /// Mean delay, seconds.
    pub mean: f64,
    /// How long it keeps, seconds.
    pub time: f64,
    /// Whether all servers are behind this queue (it is on our own link), or each is behind one like it.
    #[serde(default)]
    pub shared: bool,
}

/// Where a [`SlowQueue`] is at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueLevel {
    /// Two independent Ornstein-Uhlenbeck processes of variance 1: half the sum of their squares is exponential.
    parts: [f64; 2],
    /// When that was, seconds; `None` before the first datagram.
    at: Option<f64>,
}

impl QueueLevel {
    /// The delay of a datagram at `time`, seconds.
    pub(crate) fn delay(&mut self, queue: &SlowQueue, time: f64, chance: &mut Chance) -> f64 {
        // The square of the correlation of the parts is that of the delays.
        let kept = self.at.map_or(0.0, |at| (-(time - at).max(0.0) / (2.0 * queue.time)).exp());
        let fresh = (1.0 - kept * kept).sqrt();
        for part in &mut self.parts {
            *part = kept * *part + fresh * chance.normal();
        }
        self.at = Some(time);
        queue.mean * (self.parts[0].powi(2) + self.parts[1].powi(2)) / 2.0
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
    /// The shape of distributions that have one.
    pub shape: Option<f64>,
    /// Standard deviation of a normally distributed delay that comes on top, seconds.
    pub noise: f64,
    /// A second way.
    pub detour: Option<Detour>,
    /// A queue that changes slowly.
    pub queue: Option<SlowQueue>,
}

impl Default for Direction {
    fn default() -> Self {
        Self {
            base: 1e-3,
            jitter: 1e-5,
            distribution: Distribution::Exponential,
            shape: None,
            noise: 0.0,
            detour: None,
            queue: None,
        }
    }
}

impl Direction {
    /// The delay of one datagram without its slow queue, seconds; `congestion` multiplies the queueing delay.
    pub fn delay(&self, congestion: f64, chance: &mut Chance) -> f64 {
        let shape = self.shape.unwrap_or_else(|| self.distribution.usual_shape());
        let mut delay = self.base + congestion * self.jitter * self.distribution.draw(shape, chance);
        if self.noise > 0.0 {
            delay += self.noise * chance.normal();
        }
        if let Some(detour) = self.detour.filter(|detour| chance.happens(detour.share)) {
            delay += detour.by;
        }
        delay.max(0.0)
    }

    /// What cannot be simulated, in words.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        let seconds = |value: f64| (0.0..=10.0).contains(&value);
        let above = if self.distribution == Distribution::Pareto { 1.0 } else { 0.0 };
        let rules = [
            ("base, jitter, noise: 0 to 10 s", [self.base, self.jitter, self.noise].into_iter().all(seconds)),
            (
                "shape: above 0, above 1 for pareto, up to 100",
                self.shape.is_none_or(|shape| above < shape && shape <= 100.0),
            ),
            (
                "detour: by 0 to 10 s, share 0 to 1",
                self.detour.is_none_or(|detour| seconds(detour.by) && (0.0..=1.0).contains(&detour.share)),
            ),
            (
                "queue: mean 0 to 10 s, time above 0 s",
                self.queue.is_none_or(|queue| seconds(queue.mean) && queue.time > 0.0),
            ),
        ];
        rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(rule, _)| Err((*rule).to_owned()))
    }
}

/// Which directions are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ways {
    /// To the servers and back.
    #[default]
    Both,
    /// To the servers.
    There,
    /// Back.
    Back,
}

/// Congestion: for a while the queueing delays of all paths are longer.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// When it begins, seconds after the start.
    pub at: f64,
    /// How long it lasts, seconds.
    pub lasting: f64,
    /// By what the jitter is multiplied.
    pub factor: f64,
    /// It comes again after so many seconds, and again.
    #[serde(default)]
    pub every: Option<f64>,
    /// Which directions it is on.
    #[serde(default)]
    pub ways: Ways,
}

impl Burst {
    /// By what it multiplies the jitter of a direction at `time`.
    pub(crate) fn factor(&self, time: f64, back: bool) -> f64 {
        let is_on_it = match self.ways {
            Ways::Both => true,
            Ways::There => !back,
            Ways::Back => back,
        };
        let since = time - self.at;
        let since = self.every.filter(|_| since >= 0.0).map_or(since, |every| since % every);
        if is_on_it && (0.0..self.lasting).contains(&since) { self.factor } else { 1.0 }
    }

    /// What cannot be simulated, in words.
    ///
    /// # Errors
    /// When a number is impossible.
    pub fn check(&self) -> Result<(), String> {
        let ok = (0.0..=1e8).contains(&self.at)
            && self.lasting > 0.0
            && (0.0..=1e6).contains(&self.factor)
            && self.every.is_none_or(|every| every >= self.lasting);
        if ok {
            Ok(())
        } else {
            Err("bursts: at 0 to 1e8 s, lasting above 0 s, factor 0 to 1e6, every not less than lasting"
                .to_owned())
        }
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
    /// `congestion` multiplies the queueing delay.
    pub fn carry(
        &self,
        direction: Direction,
        congestion: f64,
        octets: &[u8],
        chance: &mut Chance,
    ) -> Vec<(f64, Vec<u8>)> {
        let copies = if chance.happens(self.loss) {
            0
        } else if chance.happens(self.duplication) {
            2
        } else {
            1
        };
        (0..copies)
            .map(|_| {
                let mut delay = direction.delay(congestion, chance);
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

    fn mean_and_variance(values: &[f64]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count)
    }

    #[test]
    fn delays_have_the_mean_and_the_variance_of_their_distribution() {
        let cases = [
            (Distribution::Exponential, None, 1.0, 1.0),
            (Distribution::Uniform, None, 1.0, 1.0 / 3.0),
            (Distribution::Gaussian, None, 0.0, 1.0),
            (Distribution::Pareto, None, 1.0, 5.0),
            (Distribution::Gamma, None, 1.0, 1.0 / 3.0),
            (Distribution::Gamma, Some(0.5), 1.0, 2.0),
            (Distribution::Lognormal, Some(0.5), 1.0, 0.25f64.exp_m1()),
            (Distribution::Product, None, 1.0, 3.0),
        ];
        for (distribution, shape, mean, variance) in cases {
            let mut chance = Chance::new(5);
            let path = Direction { distribution, shape, ..Direction::default() };
            let queues: Vec<f64> =
                (0..200_000).map(|_| (path.delay(1.0, &mut chance) - path.base) / path.jitter).collect();
            let (measured, spread) = mean_and_variance(&queues);
            assert!((measured - mean).abs() < 0.02, "{distribution:?}: mean {measured}");
            // The fourth moment of the heavy tail does not exist: its variance converges slowly.
            let tolerance = if distribution == Distribution::Pareto { 0.4 } else { 0.05 };
            assert!((spread / variance - 1.0).abs() < tolerance, "{distribution:?}: variance {spread}");
        }
    }

    #[test]
    fn noise_and_a_detour_come_on_top() {
        let mut chance = Chance::new(6);
        let path = Direction {
            jitter: 0.0,
            noise: 1e-5,
            detour: Some(Detour { by: 1e-4, share: 0.25 }),
            ..Direction::default()
        };
        let extra: Vec<f64> = (0..100_000).map(|_| path.delay(1.0, &mut chance) - path.base).collect();
        let (mean, variance) = mean_and_variance(&extra);
        assert!((mean / 2.5e-5 - 1.0).abs() < 0.02, "{mean:e}");
        let expected = 1e-10 + 1e-8 * 0.25 * 0.75;
        assert!((variance / expected - 1.0).abs() < 0.02, "{variance:e}");
    }

    #[test]
    fn a_slow_queue_is_exponential_and_forgets_in_its_time() {
        let mut chance = Chance::new(7);
        let queue = SlowQueue { mean: 1e-4, time: 100.0, shared: false };
        let mut level = QueueLevel::default();
        let delays: Vec<f64> =
            (0..200_000).map(|step| level.delay(&queue, 50.0 * f64::from(step), &mut chance)).collect();
        let (mean, variance) = mean_and_variance(&delays);
        assert!((mean / 1e-4 - 1.0).abs() < 0.03, "{mean:e}");
        assert!((variance / 1e-8 - 1.0).abs() < 0.06, "{variance:e}");
        let correlation = delays.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>()
            / (delays.len() as f64 * variance);
        assert!((correlation - (-0.5f64).exp()).abs() < 0.03, "{correlation}");
    }

    #[test]
    fn bursts_come_when_they_should() {
        let burst = Burst { at: 100.0, lasting: 10.0, factor: 30.0, every: Some(50.0), ways: Ways::There };
        for (time, factor) in
            [(99.0, 1.0), (100.0, 30.0), (109.9, 30.0), (110.0, 1.0), (155.0, 30.0), (0.0, 1.0), (60.0, 1.0)]
        {
            assert!((burst.factor(time, false) - factor).abs() < 1e-9, "{time}");
            assert!((burst.factor(time, true) - 1.0).abs() < 1e-9, "not on the way back");
        }
        let once = Burst { every: None, ..burst };
        assert!((once.factor(155.0, false) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn faults_happen_as_often_as_they_should() {
        let mut chance = Chance::new(3);
        let path = Path { loss: 0.2, duplication: 0.1, ..Path::default() };
        let arrived: usize =
            (0..10_000).map(|_| path.carry(path.there, 1.0, &[1, 2], &mut chance).len()).sum();
        assert!((8_500..9_100).contains(&arrived), "0.8 arrive, of these 0.1 twice: {arrived}");
        let (delay, octets) = Path::default().carry(path.back, 1.0, &[1, 2], &mut chance).remove(0);
        assert!(delay > 1e-3 && octets == [1, 2]);
        let flipped = Path { bit_flips: 1.0, ..Path::default() }.carry(path.back, 1.0, &[0; 48], &mut chance);
        assert!(flipped[0].1.iter().any(|octet| *octet != 0));
    }
}
