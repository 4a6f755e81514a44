//! From the model to the settings of the crates that do the work.

use chime_discipline::{Settings, SourceOptions};
use chime_server::{AccessList, Policy, RateLimitSettings, TermsList, Versions};

use crate::{AuthenticationPolicy, Model, NtpServer, Source};

impl Model {
    /// How sources are selected and the clock is steered; `steer` is the daemon's to change (`-x`).
    #[must_use]
    pub fn discipline_settings(&self) -> Settings {
        Settings {
            minimum_agreeing_sources: self.minimum_agreeing_sources(),
            local: self.synchronization.local_clock,
            ..self.synchronization.tuning
        }
    }
}

impl Source {
    /// How the discipline treats the source. One that has no authentication although its policy asks for it is
    /// measured and never believed.
    #[must_use]
    pub fn options(&self) -> SourceOptions {
        let refused = self.policy == AuthenticationPolicy::Required && !self.is_authenticated();
        SourceOptions {
            prefer: self.prefer,
            no_select: self.no_select || refused,
            trust: self.trust,
            require: self.require,
            offset_correction: self.offset_correction,
            smeared: self.smeared,
            stratum_min: self.min_stratum,
            unreachable_polls_max: self.max_unreachable_polls,
            copy_reference: self.copy_reference,
            samples_max: self.max_samples,
        }
    }
}

impl NtpServer {
    /// Who is answered by this server, and how often.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let deny = self.deny.as_ref().map(|rule| (&rule.subnets[..], rule.refusal));
        let allow = self.allow.as_ref().map(|rule| (&rule.subnets[..], rule.refusal));
        let spaced = !self.rate_limit_cutoff.is_zero();
        let limit =
            self.rate_limit.or(spaced.then(|| RateLimitSettings::from_cutoff(self.rate_limit_cutoff)));
        let rate_limit = limit.filter(|_| self.rate_limit_entries > 0);
        let lists = || AccessList::from_lists(deny, allow);
        let plain = Policy::new(self.rules.as_deref().map_or_else(lists, AccessList::from_rules));
        Policy {
            client_records: self.client_records || rate_limit.is_some(),
            clients_max: if rate_limit.is_some() { self.rate_limit_entries } else { plain.clients_max },
            rate_limit,
            require_nts: self.require_nts,
            versions: Versions::only(&self.versions),
            signs: self.signing_directory.is_some(),
            terms: (!self.terms.is_empty()).then(|| TermsList::new(&self.terms)),
            ..plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Text;
    use crate::dialects::native::parse;
    use chime_server::{Access, Refusal};
    use std::time::Duration;

    fn model(contents: &str) -> Model {
        parse(&Text::new("t", contents), &[]).expect("the text is right").model
    }

    #[test]
    fn the_number_of_agreeing_sources_and_the_local_clock_reach_the_discipline() {
        let settings = model(
            "[[source]]\nmode = \"pool\"\naddress = \"a\"\ncount = 4\n[local-clock]\nstratum = 7\n\
             [synchronization]\nsingle-step-panic-threshold = { forward = 5 }",
        )
        .discipline_settings();
        assert_eq!(settings.minimum_agreeing_sources, 2);
        assert_eq!(settings.local.map(|local| local.stratum), Some(7));
        assert_eq!(settings.step.running_panic.forward, Some(5.0));
        assert_eq!(settings.step.running_panic.backward, None);
    }

    #[test]
    fn a_source_that_lacks_the_authentication_it_needs_is_never_selected() {
        let model = model(
            "[[source]]\nmode = \"server\"\naddress = \"a\"\nauthentication = \"required\"\n\
             [[source]]\nmode = \"server\"\naddress = \"b\"\n\
             [[source]]\nmode = \"nts\"\naddress = \"c\"\nauthentication = \"required\"\n",
        );
        let refused: Vec<bool> = model.sources.iter().map(|source| source.options().no_select).collect();
        assert_eq!(refused, [true, false, false]);
    }

    #[test]
    fn lists_and_limits_of_a_server_reach_its_policy() {
        let model = model(
            "[[server]]\nlisten = \"[::]:123\"\nrate-limiting-cache-size = 32\n\
             rate-limiting-cutoff-ms = 1000\nallowlist = { filter = [\"10.0.0.0/8\"], action = \
             \"deny\" }\ndenylist = { filter = [\"10.9.0.0/16\"], action = \"ignore\" }",
        );
        let policy = model.servers[0].policy();
        let check = |address: &str| policy.access.check(address.parse().expect("an address"));
        assert_eq!(check("10.1.2.3"), Access::Allow);
        assert_eq!(check("10.9.2.3"), Access::Refuse(Refusal::Ignore));
        assert_eq!(check("192.0.2.1"), Access::Refuse(Refusal::Deny));
        assert_eq!(policy.rate_limit.map(|limit| limit.interval), Some(Duration::from_secs(1)));
        assert_eq!(policy.clients_max, 32);
        assert!(policy.versions.contains(3) && !policy.versions.contains(2));
    }
}
