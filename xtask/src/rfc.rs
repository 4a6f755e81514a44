//! `rfc`: which sections of which RFC the code cites, and which of them a test cites too.

use crate::Outcome;
use crate::workspace::{root, rust_files};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Where a section is cited.
#[derive(Default)]
struct Citations {
    code: Vec<String>,
    tests: Vec<String>,
}

/// Prints one line per cited section, with the number of places in code and in tests. With
/// `--places` every place is listed; with a word such as `8915` only sections of that RFC.
pub(crate) fn run(arguments: &[String]) -> Result<Outcome> {
    let shows_places = arguments.iter().any(|argument| argument == "--places");
    let wanted = arguments.iter().find(|argument| argument.chars().all(|c| c.is_ascii_digit()));
    let citations = collect()?;
    for ((rfc, section), places) in &citations {
        if wanted.is_some_and(|wanted| wanted != &rfc.to_string()) {
            continue;
        }
        let title = if section.is_empty() { format!("RFC {rfc}") } else { format!("RFC {rfc} §{section}") };
        println!("{title:22} code {:3}  tests {:3}", places.code.len(), places.tests.len());
        if shows_places {
            for (kind, places) in [("code", &places.code), ("test", &places.tests)] {
                places.iter().for_each(|place| println!("    {kind} {place}"));
            }
        }
    }
    println!("{} sections cited", citations.len());
    Ok(Outcome::Passed)
}

fn collect() -> Result<BTreeMap<(u32, String), Citations>> {
    let root = root();
    let mut citations: BTreeMap<(u32, String), Citations> = BTreeMap::new();
    for folder in ["crates", "tests", "benches"] {
        for path in rust_files(&root.join(folder))? {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
            let mut is_test = name.contains("/tests") || name.starts_with("tests/");
            for (index, line) in text.lines().enumerate() {
                is_test |= line.trim() == "#[cfg(test)]";
                for citation in cited(line) {
                    let places = citations.entry(citation).or_default();
                    let list = if is_test { &mut places.tests } else { &mut places.code };
                    list.push(format!("{name}:{}", index + 1));
                }
            }
        }
    }
    Ok(citations)
}

/// All citations of the form `RFC 8915 §5.7` or `RFC 8915` in one line.
fn cited(line: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for part in line.split("RFC ").skip(1) {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        let Ok(rfc) = digits.parse() else { continue };
        let rest = part[digits.len()..].trim_start_matches([',', ' ']);
        let section: String = rest
            .strip_prefix('§')
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect())
            .unwrap_or_default();
        found.push((rfc, section.trim_end_matches('.').to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::cited;

    #[test]
    fn citations_are_found_with_and_without_section() {
        let line = "/// See RFC 8915 §5.7. Also RFC 5905 and RFC 7822, §7.5.1.4";
        let expected =
            [(8915, "5.7"), (5905, ""), (7822, "7.5.1.4")].map(|(rfc, text)| (rfc, text.to_owned()));
        assert_eq!(cited(line), expected);
        assert!(cited("an RFC is cited").is_empty());
    }
}
