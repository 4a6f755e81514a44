//! The contents of the state files that people may want to read: drift, the last good time, names.
//!
//! Text, each with a first line that says what it is and in which version. What a machine alone writes ends in a
//! check line, because a digit that flipped there would do harm; the drift file may be edited by hand.

use chime_discipline::SavedFrequency;
use chime_time::{Frequency, NtpDate};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;

const DRIFT_HEAD: &str =
    "# Truechimer drift 1: frequency correction in ppm (positive speeds the clock up), and its skew in ppm";
const TIME_HEAD: &str = "# Truechimer last good time 1: seconds since 1970";
const NAMES_HEAD: &str = "# Truechimer server names 1: a name, and the addresses that it had";

/// The largest frequency that a clock can be corrected by, in ppm.
const FREQUENCY_PPM_MAX: f64 = 100_000.0;

/// Names kept; more than any configuration has.
pub const NAMES_MAX: usize = 1024;

/// Why a text is not a state file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextError {
    /// The first line is not ours.
    Foreign,
    /// The end is missing.
    Truncated,
    /// The check line does not match the contents.
    Check,
    /// The contents make no sense.
    Contents,
}

impl std::fmt::Display for TextError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not a file of this kind, or of another version",
            Self::Truncated => "truncated",
            Self::Check => "damaged: its check line does not match",
            Self::Contents => "damaged: its values make no sense",
        })
    }
}

/// The contents of the drift file.
#[must_use]
pub fn encode_drift(saved: &SavedFrequency) -> String {
    format!("{DRIFT_HEAD}\n{:.6} {:.6}\n", saved.frequency.as_ppm(), saved.skew * 1e6)
}

/// Reads a drift file.
pub fn decode_drift(octets: &[u8]) -> Result<SavedFrequency, TextError> {
    let body = body_of(octets, DRIFT_HEAD)?;
    let body = body.strip_suffix('\n').ok_or(TextError::Truncated)?;
    let mut values = body.split_whitespace().map(f64::from_str);
    match (values.next(), values.next(), values.next()) {
        (Some(Ok(ppm)), Some(Ok(skew)), None)
            if ppm.abs() <= FREQUENCY_PPM_MAX && (0.0..=FREQUENCY_PPM_MAX).contains(&skew) =>
        {
            Ok(SavedFrequency { frequency: Frequency::from_ppm(ppm), skew: skew * 1e-6 })
        }
        _ => Err(TextError::Contents),
    }
}

/// The contents of the file with the last good time.
#[must_use]
pub fn encode_last_good_time(time: NtpDate) -> String {
    checked(format!("{TIME_HEAD}\n{}\n", time.unix_seconds()))
}

/// Reads the last good time, to the second, rounded down.
pub fn decode_last_good_time(octets: &[u8]) -> Result<NtpDate, TextError> {
    let body = checked_body_of(octets, TIME_HEAD)?;
    let seconds = body.trim_end().parse().map_err(|_| TextError::Contents)?;
    Ok(NtpDate::from_unix(seconds, 0))
}

/// The contents of the file with names and the addresses that they had.
#[must_use]
pub fn encode_server_names(names: &BTreeMap<String, Vec<IpAddr>>) -> String {
    let mut text = format!("{NAMES_HEAD}\n");
    for (name, addresses) in names.iter().take(NAMES_MAX).filter(|(name, _)| is_writable(name)) {
        text.push_str(name);
        for address in addresses {
            let _infallible = write!(text, " {address}");
        }
        text.push('\n');
    }
    checked(text)
}

/// Reads names and the addresses that they had.
pub fn decode_server_names(octets: &[u8]) -> Result<BTreeMap<String, Vec<IpAddr>>, TextError> {
    let mut names = BTreeMap::new();
    for line in checked_body_of(octets, NAMES_HEAD)?.lines().take(NAMES_MAX) {
        let mut words = line.split(' ');
        let name = words.next().filter(|name| is_writable(name)).ok_or(TextError::Contents)?;
        let addresses = words.map(str::parse).collect::<Result<_, _>>().map_err(|_| TextError::Contents)?;
        names.insert(name.to_owned(), addresses);
    }
    Ok(names)
}

/// Names that are one word; nothing else resolves anyway.
fn is_writable(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// What follows the first line, which must be `head`.
fn body_of<'a>(octets: &'a [u8], head: &str) -> Result<&'a str, TextError> {
    let text = std::str::from_utf8(octets).map_err(|_| TextError::Foreign)?;
    match text.strip_prefix(head) {
        Some(rest) => rest.strip_prefix('\n').ok_or(if rest.is_empty() {
            TextError::Truncated
        } else {
            TextError::Foreign
        }),
        None if head.starts_with(text) => Err(TextError::Truncated),
        None => Err(TextError::Foreign),
    }
}

/// Adds the check line.
pub(crate) fn checked(mut text: String) -> String {
    let check = check_of(text.as_bytes());
    let _infallible = writeln!(text, "# check {check:016x}");
    text
}

/// What is between the first line, which must be `head`, and the check line, which must match.
pub(crate) fn checked_body_of<'a>(octets: &'a [u8], head: &str) -> Result<&'a str, TextError> {
    const CHECK_LINE_OCTETS: usize = "# check 0123456789abcdef\n".len();
    let body = body_of(octets, head)?;
    let end = body.len().checked_sub(CHECK_LINE_OCTETS).ok_or(TextError::Truncated)?;
    let (body, check_line) = body.split_at_checked(end).ok_or(TextError::Truncated)?;
    let check = check_line
        .strip_prefix("# check ")
        .and_then(|line| line.strip_suffix('\n'))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(TextError::Truncated)?;
    let before = &octets[..octets.len() - CHECK_LINE_OCTETS];
    if check == check_of(before) { Ok(body) } else { Err(TextError::Check) }
}

/// FNV-1a with 64 bits: against accidents, not against people, who could edit the line as well.
pub(crate) fn check_of(octets: &[u8]) -> u64 {
    octets
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> BTreeMap<String, Vec<IpAddr>> {
        let addresses = |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect();
        BTreeMap::from([
            ("a.example".to_owned(), addresses(&["192.0.2.1", "2001:db8::1"])),
            ("b.example".to_owned(), Vec::new()),
        ])
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let saved = SavedFrequency { frequency: Frequency::from_ppm(-12.345_678), skew: 0.25e-6 };
        let text = encode_drift(&saved);
        assert!(text.ends_with("\n-12.345678 0.250000\n"), "{text}");
        let decoded = decode_drift(text.as_bytes()).unwrap();
        assert!(
            (decoded.frequency.as_ppm() + 12.345_678).abs() < 1e-9 && (decoded.skew - 0.25e-6).abs() < 1e-15
        );
        let time = NtpDate::from_unix(4_102_444_800, 0);
        assert_eq!(decode_last_good_time(encode_last_good_time(time).as_bytes()), Ok(time));
        assert_eq!(decode_server_names(encode_server_names(&names()).as_bytes()), Ok(names()));
        assert_eq!(
            decode_server_names(encode_server_names(&BTreeMap::new()).as_bytes()),
            Ok(BTreeMap::new())
        );
    }

    #[test]
    fn every_shorter_length_is_refused() {
        let saved = SavedFrequency { frequency: Frequency::from_ppm(1.5), skew: 1e-6 };
        let drift = encode_drift(&saved);
        let time = encode_last_good_time(NtpDate::from_unix(1_795_000_000, 0));
        let names = encode_server_names(&names());
        for length in 0..drift.len() {
            assert!(decode_drift(&drift.as_bytes()[..length]).is_err(), "{length}");
        }
        for length in 0..time.len() {
            assert!(decode_last_good_time(&time.as_bytes()[..length]).is_err(), "{length}");
        }
        for length in 0..names.len() {
            assert!(decode_server_names(&names.as_bytes()[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_does_not_change_the_time_or_an_address() {
        let time = encode_last_good_time(NtpDate::from_unix(1_795_000_000, 0));
        let names = encode_server_names(&names());
        for (text, is_refused) in [
            (time, (|octets| decode_last_good_time(octets).is_err()) as fn(&[u8]) -> bool),
            (names, |octets| decode_server_names(octets).is_err()),
        ] {
            for bit in 0..text.len() * 8 {
                let mut octets = text.clone().into_bytes();
                octets[bit / 8] ^= 1 << (bit % 8);
                // Hexadecimal digits mean the same in upper case: the check line itself may survive that.
                let same = String::from_utf8(octets.clone())
                    .is_ok_and(|flipped| flipped.eq_ignore_ascii_case(&text));
                assert!(is_refused(&octets) || same, "{bit}");
            }
        }
    }

    #[test]
    fn nonsense_has_its_reason() {
        assert_eq!(decode_drift(b""), Err(TextError::Truncated));
        assert_eq!(decode_drift(b"\xff"), Err(TextError::Foreign));
        assert_eq!(decode_drift(b"           -12.3             0.1\n"), Err(TextError::Foreign));
        for values in ["nan 1", "1 nan", "inf 1", "1 -1", "200000 1", "1", "1 2 3", "one 2", ""] {
            let text = format!("{DRIFT_HEAD}\n{values}\n");
            assert_eq!(decode_drift(text.as_bytes()), Err(TextError::Contents), "{values}");
        }
        assert_eq!(decode_last_good_time(b"# Truechimer drift 1: x\n1\n"), Err(TextError::Foreign));
    }
}
