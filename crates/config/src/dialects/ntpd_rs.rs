//! ntp.toml: the configuration of ntpd-rs 1.x, read into the one model with the defaults of ntpd-rs.
//!
//! The native dialect has the same tables and keys wherever it has the same thing, so its readers are used here, with
//! what differs: defaults, keys that only one of the two has, and spellings that stand in guides and that ntpd-rs itself
//! refuses.

mod observability;
mod source;

use std::path::PathBuf;

use chime_time::Frequency;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::native::source::{self as native_source, SourceDefaults};
use super::native::table::{Sink, TableReader};
use super::native::{Draft, read_toml, server, synchronization};
use crate::{
    CookieKeyFile, CookieKeyFormat, Diagnostic, Diagnostics, Loaded, Model, PanicThreshold, Severity, Text,
};

/// Names that guides have and the program does not.
const COPIED: &[(&str, &str)] = &[
    ("startup-panic-threshold", "startup-step-panic-threshold"),
    ("accumulated-threshold", "accumulated-step-panic-threshold"),
];

/// Reads a configuration.
///
/// # Errors
/// All mistakes that were found, when there is at least one that is more than a warning.
pub fn parse(text: &Text) -> Result<Loaded, Diagnostics> {
    let mut diagnostics = Vec::new();
    let mut draft = Draft { model: defaults(), defaults: SourceDefaults::ntpd_rs(), ..Draft::default() };
    let mut sink = Sink::new(text, &mut diagnostics).with_copied_spellings(COPIED);
    read_toml(text, &mut sink, |tree, sink| read_file(tree, sink, &mut draft));
    let mut model = draft.finish(&mut diagnostics);
    // The file is in the format of ntpd-rs: it is read, and ours is another.
    if let Some(path) = model.keyset.storage_path.take() {
        model.predecessor.cookie_keys = Some(CookieKeyFile { path, format: CookieKeyFormat::NtpdRs });
    }
    diagnostics.sort_by_key(|d| (d.line, d.column));
    let diagnostics = Diagnostics(diagnostics);
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    Ok(Loaded { model, warnings: diagnostics })
}

/// Whether a file of TOML is meant for ntpd-rs: it has something that only ntpd-rs has, or its name says so.
#[must_use]
pub fn is_meant(text: &Text) -> bool {
    let path = PathBuf::from(&text.name);
    let is_named = path.file_name().is_some_and(|name| name == "ntp.toml");
    let is_at_home = path.components().any(|part| part.as_os_str() == "ntpd-rs");
    if is_named || is_at_home {
        return true;
    }
    let said = text.contents.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    said.filter_map(|line| line.split_once('=')).any(|(key, value)| {
        let value = value.trim().trim_matches(['"', '\'']);
        let modes = ["sock", "pps", "csptp"];
        key.trim() == "mode" && modes.contains(&value) || value.contains("/ntpd-rs/")
    })
}

/// What ntpd-rs does where its file says nothing: three sources must agree, large errors are stepped at the start, and
/// corrections are slow afterwards.
fn defaults() -> Model {
    const DAY: f64 = 86_400.0;
    let mut model = Model { hardware_stamps: crate::HardwareStamps::named_only(), ..Model::default() };
    model.synchronization.minimum_agreeing_sources = Some(3);
    let tuning = &mut model.synchronization.tuning;
    tuning.step.threshold = Some(0.01);
    tuning.step.startup_panic = PanicThreshold { forward: None, backward: Some(DAY) };
    tuning.max_slew = Frequency::from_ratio(200e-6);
    tuning.max_drift = Frequency::from_ratio(495e-6);
    // Its metrics are shown by a program of their own, whose port must stay free.
    model.observability.metrics_listen = None;
    model
}

fn read_file(tree: &Spanned<DeTable<'_>>, sink: &mut Sink<'_>, draft: &mut Draft) {
    let mut top = TableReader::new(tree.get_ref(), tree.span(), "the top level", sink);
    top.each("source", "[[source]]", |table| source::read(table, draft));
    top.table("source-defaults", "[source-defaults]", |table| {
        native_source::read_defaults(table, &mut draft.defaults);
    });
    top.each("server", "[[server]]", |table| draft.model.servers.extend(server::read_server(table)));
    top.each("nts-ke-server", "[[nts-ke-server]]", |table| {
        draft.model.nts_ke_servers.extend(server::read_ke_server(table));
    });
    top.table("keyset", "[keyset]", |table| server::read_keyset(table, &mut draft.model.keyset));
    top.table("synchronization", "[synchronization]", |table| {
        synchronization::read(table, &mut draft.model.synchronization);
    });
    top.table("observability", "[observability]", |table| {
        observability::read(table, &mut draft.model);
    });
    top.pass_over("clock", "the system's clock is steered, with the kernel's time stamps");
    let csptp = "CSPTP is not supported";
    top.pass_over("csptp-server", csptp);
    top.pass_over("csptp", csptp);
    for (mode, key) in [("pool", "pool"), ("nts", "nts"), ("sources", "server")] {
        if top.has(mode) {
            let _ = top.value(mode);
            let message = format!("there is no table `{mode}`");
            let help = format!("write `[[source]]` with `mode = \"{key}\"`");
            top.error_at(mode, message, Some(help));
        }
    }
    top.finish();
}

/// The mode of a source, whatever it is.
fn mode_of<'t>(table: &mut TableReader<'t, '_, '_, '_>) -> Option<&'t str> {
    match table.value("mode")?.get_ref() {
        DeValue::String(mode) => Some(mode),
        _ => None,
    }
}

/// A warning about the place that a table begins at.
fn warning(table: &TableReader<'_, '_, '_, '_>, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, message, ..table.place() }
}
