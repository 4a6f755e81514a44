//! Leap seconds: at which midnight one is inserted or left out.

/// Seconds of a day of UTC without a leap second; Unix time counts each day with as many.
pub const DAY_SECONDS: i64 = 86_400;

/// One leap second: the last minute before `midnight` has 61 seconds, or 59.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeapSecond {
    /// The midnight UTC that follows it; Unix seconds.
    pub midnight: i64,
    /// Whether 23:59:60 is inserted; otherwise 23:59:59 is left out.
    pub insert: bool,
}

impl LeapSecond {
    /// What it does to clocks that count as Unix does, seconds: -1 when a second is inserted (23:59:59 comes twice), 1
    /// when one is left out.
    #[must_use]
    pub const fn step_seconds(self) -> i64 {
        if self.insert { -1 } else { 1 }
    }

    /// The Unix second at whose start clocks are stepped: midnight, or one earlier when 23:59:59 is left out.
    #[must_use]
    pub const fn happens_at(self) -> i64 {
        if self.insert { self.midnight } else { self.midnight - 1 }
    }
}

/// The midnight at the end of the month of a Unix second, and whether leap seconds are expected then: all so far were at
/// the end of June or December, which ITU-R TF.460 prefers.
#[must_use]
pub const fn end_of_month(unix_seconds: i64) -> (i64, bool) {
    let (year, month, _) = date_of_day(unix_seconds.div_euclid(DAY_SECONDS));
    let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    (day_of_date(next.0, next.1, 1).saturating_mul(DAY_SECONDS), month == 6 || month == 12)
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1 January 1970, in the Gregorian calendar.
///
/// Counts from 1 March of year 0 in cycles of 400 years, so that the leap day is the last day of a counted year.
#[must_use]
pub const fn date_of_day(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_CYCLE: i64 = 146_097;
    let days = days.saturating_add(719_468); // from 1 March 0000 to 1 January 1970
    let (cycle, day) = (days.div_euclid(DAYS_OF_CYCLE), days.rem_euclid(DAYS_OF_CYCLE));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next_year, month, day)
}

/// The day, counted from 1 January 1970, of a date in the Gregorian calendar: month 1 to 12, day 1 to 31.
#[must_use]
pub const fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    cycle * 146_097 + 365 * year + year / 4 - year / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YEAR_2017: i64 = 1_483_228_800;

    #[test]
    fn the_leap_second_of_2016_was_at_the_end_of_december() {
        assert_eq!(end_of_month(NEW_YEAR_2017 - 1), (NEW_YEAR_2017, true));
        assert_eq!(end_of_month(NEW_YEAR_2017 - 31 * DAY_SECONDS), (NEW_YEAR_2017, true));
        assert!(!end_of_month(NEW_YEAR_2017 - 31 * DAY_SECONDS - 1).1, "that was November");
        assert!(!end_of_month(NEW_YEAR_2017).1, "and this is January");
        let leap = LeapSecond { midnight: NEW_YEAR_2017, insert: true };
        assert_eq!((leap.step_seconds(), leap.happens_at()), (-1, NEW_YEAR_2017));
        let left_out = LeapSecond { insert: false, ..leap };
        assert_eq!((left_out.step_seconds(), left_out.happens_at()), (1, NEW_YEAR_2017 - 1));
    }

    #[test]
    fn days_and_dates_are_each_others_inverse_for_centuries() {
        assert_eq!(date_of_day(0), (1970, 1, 1));
        assert_eq!(date_of_day(17_167), (2017, 1, 1));
        assert_eq!(date_of_day(-1), (1969, 12, 31));
        for day in (-80_000..120_000).step_by(13) {
            let (year, month, day_of_month) = date_of_day(day);
            assert_eq!(day_of_date(year, month, day_of_month), day);
        }
    }

    #[test]
    fn no_second_of_any_age_is_too_much() {
        for seconds in [i64::MIN, i64::MAX] {
            let _ = end_of_month(seconds);
        }
    }
}
