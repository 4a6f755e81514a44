//! `chime config check`: everything that is wrong with a configuration, before a daemon trips over it.

use anyhow::Result;
use chime_config::{Authentication, DEFAULT_CONFIGURATION_PATH, Model};
use chime_control::Paint;
use chimed::load::{LoadError, Sourced, load_with_texts};

use crate::cli::ConfigFile;
use crate::exit::Exit;
use crate::terminal::{Terminal, print};

pub(crate) fn check(file: &ConfigFile, terminal: Terminal) -> Result<Exit> {
    let sourced = match read(file, terminal)? {
        Ok(sourced) => sourced,
        Err(exit) => return Ok(exit),
    };
    let warnings = &sourced.loaded.warnings;
    if !warnings.is_empty() {
        print(&format!("{}\n\n", warnings.render(terminal.paint == Paint::Ansi)))?;
    }
    let good = terminal.paint.good("The configuration is good");
    print(&format!("{good} ({})\n{}", place(&sourced), summary(&sourced.loaded.model)))?;
    Ok(Exit::Success)
}

/// Reads a configuration, or says why it cannot and gives the exit status.
pub(crate) fn read(file: &ConfigFile, terminal: Terminal) -> Result<Result<Sourced, Exit>> {
    match load_with_texts(file.file.as_deref(), file.dialect) {
        Ok(sourced) => return Ok(Ok(sourced)),
        Err(LoadError::Mistakes(diagnostics)) => {
            let colour = terminal.paint == Paint::Ansi;
            print(&format!("{}\n\n{}\n", diagnostics.render(colour), count(diagnostics.errors())))?;
        }
        Err(error) => eprintln!("chime: {error}"),
    }
    Ok(Err(Exit::Configuration))
}

/// The main file and how it is written.
pub(crate) fn place(sourced: &Sourced) -> String {
    sourced.path.as_ref().map_or_else(
        || format!("built in, since {DEFAULT_CONFIGURATION_PATH} does not exist"),
        |path| format!("{}, {}", path.display(), sourced.dialect.description()),
    )
}

fn count(errors: usize) -> String {
    match errors {
        1 => "1 error".to_owned(),
        more => format!("{more} errors"),
    }
}

/// What the daemon would do, in few lines.
fn summary(model: &Model) -> String {
    let with = |wanted: fn(&Authentication) -> bool| {
        model.sources.iter().filter(|source| wanted(&source.authentication)).count()
    };
    let nts = with(|authentication| matches!(authentication, Authentication::Nts(_)));
    let keys = with(|authentication| matches!(authentication, Authentication::Key(_)));
    let plain = with(|authentication| matches!(authentication, Authentication::None));
    let mut out = format!(
        "  sources: {} ({nts} with NTS, {keys} with a symmetric key, {plain} unauthenticated); {} must agree\n",
        model.sources.len(),
        model.minimum_agreeing_sources(),
    );
    for server in &model.servers {
        out.push_str(&format!("  serves NTP on {}\n", server.listen));
    }
    for server in &model.nts_ke_servers {
        out.push_str(&format!("  serves NTS key establishment on {}\n", server.listen));
    }
    out
}
