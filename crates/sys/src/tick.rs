//! The kernel's two frequency knobs: the length of a tick for the coarse part, `freq` for the fine part.
//!
//! Both count against the hardware's own pace, and they add up: the clock gains
//! `(tick - nominal) / nominal + freq / 2¹⁶ ppm`. `freq` reaches ±500 ppm only, the tick goes on to ±10 %.

use chime_time::Frequency;

/// The units of the kernel's `freq` in one ppm.
const FREQ_UNITS_PER_PPM: f64 = 65_536.0;

/// The largest magnitude of `freq`, in ppm; the kernel cuts off what is above (`MAXFREQ`).
const FREQ_PPM_MAX: f64 = 500.0;

/// The scale of a kernel's ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TickScale {
    /// The length of a tick of a clock that is not corrected, in µs: 10 000 at 100 ticks per second.
    nominal: i32,
}

/// A setting of the two knobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TickFrequency {
    /// The length of a tick, in µs.
    pub(crate) tick: i32,
    /// The fine part, in 2⁻¹⁶ ppm.
    pub(crate) freq: i32,
}

impl TickScale {
    /// The scale of a kernel with that many ticks per second, as user space sees them (`_SC_CLK_TCK`).
    pub(crate) fn per_second(ticks: i32) -> Self {
        let ticks = ticks.clamp(1, 1_000_000);
        Self { nominal: (1_000_000 + ticks / 2) / ticks }
    }

    /// What one µs of the tick's length is worth, in ppm: 100 at 100 ticks per second.
    fn ppm_per_unit(self) -> f64 {
        1e6 / f64::from(self.nominal)
    }

    /// The shortest and the longest tick that the kernel takes: ±10 %.
    fn limits(self) -> (i32, i32) {
        (self.nominal - self.nominal / 10, self.nominal + self.nominal / 10)
    }

    /// The largest frequency that can be set, of either sign.
    pub(crate) fn frequency_max(self) -> Frequency {
        Frequency::from_ppm(f64::from(self.nominal / 10) * self.ppm_per_unit())
    }

    /// The setting nearest to `frequency`, within the limits; not-a-number is no correction.
    ///
    /// The tick stays where it is, at `current_tick`, as long as the fine part alone can do it, so that the fine
    /// part is all that moves in ordinary times.
    pub(crate) fn split(self, frequency: Frequency, current_tick: i32) -> TickFrequency {
        let max = self.frequency_max().as_ppm();
        let ppm = if frequency.as_ratio().is_nan() { 0.0 } else { frequency.as_ppm().clamp(-max, max) };
        let (shortest, longest) = self.limits();
        let tick = if (ppm - self.coarse(current_tick)).abs() <= FREQ_PPM_MAX {
            current_tick
        } else {
            self.nominal + whole(ppm / self.ppm_per_unit())
        }
        .clamp(shortest, longest);
        let fine = (ppm - self.coarse(tick)).clamp(-FREQ_PPM_MAX, FREQ_PPM_MAX);
        TickFrequency { tick, freq: whole(fine * FREQ_UNITS_PER_PPM) }
    }

    /// The frequency that a setting means, exactly.
    pub(crate) fn frequency(self, setting: TickFrequency) -> Frequency {
        Frequency::from_ppm(self.coarse(setting.tick) + f64::from(setting.freq) / FREQ_UNITS_PER_PPM)
    }

    /// What the tick alone contributes, in ppm.
    fn coarse(self, tick: i32) -> f64 {
        f64::from(tick - self.nominal) * self.ppm_per_unit()
    }
}

/// The nearest whole number.
#[expect(clippy::cast_possible_truncation, reason = "callers clamp to some millions first")]
fn whole(value: f64) -> i32 {
    value.round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ_100: TickScale = TickScale { nominal: 10_000 };

    fn set(ppm: f64, current_tick: i32) -> (TickFrequency, f64) {
        let setting = HZ_100.split(Frequency::from_ppm(ppm), current_tick);
        (setting, HZ_100.frequency(setting).as_ppm())
    }

    #[test]
    fn every_frequency_is_met_to_a_fraction_of_a_unit() {
        for step in -4000..=4000 {
            let ppm = f64::from(step) * 25.0 + 0.013;
            let (setting, effective) = set(ppm.clamp(-1e5, 1e5), 10_000);
            assert!(
                (effective - ppm.clamp(-1e5, 1e5)).abs() <= 0.5 / FREQ_UNITS_PER_PPM + 1e-9,
                "{ppm} {setting:?}"
            );
            assert!((9_000..=11_000).contains(&setting.tick), "{ppm} {setting:?}");
            assert!(setting.freq.abs() <= 500 << 16, "{ppm} {setting:?}");
        }
    }

    #[test]
    fn ordinary_corrections_leave_the_tick_alone() {
        assert_eq!(set(-12.5, 10_000).0, TickFrequency { tick: 10_000, freq: -12 * 65_536 - 32_768 });
        assert_eq!(set(500.0, 10_000).0, TickFrequency { tick: 10_000, freq: 500 << 16 });
        assert_eq!(set(501.0, 10_000).0, TickFrequency { tick: 10_005, freq: 1 << 16 });
        // Back from a large one, and from where another program left the tick.
        assert_eq!(set(-12.0, 10_833).0, TickFrequency { tick: 10_000, freq: -12 << 16 });
        assert_eq!(set(20.0, 9_998).0, TickFrequency { tick: 9_998, freq: 220 << 16 });
    }

    #[test]
    fn ten_per_cent_is_the_end_and_nonsense_is_no_correction() {
        assert_eq!(set(2e6, 10_000).0, TickFrequency { tick: 11_000, freq: 0 });
        assert_eq!(set(f64::NEG_INFINITY, 10_000).0, TickFrequency { tick: 9_000, freq: 0 });
        assert_eq!(set(f64::NAN, 10_000).0, TickFrequency { tick: 10_000, freq: 0 });
        assert_eq!(set(83_333.0, 10_000).0.tick, 10_833);
    }

    #[test]
    fn other_tick_rates_have_other_units() {
        let scale = TickScale::per_second(1024);
        assert_eq!(scale.nominal, 977);
        let setting = scale.split(Frequency::from_ppm(50_000.0), 977);
        assert!((scale.frequency(setting).as_ppm() - 50_000.0).abs() < 1e-4);
        assert_eq!(TickScale::per_second(100), HZ_100);
    }
}
