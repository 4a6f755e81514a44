//! The order of the crates, and which arrows it allows.

use crate::workspace::Package;

/// What a crate may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Pure and without `std`.
    PureNoStd,
    /// Decides; touches nothing of the world.
    Pure,
    /// Acts; may touch the world, without `unsafe`.
    World,
    /// Acts, and is the one place for `unsafe`.
    System,
    /// Developer tools, tests and benches: outside the order.
    Tool,
}

impl Kind {
    /// True for the crates that must be reproducible from their inputs alone.
    pub(crate) fn is_pure(self) -> bool {
        matches!(self, Self::Pure | Self::PureNoStd)
    }
}

/// The crates from the bottom up: each may use only those before it.
const ORDER: &[(&str, Kind)] = &[
    ("chime-time", Kind::PureNoStd),
    ("chime-wire", Kind::PureNoStd),
    ("chime-nts", Kind::Pure),
    ("chime-ke", Kind::Pure),
    ("chime-discipline", Kind::Pure),
    ("chime-refclock", Kind::Pure),
    ("chime-server", Kind::Pure),
    ("chime-fast", Kind::Pure),
    ("chime-engine", Kind::Pure),
    ("chime-control", Kind::Pure),
    ("chime-config", Kind::Pure),
    ("chime-sys", Kind::System),
    ("chime-web", Kind::World),
    ("chime-sim", Kind::World),
    ("chimed", Kind::World),
    ("chime", Kind::World),
];

/// Libraries whose purpose is to touch the world; a pure crate must not depend on them.
const WORLD_LIBRARIES: &[&str] = &[
    "axum",
    "async-std",
    "clap",
    "crossbeam-channel",
    "fastrand",
    "getrandom",
    "hyper",
    "hyper-util",
    "libc",
    "mio",
    "nix",
    "polling",
    "rand",
    "reqwest",
    "rustix",
    "rustls-native-certs",
    "sd-notify",
    "signal-hook",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-rustls",
    "tracing-subscriber",
    "ureq",
    "walkdir",
];

/// The kind of a workspace crate; everything outside the order is a tool.
pub(crate) fn kind(name: &str) -> Kind {
    position(name).map_or(Kind::Tool, |position| ORDER[position].1)
}

/// The names of the pure crates, bottom up.
pub(crate) fn pure_crates() -> impl Iterator<Item = &'static str> {
    ORDER.iter().filter(|(_, kind)| kind.is_pure()).map(|(name, _)| *name)
}

fn position(name: &str) -> Option<usize> {
    ORDER.iter().position(|(known, _)| *known == name)
}

/// Complaints about arrows that point up, and about crates that have no place in the order.
pub(crate) fn check(members: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in members {
        if package.folder().components().any(|part| part.as_os_str() == "crates")
            && position(&package.name).is_none()
        {
            complaints.push(format!("{}: a crate of crates/ without a place in the order", package.name));
        }
        let own = position(&package.name);
        for dependency in &package.dependencies {
            complaints.extend(check_arrow(&package.name, own, &dependency.name, dependency.kind.as_deref()));
        }
    }
    complaints
}

/// A test may use neighbours above its crate (`dev`), but a pure crate no world, not even there.
fn check_arrow(name: &str, own: Option<usize>, dependency: &str, kind: Option<&str>) -> Option<String> {
    let own_kind = self::kind(name);
    let is_dev = kind == Some("dev");
    if let (Some(own), Some(other)) = (own, position(dependency)) {
        if own_kind.is_pure() && !ORDER[other].1.is_pure() {
            return Some(format!("{name}: a pure crate depends on {dependency}, which touches the world"));
        }
        if other >= own && !is_dev {
            return Some(format!("{name}: depends on {dependency}, which is not below it"));
        }
    }
    if own_kind.is_pure() && !is_dev && WORLD_LIBRARIES.contains(&dependency) {
        return Some(format!(
            "{name}: a pure crate depends on the library {dependency}, which touches the world"
        ));
    }
    if own.is_some()
        && position(dependency).is_none()
        && (dependency == "xtask" || dependency.starts_with("truechimer-"))
    {
        return Some(format!("{name}: depends on the tool {dependency}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest_path: format!("/x/crates/{name}/Cargo.toml").into(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
                .collect(),
        }
    }

    #[test]
    fn arrows_that_point_down_are_fine() {
        let members = [package(
            "chime-engine",
            &[("chime-wire", None), ("arrayvec", None), ("chime-server", Some("dev"))],
        )];
        assert!(check(&members).is_empty());
    }

    #[test]
    fn an_arrow_that_points_up_is_refused() {
        let complaints = check(&[package("chime-wire", &[("chime-engine", None)])]);
        assert_eq!(complaints, ["chime-wire: depends on chime-engine, which is not below it"]);
    }

    #[test]
    fn a_build_dependency_is_an_arrow_too() {
        assert_eq!(check(&[package("chime-sim", &[("chimed", Some("build"))])]).len(), 1);
    }

    #[test]
    fn a_pure_crate_uses_no_world_crate_even_in_its_tests() {
        let complaints = check(&[package("chime-engine", &[("chime-sim", Some("dev"))])]);
        assert_eq!(complaints, ["chime-engine: a pure crate depends on chime-sim, which touches the world"]);
    }

    #[test]
    fn a_pure_crate_uses_no_library_that_touches_the_world() {
        assert_eq!(check(&[package("chime-ke", &[("tokio", None)])]).len(), 1);
        assert_eq!(check(&[package("chime-web", &[("tokio", None)])]).len(), 0);
        assert_eq!(check(&[package("chime-ke", &[("tempfile", Some("dev"))])]).len(), 0);
    }

    #[test]
    fn a_crate_without_a_place_is_noticed() {
        assert_eq!(check(&[package("chime-extra", &[])]).len(), 1);
    }

    #[test]
    fn nothing_depends_on_a_tool() {
        assert_eq!(check(&[package("chime", &[("xtask", None)])]).len(), 1);
    }
}
