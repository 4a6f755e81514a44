//! How single values are written.

use super::quoted;
use crate::model::TERMS_WORDS;
use crate::{
    AccessNetworks, AccessRule, AuthenticationPolicy, PanicThreshold, RealTimeClock, Refusal,
    TemperatureCompensation, TemperatureCurve,
};
use chime_server::{RateLimitSettings, TermsRule};
use std::fmt::Write as _;
use std::path::Path;

pub(super) fn real_time_clock(file: &Path, clock: &RealTimeClock) -> String {
    let usual = RealTimeClock::default();
    let mut entries = vec![format!("file = {}", path(file))];
    if clock.device != usual.device {
        entries.push(format!("device = {}", path(&clock.device)));
    }
    if clock.keeps_utc {
        entries.push("keeps-utc = true".to_owned());
    }
    entries.extend(clock.adjtime_file.iter().map(|file| format!("adjtime-file = {}", path(file))));
    entries.extend(clock.trim_threshold.map(|seconds| format!("trim-threshold = {}", float(seconds))));
    format!("{{ {} }}", entries.join(", "))
}

pub(super) fn temperature(compensation: &TemperatureCompensation) -> String {
    let curve = match &compensation.curve {
        TemperatureCurve::PointsFile(file) => format!("points-file = {}", path(file)),
        TemperatureCurve::Points(points) => {
            let points = points.iter().map(|(t, ppm)| format!("[{}, {}]", float(*t), float(*ppm)));
            format!("points = {}", list(points))
        }
        TemperatureCurve::Quadratic { t0, k0, k1, k2 } => {
            let [t0, k0, k1, k2] = [t0, k0, k1, k2].map(|number| float(*number));
            format!("t0 = {t0}, k0 = {k0}, k1 = {k1}, k2 = {k2}")
        }
    };
    let interval = float(compensation.interval.as_secs_f64());
    format!("{{ sensor = {}, interval = {interval}, {curve} }}", path(&compensation.sensor))
}

pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

pub(super) fn float(number: f64) -> String {
    toml::Value::Float(number).to_string()
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    format!("[{}]", items.join(", "))
}

pub(super) fn or_off(text: Option<&str>) -> String {
    text.map_or_else(|| "false".to_owned(), quoted)
}

pub(super) fn limit_or_inf(limit: Option<f64>) -> String {
    limit.map_or_else(|| quoted("inf"), float)
}

pub(super) fn threshold(threshold: &PanicThreshold) -> String {
    if threshold.forward == threshold.backward {
        return limit_or_inf(threshold.forward);
    }
    let (forward, backward) = (limit_or_inf(threshold.forward), limit_or_inf(threshold.backward));
    format!("{{ forward = {forward}, backward = {backward} }}")
}

pub(super) const fn policy(policy: AuthenticationPolicy) -> &'static str {
    match policy {
        AuthenticationPolicy::Required => "required",
        AuthenticationPolicy::Preferred => "preferred",
        AuthenticationPolicy::Mixed => "mixed",
        AuthenticationPolicy::Ignored => "ignored",
    }
}

pub(super) fn networks(networks: &AccessNetworks) -> String {
    let filter = list(networks.subnets.iter().map(|subnet| quoted(&subnet.to_string())));
    let action = match networks.refusal {
        Refusal::Ignore => "ignore",
        Refusal::Deny => "deny",
    };
    format!("{{ filter = {filter}, action = \"{action}\" }}")
}

pub(super) fn rate_limit(limit: &RateLimitSettings) -> String {
    let mut text = format!("{{ interval = {}, burst = {}", float(limit.interval.as_secs_f64()), limit.burst);
    for (key, value) in [("leak", limit.leak), ("kiss", limit.kiss)] {
        if let Some(value) = value {
            let _ = write!(text, ", {key} = {value}");
        }
    }
    text + " }"
}

pub(super) fn access_rules(rules: &[AccessRule]) -> String {
    list(rules.iter().map(|rule| {
        let mut text = if rule.allow { "allow" } else { "deny" }.to_owned();
        if rule.all {
            text.push_str(" all");
        }
        if let Some(subnet) = rule.subnet {
            let _ = write!(text, " {subnet}");
        }
        quoted(&text)
    }))
}

pub(super) fn network_terms(rules: &[TermsRule]) -> String {
    list(rules.iter().map(|TermsRule { subnet, terms }| {
        let mut text = subnet.to_string();
        for (word, change) in TERMS_WORDS {
            let mut changed = *terms;
            change(&mut changed);
            if changed == *terms {
                let _ = write!(text, " {word}");
            }
        }
        quoted(&text)
    }))
}

/// A host with a port where it has one; an IPv6 address in brackets then.
pub(super) fn address(name: &str, port: Option<u16>) -> String {
    match port {
        None => name.to_owned(),
        Some(port) if name.contains(':') => format!("[{name}]:{port}"),
        Some(port) => format!("{name}:{port}"),
    }
}
