//! ntp.toml of ntpd-rs as an operator meets it: what loads, what it means, and what is said about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chime_config::dialects::ntpd_rs::parse;
use chime_config::{
    Authentication, AuthenticationPolicy, CookieKeyFormat, Dialect, Loaded, LogLevel, PollLimits, Refusal,
    RequireNts, SourceKind, Text, recognise,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ntptoml")
}

fn load(contents: &str) -> Loaded {
    parse(&Text::new("ntp.toml", contents)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn fixture(name: &str) -> Text {
    let contents = std::fs::read_to_string(folder().join(format!("{name}.toml")));
    Text::new(format!("{name}.toml"), contents.expect("fixtures are in the tree"))
}

fn load_fixture(name: &str) -> Loaded {
    parse(&fixture(name)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &Text) -> String {
    match parse(text) {
        Ok(loaded) => panic!("it loads: {:?}", loaded.model),
        Err(errors) => errors.to_string(),
    }
}

fn warnings(loaded: &Loaded) -> Vec<&str> {
    loaded.warnings.0.iter().map(|warning| warning.message.as_str()).collect()
}

/// A table of synchronization with one source, so that there is nothing to warn about.
const SYNCHRONIZATION: &str = "[[source]]\nmode = \"server\"\naddress = \"a.example\"\n\n[synchronization]\nminimum-agreeing-sources = 1\n";

#[test]
fn every_file_loads_that_ntpd_rs_loads_or_that_people_have_copied() {
    const REFUSED: &[&str] =
        &["bad-listen-without-port", "bad-pool-table", "bad-single-table-server", "bad-unknown-key"];
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert_eq!(parse(&fixture(&name)).is_err(), REFUSED.contains(&name.as_str()), "{name}");
        seen += 1;
    }
    assert!(seen >= 21, "{seen} files");
}

#[test]
fn one_source_is_less_than_ntpd_rs_wants_and_the_clock_is_left_alone() {
    for name in ["seed-nts-source", "warn-too-few-sources"] {
        let loaded = load_fixture(name);
        assert_eq!(loaded.model.minimum_agreeing_sources(), 3);
        let [warning] = warnings(&loaded)[..] else { panic!("{}", loaded.warnings) };
        assert!(warning.contains("the clock will not be touched"), "{warning}");
    }
    let source = &load_fixture("seed-nts-source").model.sources[0];
    assert_eq!(source.name, "nts.netnod.se");
    let trust = source.authentication.nts_trust().expect("NTS");
    assert_eq!((trust.port, trust.system_cas), (4460, true));
    assert_eq!(source.poll, PollLimits { min: 4, max: 10, initial: 4 });
}

#[test]
fn a_certificate_authority_is_added_to_those_of_the_system() {
    let model = load_fixture("seed-nts-private-ca").model;
    let trust = model.sources[0].authentication.nts_trust().expect("NTS");
    assert!(trust.system_cas);
    assert_eq!(trust.certificate_authorities, [PathBuf::from("/path/to/certificate/authority.pem")]);
}

#[test]
fn key_establishment_without_a_server_is_warned_about_and_served() {
    for (name, chain) in [
        ("seed-nts-ke-server", "/path/to/certificate/chain.pem"),
        ("seed-certbot", "/etc/letsencrypt/live/time.example.com/fullchain.pem"),
        ("seed-lego", "/var/lib/lego/certificates/time.example.com.crt"),
        ("warn-ke-without-server", "/etc/pki/chain.pem"),
    ] {
        let loaded = load_fixture(name);
        let server = &loaded.model.nts_ke_servers[0];
        assert_eq!(server.listen.to_string(), "[::]:4460");
        assert_eq!(server.certificates[0].chain, PathBuf::from(chain));
        assert!(warnings(&loaded).iter().any(|warning| warning.contains("no [[server]] listens")), "{name}");
    }
}

#[test]
fn the_key_storage_is_one_of_ntpd_rs_and_taken_over() {
    let model = load_fixture("seed-keyset").model;
    let keys = model.predecessor.cookie_keys.expect("a file");
    assert_eq!(keys.path, PathBuf::from("/path/to/store/key/material"));
    assert_eq!(keys.format, CookieKeyFormat::NtpdRs);
    assert_eq!(model.keyset.storage_path, None, "our own format is another");
}

#[test]
fn a_package_default_follows_a_pool_of_four_with_its_step_limits() {
    let loaded = load_fixture("package-default-style");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let model = loaded.model;
    let socket = model.observability.ntpd_rs_socket.as_deref();
    assert_eq!(socket, Some(Path::new("/var/run/ntpd-rs/observe")));
    assert_eq!(model.observability.ntpd_rs_socket_mode, 0o666);
    assert_eq!(model.sources[0].kind, SourceKind::Pool { count: 4, ignore: Vec::new() });
    assert_eq!(model.authentication, AuthenticationPolicy::Mixed);
    let step = model.synchronization.tuning.step;
    assert_eq!(step.threshold, Some(0.01));
    assert_eq!((step.startup_panic.forward, step.startup_panic.backward), (None, Some(86_400.0)));
    assert_eq!((step.running_panic.forward, step.running_panic.backward), (Some(1800.0), Some(1800.0)));
    assert_eq!(model.observability.log_level, LogLevel::Info);
    assert_eq!(model.observability.metrics_listen, None, "the port belongs to ntp-metrics-exporter");
}

#[test]
fn a_client_file_means_what_it_says() {
    let model = load_fixture("client-mixed").model;
    assert_eq!(model.wanted_associations(), 7);
    let shown: Vec<(&str, u16, Option<u16>)> = model
        .sources
        .iter()
        .map(|it| (it.name.as_str(), it.port, it.authentication.nts_trust().map(|trust| trust.port)))
        .collect();
    assert_eq!(
        shown,
        [
            ("nts1.example.net", 123, Some(4460)),
            ("nts2.example.net", 123, Some(4461)),
            ("ntp1.example.com", 123, None),
            ("2001:db8::1", 1123, None),
            ("2001:db8::2", 123, None),
            ("pool.example.org", 123, None),
        ]
    );
    assert_eq!(model.sources[0].poll, PollLimits { min: 5, max: 9, initial: 5 });
    assert_eq!(model.sources[1].poll, PollLimits { min: 6, max: 9, initial: 6 });
    assert_eq!(model.sources[2].poll, PollLimits { min: 5, max: 9, initial: 6 });
    let ignore = ["192.0.2.9", "2001:db8::9"].map(|address| address.parse().expect("an address")).to_vec();
    assert_eq!(model.sources[5].kind, SourceKind::Pool { count: 2, ignore });
    assert_eq!(model.synchronization.tuning.step.accumulated_panic, Some(1800.0));
}

#[test]
fn a_server_file_means_what_it_says() {
    let loaded = load_fixture("server-full");
    let model = &loaded.model;
    let [v4, v6] = &model.servers[..] else { panic!("two servers") };
    assert_eq!(
        (v4.listen.to_string().as_str(), v6.listen.to_string().as_str()),
        ("0.0.0.0:123", "[2001:db8::10]:123")
    );
    assert_eq!((v4.rate_limit_entries, v4.rate_limit_cutoff), (1024, Duration::from_secs(1)));
    let allow = v4.allow.as_ref().expect("a list");
    let shown: Vec<String> = allow.subnets.iter().map(ToString::to_string).collect();
    assert_eq!((shown, allow.refusal), (vec!["10.0.0.0/8".into(), "192.168.1.0/24".into()], Refusal::Ignore));
    assert_eq!(v4.deny.as_ref().map(|deny| deny.refusal), Some(Refusal::Deny));
    assert_eq!((v4.versions.as_slice(), v6.require_nts), (&[3, 4][..], RequireNts::Deny));
    let ke = &model.nts_ke_servers[0];
    assert_eq!((ke.timeout, ke.connections_max), (Duration::from_secs(2), 256));
    assert_eq!((ke.ntp_server.as_deref(), ke.ntp_port), (Some("ntp.example.com"), Some(123)));
    assert_eq!((model.keyset.stale_keys, model.keyset.rotation_interval), (9, Duration::from_secs(86_400)));
    assert_eq!(model.observability.log_level, LogLevel::Warn);
    assert_eq!(model.observability.ntpd_rs_socket_mode, 0o640);
    assert_eq!(model.minimum_agreeing_sources(), 2);
    let panic = model.synchronization.tuning.step.running_panic;
    assert_eq!((panic.forward, panic.backward), (Some(100.0), None));
}

#[test]
fn reference_clocks_are_in_the_model() {
    let loaded = load_fixture("stratum1-gps-pps");
    let clocks: Vec<(&str, &str, Option<f64>)> = loaded
        .model
        .reference_clocks
        .iter()
        .map(|clock| (clock.driver.as_str(), clock.parameter.as_str(), clock.precision))
        .collect();
    let sock = "/run/ntpd-rs/chrony.ttyAMA0.sock";
    assert_eq!(clocks, [("sock", sock, Some(1e-3)), ("pps", "/dev/pps0", Some(1e-7))]);
    assert_eq!(loaded.model.synchronization.local_clock.map(|local| local.stratum), Some(1));
    assert!(loaded.model.reference_clocks.iter().all(chime_config::ReferenceClock::is_supported));
    let pulses =
        load("[[source]]\nmode = \"pps\"\npath = \"/p\"\nprecision = 1e-6\naccuracy = 1e-3\nperiod = 0.2\n");
    let clock = &pulses.model.reference_clocks[0];
    assert_eq!((clock.rate, clock.delay, clock.votes()), (5, 2e-3, false));
    let square = load("[[source]]\nmode = \"sock\"\npath = \"/s\"\nmeasurement_noise_estimate = 1e-6\n");
    assert_eq!(square.model.reference_clocks[0].precision, Some(1e-3));
}

#[test]
fn the_algorithm_table_keeps_what_has_a_meaning() {
    let loaded = load_fixture("algorithm-tuning");
    let tuning = loaded.model.synchronization.tuning;
    assert_eq!(tuning.step.threshold, Some(0.5));
    assert!((tuning.max_slew.as_ppm() - 100.0).abs() < 1e-9);
    assert_eq!(warnings(&loaded).len(), 2, "two keys of its Kalman filter: {}", loaded.warnings);
    assert_eq!(loaded.model.minimum_agreeing_sources(), 1);
}

#[test]
fn an_nts_pool_is_several_authenticated_sources() {
    let model = load_fixture("nts-pool").model;
    assert_eq!(model.sources[0].kind, SourceKind::Pool { count: 3, ignore: Vec::new() });
    assert!(matches!(model.sources[0].authentication, Authentication::Nts(_)));
    assert_eq!(model.authentication, AuthenticationPolicy::Required);
}

#[test]
fn what_guides_say_and_ntpd_rs_refuses_is_read_as_meant_with_a_warning() {
    let loaded = load_fixture("bad-underscore-keys");
    let trust = loaded.model.sources[0].authentication.nts_trust().expect("NTS");
    assert_eq!(trust.certificate_authorities, [PathBuf::from("/etc/pki/ca.pem")]);
    assert!(loaded.model.predecessor.cookie_keys.is_some());
    let copied: Vec<(usize, &str)> = loaded
        .warnings
        .0
        .iter()
        .filter(|it| it.message.contains("is read as"))
        .map(|it| (it.line, it.excerpt.as_str()))
        .collect();
    assert_eq!(
        copied,
        [(5, "certificate_authority = \"/etc/pki/ca.pem\""), (8, "key_storage_path = \"/var/lib/ntp/keys\"")]
    );
    let loaded = load_fixture("bad-accumulated-inf");
    assert_eq!(loaded.model.synchronization.tuning.step.accumulated_panic, None);
    assert!(warnings(&loaded)[0].contains("refuses \"inf\""), "{}", loaded.warnings);
    let other = load("[synchronization]\nstartup-panic-threshold = 5\naccumulated-threshold = 7\n");
    let step = other.model.synchronization.tuning.step;
    assert_eq!((step.startup_panic.forward, step.accumulated_panic), (Some(5.0), Some(7.0)));
    assert_eq!(warnings(&other).len(), 2);
    let portless = load(
        "[[server]]\nlisten = \"[::]:123\"\n[[nts-ke-server]]\nlisten = \"::\"\ncertificate-chain-path = \"/c\"\n\
         private-key-path = \"/k\"\n",
    );
    assert_eq!(portless.model.nts_ke_servers[0].listen.to_string(), "[::]:4460");
}

#[test]
fn mistakes_have_a_place_and_a_remedy() {
    for (name, place, remedy) in [
        ("bad-pool-table", "bad-pool-table.toml:1:", "write `[[source]]` with `mode = \"pool\"`"),
        ("bad-unknown-key", "bad-unknown-key.toml:4:1", "remove it"),
        ("bad-listen-without-port", "bad-listen-without-port.toml:2:10", "add a port: \"0.0.0.0:123\""),
        (
            "bad-single-table-server",
            "bad-single-table-server.toml:1:",
            "write `[[server]]` with two brackets",
        ),
    ] {
        let message = errors(&fixture(name));
        assert!(message.contains(place) && message.contains(remedy), "{message}");
    }
    let typo = errors(&Text::new("t.toml", "[[source]]\nmode = \"sever\"\naddress = \"a\"\n"));
    assert!(typo.contains("t.toml:2:8") && typo.contains("did you mean"), "{typo}");
    let decimal = errors(&Text::new("t.toml", "[observability]\nobservation-permissions = 999\n"));
    assert!(decimal.contains("permissions are octal, such as 0o666"), "{decimal}");
    let syntax = errors(&Text::new("t.toml", "[[source]\n"));
    assert!(syntax.contains("t.toml:1:"), "{syntax}");
}

#[test]
fn what_only_version_two_has_is_passed_over_with_a_warning() {
    let loaded = load_fixture("alpha2-csptp");
    assert!(loaded.model.sources.is_empty());
    assert_eq!(warnings(&loaded).iter().filter(|it| it.contains("CSPTP")).count(), 3, "{}", loaded.warnings);
}

#[test]
fn the_example_of_the_specification_loads() {
    let loaded = load(include_str!("../testdata/spec/ntpd-rs-example.toml"));
    assert_eq!((loaded.model.sources.len(), loaded.model.servers.len()), (3, 1));
    assert_eq!(loaded.model.nts_ke_servers.len(), 1);
    assert_eq!(loaded.model.servers[0].require_nts, RequireNts::Deny);
}

#[test]
fn its_name_or_what_only_ntpd_rs_has_tells_the_dialect() {
    let sources = "[[source]]\nmode = \"server\"\naddress = \"a\"\n";
    for (name, contents, dialect) in [
        ("ntp.toml", sources, Dialect::NtpdRs),
        ("/etc/ntpd-rs/any.toml", sources, Dialect::NtpdRs),
        ("any.toml", "[[source]]\nmode = \"pps\"\n", Dialect::NtpdRs),
        ("any.toml", "# /ntpd-rs/\n", Dialect::Native),
        ("any.toml", "[observability]\nobservation-path = \"/run/ntpd-rs/observe\"\n", Dialect::NtpdRs),
        ("truechimer.toml", sources, Dialect::Native),
    ] {
        assert_eq!(recognise(&Text::new(name, contents)), dialect, "{name}: {contents}");
    }
}

#[test]
fn a_local_clock_at_stratum_one_has_the_name_that_it_is_given() {
    let name = |keys: &str| {
        let text = format!("{SYNCHRONIZATION}{keys}");
        let loaded = parse(&Text::new("ntp.toml", text)).expect("it loads");
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        loaded.model.synchronization.local_clock.map(|local| local.reference_id)
    };
    assert_eq!(name("local-stratum = 1\nreference-id = \"GPS\"\n"), Some(*b"GPS\0"));
    assert_eq!(name("local-stratum = 1\n"), Some(*b"XNON"));
    assert_eq!(name("local-stratum = 3\nreference-id = \"GPS\"\n"), Some([127, 127, 1, 1]));
    assert_eq!(name("reference-id = \"GPS\"\n"), None);
}
