//! leap-seconds.list, as NIST, IERS and the tz database publish it.

use super::{LeapTable, LeapTableError};
use chime_time::UNIX_EPOCH_SECONDS;
use sha1::{Digest, Sha1};

/// Reads a leap-seconds.list and checks its digest.
///
/// Lines that count: `#$` and the second of the last change, `#@` and the second of expiry, `#h` and the SHA-1 digest as
/// five words of up to eight hexadecimal digits, and a second with TAI minus UTC from then on. Seconds are those since
/// 1900. The digest is that of all these digits without the blanks.
///
/// # Errors
/// When a line has another shape, the digest is missing or does not fit, or the dates are not in order.
pub fn parse_leap_seconds_list(text: &str) -> Result<LeapTable, LeapTableError> {
    let reader = Reader::of(text)?;
    let digest = reader.digest.ok_or(LeapTableError::NoDigest)?;
    let mut hash = Sha1::new();
    hash.update(reader.changed.as_bytes());
    hash.update(reader.expires_digits.as_bytes());
    hash.update(reader.data.as_bytes());
    if hash.finalize()[..] != digest {
        return Err(LeapTableError::Digest);
    }
    LeapTable::new(reader.entries, reader.expires)
}

/// The same for a list that has no digest, as people write them by hand: it may be damaged, or cut off after its expiry.
///
/// # Errors
/// As above, and when it does not say until when it holds.
pub fn parse_leap_seconds_list_unchecked(text: &str) -> Result<LeapTable, LeapTableError> {
    let reader = Reader::of(text)?;
    if reader.digest.is_some() || reader.expires.is_none() {
        return Err(LeapTableError::NoDigest);
    }
    LeapTable::new(reader.entries, reader.expires)
}

/// Writes a leap-seconds.list of Unix seconds with TAI minus UTC from then on, for those who test daemons with leap seconds of
/// their own. `expires`: Unix seconds.
#[must_use]
pub fn write_leap_seconds_list(entries: &[(i64, i32)], expires: i64) -> String {
    let [changed, expires] = [entries.last().map_or(0, |(at, _)| *at), expires]
        .map(|unix| unix.saturating_add(UNIX_EPOCH_SECONDS).to_string());
    let words: Vec<[String; 2]> = entries
        .iter()
        .map(|(at, offset)| [at.saturating_add(UNIX_EPOCH_SECONDS).to_string(), offset.to_string()])
        .collect();
    let data: String = words.iter().map(|words| words.concat()).collect();
    let digest = Sha1::digest([changed.as_str(), &expires, &data].concat());
    let digest: Vec<String> = digest
        .chunks_exact(4)
        .map(|word| word.iter().map(|octet| format!("{octet:02x}")).collect())
        .collect();
    let lines: String = words.iter().map(|words| words.join(" ") + "\n").collect();
    format!("#$ {changed}\n#@ {expires}\n{lines}#h {}\n", digest.join(" "))
}

#[derive(Default)]
struct Reader {
    changed: String,
    expires_digits: String,
    expires: Option<i64>,
    data: String,
    entries: Vec<(i64, i32)>,
    digest: Option<[u8; 20]>,
}

impl Reader {
    fn of(text: &str) -> Result<Self, LeapTableError> {
        let mut reader = Self::default();
        for (index, line) in text.lines().enumerate() {
            reader.line(line.trim()).map_err(|reason| LeapTableError::Line { line: index + 1, reason })?;
        }
        Ok(reader)
    }

    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(words) = line.strip_prefix("#$") {
            second(words.trim())?;
            words.trim().clone_into(&mut self.changed);
        } else if let Some(words) = line.strip_prefix("#@") {
            self.expires = Some(second(words.trim())?);
            words.trim().clone_into(&mut self.expires_digits);
        } else if let Some(words) = line.strip_prefix("#h") {
            self.digest = Some(digest(words).ok_or("the digest must be five words of hexadecimal digits")?);
        } else if !line.starts_with('#') && !line.is_empty() {
            self.entry(line)?;
        }
        Ok(())
    }

    fn entry(&mut self, line: &str) -> Result<(), &'static str> {
        let numbers = line.split('#').next().unwrap_or_default();
        let mut words = numbers.split_ascii_whitespace();
        let (Some(at), Some(offset), None) = (words.next(), words.next(), words.next()) else {
            return Err("must be a second since 1900 and TAI minus UTC");
        };
        let date = second(at)?;
        let seconds = offset.parse().map_err(|_| "TAI minus UTC must be a number of seconds")?;
        self.entries.push((date, seconds));
        self.data.push_str(at);
        self.data.push_str(offset);
        Ok(())
    }
}

/// Seconds since 1900 as Unix seconds.
fn second(word: &str) -> Result<i64, &'static str> {
    let wrong = "a date must be a number of seconds since 1900";
    if word.is_empty() || !word.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(wrong);
    }
    word.parse::<i64>().ok().and_then(|seconds| seconds.checked_sub(UNIX_EPOCH_SECONDS)).ok_or(wrong)
}

/// The digest's words; zeros in front of a word may be missing.
fn digest(words: &str) -> Option<[u8; 20]> {
    let mut octets = [0; 20];
    let mut words = words.split_ascii_whitespace();
    for chunk in octets.chunks_exact_mut(4) {
        let word = words.next()?;
        if word.len() > 8 || word.starts_with('+') {
            return None;
        }
        chunk.copy_from_slice(&u32::from_str_radix(word, 16).ok()?.to_be_bytes());
    }
    words.next().is_none().then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of July 2025, of the IERS.
    const LIST: &str = include_str!("../../testdata/leap-seconds.list");

    #[test]
    fn the_list_of_the_iers_has_27_leap_seconds_and_expires() {
        let table = parse_leap_seconds_list(LIST).unwrap();
        assert_eq!(table.len(), 27);
        assert_eq!(table.tai_offset(1_483_228_800), Some(37));
        assert_eq!(table.tai_offset(1_483_228_799), Some(36));
        let expires = table.expires().unwrap();
        assert!(table.is_complete_at(expires - 1) && !table.is_complete_at(expires));
        assert!((1_735_689_600..1_900_000_000).contains(&expires), "{expires}");
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let entries = vec![(63_072_000, 10), (78_796_800, 11), (1_909_094_400, 10)];
        let table = parse_leap_seconds_list(&write_leap_seconds_list(&entries, 1_924_992_000)).unwrap();
        assert_eq!(table, LeapTable::new(entries, Some(1_924_992_000)).unwrap());
    }

    #[test]
    fn a_changed_digit_is_noticed() {
        let changed = LIST.replacen("3692217600", "3692217601", 1);
        assert_eq!(parse_leap_seconds_list(&changed), Err(LeapTableError::Digest));
        let expiry = LIST.lines().find(|line| line.starts_with("#@")).unwrap();
        let later = LIST.replacen(expiry, "#@ 4000000000", 1);
        assert_eq!(parse_leap_seconds_list(&later), Err(LeapTableError::Digest));
        let bare: String =
            LIST.lines().filter(|line| !line.starts_with("#h")).map(|line| format!("{line}\n")).collect();
        assert_eq!(parse_leap_seconds_list(&bare), Err(LeapTableError::NoDigest));
        let unchecked = parse_leap_seconds_list_unchecked(&bare).unwrap();
        assert_eq!(Ok(unchecked), parse_leap_seconds_list(LIST));
        assert_eq!(
            parse_leap_seconds_list_unchecked(LIST),
            Err(LeapTableError::NoDigest),
            "it can be checked"
        );
        let endless: String = bare.replace("#@", "#");
        assert_eq!(parse_leap_seconds_list_unchecked(&endless), Err(LeapTableError::NoDigest));
    }

    #[test]
    fn numbers_that_are_no_offsets_are_refused() {
        let list =
            |offset: i32| parse_leap_seconds_list_unchecked(&format!("#@ 4000000000\n2272060800 {offset}\n"));
        assert!(list(10).is_ok() && list(-1000).is_ok());
        for offset in [i32::MIN, i32::MAX, 1001, -1001] {
            assert_eq!(list(offset), Err(LeapTableError::Order), "{offset}");
        }
        let both = format!("#@ 4000000000\n2272060800 {}\n2287785600 {}\n", i32::MIN, i32::MAX);
        assert_eq!(parse_leap_seconds_list_unchecked(&both), Err(LeapTableError::Order));
    }

    #[test]
    fn a_line_with_a_mistake_is_named() {
        for (text, line) in
            [("2272060800\n", 1), ("\n# c\nx 10\n", 3), ("#@ soon\n", 1), ("#h 1 2 3 4\n", 1), ("1 2 3\n", 1)]
        {
            let Err(LeapTableError::Line { line: found, .. }) = parse_leap_seconds_list(text) else {
                panic!("{text:?} has a mistake");
            };
            assert_eq!(found, line, "{text:?}");
        }
        assert_eq!(digest("00000001 2 3 4 5").map(|octets| octets[3]), Some(1), "zeros may be missing");
        assert_eq!(digest("123456789 2 3 4 5"), None);
    }
}
