//! Directives that are understood and have no effect here: how they are written, and what is different without them.

use std::ops::RangeInclusive;

use super::line::{Line, Parsed};

/// The arguments of a directive without effect.
pub(super) enum Shape {
    /// None.
    Flag,
    /// One integer.
    Integer(RangeInclusive<i64>),
    /// At least so many words.
    Words(usize),
}

/// Of `minsamples`, wherever it stands.
pub(super) const MIN_SAMPLES: &str = "no samples are dropped because they do not lie on one line, so that none have to be \
                                      kept; older ones count the less, the more the clock may have wandered since";
/// `minsamples` as chronyd has it unless it is told otherwise. Less asks for nothing: it allows samples to be dropped.
pub(super) const MIN_SAMPLES_USUAL: u32 = 6;

const REMOVED: &str = "chrony has dropped it too";

/// Name, arguments, and what is different without it; `None`: nothing is.
pub(super) const DIRECTIVES: &[(&str, Shape, Option<&str>)] = &[
    ("commandkey", Shape::Words(0), Some(REMOVED)),
    ("dumponexit", Shape::Flag, Some(REMOVED)),
    ("generatecommandkey", Shape::Words(0), Some(REMOVED)),
    ("linux_freq_scale", Shape::Words(0), Some(REMOVED)),
    ("linux_hz", Shape::Words(0), Some(REMOVED)),
    // Stamps are always told apart by their numbers here, through tunnels too, and no messages are kept for it.
    ("maxtxbuffers", Shape::Integer(0..=1_048_576), None),
];

/// Checks how a directive without effect is written.
pub(super) fn check(line: &mut Line<'_>, shape: &Shape) -> Parsed<()> {
    match shape {
        Shape::Flag => line.end()?,
        Shape::Integer(range) => drop(line.only_integer(range)?),
        Shape::Words(least) => {
            for _ in 0..*least {
                line.require("more words")?;
            }
        }
    }
    Ok(())
}
