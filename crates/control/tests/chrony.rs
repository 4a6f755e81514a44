//! Replies to chronyc against packets recorded between chronyc and chronyd: the request of the recording and a snapshot
//! with chronyd's numbers must give chronyd's octets.

use chime_control::chrony::{
    OpenReport, OpenReports, Outcome, Permission, Table, Verdict, Wish, is_answered_later, respond,
};
use chime_control::{ClientReport, Handling, Snapshot, UseReport};
use chime_discipline::ManualCorrection;
use chime_engine::{
    ActivityReport, Authentication, AuthenticationMode, AuthenticationReport, Command, LeapReport,
    LocalReference, ManualEntryReport, ManualReport, NtpReport, SelectionOptionsReport, SelectionReport,
    SourceChange, SourceKind, SourceMatch, SourceMode, SourceReport, StatisticsReport, TimestampSource,
    TrackingReport, Tuning,
};

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |at: usize| char::from(digits[at]).to_digit(16).expect("a digit");
    (0..digits.len() / 2)
        .map(|at| u8::try_from(digit(2 * at) * 16 + digit(2 * at + 1)).expect("an octet"))
        .collect()
}

/// A request of so many octets.
fn request(command: u16, payload: &str, octets_wanted: usize) -> Vec<u8> {
    let mut request = octets("06010000");
    request.extend(command.to_be_bytes());
    request.extend(octets("0000 9da07380 0000000000000000"));
    request.extend(octets(payload));
    assert!(request.len() <= octets_wanted);
    request.resize(octets_wanted, 0);
    request
}

/// Code, status and payload of the reply over the Unix socket.
fn ask(snapshot: &Snapshot, request: &[u8]) -> (u8, u8, Vec<u8>) {
    let reply = match respond(request, snapshot, Permission::Everything) {
        Verdict::Reply(reply) | Verdict::Command { reply, .. } | Verdict::ResetClients { reply, .. } => reply,
        Verdict::Silence => panic!("no reply"),
        Verdict::Wish { replier, .. } => replier.reply(Outcome::Done),
    };
    assert_eq!(reply[..4], [6, 2, 0, 0]);
    assert_eq!((&reply[4..6], &reply[16..20]), (&request[4..6], &request[8..12]));
    (reply[7], reply[9], reply[28..].to_vec())
}

fn expect(snapshot: &Snapshot, request: &[u8], kind: u8, payload: &str) {
    let (got_kind, status, got) = ask(snapshot, request);
    assert_eq!((got_kind, status), (kind, 0));
    assert_eq!(hex(&got), hex(&octets(payload)));
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The number that chrony writes as this word.
fn number(word: u32) -> f64 {
    let exponent = (word.cast_signed() >> 25) - 25;
    let coefficient = (word << 7).cast_signed() >> 7;
    f64::from(coefficient) * 2_f64.powi(exponent)
}

fn of_source(source: SourceReport) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.engine.sources = vec![source];
    snapshot
}

/// The source 127.0.0.11 of the recordings.
fn source() -> SourceReport {
    SourceReport {
        id: 2,
        name: "ntp1.example.net".to_owned(),
        remote: "127.0.0.11:123".parse().ok(),
        reference_id: [127, 0, 0, 11],
        state: '*',
        ..SourceReport::default()
    }
}

const ADDRESS: &str = "7f00000b 00000000 00000000 00000000 0001 0000";

#[test]
fn tracking() {
    let mut snapshot = Snapshot::default();
    snapshot.engine.tracking = TrackingReport {
        synchronized: true,
        reference_id: [127, 0, 0, 11],
        address: "127.0.0.11".parse().ok(),
        stratum: 2,
        leap: LeapReport::Normal,
        reference_unix_seconds: 1_795_187_091.5,
        system_offset_seconds: number(0xdd07_601d),
        last_offset_seconds: number(0xd2aa_57dd),
        rms_offset_seconds: number(0xd4f5_ca19),
        frequency_ppm: number(0xee90_0654),
        residual_frequency_ppm: number(0xf576_b01c),
        skew_ppm: number(0xf8b5_a1b2),
        root_delay_seconds: number(0xe0d0_348b),
        root_dispersion_seconds: number(0xdebd_a496),
        update_interval_seconds: number(0x0a81_81e6),
        ..TrackingReport::default()
    };
    let payload = "7f00000b 7f00000b000000000000000000000000 00010000 0002 0000
        00000000 6b006193 1dcd6500
        dd07601d d2aa57dd d4f5ca19 ee900654 f576b01c f8b5a1b2 e0d0348b debda496 0a8181e6";
    expect(&snapshot, &request(33, "", 104), 5, payload);
}

#[test]
fn source_data_and_names() {
    let mut snapshot = of_source(SourceReport {
        poll: 3,
        stratum: 1,
        reach: 0xff,
        last_sample_age_seconds: Some(1.2),
        measured_offset_seconds: number(0xe377_b7fb),
        offset_seconds: number(0xe377_0da3),
        error_seconds: number(0xe2d3_1fa9),
        ..source()
    });
    let unresolved = SourceReport { id: 2, poll: 6, state: 'M', ..SourceReport::default() };
    snapshot.engine.sources.push(unresolved);
    expect(&snapshot, &request(14, "", 32), 2, "00000002");
    let payload = [ADDRESS, "0003 0001 0000 0000 0000 00ff 00000001 e377b7fb e3770da3 e2d31fa9"].concat();
    expect(&snapshot, &request(15, "00000000", 76), 3, &payload);
    let payload = "00000002 000000000000000000000000 00030000 0006 0000 0001 0000 0000 0000 ffffffff
        00000000 00000000 00000000";
    expect(&snapshot, &request(15, "00000001", 76), 3, payload);
    assert_eq!(ask(&snapshot, &request(15, "00000002", 76)), (1, 4, vec![]));
    let (kind, _, name) = ask(&snapshot, &request(65, ADDRESS, 284));
    assert_eq!((kind, name.len(), &name[..17]), (19, 256, &b"ntp1.example.net\0"[..]));
    assert_eq!(ask(&snapshot, &request(65, "00000002 000000000000000000000000 00030000", 284)).1, 0);
    assert_eq!(ask(&snapshot, &request(65, "7f000063 000000000000000000000000 00010000", 284)).1, 4);
}

/// The recorded reference clock GPS: an address in the list of sources, a reference identifier without one elsewhere.
#[test]
fn reference_clocks() {
    let effective =
        SelectionOptionsReport { trust: true, require: true, ..SelectionOptionsReport::default() };
    let gps = SourceReport {
        id: 1,
        name: "GPS".to_owned(),
        kind: SourceKind::ReferenceClock,
        reference_id: *b"GPS\0",
        remote: None,
        poll: 2,
        reach: 0xff,
        state: 'P',
        last_sample_age_seconds: Some(5.0),
        measured_offset_seconds: number(0xe900_90cc),
        offset_seconds: number(0xe900_7699),
        error_seconds: number(0xee83_131a),
        selection: SelectionReport {
            effective,
            leap: LeapReport::Normal,
            score: 1.0,
            last_sample_age_seconds: 2.0,
            low_seconds: number(0xef5c_e8c0),
            high_seconds: number(0xecc6_1de9),
            ..SelectionReport::default()
        },
        ..SourceReport::default()
    };
    let snapshot = of_source(gps.clone());
    let payload = "47505300 00000000 00000000 00000000 0001 0000
        0002 0000 0005 0002 0000 00ff 00000005 e90090cc e9007699 ee83131a";
    expect(&snapshot, &request(15, "00000000", 76), 3, payload);
    let snapshot = of_source(gps);
    let payload = "47505300 00000000 00000000 00000000 00000000 00000000
        50 00 00 00 0000 000c 00000002 04800000 ef5ce8c0 ecc61de9";
    expect(&snapshot, &request(69, "00000000", 76), 23, payload);
    let (_, status, statistics) = ask(&snapshot, &request(34, "00000000", 84));
    assert_eq!(
        (status, &statistics[..24]),
        (0, &octets("47505300 0000000000000000000000000000000000000000")[..])
    );
    // It has no address by which anything about it could be asked.
    let as_address = "47505300 00000000 00000000 00000000 0001 0000";
    for command in [57, 65, 67] {
        assert_eq!(ask(&snapshot, &request(command, as_address, 400)).1, 4, "{command}");
    }
    assert_eq!(ask(&snapshot, &request(65, "00000001 000000000000000000000000 00030000", 284)).1, 4);
}

#[test]
fn statistics_without_a_regression() {
    let snapshot = of_source(SourceReport {
        statistics: StatisticsReport {
            standard_deviation_seconds: 4.0,
            skew_ppm: 2000.0,
            ..StatisticsReport::default()
        },
        ..source()
    });
    let payload =
        ["7f00000b", ADDRESS, "00000000 00000000 00000000 08800000 00000000 18fa0000 00000000 00000000"]
            .concat();
    expect(&snapshot, &request(34, "00000000", 84), 6, &payload);
}

#[test]
fn authentication() {
    let snapshot = of_source(SourceReport {
        authentication: AuthenticationReport {
            mode: AuthenticationMode::Nts,
            key_id: 1,
            key_type: 15,
            key_bits: 256,
            last_establishment_age_seconds: Some(143.0),
            cookies: 8,
            cookie_octets: 100,
            ..AuthenticationReport::default()
        },
        ..source()
    });
    let payload = "0002 000f 00000001 0100 0000 0000008f 0008 0064 0000 0000";
    expect(&snapshot, &request(67, ADDRESS, 52), 20, payload);
    let payload = "0000 0000 00000000 0000 0000 ffffffff 0000 0000 0000 0000";
    expect(&of_source(source()), &request(67, ADDRESS, 52), 20, payload);
}

#[test]
fn selection() {
    let trusted = SelectionOptionsReport { prefer: true, trust: true, require: true, no_select: false };
    let snapshot = of_source(SourceReport {
        last_sample_age_seconds: Some(37.0),
        selection: SelectionReport {
            configured: SelectionOptionsReport { prefer: true, ..SelectionOptionsReport::default() },
            effective: trusted,
            leap: LeapReport::Normal,
            last_sample_age_seconds: 5.0,
            score: 1.0,
            low_seconds: number(0xdf00_9b69),
            high_seconds: number(0xe0a5_7fe1),
        },
        authentication: AuthenticationReport {
            mode: AuthenticationMode::Nts,
            ..AuthenticationReport::default()
        },
        ..source()
    });
    let payload = ["7f00000b", ADDRESS, "2a010000 0002 000e 00000005 04800000 df009b69 e0a57fe1"].concat();
    expect(&snapshot, &request(69, "00000000", 76), 23, &payload);
}

#[test]
fn the_last_answer_for_old_and_new_clients() {
    let snapshot = of_source(SourceReport {
        ntp: NtpReport {
            answered: true,
            local: "127.0.0.1".parse().ok(),
            version: 4,
            mode: 4,
            stratum: 1,
            poll: 3,
            precision: -27,
            reference_id: [127, 127, 1, 1],
            reference_unix_seconds: 1_795_187_090.5,
            offset_seconds: number(0xd75e_f050),
            delay_seconds: number(0xe286_19ac),
            dispersion_seconds: number(0xd095_e992),
            response_seconds: number(0xe889_cba4),
            jitter_asymmetry: number(0xfedf_38f5),
            tests: 0x3ff,
            authenticated: true,
            tx_timestamping: Some(TimestampSource::Kernel),
            rx_timestamping: Some(TimestampSource::Kernel),
            total_tx: 30,
            total_rx: 30,
            total_valid_rx: 30,
            total_good_rx: 30,
            total_kernel_tx: 30,
            total_kernel_rx: 30,
            ..NtpReport::default()
        },
        ..source()
    });
    let common = [
        ADDRESS,
        "7f000001 000000000000000000000000 00010000 007b 00 04 04 01 03 e5 00000000 00000000 7f7f0101
         00000000 6b006192 1dcd6500 d75ef050 e28619ac d095e992 e889cba4 fedf38f5 83ff 4b 4b
         0000001e 0000001e 0000001e 0000001e",
    ]
    .concat();
    let ones = "ffffffff ffffffff ffffffff";
    let new = [&common, "0000001e 0000001e 00000000 00000000 ffffffff", ones].concat();
    expect(&snapshot, &request(57, ADDRESS, 172), 26, &new);
    expect(&snapshot, &request(57, ADDRESS, 152), 16, &[&common, ones].concat());
    assert_eq!(ask(&snapshot, &request(57, ADDRESS, 151)).1, 19);
}

#[test]
fn counts_of_the_server_for_each_release() {
    let mut snapshot = Snapshot::default();
    snapshot.control.chrony =
        [(Handling::Answered, 0x29c), (Handling::Refused, 1), (Handling::Malformed, 9)].into_iter().collect();
    snapshot.server.received = 4;
    snapshot.server.dropped = 1;
    snapshot.server.authenticated = 3;
    snapshot.server.timestamps.daemon_tx = 2;
    snapshot.server.timestamps.kernel_rx = 4;
    snapshot.ke_server.accepted = 5;
    let longs = |counts: &[u64]| counts.iter().map(|count| format!("{count:016x}")).collect::<String>();
    let words = |counts: &[u32]| counts.iter().map(|count| format!("{count:08x}")).collect::<String>();
    let newest = longs(&[4, 5, 0x29e, 1, 0, 0, 0, 3, 0, 0, 0, 0, 2, 4, 0, 0, 0]) + &"ff".repeat(32);
    expect(&snapshot, &request(54, "", 196), 25, &newest);
    expect(&snapshot, &request(54, "", 72), 24, &words(&[4, 5, 0x29e, 1, 0, 0, 0, 3, 0, 0, 0]));
    expect(&snapshot, &request(54, "", 60), 22, &words(&[4, 5, 0x29e, 1, 0, 0, 0, 3]));
    expect(&snapshot, &request(54, "", 48), 14, &words(&[4, 0x29e, 1, 0, 0]));
}

#[test]
fn activity_and_what_we_do_not_have() {
    let mut snapshot = Snapshot::default();
    snapshot.engine.activity =
        ActivityReport { online: 1, offline: 2, burst_online: 3, burst_offline: 4, unresolved: 5 };
    expect(&snapshot, &request(44, "", 48), 12, "00000001 00000002 00000003 00000004 00000005");
    expect(&snapshot, &request(41, "", 416), 18, &"00".repeat(388));
    for (command, octets, status) in
        [(35, 56, 13), (51, 52, 6), (30, 28, 13), (52, 28, 6), (64, 372, 3), (43, 28, 1)]
    {
        assert_eq!(ask(&snapshot, &request(command, "", octets)), (1, status, vec![]), "{command}");
    }
}

fn client(last: u8, hits: u32) -> ClientReport {
    ClientReport {
        ntp: UseReport { hits, last_age_seconds: Some(1.0), ..UseReport::default() },
        ..ClientReport::new([127, 0, 0, last].into())
    }
}

#[test]
fn clients_come_by_eights() {
    let snapshot = Snapshot { clients: (0..10).map(|n| client(20 + n, 1)).collect(), ..Snapshot::default() };
    let ask = |payload: &str| ask(&snapshot, &request(68, payload, 520)).2;
    let first = ask("00000000 00000008 00000000 00000000");
    assert_eq!((first.len(), hex(&first[..12])), (492, hex(&octets("0000000a 00000008 00000008"))));
    let one =
        "7f000014 000000000000000000000000 00010000 00000001 00000000 00000000 00000000 00000000 00000000
        7f7f7f7f 00000001 ffffffff ffffffff";
    assert_eq!(hex(&first[12..72]), hex(&octets(one)));
    let rest = ask("00000008 00000008 00000000 00000000");
    assert_eq!(hex(&rest[..12]), hex(&octets("0000000a 0000000a 00000002")));
    assert_eq!(
        hex(&ask("00000000 00000008 00000002 00000000")[..12]),
        hex(&octets("0000000a 0000000a 00000000"))
    );
}

#[test]
fn counts_of_clients_begin_again_when_that_is_asked_for() {
    let mut snapshot =
        Snapshot { clients: (0..10).map(|n| client(20 + n, 1)).collect(), ..Snapshot::default() };
    snapshot.clients[1].ntp = UseReport::default();
    snapshot.clients[1].command = UseReport {
        hits: 3,
        drops: 1,
        interval_log2: Some(5.0),
        last_age_seconds: Some(7.0),
        ..UseReport::default()
    };
    let asked = request(68, "00000000 00000008 00000001 00000001", 520);
    let Verdict::ResetClients { reply, addresses } = respond(&asked, &snapshot, Permission::Everything)
    else {
        panic!("nothing begins again");
    };
    let wanted: Vec<std::net::IpAddr> = (20..28).map(|last| [127, 0, 0, last].into()).collect();
    assert_eq!((reply.len(), addresses), (520, wanted));
    let one =
        "7f000015 000000000000000000000000 00010000 00000000 00000000 00000003 00000000 00000000 00000001
        7f7f057f ffffffff ffffffff 00000007";
    assert_eq!(hex(&reply[28 + 12 + 60..28 + 12 + 120]), hex(&octets(one)));
}

#[test]
fn commands_reach_the_engine_from_the_unix_socket_only() {
    let snapshot = of_source(source());
    let told = |command, payload: &str, octets| match respond(
        &request(command, payload, octets),
        &snapshot,
        Permission::Everything,
    ) {
        Verdict::Command { command, .. } => Some(command),
        _ => None,
    };
    assert!(matches!(told(1, "", 60), Some(Command::Online(SourceMatch::All))));
    let mask = "ffffff00 000000000000000000000000 00010000";
    let net = [mask, "7f000000 000000000000000000000000 00010000"].concat();
    assert!(matches!(told(2, &net, 60), Some(Command::Offline(SourceMatch::Address { .. }))));
    let other = [mask, "7f000100 000000000000000000000000 00010000"].concat();
    assert_eq!(ask(&snapshot, &request(2, &other, 60)).1, 4);
    let burst = "00".repeat(40) + "00000002 00000004";
    assert!(matches!(told(3, &burst, 68), Some(Command::Burst { good: 2, total: 4, .. })));
    assert!(matches!(told(48, "", 28), Some(Command::Reselect)));
    assert!(matches!(told(53, "", 28), Some(Command::Refresh)));
    assert!(matches!(told(66, "", 28), Some(Command::ResetSources)));
    assert_eq!(ask(&snapshot, &request(43, "", 28)).1, 1, "the clock is only watched");
    for (command, octets) in [(1, 60), (43, 28), (67, 52), (57, 172), (54, 196), (68, 520), (69, 76)] {
        let Verdict::Reply(reply) =
            respond(&request(command, "", octets), &snapshot, Permission::Reports(OpenReports::default()))
        else {
            panic!("a reply");
        };
        assert_eq!((reply.len(), reply[9]), (28, 2), "{command}");
    }
}

fn done(command: u16, payload: &str, octets: usize) -> Verdict {
    respond(&request(command, payload, octets), &of_source(source()), Permission::Everything)
}

#[test]
fn recorded_changes_of_a_source_say_what_they_said() {
    let change = |command, payload: &str, octets| match done(command, &[ADDRESS, payload].concat(), octets) {
        Verdict::Command { command: Command::Modify { change, .. }, .. } => change,
        other => panic!("{command}: {other:?}"),
    };
    let exponent = chime_time::PollExponent::new;
    assert_eq!(change(4, "00000002", 44), SourceChange::PollMin(exponent(2)));
    assert_eq!(change(5, "00000009", 44), SourceChange::PollMax(exponent(9)));
    assert_eq!(change(7, "02800000", 44), SourceChange::MaxDelay(0.5));
    assert_eq!(change(8, "06800000", 44), SourceChange::MaxDelayRatio(2.0));
    assert_eq!(change(47, "03000000", 44), SourceChange::MaxDelayDeviationRatio(0.0), "never negative");
    // selectopts +trust -prefer
    let options =
        SourceChange::Options { no_select: None, prefer: Some(false), trust: Some(true), require: None };
    assert_eq!(change(72, "00000000 00000006 00000020", 52), options);
    assert_eq!(change(73, "00000000 02800000", 48), SourceChange::OffsetCorrection(0.5));
    let unknown = "7f00000c 000000000000000000000000 00010000 00000002";
    for (command, octets) in
        [(4, 44), (5, 44), (7, 44), (8, 44), (45, 44), (46, 44), (47, 44), (72, 52), (73, 48), (29, 44)]
    {
        assert_eq!(ask(&of_source(source()), &request(command, unknown, octets)).1, 4, "{command}");
    }
    assert_eq!(ask(&of_source(source()), &request(4, &[ADDRESS, "00000063"].concat(), 44)).1, 0);
    let removed = done(29, ADDRESS, 40);
    assert!(matches!(removed, Verdict::Command { command: Command::RemoveSource(_), .. }), "{removed:?}");
}

#[test]
fn recorded_changes_of_the_discipline_say_what_they_said() {
    let tuning = |command, payload: &str, octets| match done(command, payload, octets) {
        Verdict::Command { command: Command::Tune(tuning), .. } => tuning,
        other => panic!("{command}: {other:?}"),
    };
    // makestep 0.5 3; makestep 0.5 -1; makestep 0.5 0
    let step = |threshold, updates| Tuning::Step { threshold, updates };
    assert_eq!(tuning(50, "00000003 02800000", 28), step(Some(0.5), Some(3)));
    assert_eq!(tuning(50, "ffffffff 02800000", 28), step(Some(0.5), None));
    assert_eq!(tuning(50, "00000000 02800000", 28), step(None, Some(0)));
    assert_eq!(tuning(49, "02800000", 28), Tuning::ReselectDistance(0.5));
    let waits =
        LocalReference { wait_synchronized: 5.0, wait_unsynchronized: 6.0, ..LocalReference::default() };
    let local = LocalReference { stratum: 8, distance: 0.5, activate: 1.0, ..waits };
    let payload = "00000001 00000008 02800000 00000000 04800000 08a00000 08c00000";
    assert_eq!(tuning(74, payload, 48), Tuning::Local(Some(local)));
    let old = LocalReference { stratum: 8, distance: 0.5, ..LocalReference::default() };
    let orphan = LocalReference { orphan: true, wait_unsynchronized: 300.0, ..old };
    let old = Tuning::Local(Some(old));
    assert_eq!(tuning(56, "00000001 00000008 02800000 00000001", 36), Tuning::Local(Some(orphan)));
    assert_eq!(tuning(56, "00000001 00000008 02800000 00000000", 36), old);
    assert_eq!(tuning(74, "", 48), Tuning::Local(None));
}

#[test]
fn recorded_access_rules_say_what_they_said() {
    let wish = |command, payload: &str, octets| match done(command, payload, octets) {
        Verdict::Wish { wish, replier } => (wish, replier),
        other => panic!("{command}: {other:?}"),
    };
    let net = "0a000000 000000000000000000000000 00010000 00000008";
    let subnet = Some(chime_server::Subnet::new([10, 0, 0, 0].into(), 8).expect("a network"));
    let codes = [(17, true, false), (18, true, true), (19, false, false), (20, false, true)];
    for (code, allow, all) in codes {
        for (table, offset) in [(Table::Ntp, 0), (Table::Command, 4)] {
            let rule = chime_server::AccessRule { allow, all, subnet };
            assert_eq!(wish(code + offset, net, 44).0, Wish::Access { table, rule }, "{code}");
        }
    }
    let everybody = chime_server::AccessRule { allow: true, all: false, subnet: None };
    assert_eq!(wish(17, "", 44).0, Wish::Access { table: Table::Ntp, rule: everybody });
    let bad = [
        "0a000000 000000000000000000000000 00010000 00000021",
        "0a000000 000000000000000000000000 00010000 ffffffff",
    ];
    for payload in bad.into_iter().chain([&*("00".repeat(20) + "00000001")]) {
        assert_eq!(ask(&Snapshot::default(), &request(17, payload, 44)).1, 7, "{payload}");
    }
    let (asked, replier) = wish(25, ADDRESS, 40);
    assert_eq!(asked, Wish::CheckAccess { table: Table::Ntp, address: [127, 0, 0, 11].into() });
    let status = |outcome| replier.reply(outcome)[9];
    assert_eq!(
        [Outcome::AccessAllowed, Outcome::AccessDenied, Outcome::Failed, Outcome::Done].map(status),
        [8, 9, 1, 0]
    );
}

/// `add server 127.0.0.21 iburst minpoll 5 maxpoll 7 key 1 offset 0.01 prefer xleave nts`, in hexadecimal; with the name
/// and the words after it in place.
fn adding(kind: &str, name: &[u8], certificates: &str, flags: &str) -> String {
    let mut padded = hex(name);
    padded.extend(std::iter::repeat_n('0', 512 - padded.len()));
    format!(
        "{kind} {padded} 0000007b 00000005 00000007 00000064 00000000 00000008 00000000 00000004 ffffffff ffffffff
         00000001 0000116c 06c00000 00000000 0aa00000 00000000 04800000 f6a3d70a {flags} 00000000 {certificates}
         00000000 000186a0"
    )
}

#[test]
fn a_recorded_source_is_added_with_all_that_was_said_of_it() {
    let added = |payload: &str| match done(64, payload, 372) {
        Verdict::Wish { wish: Wish::AddSource(source), .. } => *source,
        other => panic!("{other:?}"),
    };
    let server = added(&adding("00000001", b"127.0.0.21", "00000000", "0000028d"));
    assert_eq!((server.name.as_str(), server.port, &server.mode), ("127.0.0.21", 123, &SourceMode::Server));
    assert_eq!((server.poll_min.exponent(), server.poll_max.exponent()), (5, 7));
    assert!(server.iburst && server.interleaved && server.online && server.options.prefer);
    assert!(!server.options.trust && matches!(server.authentication, Authentication::Nts(_)));
    assert!((server.options.offset_correction - 0.01).abs() < 1e-8);
    let pool = added(&adding("00000003", b"pool.example", "00000000", "00000010"));
    assert!(matches!(pool.mode, SourceMode::Pool { count: 4, .. }));
    assert!(matches!(pool.authentication, Authentication::Key(1)));
    assert!(pool.options.no_select && !pool.online);
    let peer = added(&adding("00000002", b"127.0.0.21", "00000000", "00000503"));
    assert!(matches!(peer.mode, SourceMode::Symmetric { .. }));
    assert!(peer.burst && peer.offline_on_failure && peer.options.copy_reference && !peer.interleaved);
    assert_eq!((peer.presend_from, peer.poll_target, peer.options.unreachable_polls_max), (None, 8, 100_000));
    let long = [b'a'; 256];
    for (payload, status) in [
        (adding("00000000", b"127.0.0.21", "00000000", "00000001"), 3),
        (adding("00000001", b"", "00000000", "00000001"), 21),
        (adding("00000001", &long, "00000000", "00000001"), 21),
        (adding("00000001", b"a b", "00000000", "00000001"), 21),
        (adding("00000001", b"127.0.0.21", "00000000", "00004001"), 17),
        (adding("00000001", b"127.0.0.11", "00000000", "00000001"), 11),
        (adding("00000001", b"127.0.0.21", "00000003", "00000001"), 1),
    ] {
        assert_eq!(ask(&of_source(source()), &request(64, &payload, 372)).1, status);
    }
}

#[test]
fn housekeeping_is_wished_for_over_the_unix_socket_only() {
    for (command, wish) in [
        (6, Wish::Dump),
        (16, Wish::Rekey),
        (37, Wish::CycleLogs),
        (62, Wish::Shutdown),
        (63, Wish::OnOffline),
        (70, Wish::ReloadSources),
    ] {
        let asking = request(command, "", 28);
        let verdict = respond(&asking, &Snapshot::default(), Permission::Everything);
        assert!(matches!(&verdict, Verdict::Wish { wish: said, .. } if *said == wish), "{verdict:?}");
        let refused = respond(&asking, &Snapshot::default(), Permission::Reports(OpenReports::default()));
        assert!(matches!(&refused, Verdict::Reply(reply) if reply[9] == 2), "{refused:?}");
    }
}

#[test]
fn a_report_is_shown_over_udp_where_it_is_open() {
    let status = |command, octets, open: OpenReports| {
        let asking = request(command, "", octets);
        match respond(&asking, &of_source(source()), Permission::Reports(open)) {
            Verdict::Reply(reply) => reply[9],
            other => panic!("{command}: {other:?}"),
        }
    };
    let only_clients: OpenReports = [OpenReport::Clients].into_iter().collect();
    assert_eq!((status(68, 520, only_clients), status(68, 520, OpenReports::default())), (0, 2));
    assert_eq!((status(33, 104, only_clients), status(33, 104, OpenReports::default())), (2, 0));
    // Access checks are read-only, and closed all the same.
    assert_eq!(status(25, 40, OpenReports::all()), 2);
}

#[test]
fn what_is_wrong_with_a_request_is_said_in_the_order_of_chronyd() {
    let snapshot = Snapshot::default();
    assert_eq!(ask(&snapshot, &request(33, "", 103)).1, 19);
    assert_eq!(ask(&snapshot, &request(33, "", 860)).1, 0);
    for command in [0, 10, 12, 55, 75, 200] {
        assert_eq!(ask(&snapshot, &request(command, "", 28)).1, 3);
    }
    let mut other = request(33, "", 28);
    other[0] = 5;
    assert_eq!(ask(&snapshot, &other).1, 18);
    other[0] = 4;
    assert!(matches!(respond(&other, &snapshot, Permission::Everything), Verdict::Silence));
    let long = request(33, "", 861);
    assert!(matches!(respond(&long, &snapshot, Permission::Everything), Verdict::Silence));
}

/// Every command, at every length, with payloads of all kinds: a reply is never longer than its request, and nothing
/// panics.
#[test]
fn no_reply_is_longer_than_its_request() {
    let mut snapshot = of_source(SourceReport {
        name: "n".repeat(300),
        last_sample_age_seconds: Some(f64::NAN),
        ..source()
    });
    snapshot.clients = (0..20).map(|n| client(n, u32::from(n))).collect();
    snapshot.engine.tracking.reference_unix_seconds = f64::INFINITY;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_be_bytes()[0]
    };
    for command in 0..=80 {
        for length in (0..=870).step_by(3).chain([28, 32, 48, 60, 76, 104, 152, 172, 196, 284, 416, 520]) {
            let mut request = request(command, "", 872);
            request.truncate(length);
            for octet in request.iter_mut().skip(20) {
                *octet = if next() < 160 { next() & 3 } else { next() };
            }
            for permission in [Permission::Reports(OpenReports::all()), Permission::Everything] {
                match respond(&request, &snapshot, permission) {
                    Verdict::Silence => assert!(!(28..=860).contains(&length), "{command} {length}"),
                    Verdict::Reply(reply) | Verdict::ResetClients { reply, .. } => {
                        assert!(reply.len() <= length)
                    }
                    Verdict::Command { reply, .. } => {
                        assert!(reply.len() <= length && permission == Permission::Everything);
                    }
                    Verdict::Wish { replier, .. } => {
                        let reply = replier.reply(Outcome::Done);
                        assert!(reply.len() <= length && permission == Permission::Everything);
                    }
                }
            }
        }
    }
}

#[test]
fn times_that_were_typed_in_are_listed_and_can_be_forgotten() {
    let mut snapshot = Snapshot::default();
    assert_eq!(ask(&snapshot, &request(11, "00000000 6b003640 00000000", 40)).1, 6, "not enabled");
    let entry = ManualEntryReport {
        unix_seconds: 1_795_187_154.5,
        slewed_seconds: 0.0,
        original_seconds: 0.5,
        residual_seconds: -0.5,
    };
    snapshot.engine.manual = ManualReport { enabled: true, entries: vec![entry] };
    let list =
        ["00000001", "00000000 6b0061d2 1dcd6500 00000000 02800000 01000000", &"00".repeat(360)].concat();
    expect(&snapshot, &request(41, "", 416), 18, &list);
    let asked = |command, payload: &str, octets| {
        respond(&request(command, payload, octets), &snapshot, Permission::Everything)
    };
    let Verdict::Wish { wish, replier } = asked(11, "00000000 6b003640 0000000a", 40) else {
        panic!("no wish")
    };
    assert_eq!(wish, Wish::SetTime { unix_seconds: 0x6b00_3640, nanoseconds: 10 });
    let correction = ManualCorrection { fast: 0.5, frequency_change: 1e-4, frequency: 2e-6 };
    let reply = replier.time_was_set(Some(correction));
    assert_eq!(
        (reply.len(), &reply[6..8], &reply[28..]),
        (40, &[0, 17][..], &octets("02800000 10c80000 06800000")[..])
    );
    assert_eq!(&replier.time_was_set(None)[6..10], &[0, 1, 0, 1]);
    for (payload, command) in [
        ("00000000", Command::ManualMode(false)),
        ("00000001", Command::ManualMode(true)),
        ("00000002", Command::ForgetEnteredTimes),
    ] {
        assert!(
            matches!(asked(13, payload, 28), Verdict::Command { command: it, .. } if format!("{it:?}") == format!("{command:?}"))
        );
    }
    assert_eq!(ask(&snapshot, &request(13, "00000003", 28)).1, 3);
    assert!(matches!(
        asked(42, "00000000", 28),
        Verdict::Command { command: Command::DeleteEnteredTime(0), .. }
    ));
    assert_eq!(ask(&snapshot, &request(42, "00000001", 28)).1, 16);
}

#[test]
fn offsets_and_frequencies_by_hand_have_chronys_sign() {
    let snapshot = Snapshot::default();
    let asked = |command| respond(&request(command, "02800000", 28), &snapshot, Permission::Everything);
    assert!(matches!(asked(71), Verdict::Command { command: Command::SlewByHand(by), .. } if by == -0.5));
    let slower = chime_time::Frequency::from_ppm(-0.5);
    assert!(
        matches!(asked(31), Verdict::Command { command: Command::ChangeFrequencyByHand(by), .. } if by == slower)
    );
}

#[test]
fn a_real_time_clock_is_shown_written_and_set_where_there_is_one() {
    let mut snapshot = Snapshot::default();
    snapshot.program.real_time_clock = Some(chime_control::RealTimeClockReport {
        known: true,
        reference_unix_seconds: 1_795_772_146,
        samples: 3,
        runs: 2,
        span_seconds: 34,
        fast_seconds: 0.5,
        rate_ppm: 2000.0,
    });
    let shown = "00000000 6b094ef2 00000000 0003 0002 00000022 02800000 18fa0000";
    expect(&snapshot, &request(35, "", 56), 7, shown);
    let wish = |command| match respond(&request(command, "", 28), &snapshot, Permission::Everything) {
        Verdict::Wish { wish, replier } => (wish, replier),
        other => panic!("{other:?}"),
    };
    assert_eq!(wish(36).0, Wish::TrimRealTimeClock);
    let (writes, replier) = wish(30);
    assert_eq!(writes, Wish::WriteRealTimeClock);
    assert!(is_answered_later(&request(30, "", 28)) && !is_answered_later(&request(36, "", 28)));
    assert_eq!(replier.reply(Outcome::NotWritten)[8..10], [0, 14]);
    let over_udp = Permission::Reports(OpenReports::default());
    let Verdict::Reply(reply) = respond(&request(36, "", 28), &snapshot, over_udp) else {
        panic!("not a reply")
    };
    assert_eq!(reply[8..10], [0, 2], "not by everybody");
}

#[test]
fn a_smoothed_time_is_shown_and_begins_or_ends_on_request() {
    let mut snapshot = Snapshot::default();
    snapshot.program.smoothing = Some(chime_control::SmoothingReport::default());
    expect(&snapshot, &request(51, "", 52), 13, &"00".repeat(24));
    snapshot.program.smear = Some(chime_control::SmearReport::default());
    snapshot.program.smoothing = Some(chime_control::SmoothingReport {
        active: true,
        offset_seconds: 0.5,
        rate: 2e-3,
        change: 0.5e-6,
        since_update_seconds: 0.5,
        remaining_seconds: 2000.0,
    });
    expect(&snapshot, &request(51, "", 52), 13, "00000001 02800000 18fa0000 02800000 02800000 18fa0000");
    for (option, begin) in [("00000000", false), ("00000001", true)] {
        let verdict = respond(&request(52, option, 28), &snapshot, Permission::Everything);
        assert!(matches!(verdict, Verdict::Wish { wish: Wish::Smooth { begin: it }, .. } if it == begin));
    }
    assert_eq!(ask(&snapshot, &request(52, "00000002", 28)).1, 3);
    assert_eq!(ask(&Snapshot::default(), &request(52, "00000002", 28)).1, 6);
}

#[test]
fn a_smear_of_a_leap_second_is_shown_as_smoothing() {
    let mut snapshot = Snapshot::default();
    snapshot.program.smear = Some(chime_control::SmearReport::default());
    let shown = |snapshot: &Snapshot| {
        let (kind, status, payload) = ask(snapshot, &request(51, "", 52));
        assert_eq!((kind, status, payload.len()), (13, 0, 24));
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four octets"));
        (word(0), number(word(4)), number(word(8)), number(word(20)))
    };
    assert_eq!(shown(&snapshot), (2, 0.0, 0.0, 0.0), "leap seconds only, and there is no time to serve");
    snapshot.engine.tracking.synchronized = true;
    assert_eq!(shown(&snapshot), (3, 0.0, 0.0, 0.0), "ready for one, and none is near");
    snapshot.program.smear = Some(chime_control::SmearReport {
        active: true,
        offset_seconds: -0.25,
        rate: -16e-6,
        remaining_seconds: 43_200.0,
    });
    let (flags, offset, frequency, remaining) = shown(&snapshot);
    assert_eq!((flags, offset, remaining), (3, -0.25, 43_200.0));
    assert!((frequency + 16.0).abs() < 1e-5, "{frequency}");
}
