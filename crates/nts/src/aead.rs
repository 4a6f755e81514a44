//! The authenticated ciphers of NTS. RFC 8915 §5.1, RFC 5297, RFC 8452.

use crate::siv::{BLOCK_OCTETS, Siv};
use aes::{Aes128Enc, Aes192Enc, Aes256Enc};
use aes_gcm_siv::{AeadInOut, Aes128GcmSiv, KeyInit};
use core::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Octets by which a ciphertext is longer than its plaintext; the same for all four algorithms.
pub const AEAD_TAG_OCTETS: usize = BLOCK_OCTETS;
/// Octets of the longest nonce that we make.
pub const NONCE_OCTETS_MAX: usize = 16;
const KEY_OCTETS_MAX: usize = 64;

/// An AEAD algorithm, by its number in IANA's registry of AEAD algorithms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum AeadAlgorithm {
    /// AEAD_AES_SIV_CMAC_256, which everyone must know. RFC 8915 §5.1.
    AesSivCmac256 = 15,
    /// AEAD_AES_SIV_CMAC_384.
    AesSivCmac384 = 16,
    /// AEAD_AES_SIV_CMAC_512.
    AesSivCmac512 = 17,
    /// AEAD_AES_128_GCM_SIV. RFC 8452.
    Aes128GcmSiv = 30,
}

impl AeadAlgorithm {
    /// Every algorithm that we know, by rising number.
    pub const ALL: [Self; 4] =
        [Self::AesSivCmac256, Self::AesSivCmac384, Self::AesSivCmac512, Self::Aes128GcmSiv];

    /// Those that NTS is done with here, by clients and servers, best first.
    pub const OFFERED: [Self; 2] = [Self::Aes128GcmSiv, Self::AesSivCmac256];

    /// That of [`Self::OFFERED`] with a number.
    #[must_use]
    pub fn offered_as(id: u16) -> Option<Self> {
        Self::OFFERED.into_iter().find(|algorithm| algorithm.id() == id)
    }

    /// The algorithm with a number, if we know it.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.id() == id)
    }

    /// The number in IANA's registry.
    #[must_use]
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// Octets of a key.
    #[must_use]
    pub const fn key_octets(self) -> usize {
        match self {
            Self::AesSivCmac256 => 32,
            Self::AesSivCmac384 => 48,
            Self::AesSivCmac512 => 64,
            Self::Aes128GcmSiv => 16,
        }
    }

    /// Octets of the nonces that we make. AES-SIV takes any length; AES-GCM-SIV only this one. It is also N_REQ, the
    /// length for which a request leaves room. RFC 8915 §5.6.
    #[must_use]
    pub const fn nonce_octets(self) -> usize {
        match self {
            Self::Aes128GcmSiv => 12,
            _ => 16,
        }
    }

    /// Octets of the tag: always [`AEAD_TAG_OCTETS`].
    #[must_use]
    pub const fn tag_octets(self) -> usize {
        AEAD_TAG_OCTETS
    }

    /// Where the plaintext lies in the room that it shares with the tag: SIV's tag is in front, GCM-SIV's behind.
    pub(crate) const fn text_offset(self) -> usize {
        match self {
            Self::Aes128GcmSiv => 0,
            _ => AEAD_TAG_OCTETS,
        }
    }
}

impl fmt::Display for AeadAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AesSivCmac256 => "AES-SIV-CMAC-256",
            Self::AesSivCmac384 => "AES-SIV-CMAC-384",
            Self::AesSivCmac512 => "AES-SIV-CMAC-512",
            Self::Aes128GcmSiv => "AES-128-GCM-SIV",
        })
    }
}

/// A key has another length than its algorithm asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the key has {got} octets where {wanted} are needed")]
pub struct KeyLength {
    /// Octets given.
    pub got: usize,
    /// Octets that the algorithm needs.
    pub wanted: usize,
}

/// Why nothing was sealed or opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AeadError {
    /// A nonce that the algorithm does not take.
    #[error("the nonce has an impossible length")]
    NonceLength,
    /// A ciphertext without room for a tag.
    #[error("the ciphertext is shorter than its tag")]
    CiphertextLength,
    /// The room for the result is too short.
    #[error("the buffer is too short")]
    BufferTooShort,
    /// Only AES-SIV takes a list of components.
    #[error("the algorithm takes associated data and a nonce, not a list of components")]
    Components,
    /// Another key, or something was changed on the way.
    #[error("the authentication tag is wrong")]
    Unauthentic,
}

/// An AEAD key: the octets, wiped when dropped.
///
/// [`AeadKey::seal`] and [`AeadKey::open`] expand it each time; where a key is used often, [`AeadKey::expand`] it once.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AeadKey {
    #[zeroize(skip)]
    algorithm: AeadAlgorithm,
    octets: [u8; KEY_OCTETS_MAX],
}

impl AeadKey {
    /// A key for `algorithm`.
    ///
    /// # Errors
    /// [`KeyLength`] unless there are [`AeadAlgorithm::key_octets`] octets.
    pub fn new(algorithm: AeadAlgorithm, key: &[u8]) -> Result<Self, KeyLength> {
        let wanted = algorithm.key_octets();
        if key.len() != wanted {
            return Err(KeyLength { got: key.len(), wanted });
        }
        let mut octets = [0; KEY_OCTETS_MAX];
        octets[..wanted].copy_from_slice(key);
        Ok(Self { algorithm, octets })
    }

    /// What the key is for.
    #[must_use]
    pub const fn algorithm(&self) -> AeadAlgorithm {
        self.algorithm
    }

    /// The key itself.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        &self.octets[..self.algorithm.key_octets()]
    }

    /// Expands the key for use.
    #[must_use]
    pub fn expand(&self) -> Aead {
        let key = self.expose_secret();
        let cipher = match self.algorithm {
            AeadAlgorithm::AesSivCmac256 => Siv::new(key).map(Expanded::Siv256),
            AeadAlgorithm::AesSivCmac384 => Siv::new(key).map(Expanded::Siv384),
            AeadAlgorithm::AesSivCmac512 => Siv::new(key).map(Expanded::Siv512),
            AeadAlgorithm::Aes128GcmSiv => Aes128GcmSiv::new_from_slice(key).ok().map(Expanded::GcmSiv),
        };
        Aead { algorithm: self.algorithm, cipher: cipher.expect("AeadKey::new checked the length") }
    }

    /// As [`Aead::seal`].
    ///
    /// # Errors
    /// As [`Aead::seal`].
    pub fn seal(
        &self,
        nonce: &[u8],
        associated_data: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, AeadError> {
        self.expand().seal(nonce, associated_data, plaintext, out)
    }

    /// As [`Aead::open`].
    ///
    /// # Errors
    /// As [`Aead::open`].
    pub fn open(
        &self,
        nonce: &[u8],
        associated_data: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, AeadError> {
        self.expand().open(nonce, associated_data, ciphertext, out)
    }
}

impl PartialEq for AeadKey {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.octets.ct_eq(&other.octets).into()
    }
}

impl Eq for AeadKey {}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AeadKey({:?}, {} octets)", self.algorithm, self.algorithm.key_octets())
    }
}

/// An AEAD key with its schedules computed; wiped when dropped.
#[derive(Clone)]
pub struct Aead {
    algorithm: AeadAlgorithm,
    cipher: Expanded,
}

#[derive(Clone)]
enum Expanded {
    Siv256(Siv<Aes128Enc>),
    Siv384(Siv<Aes192Enc>),
    Siv512(Siv<Aes256Enc>),
    GcmSiv(Aes128GcmSiv),
}

impl Aead {
    /// What the key is for.
    #[must_use]
    pub const fn algorithm(&self) -> AeadAlgorithm {
        self.algorithm
    }

    /// Encrypts `plaintext` into the start of `out` and gives the octets written: [`AEAD_TAG_OCTETS`] more than it has.
    ///
    /// # Errors
    /// [`AeadError::NonceLength`], [`AeadError::BufferTooShort`].
    pub fn seal(
        &self,
        nonce: &[u8],
        associated_data: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, AeadError> {
        let octets = plaintext.len() + AEAD_TAG_OCTETS;
        let room = out.get_mut(..octets).ok_or(AeadError::BufferTooShort)?;
        room[self.algorithm.text_offset()..][..plaintext.len()].copy_from_slice(plaintext);
        self.seal_in_place(nonce, associated_data, room)?;
        Ok(octets)
    }

    /// AES-SIV in its own form, RFC 5297 §2.6, of which [`Self::seal`] is the case of two components: associated data
    /// and nonce.
    ///
    /// # Errors
    /// [`AeadError::Components`] for AES-GCM-SIV, [`AeadError::BufferTooShort`].
    pub fn seal_with_components(
        &self,
        components: &[&[u8]],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, AeadError> {
        let octets = plaintext.len() + AEAD_TAG_OCTETS;
        let room = out.get_mut(..octets).ok_or(AeadError::BufferTooShort)?;
        room[AEAD_TAG_OCTETS..].copy_from_slice(plaintext);
        self.seal_components_in_place(components, room)?;
        Ok(octets)
    }

    fn seal_components_in_place(&self, components: &[&[u8]], room: &mut [u8]) -> Result<(), AeadError> {
        let (tag, text) = room.split_first_chunk_mut::<AEAD_TAG_OCTETS>().ok_or(AeadError::BufferTooShort)?;
        *tag = match &self.cipher {
            Expanded::Siv256(siv) => siv.seal(components, text),
            Expanded::Siv384(siv) => siv.seal(components, text),
            Expanded::Siv512(siv) => siv.seal(components, text),
            Expanded::GcmSiv(_) => return Err(AeadError::Components),
        };
        Ok(())
    }

    /// Encrypts what lies in `room` at [`AeadAlgorithm::text_offset`] and fills the rest, 16 octets, with the tag.
    pub(crate) fn seal_in_place(
        &self,
        nonce: &[u8],
        associated_data: &[u8],
        room: &mut [u8],
    ) -> Result<(), AeadError> {
        let Expanded::GcmSiv(gcm_siv) = &self.cipher else {
            return self.seal_components_in_place(&[associated_data, nonce], room);
        };
        let (text, tag) = room.split_last_chunk_mut::<AEAD_TAG_OCTETS>().ok_or(AeadError::BufferTooShort)?;
        let nonce = nonce.try_into().map_err(|_| AeadError::NonceLength)?;
        let made = gcm_siv
            .encrypt_inout_detached(nonce, associated_data, text.into())
            .map_err(|_| AeadError::BufferTooShort)?;
        tag.copy_from_slice(&made);
        Ok(())
    }

    /// Decrypts `ciphertext` into the start of `out` and gives the octets written: [`AEAD_TAG_OCTETS`] fewer than it has.
    /// Nothing of the plaintext is left in `out` after an error.
    ///
    /// # Errors
    /// [`AeadError::Unauthentic`], and lengths that cannot be right.
    pub fn open(
        &self,
        nonce: &[u8],
        associated_data: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, AeadError> {
        self.check_nonce(nonce)?;
        let octets = ciphertext.len().checked_sub(AEAD_TAG_OCTETS).ok_or(AeadError::CiphertextLength)?;
        let text = out.get_mut(..octets).ok_or(AeadError::BufferTooShort)?;
        let offset = self.algorithm.text_offset();
        text.copy_from_slice(&ciphertext[offset..][..octets]);
        let tag_offset = if offset == 0 { octets } else { 0 };
        let tag: &[u8; AEAD_TAG_OCTETS] =
            ciphertext[tag_offset..].first_chunk().ok_or(AeadError::CiphertextLength)?;
        if self.open_detached(nonce, associated_data, text, tag) {
            Ok(octets)
        } else {
            Err(AeadError::Unauthentic)
        }
    }

    fn open_detached(&self, nonce: &[u8], associated_data: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
        let components: [&[u8]; 2] = [associated_data, nonce];
        match &self.cipher {
            Expanded::Siv256(siv) => siv.open(&components, text, *tag),
            Expanded::Siv384(siv) => siv.open(&components, text, *tag),
            Expanded::Siv512(siv) => siv.open(&components, text, *tag),
            Expanded::GcmSiv(gcm_siv) => {
                let right = nonce.try_into().is_ok_and(|nonce| {
                    gcm_siv
                        .decrypt_inout_detached(nonce, associated_data, (&mut *text).into(), tag.into())
                        .is_ok()
                });
                if !right {
                    text.zeroize();
                }
                right
            }
        }
    }

    /// SIV takes any nonce, GCM-SIV 12 octets.
    fn check_nonce(&self, nonce: &[u8]) -> Result<(), AeadError> {
        let right = match self.algorithm {
            AeadAlgorithm::Aes128GcmSiv => nonce.len() == self.algorithm.nonce_octets(),
            _ => true,
        };
        if right { Ok(()) } else { Err(AeadError::NonceLength) }
    }
}

impl fmt::Debug for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aead({:?})", self.algorithm)
    }
}
