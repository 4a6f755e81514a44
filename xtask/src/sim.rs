//! `cargo xtask sim`: worlds drawn from seeds, everything that can go wrong in them.

use crate::Outcome;
use std::process::Command;

/// Passes its arguments on: `--seeds COUNT [--from FIRST]`, `--seed SEED` or `--speed`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<Outcome> {
    let arguments =
        if arguments.is_empty() { vec!["--seeds".to_owned(), "50".to_owned()] } else { arguments.to_vec() };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet"]);
    if arguments.iter().any(|argument| argument == "--speed") {
        cargo.arg("--release");
    }
    let status = cargo
        .args(["--package", "chime-sim", "--"])
        .args(arguments)
        .current_dir(crate::workspace::root())
        .status()?;
    Ok(Outcome::from_failures(usize::from(!status.success())))
}
