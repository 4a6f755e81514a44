//! Receivers that tell the time in NMEA 0183 sentences over a serial line: RMC and ZDA.
//!
//! ```text
//! $GPRMC,150341.25,A,4807.038,N,01131.000,E,0.0,0.0,201126,,,A*hh     A: there is a fix
//! $GPZDA,150341.25,20,11,2026,00,00*hh                                believed while there is a fix
//! ```
//! The time of a sentence is when its `$` came. What a receiver needs until then is for the operator to add as `offset`.

use crate::{Reading, ReadingError, calendar};
use chime_time::NtpDate;

/// Octets of the longest sentence that is looked at; NMEA 0183 has 82, and some receivers more.
const SENTENCE_OCTETS_MAX: usize = 128;
/// Sentences after the last one that told of a fix during which there still is one.
const FIX_SENTENCES_MAX: u32 = 64;
/// Two-digit years from here on are of the last century: GPS began in 1980.
const CENTURY_PIVOT: i64 = 80;

/// Finds sentences in what comes over the line, and times in them.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    /// The one kind of sentence that tells the time, by its last three letters; `None`: all do.
    only: Option<&'static str>,
    sentence: Vec<u8>,
    /// When the `$` of the sentence came; `None` between sentences.
    began: Option<NtpDate>,
    /// Sentences since the last one that told of a fix; `None` without a fix.
    since_fix: Option<u32>,
    /// The last sentence that told the time, from its `$` on.
    told: Option<String>,
    /// The last time told, Unix seconds and nanoseconds: several sentences tell the same.
    last: Option<(i64, u32)>,
}

impl Receiver {
    /// One that takes the time from sentences of one kind.
    #[must_use]
    pub fn of_sentences(only: Option<&'static str>) -> Self {
        Self { only, ..Self::default() }
    }

    /// Takes octets that came at `at`, by our system clock; gives what each sentence in them told: a reading, or why there is
    /// none. Sentences that tell no time give nothing.
    pub fn push(&mut self, octets: &[u8], at: NtpDate) -> Vec<Result<Reading, ReadingError>> {
        let mut told = Vec::new();
        for &octet in octets {
            match octet {
                b'$' => {
                    self.sentence.clear();
                    self.began = Some(at);
                }
                b'\r' | b'\n' => {
                    if let Some(began) = self.began.take() {
                        let sentence = std::mem::take(&mut self.sentence);
                        told.extend(self.read(&sentence, began).transpose());
                    }
                }
                _ if self.sentence.len() < SENTENCE_OCTETS_MAX => {
                    if self.began.is_some() {
                        self.sentence.push(octet);
                    }
                }
                // Too long: no sentence.
                _ => self.began = None,
            }
        }
        told
    }

    /// The last sentence that told the time, from its `$` on and without its line end; once.
    pub fn take_sentence(&mut self) -> Option<String> {
        self.told.take()
    }

    /// A sentence without its `$` and line end.
    fn read(&mut self, sentence: &[u8], began: NtpDate) -> Result<Option<Reading>, ReadingError> {
        let body = checked(sentence)?;
        let fields: Vec<&str> = body.split(',').collect();
        let kind =
            fields.first().and_then(|name| name.get(name.len().saturating_sub(3)..)).unwrap_or_default();
        let field = |at: usize| fields.get(at).copied().unwrap_or_default();
        self.since_fix = self.since_fix.map(|since| since + 1).filter(|since| *since <= FIX_SENTENCES_MAX);
        let fix = match kind {
            "RMC" => Some(field(2) == "A"),
            "GLL" => Some(field(6) == "A"),
            "GGA" => Some(!["", "0"].contains(&field(6))),
            _ => None,
        };
        match fix {
            Some(true) => self.since_fix = Some(0),
            Some(false) => self.since_fix = None,
            None => {}
        }
        let date = match kind {
            _ if self.only.is_some_and(|only| only != kind) => return Ok(None),
            "RMC" => {
                let [day, month, year] = two_digits(field(9)).ok_or(ReadingError::Unsynchronized)?;
                (if year < CENTURY_PIVOT { 2000 + year } else { 1900 + year }, month, day)
            }
            "ZDA" => {
                let number = |at: usize| field(at).parse::<i64>().map_err(|_| ReadingError::Unsynchronized);
                (number(4)?, number(3)?, number(2)?)
            }
            _ => return Ok(None),
        };
        if self.since_fix.is_none() {
            return Err(ReadingError::Unsynchronized);
        }
        let (time, nanos) = time_of_day(field(1)).ok_or(ReadingError::Range)?;
        let seconds = calendar::unix_seconds(date, time).ok_or(ReadingError::Range)?;
        if self.last.replace((seconds, nanos)) == Some((seconds, nanos)) {
            return Ok(None);
        }
        self.told = Some(format!("${}", String::from_utf8_lossy(sentence)));
        Ok(Some(Reading::time(began, NtpDate::from_unix(seconds, nanos) - began)))
    }
}

/// A sentence without where the receiver is: each digit of latitude and longitude is a `_`, and the checksum is that of the
/// sentence as it came, as ntpd has it.
#[must_use]
pub fn without_position(sentence: &str) -> String {
    /// Latitude and longitude in the one sentence with the time that has them.
    const RMC_POSITION: [usize; 2] = [3, 5];
    if sentence.get(3..6) != Some("RMC") {
        return sentence.to_owned();
    }
    let fields = sentence.split(',').enumerate().map(|(at, field)| {
        if RMC_POSITION.contains(&at) {
            field.replace(|letter: char| letter.is_ascii_digit(), "_")
        } else {
            field.to_owned()
        }
    });
    fields.collect::<Vec<_>>().join(",")
}

/// What stands before the checksum, when that is right. A sentence without one could be anything.
fn checked(sentence: &[u8]) -> Result<&str, ReadingError> {
    let text =
        std::str::from_utf8(sentence).ok().filter(|text| text.is_ascii()).ok_or(ReadingError::Magic)?;
    let (body, sum) = text.split_once('*').ok_or(ReadingError::Magic)?;
    let told = u8::from_str_radix(sum.trim_end(), 16).map_err(|_| ReadingError::Magic)?;
    let sum = body.bytes().fold(0, |sum, octet| sum ^ octet);
    if sum == told { Ok(body) } else { Err(ReadingError::Magic) }
}

/// `hhmmss` and a fraction in nanoseconds.
fn time_of_day(text: &str) -> Option<((i64, i64, i64), u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let [hour, minute, second] = two_digits(whole)?;
    let mut nanos = 0;
    let mut weight = 100_000_000;
    for digit in fraction.chars() {
        nanos += digit.to_digit(10)? * weight;
        weight /= 10;
    }
    Some(((hour, minute, second), nanos))
}

/// Three numbers of two digits.
fn two_digits(text: &str) -> Option<[i64; 3]> {
    if text.len() != 6 || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let number = |at: usize| text.get(at..at + 2)?.parse().ok();
    Some([number(0)?, number(2)?, number(4)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadingKind;
    use chime_time::NtpDuration;
    use proptest::prelude::*;

    fn sentence(body: &str) -> String {
        format!("${body}*{:02X}\r\n", body.bytes().fold(0, |sum, octet| sum ^ octet))
    }

    fn at() -> NtpDate {
        NtpDate::from_unix(1_795_187_021, 400_000_000)
    }

    const RMC: &str = "GPRMC,150341.25,A,4807.038,N,01131.000,E,0.0,0.0,201126,,,A";

    fn told(receiver: &mut Receiver, body: &str) -> Vec<Result<Reading, ReadingError>> {
        receiver.push(sentence(body).as_bytes(), at())
    }

    #[test]
    fn a_sentence_tells_the_time_at_which_it_began() {
        let mut receiver = Receiver::default();
        let text = sentence(RMC);
        let (first, rest) = text.split_at(7);
        assert!(receiver.push(first.as_bytes(), at()).is_empty());
        let later = at() + NtpDuration::from_secs_f64(0.06);
        let told = receiver.push(rest.as_bytes(), later);
        let [Ok(reading)] = told[..] else { panic!("one reading: {told:?}") };
        assert_eq!(reading.at, at());
        assert_eq!(receiver.take_sentence().as_deref(), Some(text.trim_end()));
        assert_eq!(receiver.take_sentence(), None);
        let ReadingKind::Time(offset) = reading.kind else { panic!("a time") };
        assert!((offset.as_secs_f64() + 0.15).abs() < 1e-9);
    }

    #[test]
    fn the_time_can_be_taken_from_one_kind_of_sentence() {
        let zda = "GPZDA,150342.00,20,11,2026,00,00";
        let mut receiver = Receiver::of_sentences(Some("ZDA"));
        // It still says that there is a fix.
        assert_eq!(told(&mut receiver, RMC), []);
        assert!(matches!(told(&mut receiver, zda)[..], [Ok(_)]));
    }

    #[test]
    fn where_the_receiver_is_can_be_left_out_of_its_words() {
        let hidden = without_position(sentence(RMC).trim_end());
        assert!(
            hidden.starts_with("$GPRMC,150341.25,A,____.___,N,_____.___,E,0.0,0.0,201126,,,A*"),
            "{hidden}"
        );
        assert_eq!(without_position("$GPZDA,150342.00,20*33"), "$GPZDA,150342.00,20*33");
        assert_eq!(without_position(""), "");
    }

    #[test]
    fn zda_is_believed_while_there_is_a_fix_and_each_time_counts_once() {
        let mut receiver = Receiver::default();
        let zda = "GPZDA,150342.00,20,11,2026,00,00";
        assert_eq!(told(&mut receiver, zda), [Err(ReadingError::Unsynchronized)]);
        assert!(matches!(told(&mut receiver, RMC)[..], [Ok(_)]));
        assert!(matches!(told(&mut receiver, zda)[..], [Ok(_)]));
        assert_eq!(told(&mut receiver, zda), []);
        assert_eq!(told(&mut receiver, "GPGGA,150342.00,,,,,0,00,,,,,,,"), []);
        assert_eq!(
            told(&mut receiver, "GPZDA,150343.00,20,11,2026,00,00"),
            [Err(ReadingError::Unsynchronized)]
        );
    }

    #[test]
    fn without_a_fix_or_a_right_checksum_there_is_no_time() {
        let mut receiver = Receiver::default();
        let void = RMC.replace(",A,4807", ",V,4807");
        assert_eq!(told(&mut receiver, &void), [Err(ReadingError::Unsynchronized)]);
        assert_eq!(receiver.push(b"$GPRMC,150341.25,A*00\r\n", at()), [Err(ReadingError::Magic)]);
        assert_eq!(receiver.push(b"$GPRMC,150341.25,A\r\n", at()), [Err(ReadingError::Magic)]);
        assert_eq!(told(&mut receiver, &RMC.replace("150341", "246000")), [Err(ReadingError::Range)]);
        assert_eq!(told(&mut receiver, &RMC.replace("201126", "310226")), [Err(ReadingError::Range)]);
        assert_eq!(told(&mut receiver, "GPGSV,3,1,11"), []);
    }

    #[test]
    fn a_line_without_end_costs_no_memory() {
        let mut receiver = Receiver::default();
        for _ in 0..1000 {
            assert!(receiver.push(&[b'$'; 100], at()).is_empty());
            assert!(receiver.push(&[b'x'; 1000], at()).is_empty());
            assert!(receiver.sentence.capacity() <= 2 * SENTENCE_OCTETS_MAX);
        }
        assert!(matches!(told(&mut receiver, RMC)[..], [Ok(_)]));
    }

    proptest! {
        #[test]
        fn nothing_that_comes_over_a_line_makes_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            Receiver::default().push(&octets, at());
        }

        #[test]
        fn no_sentence_makes_it_panic(kind in "(RMC|ZDA|GGA|GLL)", fields in "[0-9A,.:é-]{0,60}") {
            let mut receiver = Receiver { since_fix: Some(0), ..Receiver::default() };
            told(&mut receiver, &format!("GP{kind},{fields}"));
        }
    }
}
