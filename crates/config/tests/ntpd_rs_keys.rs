//! Every key that ntpd-rs has: it means something here, or draws one warning that names its line and what is different.

use chime_config::Text;
use chime_config::dialects::ntpd_rs::parse;

/// What becomes of a key.
enum Here {
    /// The model is another with it, and nothing is said.
    Means,
    /// One warning, with these words.
    Differs(&'static str),
    /// It asks for what is done anyway.
    AsUsual,
}
use Here::{AsUsual, Differs, Means};

const FILTER: &str = "tunes the Kalman filter of ntpd-rs";
const METRICS: &str = "the metrics of this daemon are on its control socket";
const POOLS: &str = "connections of NTS pools are not supported";
const SERVER: &str = "[[source]]\nmode = \"server\"\naddress = \"ntp.example.com\"\n";
const NTS: &str = "[[source]]\nmode = \"nts\"\naddress = \"nts.example.com\"\n";
const POOL: &str = "[[source]]\nmode = \"pool\"\naddress = \"pool.example.com\"\n";
const NTS_POOL: &str = "[[source]]\nmode = \"nts-pool\"\naddress = \"pool.example.com\"\n";
const SOCK: &str = "[[source]]\nmode = \"sock\"\npath = \"/run/a.sock\"\n";
const PPS: &str = "[[source]]\nmode = \"pps\"\npath = \"/dev/pps0\"\n";
const DEFAULTS: &str = "[[source]]\nmode = \"server\"\naddress = \"ntp.example.com\"\n[source-defaults]\n";
const LISTEN: &str = "[[server]]\nlisten = \"0.0.0.0:123\"\n";
const LIMITED: &str = "[[server]]\nlisten = \"0.0.0.0:123\"\nrate-limiting-cutoff-ms = 1000\n";
const CACHED: &str = "[[server]]\nlisten = \"0.0.0.0:123\"\nrate-limiting-cache-size = 32\n";
const KE: &str = "[[server]]\nlisten = \"0.0.0.0:123\"\n[[nts-ke-server]]\nlisten = \"0.0.0.0:4460\"\n\
                  certificate-chain-path = \"/c\"\nprivate-key-path = \"/k\"\n";
const KEYSET: &str = "[keyset]\n";
const SYNC: &str = "[synchronization]\n";
const ALGORITHM: &str = "[synchronization.algorithm]\n";
const OBSERVABILITY: &str = "[observability]\n";

/// What stands before it, the key with a value that is not its default, and what becomes of it.
const KEYS: &[(&str, &str, Here)] = &[
    (SERVER, "ntp-version = \"auto\"", Differs("draft")),
    (SERVER, "ntp-version = 4", AsUsual),
    (SERVER, "ntp-version = 5", Differs("draft")),
    (SERVER, "poll-interval-limits = { min = 5, max = 7 }", Means),
    (SERVER, "poll-interval-limits = { min = 5 }", Means),
    (SERVER, "initial-poll-interval = 6", Means),
    (NTS, "certificate-authority = \"/ca.pem\"", Means),
    (NTS, "enable-srv-resolution = true", Differs("names are resolved to addresses only")),
    (NTS, "enable-srv-resolution = false", AsUsual),
    (NTS, "ntp-version = 5", Differs("draft")),
    (NTS, "poll-interval-limits = { max = 7 }", Means),
    (NTS, "initial-poll-interval = 6", Means),
    (POOL, "count = 2", Means),
    (POOL, "ignore = [\"192.0.2.1\"]", Means),
    (POOL, "ntp-version = 5", Differs("draft")),
    (POOL, "poll-interval-limits = { min = 5, max = 7 }", Means),
    (POOL, "initial-poll-interval = 6", Means),
    (NTS_POOL, "count = 2", Means),
    (NTS_POOL, "certificate-authority = \"/ca.pem\"", Means),
    (NTS_POOL, "enable-srv-resolution = true", Differs("names are resolved to addresses only")),
    (NTS_POOL, "ntp-version = 5", Differs("draft")),
    (NTS_POOL, "poll-interval-limits = { min = 5, max = 7 }", Means),
    (NTS_POOL, "initial-poll-interval = 6", Means),
    (SOCK, "precision = 1e-3", Means),
    (SOCK, "precision = 1e-3\naccuracy = 1e-2", Means),
    (SOCK, "measurement_noise_estimate = 1e-6", Differs("its square root is taken")),
    (PPS, "precision = 1e-6", Means),
    (PPS, "precision = 1e-6\naccuracy = 1e-3", Means),
    (PPS, "precision = 1e-6\nperiod = 0.5", Means),
    (PPS, "measurement_noise_estimate = 1e-12", Differs("its square root is taken")),
    (DEFAULTS, "poll-interval-limits = { min = 5, max = 7 }", Means),
    (DEFAULTS, "initial-poll-interval = 6", Means),
    ("", "[[server]]\nlisten = \"0.0.0.0:123\"", Means),
    (LISTEN, "allowlist = { filter = [\"10.0.0.0/8\"], action = \"ignore\" }", Means),
    (LISTEN, "denylist = { filter = [\"192.168.1.1/24\"], action = \"deny\" }", Means),
    (LIMITED, "rate-limiting-cache-size = 32", Means),
    (CACHED, "rate-limiting-cutoff-ms = 1000", Means),
    (LISTEN, "require-nts = true", Means),
    (LISTEN, "require-nts = \"deny\"", Means),
    (LISTEN, "accept-ntp-versions = [4]", Means),
    (LISTEN, "accept-ntp-versions = [3, 4, 5]", Differs("draft")),
    (LISTEN, "accept-ntp-versions = [5]", Differs("there is no such server here")),
    (
        LISTEN,
        "[[nts-ke-server]]\nlisten = \"[::]:4460\"\ncertificate-chain-path = \"/c\"\nprivate-key-path = \"/k\"",
        Means,
    ),
    (KE, "key-exchange-timeout-ms = 1000", Means),
    (KE, "concurrent-connections = 512", Means),
    (KE, "longlived-connections = 10", Differs(POOLS)),
    (KE, "ntp-port = 123", Means),
    (KE, "ntp-server = \"ntp.example.com\"", Means),
    (KE, "accept-ntp-versions = [4]", AsUsual),
    (KE, "accept-ntp-versions = [4, 5]", Differs("draft")),
    (KE, "accept-ntp-versions = [5]", Differs("there is no such server here")),
    (KE, "accepted-pool-authentication-tokens = []", AsUsual),
    (KE, "accepted-pool-authentication-tokens = [\"secret\"]", Differs(POOLS)),
    (KEYSET, "stale-key-count = 3", Means),
    (KEYSET, "key-rotation-interval = 3600", Means),
    (KEYSET, "key-storage-path = \"/var/lib/ntpd-rs/keys\"", Means),
    (SYNC, "minimum-agreeing-sources = 2", Means),
    (SYNC, "single-step-panic-threshold = 1800", Means),
    (SYNC, "single-step-panic-threshold = { forward = \"inf\", backward = 5 }", Means),
    (SYNC, "startup-step-panic-threshold = \"inf\"", Means),
    (SYNC, "startup-step-panic-threshold = { forward = 5 }", Means),
    (SYNC, "accumulated-step-panic-threshold = 1800", Means),
    (SYNC, "warn-on-jump = false", Means),
    (SYNC, "warn-on-jump = true", AsUsual),
    (SYNC, "local-stratum = 3", Means),
    (SYNC, "reference-id = \"GPS\"", AsUsual),
    (SYNC, "local-stratum = 1\nreference-id = \"GPS\"", Means),
    (ALGORITHM, "precision-low-probability = 0.2", Differs(FILTER)),
    (ALGORITHM, "precision-high-probability = 0.8", Differs(FILTER)),
    (ALGORITHM, "precision-hysteresis = 8", Differs(FILTER)),
    (ALGORITHM, "precision-minimum-weight = 0.2", Differs(FILTER)),
    (ALGORITHM, "poll-interval-low-weight = 0.3", Differs(FILTER)),
    (ALGORITHM, "poll-interval-high-weight = 0.7", Differs(FILTER)),
    (ALGORITHM, "poll-interval-hysteresis = 8", Differs(FILTER)),
    (ALGORITHM, "poll-interval-step-threshold = 1e-5", Differs(FILTER)),
    (ALGORITHM, "delay-outlier-threshold = 4", Differs(FILTER)),
    (ALGORITHM, "initial-wander = 1e-7", Differs(FILTER)),
    (ALGORITHM, "initial-frequency-uncertainty = 1e-5", Differs(FILTER)),
    (ALGORITHM, "maximum-source-uncertainty = 0.5", Means),
    (ALGORITHM, "range-statistical-weight = 3", Differs(FILTER)),
    (ALGORITHM, "range-delay-weight = 0.5", Differs(FILTER)),
    (ALGORITHM, "steer-offset-threshold = 1", Differs(FILTER)),
    (ALGORITHM, "steer-offset-leftover = 0.5", Differs(FILTER)),
    (ALGORITHM, "steer-frequency-threshold = 1", Differs(FILTER)),
    (ALGORITHM, "steer-frequency-leftover = 1", Differs(FILTER)),
    (ALGORITHM, "step-threshold = 0.5", Means),
    (ALGORITHM, "slew-maximum-frequency-offset = 1e-4", Means),
    (ALGORITHM, "slew-minimum-duration = 4", Differs(FILTER)),
    (ALGORITHM, "maximum-frequency-steer = 1e-4", Means),
    (ALGORITHM, "ignore-server-dispersion = true", Differs(FILTER)),
    (ALGORITHM, "meddling-threshold = 6", Differs(FILTER)),
    (OBSERVABILITY, "log-level = \"debug\"", Means),
    (OBSERVABILITY, "log-path = \"/var/log/ntpd-rs.log\"", Means),
    (OBSERVABILITY, "log-path-metrics-exporter = \"/var/log/m.log\"", Differs(METRICS)),
    (OBSERVABILITY, "ansi-colors = true", Differs("the log has no colours")),
    (OBSERVABILITY, "observation-path = \"/run/observe\"", Means),
    (OBSERVABILITY, "observation-permissions = 0o600", Means),
    (OBSERVABILITY, "observation-permissions = 432", Means),
    (OBSERVABILITY, "observation-permissions = 660", Differs("660 is read as 0o660")),
    (OBSERVABILITY, "metrics-exporter-listen = \"127.0.0.1:9000\"", Differs(METRICS)),
    (
        "",
        "[clock]\nclock = \"/dev/ptp0\"\ninterface = \"eth0\"\ntimestamp-mode = \"hardware\"",
        Differs("the system's clock"),
    ),
    ("", "[csptp]\npriority_1 = 1", Differs("CSPTP")),
    ("", "[[csptp-server]]\ninterface = \"any\"", Differs("CSPTP")),
];

/// The model, and what is said about lines from `line` on: nothing else matters here, such as too few sources.
fn read(text: &str, line: usize) -> (String, Vec<String>) {
    let loaded = parse(&Text::new("ntp.toml", text)).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    let said = loaded.warnings.0.iter().filter(|warning| warning.line >= line);
    (format!("{:?}", loaded.model), said.map(|warning| warning.message.clone()).collect())
}

/// What is wrong with what became of a key.
fn complaint((before, key, here): &(&str, &str, Here)) -> Option<String> {
    let line = before.lines().count() + 1;
    let (with, said) = read(&format!("{before}{key}\n"), line);
    // A reference clock cannot be without its first key.
    let is_bare = before.starts_with(SOCK) || before.starts_with(PPS);
    let without = read(if is_bare { "" } else { before }, line).0;
    let is_right = match here {
        Means => said.is_empty() && with != without,
        AsUsual => said.is_empty() && with == without,
        Differs(words) => matches!(&said[..], [one] if one.contains(words)),
    };
    let changed = if with == without { "nothing" } else { "something" };
    (!is_right).then(|| format!("{before}{key}: {changed} has changed, and it is said: {said:?}"))
}

#[test]
fn every_key_of_ntpd_rs_means_something_or_draws_one_warning_on_its_line() {
    let complaints: Vec<String> = KEYS.iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

/// What ntpd-rs takes, and what is out of reach here: it is brought within reach, and that is said.
#[test]
fn values_that_ntpd_rs_takes_are_no_mistakes() {
    for (before, key) in [
        (POOL, "count = 40"),
        (SERVER, "poll-interval-limits = { min = -2, max = 4 }"),
        (SERVER, "poll-interval-limits = { min = 9, max = 5 }"),
        (SERVER, "initial-poll-interval = 20"),
        (SYNC, "minimum-agreeing-sources = 0"),
        (KEYSET, "key-rotation-interval = 1"),
        (KEYSET, "stale-key-count = 1000"),
        (KE, "key-exchange-timeout-ms = 100000"),
        (KE, "concurrent-connections = 100000"),
        (LISTEN, "rate-limiting-cache-size = 100000000"),
        (LISTEN, "rate-limiting-cutoff-ms = 100000000"),
        (SYNC, "accumulated-step-panic-threshold = 0"),
    ] {
        let result = parse(&Text::new("ntp.toml", format!("{before}{key}\n")));
        assert!(result.is_ok(), "{before}{key}\n{}", result.expect_err("checked"));
    }
}

/// Keys that only our own configuration has, in each table: `--dialect native` knows them.
#[test]
fn keys_that_ntpd_rs_does_not_have_are_refused() {
    for (before, key) in [
        (SERVER, "iburst = true"),
        (SERVER, "interleaved = true"),
        (SERVER, "min-delay = 0.1"),
        (NTS, "pinned-keys = []"),
        (NTS, "aeads = 15"),
        (KE, "aeads = [30]"),
        (DEFAULTS, "bind-address = \"192.0.2.1\""),
        (DEFAULTS, "name-refresh = 1"),
        (LISTEN, "network-terms = [\"10.0.0.0/8 unlimited\"]"),
        (LISTEN, "access-rules = [\"allow\"]"),
        (LISTEN, "fast-path = \"xdp\""),
        (KE, "access-rules = [\"allow\"]"),
        (KE, "rate-limit = { interval = 1 }"),
        (SYNC, "steer-clock = false"),
        (SYNC, "mark-kernel-synchronized = false"),
        (ALGORITHM, "patience = 5"),
        (ALGORITHM, "minimum-survivors = 5"),
        (OBSERVABILITY, "control-path = \"/run/x\""),
    ] {
        let result = parse(&Text::new("ntp.toml", format!("{before}{key}\n")));
        let errors = result.expect_err(key).to_string();
        let line = before.lines().count() + 1;
        assert!(errors.contains(&format!("ntp.toml:{line}:")), "{before}{key}\n{errors}");
    }
}
