//! SPDX licence expressions: is there a choice that only needs allowed licences?

use anyhow::{Result, bail, ensure};

/// Evaluates `A AND (B OR C WITH exception)`; `/` between names is the old way to write `OR`.
pub(super) fn is_allowed(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let result = parser.alternatives()?;
    ensure!(parser.words.is_empty(), "cannot read the licence `{expression}`");
    Ok(result)
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Parser<'_> {
    fn take(&mut self, wanted: &str) -> bool {
        let is_there = self.words.first() == Some(&wanted);
        if is_there {
            self.words = &self.words[1..];
        }
        is_there
    }

    fn alternatives(&mut self) -> Result<bool> {
        let mut result = self.conjunction()?;
        while self.take("OR") {
            result |= self.conjunction()?;
        }
        Ok(result)
    }

    fn conjunction(&mut self) -> Result<bool> {
        let mut result = self.term()?;
        while self.take("AND") {
            result &= self.term()?;
        }
        Ok(result)
    }

    fn term(&mut self) -> Result<bool> {
        if self.take("(") {
            let result = self.alternatives()?;
            ensure!(self.take(")"), "a licence expression with an open parenthesis");
            return Ok(result);
        }
        let Some((name, rest)) = self.words.split_first() else {
            bail!("a licence expression ends too early")
        };
        self.words = rest;
        let mut name = (*name).to_owned();
        if self.take("WITH") {
            let Some((exception, rest)) = self.words.split_first() else {
                bail!("WITH without an exception")
            };
            self.words = rest;
            // A licence with an exception permits more than the licence alone.
            if self.allowed.contains(&name) {
                return Ok(true);
            }
            name = format!("{name} WITH {exception}");
        }
        Ok(self.allowed.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    fn judge(expression: &str) -> bool {
        is_allowed(expression, &["MIT".to_owned(), "ISC".to_owned()]).unwrap()
    }

    #[test]
    fn a_choice_needs_one_allowed_licence_and_a_sum_all() {
        assert!(judge("MIT OR GPL-2.0"));
        assert!(judge("GPL-2.0/MIT"));
        assert!(!judge("MIT AND GPL-2.0"));
        assert!(judge("MIT AND ISC"));
        assert!(judge("(MIT OR GPL-2.0) AND ISC"));
        assert!(!judge("(MIT OR ISC) AND GPL-2.0"));
    }

    #[test]
    fn an_exception_does_not_hide_the_licence() {
        assert!(judge("MIT WITH some-exception"));
        assert!(!judge("GPL-2.0 WITH some-exception"));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(is_allowed("MIT OR", &[]).is_err());
        assert!(is_allowed("(MIT", &[]).is_err());
        assert!(is_allowed("MIT ISC", &[]).is_err());
    }
}
