//! What the operator changes about a source or the discipline while the daemon runs.

use crate::engine::Engine;
use crate::{Authentication, SourceChange, SourceConfig, SourceKey, SourceMatch, Tuning};
use chime_discipline::SourceOptions;
use chime_time::{MonoTime, PollExponent};
use chime_wire::mac::SymmetricKey;
use std::sync::Arc;

impl Engine {
    /// Changes the sources that are meant. They keep their associations, samples and cookies.
    pub(crate) fn modify(&mut self, now: MonoTime, matching: &SourceMatch, change: SourceChange) {
        for key in self.matching_sources(matching) {
            let Some(index) = self.source_index(key) else { continue };
            let before = self.sources[index].config.clone();
            let after = change.applied_to(before.clone());
            if let Some(configured) = self.config.sources.iter_mut().find(|one| **one == before) {
                *configured = after.clone();
            }
            self.set_poll_limits(key, after.poll_min, after.poll_max);
            for association in self.associations.iter_mut().filter(|one| one.source == key) {
                association.polling.set_target(after.poll_target);
            }
            self.sources[index].config = after;
        }
        if matches!(
            change,
            SourceChange::Options { .. } | SourceChange::OffsetCorrection(_) | SourceChange::StratumMin(_)
        ) {
            self.apply_policy(now);
        }
    }

    fn set_poll_limits(&mut self, key: SourceKey, min: PollExponent, max: PollExponent) {
        for association in self.associations.iter_mut().filter(|one| one.source == key) {
            if association.polling.limits() != (min, max) {
                association.polling.set_limits(min, max);
            }
        }
    }

    /// Changes the discipline.
    pub(crate) fn tune(&mut self, now: MonoTime, tuning: &Tuning) {
        let settings = &mut self.config.discipline;
        match tuning {
            Tuning::Step { threshold, updates } => {
                (settings.step.threshold, settings.step.updates_limit) = (*threshold, *updates);
                settings.step.backward_threshold = None;
            }
            Tuning::Local(local) => settings.local = *local,
            Tuning::MaxUpdateSkew(skew) => settings.max_update_skew = *skew,
            Tuning::ReselectDistance(seconds) => settings.reselect_distance = *seconds,
        }
        self.discipline.set_settings(self.config.discipline);
        self.discipline.update(now);
    }

    /// Replaces the symmetric keys; sources whose key was not there get another chance.
    pub(crate) fn set_keys(&mut self, now: MonoTime, keys: Arc<Vec<SymmetricKey>>) {
        self.config.keys = keys;
        for source in &mut self.sources {
            let number = match source.config.authentication {
                Authentication::Key(number) => Some(number),
                Authentication::None | Authentication::Nts(_) => None,
            };
            if number.is_some_and(|number| self.config.keys.iter().any(|key| key.id() == number)) {
                source.refusal = None;
            }
        }
        self.drive_all(now);
    }

    /// Removes a source that has no address yet, or all of a pool.
    pub(crate) fn remove_by_key(&mut self, now: MonoTime, key: SourceKey) {
        self.forget_source(key);
        self.apply_policy(now);
    }

    /// Removes a source, also from the configuration; the selection without it is for the caller to make.
    pub(crate) fn forget_source(&mut self, key: SourceKey) {
        let config = self.remove_source(key);
        if let Some(position) =
            config.and_then(|config| self.config.sources.iter().position(|one| *one == config))
        {
            self.config.sources.remove(position);
        }
    }
}

impl SourceChange {
    fn applied_to(self, config: SourceConfig) -> SourceConfig {
        match self {
            Self::PollMin(min) => {
                SourceConfig { poll_min: min, poll_max: config.poll_max.max(min), ..config }
            }
            Self::PollMax(max) => {
                SourceConfig { poll_max: max, poll_min: config.poll_min.min(max), ..config }
            }
            Self::MaxDelay(max_delay_seconds) => SourceConfig { max_delay_seconds, ..config },
            Self::StratumMin(stratum_min) => {
                let options = SourceOptions { stratum_min, ..config.options };
                SourceConfig { options, ..config }
            }
            Self::PollTarget(poll_target) => SourceConfig { poll_target, ..config },
            Self::MaxDelayRatio(max_delay_ratio) => SourceConfig { max_delay_ratio, ..config },
            Self::MaxDelayDeviationRatio(max_delay_deviation_ratio) => {
                SourceConfig { max_delay_deviation_ratio, ..config }
            }
            Self::OffsetCorrection(seconds) => {
                let mut config = config;
                config.options.offset_correction = seconds;
                config
            }
            Self::Options { no_select, prefer, trust, require } => {
                let mut config = config;
                let options = &mut config.options;
                options.no_select = no_select.unwrap_or(options.no_select);
                options.prefer = prefer.unwrap_or(options.prefer);
                options.trust = trust.unwrap_or(options.trust);
                options.require = require.unwrap_or(options.require);
                config
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_limits_push_each_other() {
        let config = SourceConfig::server("a.example");
        let exponents = |config: &SourceConfig| (config.poll_min.exponent(), config.poll_max.exponent());
        assert_eq!(exponents(&config), (6, 10));
        let change = |change: SourceChange| exponents(&change.applied_to(config.clone()));
        assert_eq!(change(SourceChange::PollMin(PollExponent::new(11))), (11, 11));
        assert_eq!(change(SourceChange::PollMin(PollExponent::new(5))), (5, 10));
        assert_eq!(change(SourceChange::PollMax(PollExponent::new(3))), (3, 3));
    }

    #[test]
    fn options_that_are_not_named_stay() {
        let mut config = SourceConfig::server("a.example");
        (config.options.prefer, config.options.require) = (true, true);
        let change =
            SourceChange::Options { no_select: None, prefer: Some(false), trust: Some(true), require: None };
        let options = change.applied_to(config).options;
        assert!(!options.prefer && options.trust && options.require && !options.no_select);
    }
}
