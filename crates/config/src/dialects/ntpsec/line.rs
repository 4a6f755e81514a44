//! One line of ntp.conf: its words, what they must look like, and what to say when they do not.

use std::ops::{Range, RangeInclusive};

use crate::Text;
use crate::suggest::nearest;

/// A mistake and its place.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// Whether it stops ntpd.
    pub(super) fatal: bool,
}

impl Fault {
    pub(super) fn new(word: &Word<'_>, message: impl Into<String>) -> Self {
        Self { span: word.span(), message: message.into(), help: None, fatal: false }
    }

    pub(super) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    pub(super) fn fatal(self) -> Self {
        Self { fatal: true, ..self }
    }
}

pub(super) type Parsed<T> = Result<T, Fault>;

/// A word without its quotation marks, and the octet at which it starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'t> {
    pub(super) text: &'t str,
    start: usize,
    pub(super) is_quoted: bool,
}

impl Word<'_> {
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// Whether ntpd reads it as a number, so that it cannot be a string.
    fn is_number(&self) -> bool {
        !self.is_quoted && (float(self.text).is_some() || hexadecimal(self.text).is_some())
    }
}

/// A command and its arguments, which are taken one after another.
pub(super) struct Line<'t> {
    pub(super) text: &'t Text,
    pub(super) command: Word<'t>,
    arguments: Vec<Word<'t>>,
    taken: usize,
}

impl<'t> Line<'t> {
    /// The words of the line that starts at the octet `start` of `text`; `None` when there is none.
    pub(super) fn split(text: &'t Text, line: &'t str, start: usize) -> Option<Self> {
        let mut words = Words { line, at: 0, start };
        let command = words.next()?;
        Some(Self { text, command, arguments: words.collect(), taken: 0 })
    }

    /// The next argument, if there is one.
    pub(super) fn next(&mut self) -> Option<Word<'t>> {
        let word = self.arguments.get(self.taken).copied();
        self.taken += usize::from(word.is_some());
        word
    }

    /// The next argument without taking it.
    pub(super) fn peek(&self) -> Option<Word<'t>> {
        self.arguments.get(self.taken).copied()
    }

    /// All arguments that are not yet taken.
    pub(super) fn rest(&mut self) -> Vec<Word<'t>> {
        let rest = self.arguments[self.taken..].to_vec();
        self.taken = self.arguments.len();
        rest
    }

    /// The next argument, which must be there; `what` says what it is.
    pub(super) fn require(&mut self, what: &str) -> Parsed<Word<'t>> {
        let after = self.taken.checked_sub(1).map_or(self.command, |last| self.arguments[last]);
        self.next().ok_or_else(|| Fault::new(&after, format!("`{}` is followed by {what}", after.text)))
    }

    /// The next argument, a string; what looks like a number must be quoted.
    pub(super) fn string(&mut self, what: &str) -> Parsed<Word<'t>> {
        let word = self.require(what)?;
        if word.is_number() {
            let fault = Fault::new(&word, format!("`{}` is a number, and {what} is needed", word.text));
            return Err(fault);
        }
        Ok(word)
    }

    /// No more arguments are allowed.
    pub(super) fn end(&self) -> Parsed<()> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(Fault::new(&word, format!("`{}` has too many arguments", self.command.text))),
        }
    }

    /// An integer, decimal or hexadecimal.
    pub(super) fn integer(&mut self) -> Parsed<i64> {
        let word = self.require("an integer")?;
        let number = word.text.parse().ok().or_else(|| hexadecimal(word.text));
        number
            .filter(|_| !word.is_quoted)
            .ok_or_else(|| Fault::new(&word, format!("`{}` is not an integer", word.text)))
    }

    /// An integer in a range.
    pub(super) fn integer_in(&mut self, range: &RangeInclusive<i64>) -> Parsed<i64> {
        let word = self.peek();
        let number = self.integer()?;
        match word {
            Some(word) if !range.contains(&number) => {
                let message = format!("{number} is not from {} to {}", range.start(), range.end());
                Err(Fault::new(&word, message))
            }
            _ => Ok(number),
        }
    }

    /// A number with or without a fraction.
    pub(super) fn number(&mut self) -> Parsed<f64> {
        let word = self.require("a number")?;
        float(word.text)
            .filter(|_| !word.is_quoted)
            .ok_or_else(|| Fault::new(&word, format!("`{}` is not a number", word.text)))
    }
}

/// A finite decimal number; `g` and `G` behind it add GPS eras of 1024 and 8192 weeks, in seconds.
fn float(text: &str) -> Option<f64> {
    const WEEK: f64 = 604_800.0;
    let digits = text.trim_end_matches(['g', 'G']);
    let eras = text[digits.len()..].chars().map(|era| if era == 'g' { 1024.0 } else { 8192.0 } * WEEK);
    let begins = |c: char| c.is_ascii_digit() || ['-', '.'].contains(&c);
    let number: f64 = digits.starts_with(begins).then(|| digits.parse().ok())??;
    let sum = number + eras.sum::<f64>();
    sum.is_finite().then_some(sum)
}

fn hexadecimal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    u32::from_str_radix(digits, 16).ok().map(i64::from)
}

struct Words<'t> {
    line: &'t str,
    at: usize,
    start: usize,
}

impl<'t> Iterator for Words<'t> {
    type Item = Word<'t>;

    /// Blanks separate words, `#` ends the line even within a word, and quotation marks hold blanks together.
    fn next(&mut self) -> Option<Word<'t>> {
        let rest = &self.line[self.at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{b}', '\u{c}']);
        self.at += rest.len() - trimmed.len();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return None;
        }
        if let Some(quoted) = trimmed.strip_prefix('"') {
            let end = quoted.find(['"', '\n', '\r']).unwrap_or(quoted.len());
            let start = self.start + self.at + 1;
            self.at += 1 + end + usize::from(quoted[end..].starts_with('"'));
            return Some(Word { text: &quoted[..end], start, is_quoted: true });
        }
        let end = trimmed
            .find(|c: char| c.is_ascii_whitespace() || ['#', '"', '\u{b}'].contains(&c))
            .unwrap_or(trimmed.len());
        let start = self.start + self.at;
        self.at += end;
        Some(Word { text: &trimmed[..end], start, is_quoted: false })
    }
}

/// The fault of a word that is not among those known.
pub(super) fn unknown(word: &Word<'_>, what: &str, known: &[&str]) -> Fault {
    let fault = Fault::new(word, format!("unknown {what} `{}`", word.text));
    let other_case = known.iter().copied().find(|known| known.eq_ignore_ascii_case(word.text));
    match other_case.or_else(|| nearest(word.text, known)) {
        Some(near) => fault.with_help(format!("did you mean `{near}`?")),
        None => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let text = Text::new("t", line);
        let Some(mut line) = Line::split(&text, &text.contents, 0) else { return Vec::new() };
        std::iter::once(line.command).chain(line.rest()).map(|word| word.text.to_owned()).collect()
    }

    #[test]
    fn comments_end_words_and_quotation_marks_hold_them_together() {
        assert_eq!(words("server \"a b\" iburst# glued"), ["server", "a b", "iburst"]);
        assert_eq!(words("logfile \"not closed # here\n"), ["logfile", "not closed # here"]);
        assert_eq!(words("  # only a comment"), [""; 0]);
        assert_eq!(words("a\t\tb\r\n"), ["a", "b"]);
    }

    #[test]
    fn numbers_are_decimal_hexadecimal_or_have_exponents_and_eras() {
        assert_eq!(float("-1.5e-3"), Some(-1.5e-3));
        assert_eq!(float(".005"), Some(0.005));
        assert_eq!(float("0.5g"), Some(0.5 + 1024.0 * 604_800.0));
        assert_eq!((float("inf"), float("nan"), float("1e999"), float("g")), (None, None, None, None));
        assert_eq!((hexadecimal("0x10"), hexadecimal("10")), (Some(16), None));
    }
}
