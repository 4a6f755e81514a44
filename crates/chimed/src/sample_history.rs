//! The file with the samples of an earlier run: for a restart of the daemon, while the machine and its clock run on.

use crate::state_files::{TextError, checked, checked_body_of};
use chime_discipline::{Leap, Lever, Sample, SavedEstimate};
use chime_engine::{ClockIdentity, SampleOwner, SavedSamples};
use chime_sys::clock;
use chime_time::{ClockReading, Frequency, MonoTime, NtpDate, NtpDuration};
use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

const HEAD: &str = "# Truechimer samples 1: the clock as it was left, and the last samples of each source";

/// Sources and samples read; the daemon writes fewer.
const SOURCES_MAX: usize = 256;
const SAMPLES_MAX: usize = 64;
/// No duration is longer, in seconds; an estimator that was told of more would not be a number any more.
const STANDARD_ERROR_MAX: f64 = 2_147_483_648.0;

/// The clock as it is now; `None` where boots cannot be told apart or the boot clock is missing.
#[must_use]
pub fn clock_identity() -> Option<ClockIdentity> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
    let frequency = chime_sys::adjust::kernel_state().ok()?.frequency;
    Some(ClockIdentity { boot, now: clock::read(), slept: clock::suspended()?, frequency })
}

/// The contents of the file.
#[must_use]
pub fn encode(clock: &ClockIdentity, sources: &[SavedSamples]) -> String {
    let mut text = format!(
        "{HEAD}\nclock {} {} {} {} {} {:.6}\n",
        clock.boot,
        clock.now.mono.as_nanos(),
        clock.now.system.unix_seconds(),
        clock.now.system.subsec_nanos(),
        clock.slept.as_nanos(),
        clock.frequency.as_ppm(),
    );
    for source in sources.iter().take(SOURCES_MAX) {
        let _infallible = match source.owner {
            SampleOwner::Remote(remote) => {
                writeln!(text, "source {remote} {}", u8::from(source.authenticated))
            }
            SampleOwner::ReferenceClock(id) => writeln!(text, "refclock {}", u32::from_be_bytes(id)),
        };
        if let Some(SavedEstimate(words)) = &source.estimate {
            let _infallible = writeln!(text, "estimate {words}");
        }
        for sample in &source.samples {
            let _infallible = writeln!(
                text,
                "{} {} {} {} {} {} {} {} {} {:e}",
                sample.at.as_nanos(),
                sample.offset.to_bits(),
                sample.delay.to_bits(),
                sample.dispersion.to_bits(),
                sample.root_delay.to_bits(),
                sample.root_dispersion.to_bits(),
                sample.stratum,
                leap_number(sample.leap),
                u32::from_be_bytes(sample.reference_id),
                sample.standard_error,
            );
        }
    }
    checked(text)
}

/// Reads the file.
///
/// # Errors
/// What is wrong with it.
pub fn decode(octets: &[u8]) -> Result<(ClockIdentity, Vec<SavedSamples>), TextError> {
    let mut lines = checked_body_of(octets, HEAD)?.lines();
    let clock = lines.next().and_then(decode_clock).ok_or(TextError::Contents)?;
    let mut sources: Vec<SavedSamples> = Vec::new();
    for line in lines {
        if let Some(source) = line.strip_prefix("source ") {
            sources.push(decode_source(source).ok_or(TextError::Contents)?);
        } else if let Some(id) = line.strip_prefix("refclock ") {
            let id = number::<u32>(Some(id)).ok_or(TextError::Contents)?;
            sources.push(nothing_of(SampleOwner::ReferenceClock(id.to_be_bytes()), false));
        } else if let Some(estimate) = line.strip_prefix("estimate ") {
            // Whose words they are is said by them; what they are worth, by who takes them over.
            sources.last_mut().ok_or(TextError::Contents)?.estimate =
                Some(SavedEstimate(estimate.to_owned()));
        } else {
            let source = sources.last_mut().ok_or(TextError::Contents)?;
            source.samples.push(decode_sample(line).ok_or(TextError::Contents)?);
        }
        if sources.len() > SOURCES_MAX || sources.last().is_some_and(|last| last.samples.len() > SAMPLES_MAX)
        {
            return Err(TextError::Contents);
        }
    }
    Ok((clock, sources))
}

fn decode_clock(line: &str) -> Option<ClockIdentity> {
    let mut words = line.strip_prefix("clock ")?.split(' ');
    let boot = words.next()?.to_owned();
    let mono = MonoTime::from_nanos(number(words.next())?);
    let (seconds, nanos): (i64, u32) = (number(words.next())?, number(words.next())?);
    let system = NtpDate::from_unix(seconds, Some(nanos).filter(|nanos| *nanos < 1_000_000_000)?);
    let slept = Duration::from_nanos(number(words.next())?);
    let ppm: f64 = number(words.next())?;
    let frequency = Frequency::from_ppm(Some(ppm).filter(|ppm| ppm.is_finite())?);
    words.next().is_none().then_some(ClockIdentity {
        boot,
        now: ClockReading { mono, system },
        slept,
        frequency,
    })
}

fn decode_source(words: &str) -> Option<SavedSamples> {
    let (remote, authenticated) = words.split_once(' ')?;
    let authenticated = match authenticated {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some(nothing_of(SampleOwner::Remote(remote.parse().ok()?), authenticated))
}

const fn nothing_of(owner: SampleOwner, authenticated: bool) -> SavedSamples {
    SavedSamples { owner, authenticated, reach: 0, samples: Vec::new(), estimate: None }
}

fn decode_sample(line: &str) -> Option<Sample> {
    let mut words = line.split(' ');
    let at = MonoTime::from_nanos(number(words.next())?);
    let mut duration = || number(words.next()).map(NtpDuration::from_bits);
    let (offset, delay, dispersion) = (duration()?, duration()?, duration()?);
    let (root_delay, root_dispersion) = (duration()?, duration()?);
    let stratum = number(words.next())?;
    let leap = LEAPS.get(number::<usize>(words.next())?).copied()?;
    let reference_id = number::<u32>(words.next())?.to_be_bytes();
    // Older files have none.
    let standard_error = words.next().map_or(Some(0.0), |word| number(Some(word)))?;
    let sample = Sample {
        at,
        offset,
        delay,
        dispersion,
        root_delay,
        root_dispersion,
        stratum,
        leap,
        reference_id,
        standard_error: Some(standard_error).filter(|error| (0.0..=STANDARD_ERROR_MAX).contains(error))?,
        lever: Lever::default(),
    };
    words.next().is_none().then_some(sample)
}

fn number<T: FromStr>(word: Option<&str>) -> Option<T> {
    word?.parse().ok()
}

const LEAPS: [Leap; 4] = [Leap::NoWarning, Leap::Insert, Leap::Delete, Leap::Unsynchronized];

fn leap_number(leap: Leap) -> usize {
    LEAPS.iter().position(|one| *one == leap).unwrap_or(LEAPS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn sources() -> Vec<SavedSamples> {
        let sample = Sample {
            at: MonoTime::from_nanos(4_000_000_000),
            offset: NtpDuration::from_nanos(-1_500),
            delay: NtpDuration::from_nanos(120_000),
            dispersion: NtpDuration::from_nanos(100),
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::from_nanos(5_000),
            stratum: 1,
            leap: Leap::Insert,
            reference_id: [192, 0, 2, 1],
            standard_error: 0.0,
            lever: Lever::default(),
        };
        let source = |remote: &str, authenticated, count| SavedSamples {
            owner: SampleOwner::Remote(remote.parse().expect("an address")),
            authenticated,
            reach: 0,
            samples: vec![sample; count],
            estimate: authenticated.then(|| SavedEstimate("1 2.5e-3 -4e0".to_owned())),
        };
        vec![source("192.0.2.1:123", true, 2), source("[2001:db8::1]:123", false, 64)]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut pulses = SavedSamples { authenticated: false, ..sources()[0].clone() };
        pulses.owner = SampleOwner::ReferenceClock(*b"PPS0");
        pulses.samples[0].standard_error = 1.25e-7;
        let all = [sources(), vec![pulses]].concat();
        let text = encode(&clock(), &all);
        let (read, samples) = decode(text.as_bytes()).expect("it is ours");
        assert_eq!((read.differs_from(&clock()), &samples), (None, &all));
        assert!(((read.now.system - clock().now.system).as_secs_f64()).abs() < 1e-9);
    }

    #[test]
    fn whatever_is_cut_off_or_flipped_is_refused() {
        let text = encode(&clock(), &sources()[..1]);
        for length in 0..text.len() {
            assert!(decode(&text.as_bytes()[..length]).is_err(), "{length}");
        }
        for bit in 0..text.len() * 8 {
            let mut octets = text.clone().into_bytes();
            octets[bit / 8] ^= 1 << (bit % 8);
            let same = String::from_utf8(octets.clone()).is_ok_and(|other| other.eq_ignore_ascii_case(&text));
            assert!(decode(&octets).is_err() || same, "{bit}");
        }
        for vague in ["1.7e308", "inf", "NaN", "-1"] {
            let text = encode(&clock(), &sources()[..1]).replace(" 0e0\n", &format!(" {vague}\n"));
            let body = &text[..text.trim_end().rfind('\n').expect("lines") + 1];
            assert_eq!(decode(checked(body.to_owned()).as_bytes()), Err(TextError::Contents), "{vague}");
        }
        let many = SavedSamples { samples: vec![sources()[0].samples[0]; 65], ..sources()[0].clone() };
        assert_eq!(decode(encode(&clock(), &[many]).as_bytes()), Err(TextError::Contents));
    }
}
