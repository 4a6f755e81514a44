//! The time of day where this machine is.

use std::mem::MaybeUninit;

/// How far local time is ahead of UTC at an instant; seconds. 0 where the system does not know.
#[must_use]
pub fn offset_seconds(unix_seconds: i64) -> i64 {
    let mut broken_down = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: localtime_r reads the number and writes the structure, both of which live until it returns; all-zero
    // octets are a valid `tm` when it writes none.
    let broken_down = unsafe {
        if libc::localtime_r(&raw const unix_seconds, broken_down.as_mut_ptr()).is_null() {
            return 0;
        }
        broken_down.assume_init()
    };
    broken_down.tm_gmtoff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_is_further_from_utc_than_its_neighbours_are() {
        for seconds in [0, 1_795_737_600] {
            assert!(offset_seconds(seconds).abs() <= 15 * 3600);
        }
        assert_eq!(offset_seconds(i64::MAX), 0, "no year is that late");
    }
}
