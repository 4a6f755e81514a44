//! Calendar dates, for texts.

/// A date and a time of day in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CivilDate {
    /// Year, by the Gregorian calendar.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: i64,
    /// Day of the month, 1 to 31.
    pub day: i64,
    /// Hour, 0 to 23.
    pub hour: i64,
    /// Minute, 0 to 59.
    pub minute: i64,
    /// Second, 0 to 59.
    pub second: i64,
}

impl CivilDate {
    /// The date of an instant; seconds since 1970, without leap seconds.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = from_days(day);
        Self { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60 }
    }
}

/// The date of a day counted from 1 January 1970.
///
/// Counts from 1 March of year 0 in cycles of 400 years, so that the leap day is the last day of a counted year.
const fn from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_CYCLE: i64 = 146_097;
    let days = days + 719_468; // from 1 March 0000 to 1 January 1970
    let (cycle, day) = (days.div_euclid(DAYS_OF_CYCLE), days.rem_euclid(DAYS_OF_CYCLE));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_all_centuries() {
        for (seconds, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (-3_786_912_000, (1849, 12, 31)),
            (951_782_400, (2000, 2, 29)),
            (4_107_542_400, (2100, 3, 1)),
            (10_413_792_000, (2300, 1, 1)),
        ] {
            let CivilDate { year, month, day, .. } = CivilDate::from_unix(seconds);
            assert_eq!((year, month, day), date, "{seconds}");
        }
        let evening = CivilDate::from_unix(-1);
        assert_eq!((evening.hour, evening.minute, evening.second), (23, 59, 59));
    }
}
