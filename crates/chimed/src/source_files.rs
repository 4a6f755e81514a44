//! chronyc's `reload sources`: the files of `sourcedir` are read again, and nothing else of the configuration.
//!
//! A line of such a file counts together with the directives of the main file (certificates, defaults), so these are kept
//! as they were when the daemon read them.

use crate::chronyd;
use crate::cli::{Habits, Options};
use crate::load;
use chime_config::dialects::chrony::{self, Request};
use chime_config::{Dialect, Model, Source, Text, recognise};
use std::cell::RefCell;
use tracing::{error, warn};

/// A chrony.conf as it was, and what it included.
#[derive(Clone, Debug)]
pub struct SourceFiles {
    main: Text,
    included: Vec<(Request, Vec<Text>)>,
    options: Options,
    /// Sources of the main file; those of `sourcedir` come after them.
    own: usize,
}

impl SourceFiles {
    /// Keeps what the options made the daemon read; `None` when that is no chrony.conf.
    #[must_use]
    pub fn keep(options: &Options) -> Option<Self> {
        let main = match &options.habits {
            Habits::Chronyd(chronyd) => chronyd::main_text(chronyd),
            Habits::Ours => load::main_text(options.config.as_deref()),
            Habits::Ntpd(_) => return None,
        };
        let main = main.ok()?;
        let is_chrony = match (&options.habits, options.dialect) {
            (Habits::Chronyd(_), _) => true,
            (_, dialect) => dialect.unwrap_or_else(|| recognise(&main)) == Dialect::Chrony,
        };
        if !is_chrony {
            return None;
        }
        let included = RefCell::new(Vec::new());
        let files = |request: &Request| {
            if matches!(request, Request::SourceDirectories(_)) {
                return Ok(Vec::new());
            }
            let texts = load::included(request)?;
            included.borrow_mut().push((request.clone(), texts.clone()));
            Ok(texts)
        };
        let loaded = chrony::parse(&main, &files).ok()?;
        let mut kept = Self { main, included: included.into_inner(), options: options.clone(), own: 0 };
        kept.own = kept.adapted(loaded.model).sources.len();
        Some(kept)
    }

    /// The sources of `sourcedir` among those of a model that was read at the same time.
    #[must_use]
    pub fn of<'m>(&self, model: &'m Model) -> &'m [Source] {
        model.sources.get(self.own..).unwrap_or_default()
    }

    /// Reads the directories again; `None` when that failed, and the old ones stay.
    #[must_use]
    pub fn read(&self) -> Option<Model> {
        let files = |request: &Request| match self.included.iter().find(|(known, _)| known == request) {
            Some((_, texts)) => Ok(texts.clone()),
            None => load::included(request),
        };
        match chrony::parse(&self.main, &files) {
            Ok(loaded) => {
                if !loaded.warnings.is_empty() {
                    warn!("{}", loaded.warnings.render(false));
                }
                Some(self.adapted(loaded.model))
            }
            Err(mistakes) => {
                error!("sources not read again, the old ones stay: {}", mistakes.render(false));
                None
            }
        }
    }

    fn adapted(&self, mut model: Model) -> Model {
        if let Habits::Chronyd(options) = &self.options.habits {
            chronyd::adapt(&mut model, options);
        }
        model
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use std::fs;
    use std::path::Path;

    fn options(path: &Path) -> Options {
        Options::parse_from([Path::new("chimed"), Path::new("-c"), path])
    }

    #[test]
    fn only_the_directories_of_sources_are_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let shown = folder.path().display();
        fs::create_dir(at("dhcp")).expect("it can be made");
        let text = format!("include {shown}/more\nsourcedir {shown}/dhcp\nserver a.example\n");
        fs::write(at("chrony.conf"), &text).expect("it can be written");
        fs::write(at("more"), "server b.example\n").expect("it can be written");
        fs::write(at("dhcp/x.sources"), "server c.example\n").expect("it can be written");
        let files = SourceFiles::keep(&options(&at("chrony.conf"))).expect("it is a chrony.conf");
        let names = || {
            let model = files.read().expect("it is right");
            let own: Vec<String> = files.of(&model).iter().map(|source| source.name.clone()).collect();
            (model.sources.len(), own)
        };
        assert_eq!(names(), (3, vec!["c.example".to_owned()]));
        fs::write(at("chrony.conf"), "a mistake\n").expect("it can be written");
        fs::remove_file(at("more")).expect("it is there");
        fs::write(at("dhcp/x.sources"), "server d.example\nserver e.example\n").expect("it can be written");
        assert_eq!(names(), (4, vec!["d.example".to_owned(), "e.example".to_owned()]));
        fs::write(at("native.toml"), "[[source]]\nmode = \"server\"\naddress = \"a.example\"\n")
            .expect("it can be written");
        assert!(SourceFiles::keep(&options(&at("native.toml"))).is_none());
    }
}
