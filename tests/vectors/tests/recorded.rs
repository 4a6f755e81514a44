//! The recorded exchanges in the tree hold, and the checker notices when something does not.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use truechimer_vectors::{Report, check_folder};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

fn read(file: &str) -> Vec<Value> {
    let text = std::fs::read(data().join(file)).expect("the file is there");
    serde_json::from_slice(&text).expect("the file is well-formed")
}

/// Checks vectors as if they were a folder of their own.
fn check(name: &str, vectors: &[Value]) -> Report {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let text = serde_json::to_vec(vectors).expect("a value");
    std::fs::write(folder.join("vectors.json"), text).expect("a file of the test");
    check_folder(&folder).expect("the folder can be read")
}

#[test]
fn everything_recorded_holds() {
    let report = check_folder(&data()).expect("the folder is there");
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.passed > 700, "{}", report.passed);
}

#[test]
fn the_standard_vectors_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/nts/testdata");
    let report = check_folder(&folder).expect("the folder is there");
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.passed > 70, "{}", report.passed);
}

#[test]
fn every_kind_is_in_the_tree() {
    let files = std::fs::read_dir(data())
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name());
    let files = files.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.ends_with(".json"));
    let kinds: BTreeSet<_> = files
        .flat_map(|file| read(&file))
        .filter_map(|vector| vector["kind"].as_str().map(str::to_owned))
        .collect();
    let wanted = [
        "chronyc",
        "chronyc-set",
        "client-behaviour",
        "client-exchange",
        "client-mac",
        "cmdmon-raw",
        "ke",
        "legacy-mac",
        "mode6",
        "mode7",
        "nts-bad",
        "nts-good",
        "nts-replay",
        "ntpq",
        "ntpq-auth",
        "plain",
    ];
    assert_eq!(kinds, wanted.map(str::to_owned).into());
}

#[test]
fn what_nothing_is_known_about_has_failed() {
    let strangers = [
        serde_json::json!({ "id": "a", "kind": "something-new", "role": "server" }),
        serde_json::json!({ "id": "b", "kind": "nts-good", "role": "server" }),
        serde_json::json!({ "id": "c", "kind": "plain", "role": "server", "ntp_request": "zz", "verdict": "time" }),
        serde_json::json!({ "id": "d" }),
    ];
    let report = check("strangers", &strangers);
    assert_eq!((report.passed, report.failures.len()), (0, strangers.len()), "{:?}", report.failures);
}

/// Replaces a digit of the transmit timestamp in a packet.
fn damage(vector: &Value, field: &str) -> Option<Value> {
    let text = vector[field].as_str().filter(|text| text.len() >= 96)?;
    let at = 90;
    let digit = if &text[at..=at] == "0" { "1" } else { "0" };
    let mut damaged = vector.clone();
    damaged[field] = format!("{}{digit}{}", &text[..at], &text[at + 1..]).into();
    Some(damaged)
}

#[test]
fn a_changed_digit_in_what_was_authenticated_is_noticed() {
    let vectors = [
        read("server_chronyd-head.json"),
        read("client_chronyd-head.json"),
        read("client_mac_chronyd-head.json"),
    ];
    let good = |vector: &&Value| {
        vector["verdict"] == "time" && vector["kind"] == "nts-good" || vector["verdict"] == "served good"
    };
    let good: Vec<_> = vectors.iter().flatten().filter(good).collect();
    assert!(good.len() > 20, "{}", good.len());
    for field in ["ntp_request", "ntp_response"] {
        let damaged: Vec<_> = good.iter().filter_map(|vector| damage(vector, field)).collect();
        let report = check(field, &damaged);
        assert_eq!((report.passed, report.failures.len()), (0, damaged.len()), "{field}");
    }
}

#[test]
fn a_changed_verdict_is_noticed() {
    let vectors = read("server_chronyd-head.json");
    let changed: Vec<_> = vectors
        .into_iter()
        .filter(|vector| vector["kind"] == "nts-good" && vector["verdict"] == "time")
        .map(|mut vector| {
            vector["verdict"] = "nak".into();
            vector
        })
        .collect();
    let report = check("verdict", &changed);
    assert_eq!((report.passed, report.failures.len()), (0, changed.len()));
}
