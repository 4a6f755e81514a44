//! The way between the client and a server: delays, and what happens to datagrams on it.

use crate::Chance;

/// One direction of a path.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Direction {
    /// The shortest delay, seconds.
    pub base: f64,
    /// Mean of the exponentially distributed queueing delay, seconds.
    pub jitter: f64,
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
        let direction = Direction { base: 1e-3, jitter: 1e-5 };
        Self {
            there: direction,
            back: direction,
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
                let mut delay = direction.base + direction.jitter * chance.exponential();
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
