//! Which sources a report lists, and by which name.

use std::borrow::Cow;

use chime_engine::{SourceKind, SourceReport};

/// What stands in the name column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Names {
    /// The name as configured (`chronyc -N`).
    #[default]
    Configured,
    /// The address (`chronyc -n`).
    Addresses,
}

impl Names {
    /// The name of a source; an unresolved one has an `ID#` in place of its address.
    #[must_use]
    pub fn of(self, source: &SourceReport) -> Cow<'_, str> {
        match (self, source.remote) {
            (Self::Configured, _) => Cow::Borrowed(&source.name),
            (Self::Addresses, None) if source.kind == SourceKind::ReferenceClock => {
                Cow::Borrowed(&source.name)
            }
            (Self::Addresses, Some(remote)) => Cow::Owned(remote.ip().to_string()),
            (Self::Addresses, None) => Cow::Owned(format!("ID#{:010}", source.place_number())),
        }
    }
}

/// The sources that a report lists.
///
/// chronyc hides every source without an address unless asked with `-a`, and so a name that does
/// not resolve looks as if nobody had configured it. Hidden here are only the free places of a
/// pool that has members.
#[must_use]
pub fn visible(sources: &[SourceReport], all: bool) -> Vec<&SourceReport> {
    let has_members = |key: u32| sources.iter().any(|s| s.source == key && s.remote.is_some());
    sources
        .iter()
        .filter(|source| {
            all || source.remote.is_some() || source.kind != SourceKind::Pool || !has_members(source.source)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(id: u32, source: u32, kind: SourceKind, resolved: bool) -> SourceReport {
        SourceReport {
            id,
            source,
            kind,
            name: format!("name{source}"),
            remote: resolved.then(|| "192.0.2.1:123".parse().expect("an address")),
            ..SourceReport::default()
        }
    }

    #[test]
    fn free_places_of_a_pool_with_members_are_hidden_and_nothing_else() {
        let sources = [
            source(1, 1, SourceKind::Pool, true),
            source(2, 1, SourceKind::Pool, false),
            source(3, 2, SourceKind::Pool, false),
            source(4, 3, SourceKind::Server, false),
        ];
        let ids = |all| visible(&sources, all).iter().map(|s| s.id).collect::<Vec<_>>();
        assert_eq!(ids(false), [1, 3, 4]);
        assert_eq!(ids(true), [1, 2, 3, 4]);
    }

    #[test]
    fn names_are_as_configured_or_addresses() {
        let resolved = source(1, 1, SourceKind::Server, true);
        let unresolved = source(7, 2, SourceKind::Server, false);
        assert_eq!(Names::Configured.of(&resolved), "name1");
        assert_eq!(Names::Addresses.of(&resolved), "192.0.2.1");
        assert_eq!(Names::Addresses.of(&unresolved), "ID#0000000007");
    }
}
