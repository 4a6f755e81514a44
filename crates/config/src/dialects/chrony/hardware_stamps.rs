//! `hwtimestamp` and `hwtstimeout`.

use super::Reader;
use super::line::{Line, Parsed, unknown};
use crate::{CardFilter, CardWish};
use std::time::Duration;

/// `hwtimestamp INTERFACE|* [OPTION…]`.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const OPTIONS: &[&str] = &[
        "maxpoll",
        "maxsamples",
        "minpoll",
        "minsamples",
        "nocrossts",
        "precision",
        "rxcomp",
        "rxfilter",
        "txcomp",
    ];
    let interface = line.require("an interface or `*`")?.text;
    let mut wish = CardWish::new((interface != "*").then(|| interface.to_owned()));
    let mut poll_max = None;
    while let Some(word) = line.next() {
        match word.folded().as_str() {
            "minpoll" => wish.poll_min = line.integer(&(-32..=32))?,
            "maxpoll" => poll_max = Some(line.integer(&(-32..=32))?),
            "minsamples" => wish.relation.samples_min = line.integer(&(2..=64))?,
            "maxsamples" => wish.relation.samples_max = line.integer(&(2..=64))?,
            "precision" => wish.relation.precision = line.real_from_zero()?,
            "txcomp" => wish.transmit_compensation = line.real()?,
            "rxcomp" => wish.receive_compensation = line.real()?,
            "nocrossts" => wish.cross_timestamps = false,
            "rxfilter" => {
                let word = line.require("a filter")?;
                let known = CardFilter::WORDS.iter().find(|(name, _)| *name == word.text);
                let names = CardFilter::WORDS.map(|(name, _)| name);
                let (_, filter) = known.ok_or_else(|| unknown(&word, "filter", &names))?;
                wish.filter = Some(*filter);
            }
            _ => return Err(unknown(&word, "option", OPTIONS)),
        }
    }
    let clamp = |poll: i8| poll.clamp(*CardWish::POLLS.start(), *CardWish::POLLS.end());
    wish.poll_max = clamp(poll_max.unwrap_or(wish.poll_min.saturating_add(1)));
    wish.poll_min = clamp(wish.poll_min).min(wish.poll_max);
    reader.model.hardware_stamps.cards.push(wish);
    Ok(())
}

/// `hwtstimeout SECONDS`.
pub(super) fn read_timeout(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    reader.model.hardware_stamps.timeout = Duration::from_secs_f64(line.real_from_zero()?.min(1.0));
    line.end()
}
