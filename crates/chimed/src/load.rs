//! Reading the configuration from files.

use crate::wiring::serve_both_families;
use chime_config::dialects::native;
use chime_config::{DEFAULT_CONFIGURATION_PATH, DROP_IN_DIRECTORY, Diagnostics, Loaded, Model, Text};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The largest configuration file that is read: far more than anybody writes by hand.
const FILE_OCTETS_MAX: u64 = 4 << 20;

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

/// Reads the configuration: `named`, or the file at the usual place, or, when neither is there, the built-in one. Also
/// gives the path that was read.
///
/// # Errors
/// When a file that was named is missing, any file is unreadable, or there are mistakes in one.
pub fn load(named: Option<&Path>) -> Result<(Loaded, Option<PathBuf>), LoadError> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIGURATION_PATH));
    let main = match read(path) {
        Ok(text) => text,
        Err(LoadError::Unreadable { error, .. })
            if named.is_none() && error.kind() == io::ErrorKind::NotFound =>
        {
            return Ok((Loaded { model: Model::built_in(), warnings: Diagnostics::default() }, None));
        }
        Err(error) => return Err(error),
    };
    let mut loaded = native::parse(&main, &read_drop_ins(path)?).map_err(LoadError::Mistakes)?;
    serve_both_families(&mut loaded.model);
    Ok((loaded, Some(path.to_owned())))
}

/// The files of the drop-in directory beside the main file, in the order of their names.
fn read_drop_ins(main: &Path) -> Result<Vec<Text>, LoadError> {
    let directory = main.parent().unwrap_or(Path::new(".")).join(DROP_IN_DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LoadError::Unreadable { path: directory, error }),
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .take(DROP_INS_MAX)
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Text, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    let octets = fs::metadata(path).map_err(unreadable)?.len();
    if octets > FILE_OCTETS_MAX {
        return Err(unreadable(io::Error::other("too large for a configuration file")));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Ok(Text::new(path.display().to_string(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (loaded, path) = load(Some(&main)).expect("all files are right");
        let names: Vec<&str> = loaded.model.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["a.example", "b.example", "c.example"]);
        assert_eq!(path, Some(main));
    }

    #[test]
    fn the_example_that_is_installed_is_the_built_in_configuration_written_out() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/truechimer.toml");
        let (loaded, _) = load(Some(&example)).expect("the example is right");
        let named =
            |model: &Model| model.sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
        assert_eq!(named(&loaded.model), named(&Model::built_in()));
        assert_eq!(loaded.model.authentication, Model::built_in().authentication);
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_its_name_is_told() {
        let error = load(Some(Path::new("/nonexistent/x.toml"))).expect_err("there is no such file");
        assert!(error.to_string().contains("/nonexistent/x.toml"), "{error}");
    }
}
