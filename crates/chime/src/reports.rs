//! Commands that ask the daemon: reports, the status, the check.

use anyhow::Result;
use chime_control::check::{self, Expectations, State, Verdict};
use chime_control::status::status;
use chime_control::text::Layout;
use chime_control::{Form, Names, Report};
use serde_json::json;

use crate::cli::{CheckOptions, ReportOptions};
use crate::client::Daemon;
use crate::exit::Exit;
use crate::terminal::{Terminal, print};

/// `chime status`.
pub(crate) fn show_status(daemon: &Daemon, json: bool, terminal: Terminal) -> Result<Exit> {
    let snapshot = daemon.snapshot()?;
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&snapshot)?))?;
    } else {
        print(&status(&snapshot, terminal.paint, terminal.width))?;
    }
    Ok(Exit::Success)
}

/// A report that chronyc's users know.
pub(crate) fn show_report(
    daemon: &Daemon,
    (report, options, only): (Report, &ReportOptions, Option<&str>),
    terminal: Terminal,
) -> Result<Exit> {
    let snapshot = daemon.snapshot()?;
    if let Some(name) = only {
        let known = snapshot.engine.sources.iter().any(|source| {
            source.name == name || source.remote.is_some_and(|remote| remote.ip().to_string() == name)
        });
        if !known {
            eprintln!("chime: there is no source {name}");
            return Ok(Exit::Failure);
        }
    }
    let form = match options {
        ReportOptions { json: true, .. } => Form::Json,
        ReportOptions { csv: true, .. } => Form::Csv,
        _ => Form::Text,
    };
    let names = if options.numeric { Names::Addresses } else { Names::Configured };
    let layout = Layout { names, all: options.all, paint: terminal.paint };
    print(&report.show(&snapshot, form, layout, only))?;
    Ok(Exit::Success)
}

/// `chime check`: whatever goes wrong is a verdict, since its reader is a monitoring system.
pub(crate) fn check(daemon: &Daemon, options: &CheckOptions) -> Result<Exit> {
    let verdict = match daemon.snapshot() {
        Ok(snapshot) => check::check(&snapshot, &expectations(options)),
        Err(error) => Verdict::unknown(&error.to_string()),
    };
    let text = if options.json {
        let value = json!({
            "state": verdict.state.word(),
            "exit_code": verdict.state.exit_code(),
            "summary": verdict.summary,
            "performance": verdict.performance,
        });
        format!("{value:#}\n")
    } else {
        format!("{verdict}\n")
    };
    print(&text)?;
    Ok(Exit::Plugin(verdict.state.exit_code()))
}

fn expectations(options: &CheckOptions) -> Expectations {
    let usual = Expectations::default();
    let pair = |warning: Option<f64>, critical: Option<f64>, usual: (f64, f64)| {
        // One limit given beyond the other's default moves the default, not the wish.
        let warning = warning.unwrap_or_else(|| critical.map_or(usual.0, |critical| usual.0.min(critical)));
        (warning, critical.unwrap_or_else(|| usual.1.max(warning)))
    };
    let offset = pair(options.warning, options.critical, (usual.offset_warning, usual.offset_critical));
    let bound = pair(
        options.bound_warning,
        options.bound_critical,
        (usual.error_bound_warning, usual.error_bound_critical),
    );
    Expectations {
        offset_warning: offset.0,
        offset_critical: offset.1,
        error_bound_warning: bound.0,
        error_bound_critical: bound.1,
        sources_min: options.sources,
        unauthenticated: match options {
            CheckOptions { require_authentication: true, .. } => State::Critical,
            CheckOptions { allow_unauthenticated: true, .. } => State::Ok,
            _ => usual.unauthenticated,
        },
    }
}
