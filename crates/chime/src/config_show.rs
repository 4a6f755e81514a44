//! `chime config show`, `convert` and `explain`: what a configuration comes to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use chime_config::{Authentication, Detail, Model, rewrite, write};

use crate::cli::ConfigFile;
use crate::config_check::{place, read};
use crate::exit::Exit;
use crate::terminal::{Terminal, print};

/// Every key with its value, in our own format.
pub(crate) fn show(file: &ConfigFile, terminal: Terminal) -> Result<Exit> {
    let sourced = match read(file, terminal)? {
        Ok(sourced) => sourced,
        Err(exit) => return Ok(exit),
    };
    let body = write(&sourced.loaded.model, Detail::Complete, &mut |_| Vec::new());
    print(&format!("# {}\n{body}", place(&sourced)))?;
    Ok(Exit::Success)
}

/// The configuration in our own format, with its comments and what is lost.
pub(crate) fn convert(file: &ConfigFile, terminal: Terminal) -> Result<Exit> {
    let sourced = match read(file, terminal)? {
        Ok(sourced) => sourced,
        Err(exit) => return Ok(exit),
    };
    let rewritten = rewrite(&sourced.loaded, &sourced.texts, sourced.dialect);
    print(&rewritten.text)?;
    for lost in &rewritten.lost {
        eprintln!("chime: {lost}");
    }
    Ok(Exit::Success)
}

/// What the daemon will do, in sentences.
pub(crate) fn explain(file: &ConfigFile, terminal: Terminal) -> Result<Exit> {
    let sourced = match read(file, terminal)? {
        Ok(sourced) => sourced,
        Err(exit) => return Ok(exit),
    };
    let model = &sourced.loaded.model;
    let mut explanation = chime_config::explain(model);
    explanation.weaknesses.extend(sourced.path.as_deref().and_then(writable_by_others));
    explanation.weaknesses.extend(files(model));
    let sections = [
        ("Sources", &explanation.sources),
        ("The clock", &explanation.clock),
        ("Service", &explanation.serving),
        ("What is weak", &explanation.weaknesses),
    ];
    let mut text = format!("{}\n", place(&sourced));
    for (title, sentences) in sections {
        text.push_str(&format!("\n{title}\n"));
        if sentences.is_empty() {
            text.push_str("  Nothing.\n");
        }
        for sentence in sentences {
            text.push_str(&format!("  - {sentence}\n"));
        }
    }
    let warnings = sourced.loaded.warnings.0.len();
    if warnings > 0 {
        text.push_str(&format!("\nAnd {warnings} warnings: `chime config check` shows them.\n"));
    }
    print(&text)?;
    Ok(Exit::Success)
}

/// What is weak about the files that a configuration names.
fn files(model: &Model) -> Vec<String> {
    let mut weak = Vec::new();
    let keys = model.nts_ke_servers.iter().flat_map(|server| &server.certificates);
    let keys = keys.map(|pair| (&pair.key, "private key"));
    let symmetric = model.key_file.iter().map(|file| (file, "key file"));
    let predecessor = model.predecessor.cookie_keys.iter().map(|file| (&file.path, "file of cookie keys"));
    let mut seen = Vec::new();
    for (path, what) in keys.chain(symmetric).chain(predecessor) {
        if !seen.contains(&path) {
            seen.push(path);
            weak.extend(readable_by_others(path, what));
        }
    }
    let chains = model.nts_ke_servers.iter().flat_map(|server| &server.certificates).map(|pair| &pair.chain);
    let authorities = model.sources.iter().filter_map(|source| match &source.authentication {
        Authentication::Nts(trust) => Some(&trust.certificate_authorities),
        Authentication::None | Authentication::Key(_) => None,
    });
    for path in chains.chain(authorities.flatten()) {
        if !path.exists() && !seen.contains(&path) {
            seen.push(path);
            weak.push(format!("{} does not exist (or cannot be seen by this user).", path.display()));
        }
    }
    weak
}

fn readable_by_others(path: &Path, what: &str) -> Option<String> {
    let shown = path.display();
    let Ok(metadata) = fs::metadata(path) else {
        return Some(format!("There is no {what} {shown} (or it cannot be seen by this user)."));
    };
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o007 != 0).then(|| format!("Others can read the {what} {shown} (mode {mode:04o}): chmod o= it."))
}

fn writable_by_others(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o002 != 0)
        .then(|| format!("Everybody can change {} (mode {mode:04o}): chmod o-w it.", path.display()))
}
