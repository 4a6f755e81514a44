//! Building what is tested.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use truechimer_test_support::root;

/// Where cargo puts what it builds, and where the scenarios keep their files.
pub(crate) fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root().join(target)
}

/// Our daemon: the one in `TRUECHIMER_CHIMED`, or the workspace's, built now.
pub(crate) fn chimed() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRUECHIMER_CHIMED") {
        return Ok(path.into());
    }
    let status =
        cargo().args(["build", "--quiet", "--package", "chimed"]).status().context("running cargo")?;
    ensure!(status.success(), "chimed does not build");
    Ok(target().join("debug/chimed"))
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// A program of tests: the name of its target, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct TestProgram {
    pub(crate) target: String,
    pub(crate) path: PathBuf,
}

/// The tests of these targets: libraries, or files in `tests`, of whatever crate.
///
/// Those of the whole workspace are built, as its tests are, so that nothing is built again after these.
pub(crate) fn test_programs(targets: &[&str]) -> Result<Vec<TestProgram>> {
    let output = cargo()
        .args(["test", "--workspace", "--lib", "--tests", "--no-run", "--quiet", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let built: Vec<TestProgram> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect();
    let find = |target: &&str| {
        let found = built.iter().find(|program| program.target == **target).cloned();
        found.with_context(|| format!("cargo has built no tests of {target}"))
    };
    targets.iter().map(find).collect()
}

/// The test program that a message of cargo's tells of.
fn executable(message: &str) -> Option<TestProgram> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = message.pointer("/target/name")?.as_str()?.to_owned();
    let is_binary = message.pointer("/target/kind/0")?.as_str()? == "bin";
    let path = message.get("executable")?.as_str()?.into();
    (!is_binary).then_some(TestProgram { target, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_what_else_is_built() {
        let message = |kind, executable| {
            format!(r#"{{"target":{{"kind":["{kind}"],"name":"chimed"}},"executable":{executable}}}"#)
        };
        let found = executable(&message("lib", r#""/t/chimed-1""#));
        assert_eq!(found.map(|program| program.path), Some("/t/chimed-1".into()));
        assert!(executable(&message("bin", r#""/t/chimed-2""#)).is_none());
        assert!(executable(&message("lib", "null")).is_none());
        assert!(executable("warning: nonsense").is_none());
    }
}
