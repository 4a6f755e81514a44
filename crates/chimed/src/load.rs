//! Reading the configuration from files.

use crate::chronyd;
use crate::cli::{Habits, Options};
use crate::glob;
use crate::plain_file::{self, LARGE_OCTETS_MAX};
use crate::wiring::serve_both_families;
use chime_config::dialects::chrony::Request;
use chime_config::dialects::{chrony, native, ntpd_rs, ntpsec};
use chime_config::{
    DEFAULT_CONFIGURATION_PATH, DROP_IN_DIRECTORY, Diagnostic, Diagnostics, Dialect, Loaded, Model, Severity,
    Text, recognise,
};
use chime_sys::clock;
use chime_sys::resolver::{Family, look_up};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Beside an ntp.conf, the directory whose files are read after it.
const NTPD_DROP_IN_DIRECTORY: &str = "ntp.d";

/// Drop-in files that are read.
const DROP_INS_MAX: usize = 1000;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file could not be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There are mistakes in the configuration.
    #[error("{}", .0.render(false))]
    Mistakes(Diagnostics),
}

/// A configuration and where it comes from.
#[derive(Debug)]
pub struct Sourced {
    /// What it says.
    pub loaded: Loaded,
    /// The main file; `None`: built in.
    pub path: Option<PathBuf>,
    /// How it is written.
    pub dialect: Dialect,
    /// All files, the main one first, in the order in which they were read.
    pub texts: Vec<Text>,
    /// The same of a chrony.conf, and what asked for them.
    pub chrony: Option<ChronyFiles>,
}

/// A chrony.conf as it was read.
#[derive(Clone, Debug)]
pub struct ChronyFiles {
    /// The main file, or the directives of the command line in its place.
    pub main: Text,
    /// What was asked for there, and was given.
    pub included: Vec<(Request, Vec<Text>)>,
}

/// A configuration that was read as the options say.
#[derive(Debug)]
pub struct Told {
    /// What it says.
    pub loaded: Loaded,
    /// The main file; `None`: built in, or from the command line.
    pub path: Option<PathBuf>,
    /// Where it is a chrony.conf, its files.
    pub chrony: Option<ChronyFiles>,
}

/// Reads the configuration: `named`, or the file at the usual place, or, when neither is there, the built-in one. Also
/// gives the path that was read. The dialect is seen from the file unless given.
///
/// # Errors
/// When a file that was named is missing, any file is unreadable, or there are mistakes in one.
pub fn load(named: Option<&Path>, dialect: Option<Dialect>) -> Result<(Loaded, Option<PathBuf>), LoadError> {
    load_with_texts(named, dialect).map(|sourced| (sourced.loaded, sourced.path))
}

/// What a command line says in the words of an ntp.conf.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandLines {
    /// Read before the file.
    pub before: String,
    /// Read after it.
    pub after: String,
}

/// Reads the configuration that the options ask for.
///
/// # Errors
/// As [`load`], but for a file that is missing beside an ntpd's options: to ntpd that is no mistake.
pub fn load_as_told(options: &Options) -> Result<Told, LoadError> {
    let (lines, path) = match (&options.habits, &options.config) {
        (Habits::Chronyd(chronyd), _) => return chronyd::load(chronyd),
        (Habits::Ntpd(lines), Some(path)) => (lines, path),
        _ => {
            let Sourced { loaded, path, chrony, .. } =
                load_with_texts(options.config.as_deref(), options.dialect)?;
            return Ok(Told { loaded, path, chrony });
        }
    };
    let first = Text::new("command line", lines.before.as_str());
    let mut others = Vec::new();
    let mut missing = None;
    match read(path) {
        Ok(text) => others.push(text),
        Err(LoadError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            missing = Some(format!("{} does not exist; going on without it", path.display()));
        }
        Err(error) => return Err(error),
    }
    let drop_ins = path.with_file_name(NTPD_DROP_IN_DIRECTORY);
    if drop_ins.is_dir() {
        others.extend(ntpd_included(&drop_ins)?);
    }
    others.push(Text::new("command line", lines.after.as_str()));
    let files = |request: &ntpsec::Request| ntpd_included(&request.0).map_err(|error| error.to_string());
    let mut loaded = ntpsec::parse(&first, &others, &files, &lookup()).map_err(LoadError::Mistakes)?;
    loaded.warnings.0.extend(missing.map(|message| Diagnostic {
        severity: Severity::Warning,
        message,
        help: None,
        file: path.display().to_string(),
        line: 1,
        column: 1,
        excerpt: String::new(),
        width: 1,
    }));
    Ok(Told { loaded, path: Some(path.clone()), chrony: None })
}

/// The same with everything that was read.
///
/// # Errors
/// As [`load`].
pub fn load_with_texts(named: Option<&Path>, dialect: Option<Dialect>) -> Result<Sourced, LoadError> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIGURATION_PATH));
    let main = match read(path) {
        Ok(text) => text,
        Err(LoadError::Unreadable { error, .. })
            if named.is_none() && error.kind() == io::ErrorKind::NotFound =>
        {
            let loaded = Loaded { model: Model::built_in(), warnings: Diagnostics::default() };
            let (dialect, texts) = (Dialect::Native, Vec::new());
            return Ok(Sourced { loaded, path: None, dialect, texts, chrony: None });
        }
        Err(error) => return Err(error),
    };
    let dialect = dialect.unwrap_or_else(|| recognise(&main));
    let others = RefCell::new(Vec::new());
    let mut chrony_files = None;
    let noted = |texts: Result<Vec<Text>, String>| {
        others.borrow_mut().extend(texts.iter().flatten().cloned());
        texts
    };
    let loaded = match dialect {
        Dialect::Native => {
            let drop_ins = read_drop_ins(path)?;
            let mut loaded = native::parse(&main, &drop_ins).map_err(LoadError::Mistakes)?;
            serve_both_families(&mut loaded.model);
            others.borrow_mut().extend(drop_ins);
            loaded
        }
        Dialect::Chrony => {
            let (loaded, files) = load_chrony(main.clone())?;
            others.borrow_mut().extend(files.included.iter().flat_map(|(_, texts)| texts.clone()));
            chrony_files = Some(files);
            loaded
        }
        Dialect::Ntpsec => {
            let drop_ins = path.with_file_name(NTPD_DROP_IN_DIRECTORY);
            let drop_ins = if drop_ins.is_dir() { ntpd_included(&drop_ins)? } else { Vec::new() };
            let files = |request: &ntpsec::Request| {
                noted(ntpd_included(&request.0).map_err(|error| error.to_string()))
            };
            let loaded = ntpsec::parse(&main, &drop_ins, &files, &lookup()).map_err(LoadError::Mistakes)?;
            others.borrow_mut().extend(drop_ins);
            loaded
        }
        Dialect::NtpdRs => {
            let mut loaded = ntpd_rs::parse(&main).map_err(LoadError::Mistakes)?;
            serve_both_families(&mut loaded.model);
            loaded
        }
    };
    let texts = std::iter::once(main).chain(others.into_inner()).collect();
    Ok(Sourced { loaded, path: Some(path.to_owned()), dialect, texts, chrony: chrony_files })
}

/// The main file that is read when this one is named, or none.
///
/// # Errors
/// As [`load`].
pub(crate) fn main_text(named: Option<&Path>) -> Result<Text, LoadError> {
    read(named.unwrap_or(Path::new(DEFAULT_CONFIGURATION_PATH)))
}

/// Reads a chrony.conf with what it includes.
///
/// # Errors
/// As [`load`].
pub fn load_chrony(main: Text) -> Result<(Loaded, ChronyFiles), LoadError> {
    let asked = RefCell::new(Vec::new());
    let included = included();
    let files = |request: &Request| {
        let texts = included(request)?;
        asked.borrow_mut().push((request.clone(), texts.clone()));
        Ok(texts)
    };
    let loaded = chrony::parse(&main, &files).map_err(LoadError::Mistakes)?;
    Ok((loaded, ChronyFiles { main, included: asked.into_inner() }))
}

/// The directives of a chrony.conf, as [`chrony::directives`] gives them.
///
/// # Errors
/// As [`load`].
pub fn chrony_lines(main: &Text) -> Result<Vec<String>, LoadError> {
    chrony::directives(main, &included()).map_err(LoadError::Mistakes)
}

/// Directives of chrony.conf from a command line, each a line of its own.
#[must_use]
pub fn as_text(directives: &[String]) -> Text {
    // A line ends where its argument does: what is in one argument must not make two lines.
    let lines: Vec<String> = directives.iter().map(|line| line.replace(['\n', '\r'], " ") + "\n").collect();
    Text::new("", lines.concat())
}

/// The files of the drop-in directory beside the main file, in the order of their names.
fn read_drop_ins(main: &Path) -> Result<Vec<Text>, LoadError> {
    let directory = main.parent().unwrap_or(Path::new(".")).join(DROP_IN_DIRECTORY);
    let mut paths: Vec<PathBuf> = entries_of(&directory)?
        .iter()
        .map(DirEntry::path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .take(DROP_INS_MAX)
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// A file that an ntp.conf includes; of a directory, its files `*.conf` in the order of their names, and those of its
/// directories of such a name.
fn ntpd_included(path: &Path) -> Result<Vec<Text>, LoadError> {
    const DEPTH_MAX: usize = 5;
    let mut texts = Vec::new();
    collect_ntpd(path, DEPTH_MAX, &mut texts)?;
    Ok(texts)
}

fn collect_ntpd(path: &Path, depth: usize, texts: &mut Vec<Text>) -> Result<(), LoadError> {
    if !path.is_dir() {
        texts.push(read(path)?);
        return Ok(());
    }
    if depth == 0 || texts.len() > DROP_INS_MAX {
        return Ok(());
    }
    for path in by_file_name(&[path.to_owned()], "conf")? {
        collect_ntpd(&path, depth - 1, texts)?;
    }
    Ok(())
}

/// Looks up the names in access lists; all of a configuration together take no longer than some seconds, since keeping
/// time waits while a configuration is read again.
fn lookup() -> impl Fn(&str) -> Result<Vec<IpAddr>, String> {
    const TIME_MAX: Duration = Duration::from_secs(3);
    let deadline = clock::mono_now().saturating_add(TIME_MAX);
    move |name| {
        let (sender, receiver) = mpsc::channel();
        let name = name.to_owned();
        // What comes too late goes nowhere.
        let ask = move || drop(sender.send(look_up(&name, Family::Any)));
        thread::Builder::new().name("lookup".to_owned()).spawn(ask).map_err(|error| error.to_string())?;
        let left = deadline.saturating_since(clock::mono_now());
        let found = receiver.recv_timeout(left).map_err(|_| "no answer in time".to_owned())?;
        found.map_err(|error| error.to_string())
    }
}

/// Gives what a chrony.conf asks for.
pub(crate) fn included() -> impl Fn(&Request) -> Result<Vec<Text>, String> {
    let lookup = lookup();
    move |request| {
        let said = |error: LoadError| error.to_string();
        let paths = match request {
            Request::Include(pattern) => {
                glob::paths(pattern).map_err(|error| format!("{pattern}: {error}"))?
            }
            Request::ConfigurationDirectories(directories) => {
                by_file_name(directories, "conf").map_err(said)?
            }
            Request::SourceDirectories(directories) => by_file_name(directories, "sources").map_err(said)?,
            Request::Address(name) => {
                let first = lookup(name)?.into_iter().next();
                return Ok(first.map(|address| Text::new(name, address.to_string())).into_iter().collect());
            }
        };
        paths.iter().map(|path| read(path).map_err(said)).collect()
    }
}

/// What is in a directory, which need not be there; one that is there and cannot be read is no empty one.
fn entries_of(directory: &Path) -> Result<Vec<DirEntry>, LoadError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    entries.map_err(|error| LoadError::Unreadable { path: directory.to_owned(), error })
}

/// The files with that extension in any of the directories, by file name; of equal names the one in the first directory.
fn by_file_name(directories: &[PathBuf], extension: &str) -> Result<Vec<PathBuf>, LoadError> {
    let mut found = BTreeMap::new();
    for directory in directories {
        for entry in entries_of(directory)? {
            let path = entry.path();
            if path.extension().is_some_and(|it| it == extension) && found.len() < DROP_INS_MAX {
                found.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    Ok(found.into_values().collect())
}

fn read(path: &Path) -> Result<Text, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    let text = plain_file::read_text(path, LARGE_OCTETS_MAX).map_err(unreadable)?;
    Ok(Text::new(path.display().to_string(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_read_is_no_empty_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // What even root cannot read: a link to itself.
        let closed = folder.path().join("closed");
        std::os::unix::fs::symlink(&closed, &closed).expect("a link");
        let missing = folder.path().join("missing");
        let main = folder.path().join("chrony.conf");
        for directive in ["confdir X", "sourcedir X", "include X/*.conf", "include X/*/a.conf"] {
            let loads = |directory: &Path| {
                let line = directive.replace('X', &directory.display().to_string());
                fs::write(&main, format!("{line}\n")).expect("it can be written");
                load(Some(&main), Some(Dialect::Chrony)).map(|(loaded, _)| loaded.warnings.0.len())
            };
            assert!(
                matches!(loads(&missing), Ok(0)),
                "{directive}: distributions name folders that need not be"
            );
            assert!(!matches!(loads(&closed), Ok(0)), "{directive}: what is in there is not known");
        }
        assert!(ntpd_included(&closed).is_err());
    }

    #[test]
    fn drop_ins_are_read_after_the_main_file_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let main = folder.path().join("truechimer.toml");
        fs::write(&main, "[[source]]\nmode = \"server\"\naddress = \"a.example\"\n").unwrap();
        let drop_ins = folder.path().join(DROP_IN_DIRECTORY);
        fs::create_dir(&drop_ins).unwrap();
        fs::write(drop_ins.join("20-c.toml"), "[[source]]\nmode = \"server\"\naddress = \"c.example\"\n")
            .unwrap();
        fs::write(drop_ins.join("10-b.toml"), "[[source]]\nmode = \"server\"\naddress = \"b.example\"\n")
            .unwrap();
        fs::write(drop_ins.join("note.txt"), "not a configuration").unwrap();
        let (loaded, path) = load(Some(&main), None).expect("all files are right");
        let names: Vec<&str> = loaded.model.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["a.example", "b.example", "c.example"]);
        assert_eq!(path, Some(main));
    }

    #[test]
    fn the_example_that_is_installed_is_the_built_in_configuration_written_out() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/truechimer.toml");
        let (loaded, _) = load(Some(&example), None).expect("the example is right");
        let named =
            |model: &Model| model.sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
        assert_eq!(named(&loaded.model), named(&Model::built_in()));
        assert_eq!(loaded.model.authentication, Model::built_in().authentication);
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn a_chrony_conf_is_recognised_and_its_files_are_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for directory in ["one", "two", "dhcp"] {
            fs::create_dir(at(directory)).expect("it can be made");
        }
        let shown = folder.path().display();
        let contents = format!(
            "confdir {shown}/one {shown}/two /nonexistent\nsourcedir {shown}/dhcp\ninclude {shown}/*.inc\n\
             server a.example\n"
        );
        for (name, contents) in [
            ("any", contents.as_str()),
            ("one/10.conf", "server b.example\n"),
            ("two/10.conf", "server hidden.example\n"),
            ("two/05.conf", "server c.example\n"),
            ("x.inc", "allow 10/8\ndeny localhost\n"),
            ("dhcp/eth0.sources", "server d.example\n"),
        ] {
            fs::write(at(name), contents).expect("it can be written");
        }
        let (loaded, _) = load(Some(&at("any")), None).expect("all files are right");
        let names: Vec<&str> = loaded.model.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["c.example", "b.example", "a.example", "d.example"]);
        let listens: Vec<String> =
            loaded.model.servers.iter().map(|server| server.listen.to_string()).collect();
        assert_eq!(listens, ["0.0.0.0:123"]);
        let rules = loaded.model.servers[0].rules.as_deref().expect("two rules");
        assert!(rules[1].subnet.is_some_and(|named| named.address().is_loopback()), "{rules:?}");
        assert!(load(Some(&at("any")), Some(Dialect::Native)).is_err(), "it is no TOML");
        fs::write(at("any"), format!("include {shown}/absent\n")).expect("it can be written");
        let error = load(Some(&at("any")), None).expect_err("there is no such file");
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn an_ntp_conf_is_recognised_and_its_files_are_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for directory in ["conf.d", "ntp.d", "ntp.d/sub.conf"] {
            fs::create_dir(at(directory)).expect("it can be made");
        }
        for (name, contents) in [
            (
                "ntp.conf",
                "server a.example\nincludefile extra\nincludefile conf.d\nincludefile absent\nrestrict localhost ignore\n",
            ),
            ("extra", "server b.example\n"),
            ("conf.d/20.conf", "server d.example\n"),
            ("conf.d/10.conf", "server c.example\n"),
            ("conf.d/note", "server hidden.example\n"),
            ("ntp.d/x.conf", "server f.example\n"),
            ("ntp.d/sub.conf/y.conf", "server e.example\n"),
        ] {
            fs::write(at(name), contents).expect("it can be written");
        }
        let (loaded, _) = load(Some(&at("ntp.conf")), None).expect("all files are right");
        let names: Vec<&str> = loaded.model.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["a.example", "b.example", "c.example", "d.example", "e.example", "f.example"]);
        let local = loaded.model.servers[0].policy().access.check([127, 0, 0, 1].into());
        assert_eq!(local, chime_server::Access::Refuse(chime_server::Refusal::Ignore));
        assert_eq!(loaded.warnings.0.len(), 2, "{}", loaded.warnings);
        assert!(loaded.warnings.0[0].message.contains("absent"), "{}", loaded.warnings);
        assert_eq!(loaded.model.servers.len(), 2, "ntpd serves");
    }

    /// A FIFO without a writer would have the daemon wait for ever before it keeps any time.
    #[test]
    fn a_fifo_is_no_configuration_and_waited_for_by_nobody() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (fifo, main) = (folder.path().join("more.conf"), folder.path().join("main.conf"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let shown = folder.path().display();
        for (directive, dialect) in [
            ("include SHOWN/more.conf", Dialect::Chrony),
            ("confdir SHOWN", Dialect::Chrony),
            ("includefile SHOWN/more.conf", Dialect::Ntpsec),
        ] {
            fs::write(&main, directive.replace("SHOWN", &shown.to_string()) + "\n")
                .expect("it can be written");
            let said = match load(Some(&main), Some(dialect)) {
                Ok((loaded, _)) => loaded.warnings.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(said.contains("FIFO") && said.contains("more.conf"), "{directive}: {said}");
        }
        assert!(load(Some(&fifo), None).is_err_and(|error| error.to_string().contains("FIFO")));
        assert!(load(Some(Path::new("/dev/null")), Some(Dialect::Chrony)).is_ok(), "an empty file");
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_its_name_is_told() {
        let error = load(Some(Path::new("/nonexistent/x.toml")), None).expect_err("there is no such file");
        assert!(error.to_string().contains("/nonexistent/x.toml"), "{error}");
    }
}
