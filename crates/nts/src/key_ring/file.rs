//! The key ring as a file.
//!
//! ```text
//! "chime key ring\n\0" (16) | version (2) | keys (2) | per key, newest first: id (4) created, Unix s (8) key (32)
//! SHA-256 of all that (32), which finds damage; it is the file's mode that keeps others from it
//! ```
//! All numbers are big-endian.

use super::{CookieKey, KEY_OCTETS, KEYS_MAX, KeyRing, RingKey};
use crate::Arithmetic;
use arrayvec::ArrayVec;
use chime_time::NtpDate;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const MAGIC: &[u8; 16] = b"chime key ring\n\0";
const VERSION: u16 = 1;
const HEAD_OCTETS: usize = MAGIC.len() + 4;
const ENTRY_OCTETS: usize = 4 + 8 + KEY_OCTETS;
const CHECKSUM_OCTETS: usize = 32;

/// Why the contents of a file are not a key ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyRingError {
    /// It does not begin as our files do.
    #[error("this is not a key ring file")]
    Foreign,
    /// A version that a later program may have written.
    #[error("the key ring file has version {0}, and this program knows only version {VERSION}")]
    Version(u16),
    /// The length does not fit the number of keys.
    #[error("the key ring file was cut or has grown: {got} octets where {wanted} are needed")]
    Length {
        /// Octets of the file.
        got: usize,
        /// Octets that it should have.
        wanted: usize,
    },
    /// Octets were changed.
    #[error("the key ring file is damaged: its checksum is wrong")]
    Checksum,
    /// No keys, too many, two with the same number, or one made at a time that no date stands for.
    #[error(
        "the key ring file has no keys, more than {KEYS_MAX}, two with the same number, or one without a date"
    )]
    Keys,
}

impl KeyRing {
    /// The ring as the contents of a file: versioned, with a checksum, secret.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // The capacity is exact, so that no part of the keys is left behind by a growing buffer.
        let mut file = Zeroizing::new(Vec::with_capacity(file_octets(self.keys.len())));
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&VERSION.to_be_bytes());
        file.extend_from_slice(&u16::try_from(self.keys.len()).expect("at most KEYS_MAX keys").to_be_bytes());
        for key in self.keys() {
            file.extend_from_slice(&key.id.to_be_bytes());
            file.extend_from_slice(&key.created.unix_seconds().to_be_bytes());
            file.extend_from_slice(&key.octets);
        }
        let checksum = Sha256::digest(&file[..]);
        file.extend_from_slice(&checksum);
        file
    }

    /// The ring from the contents of a file.
    ///
    /// # Errors
    /// [`KeyRingError`], whatever the octets are.
    pub fn decode(file: &[u8]) -> Result<Self, KeyRingError> {
        let (magic, rest) = file.split_first_chunk::<16>().ok_or(KeyRingError::Foreign)?;
        if magic != MAGIC {
            return Err(KeyRingError::Foreign);
        }
        let short = KeyRingError::Length { got: file.len(), wanted: file_octets(1) };
        let (head, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let version = u16::from_be_bytes([head[0], head[1]]);
        if version != VERSION {
            return Err(KeyRingError::Version(version));
        }
        let wanted = file_octets(usize::from(u16::from_be_bytes([head[2], head[3]])));
        if file.len() != wanted {
            return Err(KeyRingError::Length { got: file.len(), wanted });
        }
        let (content, checksum) = file.split_at(file.len() - CHECKSUM_OCTETS);
        if Sha256::digest(content)[..] != *checksum {
            return Err(KeyRingError::Checksum);
        }
        let entries = rest[..rest.len() - CHECKSUM_OCTETS].chunks_exact(ENTRY_OCTETS);
        if entries.clone().any(|entry| read_key(entry).is_none()) {
            return Err(KeyRingError::Keys);
        }
        Self::from_keys(entries.filter_map(read_key))
    }

    fn from_keys(keys: impl Iterator<Item = CookieKey>) -> Result<Self, KeyRingError> {
        let mut ring = Self {
            keys: ArrayVec::new(),
            arithmetic: Arithmetic::best(),
            predecessor: None,
            keeps_way_back: false,
        };
        for key in keys {
            let key = RingKey::new(key, ring.arithmetic);
            if ring.keys().any(|other| other.id == key.key.id) || ring.keys.try_push(key).is_err() {
                return Err(KeyRingError::Keys);
            }
        }
        if ring.keys.is_empty() { Err(KeyRingError::Keys) } else { Ok(ring) }
    }
}

const fn file_octets(keys: usize) -> usize {
    HEAD_OCTETS + keys * ENTRY_OCTETS + CHECKSUM_OCTETS
}

/// A key from its [`ENTRY_OCTETS`]; `None` also when it was made at a time that no date stands for.
fn read_key(entry: &[u8]) -> Option<CookieKey> {
    let (id, rest) = entry.split_first_chunk::<4>()?;
    let (seconds, key) = rest.split_first_chunk::<8>()?;
    let seconds = i64::from_be_bytes(*seconds);
    let created = NtpDate::from_unix(seconds, 0);
    if created.unix_seconds() != seconds {
        return None;
    }
    Some(CookieKey::new(u32::from_be_bytes(*id), key.try_into().ok()?, created))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(keys: u8) -> KeyRing {
        let key = |number: u8| {
            CookieKey::new(
                number.into(),
                [number; 32],
                NtpDate::from_unix(1_800_000_000 + i64::from(number), 0),
            )
        };
        let mut ring = KeyRing::new(key(0));
        for number in 1..keys {
            ring.rotate(key(number), KEYS_MAX);
        }
        ring
    }

    #[test]
    fn a_ring_survives_the_file() {
        for keys in [1, 2, 16] {
            let file = ring(keys).encode();
            assert_eq!(file.len(), file.capacity());
            let read = KeyRing::decode(&file).expect("our own file");
            assert_eq!(read.encode(), file);
            assert_eq!(format!("{read:?}"), format!("{:?}", ring(keys)));
        }
    }

    #[test]
    fn damage_is_named() {
        let file = ring(2).encode();
        assert_eq!(KeyRing::decode(b"").err(), Some(KeyRingError::Foreign));
        assert_eq!(KeyRing::decode(&[0; 200]).err(), Some(KeyRingError::Foreign));
        assert_eq!(KeyRing::decode(&file[..18]).err(), Some(KeyRingError::Length { got: 18, wanted: 96 }));
        assert_eq!(
            KeyRing::decode(&file[..file.len() - 1]).err(),
            Some(KeyRingError::Length { got: file.len() - 1, wanted: file.len() })
        );
        let mut newer = file.to_vec();
        newer[17] = 2;
        assert_eq!(KeyRing::decode(&newer).err(), Some(KeyRingError::Version(2)));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let file = ring(3).encode();
        for bit in 0..file.len() * 8 {
            let mut damaged = file.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(KeyRing::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn rings_without_keys_with_too_many_or_with_twins_are_refused() {
        let file_of = |numbers: &[u8]| {
            let count = u16::try_from(numbers.len()).expect("a few keys");
            let mut file = [&MAGIC[..], &VERSION.to_be_bytes(), &count.to_be_bytes()].concat();
            for number in numbers {
                file.extend_from_slice(&[*number; ENTRY_OCTETS]);
            }
            let checksum = Sha256::digest(&file);
            [&file[..], &checksum].concat()
        };
        assert!(KeyRing::decode(&file_of(&[1, 2])).is_ok());
        for numbers in [&[][..], &[1, 1], &(0..17).collect::<Vec<_>>()] {
            assert_eq!(KeyRing::decode(&file_of(numbers)).err(), Some(KeyRingError::Keys), "{numbers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_an_error_or_a_ring(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = KeyRing::decode(&octets);
            let _ = KeyRing::decode(&[&MAGIC[..], &octets].concat());
        }
    }
}
