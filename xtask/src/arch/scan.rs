//! Reads a source file as tokens and finds what its kind of crate must not contain.
//!
//! Tokens, not text: comments and strings cannot be mistaken for code, and a `use` tree is
//! expanded before it is judged. Names are not resolved, so a determined author can hide; the
//! clippy.toml of each pure crate, which sees resolved names, is the second line.

use super::layers::Kind;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::path::{Path, PathBuf};

/// Paths that a pure crate must not import or name; everything below them is meant too.
const WORLD_PATHS: &[(&str, &str)] = &[
    ("std::time::Instant", "reads a clock"),
    ("std::time::SystemTime", "reads a clock"),
    ("std::time::*", "might read a clock"),
    ("std::fs", "touches files"),
    ("std::os", "touches the system"),
    ("std::io::stdin", "touches files"),
    ("std::io::stdout", "touches files"),
    ("std::io::stderr", "touches files"),
    ("std::net::UdpSocket", "opens sockets"),
    ("std::net::TcpStream", "opens sockets"),
    ("std::net::TcpListener", "opens sockets"),
    ("std::net::ToSocketAddrs", "resolves names"),
    ("std::net::*", "might open sockets"),
    ("std::thread", "starts threads or sleeps"),
    ("std::env", "reads the environment"),
    ("std::process", "starts or ends processes"),
    ("std::collections::hash_map::RandomState", "draws random numbers"),
    ("std::hash::RandomState", "draws random numbers"),
    ("rand::rng", "draws random numbers"),
    ("rand::random", "draws random numbers"),
    ("rand::rngs", "draws random numbers"),
    ("getrandom", "draws random numbers"),
];

/// The same by the last words of a path, whatever it was imported as.
const WORLD_ENDINGS: &[(&str, &str)] = &[
    ("Instant::now", "reads a clock"),
    ("SystemTime::now", "reads a clock"),
    ("UnixTime::now", "reads a clock"),
    ("Timestamp::now", "reads a clock"),
    ("Zoned::now", "reads a clock"),
    ("UdpSocket::bind", "opens sockets"),
    ("TcpStream::connect", "opens sockets"),
    ("TcpListener::bind", "opens sockets"),
    ("OsRng", "draws random numbers"),
    ("SystemRandom", "draws random numbers"),
    ("thread_rng", "draws random numbers"),
    ("from_os_rng", "draws random numbers"),
    ("from_entropy", "draws random numbers"),
];

/// Macros that a pure crate must not use.
const WORLD_MACROS: &[(&str, &str)] = &[
    ("println", "prints"),
    ("print", "prints"),
    ("eprintln", "prints"),
    ("eprint", "prints"),
    ("thread_local", "keeps global state"),
];

/// Macros that have no place in finished code of any crate.
const UNFINISHED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

/// Types that make a `static` into global state.
const SHARED_STATE: &[&str] =
    &["Mutex", "RwLock", "OnceLock", "OnceCell", "LazyLock", "LazyCell", "Cell", "RefCell", "UnsafeCell"];

/// Where `unsafe` is allowed outside of crates/sys: code for instructions that not every processor has.
const VECTOR_CODE: &str = "crates/nts/src/vector";
/// The crate that has it, and so denies `unsafe` (which can be lifted) where others forbid it.
const VECTOR_LIBRARY: &str = "crates/nts/src/lib.rs";

/// One source file, without what exists only for its tests.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    tokens: Vec<Token>,
    test_modules: Vec<String>,
}

/// One token of the live code; groups are flattened, `::` is one token.
#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

/// A path named in the code: `std::fs::read`, and where.
struct NamedPath {
    text: String,
    line: usize,
}

impl Source {
    /// Splits the text into tokens and drops test-only items.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let stream: TokenStream = text.parse().map_err(|error| format!("cannot be read as Rust: {error}"))?;
        let mut source = Self { name: name.to_owned(), tokens: Vec::new(), test_modules: Vec::new() };
        source.keep_live(stream);
        Ok(source)
    }

    /// What is wrong with this file in a crate of that kind.
    pub(crate) fn complaints(&self, kind: Kind) -> Vec<String> {
        let mut complaints = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            if token.text == "unsafe" && kind != Kind::System && !self.is_vector_code() {
                complaints
                    .push(self.complain(token.line, "`unsafe` outside of crates/sys and nts's vector code"));
            }
            if self.is_macro(index) {
                complaints.extend(self.macro_complaint(token, kind));
            }
            if kind.is_pure() {
                complaints.extend(self.static_complaint(index));
            }
        }
        if kind.is_pure() {
            complaints.extend(self.paths().iter().filter_map(|path| self.path_complaint(path, kind)));
        }
        complaints
    }

    /// What is missing at the head of a pure crate's `lib.rs`.
    pub(crate) fn library_complaints(&self, kind: Kind) -> Vec<String> {
        let mut complaints = Vec::new();
        let joined = self.tokens.iter().map(|token| token.text.as_str()).collect::<String>();
        let word = if self.name == VECTOR_LIBRARY { "deny" } else { "forbid" };
        if !joined.contains(&format!("#![{word}(unsafe_code)]")) {
            complaints.push(self.complain(1, &format!("this crate needs #![{word}(unsafe_code)]")));
        }
        let is_no_std = joined.contains("#![no_std]") || joined.contains("#![cfg_attr(not(test),no_std)]");
        if kind == Kind::PureNoStd && !is_no_std {
            complaints.push(self.complain(1, "this crate is promised to be #![no_std]"));
        }
        complaints
    }

    /// The module `vector`: its file, and what is in its folder.
    fn is_vector_code(&self) -> bool {
        self.name.strip_prefix(VECTOR_CODE).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    fn complain(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.name)
    }

    fn is_macro(&self, index: usize) -> bool {
        let after =
            |distance: usize| self.tokens.get(index + distance).map_or("", |token| token.text.as_str());
        after(1) == "!" && matches!(after(2), "(" | "[" | "{")
    }

    fn macro_complaint(&self, token: &Token, kind: Kind) -> Option<String> {
        if UNFINISHED_MACROS.contains(&token.text.as_str()) {
            return Some(self.complain(token.line, &format!("`{}!` in finished code", token.text)));
        }
        let (name, what) = WORLD_MACROS.iter().find(|(name, _)| *name == token.text)?;
        kind.is_pure().then(|| self.complain(token.line, &format!("`{name}!` {what}")))
    }

    /// A `static` that can change is a global; `'static` is not a `static`.
    fn static_complaint(&self, index: usize) -> Option<String> {
        let token = &self.tokens[index];
        let before = index.checked_sub(1).map_or("", |before| self.tokens[before].text.as_str());
        if token.text != "static" || before == "'" {
            return None;
        }
        let declaration = self.tokens[index..].iter().take_while(|token| token.text != "=");
        let changes = declaration
            .map(|token| token.text.as_str())
            .any(|text| text == "mut" || text.starts_with("Atomic") || SHARED_STATE.contains(&text));
        changes.then(|| self.complain(token.line, "keeps global state"))
    }

    fn path_complaint(&self, path: &NamedPath, kind: Kind) -> Option<String> {
        let text = path.text.as_str();
        let below = |prefix: &str| {
            text.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let ends = |ending: &str| {
            text.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
        };
        let found = WORLD_PATHS.iter().find(|(prefix, _)| below(prefix));
        let found = found.or_else(|| WORLD_ENDINGS.iter().find(|(ending, _)| ends(ending)));
        if let Some((_, what)) = found {
            return Some(self.complain(path.line, &format!("`{text}` {what}")));
        }
        (kind == Kind::PureNoStd && below("std"))
            .then(|| self.complain(path.line, &format!("`{text}` in a crate without std")))
    }

    /// Flattens a token stream, leaving out items under `#[cfg(test)]` and `#[test]`.
    fn keep_live(&mut self, stream: TokenStream) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut index = 0;
        while index < trees.len() {
            if is_punct(&trees[index], '#') && trees.get(index + 1).is_some_and(is_test_attribute) {
                index = self.skip_item(&trees, index);
                continue;
            }
            self.keep(&trees, &mut index);
        }
    }

    fn keep(&mut self, trees: &[TokenTree], index: &mut usize) {
        let tree = &trees[*index];
        let line = tree.span().start().line;
        *index += 1;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                self.push(open, line);
                self.keep_live(group.stream());
                self.push(close, group.span_close().start().line);
            }
            TokenTree::Punct(punct)
                if punct.as_char() == ':' && trees.get(*index).is_some_and(|next| is_punct(next, ':')) =>
            {
                *index += 1;
                self.push("::", line);
            }
            // The text of a string could be anything: keep its place, not its words.
            TokenTree::Literal(_) => self.push("\"\"", line),
            other => self.push(&other.to_string(), line),
        }
    }

    fn push(&mut self, text: &str, line: usize) {
        self.tokens.push(Token { text: text.to_owned(), line });
    }

    /// From the `#` of a test attribute to behind the item it belongs to.
    fn skip_item(&mut self, trees: &[TokenTree], start: usize) -> usize {
        let mut index = start;
        while index < trees.len() && is_punct(&trees[index], '#') {
            index += 2;
        }
        let words: Vec<String> =
            trees[index.min(trees.len())..].iter().take(5).map(ToString::to_string).collect();
        if let Some(position) = words.iter().position(|word| word == "mod")
            && words.get(position + 2).is_some_and(|word| word == ";")
        {
            self.test_modules.push(words[position + 1].clone());
        }
        while let Some(tree) = trees.get(index) {
            index += 1;
            let is_body = matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
            if is_body || is_punct(tree, ';') {
                break;
            }
        }
        index
    }

    /// Every path in the live code; `use` trees are expanded.
    fn paths(&self) -> Vec<NamedPath> {
        let mut paths = Vec::new();
        let mut index = 0;
        while index < self.tokens.len() {
            let token = &self.tokens[index];
            if token.text == "use" {
                index += 1;
                self.use_tree(&mut index, "", &mut paths);
            } else if is_word(&token.text) {
                paths.push(self.plain_path(&mut index));
            } else {
                index += 1;
            }
        }
        paths
    }

    fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| token.text.as_str())
    }

    fn plain_path(&self, index: &mut usize) -> NamedPath {
        let line = self.tokens[*index].line;
        let mut text = self.text(*index).to_owned();
        *index += 1;
        while self.text(*index) == "::" && is_word(self.text(*index + 1)) {
            text = format!("{text}::{}", self.text(*index + 1));
            *index += 2;
        }
        NamedPath { text, line }
    }

    /// `a::{b, c::d as e, self, *}` into `a::b`, `a::c::d`, `a`, `a::*`.
    fn use_tree(&self, index: &mut usize, prefix: &str, paths: &mut Vec<NamedPath>) {
        let mut path = prefix.to_owned();
        loop {
            let line = self.tokens.get(*index).map_or(0, |token| token.line);
            match self.text(*index) {
                "::" => *index += 1,
                "{" => {
                    *index += 1;
                    while !matches!(self.text(*index), "}" | "") {
                        self.use_tree(index, &path, paths);
                        if self.text(*index) == "," {
                            *index += 1;
                        }
                    }
                    *index += 1;
                    return;
                }
                "as" => *index += 2,
                "self" if !path.is_empty() => *index += 1,
                word if is_word(word) || word == "*" => {
                    path = if path.is_empty() { word.to_owned() } else { format!("{path}::{word}") };
                    *index += 1;
                }
                // `use<'a>` in a signature, or the end of this branch.
                other => {
                    if !matches!(other, "," | "}" | ";") {
                        *index += 1;
                    }
                    if path != prefix || !path.is_empty() {
                        paths.push(NamedPath { text: path, line });
                    }
                    return;
                }
            }
        }
    }
}

/// Where the modules that this file declares under `#[cfg(test)]` have their files, without `.rs`.
pub(crate) fn test_module_paths(path: &Path, source: &Source) -> Vec<PathBuf> {
    let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|name| path.ends_with(name));
    let folder = if is_root { path.parent().unwrap_or(path).to_owned() } else { path.with_extension("") };
    source.test_modules.iter().map(|module| folder.join(module)).collect()
}

fn is_punct(tree: &TokenTree, wanted: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// `[test]`, `[cfg(test)]`, `[cfg(all(test, …))]`; not `[cfg(not(test))]`.
fn is_test_attribute(tree: &TokenTree) -> bool {
    let text: String = tree.to_string().split_whitespace().collect();
    let is_cfg = text.starts_with("[cfg(test") || text.starts_with("[cfg(all(test");
    is_cfg || text == "[test]"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(kind: Kind, text: &str) -> Vec<String> {
        Source::parse("sample.rs", text).unwrap().complaints(kind)
    }

    fn is_bad(text: &str) {
        assert!(!complaints(Kind::Pure, text).is_empty(), "not noticed: {text}");
    }

    fn is_good(text: &str) {
        assert_eq!(complaints(Kind::Pure, text), Vec::<String>::new(), "{text}");
    }

    #[test]
    fn clocks_are_noticed_however_they_are_named() {
        is_bad("fn f() { let t = std::time::Instant::now(); }");
        is_bad("use std::time::{Duration, Instant};");
        is_bad("use std::{fmt, time::{self, SystemTime as Wall}};");
        is_bad("use std::time; fn f() { time::SystemTime::now(); }");
        is_bad("use std::time::*;");
        is_bad("fn f() { rustls_pki_types::UnixTime::now(); }");
        is_good("use std::time::Duration; fn f(d: Duration) -> u64 { d.as_secs() }");
    }

    #[test]
    fn random_sources_are_noticed() {
        is_bad("fn f() -> u8 { rand::random() }");
        is_bad("fn f() { let r = rand::rng(); }");
        is_bad("fn f(o: &mut [u8]) { getrandom::fill(o); }");
        is_bad("use rand_core::OsRng;");
        is_bad("fn f() { ChaCha20Rng::from_os_rng(); }");
        is_good("use rand_chacha::ChaCha20Rng;");
    }

    #[test]
    fn files_sockets_threads_and_environment_are_noticed() {
        is_bad("use std::fs;");
        is_bad("fn f() { std::fs::read(\"x\"); }");
        is_bad("use std::net::{IpAddr, UdpSocket};");
        is_bad("fn f() { ::std::thread::sleep(d); }");
        is_bad("fn f() { std::env::var(\"HOME\"); }");
        is_bad("use std::os::fd::AsRawFd;");
        is_bad("fn f() { std::process::exit(1); }");
        is_good("use std::net::{IpAddr, SocketAddr};");
        is_good("const NAME: &str = env!(\"CARGO_PKG_NAME\");");
    }

    #[test]
    fn printing_and_global_state_are_noticed() {
        is_bad("fn f() { println!(\"x\"); }");
        is_bad("thread_local! { static X: u8 = 1; }");
        is_bad("static COUNT: std::sync::atomic::AtomicU64 = AtomicU64::new(0);");
        is_bad("static mut X: u8 = 0;");
        is_good("static NAMES: &[&str] = &[\"a\"]; fn f(x: &'static str, m: Mutex<u8>) {}");
    }

    #[test]
    fn code_inside_macros_is_seen() {
        is_bad("fn f() { assert!(std::time::Instant::now() > x); }");
        is_bad("macro_rules! now { () => { SystemTime::now() } }");
    }

    #[test]
    fn words_in_comments_and_strings_are_not_code() {
        is_good(
            "/// Never calls std::fs::read or println!\nfn f() -> &'static str { \"std::fs::read unsafe\" } // std::env::var",
        );
    }

    #[test]
    fn tests_may_touch_the_world_and_what_follows_them_may_not() {
        is_good("#[cfg(test)]\nmod tests { use std::fs; fn f() { println!(\"x\"); } }");
        is_good("#[cfg(test)] #[path = \"x.rs\"] mod tests;\nfn f() {}");
        is_good("#[test] fn reads() { std::fs::read(\"x\"); }");
        is_bad("#[cfg(test)] mod tests { }\nfn f() { std::fs::read(\"x\"); }");
        is_bad("#[cfg(not(test))] fn f() { std::fs::read(\"x\"); }");
    }

    #[test]
    fn unsafe_is_for_sys_alone() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(
            complaints(Kind::Pure, text),
            ["sample.rs:1: `unsafe` outside of crates/sys and nts's vector code"]
        );
        assert_eq!(complaints(Kind::World, text).len(), 1);
        assert_eq!(complaints(Kind::System, text).len(), 0);
    }

    #[test]
    fn unsafe_is_allowed_in_the_vector_code_and_nowhere_beside_it() {
        let complaints =
            |name| Source::parse(name, "fn f() { unsafe { g() } }").unwrap().complaints(Kind::Pure).len();
        for (name, expected) in [
            ("crates/nts/src/vector.rs", 0),
            ("crates/nts/src/vector/x86.rs", 0),
            ("crates/nts/src/vectors.rs", 1),
            ("crates/nts/src/siv.rs", 1),
            ("crates/ke/src/vector.rs", 1),
        ] {
            assert_eq!(complaints(name), expected, "{name}");
        }
        let head =
            |name| Source::parse(name, "#![deny(unsafe_code)]").unwrap().library_complaints(Kind::Pure).len();
        assert_eq!((head("crates/nts/src/lib.rs"), head("crates/ke/src/lib.rs")), (0, 1));
    }

    #[test]
    fn world_crates_may_act_but_not_be_unfinished() {
        assert!(complaints(Kind::World, "fn f() { std::fs::read(\"x\"); println!(\"x\"); }").is_empty());
        assert_eq!(
            complaints(Kind::World, "fn f() {\n todo!() }"),
            ["sample.rs:2: `todo!` in finished code"]
        );
    }

    #[test]
    fn the_head_of_a_library_is_checked() {
        let head = |kind, text| Source::parse("lib.rs", text).unwrap().library_complaints(kind).len();
        assert_eq!(head(Kind::Pure, "//! Words.\n#![forbid(unsafe_code)]\nmod a;"), 0);
        assert_eq!(head(Kind::Pure, "mod a;"), 1);
        assert_eq!(head(Kind::PureNoStd, "#![forbid(unsafe_code)]"), 1);
        assert_eq!(head(Kind::PureNoStd, "#![cfg_attr(not(test), no_std)]\n#![forbid(unsafe_code)]"), 0);
    }

    #[test]
    fn a_crate_without_std_does_not_name_it() {
        assert_eq!(complaints(Kind::PureNoStd, "use std::vec::Vec;").len(), 1);
        assert_eq!(complaints(Kind::PureNoStd, "use core::fmt;").len(), 0);
    }

    #[test]
    fn files_of_test_modules_are_found() {
        let source = Source::parse("x", "#[cfg(test)] mod tests; #[cfg(test)] pub(crate) mod fake;").unwrap();
        let paths = test_module_paths(Path::new("/c/src/lib.rs"), &source);
        assert_eq!(paths[0], Path::new("/c/src/tests"));
        let paths = test_module_paths(Path::new("/c/src/mac.rs"), &source);
        assert_eq!(paths[0], Path::new("/c/src/mac/tests"));
    }
}
