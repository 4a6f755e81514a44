//! Directives that are understood and have no effect here: how they are written, and what is different without them.

use std::ops::RangeInclusive;

use super::line::{Line, Parsed};

/// The arguments of a directive without effect.
pub(super) enum Shape {
    /// None.
    Flag,
    /// One integer; with the second value the directive asks for nothing that we do not do anyway.
    Integer(RangeInclusive<i64>, Option<i64>),
    /// At least so many words.
    Words(usize),
}

const STAMPS: &str = "packets whose stamps come late are followed up without them";
const MAIL: &str = "no mail is sent, as a daemon that sets clocks starts no other programs; corrections are logged \
                    (`logchange`), and `chime check` has a verdict for whatever sends mail";
/// Of `minsamples` and `maxsamples`, wherever they stand.
pub(super) const SAMPLES: &str = "there is no window of samples; older ones count the less, the more the clock may have \
                                  wandered since";
/// Whether `minsamples` or `maxsamples` asks for nothing but what chronyd does unless it is told otherwise.
pub(super) fn is_usual_window(option: &str, samples: u32) -> bool {
    // A longest window of 0 is the usual one, and there never are more than 64 samples.
    if option == "minsamples" { samples == 6 } else { samples == 0 || samples >= 64 }
}

const REMOVED: &str = "chrony has dropped it too";

/// Name, arguments, and what is different without it.
pub(super) const DIRECTIVES: &[(&str, Shape, &str)] = &[
    ("commandkey", Shape::Words(0), REMOVED),
    ("dumponexit", Shape::Flag, REMOVED),
    ("generatecommandkey", Shape::Words(0), REMOVED),
    ("linux_freq_scale", Shape::Words(0), REMOVED),
    ("linux_hz", Shape::Words(0), REMOVED),
    ("mailonchange", Shape::Words(2), MAIL),
    ("maxtxbuffers", Shape::Integer(0..=1_048_576, Some(0)), STAMPS),
];

/// Checks how a directive without effect is written; gives what is different, if anything.
pub(super) fn check(line: &mut Line<'_>, shape: &Shape, why: &'static str) -> Parsed<Option<&'static str>> {
    match shape {
        Shape::Flag => line.end()?,
        Shape::Integer(range, neutral) => {
            let number = line.only_integer(range)?;
            if Some(number) == *neutral {
                return Ok(None);
            }
        }
        Shape::Words(least) => {
            for _ in 0..*least {
                line.require("more words")?;
            }
        }
    }
    Ok(Some(why))
}
