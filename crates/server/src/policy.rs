//! What a server does for whom.

use crate::{Access, AccessList, RateLimitSettings, Refusal, TermsList};
use chime_wire::mac::SymmetricKey;
use core::fmt;
use core::time::Duration;

/// What requests without NTS get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RequireNts {
    /// Time.
    #[default]
    No,
    /// Nothing.
    Ignore,
    /// The kiss code DENY.
    Deny,
}

/// The versions of the protocol that are answered. RFC 5905 §7.3; older ones as in RFC 1305 and before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    /// Versions 1 to 4.
    pub const ALL: Self = Self(0b1_1110);

    /// Only those given; numbers other than 1 to 4 are left out.
    #[must_use]
    pub fn only(versions: &[u8]) -> Self {
        Self(
            versions
                .iter()
                .filter(|version| (1..=4).contains(*version))
                .fold(0, |set, version| set | 1 << version),
        )
    }

    /// Whether the version is answered.
    #[must_use]
    pub const fn contains(self, version: u8) -> bool {
        version < 8 && self.0 >> version & 1 == 1
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((1..=4).filter(|version| self.contains(*version))).finish()
    }
}

/// Everything that is configured about answering; shared by all workers, replaced as a whole when it changes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who is answered.
    pub access: AccessList,
    /// How often; `None`: always.
    pub rate_limit: Option<RateLimitSettings>,
    /// How often an address gets the kiss code NTSN, on top of [`Self::rate_limit`].
    pub nts_nak_limit: RateLimitSettings,
    /// How many clients one worker remembers, for the limit and for reports; 64 octets each.
    pub clients_max: usize,
    /// Whether anything is remembered of clients that no limit needs: for reports, and for interleaved mode.
    pub client_records: bool,
    /// What requests without NTS get.
    pub require_nts: RequireNts,
    /// The versions that are answered.
    pub versions: Versions,
    /// Parts of the network for which other terms hold; `None`: there are none.
    pub terms: Option<TermsList>,
    /// Whether requests of Windows domains are answered with the signature that they ask for; see [`crate::Unsigned`].
    pub signs: bool,
    /// The symmetric keys that requests may be authenticated with.
    pub keys: KeyTable,
}

impl Policy {
    /// Clients remembered when nothing else is configured, as in chrony.
    pub const CLIENTS_DEFAULT: usize = 4096;

    /// Answers those whom `access` lets in, without a rate limit.
    #[must_use]
    pub fn new(access: AccessList) -> Self {
        Self {
            access,
            rate_limit: None,
            nts_nak_limit: RateLimitSettings {
                interval: Duration::from_secs(1),
                burst: 8,
                leak: Some(3),
                kiss: None,
            },
            clients_max: Self::CLIENTS_DEFAULT,
            client_records: true,
            require_nts: RequireNts::No,
            versions: Versions::ALL,
            terms: None,
            signs: false,
            keys: KeyTable::default(),
        }
    }

    /// Answers everybody.
    #[must_use]
    pub fn open() -> Self {
        Self::new(AccessList::uniform(Access::Allow))
    }

    /// Answers nobody.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(AccessList::uniform(Access::Refuse(Refusal::Ignore)))
    }
}

/// Symmetric keys by number.
#[derive(Clone, Debug, Default)]
pub struct KeyTable(Vec<SymmetricKey>);

impl KeyTable {
    /// Of keys with the same number the last one counts.
    #[must_use]
    pub fn new(mut keys: Vec<SymmetricKey>) -> Self {
        keys.reverse();
        keys.sort_by_key(SymmetricKey::id); // stable: the last one is now the first of its number
        keys.dedup_by_key(|key| key.id());
        Self(keys)
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key with this number.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&SymmetricKey> {
        self.0.binary_search_by_key(&id, SymmetricKey::id).ok().map(|at| &self.0[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_a_set() {
        let versions = Versions::only(&[3, 4, 5, 0, 200]);
        assert_eq!(format!("{versions:?}"), "{3, 4}");
        assert!(!versions.contains(5) && !versions.contains(255) && versions.contains(4));
    }
}
