//! The scenarios that are shipped as examples meet their limits.

use chime_sim::simulate::{ScenarioFile, simulate};
use std::path::Path;

#[test]
fn every_example_meets_its_limits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry can be read").path())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    let mut broken = Vec::new();
    for name in names {
        let text = std::fs::read_to_string(&name).expect("it can be read");
        let file = ScenarioFile::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", name.display()));
        assert!(!file.description.is_empty(), "{} says what it shows", name.display());
        // A thousand engines once are enough.
        let seeds = if file.fleet.is_some() { 1 } else { 2 };
        for seed in file.seed..file.seed + seeds {
            let simulation = simulate(&file, seed);
            if !simulation.met {
                broken.push(simulation.text(&format!("chime simulate {} --seed {seed}", name.display())));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
