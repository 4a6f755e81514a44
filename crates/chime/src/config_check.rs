//! `chime config check`: everything that is wrong with a configuration, before a daemon trips over it.

use std::path::Path;

use anyhow::Result;
use chime_config::{Authentication, DEFAULT_CONFIGURATION_PATH, Dialect, Model};
use chime_control::Paint;
use chimed::load::{LoadError, load};

use crate::exit::Exit;
use crate::terminal::{Terminal, print};

pub(crate) fn check(file: Option<&Path>, dialect: Option<Dialect>, terminal: Terminal) -> Result<Exit> {
    let colour = terminal.paint == Paint::Ansi;
    match load(file, dialect) {
        Ok((loaded, path)) => {
            let place = path.map_or_else(
                || format!("built in, since {DEFAULT_CONFIGURATION_PATH} does not exist"),
                |path| path.display().to_string(),
            );
            if !loaded.warnings.is_empty() {
                print(&format!("{}\n\n", loaded.warnings.render(colour)))?;
            }
            print(&format!(
                "{} ({place})\n{}",
                terminal.paint.good("The configuration is good"),
                summary(&loaded.model)
            ))?;
            Ok(Exit::Success)
        }
        Err(LoadError::Mistakes(diagnostics)) => {
            print(&format!("{}\n\n{}\n", diagnostics.render(colour), count(diagnostics.errors())))?;
            Ok(Exit::Configuration)
        }
        Err(error) => {
            eprintln!("chime: {error}");
            Ok(Exit::Configuration)
        }
    }
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
