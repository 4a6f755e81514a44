//! ntp.conf: the commands of NTPsec's ntpd, read into the one model with ntpd's defaults.
//!
//! ntpd reads everything first and applies it afterwards, so that the order of the lines hardly matters, and no mistake
//! stops it: what stands before the mistake holds, the rest of the line is lost, and the log says so. It is the same here,
//! with a warning in place of the log line; only what stops ntpd too is an error. One thing is stricter: a `server` that
//! was to be authenticated stays so, whatever is wrong with its line.

mod association;
mod commands;
mod interfaces;
mod line;
mod nts;
mod reference_clock;
mod restrict;
mod statistics;
mod unsupported;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use self::association::{AssociationDraft, Removal};
use self::interfaces::Interfaces;
use self::line::{Fault, Line, Parsed, Word};
use self::nts::Nts;
use self::reference_clock::ClockDraft;
use self::restrict::Restrictions;
use crate::diagnostics::{self, MESSAGES_MAX};
use crate::{
    AuthenticationPolicy, Diagnostic, Diagnostics, Loaded, LocalReference, LoggedEvents, Model,
    PanicThreshold, RateLimitSettings, Severity, Text,
};

/// Files within files within files.
const DEPTH_MAX: usize = 5;

/// A file or a directory that a configuration includes: of a directory, the files `*.conf` in the order of their names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request(pub PathBuf);

/// Gives the texts that are asked for, or says why it cannot.
pub type Files<'f> = &'f dyn Fn(&Request) -> Result<Vec<Text>, String>;

/// Gives the addresses of a name, or says why it cannot.
pub type Names<'f> = &'f dyn Fn(&str) -> Result<Vec<IpAddr>, String>;

/// Reads a configuration: the main file and then those of the directory `ntp.d` beside it. `files` gives what they
/// include, and `names` whom restrictions mean that have a name for an address.
///
/// # Errors
/// All mistakes that were found, when there is at least one that stops ntpd, too.
pub fn parse(
    main: &Text,
    drop_ins: &[Text],
    files: Files<'_>,
    names: Names<'_>,
) -> Result<Loaded, Diagnostics> {
    let mut reader = Reader::new(files, names);
    for text in std::iter::once(main).chain(drop_ins) {
        reader.read(text);
    }
    let (model, diagnostics) = reader.finish();
    let diagnostics = Diagnostics(diagnostics);
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    Ok(Loaded { model, warnings: diagnostics })
}

/// Whether ntpd has a command of that name, and chronyd has no directive of it.
#[must_use]
pub fn is_command(word: &str) -> bool {
    commands::is_command(word)
}

/// Whether a line can only be meant for ntpd, although both programs know its first word.
#[must_use]
pub fn is_telling(line: &str) -> bool {
    let mut words = line.split('#').next().unwrap_or("").split_ascii_whitespace();
    let Some(command) = words.next() else { return false };
    let has_option = |mut words: std::str::SplitAsciiWhitespace<'_>, options: &[&str]| {
        words.any(|word| options.contains(&word))
    };
    match command {
        "server" | "pool" | "peer" => {
            let address = words.next().unwrap_or("");
            let is_literal = address.contains("::") || address.starts_with('[');
            ["-4", "-6"].contains(&address)
                || address.starts_with("127.127.")
                || address.starts_with('"')
                || address.contains(':') && !is_literal
                || address.starts_with('[')
                || has_option(words, &["ask", "autokey", "bias", "ca", "cert", "expire", "noval", "true"])
        }
        "broadcast" => words.next().is_some_and(|word| word.parse::<u32>().is_err()),
        "refclock" => words.next().is_some_and(|word| word.bytes().all(|octet| octet.is_ascii_lowercase())),
        word => is_command(word),
    }
}

/// What `tos` and `tinker` say beyond what has its place in the model.
struct Tuning {
    associations_max: Option<usize>,
    orphan_stratum: Option<u8>,
    /// How long there is nothing to follow before the local clock is served, seconds.
    orphan_wait: f64,
    /// `tos maxdisp`: what no answer's distance from the primary source may reach, seconds.
    dispersion_max: f64,
}

/// `tos maxdisp` unless given, seconds. RFC 5905 §7.2 (MAXDISP).
const DISPERSION_MAX_DEFAULT: f64 = 16.0;

/// What the lines have said so far.
struct Reader<'f> {
    files: Files<'f>,
    names: Names<'f>,
    depth: usize,
    /// `end` was read.
    ended: bool,
    diagnostics: Vec<Diagnostic>,
    model: Model,
    associations: Vec<AssociationDraft>,
    clocks: Vec<ClockDraft>,
    /// What `unpeer` takes away, and where it stands.
    removals: Vec<(Removal, Diagnostic)>,
    restrictions: Restrictions,
    interfaces: Interfaces,
    nts: Nts,
    tuning: Tuning,
    /// Long-term rate of answers to one address, per second, and how many may come at once.
    limit: (f64, f64),
    clients: usize,
    extra_port: Option<u16>,
    /// Where Samba signs answers.
    signing_directory: Option<PathBuf>,
    /// Where `mssntp` stands first.
    signing_place: Option<Diagnostic>,
    statistics: Vec<statistics::Draft>,
    /// What `logconfig` chooses.
    logged_events: Option<LoggedEvents>,
    /// `limit kod 0` was not said.
    tells_of_limits: bool,
    /// Where `disable monitor` stands.
    unwatched: Option<Diagnostic>,
    /// `disable stats` was not said.
    writes_statistics: bool,
    trusted_keys: Vec<std::ops::RangeInclusive<u32>>,
}

impl<'f> Reader<'f> {
    fn new(files: Files<'f>, names: Names<'f>) -> Self {
        /// What fits the megabyte that ntpd sets aside for it.
        const CLIENTS: usize = 10_922;
        Self {
            files,
            names,
            depth: 0,
            ended: false,
            diagnostics: Vec::new(),
            model: defaults(),
            associations: Vec::new(),
            clocks: Vec::new(),
            removals: Vec::new(),
            restrictions: Restrictions::default(),
            interfaces: Interfaces::default(),
            nts: Nts::default(),
            tuning: Tuning {
                associations_max: None,
                orphan_stratum: None,
                orphan_wait: LocalReference::ORPHAN_WAIT_SECONDS,
                dispersion_max: DISPERSION_MAX_DEFAULT,
            },
            limit: (1.0, 20.0),
            clients: CLIENTS,
            extra_port: None,
            signing_directory: None,
            signing_place: None,
            statistics: Vec::new(),
            logged_events: None,
            tells_of_limits: true,
            unwatched: None,
            writes_statistics: true,
            trusted_keys: Vec::new(),
        }
    }

    fn read(&mut self, text: &Text) {
        let mut start = 0;
        for contents in text.contents.split_inclusive('\n') {
            if self.ended || self.diagnostics.len() >= MESSAGES_MAX {
                return;
            }
            if let Some(mut line) = Line::split(text, contents, start)
                && let Err(fault) = commands::apply(self, &mut line)
            {
                self.report(&line, &fault);
            }
            start += contents.len();
        }
    }

    fn report(&mut self, line: &Line<'_>, fault: &Fault) {
        let severity = if fault.fatal { Severity::Error } else { Severity::Warning };
        let message = if fault.fatal {
            fault.message.clone()
        } else if fault.span.start == line.command.span().start {
            format!("{}; the line is ignored", fault.message)
        } else {
            format!("{}; what follows on this line is ignored", fault.message)
        };
        self.push(Diagnostic::new(severity, line.text, &fault.span, message, fault.help.clone()));
    }

    /// Reads other files in place of the line that asks for them.
    fn include(&mut self, line: &Line<'_>, path: &str) -> Parsed<()> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::new(&line.command, "too many files within files: more than 5"));
        }
        let here = Path::new(&line.text.name).parent().unwrap_or(Path::new(""));
        let request = Request(here.join(path));
        match (self.files)(&request) {
            Ok(texts) => {
                self.depth += 1;
                for text in &texts {
                    self.read(text);
                }
                self.depth -= 1;
            }
            Err(message) => self.warn(line, &line.command, &format!("{message}; it is passed over")),
        }
        Ok(())
    }

    fn warn(&mut self, line: &Line<'_>, word: &Word<'_>, message: &str) {
        self.push(Diagnostic::new(Severity::Warning, line.text, &word.span(), message, None));
    }

    /// The one warning about what is accepted and does nothing.
    fn no_effect(&mut self, line: &Line<'_>, word: &Word<'_>, why: &str) {
        self.warn(line, word, &format!("`{}` has no effect: {why}", word.text));
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        diagnostics::push(&mut self.diagnostics, diagnostic);
    }

    /// Fills in what depends on several lines.
    fn finish(mut self) -> (Model, Vec<Diagnostic>) {
        // Such answers ntpd does not even take for samples; here they are none to select.
        let distance = &mut self.model.synchronization.tuning.max_distance;
        *distance = distance.min(self.tuning.dispersion_max);
        self.remove_associations();
        self.finish_clocks();
        self.finish_associations();
        self.finish_serving();
        self.model.ntpd.events = self.logged_events.unwrap_or_default();
        statistics::finish(&mut self);
        (self.model, self.diagnostics)
    }

    fn finish_clocks(&mut self) {
        let mut clocks = Vec::new();
        for clock in std::mem::take(&mut self.clocks) {
            match clock.local_stratum() {
                // The undisciplined local clock: no reference, but a reason to serve.
                Some(stratum) => self.serve_local_clock(stratum),
                None => clocks.push(clock),
            }
        }
        self.model.reference_clocks = ClockDraft::finish_all(clocks);
        if let Some(stratum) = self.tuning.orphan_stratum {
            self.serve_local_clock(stratum);
            if let Some(local) = &mut self.model.synchronization.local_clock {
                local.orphan = true;
                local.wait_synchronized = self.tuning.orphan_wait;
                local.wait_unsynchronized = self.tuning.orphan_wait;
            }
        }
    }

    fn serve_local_clock(&mut self, stratum: u8) {
        let local = &mut self.model.synchronization.local_clock;
        let stratum = local.map_or(stratum, |local| local.stratum.min(stratum)).clamp(1, 15);
        *local = Some(LocalReference { stratum, ..LocalReference::default() });
    }

    fn finish_associations(&mut self) {
        let drafts = std::mem::take(&mut self.associations);
        let counts = association::pool_counts(&drafts, self.tuning.associations_max);
        let all = drafts.iter().all(AssociationDraft::is_authenticated) && !drafts.is_empty();
        let policy = if all || self.restrictions.distrusts_all() {
            AuthenticationPolicy::Required
        } else {
            AuthenticationPolicy::Mixed
        };
        self.model.authentication = policy;
        for (draft, count) in drafts.into_iter().zip(counts) {
            if let Some(warning) = draft.untrusted_key(&self.trusted_keys) {
                self.push(warning);
            }
            let mut source = draft.finish(&self.nts, count);
            // By name it cannot be known yet; see `restrict::read`.
            let is_distrusted = source.name.parse().is_ok_and(|address| self.restrictions.distrusts(address));
            source.policy = if is_distrusted { AuthenticationPolicy::Required } else { policy };
            self.model.sources.push(source);
        }
    }

    /// Where Samba signs answers, if those of anybody are to be signed.
    fn signing_directory(&mut self) -> Option<PathBuf> {
        let place = self.signing_place.take().filter(|_| self.restrictions.signs_any())?;
        if self.signing_directory.is_none() {
            let message = "`mssntp` has no effect without `ntpsigndsocket`, the directory of Samba's socket";
            self.push(Diagnostic { message: message.to_owned(), ..place });
        }
        self.signing_directory.clone()
    }

    fn finish_serving(&mut self) {
        let (average, burst) = self.limit;
        let rate_limit = self.restrictions.limits_any().then(|| {
            let interval = (1.0 / average.max(1e-3)).min(3600.0);
            RateLimitSettings {
                interval: std::time::Duration::from_secs_f64(interval),
                burst: burst_of(burst),
                // Others may write a client's address into their packets: some of its own must still be answered.
                leak: Some(2),
                kiss: (self.tells_of_limits && self.restrictions.kisses_any()).then_some(1),
            }
        });
        if let Some(place) = self.unwatched.as_ref().filter(|_| rate_limit.is_some()).cloned() {
            let message = "`monitor` cannot be disabled while anybody is `limited`, as with ntpd: clients are remembered";
            self.push(Diagnostic { message: message.to_owned(), ..place });
        }
        let signing_directory = self.signing_directory();
        let rules = self.restrictions.rules();
        let (terms, versions) = (self.restrictions.terms(), self.restrictions.versions());
        let mut servers = Vec::new();
        for port in std::iter::once(123).chain(self.extra_port) {
            for mut server in self.interfaces.servers(port) {
                server.rules = Some(rules.clone());
                server.rate_limit = rate_limit;
                server.rate_limit_entries = self.clients;
                server.client_records = self.unwatched.is_none() || rate_limit.is_some();
                server.terms.clone_from(&terms);
                server.signing_directory.clone_from(&signing_directory);
                server.versions.clone_from(&versions);
                servers.push(server);
            }
        }
        let ntpq = &mut self.model.observability.ntpq;
        ntpq.listen =
            servers.iter().filter(|server| server.interface.is_none()).map(|it| it.listen).collect();
        ntpq.rules = self.restrictions.ntpq_rules();
        self.model.servers = servers;
        let mut diagnostics = std::mem::take(&mut self.diagnostics);
        self.model.nts_ke_servers = self.nts.servers(self.extra_port, &mut diagnostics);
        self.model.predecessor.cookie_keys = self.nts.cookie_keys();
        self.diagnostics = diagnostics;
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "brought into the range before")]
fn burst_of(burst: f64) -> u8 {
    burst.clamp(1.0, 255.0) as u8
}

/// What ntpd does where its file says nothing: one source is enough, errors up to 128 ms are slewed, greater ones are
/// stepped, and beyond 1000 s it gives up.
fn defaults() -> Model {
    const PANIC: PanicThreshold = PanicThreshold { forward: Some(1000.0), backward: Some(1000.0) };
    let mut model = Model { hardware_stamps: crate::HardwareStamps::named_only(), ..Model::default() };
    let tuning = &mut model.synchronization.tuning;
    tuning.step.threshold = Some(0.128);
    tuning.step.startup_panic = PANIC;
    tuning.step.running_panic = PANIC;
    tuning.max_distance = 1.5;
    tuning.holdover_distance = 1.5;
    model.synchronization.minimum_agreeing_sources = Some(1);
    // Expedited forwarding. RFC 3246
    model.process.dscp = Some(46);
    // A new key each day, and ten in all.
    model.keyset.stale_keys = 9;
    model
}
