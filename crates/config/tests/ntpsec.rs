//! ntp.conf as an operator of NTPsec meets it: what loads, what it means, and what is said about it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use chime_config::dialects::ntpsec::{Request, parse};
use chime_config::{
    AddressFamily, Authentication, AuthenticationPolicy, CookieKeyFormat, Dialect, FileInterval, Loaded,
    NtpVersion, NtpdStatistic, PollLimits, ReceiverSentence, RequireNts, SourceKind, StatisticsFile, Terms,
    Text, recognise,
};
use chime_server::{Access, SmearPlace, SmearSettings, SmearShape};
use proptest::prelude::*;

fn nothing(request: &Request) -> Result<Vec<Text>, String> {
    Err(format!("{}: no such file", request.0.display()))
}

fn named(name: &str) -> Result<Vec<IpAddr>, String> {
    match name {
        "two.example" => Ok(vec![[192, 0, 2, 7].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into()]),
        _ => Err("no such name".to_owned()),
    }
}

fn load(contents: &str) -> Loaded {
    parse(&Text::new("ntp.conf", contents), &[], &nothing, &named).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(contents: &str) -> String {
    match parse(&Text::new("ntp.conf", contents), &[], &nothing, &named) {
        Ok(loaded) => panic!("it loads: {:?}", loaded.model),
        Err(errors) => errors.to_string(),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ntpconf")
}

fn fixture(name: &str) -> Text {
    let contents = std::fs::read_to_string(folder().join(format!("{name}.conf")));
    Text::new(format!("{name}.conf"), contents.expect("fixtures are in the tree"))
}

fn load_fixture(name: &str) -> Loaded {
    parse(&fixture(name), &[], &nothing, &named).unwrap_or_else(|errors| panic!("{name}: {errors}"))
}

/// Line and beginning of each warning.
fn warnings(loaded: &Loaded) -> Vec<(usize, &str)> {
    loaded.warnings.0.iter().map(|it| (it.line, it.message.as_str())).collect()
}

fn lines(loaded: &Loaded) -> Vec<usize> {
    loaded.warnings.0.iter().map(|it| it.line).collect()
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.model.sources.iter().map(|it| it.name.as_str()).collect()
}

fn nts_port(loaded: &Loaded, at: usize) -> Option<u16> {
    loaded.model.sources[at].authentication.nts_trust().map(|trust| trust.port)
}

fn access(loaded: &Loaded, address: &str) -> Access {
    loaded.model.servers[0].policy().access.check(address.parse().expect("an address"))
}

#[test]
fn no_file_of_the_fixtures_stops_ntpd_and_none_stops_us() {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        load_fixture(path.file_stem().and_then(|name| name.to_str()).expect("a name"));
        seen += 1;
    }
    assert!(seen >= 20, "{seen} files");
}

#[test]
fn the_quick_start_is_a_client_with_nts_and_a_server_with_a_key_file() {
    let public = load_fixture("seed-quickstart-client-public");
    assert!(public.warnings.is_empty(), "{}", public.warnings);
    assert_eq!((names(&public), nts_port(&public, 0)), (vec!["time.cloudflare.com"], Some(1234)));
    let source = &public.model.sources[0];
    assert_eq!((source.port, source.iburst), (123, false));
    assert_eq!(source.poll, PollLimits { min: 6, max: 10, initial: 6 });
    assert_eq!(public.model.authentication, AuthenticationPolicy::Required);

    let dev = load_fixture("seed-quickstart-client-dev");
    assert_eq!(names(&dev), ["ntpmon.dcs1.biz", "pi4.rellim.com", "ntp1.glypnod.com", "ntp2.glypnod.com"]);
    assert!((0..4).all(|at| nts_port(&dev, at) == Some(4460)));
    assert!(dev.warnings.is_empty() && dev.model.sources.iter().all(|source| !source.iburst));

    let server = load_fixture("seed-quickstart-server");
    let listens: Vec<String> =
        server.model.nts_ke_servers.iter().map(|server| server.listen.to_string()).collect();
    assert_eq!(listens, ["0.0.0.0:4460", "[::]:4460"]);
    let pair = &server.model.nts_ke_servers[0].certificates[0];
    assert_eq!(pair.chain, PathBuf::from("/etc/letsencrypt/live/ntpmon.dcs1.biz/fullchain.pem"));
    assert_eq!(pair.key, PathBuf::from("/etc/letsencrypt/live/ntpmon.dcs1.biz/privkey.pem"));

    let cookie = load_fixture("seed-quickstart-cookie").model;
    let keys = cookie.predecessor.cookie_keys.expect("a file");
    assert_eq!((keys.path, keys.format), (PathBuf::from("/var/lib/ntp/nts-keys"), CookieKeyFormat::Ntpsec));
    assert!(cookie.nts_ke_servers.is_empty());
}

#[test]
fn a_package_default_follows_four_pools_and_serves_everybody_with_a_limit() {
    let loaded = load_fixture("debian-ntpsec-style");
    let counts: Vec<&SourceKind> = loaded.model.sources.iter().map(|source| &source.kind).collect();
    let pool = |count| SourceKind::Pool { count, ignore: Vec::new() };
    assert_eq!(counts, [&pool(2), &pool(2), &pool(2), &pool(1)], "11 places, of which 4 are the lines' own");
    assert!(loaded.model.sources.iter().all(|source| source.iburst));
    assert_eq!(loaded.model.minimum_agreeing_sources(), 3);
    let messages = warnings(&loaded);
    assert!(messages.iter().any(|(line, text)| *line == 20 && text.contains("`nopeer`")), "{messages:?}");
    let listens: Vec<String> = loaded.model.servers.iter().map(|it| it.listen.to_string()).collect();
    assert_eq!(listens, ["0.0.0.0:123", "[::]:123"]);
    let policy = loaded.model.servers[0].policy();
    let limit = policy.rate_limit.expect("`limited` is on");
    assert_eq!((limit.interval.as_secs_f64(), limit.burst, limit.kiss), (1.0, 20, Some(1)));
    assert_eq!(access(&loaded, "198.51.100.7"), Access::Allow);
    let drift = loaded.model.predecessor.drift_file.expect("a drift file");
    assert_eq!((drift.path, drift.positive_is_fast), (PathBuf::from("/var/lib/ntpsec/ntp.drift"), false));
}

#[test]
fn classic_files_load_with_a_warning_for_what_has_gone() {
    let loaded = load_fixture("rhel7-classic-style");
    assert_eq!(names(&loaded).len(), 3);
    assert_eq!(loaded.model.key_file, Some(PathBuf::from("/etc/ntp/keys")));
    let shown = warnings(&loaded);
    for (line, text) in
        [(2, "`notrap`"), (2, "`nopeer`"), (10, "/etc/ntp/crypto/pw"), (16, "`monitor` cannot be disabled")]
    {
        assert!(shown.iter().any(|(at, it)| *at == line && it.contains(text)), "{text}: {shown:?}");
    }
    let loaded = load_fixture("ubuntu-classic-style");
    let pool = |count| SourceKind::Pool { count, ignore: Vec::new() };
    assert_eq!(loaded.model.sources[0].kind, pool(4));
    assert_eq!(loaded.model.sources[1].kind, pool(4));
    assert_eq!((loaded.model.sources[0].iburst, loaded.model.sources[1].iburst), (true, false));
}

#[test]
fn options_of_nts_clients_have_their_meaning() {
    let loaded = load_fixture("nts-client-full");
    assert_eq!(loaded.model.minimum_agreeing_sources(), 2);
    let [one, two, three, pool] = &loaded.model.sources[..] else { panic!("four sources") };
    assert!(one.prefer && one.iburst && !two.prefer);
    let site = one.authentication.nts_trust().expect("NTS");
    assert_eq!(
        (site.system_cas, &site.certificate_authorities[..]),
        (false, &[PathBuf::from("/etc/ssl/certs")][..])
    );
    let own = two.authentication.nts_trust().expect("NTS");
    assert_eq!((own.port, own.system_cas), (4461, false));
    assert_eq!(own.certificate_authorities, [PathBuf::from("/etc/ntp/lab-ca.pem")]);
    assert_eq!((three.address_family, three.no_select), (AddressFamily::V6, true));
    assert_eq!(pool.kind, SourceKind::Pool { count: 6, ignore: Vec::new() });
    assert!(pool.is_authenticated());
    let shown = warnings(&loaded);
    assert!(shown.iter().any(|(line, it)| *line == 2 && it.contains("AES_SIV_CMAC_384")), "{shown:?}");
    assert!(
        shown.iter().any(|(line, it)| *line == 3 && it.contains("the certificate is validated")),
        "{shown:?}"
    );
}

#[test]
fn the_aead_of_a_client_is_the_only_one_offered() {
    let loaded =
        load("nts aead AES_SIV_CMAC_256\nserver a.example nts\nserver b.example nts aead AES_SIV_CMAC_512\n");
    let offered = |loaded: &Loaded, at: usize| -> Vec<u16> {
        let trust = loaded.model.sources[at].authentication.nts_trust().expect("NTS");
        trust.aeads.iter().map(|aead| aead.id()).collect()
    };
    assert_eq!((offered(&loaded, 0), offered(&loaded, 1)), (vec![15], vec![15]));
    assert_eq!(lines(&loaded), [3], "{}", loaded.warnings);
    assert_eq!(offered(&load("server a.example nts\n"), 0), [30, 15]);
    assert_eq!(offered(&load("server a.example nts aead AES_SIV_CMAC_256\n"), 0), [15]);
}

#[test]
fn a_server_file_means_what_it_says() {
    let loaded = load_fixture("nts-server-full");
    let listens: Vec<String> = loaded.model.servers.iter().map(|it| it.listen.to_string()).collect();
    assert_eq!(listens, ["0.0.0.0:123", "[::]:123", "0.0.0.0:1123", "[::]:1123"]);
    assert_eq!(loaded.model.nts_ke_servers[0].ntp_port, Some(1123));
    let limit = loaded.model.servers[0].rate_limit.expect("a limit");
    assert_eq!((limit.interval.as_millis(), limit.burst), (500, 30));
    assert_eq!(loaded.model.servers[0].rate_limit_entries, 43_688);
    assert_eq!(
        loaded.model.predecessor.cookie_keys.as_ref().map(|keys| keys.path.clone()),
        Some("/var/lib/ntp/nts-keys".into())
    );
    let written: Vec<&str> = loaded.model.ntpd.statistics.keys().map(|kind| kind.word()).collect();
    assert_eq!(written, ["loopstats", "peerstats", "sysstats", "usestats", "ntsstats", "ntskestats"]);
    assert_eq!(loaded.model.ntpd.statistics_directory, Some("/var/log/ntpstats".into()));
    assert_eq!(loaded.model.ntpd.log_file, Some("/var/log/ntpd.log".into()));
    for line in [6, 7, 8, 10] {
        assert!(lines(&loaded).contains(&line), "line {line}: {:?}", warnings(&loaded));
    }
}

#[test]
fn reference_clocks_are_in_the_model_with_the_devices_that_ntpd_gives_them() {
    let shm = load_fixture("stratum1-gpsd-shm");
    let [gps, pps] = &shm.model.reference_clocks[..] else { panic!("two clocks") };
    assert_eq!(
        (gps.driver.as_str(), gps.parameter.as_str(), gps.reference_id.as_deref()),
        ("shm", "0", Some("GPS"))
    );
    assert_eq!((gps.no_select, gps.offset_correction, gps.poll_exponent), (true, 0.0425, Some(4)));
    assert_eq!((pps.parameter.as_str(), pps.prefer), ("1", true));
    assert_eq!(names(&shm), ["ntp1.example.com"]);

    let serial = load_fixture("stratum1-nmea-pps");
    let [nmea, pps] = &serial.model.reference_clocks[..] else { panic!("two clocks: the third is our own") };
    assert_eq!((nmea.driver.as_str(), nmea.parameter.as_str(), nmea.prefer), ("nmea", "/dev/ttyS0", false));
    // Its pulses have a line of their own: they are followed in its place.
    assert_eq!((nmea.no_select, nmea.baud, nmea.offset_correction), (true, Some(9600), 0.4));
    assert_eq!(
        (pps.reference_id.as_deref(), pps.lock.as_deref(), pps.prefer),
        (Some("PPS"), Some("GPS"), true)
    );
    assert_eq!(serial.model.synchronization.local_clock.map(|local| local.stratum), Some(10));

    let classic = load_fixture("classic-fudge");
    let [nmea, pps] = &classic.model.reference_clocks[..] else { panic!("two clocks, because of flag1") };
    assert_eq!((nmea.driver.as_str(), nmea.parameter.as_str(), nmea.stratum), ("nmea", "/dev/gps0", 1));
    assert_eq!((nmea.reference_id.as_deref(), pps.prefer, nmea.poll_exponent), (Some("GPS"), true, Some(4)));
    assert_eq!(classic.model.synchronization.local_clock.map(|local| local.stratum), Some(12));
    assert_eq!(names(&classic), ["ntp1.example.com"]);
    for loaded in [&shm, &serial, &classic] {
        assert!(warnings(loaded).iter().all(|(_, it)| !it.contains("no driver")), "{:?}", warnings(loaded));
    }
    let other = load("refclock spectracom unit 0\n");
    assert!(warnings(&other).iter().any(|(_, it)| it.contains("no driver for this reference clock")));
}

#[test]
fn a_receiver_that_also_tells_pulses_is_two_clocks() {
    let loaded = load("refclock nmea unit 2 flag1 1 flag2 1 time1 0.001 time2 0.4 mode 0x10 minpoll 3\n");
    let [nmea, pps] = &loaded.model.reference_clocks[..] else { panic!("two clocks") };
    assert_eq!((nmea.parameter.as_str(), nmea.baud, nmea.no_select), ("/dev/gps2", Some(9600), true));
    assert_eq!((nmea.offset_correction, pps.offset_correction), (0.4, 0.001));
    assert_eq!((pps.driver.as_str(), pps.parameter.as_str()), ("pps", "/dev/gpspps2:clear"));
    assert_eq!((pps.lock.as_deref(), pps.poll_exponent), (Some("GPS"), Some(3)));
    let plain = load("refclock nmea unit 2 time1 0.001 time2 0.4\n");
    let [nmea] = &plain.model.reference_clocks[..] else { panic!("one clock") };
    assert_eq!((nmea.offset_correction, nmea.no_select), (0.4, false));
}

#[test]
fn each_option_of_a_reference_clock_has_its_effect_or_one_warning() {
    let clock = |text: &str| load(text).model.reference_clocks.swap_remove(0);
    let shm = clock("refclock shm unit 1 flag1 1 flag4 1\n");
    assert_eq!((shm.parameter.as_str(), shm.max_offset, shm.counts_readings), ("1", 14_400.0, true));
    assert_eq!(clock("server 127.127.28.0\nfudge 127.127.28.0 time2 0.5 flag1 1\n").max_offset, 14_400.0);
    assert_eq!(clock("refclock shm unit 0 flag1 1 time2 60\n").max_offset, 60.0);
    let plain = clock("refclock shm unit 0 time2 60 flag4 0\n");
    assert_eq!((plain.max_offset, plain.counts_readings), (0.0, false));
    let public = load("refclock shm unit 2\n");
    assert_eq!(public.model.reference_clocks[0].parameter, "2:perm=0666");
    assert!(warnings(&public)[0].1.contains("every user of this machine"), "{}", public.warnings);
    assert_eq!(clock("refclock shm unit 2 mode 1\n").parameter, "2");
    let nmea = clock("refclock nmea unit 0 path /dev/serial/by-path/pci-0:1 flag4 1 mode 0x11\n");
    assert_eq!((nmea.device(), nmea.baud), ("/dev/serial/by-path/pci-0:1", Some(9600)));
    assert_eq!((nmea.hides_position, nmea.sentence), (true, Some(ReceiverSentence::Rmc)));
    assert_eq!(clock("refclock nmea mode 8\n").sentence, Some(ReceiverSentence::Zda));
    assert_eq!(clock("refclock pps unit 0 ppspath /dev/pps3\n").parameter, "/dev/pps3");
    assert_eq!(clock("refclock shm unit 0 maxpoll 3\n").poll_exponent, Some(3));
    for usual in [
        "refclock shm unit 0 flag1 1 flag2 1 flag3 1 flag4 1 time1 1 time2 60 mode 1 maxpoll 6",
        "refclock nmea unit 0 flag1 1 flag2 1 flag3 0 flag4 1 mode 0x19 subtype 0",
        "refclock pps unit 0 flag1 1 flag2 1 flag4 0",
    ] {
        assert!(load(usual).warnings.is_empty(), "{usual}: {}", load(usual).warnings);
    }
    for idle in [
        "refclock nmea unit 0 flag3 1",
        "refclock nmea unit 0 mode 2",
        "refclock nmea unit 0 mode 0x10000",
        "refclock pps unit 0 flag3 1",
        "refclock pps unit 0 flag4 1",
        "refclock shm unit 0 holdover 5",
    ] {
        let loaded = load(idle);
        assert!(matches!(&warnings(&loaded)[..], [(1, text)] if text.contains("has no effect")), "{idle}");
    }
}

#[test]
fn keys_authenticate_and_a_distrusting_default_requires_it() {
    let loaded = load_fixture("symmetric-keys");
    let keys: Vec<&Authentication> = loaded.model.sources.iter().map(|it| &it.authentication).collect();
    assert_eq!(keys, [&Authentication::Key(1), &Authentication::Key(11)]);
    assert_eq!(loaded.model.authentication, AuthenticationPolicy::Required);
    assert!(loaded.model.servers[0].terms.iter().any(|rule| rule.terms.authenticated));
    assert_eq!(loaded.model.servers[0].require_nts, RequireNts::No, "a key will do as well");
    assert_eq!(loaded.model.sources[1].poll, PollLimits { min: 4, max: 4, initial: 4 });
    let untrusted = load("keys /k\ntrustedkey 2\nserver a.example key 1\n");
    assert!(warnings(&untrusted).iter().any(|(line, it)| *line == 3 && it.contains("trustedkey")));
}

#[test]
fn limits_of_steps_are_as_tinker_says() {
    let loaded = load_fixture("vm-and-step-limits");
    let step = loaded.model.synchronization.tuning.step;
    assert_eq!(
        (step.threshold, step.running_panic.forward, step.startup_panic.backward),
        (Some(0.5), None, None)
    );
    let plain = load("").model.synchronization.tuning.step;
    assert_eq!((plain.threshold, plain.startup_panic.forward), (Some(0.128), Some(1000.0)));
    assert_eq!(load("tinker step 0\n").model.synchronization.tuning.step.threshold, None);
    for (line, forward, backward) in [
        ("tinker stepback 0.5", Some(0.128), Some(0.5)),
        ("tinker stepfwd 0.5", Some(0.5), Some(0.128)),
        ("tinker stepfwd 0", None, Some(0.128)),
        ("tinker stepback 0", Some(0.128), Some(f64::INFINITY)),
        ("tinker step 0 stepfwd 2", Some(2.0), Some(f64::INFINITY)),
        ("tinker stepback 0.5 step 1", Some(1.0), None),
    ] {
        let loaded = load(line);
        let step = loaded.model.synchronization.tuning.step;
        assert_eq!((step.threshold, step.backward_threshold), (forward, backward), "{line}");
        assert!(loaded.warnings.is_empty(), "{line}: {}", loaded.warnings);
    }
}

#[test]
fn who_may_be_followed_is_as_tos_says() {
    let loaded = load("tos floor 1 ceiling 5 minclock 4 mindist 0.02\nserver a.example burst\n");
    let tuning = loaded.model.synchronization.tuning;
    assert_eq!((tuning.strata, tuning.survivors_min, tuning.min_distance), ((1, 4), 4, 0.02));
    assert!(loaded.model.sources[0].burst && loaded.warnings.is_empty(), "{}", loaded.warnings);
    let orphan = load("tos orphan 6 orphanwait 60\n");
    let local = orphan.model.synchronization.local_clock.expect("an orphan serves its clock");
    assert!(local.orphan);
    assert_eq!((local.stratum, local.wait_synchronized, local.wait_unsynchronized), (6, 60.0, 60.0));
    assert_eq!(warnings(&orphan).len(), 1, "{}", orphan.warnings);
    let usual = load("tos orphan 6 orphanwait 0\n").model.synchronization.local_clock;
    assert_eq!(usual.map(|local| local.wait_unsynchronized), Some(300.0));
}

#[test]
fn what_unpeer_names_is_taken_away_wherever_it_stands() {
    let loaded = load(
        "unpeer b.example\nserver a.example\nserver b.example:4461 nts\npool b.example\nserver [2001:db8::1]\n\
         server 127.127.28.1\nrefclock shm unit 0\nunpeer 2001:db8::1\nunpeer clock shm unit 1\n",
    );
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(names(&loaded), ["a.example"]);
    let units: Vec<&str> =
        loaded.model.reference_clocks.iter().map(|clock| clock.parameter.as_str()).collect();
    assert_eq!(units, ["0"]);
    let none =
        load("server a.example\nunpeer c.example\nunpeer clock shm\nunpeer 127.127.28.0\nunconfig 4711\n");
    assert_eq!((names(&none), lines(&none)), (vec!["a.example"], vec![5, 2, 3, 4]), "{}", none.warnings);
}

#[test]
fn leap_seconds_are_smeared_as_ntpsec_does_it() {
    let loaded = load("leapsmearinterval 7200\n");
    let even = SmearSettings { shape: SmearShape::Linear, seconds: 7200.0, place: SmearPlace::Before };
    assert_eq!(loaded.model.leap_seconds.smear, Some(even));
    assert!(warnings(&loaded)[0].1.contains("most builds of ntpd ignore this line"), "{}", loaded.warnings);
}

#[test]
fn what_asks_for_the_usual_draws_no_warning() {
    let usual = load(
        "tos maxdisp 16\ntinker stepout 300 allan 11 huffpuff 0\nlogconfig =syncall +all =allall\nlimit kod 0.5\n\
         enable monitor\nleapsmearinterval 0\n",
    );
    assert!(usual.warnings.is_empty(), "{}", usual.warnings);
    let other = load("tinker stepout 900 allan 12 huffpuff 7200\nlimit kod 1\nlogconfig =everything\n");
    assert_eq!(lines(&other), [1, 1, 1, 2, 3], "{}", other.warnings);
}

#[test]
fn the_events_that_are_logged_are_those_of_logconfig() {
    let events = |text: &str| {
        let events = load(text).model.ntpd.events;
        (events.system, events.peers)
    };
    for (line, system, peers) in [
        ("", true, true),
        ("logconfig =syncall +clockall", false, false),
        ("logconfig syncstatus +sysevents", true, false),
        ("logconfig =allall -peerall", true, false),
        ("logconfig =peerevents", false, true),
        ("logconfig =all", true, false),
        ("logconfig +sysall", true, false),
        ("logconfig -peerevents", false, false),
        ("logconfig =allall -sysinfo -peerstatistics", true, true),
        ("logconfig =sysall\nlogconfig +allevents", true, true),
    ] {
        assert_eq!(events(line), (system, peers), "{line}");
    }
}

#[test]
fn answers_from_beyond_maxdisp_are_not_followed_and_the_frequency_begins_as_told() {
    let distance = |text: &str| load(text).model.synchronization.tuning.max_distance;
    assert_eq!(distance("tos maxdisp 1\n"), 1.0);
    assert_eq!(distance("tos maxdisp 4 maxdist 2\n"), 2.0);
    let frequency = load("tinker freq -3.5\n").model.synchronization.initial_frequency;
    assert!((frequency.expect("it was given").as_ppm() + 3.5).abs() < 1e-9);
    assert_eq!(load("").model.synchronization.initial_frequency, None);
}

#[test]
fn nobody_is_told_of_the_limit_where_no_kisses_are_wanted() {
    let kiss = |text: &str| load(text).model.servers[0].rate_limit.and_then(|limit| limit.kiss);
    assert_eq!(kiss("restrict default kod limited\n"), Some(1));
    assert_eq!(kiss("restrict default kod limited\nlimit kod 0\n"), None);
}

#[test]
fn clients_are_forgotten_where_nobody_is_limited() {
    let open = "unrestrict default limited\n";
    let remembered = |text: &str| load(text).model.servers[0].client_records;
    assert!(remembered(open));
    let loaded = load(&format!("{open}disable monitor\n"));
    assert!(!loaded.model.servers[0].client_records && loaded.warnings.is_empty(), "{}", loaded.warnings);
    let limited = load("disable monitor\n");
    assert!(limited.model.servers[0].client_records);
    assert!(warnings(&limited)[0].1.contains("cannot be disabled while"), "{}", limited.warnings);
    assert!(remembered(&format!("{open}disable monitor\nenable monitor\n")));
}

#[test]
fn interfaces_and_includes_are_followed() {
    let asked = std::sync::Mutex::new(Vec::new());
    let files = |request: &Request| {
        asked.lock().expect("no panic").push(request.0.clone());
        Ok(vec![Text::new("/etc/ntpsec/x/more.conf", "server more.example\nend\nserver behind.example\n")])
    };
    let text = fixture("interfaces-and-includes");
    let text = Text::new("/etc/ntpsec/ntp.conf", text.contents);
    let loaded = parse(&text, &[Text::new("ntp.d/a.conf", "server never.example\n")], &files, &named)
        .expect("it loads");
    assert_eq!(asked.into_inner().expect("no panic"), [PathBuf::from("/etc/ntpsec/servers.conf")]);
    assert_eq!(names(&loaded), ["more.example"], "`end` ends all files");
    let listens: Vec<String> = loaded.model.servers.iter().map(|it| it.listen.to_string()).collect();
    assert_eq!(listens, ["0.0.0.0:123"], "IPv6 is dropped");
}

#[test]
fn quotation_marks_comments_and_numbers_are_read_as_ntpd_reads_them() {
    let loaded = load_fixture("quoting-and-numbers");
    let [one, two] = &loaded.model.sources[..] else { panic!("two sources") };
    assert_eq!((one.name.as_str(), one.iburst), ("ntp1.example.com", true));
    assert_eq!((two.offset_correction, two.poll.min), (-1.5e-3, 5));
    assert_eq!(loaded.model.synchronization.tuning.max_distance, 3.0);
}

#[test]
fn what_stands_before_a_mistake_holds_and_what_follows_is_said_to_be_lost() {
    let loaded = load_fixture("partial-errors");
    assert_eq!(names(&loaded), ["nts1.example.org", "ntp1.example.com", "ntp4.example.com"]);
    let [nts, ntp1, ntp4] = &loaded.model.sources[..] else { panic!("three sources") };
    assert!(nts.is_authenticated() && ntp1.iburst && !ntp1.prefer && ntp4.iburst);
    assert_eq!(loaded.model.minimum_agreeing_sources(), 1, "a fraction is no count");
    assert_eq!(lines(&loaded), [1, 2, 3, 4, 5, 6, 7, 8]);
    let shown = warnings(&loaded);
    assert!(shown[2].1.contains("the whole line is ignored"), "{shown:?}");
    let case = &loaded.warnings.0[3];
    assert_eq!(case.help.as_deref(), Some("did you mean `server`?"));
    assert!(loaded.warnings.0[6].help.as_deref().is_some_and(|help| help.contains("limit average")));
}

#[test]
fn what_ntpd_has_dropped_costs_its_line_and_no_more() {
    let loaded = load_fixture("removed-features");
    assert_eq!(names(&loaded), ["core-b.example.com", "ntp1.example.com"]);
    assert_eq!(loaded.model.sources[0].authentication, Authentication::Key(1));
    assert_eq!(loaded.model.sources[0].kind, SourceKind::Server);
    assert_eq!(loaded.model.sources[1].authentication, Authentication::None);
    for line in 1..=9 {
        assert!(lines(&loaded).contains(&line), "line {line}: {:?}", warnings(&loaded));
    }
}

#[test]
fn ports_are_understood_where_ntpd_understands_them() {
    let loaded = load_fixture("nts-v6-literal-port");
    assert_eq!(names(&loaded), ["2001:db8::1", "192.0.2.1", "2001:db8::2"]);
    let ports: Vec<Option<u16>> = (0..3).map(|at| nts_port(&loaded, at)).collect();
    assert_eq!(ports, [Some(4460), Some(4461), Some(4460)]);
    assert_eq!(lines(&loaded), [1, 3], "{}", loaded.warnings);
}

#[test]
fn old_tls_versions_are_not_followed_and_a_server_with_one_does_not_start() {
    let loaded = load_fixture("nts-old-tls");
    assert!(loaded.model.sources[0].is_authenticated());
    assert_eq!(lines(&loaded), [2, 2], "{}", loaded.warnings);
    let message = errors("nts enable\nnts mintls TLS1.2\n");
    assert!(message.contains("ntp.conf:2:12") && message.contains("write TLS1.3"), "{message}");
    let message = errors("refclock gsp unit 0\n");
    assert!(message.contains("ntp.conf:1:10"), "{message}");
    assert!(message.contains("gps"), "{message}");
}

#[test]
fn authentication_that_was_asked_for_is_not_lost_behind_a_mistake() {
    let loaded =
        load("server a.example xleave nts\nserver b.example dynamic key 7\nserver c.example xleave\n");
    let shown: Vec<bool> = loaded.model.sources.iter().map(|source| source.is_authenticated()).collect();
    assert_eq!(shown, [true, true, false]);
    assert_eq!(loaded.model.sources[1].authentication, Authentication::Key(7));
    assert_eq!(lines(&loaded), [1, 1, 2, 2, 3, 2], "{:?}", warnings(&loaded));
}

#[test]
fn restrictions_decide_by_the_longest_prefix_and_add_up() {
    let loaded = load(
        "restrict 10.0.0.0/8 ignore\nrestrict 10.1.0.0 mask 255.255.0.0 limited\nrestrict 192.0.2.9 noserve\n\
         restrict 192.0.2.9 nomodify\n",
    );
    let refused = |address: &str| access(&loaded, address) != Access::Allow;
    let seen = ["10.2.3.4", "10.1.2.3", "192.0.2.9", "192.0.2.8", "2001:db8::1"].map(refused);
    assert_eq!(seen, [true, false, true, false, false]);
    let closed = load("restrict default ignore\nrestrict 10.0.0.0/8\nrestrict -6 default noquery\n");
    assert_ne!(access(&closed, "192.0.2.1"), Access::Allow);
    assert_eq!(access(&closed, "10.0.0.1"), Access::Allow);
    let open = load("restrict 10.0.0.0/8 ignore\nunrestrict 10.0.0.0/8\n");
    assert_eq!(access(&open, "10.0.0.1"), Access::Allow);
    assert!(load("unrestrict default limited\n").model.servers[0].rate_limit.is_none());
    let unknown = load("restrict evil.example ignore\n");
    assert!(warnings(&unknown)[0].1.contains("not known: no such name"), "{}", unknown.warnings);
    let named =
        load("restrict two.example ignore\nrestrict -4 two.example ignore\nunrestrict -6 two.example\n");
    let refused = ["192.0.2.7", "2001:db8::7", "192.0.2.8"].map(|one| access(&named, one) != Access::Allow);
    assert_eq!(refused, [true, false, false]);
    assert_eq!(lines(&named), [1, 2, 3], "{}", named.warnings);
    assert!(warnings(&named)[0].1.ends_with("is 192.0.2.7, 2001:db8::7 now"), "{}", named.warnings);
    let strange = load("restrict 10.0.0.0 mask 255.0.255.0 ignore\n");
    assert_eq!(access(&strange, "10.0.0.1"), Access::Allow);
    assert_eq!(lines(&strange), [1]);
}

fn terms(loaded: &Loaded, address: &str) -> Terms {
    let address = address.parse().expect("an address");
    loaded.model.servers[0].policy().terms.map_or(Terms::USUAL, |terms| terms.find(address))
}

#[test]
fn flags_of_a_restriction_hold_for_its_network_alone() {
    let loaded = load(
        "restrict default limited kod\nrestrict 127.0.0.1\nrestrict 10.0.0.0/8 limited\n\
         restrict 192.0.2.0/24 notrust version\nrestrict 192.0.2.9 ignore\n",
    );
    let unlimited = Terms { limited: false, ..Terms::USUAL };
    assert_eq!(terms(&loaded, "127.0.0.1"), unlimited);
    assert_eq!(terms(&loaded, "10.1.2.3"), Terms { kiss: false, ..Terms::USUAL });
    let strict = Terms { authenticated: true, newest_only: true, ..unlimited };
    assert_eq!(terms(&loaded, "192.0.2.1"), strict);
    assert_eq!(terms(&loaded, "198.51.100.1"), Terms::USUAL);
    assert_ne!(access(&loaded, "192.0.2.9"), Access::Allow);
    assert_eq!(access(&loaded, "192.0.2.1"), Access::Allow, "with authentication it is answered");
    assert_eq!(lines(&loaded), [4], "{}", loaded.warnings);
    let policy = loaded.model.servers[0].policy();
    assert_eq!(policy.rate_limit.and_then(|limit| limit.kiss), Some(1));
    assert!(policy.versions.contains(3));

    let same = load("restrict default version kod\n").model.servers[0].clone();
    assert_eq!((same.terms.as_slice(), same.versions.as_slice()), (&[][..], &[4][..]));
    let some = load("unrestrict default limited\nrestrict 10.0.0.0/8 limited kod\n");
    assert_eq!((terms(&some, "10.0.0.1"), terms(&some, "11.0.0.1")), (Terms::USUAL, unlimited));
    let useless = load("restrict 10.0.0.0/8 kod\n");
    assert!(warnings(&useless)[0].1.contains("does nothing without `limited`"), "{}", useless.warnings);
}

#[test]
fn a_distrusted_server_that_is_given_by_its_address_must_authenticate() {
    let loaded = load(
        "restrict 192.0.2.0/24 notrust\nrestrict 192.0.2.9\nserver 192.0.2.1\nserver 192.0.2.9\nserver a.example\n",
    );
    let policies: Vec<AuthenticationPolicy> = loaded.model.sources.iter().map(|it| it.policy).collect();
    let (required, mixed) = (AuthenticationPolicy::Required, AuthenticationPolicy::Mixed);
    assert_eq!(policies, [required, mixed, mixed]);
}

#[test]
fn versions_and_polls_beyond_the_range_are_brought_into_it() {
    let loaded = load("server a.example version 3 minpoll 20\nserver b.example version 1 maxpoll 5\n");
    assert_eq!(loaded.model.sources[0].version, NtpVersion::V3);
    assert_eq!(loaded.model.sources[0].poll, PollLimits { min: 17, max: 17, initial: 17 });
    assert_eq!(loaded.model.sources[1].poll, PollLimits { min: 5, max: 5, initial: 5 });
    assert_eq!(lines(&loaded), [1, 2]);
}

#[test]
fn the_dialect_is_told_by_what_only_ntpd_has() {
    for name in ["classic-fudge", "nts-server-full", "partial-errors", "rhel7-classic-style"] {
        let text = Text::new("any", fixture(name).contents);
        assert_eq!(recognise(&text), Dialect::Ntpsec, "{name}");
    }
    let shared = "server a.example iburst\ndriftfile /d\n";
    assert_eq!(recognise(&Text::new("/etc/ntpsec/ntp.conf", shared)), Dialect::Ntpsec);
    assert_eq!(recognise(&Text::new("/etc/chrony.conf", shared)), Dialect::Chrony);
    assert_eq!(recognise(&Text::new("any", shared)), Dialect::Chrony);
    assert_eq!(recognise(&Text::new("any", "server a.example iburst\nmakestep 1 3\n")), Dialect::Chrony);
    assert_eq!(recognise(&Text::new("any", "server a.example iburst\ntinker panic 0\n")), Dialect::Ntpsec);
    assert_eq!(recognise(&Text::new("any", "server a.example:4461 nts\n")), Dialect::Ntpsec);
}

#[test]
fn ntpq_may_ask_where_restrictions_let_it() {
    let ntpq = load("restrict 10.0.0.0/8 nomodify\ncontrolkey 7\n").model.observability.ntpq;
    let shown: Vec<(String, bool, bool)> =
        ntpq.rules.iter().map(|rule| (rule.subnet.to_string(), rule.query, rule.modify)).collect();
    assert_eq!(
        shown,
        [
            ("0.0.0.0/0".to_owned(), false, true),
            ("10.0.0.0/8".to_owned(), true, false),
            ("::/0".to_owned(), false, true)
        ]
    );
    assert_eq!((ntpq.listen.len(), ntpq.control_key), (2, Some(7)));
}

/// Every form that the tables of the specification have, one a line. None may be called unknown or a mistake.
#[test]
fn every_form_of_the_specification_is_understood() {
    const FORMS: &str = include_str!("../testdata/spec/ntpsec-forms.conf");
    for (number, line) in FORMS.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let loaded = load(line);
        let refused = loaded
            .warnings
            .0
            .iter()
            .find(|it| it.message.contains("ignored") && !it.message.contains("no effect"));
        assert!(refused.is_none(), "line {}: {line}: {}", number + 1, loaded.warnings);
    }
}

proptest! {
    #[test]
    fn no_text_is_too_strange(contents in "(?s).{0,400}") {
        let _ = parse(&Text::new("ntp.conf", contents), &[], &nothing, &named);
    }

    #[test]
    fn no_line_of_known_words_is_too_strange(
        words in prop::collection::vec(prop::sample::select(vec![
            "server", "pool", "restrict", "nts", "default", "-4", "-6", "mask", "key", "1", "-1", "70000", "0x1",
            "a.example", "[::1]:5", "10.0.0.0/8", "127.127.1.0", "\"", "#", "\n", "refclock", "shm", "fudge", "tos",
            "maxclock", "minsane", "tinker", "step", "interface", "ignore", "all", "trustedkey", "(", "...", ")",
            "limit", "average", "mru", "maxmem", "iburst", "minpoll", "ca", "enable", "disable", "ntp", "1e99",
        ]), 0..40),
    ) {
        let _ = parse(&Text::new("ntp.conf", words.join(" ")), &[], &nothing, &named);
    }
}

#[test]
fn statistics_go_into_the_files_that_filegen_says() {
    let lines = "statistics loopstats peerstats clockstats\nfilegen peerstats file peers type week nolink\n\
                 filegen rawstats enable\nfilegen loopstats disable\nfilegen sysstats type month\n";
    let loaded = load(lines);
    let files = &loaded.model.ntpd.statistics;
    let peers = &files[&NtpdStatistic::Peer];
    assert_eq!((peers.name.as_str(), peers.every, peers.link), ("peers", FileInterval::Week, false));
    assert_eq!(files[&NtpdStatistic::Raw], StatisticsFile::usual(NtpdStatistic::Raw));
    assert_eq!(files.len(), 3, "loopstats are disabled, sysstats were not enabled");
    assert!(files.contains_key(&NtpdStatistic::Clock) && loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert!(load(&format!("{lines}disable stats\n")).model.ntpd.statistics.is_empty());
    for wrong in ["filegen peerstats file ../x", "filegen peerstats type often", "statistics cryptostats"] {
        assert_eq!(warnings(&load(wrong)).len(), 1, "{wrong}");
    }
}

#[test]
fn answers_are_signed_where_restrict_says_mssntp_and_there_is_a_socket() {
    let directory = "ntpsigndsocket /var/lib/samba/ntp_signd\n";
    let loaded = load(&format!("{directory}restrict default limited\nrestrict 10.0.0.0/8 mssntp flake\n"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert!(loaded.model.servers[0].policy().signs);
    assert_eq!(terms(&loaded, "10.1.2.3"), Terms { limited: false, flaky: true, ..Terms::USUAL });
    assert!(!terms(&loaded, "192.0.2.1").signed);
    let everywhere = load(&format!("{directory}restrict default mssntp\n"));
    assert!(everywhere.model.servers[0].policy().signs && terms(&everywhere, "192.0.2.1").signed);
    assert!(!load(directory).model.servers[0].policy().signs, "nobody is `mssntp`");
    let without = load("restrict default mssntp\n");
    assert!(!without.model.servers[0].policy().signs);
    assert!(without.warnings.to_string().contains("`mssntp` has no effect without `ntpsigndsocket`"));
}

#[test]
fn what_shows_nowhere_draws_no_warning() {
    for line in [
        "reset allpeers auth ctl io mem sys timer",
        "rlimit memlock 32",
        "disable kernel",
        "enable kernel",
        "mru initalloc 5 initmem 5 incalloc 5 incmem 5 maxage 60 mindepth 5",
        "filegen clockstats file clockstats type day enable",
    ] {
        assert!(load(line).warnings.is_empty(), "{line}: {}", load(line).warnings);
    }
    for (line, word) in [
        ("reset everything", "everything"),
        ("rlimit memlock 32 filenum 1000", "`filenum` has no effect"),
        ("rlimit cpu 3", "cpu"),
        ("mru minage 60", "`minage` has no effect"),
    ] {
        let loaded = load(line);
        assert!(
            matches!(&warnings(&loaded)[..], [(1, text)] if text.contains(word)),
            "{line}: {}",
            loaded.warnings
        );
    }
}
