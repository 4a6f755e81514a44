//! `[[hardware-timestamps]]`.

use super::table::TableReader;
use super::values::{boolean, integer, number, text, word};
use crate::{CardFilter, CardWish, HardwareStamps};
use std::time::Duration;

/// One card, or all.
pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>, stamps: &mut HardwareStamps) {
    let interface = table.require("interface", text);
    let mut enabled = true;
    table.set("enabled", boolean, &mut enabled);
    let mut wish = CardWish::new(interface.filter(|name| name != "*"));
    table.set("poll-min", integer(CardWish::POLLS), &mut wish.poll_min);
    wish.poll_max = wish.poll_min.saturating_add(1).min(*CardWish::POLLS.end());
    table.set("poll-max", integer(CardWish::POLLS), &mut wish.poll_max);
    if wish.poll_max < wish.poll_min {
        table.error_at("poll-max", "`poll-max` must not be below `poll-min`".to_owned(), None);
    }
    table.set("samples-min", integer(2..=64), &mut wish.relation.samples_min);
    table.set("samples-max", integer(2..=64), &mut wish.relation.samples_max);
    table.set("precision", number(1e-12..=1.0, " seconds"), &mut wish.relation.precision);
    table.set("transmit-compensation", number(-1.0..=1.0, " seconds"), &mut wish.transmit_compensation);
    table.set("receive-compensation", number(-1.0..=1.0, " seconds"), &mut wish.receive_compensation);
    table.set("cross-timestamps", boolean, &mut wish.cross_timestamps);
    wish.filter = table.read("filter", word(&CardFilter::WORDS));
    if let Some(millis) = table.read("timeout-ms", integer(0..=1000_u64)) {
        stamps.timeout = Duration::from_millis(millis);
    }
    stamps.automatic = false;
    if enabled {
        stamps.cards.push(wish);
    }
}
