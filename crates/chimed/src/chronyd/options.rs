//! The command line of chronyd: single letters in getopt's way, then directives.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line asks for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ChronydOptions {
    /// The configuration file, `-f`; `None`: the usual ones.
    pub file: Option<PathBuf>,
    /// Directives given as arguments; then no file is read.
    pub directives: Vec<String>,
    /// `-n`: stay in the foreground.
    pub foreground: bool,
    /// `-d`: stay in the foreground, log to standard error; twice for debug messages.
    pub debug: u8,
    /// `-l`: log to this file.
    pub log_file: Option<PathBuf>,
    /// `-L`: the least severe messages that are logged, from -1 (debug) to 3 (fatal).
    pub log_level: i32,
    /// `-p`: print the configuration and exit.
    pub print: bool,
    /// `-q`: set the clock once and exit.
    pub set_once: bool,
    /// `-Q`: measure once and exit.
    pub measure: bool,
    /// `-t`: exit after this time.
    pub timeout: Option<Duration>,
    /// `-r`: load the sample histories.
    pub reload: bool,
    /// `-R`: the clock is not stepped at the start.
    pub restart: bool,
    /// `-s`: set the clock from the real-time clock or the drift file.
    pub from_rtc: bool,
    /// `-u`: the user to become.
    pub user: Option<String>,
    /// `-U`: starting without being root is no mistake.
    pub any_user: bool,
    /// `-x`: do not touch the clock.
    pub observe: bool,
    /// `-4`, `-6`: one address family only.
    pub family: Option<Family>,
    /// `-N`: a descriptor that is written to when the daemon is ready.
    pub ready_descriptor: Option<i32>,
    /// `-P`: the scheduling priority, 0 to 100, in place of the configured one.
    pub priority: Option<u8>,
    /// `-m`: lock memory.
    pub lock_memory: bool,
    /// Options that are accepted and do nothing here, with why.
    pub without_effect: Vec<&'static str>,
}

/// The one address family that is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What is asked for instead of running.
#[derive(Clone, PartialEq, Debug)]
pub enum Asked {
    /// Run.
    Run(Box<ChronydOptions>),
    /// `-v`, `--version`.
    Version,
    /// `-h`, `--help`.
    Help,
    /// A mistake, in words.
    Mistake(String),
}

/// What chronyd prints for `-h`.
pub const USAGE: &str = "\
Usage: chronyd [OPTION]... [DIRECTIVE]...

Options:
  -4\t\tUse IPv4 addresses only
  -6\t\tUse IPv6 addresses only
  -f FILE\tSpecify configuration file (/etc/chrony/chrony.conf or /etc/chrony.conf)
  -n\t\tDon't run as daemon
  -d\t\tDon't run as daemon and log to stderr (twice: debug messages)
  -l FILE\tLog to file
  -L LEVEL\tSet logging threshold (0)
  -p\t\tPrint configuration and exit
  -q\t\tSet clock and exit
  -Q\t\tLog offset and exit
  -r\t\tReload dump files
  -R\t\tAdapt configuration for restart
  -s\t\tSet clock from RTC
  -t SECONDS\tExit after elapsed time
  -u USER\tSpecify user
  -U\t\tDon't check for root
  -F LEVEL\tSet system call filter level (no effect)
  -P PRIORITY\tSet process priority (0 to 100)
  -m\t\tLock memory
  -x\t\tDon't control clock
  -N FD\t\tWrite a newline to the descriptor when ready
  -v, --version\tPrint version and exit
  -h, --help\tPrint usage and exit";

/// Letters that take a value.
const WITH_VALUE: &str = "fFlLNPtu";

/// Reads the arguments behind the name of the program. As with glibc's getopt, options may come behind directives.
#[must_use]
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Asked {
    let arguments: Vec<String> =
        arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    // The only long options, recognised anywhere.
    for argument in &arguments {
        match argument.as_str() {
            "--version" => return Asked::Version,
            "--help" => return Asked::Help,
            _ => {}
        }
    }
    let mut options = ChronydOptions::default();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let letters = match argument.strip_prefix('-') {
            Some("-") => {
                options.directives.extend(rest);
                break;
            }
            Some(letters) if !letters.is_empty() => letters,
            _ => {
                options.directives.push(argument);
                continue;
            }
        };
        for (at, letter) in letters.char_indices() {
            if !WITH_VALUE.contains(letter) {
                if let Some(asked) = flag(&mut options, letter) {
                    return asked;
                }
                continue;
            }
            let attached = &letters[at + letter.len_utf8()..];
            let value = if attached.is_empty() { rest.next() } else { Some(attached.to_owned()) };
            let Some(value) = value else {
                return Asked::Mistake(format!("option requires an argument -- '{letter}'"));
            };
            if let Err(mistake) = set(&mut options, letter, &value) {
                return Asked::Mistake(mistake);
            }
            break;
        }
    }
    Asked::Run(Box::new(options))
}

fn flag(options: &mut ChronydOptions, letter: char) -> Option<Asked> {
    match letter {
        '4' => options.family = Some(Family::V4),
        '6' => options.family = Some(Family::V6),
        'd' => options.debug = options.debug.saturating_add(1),
        'm' => options.lock_memory = true,
        'n' => options.foreground = true,
        'p' => options.print = true,
        'q' => options.set_once = true,
        'Q' => options.measure = true,
        'r' => options.reload = true,
        'R' => options.restart = true,
        's' => options.from_rtc = true,
        'U' => options.any_user = true,
        'x' => options.observe = true,
        'v' => return Some(Asked::Version),
        'h' => return Some(Asked::Help),
        _ => return Some(Asked::Mistake(format!("invalid option -- '{letter}'"))),
    }
    None
}

fn set(options: &mut ChronydOptions, letter: char, value: &str) -> Result<(), String> {
    let number =
        || value.trim().parse::<i32>().map_err(|_| format!("option -{letter} wants a number, not '{value}'"));
    match letter {
        'f' => options.file = Some(PathBuf::from(value)),
        'l' => options.log_file = Some(PathBuf::from(value)),
        'u' => options.user = Some(value.to_owned()),
        'L' => options.log_level = number()?.clamp(-1, 3),
        'N' => options.ready_descriptor = Some(number()?),
        't' => options.timeout = Some(seconds(value)?),
        'P' => {
            let priority = number()?;
            let in_range = u8::try_from(priority).ok().filter(|priority| *priority <= 100);
            options.priority = Some(in_range.ok_or_else(|| format!("Bad scheduler priority: {priority}"))?);
        }
        _ if number()? == 0 => {}
        _ => options.without_effect.push("-F: system calls are not filtered"),
    }
    Ok(())
}

fn seconds(value: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 1e9;
    match value.trim().parse::<f64>() {
        Ok(seconds) if seconds >= 0.0 => Ok(Duration::from_secs_f64(seconds.min(SECONDS_MAX))),
        _ => Err(format!("option -t wants a number of seconds, not '{value}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> ChronydOptions {
        match parse(arguments.iter().map(OsString::from)) {
            Asked::Run(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_of_the_founding_document_is_understood() {
        let line = "server foo.example.net iburst nts maxsamples 1";
        let options = parsed(&["-Q", "-t", "3", line]);
        assert!(options.measure && !options.set_once);
        assert_eq!(options.timeout, Some(Duration::from_secs(3)));
        assert_eq!(options.directives, [line]);
    }

    #[test]
    fn letters_may_be_bundled_and_values_attached() {
        let options = parsed(&["-dxf/etc/x.conf", "-4rR", "-F1", "-u", "_chrony", "-L-1", "-dd"]);
        assert_eq!((options.debug, options.observe, options.reload, options.restart), (3, true, true, true));
        assert_eq!(options.file, Some(PathBuf::from("/etc/x.conf")));
        assert_eq!(options.family, Some(Family::V4));
        assert_eq!(options.user.as_deref(), Some("_chrony"));
        assert_eq!(options.log_level, -1);
        assert_eq!(options.without_effect.len(), 1, "-F");
        let options = parsed(&["-mP1"]);
        assert_eq!((options.priority, options.lock_memory, options.without_effect.len()), (Some(1), true, 0));
        assert_eq!(parsed(&["server a", "-x", "--", "-d"]).directives, ["server a", "-d"]);
    }

    #[test]
    fn mistakes_are_told_and_help_is_found_anywhere() {
        for wrong in [
            &["-f"][..],
            &["-Z"],
            &["-t", "soon"],
            &["-t", "-1"],
            &["-L", "x"],
            &["-P101"],
            &["-P-1"],
            &["--verbose"],
        ] {
            let asked = parse(wrong.iter().map(OsString::from));
            assert!(matches!(asked, Asked::Mistake(_)), "{wrong:?} {asked:?}");
        }
        assert_eq!(parse(["-x", "--version"].map(OsString::from)), Asked::Version);
        assert_eq!(parse(["-xh"].map(OsString::from)), Asked::Help);
    }
}
