//! The program under the names of other daemons: versions, refusals, exit codes.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chimed")).args(arguments).output().expect("the program starts")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn versions_and_refusals_are_those_of_the_name() {
    for (arguments, code, words) in [
        (&["--as", "ntpd", "-V"][..], 0, "ntpd ntpsec-1.2.5"),
        (&["--as", "ntpd", "-b"], 1, "broadcasts are not supported"),
        (&["--as", "ntpd", "--bogus"], 1, "unknown option --bogus"),
        (&["--as", "ntp-daemon", "-v"], 0, "ntp-daemon 1.9.0"),
        (&["--as", "ntp-daemon", "--bogus"], 1, "invalid option provided: --bogus"),
        (&["--as", "ntp-daemon", "-c", "/nonexistent.toml"], 78, "There was an error loading the config: "),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn a_link_is_as_good_as_the_option() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("ntpd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_chimed"), &link).expect("it can be made");
    let output = Command::new(&link).arg("--version").output().expect("the program starts");
    assert!(said(&output).starts_with("ntpd ntpsec-"), "{}", said(&output));
}
