//! All leap seconds that were announced so far, with the date until which the list is complete.

use chime_time::LeapSecond;

/// The most leap seconds that a table may have; there were 27 in the 45 years to 2017.
const ENTRIES_MAX: usize = 1000;
/// Dates of leap seconds lie between 1970 and the year 9999; Unix seconds.
const DATES: core::ops::Range<i64> = 0..253_402_300_800;
/// TAI minus UTC cannot be greater before thousands of years have passed; seconds.
const TAI_OFFSET_MAX: u32 = 1000;

/// TAI minus UTC since 1972.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeapTable {
    /// From that Unix second on TAI is ahead of UTC by so many seconds; in the order of time.
    entries: Vec<(i64, i32)>,
    /// From that Unix second on there may be leap seconds that are not in the list.
    expires: Option<i64>,
}

/// Why there is no table of leap seconds.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeapTableError {
    /// A line of a leap-seconds.list has another shape.
    #[error("line {line}: {reason}")]
    Line {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The digest in the file is not that of its contents.
    #[error("the SHA-1 digest in the file does not fit its contents: the file is damaged")]
    Digest,
    /// Nothing but the digest could tell a damaged file from a good one.
    #[error("there is no SHA-1 digest (a line with #h) in the file")]
    NoDigest,
    /// No leap second is listed.
    #[error("no leap seconds are listed")]
    Empty,
    /// Dates that are not in order, or steps of more than a second.
    #[error("dates or offsets are not in order")]
    Order,
    /// The octets are no TZif file (RFC 9636), or only the start of one.
    #[error("this is no time zone file (TZif)")]
    NotTzif,
    /// A time zone file of the usual kind: Unix time, without leap seconds.
    #[error("the time zone has no leap seconds; those under right/ have")]
    NoLeapSeconds,
}

impl LeapTable {
    /// A table of Unix seconds and the value of TAI minus UTC from then on. `expires`: Unix seconds.
    ///
    /// # Errors
    /// When the dates are not in order, or a step is none of one second.
    pub fn new(entries: Vec<(i64, i32)>, expires: Option<i64>) -> Result<Self, LeapTableError> {
        if entries.is_empty() {
            return Err(LeapTableError::Empty);
        }
        let plausible =
            |&(at, offset): &(i64, i32)| DATES.contains(&at) && offset.unsigned_abs() <= TAI_OFFSET_MAX;
        let follows = |pair: &[(i64, i32)]| pair[0].0 < pair[1].0 && (pair[1].1 - pair[0].1).abs() == 1;
        if entries.len() > ENTRIES_MAX || !entries.iter().all(plausible) || !entries.windows(2).all(follows) {
            return Err(LeapTableError::Order);
        }
        Ok(Self { entries, expires })
    }

    /// TAI minus UTC at a Unix second; `None` before 1972.
    #[must_use]
    pub fn tai_offset(&self, unix_seconds: i64) -> Option<i32> {
        self.entries.iter().rev().find(|(at, _)| *at <= unix_seconds).map(|(_, offset)| *offset)
    }

    /// The first leap second whose midnight is after a Unix second, if one is listed.
    #[must_use]
    pub fn next_after(&self, unix_seconds: i64) -> Option<LeapSecond> {
        self.leap_seconds().find(|leap| leap.midnight > unix_seconds)
    }

    /// The last leap second whose midnight is not after a Unix second.
    #[must_use]
    pub fn last_before(&self, unix_seconds: i64) -> Option<LeapSecond> {
        self.leap_seconds().take_while(|leap| leap.midnight <= unix_seconds).last()
    }

    /// Whether all leap seconds up to a Unix second are certainly listed.
    #[must_use]
    pub fn is_complete_at(&self, unix_seconds: i64) -> bool {
        self.expires.is_some_and(|expires| unix_seconds < expires)
    }

    /// From which Unix second on leap seconds may be missing; `None` when the list does not say, as time zone files mostly
    /// do not: then the end of what it lists is the end of what it knows.
    #[must_use]
    pub const fn expires(&self) -> Option<i64> {
        self.expires
    }

    /// How many leap seconds are listed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len().saturating_sub(1)
    }

    /// Whether no leap second is listed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn leap_seconds(&self) -> impl Iterator<Item = LeapSecond> + '_ {
        self.entries.windows(2).map(|pair| LeapSecond { midnight: pair[1].0, insert: pair[1].1 > pair[0].1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JULY_2015: i64 = 1_435_708_800;
    const NEW_YEAR_2017: i64 = 1_483_228_800;

    fn table() -> LeapTable {
        let entries = vec![(1_341_100_800, 35), (JULY_2015, 36), (NEW_YEAR_2017, 37)];
        LeapTable::new(entries, Some(NEW_YEAR_2017 + 100)).unwrap()
    }

    #[test]
    fn the_offset_changes_at_midnight() {
        let table = table();
        assert_eq!(table.tai_offset(NEW_YEAR_2017 - 1), Some(36));
        assert_eq!(table.tai_offset(NEW_YEAR_2017), Some(37));
        assert_eq!(table.tai_offset(0), None);
        assert_eq!(table.next_after(JULY_2015), Some(LeapSecond { midnight: NEW_YEAR_2017, insert: true }));
        assert_eq!(table.next_after(NEW_YEAR_2017), None);
        assert_eq!(table.last_before(NEW_YEAR_2017 - 1).map(|leap| leap.midnight), Some(JULY_2015));
        assert_eq!(table.last_before(NEW_YEAR_2017).map(|leap| leap.midnight), Some(NEW_YEAR_2017));
        assert_eq!(table.last_before(0), None);
    }

    #[test]
    fn a_list_is_complete_until_it_expires() {
        assert!(table().is_complete_at(NEW_YEAR_2017 + 99));
        assert!(!table().is_complete_at(NEW_YEAR_2017 + 100));
        let endless = LeapTable::new(vec![(0, 10)], None).unwrap();
        assert!(!endless.is_complete_at(0) && endless.is_empty());
    }

    #[test]
    fn a_second_may_be_left_out_and_nothing_else_may_happen() {
        let table = LeapTable::new(vec![(0, 37), (86_400, 36)], None).unwrap();
        assert_eq!(table.next_after(0), Some(LeapSecond { midnight: 86_400, insert: false }));
        for wrong in [
            vec![(0, 37), (0, 38)],
            vec![(0, 37), (1, 39)],
            vec![(1, 37), (0, 38)],
            vec![(-1, 1)],
            vec![(0, 1001)],
        ] {
            assert_eq!(LeapTable::new(wrong, None), Err(LeapTableError::Order));
        }
        assert_eq!(LeapTable::new(vec![], None), Err(LeapTableError::Empty));
    }
}
