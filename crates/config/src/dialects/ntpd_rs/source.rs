//! `[[source]]`: network sources as the native dialect has them, and reference clocks.

use super::super::native::Draft;
use super::super::native::source as native;
use super::super::native::table::TableReader;
use super::super::native::values::{number, text};
use super::{mode_of, warning};
use crate::{Origin, ReferenceClock};

/// One `[[source]]`.
pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>, draft: &mut Draft) {
    match mode_of(table) {
        Some(driver @ ("sock" | "pps")) => {
            draft.model.reference_clocks.extend(reference_clock(table, driver))
        }
        Some("csptp") => {
            for key in ["address", "domain", "poll_interval", "response_interval"] {
                let _ = table.value(key);
            }
            table.report(warning(table, "CSPTP is not supported: this source is not used".to_owned()));
        }
        _ => draft.sources.extend(native::read(table)),
    }
}

/// Pulses in each second; `period` is their distance.
fn read_rate(table: &mut TableReader<'_, '_, '_, '_>) -> u32 {
    const RATE_MAX: f64 = 1e6;
    let Some(period) = table.read("period", number(1e-12..=1e6, " seconds")) else { return 1 };
    let rate = (1.0 / period).round().clamp(1.0, RATE_MAX);
    if (rate * period - 1.0).abs() > 1e-9 {
        let message =
            format!("no whole number of pulses with this period make a second: {rate} are expected");
        table.warn_at("period", message);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number in range")]
    let rate = rate as u32;
    rate
}

fn reference_clock(table: &mut TableReader<'_, '_, '_, '_>, driver: &str) -> Option<ReferenceClock> {
    const SECONDS_MAX: f64 = 1e6;
    let seconds = || number(1e-12..=SECONDS_MAX, " seconds");
    let path = table.require("path", text);
    let variance = table.read("measurement_noise_estimate", number(1e-24..=1e12, " seconds squared"));
    if variance.is_some() {
        table.warn_at(
            "measurement_noise_estimate",
            "`measurement_noise_estimate` is out of use: its square root is taken as `precision`".to_owned(),
        );
    }
    let precision = match variance {
        Some(variance) => table.read("precision", seconds()).or_else(|| Some(variance.sqrt())),
        None => table.require("precision", seconds()),
    };
    let accuracy = table.read("accuracy", seconds());
    let rate = if driver == "pps" { read_rate(table) } else { 1 };
    let place = table.place();
    let clock = ReferenceClock::new(driver, &path?);
    Some(ReferenceClock {
        rate,
        // The error bound has half of it.
        delay: accuracy.map_or(clock.delay, |accuracy| 2.0 * accuracy),
        precision: Some(precision?),
        origin: Some(Origin { file: place.file, line: place.line }),
        ..clock
    })
}
