//! `[[reference-clock]]`.

use super::table::{Parsed, TableReader, Value, nearest};
use super::values::{boolean, fault, integer, number, text, word};
use crate::{Origin, ReceiverSentence, ReferenceClock};

/// One reference clock.
pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>) -> Option<ReferenceClock> {
    let driver = table.require("driver", text);
    let parameter = table.require("parameter", text);
    let place = table.place();
    let mut clock = ReferenceClock::new("", "");
    clock.reference_id = table.read("reference-id", reference_id);
    clock.poll_exponent = table.read("poll-interval", integer(-32..=32_i8));
    table.set("driver-poll-interval", integer(-32..=32_i8), &mut clock.driver_poll_exponent);
    table.set("filter", integer(1..=32_768_u32), &mut clock.filter);
    table.set("offset", number(-1e10..=1e10, " seconds"), &mut clock.offset_correction);
    table.set("delay", number(0.0..=1e6, " seconds"), &mut clock.delay);
    table.set("max-dispersion", number(0.0..=1e6, " seconds"), &mut clock.max_dispersion);
    table.set("max-offset", number(0.0..=1e10, " seconds"), &mut clock.max_offset);
    clock.lock = table.read("lock", reference_id);
    table.set("rate", integer(1..=1_000_000_u32), &mut clock.rate);
    table.set("max-lock-pulses", integer(0..=1_000_000_u32), &mut clock.max_lock_pulses);
    table.set("pulse-width", number(0.0..=1.0, " seconds"), &mut clock.pulse_width);
    table.set("pps", boolean, &mut clock.pps);
    table.set("tai", boolean, &mut clock.tai);
    table.set("local", boolean, &mut clock.local);
    clock.baud = table.read("baud", integer(50..=4_000_000_u32));
    clock.sentence = table.read("sentence", word(&ReceiverSentence::ALL));
    table.set("count-readings", boolean, &mut clock.counts_readings);
    table.set("hide-position", boolean, &mut clock.hides_position);
    clock.precision = table.read("precision", number(1e-12..=1e6, " seconds"));
    table.set("stratum", integer(0..=16), &mut clock.stratum);
    table.set("max-unreachable-polls", integer(0..=u32::MAX), &mut clock.max_unreachable_polls);
    clock.max_samples = table.read("max-samples", integer(0..=u32::MAX));
    table.set("prefer", boolean, &mut clock.prefer);
    table.set("noselect", boolean, &mut clock.no_select);
    table.set("trust", boolean, &mut clock.trust);
    table.set("require", boolean, &mut clock.require);
    if let Some(driver) = driver.as_deref().filter(|driver| !ReferenceClock::DRIVERS.contains(driver)) {
        let message = format!("there is no driver `{driver}` here: this reference clock is not used");
        let near = nearest(driver, ReferenceClock::DRIVERS);
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        table.warn_at("driver", message + &near);
    }
    clock.origin = Some(Origin { file: place.file, line: place.line });
    clock.driver = driver?;
    clock.parameter = parameter?;
    Some(clock)
}

pub(super) fn reference_id(value: &Value<'_>) -> Parsed<String> {
    let name = text(value)?;
    if name.len() <= 4 && name.bytes().all(|octet| octet.is_ascii_graphic()) {
        Ok(name)
    } else {
        Err(fault(value, "must have at most four ASCII letters"))
    }
}
