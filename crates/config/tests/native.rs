//! The native dialect as an operator meets it: what loads, what it means, and what is said about
//! mistakes.

use std::time::Duration;

use chime_config::dialects::native::parse;
use chime_config::{
    Authentication, AuthenticationPolicy, FastPath, LeapMode, Loaded, LogLevel, Model, NtpOverPtp,
    NtpVersion, PollLimits, Refusal, RequireNts, SmearPlace, SmearSettings, SmearShape, SourceKind, Text,
    Threads,
};
use chime_discipline::{CorrectionTime, FallbackDrift};

fn load(contents: &str) -> Loaded {
    parse(&Text::new("t.toml", contents), &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(contents: &str) -> String {
    match parse(&Text::new("t.toml", contents), &[]) {
        Ok(loaded) => panic!("it loads: {:?}", loaded.model),
        Err(errors) => errors.to_string(),
    }
}

fn fixture(name: &str) -> Text {
    let path = format!("{}/testdata/ntptoml/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    Text::new(name, std::fs::read_to_string(path).expect("fixtures are in the tree"))
}

fn load_fixture(name: &str) -> Loaded {
    parse(&fixture(name), &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn files_of_ntpd_rs_load_when_they_use_what_both_have() {
    for name in [
        "algorithm-tuning",
        "client-mixed",
        "nts-pool",
        "package-default-style",
        "seed-certbot",
        "seed-keyset",
        "seed-lego",
        "seed-nts-ke-server",
        "seed-nts-private-ca",
        "seed-nts-source",
        "server-full",
        "warn-ke-without-server",
        "warn-too-few-sources",
    ] {
        load_fixture(name);
    }
}

#[test]
fn what_ntpd_rs_refuses_is_refused_unless_it_has_a_meaning_here() {
    for name in [
        "alpha2-csptp",
        "bad-accumulated-inf",
        "bad-listen-without-port",
        "bad-pool-table",
        "bad-single-table-server",
        "bad-underscore-keys",
        "stratum1-gps-pps",
    ] {
        assert!(parse(&fixture(name), &[]).is_err(), "{name}");
    }
    // `iburst` is a key here.
    assert!(load_fixture("bad-unknown-key").model.sources[0].iburst);
}

#[test]
fn a_client_file_means_what_it_says() {
    let model = load_fixture("client-mixed").model;
    let names: Vec<&str> = model.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "nts1.example.net",
            "nts2.example.net",
            "ntp1.example.com",
            "2001:db8::1",
            "2001:db8::2",
            "pool.example.org"
        ]
    );
    let Authentication::Nts(trust) = &model.sources[1].authentication else {
        panic!("an NTS source");
    };
    assert_eq!((trust.port, model.sources[1].port), (4461, 123));
    let limits = |min, max, initial| PollLimits { min, max, initial };
    assert_eq!(model.sources[0].poll, limits(5, 9, 5));
    assert_eq!(model.sources[1].poll, limits(6, 9, 6));
    assert_eq!(model.sources[2].poll, limits(5, 9, 6));
    assert_eq!(model.sources[2].version, NtpVersion::V4);
    assert_eq!((model.sources[3].port, model.sources[4].port), (1123, 123));
    let SourceKind::Pool { count, ignore } = &model.sources[5].kind else {
        panic!("a pool");
    };
    assert_eq!((*count, ignore.len()), (2, 2));
    assert_eq!(model.authentication, AuthenticationPolicy::Mixed);
    assert_eq!(model.synchronization.tuning.step.accumulated_panic, Some(1800.0));
}

#[test]
fn a_peer_is_a_source_of_its_own_mode() {
    let model = load("[[source]]\nmode = \"peer\"\naddress = \"a\"\nkey = 7\ninterleaved = true\n").model;
    let peer = &model.sources[0];
    assert_eq!((&peer.kind, peer.iburst), (&SourceKind::Peer, false));
    assert_eq!(peer.authentication, Authentication::Key(7));
    let said = errors("[[source]]\nmode = \"peer\"\naddress = \"a\"\nsystem-cas = true\n");
    assert!(said.contains("`system-cas` belongs to"), "{said}");
}

#[test]
fn a_broadcast_has_an_address_and_an_interval() {
    let model = load(
        "[[broadcast]]\naddress = \"192.0.2.255\"\ninterval = 60\nkey = 3\n\
                      [[broadcast]]\naddress = \"[ff02::101]:1123\"\nttl = 4\ninterface = \"eth0\"\n",
    )
    .model;
    let [one, two] = &model.broadcasts[..] else { panic!("{:?}", model.broadcasts) };
    assert_eq!(
        (one.to.to_string(), one.interval.as_secs(), one.key),
        ("192.0.2.255:123".to_owned(), 60, Some(3))
    );
    assert_eq!((two.to.to_string(), two.interval.as_secs()), ("[ff02::101]:1123".to_owned(), 64));
    assert_eq!((two.ttl, two.interface.as_deref(), one.ttl), (4, Some("eth0"), 1));
    let said = errors(
        "[[broadcast]]\naddress = \"ntp.example\"\ninterval = 0\n[[broadcast]]\nkey = 0\n\
                       [[broadcast]]\naddress = \"192.0.2.255\"\nbind-address = \"::1\"\n",
    );
    for wanted in ["is not an IP address", "`interval`", "needs `address`", "different families"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn ntp_over_ptp_has_a_port_and_a_domain() {
    let read = |file: &str| load(file).model.ntp_over_ptp;
    assert_eq!(read(""), None);
    assert_eq!(read("[ntp-over-ptp]\n"), Some(NtpOverPtp { port: 319, domain: 123 }));
    let own = Some(NtpOverPtp { port: 3190, domain: 0 });
    assert_eq!(read("[ntp-over-ptp]\nport = 3190\ndomain = 0\n"), own);
    let said = errors("[ntp-over-ptp]\nport = 0\ndomain = 256\n");
    assert!(said.contains("`port`") && said.contains("`domain`"), "{said}");
}

#[test]
fn interleaved_mode_is_asked_for_by_its_key() {
    let file = "[[source]]\nmode = \"server\"\naddress = \"a\"\ninterleaved = true\n\
                [[source]]\nmode = \"nts\"\naddress = \"b\"\n";
    let model = load(file).model;
    assert_eq!(model.sources.iter().map(|source| source.interleaved).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_server_may_wish_for_a_way_around_its_socket() {
    let server = |line: &str| format!("[[server]]\nlisten = \"0.0.0.0:123\"\n{line}\n");
    for (line, wanted) in [
        ("", FastPath::None),
        ("fast-path = \"none\"", FastPath::None),
        ("fast-path = \"xdp\"", FastPath::Xdp),
        ("fast-path = \"xdp-driver\"", FastPath::XdpDriver),
        ("fast-path = \"xdp-generic\"", FastPath::XdpGeneric),
    ] {
        assert_eq!(load(&server(line)).model.servers[0].fast_path, wanted, "{line}");
    }
}

#[test]
fn a_server_file_means_what_it_says() {
    let loaded = load_fixture("server-full");
    let model = loaded.model;
    let first = &model.servers[0];
    assert_eq!(first.listen, "0.0.0.0:123".parse().expect("an address"));
    assert_eq!(first.rate_limit_entries, 1024);
    assert_eq!(first.rate_limit_cutoff, Duration::from_secs(1));
    let allow = first.allow.as_ref().expect("an allow list");
    assert_eq!(allow.refusal, Refusal::Ignore);
    assert_eq!(allow.subnets[1].address().to_string(), "192.168.1.0");
    assert_eq!(first.deny.as_ref().map(|rule| rule.refusal), Some(Refusal::Deny));
    assert_eq!(first.versions, [3, 4]);
    assert_eq!(model.servers[1].require_nts, RequireNts::Deny);
    let ke = &model.nts_ke_servers[0];
    assert_eq!((ke.timeout, ke.connections_max), (Duration::from_secs(2), 256));
    assert_eq!(ke.ntp_server.as_deref(), Some("ntp.example.com"));
    assert_eq!(model.keyset.stale_keys, 9);
    assert_eq!(model.observability.log_level, LogLevel::Warn);
    assert_eq!(model.observability.control_socket_mode, 0o640);
    assert_eq!(model.synchronization.tuning.step.running_panic.backward, None);
    let said = loaded.warnings.to_string();
    assert!(said.contains("NTP version 5 is still a draft"), "{said}");
    assert!(said.contains("`log-path` has no effect"), "{said}");
    assert!(said.contains("metrics are shown to everybody"), "{said}");
}

#[test]
fn an_empty_file_is_all_defaults() {
    let loaded = load("");
    assert_eq!(loaded.model, Model::default());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn our_own_keys_mean_what_they_say() {
    let loaded = load(
        r#"
authentication = "required"
user = false
threads = 4
cpus = [2, 0]
busy-poll = 50
real-time-priority = 1
lock-memory = true
[[source]]
mode = "nts"
address = "192.0.2.1"
port = 1123
system-cas = false
pinned-keys = "00112233445566778899aabbccddeeff:00112233445566778899AABBCCDDEEFF"
prefer = true
address-family = "ipv4"
[[source]]
mode = "server"
address = "ntp.example.com:5000"
key = 7
iburst = false
noselect = true
[source-defaults]
bind-address = ["192.0.2.9", "2001:db8::9"]
interface = "eth0"
[keys]
key-file = "/etc/truechimer/keys"
[local-clock]
stratum = 8
[state]
directory = "/tmp/state"
[observability]
metrics-exporter-listen = "off"
chrony-command-path = "/run/chrony/chronyd.sock"
chrony-command-listen = ["127.0.0.1:323", "[::1]:323"]
chrony-command-open = ["clients", "tracking"]
chrony-command-rate-limit = { interval = 0.0625, leak = 2 }
[synchronization.algorithm]
step-threshold = 0.5
step-updates-limit = "unlimited"
slew-maximum-frequency-offset = 500e-6
first-correction-samples = 3
panic-after-updates = 5
maximum-update-skew = 100e-6
correction-time-ratio = 3
fallback-drift = { min = 16, max = 19 }
"#,
    );
    let model = loaded.model;
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(model.process.user, None);
    assert_eq!(model.client_sockets.v4, "192.0.2.9".parse().ok());
    assert_eq!(model.client_sockets.v6, "2001:db8::9".parse().ok());
    assert_eq!(model.client_sockets.interface.as_deref(), Some("eth0"));
    assert_eq!(model.process.threads, Threads::Count(4));
    assert_eq!((&model.process.cpus[..], model.process.busy_poll_micros), (&[2, 0][..], Some(50)));
    assert_eq!((model.process.real_time_priority, model.process.lock_memory), (Some(1), true));
    let Authentication::Nts(trust) = &model.sources[0].authentication else {
        panic!("an NTS source");
    };
    assert!(!trust.system_cas && trust.pinned_keys[0][1] == 0x11);
    assert_eq!(model.sources[0].port, 1123);
    assert_eq!(model.sources[1].authentication, Authentication::Key(7));
    assert_eq!(model.sources[1].port, 5000);
    assert!(!model.sources[1].iburst && model.sources[1].no_select);
    assert_eq!(model.synchronization.local_clock.map(|local| local.stratum), Some(8));
    assert_eq!(model.observability.metrics_listen, None);
    assert_eq!(model.observability.chrony_socket, Some("/run/chrony/chronyd.sock".into()));
    assert_eq!(model.observability.chrony_listen.len(), 2);
    assert_eq!(model.synchronization.tuning.step.threshold, Some(0.5));
    assert_eq!(model.synchronization.tuning.step.updates_limit, None);
    let tuning = &model.synchronization.tuning;
    assert_eq!((tuning.first_samples_min, tuning.step.panic_after), (3, 5));
    assert!((tuning.max_update_skew.as_ppm() - 100.0).abs() < 1e-9);
    assert_eq!(tuning.correction_time, CorrectionTime::Ratio(3.0));
    assert_eq!(tuning.fallback, Some(FallbackDrift { min: 16, max: 19 }));
    assert!((model.synchronization.tuning.max_slew.as_ppm() - 500.0).abs() < 1e-9);
    assert_eq!(model.cookie_key_path().to_str(), Some("/tmp/state/cookie-keys"));
}

#[test]
fn the_aeads_of_nts_can_be_said() {
    let source = "[[source]]\nmode = \"nts\"\naddress = \"a\"\n";
    let offered = |line: &str| -> Vec<u16> {
        let model = load(&format!("{source}{line}\n")).model;
        let trust = model.sources[0].authentication.nts_trust().expect("NTS");
        trust.aeads.iter().map(|aead| aead.id()).collect()
    };
    assert_eq!(
        (offered(""), offered("aeads = 15"), offered("aeads = [15, 30]")),
        (vec![30, 15], vec![15], vec![15, 30])
    );
    let wrong = |line: &str| {
        parse(&Text::new("t.toml", format!("{source}{line}\n")), &[]).expect_err(line).to_string()
    };
    assert!(wrong("aeads = 17").contains("there are 30 and 15"));
    assert!(wrong("aeads = []").contains("at least one AEAD"));
}

#[test]
fn authentication_is_required_where_every_source_has_it() {
    let nts = "[[source]]\nmode = \"nts\"\naddress = \"a\"\n";
    let plain = "[[source]]\nmode = \"server\"\naddress = \"b\"\n";
    assert_eq!(load(nts).model.authentication, AuthenticationPolicy::Required);
    assert_eq!(load(plain).model.authentication, AuthenticationPolicy::Mixed);
    assert_eq!(load(&format!("{nts}{plain}")).model.authentication, AuthenticationPolicy::Mixed);
}

#[test]
fn a_plain_source_under_required_authentication_draws_a_warning() {
    let loaded = load("authentication = \"required\"\n[[source]]\nmode = \"server\"\naddress = \"b\"\n");
    assert_eq!(loaded.model.sources[0].policy, AuthenticationPolicy::Required);
    assert_eq!(
        loaded.warnings.to_string(),
        "warning: b is not authenticated and authentication is required: it will be measured and \
         never believed\n --> t.toml:2:1\n  |\n2 | [[source]]\n  | ^^^^^^^^^^"
    );
}

#[test]
fn drop_ins_add_sources_and_change_single_keys() {
    let main = Text::new(
        "main",
        "threads = 2\ndscp = 46\nbusy-poll = 9\nreal-time-priority = 3\n[[source]]\nmode = \"nts\"\naddress = \"a\"\n",
    );
    let drop_ins = [
        Text::new("10", "threads = \"single\"\n[[source]]\nmode = \"nts\"\naddress = \"b\"\n"),
        Text::new("20", "[source-defaults]\npoll-interval-limits = { min = 7, max = 7 }\n"),
    ];
    let model = parse(&main, &drop_ins).expect("all are right").model;
    assert_eq!(model.process.threads, Threads::Single);
    let process = &model.process;
    let kept = (process.dscp, process.busy_poll_micros, process.real_time_priority);
    assert_eq!(kept, (Some(46), Some(9), Some(3)), "what drop-ins do not say");
    assert_eq!(model.sources.len(), 2);
    assert!(model.sources.iter().all(|source| source.poll.min == 7 && source.poll.initial == 7));
    assert_eq!(model.sources[1].origin.as_ref().map(|o| (o.file.as_str(), o.line)), Some(("10", 2)));
}

#[test]
fn every_mistake_of_every_file_is_reported_with_its_place_and_fix() {
    let main = Text::new(
        "main.toml",
        r#"authentication = "requird"
[[source]]
mode = "ntp"
adress = "ntp.example.com"
[[source]]
mode = "server"
address = "ntp.example.com:99999"
certificate-authority = "/ca.pem"
poll-interval-limits = { min = 4, maxx = 40 }
[server]
listen = "[::]:123"
"#,
    );
    let drop_in = Text::new("conf.d/10.toml", "[observability]\nlog-level = 3\n");
    let said = parse(&main, &[drop_in]).expect_err("all is wrong").to_string();
    assert_eq!(
        said,
        r#"error: `authentication`: "requird" is not one of "required", "preferred", "mixed", "ignored"
 --> main.toml:1:18
  |
1 | authentication = "requird"
  |                  ^^^^^^^^^
  = help: did you mean "required"?

error: [[source]] needs `address`
 --> main.toml:2:1
  |
2 | [[source]]
  | ^^^^^^^^^^
  = help: `adress` may be meant as `address`

error: `mode`: "ntp" is not one of "server", "nts", "pool", "nts-pool", "peer"
 --> main.toml:3:8
  |
3 | mode = "ntp"
  |        ^^^^^
  = help: did you mean "nts"?

error: unknown key `adress` in [[source]]
 --> main.toml:4:1
  |
4 | adress = "ntp.example.com"
  | ^^^^^^
  = help: did you mean `address`?

error: `address`: "99999" is not a port from 1 to 65535
 --> main.toml:7:11
  |
7 | address = "ntp.example.com:99999"
  |           ^^^^^^^^^^^^^^^^^^^^^^^

error: `certificate-authority` belongs to a source with mode "nts" or "nts-pool"
 --> main.toml:8:1
  |
8 | certificate-authority = "/ca.pem"
  | ^^^^^^^^^^^^^^^^^^^^^

error: unknown key `maxx` in poll-interval-limits
 --> main.toml:9:35
  |
9 | poll-interval-limits = { min = 4, maxx = 40 }
  |                                   ^^^^
  = help: did you mean `max`?

error: there can be several of `server`, so each is written [[server]]
  --> main.toml:10:1
   |
10 | [server]
   | ^^^^^^^^
   = help: write `[[server]]` with two brackets

error: `log-level`: must be one of "error", "warn", "info", "debug", "trace", and this is an integer
 --> conf.d/10.toml:2:13
  |
2 | log-level = 3
  |             ^"#
    );
}

#[test]
fn wrong_values_say_what_would_be_right() {
    let cases = [
        ("threads = 0", "0 is out of range; give an integer from 1 to 1024"),
        ("cpus = [1024]", "1024 is out of range; give an integer from 0 to 1023"),
        ("real-time-priority = 0", "0 is out of range; give an integer from 1 to 99"),
        ("busy-poll = 0", "0 is out of range; give an integer from 1 to 1000000"),
        (
            "[[server]]\nlisten = \"0.0.0.0:123\"\nfast-path = \"dpdk\"",
            "\"dpdk\" is not one of \"none\", \"xdp\"",
        ),
        ("threads = true", "must be \"per-core\", \"single\" or a number of threads"),
        ("[keyset]\nkey-rotation-interval = 5", "give an integer from 60 to 31622400"),
        ("[[server]]\nlisten = \"0.0.0.0\"", "add a port: \"0.0.0.0:123\""),
        (
            "[[server]]\nlisten = \"[::]:123\"\nallowlist = { filter = [\"10.0.0.1\", \"x/8\"], action = \"deny\" }",
            "for this address alone write \"10.0.0.1/32\"",
        ),
        ("[[server]]\nlisten = \"[::]:123\"\nallowlist = { filter = [] }", "allowlist needs `action`"),
        ("[synchronization]\nsingle-step-panic-threshold = -1", "must be at least 0 seconds, or \"inf\""),
        ("[observability]\nobservation-permissions = 666", "write 0o666"),
        ("[observability]\nchrony-command-listen = \"0.0.0.0:323\"", "on this machine only"),
        ("[observability]\nchrony-command-open = [\"trackin\"]", "did you mean \"tracking\"?"),
        ("[local-clock]\nstratum = 16", "16 is out of range; give an integer from 1 to 15"),
        ("[[source]]\nmode = \"nts\"\naddress = \"a\"\nsystem-cas = false", "nothing is trusted here"),
        (
            "[[source]]\nmode = \"server\"\naddress = \"a\"\npoll-interval-limits = { min = 9, max = 5 }",
            "is above the longest",
        ),
        ("[[source]]\nmode = \"server\"\naddress = \"a b\"", "is not a host name or an IP address"),
        ("[[source]]\nmode = \"pps\"\npath = \"/dev/pps0\"", "not supported by this version"),
        ("a = 1\na = 2", "duplicate key"),
        ("x = [", "t.toml:1:"),
    ];
    for (contents, expected) in cases {
        let said = errors(contents);
        assert!(said.contains(expected), "{contents}\n---\n{said}");
    }
}

#[test]
fn a_key_server_without_a_time_server_and_too_few_sources_draw_warnings() {
    let said = load_fixture("warn-ke-without-server").warnings.to_string();
    assert!(said.contains("no [[server]] listens there"), "{said}");
    let said = load(
        "[[source]]\nmode = \"server\"\naddress = \"a\"\n[synchronization]\nminimum-agreeing-sources = 2",
    )
    .warnings
    .to_string();
    assert!(said.contains("sources configured: 1, sources that must agree: 2"), "{said}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(contents in "\\PC*") {
        let _ = parse(&Text::new("t", contents), &[]);
    }

    #[test]
    fn no_cut_or_change_of_a_good_file_makes_it_panic(at in 0_usize..1400, with in "\\PC{0,3}") {
        let mut contents = fixture("server-full").contents;
        if contents.is_char_boundary(at) {
            contents.replace_range(at..(at + 1).min(contents.len()), &with);
        }
        let _ = parse(&Text::new("t", contents), &[]);
    }
}

#[test]
fn leap_seconds_have_a_table_of_their_own() {
    let model = load(
        "[leap-seconds]\nmode = \"slew\"\nfile = \"/usr/share/zoneinfo/leap-seconds.list\"\nzone = \"right/UTC\"\n\
         smear = \"cosine\"\nsmear-seconds = 72000\nsmear-place = \"before\"\n",
    )
    .model;
    assert_eq!(model.discipline_settings().leap_mode, LeapMode::Slew);
    assert_eq!(model.leap_seconds.zone.as_deref(), Some("right/UTC"));
    let cosine = SmearSettings { shape: SmearShape::Cosine, seconds: 72_000.0, place: SmearPlace::Before };
    assert_eq!(model.leap_seconds.smear, Some(cosine));
    let noon_to_noon = load("[leap-seconds]\nsmear = \"linear\"\n").model.leap_seconds.smear;
    assert_eq!(noon_to_noon, Some(SmearSettings::default()));
    let model = load("[leap-seconds]\nsmear = \"none\"\n").model;
    assert_eq!((model.leap_seconds.smear, model.discipline_settings().leap_mode), (None, LeapMode::System));
    for (text, message) in [
        ("mode = \"smear\"", "is not one of \"system\""),
        ("mode = \"ignore\"\nsmear = \"linear\"", "choose another `mode`"),
        ("smear = \"linear\"\nsmear-seconds = 999", "out of range"),
        ("flie = \"x\"", "did you mean `file`?"),
    ] {
        let said = errors(&format!("[leap-seconds]\n{text}\n"));
        assert!(said.contains(message), "{text}: {said}");
    }
    let warnings = load("[leap-seconds]\nsmear = \"linear\"\nsmear-rate = 1e-4\n").warnings;
    assert!(warnings.to_string().contains("belongs to"), "{warnings}");
}

#[test]
fn the_served_time_is_smoothed_within_two_limits() {
    let read = |text: &str| load(&format!("[synchronization]\n{text}\n")).model.synchronization.smoothing;
    assert_eq!(read(""), None);
    let limits = read("smooth-served-time = { rate = 4e-4, rate-change = 1e-8 }").expect("it is smoothed");
    assert_eq!((limits.rate_max, limits.change), (4e-4, 1e-8));
    let said = errors("[synchronization]\nsmooth-served-time = { rate = 4e-4 }\n");
    assert!(said.contains("rate-change"), "{said}");
}

#[test]
fn a_real_time_clock_is_looked_at_by_us_or_set_by_the_kernel() {
    assert!(load("").model.synchronization.marks_kernel);
    let table = "[chrony.real-time-clock]\nfile = \"/var/lib/chrony/rtc\"\n";
    let read = load(&format!("{table}keeps-utc = true\ntrim-threshold = 30\n")).model;
    assert!(!read.synchronization.marks_kernel);
    let clock = &read.chrony.real_time_clock;
    assert_eq!((clock.keeps_utc, clock.trim_threshold), (true, Some(30.0)));
    assert_eq!(clock.device, std::path::Path::new("/dev/rtc"));
    let both = format!("{table}\n[synchronization]\nmark-kernel-synchronized = true\n");
    assert!(errors(&both).contains("every eleven minutes"), "{}", errors(&both));
    assert!(errors("[chrony.real-time-clock]\ndevice = \"/dev/rtc1\"\n").contains("`file`"));
    let followed = "[[reference-clock]]\ndriver = \"rtc\"\nparameter = \"/dev/rtc0:utc\"\n";
    assert!(!load(followed).model.synchronization.marks_kernel);
    let both = format!("{followed}[synchronization]\nmark-kernel-synchronized = true\n");
    assert!(errors(&both).contains("every eleven minutes"), "{}", errors(&both));
    let never = load("[synchronization]\nmark-kernel-synchronized = false\n").model;
    assert!(!never.synchronization.marks_kernel);
}

#[test]
fn sources_that_smear_and_others_are_not_wished_together() {
    let one = |name: &str, smeared: bool| {
        format!("[[source]]\nmode = \"server\"\naddress = \"{name}\"\nsmeared = {smeared}\n")
    };
    let loaded = load(&format!("{}{}{}", one("a", false), one("b", true), one("c", false)));
    assert!(loaded.warnings.to_string().contains("only the others will be followed"), "{}", loaded.warnings);
    assert_eq!((loaded.warnings.0[0].line, loaded.model.sources[1].options().smeared), (5, true));
    assert!(load(&format!("{}{}", one("a", true), one("b", true))).warnings.is_empty());
}

#[test]
fn network_cards_stamp_by_themselves_unless_they_are_named_or_forbidden() {
    assert_eq!(load("").model.hardware_stamps, chime_config::HardwareStamps::default());
    assert!(chime_config::HardwareStamps::default().automatic);
    let off = load("[[hardware-timestamps]]\ninterface = \"*\"\nenabled = false\n").model.hardware_stamps;
    assert_eq!(off, chime_config::HardwareStamps::named_only());
    let text = "[[hardware-timestamps]]\ninterface = \"eth0\"\npoll-min = 2\nsamples-min = 4\n\
                receive-compensation = 2e-7\nfilter = \"all\"\ncross-timestamps = false\ntimeout-ms = 3\n";
    let stamps = load(text).model.hardware_stamps;
    let card = &stamps.cards[0];
    assert_eq!((card.interface.as_deref(), card.poll_min, card.poll_max), (Some("eth0"), 2, 3));
    assert_eq!((card.relation.samples_min, card.receive_compensation), (4, 2e-7));
    assert!(!stamps.automatic && !card.cross_timestamps);
    assert_eq!(stamps.timeout, Duration::from_millis(3));
    for model in [off, stamps] {
        let model = Model { hardware_stamps: model, ..Model::default() };
        let written = chime_config::write(&model, chime_config::Detail::Complete, &mut |_| Vec::new());
        assert_eq!(load(&written).model.hardware_stamps, model.hardware_stamps, "{written}");
    }
    let said =
        errors("[[hardware-timestamps]]\ninterface = \"*\"\npoll-min = 3\npoll-max = 2\nfilter = \"some\"\n");
    assert!(said.contains("must not be below `poll-min`") && said.contains("filter"), "{said}");
}
