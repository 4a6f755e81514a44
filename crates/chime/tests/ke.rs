//! `chime ke` against a server of ours: what it shows, what it says of what goes wrong, and how it exits.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use chime_nts::{CookieKey, KeyRing};
use chime_time::NtpDate;
use chimed::ke_server::{CertificateFiles, KeListener, KeServerSettings, KeServing, spawn};
use chimed::serving::Shared;

struct Server {
    folder: tempfile::TempDir,
    serving: KeServing,
    certificate: PathBuf,
}

fn server(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params =
        rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    change(&mut params);
    let certificate = params.self_signed(&key).expect("signed");
    let files =
        CertificateFiles { chain: folder.path().join("server.pem"), key: folder.path().join("server.key") };
    std::fs::write(&files.chain, certificate.pem()).expect("written");
    std::fs::write(&files.key, key.serialize_pem()).expect("written");
    let shared = Arc::new(Shared::unsynchronized(-20));
    let ring = KeyRing::new(CookieKey::new(1, [3; 32], NtpDate::from_unix(0, 0)));
    shared.keys.store(Some(Arc::new(ring)));
    let certificate = files.chain.clone();
    let mut listener = KeListener::new("127.0.0.1:0".parse().expect("an address"), vec![files]);
    listener.ntp_port = Some(1123);
    let serving =
        spawn(&KeServerSettings { listeners: vec![listener], workers: 1 }, &shared).expect("it starts");
    Server { folder, serving, certificate }
}

impl Server {
    fn target(&self, host: &str) -> String {
        format!("{host}:{}", self.serving.addresses()[0].port())
    }

    fn ca(&self) -> &str {
        self.certificate.to_str().expect("a path of letters")
    }
}

fn chime_ke(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_chime"))
        .arg("ke")
        .args(arguments)
        .env_remove("NO_COLOR")
        .env("SSL_CERT_FILE", Path::new("/nonexistent"))
        .output();
    output.expect("the binary runs")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("texts are text")
}

#[test]
fn a_good_establishment_is_shown_step_by_step() {
    let server = server(|_| {});
    for host in ["127.0.0.1", "localhost"] {
        let output = chime_ke(&[&server.target(host), "--no-system-cas", "--ca", server.ca(), "-4"]);
        let shown = text(&output);
        assert_eq!(output.status.code(), Some(0), "{shown}");
        for expected in [
            "TCP          127.0.0.1  connected",
            "TLS          TLS 1.3, TLS13_AES_128_GCM_SHA256, X25519MLKEM768, ntske/1",
            "  names  localhost, 127.0.0.1",
            "  key    sha256:",
            "Sent         Next Protocol Negotiation: NTPv4",
            "AEAD Algorithm Negotiation: 30 (AES-128-GCM-SIV), 15 (AES-SIV-CMAC-256)",
            "Compliant AES-128-GCM-SIV Exporter Context (not critical)",
            "8 × New Cookie, ",
            "End of Message",
            "AEAD         30 AES-128-GCM-SIV\n",
            "Cookies      8 of ",
            "NTP server   127.0.0.1, port 1123",
            "Keys established in ",
        ] {
            assert!(shown.contains(expected), "{expected} is not in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "no colours in a pipe");
    }
}

#[test]
fn json_has_the_same_facts() {
    let server = server(|_| {});
    let output = chime_ke(&[&server.target("127.0.0.1"), "--no-system-cas", "--ca", server.ca(), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], true);
    assert_eq!(report["connections"][0]["result"], "connected");
    assert_eq!(report["tls"]["version"], "TLS 1.3");
    assert_eq!(report["result"]["aead"], 30);
    assert_eq!(report["result"]["cookies"].as_array().map(Vec::len), Some(8));
    assert_eq!(report["result"]["ntp_port"], 1123);
    assert!(report["milliseconds"]["total"].as_f64().is_some_and(|time| time > 0.0));
    let pin = report["certificates"][0]["public_key_sha256"].as_str().expect("a pin");
    let pinned = chime_ke(&[&server.target("127.0.0.1"), "--no-system-cas", "--pin", pin]);
    assert_eq!(pinned.status.code(), Some(0), "{}", text(&pinned));
}

/// Kind, message and hint of an attempt that fails with exit code 1.
fn failure(arguments: &[&str]) -> (String, String, String) {
    let output = chime_ke(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], false);
    let error = |name: &str| report["error"][name].as_str().unwrap_or_default().to_owned();
    (error("kind"), error("message"), error("hint"))
}

#[test]
fn refused_certificates_are_explained() {
    let good = server(|_| {});
    let (kind, message, hint) = failure(&[&good.target("127.0.0.1")]);
    assert!(kind == "self_signed" || kind == "no_trust_anchors", "{kind}: {message}");
    assert!(kind != "self_signed" || hint.contains("--pin sha256:"), "{hint}");

    let (kind, message, _) =
        failure(&[&good.target("127.0.0.1"), "--no-system-cas", "--pin", &"00".repeat(32)]);
    assert_eq!(kind, "pin_mismatch", "{message}");

    let expired = server(|params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let (kind, message, hint) = failure(&[&expired.target("127.0.0.1"), "--ca", expired.ca()]);
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("expired", "the certificate expired on 2002-01-01 00:00:00 UTC")
    );
    assert!(hint.starts_with("This computer's clock says "), "{hint}");

    let other = server(|params| params.subject_alt_names.clear());
    let (kind, _, _) = failure(&[&other.target("127.0.0.1"), "--ca", other.ca()]);
    assert_eq!(kind, "no_subject_alternative_name");
    let shown = text(&chime_ke(&[&other.target("127.0.0.1"), "--ca", other.ca()]));
    assert!(
        shown.contains("Certificate  CN=") && shown.contains("FAILED (checking the certificate): "),
        "{shown}"
    );
}

#[test]
fn what_is_no_server_is_explained() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let closed = format!("127.0.0.1:{}", closed.expect("it was free").port());
    let server = server(|_| {});
    let (kind, _, hint) = failure(&[&closed, "--ca", server.ca()]);
    assert!(kind == "connect" && hint.contains("firewall"), "{kind} {hint}");
    let (kind, _, _) = failure(&["no-such-host.invalid", "--ca", server.ca()]);
    assert_eq!(kind, "lookup");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let silent = silent.local_addr().expect("bound").to_string();
    let (kind, _, _) = failure(&[&silent, "--ca", server.ca(), "--timeout", "0.2"]);
    assert!(kind == "timeout" || kind == "connect", "{kind}");
    let garbled = server.folder.path().join("server.key");
    let output = chime_ke(&[&server.target("127.0.0.1"), "--ca", garbled.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(1), "a key is no certificate");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in
        [&[][..], &["host:port"], &["host", "--pin", "x"], &["host", "-4", "-6"], &["host", "--timeout", "0"]]
    {
        assert_eq!(chime_ke(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
