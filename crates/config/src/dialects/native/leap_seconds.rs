//! `[leap-seconds]`.

use chime_discipline::LeapMode;
use chime_server::{SmearPlace, SmearSettings, SmearShape};

use super::table::TableReader;
use super::values::{number, path, text, word};
use crate::{Diagnostic, Model, Severity};

/// The shortest and the longest smear, seconds: 1000 ppm, and a week.
const SMEAR_SECONDS: core::ops::RangeInclusive<f64> = 1000.0..=604_800.0;

/// The words for [`SmearShape`]; the rates of the third follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    None,
    Linear,
    Cosine,
    Ramp,
}

/// Reads the table.
pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>, model: &mut Model) {
    const MODES: &[(&str, LeapMode)] = &[
        ("system", LeapMode::System),
        ("step", LeapMode::Step),
        ("slew", LeapMode::Slew),
        ("ignore", LeapMode::Ignore),
    ];
    table.set("mode", word(MODES), &mut model.synchronization.tuning.leap_mode);
    let settings = &mut model.leap_seconds;
    settings.file = table.read("file", path).or(settings.file.take());
    settings.zone = table.read("zone", text).or(settings.zone.take());
    settings.smear = read_smear(table, settings.smear);
    if settings.smear.is_some() && model.synchronization.tuning.leap_mode == LeapMode::Ignore {
        let message = "`smear`: a leap second that the clock ignores cannot be smeared for clients";
        table.error_at("smear", message.to_owned(), Some("choose another `mode`".to_owned()));
    }
}

fn read_smear(
    table: &mut TableReader<'_, '_, '_, '_>,
    before: Option<SmearSettings>,
) -> Option<SmearSettings> {
    const SHAPES: &[(&str, Shape)] =
        &[("none", Shape::None), ("linear", Shape::Linear), ("cosine", Shape::Cosine), ("ramp", Shape::Ramp)];
    const PLACES: &[(&str, SmearPlace)] =
        &[("around", SmearPlace::Around), ("before", SmearPlace::Before), ("after", SmearPlace::After)];
    let shape = table.read("smear", word(SHAPES));
    let mut smear = before.unwrap_or_default();
    table.set("smear-seconds", number(SMEAR_SECONDS, " seconds"), &mut smear.seconds);
    table.set("smear-place", word(PLACES), &mut smear.place);
    let rate_max = table.read("smear-rate", number(1e-6..=1e-3, " seconds per second"));
    let change = table.read("smear-rate-change", number(1e-11..=1e-3, " per second"));
    if shape != Some(Shape::Ramp) && (rate_max.is_some() || change.is_some()) {
        let key = if rate_max.is_some() { "smear-rate" } else { "smear-rate-change" };
        table.warn_at(key, format!("`{key}` has no effect: it belongs to `smear = \"ramp\"`"));
    }
    let shape = match shape {
        None => return before,
        Some(Shape::None) => return None,
        Some(Shape::Linear) => SmearShape::Linear,
        Some(Shape::Cosine) => SmearShape::Cosine,
        // What chrony's documentation recommends: 17 hours and 22 minutes, never more than 32 ppm.
        Some(Shape::Ramp) => {
            SmearShape::Ramp { rate_max: rate_max.unwrap_or(400e-6), change: change.unwrap_or(1.024e-9) }
        }
    };
    Some(SmearSettings { shape, ..smear })
}

/// Says when sources of both kinds are configured: only one kind is ever followed.
pub(super) fn check(model: &Model, diagnostics: &mut Vec<Diagnostic>) {
    let used = model.sources.iter().filter(|source| !source.no_select);
    let (smeared, others): (Vec<_>, Vec<_>) = used.partition(|source| source.smeared);
    let (Some(first), false) = (smeared.first(), others.is_empty()) else { return };
    let Some(origin) = &first.origin else { return };
    diagnostics.push(Diagnostic {
        severity: Severity::Warning,
        file: origin.file.clone(),
        line: origin.line,
        column: 1,
        excerpt: String::new(),
        width: 1,
        message: format!(
            "{} of {} sources smear leap seconds: only {} will be followed",
            smeared.len(),
            smeared.len() + others.len(),
            if smeared.len() > others.len() { "these" } else { "the others" }
        ),
        help: Some("use sources of one kind".to_owned()),
    });
}
