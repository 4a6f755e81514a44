//! AES-128-GCM-SIV for several messages at once. RFC 8452; the reference is the `aes-gcm-siv` crate.

use super::{Block, Counter, LANES, Polyval, Schedule, Vector};
use arrayvec::ArrayVec;
use zeroize::Zeroize;

/// Octets of a nonce.
pub(crate) const NONCE_OCTETS: usize = 12;

/// The keys of one message. RFC 8452 §4.
#[derive(Clone)]
pub(crate) struct MessageKeys {
    authentication: Block,
    encryption: Schedule,
}

impl MessageKeys {
    /// Room for keys.
    pub(crate) const EMPTY: Self = Self { authentication: [0; 16], encryption: Schedule::EMPTY };

    /// Makes the keys of up to [`LANES`] messages from the keys of their clients and their nonces.
    pub(crate) fn derive(vector: Vector, messages: &mut [(&Schedule, [u8; NONCE_OCTETS], &mut Self)]) {
        let mut derived = [[[0; 16]; 2]; LANES];
        for (two, derived) in messages.chunks(2).zip(derived.as_chunks_mut::<2>().0) {
            let (first, second) = (&two[0], two.last().unwrap_or(&two[0]));
            vector.derive([first.0, second.0], [&first.1, &second.1], derived);
        }
        let mut schedules = ArrayVec::<(&Block, &mut Schedule), LANES>::new();
        for ([authentication, encryption], (_, _, keys)) in derived.iter().zip(messages) {
            keys.authentication = *authentication;
            schedules.push((encryption, &mut keys.encryption));
        }
        vector.expand(&mut schedules);
        drop(schedules);
        derived.zeroize();
    }

    /// Encrypts or decrypts `text`. RFC 8452 §4: a counter of 32 bits, little-endian.
    pub(crate) fn add_key_stream(&self, vector: Vector, tag: Block, text: &mut [u8]) {
        vector.add_key_stream(&self.encryption, Counter::gcm_siv(tag), text);
    }
}

impl Drop for MessageKeys {
    fn drop(&mut self) {
        self.authentication.zeroize();
    }
}

fn first_halves(first: &Block, second: &Block) -> Block {
    let mut halves = [0; 16];
    halves[..8].copy_from_slice(&first[..8]);
    halves[8..].copy_from_slice(&second[..8]);
    halves
}

/// What a tag is made of.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) keys: &'a MessageKeys,
    pub(crate) nonce: [u8; NONCE_OCTETS],
    pub(crate) associated_data: &'a [u8],
    pub(crate) plaintext: &'a [u8],
}

/// The tags of up to [`LANES`] messages; what is behind them means nothing. RFC 8452 §4.
pub(crate) fn tags(vector: Vector, messages: &[Message<'_>]) -> [Block; LANES] {
    let mut tags = [[0; 16]; LANES];
    let Some(last) = messages.len().checked_sub(1) else { return tags };
    let mut states = [[0; 16]; LANES];
    hash(vector, messages, &mut states, |message| message.associated_data);
    hash(vector, messages, &mut states, |message| message.plaintext);
    let lengths: [Block; LANES] = core::array::from_fn(|lane| {
        let message = &messages[lane.min(last)];
        first_halves(&bits(message.associated_data), &bits(message.plaintext))
    });
    let mut number = 0;
    hash(vector, messages, &mut states, |_| {
        number += 1;
        &lengths[number - 1]
    });
    for ((tag, state), message) in tags.iter_mut().zip(states).zip(messages) {
        *tag = state;
        tag.iter_mut().zip(message.nonce).for_each(|(octet, nonce)| *octet ^= nonce);
        tag[15] &= 0x7f;
    }
    vector.encrypt_each(&core::array::from_fn(|lane| &messages[lane.min(last)].keys.encryption), &mut tags);
    tags
}

/// Brings the states of POLYVAL to the end of a part of each message.
fn hash<'a>(
    vector: Vector,
    messages: &[Message<'a>],
    states: &mut [Block; LANES],
    mut part: impl FnMut(&Message<'a>) -> &'a [u8],
) {
    let mut lanes: ArrayVec<Polyval<'_>, LANES> = messages
        .iter()
        .zip(states.iter())
        .map(|(message, state)| Polyval {
            key: message.keys.authentication,
            state: *state,
            octets: part(message),
        })
        .collect();
    vector.polyval(&mut lanes);
    for (state, lane) in states.iter_mut().zip(lanes) {
        *state = lane.state;
    }
}

/// The length in bits, 64 of them, little-endian.
fn bits(octets: &[u8]) -> Block {
    (octets.len() as u128 * 8).to_le_bytes()
}
