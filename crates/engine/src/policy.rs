//! The authentication policy: what each source may do, given what the others are. Once authentication is asked for, it is
//! never silently given up.

use crate::{AuthenticationPolicy, SourceConfig};
use chime_discipline::SourceOptions;

/// What one source may do.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Effective {
    /// The options that the discipline is told.
    pub(crate) options: SourceOptions,
    /// Whether samples may enter the discipline at all.
    pub(crate) admitted: bool,
}

/// Whether authenticated sources decide over others: in a mixture of both.
pub(crate) fn authenticated_decide(policy: AuthenticationPolicy, all: &[SourceConfig]) -> bool {
    let counted = || all.iter().filter(|other| !other.options.no_select);
    policy == AuthenticationPolicy::Mixed
        && counted().any(SourceConfig::is_authenticated)
        && counted().any(|other| !other.is_authenticated())
}

/// Applies the policy to one of the configured sources. Sources that are never selected count for nothing, as in chrony.
pub(crate) fn effective(
    policy: AuthenticationPolicy,
    source: &SourceConfig,
    all: &[SourceConfig],
) -> Effective {
    let mut options = source.options;
    if options.no_select {
        return Effective { options, admitted: true };
    }
    let counted = || all.iter().filter(|other| !other.options.no_select);
    let some_authenticated = counted().any(SourceConfig::is_authenticated);
    let admitted = match policy {
        AuthenticationPolicy::Required => source.is_authenticated(),
        AuthenticationPolicy::Preferred => source.is_authenticated() || !some_authenticated,
        AuthenticationPolicy::Mixed | AuthenticationPolicy::Ignored => true,
    };
    if source.is_authenticated() && authenticated_decide(policy, all) {
        options.trust = true;
        options.require = true;
    }
    if !admitted {
        options.no_select = true;
    }
    Effective { options, admitted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AuthenticationPolicy::{Ignored, Mixed, Preferred, Required};

    fn admitted(policy: AuthenticationPolicy, all: &[SourceConfig]) -> Vec<bool> {
        all.iter().map(|source| effective(policy, source, all).admitted).collect()
    }

    #[test]
    fn required_admits_no_unauthenticated_source() {
        let all = [SourceConfig::nts("a"), SourceConfig::server("b")];
        assert_eq!(admitted(Required, &all), [true, false]);
        assert_eq!(admitted(Required, &all[1..]), [false]);
        assert!(effective(Required, &all[1], &all).options.no_select);
    }

    #[test]
    fn preferred_admits_them_when_there_is_nothing_else() {
        let all = [SourceConfig::nts("a"), SourceConfig::server("b")];
        assert_eq!(admitted(Preferred, &all), [true, false]);
        assert_eq!(admitted(Preferred, &all[1..]), [true]);
    }

    #[test]
    fn in_a_mixture_the_authenticated_sources_decide() {
        let all = [SourceConfig::nts("a"), SourceConfig::server("b")];
        assert_eq!(admitted(Mixed, &all), [true, true]);
        let options = effective(Mixed, &all[0], &all).options;
        assert!(options.trust && options.require);
        assert!(!effective(Mixed, &all[1], &all).options.trust);
        assert!(!effective(Mixed, &all[0], &all[..1]).options.trust);
        assert!(!effective(Ignored, &all[0], &all).options.trust);
    }
}
