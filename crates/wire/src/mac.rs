//! Message authentication codes with symmetric keys. RFC 5905 §7.3, RFC 8573.
//!
//! For a hash the digest is H(key ‖ packet); for AES it is AES-CMAC. Version 4 carries at most 20 octets of it, versions
//! 1 to 3 all of it, as chrony does; see [`crate::Packet`] for how a MAC is told from an extension field.

use crate::{DecodeError, FieldWriter};
use aes::{Aes128, Aes256};
use cmac::{Cmac, Mac as _};
use core::fmt;
use core::str::FromStr;
use sha2::Digest as _;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Octets of the longest secret that is taken.
pub const SECRET_OCTETS_MAX: usize = 256;
/// Octets of the longest digest: SHA-512's.
pub const DIGEST_OCTETS_MAX: usize = 64;
/// Octets to which version 4 cuts a digest, so that a MAC is never as long as an extension field. RFC 7822 §3.
pub const DIGEST_OCTETS_MAX_V4: usize = 20;
/// A secret with fewer bits than this is weak; chrony warns about it.
pub const SECRET_BITS_RECOMMENDED: u32 = 80;

/// How a MAC is computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MacAlgorithm {
    /// MD5 of key and packet; 16 octets.
    Md5,
    /// SHA-1 of key and packet; 20 octets.
    Sha1,
    /// SHA-256 of key and packet; 32 octets.
    Sha256,
    /// SHA-384 of key and packet; 48 octets.
    Sha384,
    /// SHA-512 of key and packet; 64 octets.
    Sha512,
    /// AES-CMAC with a key of 16 octets; 16 octets. RFC 8573.
    Aes128,
    /// AES-CMAC with a key of 32 octets; 16 octets.
    Aes256,
}

impl MacAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 7] =
        [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512, Self::Aes128, Self::Aes256];

    /// Its name in chrony's key file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
            Self::Aes128 => "AES128",
            Self::Aes256 => "AES256",
        }
    }

    /// Octets of the whole digest.
    #[must_use]
    pub const fn digest_octets(self) -> usize {
        match self {
            Self::Md5 | Self::Aes128 | Self::Aes256 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Octets of the digest as packets of `version` carry it.
    #[must_use]
    pub const fn wire_octets(self, version: u8) -> usize {
        let octets = self.digest_octets();
        if version >= 4 && octets > DIGEST_OCTETS_MAX_V4 { DIGEST_OCTETS_MAX_V4 } else { octets }
    }

    /// Octets that a secret must have; a hash takes any number.
    #[must_use]
    pub const fn secret_octets(self) -> Option<usize> {
        match self {
            Self::Aes128 => Some(16),
            Self::Aes256 => Some(32),
            _ => None,
        }
    }
}

impl fmt::Display for MacAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no [`MacAlgorithm`]'s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a key type that we know")]
pub struct UnknownMacAlgorithm;

impl FromStr for MacAlgorithm {
    type Err = UnknownMacAlgorithm;

    /// By the name that chrony's key file has for it; upper case.
    fn from_str(name: &str) -> Result<Self, UnknownMacAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(UnknownMacAlgorithm)
    }
}

/// Why a key cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Identifier 0, which in a packet means a crypto-NAK.
    #[error("a key cannot have the number 0")]
    Id,
    /// No secret, or one of more than [`SECRET_OCTETS_MAX`].
    #[error("the secret has {0} octets; 1 to {SECRET_OCTETS_MAX} are taken")]
    Length(usize),
    /// AES needs a secret of one length.
    #[error("the secret has {} bits; {algorithm} needs {}", got * 8, wanted * 8)]
    CipherLength {
        /// What the key is for.
        algorithm: MacAlgorithm,
        /// Octets given.
        got: usize,
        /// Octets needed.
        wanted: usize,
    },
}

/// A symmetric key; wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SymmetricKey {
    #[zeroize(skip)]
    id: u32,
    #[zeroize(skip)]
    algorithm: MacAlgorithm,
    #[zeroize(skip)]
    octets: usize,
    secret: [u8; SECRET_OCTETS_MAX],
}

impl SymmetricKey {
    /// A key with its number.
    ///
    /// # Errors
    /// [`KeyError`] for number 0 and for secrets of a length that does not fit.
    pub fn new(id: u32, algorithm: MacAlgorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let got = secret.len();
        if id == 0 {
            return Err(KeyError::Id);
        }
        if let Some(wanted) = algorithm.secret_octets().filter(|wanted| *wanted != got) {
            return Err(KeyError::CipherLength { algorithm, got, wanted });
        }
        if got == 0 || got > SECRET_OCTETS_MAX {
            return Err(KeyError::Length(got));
        }
        let mut key = Self { id, algorithm, octets: got, secret: [0; SECRET_OCTETS_MAX] };
        key.secret[..got].copy_from_slice(secret);
        Ok(key)
    }

    /// The number by which packets name the key; never 0.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What it is for.
    #[must_use]
    pub const fn algorithm(&self) -> MacAlgorithm {
        self.algorithm
    }

    /// Bits of the secret.
    #[must_use]
    pub fn bits(&self) -> u32 {
        u32::try_from(self.octets * 8).expect("a secret has at most SECRET_OCTETS_MAX octets")
    }

    /// Computes the whole digest of a packet into the start of `out` and gives its length in octets.
    pub fn digest(&self, packet: &[u8], out: &mut [u8; DIGEST_OCTETS_MAX]) -> usize {
        let secret = &self.secret[..self.octets];
        match self.algorithm {
            MacAlgorithm::Md5 => {
                copy(&md5::Md5::new_with_prefix(secret).chain_update(packet).finalize(), out)
            }
            MacAlgorithm::Sha1 => {
                copy(&sha1::Sha1::new_with_prefix(secret).chain_update(packet).finalize(), out)
            }
            MacAlgorithm::Sha256 => {
                copy(&sha2::Sha256::new_with_prefix(secret).chain_update(packet).finalize(), out)
            }
            MacAlgorithm::Sha384 => {
                copy(&sha2::Sha384::new_with_prefix(secret).chain_update(packet).finalize(), out)
            }
            MacAlgorithm::Sha512 => {
                copy(&sha2::Sha512::new_with_prefix(secret).chain_update(packet).finalize(), out)
            }
            MacAlgorithm::Aes128 => copy(&cmac::<Aes128>(secret, packet), out),
            MacAlgorithm::Aes256 => copy(&cmac::<Aes256>(secret, packet), out),
        }
    }

    /// Whether `digest` is what a packet of `version` carries behind `packet` and the key's number; in constant time.
    #[must_use]
    pub fn verify(&self, packet: &[u8], digest: &[u8], version: u8) -> bool {
        let mut right = [0; DIGEST_OCTETS_MAX];
        self.digest(packet, &mut right);
        right[..self.algorithm.wire_octets(version)].ct_eq(digest).into()
    }

    /// Appends the key's number and the digest of the packet so far, as packets of `version` carry it.
    ///
    /// # Errors
    /// [`DecodeError::BufferTooShort`] when it does not fit; nothing is written then.
    pub fn append_mac(&self, writer: &mut FieldWriter<'_>, version: u8) -> Result<(), DecodeError> {
        let mut mac = [0; 4 + DIGEST_OCTETS_MAX];
        let (id, room) = mac.split_first_chunk_mut::<4>().expect("the array has room for an identifier");
        *id = self.id.to_be_bytes();
        let digest = room.first_chunk_mut().expect("and for the longest digest");
        self.digest(writer.written(), digest);
        writer.put(&mac[..4 + self.algorithm.wire_octets(version)])
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SymmetricKey({}, {}, {} bits)", self.id, self.algorithm, self.bits())
    }
}

fn copy(digest: &[u8], out: &mut [u8; DIGEST_OCTETS_MAX]) -> usize {
    out[..digest.len()].copy_from_slice(digest);
    digest.len()
}

fn cmac<C: cmac::block_api::CmacCipher + cmac::KeyInit>(secret: &[u8], packet: &[u8]) -> [u8; 16]
where
    Cmac<C>: cmac::KeyInit + cmac::Mac,
{
    let mac =
        <Cmac<C> as cmac::KeyInit>::new_from_slice(secret).expect("SymmetricKey::new checked the length");
    let mut digest = [0; 16];
    digest.copy_from_slice(&mac.chain_update(packet).finalize().into_bytes());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }

    fn digest(algorithm: MacAlgorithm, secret: &[u8], message: &[u8]) -> Vec<u8> {
        let mut out = [0; DIGEST_OCTETS_MAX];
        let key = SymmetricKey::new(1, algorithm, secret).expect("a good key");
        let octets = key.digest(message, &mut out);
        assert_eq!(octets, algorithm.digest_octets());
        out[..octets].to_vec()
    }

    /// RFC 4493 §4, to which RFC 8573 refers.
    #[test]
    fn aes_cmac_gives_the_vectors_of_rfc_4493() {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let message = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411");
        for (octets, right) in [
            (0, "bb1d6929e95937287fa37d129b756746"),
            (16, "070a16b46b4d4144f79bdd9dd04a287c"),
            (40, "dfa66747de9ae63030ca32611497c827"),
        ] {
            assert_eq!(digest(MacAlgorithm::Aes128, &key, &message[..octets]), hex(right));
        }
    }

    #[test]
    fn a_hash_covers_the_key_and_then_the_packet() {
        // The well-known digests of "abc", split anywhere between secret and packet.
        for (algorithm, right) in [
            (MacAlgorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (MacAlgorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (MacAlgorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            assert_eq!(digest(algorithm, b"ab", b"c"), hex(right));
        }
        assert_eq!(digest(MacAlgorithm::Sha384, b"a", b"bc")[..4], hex("cb00753f"));
        assert_eq!(digest(MacAlgorithm::Sha512, b"abc", b"")[..4], hex("ddaf35a1"));
    }

    #[test]
    fn version_4_cuts_long_digests_and_version_3_does_not() {
        for algorithm in MacAlgorithm::ALL {
            let key = SymmetricKey::new(7, algorithm, &std::vec![5; algorithm.secret_octets().unwrap_or(24)])
                .unwrap();
            for (version, octets) in [(4, algorithm.digest_octets().min(20)), (3, algorithm.digest_octets())]
            {
                let mut buffer = [0; 128];
                let mut writer = FieldWriter::new(&mut buffer, 48);
                key.append_mac(&mut writer, version).expect("there is room");
                assert_eq!(writer.len(), 48 + 4 + octets);
                let (packet, mac) = writer.written().split_at(48);
                assert_eq!(mac[..4], 7u32.to_be_bytes());
                assert!(key.verify(packet, &mac[4..], version));
                assert_eq!(key.verify(packet, &mac[4..], 7 - version), algorithm.digest_octets() <= 20);
                for bit in 0..octets * 8 {
                    let mut wrong = mac[4..].to_vec();
                    wrong[bit / 8] ^= 1 << (bit % 8);
                    assert!(!key.verify(packet, &wrong, version));
                }
                assert!(!key.verify(packet, &mac[4..4 + octets - 1], version), "too short");
                assert!(!key.verify(packet, &[], version), "a crypto-NAK verifies with no key");
            }
        }
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused() {
        let new =
            |id, algorithm, octets: usize| SymmetricKey::new(id, algorithm, &std::vec![1; octets]).err();
        assert_eq!(new(0, MacAlgorithm::Md5, 5), Some(KeyError::Id));
        assert_eq!(new(1, MacAlgorithm::Md5, 0), Some(KeyError::Length(0)));
        assert_eq!(new(1, MacAlgorithm::Sha1, 257), Some(KeyError::Length(257)));
        assert_eq!(new(1, MacAlgorithm::Sha1, 256), None);
        let short = new(1, MacAlgorithm::Aes128, 15).expect("too short");
        assert_eq!(short.to_string(), "the secret has 120 bits; AES128 needs 128");
        assert_eq!(new(1, MacAlgorithm::Aes256, 32), None);
    }

    #[test]
    fn debug_shows_no_secret_and_names_are_chronys() {
        let key = SymmetricKey::new(4, MacAlgorithm::Sha256, b"secret").expect("a good key");
        assert_eq!(std::format!("{key:?}"), "SymmetricKey(4, SHA256, 48 bits)");
        for algorithm in MacAlgorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        assert_eq!("md5".parse::<MacAlgorithm>(), Err(UnknownMacAlgorithm));
    }
}
