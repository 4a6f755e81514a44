//! chrony.conf: the directives of chronyd, read into the one model with chronyd's defaults.
//!
//! What this program does in the same way has its meaning in the model. What it does differently or not at all is
//! accepted with a warning that says what is different, so that a file which works with chronyd works here too and
//! nothing is dropped in silence. A mistake is an error, as it is for chronyd.

mod access;
mod directives;
mod files;
mod hardware_stamps;
mod line;
mod refclock;
mod serving;
mod source;
mod unsupported;

use std::path::PathBuf;
use std::time::Duration;

use self::access::CommandAccess;
use self::line::{Fault, Line, Parsed, Word};
use self::serving::Serving;
use self::source::{CertificateSets, SourceDraft};
use crate::diagnostics::{self, MESSAGES_MAX};
use crate::{Diagnostic, Diagnostics, HardwareStamps, Loaded, Model, PanicThreshold, Severity, Text};

/// Files within files within files.
const DEPTH_MAX: usize = 10;
/// The longest line, octets.
const LINE_OCTETS_MAX: usize = 2047;

/// What a configuration asks of the world: other files, and the addresses of names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The files that match a glob(7) pattern, in its order; one without wildcards must exist.
    Include(String),
    /// The files `*.conf` of these directories by file name; of equal names the one in the first directory.
    ConfigurationDirectories(Vec<PathBuf>),
    /// The same with `*.sources`.
    SourceDirectories(Vec<PathBuf>),
    /// The first address of a host, as a text of its own.
    Address(String),
}

/// Gives the texts that are asked for, or says why it cannot.
pub type Files<'f> = &'f dyn Fn(&Request) -> Result<Vec<Text>, String>;

/// Reads a configuration; `files` gives what it asks for.
///
/// # Errors
/// All mistakes that were found, when there is at least one that is more than a warning.
pub fn parse(main: &Text, files: Files<'_>) -> Result<Loaded, Diagnostics> {
    let mut reader = Reader::new(files);
    reader.read(main, false);
    reader.read_source_directories();
    let (model, diagnostics) = reader.finish();
    let diagnostics = Diagnostics(diagnostics);
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    Ok(Loaded { model, warnings: diagnostics })
}

/// The directives of a configuration with single blanks, in the order in which they count: what is included is in its
/// place, and files of sources are left out.
///
/// # Errors
/// As [`parse`].
pub fn directives(main: &Text, files: Files<'_>) -> Result<Vec<String>, Diagnostics> {
    let mut reader = Reader::new(files);
    reader.read(main, false);
    let lines = std::mem::take(&mut reader.lines);
    let diagnostics = Diagnostics(reader.finish().1);
    if diagnostics.has_errors() { Err(diagnostics) } else { Ok(lines) }
}

/// Whether chrony has a directive of that name, in any case of its letters.
#[must_use]
pub fn is_directive(word: &str) -> bool {
    directives::is_directive(word)
}

/// What the lines have said so far.
struct Reader<'f> {
    files: Files<'f>,
    depth: usize,
    /// Whether a mistake only costs its line, as in files of sources.
    lenient: bool,
    diagnostics: Vec<Diagnostic>,
    /// Directives as they were read.
    lines: Vec<String>,
    model: Model,
    sources: Vec<SourceDraft>,
    certificates: CertificateSets,
    serving: Serving,
    commands: CommandAccess,
    source_directories: Vec<PathBuf>,
    source_place: Option<Diagnostic>,
    /// Where `rtcfile` stands.
    rtc_file_place: Option<Diagnostic>,
    /// Places of the reference clocks.
    refclock_places: Vec<Diagnostic>,
}

impl<'f> Reader<'f> {
    fn new(files: Files<'f>) -> Self {
        Self {
            files,
            depth: 0,
            lenient: false,
            diagnostics: Vec::new(),
            lines: Vec::new(),
            model: defaults(),
            sources: Vec::new(),
            certificates: CertificateSets::default(),
            serving: Serving::default(),
            commands: CommandAccess::default(),
            source_directories: Vec::new(),
            source_place: None,
            rtc_file_place: None,
            refclock_places: Vec::new(),
        }
    }

    fn read(&mut self, text: &Text, only_sources: bool) {
        let mut start = 0;
        for line in text.contents.split_inclusive('\n') {
            if self.diagnostics.len() >= MESSAGES_MAX {
                return;
            }
            self.read_line(text, line, start, only_sources);
            start += line.len();
        }
    }

    fn read_line(&mut self, text: &Text, contents: &str, start: usize, only_sources: bool) {
        let Some((mut line, comment)) = Line::split(text, contents, start) else {
            return;
        };
        if let Some(comment) = comment {
            let message = "chronyd has no comments behind a directive, and would refuse this line; here the rest of it \
                           is taken as a comment";
            self.warn(&line, &comment, message);
        }
        if !["include", "confdir"].contains(&line.directive.folded().as_str()) {
            self.lines.push(contents.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        }
        let result = if contents.trim_end_matches(['\r', '\n']).len() > LINE_OCTETS_MAX {
            Err(Fault::new(&line.directive, format!("the line is longer than {LINE_OCTETS_MAX} octets")))
        } else if only_sources && !["server", "pool", "peer"].contains(&line.directive.folded().as_str()) {
            Err(Fault::new(&line.directive, "only `server`, `pool` and `peer` belong into a file of sources"))
        } else if only_sources && !contents.ends_with('\n') {
            Err(Fault::new(&line.directive, "the last line of a file of sources must end in a newline"))
        } else {
            directives::apply(self, &mut line)
        };
        if let Err(fault) = result {
            let (severity, message) = if self.lenient {
                (Severity::Warning, format!("{}; the line is ignored", fault.message))
            } else {
                (Severity::Error, fault.message)
            };
            self.push(Diagnostic::new(severity, text, &fault.span, message, fault.help));
        }
    }

    /// Reads other files in place of the line that asks for them.
    fn include(&mut self, line: &Line<'_>, request: &Request) -> Parsed<()> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::new(&line.directive, "too many files within files: more than 10"));
        }
        let texts = (self.files)(request).map_err(|message| Fault::new(&line.directive, message))?;
        self.depth += 1;
        for text in &texts {
            self.read(text, false);
        }
        self.depth -= 1;
        Ok(())
    }

    fn read_source_directories(&mut self) {
        let Some(place) = self.source_place.take() else {
            return;
        };
        let directories = std::mem::take(&mut self.source_directories);
        self.lenient = true;
        match (self.files)(&Request::SourceDirectories(directories)) {
            Ok(texts) => {
                for text in &texts {
                    self.read(text, true);
                }
            }
            Err(message) => self.push(Diagnostic { message, ..place }),
        }
        self.lenient = false;
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
        self.finish_reference_clocks();
        if let Some(place) = self.rtc_file_place.take().filter(|_| self.model.synchronization.marks_kernel) {
            let message = "rtcfile directive cannot be used with rtcsync".to_owned();
            let help =
                "with `rtcsync` the kernel sets the real-time clock every eleven minutes: remove one of them";
            self.push(Diagnostic {
                severity: Severity::Error,
                message,
                help: Some(help.to_owned()),
                ..place
            });
        }
        // The one use of it: to believe the first answer.
        if !self.sources.is_empty() && self.sources.iter().all(SourceDraft::takes_one_sample) {
            self.model.synchronization.tuning.samples_min = 1;
        }
        for draft in self.sources {
            let mut source = draft.finish(&self.certificates, &self.serving.aeads, &mut self.diagnostics);
            source.policy = self.model.authentication;
            self.model.sources.push(source);
        }
        self.commands.finish(&mut self.model.observability);
        self.serving.finish(&mut self.model, &mut self.diagnostics);
        (self.model, self.diagnostics)
    }
}

/// What chronyd does where its file says nothing: one source is enough, the clock is slewed however wrong it is, and
/// cookie keys last for three weeks.
fn defaults() -> Model {
    let mut model = Model { hardware_stamps: HardwareStamps::named_only(), ..Model::default() };
    let unlimited = PanicThreshold { forward: None, backward: None };
    // It serves for as long as anybody would believe it. RFC 5905 §7.2 (MAXDISP).
    model.synchronization.tuning.holdover_distance = 16.0;
    let step = &mut model.synchronization.tuning.step;
    step.threshold = None;
    step.startup_panic = unlimited;
    step.running_panic = unlimited;
    // It waits for three samples even where it may step.
    model.synchronization.tuning.first_samples_min = model.synchronization.tuning.samples_min;
    model.synchronization.minimum_agreeing_sources = Some(1);
    model.synchronization.marks_kernel = false;
    // Its own files of samples are not read or written.
    model.process.sample_history = false;
    model.keyset.rotation_interval = Duration::from_secs(604_800);
    model.keyset.stale_keys = 2;
    model
}
