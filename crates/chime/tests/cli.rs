//! The real binary against a control plane with a made-up snapshot: what it prints, and how it exits.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use chime_control::{Command as DaemonCommand, Snapshot};
use chime_engine::{
    AuthenticationMode, AuthenticationPolicy, AuthenticationReport, LeapReport, SourceReport,
};
use chime_web::{Handle, Refused, Settings, Sockets, spawn};

struct Daemon {
    socket: PathBuf,
    commands: Arc<Mutex<Vec<DaemonCommand>>>,
    _handle: Handle,
    _folder: tempfile::TempDir,
}

fn daemon(snapshot: Snapshot) -> Daemon {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("control.sock");
    let settings = Settings { socket: Some(socket.clone()), socket_mode: 0o600, ..Settings::default() };
    let sockets = Sockets::open(&settings).expect("the socket opens");
    let commands = Arc::new(Mutex::new(Vec::new()));
    let queue = Arc::clone(&commands);
    let take = move |command| {
        if command == DaemonCommand::MakeStep {
            return Err(Refused("the clock is not steered".to_owned()));
        }
        queue.lock().expect("nobody panics with it").push(command);
        Ok(())
    };
    let handle =
        spawn(sockets, Arc::new(move || snapshot.clone()), Arc::new(take)).expect("the thread starts");
    Daemon { socket, commands, _handle: handle, _folder: folder }
}

fn chime(socket: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chime"))
        .args(arguments)
        .env("CHIME_SOCKET", socket)
        .env_remove("NO_COLOR")
        .output()
        .expect("the binary runs")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("texts are text")
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("texts are text")
}

fn source(name: &str, address: &str, state: char) -> SourceReport {
    SourceReport {
        name: name.to_owned(),
        remote: Some(format!("{address}:123").parse().expect("an address")),
        online: true,
        state,
        stratum: 1,
        poll: 6,
        reach: 0o377,
        last_sample_age_seconds: Some(33.0),
        offset_seconds: -12e-6,
        measured_offset_seconds: -15e-6,
        error_seconds: 4.2e-3,
        authentication: AuthenticationReport {
            mode: AuthenticationMode::Nts,
            key_id: 1,
            key_type: 15,
            key_bits: 256,
            last_establishment_age_seconds: Some(3700.0),
            cookies: 8,
            cookie_octets: 100,
            ..AuthenticationReport::default()
        },
        ..SourceReport::default()
    }
}

fn good() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.program.version = "0.1.0".to_owned();
    snapshot.program.steers_clock = true;
    snapshot.program.minimum_agreeing_sources = 2;
    let engine = &mut snapshot.engine;
    engine.authentication_policy = AuthenticationPolicy::Required;
    engine.sources =
        vec![source("nts.example.net", "192.0.2.1", '*'), source("nts.example.org", "192.0.2.2", '+')];
    engine.activity.online = 2;
    let tracking = &mut engine.tracking;
    tracking.synchronized = true;
    tracking.authenticated = true;
    tracking.name = Some("nts.example.net".to_owned());
    tracking.reference_id = [192, 0, 2, 1];
    tracking.stratum = 2;
    tracking.leap = LeapReport::Normal;
    tracking.reference_unix_seconds = 1_795_187_044.0;
    tracking.system_offset_seconds = 12e-6;
    tracking.root_delay_seconds = 0.008;
    tracking.root_dispersion_seconds = 0.0002;
    snapshot
}

#[test]
fn status_is_the_default_and_plain_in_a_pipe() {
    let daemon = daemon(good());
    let output = chime(&daemon.socket, &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output),
        "\
Clock          synchronised to nts.example.net and one other, stratum 2
Authenticated  yes: 2 with NTS (required)
Offset         12.0us behind, error at most 4.2ms
Sources        2 in all, 2 reachable, 2 usable, 2 must agree

  * nts.example.net                   NTS  12.0us behind +/-  4.2ms,   33s ago
  + nts.example.org                   NTS  12.0us behind +/-  4.2ms,   33s ago
"
    );
    let coloured = chime(&daemon.socket, &["status", "--color", "always"]);
    assert!(text(&coloured).contains("\x1b[32msynchronised\x1b[0m"));
}

#[test]
fn reports_have_the_layout_of_chronyc() {
    let daemon = daemon(good());
    assert_eq!(
        text(&chime(&daemon.socket, &["sources"])),
        "\
MS Name/IP address         Stratum Poll Reach LastRx Last sample               
===============================================================================
^* nts.example.net               1   6   377    33    -12us[  -15us] +/- 4200us
^+ nts.example.org               1   6   377    33    -12us[  -15us] +/- 4200us
"
    );
    assert_eq!(
        text(&chime(&daemon.socket, &["authdata", "-n"])),
        "\
Name/IP address             Mode KeyID Type KLen Last Atmp  NAK Cook CLen
=========================================================================
192.0.2.1                    NTS     1   15  256  61m    0    0    8  100
192.0.2.2                    NTS     1   15  256  61m    0    0    8  100
"
    );
    let csv = text(&chime(&daemon.socket, &["activity", "--csv"]));
    assert_eq!(csv, "2,0,0,0,0\n");
    assert!(text(&chime(&daemon.socket, &["tracking"])).starts_with("Reference ID    : C0000201 (nts."));
}

#[test]
fn every_report_is_json_when_asked_for() {
    let daemon = daemon(good());
    for report in [
        "status",
        "tracking",
        "sources",
        "sourcestats",
        "authdata",
        "ntpdata",
        "selectdata",
        "activity",
        "serverstats",
        "clients",
        "ntsdatastats",
        "smoothing",
        "rtcdata",
        "check",
    ] {
        let output = chime(&daemon.socket, &[report, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{report}: {}", complaint(&output));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        assert!(!value.is_null(), "{report}");
    }
}

#[test]
fn a_source_that_does_not_exist_is_a_failure() {
    let daemon = daemon(good());
    assert_eq!(chime(&daemon.socket, &["ntpdata", "192.0.2.1"]).status.code(), Some(0));
    let output = chime(&daemon.socket, &["ntpdata", "nts.example.com"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(complaint(&output), "chime: there is no source nts.example.com\n");
}

#[test]
fn commands_reach_the_daemon_or_say_why_not() {
    let daemon = daemon(good());
    let output = chime(&daemon.socket, &["offline", "nts.example.net"]);
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), "200 OK\n"));
    let taken = daemon.commands.lock().expect("nobody panics with it").clone();
    assert_eq!(taken, [DaemonCommand::Offline { source: Some("nts.example.net".to_owned()) }]);
    let output = chime(&daemon.socket, &["makestep"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(complaint(&output), "chime: the daemon refuses: the clock is not steered\n");
}

#[test]
fn check_has_the_codes_of_plug_ins() {
    let daemon_good = daemon(good());
    let output = chime(&daemon_good.socket, &["check"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).starts_with("TIME OK - synchronised to nts.example.net"), "{}", text(&output));
    assert_eq!(chime(&daemon_good.socket, &["check", "--sources", "3"]).status.code(), Some(1));
    assert_eq!(chime(&daemon_good.socket, &["check", "--critical", "0.000001"]).status.code(), Some(2));
    assert_eq!(chime(&daemon_good.socket, &["check", "--bogus"]).status.code(), Some(3));

    let mut mixed = good();
    mixed.engine.tracking.authenticated = false;
    mixed.engine.unauthenticated_in_use = vec!["ntp.example.com".to_owned()];
    let mixed = daemon(mixed);
    assert_eq!(chime(&mixed.socket, &["check"]).status.code(), Some(1));
    assert_eq!(chime(&mixed.socket, &["check", "--require-authentication"]).status.code(), Some(2));
    assert_eq!(chime(&mixed.socket, &["check", "--allow-unauthenticated"]).status.code(), Some(0));

    let nobody = chime(Path::new("/nonexistent/control.sock"), &["check"]);
    assert_eq!(nobody.status.code(), Some(3));
    assert!(text(&nobody).starts_with("TIME UNKNOWN - no daemon runs here"), "{}", text(&nobody));
}

#[test]
fn a_missing_daemon_and_a_wrong_command_line_have_codes_of_their_own() {
    let output = chime(Path::new("/nonexistent/control.sock"), &["tracking"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(complaint(&output).contains("/nonexistent/control.sock does not exist"));
    assert_eq!(chime(Path::new("/x"), &["sources", "--bogus"]).status.code(), Some(2));
    assert_eq!(chime(Path::new("/x"), &["--help"]).status.code(), Some(0));
}

#[test]
fn configurations_are_checked_without_a_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("truechimer.toml");
    let check = |contents: &str| {
        std::fs::write(&path, contents).expect("it can be written");
        let output = chime(Path::new("/x"), &["config", "check", path.to_str().expect("a plain path")]);
        (output.status.code(), text(&output))
    };
    let (code, said) = check("[[source]]\nmode = \"nts\"\naddress = \"nts.example.net\"\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("sources: 1 (1 with NTS, 0 with a symmetric key, 0 unauthenticated)"), "{said}");
    let (code, said) = check("[[source]]\nmode = \"nts\"\nadress = \"nts.example.net\"\n");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("truechimer.toml:3:1") && said.contains("did you mean `address`?"), "{said}");
    assert!(said.ends_with("2 errors\n"), "{said}");
    let missing = chime(Path::new("/x"), &["config", "check", "/nonexistent.toml"]);
    assert_eq!(missing.status.code(), Some(78));
}

#[test]
fn configurations_of_other_programs_are_shown_converted_and_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chrony.conf");
    std::fs::write(
        &path,
        "# upstream\nserver a.example nts iburst # copied\nserver b.example\nkeyfile /nonexistent/keys\ncommandkey 1\n",
    )
    .expect("it can be written");
    let file = path.to_str().expect("a plain path");
    let shown = chime(Path::new("/x"), &["config", "show", file]);
    assert_eq!(shown.status.code(), Some(0), "{}", complaint(&shown));
    assert!(text(&shown).contains("address = \"a.example\"") && text(&shown).contains("patience = "));

    let converted = chime(Path::new("/x"), &["config", "convert", file, "--to", "native"]);
    assert_eq!(converted.status.code(), Some(0), "{}", complaint(&converted));
    assert!(text(&converted).contains("# upstream\n# copied\n#\n[[source]]"), "{}", text(&converted));
    assert!(complaint(&converted).contains("chrony.conf:5: `commandkey`"), "{}", complaint(&converted));
    let native = folder.path().join("truechimer.toml");
    std::fs::write(&native, text(&converted)).expect("it can be written");
    let again = chime(Path::new("/x"), &["config", "show", native.to_str().expect("a plain path")]);
    let body = |output: &Output| text(output).split_once('\n').map(|(_, body)| body.to_owned());
    assert_eq!(body(&again), body(&shown), "the converted file means the same");

    let explained = chime(Path::new("/x"), &["config", "explain", file]);
    let said = text(&explained);
    for part in [
        "a.example",
        "authenticated with NTS",
        "not authenticated: whoever is on the way",
        "1 of 2 sources are not authenticated",
        "Two sources",
        "There is no key file /nonexistent/keys",
        "2 warnings",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(chime(Path::new("/x"), &["config", "convert", file, "--to", "chrony"]).status.code(), Some(2));
}

#[test]
fn completions_and_manual_pages_are_generated() {
    for shell in ["bash", "fish", "zsh"] {
        let output = chime(Path::new("/x"), &["generate", "completions", shell]);
        assert!(text(&output).contains("sourcestats"), "{shell}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().to_str().expect("a plain path");
    assert_eq!(chime(Path::new("/x"), &["generate", "man", directory]).status.code(), Some(0));
    let page = std::fs::read_to_string(folder.path().join("chime.1")).expect("there is a page");
    assert!(page.contains("Exit status"), "{page}");
    assert!(folder.path().join("chime-check.1").exists());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let daemon = daemon(good());
    let binary = env!("CARGO_BIN_EXE_chime");
    let script = format!("set -o pipefail; '{binary}' ntpdata | true");
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("CHIME_SOCKET", &daemon.socket)
        .output()
        .expect("a shell runs");
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
}
