//! Do the documents keep up with the code? Only what a program can tell.

#[cfg(test)]
mod tests {
    use crate::workspace::{root, rust_files};
    use std::collections::BTreeSet;

    /// The names of methods of the configuration's table reader that take a key.
    const READERS: &[&str] = &["read(\"", "set(\"", "require(\"", "table(\"", "each(\""];

    fn keys_of_the_parser() -> BTreeSet<String> {
        let folder = root().join("crates/config/src/dialects/native");
        let mut keys = BTreeSet::new();
        for path in rust_files(&folder).unwrap() {
            let text = std::fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for reader in READERS {
                let rests = code.split(reader).skip(1).filter_map(|rest| rest.split('"').next());
                keys.extend(rests.map(str::to_owned));
            }
        }
        keys
    }

    #[test]
    fn every_key_of_the_configuration_is_documented() {
        let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
        let keys = keys_of_the_parser();
        assert!(keys.len() > 40, "the parser's keys were not found: {keys:?}");
        let is_named = |key: &str| {
            [format!("`{key}`"), format!("[{key}]"), format!(".{key}]")]
                .iter()
                .any(|name| text.contains(name))
        };
        let missing: Vec<_> = keys.iter().filter(|key| !is_named(key)).collect();
        assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
    }

    /// The words in backticks: types, functions and modules, not commands or configuration.
    fn names_in(text: &str) -> BTreeSet<String> {
        let quoted = text.split('`').skip(1).step_by(2);
        let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let last = |word: &str| word.rsplit("::").next().unwrap_or_default().to_owned();
        quoted.filter(is_name).map(last).filter(|word| word.len() > 3).collect()
    }

    #[test]
    fn every_name_in_the_architecture_exists() {
        let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
        let mut code = String::new();
        for path in rust_files(&root().join("crates")).unwrap() {
            code += &format!("\n{} ", path.display()).replace(".rs ", " ").replace('/', " ");
            code += &std::fs::read_to_string(path).unwrap();
        }
        let words: BTreeSet<&str> = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let outside = ["time", "wire", "fuzz", "docs", "deploy", "benches", "xtask"];
        let names = names_in(&text);
        assert!(names.len() > 30, "{names:?}");
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !words.contains(name.as_str()) && !outside.contains(&name.as_str()))
            .collect();
        assert!(missing.is_empty(), "in ARCHITECTURE.md and nowhere else: {missing:?}");
    }
}
