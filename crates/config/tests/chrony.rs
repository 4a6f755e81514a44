//! chrony.conf as an operator meets it: what loads, what it means, and what is said about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chime_config::dialects::chrony::{Request, is_directive, parse};
use chime_config::{
    Authentication, AuthenticationPolicy, CardFilter, CardWish, Dialect, HardwareStamps, LeapMode, Loaded,
    Model, NtpOverPtp, NtpVersion, PollLimits, RateLimitSettings, Severity, SmearPlace, SourceKind, Text,
    recognise,
};
use chime_discipline::{CorrectionTime, FallbackDrift};
use chime_server::{Access, Subnet};
use proptest::prelude::*;

fn nothing(_: &Request) -> Result<Vec<Text>, String> {
    Ok(Vec::new())
}

fn load(contents: &str) -> Loaded {
    parse(&Text::new("chrony.conf", contents), &nothing).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The model of a text that must give no warning.
fn model(contents: &str) -> Model {
    let loaded = load(contents);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.model
}

fn errors(contents: &str) -> String {
    match parse(&Text::new("chrony.conf", contents), &nothing) {
        Ok(loaded) => panic!("it loads: {:?}", loaded.model),
        Err(errors) => errors.to_string(),
    }
}

/// The single warning of a text.
fn warning(contents: &str) -> String {
    let warnings = load(contents).warnings;
    assert_eq!(warnings.0.len(), 1, "{contents}: {warnings}");
    warnings.0[0].message.clone()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/chrony")
}

fn fixture(name: &str) -> Text {
    let contents = std::fs::read_to_string(folder().join(name)).expect("fixtures are in the tree");
    Text::new(name, contents)
}

fn load_fixture(name: &str) -> Loaded {
    parse(&fixture(name), &nothing).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_file_that_chronyd_reads_is_read_and_the_others_are_refused() {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let text = fixture(&name);
        assert_eq!(recognise(&text), Dialect::Chrony, "{name}");
        let read = parse(&text, &nothing);
        assert_eq!(read.is_err(), name.starts_with("bad-"), "{name}: {read:?}");
        seen += 1;
    }
    assert_eq!(seen, 33);
}

#[test]
fn what_has_its_meaning_here_gives_no_warning() {
    for name in ["comment-styles.conf", "office.sources", "seed-fedora-client.conf", "seed-fedora-dhcp.conf"]
    {
        let warnings = load_fixture(name).warnings;
        let others = warnings.0.iter().filter(|warning| !warning.message.contains("the drift is kept"));
        assert_eq!(others.count(), 0, "{name}: {warnings}");
    }
}

#[test]
fn a_comment_behind_a_directive_is_read_as_meant_with_a_warning() {
    let verbatim = load_fixture("seed-infra-client-verbatim.conf");
    let repaired = load_fixture("seed-infra-client.conf");
    let without_origin = |mut model: Model| {
        model.sources.iter_mut().for_each(|source| source.origin = None);
        model
    };
    assert_eq!(without_origin(verbatim.model), without_origin(repaired.model.clone()));
    assert_eq!(verbatim.warnings.0.len(), repaired.warnings.0.len() + 2);
    assert_eq!((verbatim.warnings.0[0].line, verbatim.warnings.0[0].column), (4, 34));
    let model = repaired.model;
    assert_eq!(model.sources.len(), 4);
    assert_eq!(model.minimum_agreeing_sources(), 3);
    assert!(model.servers.is_empty());
    let step = model.discipline_settings().step;
    assert_eq!((step.threshold, step.updates_limit), (Some(1.0), Some(3)));
    let trust = model.sources[0].authentication.nts_trust().expect("NTS");
    assert!(trust.system_cas);
    assert_eq!(trust.certificate_authorities, [PathBuf::from("/etc/ssl/certs/ca-certificates.crt")]);
}

#[test]
fn an_empty_file_has_the_defaults_of_chronyd() {
    let model = model("");
    assert!(model.sources.is_empty() && model.servers.is_empty() && model.nts_ke_servers.is_empty());
    let settings = model.discipline_settings();
    assert_eq!(settings.minimum_agreeing_sources, 1);
    assert_eq!(settings.step.threshold, None);
    assert_eq!(settings.step.running_panic.forward, None);
    assert_eq!(settings.local, None);
    assert_eq!(model.authentication, AuthenticationPolicy::Mixed);
    assert_eq!(model.keyset.rotation_interval, Duration::from_secs(604_800));
}

#[test]
fn comments_case_and_blanks_do_not_matter() {
    let loaded = load_fixture("comment-styles.conf");
    let sources = &loaded.model.sources;
    assert_eq!((sources[0].name.as_str(), sources[0].iburst), ("NTP1.Example.COM", true));
    assert_eq!(sources[0].poll, PollLimits { min: 4, max: 10, initial: 4 });
    assert_eq!(sources[1].kind, SourceKind::Pool { count: 2, ignore: Vec::new() });
    assert_eq!(sources[1].poll, PollLimits { min: 6, max: 10, initial: 6 });
    assert!(!sources[1].iburst);
    assert_eq!(loaded.model.synchronization.tuning.step.threshold, Some(1.0));
    assert_eq!(model("server a.example\r\n").sources.len(), 1);
}

#[test]
fn options_of_sources_have_their_meaning() {
    let model = model(
        "server a.example key 7 port 1123 version 3 maxdelay 0.5 maxdelayratio 2 maxdelaydevratio 5 offset -0.25 \
         prefer trust require ipv4 offline\nserver 2001:db8::1 noselect minpoll 5 maxpoll 3\n\
         pool b.example maxsources 99 nts ntsport 4461\n",
    );
    let [a, b, c] = &model.sources[..] else { panic!("three sources") };
    assert_eq!((a.port, a.version, a.authentication.clone()), (1123, NtpVersion::V3, Authentication::Key(7)));
    assert!(a.prefer && a.trust && a.require && !a.online && !a.no_select);
    assert_eq!((a.max_delay, a.max_delay_ratio, a.max_delay_deviation_ratio), (0.5, 2.0, 5.0));
    assert!((a.offset_correction + 0.25).abs() < 1e-12);
    assert!(b.no_select);
    assert_eq!(b.poll, PollLimits { min: 5, max: 5, initial: 5 });
    assert_eq!(c.kind, SourceKind::Pool { count: 16, ignore: Vec::new() });
    assert_eq!(c.authentication.nts_trust().map(|trust| trust.port), Some(4461));
}

#[test]
fn options_that_seldom_matter_have_their_meaning_too() {
    let loaded = load(
        "server a.example burst presend 7 filter 5 polltarget 20 mindelay 1e-4 maxdelayquant 0.5 maxunreach 8 \
         minstratum 3 copy auto_offline\npool b.example presend 32 maxdelayquant 0.99\nminstratum 2\nmaxstratum 40\n",
    );
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let [a, b] = &loaded.model.sources[..] else { panic!("two sources") };
    assert!(a.burst && a.copy_reference && a.offline_on_failure);
    assert_eq!((a.presend, a.median_filter, a.poll_target, a.min_stratum), (Some(7), 5, 20, 3));
    assert_eq!((a.min_delay, a.max_delay_quantile, a.max_unreachable_polls), (1e-4, 0.5, 8));
    let asymmetry = |text: &str| model(&format!("server a asymmetry {text}\n")).sources[0].jitter_asymmetry;
    assert_eq!([asymmetry("0.499"), asymmetry("-0.5"), asymmetry("1.0")], [0.499, -0.5, 0.0]);
    assert!(!b.burst && !b.copy_reference && !b.offline_on_failure);
    assert_eq!((b.presend, b.median_filter, b.poll_target), (None, 0, 8));
    assert_eq!((b.max_delay_quantile, b.max_unreachable_polls), (0.95, 100_000));
    assert_eq!(loaded.model.synchronization.tuning.strata, (2, 16));
    assert!(errors("server a polltarget 0").contains("from 1"));
    assert!(!model("allow\nnoclientlog").servers[0].policy().client_records);
}

#[test]
fn the_local_clock_can_wait_and_agree_with_others() {
    let local = |line: &str| model(line).synchronization.local_clock.expect("it is there");
    let plain = local("local stratum 7");
    assert_eq!((plain.stratum, plain.orphan, plain.wait_unsynchronized), (7, false, 0.0));
    assert_eq!((local("local orphan").orphan, local("local orphan").wait_unsynchronized), (true, 300.0));
    let told = local("local orphan waitsynced 5 waitunsynced 6 activate 0.5 distance 2");
    assert_eq!((told.wait_synchronized, told.wait_unsynchronized), (5.0, 6.0));
    assert_eq!((told.activate, told.distance), (0.5, 2.0));
    assert_eq!(model("maxchange 5 3 2").synchronization.tuning.step.refusals_max, Some(2));
    assert_eq!(model("maxchange 5 3 -1").synchronization.tuning.step.refusals_max, None);
}

#[test]
fn the_time_can_be_typed_in_and_the_clock_be_set_first() {
    let loaded = load("manual\ninitstepslew 30 a.example 192.0.2.1\n");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert!(loaded.model.synchronization.tuning.manual);
    let first = loaded.model.chrony.first_correction.expect("it is asked for");
    assert_eq!(
        (first.step_threshold, first.servers),
        (30.0, vec!["a.example".to_owned(), "192.0.2.1".to_owned()])
    );
    assert!(errors("initstepslew 30").contains("a host name or an address"));
}

#[test]
fn odd_poll_limits_are_brought_into_range() {
    let poll = |options: &str| model(&format!("server a {options}")).sources[0].poll;
    assert_eq!(poll("minpoll -9"), PollLimits { min: 6, max: 10, initial: 6 });
    assert_eq!(poll("minpoll 30 maxpoll 32"), PollLimits { min: 24, max: 24, initial: 24 });
    assert_eq!(poll("maxpoll 4"), PollLimits { min: 6, max: 6, initial: 6 });
    assert_eq!(poll("minpoll -7 maxpoll -32"), PollLimits { min: -7, max: -7, initial: -7 });
    assert!(errors("server a maxpoll 33").contains("from -32 to 32"));
}

#[test]
fn certificate_sets_are_kept_apart() {
    let model = load_fixture("nts-client-options.conf").model;
    let trust = |at: usize| model.sources[at].authentication.nts_trust().expect("NTS");
    assert!(!trust(0).system_cas && !trust(1).system_cas);
    assert_eq!(trust(0).certificate_authorities, [PathBuf::from("/etc/pki/tls/certs/corporate-ca.pem")]);
    assert_eq!(trust(1).certificate_authorities, [PathBuf::from("/etc/pki/tls/certs/lab-ca.pem")]);
    assert_eq!(model.sources[1].port, 11_123);
    assert_eq!(model.authentication, AuthenticationPolicy::Preferred);
    assert_eq!(model.refresh.nts_keys, 2_419_200);
    assert!(warning("server a nts certset 3").contains("no certificate is trusted in set 3"));
}

#[test]
fn authentication_modes_are_those_of_chronyd() {
    let policy = |text: &str| model(text).authentication;
    assert_eq!(policy("server a\nauthselectmode require"), AuthenticationPolicy::Required);
    // Whether there is an authenticated source is judged while the daemon runs: they come and go.
    assert_eq!(policy("server a\nauthselectmode prefer"), AuthenticationPolicy::Preferred);
    assert_eq!(policy("server a\nserver b nts\nauthselectmode MIX"), AuthenticationPolicy::Mixed);
    assert_eq!(policy("server a\nserver b nts\nauthselectmode ignore"), AuthenticationPolicy::Ignored);
    let refused = model("server a\nserver b key 3\nauthselectmode require").sources;
    assert_eq!(refused.iter().map(|s| s.options().no_select).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn answers_are_signed_by_the_samba_of_ntpsigndsocket() {
    let server = model("allow\nntpsigndsocket /var/lib/samba/ntp_signd").servers[0].clone();
    assert_eq!(server.signing_directory, Some(PathBuf::from("/var/lib/samba/ntp_signd")));
    assert!(server.policy().signs && !model("allow").servers[0].policy().signs);
}

#[test]
fn nothing_is_served_without_allow_and_the_longest_prefix_decides() {
    assert!(model("deny all\nport 123").servers.is_empty());
    assert!(model("allow\nport 0").servers.is_empty());
    let listens =
        |text: &str| model(text).servers.iter().map(|server| server.listen.to_string()).collect::<Vec<_>>();
    assert_eq!(listens("allow"), ["0.0.0.0:123", "[::]:123"]);
    assert_eq!(listens("allow 10\nport 124"), ["0.0.0.0:124"]);
    assert_eq!(listens("allow ::/0\nbindaddress ::1"), ["[::1]:123"]);
    assert_eq!(listens("allow\ndeny all"), [""; 0]);
    let model = load_fixture("keys-and-peers.conf").model;
    let policy = model.servers[0].policy();
    let allowed = |address: &str| policy.access.check(address.parse().expect("an address")) == Access::Allow;
    assert!(allowed("10.1.2.3") && !allowed("10.9.2.3") && allowed("10.9.1.3") && !allowed("192.0.2.1"));
    assert!(policy.versions.contains(1));
    assert_eq!(model.key_file, Some(PathBuf::from("/etc/chrony.keys")));
    assert_eq!(model.discipline_settings().local.map(|local| local.stratum), Some(8));
}

#[test]
fn short_networks_are_prefixes() {
    let allowed = |rule: &str, address: &str| {
        let model = model(rule);
        let access = model.servers[0].policy().access;
        access.check(address.parse().expect("an address")) == Access::Allow
    };
    assert!(allowed("allow 192.168", "192.168.7.1") && !allowed("allow 192.168", "192.169.7.1"));
    assert!(allowed("allow 10/9", "10.1.1.1") && !allowed("allow 10/9", "10.200.1.1"));
    assert!(allowed("allow 192.0.2.77/24", "192.0.2.1"));
    assert!(errors("allow 10.0.0.0/33").contains("prefix length"));
    assert!(errors("allow 1.2.3.999").contains("is not a network"));
}

#[test]
fn names_in_access_lists_are_the_address_that_they_have() {
    let files = |request: &Request| match request {
        Request::Address(name) if name == "gateway.example" => Ok(vec![Text::new(name, "192.0.2.1")]),
        Request::Address(_) => Err("there is no such name".to_owned()),
        _ => Ok(Vec::new()),
    };
    let read = |text: &str| parse(&Text::new("chrony.conf", text), &files);
    let loaded =
        read("allow 192.0.2/24\ndeny gateway.example\ncmdallow all gateway.example\n").expect("names");
    let access = loaded.model.servers[0].policy().access;
    let is_allowed = |last| access.check([192, 0, 2, last].into()) == Access::Allow;
    assert!(is_allowed(2) && !is_allowed(1) && loaded.warnings.is_empty());
    let rule = loaded.model.observability.chrony_rules[0];
    assert_eq!((rule.allow, rule.all, rule.subnet), (true, true, Some(Subnet::host([192, 0, 2, 1].into()))));
    let unknown = read("allow other.example\n").expect("only a warning");
    assert!(unknown.model.servers.is_empty(), "nobody is let in");
    assert!(unknown.warnings.to_string().contains("there is no such name"), "{}", unknown.warnings);
    assert!(read("deny other.example\n").is_err(), "they would be let in");
}

#[test]
fn a_key_establishment_server_has_its_certificates_in_pairs() {
    let loaded = load_fixture("nts-server-full.conf");
    let listens: Vec<_> =
        loaded.model.nts_ke_servers.iter().map(|server| server.listen.to_string()).collect();
    assert_eq!(listens, ["192.0.2.10:4460", "[::]:4460"], "one address of one family is bound");
    let server = &loaded.model.nts_ke_servers[0];
    assert_eq!((server.certificates.len(), server.connections_max), (2, 600));
    assert_eq!(server.ntp_server.as_deref(), Some("ntp.example.com"));
    assert_eq!(server.rules, loaded.model.servers[0].rules);
    let only_certificates = load_fixture("seed-fedora-server.conf");
    assert!(only_certificates.model.nts_ke_servers.is_empty());
    assert!(only_certificates.warnings.to_string().contains("nobody is let in by `allow`"));
    assert!(errors("ntsserverkey a\nntsserverkey b\nntsservercert c\n").contains("in pairs"));
}

#[test]
fn mistakes_are_shown_with_their_place_and_what_was_meant() {
    assert_eq!(
        errors("server a.example\nserver b.example ibrust\nmakstep 1 3\n"),
        "error: unknown option `ibrust`\n --> chrony.conf:2:18\n  |\n2 | server b.example ibrust\n  | \
         \x20                ^^^^^^\n  = help: did you mean `iburst`?\n\n\
         error: unknown directive `makstep`\n --> chrony.conf:3:1\n  |\n3 | makstep 1 3\n  | ^^^^^^^\n  \
         = help: did you mean `makestep`?"
    );
    for (text, message) in [
        ("server", "`server` is followed by a host name or an address"),
        ("makestep 1", "`1` is followed by an integer"),
        ("rtcsync yes", "`rtcsync` has too many arguments"),
        ("server a minpoll x", "`x` is not an integer"),
        ("server a:123", "write `a port 123`"),
        ("port 65536", "from 0 to 65535"),
        ("maxdistance nan", "`nan` is not a number"),
        ("authselectmode perfer", "did you mean `prefer`?"),
        ("log Tracking", "did you mean `tracking`?"),
        ("refclock shm 0", "did you mean `SHM`?"),
        ("refclock SHM 0 refit GPS", "did you mean `refid`?"),
        ("local stratum 16", "from 1 to 15"),
        ("ratelimit intervall 3", "did you mean `interval`?"),
        ("peer a nts", "a peer cannot be authenticated with NTS"),
        ("ntsservercert a", "1 `ntsservercert` and 0 `ntsserverkey`"),
        ("noclientlog\nratelimit", "a rate limit needs the client records"),
        ("cmdratelimit\nnoclientlog", "a rate limit needs the client records"),
        ("noclientlog\nntsratelimit", "a rate limit needs the client records"),
    ] {
        let said = errors(text);
        assert!(said.contains(message), "{text}: {said}");
    }
    assert!(errors(&format!("server {}", "a".repeat(3000))).contains("longer than 2047"));
    let endless = parse(&Text::new("x", "oops\n".repeat(10_000)), &nothing).expect_err("no configuration");
    assert_eq!(endless.0.len(), 500);
}

#[test]
fn what_has_no_effect_is_said_once_with_its_place() {
    for text in [
        "cmdallow gateway.example",
        "server a maxsources 3",
        "commandkey 1",
        "minsamples 12",
        "server a minsamples 7",
    ] {
        let loaded = load(&format!("# a comment\n{text}\n"));
        assert_eq!(loaded.warnings.0.len(), 1, "{text}: {}", loaded.warnings);
        assert_eq!((loaded.warnings.0[0].line, loaded.warnings.0[0].severity), (2, Severity::Warning));
    }
    model(
        "leapsecmode system\ncmdport 0\ndscp 0\nptpport 0\nnocerttimecheck 0\nntsaeads 30 15\nrtcsync\nmaxsamples 0\n\
         maxsamples 64\nminsamples 6\nserver a minsamples 6 maxsamples 0\nrefclock SHM 0 minsamples 6 maxsamples 64\n\
         minsamples 2\nmaxtxbuffers 128\n",
    );
}

#[test]
fn the_most_samples_are_those_of_the_source_or_of_all() {
    let model = model(
        "server a\nserver b maxsamples 8\nserver c maxsamples 0\nrefclock SHM 0\nrefclock SHM 1 maxsamples 5\n\
         refclock SHM 2 maxsamples 0\nmaxsamples 12\n",
    );
    let sources: Vec<_> = model.sources.iter().map(|source| source.options().samples_max).collect();
    let clocks: Vec<_> = model.reference_clocks.iter().map(|clock| clock.max_samples).collect();
    assert_eq!((sources, clocks), (vec![None, Some(8), Some(0)], vec![None, Some(5), Some(0)]));
    assert_eq!(model.discipline_settings().samples_max, 12);
    assert_eq!(model.discipline_settings().samples_min, 3);
    let one = load("server a maxsamples 1\n").model;
    assert_eq!((one.sources[0].max_samples, one.discipline_settings().samples_min), (Some(1), 1));
}

#[test]
fn ptpport_serves_and_is_spoken_at_over_ptp() {
    let served = model("allow\nptpport 319\nptpdomain 5\nserver a.example port 319\n");
    let listen: Vec<String> = served.servers.iter().map(|server| server.listen.to_string()).collect();
    assert_eq!(listen, ["0.0.0.0:123", "[::]:123", "0.0.0.0:319", "[::]:319"]);
    assert_eq!(served.ntp_over_ptp, Some(NtpOverPtp { port: 319, domain: 5 }));
    assert_eq!((served.ptp_domain_at(319), served.ptp_domain_at(123)), (Some(5), None));
    let alone = model("port 0\nallow 10/8\nptpport 319\n");
    let listen: Vec<String> = alone.servers.iter().map(|server| server.listen.to_string()).collect();
    assert_eq!(listen, ["0.0.0.0:319"]);
    let client = model("ptpport 319\nserver a.example port 319\n");
    assert_eq!((client.servers.len(), client.ptp_domain_at(319)), (0, Some(123)));
    for off in ["", "ptpdomain 5\n", "ptpport 319\nptpport 0\n"] {
        assert_eq!(model(&format!("allow\n{off}")).ntp_over_ptp, None);
    }
    for wrong in ["ptpport", "ptpport 65536", "ptpdomain 256", "ptpdomain -1", "ptpport 319 320"] {
        assert!(!errors(wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn the_aeads_of_both_roles_are_as_ntsaeads_says() {
    let served = "server a.example nts\nallow\nntsservercert /c\nntsserverkey /k\n";
    let ids = |lines: &str| {
        let model = model(&format!("{served}{lines}\n"));
        let of_server: Vec<u16> = model.nts_ke_servers[0].aeads.iter().map(|aead| aead.id()).collect();
        let trust = model.sources[0].authentication.nts_trust().expect("NTS");
        assert_eq!(trust.aeads.iter().map(|aead| aead.id()).collect::<Vec<_>>(), of_server);
        of_server
    };
    assert_eq!(ids(""), [30, 15]);
    assert_eq!(ids("ntsaeads 15"), [15]);
    assert_eq!(ids("ntsaeads 15 30\nntsaeads 99 30"), [30]);
    assert_eq!(ids("ntsaeads 15 30 15"), [15, 30]);
    assert!(errors("ntsaeads 99\n").contains("none of these AEADs is known"));
}

#[test]
fn precision_and_the_exception_for_certificates_have_their_meaning() {
    let read = |text: &str| model(text).synchronization;
    let precision = |text: &str| read(text).precision.map(chime_time::Precision::exponent);
    assert_eq!(precision("minsources 1\n"), None);
    // What chronyd 4.6.1 serves with each.
    for (given, exponent) in [("1e-6", -20), ("1.6e-6", -19), ("2.5e-6", -19), ("3e-6", -18)] {
        assert_eq!(precision(&format!("clockprecision {given}\n")), Some(exponent), "{given}");
    }
    assert_eq!((precision("clockprecision 0\n"), precision("clockprecision 5\n")), (None, Some(0)));
    assert_eq!(read("nocerttimecheck 3\n").unchecked_certificate_updates, 3);
    let urgent = model("sched_priority 100\nlock_all\n").process;
    assert_eq!((urgent.real_time_priority, urgent.lock_memory), (Some(99), true));
    assert_eq!(model("sched_priority 0\n").process.real_time_priority, None);
}

#[test]
fn the_files_of_chronyd_are_where_it_has_them() {
    let chrony = model(
        "driftfile /var/lib/chrony/drift interval 60\ndumpdir /run/chrony\nntscachedir /var/lib/chrony\n\
         logdir /var/log/chrony\nlog tracking measurements\nlog statistics\nlogbanner 0\nlogchange 0.5\npidfile /\n",
    )
    .chrony;
    let drift = chrony.drift_file.expect("there is one");
    assert_eq!((drift.path.as_path(), drift.interval.as_secs()), (Path::new("/var/lib/chrony/drift"), 60));
    assert_eq!(chrony.dump_directory, Some(PathBuf::from("/run/chrony")));
    assert_eq!(chrony.nts_directory, Some(PathBuf::from("/var/lib/chrony")));
    assert_eq!(chrony.pid_file, Some(PathBuf::from("/")));
    assert_eq!((chrony.logs.directory, chrony.logs.banner), (Some(PathBuf::from("/var/log/chrony")), 0));
    let kinds: Vec<&str> = chrony.logs.kinds.iter().map(|kind| kind.word()).collect();
    assert_eq!(kinds, ["measurements", "statistics", "tracking"]);
    assert!((chrony.log_change.0 - 0.5).abs() < 1e-12);
    let mail = model("mailonchange root@localhost 0.5\n").chrony.mail_on_change.expect("a mail");
    assert_eq!((mail.address.as_str(), mail.threshold), ("root@localhost", 0.5));
    for wrong in ["mailonchange", "mailonchange root@localhost", "mailonchange root 1 2", "mailonchange ä 1"]
    {
        assert!(!errors(wrong).is_empty(), "{wrong}");
    }
    let defaults = model("driftfile x").chrony;
    assert_eq!(defaults.drift_file.expect("there is one").interval.as_secs(), 3600);
    assert_eq!((defaults.logs.banner, defaults.pid_file), (32, None));
}

#[test]
fn chronyc_is_answered_where_chronyd_answers_it() {
    let observability = |text: &str| model(text).observability;
    let usual = observability("");
    assert_eq!(usual.chrony_socket, Some(PathBuf::from("/run/chrony/chronyd.sock")));
    let shown = |listen: &[std::net::SocketAddr]| listen.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&usual.chrony_listen), ["127.0.0.1:323", "[::1]:323"]);
    assert!(usual.chrony_rules.is_empty());
    let other = observability(
        "bindcmdaddress 0.0.0.0\nbindcmdaddress /run/x.sock\ncmdport 324\ncmdallow 10/8\ncmddeny 10.1\nbindcmddevice lo",
    );
    assert_eq!(other.chrony_socket, Some(PathBuf::from("/run/x.sock")));
    assert_eq!(shown(&other.chrony_listen), ["0.0.0.0:324", "[::1]:324"]);
    assert_eq!(other.chrony_rules.iter().map(|rule| rule.allow).collect::<Vec<_>>(), [true, false]);
    assert_eq!(other.chrony_interface.as_deref(), Some("lo"));
    let closed = observability("cmdport 0\nbindcmdaddress /");
    assert!(closed.chrony_socket.is_none() && closed.chrony_listen.is_empty());
    assert!(errors("bindcmdaddress localhost").contains("neither an IP address nor a path"));
}

#[test]
fn what_is_answered_over_udp_is_as_configured() {
    let names = |text: &str| {
        let names =
            model(text).observability.chrony_open.iter().map(|report| report.name()).collect::<Vec<_>>();
        names.join(" ")
    };
    assert_eq!(names(""), "activity manual rtcdata smoothing sourcename sources sourcestats tracking");
    assert_eq!(names("opencommands sources\nopencommands Tracking clients"), "clients tracking");
    assert_eq!(names("opencommands"), "");
    assert!(errors("opencommands trackin").contains("did you mean `tracking`?"));
    let limit = model("cmdratelimit interval -3 leak 1").observability.chrony_rate_limit.expect("a limit");
    assert_eq!(
        (limit.interval.as_secs_f64(), limit.burst, limit.leak, limit.kiss),
        (0.125, 8, Some(1), None)
    );
    assert!(model("").observability.chrony_rate_limit.is_none());
    assert!(errors("cmdratelimit kod 2").contains("unknown option `kod`"));
    assert!(errors("opencommands makestep").contains("unknown report `makestep`"));
}

#[test]
fn directives_are_given_back_in_the_order_in_which_they_count() {
    let files = |request: &Request| match request {
        Request::Include(_) => Ok(vec![Text::new("inner", "server  b.example\tiburst\n")]),
        _ => Ok(Vec::new()),
    };
    let text = Text::new("x", "# comment\ninclude inner\nsourcedir /d\nMakestep 1 3\n");
    let lines = chime_config::dialects::chrony::directives(&text, &files).expect("it is right");
    assert_eq!(lines, ["server b.example iburst", "sourcedir /d", "Makestep 1 3"]);
}

#[test]
fn numbers_reach_the_discipline_and_the_rate_limit() {
    let model = model(
        "makestep 0.1 -1\nmaxslewrate 1000\nmaxdistance 1.5\nmaxjitter inf\nstratumweight 0\ncombinelimit 0\n\
         reselectdist 1e-3\nmaxclockerror 2\nmaxdrift 500\nminsources 2\nmaxsamples 1\nrefresh 0\n\
         allow\nratelimit interval 1 burst 16 kod 2\nclientloglimit 128000\nuser _chrony\n\
         bindacqaddress 192.0.2.1\nbindacqdevice eth0\nlocal stratum 5 distance 0.5 activate 0.1\n",
    );
    let settings = model.discipline_settings();
    assert_eq!((settings.step.threshold, settings.step.updates_limit), (Some(0.1), None));
    assert!(
        (settings.max_slew.as_ppm() - 1000.0).abs() < 1e-6
            && (settings.max_drift.as_ppm() - 500.0).abs() < 1e-6
    );
    assert_eq!((settings.max_distance, settings.combine_limit, settings.samples_min), (1.5, 0.0, 1));
    assert_eq!(settings.minimum_agreeing_sources, 2);
    assert_eq!(model.refresh.names, 0);
    let policy = model.servers[0].policy();
    assert_eq!(policy.rate_limit, Some(RateLimitSettings::from_chrony(1, 16, 2, 2)));
    assert_eq!(policy.clients_max, 1000);
    assert_eq!(model.process.user.as_deref(), Some("_chrony"));
    assert_eq!(model.client_sockets.interface.as_deref(), Some("eth0"));
    assert_eq!(settings.local.map(|local| (local.stratum, local.activate)), Some((5, 0.1)));
    let tuned = load("maxchange 5 3 -1\ncorrtimeratio 2\nmaxupdateskew 100\nfallbackdrift 16 19\n");
    assert!(tuned.warnings.is_empty(), "{}", tuned.warnings);
    let tuning = tuned.model.synchronization.tuning;
    assert_eq!((tuning.step.startup_panic.backward, tuning.step.panic_after), (Some(5.0), 3));
    assert_eq!(tuning.correction_time, CorrectionTime::Ratio(2.0));
    assert!((tuning.max_update_skew.as_ppm() - 100.0).abs() < 1e-9);
    assert_eq!(tuning.fallback, Some(FallbackDrift { min: 16, max: 19 }));
    assert_eq!(load("fallbackdrift 0 0").model.synchronization.tuning.fallback, None);
    assert_eq!(tuning.first_samples_min, 3, "as chronyd, also where it may step");
    assert_eq!(load("maxchange 10 1 1").model.synchronization.tuning.step.running_panic.forward, Some(10.0));
}

#[test]
fn included_files_are_read_in_place_and_sources_afterwards() {
    let files = |request: &Request| match request {
        Request::Include(pattern) if pattern == "missing" => Err("missing: no such file".to_owned()),
        Request::Include(_) => Ok(vec![Text::new("inner", "server b\n")]),
        Request::ConfigurationDirectories(_) => Ok(vec![Text::new("a.conf", "server c\n")]),
        Request::Address(name) => Err(format!("{name}: nobody asks for it here")),
        Request::SourceDirectories(directories) => {
            assert_eq!(directories, &[PathBuf::from("/one"), PathBuf::from("/two")]);
            Ok(vec![Text::new("dhcp.sources", "server e iburst\nmakestep 1 3\nserver f oops\nserver g")])
        }
    };
    let text = "sourcedir /one\nserver a\ninclude x\nconfdir /d\nserver d\nsourcedir /two\n";
    let loaded = parse(&Text::new("main", text), &files).expect("it is right");
    let names: Vec<&str> = loaded.model.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let places: Vec<(&str, usize)> = loaded.warnings.0.iter().map(|w| (w.file.as_str(), w.line)).collect();
    assert_eq!(places, [("dhcp.sources", 2), ("dhcp.sources", 3), ("dhcp.sources", 4)]);
    assert_eq!(loaded.model.discipline_settings().step.threshold, None);
    let missing = parse(&Text::new("main", "include missing"), &files).expect_err("it is not there");
    assert!(missing.to_string().contains("missing: no such file"));
    let endless = |_: &Request| Ok(vec![Text::new("self", "include self\n")]);
    let errors = parse(&Text::new("self", "include self\n"), &endless).expect_err("it never ends");
    assert!(errors.to_string().contains("more than 10"));
}

#[test]
fn directives_are_known_in_any_case() {
    assert!(is_directive("MakeStep") && is_directive("hwtimestamp") && !is_directive("nts-ke-server"));
}

/// Words that make lines which get far into the reading.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "server",
            "pool",
            "peer",
            "allow",
            "deny",
            "local",
            "ratelimit",
            "makestep",
            "refclock",
            "include",
            "log",
            "all",
            "nts",
            "iburst",
            "minpoll",
            "key",
            "offset",
            "version",
            "extfield",
            "F323",
            "SHM",
            "ntsrotate",
            "ntstrustedcerts",
            "certset",
            "maxchange",
            "stratum",
            "#",
            "!",
            "\t",
            "\n",
            "\n",
            "10/8",
            "::/0",
            "ntsaeads",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        (-40_i32..40).prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        "[^ \n]{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*", words in prop::collection::vec(word(), 0..40)) {
        let again = |_: &Request| Ok(vec![Text::new("x", "server a\n")]);
        for contents in [text, words.join(" ")] {
            let text = Text::new("x", contents);
            let _ = recognise(&text);
            match parse(&text, &again) {
                Ok(loaded) => {
                    let _ = loaded.warnings.render(true);
                    let _ = loaded.model.discipline_settings();
                    for server in &loaded.model.servers {
                        let _ = server.policy();
                    }
                }
                Err(errors) => prop_assert!(errors.has_errors() && !errors.render(false).is_empty()),
            }
        }
    }
}

#[test]
fn peers_are_peers() {
    let model = model("peer a key 3 minpoll 5 xleave\nserver b\n");
    let peer = &model.sources[0];
    assert_eq!((&peer.kind, peer.poll.min, peer.interleaved), (&SourceKind::Peer, 5, true));
    assert_eq!(peer.authentication, Authentication::Key(3));
    assert!(model.has_peers());
}

#[test]
fn broadcast_is_read() {
    let broadcasts = model("broadcast 60 192.0.2.255\nbroadcast 8 ff02::101 1123\n").broadcasts;
    let seen: Vec<_> = broadcasts.iter().map(|one| (one.to.to_string(), one.interval.as_secs())).collect();
    assert_eq!(seen, [("192.0.2.255:123".to_owned(), 60), ("[ff02::101]:1123".to_owned(), 8)]);
    assert!(broadcasts.iter().all(|one| one.ttl == 1 && one.key.is_none()));
}

#[test]
fn xleave_asks_for_interleaved_mode() {
    let model = model("server a xleave\npool b nts xleave\nserver c\n");
    assert_eq!(
        model.sources.iter().map(|source| source.interleaved).collect::<Vec<_>>(),
        [true, true, false]
    );
}

/// Every directive and option of the specification's tables, one a line. Each is read, with one warning at most.
#[test]
fn every_form_of_the_specification_is_understood() {
    const FORMS: &str = include_str!("../testdata/spec/chrony-forms.conf");
    for (number, line) in FORMS.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        // TAI alone is no time.
        let leap_table = if line.contains(" tai") { "\nleapsectz right/UTC" } else { "" };
        let text = Text::new("chrony.conf", format!("{line}{leap_table}"));
        match parse(&text, &nothing) {
            Ok(loaded) => {
                assert!(loaded.warnings.0.len() <= 1, "line {}: {line}: {}", number + 1, loaded.warnings)
            }
            Err(errors) => panic!("line {}: {line}: {errors}", number + 1),
        }
    }
}

#[test]
fn leap_seconds_are_read_from_where_chrony_reads_them_and_smeared_as_it_does() {
    let model = model(
        "leapsectz right/UTC\nleapseclist /usr/share/zoneinfo/leap-seconds.list\nleapsecmode slew\n\
         smoothtime 400 0.001024 leaponly\n",
    );
    let settings = &model.leap_seconds;
    assert_eq!(settings.zone.as_deref(), Some("right/UTC"));
    assert_eq!(settings.file, Some(PathBuf::from("/usr/share/zoneinfo/leap-seconds.list")));
    assert_eq!(model.discipline_settings().leap_mode, LeapMode::Slew);
    let smear = settings.smear.expect("leap seconds are smeared");
    assert_eq!(smear.place, SmearPlace::After);
    assert!((smear.seconds() - 62_500.0).abs() < 1e-3, "{}", smear.seconds());
    assert_eq!(model.synchronization.smoothing, None, "nothing but leap seconds");
    assert!(load("smoothtime 2000 1").model.synchronization.smoothing.is_some());
    let smoothed = load("smoothtime 400 0.01").model;
    let limits = smoothed.synchronization.smoothing.expect("everything is smoothed");
    assert!((limits.rate_max - 400e-6).abs() < 1e-12 && (limits.change - 1e-8).abs() < 1e-16);
    assert!(smoothed.leap_seconds.smear.is_some(), "leap seconds, too");
    for (word, mode) in [("system", LeapMode::System), ("step", LeapMode::Step), ("ignore", LeapMode::Ignore)]
    {
        assert_eq!(load(&format!("leapsecmode {word}")).model.discipline_settings().leap_mode, mode);
    }
    for (text, message) in [
        ("leapsecmode never", "unknown mode `never`"),
        ("smoothtime 400", "is followed by a number"),
        ("smoothtime 0 1", "above 0"),
        ("smoothtime 200000 1", "at most 100000"),
        ("smoothtime 1 1001", "at most 1000"),
        ("smoothtime 1 1 leap", "unknown option `leap`"),
        ("leapsectz", "is followed by a time zone"),
    ] {
        let said = errors(text);
        assert!(said.contains(message), "{text}: {said}");
    }
}

#[test]
fn the_real_time_clock_is_looked_at_as_chrony_is_told_to() {
    let read = model(
        "rtcfile /var/lib/chrony/rtc\nrtcautotrim 30\nrtcdevice /dev/rtc1\nrtconutc\nhwclockfile /etc/adjtime\nlog rtc\n",
    );
    let clock = &read.chrony.real_time_clock;
    assert_eq!(clock.file, Some(PathBuf::from("/var/lib/chrony/rtc")));
    assert_eq!((clock.device.as_path(), clock.keeps_utc), (std::path::Path::new("/dev/rtc1"), true));
    assert_eq!(clock.adjtime_file, Some(PathBuf::from("/etc/adjtime")));
    assert_eq!(clock.trim_threshold, Some(30.0));
    assert!(!read.synchronization.marks_kernel, "or the kernel would set it");
    assert_eq!(model("rtcautotrim 0").chrony.real_time_clock.trim_threshold, None);
    assert!(model("rtcsync").synchronization.marks_kernel);
    assert!(errors("rtcautotrim -1").contains("rtcautotrim"));
    let said = errors("rtcfile /var/lib/chrony/rtc\nserver a\nrtcsync\n");
    assert!(said.contains("rtcfile directive cannot be used with rtcsync"), "{said}");
    assert!(said.contains("chrony.conf:1:1"), "{said}");
}

#[test]
fn a_real_time_clock_that_is_followed_is_not_set() {
    let read = model("refclock RTC /dev/rtc0:utc\n");
    assert!(read.reference_clocks[0].votes() && read.reference_clocks[0].name(0) == "RTC0");
    for other in ["rtcsync", "rtcfile /var/lib/chrony/rtc"] {
        let said = errors(&format!("refclock RTC /dev/rtc0\n{other}\n"));
        assert!(said.contains("chrony.conf:1:1") && said.contains("rtcsync or rtcfile"), "{said}");
    }
}

#[test]
fn network_cards_are_told_to_stamp_as_chrony_tells_them() {
    let stamps = model("server a\n").hardware_stamps;
    assert_eq!(stamps, HardwareStamps::named_only(), "none unless it is named");
    let text = "hwtimestamp *\nhwtimestamp eth0 minpoll -1 maxpoll 3 minsamples 4 maxsamples 32 precision 5e-8 \
                txcomp 3e-7 rxcomp -2e-7 nocrossts rxfilter all\nhwtstimeout 0.005\n";
    let stamps = model(text).hardware_stamps;
    assert_eq!(stamps.timeout, std::time::Duration::from_millis(5));
    let [all, one] = &stamps.cards[..] else { panic!("{stamps:?}") };
    assert_eq!(*all, CardWish::new(None));
    assert_eq!((one.interface.as_deref(), one.poll_min, one.poll_max), (Some("eth0"), -1, 3));
    assert_eq!((one.relation.samples_min, one.relation.samples_max), (4, 32));
    assert_eq!((one.relation.precision, one.cross_timestamps), (5e-8, false));
    assert_eq!((one.transmit_compensation, one.receive_compensation), (3e-7, -2e-7));
    assert_eq!(one.filter, Some(CardFilter::All));
    let implied = model("hwtimestamp eth1 minpoll 4\nhwtimestamp eth2 minpoll -20\n").hardware_stamps;
    assert_eq!(
        (implied.cards[0].poll_max, implied.cards[1].poll_min, implied.cards[1].poll_max),
        (5, -6, -6)
    );
    for wrong in
        ["hwtimestamp", "hwtimestamp eth0 rxfilter some", "hwtimestamp eth0 minpol 3", "hwtstimeout -1"]
    {
        assert!(parse(&Text::new("x", wrong), &nothing).is_err(), "{wrong}");
    }
}

#[test]
fn reference_clocks_have_all_of_their_options_and_names_of_their_own() {
    let loaded = load(
        "refclock SHM 0:perm=0660 refid NMEA poll 3 dpoll -1 filter 32 offset 0.35 delay 0.1 precision 1e-3 \
         maxdispersion 0.2 stratum 2 noselect maxunreach 5\nrefclock PPS /dev/pps0:clear lock NMEA rate 5 maxlockage 7 \
         width 0.1 prefer trust require\nrefclock SOCK /run/x.sock pps\nrefclock PHC eth0 local\n",
    );
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let [shm, pps, sock, phc] = &loaded.model.reference_clocks[..] else { panic!("four clocks") };
    assert_eq!(
        (shm.parameter.as_str(), shm.poll_exponent, shm.driver_poll_exponent),
        ("0:perm=0660", Some(3), -1)
    );
    assert_eq!((shm.filter, shm.offset_correction, shm.delay, shm.precision), (32, 0.35, 0.1, Some(1e-3)));
    assert_eq!((shm.max_dispersion, shm.stratum, shm.no_select), (0.2, 2, true));
    assert_eq!(shm.max_unreachable_polls, 5);
    assert_eq!((pps.reference_id.as_deref(), pps.lock.as_deref()), (Some("PPS1"), Some("NMEA")));
    assert_eq!((pps.rate, pps.max_lock_pulses, pps.pulse_width), (5, 7, 0.1));
    assert!(pps.prefer && pps.trust && pps.require && sock.pps && sock.tells_pulses() && phc.local);
    assert_eq!((sock.reference_id.as_deref(), phc.reference_id.as_deref()), (Some("SOC2"), Some("PHC3")));
    for (text, message) in [
        (
            "refclock SHM 0\nrefclock PPS /dev/pps0 refid SHM0",
            "another refclock has the refid `SHM0` already",
        ),
        ("refclock SHM 256", "a number from 0 to 255"),
        ("refclock SHM 0:prm=1", "`prm` is no option of the driver SHM"),
        ("refclock SHM 0 refid ABCDE", "one to four characters"),
        ("refclock PHC /dev/ptp0:extpps:pin=x", "`pin` is a number"),
        ("refclock PHC /dev/ptp0:extpps:channel=-1", "`channel` is a number"),
        ("refclock PHC eth0 tai", "nothing says how far TAI is from UTC"),
    ] {
        let said = errors(text);
        assert!(said.contains(message), "{text}: {said}");
    }
    let stamped = model("refclock PHC /dev/ptp0:extpps:pin=1:channel=2:clear width 0.2 poll 2\n");
    assert!(stamped.reference_clocks[0].tells_pulses() && stamped.reference_clocks[0].pulse_pin() == Some(1));
    let alone = load("refclock PPS /dev/pps0 lock GPS\n");
    assert!(alone.warnings.0[0].message.contains("no refclock has the refid GPS"), "{}", alone.warnings);
}
