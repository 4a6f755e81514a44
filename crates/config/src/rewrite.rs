//! A configuration of another program as one of our own: values, comments, and what is lost on the way.

use crate::dialects::{Dialect, native};
use crate::write::{Detail, write};
use crate::{Diagnostic, Loaded, Model, Origin, Text};

/// A configuration in the native dialect, and what it does not say any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rewritten {
    /// The file.
    pub text: String,
    /// What the original says and the file does not, a sentence each with the place.
    pub lost: Vec<String>,
}

/// Writes what was read from `texts` (in the order in which they were read) as the native dialect.
///
/// What the original had and has no effect here is lost; so is whatever does not read back from what is written, which is
/// tried. Both are listed in the result and at the end of the file.
#[must_use]
pub fn rewrite(loaded: &Loaded, texts: &[Text], dialect: Dialect) -> Rewritten {
    let mut comments: Vec<Comment> = texts.iter().flat_map(|text| comments_of(text, dialect)).collect();
    let body = write(&loaded.model, Detail::Differences, &mut |origin| take(&mut comments, origin));
    let names: Vec<&str> = texts.iter().map(|text| text.name.as_str()).collect();
    let mut text = format!(
        "# Made by `chime config convert` from {}, {}.\n",
        dialect.description(),
        clean(&names.join(", "))
    );
    if !comments.is_empty() {
        text.push_str("#\n# Comments that belong to no source:\n");
    }
    for comment in &comments {
        if let Some(about) = &comment.about {
            text.push_str(&format!("#\n# at `{}`:\n", clean(about)));
        }
        for line in &comment.lines {
            text.push_str(&format!("# {line}\n"));
        }
    }
    text.push('\n');
    text.push_str(&body);
    let mut lost: Vec<String> = loaded.warnings.0.iter().map(sentence).collect();
    lost.extend(unread(&loaded.model, &text));
    if !lost.is_empty() {
        text.push_str("\n# Not in this file, or different from the original:\n");
    }
    for sentence in &lost {
        text.push_str(&format!("# - {}\n", clean(sentence)));
    }
    Rewritten { text, lost }
}

fn sentence(warning: &Diagnostic) -> String {
    let message = warning.message.replace('\n', " ");
    format!("{}:{}: {message}", warning.file, warning.line)
}

/// What of the model does not come back when the text is read.
fn unread(model: &Model, text: &str) -> Vec<String> {
    let read = match native::parse(&Text::new("the converted file", text), &[]) {
        Ok(read) => read.model,
        Err(mistakes) => {
            return vec![format!("this file is not read: {}", mistakes.to_string().replace('\n', " "))];
        }
    };
    let (wanted, got) = (shown(model), shown(&read));
    let mut missing = Vec::new();
    for (line, other) in wanted.lines().zip(got.lines()).filter(|(line, other)| line != other) {
        missing.push(format!("{} is read back as {}", line.trim(), other.trim()));
    }
    if missing.is_empty() && wanted != got {
        missing.push("the converted file does not read back into the same configuration".to_owned());
    }
    missing
}

/// The model without the places where it was configured.
fn shown(model: &Model) -> String {
    let mut model = model.clone();
    // Only chronyd begins to serve when a command says so: here a server has its own table.
    model.servers_in_waiting.clear();
    model.sources.iter_mut().for_each(|source| source.origin = None);
    model.reference_clocks.iter_mut().for_each(|clock| clock.origin = None);
    model.nts_ke_servers.iter_mut().for_each(|server| server.origin = None);
    format!("{model:#?}")
}

/// Comment lines that stand together, and the line that they are about.
struct Comment {
    file: String,
    lines: Vec<String>,
    /// The line behind them, or on which they stand.
    at: usize,
    about: Option<String>,
}

fn take(comments: &mut Vec<Comment>, origin: &Origin) -> Vec<String> {
    let mut lines = Vec::new();
    comments.retain(|comment| {
        let is_it = comment.file == origin.file && comment.at == origin.line;
        if is_it {
            lines.extend(comment.lines.iter().cloned());
        }
        !is_it
    });
    lines
}

fn comments_of(text: &Text, dialect: Dialect) -> Vec<Comment> {
    let mut found = Vec::new();
    let mut block: Vec<String> = Vec::new();
    let mut table = 0;
    let flush = |block: &mut Vec<String>, found: &mut Vec<Comment>, at: usize, about: Option<&str>| {
        if !block.is_empty() {
            let lines = std::mem::take(block);
            let about = about.map(str::to_owned);
            found.push(Comment { file: text.name.clone(), lines, at, about });
        }
    };
    for (index, line) in text.contents.lines().enumerate() {
        let (content, comment) = split_comment(line, dialect);
        let content = content.trim();
        if let Some(comment) = comment {
            block.push(clean(comment));
        }
        if content.is_empty() {
            if comment.is_none() {
                flush(&mut block, &mut found, 0, None);
            }
            continue;
        }
        let is_toml = matches!(dialect, Dialect::Native | Dialect::NtpdRs);
        if !is_toml || content.starts_with("[[") {
            table = index + 1;
        }
        flush(&mut block, &mut found, table, Some(content));
    }
    flush(&mut block, &mut found, 0, None);
    found
}

/// A comment without what would end it early in TOML.
fn clean(comment: &str) -> String {
    comment.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What a line says, and the comment on it without its sign.
fn split_comment(line: &str, dialect: Dialect) -> (&str, Option<&str>) {
    if dialect == Dialect::Chrony {
        let trimmed = line.trim_start();
        if let Some(comment) = trimmed.strip_prefix(['!', ';', '#', '%']) {
            return ("", Some(comment));
        }
        return match line.find(" #").or_else(|| line.find("\t#")) {
            Some(at) => (&line[..at], Some(&line[at + 2..])),
            None => (line, None),
        };
    }
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (c, quote) {
            ('#', None) => return (&line[..at], Some(&line[at + 1..])),
            ('"' | '\'', None) if c == '"' || dialect != Dialect::Ntpsec => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    (line, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_with_the_line_behind_them_or_their_own() {
        let text = Text::new("f", "# one\n# two\nserver a\n\n# alone\n\nserver b # three\nmakestep 1 3\n");
        let found = comments_of(&text, Dialect::Ntpsec);
        let seen: Vec<(usize, String)> = found.iter().map(|it| (it.at, it.lines.join("/"))).collect();
        assert_eq!(seen, [(3, "one/two".into()), (0, "alone".into()), (7, "three".into())]);
        assert_eq!(split_comment("a = \"#\" # b", Dialect::NtpdRs), ("a = \"#\" ", Some(" b")));
        assert_eq!(split_comment("  % x", Dialect::Chrony), ("", Some(" x")));
        assert_eq!(split_comment("server a#b", Dialect::Chrony), ("server a#b", None));
    }
}
