//! `deny`: licences, bans and sources of everything we link, judged by deny.toml.
//!
//! It reads the same keys as cargo-deny, whose build takes longer than all our tests; security
//! advisories need its database and are left to it.

mod licence;

use crate::Outcome;
use crate::workspace::{Metadata, Package, root};
use anyhow::{Context, Result};
use serde::Deserialize;

/// The keys of deny.toml that are understood here.
#[derive(Deserialize, Debug)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize, Debug)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize, Debug)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize, Debug)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
    /// Packages that may depend on it directly all the same.
    #[serde(default)]
    wrappers: Vec<String>,
}

#[derive(Deserialize, Debug)]
struct Sources {
    #[serde(rename = "allow-registry")]
    allow_registry: Vec<String>,
}

/// Lock files that are not judged, and whose they are: nothing in them is linked into a program that we hand out.
const APART: [(&str, &str); 2] = [
    ("fuzz/Cargo.lock", "the fuzzers"),
    ("tests/interop/ntpd-rs/Cargo.lock", "tools of ntpd-rs, a peer of the interop tests"),
];

/// Checks every package of the graph and prints one line per complaint.
pub(crate) fn run(_arguments: &[String]) -> Result<Outcome> {
    let text = std::fs::read_to_string(root().join("deny.toml")).context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("deny.toml")?;
    let metadata = Metadata::load(true)?;
    let complaints = complaints(&rules, &metadata.packages);
    for complaint in &complaints {
        eprintln!("deny: {complaint}");
    }
    println!("deny: {} packages, {} complaints", metadata.packages.len(), complaints.len());
    for (lock_file, whose) in APART {
        println!("deny: {lock_file} is not judged: {whose}");
    }
    Ok(Outcome::from_failures(complaints.len()))
}

fn complaints(rules: &Rules, packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        match package.license.as_deref().map(|text| licence::is_allowed(text, &rules.licenses.allow)) {
            None => complaints.push(format!("{name}: no licence is stated")),
            Some(Err(error)) => complaints.push(format!("{name}: {error}")),
            Some(Ok(false)) => {
                let text = package.license.as_deref().unwrap_or_default();
                complaints.push(format!("{name}: the licence `{text}` is not in deny.toml"));
            }
            Some(Ok(true)) => {}
        }
        complaints.extend(source_complaint(&name, package, &rules.sources));
    }
    complaints.extend(ban_complaints(packages, &rules.bans));
    complaints
}

fn source_complaint(name: &str, package: &Package, sources: &Sources) -> Option<String> {
    let source = package.source.as_deref()?;
    let is_known = sources.allow_registry.iter().any(|registry| source == format!("registry+{registry}"));
    (!is_known).then(|| format!("{name}: comes from {source}"))
}

/// Blames everything in the graph that depends on a banned crate, but for its wrappers.
fn ban_complaints(packages: &[Package], bans: &Bans) -> Vec<String> {
    let mut complaints = Vec::new();
    for ban in bans.deny.iter().filter(|ban| packages.iter().any(|package| package.name == ban.name)) {
        for package in packages {
            let uses = package.dependencies.iter().any(|dependency| dependency.name == ban.name);
            if uses && !ban.wrappers.contains(&package.name) {
                complaints.push(format!("{}: depends on {} ({})", package.name, ban.name, ban.reason));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;
    use std::path::Path;

    const RULES: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0"]
        [bans]
        deny = [{ crate = "openssl-sys", reason = "rustls" }]
        [sources]
        allow-registry = ["https://example.org/index"]
    "#;

    fn package(licence: Option<&str>, source: Option<&str>, dependency: &str) -> Package {
        Package {
            id: "x".to_owned(),
            name: "x".to_owned(),
            version: "1.0.0".to_owned(),
            license: licence.map(str::to_owned),
            source: source.map(str::to_owned),
            manifest_path: "/x/Cargo.toml".into(),
            dependencies: vec![Dependency { name: dependency.to_owned(), kind: None }],
        }
    }

    fn judged(package: Package) -> Vec<String> {
        complaints(&toml::from_str(RULES).unwrap(), &[package])
    }

    fn lock_files(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("it can be read").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name == "Cargo.lock" {
                let path = path.strip_prefix(root()).expect("below the root");
                found.push(path.to_string_lossy().into_owned());
            } else if !name.starts_with('.')
                && name != "target"
                && entry.file_type().is_ok_and(|it| it.is_dir())
            {
                lock_files(&path, found);
            }
        }
    }

    #[test]
    fn no_lock_file_is_forgotten() {
        let mut found = Vec::new();
        lock_files(&root(), &mut found);
        found.retain(|path| path != "Cargo.lock");
        found.sort();
        assert_eq!(found, APART.map(|(path, _)| path));
    }

    #[test]
    fn licences_are_judged() {
        assert!(judged(package(Some("GPL-3.0 OR MIT"), None, "a")).is_empty());
        assert_eq!(judged(package(Some("GPL-3.0"), None, "a")).len(), 1);
        assert_eq!(judged(package(None, None, "a")).len(), 1);
    }

    #[test]
    fn sources_are_judged() {
        assert!(judged(package(Some("MIT"), Some("registry+https://example.org/index"), "a")).is_empty());
        assert_eq!(judged(package(Some("MIT"), Some("git+https://example.org/x"), "a")).len(), 1);
    }

    #[test]
    fn a_banned_crate_is_refused_when_it_is_in_the_graph() {
        let banned = Package { name: "openssl-sys".to_owned(), ..package(Some("MIT"), None, "a") };
        let user = package(Some("MIT"), None, "openssl-sys");
        let rules = toml::from_str(RULES).unwrap();
        assert_eq!(complaints(&rules, &[user.clone(), banned]), ["x: depends on openssl-sys (rustls)"]);
        assert!(complaints(&rules, &[user]).is_empty());
    }
}
