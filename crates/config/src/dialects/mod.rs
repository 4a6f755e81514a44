//! The file formats that are read into the one [`crate::Model`].

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::Text;

pub mod chrony;
pub mod native;
pub mod ntpd_rs;
pub mod ntpsec;

/// A file format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Our own, in TOML.
    Native,
    /// chrony.conf.
    Chrony,
    /// ntp.conf, as NTPsec reads it.
    Ntpsec,
    /// ntp.toml of ntpd-rs.
    NtpdRs,
}

impl Dialect {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Native, Self::Chrony, Self::Ntpsec, Self::NtpdRs];

    /// The name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Chrony => "chrony",
            Self::Ntpsec => "ntpsec",
            Self::NtpdRs => "ntpd-rs",
        }
    }

    /// What it is, for a sentence.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Native => "Truechimer's own configuration",
            Self::Chrony => "a chrony.conf",
            Self::Ntpsec => "an ntp.conf of NTPsec",
            Self::NtpdRs => "an ntp.toml of ntpd-rs",
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
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.name() == text)
            .ok_or_else(|| format!("\"{text}\" is none of \"{}\"", Self::ALL.map(Self::name).join("\", \"")))
    }
}

/// The format of a file: by the first line that only one program can have been meant by, and by its name where none does.
#[must_use]
pub fn recognise(text: &Text) -> Dialect {
    let name = text.name.to_lowercase();
    let file = name.rsplit('/').next().unwrap_or("");
    if file.ends_with(".toml") {
        return if ntpd_rs::is_meant(text) { Dialect::NtpdRs } else { Dialect::Native };
    }
    let lines = || text.contents.lines().map(str::trim_start).filter(|line| !line.is_empty());
    let named = match file {
        _ if file.starts_with("chrony") || file.ends_with(".sources") => Some(Dialect::Chrony),
        _ if file.starts_with("ntp") && file.ends_with(".conf") => Some(Dialect::Ntpsec),
        _ => None,
    };
    let told = lines().find_map(by_line);
    match told.or(named) {
        // The directives that both programs have: the next line may tell.
        None if lines().any(is_shared) || file.ends_with(".conf") => Dialect::Chrony,
        None => Dialect::Native,
        Some(Dialect::Native) if ntpd_rs::is_meant(text) => Dialect::NtpdRs,
        Some(dialect) => dialect,
    }
}

/// Whether a line is one that both chronyd and ntpd know.
fn is_shared(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(chrony::is_directive)
}

/// What a line tells that only one of the programs understands; `None` when several do.
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
    if ntpsec::is_telling(line) {
        return Some(Dialect::Ntpsec);
    }
    let is_shared =
        ["server", "pool", "peer", "driftfile", "dscp", "pidfile", "broadcast", "refclock"].contains(&word);
    (chrony::is_directive(word) && !is_shared).then_some(Dialect::Chrony)
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
