//! AES for several messages at once, with the processor's own instructions.
//!
//! A cipher in a chain (CMAC) waits for itself: each block takes about 40 cycles, of which the processor works 5. So the
//! messages of a batch go through it side by side, [`LANES`] of them, and take little longer than one. The instructions
//! are chosen once, by whoever holds an [`Arithmetic`], and not for each message: the look at what the processor can do
//! costs as much as the cipher.
//!
//! Here and in `x86` is the only `unsafe` of this crate: the step into functions that are compiled for instructions that
//! not every processor has. The reference for all of it is [`crate::Aead`], which works everywhere.

pub(crate) mod gcm_siv;
pub(crate) mod siv;
#[cfg(target_arch = "x86_64")]
mod x86;

use core::fmt;
use zeroize::Zeroize;

/// How many messages go side by side: as many as hide the latency of an AES round (4 cycles, two rounds begun in each).
pub(crate) const LANES: usize = 8;
/// A block as it is in memory.
pub(crate) type Block = [u8; 16];
const ROUND_KEYS: usize = 11;

/// How the ciphers of a batch are computed. The octets are the same whatever it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arithmetic(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    AesNi(Instructions),
    #[cfg(target_arch = "x86_64")]
    Avx512(Instructions),
}

/// The processor has them: a value of this type is made after asking, and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg(target_arch = "x86_64")]
struct Instructions(());

impl Arithmetic {
    /// One message after the other, by the `aes` crate; it uses AES instructions where it finds them, too.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The fastest that this processor has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::PORTABLE)
    }

    /// All that this processor has, the slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        [Some(Kind::Portable), aes_ni(), avx512()].into_iter().flatten().map(Self)
    }

    /// A name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::AesNi(_) => "AES-NI",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "AES-NI and VPCLMULQDQ",
        }
    }

    /// The functions of this module, unless it is the portable one.
    pub(crate) fn vector(self) -> Option<Vector> {
        match self.0 {
            Kind::Portable => None,
            #[cfg(target_arch = "x86_64")]
            kind => Some(Vector(kind)),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn aes_ni() -> Option<Kind> {
    let here = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("avx")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    here.then_some(Kind::AesNi(Instructions(())))
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> Option<Kind> {
    let here = aes_ni().is_some()
        && std::arch::is_x86_feature_detected!("vpclmulqdq")
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl");
    here.then_some(Kind::Avx512(Instructions(())))
}

#[cfg(not(target_arch = "x86_64"))]
const fn aes_ni() -> Option<Kind> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
const fn avx512() -> Option<Kind> {
    None
}

impl fmt::Debug for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The round keys of an AES-128 key; wiped when dropped.
#[derive(Clone)]
#[repr(align(16))]
pub(crate) struct Schedule([RoundKey; ROUND_KEYS]);

/// A round key as it is in memory; in words, so that wiping it takes two writes and not sixteen.
type RoundKey = [u64; 2];

impl Schedule {
    pub(crate) const EMPTY: Self = Self([[0; 2]; ROUND_KEYS]);
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A message in a chain of blocks, each encrypted after it was added to the result of the one before.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) whole: &'a [Block],
    /// What follows: the first `tail_blocks` of these.
    pub(crate) tail: [Block; 2],
    pub(crate) tail_blocks: usize,
}

const _: () = assert!(LANES == 8);

impl Chain<'_> {
    #[inline]
    const fn blocks(&self) -> usize {
        self.whole.len() + self.tail_blocks
    }

    #[inline]
    fn block(&self, at: usize) -> Option<&Block> {
        self.whole.get(at).or_else(|| self.tail[..self.tail_blocks].get(at - self.whole.len()))
    }
}

/// What POLYVAL is made of (RFC 8452 §3 and §4): two parts, each padded with zeros to whole blocks, and a block with their
/// lengths.
#[derive(Clone, Copy)]
pub(crate) struct Polyval<'a> {
    pub(crate) key: &'a Block,
    pub(crate) parts: [&'a [u8]; 2],
}

impl Polyval<'_> {
    /// How many whole blocks each part has, and then how many (one, at most) that are padded.
    #[inline]
    fn shape(&self) -> [[usize; 2]; 2] {
        self.parts.map(|part| [part.len() / 16, usize::from(!part.len().is_multiple_of(16))])
    }

    /// Blocks of both parts, and the one with their lengths.
    #[inline]
    fn blocks(&self) -> usize {
        self.shape().as_flattened().iter().sum::<usize>() + 1
    }

    /// The parts' lengths in bits, 64 of them for each, little-endian.
    #[inline]
    fn lengths(&self) -> Block {
        let [first, second] = self.parts.map(|part| part.len() as u128 * 8);
        (second << 64 | first).to_le_bytes()
    }

    #[inline]
    fn block(&self, mut at: usize) -> Option<Block> {
        for part in self.parts {
            let (whole, rest) = part.as_chunks::<16>();
            match (at.checked_sub(whole.len()), rest) {
                (None, _) => return Some(whole[at]),
                (Some(behind), []) => at = behind,
                (Some(0), rest) => {
                    let mut padded = [0; 16];
                    padded[..rest.len()].copy_from_slice(rest);
                    return Some(padded);
                }
                (Some(behind), _) => at = behind - 1,
            }
        }
        (at == 0).then(|| self.lengths())
    }
}

/// The functions that need special instructions, on a processor that has them.
#[derive(Clone, Copy)]
pub(crate) struct Vector(
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "never made"))] Kind,
);

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "functions for instructions that not every processor has")]
impl Vector {
    /// Expands keys, eight at a time.
    pub(crate) fn expand(self, keys: &mut [(&Block, &mut Schedule)]) {
        let (eights, rest) = keys.as_chunks_mut::<LANES>();
        for eight in eights {
            // SAFETY: a `Vector` is made from `Instructions`, which shows that the processor has AES and AVX.
            unsafe { x86::expand(eight) }
        }
        let (twos, rest) = rest.as_chunks_mut::<2>();
        for two in twos {
            // SAFETY: as above.
            unsafe { x86::expand(two) }
        }
        for one in rest {
            // SAFETY: as above.
            unsafe { x86::expand(core::array::from_mut(one)) }
        }
    }

    /// What is left at the end of each of 1 to [`LANES`] chains; what is behind these means nothing.
    pub(crate) fn chains(self, chains: &[Chain<'_>]) -> [Block; LANES] {
        let mut results = [[0; 16]; LANES];
        // SAFETY: as in `expand`.
        unsafe { x86::chains(chains, &mut results) }
        results
    }

    /// Encrypts each block with its own key.
    pub(crate) fn encrypt_each(self, schedules: &[&Schedule; LANES], blocks: &mut [Block; LANES]) {
        // SAFETY: as in `expand`.
        unsafe { x86::encrypt_each(schedules, blocks) }
    }

    /// Authentication and encryption key of two messages of AES-GCM-SIV, from the clients' keys and the nonces.
    fn derive(self, schedules: [&Schedule; 2], nonces: [&[u8; 12]; 2], keys: &mut [[Block; 2]; 2]) {
        // SAFETY: as in `expand`.
        unsafe { x86::derive(schedules, nonces, keys) }
    }

    /// Adds the key stream from `counter` on to `text`.
    pub(crate) fn add_key_stream(self, schedule: &Schedule, mut counter: Counter, text: &mut [u8]) {
        for chunk in text.chunks_mut(LANES * 16) {
            match chunk.len().div_ceil(16) {
                // SAFETY: as in `expand`.
                ..=3 => unsafe { x86::add_key_stream::<3>(schedule, &counter, chunk) },
                // SAFETY: as in `expand`.
                4..=5 => unsafe { x86::add_key_stream::<5>(schedule, &counter, chunk) },
                // SAFETY: as in `expand`.
                _ => unsafe { x86::add_key_stream::<LANES>(schedule, &counter, chunk) },
            }
            counter.advance();
        }
    }

    /// POLYVAL of each of up to [`LANES`] messages; what is behind these is zero.
    pub(crate) fn polyval(self, messages: &[Polyval<'_>]) -> [Block; LANES] {
        let mut sums = [[0; 16]; LANES];
        match self.0 {
            // SAFETY: the variant shows that the processor has VPCLMULQDQ and AVX-512.
            Kind::Avx512(_) => unsafe { x86::polyval_vectors(messages, &mut sums) },
            // SAFETY: as in `expand`; carry-less multiplication was asked for, too.
            _ => unsafe { x86::polyval(messages, &mut sums) },
        }
        sums
    }
}

/// Elsewhere there is no [`Vector`].
#[cfg(not(target_arch = "x86_64"))]
impl Vector {
    pub(crate) fn expand(self, _keys: &mut [(&Block, &mut Schedule)]) {
        unreachable!("no arithmetic gives a Vector here");
    }

    pub(crate) fn chains(self, _chains: &[Chain<'_>]) -> [Block; LANES] {
        unreachable!("no arithmetic gives a Vector here");
    }

    pub(crate) fn encrypt_each(self, _schedules: &[&Schedule; LANES], _blocks: &mut [Block; LANES]) {
        unreachable!("no arithmetic gives a Vector here");
    }

    fn derive(self, _schedules: [&Schedule; 2], _nonces: [&[u8; 12]; 2], _keys: &mut [[Block; 2]; 2]) {
        unreachable!("no arithmetic gives a Vector here");
    }

    pub(crate) fn add_key_stream(self, _schedule: &Schedule, _counter: Counter, _text: &mut [u8]) {
        unreachable!("no arithmetic gives a Vector here");
    }

    pub(crate) fn polyval(self, _messages: &[Polyval<'_>]) -> [Block; LANES] {
        unreachable!("no arithmetic gives a Vector here");
    }
}

/// The blocks that a key stream is made from: a tag in which some bits are fixed and a word counts.
#[derive(Clone, Copy)]
pub(crate) struct Counter {
    tag: Block,
    /// How far it has counted.
    ahead: u32,
    place: Place,
}

/// Which word of the block counts.
#[derive(Clone, Copy)]
enum Place {
    /// The first one, little-endian; the last bit of the block is 1. RFC 8452 §4.
    First,
    /// The last one, big-endian; the bits in front of the last 31 and 63 are 0, so that it never overflows with our lengths.
    /// RFC 5297 §2.5.
    Last,
}

impl Counter {
    /// That of AES-SIV.
    pub(crate) const fn siv(tag: Block) -> Self {
        Self { tag, ahead: 0, place: Place::Last }
    }

    /// That of AES-GCM-SIV.
    pub(crate) const fn gcm_siv(tag: Block) -> Self {
        Self { tag, ahead: 0, place: Place::First }
    }

    /// By [`LANES`] blocks.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "nothing counts"))]
    const fn advance(&mut self) {
        self.ahead = self.ahead.wrapping_add(8);
    }
}

#[cfg(test)]
mod tests;
