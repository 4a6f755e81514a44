//! File names by pattern, as in glob(7): `*`, `?` and `[...]`, none of which stands for a slash or for a leading dot.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Paths that a pattern may stand for.
const PATHS_MAX: usize = 1000;

/// The paths that match, in the order of their names. A pattern without wildcards is the path itself, there or not.
///
/// # Errors
/// When it cannot be told what matches, as in a folder that may not be read.
pub(crate) fn paths(pattern: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for component in Path::new(pattern).components() {
        let name = component.as_os_str();
        let wild = name.to_str().filter(|name| name.contains(['*', '?', '[']));
        found = match (component, wild) {
            (Component::Normal(_), Some(wild)) => {
                let wild: Vec<char> = wild.chars().collect();
                let mut matching = Vec::new();
                for folder in &found {
                    matching.extend(entries(folder, &wild)?);
                }
                matching.truncate(PATHS_MAX);
                matching
            }
            _ => found.into_iter().map(|path| path.join(name)).collect(),
        };
    }
    if !pattern.contains(['*', '?', '[']) {
        return Ok(found);
    }
    let mut there = Vec::with_capacity(found.len());
    for path in found {
        if path.try_exists()? {
            there.push(path);
        }
    }
    Ok(there)
}

/// What matches in one folder, by name.
fn entries(folder: &Path, pattern: &[char]) -> io::Result<Vec<PathBuf>> {
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let names = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.retain(|name| {
        let hidden = name.starts_with('.') && pattern.first() != Some(&'.');
        !hidden && matches(pattern, &name.chars().collect::<Vec<_>>())
    });
    names.sort();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Whether the whole of `name` matches. Of several `*` only the last is ever taken back, which is enough.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while position < name.len() {
        if pattern.get(at) == Some(&'*') {
            retry = Some((at + 1, position));
            at += 1;
        } else if let Some(length) = one(&pattern[at..], name[position]) {
            at += length;
            position += 1;
        } else if let Some((after, from)) = retry {
            (at, position) = (after, from + 1);
            retry = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// How much of the pattern the letter is matched by, if at all.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let negated = matches!(pattern.get(1), Some('!' | '^'));
            let start = 1 + usize::from(negated);
            // A bracket that comes first is a letter of the set.
            let Some(end) = (start + 1..pattern.len()).find(|at| pattern[*at] == ']') else {
                return (letter == '[').then_some(1);
            };
            (in_set(&pattern[start..end], letter) != negated).then_some(end + 1)
        }
        plain => (*plain == letter).then_some(1),
    }
}

fn in_set(set: &[char], letter: char) -> bool {
    let mut rest = set;
    while let [first, tail @ ..] = rest {
        if let ['-', last, after @ ..] = tail {
            if (*first..=*last).contains(&letter) {
                return true;
            }
            rest = after;
        } else {
            if *first == letter {
                return true;
            }
            rest = tail;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_letters() {
        let check = |pattern: &str, name: &str| {
            matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        for (pattern, name) in [
            ("*.conf", "a.conf"),
            ("*", "x"),
            ("a*b*c", "aXbYbZc"),
            ("[0-9]?-*", "10-a"),
            ("[!a]b", "xb"),
            ("[]x]", "]"),
            ("a[", "a["),
        ] {
            assert!(check(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.conf", "a.config"), ("[!a]b", "ab"), ("?", ""), ("a*b", "ac"), ("", "a")]
        {
            assert!(!check(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn paths_come_by_name_and_hidden_ones_do_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            fs::write(folder.path().join(name), "").expect("it can be written");
        }
        let pattern = folder.path().join("*.conf");
        let paths = |pattern: &str| paths(pattern).expect("it can be read");
        let found = paths(pattern.to_str().expect("a name in UTF-8"));
        assert_eq!(found, [folder.path().join("a.conf"), folder.path().join("b.conf")]);
        assert_eq!(paths("/nonexistent/x"), [PathBuf::from("/nonexistent/x")]);
        assert!(paths("/nonexistent/*").is_empty());
    }
}
