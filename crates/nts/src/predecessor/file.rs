//! The files in which these programs keep their keys.

use super::{Key, PREDECESSOR_KEYS_MAX, PredecessorError, PredecessorFormat, PredecessorKeys};
use crate::{AeadAlgorithm, AeadKey};
use chime_time::NtpDate;
use core::fmt::Write;
use core::time::Duration;
use zeroize::Zeroizing;

/// How many keys chronyd has, and how many of these are of the future: known so that servers which share them agree.
const CHRONY_KEYS: usize = 4;
const CHRONY_FUTURE_KEYS: usize = 1;
/// The last bits of a key's number are its place in chronyd's memory, and the places follow each other in the file.
const CHRONY_PLACES: u32 = 4 - 1;

impl PredecessorKeys {
    /// Reads the keys of a file that was written at a time.
    ///
    /// # Errors
    /// [`PredecessorError`], whatever the octets are.
    pub fn decode(
        format: PredecessorFormat,
        file: &[u8],
        written: NtpDate,
    ) -> Result<Self, PredecessorError> {
        let mut this = match format {
            PredecessorFormat::Chrony => chrony(file, written),
            PredecessorFormat::Ntpsec => ntpsec(file),
            PredecessorFormat::NtpdRs => ntpd_rs(file),
        }?;
        if this.keys.is_empty() || this.keys.len() > PREDECESSOR_KEYS_MAX {
            return Err(PredecessorError::Keys);
        }
        this.current = this.current.min(this.keys.len() - 1);
        Ok(this)
    }

    /// New keys as chronyd makes them. `random` fills octets with secret random ones.
    #[must_use]
    pub fn new_of_chrony(random: &mut dyn FnMut(&mut [u8]), now: NtpDate) -> Self {
        let mut first = [0; 4];
        random(&mut first);
        let first = u32::from_be_bytes(first) & !CHRONY_PLACES;
        let algorithm = AeadAlgorithm::OFFERED[0];
        let keys = (first..).take(CHRONY_KEYS).map(|number| new_key(number, algorithm, random)).collect();
        Self {
            format: PredecessorFormat::Chrony,
            keys,
            current: CHRONY_KEYS - 1 - CHRONY_FUTURE_KEYS,
            made_unix_seconds: now.unix_seconds(),
        }
    }

    /// chronyd's keys as it would have them after a rotation: the oldest is gone, and the one that was of the future makes
    /// cookies. `None` for the keys of another program, or for not as many as chronyd has.
    #[must_use]
    pub fn rotated(&self, random: &mut dyn FnMut(&mut [u8]), now: NtpDate) -> Option<Self> {
        if self.format != PredecessorFormat::Chrony || self.keys.len() != CHRONY_KEYS {
            return None;
        }
        let mut number = [0; 4];
        random(&mut number);
        let last = self.keys.last()?;
        let place = last.number.wrapping_add(1) & CHRONY_PLACES;
        let number = u32::from_be_bytes(number) & !CHRONY_PLACES | place;
        // As before: a version of chronyd that knows one algorithm only has a file with that one.
        let newest = new_key(number, last.key.algorithm(), random);
        let mut next = self.clone();
        next.keys.remove(0);
        next.keys.push(newest);
        next.made_unix_seconds = now.unix_seconds();
        Some(next)
    }

    /// The contents of chronyd's file, in the form that most versions read. `None` for the keys of another program.
    #[must_use]
    pub fn encode_for_chrony(&self, now: NtpDate) -> Option<Zeroizing<String>> {
        /// Octets of the longest line: number, key and algorithm.
        const LINE_OCTETS_MAX: usize = 8 + 1 + 2 * 64 + 4;
        if self.format != PredecessorFormat::Chrony {
            return None;
        }
        // Room for all of it at once: growing would leave copies of keys in freed memory.
        let mut file = Zeroizing::new(String::with_capacity(64 + self.keys.len() * LINE_OCTETS_MAX));
        let age = now.unix_seconds().saturating_sub(self.made_unix_seconds).max(0);
        // Writing to a string does not fail.
        let must_know = AeadAlgorithm::AesSivCmac256;
        let is_old = self.keys.iter().all(|key| key.key.algorithm() == must_know);
        let _always = match is_old {
            true => writeln!(file, "NKS0\n{} {age}.0", must_know.id()),
            false => writeln!(file, "NKS1\n{age}.0"),
        };
        for Key { number, key, .. } in &self.keys {
            let _always = write!(file, "{number:08X} ");
            for octet in key.expose_secret() {
                let _always = write!(file, "{octet:02X}");
            }
            let _always = match is_old {
                true => writeln!(file),
                false => writeln!(file, " {}", key.algorithm().id()),
            };
        }
        Some(file)
    }
}

fn new_key(number: u32, algorithm: AeadAlgorithm, random: &mut dyn FnMut(&mut [u8])) -> Key {
    let mut octets = Zeroizing::new(vec![0; algorithm.key_octets()]);
    random(&mut octets);
    key(number, algorithm, &octets).expect("as many octets as the algorithm needs")
}

type Keys = Result<PredecessorKeys, PredecessorError>;

fn key(number: u32, algorithm: AeadAlgorithm, octets: &[u8]) -> Result<Key, PredecessorError> {
    let key = AeadKey::new(algorithm, octets).map_err(|_| PredecessorError::Keys)?;
    Ok(Key { number, aead: key.expand(), key })
}

/// `NKS1`, the age of the newest key, and lines of number, key and algorithm; before version 4.6.1 `NKS0`, with one
/// algorithm for all of them in the second line.
fn chrony(file: &[u8], written: NtpDate) -> Keys {
    let text = core::str::from_utf8(file).map_err(|_| PredecessorError::Form)?;
    let mut lines = text.lines();
    let head = lines.next().map(str::trim_end);
    let second = lines.next().ok_or(PredecessorError::Form)?;
    let common = match head {
        Some("NKS1") => None,
        Some("NKS0") => Some(second.split_ascii_whitespace().next().ok_or(PredecessorError::Form)?),
        _ => return Err(PredecessorError::Form),
    };
    let age = second.split_ascii_whitespace().nth(usize::from(common.is_some()));
    let age = age.and_then(|age| Duration::try_from_secs_f64(age.parse().ok()?).ok());
    let age = age.and_then(|age| i64::try_from(age.as_secs()).ok()).ok_or(PredecessorError::Form)?;
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
        keys.push(key(number, algorithm, &octets)?);
    }
    let made_unix_seconds = written.unix_seconds().saturating_sub(age);
    let current = keys.len().saturating_sub(1 + CHRONY_FUTURE_KEYS);
    Ok(PredecessorKeys { format: PredecessorFormat::Chrony, keys, current, made_unix_seconds })
}

/// `T:` the time of the newest key, `L:` the octets of a key, and pairs of `I:` a number and `K:` a key; the first makes
/// cookies.
fn ntpsec(file: &[u8]) -> Keys {
    let text = core::str::from_utf8(file).map_err(|_| PredecessorError::Form)?;
    let mut algorithm = None;
    let mut number = None;
    let mut made_unix_seconds = i64::MIN;
    let mut keys = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').ok_or(PredecessorError::Form)?;
        let value = value.trim();
        match name.trim() {
            "T" => made_unix_seconds = value.parse().map_err(|_| PredecessorError::Form)?,
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
                keys.push(key(number, algorithm, &octets)?);
                if keys.len() > PREDECESSOR_KEYS_MAX {
                    return Err(PredecessorError::Keys);
                }
            }
            _ => return Err(PredecessorError::Form),
        }
    }
    Ok(PredecessorKeys { format: PredecessorFormat::Ntpsec, keys, current: 0, made_unix_seconds })
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
    let keys: Result<_, _> = (0..count)
        .zip(octets)
        .map(|(index, octets)| key(offset.wrapping_add(index), AeadAlgorithm::AesSivCmac512, octets))
        .collect();
    let made = u64::from(number(0)) << 32 | u64::from(number(4));
    Ok(PredecessorKeys {
        format: PredecessorFormat::NtpdRs,
        keys: keys?,
        current: usize::try_from(current).map_err(|_| PredecessorError::Form)?,
        made_unix_seconds: i64::try_from(made).unwrap_or(i64::MAX),
    })
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
