//! Randomness, all of it from the seed that the shell gives.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Two generators from one seed. What is seen on the wire must tell nothing about what is not: nonces, unique
/// identifiers and jitter come from the *public* one, choices that a stranger should not foresee from the *private* one.
#[derive(Debug)]
pub(crate) struct Random {
    public: ChaCha20Rng,
    private: ChaCha20Rng,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut root = ChaCha20Rng::from_seed(seed);
        let mut half = || {
            let mut octets = zeroize::Zeroizing::new([0; 32]);
            root.fill_bytes(&mut *octets);
            ChaCha20Rng::from_seed(*octets)
        };
        Self { public: half(), private: half() }
    }

    /// Octets that will be seen on the wire.
    pub(crate) fn public_octets<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        self.public.fill_bytes(&mut octets);
        octets
    }

    /// A number from `low` to `high`, for intervals that others can observe.
    pub(crate) fn jitter(&mut self, low: f64, high: f64) -> f64 {
        // 53 bits make every value of the mantissa equally likely.
        let unit = (self.public.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        low + (high - low) * unit
    }

    /// A position below `length`; 0 when `length` is 0. For choices among servers, which a stranger should not foresee.
    pub(crate) fn position(&mut self, length: usize) -> usize {
        let Some(length) = u64::try_from(length).ok().filter(|length| *length > 0) else { return 0 };
        usize::try_from(self.private.next_u64() % length).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_differ_and_repeat_with_the_seed() {
        let (mut one, mut two) = (Random::new([1; 32]), Random::new([1; 32]));
        assert_eq!(one.public_octets::<16>(), two.public_octets::<16>());
        assert_ne!(one.public.next_u64(), one.private.next_u64());
    }

    #[test]
    fn jitter_stays_between_its_ends() {
        let mut random = Random::new([7; 32]);
        for _ in 0..1000 {
            let value = random.jitter(0.9, 1.1);
            assert!((0.9..1.1).contains(&value));
            assert!(random.position(3) < 3);
        }
        assert_eq!(random.position(0), 0);
    }
}
