//! Commands that are understood and have no effect here: how they are written, and what is different without them.

use super::line::{Line, Parsed};

/// The arguments of a command without effect.
pub(super) enum Shape {
    /// At least so many words.
    Words(usize),
    /// One integer.
    Integer,
    /// One number.
    Number,
}

/// Name, arguments, and what is different without it.
pub(super) const COMMANDS: &[(&str, Shape, &str)] = &[
    ("mdnstries", Shape::Integer, "the service is not announced with mDNS"),
    ("nonvolatile", Shape::Number, "the frequency is saved as it changes"),
    ("phone", Shape::Words(1), "there are no telephone time services"),
    ("requestkey", Shape::Integer, "ntpd does not use it either"),
    ("tick", Shape::Number, "ntpd does not use it either"),
];

/// Commands of other programs named ntpd, with what to do instead.
pub(super) const REMOVED: &[(&str, &str)] = &[
    ("autokey", "use `nts`"),
    ("broadcast", "list this machine as a `server` in its clients"),
    ("broadcastclient", "list a `server`"),
    ("broadcastdelay", "remove the line"),
    ("calldelay", "remove the line"),
    ("crypto", "use `nts`"),
    ("discard", "use `limit average N burst N`"),
    ("keysdir", "use `nts`"),
    ("manycastclient", "list a `server` or a `pool`"),
    ("manycastserver", "remove the line"),
    ("multicastclient", "list a `server`"),
    ("saveconfigdir", "remove the line"),
    ("trap", "remove the line"),
    ("ttl", "remove the line"),
];

/// Checks how a command without effect is written.
pub(super) fn check(line: &mut Line<'_>, shape: &Shape) -> Parsed<()> {
    match shape {
        Shape::Words(least) => {
            for _ in 0..*least {
                line.require("more words")?;
            }
            line.rest();
        }
        Shape::Integer => {
            line.integer()?;
        }
        Shape::Number => {
            line.number()?;
        }
    }
    line.end()
}
