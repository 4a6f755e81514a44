//! `[synchronization]`, its `algorithm`, and `[local-clock]`.

use std::net::Ipv4Addr;

use toml::de::{DeTable, DeValue};

use super::table::{Fault, Parsed, TableReader, Value, article, nearest};
use super::values::{boolean, fault, integer, number, plain_number, wrong_type};
use chime_discipline::{CorrectionTime, FallbackDrift, LocalReference, PanicThreshold, Settings};
use chime_server::SmoothingSettings;
use chime_time::Frequency;

use crate::{Model, Synchronization};

const SECONDS_MAX: f64 = 1e9;
/// Whether the kernel is told that its clock is right; it then sets the real-time clock by it.
const MARKS_KERNEL: &str = "mark-kernel-synchronized";

/// `[synchronization]`.
pub(in crate::dialects) fn read(table: &mut TableReader<'_, '_, '_, '_>, settings: &mut Synchronization) {
    const SOURCES_MAX: usize = 255;
    table.ours(&[MARKS_KERNEL, "smooth-served-time", "steer-clock"]);
    if let Some(count) = table.within("minimum-agreeing-sources", 1..=SOURCES_MAX) {
        settings.minimum_agreeing_sources = Some(count);
    }
    table.set("single-step-panic-threshold", threshold, &mut settings.tuning.step.running_panic);
    table.set("startup-step-panic-threshold", threshold, &mut settings.tuning.step.startup_panic);
    const ACCUMULATED: &str = "accumulated-step-panic-threshold";
    let tolerant = table.is_tolerant();
    let accumulated = table.read(ACCUMULATED, |value| match value.get_ref() {
        DeValue::String(word) if tolerant && word == "inf" => Ok(f64::INFINITY),
        _ => number(0.0..=SECONDS_MAX, " seconds")(value),
    });
    if accumulated.is_some_and(f64::is_infinite) {
        let message =
            format!("`{ACCUMULATED}` is a number for ntpd-rs, which refuses \"inf\"; there is no limit");
        table.warn_at(ACCUMULATED, message);
    }
    if let Some(seconds) = accumulated.map(|seconds| if seconds.is_finite() { seconds } else { 0.0 }) {
        // 0 is how ntpd-rs writes "no limit".
        settings.tuning.step.accumulated_panic = (seconds > 0.0).then_some(seconds);
    }
    table.set("steer-clock", boolean, &mut settings.tuning.steer);
    table.set(MARKS_KERNEL, boolean, &mut settings.marks_kernel);
    if let Some(seconds) =
        table.read("clock-precision", number(Synchronization::PRECISION_SECONDS, " seconds"))
    {
        settings.set_precision(seconds);
    }
    table.set(
        "unchecked-certificate-updates",
        integer(0..=u32::MAX),
        &mut settings.unchecked_certificate_updates,
    );
    table.table("smooth-served-time", "smooth-served-time", |limits| {
        let rate = limits.require("rate", number(1e-9..=0.1, " seconds per second"));
        let change = limits.require("rate-change", number(1e-15..=1e-3, " per second"));
        settings.smoothing =
            rate.zip(change).map(|(rate_max, change)| SmoothingSettings { rate_max, change });
    });
    table.set("warn-on-jump", boolean, &mut settings.warns_of_steps);
    table.ours(&["initial-frequency"]);
    if let Some(ratio) = table.read("initial-frequency", number(-0.1..=0.1, " seconds per second")) {
        settings.initial_frequency = Some(Frequency::from_ratio(ratio));
    }
    table.table("algorithm", "[synchronization.algorithm]", |algorithm| {
        read_algorithm(algorithm, &mut settings.tuning);
    });
    read_local_stratum(table, &mut settings.local_clock);
}

/// Nobody but us sets a real-time clock that we look at. `table` is `[synchronization]`.
pub(in crate::dialects) fn check_real_time_clock(table: &mut TableReader<'_, '_, '_, '_>, model: &Model) {
    if model.uses_real_time_clock() && table.has(MARKS_KERNEL) && model.synchronization.marks_kernel {
        let message = format!(
            "`{MARKS_KERNEL}` has the kernel set the real-time clock every eleven minutes, which `real-time-clock` of \
             [chrony] looks at, or a reference clock is: one of them only"
        );
        table.error_at(MARKS_KERNEL, message, None);
    }
}

/// `[local-clock]`.
pub(in crate::dialects) fn read_local_clock(
    table: &mut TableReader<'_, '_, '_, '_>,
    local: &mut Option<LocalReference>,
) {
    let mut clock = local.unwrap_or_default();
    table.set("stratum", integer(1..=15), &mut clock.stratum);
    table.set("reference-id", reference_id, &mut clock.reference_id);
    table.set("distance", number(1e-6..=SECONDS_MAX, " seconds"), &mut clock.distance);
    table.set("activate", number(0.0..=SECONDS_MAX, " seconds"), &mut clock.activate);
    table.set("orphan", boolean, &mut clock.orphan);
    let usual = if clock.orphan { LocalReference::ORPHAN_WAIT_SECONDS } else { 0.0 };
    let wait = || number(0.0..=SECONDS_MAX, " seconds");
    table.set("wait-synchronized", wait(), &mut clock.wait_synchronized);
    clock.wait_unsynchronized = table.read("wait-unsynchronized", wait()).unwrap_or(usual);
    *local = Some(clock);
}

/// The subset of ntpd-rs's tuning that exists here, and our own.
fn read_algorithm(table: &mut TableReader<'_, '_, '_, '_>, settings: &mut Settings) {
    table.ours(OUR_TUNING);
    let step = table.read("step-threshold", limit);
    settings.step.threshold = step.unwrap_or(settings.step.threshold);
    settings.step.backward_threshold = table
        .read("backward-step-threshold", limit)
        .map_or(settings.step.backward_threshold, |limit| Some(limit.unwrap_or(f64::INFINITY)));
    let updates = table.read("step-updates-limit", updates_limit);
    settings.step.updates_limit = updates.unwrap_or(settings.step.updates_limit);
    let ratio = |most| number(1e-9..=most, " seconds per second");
    table.set("first-correction-samples", integer(1..=64_usize), &mut settings.first_samples_min);
    table.set("manual-time", boolean, &mut settings.manual);
    settings.step.refusals_max =
        table.read("exit-after-refusals", integer(0..=u32::MAX)).or(settings.step.refusals_max);
    table.set("panic-after-updates", integer(0..=u32::MAX), &mut settings.step.panic_after);
    if let Some(slew) = table.read("slew-maximum-frequency-offset", ratio(0.1)) {
        settings.max_slew = Frequency::from_ratio(slew);
    }
    if let Some(drift) = table.read("maximum-frequency-steer", ratio(0.1)) {
        settings.max_drift = Frequency::from_ratio(drift);
    }
    if let Some(skew) = table.read("maximum-update-skew", ratio(0.1)) {
        settings.max_update_skew = Frequency::from_ratio(skew);
    }
    if let Some(ratio) = table.read("correction-time-ratio", number(1e-3..=1e6, "")) {
        settings.correction_time = CorrectionTime::Ratio(ratio);
    }
    read_fallback(table, &mut settings.fallback);
    let seconds = || number(1e-9..=SECONDS_MAX, " seconds");
    // How far off a source may be at most: for ntpd-rs by its offset's uncertainty and its delay, here by its root distance.
    table.set("maximum-source-uncertainty", seconds(), &mut settings.max_distance);
    table.set("maximum-source-distance", seconds(), &mut settings.max_distance);
    table.set("maximum-source-jitter", seconds(), &mut settings.max_jitter);
    table.set("holdover-distance", seconds(), &mut settings.holdover_distance);
    let from_zero = || number(0.0..=SECONDS_MAX, " seconds");
    table.set("stratum-weight", from_zero(), &mut settings.stratum_weight);
    table.set("minimum-stratum", integer(0..=15), &mut settings.strata.0);
    table.set("maximum-stratum", integer(0..=15), &mut settings.strata.1);
    table.set("reselect-distance", from_zero(), &mut settings.reselect_distance);
    table.set("combine-limit", number(0.0..=1e6, ""), &mut settings.combine_limit);
    table.set("minimum-source-distance", from_zero(), &mut settings.min_distance);
    table.set("minimum-survivors", integer(1..=64), &mut settings.survivors_min);
    table.set("minimum-samples", integer(1..=64), &mut settings.samples_min);
    table.set("maximum-samples", integer(0..=u32::MAX), &mut settings.samples_max);
    table.set("patience", number(0.0..=3600.0, " seconds"), &mut settings.patience);
    if let Some(error) = table.read("maximum-clock-error", ratio(0.1)) {
        settings.max_clock_error = Frequency::from_ratio(error);
    }
    table.ignore(NTPD_RS_TUNING, "it tunes the Kalman filter of ntpd-rs, which is not used here");
}

/// `fallback-drift = { min = 16, max = 19 }`: exponents of 2.
fn read_fallback(table: &mut TableReader<'_, '_, '_, '_>, fallback: &mut Option<FallbackDrift>) {
    const KEY: &str = "fallback-drift";
    const EXPONENTS: std::ops::RangeInclusive<u8> = 0..=31;
    if !table.has(KEY) {
        return;
    }
    let mut limits = (None, None);
    table.table(KEY, KEY, |exponents| {
        limits = (exponents.require("min", integer(EXPONENTS)), exponents.require("max", integer(EXPONENTS)));
    });
    match limits {
        (Some(min), Some(max)) if min <= max => *fallback = Some(FallbackDrift { min, max }),
        (Some(_), Some(_)) => table.error_at(KEY, "`min` must not be above `max`".to_owned(), None),
        _ => {}
    }
}

/// What ntpd-rs does not have in this table.
const OUR_TUNING: &[&str] = &[
    "backward-step-threshold",
    "combine-limit",
    "correction-time-ratio",
    "exit-after-refusals",
    "fallback-drift",
    "first-correction-samples",
    "holdover-distance",
    "manual-time",
    "maximum-clock-error",
    "maximum-source-distance",
    "maximum-source-jitter",
    "maximum-stratum",
    "maximum-update-skew",
    "minimum-samples",
    "minimum-source-distance",
    "minimum-stratum",
    "minimum-survivors",
    "panic-after-updates",
    "patience",
    "reselect-distance",
    "step-updates-limit",
    "stratum-weight",
];

/// What ntpd-rs reads in this table and has no meaning here.
const NTPD_RS_TUNING: &[&str] = &[
    "precision-low-probability",
    "precision-high-probability",
    "precision-hysteresis",
    "precision-minimum-weight",
    "poll-interval-low-weight",
    "poll-interval-high-weight",
    "poll-interval-hysteresis",
    "poll-interval-step-threshold",
    "delay-outlier-threshold",
    "initial-wander",
    "initial-frequency-uncertainty",
    "range-statistical-weight",
    "range-delay-weight",
    "steer-offset-threshold",
    "steer-offset-leftover",
    "steer-frequency-threshold",
    "steer-frequency-leftover",
    "slew-minimum-duration",
    "ignore-server-dispersion",
    "meddling-threshold",
];

/// ntpd-rs's way to serve the local clock: a stratum below 16, and a name at stratum 1.
fn read_local_stratum(table: &mut TableReader<'_, '_, '_, '_>, local: &mut Option<LocalReference>) {
    let stratum = table.read("local-stratum", integer(0..=255_u8));
    match stratum {
        Some(stratum @ 1..=15) => *local = Some(LocalReference { stratum, ..LocalReference::default() }),
        Some(_) => *local = None,
        None => {}
    }
    let name = table.read("reference-id", reference_id);
    if let Some(local) = local.as_mut().filter(|local| local.stratum == 1) {
        // Only a primary server has a name there, for ntpd-rs, too: that of others is an address. RFC 5905 §7.3.
        local.reference_id = name.unwrap_or(NTPD_RS_REFERENCE_ID);
    }
}

/// What ntpd-rs calls a local clock at stratum 1 without being told.
const NTPD_RS_REFERENCE_ID: [u8; 4] = *b"XNON";

/// Up to four letters, or an IPv4 address.
fn reference_id(value: &Value<'_>) -> Parsed<[u8; 4]> {
    if let DeValue::String(text) = value.get_ref()
        && let Ok(address) = text.parse::<Ipv4Addr>()
    {
        return Ok(address.octets());
    }
    let name = super::reference_clock::reference_id(value)?;
    let mut letters = name.bytes();
    Ok(std::array::from_fn(|_| letters.next().unwrap_or(0)))
}

/// A number of updates, or "unlimited".
fn updates_limit(value: &Value<'_>) -> Parsed<Option<u32>> {
    match value.get_ref() {
        DeValue::String(word) if word == "unlimited" => Ok(None),
        DeValue::Integer(_) => integer(0..=u32::MAX)(value).map(Some),
        _ => Err(wrong_type(value, "a number of updates or \"unlimited\"")),
    }
}

/// A threshold for both directions, or a table with `forward` and `backward`.
fn threshold(value: &Value<'_>) -> Parsed<PanicThreshold> {
    match value.get_ref() {
        DeValue::Table(table) => directions(table),
        _ => limit(value).map(|both| PanicThreshold { forward: both, backward: both }),
    }
}

fn directions(table: &DeTable<'_>) -> Parsed<PanicThreshold> {
    const KEYS: [&str; 2] = ["forward", "backward"];
    let mut faults = Vec::new();
    let mut read = |key: &str| -> Option<f64> {
        let value = table.get(key)?;
        limit(value).unwrap_or_else(|more| {
            faults.extend(more);
            None
        })
    };
    let threshold = PanicThreshold { forward: read(KEYS[0]), backward: read(KEYS[1]) };
    for key in table.keys().filter(|key| !KEYS.contains(&key.get_ref().as_ref())) {
        let word = key.get_ref();
        let near = nearest(word, &KEYS).map(|near| format!("did you mean `{near}`?"));
        faults.push(Fault { help: near, ..Fault::new(key.span(), format!("unknown key `{word}`")) });
    }
    if faults.is_empty() { Ok(threshold) } else { Err(faults) }
}

/// A number of seconds, or "inf" for no limit.
fn limit(value: &Value<'_>) -> Parsed<Option<f64>> {
    match value.get_ref() {
        DeValue::String(word) if word == "inf" => Ok(None),
        other => match plain_number(value) {
            Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Some(seconds)),
            Some(_) => Err(fault(value, "must be at least 0 seconds, or \"inf\"")),
            None => {
                let is = article(other);
                Err(fault(value, format!("must be seconds or \"inf\", and this is {is}")))
            }
        },
    }
}
