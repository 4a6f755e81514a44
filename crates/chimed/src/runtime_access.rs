//! Access lists that `chronyc allow` and its like change while the daemon runs, until a restart.

use chime_config::{Model, NtpServer};
use chime_server::{Access, AccessList, AccessRule};
use std::net::IpAddr;

/// Rules that one command after the other can make; far more than anybody types.
const RULES_MAX: usize = 4096;

/// Carries out what the rules say now; false when it cannot, and what was in force stays so.
pub(crate) type Apply = Box<dyn Fn(&[AccessRule]) -> bool + Send>;

/// An access list with what was added to it.
pub struct RuntimeAccess {
    rules: Vec<AccessRule>,
    list: AccessList,
    apply: Apply,
}

impl RuntimeAccess {
    /// Begins with the rules of the configuration, which are in force already.
    #[must_use]
    pub fn new(rules: Vec<AccessRule>, apply: Apply) -> Self {
        Self { list: AccessList::from_rules(&rules), rules, apply }
    }

    /// Adds a rule and puts it in force; false when there are too many, or when it cannot be carried out.
    pub fn add(&mut self, rule: AccessRule) -> bool {
        let mut rules = self.rules.clone();
        // What it replaces need not be kept; a command that is repeated for ever fills nothing.
        rules.retain(|known| (known.subnet, known.all) != (rule.subnet, rule.all) || rule.all);
        if rules.len() >= RULES_MAX {
            return false;
        }
        rules.push(rule);
        if !(self.apply)(&rules) {
            return false;
        }
        self.list = AccessList::from_rules(&rules);
        self.rules = rules;
        true
    }

    /// Carries the rules out once more, since what stands beside them has changed; false when that cannot be done.
    #[must_use]
    pub fn refresh(&self) -> bool {
        (self.apply)(&self.rules)
    }

    /// Whether an address is let in.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        self.list.check(address) == Access::Allow
    }
}

/// Who gets the time, as rules; `None` without a server.
pub(crate) fn rules_of(model: &Model) -> Option<Vec<AccessRule>> {
    model.possible_servers().next().map(rules_of_server)
}

/// The two lists as rules: who is denied stays so, whatever the other list says of parts.
fn rules_of_server(server: &NtpServer) -> Vec<AccessRule> {
    if let Some(rules) = &server.rules {
        return rules.clone();
    }
    let subnets =
        |list: &Option<chime_config::AccessNetworks>| list.as_ref().map(|list| list.subnets.clone());
    let allowed = match subnets(&server.allow) {
        None => vec![AccessRule { allow: true, all: false, subnet: None }],
        Some(subnets) => {
            subnets.into_iter().map(|one| AccessRule { allow: true, all: false, subnet: Some(one) }).collect()
        }
    };
    let denied = subnets(&server.deny).unwrap_or_default().into_iter();
    let denied = denied.map(|one| AccessRule { allow: false, all: true, subnet: Some(one) });
    allowed.into_iter().chain(denied).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_config::AccessNetworks;
    use chime_server::{Refusal, Subnet};
    use std::sync::{Arc, Mutex};

    fn subnet(address: &str, prefix: u8) -> Subnet {
        Subnet::new(address.parse().expect("an address"), prefix).expect("a network")
    }

    fn rule(allow: bool, all: bool, subnet: Option<Subnet>) -> AccessRule {
        AccessRule { allow, all, subnet }
    }

    fn admits(access: &RuntimeAccess, address: &str) -> bool {
        access.admits(address.parse().expect("an address"))
    }

    #[test]
    fn rules_are_in_force_as_they_come() {
        let seen = Arc::new(Mutex::new(0));
        let counted = seen.clone();
        let apply: Apply = Box::new(move |rules| {
            *counted.lock().expect("unpoisoned") = rules.len();
            true
        });
        let mut access = RuntimeAccess::new(vec![rule(true, false, Some(subnet("10.0.0.0", 8)))], apply);
        assert!(admits(&access, "10.1.2.3") && !admits(&access, "192.0.2.1"));
        assert!(access.add(rule(false, false, Some(subnet("10.1.0.0", 16)))));
        assert!(!admits(&access, "10.1.2.3") && admits(&access, "10.2.2.3"));
        assert_eq!(*seen.lock().expect("unpoisoned"), 2);
        assert!(access.add(rule(true, true, Some(subnet("10.0.0.0", 8)))), "all forgets the parts");
        assert!(admits(&access, "10.1.2.3"));
        for _ in 0..10_000 {
            assert!(access.add(rule(false, false, None)));
        }
        assert!(!admits(&access, "192.0.2.1"));
    }

    #[test]
    fn a_rule_that_cannot_be_carried_out_is_not_said_to_be_in_force() {
        let works = Arc::new(Mutex::new(true));
        let switch = works.clone();
        let apply: Apply = Box::new(move |_| *switch.lock().expect("unpoisoned"));
        let mut access = RuntimeAccess::new(vec![rule(true, false, Some(subnet("10.0.0.0", 8)))], apply);
        *works.lock().expect("unpoisoned") = false;
        assert!(!access.add(rule(false, true, Some(subnet("10.0.0.0", 8)))));
        assert!(admits(&access, "10.1.2.3"), "`accheck` tells what holds");
        *works.lock().expect("unpoisoned") = true;
        assert!(access.add(rule(false, false, Some(subnet("10.1.0.0", 16)))));
        assert!(
            !admits(&access, "10.1.2.3") && admits(&access, "10.2.2.3"),
            "what failed is not made up for"
        );
    }

    #[test]
    fn two_lists_become_rules_with_the_same_meaning() {
        let networks = |one: Subnet| Some(AccessNetworks { subnets: vec![one], refusal: Refusal::Ignore });
        let mut server = NtpServer::new("0.0.0.0:123".parse().expect("an address"));
        let list = |server: &NtpServer| RuntimeAccess::new(rules_of_server(server), Box::new(|_| true));
        assert!(admits(&list(&server), "192.0.2.1"));
        server.deny = networks(subnet("10.0.0.0", 8));
        assert!(!admits(&list(&server), "10.1.2.3") && admits(&list(&server), "192.0.2.1"));
        server.allow = networks(subnet("10.1.0.0", 16));
        assert!(!admits(&list(&server), "10.1.2.3") && !admits(&list(&server), "192.0.2.1"));
    }
}
