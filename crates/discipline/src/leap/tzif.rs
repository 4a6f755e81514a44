//! The leap seconds in a time zone file (TZif, RFC 9636): those under `right/` have them.

use super::{LeapTable, LeapTableError};

const HEADER_OCTETS: usize = 44;
/// TAI minus UTC in 1972, before the first leap second.
const TAI_OFFSET_1972: i32 = 10;
/// 1 January 1972, Unix seconds.
const YEAR_1972: i64 = 63_072_000;

/// Reads the leap seconds of a TZif file. When it ends with the date on which it expires, that is the table's.
///
/// # Errors
/// When the octets are no such file, or one without leap seconds.
pub fn parse_tzif(octets: &[u8]) -> Result<LeapTable, LeapTableError> {
    let mut block = Block::read(octets, 4)?;
    if block.version >= b'2' {
        // A second block with 64-bit times follows the one for old readers.
        let rest = octets.get(block.end..).ok_or(LeapTableError::NotTzif)?;
        block = Block::read(rest, 8)?;
        return table(block.leaps(rest).ok_or(LeapTableError::NotTzif)?, 8);
    }
    table(block.leaps(octets).ok_or(LeapTableError::NotTzif)?, 4)
}

/// The parts of one data block.
struct Block {
    version: u8,
    leaps_start: usize,
    leaps_end: usize,
    end: usize,
}

impl Block {
    /// Works out where the leap seconds are; `time_octets`: 4 or 8. RFC 9636 §3.1, §3.2.
    fn read(octets: &[u8], time_octets: usize) -> Result<Self, LeapTableError> {
        Self::parse(octets, time_octets).ok_or(LeapTableError::NotTzif)
    }

    fn parse(octets: &[u8], time_octets: usize) -> Option<Self> {
        let header = octets.get(..HEADER_OCTETS).filter(|header| header.starts_with(b"TZif"))?;
        let mut counts = [0_usize; 6];
        for (count, word) in counts.iter_mut().zip(header[20..].chunks_exact(4)) {
            *count = usize::try_from(u32::from_be_bytes(word.try_into().ok()?)).ok()?;
        }
        let [ut_local, standard_wall, leaps, transitions, types, characters] = counts;
        let size = |count: usize, octets: usize| count.checked_mul(octets);
        let leaps_start = HEADER_OCTETS
            .checked_add(size(transitions, time_octets + 1)?)?
            .checked_add(size(types, 6)?)?
            .checked_add(characters)?;
        let leaps_end = leaps_start.checked_add(size(leaps, time_octets + 4)?)?;
        let end = leaps_end.checked_add(standard_wall)?.checked_add(ut_local)?;
        octets.get(..end)?;
        Some(Self { version: header[4], leaps_start, leaps_end, end })
    }

    fn leaps<'o>(&self, octets: &'o [u8]) -> Option<&'o [u8]> {
        octets.get(self.leaps_start..self.leaps_end)
    }
}

/// Each record has the second at which a leap second happens, itself counted with leap seconds, and the number of leap
/// seconds from then on. The last one with the number unchanged is the date of expiry (RFC 9636 §3.2).
fn table(records: &[u8], time_octets: usize) -> Result<LeapTable, LeapTableError> {
    let mut entries = vec![(YEAR_1972, TAI_OFFSET_1972)];
    let (mut sum, mut expires) = (0_i32, None);
    for record in records.chunks_exact(time_octets + 4) {
        let (time, correction) = record.split_at(time_octets);
        let at = match *time {
            [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(LeapTableError::NotTzif),
        };
        let correction = i32::from_be_bytes(correction.try_into().map_err(|_| LeapTableError::NotTzif)?);
        if expires.is_some() {
            return Err(LeapTableError::Order);
        }
        if correction == sum {
            expires = Some(at.saturating_sub(i64::from(sum)));
            continue;
        }
        // An inserted second begins at midnight by the count before it; a second that is left out would have begun one
        // second before midnight.
        let inserted = correction > sum;
        let midnight = at.saturating_sub(i64::from(sum)).saturating_add(i64::from(!inserted));
        entries.push((midnight, TAI_OFFSET_1972.saturating_add(correction)));
        sum = correction;
    }
    if entries.len() == 1 {
        return Err(LeapTableError::NoLeapSeconds);
    }
    LeapTable::new(entries, expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `right/UTC` of tzdata 2025b.
    const RIGHT_UTC: &[u8] = include_bytes!("../../testdata/right-UTC.tzif");

    #[test]
    fn the_zone_right_utc_has_what_the_list_has() {
        let table = parse_tzif(RIGHT_UTC).unwrap();
        let list =
            super::super::parse_leap_seconds_list(include_str!("../../testdata/leap-seconds.list")).unwrap();
        assert_eq!(table.len(), 27);
        for at in (YEAR_1972..1_800_000_000).step_by(86_400) {
            assert_eq!(table.tai_offset(at), list.tai_offset(at));
            assert_eq!(table.tai_offset(at - 1).is_some(), list.tai_offset(at - 1).is_some());
            assert_eq!(table.next_after(at - 1), list.next_after(at - 1));
        }
    }

    /// A version 4 file with these leap seconds and nothing else.
    fn file(records: &[(i64, i32)]) -> Vec<u8> {
        let header = |leaps: u32| {
            let mut octets = b"TZif4".to_vec();
            octets.resize(20, 0);
            for count in [0, 0, leaps, 0, 1, 4] {
                octets.extend(u32::to_be_bytes(count));
            }
            octets.extend([0; 6]);
            octets.extend(b"UTC\0");
            octets
        };
        let mut octets = header(0);
        octets.extend(header(u32::try_from(records.len()).unwrap()));
        for (at, correction) in records {
            octets.extend(at.to_be_bytes());
            octets.extend(correction.to_be_bytes());
        }
        octets.extend(b"\nUTC0\n");
        octets
    }

    #[test]
    fn the_date_of_expiry_and_a_second_left_out_are_understood() {
        let table = parse_tzif(&file(&[(78_796_800, 1), (94_694_400, 0), (100_000_000, 0)])).unwrap();
        assert_eq!(table.tai_offset(78_796_800), Some(11));
        // The count is one ahead then: the second left out would have begun at 94694399.
        assert_eq!(table.tai_offset(94_694_399), Some(11));
        assert_eq!(table.tai_offset(94_694_400), Some(10));
        assert_eq!(table.expires(), Some(100_000_000));
        assert_eq!(parse_tzif(&file(&[(10, 0), (20, 1)])), Err(LeapTableError::Order));
        assert_eq!(parse_tzif(&file(&[])), Err(LeapTableError::NoLeapSeconds));
    }

    #[test]
    fn every_truncation_is_refused_and_none_panics() {
        let whole = file(&[(78_796_800, 1)]);
        let needed = whole.len() - "\nUTC0\n".len();
        for length in 0..needed {
            assert_eq!(parse_tzif(&whole[..length]), Err(LeapTableError::NotTzif), "{length} octets");
        }
        let mut huge = whole.clone();
        huge[28..32].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(parse_tzif(&huge), Err(LeapTableError::NotTzif));
        assert_eq!(parse_tzif(b"TZif"), Err(LeapTableError::NotTzif));
    }
}
