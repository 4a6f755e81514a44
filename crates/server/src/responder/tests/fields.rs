//! Fields that clients ask for beside the time.

use super::*;
use crate::MonotonicScale;
use chime_nts::client::verify_nts_response;
use chime_wire::mac::{MacAlgorithm, SymmetricKey};
use chime_wire::{EXCHANGE_FIELD_OCTETS, ExchangeFields, MonotonicReceive, NetworkCorrection};

const OFFSET: NtpDuration = NtpDuration::from_seconds(-3);
const BOTH: ExchangeFields = ExchangeFields {
    correction: Some(NetworkCorrection(NtpDuration::ZERO)),
    monotonic: Some(MonotonicReceive {
        root_delay: NtpDuration::ZERO,
        root_dispersion: NtpDuration::ZERO,
        receive: NtpTimestamp::ZERO,
        epoch: 0,
    }),
};

fn scaled() -> ServerTime {
    ServerTime { scale: Some(MonotonicScale { offset: OFFSET, epoch: 9 }), ..time() }
}

/// A plain request with both fields, and what is appended to it.
fn asking(append: impl FnOnce(&mut FieldWriter<'_>)) -> Vec<u8> {
    let mut octets = [0; 1024];
    octets[..HEADER_OCTETS].copy_from_slice(&plain_request(0x23));
    let mut writer = FieldWriter::new(&mut octets, HEADER_OCTETS);
    BOTH.append(&mut writer).expect("there is room");
    append(&mut writer);
    let length = writer.len();
    octets[..length].to_vec()
}

fn answer_to(request: &[u8], policy: Policy, time: &ServerTime, arrival: &Arrival) -> Answered {
    let (mut response, ring) = ([0xee; 2048], ring());
    let published = Published { time, keys: Some(&ring) };
    let verdict =
        responder(policy).respond(request, arrival, &published, &mut Fixed::default(), &mut response);
    let octets = match verdict {
        Verdict::Respond { octets, .. } => response[..octets].to_vec(),
        Verdict::Silence(_) => Vec::new(),
    };
    assert!(octets.len() <= request.len());
    Answered { verdict, octets }
}

fn over_ptp() -> Arrival {
    Arrival { correction: Some(NtpDuration::from_nanos(5000)), ..at(0.0) }
}

fn fields(answer: &Answered) -> ExchangeFields {
    ExchangeFields::of(&Packet::parse(&answer.octets).expect("a packet"))
}

#[test]
fn what_is_asked_for_is_told_and_no_more() {
    let answer = answer_to(&asking(|_| ()), Policy::open(), &scaled(), &over_ptp());
    assert_eq!(answer.octets.len(), HEADER_OCTETS + 2 * EXCHANGE_FIELD_OCTETS);
    let told = fields(&answer);
    assert_eq!(told.correction, Some(NetworkCorrection(NtpDuration::from_nanos(5000))));
    let monotonic = told.monotonic.expect("it was asked for");
    assert_eq!((monotonic.epoch, monotonic.receive), (9, answer.header().receive + OFFSET));
    let error = monotonic.root_dispersion - NtpDuration::from_nanos(500_000);
    assert!(error >= NtpDuration::ZERO && error < NtpDuration::from_nanos(5), "finer than in the header");
    // By plain UDP nothing is known of the way, and then there is no field for it.
    let answer = answer_to(&asking(|_| ()), Policy::open(), &scaled(), &at(0.0));
    assert_eq!(answer.octets.len(), HEADER_OCTETS + EXCHANGE_FIELD_OCTETS);
    assert_eq!(fields(&answer).correction, None);
    let answer = answer_to(&plain_request(0x23), Policy::open(), &scaled(), &over_ptp());
    assert_eq!(answer.octets.len(), HEADER_OCTETS, "who does not ask");
}

#[test]
fn of_a_time_that_is_not_ours_there_is_no_such_scale() {
    let course = crate::SmoothingCourse::new(
        crate::SmoothingSettings { rate_max: 400e-6, change: 10e-6 },
        at(0.0).mono,
        0.1,
        0.0,
    );
    for time in [
        ServerTime { smoothing: Some(course), ..scaled() },
        ServerTime { scale: None, ..scaled() },
        ServerTime { scale: scaled().scale, ..ServerTime::unsynchronized(-20) },
    ] {
        let answer = answer_to(&asking(|_| ()), Policy::open(), &time, &at(0.0));
        let monotonic = fields(&answer).monotonic.expect("it was asked for");
        assert_eq!((monotonic.receive, monotonic.epoch), (NtpTimestamp::ZERO, 0));
    }
}

#[test]
fn they_are_authenticated_as_the_rest_is() {
    let key = SymmetricKey::new(7, MacAlgorithm::Sha1, b"a secret").expect("a good key");
    let policy = Policy { keys: crate::KeyTable::new(vec![key.clone()]), ..Policy::open() };
    let request = asking(|writer| key.append_mac(writer, 4).expect("there is room"));
    let answer = answer_to(&request, policy, &scaled(), &over_ptp());
    assert_eq!(answer.octets.len(), request.len());
    let packet = Packet::parse(&answer.octets).expect("a packet");
    let mac = packet.mac().expect("a MAC");
    assert!(key.verify(&answer.octets[..packet.fields_end()], mac.digest, 4));
    assert_eq!(fields(&answer).monotonic.map(|monotonic| monotonic.epoch), Some(9));

    for algorithm in AeadAlgorithm::ALL.iter().copied() {
        let keys = keys(algorithm);
        let cookie = ring().seal_cookie(&keys, [5; 16]);
        let nonce = [3; 16];
        let nonce = &nonce[..algorithm.nonce_octets()];
        let request = asking(|writer| {
            let cookie = cookie.as_bytes();
            write_nts_request(writer, &UNIQUE_IDENTIFIER, cookie, 1, &keys.c2s, nonce)
                .expect("there is room");
        });
        let answer = answer_to(&request, Policy::open(), &scaled(), &over_ptp());
        assert_eq!(answer.kind(), Some(ResponseKind::Nts), "{algorithm:?}");
        let mut cookies = arrayvec::ArrayVec::new();
        verify_nts_response(&answer.octets, &UNIQUE_IDENTIFIER, &keys.s2c, &mut cookies).expect("authentic");
        let told = fields(&answer);
        let monotonic = told.monotonic.expect("it was asked for");
        assert_eq!((cookies.len(), monotonic.epoch), (2, 9));
        assert_eq!(monotonic.receive, answer.header().receive + OFFSET);
        assert_eq!(told.correction, Some(NetworkCorrection(NtpDuration::from_nanos(5000))));
        let mut forged = answer.octets;
        forged[HEADER_OCTETS + 20] ^= 1;
        assert!(verify_nts_response(&forged, &UNIQUE_IDENTIFIER, &keys.s2c, &mut cookies).is_err());
    }
}

#[test]
fn a_kiss_says_nothing_else() {
    let policy = Policy { require_nts: RequireNts::Deny, ..Policy::open() };
    let answer = answer_to(&asking(|_| ()), policy, &scaled(), &over_ptp());
    assert_eq!((answer.kind(), answer.octets.len()), (Some(ResponseKind::KissDeny), HEADER_OCTETS));

    let keys = keys(AeadAlgorithm::AesSivCmac256);
    let cookie = ring().seal_cookie(&keys, [5; 16]);
    let request = asking(|writer| {
        write_nts_request(writer, &UNIQUE_IDENTIFIER, cookie.as_bytes(), 1, &keys.c2s, &[3; 16])
            .expect("there is room");
    });
    let nobody = crate::AccessList::from_lists(Some((&[crate::Subnet::host(CLIENT)], Refusal::Deny)), None);
    let answer = answer_to(&request, Policy::new(nobody), &scaled(), &over_ptp());
    assert_eq!((answer.kind(), fields(&answer)), (Some(ResponseKind::KissDeny), ExchangeFields::default()));
}
