//! Shell completions and manual pages, for packages.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Generate};
use crate::exit::Exit;
use crate::terminal::print;

pub(crate) fn generate(what: &Generate) -> Result<Exit> {
    match what {
        Generate::Completions { shell } => completions(*shell)?,
        Generate::Man { directory } => manual_pages(directory)?,
    }
    Ok(Exit::Success)
}

fn completions(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "chime", &mut text);
    print(&String::from_utf8(text)?)?;
    Ok(())
}

fn manual_pages(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))
}
