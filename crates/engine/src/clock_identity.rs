//! Whether the clock has run on as it was left: what decides if the samples of an earlier run still mean anything.

use crate::engine::Engine;
use crate::sample_history::SavedSamples;
use chime_time::{ClockReading, Frequency, NtpDuration};
use std::time::Duration;

/// Older ones are not worth the doubt.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// Within this nobody stepped the clock and nobody suspended the machine.
const MOVED_MAX: NtpDuration = NtpDuration::from_nanos(100_000);
const SLEPT_MAX: Duration = Duration::from_millis(10);

/// Frequencies that differ by no more are the same, rounded; ppm.
const FREQUENCY_PPM_MAX: f64 = 0.001;

/// What must be the same for samples to mean the same.
#[derive(Clone, PartialEq, Debug)]
pub struct ClockIdentity {
    /// The boot.
    pub boot: String,
    /// Both clocks.
    pub now: ClockReading,
    /// Time spent suspended since the boot.
    pub slept: Duration,
    /// The frequency correction in force.
    pub frequency: Frequency,
}

impl ClockIdentity {
    /// Why samples taken with the clock as it was left `before` say nothing about this one.
    #[must_use]
    pub fn differs_from(&self, before: &Self) -> Option<&'static str> {
        let age = self.now.mono.saturating_since(before.now.mono);
        let passed = NtpDuration::from_nanos(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        let moved = self.now.system - (before.now.system + passed);
        if self.boot != before.boot || self.now.mono < before.now.mono {
            Some("the machine was started again")
        } else if age > AGE_MAX {
            Some("they are more than an hour old")
        } else if self.slept.saturating_sub(before.slept) > SLEPT_MAX {
            Some("the machine was suspended")
        } else if moved.abs() > MOVED_MAX {
            Some("the clock was stepped")
        } else if differ(self.frequency.as_ppm(), before.frequency.as_ppm()) {
            Some("the clock's frequency was changed")
        } else {
            None
        }
    }
}

impl Engine {
    /// Takes the samples of an earlier run that left the clock as it was `before`, when it has run on like that until
    /// `now`, and at the frequency that this run begins with. Gives of how many sources there are samples.
    ///
    /// # Errors
    /// Why they say nothing about the clock as it is.
    pub fn take_over_samples(
        &mut self,
        now: &ClockIdentity,
        before: &ClockIdentity,
        saved: Vec<SavedSamples>,
    ) -> Result<usize, &'static str> {
        if let Some(reason) = now.differs_from(before) {
            return Err(reason);
        }
        let discipline = self.discipline();
        let begins_with = discipline.system(now.now.mono).frequency_ppm;
        if discipline.settings().steer && differ(begins_with, now.frequency.as_ppm()) {
            return Err("the frequency was not known well enough");
        }
        let sources = saved.len();
        self.restore_samples(now.now.mono, saved);
        Ok(sources)
    }
}

fn differ(one_ppm: f64, other_ppm: f64) -> bool {
    (one_ppm - other_ppm).abs() > FREQUENCY_PPM_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::{MonoTime, NtpDate};

    fn clock() -> ClockIdentity {
        ClockIdentity {
            boot: "0c0ffee0-0000".to_owned(),
            now: ClockReading {
                mono: MonoTime::from_nanos(5_000_000_000),
                system: NtpDate::from_unix(1_795_000_000, 250_000_000),
            },
            slept: Duration::from_secs(7),
            frequency: Frequency::from_ppm(-12.5),
        }
    }

    #[test]
    fn another_clock_makes_samples_worthless() {
        let later = |seconds: i64, system_nanos: i64| ClockIdentity {
            now: ClockReading {
                mono: clock().now.mono.saturating_add(Duration::from_secs(seconds.unsigned_abs())),
                system: clock().now.system
                    + NtpDuration::from_seconds(seconds)
                    + NtpDuration::from_nanos(system_nanos),
            },
            ..clock()
        };
        assert_eq!(later(3_000, 50_000).differs_from(&clock()), None);
        let reasons = [
            (later(3_601, 0), "they are more than an hour old"),
            (later(10, 200_000), "the clock was stepped"),
            (ClockIdentity { boot: "another".to_owned(), ..later(10, 0) }, "the machine was started again"),
            (ClockIdentity { slept: Duration::from_secs(8), ..later(10, 0) }, "the machine was suspended"),
            (
                ClockIdentity { frequency: Frequency::from_ppm(-12.4), ..later(10, 0) },
                "the clock's frequency was changed",
            ),
        ];
        for (now, reason) in reasons {
            assert_eq!(now.differs_from(&clock()), Some(reason));
        }
    }
}
