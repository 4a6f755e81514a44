//! One line: its words, what they must look like, and what to say when they do not.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use crate::Text;
use crate::suggest::nearest;

/// A mistake and its place.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(word: &Word<'_>, message: impl Into<String>) -> Self {
        Self { span: word.span(), message: message.into(), help: None }
    }

    pub(super) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

pub(super) type Parsed<T> = Result<T, Fault>;

/// A word and the octet at which it starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'t> {
    pub(super) text: &'t str,
    start: usize,
}

impl Word<'_> {
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// The word in the lower case in which directives and options are known.
    pub(super) fn folded(&self) -> String {
        self.text.to_ascii_lowercase()
    }
}

/// A directive and its arguments, which are taken one after another.
pub(super) struct Line<'t> {
    pub(super) text: &'t Text,
    pub(super) directive: Word<'t>,
    arguments: Vec<Word<'t>>,
    taken: usize,
}

impl<'t> Line<'t> {
    /// The words of the line that starts at the octet `start` of `text`; `None` when it is empty or a comment.
    ///
    /// The second value is a comment behind the directive: chrony has none, but people write them.
    pub(super) fn split(text: &'t Text, line: &'t str, start: usize) -> Option<(Self, Option<Word<'t>>)> {
        if line.trim_start().starts_with(['!', ';', '#', '%']) {
            return None;
        }
        let offset = |word: &str| start + (word.as_ptr() as usize - line.as_ptr() as usize);
        let words = line.split_ascii_whitespace();
        let mut words = words.map(|word| Word { text: word, start: offset(word) });
        let directive = words.next()?;
        let mut arguments: Vec<Word<'t>> = words.collect();
        let comment = arguments.iter().position(|word| word.text.starts_with('#'));
        let comment = comment.map(|at| {
            let word = arguments[at];
            arguments.truncate(at);
            word
        });
        Some((Self { text, directive, arguments, taken: 0 }, comment))
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

    /// The next argument, which must be there; `what` says what it is.
    pub(super) fn require(&mut self, what: &str) -> Parsed<Word<'t>> {
        let after = self.taken.checked_sub(1).map_or(self.directive, |last| self.arguments[last]);
        self.next().ok_or_else(|| Fault::new(&after, format!("`{}` is followed by {what}", after.text)))
    }

    /// No more arguments are allowed.
    pub(super) fn end(&self) -> Parsed<()> {
        match self.peek() {
            None => Ok(()),
            Some(word) => {
                let message = format!("`{}` has too many arguments", self.directive.text);
                Err(Fault::new(&word, message))
            }
        }
    }

    /// The only argument of a directive.
    pub(super) fn only(&mut self, what: &str) -> Parsed<Word<'t>> {
        let word = self.require(what)?;
        self.end()?;
        Ok(word)
    }

    /// An integer in a range.
    pub(super) fn integer<T>(&mut self, range: &RangeInclusive<T>) -> Parsed<T>
    where
        T: Copy + PartialOrd + Display + FromStr,
    {
        let wanted = format!("an integer from {} to {}", range.start(), range.end());
        let word = self.require(&wanted)?;
        let number = word.text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| Fault::new(&word, format!("`{}` is not {wanted}", word.text)))
    }

    /// The only argument of a directive, an integer in a range.
    pub(super) fn only_integer<T>(&mut self, range: &RangeInclusive<T>) -> Parsed<T>
    where
        T: Copy + PartialOrd + Display + FromStr,
    {
        let number = self.integer(range)?;
        self.end()?;
        Ok(number)
    }

    /// A real number; infinities are accepted.
    pub(super) fn real(&mut self) -> Parsed<f64> {
        let word = self.require("a number")?;
        let number = word.text.parse::<f64>().ok().filter(|number| !number.is_nan());
        number.ok_or_else(|| Fault::new(&word, format!("`{}` is not a number", word.text)))
    }

    /// A real number that is at least 0.
    pub(super) fn real_from_zero(&mut self) -> Parsed<f64> {
        let word = self.peek();
        let number = self.real()?;
        match word {
            Some(word) if number < 0.0 => Err(Fault::new(&word, "must be at least 0")),
            _ => Ok(number),
        }
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
