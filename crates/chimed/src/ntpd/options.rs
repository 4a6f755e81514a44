//! The command line of NTPsec's ntpd: short options that may be bundled, and their long names.

use chime_config::{AddressFamily, Process};
use std::ffi::OsString;
use std::path::PathBuf;

/// The highest priority.
const PRIORITY_MAX: u8 = Process::REAL_TIME_PRIORITY_MAX;

/// What `-h` prints.
pub const USAGE: &str = "\
Usage: ntpd [OPTION]... [SERVER]...
  -4, -6              resolve the servers given here over one family only
  -c, --configfile F  configuration file
  -f, --driftfile F   drift file
  -g, --panicgate     the first correction may be of any size
  -G                  as -g
  -I, --interface I   listen there only; may be given again
  -k, --keyfile F     file of symmetric keys
  -l, --logfile F     log to a file
  -N, --nice          the highest real-time priority
  -n, --nofork        stay in the foreground
  -P, --priority N    this real-time priority
  -p, --pidfile F     write the number of the process
  -q, --quit          set the clock once and exit
  -s, --statsdir D    directory of the statistics files
  -t, --trustedkey N  number of a key that is trusted; may be given again
  -u, --user U[:G]    user to become
  -x, --slew          step above 600 s only
  -d, -D N            more messages, in the foreground
  -h, -V              this text; the version
Accepted without effect: -a -i -L -m -U -w -z -Z";

/// Long names and the options that they stand for.
const LONG: &[(&str, char)] = &[
    ("assert", 'a'),
    ("configfile", 'c'),
    ("debug", 'd'),
    ("driftfile", 'f'),
    ("driftile", 'f'),
    ("dvar", 'Z'),
    ("help", 'h'),
    ("interface", 'I'),
    ("ipv4", '4'),
    ("ipv6", '6'),
    ("jaildir", 'i'),
    ("keyfile", 'k'),
    ("logfile", 'l'),
    ("mdns", 'm'),
    ("nice", 'N'),
    ("nofork", 'n'),
    ("novirtualips", 'L'),
    ("panicgate", 'g'),
    ("pidfile", 'p'),
    ("priority", 'P'),
    ("quit", 'q'),
    ("set-debug-level", 'D'),
    ("slew", 'x'),
    ("statsdir", 's'),
    ("trustedkey", 't'),
    ("updateinterval", 'U'),
    ("user", 'u'),
    ("var", 'z'),
    ("version", 'V'),
];

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// To run.
    Run(Box<NtpdOptions>),
    /// The version.
    Version,
    /// The usage.
    Help,
    /// Something that ntpd refuses.
    Mistake(String),
}

/// The options of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NtpdOptions {
    /// `-c`.
    pub file: Option<PathBuf>,
    /// `-g`, `-G`.
    pub any_first_correction: bool,
    /// `-l`.
    pub log_file: Option<PathBuf>,
    /// `-n`, `-d`, `-D`, `-q`.
    pub foreground: bool,
    /// `-p`.
    pub pid_file: Option<PathBuf>,
    /// `-q`.
    pub quit: bool,
    /// `-u`, without the group.
    pub user: Option<String>,
    /// `-d`, `-D`.
    pub debug: u8,
    /// `-N`, `-P`: a real-time priority, which is brought into those that there are.
    pub priority: Option<u8>,
    /// Lines of an ntp.conf that stand for options and hold before the file's.
    pub before: String,
    /// The same for those that hold after it.
    pub after: String,
    /// Options that have no effect here, with the reason.
    pub without_effect: Vec<String>,
}

/// Reads the arguments, without the name of the program.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Asked {
    let words: Option<Vec<String>> = arguments.into_iter().map(|word| word.into_string().ok()).collect();
    let Some(words) = words else { return Asked::Mistake("the arguments must be UTF-8".to_owned()) };
    let mut reader = Reader::default();
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        match reader.word(&word, &mut rest) {
            Ok(None) => {}
            Ok(Some(asked)) => return asked,
            Err(mistake) => return Asked::Mistake(mistake),
        }
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    options: NtpdOptions,
    family: Option<AddressFamily>,
    interfaces: Vec<String>,
    servers: Vec<String>,
}

type Words = std::vec::IntoIter<String>;

impl Reader {
    fn word(&mut self, word: &str, rest: &mut Words) -> Result<Option<Asked>, String> {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
            let option = LONG.iter().find(|(known, _)| *known == name);
            let (_, letter) = option.ok_or_else(|| format!("unknown option --{name}"))?;
            return self.option(*letter, value, rest);
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            self.servers.push(word.to_owned());
            return Ok(None);
        };
        for (at, letter) in letters.char_indices() {
            if takes_value(letter) {
                let attached = &letters[at + letter.len_utf8()..];
                let value = (!attached.is_empty()).then(|| attached.to_owned());
                return self.option(letter, value, rest);
            }
            if let Some(asked) = self.option(letter, None, rest)? {
                return Ok(Some(asked));
            }
        }
        Ok(None)
    }

    fn option(
        &mut self,
        letter: char,
        value: Option<String>,
        rest: &mut Words,
    ) -> Result<Option<Asked>, String> {
        let value = match value {
            None if takes_value(letter) => {
                rest.next().ok_or_else(|| format!("option -{letter} needs a value"))?
            }
            value => value.unwrap_or_default(),
        };
        let options = &mut self.options;
        match letter {
            '4' => self.family = Some(AddressFamily::V4),
            '6' => self.family = Some(AddressFamily::V6),
            'c' => options.file = Some(PathBuf::from(value)),
            'd' => options.debug = options.debug.saturating_add(1),
            'D' => options.debug = value.parse().map_err(|_| format!("-D {value}: not a level"))?,
            'f' => options.after.push_str(&format!("driftfile {}\n", quoted(&value)?)),
            'g' | 'G' => options.any_first_correction = true,
            'h' => return Ok(Some(Asked::Help)),
            'I' => self.interfaces.push(value),
            'k' => options.after.push_str(&format!("keys {}\n", quoted(&value)?)),
            'l' => options.log_file = Some(PathBuf::from(value)),
            'n' => options.foreground = true,
            'N' => options.priority = options.priority.or(Some(PRIORITY_MAX)),
            'P' => options.priority = Some(priority(&value)?),
            'p' => options.pid_file = Some(PathBuf::from(value)),
            'q' => options.quit = true,
            's' => options.after.push_str(&format!("statsdir {}\n", quoted(&value)?)),
            't' => options.after.push_str(&format!("trustedkey {}\n", plain(&value)?)),
            'u' => options.user = value.split(':').next().map(str::to_owned),
            'V' => return Ok(Some(Asked::Version)),
            'x' => options.after.push_str("tinker step 600\n"),
            'b' | 'r' => return Err(format!("-{letter}: broadcasts are not supported")),
            _ => {
                let why = without_effect(letter).ok_or_else(|| format!("unknown option -{letter}"))?;
                if !why.is_empty() {
                    options.without_effect.push(format!("-{letter} has no effect: {why}"));
                }
            }
        }
        Ok(None)
    }

    fn finish(mut self) -> Asked {
        let options = &mut self.options;
        options.foreground |= options.debug > 0 || options.quit;
        let family = match self.family {
            Some(AddressFamily::V4) => "-4 ",
            Some(AddressFamily::V6) => "-6 ",
            _ => "",
        };
        for server in &self.servers {
            match plain(server) {
                Ok(server) => options.before.push_str(&format!("server {family}{server} iburst\n")),
                Err(mistake) => return Asked::Mistake(mistake),
            }
        }
        if !self.interfaces.is_empty() {
            options.after.push_str("interface ignore all\n");
        }
        for interface in &self.interfaces {
            match plain(interface) {
                Ok(interface) => options.after.push_str(&format!("interface listen {interface}\n")),
                Err(mistake) => return Asked::Mistake(mistake),
            }
        }
        Asked::Run(Box::new(self.options))
    }
}

const fn takes_value(letter: char) -> bool {
    matches!(
        letter,
        'c' | 'D' | 'f' | 'i' | 'I' | 'k' | 'l' | 'p' | 'P' | 's' | 't' | 'u' | 'U' | 'w' | 'z' | 'Z'
    )
}

/// Why an option has no effect; empty: nothing is different.
const fn without_effect(letter: char) -> Option<&'static str> {
    Some(match letter {
        'a' | 'L' | 'U' => "",
        'i' => "the process is confined by the service manager",
        'm' => "the service is not announced with mDNS",
        'w' => "readiness does not wait for the first synchronisation; `chime check` tells when it has come",
        'z' | 'Z' => "there are no variables of one's own",
        _ => return None,
    })
}

/// As ntpd has it: brought into the priorities that there are.
fn priority(value: &str) -> Result<u8, String> {
    let number: i32 = value.parse().map_err(|_| format!("-P {value}: not a priority"))?;
    Ok(u8::try_from(number.max(1)).unwrap_or(PRIORITY_MAX).min(PRIORITY_MAX))
}

/// A word that is one word in an ntp.conf.
fn plain(word: &str) -> Result<&str, String> {
    let is_plain = !word.is_empty() && word.chars().all(|c| !c.is_whitespace() && !['#', '"'].contains(&c));
    is_plain.then_some(word).ok_or_else(|| format!("\"{word}\" is not one word"))
}

/// A path as an ntp.conf has it.
fn quoted(path: &str) -> Result<String, String> {
    if path.is_empty() || path.contains(['"', '\n', '\r']) {
        return Err(format!("\"{path}\" cannot be a path here"));
    }
    Ok(format!("\"{path}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> NtpdOptions {
        match parse(words.iter().map(OsString::from)) {
            Asked::Run(options) => *options,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn the_usual_service_line_is_understood() {
        let options = run(&["-p", "/run/ntpd.pid", "-c", "/etc/ntp.conf", "-g", "-N", "-u", "ntp:ntp"]);
        assert_eq!(options.pid_file, Some(PathBuf::from("/run/ntpd.pid")));
        assert_eq!(options.file, Some(PathBuf::from("/etc/ntp.conf")));
        assert_eq!(options.user.as_deref(), Some("ntp"));
        assert!(options.any_first_correction && !options.foreground);
        assert_eq!(options.priority, Some(99));
        assert!(options.without_effect.is_empty(), "{:?}", options.without_effect);
    }

    #[test]
    fn a_priority_is_brought_into_those_that_there_are() {
        assert_eq!(run(&["-N", "-P", "10"]).priority, Some(10));
        for (given, wanted) in [("0", 1), ("-4", 1), ("99", 99), ("100", 99), ("1000", 99)] {
            assert_eq!(run(&["-P", given]).priority, Some(wanted), "{given}");
        }
        assert_eq!(run(&[]).priority, None);
    }

    #[test]
    fn options_are_bundled_and_have_long_names() {
        let options = run(&["-gqnc/x.conf", "--keyfile=/k k", "--slew", "--trustedkey", "7"]);
        assert!(options.quit && options.foreground && options.any_first_correction);
        assert_eq!(options.file, Some(PathBuf::from("/x.conf")));
        assert_eq!(options.after, "keys \"/k k\"\ntinker step 600\ntrustedkey 7\n");
    }

    #[test]
    fn servers_come_before_the_file_and_interfaces_after_it() {
        let options = run(&["-4", "a.example", "-I", "eth0", "-I", "192.0.2.1", "b.example"]);
        assert_eq!(options.before, "server -4 a.example iburst\nserver -4 b.example iburst\n");
        assert_eq!(
            options.after,
            "interface ignore all\ninterface listen eth0\ninterface listen 192.0.2.1\n"
        );
    }

    #[test]
    fn mistakes_are_told_apart_from_help_and_version() {
        let asked = |words: &[&str]| parse(words.iter().map(OsString::from));
        for wrong in [&["-b"][..], &["-c"], &["-Y"], &["--bogus"], &["-D", "x"], &["-f", "a\"b"], &["a b"]] {
            assert!(matches!(asked(wrong), Asked::Mistake(_)), "{wrong:?}");
        }
        assert_eq!(asked(&["-nV"]), Asked::Version);
        assert_eq!(asked(&["--help"]), Asked::Help);
    }
}
