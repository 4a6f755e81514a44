//! Messages about a configuration: file, line, column, the line itself with a caret, and the fix.

use std::fmt::{self, Display, Formatter, Write as _};
use std::ops::Range;

/// A named text to be read: one configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// File name, shown in messages.
    pub name: String,
    /// The whole file.
    pub contents: String,
}

impl Text {
    /// A text of a name.
    pub fn new(name: impl Into<String>, contents: impl Into<String>) -> Self {
        Self { name: name.into(), contents: contents.into() }
    }

    /// Line and column, both from 1 and in characters, of an octet offset.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.contents.get(..offset).unwrap_or(&self.contents);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[start..].chars().count() + 1)
    }
}

/// Messages after which reading stops: nobody reads more, and each costs a look at the whole text.
pub(crate) const MESSAGES_MAX: usize = 500;

/// Adds a message while there are not too many; the last one says that there were.
pub(crate) fn push(messages: &mut Vec<Diagnostic>, message: Diagnostic) {
    if messages.len() + 1 == MESSAGES_MAX {
        let text = format!("more than {MESSAGES_MAX} messages: this is no configuration");
        messages.push(Diagnostic { severity: Severity::Error, message: text, help: None, ..message });
    } else if messages.len() < MESSAGES_MAX {
        messages.push(message);
    }
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The configuration is used; something in it may not do what was meant.
    Warning,
    /// The configuration is not used.
    Error,
}

/// One message about one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// The fix, where there is an obvious one.
    pub help: Option<String>,
    /// File name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line itself, without its end.
    pub excerpt: String,
    /// Characters under which the carets stand, at least 1.
    pub width: usize,
}

impl Diagnostic {
    /// A message about a range of octets in a text.
    pub(crate) fn new(
        severity: Severity,
        text: &Text,
        span: &Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        let (line, column) = text.position(span.start);
        let excerpt = text.contents.lines().nth(line - 1).unwrap_or("").to_owned();
        let marked = text.contents.get(span.clone()).unwrap_or("");
        let first_line = marked.lines().next().unwrap_or("").trim_end();
        Self {
            severity,
            message: message.into(),
            help,
            file: text.name.clone(),
            line,
            column,
            excerpt,
            width: first_line.chars().count().max(1),
        }
    }

    /// The message as it is shown to a person, several lines without a final line end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let (word, code) = match self.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs are kept so that the caret stands under its text at any tab width.
        let indent: String =
            self.excerpt.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let mut out = format!("{}: {}\n", paint(code, word), self.message);
        let _ = writeln!(
            out,
            "{margin}--> {}:{}:{}\n{margin} |\n{number} | {}",
            self.file, self.line, self.column, self.excerpt
        );
        let _ = write!(out, "{margin} | {indent}{}", paint(code, &"^".repeat(self.width)));
        if let Some(help) = &self.help {
            let _ = write!(out, "\n{margin} = help: {help}");
        }
        out
    }
}

impl Display for Diagnostic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// All messages about a configuration, in the order of the text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is an error among the messages.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }

    /// How many of the messages are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// All messages as they are shown to a person, separated by empty lines.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let parts: Vec<String> = self.0.iter().map(|d| d.render(colour)).collect();
        parts.join("\n\n")
    }
}

impl Display for Diagnostics {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_marked_text_even_behind_tabs_and_wide_letters() {
        let text = Text::new("a.toml", "first\n\tnämé = oops\n");
        let start = text.contents.find("oops").expect("is there");
        let diagnostic = Diagnostic::new(
            Severity::Error,
            &text,
            &(start..start + 4),
            "no such thing",
            Some("write `true`".to_owned()),
        );
        assert_eq!((diagnostic.line, diagnostic.column), (2, 9));
        assert_eq!(
            diagnostic.to_string(),
            "error: no such thing\n --> a.toml:2:9\n  |\n2 | \tnämé = oops\n  | \t       ^^^^\n  \
             = help: write `true`"
        );
    }

    #[test]
    fn a_span_outside_of_the_text_is_shown_at_its_end() {
        let text = Text::new("a.toml", "x");
        let diagnostic = Diagnostic::new(Severity::Warning, &text, &(5..9), "gone", None);
        assert_eq!((diagnostic.line, diagnostic.column), (1, 2));
        assert!(diagnostic.render(true).contains("\x1b[1;33mwarning"));
    }
}
