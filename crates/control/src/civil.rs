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
        let (year, month, day) = chime_time::date_of_day(day);
        Self { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60 }
    }
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
