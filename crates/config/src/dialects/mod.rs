//! The file formats that are read into the one [`crate::Model`].

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::Text;

pub mod chrony;
pub mod native;

/// A file format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Our own, in TOML.
    Native,
    /// chrony.conf.
    Chrony,
}

impl Dialect {
    /// The name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Chrony => "chrony",
        }
    }
}

impl Display for Dialect {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Native, Self::Chrony]
            .into_iter()
            .find(|dialect| dialect.name() == text)
            .ok_or_else(|| format!("\"{text}\" is neither \"native\" nor \"chrony\""))
    }
}

/// The format of a file: by its first line that is not a comment, and by its name where that does not tell.
#[must_use]
pub fn recognise(text: &Text) -> Dialect {
    let ends_with = |ending: &str| text.name.to_lowercase().ends_with(ending);
    if ends_with(".toml") {
        return Dialect::Native;
    }
    let lines = text.contents.lines().map(str::trim_start);
    let told = lines.filter(|line| !line.is_empty()).find_map(by_line);
    told.unwrap_or(if ends_with(".conf") || ends_with(".sources") {
        Dialect::Chrony
    } else {
        Dialect::Native
    })
}

fn by_line(line: &str) -> Option<Dialect> {
    if line.starts_with(['!', ';', '%']) {
        return Some(Dialect::Chrony);
    }
    if line.starts_with('#') {
        return None;
    }
    let word = line.split_whitespace().next().unwrap_or("");
    let is_key = line.split_once('=').is_some_and(|(key, _)| key.split_whitespace().count() == 1);
    if line.starts_with('[') || is_key {
        return Some(Dialect::Native);
    }
    chrony::is_directive(word).then_some(Dialect::Chrony)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_name_tell_the_format() {
        let cases = [
            ("truechimer.toml", "server a.example", Dialect::Native),
            ("x", "# comment\n\n[[source]]\n", Dialect::Native),
            ("x.conf", "user = \"ntp\"\n", Dialect::Native),
            ("x", "# comment\n  Server a.example iburst\n", Dialect::Chrony),
            ("x", "! comment\n", Dialect::Chrony),
            ("chrony.conf", "sever a.example\n", Dialect::Chrony),
            ("dhcp.sources", "", Dialect::Chrony),
            ("x", "", Dialect::Native),
        ];
        for (name, contents, dialect) in cases {
            assert_eq!(recognise(&Text::new(name, contents)), dialect, "{name}: {contents}");
        }
    }

    #[test]
    fn dialects_are_named_and_found_by_name() {
        for dialect in [Dialect::Native, Dialect::Chrony] {
            assert_eq!(dialect.to_string().parse(), Ok(dialect));
        }
        assert!("ntpd".parse::<Dialect>().is_err());
    }
}
