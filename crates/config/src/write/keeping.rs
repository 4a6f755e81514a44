//! How time is kept, written out.

use super::values::{float, limit_or_inf, path, threshold};
use super::{Writer, quoted};
use crate::Model;
use chime_discipline::{CorrectionTime, LeapMode, LocalReference};
use chime_server::{SmearPlace, SmearSettings, SmearShape};
use std::net::Ipv4Addr;

/// Letters, or else an address.
fn reference_id(id: &[u8; 4]) -> String {
    let letters = std::str::from_utf8(id).unwrap_or_default().trim_end_matches('\0');
    match !letters.is_empty() && letters.bytes().all(|octet| octet.is_ascii_graphic()) {
        true => quoted(letters),
        false => quoted(&Ipv4Addr::from(*id).to_string()),
    }
}

impl Writer {
    pub(super) fn synchronization(&mut self, model: &Model) {
        let default = Model::default();
        let (step, usual) = (&model.synchronization.tuning.step, &default.synchronization.tuning.step);
        self.table("[synchronization]");
        let agreeing = model.synchronization.minimum_agreeing_sources;
        self.some(
            "minimum-agreeing-sources",
            agreeing.map(|count| count.min(255)).as_ref(),
            ToString::to_string,
        );
        self.set("single-step-panic-threshold", &step.running_panic, &usual.running_panic, threshold);
        self.set("startup-step-panic-threshold", &step.startup_panic, &usual.startup_panic, threshold);
        self.some("accumulated-step-panic-threshold", step.accumulated_panic.as_ref(), |limit| float(*limit));
        self.flag("steer-clock", model.synchronization.tuning.steer, true);
        let usual = !model.uses_real_time_clock();
        self.flag("mark-kernel-synchronized", model.synchronization.marks_kernel, usual);
        self.some("smooth-served-time", model.synchronization.smoothing.as_ref(), |limits| {
            format!("{{ rate = {}, rate-change = {} }}", float(limits.rate_max), float(limits.change))
        });
        let precision = model.synchronization.precision;
        self.some("clock-precision", precision.as_ref(), |precision| float(precision.seconds()));
        let frequency = model.synchronization.initial_frequency;
        self.some("initial-frequency", frequency.as_ref(), |frequency| float(frequency.as_ratio()));
        self.flag("warn-on-jump", model.synchronization.warns_of_steps, true);
        let unchecked = &model.synchronization.unchecked_certificate_updates;
        self.set("unchecked-certificate-updates", unchecked, &0, u32::to_string);
        if let Some(local) = model.synchronization.local_clock {
            self.item("[local-clock]");
            self.put("stratum", &local.stratum.to_string());
            self.set("reference-id", &local.reference_id, &LocalReference::REFERENCE_ID, reference_id);
            self.put("distance", &float(local.distance));
            self.put("activate", &float(local.activate));
            self.flag("orphan", local.orphan, false);
            self.put("wait-synchronized", &float(local.wait_synchronized));
            self.put("wait-unsynchronized", &float(local.wait_unsynchronized));
        }
    }

    pub(super) fn leap_seconds(&mut self, model: &Model) {
        self.table("[leap-seconds]");
        let mode = model.synchronization.tuning.leap_mode;
        self.set("mode", &mode, &LeapMode::System, |mode| {
            quoted(match mode {
                LeapMode::System => "system",
                LeapMode::Step => "step",
                LeapMode::Slew => "slew",
                LeapMode::Ignore => "ignore",
            })
        });
        self.some("file", model.leap_seconds.file.as_ref(), |file| path(file));
        self.some("zone", model.leap_seconds.zone.as_ref(), |zone| quoted(zone));
        let Some(smear) = model.leap_seconds.smear else { return };
        match smear.shape {
            SmearShape::Linear => self.put("smear", &quoted("linear")),
            SmearShape::Cosine => self.put("smear", &quoted("cosine")),
            SmearShape::Ramp { rate_max, change } => {
                self.put("smear", &quoted("ramp"));
                self.put("smear-rate", &float(rate_max));
                self.put("smear-rate-change", &float(change));
            }
        }
        let usual = SmearSettings::default();
        self.number("smear-seconds", smear.seconds, usual.seconds);
        self.set("smear-place", &smear.place, &usual.place, |place| {
            quoted(match place {
                SmearPlace::Around => "around",
                SmearPlace::Before => "before",
                SmearPlace::After => "after",
            })
        });
    }

    pub(super) fn algorithm(&mut self, model: &Model) {
        let usual = &Model::default().synchronization.tuning;
        let tuning = &model.synchronization.tuning;
        self.table("[synchronization.algorithm]");
        self.set("step-threshold", &tuning.step.threshold, &usual.step.threshold, |limit| {
            limit_or_inf(*limit)
        });
        self.some("backward-step-threshold", tuning.step.backward_threshold.as_ref(), |limit| {
            limit_or_inf(Some(*limit).filter(|limit| limit.is_finite()))
        });
        self.set("step-updates-limit", &tuning.step.updates_limit, &usual.step.updates_limit, |limit| {
            limit.map_or_else(|| quoted("unlimited"), |limit| limit.to_string())
        });
        self.ratio("slew-maximum-frequency-offset", tuning.max_slew, usual.max_slew);
        self.ratio("maximum-frequency-steer", tuning.max_drift, usual.max_drift);
        self.number("holdover-distance", tuning.holdover_distance, usual.holdover_distance);
        self.number("maximum-source-distance", tuning.max_distance, usual.max_distance);
        self.number("maximum-source-jitter", tuning.max_jitter, usual.max_jitter);
        self.set("minimum-stratum", &tuning.strata.0, &usual.strata.0, ToString::to_string);
        self.set("maximum-stratum", &tuning.strata.1, &usual.strata.1, ToString::to_string);
        self.number("stratum-weight", tuning.stratum_weight, usual.stratum_weight);
        self.number("reselect-distance", tuning.reselect_distance, usual.reselect_distance);
        self.number("combine-limit", tuning.combine_limit, usual.combine_limit);
        self.number("minimum-source-distance", tuning.min_distance, usual.min_distance);
        self.set("minimum-survivors", &tuning.survivors_min, &usual.survivors_min, ToString::to_string);
        self.set("minimum-samples", &tuning.samples_min, &usual.samples_min, ToString::to_string);
        self.set("maximum-samples", &tuning.samples_max, &usual.samples_max, ToString::to_string);
        self.set(
            "first-correction-samples",
            &tuning.first_samples_min,
            &usual.first_samples_min,
            ToString::to_string,
        );
        self.flag("manual-time", tuning.manual, usual.manual);
        self.some("exit-after-refusals", tuning.step.refusals_max.as_ref(), ToString::to_string);
        self.set(
            "panic-after-updates",
            &tuning.step.panic_after,
            &usual.step.panic_after,
            ToString::to_string,
        );
        self.ratio("maximum-update-skew", tuning.max_update_skew, usual.max_update_skew);
        if let CorrectionTime::Ratio(ratio) = tuning.correction_time {
            self.put("correction-time-ratio", &float(ratio));
        }
        self.some("fallback-drift", tuning.fallback.as_ref(), |fallback| {
            format!("{{ min = {}, max = {} }}", fallback.min, fallback.max)
        });
        self.number("patience", tuning.patience, usual.patience);
        self.ratio("maximum-clock-error", tuning.max_clock_error, usual.max_clock_error);
    }
}
