//! `chime simulate` with the real binary: what it prints and draws, and how it exits.

use std::path::Path;
use std::process::{Command, Output};

const SHORT: &str = "title = 'ten minutes'\nduration = '10m'\n[limits]\nsync-by = '1m'\noffset-max = '1ms'\n";

fn simulate(folder: &Path, scenario: &str, arguments: &[&str]) -> Output {
    std::fs::write(folder.join("world.toml"), scenario).expect("the folder can be written to");
    Command::new(env!("CARGO_BIN_EXE_chime"))
        .args(["simulate", "world.toml"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary runs")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn a_scenario_that_meets_its_limits_succeeds_and_is_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = simulate(folder.path(), SHORT, &["--plot", "world.svg", "--seed", "5"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(text(&run.stdout).contains("ten minutes (10 min, seed 5)"), "{}", text(&run.stdout));
    assert!(text(&run.stdout).contains("All 2 limits were met."));
    let svg = std::fs::read_to_string(folder.path().join("world.svg")).expect("it was drawn");
    assert!(svg.starts_with("<svg"));
    let json = simulate(folder.path(), SHORT, &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(json["met"], true);
    assert!(json["requests"].as_u64().is_some_and(|requests| requests > 30));
}

#[test]
fn a_broken_limit_fails_with_the_command_that_replays_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = simulate(folder.path(), &SHORT.replace("'1ms'", "'1ns'"), &[]);
    assert_eq!(run.status.code(), Some(1));
    assert!(
        text(&run.stdout).contains("Replay: chime simulate world.toml --seed 1"),
        "{}",
        text(&run.stdout)
    );
}

#[test]
fn a_file_that_is_no_scenario_is_told_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = simulate(folder.path(), "duration = '10m'\nservers = 3\n", &[]);
    assert_eq!(run.status.code(), Some(78));
    assert!(
        text(&run.stderr).contains("world.toml") && text(&run.stderr).contains("line 2"),
        "{}",
        text(&run.stderr)
    );
    let run = simulate(folder.path(), SHORT, &["--plot", "world.gif"]);
    assert_eq!(run.status.code(), Some(78));
    assert!(text(&run.stderr).contains(".svg or .png"), "{}", text(&run.stderr));
}
