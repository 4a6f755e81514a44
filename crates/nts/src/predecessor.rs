//! Cookies that another program made, and the files in which it keeps its keys: so that a server which takes another one's
//! place loses no client. RFC 8915 §6 leaves the inside of a cookie to each server.
//!
//! | program | cookie | plaintext | associated data |
//! | --- | --- | --- | --- |
//! | chronyd | key id (4), nonce (16, or 12 with AEAD 30), sealed | C2S, S2C; the algorithm follows from their length | none |
//! | NTPsec | key id (4, host order), nonce (16), sealed | AEAD id (4, host order), C2S, S2C | key id and nonce |
//! | ntpd-rs | key id (4), octets of the sealed (2), nonce (16), sealed | AEAD id (2), S2C, C2S | none |
//!
//! They are only opened: the cookies that their holders get in exchange are ours.

use crate::{Aead, AeadAlgorithm, AeadKey, NtsKeys};
use core::fmt;
use zeroize::Zeroizing;

/// The most keys that are taken from a file; ntpd-rs keeps as many old ones as it is told.
pub const PREDECESSOR_KEYS_MAX: usize = 64;
/// The longest cookie of any of them: two keys of 64 octets, with everything around.
const COOKIE_OCTETS_MAX: usize = 4 + 2 + 16 + 16 + 4 + 2 * 64;
const PLAINTEXT_OCTETS_MAX: usize = 4 + 2 * 64;

/// Whose cookies these are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PredecessorFormat {
    /// chronyd; its file is `ntskeys`.
    Chrony,
    /// NTPsec; its file is `nts-keys`.
    Ntpsec,
    /// ntpd-rs; its file is the `key-storage-path`.
    NtpdRs,
}

/// Why a file gives no keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PredecessorError {
    /// It does not look as that program writes it.
    #[error("it is not written as this program writes its cookie keys")]
    Form,
    /// A key of a length that no algorithm has, or more keys than there can be.
    #[error("it has a key of a wrong length, none, or more than {PREDECESSOR_KEYS_MAX}")]
    Keys,
}

/// The keys of another program, which open its cookies.
#[derive(Clone)]
pub struct PredecessorKeys {
    format: PredecessorFormat,
    /// By number.
    keys: Vec<(u32, Aead)>,
}

impl PredecessorKeys {
    /// Reads the keys of a file.
    ///
    /// # Errors
    /// [`PredecessorError`], whatever the octets are.
    pub fn decode(format: PredecessorFormat, file: &[u8]) -> Result<Self, PredecessorError> {
        let keys = match format {
            PredecessorFormat::Chrony => chrony(file),
            PredecessorFormat::Ntpsec => ntpsec(file),
            PredecessorFormat::NtpdRs => ntpd_rs(file),
        }?;
        if keys.is_empty() || keys.len() > PREDECESSOR_KEYS_MAX {
            return Err(PredecessorError::Keys);
        }
        Ok(Self { format, keys })
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none; never so for what [`PredecessorKeys::decode`] gives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that a cookie carries; `None` for what they did not make.
    #[must_use]
    pub fn open_cookie(&self, cookie: &[u8]) -> Option<NtsKeys> {
        if cookie.len() > COOKIE_OCTETS_MAX {
            return None;
        }
        let (id, rest) = cookie.split_first_chunk::<4>()?;
        let number = match self.format {
            PredecessorFormat::Ntpsec => u32::from_ne_bytes(*id),
            _ => u32::from_be_bytes(*id),
        };
        let (_, aead) = self.keys.iter().find(|(key, _)| *key == number)?;
        let rest = match self.format {
            PredecessorFormat::NtpdRs => {
                let (length, rest) = rest.split_first_chunk::<2>()?;
                let sealed = rest.len().checked_sub(NONCE_OCTETS)?;
                (usize::from(u16::from_be_bytes(*length)) == sealed).then_some(rest)?
            }
            _ => rest,
        };
        let (nonce, sealed) = rest.split_at_checked(aead.algorithm().nonce_octets())?;
        let associated_data = match self.format {
            PredecessorFormat::Ntpsec => &cookie[..4 + nonce.len()],
            _ => &[],
        };
        let mut room = Zeroizing::new([0; PLAINTEXT_OCTETS_MAX]);
        let octets = aead.open(nonce, associated_data, sealed, &mut room[..]).ok()?;
        self.client_keys(&room[..octets])
    }

    fn client_keys(&self, plaintext: &[u8]) -> Option<NtsKeys> {
        let (algorithm, keys) = match self.format {
            PredecessorFormat::Chrony => {
                let half = plaintext.len() / 2;
                let algorithm = AeadAlgorithm::ALL.into_iter().find(|it| it.key_octets() == half)?;
                (algorithm, plaintext)
            }
            PredecessorFormat::Ntpsec => {
                let (id, keys) = plaintext.split_first_chunk::<4>()?;
                (AeadAlgorithm::from_id(u16::try_from(u32::from_ne_bytes(*id)).ok()?)?, keys)
            }
            PredecessorFormat::NtpdRs => {
                let (id, keys) = plaintext.split_first_chunk::<2>()?;
                (AeadAlgorithm::from_id(u16::from_be_bytes(*id))?, keys)
            }
        };
        let (first, second) = keys.split_at_checked(algorithm.key_octets())?;
        let (c2s, s2c) =
            if self.format == PredecessorFormat::NtpdRs { (second, first) } else { (first, second) };
        Some(NtsKeys { c2s: AeadKey::new(algorithm, c2s).ok()?, s2c: AeadKey::new(algorithm, s2c).ok()? })
    }
}

/// Octets of an AES-SIV nonce in these cookies.
const NONCE_OCTETS: usize = 16;

impl fmt::Debug for PredecessorKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PredecessorKeys({:?}, {} keys)", self.format, self.keys.len())
    }
}

type Keys = Result<Vec<(u32, Aead)>, PredecessorError>;

fn key(algorithm: AeadAlgorithm, octets: &[u8]) -> Result<Aead, PredecessorError> {
    AeadKey::new(algorithm, octets).map(|key| key.expand()).map_err(|_| PredecessorError::Keys)
}

/// `NKS1`, the age of the newest key, and lines of number, key and algorithm; before version 4.6.1 `NKS0`, with one
/// algorithm for all of them in the second line.
fn chrony(file: &[u8]) -> Keys {
    let text = core::str::from_utf8(file).map_err(|_| PredecessorError::Form)?;
    let mut lines = text.lines();
    let head = lines.next().map(str::trim_end);
    let second = lines.next().ok_or(PredecessorError::Form)?;
    let common = match head {
        Some("NKS1") => None,
        Some("NKS0") => Some(second.split_ascii_whitespace().next().ok_or(PredecessorError::Form)?),
        _ => return Err(PredecessorError::Form),
    };
    let mut keys = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()).take(PREDECESSOR_KEYS_MAX + 1) {
        let mut words = line.split_ascii_whitespace();
        let (Some(id), Some(digits)) = (words.next(), words.next()) else {
            return Err(PredecessorError::Form);
        };
        let number = u32::from_str_radix(id, 16).map_err(|_| PredecessorError::Form)?;
        let algorithm =
            words.next().or(common).and_then(|word| word.parse().ok()).ok_or(PredecessorError::Form)?;
        let algorithm = AeadAlgorithm::from_id(algorithm).ok_or(PredecessorError::Keys)?;
        let octets = hexadecimal(digits)?;
        keys.push((number, key(algorithm, &octets)?));
    }
    Ok(keys)
}

/// `T:` the time, `L:` the octets of a key, and pairs of `I:` a number and `K:` a key.
fn ntpsec(file: &[u8]) -> Keys {
    let text = core::str::from_utf8(file).map_err(|_| PredecessorError::Form)?;
    let mut algorithm = None;
    let mut number = None;
    let mut keys = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').ok_or(PredecessorError::Form)?;
        let value = value.trim();
        match name.trim() {
            "T" => {}
            "L" => {
                let octets: usize = value.parse().map_err(|_| PredecessorError::Form)?;
                let siv = [
                    AeadAlgorithm::AesSivCmac256,
                    AeadAlgorithm::AesSivCmac384,
                    AeadAlgorithm::AesSivCmac512,
                ];
                let found = siv.into_iter().find(|it| it.key_octets() == octets);
                algorithm = Some(found.ok_or(PredecessorError::Keys)?);
            }
            "I" => number = Some(value.parse().map_err(|_| PredecessorError::Form)?),
            "K" => {
                let (Some(algorithm), Some(number)) = (algorithm, number.take()) else {
                    return Err(PredecessorError::Form);
                };
                let octets = hexadecimal(value)?;
                keys.push((number, key(algorithm, &octets)?));
                if keys.len() > PREDECESSOR_KEYS_MAX {
                    return Err(PredecessorError::Keys);
                }
            }
            _ => return Err(PredecessorError::Form),
        }
    }
    Ok(keys)
}

/// Time (8), number of the first key (4), index of the current one (4), count (4), keys of 64 octets; big-endian.
fn ntpd_rs(file: &[u8]) -> Keys {
    const KEY_OCTETS: usize = 64;
    let (head, keys) = file.split_first_chunk::<20>().ok_or(PredecessorError::Form)?;
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (offset, current, count) = (number(8), number(12), number(16));
    if usize::try_from(count).is_ok_and(|count| count > PREDECESSOR_KEYS_MAX) {
        return Err(PredecessorError::Keys);
    }
    let wanted = usize::try_from(count).ok().and_then(|count| count.checked_mul(KEY_OCTETS));
    if wanted != Some(keys.len()) || current >= count {
        return Err(PredecessorError::Form);
    }
    let octets = keys.chunks_exact(KEY_OCTETS);
    (0..count)
        .zip(octets)
        .map(|(index, octets)| Ok((offset.wrapping_add(index), key(AeadAlgorithm::AesSivCmac512, octets)?)))
        .collect()
}

fn hexadecimal(digits: &str) -> Result<Zeroizing<Vec<u8>>, PredecessorError> {
    const OCTETS_MAX: usize = 64;
    if digits.len() > 2 * OCTETS_MAX || !digits.len().is_multiple_of(2) {
        return Err(PredecessorError::Keys);
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.as_bytes().chunks_exact(2) {
        let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low);
        octets.push(pair.ok_or(PredecessorError::Form)?);
    }
    Ok(octets)
}

/// A cookie as the other program makes it.
#[cfg(test)]
pub(crate) fn seal_as_predecessor(
    format: PredecessorFormat,
    (number, master): (u32, &AeadKey),
    keys: &NtsKeys,
    nonce: &[u8],
) -> Vec<u8> {
    let algorithm = keys.algorithm().id();
    let (c2s, s2c) = (keys.c2s.expose_secret(), keys.s2c.expose_secret());
    let plaintext = match format {
        PredecessorFormat::Chrony => [c2s, s2c].concat(),
        PredecessorFormat::Ntpsec => [&u32::from(algorithm).to_ne_bytes()[..], c2s, s2c].concat(),
        PredecessorFormat::NtpdRs => [&algorithm.to_be_bytes()[..], s2c, c2s].concat(),
    };
    let sealed_octets = u16::try_from(plaintext.len() + 16).unwrap_or(u16::MAX);
    let head = match format {
        PredecessorFormat::Chrony => number.to_be_bytes().to_vec(),
        PredecessorFormat::Ntpsec => number.to_ne_bytes().to_vec(),
        PredecessorFormat::NtpdRs => [&number.to_be_bytes()[..], &sealed_octets.to_be_bytes()].concat(),
    };
    let mut cookie = [&head, nonce].concat();
    let associated_data = if format == PredecessorFormat::Ntpsec { cookie.clone() } else { Vec::new() };
    let mut sealed = vec![0; plaintext.len() + 16];
    let sealed_octets = master.expand().seal(nonce, &associated_data, &plaintext, &mut sealed);
    cookie.extend_from_slice(&sealed[..sealed_octets.unwrap_or(0)]);
    cookie
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NTPSEC: &[u8] = include_bytes!("../testdata/nts-keys.ntpsec");
    const NTPD_RS: &[u8] = include_bytes!("../testdata/nts-keys.ntpd-rs.bin");
    const CHRONY: &str = "NKS1\n43.0\n\
        0F2C0684 000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F 15\n\
        865D3285 101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F 15\n\
        539D45B6 202122232425262728292A2B2C2D2E2F 30\n";

    fn keys(algorithm: AeadAlgorithm) -> NtsKeys {
        let key =
            |octet| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]).expect("right length");
        NtsKeys { c2s: key(1), s2c: key(2) }
    }

    fn master(algorithm: AeadAlgorithm, first: u8) -> AeadKey {
        let octets: Vec<u8> = (first..).take(algorithm.key_octets()).collect();
        AeadKey::new(algorithm, &octets).expect("right length")
    }

    fn opens(ring: &PredecessorKeys, number: u32, master: &AeadKey, octets: usize) {
        let nonce = vec![7; master.algorithm().nonce_octets()];
        for algorithm in AeadAlgorithm::ALL {
            let keys = keys(algorithm);
            let cookie = seal_as_predecessor(ring.format, (number, master), &keys, &nonce);
            if algorithm == AeadAlgorithm::AesSivCmac256 {
                assert_eq!(cookie.len(), octets);
            }
            assert_eq!(ring.open_cookie(&cookie), Some(keys), "{algorithm:?}");
            for at in 0..cookie.len() {
                let mut garbled = cookie.clone();
                garbled[at] ^= 1;
                assert_eq!(ring.open_cookie(&garbled), None, "octet {at}");
                assert_eq!(ring.open_cookie(&cookie[..at]), None, "{at} octets");
            }
        }
    }

    #[test]
    fn the_files_of_all_three_are_read_and_their_cookies_opened() {
        let siv = AeadAlgorithm::AesSivCmac256;
        let ntpsec = PredecessorKeys::decode(PredecessorFormat::Ntpsec, NTPSEC).expect("as it writes them");
        assert_eq!(ntpsec.len(), 2);
        opens(&ntpsec, 3_076_691_085, &master(siv, 0), 104);

        let ntpd_rs = PredecessorKeys::decode(PredecessorFormat::NtpdRs, NTPD_RS).expect("as it writes them");
        assert_eq!(ntpd_rs.len(), 3);
        opens(&ntpd_rs, 7, &master(AeadAlgorithm::AesSivCmac512, 32), 104);

        let chrony = PredecessorKeys::decode(PredecessorFormat::Chrony, CHRONY.as_bytes()).expect("good");
        assert_eq!(chrony.len(), 3);
        opens(&chrony, 0x865d_3285, &master(siv, 16), 100);
        opens(&chrony, 0x539d_45b6, &master(AeadAlgorithm::Aes128GcmSiv, 32), 96);

        let old =
            "NKS0\n15 43.0\n0F2C0684 000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F\n";
        let old = PredecessorKeys::decode(PredecessorFormat::Chrony, old.as_bytes()).expect("good");
        opens(&old, 0x0f2c_0684, &master(siv, 0), 100);
    }

    #[test]
    fn a_key_number_of_ntpsec_is_in_host_order_in_its_cookies() {
        let cookie = seal_as_predecessor(
            PredecessorFormat::Ntpsec,
            (3_076_691_085, &master(AeadAlgorithm::AesSivCmac256, 0)),
            &keys(AeadAlgorithm::AesSivCmac256),
            &[0; 16],
        );
        // As captured from NTPsec on a little-endian machine with this key file.
        if cfg!(target_endian = "little") {
            assert_eq!(cookie[..4], [0x8d, 0x94, 0x62, 0xb7]);
        }
    }

    #[test]
    fn other_files_are_refused() {
        use PredecessorFormat::{Chrony, NtpdRs, Ntpsec};
        for (format, file) in [
            (Chrony, &b""[..]),
            (Chrony, b"NKS2\n1\n"),
            (Chrony, b"NKS1\n1.0\n"),
            (Chrony, b"NKS1\n1.0\n0F 00 15\n"),
            (Ntpsec, b""),
            (Ntpsec, b"T: 1\nL: 31\n"),
            (Ntpsec, b"T: 1\nL: 32\nK: 00\n"),
            (Ntpsec, b"T: 1\nL: 32\nI: 1\nK: 0011\n"),
            (NtpdRs, b""),
            (NtpdRs, &NTPD_RS[..NTPD_RS.len() - 1]),
            (NtpdRs, &[0xff; 20]),
            (NtpdRs, NTPSEC),
        ] {
            assert!(PredecessorKeys::decode(format, file).is_err(), "{format:?} {file:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_an_error_or_keys(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            for format in [PredecessorFormat::Chrony, PredecessorFormat::Ntpsec, PredecessorFormat::NtpdRs] {
                let _ = PredecessorKeys::decode(format, &octets);
            }
            let ring = PredecessorKeys::decode(PredecessorFormat::NtpdRs, NTPD_RS).expect("good");
            prop_assert_eq!(ring.open_cookie(&[&[0, 0, 0, 7], &octets[..]].concat()), None);
        }
    }
}
