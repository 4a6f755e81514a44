//! What is wrong with one vector, collected.

use std::fmt::Debug;

/// Collects what does not hold, and whether anything was checked at all.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    problems: Vec<String>,
    made: usize,
}

impl Checks {
    /// Checks that `holds`; otherwise `problem` is one.
    pub(crate) fn that(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        self.made += 1;
        if !holds {
            self.problems.push(problem());
        }
    }

    /// Checks that two values are equal.
    pub(crate) fn equal<T: PartialEq + Debug + ?Sized>(&mut self, what: &str, ours: &T, expected: &T) {
        self.that(ours == expected, || format!("{what}: {ours:?} instead of {expected:?}"));
    }

    /// Takes a value, or the reason why there is none as a problem.
    pub(crate) fn take<T>(&mut self, value: Result<T, String>) -> Option<T> {
        self.made += 1;
        value.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// Takes a value that the schema promises for this kind of vector.
    pub(crate) fn field<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        self.take(value.ok_or_else(|| format!("the vector has no {name}")))
    }

    /// The problems; a vector for which nothing was checked has one.
    pub(crate) fn into_problems(mut self) -> Vec<String> {
        if self.made == 0 {
            self.problems.push("nothing was checked".to_owned());
        }
        self.problems
    }
}
