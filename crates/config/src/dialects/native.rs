//! The native dialect: TOML, with tables and keys named as in ntpd-rs's `ntp.toml` wherever that
//! has the thing.
//!
//! The text is parsed into a tree with positions, and each table is read by a `TableReader`
//! that knows which keys were asked for; what remains is misspelt, and the nearest known key is
//! suggested. Mistakes are collected, not thrown: one run shows all of them.

mod chrony_files;
mod hardware_stamps;
mod leap_seconds;
mod ntpd_files;
mod predecessor;
pub(in crate::dialects) mod process;
mod reference_clock;
pub(in crate::dialects) mod server;
pub(in crate::dialects) mod source;
pub(in crate::dialects) mod synchronization;
pub(in crate::dialects) mod table;
pub(in crate::dialects) mod values;

use table::{Sink, TableReader};
use toml::de::DeTable;

use self::source::{SourceDefaults, SourceDraft};
use crate::{AuthenticationPolicy, Diagnostics, KeyFormat, Loaded, Model, Severity, Text};

/// Reads a configuration: the main file and its drop-ins, in the order in which they are given.
///
/// `[[source]]`, `[[server]]` and `[[nts-ke-server]]` add up over the files. Of a key that several
/// files set, the last one counts, so that a drop-in can change what a package ships.
///
/// # Errors
/// All mistakes that were found, when there is at least one that is more than a warning.
pub fn parse(main: &Text, drop_ins: &[Text]) -> Result<Loaded, Diagnostics> {
    let mut draft = Draft::default();
    let mut diagnostics = Vec::new();
    for text in std::iter::once(main).chain(drop_ins) {
        let mut sink = Sink::new(text, &mut diagnostics);
        read_toml(text, &mut sink, |tree, sink| read_file(tree, sink, &mut draft));
    }
    let model = draft.finish(&mut diagnostics);
    // Found table by table and key by key; read from top to bottom.
    let file_order = |name: &str| drop_ins.iter().position(|text| text.name == name).map_or(0, |at| at + 1);
    diagnostics.sort_by_key(|d| (file_order(&d.file), d.line, d.column));
    let diagnostics = Diagnostics(diagnostics);
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    Ok(Loaded { model, warnings: diagnostics })
}

/// Hands the tree of a text to `read`, or reports why there is none.
pub(in crate::dialects) fn read_toml<'t>(
    text: &'t Text,
    sink: &mut Sink<'_>,
    read: impl FnOnce(&toml::Spanned<DeTable<'t>>, &mut Sink<'_>),
) {
    let (tree, errors) = DeTable::parse_recoverable(&text.contents);
    if errors.is_empty() {
        return read(&tree, sink);
    }
    // A tree that was recovered from broken text would only give misleading messages.
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        sink.error(&span, error.message().to_owned(), None);
    }
}

/// What the files have said so far; defaults that concern all sources are not yet applied.
#[derive(Default)]
pub(in crate::dialects) struct Draft {
    pub(in crate::dialects) model: Model,
    pub(in crate::dialects) sources: Vec<SourceDraft>,
    pub(in crate::dialects) defaults: SourceDefaults,
    pub(in crate::dialects) authentication: Option<AuthenticationPolicy>,
}

impl Draft {
    /// Fills in what depends on several tables, and judges the whole.
    pub(in crate::dialects) fn finish(mut self, diagnostics: &mut Vec<crate::Diagnostic>) -> Model {
        let policy = self.authentication.unwrap_or_else(|| self.implied_policy());
        self.model.authentication = policy;
        self.model.client_sockets.clone_from(&self.defaults.sockets);
        self.model.refresh = self.defaults.refresh;
        self.model.synchronization.marks_kernel &= !self.model.uses_real_time_clock();
        for draft in self.sources {
            let source = draft.finish(&self.defaults, policy, diagnostics);
            self.model.sources.push(source);
        }
        // Of a model with holes nothing can be said as a whole.
        if diagnostics.iter().all(|d| d.severity == Severity::Warning) {
            source::check(&self.model, diagnostics);
            server::check(&self.model, diagnostics);
            leap_seconds::check(&self.model, diagnostics);
        }
        self.model
    }

    /// Authentication is required where every source has it, so that nothing which is added or
    /// answers later can weaken it; a plain source written on purpose makes it mixed.
    fn implied_policy(&self) -> AuthenticationPolicy {
        let all = self.sources.iter().all(SourceDraft::is_authenticated);
        if all && !self.sources.is_empty() {
            AuthenticationPolicy::Required
        } else {
            AuthenticationPolicy::Mixed
        }
    }
}

fn read_file(tree: &toml::Spanned<DeTable<'_>>, sink: &mut Sink<'_>, draft: &mut Draft) {
    let mut top = TableReader::new(tree.get_ref(), tree.span(), "the top level", sink);
    if let Some(policy) = top.read("authentication", values::authentication_policy) {
        draft.authentication = Some(policy);
    }
    process::read_top(&mut top, &mut draft.model.process);
    top.each("source", "[[source]]", |table| {
        draft.sources.extend(source::read(table));
    });
    top.each("reference-clock", "[[reference-clock]]", |table| {
        draft.model.reference_clocks.extend(reference_clock::read(table));
    });
    top.each("hardware-timestamps", "[[hardware-timestamps]]", |table| {
        hardware_stamps::read(table, &mut draft.model.hardware_stamps);
    });
    top.table("chrony", "[chrony]", |table| chrony_files::read(table, &mut draft.model.chrony));
    top.table("ntpd", "[ntpd]", |table| ntpd_files::read(table, &mut draft.model.ntpd));
    top.table("predecessor", "[predecessor]", |table| {
        predecessor::read(table, &mut draft.model.predecessor);
    });
    top.table("source-defaults", "[source-defaults]", |table| {
        source::read_defaults(table, &mut draft.defaults);
    });
    top.each("server", "[[server]]", |table| {
        draft.model.servers.extend(server::read_server(table));
    });
    top.table("ntp-over-ptp", "[ntp-over-ptp]", |table| {
        draft.model.ntp_over_ptp = Some(server::read_ntp_over_ptp(table));
    });
    top.each("broadcast", "[[broadcast]]", |table| {
        draft.model.broadcasts.extend(server::read_broadcast(table));
    });
    top.each("nts-ke-server", "[[nts-ke-server]]", |table| {
        draft.model.nts_ke_servers.extend(server::read_ke_server(table));
    });
    top.table("keyset", "[keyset]", |table| {
        server::read_keyset(table, &mut draft.model.keyset);
    });
    top.table("keys", "[keys]", |table| {
        let key_file = table.read("key-file", values::path);
        draft.model.key_file = key_file.or(draft.model.key_file.take());
        let format = values::word(&[("chrony", KeyFormat::Chrony), ("ntpsec", KeyFormat::Ntpsec)]);
        table.set("key-file-format", format, &mut draft.model.key_format);
    });
    top.table("synchronization", "[synchronization]", |table| {
        synchronization::read(table, &mut draft.model.synchronization);
        synchronization::check_real_time_clock(table, &draft.model);
    });
    top.table("leap-seconds", "[leap-seconds]", |table| {
        leap_seconds::read(table, &mut draft.model);
    });
    top.table("local-clock", "[local-clock]", |table| {
        synchronization::read_local_clock(table, &mut draft.model.synchronization.local_clock);
    });
    top.table("observability", "[observability]", |table| {
        process::read_observability(table, &mut draft.model.observability);
    });
    top.table("state", "[state]", |table| {
        table.set("directory", values::path, &mut draft.model.process.state_directory);
        table.set("sample-history", values::boolean, &mut draft.model.process.sample_history);
    });
    top.finish();
}

/// Adds a message about a place that is only known by file and line, after the texts are gone.
fn late(severity: Severity, origin: &source::Place, message: String) -> crate::Diagnostic {
    crate::Diagnostic { severity, message, help: None, ..origin.0.clone() }
}
