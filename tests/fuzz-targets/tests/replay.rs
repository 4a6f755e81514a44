//! Replays the corpus of every fuzzer through its target, as it is and with a few changes that are the same in every run,
//! and checks that fuzzers, corpora and targets belong together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use truechimer_fuzz_targets::TARGETS;

/// Changed copies of each corpus file; a handful, so that the tests stay quick.
const CHANGED_COPIES: u64 = 100;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(fuzz().join("corpus").join(target)).expect("every target has a corpus");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a readable file")))
        .collect()
}

/// The mixing of splitmix64.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// One to four changes: a bit, an octet, a cut, octets inserted or repeated.
fn change(octets: &[u8], state: &mut u64) -> Vec<u8> {
    let mut changed = octets.to_vec();
    for _ in 0..=mix(state) % 4 {
        let at = usize::try_from(mix(state) % (changed.len() as u64 + 1)).expect("below a length");
        let octet = mix(state).to_le_bytes()[0];
        match mix(state) % 6 {
            0 | 1 if at < changed.len() => changed[at] ^= 1 << (octet % 8),
            2 if at < changed.len() => changed[at] = [0, 0xff, 0x7f, octet][usize::from(octet % 4)],
            3 => changed.truncate(at),
            4 => changed.insert(at, octet),
            _ => changed.extend_from_within(at..),
        }
        changed.truncate(8192);
    }
    changed
}

#[test]
fn no_corpus_file_fails_its_target() {
    for (name, target) in TARGETS {
        for (path, octets) in corpus(name) {
            println!("{path}");
            target(&octets);
        }
        target(&[]);
    }
}

#[test]
fn no_changed_corpus_file_fails_its_target() {
    for (name, target) in TARGETS {
        let mut state = 1;
        for (path, octets) in corpus(name) {
            for copy in 0..CHANGED_COPIES {
                let changed = change(&octets, &mut state);
                println!("{path}, changed copy {copy}: {changed:02x?}");
                target(&changed);
            }
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_and_a_corpus_and_there_are_no_others() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).expect("the folder is there");
        let name = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
        entries.map(|entry| name(entry.expect("an entry").path())).collect()
    };
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest is there");
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        assert!(corpus(&name).len() >= 3, "{name} has too small a corpus");
    }
}
