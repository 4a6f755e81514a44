//! What servers say of the clock that an engine keeps.

use chime_discipline::{Leap, SystemState};
use chime_server::{BestTime, STRATUM_UNSYNCHRONIZED, ServerTime};
use chime_time::{ClockReading, Frequency, NtpDuration, NtpShort, Precision};
use chime_wire::{LeapIndicator, ReferenceId};

/// When a clock that is its own reference says that it was set; seconds ago. Now would be after some of what it stamps.
const LOCAL_AGE_SECONDS: f64 = 1.0;

/// The state of our clock as answers to clients show it. RFC 5905 §11.1.
///
/// `frequency` is what the clock was last told to run at, slew included.
#[must_use]
pub fn server_time(
    system: &SystemState,
    frequency: Frequency,
    now: ClockReading,
    precision: Precision,
) -> ServerTime {
    let unsynchronized = ServerTime { at: now.mono, ..ServerTime::unsynchronized(precision.exponent()) };
    if !(1..STRATUM_UNSYNCHRONIZED).contains(&system.stratum) || system.leap == Leap::Unsynchronized {
        return unsynchronized;
    }
    let correction = NtpDuration::from_secs_f64(system.system_offset);
    // The system clock ran with the monotonic clock since the last update; corrected, so that no answer is sent before it.
    let since_update =
        system.reference_at.map_or(LOCAL_AGE_SECONDS, |at| now.mono.seconds_since(at).max(0.0));
    ServerTime {
        leap: match system.leap {
            Leap::NoWarning => LeapIndicator::NoWarning,
            Leap::Insert => LeapIndicator::Insert,
            Leap::Delete => LeapIndicator::Delete,
            Leap::Unsynchronized => LeapIndicator::Unsynchronized,
        },
        stratum: system.stratum,
        root_delay: NtpShort::from_duration_ceil(NtpDuration::from_secs_f64(system.root_delay)),
        root_dispersion: NtpDuration::from_secs_f64(system.root_dispersion),
        dispersion_rate: system.root_dispersion_rate,
        reference_id: ReferenceId(system.reference_id),
        reference: (now.system + correction - NtpDuration::from_secs_f64(since_update)).timestamp(),
        correction,
        correction_rate: correction_rate(Frequency::from_ppm(system.frequency_ppm), frequency),
        ..unsynchronized
    }
}

/// Our best time, whether or not anybody may follow it. `frequency` is what the clock was last told to run at, slew included.
#[must_use]
pub fn best_time(system: &SystemState, frequency: Frequency, now: ClockReading) -> BestTime {
    BestTime {
        now,
        correction: system.system_offset,
        correction_rate: correction_rate(Frequency::from_ppm(system.frequency_ppm), frequency),
    }
}

/// How fast the correction of a clock changes that runs at `actual` and would be right at `right`, both against the
/// oscillator: seconds per second of the monotonic clock, which runs as the system clock does.
fn correction_rate(right: Frequency, actual: Frequency) -> f64 {
    (right.as_ratio() - actual.as_ratio()) / (1.0 + actual.as_ratio())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::{MonoTime, NtpDate};

    const SYSTEM: NtpDate = NtpDate::from_unix(1_795_000_000, 0);

    fn now() -> ClockReading {
        ClockReading { mono: at(1000.0), system: SYSTEM }
    }

    fn at(seconds: f64) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(seconds)
    }

    fn following(system_offset: f64, frequency_ppm: f64) -> SystemState {
        SystemState {
            synchronized: true,
            leap: Leap::NoWarning,
            stratum: 2,
            reference_id: [192, 0, 2, 1],
            reference_at: Some(at(990.0)),
            system_offset,
            frequency_ppm,
            root_delay: 0.010,
            root_dispersion: 0.002,
            root_dispersion_rate: 1e-6,
            ..SystemState::default()
        }
    }

    fn served(system: &SystemState, frequency_ppm: f64) -> ServerTime {
        server_time(system, Frequency::from_ppm(frequency_ppm), now(), Precision::new(-24))
    }

    /// What a server adds to its clock so many seconds after it was published.
    fn added(time: &ServerTime, seconds: f64) -> f64 {
        let clock = SYSTEM.timestamp();
        (time.corrected(clock, now().mono.add_secs_f64(seconds)) - clock).as_secs_f64()
    }

    #[test]
    fn what_is_not_corrected_yet_is_in_the_served_time_and_becomes_less_with_the_slew() {
        for sign in [1.0, -1.0] {
            // 1 s behind or ahead, worked off at 83333 ppm of the oscillator's time.
            let slew = sign * 83_333.0;
            let time = served(&following(sign, 20.0), 20.0 + slew);
            assert!((added(&time, 0.0) - sign).abs() < 1e-9);
            let clock_rate = 1.0 + (20.0 + slew) * 1e-6;
            let half = 6.0 * clock_rate; // 6 s of the oscillator on the monotonic clock
            assert!((added(&time, half) - sign * (1.0 - 6.0 * 0.083_333)).abs() < 1e-6, "{sign}");
        }
    }

    #[test]
    fn a_clock_that_is_only_watched_goes_on_drifting() {
        // Slow by 20 ppm, and not steered: what is lacking grows.
        let time = served(&following(0.5, 20.0), 0.0);
        assert!((added(&time, 100.0) - 0.502).abs() < 1e-9);
        let time = served(&following(0.0, 20.0), 20.0);
        assert!(added(&time, 100.0).abs() < 1e-12, "one that runs at the right frequency does not");
    }

    #[test]
    fn the_errors_and_the_reference_are_those_of_the_discipline() {
        let time = served(&following(-0.25, 0.0), 0.0);
        assert!((time.root_delay.to_duration().as_secs_f64() - 0.010).abs() < 2e-5);
        assert!((time.root_dispersion(now().mono).to_duration().as_secs_f64() - 0.002).abs() < 2e-5);
        assert_eq!((time.stratum, time.reference_id), (2, ReferenceId([192, 0, 2, 1])));
        // Ten seconds ago, by the corrected clock.
        let since = (SYSTEM.timestamp() - time.reference).as_secs_f64();
        assert!((since - 10.25).abs() < 1e-6, "{since}");
    }

    #[test]
    fn a_leap_second_is_announced() {
        for (leap, said) in [(Leap::Insert, LeapIndicator::Insert), (Leap::Delete, LeapIndicator::Delete)] {
            assert_eq!(served(&SystemState { leap, ..following(0.0, 0.0) }, 0.0).leap, said);
        }
    }

    #[test]
    fn without_a_reference_nothing_is_claimed() {
        for system in [
            SystemState { stratum: 0, ..following(1.0, 0.0) },
            SystemState { stratum: 16, ..following(1.0, 0.0) },
            SystemState { leap: Leap::Unsynchronized, ..following(1.0, 0.0) },
            SystemState::default(),
        ] {
            let time = served(&system, 0.0);
            assert!(!time.is_synchronized() && time.correction == NtpDuration::ZERO);
        }
    }
}
