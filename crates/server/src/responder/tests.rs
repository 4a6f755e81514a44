mod fields;

use super::*;
use crate::{
    AccessList, AccessRule, KeyTable, SMEARED_REFERENCE_ID, SmearSettings, Subnet, TermsList, TermsRule,
};
use arrayvec::ArrayVec;
use chime_nts::{AeadAlgorithm, AeadKey, CookieKey, NtsKeys, verify_nts_response, write_nts_request};
use chime_time::{LeapSecond, NtpDate, NtpDuration, NtpShort};
use chime_wire::mac::{MacAlgorithm, SymmetricKey};
use chime_wire::{LeapIndicator, ReferenceId};
use proptest::prelude::*;

const CLIENT: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));
const UNIQUE_IDENTIFIER: [u8; 32] = [0x5a; 32];

/// A clock that goes on by 2⁻³² s with each reading, and octets that look random.
#[derive(Default)]
struct Fixed {
    readings: u64,
    state: u64,
}

impl Environment for Fixed {
    fn system_time(&mut self) -> NtpTimestamp {
        self.readings += 1;
        NtpTimestamp::from_bits((4_000_000_001 << 32) + self.readings)
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        for octet in octets {
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *octet = self.state.to_be_bytes()[0];
        }
    }
}

fn received() -> NtpTimestamp {
    NtpTimestamp::from_bits(4_000_000_000 << 32)
}

fn at(seconds: f64) -> Arrival {
    Arrival::new(CLIENT, received(), MonoTime::from_nanos(1_000_000_000_000).add_secs_f64(seconds))
}

fn time() -> ServerTime {
    ServerTime {
        leap: LeapIndicator::Insert,
        root_delay: NtpShort::from_bits(7),
        root_dispersion: NtpDuration::from_nanos(500_000),
        reference_id: ReferenceId([192, 0, 2, 99]),
        ..ServerTime::local(2, -22, at(0.0).mono, NtpTimestamp::from_bits(3_999_999_990 << 32))
    }
}

fn ring() -> KeyRing {
    KeyRing::new(CookieKey::new(77, [9; 32], NtpDate::from_unix(1_700_000_000, 0)))
}

fn keys(algorithm: AeadAlgorithm) -> NtsKeys {
    let key =
        |octet| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]).expect("the right length");
    NtsKeys { c2s: key(1), s2c: key(2) }
}

fn plain_request(first: u8) -> Vec<u8> {
    let mut octets = vec![0; HEADER_OCTETS];
    octets[0] = first;
    octets[2] = 6;
    octets[40..48].copy_from_slice(&0x1122_3344_5566_7788u64.to_be_bytes());
    octets
}

fn nts_request(keys: &NtsKeys, cookie: &[u8], placeholders: usize) -> Vec<u8> {
    let mut octets = [0; 4096];
    octets[..HEADER_OCTETS].copy_from_slice(&plain_request(0x23));
    let mut writer = FieldWriter::new(&mut octets, HEADER_OCTETS);
    let nonce = [3; 16];
    let nonce = &nonce[..keys.algorithm().nonce_octets()];
    write_nts_request(&mut writer, &UNIQUE_IDENTIFIER, cookie, placeholders, &keys.c2s, nonce)
        .expect("there is room");
    let length = writer.len();
    octets[..length].to_vec()
}

struct Answered {
    verdict: Verdict,
    octets: Vec<u8>,
}

impl Answered {
    fn header(&self) -> Header {
        Header::decode(&self.octets).expect("an answer has a header")
    }

    fn kind(&self) -> Option<ResponseKind> {
        match self.verdict {
            Verdict::Respond { kind, .. } => Some(kind),
            Verdict::Silence(_) => None,
        }
    }
}

fn ask(responder: &mut Responder, request: &[u8], arrival: &Arrival) -> Answered {
    let mut response = [0xee; 2048];
    let (time, ring) = (time(), ring());
    let published = Published { time: &time, keys: Some(&ring) };
    let verdict = responder.respond(request, arrival, &published, &mut Fixed::default(), &mut response);
    let octets = match verdict {
        Verdict::Respond { octets, .. } => response[..octets].to_vec(),
        Verdict::Silence(_) => Vec::new(),
    };
    assert!(octets.len() <= request.len());
    Answered { verdict, octets }
}

fn responder(policy: Policy) -> Responder {
    Responder::new(Arc::new(policy), [1, 2])
}

fn ask_open(request: &[u8]) -> Answered {
    ask(&mut responder(Policy::open()), request, &at(0.0))
}

#[test]
fn a_plain_request_is_answered_in_kind() {
    for version in 1..=4u8 {
        let answer = ask_open(&plain_request(version << 3 | 3));
        assert_eq!(answer.kind(), Some(ResponseKind::Plain));
        let header = answer.header();
        assert_eq!((header.version, header.mode, header.poll, header.stratum), (version, Mode::Server, 6, 2));
        assert_eq!(
            (header.leap, header.precision, header.root_delay),
            (LeapIndicator::Insert, -22, NtpShort::from_bits(7))
        );
        assert_eq!(header.root_dispersion, NtpShort::from_duration_ceil(NtpDuration::from_nanos(500_000)));
        assert_eq!(header.origin, NtpTimestamp::from_bits(0x1122_3344_5566_7788));
        assert_eq!((header.receive, header.reference_id), (received(), ReferenceId([192, 0, 2, 99])));
        assert!(header.receive.is_before(header.transmit));
        assert_eq!(answer.octets.len(), HEADER_OCTETS);
    }
}

#[test]
fn a_symmetric_active_request_is_answered_as_symmetric_passive() {
    assert_eq!(ask_open(&plain_request(0x21)).header().mode, Mode::SymmetricPassive);
}

#[test]
fn a_clock_that_is_not_synchronised_says_so() {
    let unsynchronized = ServerTime::unsynchronized(-20);
    let published = Published { time: &unsynchronized, keys: None };
    let mut response = [0; 48];
    let request = plain_request(0x23);
    responder(Policy::open()).respond(&request, &at(0.0), &published, &mut Fixed::default(), &mut response);
    let header = Header::decode(&response).expect("an answer");
    assert_eq!((header.leap, header.stratum), (LeapIndicator::Unsynchronized, 0));
    assert_eq!(header.reference_id, ReferenceId::default());
    // Whatever it followed before: with stratum 0 that would be read as a kiss code.
    let lost = ServerTime { leap: LeapIndicator::Unsynchronized, ..time() };
    let published = Published { time: &lost, keys: None };
    responder(Policy::open()).respond(&request, &at(0.0), &published, &mut Fixed::default(), &mut response);
    let header = Header::decode(&response).expect("an answer");
    assert_eq!((header.leap, header.stratum), (LeapIndicator::Unsynchronized, 0));
    assert_eq!(header.reference_id, ReferenceId::default());
}

#[test]
fn whatever_made_an_answer_longer_than_its_request_it_is_not_sent() {
    let mut responder = responder(Policy::open());
    let mut conclude = |octets| {
        let interleaving = Interleaving::default();
        responder.conclude(76, Ok(super::Answered { octets, kind: ResponseKind::Plain, interleaving })).0
    };
    assert_eq!(conclude(76), Verdict::Respond { octets: 76, kind: ResponseKind::Plain });
    assert_eq!(conclude(77), Verdict::Silence(SilenceReason::ResponseTooLong));
}

#[test]
fn what_is_still_to_be_slewed_is_in_the_timestamps() {
    let time = ServerTime { correction: NtpDuration::from_seconds(2), ..time() };
    let published = Published { time: &time, keys: None };
    let mut response = [0; 48];
    let request = plain_request(0x23);
    responder(Policy::open()).respond(&request, &at(0.0), &published, &mut Fixed::default(), &mut response);
    let header = Header::decode(&response).expect("an answer");
    assert_eq!(header.receive, received() + NtpDuration::from_seconds(2));
    assert_eq!(header.transmit - header.receive, NtpDuration::from_bits((1 << 32) + 1));
}

#[test]
fn packets_that_are_no_requests_get_silence() {
    let long = |first: u8, length: usize| {
        let mut packet = plain_request(first);
        packet.resize(length, 0);
        packet
    };
    for (packet, reason) in [
        (vec![], SilenceReason::TooShort),
        (vec![0x23; 47], SilenceReason::TooShort),
        (plain_request(0x03), SilenceReason::Version),
        (plain_request(0x2b), SilenceReason::Version),
        (plain_request(0x3b), SilenceReason::Version),
        (plain_request(0x20), SilenceReason::Mode),
        (plain_request(0x22), SilenceReason::Mode),
        (plain_request(0x24), SilenceReason::Mode),
        (plain_request(0x25), SilenceReason::Mode),
        (vec![0x26; 12], SilenceReason::Control),
        (vec![0x17, 0, 3, 42], SilenceReason::Private),
        (long(0x23, 49), SilenceReason::Malformed),
        (long(0x23, 52), SilenceReason::UnknownKey),
        (long(0x23, 64), SilenceReason::Malformed),
        (long(0x23, 68), SilenceReason::UnknownKey),
        (long(0x23, 76), SilenceReason::Malformed),
    ] {
        assert_eq!(ask_open(&packet).verdict, Verdict::Silence(reason), "{packet:02x?}");
    }
}

#[test]
fn an_unknown_field_is_ignored() {
    let mut request = plain_request(0x23);
    request.extend_from_slice(&[0x2f, 1, 0, 28]);
    request.resize(HEADER_OCTETS + 28, 7);
    assert_eq!(ask_open(&request).kind(), Some(ResponseKind::Plain));
}

#[test]
fn versions_that_are_not_served_get_silence() {
    let policy = Policy { versions: crate::Versions::only(&[4]), ..Policy::open() };
    let mut responder = responder(policy);
    assert_eq!(
        ask(&mut responder, &plain_request(0x1b), &at(0.0)).verdict,
        Verdict::Silence(SilenceReason::Version)
    );
    assert_eq!(ask(&mut responder, &plain_request(0x23), &at(0.0)).kind(), Some(ResponseKind::Plain));
}

#[test]
fn an_nts_request_gets_authenticated_time_and_the_cookies_it_has_room_for() {
    for algorithm in AeadAlgorithm::ALL {
        let keys = keys(algorithm);
        let mut cookie = ring().seal_cookie(&keys, [5; 16]);
        for placeholders in [0, 1, 7, 11] {
            let request = nts_request(&keys, cookie.as_bytes(), placeholders);
            let answer = ask_open(&request);
            assert_eq!(answer.kind(), Some(ResponseKind::Nts), "{algorithm} {placeholders}");
            let mut cookies = ArrayVec::new();
            verify_nts_response(&answer.octets, &UNIQUE_IDENTIFIER, &keys.s2c, &mut cookies)
                .expect("it verifies");
            assert_eq!(cookies.len(), (1 + placeholders).min(8));
            cookie = cookies.remove(0);
            assert_eq!(answer.header().stratum, 2);
        }
    }
}

/// Requests of all kinds together: each is answered as alone, whatever the arithmetic.
#[test]
fn requests_that_are_finished_together_are_answered_as_alone() {
    for arithmetic in chime_nts::Arithmetic::available() {
        let ring = ring().with_arithmetic(arithmetic);
        let requests: Vec<_> = (0..NTS_REQUESTS_MAX)
            .map(|number| {
                let keys = keys(AeadAlgorithm::ALL[number % 4]);
                let cookie = ring.seal_cookie(&keys, [5; 16]);
                let mut request = nts_request(&keys, cookie.as_bytes(), number % 3);
                if number % 3 == 2 {
                    request[HEADER_OCTETS + 60] ^= 1;
                }
                (request, keys)
            })
            .collect();
        let time = time();
        let published = Published { time: &time, keys: Some(&ring) };
        let (mut responder, mut outside) = (responder(Policy::open()), Fixed::default());
        let mut rooms = vec![[0; 2048]; requests.len()];
        let mut pending: Vec<_> = requests
            .iter()
            .zip(&mut rooms)
            .filter_map(|((request, _), room)| {
                match responder.begin(request, &at(0.0), &published, &mut outside, room) {
                    Begun::Nts(pending) => Some(pending),
                    Begun::Done(_) | Begun::Sign(_) => None,
                }
            })
            .collect();
        assert_eq!(pending.len(), requests.len());
        let verdicts = responder.finish(&mut pending, &published, &mut outside);
        for (number, ((verdict, _), (request, keys))) in verdicts.into_iter().zip(&requests).enumerate() {
            let Verdict::Respond { octets, kind } = verdict else { panic!("{verdict:?}") };
            let answer = &rooms[number][..octets];
            assert!(octets <= request.len());
            if number % 3 == 2 {
                assert_eq!(kind, ResponseKind::NtsNak, "{arithmetic:?} {number}");
                assert!(chime_nts::is_nts_nak(answer, &UNIQUE_IDENTIFIER));
            } else {
                assert_eq!(kind, ResponseKind::Nts, "{arithmetic:?} {number}");
                let mut cookies = ArrayVec::new();
                verify_nts_response(answer, &UNIQUE_IDENTIFIER, &keys.s2c, &mut cookies)
                    .expect("it verifies");
                assert_eq!(cookies.len(), 1 + number % 3);
                assert_eq!(Header::decode(answer).expect("a header").origin.to_bits(), 0x1122_3344_5566_7788);
            }
        }
        let counters = responder.counters();
        assert_eq!(counters.received, 8);
        assert_eq!((counters.responses(ResponseKind::Nts), counters.responses(ResponseKind::NtsNak)), (6, 2));
    }
}

#[test]
fn a_cookie_or_an_authenticator_that_does_not_open_gets_a_nak() {
    let keys = keys(AeadAlgorithm::AesSivCmac256);
    let cookie = ring().seal_cookie(&keys, [5; 16]);
    let good = nts_request(&keys, cookie.as_bytes(), 1);
    for changed in [HEADER_OCTETS - 1, HEADER_OCTETS + 40 + 20, good.len() - 1] {
        let mut request = good.clone();
        request[changed] ^= 1;
        let answer = ask_open(&request);
        assert_eq!(answer.kind(), Some(ResponseKind::NtsNak), "octet {changed}");
        assert!(chime_nts::is_nts_nak(&answer.octets, &UNIQUE_IDENTIFIER));
        assert_eq!((answer.header().stratum, answer.header().leap), (0, LeapIndicator::Unsynchronized));
        assert_eq!(answer.octets.len(), HEADER_OCTETS + 36);
    }
}

#[test]
fn naks_are_limited_per_address_and_good_requests_are_not() {
    let keys = keys(AeadAlgorithm::AesSivCmac256);
    let cookie = ring().seal_cookie(&keys, [5; 16]);
    let good = nts_request(&keys, cookie.as_bytes(), 0);
    let mut bad = good.clone();
    bad[HEADER_OCTETS + 60] ^= 1;
    let mut responder = responder(Policy::open());
    for _ in 0..200 {
        ask(&mut responder, &bad, &at(0.0));
    }
    let (naks, limited) = (
        responder.counters().responses(ResponseKind::NtsNak),
        responder.counters().silences(SilenceReason::NtsNakLimited),
    );
    assert!((8..80).contains(&naks) && naks + limited == 200, "{naks} {limited}");
    assert_eq!(ask(&mut responder, &good, &at(0.0)).kind(), Some(ResponseKind::Nts));
}

#[test]
fn without_keys_a_packet_with_an_nts_field_gets_silence() {
    let keys = keys(AeadAlgorithm::Aes128GcmSiv);
    let cookie = ring().seal_cookie(&keys, [5; 16]);
    let request = nts_request(&keys, cookie.as_bytes(), 0);
    let time = time();
    let published = Published { time: &time, keys: None };
    let verdict = responder(Policy::open()).respond(
        &request,
        &at(0.0),
        &published,
        &mut Fixed::default(),
        &mut [0; 512],
    );
    assert_eq!(verdict, Verdict::Silence(SilenceReason::NtsNotServed));
}

#[test]
fn refused_addresses_get_silence_or_a_kiss() {
    let nets = [Subnet::host(CLIENT)];
    for (refusal, expected) in [
        (Refusal::Ignore, Verdict::Silence(SilenceReason::AccessDenied)),
        (Refusal::Deny, Verdict::Respond { octets: 48, kind: ResponseKind::KissDeny }),
    ] {
        let policy = Policy::new(AccessList::from_lists(Some((&nets, refusal)), None));
        let answer = ask(&mut responder(policy), &plain_request(0x23), &at(0.0));
        assert_eq!(answer.verdict, expected);
        if refusal == Refusal::Deny {
            assert_eq!(answer.header().reference_id.kiss_code(), KissCode::DENY);
            assert_eq!((answer.header().stratum, answer.header().root_delay), (0, NtpShort::ZERO));
        }
    }
    let mut closed = responder(Policy::new(AccessList::from_rules(&[AccessRule {
        allow: true,
        all: false,
        subnet: "10.0.0.0/8".parse().ok(),
    }])));
    assert_eq!(
        ask(&mut closed, &plain_request(0x23), &at(0.0)).verdict,
        Verdict::Silence(SilenceReason::AccessDenied)
    );
    assert_eq!(closed.clients().count(), 0, "who is not let in is not remembered");
}

#[test]
fn requiring_nts_refuses_the_others_only() {
    let keys = keys(AeadAlgorithm::AesSivCmac256);
    let cookie = ring().seal_cookie(&keys, [5; 16]);
    let nts = nts_request(&keys, cookie.as_bytes(), 0);
    for (require_nts, expected) in [
        (RequireNts::Ignore, Verdict::Silence(SilenceReason::NtsRequired)),
        (RequireNts::Deny, Verdict::Respond { octets: 48, kind: ResponseKind::KissDeny }),
    ] {
        let mut responder = responder(Policy { require_nts, ..Policy::open() });
        assert_eq!(ask(&mut responder, &plain_request(0x23), &at(0.0)).verdict, expected);
        assert_eq!(ask(&mut responder, &nts, &at(0.0)).kind(), Some(ResponseKind::Nts));
    }
}

#[test]
fn too_many_requests_get_silence_or_a_kiss_that_nts_clients_can_verify() {
    let keys = keys(AeadAlgorithm::AesSivCmac256);
    let cookie = ring().seal_cookie(&keys, [5; 16]);
    let nts = nts_request(&keys, cookie.as_bytes(), 0);
    let limit = RateLimitSettings { leak: None, kiss: Some(0), ..RateLimitSettings::from_chrony(3, 2, 2, 0) };
    let mut responder = responder(Policy { rate_limit: Some(limit), ..Policy::open() });
    let kinds: Vec<_> = (0..4).map(|_| ask(&mut responder, &plain_request(0x23), &at(0.0)).kind()).collect();
    let (plain, kiss) = (Some(ResponseKind::Plain), Some(ResponseKind::KissRate));
    assert_eq!(kinds, [plain, plain, kiss, kiss]);
    let answer = ask(&mut responder, &nts, &at(0.0));
    assert_eq!(answer.kind(), kiss);
    verify_nts_response(&answer.octets, &UNIQUE_IDENTIFIER, &keys.s2c, &mut ArrayVec::new())
        .expect("it verifies");

    let quiet = Policy { rate_limit: Some(RateLimitSettings { kiss: None, ..limit }), ..Policy::open() };
    responder.set_policy(Arc::new(quiet));
    let verdict = ask(&mut responder, &nts, &at(0.0)).verdict;
    assert_eq!(verdict, Verdict::Silence(SilenceReason::RateLimited));
    let client = responder.clients().next().expect("one client");
    assert_eq!((client.address, client.hits, client.drops), (CLIENT, 6, 4));
}

#[test]
fn only_what_nothing_is_sealed_in_can_be_stamped_again() {
    let now = NtpTimestamp::from_bits(0xabcd);
    let mut response = [0; 48];
    restamp_transmit(&mut response, ResponseKind::Nts, now);
    assert_eq!(response, [0; 48]);
    restamp_transmit(&mut response, ResponseKind::Plain, now);
    assert_eq!(Header::decode(&[&[0x24], &response[1..]].concat()).expect("a header").transmit, now);
    restamp_transmit(&mut [0; 3], ResponseKind::Plain, now);
}

proptest! {
    #[test]
    fn no_octets_make_it_panic_or_answer_with_more(
        first in prop::sample::select(vec![0x23u8, 0x1b, 0x13, 0x0b, 0x21, 0xe3, 0x26, 0x24]),
        rest in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        let request = [vec![first], rest].concat();
        ask_open(&request);
    }

    /// Whatever becomes of an NTS request on its way: authenticated time, a NAK or silence, but never plain time.
    #[test]
    fn a_changed_nts_request_never_gets_unauthenticated_time(
        placeholders in 0usize..3, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>())
    ) {
        let keys = keys(AeadAlgorithm::AesSivCmac256);
        let cookie = ring().seal_cookie(&keys, [5; 16]);
        let mut request = nts_request(&keys, cookie.as_bytes(), placeholders);
        for (index, value) in &changes {
            // The types of the fields are left alone: without them it is no packet with NTS fields.
            let at = index.index(request.len());
            if !(HEADER_OCTETS..HEADER_OCTETS + 4).contains(&at) {
                request[at] ^= value;
            }
        }
        if let Some(cut) = cut {
            request.truncate(HEADER_OCTETS + 36 + cut.index(request.len() - HEADER_OCTETS - 36));
        }
        let answer = ask_open(&request);
        let plain = matches!(answer.kind(), Some(ResponseKind::Plain | ResponseKind::Keyed));
        prop_assert!(!plain, "{:?}", answer.verdict);
    }
}

/// What a request becomes with the MAC of a key.
fn keyed(request: &[u8], key: &SymmetricKey) -> Vec<u8> {
    let mut octets = [0; 128];
    octets[..request.len()].copy_from_slice(request);
    let mut writer = FieldWriter::new(&mut octets, request.len());
    key.append_mac(&mut writer, 4).expect("there is room");
    let length = writer.len();
    octets[..length].to_vec()
}

#[test]
fn parts_of_the_network_have_terms_of_their_own() {
    let rule = |subnet: &str, terms| TermsRule { subnet: subnet.parse().expect("a subnet"), terms };
    let terms = [
        rule("192.0.2.0/24", Terms { authenticated: true, ..Terms::USUAL }),
        rule("192.0.2.1/32", Terms { limited: false, ..Terms::USUAL }),
        rule("198.51.100.0/24", Terms { kiss: false, ..Terms::USUAL }),
        rule("203.0.113.0/24", Terms { newest_only: true, ..Terms::USUAL }),
    ];
    let limit = RateLimitSettings { leak: None, kiss: Some(0), ..RateLimitSettings::from_chrony(3, 1, 2, 0) };
    let key = SymmetricKey::new(4, MacAlgorithm::Sha1, b"a secret").expect("a key");
    let mut responder = responder(Policy {
        rate_limit: Some(limit),
        terms: Some(TermsList::new(&terms)),
        keys: KeyTable::new(vec![key.clone()]),
        ..Policy::open()
    });
    let nts_keys = keys(AeadAlgorithm::AesSivCmac256);
    let cookie = ring().seal_cookie(&nts_keys, [5; 16]);
    let nts = nts_request(&nts_keys, cookie.as_bytes(), 0);
    let plain = plain_request(0x23);
    let mut verdicts = |from: [u8; 4], request: &[u8], count| {
        let arrival = Arrival { from: from.into(), ..at(0.0) };
        (0..count).map(|_| ask(&mut responder, request, &arrival).verdict).last().expect("one at least")
    };
    let kind = |kind| move |verdict| matches!(verdict, Verdict::Respond { kind: it, .. } if it == kind);
    let silence = Verdict::Silence;
    assert!(kind(ResponseKind::Plain)(verdicts([192, 0, 2, 1], &plain, 9)), "it is not limited");
    assert_eq!(verdicts([192, 0, 2, 2], &plain, 1), silence(SilenceReason::NtsRequired));
    assert!(kind(ResponseKind::Keyed)(verdicts([192, 0, 2, 3], &keyed(&plain, &key), 1)));
    assert!(kind(ResponseKind::Nts)(verdicts([192, 0, 2, 4], &nts, 1)));
    let other = SymmetricKey::new(4, MacAlgorithm::Sha1, b"another").expect("a key");
    assert_eq!(verdicts([192, 0, 2, 5], &keyed(&plain, &other), 1), silence(SilenceReason::WrongMac));
    assert_eq!(verdicts([198, 51, 100, 1], &plain, 2), silence(SilenceReason::RateLimited));
    assert_eq!(verdicts([203, 0, 113, 1], &plain_request(0x1b), 1), silence(SilenceReason::Version));
    assert!(kind(ResponseKind::Plain)(verdicts([203, 0, 113, 1], &plain, 1)));
    assert!(kind(ResponseKind::KissRate)(verdicts([233, 252, 0, 1], &plain, 2)), "who is not mentioned");
}

/// What Windows asks: version 3, the number of a key, and no checksum yet.
fn domain_request() -> Vec<u8> {
    let mut octets = plain_request(0x1b);
    octets.extend([0xe8, 3, 0, 0]);
    octets.extend([0; 16]);
    octets
}

#[test]
fn a_member_of_a_domain_gets_an_answer_to_be_signed_where_that_is_done() {
    let rule = |subnet: &str, terms| TermsRule { subnet: subnet.parse().expect("a subnet"), terms };
    let terms = [
        rule("192.0.2.0/24", Terms { authenticated: true, ..Terms::USUAL }),
        rule("198.51.100.0/24", Terms { signed: false, ..Terms::USUAL }),
    ];
    let policy = Policy { signs: true, terms: Some(TermsList::new(&terms)), ..Policy::open() };
    let begin = |policy: &Policy, from: [u8; 4]| {
        let (request, mut room) = (domain_request(), [0; 128]);
        let (time, arrival) = (time(), Arrival { from: from.into(), ..at(0.0) });
        let published = Published { time: &time, keys: None };
        let mut responder = responder(policy.clone());
        match responder.begin(&request, &arrival, &published, &mut Fixed::default(), &mut room) {
            Begun::Sign(unsigned) => Ok(unsigned),
            Begun::Done(verdict) => Err(verdict),
            Begun::Nts(_) => panic!("there is no NTS field"),
        }
    };
    let unsigned = begin(&policy, [203, 0, 113, 1]).expect("it is to be signed");
    assert_eq!(unsigned.key, [0xe8, 3, 0, 0]);
    let header = Header::decode(&unsigned.header).expect("a header");
    assert_eq!((header.version, header.mode, header.stratum), (3, Mode::Server, 2));
    assert_eq!(header.origin.to_bits(), 0x1122_3344_5566_7788);
    let silent = |reason| Err(Verdict::Silence(reason));
    assert_eq!(begin(&policy, [192, 0, 2, 1]), silent(SilenceReason::NtsRequired), "anybody can ask");
    assert_eq!(begin(&policy, [198, 51, 100, 1]), silent(SilenceReason::UnknownKey));
    assert_eq!(begin(&Policy::open(), [203, 0, 113, 1]), silent(SilenceReason::UnknownKey));
    let strict = Policy { require_nts: RequireNts::Ignore, ..policy.clone() };
    assert_eq!(begin(&strict, [203, 0, 113, 1]), silent(SilenceReason::NtsRequired));
    let alone = ask(&mut responder(Policy { signs: true, ..Policy::open() }), &domain_request(), &at(0.0));
    assert_eq!(alone.verdict, Verdict::Silence(SilenceReason::CannotSign), "nobody here signs");
}

#[test]
fn where_terms_are_flaky_one_request_in_ten_is_dropped() {
    let flaky = TermsRule {
        subnet: "192.0.2.0/24".parse().expect("a subnet"),
        terms: Terms { flaky: true, ..Terms::USUAL },
    };
    let mut responder = responder(Policy { terms: Some(TermsList::new(&[flaky])), ..Policy::open() });
    let mut outside = Fixed::default();
    let (time, request, mut room) = (time(), plain_request(0x23), [0; 48]);
    let mut dropped = |from: [u8; 4]| {
        let arrival = Arrival { from: from.into(), ..at(0.0) };
        let published = Published { time: &time, keys: None };
        let mut respond = || responder.respond(&request, &arrival, &published, &mut outside, &mut room);
        (0..1000).filter(|_| respond() == Verdict::Silence(SilenceReason::Flaky)).count()
    };
    assert!((50..200).contains(&dropped([192, 0, 2, 1])));
    assert_eq!(dropped([198, 51, 100, 1]), 0);
}

/// An interleaved request: `origin` is our receive timestamp of an earlier answer.
fn interleaved(request: &[u8], origin: NtpTimestamp, receive: u64) -> Vec<u8> {
    let mut octets = request.to_vec();
    octets[24..32].copy_from_slice(&origin.to_be_bytes());
    octets[32..40].copy_from_slice(&receive.to_be_bytes());
    octets
}

fn received_at(seconds: u32) -> Arrival {
    let received = NtpTimestamp::from_bits((4_000_000_000 + u64::from(seconds)) << 32);
    Arrival { received, ..at(f64::from(seconds)) }
}

#[test]
fn interleaved_requests_are_told_when_the_answer_before_really_left() {
    let times = Arc::new(TransmitTimes::new([3, 4]));
    let mut responder = responder(Policy::open()).with_transmit_times(times.clone());
    let first = ask(&mut responder, &plain_request(0x23), &received_at(0)).header();
    assert_eq!(responder.take_follow_up(), None, "a client in basic mode is not remembered");
    // The client wants interleaved mode: it refers to an answer of which nothing is known.
    let request = interleaved(&plain_request(0x23), first.receive, 0xabcd);
    let answer = ask(&mut responder, &request, &received_at(16));
    let second = answer.header();
    assert_eq!(answer.kind(), Some(ResponseKind::Plain));
    assert_eq!(second.origin.to_bits(), 0x1122_3344_5566_7788);
    let mark = responder.take_follow_up().expect("its answer is to be noted");
    let left = second.transmit + NtpDuration::from_nanos(77_000);
    times.note(mark, left);
    // Now it is known.
    let request = interleaved(&plain_request(0x23), second.receive, 0xabce);
    let answer = ask(&mut responder, &request, &received_at(32));
    let third = answer.header();
    assert_eq!((third.origin.to_bits(), third.transmit), (0xabce, left));
    assert_eq!(third.receive, received_at(32).received);
    assert_eq!(answer.kind(), Some(ResponseKind::Interleaved));
    assert_eq!(responder.counters().interleaved, 1);
    assert!(responder.take_follow_up().is_some_and(|next| next != mark));
    // The batch does not write another time over it.
    let mut octets = answer.octets.clone();
    restamp_transmit(&mut octets, ResponseKind::Interleaved, NtpTimestamp::from_bits(1));
    assert_eq!(octets, answer.octets);
    // Somebody else learns nothing.
    let other = Arrival { from: [192, 0, 2, 9].into(), ..received_at(33) };
    assert_eq!(ask(&mut responder, &request, &other).kind(), Some(ResponseKind::Plain));
}

#[test]
fn what_does_not_ask_for_interleaved_mode_does_not_get_it() {
    let times = Arc::new(TransmitTimes::new([3, 4]));
    let mut responder = responder(Policy::open()).with_transmit_times(times.clone());
    let known = NtpTimestamp::from_bits(5 << 32);
    times.note(times.mark(CLIENT, known), known);
    let twins = interleaved(&plain_request(0x23), known, 0x1122_3344_5566_7788);
    let no_receive = interleaved(&plain_request(0x23), known, 0);
    let symmetric = interleaved(&plain_request(0x21), known, 0xabcd);
    for request in [twins, no_receive, symmetric] {
        let answer = ask(&mut responder, &request, &at(0.0));
        assert_eq!(answer.header().origin.to_bits(), 0x1122_3344_5566_7788);
        assert_eq!((responder.take_follow_up(), responder.counters().interleaved), (None, 0));
    }
    let good = interleaved(&plain_request(0x23), known, 0xabcd);
    assert_eq!(ask(&mut responder, &good, &at(0.0)).kind(), Some(ResponseKind::Interleaved));
    let mut refused =
        self::responder(Policy::new(AccessList::uniform(crate::Access::Refuse(crate::Refusal::Deny))))
            .with_transmit_times(times);
    let kiss = ask(&mut refused, &good, &at(0.0));
    assert_eq!(kiss.kind(), Some(ResponseKind::KissDeny));
    assert_eq!(kiss.header().origin.to_bits(), 0x1122_3344_5566_7788, "a kiss answers the request itself");
    assert_eq!(refused.take_follow_up(), None);
}

#[test]
fn interleaved_nts_answers_are_sealed_like_others() {
    let times = Arc::new(TransmitTimes::new([3, 4]));
    let mut responder = responder(Policy::open()).with_transmit_times(times.clone());
    let keys = keys(AeadAlgorithm::AesSivCmac256);
    let cookie = ring().seal_cookie(&keys, [1; 16]);
    let known = NtpTimestamp::from_bits(5 << 32);
    times.note(times.mark(CLIENT, known), known + NtpDuration::from_nanos(1000));
    let mut octets = [0; 1024];
    octets[..HEADER_OCTETS].copy_from_slice(&interleaved(&plain_request(0x23), known, 0xabcd));
    let mut writer = FieldWriter::new(&mut octets, HEADER_OCTETS);
    write_nts_request(&mut writer, &UNIQUE_IDENTIFIER, cookie.as_bytes(), 0, &keys.c2s, &[3; 16])
        .expect("there is room");
    let request = writer.written().to_vec();
    let answer = ask(&mut responder, &request, &at(0.0));
    assert_eq!(answer.kind(), Some(ResponseKind::Nts));
    assert_eq!(answer.header().transmit, known + NtpDuration::from_nanos(1000));
    let mut cookies = ArrayVec::new();
    verify_nts_response(&answer.octets, &UNIQUE_IDENTIFIER, &keys.s2c, &mut cookies).expect("sealed");
    assert_eq!((cookies.len(), responder.counters().interleaved), (1, 1));
    // An authenticator that is wrong gets no interleaved answer, and is not remembered.
    let mut forged = request;
    forged[33] ^= 1;
    assert_eq!(ask(&mut responder, &forged, &at(1.0)).kind(), Some(ResponseKind::NtsNak));
    assert_eq!(responder.take_follow_up(), None);
}

#[test]
fn who_smears_says_nothing_of_leap_seconds_and_names_no_reference_meanwhile() {
    let midnight = 1_483_228_800;
    let window = SmearSettings::default().of(LeapSecond { midnight, insert: true }, None);
    // Two hours before the smear, and in its middle, just before the leap second.
    for (seconds, smeared) in [(-50_400.0, 0.0), (-0.001, -0.5)] {
        let date = NtpDate::from_unix(midnight, 0) + NtpDuration::from_secs_f64(seconds);
        let arrival = Arrival { received: date.timestamp(), ..at(0.0) };
        let reference = date.timestamp() - NtpDuration::from_seconds(9);
        let time = ServerTime { reference, smear: Some(window.smear(at(0.0).mono, date, false)), ..time() };
        let published = Published { time: &time, keys: None };
        let mut response = [0; 2048];
        let request = plain_request(0x23);
        let mut environment = Fixed::default();
        responder(Policy::open()).respond(&request, &arrival, &published, &mut environment, &mut response);
        let header = Header::decode(&response).expect("an answer has a header");
        assert!(((header.receive - date.timestamp()).as_secs_f64() - smeared).abs() < 1e-6);
        assert!(((header.receive - header.reference).as_secs_f64() - 9.0).abs() < 1e-6);
        assert_eq!(header.leap, LeapIndicator::NoWarning);
        let named = if smeared == 0.0 { ReferenceId([192, 0, 2, 99]) } else { SMEARED_REFERENCE_ID };
        assert_eq!(header.reference_id, named);
    }
}

#[test]
fn without_client_records_nobody_is_remembered_and_there_is_no_interleaved_mode() {
    let policy = Policy { client_records: false, ..Policy::open() };
    let times = Arc::new(TransmitTimes::new([3, 4]));
    let mut responder = responder(policy).with_transmit_times(times.clone());
    let known = NtpTimestamp::from_bits(5 << 32);
    times.note(times.mark(CLIENT, known), known);
    let answer = ask(&mut responder, &interleaved(&plain_request(0x23), known, 0xabcd), &at(0.0));
    assert_eq!(answer.kind(), Some(ResponseKind::Plain));
    assert_eq!((responder.take_follow_up(), responder.clients().count()), (None, 0));
}
