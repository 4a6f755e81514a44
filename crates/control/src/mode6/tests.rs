use super::*;
use chime_engine::{AuthenticationMode, LeapReport, RecentReport, SourceKind};
use chime_wire::mac::MacAlgorithm;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW: NtpTimestamp = NtpTimestamp::from_bits(0xeeaa_e6a1_be97_72bd);

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.program.version = "0.1.0".to_owned();
    snapshot.program.precision = -24;
    snapshot.program.clock_updates = 3;
    let tracking = &mut snapshot.engine.tracking;
    (tracking.synchronized, tracking.stratum, tracking.leap) = (true, 4, LeapReport::Normal);
    tracking.reference_id = [10, 9, 1, 3];
    tracking.reference_unix_seconds = 1_795_187_568.75;
    tracking.root_delay_seconds = 60e-6;
    tracking.root_dispersion_seconds = 1.015e-3;
    tracking.system_offset_seconds = 1.5e-6;
    tracking.frequency_ppm = -2.5;
    let named = |id, name: &str, address: Option<&str>| SourceReport {
        id,
        source: id,
        name: name.to_owned(),
        remote: address.map(|address| address.parse().expect("an address")),
        poll: 4,
        poll_min: 4,
        ..SourceReport::default()
    };
    let mut nts = named(1, "nts.test", Some("10.9.1.1:123"));
    (nts.state, nts.reach, nts.offset_seconds) = ('*', 0xff, -16.725e-6);
    nts.authentication.mode = AuthenticationMode::Nts;
    nts.authentication.cookies = 8;
    let ntp = &mut nts.ntp;
    (ntp.answered, ntp.stratum, ntp.version, ntp.mode, ntp.total_valid_rx) = (true, 3, 4, 4, 9);
    (ntp.total_tx, ntp.total_rx, ntp.delay_seconds, ntp.tests) = (11, 10, 48.603e-6, 0x3ff);
    ntp.recent = vec![RecentReport { delay_seconds: 1e-3, offset_seconds: -2e-3, dispersion_seconds: 5e-5 }];
    (ntp.received_bits, ntp.transmit_bits) = (0xeeaa_e6a3_c2c9_d34f, 0xeeaa_e6a3_c2c9_5432);
    let mut keyed = named(2, "10.9.1.3", Some("[fd77::1]:123"));
    keyed.state = 'x';
    keyed.authentication.mode = AuthenticationMode::Key;
    keyed.authentication.key_id = 4;
    let pool =
        |place: u32| SourceReport { kind: SourceKind::Pool, ..named(0x8000_0300 | place, "pool.test", None) };
    let mut dead = named(0x8000_0400, "nosuch.test", None);
    dead.authentication.mode = AuthenticationMode::Nts;
    let pools = [pool(0), pool(1)].map(|one| SourceReport { source: 3, ..one });
    snapshot.engine.sources = [nts, keyed].into_iter().chain(pools).chain([dead]).collect();
    snapshot.clients = (0_u8..200)
        .map(|host| crate::ClientReport {
            ntp: crate::UseReport {
                hits: u32::from(host) + 1,
                interval_log2: Some(3.0),
                last_age_seconds: Some(f64::from(host) + 0.25),
                ..crate::UseReport::default()
            },
            ..crate::ClientReport::new([10, 0, 0, host].into())
        })
        .collect();
    snapshot.server.listening = vec!["0.0.0.0:123".parse().expect("an address")];
    snapshot
}

fn keys() -> KeyTable {
    let key = |id, algorithm, secret: &[u8]| SymmetricKey::new(id, algorithm, secret).expect("a key");
    KeyTable::new(vec![
        key(1, MacAlgorithm::Aes128, &[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(2)),
        key(2, MacAlgorithm::Sha1, b"another"),
    ])
}

/// Asks with all rights.
fn ask(request: &[u8]) -> Verdict {
    ask_as(request, Rights::ALL, NOW)
}

fn ask_as(request: &[u8], rights: Rights, now: NtpTimestamp) -> Verdict {
    ask_about(&snapshot(), request, rights, now)
}

fn ask_about(snapshot: &Snapshot, request: &[u8], rights: Rights, now: NtpTimestamp) -> Verdict {
    let keys = keys();
    let listening =
        [Listening { address: "127.0.0.1:123".parse().expect("an address"), name: "lo".to_owned() }];
    let restrictions =
        [Restriction { address: [0; 4].into(), mask: [0; 4].into(), flags: "noquery nomodify".to_owned() }];
    let variable =
        |name: &str, is_default| Variable { name: name.to_owned(), value: "a b".to_owned(), is_default };
    let variables = [variable("rack", false), variable("site", true), variable("leap", true)];
    let facts = Facts {
        snapshot,
        now,
        processor: "x86_64",
        system: "Linux/6.1.0",
        keys: &keys,
        control_key: Some(1),
        secret: &[7; 16],
        listening: &listening,
        restrictions: &restrictions,
        variables: &variables,
        kernel: Kernel::default(),
        requests: 5,
        clients_max: 4096,
    };
    respond(request, from(), rights, &facts)
}

#[test]
fn reference_clocks_are_shown_as_ntpd_shows_them() {
    let mut snapshot = snapshot();
    let clock = |id, driver: &str, device: &str| SourceReport {
        id,
        name: "GPS".to_owned(),
        kind: SourceKind::ReferenceClock,
        driver: driver.to_owned(),
        device: device.to_owned(),
        poll: 6,
        ..SourceReport::default()
    };
    snapshot.engine.sources.push(clock(0x8000_0500, "shm", "1"));
    snapshot.engine.sources.push(clock(0x8000_0600, "sock", "/run/x"));
    let ask = |opcode, id, names: &str| ask_about(&snapshot, &request(opcode, id, names), Rights::ALL, NOW);
    let number = |driver: &str| {
        let mut clocks = snapshot.engine.sources.iter();
        peer::id(clocks.find(|source| source.driver == driver).expect("it is there"))
    };
    let (status, shown) =
        text(ask(2, number("shm"), "srcadr,srcport,dstadr,stratum,ppoll,refid,mode,srchost"));
    assert_eq!(status & 0xff00, 0x8000);
    assert_eq!(
        shown,
        "srcadr=127.127.28.1, srcport=123, dstadr=127.0.0.1, stratum=0, ppoll=6,\r\nrefid=GPS, mode=0, \
         srchost=\"SHM(1)\"\r\n"
    );
    assert!(!text(ask(2, number("sock"), "")).1.contains("srcadr"), "ntpd has no such driver");
    let words = "name=\"SHM\", timecode=\"\", poll=0, noreply=0, badformat=0, baddata=0,\r\nstratum=0, refid=GPS, \
                 flags=0, device=\"1\"\r\n";
    for id in [0, number("shm")] {
        assert_eq!(text(ask(4, id, "")), (0x0011, words.to_owned()), "{id}");
    }
    assert_eq!(text(ask(4, 0, "fudgetime1,refid")).1, "fudgetime1=0, refid=GPS\r\n");
    assert_eq!(error(ask(4, 0, "nothing")), 5);
    assert_eq!(error(ask(4, 2, "")), 4, "no reference clock");
}

#[test]
fn control_messages_are_no_requests_and_not_ignored() {
    let mut snapshot = snapshot();
    (snapshot.server.received, snapshot.server.dropped, snapshot.server.old_versions) = (100, 40, 5);
    snapshot.server.silences.insert("control".to_owned(), 30);
    let asked = "ss_received,ss_thisver,ss_oldver,io_ignored";
    let (_, shown) = text(ask_about(&snapshot, &request(2, 0, asked), Rights::ALL, NOW));
    assert_eq!(shown, "ss_received=100, ss_thisver=65, ss_oldver=5, io_ignored=10\r\n");
}

#[test]
fn answers_that_samba_signs_are_counted() {
    let mut snapshot = snapshot();
    snapshot.server.responses.insert("signed_time".to_owned(), 5);
    snapshot.server.silences.insert("cannot_sign".to_owned(), 2);
    let asked = "mssntp_serves,mssntp_serves_good,mssntp_serves_err,mssntp_serves_bad";
    let (_, shown) = text(ask_about(&snapshot, &request(2, 0, asked), Rights::ALL, NOW));
    assert_eq!(
        shown,
        "mssntp_serves=7, mssntp_serves_good=5, mssntp_serves_err=2,\r\nmssntp_serves_bad=0\r\n"
    );
}

fn from() -> SocketAddr {
    "127.0.0.1:40082".parse().expect("an address")
}

fn request(opcode: u8, id: u16, data: &str) -> Vec<u8> {
    let count = u16::try_from(data.len()).expect("short");
    let mut request = vec![0xd6, opcode, 0, 9, 0, 0];
    request.extend(id.to_be_bytes());
    request.extend([0, 0]);
    request.extend(count.to_be_bytes());
    request.extend(data.as_bytes());
    request.resize(request.len().next_multiple_of(4), 0);
    request
}

fn datagrams(verdict: Verdict) -> Vec<Vec<u8>> {
    match verdict {
        Verdict::Reply(datagrams) => datagrams,
        other => panic!("no reply: {other:?}"),
    }
}

/// The text of an answer, put together as ntpq does it; and its status.
fn text(verdict: Verdict) -> (u16, String) {
    let mut whole = Vec::new();
    let mut status = 0;
    let datagrams = datagrams(verdict);
    for (number, datagram) in datagrams.iter().enumerate() {
        assert_eq!((datagram[0] & 0x3f, datagram.len() % 4), (0x16, 0));
        let message = ControlMessage::decode(datagram).expect("well-formed");
        assert!(message.is_response && !message.is_error, "{message:?}");
        assert_eq!(message.sequence, 9);
        assert_eq!(usize::from(message.offset), whole.len());
        assert_eq!(message.has_more, number + 1 < datagrams.len());
        assert!(message.data.len() <= 468);
        whole.extend(message.data);
        status = message.status;
    }
    (status, String::from_utf8(whole).expect("text"))
}

fn values(opcode: u8, id: u16, names: &str) -> BTreeMap<String, String> {
    let (_, text) = text(ask(&request(opcode, id, names)));
    let items = text.trim_end().split(", ").flat_map(|part| part.split(",\r\n"));
    items
        .filter_map(|item| item.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn error(verdict: Verdict) -> u8 {
    let datagrams = datagrams(verdict);
    let message = ControlMessage::decode(&datagrams[0]).expect("well-formed");
    assert!(message.is_error && message.data.is_empty() && datagrams.len() == 1, "{message:?}");
    message.status.to_be_bytes()[0]
}

#[test]
fn lines_break_where_those_of_ntpd_do() {
    // The texts of recorded answers, taken apart and put together.
    let recorded = [
        "leap=3, stratum=4, precision=-24, rootdelay=0.060, rootdisp=1.015,\r\nrefid=10.9.1.3, \
         reftime=0xeeaae6a0.be6236f4, tc=2, peer=17769,\r\noffset=0.000000, frequency=0.000000, \
         sys_jitter=0.009960,\r\nclk_jitter=0.000060, clock=0xeeaae6a1.be9772bd, processor=\"x86_64\",\r\n\
         system=\"Linux/6.1.0-00-golden\", version=\"ntpd ntpsec-1.2.2\",\r\nclk_wander=0.000000, mintc=0\r\n",
        "srcadr=10.9.1.77, srcport=123, dstadr=10.9.1.9, dstport=123, leap=3,\r\nhmode=3, stratum=16, ppoll=99, \
         hpoll=2, precision=-24, rootdelay=0.000,\r\nrootdisp=0.000, refid=INIT, \
         reftime=0x00000000.00000000,\r\nrec=0x00000000.00000000, xmt=0x00000000.00000000, reach=0x0, \
         unreach=8,\r\ndelay=0.000000, offset=0.000000, jitter=0.000060,\r\ndispersion=15937.500000, keyid=0\r\n",
        "nts_client_send=13, nts_client_recv_good=13, nts_client_recv_bad=0,\r\nnts_server_send=0, \
         nts_server_recv_good=0, nts_server_recv_bad=0,\r\nnts_cookie_make=0, nts_cookie_decode=0, \
         nts_cookie_decode_old=0,\r\nnts_cookie_decode_old2=0, nts_cookie_decode_older=0,\r\n\
         nts_cookie_decode_too_old=0, nts_cookie_decode_error=0,\r\nnts_ke_serves_good=0, nts_ke_serves_bad=0, \
         nts_ke_probes_good=1,\r\nnts_ke_probes_bad=0\r\n",
    ];
    for text in recorded {
        let mut items = Items::default();
        for item in text.trim_end().split(", ").flat_map(|part| part.split(",\r\n")) {
            items.item(item);
        }
        assert_eq!(items.finish(), text);
    }
}

#[test]
fn recorded_requests_of_ntpq_are_answered() {
    // rv; rv 0 version,stratum,offset,leap; as; -c nts; sysinfo; iostats: from ntpq 1.2.2.
    let recorded = [
        "d60200010000000000000000",
        "d6020002000000000000001b76657273696f6e2c7374726174756d2c6f66667365742c6c65617000",
        "d60100010000000000000000",
    ];
    for hex in recorded {
        let octets: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
            .collect();
        let first = &datagrams(ask(&octets))[0];
        assert_eq!(first[..4], [0x16, 0x80 | octets[1], octets[2], octets[3]], "{hex}");
        assert_eq!(first[4..6], [0x06, 0x15], "leap none, source NTP, one event, clock_sync");
    }
}

#[test]
fn the_system_has_ntpsecs_variables() {
    let values = values(2, 0, "");
    for (name, value) in [
        ("leap", "0"),
        ("stratum", "4"),
        ("precision", "-24"),
        ("rootdelay", "0.060"),
        ("rootdisp", "1.015"),
        ("refid", "10.9.1.3"),
        ("reftime", "0xeeaae1f0.c0000000"),
        ("tc", "4"),
        ("peer", "2"),
        ("offset", "0.001500"),
        ("frequency", "2.500000"),
        ("clock", "0xeeaae6a1.be9772bd"),
        ("processor", "\"x86_64\""),
        ("version", "\"chimed 0.1.0\""),
    ] {
        assert_eq!(values.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn variables_of_ones_own_take_the_place_of_none() {
    let all = values(2, 0, "");
    assert_eq!((all.get("site").map(String::as_str), all.get("rack")), (Some("a b"), None));
    assert_eq!(
        values(2, 0, "leap,rack"),
        [("leap", "0"), ("rack", "a b")].map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    );
}

#[test]
fn what_ntpqs_commands_ask_for_is_known() {
    for names in [
        "peeradr,peermode,leap,stratum,precision,rootdelay,rootdisp,rootdist,refid,reftime,sys_jitter,clk_jitter,\
         clk_wander,authdelay",
        "koffset,kfreq,kmaxerr,kesterr,kstflags,ktimeconst,kprecis,kfreqtol,kppsfreq,kppsstab,kppsjitter,\
         kppscalibdur,kppscalibs,kppsjitexc,kppsstbexc,kppscaliberrs",
        "ss_uptime,ss_numctlreq,ss_reset,ss_received,ss_thisver,ss_oldver,ss_ver1,ss_badformat,ss_badauth,ss_declined,\
         ss_restricted,ss_limited,ss_kodsent,ss_processed,ss_reset_r,ss_received_r,ss_processed_r",
        "mru_enabled,mru_hashslots,mru_depth,mru_deepest,mru_maxdepth,mru_mindepth,mru_maxage,mru_minage,mru_mem,\
         mru_maxmem,mru_exists,mru_new,mru_recycleold,mru_recyclefull,mru_none,mru_oldest_age",
        "authreset,authkeys,authfreek,authklookups,authknotfound,authencrypts,authdigestencrypts,authcmacencrypts,\
         authdecrypts,authdigestdecrypts,authdigestfails,authcmacdecrypts,authcmacfails",
        "iostats_reset,total_rbuf,free_rbuf,used_rbuf,io_dropped,io_ignored,io_received,io_sent,io_sendfailed,io_wakeups",
        "timerstats_reset,timer_overruns,timer_xmts",
        "nts_client_send,nts_client_recv_good,nts_client_recv_bad,nts_server_recv_good,nts_server_recv_bad,\
         nts_server_send,nts_cookie_make,nts_cookie_not_server,nts_cookie_decode_total,nts_cookie_decode_current,\
         nts_cookie_decode_old,nts_cookie_decode_old2,nts_cookie_decode_older,nts_cookie_decode_too_old,\
         nts_cookie_decode_error",
        "nts_ke_serves_good,nts_ke_serves_good_wall,nts_ke_serves_good_cpu,nts_ke_serves_nossl,nts_ke_serves_bad,\
         nts_ke_probes_good,nts_ke_probes_bad",
        "nts_client_recv,nts_cookie_decode,nts_ke_serves,nts_ke_probes",
    ] {
        let values = values(2, 0, names);
        let missing: Vec<&str> = names.split(',').filter(|name| !values.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
    assert_eq!(values(2, 0, "nts_client_send")["nts_client_send"], "11");
}

#[test]
fn associations_are_listed_and_show_their_cookies() {
    let list = datagrams(ask(&request(1, 0, "")));
    let entries: Vec<(u16, u16)> = list[0][12..]
        .chunks_exact(4)
        .map(|entry| (u16::from_be_bytes([entry[0], entry[1]]), u16::from_be_bytes([entry[2], entry[3]])))
        .collect();
    // Of the two free places of the pool one is shown.
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[0], (2, 0xf61a), "configured, authenticated, authentic, reachable, system peer");
    assert_eq!(entries[1], (3, 0xc111), "a falseticker that never answered");
    assert_eq!((entries[2].1, entries[3].1), (0x8011, 0xc011));
    let first = values(2, entries[0].0, "");
    for (name, value) in [
        ("srcadr", "10.9.1.1"),
        ("srchost", "\"nts.test\""),
        ("ntscookies", "8"),
        ("reach", "0xff"),
        ("hmode", "3"),
        ("pmode", "4"),
        ("ppoll", "99"),
        ("hpoll", "4"),
        ("delay", "0.048603"),
        ("offset", "0.016725"),
        ("rec", "0xeeaae6a3.c2c9d34f"),
        ("filtdelay", " 1.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00"),
        ("filtoffset", " -2.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00"),
        ("flash", "0x0"),
    ] {
        assert_eq!(first.get(name).map(String::as_str), Some(value), "{name}");
    }
    let keyed = values(2, entries[1].0, "");
    assert_eq!((keyed["keyid"].as_str(), keyed["ntscookies"].as_str()), ("4", "-1"));
    assert_eq!((keyed["refid"].as_str(), keyed["flash"].as_str()), ("INIT", "0x1600"));
    assert!(!keyed.contains_key("srchost"), "it was configured by its address");
    let refids: Vec<String> =
        entries[2..].iter().map(|(id, _)| values(2, *id, "refid")["refid"].clone()).collect();
    assert_eq!(refids, ["POOL", "NTS"]);
    assert!(!values(2, entries[3].0, "").contains_key("srcadr"));
}

#[test]
fn answers_are_in_the_order_that_ntpd_has() {
    let (_, system) = text(ask(&request(2, 0, "stratum,leap")));
    assert_eq!(system, "stratum=4, leap=0\r\n");
    let (status, peer) = text(ask(&request(2, 2, "srchost, ntscookies,reach")));
    assert_eq!((status, peer.as_str()), (0xf61a, "reach=0xff, srchost=\"nts.test\", ntscookies=8\r\n"));
    let (_, all) = text(ask(&request(1, 2, "")));
    assert!(all.starts_with("srcadr=") && all.find("reftime=") < all.find("rec="));
}

#[test]
fn mistakes_have_their_error_codes() {
    assert_eq!(error(ask(&request(2, 0, "bogus"))), 5);
    assert_eq!(error(ask(&request(2, 2, "bogus"))), 5);
    assert_eq!(error(ask(&request(2, 99, ""))), 4);
    assert_eq!(error(ask(&request(4, 0, ""))), 4);
    for opcode in [3, 5, 6, 7, 9, 13, 30, 31] {
        assert_eq!(error(ask(&request(opcode, 0, ""))), 3, "{opcode}");
    }
    let mut over = request(2, 0, "leap");
    over[11] = 5;
    assert_eq!(error(ask(&over)), 2);
    over[11] = 4;
    over.push(0);
    assert_eq!(error(ask(&over)), 2);
    assert_eq!(error(ask(&request(11, 0, "ifstats"))), 1, "without a key");
    assert_eq!(error(ask(&request(8, 0, "unpeer 10.9.1.1"))), 1);
    assert_eq!(error(ask_as(&request(10, 0, "nonce=0"), Rights { clients: false, ..Rights::ALL }, NOW)), 1);
}

#[test]
fn malformed_packets_and_strangers_get_nothing() {
    let good = request(2, 0, "leap");
    let with = |at: usize, octet: u8| {
        let mut changed = good.clone();
        changed[at] = octet;
        changed
    };
    let mut malformed = vec![Vec::new(), vec![0xd6], good[..11].to_vec(), vec![0xd6; 1025]];
    malformed.extend([0x80, 0x40, 0x20, 0xe0].map(|bit| with(1, bit | 2)));
    malformed.extend([0xc6, 0xee, 0xf6, 0xfe].map(|first| with(0, first)));
    malformed.extend((0..8).filter(|mode| *mode != 6).map(|mode| with(0, 0xd0 | mode)));
    malformed.extend([with(8, 1), with(9, 1)]);
    for packet in malformed {
        assert!(matches!(ask(&packet), Verdict::Silence(Silence::Malformed)), "{packet:02x?}");
    }
    assert!(matches!(ask_as(&good, Rights::NONE, NOW), Verdict::Silence(Silence::Restricted)));
    for version in 1..=4 {
        let verdict = ask(&with(0, version << 3 | 6));
        assert_eq!(datagrams(verdict)[0][0], version << 3 | 6);
    }
}

fn nonce() -> String {
    let (_, text) = text(ask(&request(12, 0, "")));
    text.trim().strip_prefix("nonce=").expect("a nonce").to_owned()
}

#[test]
fn clients_are_shown_to_those_who_hold_a_fresh_nonce() {
    let nonce = nonce();
    assert_eq!(nonce.len(), 24);
    let asking = request(10, 0, &format!("nonce={nonce}, frags=32"));
    let later = |seconds: u64| NtpTimestamp::from_bits(NOW.to_bits() + (seconds << 32));
    assert!(matches!(ask_as(&asking, Rights::ALL, later(16)), Verdict::Reply(_)));
    for (request, now) in [
        (&asking, later(17)),
        (&request(10, 0, "frags=32"), NOW),
        (&request(10, 0, &format!("nonce={}0, frags=32", &nonce[..23])), NOW),
    ] {
        let verdict = ask_as(request, Rights::ALL, now);
        assert!(matches!(verdict, Verdict::Silence(Silence::Nonce)), "{verdict:?}");
    }
    for wrong in ["frags=0", "frags=129", "limit=257", "limit=x", "addr.0=nowhere", "last.0=7"] {
        assert_eq!(error(ask(&request(10, 0, &format!("nonce={nonce}, {wrong}")))), 6, "{wrong}");
    }
}

/// Asks as ntpq does, until `now=` comes; gives the addresses in their order.
#[test]
fn all_clients_are_shown_in_turns_oldest_first() {
    let mut seen: Vec<String> = Vec::new();
    let mut resume = String::new();
    for turn in 0.. {
        assert!(turn < 50, "it never ends");
        let values = {
            let data = format!("nonce={}, frags=4{resume}", nonce());
            let (_, text) = text(ask(&request(10, 0, &data)));
            assert!(text.len() <= 4 * 468, "{}", text.len());
            let items = text.trim_end().split(", ").flat_map(|part| part.split(",\r\n")).map(str::to_owned);
            items
                .filter_map(|item| item.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())))
                .collect::<BTreeMap<_, _>>()
        };
        let rows: Vec<&String> = (0..).map_while(|row| values.get(&format!("addr.{row}"))).collect();
        seen.extend(rows.iter().map(|address| (*address).clone()));
        if values.contains_key("now") {
            break;
        }
        let last = rows.len() - 1;
        resume = format!(", addr.0={}, last.0={}", rows[last], values[&format!("last.{last}")]);
    }
    let wanted: Vec<String> = (0..200).rev().map(|host| format!("10.0.0.{host}:0")).collect();
    assert_eq!(seen, wanted);
}

#[test]
fn a_client_that_asked_again_is_no_place_to_go_on_from() {
    let data = |time: &str| format!("nonce={}, frags=4, addr.0=10.0.0.7:0, last.0={time}", nonce());
    assert_eq!(error(ask(&request(10, 0, &data("0x00000000.00000001")))), 5);
}

/// With a MAC as ntpq makes it.
fn signed(mut request: Vec<u8>, id: u32) -> Vec<u8> {
    let keys = keys();
    let key = keys.get(id).expect("a key");
    let mut digest = [0; 64];
    let length = key.digest(&request, &mut digest).min(20);
    request.extend(id.to_be_bytes());
    request.extend(&digest[..length]);
    request
}

#[test]
fn a_recorded_configuration_is_authentic_and_its_answer_is_signed() {
    let recorded: Vec<u8> = [
        &[0xd6, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x1e][..],
        b"setvar foo = \"bar baz\" default\0\0",
        &[0, 0, 0, 1],
        &[0x6a, 0x53, 0x4d, 0x15, 0x43, 0x73, 0xcc, 0xcc, 0xde, 0xcb, 0xbc, 0x36, 0x16, 0x37, 0xd0, 0x51],
    ]
    .concat();
    let Verdict::Configure { text, reply } = ask(&recorded) else { panic!("not authentic") };
    assert_eq!(text, "setvar foo = \"bar baz\" default");
    let answer = &reply.configured("Config Succeeded")[0];
    let message = ControlMessage::decode(answer).expect("well-formed");
    assert_eq!(message.data, b"Config Succeeded\r\n");
    // What NTPsec's ntpd sent, but for our leap indicator, which the MAC covers.
    assert_eq!(answer.len(), 52);
    assert!(authentic_key(&message, &keys()).is_some());
    let mut forged = recorded;
    *forged.last_mut().expect("octets") ^= 1;
    let refused = datagrams(ask(&forged));
    assert_eq!((refused[0].len(), refused[0][4]), (12, 1), "and nothing is signed");
}

#[test]
fn lists_of_addresses_need_the_control_key() {
    let (_, interfaces) = text(ask(&signed(request(11, 0, "ifstats"), 1)));
    assert!(
        interfaces.starts_with("addr.0=127.0.0.1:123, name.0=\"lo\", en.0=1, flags.0=0x5"),
        "{interfaces}"
    );
    let (_, restrictions) = text(ask(&signed(request(11, 0, "addr_restrictions"), 1)));
    assert_eq!(restrictions, "addr.0=0.0.0.0, mask.0=0.0.0.0, hits.0=0, flags.0=noquery nomodify\r\n");
    let refused = datagrams(ask(&signed(request(11, 0, "ifstats"), 2)));
    assert_eq!((refused[0][1], refused[0][4], refused[0].len()), (0xcb, 1, 12 + 4 + 20), "another key");
    let no_modify = Rights { modify: false, ..Rights::ALL };
    let verdict = ask_as(&signed(request(8, 0, "unpeer 10.9.1.1"), 1), no_modify, NOW);
    assert_eq!(datagrams(verdict)[0][4], 1);
}

proptest! {
    #[test]
    fn any_octets_are_answered_or_not_without_a_panic(octets in proptest::collection::vec(0_u8..=255, 0..120), opcode: u8, id in 0_u16..6, count in 0_u16..120) {
        let _ = ask(&octets);
        let mut octets = octets;
        if octets.len() >= 12 {
            octets[0] = 0xd6;
            octets[1] = opcode & 0x1f;
            octets[6..8].copy_from_slice(&id.to_be_bytes());
            octets[8..10].copy_from_slice(&[0, 0]);
            octets[10..12].copy_from_slice(&count.to_be_bytes());
            let _ = ask(&octets);
        }
    }

    #[test]
    fn any_names_make_whole_answers(names in "[a-z_,.= 0-9x]{0,60}", opcode in 0_u8..13) {
        if let Verdict::Reply(datagrams) = ask(&request(opcode, 0, &names)) {
            let octets: usize = datagrams.iter().map(Vec::len).sum();
            prop_assert!(octets <= ANSWER_OCTETS_MAX + 40 * datagrams.len());
            for datagram in datagrams {
                prop_assert!(ControlMessage::decode(&datagram).is_ok());
            }
        }
    }
}
