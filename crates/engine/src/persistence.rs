//! What an engine wants to know again after a restart, as octets for a file: pure, versioned, checksummed.
//!
//! ```text
//! "CHIMEST" kind(1) version(2) octets of the payload(4) payload  SHA-256 over everything before it(32)
//! ```
//!
//! Numbers are big-endian; strings and lists carry their length in front. The files are the shell's: mode 0600 for
//! [`encode_nts_state`], which holds keys, written to a temporary name and renamed. Whoever saw a cookie twice could tell
//! that it is the same client. So the file of a running daemon has only cookies that it has set aside, and a daemon that
//! starts takes the file away before it uses them: a crash at a bad moment costs new keys, and no cookie is sent again.

use chime_nts::{AeadAlgorithm, AeadKey, COOKIES_MAX, Cookie, NtsKeys};
use chime_time::Frequency;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use zeroize::Zeroizing;

const MAGIC: &[u8; 7] = b"CHIMEST";
const KIND_NTS: u8 = b'N';
const KIND_CLOCK: u8 = b'C';
const HEADER_OCTETS: usize = 14;
const CHECKSUM_OCTETS: usize = 32;
/// Of each kind; since 2 an association says which trust judged its certificate.
const fn version_of(kind: u8) -> u16 {
    if kind == KIND_NTS { 2 } else { 1 }
}
/// The most associations in one file; more than any configuration has.
const ASSOCIATIONS_MAX: usize = 1024;
/// The longest name in a file: DNS allows 255 octets.
const NAME_OCTETS_MAX: usize = 256;

/// The NTS state of one association.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedAssociation {
    /// The source's name as configured: the key establishment server.
    pub name: String,
    /// The key establishment server's TCP port.
    pub ke_port: u16,
    /// Which trust judged the certificate, as [`crate::NtsSource::trust`].
    pub trust: u32,
    /// The key establishment server's address, if known.
    pub ke_address: Option<IpAddr>,
    /// Where NTP requests go.
    pub remote: SocketAddr,
    /// The keys.
    pub keys: NtsKeys,
    /// Unused cookies, oldest first.
    pub cookies: Vec<Cookie>,
    /// When the keys were established; Unix seconds by our clock then.
    pub established_unix_seconds: i64,
    /// How many key establishments succeeded.
    pub establishments: u32,
    /// First and last second of the certificate's validity, Unix seconds, and whether that is still to be judged.
    pub certificate: Option<SavedCertificate>,
}

/// The dates of the certificate with which keys were established.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavedCertificate {
    /// First second of validity; Unix seconds.
    pub not_before: i64,
    /// Last second of validity; Unix seconds.
    pub not_after: i64,
    /// Whether the dates are still to be judged against a measured time.
    pub provisional: bool,
}

/// What was learnt about our clock.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct SavedClock {
    /// Frequency correction and its standard error (s/s), for [`chime_discipline::SavedFrequency`].
    pub frequency: Option<(Frequency, f64)>,
    /// The last time at which the clock was synchronised by authenticated sources; Unix seconds. For
    /// [`crate::KnownTime::last_good_unix_seconds`].
    pub last_good_unix_seconds: Option<i64>,
}

/// Why a file's contents are of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    /// Not one of our files, or one of another kind.
    #[error("this is not a state file of the expected kind")]
    Foreign,
    /// Written by another version.
    #[error("the state file has version {0}, which this program does not know")]
    Version(u16),
    /// Cut off, or longer than it says.
    #[error("the state file is truncated or has octets to spare")]
    Length,
    /// Altered.
    #[error("the state file is damaged: its checksum does not fit")]
    Checksum,
    /// The checksum fits, but a value is impossible.
    #[error("the state file holds an impossible {0}")]
    Value(&'static str),
}

/// Encodes the NTS state of all associations. Holds keys: see the module's head for what to do with it.
#[must_use]
pub fn encode_nts_state(associations: &[SavedAssociation]) -> Zeroizing<Vec<u8>> {
    let mut payload = Payload::default();
    let saved = &associations[..associations.len().min(ASSOCIATIONS_MAX)];
    payload.list_length(saved.len());
    for association in saved {
        payload.association(association);
    }
    payload.seal(KIND_NTS)
}

/// Decodes what [`encode_nts_state`] wrote.
///
/// # Errors
/// [`StateError`], in words for an operator; nothing of a damaged file is used.
pub fn decode_nts_state(octets: &[u8]) -> Result<Vec<SavedAssociation>, StateError> {
    let mut reader = Reader::open(octets, KIND_NTS)?;
    let count = reader.list_length(ASSOCIATIONS_MAX)?;
    let associations = (0..count).map(|_| reader.association()).collect::<Result<Vec<_>, _>>()?;
    reader.finish()?;
    Ok(associations)
}

/// Encodes what was learnt about the clock.
#[must_use]
pub fn encode_clock(clock: &SavedClock) -> Vec<u8> {
    let mut payload = Payload::default();
    payload.octets(&[u8::from(clock.frequency.is_some())]);
    let (frequency, skew) = clock.frequency.unwrap_or_default();
    payload.octets(&frequency.as_ratio().to_be_bytes());
    payload.octets(&skew.to_be_bytes());
    payload.octets(&[u8::from(clock.last_good_unix_seconds.is_some())]);
    payload.octets(&clock.last_good_unix_seconds.unwrap_or_default().to_be_bytes());
    payload.seal(KIND_CLOCK).to_vec()
}

/// Decodes what [`encode_clock`] wrote.
///
/// # Errors
/// [`StateError`], in words for an operator.
pub fn decode_clock(octets: &[u8]) -> Result<SavedClock, StateError> {
    let mut reader = Reader::open(octets, KIND_CLOCK)?;
    let has_frequency = reader.flag()?;
    let (frequency, skew) = (f64::from_be_bytes(reader.array()?), f64::from_be_bytes(reader.array()?));
    let has_time = reader.flag()?;
    let last_good = i64::from_be_bytes(reader.array()?);
    reader.finish()?;
    if has_frequency && !(frequency.abs() < 0.5 && (0.0..1.0).contains(&skew)) {
        return Err(StateError::Value("frequency"));
    }
    Ok(SavedClock {
        frequency: has_frequency.then(|| (Frequency::from_ratio(frequency), skew)),
        last_good_unix_seconds: has_time.then_some(last_good),
    })
}

/// What goes between header and checksum.
#[derive(Default)]
struct Payload(Zeroizing<Vec<u8>>);

impl Payload {
    fn octets(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    /// Lengths of lists and strings are limited where they are made; what would not fit is cut.
    fn list_length(&mut self, length: usize) {
        self.octets(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }

    fn string(&mut self, octets: &[u8]) {
        let octets = &octets[..octets.len().min(usize::from(u16::MAX))];
        self.list_length(octets.len());
        self.octets(octets);
    }

    fn address(&mut self, address: Option<IpAddr>) {
        match address {
            None => self.octets(&[0]),
            Some(IpAddr::V4(address)) => {
                self.octets(&[4]);
                self.octets(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                self.octets(&[6]);
                self.octets(&address.octets());
            }
        }
    }

    fn association(&mut self, saved: &SavedAssociation) {
        self.string(saved.name.as_bytes());
        self.octets(&saved.ke_port.to_be_bytes());
        self.octets(&saved.trust.to_be_bytes());
        self.address(saved.ke_address);
        self.address(Some(saved.remote.ip()));
        self.octets(&saved.remote.port().to_be_bytes());
        self.octets(&saved.keys.algorithm().id().to_be_bytes());
        self.octets(saved.keys.c2s.expose_secret());
        self.octets(saved.keys.s2c.expose_secret());
        let cookies = &saved.cookies[..saved.cookies.len().min(COOKIES_MAX)];
        self.list_length(cookies.len());
        for cookie in cookies {
            self.string(cookie.as_bytes());
        }
        self.octets(&saved.established_unix_seconds.to_be_bytes());
        self.octets(&saved.establishments.to_be_bytes());
        self.octets(&[u8::from(saved.certificate.is_some())]);
        if let Some(certificate) = saved.certificate {
            self.octets(&certificate.not_before.to_be_bytes());
            self.octets(&certificate.not_after.to_be_bytes());
            self.octets(&[u8::from(certificate.provisional)]);
        }
    }

    fn seal(self, kind: u8) -> Zeroizing<Vec<u8>> {
        let mut file = Zeroizing::new(Vec::with_capacity(HEADER_OCTETS + self.0.len() + CHECKSUM_OCTETS));
        file.extend_from_slice(MAGIC);
        file.push(kind);
        file.extend_from_slice(&version_of(kind).to_be_bytes());
        file.extend_from_slice(&u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_be_bytes());
        file.extend_from_slice(&self.0);
        let checksum = Sha256::digest(&*file);
        file.extend_from_slice(&checksum);
        file
    }
}

/// Walks over a payload whose checksum fits.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn open(file: &'a [u8], kind: u8) -> Result<Self, StateError> {
        let (header, rest) = file.split_first_chunk::<HEADER_OCTETS>().ok_or(StateError::Length)?;
        if header[..7] != MAGIC[..] || header[7] != kind {
            return Err(StateError::Foreign);
        }
        let version = u16::from_be_bytes([header[8], header[9]]);
        if version != version_of(kind) {
            return Err(StateError::Version(version));
        }
        let length = u32::from_be_bytes([header[10], header[11], header[12], header[13]]);
        let (payload, checksum) = rest.split_last_chunk::<CHECKSUM_OCTETS>().ok_or(StateError::Length)?;
        if u32::try_from(payload.len()) != Ok(length) {
            return Err(StateError::Length);
        }
        let covered = &file[..file.len() - CHECKSUM_OCTETS];
        if Sha256::digest(covered)[..] == checksum[..] {
            Ok(Self(payload))
        } else {
            Err(StateError::Checksum)
        }
    }

    fn take(&mut self, octets: usize) -> Result<&'a [u8], StateError> {
        let (taken, rest) = self.0.split_at_checked(octets).ok_or(StateError::Value("length"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(StateError::Value("length"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn flag(&mut self) -> Result<bool, StateError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(StateError::Value("flag")),
        }
    }

    fn number(&mut self) -> Result<u16, StateError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn list_length(&mut self, most: usize) -> Result<usize, StateError> {
        let length = usize::from(self.number()?);
        if length <= most { Ok(length) } else { Err(StateError::Value("length")) }
    }

    fn address(&mut self) -> Result<Option<IpAddr>, StateError> {
        match self.array()? {
            [0] => Ok(None),
            [4] => Ok(Some(Ipv4Addr::from(self.array::<4>()?).into())),
            [6] => Ok(Some(Ipv6Addr::from(self.array::<16>()?).into())),
            [_] => Err(StateError::Value("address")),
        }
    }

    fn association(&mut self) -> Result<SavedAssociation, StateError> {
        let name_length = self.list_length(NAME_OCTETS_MAX)?;
        let name =
            String::from_utf8(self.take(name_length)?.to_vec()).map_err(|_| StateError::Value("name"))?;
        let ke_port = self.number()?;
        let trust = u32::from_be_bytes(self.array()?);
        let ke_address = self.address()?;
        let address = self.address()?.ok_or(StateError::Value("address"))?;
        let remote = SocketAddr::new(address, self.number()?);
        let keys = self.keys()?;
        let cookies = self.cookies()?;
        let established_unix_seconds = i64::from_be_bytes(self.array()?);
        let establishments = u32::from_be_bytes(self.array()?);
        let certificate = if self.flag()? { Some(self.certificate()?) } else { None };
        Ok(SavedAssociation {
            name,
            ke_port,
            trust,
            ke_address,
            remote,
            keys,
            cookies,
            established_unix_seconds,
            establishments,
            certificate,
        })
    }

    fn keys(&mut self) -> Result<NtsKeys, StateError> {
        let algorithm = AeadAlgorithm::from_id(self.number()?).ok_or(StateError::Value("AEAD"))?;
        let mut key = || {
            let octets = self.take(algorithm.key_octets())?;
            AeadKey::new(algorithm, octets).map_err(|_| StateError::Value("key"))
        };
        Ok(NtsKeys { c2s: key()?, s2c: key()? })
    }

    fn cookies(&mut self) -> Result<Vec<Cookie>, StateError> {
        let count = self.list_length(COOKIES_MAX)?;
        let cookie = |reader: &mut Self| {
            let length = usize::from(reader.number()?);
            Cookie::new(reader.take(length)?).map_err(|_| StateError::Value("cookie"))
        };
        (0..count).map(|_| cookie(self)).collect()
    }

    fn certificate(&mut self) -> Result<SavedCertificate, StateError> {
        let (not_before, not_after) = (i64::from_be_bytes(self.array()?), i64::from_be_bytes(self.array()?));
        Ok(SavedCertificate { not_before, not_after, provisional: self.flag()? })
    }

    const fn finish(&self) -> Result<(), StateError> {
        if self.0.is_empty() { Ok(()) } else { Err(StateError::Length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> SavedAssociation {
        let key = |octet| AeadKey::new(AeadAlgorithm::Aes128GcmSiv, &[octet; 16]).expect("16 octets");
        SavedAssociation {
            name: "ntp.example".to_owned(),
            ke_port: 4460,
            trust: 7,
            ke_address: Some("192.0.2.1".parse().expect("an address")),
            remote: "[2001:db8::1]:123".parse().expect("an address"),
            keys: NtsKeys { c2s: key(1), s2c: key(2) },
            cookies: vec![Cookie::new(&[7; 64]).expect("a cookie"), Cookie::new(&[8; 64]).expect("a cookie")],
            established_unix_seconds: 1_795_187_154,
            establishments: 3,
            certificate: Some(SavedCertificate {
                not_before: -5,
                not_after: 1_900_000_000,
                provisional: true,
            }),
        }
    }

    #[test]
    fn what_is_saved_is_restored() {
        let mut second = saved();
        (second.ke_address, second.certificate) = (None, None);
        let all = [saved(), second];
        assert_eq!(decode_nts_state(&encode_nts_state(&all)).as_deref(), Ok(&all[..]));
        assert_eq!(decode_nts_state(&encode_nts_state(&[])), Ok(Vec::new()));
        let clock = SavedClock {
            frequency: Some((Frequency::from_ppm(-12.5), 1e-8)),
            last_good_unix_seconds: Some(1_795_187_154),
        };
        assert_eq!(decode_clock(&encode_clock(&clock)), Ok(clock));
        assert_eq!(decode_clock(&encode_clock(&SavedClock::default())), Ok(SavedClock::default()));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let file = encode_nts_state(&[saved()]);
        for length in 0..file.len() {
            assert!(decode_nts_state(&file[..length]).is_err(), "{length}");
        }
        for position in 0..file.len() {
            let mut damaged = file.to_vec();
            damaged[position] ^= 1;
            assert!(decode_nts_state(&damaged).is_err(), "{position}");
        }
    }

    #[test]
    fn the_reason_is_told() {
        let file = encode_nts_state(&[saved()]);
        assert_eq!(decode_clock(&file), Err(StateError::Foreign));
        assert_eq!(decode_nts_state(b"NNC0\nntp1.example.net\n"), Err(StateError::Foreign));
        assert_eq!(decode_nts_state(&[]), Err(StateError::Length));
        let mut newer = file.to_vec();
        newer[9] = 9;
        assert_eq!(decode_nts_state(&newer), Err(StateError::Version(9)));
        let mut payload = Payload::default();
        payload.list_length(9);
        assert_eq!(decode_nts_state(&payload.seal(KIND_NTS)), Err(StateError::Value("length")));
        let wild =
            SavedClock { frequency: Some((Frequency::from_ratio(f64::NAN), 0.0)), ..SavedClock::default() };
        assert_eq!(decode_clock(&encode_clock(&wild)), Err(StateError::Value("frequency")));
    }
}
