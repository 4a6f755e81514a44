//! Log lines: one plain line for each event, on standard error.
//!
//! With a terminal, a file or a pipe the line starts with the time, as `2036-02-07T06:28:16Z text`. Under systemd's
//! journal, which has its own clock and its own levels, it starts with the level as `<4>` instead (sd-daemon(3)).

use chime_config::LogLevel;
use chime_control::CivilDate;
use chime_sys::local_time;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::registry::LookupSpan;

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Verbosity {
    /// What went wrong.
    Errors,
    /// What an operator should look at.
    Warnings,
    /// What an operator must know.
    #[default]
    Normal,
    /// What helps to find a fault: each sample, each establishment.
    Debug,
    /// Everything, with what the libraries say.
    Trace,
}

impl Verbosity {
    /// From the number of times that the option `-d` was given, or the configuration, whichever wants more.
    #[must_use]
    pub fn wanted(count: u8, configured: LogLevel) -> Self {
        let configured = match configured {
            LogLevel::Error => Self::Errors,
            LogLevel::Warn => Self::Warnings,
            LogLevel::Info => Self::Normal,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        };
        match count {
            0 => configured,
            1 => configured.max(Self::Debug),
            _ => Self::Trace,
        }
    }

    const fn filter(self) -> &'static str {
        match self {
            Self::Errors => "error",
            Self::Warnings => "warn,rustls=error",
            // What the TLS library warns about, strangers can cause; our own lines about it are limited.
            Self::Normal => "info,rustls=error",
            Self::Debug => "debug,rustls=warn,hyper=warn",
            Self::Trace => "trace",
        }
    }
}

/// Where the log goes.
#[derive(Debug)]
pub enum Destination {
    /// Standard error; the journal, when that is there.
    StandardError,
    /// A file that is appended to.
    File(LogFile),
    /// The system's log.
    Syslog,
}

impl Destination {
    /// A file that is appended to; [`reopen`] finds it again.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File(LogFile { path: path.to_owned(), file: Arc::new(Mutex::new(open_log(path)?)) }))
    }
}

/// A log file and its place.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

/// The file that the log goes to, if it goes to one.
static LOG_FILE: OnceLock<LogFile> = OnceLock::new();

fn open_log(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o640).open(path)
}

/// Opens the log file again, when it was moved away: logrotate does, and then sends a signal.
pub fn reopen() {
    let Some(log) = LOG_FILE.get() else { return };
    match open_log(&log.path) {
        Ok(file) => *log.file.lock().unwrap_or_else(PoisonError::into_inner) = file,
        Err(error) => warn!("the log goes on in the old file: {}: {error}", log.path.display()),
    }
}

impl io::Write for &LogFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whose habits the lines follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Words {
    /// Ours: a word in front of what is not ordinary.
    Ours,
    /// chronyd's: no severity is shown.
    Chrony,
    /// ntpd's: local time and the name and number of the process.
    Ntpd,
}

/// Sends the log to standard error. The variable `CHIMED_LOG` overrides `verbosity`, in the syntax of `env_logger`.
///
/// Does nothing when a log is set up already, as in tests.
pub fn init(verbosity: Verbosity) {
    init_to(Destination::StandardError, Words::Ours, verbosity);
}

/// Sends the log somewhere, as [`init`] does.
pub fn init_to(destination: Destination, words: Words, verbosity: Verbosity) {
    let filter = std::env::var("CHIMED_LOG")
        .ok()
        .and_then(|text| text.parse::<EnvFilter>().ok())
        .unwrap_or_else(|| {
            EnvFilter::new(match words {
                Words::Ours | Words::Ntpd => verbosity.filter().to_owned(),
                // Whoever measures once has no words of chronyd's for events: none, rather than ours.
                Words::Chrony => format!("{},chimed::event_log=off", verbosity.filter()),
            })
        });
    let prefix = match (&destination, words) {
        (Destination::Syslog, _) => Prefix::Level,
        (Destination::StandardError, _) if stderr_is_the_journal() => Prefix::Level,
        (_, Words::Ours) => Prefix::TimeAndWord,
        (_, Words::Chrony) => Prefix::Time,
        (_, Words::Ntpd) => Prefix::LocalTimeAndProcess,
    };
    // On standard error it is told anyway.
    if !matches!(destination, Destination::StandardError) {
        log_panics();
    }
    let writer = match destination {
        Destination::StandardError => BoxMakeWriter::new(io::stderr),
        Destination::File(file) => {
            let file = LOG_FILE.get_or_init(|| file);
            BoxMakeWriter::new(move || file)
        }
        Destination::Syslog => BoxMakeWriter::new(|| SyslogLine),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A line that cannot be written (a full disk, a reader that is gone) is lost; complaining about it on standard
        // error as well would end the daemon.
        .log_internal_errors(false)
        .event_format(LineFormat { prefix })
        .with_writer(writer)
        .finish();
    let _already_set_up = tracing::subscriber::set_global_default(subscriber);
}

/// Has a thread that panics say so in the log as well: standard error leads nowhere when the log goes elsewhere.
fn log_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let what = panic.to_string().replace('\n', " ");
        error!("the thread {}: {what}", thread.name().unwrap_or("without a name"));
        usual(panic);
    }));
}

/// Takes lines that begin with their level, as `<4>`.
struct SyslogLine;

impl io::Write for SyslogLine {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(octets);
        let (level, text) =
            line.strip_prefix('<').and_then(|line| line.split_once('>')).unwrap_or(("6", &line));
        chime_sys::syslog::write(level.parse().unwrap_or(6), text.trim_end());
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard error leads to the journal: systemd says which device and inode that is.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    stderr.and_then(|file| file.metadata()).is_ok_and(|metadata| {
        use std::os::unix::fs::MetadataExt;
        stream == format!("{}:{}", metadata.dev(), metadata.ino())
    })
}

/// What a line begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prefix {
    /// The level, as `<4>`.
    Level,
    /// The time.
    Time,
    /// The time, and a word when the line is not ordinary.
    TimeAndWord,
    /// Local time without its zone, the name and number of the process, and a word when the line is not ordinary.
    LocalTimeAndProcess,
}

struct LineFormat {
    prefix: Prefix,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.prefix == Prefix::Level {
            write!(writer, "<{}>", priority(level))?;
        } else {
            let now = unix_seconds(SystemTime::now());
            if self.prefix == Prefix::LocalTimeAndProcess {
                write_date(&mut writer, now.saturating_add(local_time::offset_seconds(now)))?;
                write!(writer, " ntpd[{}]:", std::process::id())?;
            } else {
                write_date(&mut writer, now)?;
                writer.write_char('Z')?;
            }
            if let Some(word) = word(level).filter(|_| self.prefix != Prefix::Time) {
                write!(writer, " {word}:")?;
            }
            writer.write_char(' ')?;
        }
        let mut line = Line::default();
        event.record(&mut line);
        writeln!(writer, "{}{}", line.message, line.fields)
    }
}

/// The levels of syslog: error 3, warning 4, informational 6, debug 7.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The word in front of lines that are not ordinary.
fn word(level: Level) -> Option<&'static str> {
    match level {
        Level::ERROR => Some("error"),
        Level::WARN => Some("warning"),
        Level::INFO => None,
        _ => Some("debug"),
    }
}

/// The parts of a line, with every control character made harmless: names and texts come from the network.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let target = if field.name() == "message" {
            &mut self.message
        } else {
            let _infallible = write!(self.fields, " {}=", field.name());
            &mut self.fields
        };
        push_printable(target, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Appends `text`, with control characters as escapes, so that nobody can forge a line or colour the terminal.
fn push_printable(target: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            target.extend(character.escape_default());
        } else {
            target.push(character);
        }
    }
}

/// Seconds since 1970, rounded down; clocks may be wrong by decades, and then they are before.
fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(error) => {
            let before = error.duration();
            let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            -whole - i64::from(before.subsec_nanos() > 0)
        }
    }
}

/// Writes seconds since 1970 as `2036-02-07T06:28:16`.
fn write_date(writer: &mut impl fmt::Write, unix_seconds: i64) -> fmt::Result {
    let date = CivilDate::from_unix(unix_seconds);
    let CivilDate { year, month, day, hour, minute, second } = date;
    write!(writer, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_asks_for_more_than_the_configuration_and_never_for_less() {
        assert_eq!(Verbosity::wanted(0, LogLevel::Error), Verbosity::Errors);
        assert_eq!(Verbosity::wanted(0, LogLevel::Info), Verbosity::Normal);
        assert_eq!(Verbosity::wanted(1, LogLevel::Warn), Verbosity::Debug);
        assert_eq!(Verbosity::wanted(1, LogLevel::Trace), Verbosity::Trace);
        assert_eq!(Verbosity::wanted(3, LogLevel::Error), Verbosity::Trace);
    }

    #[test]
    fn times_are_written_as_dates() {
        for (seconds, expected) in [
            (-1, "1969-12-31T23:59:59"),
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_262_304_000, "2010-01-01T00:00:00"),
            (2_085_978_496, "2036-02-07T06:28:16"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let mut text = String::new();
            write_date(&mut text, seconds).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(prefix: Prefix, what: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(LineFormat { prefix })
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, what);
        let octets = captured.0.lock().unwrap().clone();
        String::from_utf8(octets).unwrap()
    }

    fn lines(prefix: Prefix) -> String {
        lines_of(prefix, || {
            tracing::info!("Selected source {}", "192.0.2.1");
            tracing::warn!(name = "evil\n<0>forged", "a \u{1b}[31mred name");
        })
    }

    #[test]
    fn a_thread_that_panics_tells_the_log() {
        log_panics();
        let lines = lines_of(Prefix::Level, || {
            let caught = std::panic::catch_unwind(|| [1, 2, 3][std::hint::black_box(3)]);
            assert!(caught.is_err());
        });
        assert!(lines.starts_with("<3>") && lines.lines().count() == 1, "{lines}");
        assert!(lines.contains("a_thread_that_panics_tells_the_log"), "the name of the thread: {lines}");
        assert!(lines.contains("logging.rs:") && lines.contains("index out of bounds"), "{lines}");
    }

    #[test]
    fn the_journal_gets_levels_and_no_times() {
        assert_eq!(
            lines(Prefix::Level),
            "<6>Selected source 192.0.2.1\n<4>a \\u{1b}[31mred name name=evil\\n<0>forged\n"
        );
    }

    #[test]
    fn a_terminal_gets_times_and_words() {
        let lines = lines(Prefix::TimeAndWord);
        let (first, second) = lines.split_once('\n').unwrap();
        assert_eq!(first.len(), "2036-02-07T06:28:16Z Selected source 192.0.2.1".len(), "{first}");
        assert!(first.ends_with("Z Selected source 192.0.2.1"), "{first}");
        assert!(second.contains("Z warning: a "), "{second}");
        let ntpd = self::lines(Prefix::LocalTimeAndProcess);
        let name = format!(" ntpd[{}]: Selected source 192.0.2.1", std::process::id());
        assert!(
            ntpd.lines().next().is_some_and(|line| line.len() == 19 + name.len() && line.ends_with(&name)),
            "{ntpd}"
        );
        assert!(self::lines(Prefix::Time).contains("Z a \\u{1b}"), "chronyd shows no severity");
    }
}
