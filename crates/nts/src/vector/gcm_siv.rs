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
    let Some(last) = messages.len().checked_sub(1) else { return [[0; 16]; LANES] };
    let mut parts = ArrayVec::<Polyval<'_>, LANES>::new();
    for message in messages {
        let key = &message.keys.authentication;
        parts.push(Polyval { key, parts: [message.associated_data, message.plaintext] });
    }
    let mut tags = vector.polyval(&parts);
    for (tag, message) in tags.iter_mut().zip(messages) {
        *tag = ((u128::from_le_bytes(*tag) ^ number(&message.nonce)) << 1 >> 1).to_le_bytes();
    }
    vector.encrypt_each(&core::array::from_fn(|lane| &messages[lane.min(last)].keys.encryption), &mut tags);
    tags
}

/// A nonce as a little-endian number; put together in registers, as a block that was just written to memory in parts would
/// have to be waited for.
fn number(nonce: &[u8; NONCE_OCTETS]) -> u128 {
    let word =
        |at: usize| u128::from(u32::from_le_bytes([nonce[at], nonce[at + 1], nonce[at + 2], nonce[at + 3]]));
    word(8) << 64 | word(4) << 32 | word(0)
}
