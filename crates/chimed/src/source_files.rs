//! chronyc's `reload sources`: the files of `sourcedir` are read again, and nothing else of the configuration.
//!
//! A line of such a file counts together with the directives of the main file (certificates, defaults), so these are kept
//! as they were when the daemon read them.

use crate::chronyd;
use crate::cli::{Habits, Options};
use crate::load::{self, ChronyFiles};
use crate::time_plane::KeptSources;
use chime_config::dialects::chrony::{self, Request};
use chime_config::{Model, Source, Text};
use std::cell::RefCell;
use tracing::{error, warn};

/// A chrony.conf as it was, and what it included.
#[derive(Clone, Debug)]
pub struct SourceFiles {
    main: Text,
    included: Vec<(Request, Vec<Text>)>,
    options: Options,
}

impl SourceFiles {
    /// Keeps the files that a model was made of, and the sources of it that are of `sourcedir`.
    #[must_use]
    pub fn keep(files: ChronyFiles, options: &Options, model: &Model) -> KeptSources {
        let ChronyFiles { main, included } = files;
        let (directories, included): (Vec<_>, _) =
            included.into_iter().partition(|(request, _)| matches!(request, Request::SourceDirectories(_)));
        let texts: Vec<Text> = directories.into_iter().flat_map(|(_, texts)| texts).collect();
        let sources = of_files(model, &texts).to_vec();
        KeptSources { files: Self { main, included, options: options.clone() }, sources }
    }

    /// Reads the directories again, and gives their sources; `None` when that failed, and the old ones stay.
    #[must_use]
    pub fn read(&self) -> Option<Vec<Source>> {
        let texts = RefCell::new(Vec::new());
        let included = load::included();
        let files = |request: &Request| match self.included.iter().find(|(known, _)| known == request) {
            Some((_, texts)) => Ok(texts.clone()),
            None => included(request).inspect(|read| texts.borrow_mut().extend(read.iter().cloned())),
        };
        match chrony::parse(&self.main, &files) {
            Ok(loaded) => {
                if !loaded.warnings.is_empty() {
                    warn!("{}", loaded.warnings.render(false));
                }
                Some(of_files(&self.adapted(loaded.model), &texts.borrow()).to_vec())
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

/// The sources of a model that are of these files, which were read last.
fn of_files<'m>(model: &'m Model, files: &[Text]) -> &'m [Source] {
    let is_of_them = |source: &Source| {
        source.origin.as_ref().is_some_and(|origin| files.iter().any(|file| file.name == origin.file))
    };
    let count = model.sources.iter().rev().take_while(|source| is_of_them(source)).count();
    &model.sources[model.sources.len() - count..]
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
        let options = options(&at("chrony.conf"));
        let told = load::load_as_told(&options).expect("it is right");
        let kept = SourceFiles::keep(told.chrony.expect("it is a chrony.conf"), &options, &told.loaded.model);
        let names = |sources: &[Source]| sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (told.loaded.model.sources.len(), names(&kept.sources)),
            (3, vec!["c.example".to_owned()])
        );
        let read = || names(&kept.files.read().expect("it is right"));
        assert_eq!(read(), ["c.example"]);
        fs::write(at("chrony.conf"), "a mistake\n").expect("it can be written");
        fs::remove_file(at("more")).expect("it is there");
        fs::write(at("dhcp/x.sources"), "server d.example\nserver e.example\n").expect("it can be written");
        assert_eq!(read(), ["d.example", "e.example"]);
        fs::write(at("native.toml"), "[[source]]\nmode = \"server\"\naddress = \"a.example\"\n")
            .expect("it can be written");
        let native = Options { config: Some(at("native.toml")), ..options };
        assert!(load::load_as_told(&native).expect("it is right").chrony.is_none());
    }
}
