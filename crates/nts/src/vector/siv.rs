//! AES-SIV-CMAC-256 for several messages at once. RFC 5297, RFC 4493; the reference is [`crate::siv`].

use super::{Block, Chain, Counter, LANES, Schedule, Vector};
use crate::siv::{double, load, padded};
use arrayvec::ArrayVec;
use zeroize::Zeroize;

/// A key, ready for use.
#[derive(Clone)]
pub(crate) struct SivKey {
    mac: Schedule,
    counter: Schedule,
    /// RFC 4493's K1 and K2.
    whole: u128,
    padded: u128,
    /// CMAC of a block of zeros, with which S2V begins. RFC 5297 §2.4.
    s2v_start: u128,
}

impl SivKey {
    /// Room for a key.
    pub(crate) const EMPTY: Self =
        Self { mac: Schedule::EMPTY, counter: Schedule::EMPTY, whole: 0, padded: 0, s2v_start: 0 };

    /// Expands up to [`LANES`] keys.
    pub(crate) fn expand(vector: Vector, keys: &mut [(&[u8; 32], &mut Self)]) {
        let mut schedules = ArrayVec::<(&Block, &mut Schedule), { 2 * LANES }>::new();
        for (octets, key) in keys.iter_mut() {
            let (halves, _) = octets.as_chunks::<16>();
            schedules.push((&halves[0], &mut key.mac));
            schedules.push((&halves[1], &mut key.counter));
        }
        vector.expand(&mut schedules);
        drop(schedules);
        Self::derive(vector, keys);
    }

    /// What follows from the round keys of CMAC.
    fn derive(vector: Vector, keys: &mut [(&[u8; 32], &mut Self)]) {
        let Some(last) = keys.len().checked_sub(1) else { return };
        let mut blocks = [[0; 16]; LANES];
        vector.encrypt_each(&core::array::from_fn(|lane| &keys[lane.min(last)].1.mac), &mut blocks);
        let doubled = blocks.map(|block| double(u128::from_be_bytes(block)));
        let mut blocks = doubled.map(u128::to_be_bytes);
        vector.encrypt_each(&core::array::from_fn(|lane| &keys[lane.min(last)].1.mac), &mut blocks);
        for (lane, (_, key)) in keys.iter_mut().enumerate() {
            key.whole = doubled[lane];
            key.padded = double(doubled[lane]);
            key.s2v_start = u128::from_be_bytes(blocks[lane]);
        }
    }

    #[inline]
    fn chain<'a>(&'a self, message: &'a [u8]) -> Chain<'a> {
        let (whole, rest) = message.as_chunks::<16>();
        match whole.split_last() {
            Some((last, whole)) if rest.is_empty() => {
                let last = u128::from_be_bytes(*last) ^ self.whole;
                self.chain_of(whole, [last.to_be_bytes(), [0; 16]], 1)
            }
            _ => self.chain_of(whole, [(padded(rest) ^ self.padded).to_be_bytes(), [0; 16]], 1),
        }
    }

    /// The last chain of S2V: that of a text of which the end was changed by the digest of all before it.
    #[inline]
    fn chain_of_text<'a>(&'a self, text: &'a [u8], digest: u128) -> Chain<'a> {
        let Some((front, end)) = text.split_last_chunk::<16>() else {
            let block = double(digest) ^ padded(text) ^ self.whole;
            return self.chain_of(&[], [block.to_be_bytes(), [0; 16]], 1);
        };
        let end = u128::from_be_bytes(*end) ^ digest;
        let (whole, rest) = front.as_chunks::<16>();
        if rest.is_empty() {
            return self.chain_of(whole, [(end ^ self.whole).to_be_bytes(), [0; 16]], 1);
        }
        let mut tail = [0; 32];
        tail[..rest.len()].copy_from_slice(rest);
        tail[rest.len()..][..16].copy_from_slice(&end.to_be_bytes());
        let (first, last) = tail[..rest.len() + 16].split_at(16);
        let last = (padded(last) ^ self.padded).to_be_bytes();
        self.chain_of(whole, [load(first).to_be_bytes(), last], 2)
    }

    #[inline]
    const fn chain_of<'a>(&'a self, whole: &'a [Block], tail: [Block; 2], tail_blocks: usize) -> Chain<'a> {
        Chain { schedule: &self.mac, whole, tail, tail_blocks }
    }

    /// S2V up to associated data of this digest. RFC 5297 §2.4.
    #[inline]
    const fn pass(&self, digest: Block) -> u128 {
        double(self.s2v_start) ^ u128::from_be_bytes(digest)
    }

    /// Encrypts or decrypts `text`. RFC 5297 §2.5.
    pub(crate) fn add_key_stream(&self, vector: Vector, tag: Block, text: &mut [u8]) {
        vector.add_key_stream(&self.counter, Counter::siv(tag), text);
    }
}

impl Drop for SivKey {
    fn drop(&mut self) {
        self.whole.zeroize();
        self.padded.zeroize();
        self.s2v_start.zeroize();
    }
}

/// A key all of whose messages have the same associated data.
#[derive(Clone)]
pub(crate) struct SameDataKey {
    key: SivKey,
    passed: u128,
}

impl SameDataKey {
    /// Expands a key.
    pub(crate) fn new(vector: Vector, octets: &[u8; 32], associated_data: &[u8]) -> Self {
        let mut new = Self { key: SivKey::EMPTY, passed: 0 };
        SivKey::expand(vector, &mut [(octets, &mut new.key)]);
        let [digest, ..] = vector.chains(&[new.key.chain(associated_data)]);
        new.passed = new.key.pass(digest);
        new
    }

    /// A message with that data.
    pub(crate) fn message<'a>(&'a self, nonce: &'a [u8], plaintext: &'a [u8]) -> Message<'a> {
        Message { key: &self.key, associated_data: Data::Passed(self.passed), nonce, plaintext }
    }

    /// As [`SivKey::add_key_stream`].
    pub(crate) fn add_key_stream(&self, vector: Vector, tag: Block, text: &mut [u8]) {
        self.key.add_key_stream(vector, tag, text);
    }
}

impl Drop for SameDataKey {
    fn drop(&mut self) {
        self.passed.zeroize();
    }
}

/// What a tag is made of.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) key: &'a SivKey,
    pub(crate) associated_data: Data<'a>,
    pub(crate) nonce: &'a [u8],
    pub(crate) plaintext: &'a [u8],
}

/// The associated data of a message.
#[derive(Clone, Copy)]
pub(crate) enum Data<'a> {
    Octets(&'a [u8]),
    /// What S2V has made of them already.
    Passed(u128),
}

impl<'a> Data<'a> {
    const fn octets(self) -> &'a [u8] {
        match self {
            Self::Octets(octets) => octets,
            Self::Passed(_) => &[],
        }
    }
}

/// The tags of up to [`LANES`] messages; what is behind them means nothing. RFC 5297 §2.4.
pub(crate) fn tags(vector: Vector, messages: &[Message<'_>]) -> [Block; LANES] {
    if messages.is_empty() {
        return [[0; 16]; LANES];
    }
    let is_passed = messages.iter().all(|message| matches!(message.associated_data, Data::Passed(_)));
    let data = if is_passed {
        [[0; 16]; LANES]
    } else {
        all_chains(vector, messages, |message, _| message.key.chain(message.associated_data.octets()))
    };
    let nonces = all_chains(vector, messages, |message, _| message.key.chain(message.nonce));
    all_chains(vector, messages, |message, lane| {
        let state = match message.associated_data {
            Data::Octets(_) => message.key.pass(data[lane]),
            Data::Passed(state) => state,
        };
        let digest = double(state) ^ u128::from_be_bytes(nonces[lane]);
        message.key.chain_of_text(message.plaintext, digest)
    })
}

/// The ends of the chains that `chain` makes of the messages.
#[inline]
fn all_chains<'a>(
    vector: Vector,
    messages: &[Message<'a>],
    chain: impl Fn(&Message<'a>, usize) -> Chain<'a>,
) -> [Block; LANES] {
    // Not collected: that would copy them once more.
    let mut chains = ArrayVec::<Chain<'_>, LANES>::new();
    for (lane, message) in messages.iter().take(LANES).enumerate() {
        chains.push(chain(message, lane));
    }
    vector.chains(&chains)
}
