//! Recorded exchanges with chronyd, NTPsec and ntpd-rs, checked against our parsers, AEADs, client and server.
//!
//! Each vector is checked twice where that is possible: the crates under test against a plain second reading of the same
//! octets (`oracle`, `ke_oracle`), and that against what the recorded peer did and the recorder noted. What our
//! server is asked has our cookies in place of the recorded ones (`substitute`). Where peers differ, what we do
//! is a choice and stands in docs/choices.md. A vector of a kind that nothing is checked for has failed.
//! Start at [`check_folder`].

#![forbid(unsafe_code)]

mod answers;
mod certificates;
mod checks;
mod clients;
mod commands;
mod establishment;
mod harness;
mod hex;
mod ke_oracle;
mod oracle;
mod pki;
mod plain;
mod requests;
mod standard;
mod substitute;
mod tls;
mod vector;

use anyhow::{Context, Result};
use checks::Checks;
use serde_json::Value;
use std::path::{Path, PathBuf};
use vector::Vector;

/// What came out of checking a folder.
#[derive(Debug, Default)]
pub struct Report {
    /// Vectors of which everything holds.
    pub passed: usize,
    /// The others: a line for each, with its id and what does not hold.
    pub failures: Vec<String>,
}

/// Checks every vector of every `*.json` file of a folder, the files in the order of their names.
///
/// # Errors
/// When the folder or a file cannot be read, or there is no vector at all. What is wrong inside of a file is a failure.
pub fn check_folder(folder: &Path) -> Result<Report> {
    let mut report = Report::default();
    for path in files(folder)? {
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match serde_json::from_slice::<Vec<Value>>(&text) {
            Ok(vectors) => vectors.iter().for_each(|vector| report.add(check(vector))),
            Err(error) => report.failures.push(format!("{}: {error}", path.display())),
        }
    }
    anyhow::ensure!(report.passed + report.failures.len() > 0, "no vectors in {}", folder.display());
    Ok(report)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    Ok(paths)
}

impl Report {
    fn add(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(failure) => self.failures.push(failure),
        }
    }
}

/// Checks one vector; the error is a line with its id and its problems.
fn check(value: &Value) -> Result<(), String> {
    let vector = Vector::read(value)?;
    let mut checks = Checks::default();
    dispatch(&vector, &mut checks);
    let problems = checks.into_problems();
    if problems.is_empty() { Ok(()) } else { Err(format!("{}: {}", vector.id, problems.join("; "))) }
}

fn dispatch(vector: &Vector, checks: &mut Checks) {
    match (vector.kind.as_str(), vector.role.as_deref()) {
        (kind, None) if kind.starts_with("aead-") => standard::check_aead(vector, checks),
        ("aes-siv-cmac-256", None) => standard::check_siv(vector, checks),
        ("aes-cmac", None) => standard::check_cmac(vector, checks),
        ("polyval", None) => standard::check_polyval(vector, checks),
        ("ke", Some("server")) => establishment::check_server(vector, checks),
        ("nts-good" | "nts-bad" | "nts-replay", Some("server")) => requests::check(vector, checks),
        ("plain" | "legacy-mac", Some("server")) => plain::check(vector, checks),
        ("mode6" | "mode7", Some("server")) => plain::check_control(vector, checks),
        ("client-exchange", Some("client")) => clients::check(vector, checks),
        ("client-behaviour", Some("client")) => establishment::check_behaviour(vector, checks),
        ("client-mac", Some("client")) => plain::check_client(vector, checks),
        ("chronyc" | "chronyc-set", None) => commands::check_chronyc(vector, checks),
        ("cmdmon-raw", None) => commands::check_raw(vector, checks),
        ("ntpq" | "ntpq-auth", None) => commands::check_ntpq(vector, checks),
        (kind, role) => checks.that(false, || format!("no check for kind {kind} and role {role:?}")),
    }
}
