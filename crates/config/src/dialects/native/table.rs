//! Reading one table: which keys it has, which it should not have, and what is wrong with them.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::values::integer;
pub(in crate::dialects) use crate::suggest::nearest;
use crate::{Diagnostic, Severity, Text};

/// A value that is not what its key asks for; the place is inside the value.
pub(in crate::dialects) struct Fault {
    pub(in crate::dialects) span: Range<usize>,
    pub(in crate::dialects) message: String,
    pub(in crate::dialects) help: Option<String>,
}

impl Fault {
    pub(in crate::dialects) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }
}

/// What a value parser gives; a list can have several faults.
pub(in crate::dialects) type Parsed<T> = Result<T, Vec<Fault>>;

/// A value and its position.
pub(in crate::dialects) type Value<'i> = Spanned<DeValue<'i>>;

/// Where messages about one text go.
pub(in crate::dialects) struct Sink<'a> {
    text: &'a Text,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// Spellings that are understood although they are wrong: wrong, and right.
    copied: Option<&'static [(&'static str, &'static str)]>,
}

impl<'a> Sink<'a> {
    pub(in crate::dialects) fn new(text: &'a Text, diagnostics: &'a mut Vec<Diagnostic>) -> Self {
        Self { text, diagnostics, copied: None }
    }

    /// Understands `_` in place of `-` and the other way round, and these other wrong names, each with a warning.
    pub(in crate::dialects) fn with_copied_spellings(
        self,
        others: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { copied: Some(others), ..self }
    }

    /// Whether what people have copied from elsewhere is read as meant.
    pub(in crate::dialects) fn is_tolerant(&self) -> bool {
        self.copied.is_some()
    }

    pub(in crate::dialects) fn error(&mut self, span: &Range<usize>, message: String, help: Option<String>) {
        self.push(Severity::Error, span, message, help);
    }

    fn push(&mut self, severity: Severity, span: &Range<usize>, message: String, help: Option<String>) {
        let diagnostic = Diagnostic::new(severity, self.text, span, message, help);
        self.diagnostics.push(diagnostic);
    }
}

/// One table being read; each key that is asked for becomes a known key.
pub(in crate::dialects) struct TableReader<'t, 'i, 's, 'a> {
    table: &'t DeTable<'i>,
    span: Range<usize>,
    name: &'static str,
    known: Vec<&'static str>,
    /// Wrong spellings that were understood.
    understood: Vec<String>,
    sink: &'s mut Sink<'a>,
}

impl<'t, 'i, 's, 'a> TableReader<'t, 'i, 's, 'a> {
    pub(in crate::dialects) fn new(
        table: &'t DeTable<'i>,
        span: Range<usize>,
        name: &'static str,
        sink: &'s mut Sink<'a>,
    ) -> Self {
        Self { table, span, name, known: Vec::new(), understood: Vec::new(), sink }
    }

    /// The raw value of a key, which is known from now on.
    pub(in crate::dialects) fn value(&mut self, key: &'static str) -> Option<&'t Value<'i>> {
        self.known.push(key);
        if let Some(value) = self.table.get(key) {
            return Some(value);
        }
        let (wrong, value) = self.copied(key)?;
        if !self.understood.contains(&wrong) {
            let message = format!("`{wrong}` is read as `{key}`; the original program refuses it");
            self.warn_at(&wrong, message);
            self.understood.push(wrong);
        }
        Some(value)
    }

    /// The value of a key under a wrong name that people have copied.
    fn copied(&self, key: &str) -> Option<(String, &'t Value<'i>)> {
        let others = self.sink.copied?;
        let is_meant = |word: &str| {
            word.replace('_', "-") == key.replace('_', "-")
                || others.iter().any(|(wrong, right)| *wrong == word && *right == key)
        };
        let (name, value) = self.table.iter().find(|(name, _)| is_meant(name.get_ref()))?;
        Some((name.get_ref().to_string(), value))
    }

    /// The value of a key as `parse` sees it; `None` when it is absent or wrong.
    pub(in crate::dialects) fn read<T>(
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

    /// The value of an integer. What the program takes that the file is of, and what is out of reach here, is brought within
    /// reach with a warning; in our own files it is a mistake.
    pub(in crate::dialects) fn within<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + Display + TryFrom<i64> + TryInto<i64>,
    {
        let bound = |bound: T| bound.try_into().unwrap_or(i64::MAX);
        if self.is_tolerant()
            && let Some(DeValue::Integer(digits)) = self.value(key).map(toml::Spanned::get_ref)
            && let Ok(number) = i64::from_str_radix(digits.as_str(), digits.radix())
        {
            let reached = number.clamp(bound(*range.start()), bound(*range.end()));
            if reached != number {
                self.warn_at(key, format!("`{key}`: {number} is out of reach here, and {reached} is used"));
            }
            return T::try_from(reached).ok();
        }
        self.read(key, integer(range))
    }

    /// Refuses keys of our own in a file of the program that does not have them.
    pub(in crate::dialects) fn ours(&mut self, keys: &[&'static str]) {
        if !self.is_tolerant() {
            return;
        }
        for key in keys.iter().filter(|key| self.has(key)).copied().collect::<Vec<_>>() {
            let message = format!("ntpd-rs has no key `{key}` here");
            let help = "remove it; or keep it and give `--dialect native`, which has it";
            self.error_at(key, message, Some(help.to_owned()));
        }
    }

    /// Overwrites `target` when the key is there.
    pub(in crate::dialects) fn set<T>(
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
    pub(in crate::dialects) fn require<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value<'i>) -> Parsed<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            let message = format!("{} needs `{key}`", self.name);
            let span = self.span.clone();
            self.sink.error(&span, message, self.misspelt(key));
        }
        self.read(key, parse)
    }

    /// Reads a table inside of this one.
    pub(in crate::dialects) fn table(
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
    pub(in crate::dialects) fn each(
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
    pub(in crate::dialects) fn error_at(&mut self, key: &str, message: String, help: Option<String>) {
        let span = self.span_of(key);
        self.sink.error(&span, message, help);
    }

    /// A warning about a key that was read.
    pub(in crate::dialects) fn warn_at(&mut self, key: &str, message: String) {
        let span = self.span_of(key);
        self.sink.push(Severity::Warning, &span, message, None);
    }

    /// Accepts keys that another program reads and this one has no use for, with a warning.
    pub(in crate::dialects) fn ignore(&mut self, keys: &[&'static str], why: &str) {
        for key in keys {
            if self.value(key).is_some() {
                self.warn_at(key, format!("`{key}` has no effect: {why}"));
            }
        }
    }

    /// Accepts a key that has no use here, with one warning unless its value asks for what is done anyway.
    pub(in crate::dialects) fn ignore_unless(
        &mut self,
        key: &'static str,
        is_usual: impl Fn(&DeValue<'_>) -> bool,
        why: &str,
    ) {
        if self.value(key).is_some_and(|value| !is_usual(value.get_ref())) {
            self.warn_at(key, format!("`{key}` has no effect: {why}"));
        }
    }

    /// Accepts a table or an array of tables that has no use here, with one warning.
    pub(in crate::dialects) fn pass_over(&mut self, key: &'static str, why: &str) {
        self.ignore(&[key], why);
    }

    /// A message that is already made.
    pub(in crate::dialects) fn report(&mut self, diagnostic: Diagnostic) {
        self.sink.diagnostics.push(diagnostic);
    }

    /// Whether a key is there, whatever its value.
    pub(in crate::dialects) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key) || self.copied(key).is_some()
    }

    /// Whether what people have copied from elsewhere is read as meant.
    pub(in crate::dialects) fn is_tolerant(&self) -> bool {
        self.sink.is_tolerant()
    }

    /// A warning-shaped message at the head of this table, to be completed later.
    pub(in crate::dialects) fn place(&self) -> Diagnostic {
        let span = self.span.clone();
        Diagnostic::new(Severity::Warning, self.sink.text, &span, "", None)
    }

    /// Reports every key that nobody asked for.
    pub(in crate::dialects) fn finish(self) {
        for (key, _) in self.table {
            let word: &str = key.get_ref();
            if self.known.contains(&word) || self.understood.iter().any(|it| it == word) {
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
        let copied = self.copied(key).map(|(wrong, _)| wrong);
        let key = copied.as_deref().filter(|_| !self.table.contains_key(key)).unwrap_or(key);
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
pub(in crate::dialects) fn article(value: &DeValue<'_>) -> String {
    match value.type_str() {
        word @ ("integer" | "array") => format!("an {word}"),
        word => format!("a {word}"),
    }
}
