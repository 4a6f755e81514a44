//! All cookies of a key establishment at once: they differ in their nonces only, and go through the cipher side by side.

use super::{
    COOKIE_HEAD_OCTETS, KEY_ID_OCTETS, KeyRing, NONCE_OCTETS, PLAINTEXT_OCTETS_MAX, write_plaintext,
};
use crate::vector::{LANES, siv};
use crate::{AEAD_TAG_OCTETS, COOKIES_MAX, Cookie, NtsKeys};
use arrayvec::ArrayVec;
use zeroize::Zeroizing;

const _: () = assert!(COOKIES_MAX <= LANES);

impl KeyRing {
    /// As [`KeyRing::seal_cookie`], one for each of the nonces.
    #[must_use]
    pub fn seal_cookies(&self, keys: &NtsKeys, nonces: &[[u8; NONCE_OCTETS]; COOKIES_MAX]) -> Vec<Cookie> {
        let (Some(vector), Some(key)) = (self.arithmetic().vector(), self.current_siv_key()) else {
            return nonces.iter().map(|nonce| self.seal_cookie(keys, *nonce)).collect();
        };
        let id = self.current_id().to_be_bytes();
        let mut room = Zeroizing::new([0; PLAINTEXT_OCTETS_MAX]);
        let octets = write_plaintext(keys, &mut room[..]);
        let plaintext = &room[..octets];
        let messages: ArrayVec<_, LANES> = nonces.iter().map(|nonce| key.message(nonce, plaintext)).collect();
        let seal = |(nonce, tag): (&[u8; NONCE_OCTETS], [u8; AEAD_TAG_OCTETS])| {
            let mut octets = [0; COOKIE_HEAD_OCTETS + AEAD_TAG_OCTETS + PLAINTEXT_OCTETS_MAX];
            let octets = &mut octets[..COOKIE_HEAD_OCTETS + AEAD_TAG_OCTETS + plaintext.len()];
            octets[..KEY_ID_OCTETS].copy_from_slice(&id);
            octets[KEY_ID_OCTETS..COOKIE_HEAD_OCTETS].copy_from_slice(nonce);
            let (room_for_tag, text) = octets[COOKIE_HEAD_OCTETS..].split_at_mut(AEAD_TAG_OCTETS);
            room_for_tag.copy_from_slice(&tag);
            text.copy_from_slice(plaintext);
            key.add_key_stream(vector, tag, text);
            Cookie::new(octets).expect("a multiple of four below the maximum")
        };
        nonces.iter().zip(siv::tags(vector, &messages)).map(seal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AeadAlgorithm, AeadKey, Arithmetic, CookieKey};
    use chime_time::NtpDate;

    #[test]
    fn cookies_in_bulk_are_those_that_are_made_one_by_one() {
        let nonces = core::array::from_fn(|number| [u8::try_from(number).expect("eight"); NONCE_OCTETS]);
        for algorithm in
            [AeadAlgorithm::AesSivCmac256, AeadAlgorithm::Aes128GcmSiv, AeadAlgorithm::AesSivCmac512]
        {
            let key = |octet| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]).expect("a key");
            let keys = NtsKeys { c2s: key(1), s2c: key(2) };
            for arithmetic in Arithmetic::available() {
                let ring = KeyRing::new(CookieKey::new(7, [9; 32], NtpDate::from_unix(0, 0)))
                    .with_arithmetic(arithmetic);
                let one_by_one: Vec<_> = nonces.iter().map(|nonce| ring.seal_cookie(&keys, *nonce)).collect();
                assert_eq!(ring.seal_cookies(&keys, &nonces), one_by_one, "{arithmetic:?}");
            }
        }
    }
}
