//! AES-SIV with CMAC, RFC 5297, over any AES key length.
//!
//! The mode itself is here, and not the `aes-siv` crate's, because a server opens and seals cookies with one key for
//! every request on every thread: here the key schedules are expanded once and then only read. The block cipher is the
//! `aes` crate's; the tests compare with `aes-siv` and with the vectors of RFC 5297 and RFC 4493.

use aes::Block;
use aes::cipher::{
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16,
};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Octets of a block, of the synthetic initialization vector, and so of the tag.
pub(crate) const BLOCK_OCTETS: usize = 16;
/// Blocks of key stream that are made at once, so that the cipher can work on them in parallel.
const STREAM_BLOCKS: usize = 8;
/// The bits of the synthetic IV that the counter begins without. RFC 5297 §2.5.
pub(crate) const COUNTER_MASK: u128 = !(1 << 63 | 1 << 31);

/// A block cipher that can be used here: AES with some key length.
pub(crate) trait Cipher: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit {}
impl<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit> Cipher for C {}

/// An AES-SIV key, ready for use.
#[derive(Clone)]
pub(crate) struct Siv<C> {
    cmac: Cmac<C>,
    counter: C,
    /// CMAC of a block of zeros, with which S2V begins. RFC 5297 §2.4.
    s2v_start: u128,
}

impl<C: Cipher> Siv<C> {
    /// From the two halves of `key`, authentication first; `None` when the length is wrong.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let (mac, counter) = key.split_at(key.len() / 2);
        let cmac = Cmac::new(C::new_from_slice(mac).ok()?);
        let s2v_start = cmac.mac(&[0; BLOCK_OCTETS]);
        Some(Self { cmac, counter: C::new_from_slice(counter).ok()?, s2v_start })
    }

    /// Encrypts `text` where it is and gives the tag.
    pub(crate) fn seal(&self, components: &[&[u8]], text: &mut [u8]) -> [u8; BLOCK_OCTETS] {
        let tag = self.s2v(components, text);
        self.apply_key_stream(tag, text);
        tag.to_be_bytes()
    }

    /// Decrypts `text` where it is; zeros it and gives false when the tag is wrong.
    pub(crate) fn open(&self, components: &[&[u8]], text: &mut [u8], tag: [u8; BLOCK_OCTETS]) -> bool {
        self.apply_key_stream(u128::from_be_bytes(tag), text);
        let right: bool = self.s2v(components, text).to_be_bytes().ct_eq(&tag).into();
        if !right {
            text.zeroize();
        }
        right
    }

    /// RFC 5297 §2.4.
    fn s2v(&self, components: &[&[u8]], text: &[u8]) -> u128 {
        let digest =
            components.iter().fold(self.s2v_start, |state, part| double(state) ^ self.cmac.mac(part));
        match text.split_last_chunk::<BLOCK_OCTETS>() {
            Some((front, end)) => self.cmac.mac_of_two(front, u128::from_be_bytes(*end) ^ digest),
            None => self.cmac.mac(&(double(digest) ^ padded(text)).to_be_bytes()),
        }
    }

    /// Counter mode from `tag`. RFC 5297 §2.5.
    fn apply_key_stream(&self, tag: u128, text: &mut [u8]) {
        let mut counter = tag & COUNTER_MASK;
        for chunk in text.chunks_mut(STREAM_BLOCKS * BLOCK_OCTETS) {
            let mut stream = [Block::default(); STREAM_BLOCKS];
            let stream = &mut stream[..chunk.len().div_ceil(BLOCK_OCTETS)];
            for block in stream.iter_mut() {
                *block = Block::from(counter.to_be_bytes());
                counter = counter.wrapping_add(1);
            }
            self.counter.encrypt_blocks(stream);
            for (octet, key) in chunk.iter_mut().zip(stream.iter().flatten()) {
                *octet ^= key;
            }
        }
    }
}

/// AES-CMAC, RFC 4493; a block is a big-endian number here.
#[derive(Clone)]
struct Cmac<C> {
    cipher: C,
    whole: u128,
    padded: u128,
}

impl<C: Cipher> Cmac<C> {
    fn new(cipher: C) -> Self {
        let whole = double(encrypt(&cipher, 0));
        Self { cipher, whole, padded: double(whole) }
    }

    fn mac(&self, message: &[u8]) -> u128 {
        let whole_blocks = message.len().saturating_sub(1) / BLOCK_OCTETS * BLOCK_OCTETS;
        let (front, last) = message.split_at(whole_blocks);
        self.chain(front, None, self.last_block(last))
    }

    /// The MAC of `front` followed by the block `end`.
    fn mac_of_two(&self, front: &[u8], end: u128) -> u128 {
        let (whole, rest) = front.split_at(front.len() / BLOCK_OCTETS * BLOCK_OCTETS);
        if rest.is_empty() {
            return self.chain(whole, None, end ^ self.whole);
        }
        let mut tail = [0; 2 * BLOCK_OCTETS];
        tail[..rest.len()].copy_from_slice(rest);
        tail[rest.len()..][..BLOCK_OCTETS].copy_from_slice(&end.to_be_bytes());
        let (first, last) = tail[..rest.len() + BLOCK_OCTETS].split_at(BLOCK_OCTETS);
        self.chain(whole, Some(load(first)), self.last_block(last))
    }

    /// The last block, of 0 to 16 octets, as it goes into the chain.
    fn last_block(&self, last: &[u8]) -> u128 {
        if last.len() == BLOCK_OCTETS { load(last) ^ self.whole } else { padded(last) ^ self.padded }
    }

    fn chain(&self, whole_blocks: &[u8], middle: Option<u128>, last: u128) -> u128 {
        let mut state = 0;
        self.cipher.encrypt_with_backend(Chain { whole_blocks, middle, last, state: &mut state });
        state
    }
}

/// Cipher block chaining of many blocks with one choice of the backend, which is dear compared to a block: on some
/// processors it prepares keys for many blocks in parallel.
struct Chain<'a> {
    whole_blocks: &'a [u8],
    middle: Option<u128>,
    last: u128,
    state: &'a mut u128,
}

impl BlockSizeUser for Chain<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Chain<'_> {
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut state = 0;
        for block in self.whole_blocks.chunks(BLOCK_OCTETS).map(load).chain(self.middle).chain([self.last]) {
            let mut octets = Block::from((state ^ block).to_be_bytes());
            backend.encrypt_block((&mut octets).into());
            state = u128::from_be_bytes(octets.into());
        }
        *self.state = state;
    }
}

impl<C> Drop for Cmac<C> {
    fn drop(&mut self) {
        self.whole.zeroize();
        self.padded.zeroize();
    }
}

fn encrypt<C: Cipher>(cipher: &C, block: u128) -> u128 {
    let mut block = Block::from(block.to_be_bytes());
    cipher.encrypt_block(&mut block);
    u128::from_be_bytes(block.into())
}

/// Multiplication by x in the field of RFC 4493 §2.3, without a branch on secret bits.
#[inline]
pub(crate) const fn double(block: u128) -> u128 {
    (block << 1) ^ ((block >> 127) * 0x87)
}

/// Up to 16 octets as the high end of a block, zeros behind them.
#[inline]
pub(crate) fn load(octets: &[u8]) -> u128 {
    let mut block = [0; BLOCK_OCTETS];
    block[..octets.len()].copy_from_slice(octets);
    u128::from_be_bytes(block)
}

/// Fewer than 16 octets, a one bit, zeros. RFC 4493 §2.4.
#[inline]
pub(crate) fn padded(octets: &[u8]) -> u128 {
    load(octets) | 0x80 << (8 * (BLOCK_OCTETS - 1 - octets.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::{Aes128, Aes192, Aes256};
    use aes_siv::siv::CmacSiv;
    use proptest::prelude::*;

    /// Seals with us and with the `aes-siv` crate, opens again, and checks that a wrong tag leaves zeros.
    fn agrees<C: Cipher + Clone>(key: &[u8], components: &[&[u8]], text: &[u8], reference: &[u8]) {
        let siv = Siv::<C>::new(key).expect("the key has the right length");
        let mut sealed = text.to_vec();
        let tag = siv.seal(components, &mut sealed);
        assert_eq!([&tag[..], &sealed].concat(), reference);
        let mut wrong = sealed.clone();
        assert!(siv.open(components, &mut sealed, tag));
        assert_eq!(sealed, text);
        let mut bad_tag = tag;
        bad_tag[15] ^= 1;
        assert!(!siv.open(components, &mut wrong, bad_tag));
        assert!(wrong.iter().all(|octet| *octet == 0));
    }

    proptest! {
        #[test]
        fn every_key_length_agrees_with_the_aes_siv_crate(
            key in prop::collection::vec(any::<u8>(), 64),
            first in prop::collection::vec(any::<u8>(), 0..70),
            nonce in prop::collection::vec(any::<u8>(), 0..40),
            text in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let parts: [&[u8]; 2] = [&first, &nonce];
            let reference = CmacSiv::<Aes128>::new_from_slice(&key[..32]).unwrap().encrypt(parts, &text).unwrap();
            agrees::<Aes128>(&key[..32], &parts, &text, &reference);
            let reference = CmacSiv::<Aes192>::new_from_slice(&key[..48]).unwrap().encrypt(parts, &text).unwrap();
            agrees::<Aes192>(&key[..48], &parts, &text, &reference);
            let reference = CmacSiv::<Aes256>::new_from_slice(&key).unwrap().encrypt(parts, &text).unwrap();
            agrees::<Aes256>(&key, &parts, &text, &reference);
        }
    }

    #[test]
    fn keys_of_other_lengths_are_refused() {
        for octets in [0, 16, 31, 33, 48, 64] {
            assert!(Siv::<Aes128>::new(&vec![0; octets]).is_none(), "{octets}");
        }
    }
}
