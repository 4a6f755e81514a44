//! Reading one table: which keys it has, which it should not have, and what is wrong with them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) use crate::suggest::nearest;
use crate::{Diagnostic, Severity, Text};

/// A value that is not what its key asks for; the place is inside the value.
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }
}

/// What a value parser gives; a list can have several faults.
pub(super) type Parsed<T> = Result<T, Vec<Fault>>;

/// A value and its position.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Where messages about one text go.
pub(super) struct Sink<'a> {
    text: &'a Text,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(text: &'a Text, diagnostics: &'a mut Vec<Diagnostic>) -> Self {
        Self { text, diagnostics }
    }

    pub(super) fn error(&mut self, span: &Range<usize>, message: String, help: Option<String>) {
        self.push(Severity::Error, span, message, help);
    }

    fn push(&mut self, severity: Severity, span: &Range<usize>, message: String, help: Option<String>) {
        let diagnostic = Diagnostic::new(severity, self.text, span, message, help);
        self.diagnostics.push(diagnostic);
    }
}

/// One table being read; each key that is asked for becomes a known key.
pub(super) struct TableReader<'t, 'i, 's, 'a> {
    table: &'t DeTable<'i>,
    span: Range<usize>,
    name: &'static str,
    known: Vec<&'static str>,
    sink: &'s mut Sink<'a>,
}

impl<'t, 'i, 's, 'a> TableReader<'t, 'i, 's, 'a> {
    pub(super) fn new(
        table: &'t DeTable<'i>,
        span: Range<usize>,
        name: &'static str,
        sink: &'s mut Sink<'a>,
    ) -> Self {
        Self { table, span, name, known: Vec::new(), sink }
    }

    /// The raw value of a key, which is known from now on.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'t Value<'i>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// The value of a key as `parse` sees it; `None` when it is absent or wrong.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value<'i>) -> Parsed<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(faults) => {
                for fault in faults {
                    let message = format!("`{key}`: {}", fault.message);
                    self.sink.error(&fault.span, message, fault.help);
                }
                None
            }
        }
    }

    /// Overwrites `target` when the key is there.
    pub(super) fn set<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value<'i>) -> Parsed<T>,
        target: &mut T,
    ) {
        if let Some(value) = self.read(key, parse) {
            *target = value;
        }
    }

    /// The value of a key that must be there.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value<'i>) -> Parsed<T>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            let message = format!("{} needs `{key}`", self.name);
            let span = self.span.clone();
            self.sink.error(&span, message, self.misspelt(key));
        }
        self.read(key, parse)
    }

    /// Reads a table inside of this one.
    pub(super) fn table(
        &mut self,
        key: &'static str,
        name: &'static str,
        read: impl FnOnce(&mut TableReader<'_, 'i, '_, 'a>),
    ) {
        let Some(value) = self.value(key) else { return };
        match value.get_ref() {
            DeValue::Table(table) => self.descend(table, value.span(), name, read),
            other => {
                let message = format!("{name} is a table, and this is {}", article(other));
                self.sink.error(&value.span(), message, None);
            }
        }
    }

    /// Reads each table of an array of tables.
    pub(super) fn each(
        &mut self,
        key: &'static str,
        name: &'static str,
        mut read: impl FnMut(&mut TableReader<'_, 'i, '_, 'a>),
    ) {
        let Some(value) = self.value(key) else { return };
        let DeValue::Array(items) = value.get_ref() else {
            let message = format!("there can be several of `{key}`, so each is written {name}");
            let help = matches!(value.get_ref(), DeValue::Table(_))
                .then(|| format!("write `{name}` with two brackets"));
            self.sink.error(&value.span(), message, help);
            return;
        };
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => self.descend(table, item.span(), name, &mut read),
                other => {
                    let message = format!("{name} is a table, and this is {}", article(other));
                    self.sink.error(&item.span(), message, None);
                }
            }
        }
    }

    /// A message about a key that was read.
    pub(super) fn error_at(&mut self, key: &str, message: String, help: Option<String>) {
        let span = self.span_of(key);
        self.sink.error(&span, message, help);
    }

    /// A warning about a key that was read.
    pub(super) fn warn_at(&mut self, key: &str, message: String) {
        let span = self.span_of(key);
        self.sink.push(Severity::Warning, &span, message, None);
    }

    /// Accepts keys that another program reads and this one has no use for, with a warning.
    pub(super) fn ignore(&mut self, keys: &[&'static str], why: &str) {
        for key in keys {
            if self.value(key).is_some() {
                self.warn_at(key, format!("`{key}` has no effect: {why}"));
            }
        }
    }

    /// Whether a key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A warning-shaped message at the head of this table, to be completed later.
    pub(super) fn place(&self) -> Diagnostic {
        let span = self.span.clone();
        Diagnostic::new(Severity::Warning, self.sink.text, &span, "", None)
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table {
            let word: &str = key.get_ref();
            if self.known.contains(&word) {
                continue;
            }
            let message = format!("unknown key `{word}` in {}", self.name);
            let help = nearest(word, &self.known).map_or_else(
                || {
                    let mut known = self.known.clone();
                    known.sort_unstable();
                    known.dedup();
                    Some(format!("known here: {}", known.join(", ")))
                },
                |near| Some(format!("did you mean `{near}`?")),
            );
            self.sink.error(&key.span(), message, help);
        }
    }

    fn descend(
        &mut self,
        table: &'t DeTable<'i>,
        span: Range<usize>,
        name: &'static str,
        read: impl FnOnce(&mut TableReader<'_, 'i, '_, 'a>),
    ) {
        let mut reader = TableReader::new(table, span, name, self.sink);
        read(&mut reader);
        reader.finish();
    }

    fn span_of(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    /// A missing key is often there under a wrong spelling.
    fn misspelt(&self, key: &'static str) -> Option<String> {
        self.table
            .keys()
            .find(|word| nearest(word.get_ref(), &[key]).is_some())
            .map(|word| format!("`{}` may be meant as `{key}`", word.get_ref()))
    }
}

/// "a string", "an integer": the type of a value in words.
pub(super) fn article(value: &DeValue<'_>) -> String {
    match value.type_str() {
        word @ ("integer" | "array") => format!("an {word}"),
        word => format!("a {word}"),
    }
}
