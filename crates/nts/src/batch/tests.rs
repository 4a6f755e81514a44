//! Batches against one request after the other, for every arithmetic of this processor.

use super::{BATCH_REQUESTS_MAX, BatchAnswer, NtsBatch};
use crate::predecessor::{PredecessorFormat, of_one_key};
use crate::{
    AeadAlgorithm, AeadKey, Arithmetic, Cookie, CookieKey, KeyRing, NtsKeys, NtsRequest, NtsRequestError,
    authenticator, verify_nts_response, write_nts_response,
};
use arrayvec::ArrayVec;
use chime_time::NtpDate;
use chime_wire::{FieldWriter, HEADER_OCTETS, field_type};
use proptest::prelude::*;
use std::sync::Arc;

const OCTETS_MAX: usize = 2048;

fn ring() -> KeyRing {
    let key = |number: u8| CookieKey::new(number.into(), [number; 32], NtpDate::from_unix(0, 0));
    let mut ring = KeyRing::new(key(1));
    ring.rotate(key(2), 3);
    ring.rotate(key(3), 3);
    ring
}

fn keys(algorithm: AeadAlgorithm, fill: u8) -> NtsKeys {
    let key =
        |octet: u8| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]).expect("right length");
    NtsKeys { c2s: key(fill), s2c: key(!fill) }
}

/// A request as a client sends it, and the keys that belong to it.
fn request(
    algorithm: AeadAlgorithm,
    fill: u8,
    identifier_octets: usize,
    placeholders: usize,
) -> (Vec<u8>, NtsKeys) {
    let keys = keys(algorithm, fill);
    let cookie = ring().seal_cookie(&keys, [fill; 16]);
    let mut octets = [0; OCTETS_MAX];
    octets[0] = 0x23;
    let mut writer = FieldWriter::new(&mut octets, HEADER_OCTETS);
    let nonce = [fill ^ 0x55; 16];
    writer.put_field(field_type::UNIQUE_IDENTIFIER, &vec![fill; identifier_octets], 0).expect("it fits");
    writer.put_field(field_type::NTS_COOKIE, cookie.as_bytes(), 0).expect("it fits");
    for _ in 0..placeholders {
        let zeros = vec![0; cookie.as_bytes().len()];
        writer.put_field(field_type::NTS_COOKIE_PLACEHOLDER, &zeros, 0).expect("it fits");
    }
    let nonce = &nonce[..algorithm.nonce_octets()];
    authenticator::write(&mut writer, &keys.c2s.expand(), nonce, core::iter::empty()).expect("it fits");
    (writer.written().to_vec(), keys)
}

fn header(number: usize) -> [u8; HEADER_OCTETS] {
    let mut header = [u8::try_from(number).expect("few"); HEADER_OCTETS];
    header[0] = 0x24;
    header
}

/// Random octets that both ways of answering agree on: number `n` of the batch's nonces is `[n; 16]`.
fn numbered(octets: &mut [u8]) {
    for (number, nonce) in octets.chunks_mut(16).enumerate() {
        nonce.fill(u8::try_from(number + 1).expect("at most 72"));
    }
}

type Outcome = Result<Vec<u8>, NtsRequestError>;

fn answer_together(ring: &KeyRing, batch: &mut NtsBatch, requests: &[NtsRequest<'_>]) -> Vec<Outcome> {
    let references: Vec<_> = requests.iter().collect();
    let outcomes = batch.accept(ring, &references);
    let mut rooms = vec![[0; OCTETS_MAX]; requests.len()];
    let mut answers: Vec<_> = rooms
        .iter_mut()
        .enumerate()
        .filter_map(|(number, room)| {
            let cookies = outcomes[number].ok()?;
            Some(BatchAnswer::new(number, requests[number].unique_identifier, cookies, room))
        })
        .collect();
    batch.prepare(ring, &mut answers, &mut numbered);
    for answer in &mut answers {
        *answer.header_mut().expect("there is room") = header(answer.request);
    }
    batch.seal(ring, &mut answers);
    let lengths: Vec<_> =
        answers.iter().map(|answer| (answer.request, answer.octets().expect("it fits"))).collect();
    let mut results: Vec<Outcome> = outcomes.iter().map(|outcome| outcome.map(|_| Vec::new())).collect();
    for (number, octets) in lengths {
        results[number] = Ok(rooms[number][..octets].to_vec());
    }
    results
}

/// The reference: each request alone.
fn answer_alone(ring: &KeyRing, requests: &[NtsRequest<'_>]) -> Vec<Outcome> {
    let mut nonces = vec![[0; 16]; 128];
    numbered(nonces.as_flattened_mut()[..100 * 16].as_mut());
    let mut nonces = nonces.into_iter();
    let answer = |(number, request): (usize, &NtsRequest<'_>)| {
        let (keys, count) = request.accept(ring)?;
        let mut room = [0; OCTETS_MAX];
        room[..HEADER_OCTETS].copy_from_slice(&header(number));
        let nonce = nonces.next().expect("enough");
        let cookies: Vec<Cookie> =
            (0..count).map(|_| ring.seal_cookie(&keys, nonces.next().expect("enough"))).collect();
        let mut writer = FieldWriter::new(&mut room, HEADER_OCTETS);
        let nonce = &nonce[..keys.algorithm().nonce_octets()];
        write_nts_response(&mut writer, request.unique_identifier, &keys.s2c, nonce, &cookies)
            .expect("it fits");
        Ok(writer.written().to_vec())
    };
    requests.iter().enumerate().map(answer).collect()
}

fn compare(octets: &[Vec<u8>]) {
    let requests: Vec<_> = octets.iter().filter_map(|octets| NtsRequest::parse(octets).ok()).collect();
    let expected = answer_alone(&ring(), &requests);
    for arithmetic in Arithmetic::available() {
        let ring = ring().with_arithmetic(arithmetic);
        let mut batch = NtsBatch::new();
        // Twice: what an earlier batch left behind means nothing.
        for _ in 0..2 {
            assert_eq!(answer_together(&ring, &mut batch, &requests), expected, "{arithmetic:?}");
        }
    }
}

#[test]
fn a_full_batch_of_every_algorithm_is_answered_and_verified_by_its_clients() {
    for count in 1..=BATCH_REQUESTS_MAX {
        let made: Vec<_> = (0..count)
            .map(|number| {
                let algorithm = AeadAlgorithm::ALL[number % 4];
                request(algorithm, u8::try_from(number).expect("few") + 1, 32, number % 3)
            })
            .collect();
        let requests: Vec<_> =
            made.iter().map(|(octets, _)| NtsRequest::parse(octets).expect("good")).collect();
        for arithmetic in Arithmetic::available() {
            let ring = ring().with_arithmetic(arithmetic);
            let answers = answer_together(&ring, &mut NtsBatch::new(), &requests);
            for (number, (answer, (_, keys))) in answers.iter().zip(&made).enumerate() {
                let mut cookies = ArrayVec::new();
                let answer = answer.as_ref().expect("an answer");
                verify_nts_response(answer, requests[number].unique_identifier, &keys.s2c, &mut cookies)
                    .expect("it verifies");
                assert_eq!(cookies.len(), 1 + number % 3);
                for cookie in &cookies {
                    assert_eq!(ring.open_cookie(cookie.as_bytes()).as_ref(), Ok(keys));
                }
            }
        }
    }
}

/// A request with this cookie.
fn request_with(cookie: &[u8], keys: &NtsKeys, placeholders: usize) -> Vec<u8> {
    let mut octets = [0; OCTETS_MAX];
    octets[0] = 0x23;
    let mut writer = FieldWriter::new(&mut octets, HEADER_OCTETS);
    writer.put_field(field_type::UNIQUE_IDENTIFIER, &[9; 32], 0).expect("it fits");
    writer.put_field(field_type::NTS_COOKIE, cookie, 0).expect("it fits");
    for _ in 0..placeholders {
        writer.put_field(field_type::NTS_COOKIE_PLACEHOLDER, &vec![0; cookie.len()], 0).expect("it fits");
    }
    let nonce = &[3; 16][..keys.algorithm().nonce_octets()];
    authenticator::write(&mut writer, &keys.c2s.expand(), nonce, core::iter::empty()).expect("it fits");
    writer.written().to_vec()
}

#[test]
fn cookies_of_a_predecessor_are_exchanged_for_ours_or_its_own_and_never_with_a_longer_answer() {
    let master: Vec<u8> = (0..32).collect();
    let master = AeadKey::new(AeadAlgorithm::AesSivCmac256, &master).expect("right length");
    let chrony = Arc::new(of_one_key(PredecessorFormat::Chrony, 0x0f2c_0684, &master));
    for (arithmetic, way_back) in Arithmetic::available().flat_map(|it| [(it, false), (it, true)]) {
        let ring =
            ring().with_arithmetic(arithmetic).with_predecessor(Some(chrony.clone())).with_way_back(way_back);
        for (algorithm, placeholders) in [(15, 0), (15, 1), (15, 7), (30, 3)] {
            let keys = keys(AeadAlgorithm::from_id(algorithm).expect("known"), 5);
            let cookie = chrony.seal_cookie(&keys, &[1; 16]).as_bytes().to_vec();
            let (ours, _) = request(AeadAlgorithm::AesSivCmac256, 1, 32, 0);
            let octets = [request_with(&cookie, &keys, placeholders), ours];
            let requests: Vec<_> =
                octets.iter().map(|octets| NtsRequest::parse(octets).expect("good")).collect();
            let answers = answer_together(&ring, &mut NtsBatch::new(), &requests);
            assert_eq!(answers, answer_alone(&ring, &requests), "{arithmetic:?}");
            let answer = answers[0].as_ref().expect("an answer");
            assert!(answer.len() <= octets[0].len(), "{} to {}", answer.len(), octets[0].len());
            let mut cookies = ArrayVec::new();
            verify_nts_response(answer, &[9; 32], &keys.s2c, &mut cookies).expect("it verifies");
            // Theirs are 4 octets shorter than ours: one in 26 does not fit.
            let all = if way_back { 1 + placeholders } else { placeholders };
            assert!(cookies.len() >= all, "{} for {placeholders}", cookies.len());
            let theirs = cookies.iter().filter(|cookie| chrony.open_cookie(cookie.as_bytes()).is_some());
            assert_eq!(theirs.count(), if way_back { cookies.len() } else { 0 });
            assert!(cookies.iter().all(|cookie| ring.open_cookie(cookie.as_bytes()) == Ok(keys.clone())));
        }
    }
}

#[test]
fn an_answer_without_room_is_none() {
    let (octets, _) = request(AeadAlgorithm::AesSivCmac256, 1, 32, 0);
    let parsed = NtsRequest::parse(&octets).expect("good");
    for arithmetic in Arithmetic::available() {
        let ring = ring().with_arithmetic(arithmetic);
        let mut batch = NtsBatch::new();
        assert_eq!(batch.accept(&ring, &[&parsed])[0], Ok(1));
        for (room, expected) in [(0, None), (47, None), (100, None), (231, None), (232, Some(232))] {
            let mut room = vec![0; room];
            let mut answers = [BatchAnswer::new(0, parsed.unique_identifier, 1, &mut room)];
            batch.prepare(&ring, &mut answers, &mut numbered);
            batch.seal(&ring, &mut answers);
            assert_eq!(answers[0].octets(), expected);
        }
    }
}

fn algorithm() -> impl Strategy<Value = AeadAlgorithm> {
    prop::sample::select(AeadAlgorithm::ALL.to_vec())
}

proptest! {
    #[test]
    fn batches_give_the_octets_of_one_after_the_other(
        drawn in prop::collection::vec((algorithm(), any::<u8>(), 3usize..30, 0usize..9), 1..=BATCH_REQUESTS_MAX)
    ) {
        let octets: Vec<_> = drawn
            .into_iter()
            .map(|(algorithm, fill, words, placeholders)| request(algorithm, fill, 4 * words, placeholders).0)
            .collect();
        compare(&octets);
    }

    /// What is damaged is refused for the same reason, and disturbs nobody else.
    #[test]
    fn damaged_requests_fare_as_alone(
        drawn in prop::collection::vec(
            (algorithm(), any::<u8>(), any::<prop::sample::Index>(), prop::option::of(1u8..)), 1..=BATCH_REQUESTS_MAX
        )
    ) {
        let octets: Vec<_> = drawn
            .into_iter()
            .map(|(algorithm, fill, spot, change)| {
                let (mut octets, _) = request(algorithm, fill, 32, 1);
                let at = spot.index(octets.len());
                octets[at] ^= change.unwrap_or(0);
                octets
            })
            .collect();
        compare(&octets);
    }
}
