//! What a worker's responders see of the world: the clock, random octets, and when what they seal will leave.

use super::at_once::{AtOnce, Pressure};
use super::departures::Departures;
use crate::card_clocks::{CardLines, Convertible};
use arrayvec::ArrayVec;
use chime_server::{Environment, NTS_REQUESTS_MAX};
use chime_sys::Timestamped;
use chime_sys::batch::BatchedRequest;
use chime_sys::clock;
use chime_time::{NtpDate, NtpDuration, NtpTimestamp};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::Arc;

/// The clock and the random octets of one worker.
pub(super) struct Outside {
    random: ChaCha12Rng,
    cards: Arc<CardLines>,
    pub(super) departures: Departures,
    pub(super) at_once: AtOnce,
    pub(super) pressure: Pressure,
    /// Whether the answers are sent through a socket, by what was learnt of it.
    pub(super) is_foretold: bool,
    /// Of those answers that are sealed together: the places among all that are sent, and how many these will be.
    places: ArrayVec<usize, NTS_REQUESTS_MAX>,
    place_count: usize,
    /// When the clock was read for them.
    sealing_since: Option<NtpDate>,
    /// How many sealed ones wait to be sent, and when the clock was read for them.
    pub(super) sealed: Option<(usize, NtpDate)>,
}

impl Outside {
    pub(super) fn new(random: ChaCha12Rng, cards: Arc<CardLines>) -> Self {
        Self {
            random,
            cards,
            departures: Departures::default(),
            at_once: AtOnce::MANY,
            pressure: Pressure::default(),
            is_foretold: false,
            places: ArrayVec::new(),
            place_count: 0,
            sealing_since: None,
            sealed: None,
        }
    }

    /// A batch of frames begins, which are sent faster than anything can be foretold.
    pub(super) fn begin_frames(&mut self) {
        self.at_once = AtOnce::MANY;
        self.is_foretold = false;
    }

    /// Answers to requests with these numbers are sealed next, and sent with others, `before` so many of which are those to
    /// requests before a number.
    pub(super) fn begin_sealing(
        &mut self,
        numbers: &[usize],
        before: impl Fn(usize) -> usize,
        others: usize,
    ) {
        let place = |(index, number): (usize, &usize)| index + before(*number);
        self.places = numbers.iter().enumerate().map(place).collect();
        self.place_count = others + numbers.len();
        self.sealing_since = None;
    }

    pub(super) fn end_sealing(&mut self) {
        let is_any = self.is_foretold && !self.places.is_empty();
        self.sealed = self.sealing_since.take().filter(|_| is_any).map(|since| (self.places.len(), since));
    }

    /// When a request came, by whoever knows best; and how long that took, where a card has told.
    pub(super) fn received(&self, request: &BatchedRequest<'_>) -> (Timestamped, Option<NtpDuration>) {
        self.cards.received_in(&Convertible {
            kernel: request.received,
            hardware: request.hardware,
            octets: request.octets.len(),
            ipv6: request.from.is_ipv6(),
        })
    }
}

impl Environment for Outside {
    fn system_time(&mut self) -> NtpTimestamp {
        let now = clock::system_now();
        self.sealing_since = Some(now);
        now.timestamp()
    }

    fn sealed_until_departure(&self, index: usize) -> NtpDuration {
        if !self.is_foretold {
            return NtpDuration::ZERO;
        }
        let place = self.places.get(index).copied().unwrap_or(index);
        self.departures.after_clock(self.places.len(), place, self.place_count)
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        self.random.fill_bytes(octets);
    }
}

/// Random numbers that only the seed tells, others for each `stream`.
pub(super) fn random(seed: [u8; 32], stream: u64) -> ChaCha12Rng {
    let mut random = ChaCha12Rng::from_seed(seed);
    random.set_stream(stream);
    random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_past_the_sockets_teaches_nothing_about_them() {
        let mut outside = Outside::new(random([0; 32], 0), Arc::default());
        let mut seal = |foretold| {
            outside.begin_frames();
            outside.is_foretold = foretold;
            outside.begin_sealing(&[0, 2], |_| 0, 1);
            let _now = outside.system_time();
            outside.end_sealing();
            outside.sealed.is_some()
        };
        assert_eq!((seal(false), seal(true)), (false, true));
    }
}
