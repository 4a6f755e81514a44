//! The README's first command, as a newcomer runs it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_demo_shows_authenticated_time_and_a_refused_forgery_within_ten_seconds() {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_chime")).arg("demo").output().expect("the binary runs");
    let took = started.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{complaint}");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    for part in [
        "The client has authenticated time",
        "Name/IP address             Mode KeyID Type KLen Last Atmp  NAK Cook CLen",
        "127.0.0.1                    NTS     1",
        "^* 127.0.0.1 ",
        "Leap status     : Normal",
        "NTS-KE connections accepted: 1",
        "refused: the authenticator does not open: altered or forged",
    ] {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn two_demos_at_once_do_not_disturb_each_other() {
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_chime"))
            .arg("demo")
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary runs")
    };
    let mut both = [start(), start()];
    for child in &mut both {
        assert!(child.wait().expect("it ends").success());
    }
}
