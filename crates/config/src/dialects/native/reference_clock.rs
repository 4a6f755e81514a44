//! `[[reference-clock]]`.

use super::table::{Parsed, TableReader, Value};
use super::values::{boolean, fault, integer, number, text};
use crate::{Origin, ReferenceClock};

/// One reference clock; there is no driver yet, which is said.
pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>) -> Option<ReferenceClock> {
    let driver = table.require("driver", text);
    let parameter = table.require("parameter", text);
    let place = table.place();
    let mut clock = ReferenceClock::new("", "");
    clock.reference_id = table.read("reference-id", reference_id);
    clock.poll_exponent = table.read("poll-interval", integer(-32..=32_i8));
    table.set("offset", number(-1e10..=1e10, " seconds"), &mut clock.offset_correction);
    clock.precision = table.read("precision", number(1e-12..=1e6, " seconds"));
    table.set("stratum", integer(0..=16), &mut clock.stratum);
    table.set("prefer", boolean, &mut clock.prefer);
    table.set("noselect", boolean, &mut clock.no_select);
    table.set("trust", boolean, &mut clock.trust);
    table.set("require", boolean, &mut clock.require);
    if driver.is_some() {
        table.warn_at("driver", "reference clocks are not supported: this one is not used".to_owned());
    }
    clock.origin = Some(Origin { file: place.file, line: place.line });
    clock.driver = driver?;
    clock.parameter = parameter?;
    Some(clock)
}

fn reference_id(value: &Value<'_>) -> Parsed<String> {
    let name = text(value)?;
    if name.len() <= 4 && name.bytes().all(|octet| octet.is_ascii_graphic()) {
        Ok(name)
    } else {
        Err(fault(value, "must have at most four ASCII letters"))
    }
}
