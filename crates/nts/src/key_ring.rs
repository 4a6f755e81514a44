//! The keys with which a server makes its cookies. RFC 8915 §6.

mod bulk;
mod file;

pub use file::KeyRingError;

use crate::predecessor::PredecessorKeys;
use crate::vector::siv::SameDataKey;
use crate::{AEAD_TAG_OCTETS, Aead, AeadAlgorithm, AeadKey, Arithmetic, Cookie, NtsKeys};
use arrayvec::ArrayVec;
use chime_time::NtpDate;
use core::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The most keys that a ring holds.
pub const KEYS_MAX: usize = 16;
/// Old keys that are kept when nothing else is configured. With daily rotation a cookie is good for at least a week; the
/// client that polls every 3 hours and never gets an answer has spent its 8 cookies after one day.
pub const KEYS_KEPT_DEFAULT: usize = 7;

const KEY_OCTETS: usize = 32;
pub(crate) const KEY_ID_OCTETS: usize = 4;
const NONCE_OCTETS: usize = 16;
pub(crate) const COOKIE_HEAD_OCTETS: usize = KEY_ID_OCTETS + NONCE_OCTETS;
/// Algorithm and two octets that are zero, so that every cookie is a multiple of four long.
const PLAINTEXT_HEAD_OCTETS: usize = 4;
pub(crate) const PLAINTEXT_OCTETS_MAX: usize = PLAINTEXT_HEAD_OCTETS + 2 * 64;

/// A key that makes and opens cookies; wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CookieKey {
    /// The number by which a cookie names its key; it is sent in the clear.
    pub id: u32,
    octets: [u8; KEY_OCTETS],
    /// When the key was made; in the file with whole seconds.
    #[zeroize(skip)]
    pub created: NtpDate,
}

impl CookieKey {
    /// A key of 32 secret random octets, and a random number for it.
    #[must_use]
    pub const fn new(id: u32, octets: [u8; KEY_OCTETS], created: NtpDate) -> Self {
        Self { id, octets, created }
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieKey({:08x}, created {:?})", self.id, self.created)
    }
}

/// Why a cookie was not opened. The client gets an NTS NAK for each of these.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum CookieError {
    /// Not a length that our cookies have.
    #[error("the cookie has a length that ours do not have")]
    Length,
    /// The key is not on the ring, or not any more.
    #[error("the cookie was made with a key that we do not have")]
    UnknownKey,
    /// The key is on the ring and did not make this cookie.
    #[error("the cookie was garbled or forged")]
    Unauthentic,
}

/// The key that makes cookies, and older ones that still open them.
///
/// A cookie is self-contained: whoever has the ring needs no memory of the client. It is
/// `key id (4) | nonce (16) | AES-SIV-CMAC-256(key, nonce, AEAD id (2) | 0 (2) | C2S | S2C)` with the key id as
/// associated data: 104 octets for AEAD 15, 136 for 16, 168 for 17, 72 for 30. With a nonce that is new for each cookie,
/// two cookies of one client have no more in common than those of two clients that came on the same day.
#[derive(Clone)]
pub struct KeyRing {
    /// Newest first; never empty.
    keys: ArrayVec<RingKey, KEYS_MAX>,
    arithmetic: Arithmetic,
    /// Keys of the program that served here before.
    predecessor: Option<Arc<PredecessorKeys>>,
    /// Whether cookies are made with these, so that it can serve here again.
    keeps_way_back: bool,
}

/// A key with its schedules computed.
#[derive(Clone)]
struct RingKey {
    key: CookieKey,
    aead: Aead,
    /// The same for batches, where the arithmetic has more to offer than `aead`.
    siv: Option<Box<SameDataKey>>,
}

impl RingKey {
    fn new(key: CookieKey, arithmetic: Arithmetic) -> Self {
        let aead = AeadKey::new(AeadAlgorithm::AesSivCmac256, &key.octets)
            .expect("32 octets are what the algorithm needs")
            .expand();
        let id = key.id.to_be_bytes();
        let siv = arithmetic.vector().map(|vector| Box::new(SameDataKey::new(vector, &key.octets, &id)));
        Self { key, aead, siv }
    }
}

impl KeyRing {
    /// A ring of one key.
    #[must_use]
    pub fn new(first: CookieKey) -> Self {
        let arithmetic = Arithmetic::best();
        let mut keys = ArrayVec::new();
        keys.push(RingKey::new(first, arithmetic));
        Self { keys, arithmetic, predecessor: None, keeps_way_back: false }
    }

    /// The same ring, which opens the cookies of another program, too. They are not in the ring's file.
    #[must_use]
    pub fn with_predecessor(self, predecessor: Option<Arc<PredecessorKeys>>) -> Self {
        Self { predecessor, ..self }
    }

    /// The same ring, whose cookies are made with the keys of the other program, if there are any, or are ours again.
    #[must_use]
    pub fn with_way_back(self, keeps_way_back: bool) -> Self {
        Self { keeps_way_back, ..self }
    }

    /// Whether cookies are made with the keys of the other program.
    #[must_use]
    pub fn keeps_way_back(&self) -> bool {
        self.way_back().is_some()
    }

    fn way_back(&self) -> Option<&PredecessorKeys> {
        self.predecessor.as_deref().filter(|_| self.keeps_way_back)
    }

    /// The keys of another program whose cookies are opened.
    #[must_use]
    pub const fn predecessor(&self) -> Option<&Arc<PredecessorKeys>> {
        self.predecessor.as_ref()
    }

    /// How [`crate::NtsBatch`] computes with this ring; [`Arithmetic::best`] unless it was changed.
    #[must_use]
    pub const fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// The same ring with another arithmetic.
    #[must_use]
    pub fn with_arithmetic(self, arithmetic: Arithmetic) -> Self {
        let keys = self.keys.into_iter().map(|key| RingKey::new(key.key, arithmetic)).collect();
        Self { keys, arithmetic, ..self }
    }

    /// Makes cookies with `fresh` from now on and keeps at most `keep` older keys ([`KEYS_MAX`] in all).
    ///
    /// If an older key has the same number, the fresh one gets the next free number.
    pub fn rotate(&mut self, mut fresh: CookieKey, keep: usize) {
        self.keys.truncate(keep.min(KEYS_MAX - 1));
        while self.keys().any(|key| key.id == fresh.id) {
            fresh.id = fresh.id.wrapping_add(1);
        }
        self.keys.insert(0, RingKey::new(fresh, self.arithmetic));
    }

    /// How many keys were made since that of `cookie`; of cookies that are not ours, as many as there are.
    #[must_use]
    pub fn age_of(&self, cookie: &[u8]) -> usize {
        let id = cookie.first_chunk::<KEY_ID_OCTETS>().map(|id| u32::from_be_bytes(*id));
        self.keys.iter().position(|known| Some(known.key.id) == id).unwrap_or(self.keys.len())
    }

    /// Whether the key that makes cookies is older than `interval_seconds`, or was made that much in the future, as it
    /// seems after the clock was set back.
    #[must_use]
    pub fn is_rotation_due(&self, now: NtpDate, interval_seconds: u32) -> bool {
        let age = now.unix_seconds().saturating_sub(self.current().created.unix_seconds());
        age.unsigned_abs() >= u64::from(interval_seconds)
    }

    /// The key that makes cookies.
    #[must_use]
    pub fn current(&self) -> &CookieKey {
        &self.keys[0].key
    }

    /// Number of the key that makes cookies.
    #[must_use]
    pub fn current_id(&self) -> u32 {
        self.current().id
    }

    /// All keys, newest first; never empty.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &CookieKey> {
        self.keys.iter().map(|key| &key.key)
    }

    /// Octets of the cookies that this ring makes for an algorithm; a multiple of four.
    #[must_use]
    pub fn fresh_cookie_octets(&self, algorithm: AeadAlgorithm) -> usize {
        self.way_back().map_or(Self::cookie_octets(algorithm), |theirs| theirs.cookie_octets(algorithm))
    }

    /// Octets of the cookies of our own form for an algorithm; a multiple of four.
    #[must_use]
    pub const fn cookie_octets(algorithm: AeadAlgorithm) -> usize {
        COOKIE_HEAD_OCTETS + AEAD_TAG_OCTETS + PLAINTEXT_HEAD_OCTETS + 2 * algorithm.key_octets()
    }

    /// Whether a cookie of ours can have this length.
    pub(crate) fn is_cookie_length(octets: usize) -> bool {
        AeadAlgorithm::ALL.into_iter().any(|algorithm| octets == Self::cookie_octets(algorithm))
    }

    /// The key with a number, for batches.
    pub(crate) fn siv_key(&self, id: u32) -> Option<&SameDataKey> {
        self.keys.iter().find(|key| key.key.id == id)?.siv.as_deref()
    }

    /// The key that makes cookies, for batches; none while it is another program's.
    pub(crate) fn current_siv_key(&self) -> Option<&SameDataKey> {
        self.keys[0].siv.as_deref().filter(|_| !self.keeps_way_back())
    }

    /// Makes a cookie from a client's keys; `nonce` is random and used for one cookie only.
    #[must_use]
    pub fn seal_cookie(&self, keys: &NtsKeys, nonce: [u8; NONCE_OCTETS]) -> Cookie {
        if let Some(theirs) = self.way_back() {
            return theirs.seal_cookie(keys, &nonce);
        }
        let RingKey { key, aead, .. } = &self.keys[0];
        let algorithm = keys.algorithm();
        let mut octets = [0; COOKIE_HEAD_OCTETS + AEAD_TAG_OCTETS + PLAINTEXT_OCTETS_MAX];
        let octets = &mut octets[..Self::cookie_octets(algorithm)];
        let (head, sealed) = octets.split_at_mut(COOKIE_HEAD_OCTETS);
        head[..KEY_ID_OCTETS].copy_from_slice(&key.id.to_be_bytes());
        head[KEY_ID_OCTETS..].copy_from_slice(&nonce);
        write_plaintext(keys, &mut sealed[AEAD_TAG_OCTETS..]);
        aead.seal_in_place(&nonce, &key.id.to_be_bytes(), sealed)
            .expect("the nonce and the room fit AES-SIV");
        Cookie::new(octets).expect("a multiple of four below the maximum")
    }

    /// The keys that a cookie carries: one of ours, or of the program that served here before.
    ///
    /// # Errors
    /// [`CookieError`] when it is neither, too old, or garbled.
    pub fn open_cookie(&self, cookie: &[u8]) -> Result<NtsKeys, CookieError> {
        self.open_own_cookie(cookie).or_else(|error| self.open_foreign_cookie(cookie).ok_or(error))
    }

    /// The keys in a cookie of the program that served here before.
    pub(crate) fn open_foreign_cookie(&self, cookie: &[u8]) -> Option<NtsKeys> {
        self.predecessor.as_ref()?.open_cookie(cookie)
    }

    fn open_own_cookie(&self, cookie: &[u8]) -> Result<NtsKeys, CookieError> {
        if !Self::is_cookie_length(cookie.len()) {
            return Err(CookieError::Length);
        }
        let (id, rest) = cookie.split_first_chunk::<KEY_ID_OCTETS>().ok_or(CookieError::Length)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_OCTETS>().ok_or(CookieError::Length)?;
        let RingKey { aead, .. } = self
            .keys
            .iter()
            .find(|key| key.key.id == u32::from_be_bytes(*id))
            .ok_or(CookieError::UnknownKey)?;
        let mut room = [0; PLAINTEXT_OCTETS_MAX];
        let octets = aead.open(nonce, id, sealed, &mut room).map_err(|_| CookieError::Unauthentic)?;
        let keys = plaintext_keys(&room[..octets]).ok_or(CookieError::Unauthentic);
        room.zeroize();
        keys
    }
}

/// Writes the plaintext of a cookie at the start of `room`, which has the octets for it; gives how many they are.
pub(crate) fn write_plaintext(keys: &NtsKeys, room: &mut [u8]) -> usize {
    let algorithm = keys.algorithm();
    let octets = PLAINTEXT_HEAD_OCTETS + 2 * algorithm.key_octets();
    let (head, text) = room[..octets].split_at_mut(PLAINTEXT_HEAD_OCTETS);
    let [high, low] = algorithm.id().to_be_bytes();
    head.copy_from_slice(&[high, low, 0, 0]);
    let (c2s, s2c) = text.split_at_mut(algorithm.key_octets());
    c2s.copy_from_slice(keys.c2s.expose_secret());
    s2c.copy_from_slice(keys.s2c.expose_secret());
    octets
}

/// Algorithm, C2S and S2C key of a cookie's plaintext; `None` for what a later version may have sealed with the same key.
pub(crate) fn plaintext_parts(plaintext: &[u8]) -> Option<(AeadAlgorithm, &[u8], &[u8])> {
    let (head, keys) = plaintext.split_first_chunk::<PLAINTEXT_HEAD_OCTETS>()?;
    let algorithm = AeadAlgorithm::from_id(u16::from_be_bytes([head[0], head[1]]))?;
    let (c2s, s2c) = keys.split_at_checked(algorithm.key_octets())?;
    (head[2..] == [0, 0] && s2c.len() == c2s.len()).then_some((algorithm, c2s, s2c))
}

/// The keys in a cookie's plaintext.
pub(crate) fn plaintext_keys(plaintext: &[u8]) -> Option<NtsKeys> {
    let (algorithm, c2s, s2c) = plaintext_parts(plaintext)?;
    Some(NtsKeys { c2s: AeadKey::new(algorithm, c2s).ok()?, s2c: AeadKey::new(algorithm, s2c).ok()? })
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const DAY: i64 = 86_400;

    fn key(number: u8, created: i64) -> CookieKey {
        CookieKey::new(u32::from(number), [number; 32], NtpDate::from_unix(created, 0))
    }

    fn keys(algorithm: AeadAlgorithm) -> NtsKeys {
        let key =
            |octet| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]).expect("right length");
        NtsKeys { c2s: key(1), s2c: key(2) }
    }

    #[test]
    fn what_is_sealed_is_opened_again_for_every_algorithm() {
        let ring = KeyRing::new(key(9, 0));
        for (algorithm, octets) in AeadAlgorithm::ALL.into_iter().zip([104, 136, 168, 72]) {
            let keys = keys(algorithm);
            let cookie = ring.seal_cookie(&keys, [3; 16]);
            assert_eq!(cookie.as_bytes().len(), octets);
            assert_eq!(ring.open_cookie(cookie.as_bytes()), Ok(keys));
        }
    }

    #[test]
    fn cookies_of_one_client_have_only_the_key_number_in_common() {
        let (ring, keys) = (KeyRing::new(key(9, 0)), keys(AeadAlgorithm::AesSivCmac256));
        let cookies: Vec<_> = (0..8).map(|nonce| ring.seal_cookie(&keys, [nonce; 16])).collect();
        let blocks: HashSet<_> =
            cookies.iter().flat_map(|cookie| cookie.as_bytes()[4..].chunks_exact(16)).collect();
        assert_eq!(blocks.len(), 8 * 6, "no block of any cookie appears in another");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let (ring, keys) = (KeyRing::new(key(9, 0)), keys(AeadAlgorithm::Aes128GcmSiv));
        let cookie = ring.seal_cookie(&keys, [7; 16]);
        for bit in 0..cookie.as_bytes().len() * 8 {
            let mut octets = cookie.as_bytes().to_vec();
            octets[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 32 { CookieError::UnknownKey } else { CookieError::Unauthentic };
            assert_eq!(ring.open_cookie(&octets), Err(expected), "bit {bit}");
        }
        for octets in 0..cookie.as_bytes().len() {
            assert_eq!(
                ring.open_cookie(&cookie.as_bytes()[..octets]),
                Err(CookieError::Length),
                "{octets} octets"
            );
        }
        assert_eq!(ring.open_cookie(&[0x55; 104]), Err(CookieError::UnknownKey));
    }

    #[test]
    fn a_client_that_polls_every_three_hours_never_loses_its_cookies_to_daily_rotation() {
        let (mut ring, keys) = (KeyRing::new(key(0, 0)), keys(AeadAlgorithm::AesSivCmac256));
        // Worst case: eight cookies from the last second of a key's day, and all answers lost but the last.
        let cookie = ring.seal_cookie(&keys, [1; 16]);
        for hour in 1..=24u8 {
            let now = NtpDate::from_unix(DAY - 1 + i64::from(hour) * 3600, 0);
            if ring.is_rotation_due(now, 86_400) {
                ring.rotate(key(hour, now.unix_seconds()), KEYS_KEPT_DEFAULT);
            }
            assert!(ring.open_cookie(cookie.as_bytes()).is_ok(), "hour {hour}");
        }
        assert_eq!(ring.keys().len(), 2);
    }

    #[test]
    fn rotation_keeps_as_many_old_keys_as_it_is_told() {
        let (mut ring, keys) = (KeyRing::new(key(0, 0)), keys(AeadAlgorithm::AesSivCmac256));
        let first = ring.seal_cookie(&keys, [1; 16]);
        for day in 1..=KEYS_KEPT_DEFAULT {
            ring.rotate(key(u8::try_from(day).unwrap(), 0), KEYS_KEPT_DEFAULT);
            assert!(ring.open_cookie(first.as_bytes()).is_ok(), "day {day}");
        }
        ring.rotate(key(99, 0), KEYS_KEPT_DEFAULT);
        assert_eq!(ring.open_cookie(first.as_bytes()), Err(CookieError::UnknownKey));
        assert_eq!((ring.keys().len(), ring.current_id()), (KEYS_KEPT_DEFAULT + 1, 99));
        for number in 100..140 {
            ring.rotate(key(number, 0), usize::MAX);
        }
        assert_eq!(ring.keys().len(), KEYS_MAX);
    }

    #[test]
    fn two_keys_never_have_the_same_number() {
        let mut ring = KeyRing::new(key(5, 0));
        ring.rotate(CookieKey::new(5, [6; 32], NtpDate::from_unix(1, 0)), 3);
        assert_eq!(ring.keys().map(|key| key.id).collect::<Vec<_>>(), [6, 5]);
    }

    #[test]
    fn rotation_is_due_after_the_interval_and_after_the_clock_was_set_back() {
        let ring = KeyRing::new(key(5, 10 * DAY));
        for (now, due) in
            [(10 * DAY, false), (11 * DAY - 1, false), (11 * DAY, true), (9 * DAY + 1, false), (0, true)]
        {
            assert_eq!(ring.is_rotation_due(NtpDate::from_unix(now, 0), 86_400), due, "at {now}");
        }
    }
}
