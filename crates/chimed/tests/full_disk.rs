//! What the daemon does when its log cannot be written: it goes on.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;

/// A file on a disk that is full.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it")
}

/// Runs the daemon with `text` as its configuration and both outputs on a full disk; gives its exit status.
fn run(folder: &Path, text: &str, options: &[&str]) -> Option<i32> {
    let path = folder.join("truechimer.toml");
    fs::write(&path, text).expect("it can be written");
    Command::new(env!("CARGO_BIN_EXE_chimed"))
        .arg("-c")
        .arg(&path)
        .args(options)
        .stdout(full())
        .stderr(full())
        .status()
        .expect("it can be started")
        .code()
}

#[test]
fn a_log_on_a_full_disk_ends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[[source]]\nmode = \"server\"\naddress = \"127.0.0.1\"\n[state]\ndirectory = \"{0}\"\n\
         [observability]\nobservation-path = false\nmetrics-exporter-listen = false\n",
        folder.path().join("state").display()
    );
    assert_eq!(run(folder.path(), &text, &["-x", "--keep-user", "-t", "0.5"]), Some(0));
    assert_eq!(run(folder.path(), &text, &["-Q", "-t", "0.5"]), Some(1), "no trustworthy time");
    assert_eq!(run(folder.path(), "nonsense", &["-Q"]), Some(78));
}
