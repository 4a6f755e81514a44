//! Dates as clocks tell them.

use chime_time::{DAY_SECONDS, date_of_day, day_of_date};

/// Years that a clock may tell: what is beyond is no date.
const YEARS: std::ops::RangeInclusive<i64> = 1900..=2999;

/// Seconds since 1970 of a date and a time of day in UTC; `None` when there is no such date. The second may not be 60: a
/// leap second has no number.
#[must_use]
pub fn unix_seconds(
    (year, month, day): (i64, i64, i64),
    (hour, minute, second): (i64, i64, i64),
) -> Option<i64> {
    let sound = YEARS.contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    let number = sound.then(|| day_of_date(year, month, day))?;
    // The 31st of a shorter month is none of its days.
    (date_of_day(number) == (year, month, day))
        .then(|| number * DAY_SECONDS + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_that_there_are_have_a_number_and_others_have_none() {
        assert_eq!(unix_seconds((2026, 11, 20), (15, 3, 41)), Some(1_795_187_021));
        assert_eq!(unix_seconds((2000, 2, 29), (0, 0, 0)), Some(951_782_400));
        for (date, time) in [
            ((2026, 2, 29), (0, 0, 0)),
            ((2026, 13, 1), (0, 0, 0)),
            ((2026, 0, 1), (0, 0, 0)),
            ((2026, 4, 31), (0, 0, 0)),
            ((2026, 1, 0), (0, 0, 0)),
            ((1899, 1, 1), (0, 0, 0)),
            ((3000, 1, 1), (0, 0, 0)),
            ((2026, 1, 1), (24, 0, 0)),
            ((2026, 1, 1), (0, 60, 0)),
            ((2026, 1, 1), (0, 0, 60)),
            ((2026, 1, 1), (-1, 0, 0)),
        ] {
            assert_eq!(unix_seconds(date, time), None, "{date:?} {time:?}");
        }
    }
}
