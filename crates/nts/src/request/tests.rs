use super::*;
use crate::{CookieKey, write_nts_request};
use chime_time::NtpDate;
use proptest::prelude::*;

const UNIQUE_IDENTIFIER: [u8; 32] = [0x1d; 32];

fn ring() -> KeyRing {
    KeyRing::new(CookieKey::new(0x7264_7264, [0x5a; 32], NtpDate::from_unix(0, 0)))
}

fn keys(algorithm: AeadAlgorithm) -> NtsKeys {
    let key = |octet| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]).expect("right length");
    NtsKeys { c2s: key(1), s2c: key(2) }
}

fn nonce(algorithm: AeadAlgorithm) -> Vec<u8> {
    vec![0x40; algorithm.nonce_octets()]
}

fn header() -> [u8; HEADER_OCTETS] {
    let mut header = [0; HEADER_OCTETS];
    header[0] = 4 << 3 | 3;
    header[40..].copy_from_slice(&[0x77; 8]);
    header
}

/// Builds a packet from its header and what `write` appends.
fn packet(write: impl FnOnce(&mut FieldWriter<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; DATAGRAM_OCTETS_MAX];
    buffer[..HEADER_OCTETS].copy_from_slice(&header());
    let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
    write(&mut writer);
    let octets = writer.len();
    buffer.truncate(octets);
    buffer
}

fn good_request(algorithm: AeadAlgorithm, placeholders: usize) -> Vec<u8> {
    let keys = keys(algorithm);
    let cookie = ring().seal_cookie(&keys, [9; 16]);
    packet(|writer| {
        let nonce = nonce(algorithm);
        write_nts_request(writer, &UNIQUE_IDENTIFIER, cookie.as_bytes(), placeholders, &keys.c2s, &nonce)
            .unwrap();
    })
}

/// A request of chosen clear fields, with `encrypted` fields sealed in an authenticator behind them.
fn request_of(clear: &[(u16, &[u8])], encrypted: &[(u16, &[u8])]) -> Vec<u8> {
    let keys = keys(AeadAlgorithm::AesSivCmac256);
    packet(|writer| {
        for (field_type, body) in clear {
            writer.put_field(*field_type, body, 0).unwrap();
        }
        authenticator::write(writer, &keys.c2s.expand(), &[4; 16], encrypted.iter().copied()).unwrap();
    })
}

fn cookie() -> Vec<u8> {
    ring().seal_cookie(&keys(AeadAlgorithm::AesSivCmac256), [9; 16]).as_bytes().to_vec()
}

fn outcome(octets: &[u8]) -> Result<usize, NtsRequestError> {
    NtsRequest::parse(octets)?.accept(&ring()).map(|(_, cookies)| cookies)
}

fn silence(reason: NtsSilence) -> Result<usize, NtsRequestError> {
    Err(NtsRequestError::Silence(reason))
}

#[test]
fn a_good_request_gets_one_cookie_and_one_for_each_placeholder_and_an_answer_no_longer_than_itself() {
    for algorithm in AeadAlgorithm::ALL {
        for (placeholders, wanted) in [(0, 1), (1, 2), (7, 8), (8, 8), (11, 8)] {
            let octets = good_request(algorithm, placeholders);
            let request = NtsRequest::parse(&octets).expect("well-formed");
            let (keys, cookies) = request.accept(&ring()).expect("ours");
            assert_eq!((cookies, request.unique_identifier), (wanted, &UNIQUE_IDENTIFIER[..]));
            let fresh: Vec<_> = (0..cookies).map(|_| ring().seal_cookie(&keys, [1; 16])).collect();
            let answer = packet(|writer| {
                write_nts_response(writer, request.unique_identifier, &keys.s2c, &nonce(algorithm), &fresh)
                    .unwrap();
            });
            assert!(answer.len() <= octets.len(), "{algorithm:?}: {} for {}", answer.len(), octets.len());
        }
    }
}

#[test]
fn an_answer_stays_within_a_request_whose_cookie_was_shorter_than_those_of_today() {
    let keys = keys(AeadAlgorithm::AesSivCmac256);
    let octets = packet(|writer| {
        write_nts_request(writer, &UNIQUE_IDENTIFIER, &[7; 96], 2, &keys.c2s, &[4; 16]).unwrap();
    });
    let request = NtsRequest::parse(&octets).expect("well-formed");
    assert_eq!((request.verify(&keys), request.cookies_that_fit(&ring(), keys.algorithm(), 3)), (Ok(3), 2));
}

#[test]
fn plain_packets_are_not_nts_whatever_other_fields_they_carry() {
    assert_eq!(NtsRequest::parse(&header()).err(), Some(NtsRequestError::NotNts));
    let octets = packet(|writer| writer.put_field(0x2f01, &[1; 24], 0).unwrap());
    assert_eq!(NtsRequest::parse(&octets).err(), Some(NtsRequestError::NotNts));
}

#[test]
fn unknown_fields_are_skipped_in_the_clear_and_encrypted() {
    let (unique, cookie) = ((0x0104, &UNIQUE_IDENTIFIER[..]), cookie());
    let octets = request_of(&[(0x2f01, &[0; 24]), unique, (0xff42, &[0; 12]), (0x0204, &cookie)], &[]);
    assert_eq!(outcome(&octets), Ok(1));
    let octets =
        request_of(&[(0x0204, &cookie), unique], &[(0x2f01, &[0; 12]), (0x0304, &vec![5; cookie.len()])]);
    assert_eq!(outcome(&octets), Ok(2), "an encrypted placeholder counts, and the order does not matter");
}

#[test]
fn unique_identifiers_of_12_to_512_octets_are_taken() {
    let cookie = cookie();
    for (octets, expected) in [
        (12, Ok(1)),
        (16, Ok(1)),
        (36, Ok(1)),
        (512, Ok(1)),
        (516, silence(NtsSilence::UniqueIdentifierLength)),
    ] {
        let request = request_of(&[(0x0104, &vec![1; octets]), (0x0204, &cookie)], &[]);
        assert_eq!(outcome(&request), expected, "{octets}");
    }
}

#[test]
fn missing_and_repeated_fields_get_silence() {
    let (unique, cookie) = (&UNIQUE_IDENTIFIER[..], &cookie()[..]);
    for (fields, reason) in [
        (&[(0x0204, cookie)][..], NtsSilence::NoUniqueIdentifier),
        (&[(0x0104, unique)], NtsSilence::NoCookie),
        (&[(0x0104, unique), (0x0304, cookie)], NtsSilence::NoCookie),
        (&[(0x0104, unique), (0x0104, unique), (0x0204, cookie)], NtsSilence::SecondUniqueIdentifier),
        (&[(0x0104, unique), (0x0204, cookie), (0x0204, cookie)], NtsSilence::SecondCookie),
        (&[(0x0104, unique), (0x0204, cookie), (0x0304, &[0; 12])], NtsSilence::PlaceholderLength),
        (&[(0x0104, unique), (0x0204, &[0; 516])], NtsSilence::CookieLength),
    ] {
        assert_eq!(outcome(&request_of(fields, &[])), silence(reason));
    }
    for fields in [&[(0x0104, unique)][..], &[(0x0204, cookie)], &[(0x0104, unique), (0x0204, cookie)]] {
        let octets = packet(|writer| {
            fields.iter().for_each(|(kind, body)| writer.put_field(*kind, body, 28).unwrap())
        });
        assert!(matches!(outcome(&octets), Err(NtsRequestError::Silence(_))), "never unauthenticated time");
    }
    let octets = request_of(&[(0x0104, unique), (0x0204, cookie)], &[(0x0304, &[0; 12])]);
    assert_eq!(outcome(&octets), silence(NtsSilence::PlaceholderLength));
}

#[test]
fn anything_behind_the_authenticator_gets_silence() {
    let good = good_request(AeadAlgorithm::AesSivCmac256, 0);
    let authenticator = good[good.len() - 40..].to_vec();
    let field = [&[0x2f, 1, 0, 28][..], &[0; 24]].concat();
    for trailer in [authenticator, field, vec![1; 20], vec![1; 24], vec![0; 4]] {
        assert_eq!(outcome(&[good.clone(), trailer].concat()), silence(NtsSilence::AfterAuthenticator));
    }
    for octets in 1..good.len() {
        assert!(matches!(
            outcome(&good[..octets]),
            Err(NtsRequestError::Silence(_) | NtsRequestError::NotNts)
        ));
    }
}

#[test]
fn every_flipped_bit_of_a_request_is_refused() {
    for algorithm in [AeadAlgorithm::AesSivCmac256, AeadAlgorithm::Aes128GcmSiv] {
        let good = good_request(algorithm, 1);
        for bit in 0..good.len() * 8 {
            let mut octets = good.clone();
            octets[bit / 8] ^= 1 << (bit % 8);
            let result = outcome(&octets);
            assert!(
                matches!(result, Err(NtsRequestError::Nak(_) | NtsRequestError::Silence(_))),
                "{bit}: {result:?}"
            );
        }
    }
}

#[test]
fn what_is_sealed_with_another_key_or_brings_a_cookie_that_is_not_ours_gets_a_nak() {
    let unique = (0x0104, &UNIQUE_IDENTIFIER[..]);
    for octets in [12, 100, 104, 108, 512] {
        let request = request_of(&[unique, (0x0204, &vec![3; octets])], &[]);
        assert!(matches!(outcome(&request), Err(NtsRequestError::Nak(NakReason::Cookie(_)))), "{octets}");
    }
    let other = keys(AeadAlgorithm::AesSivCmac256).s2c;
    let octets = packet(|writer| {
        write_nts_request(writer, &UNIQUE_IDENTIFIER, &cookie(), 0, &other, &[4; 16]).unwrap()
    });
    assert_eq!(outcome(&octets), Err(NtsRequestError::Nak(NakReason::Unauthentic)));
}

#[test]
fn impossible_lengths_in_the_authenticator_get_a_nak() {
    let good = good_request(AeadAlgorithm::AesSivCmac256, 0);
    let lengths = good.len() - 36;
    for (nonce, ciphertext, reason) in [
        (16, 0, NakReason::Unauthentic),
        (16, 15, NakReason::Unauthentic),
        (0, 16, NakReason::AuthenticatorLengths),
        (16, 17, NakReason::AuthenticatorLengths),
        (33, 16, NakReason::AuthenticatorLengths),
        (0xffff, 0xffff, NakReason::AuthenticatorLengths),
    ] {
        let mut octets = good.clone();
        octets[lengths..lengths + 2].copy_from_slice(&u16::to_be_bytes(nonce));
        octets[lengths + 2..lengths + 4].copy_from_slice(&u16::to_be_bytes(ciphertext));
        assert_eq!(outcome(&octets), Err(NtsRequestError::Nak(reason)), "{nonce} {ciphertext}");
    }
}

/// RFC 8915 §5.6: a nonce shorter than the server's leaves room for it in the additional padding.
#[test]
fn a_short_nonce_needs_padding() {
    let (keys, cookie) = (keys(AeadAlgorithm::AesSivCmac256), cookie());
    for (padding, expected) in [(0, Err(NtsRequestError::Nak(NakReason::AuthenticatorLengths))), (8, Ok(1))] {
        let octets = packet(|writer| {
            writer.put_field(0x0104, &UNIQUE_IDENTIFIER, 0).unwrap();
            writer.put_field(0x0204, &cookie, 0).unwrap();
            let mut tag = [0; 16];
            keys.c2s.seal(&[8; 8], writer.written(), &[], &mut tag).unwrap();
            let body = [&[0, 8, 0, 16][..], &[8; 8], &tag, &vec![0; padding]].concat();
            writer.put_field(0x0404, &body, 0).unwrap();
        });
        assert_eq!(outcome(&octets), expected, "{padding}");
    }
}

#[test]
fn other_modes_get_silence() {
    for mode in [0, 1, 2, 4, 5, 6, 7] {
        let mut octets = good_request(AeadAlgorithm::AesSivCmac256, 0);
        octets[0] = 4 << 3 | mode;
        assert_eq!(outcome(&octets), silence(NtsSilence::Mode), "{mode}");
    }
    for version in [0, 1, 2, 3, 5, 6, 7] {
        let mut octets = good_request(AeadAlgorithm::AesSivCmac256, 0);
        octets[0] = version << 3 | 3;
        assert!(
            matches!(outcome(&octets), Err(NtsRequestError::Silence(NtsSilence::Malformed(_)))),
            "{version}"
        );
    }
}

#[test]
fn an_encrypted_part_that_is_not_made_of_fields_gets_silence() {
    let (keys, cookie) = (keys(AeadAlgorithm::AesSivCmac256), cookie());
    for plaintext in [&[0xa5; 20][..], &[0x2f, 1, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 3]] {
        let octets = packet(|writer| {
            writer.put_field(0x0104, &UNIQUE_IDENTIFIER, 0).unwrap();
            writer.put_field(0x0204, &cookie, 0).unwrap();
            let mut sealed = vec![0; 16 + plaintext.len()];
            keys.c2s.seal(&[8; 16], writer.written(), plaintext, &mut sealed).unwrap();
            let length = u8::try_from(sealed.len()).unwrap();
            writer.put_field(0x0404, &[&[0, 16, 0, length][..], &[8; 16], &sealed].concat(), 0).unwrap();
        });
        assert_eq!(outcome(&octets), silence(NtsSilence::Plaintext));
    }
}

#[test]
fn a_nak_is_a_header_and_the_unique_identifier() {
    let octets = packet(|writer| write_nts_nak(writer, &UNIQUE_IDENTIFIER).unwrap());
    assert_eq!(octets.len(), HEADER_OCTETS + EXTENSION_FIELD_HEADER_OCTETS + 32);
}

proptest! {
    #[test]
    fn any_octets_are_judged_without_a_panic(
        trailer in prop::collection::vec(any::<u8>(), 0..400),
        spot in 48usize..300,
        splice in prop::collection::vec(any::<u8>(), 1..8),
    ) {
        let _ = outcome(&trailer);
        let _ = outcome(&[&header()[..], &trailer].concat());
        let mut octets = good_request(AeadAlgorithm::AesSivCmac256, 2);
        octets[spot..spot + splice.len()].copy_from_slice(&splice);
        prop_assert!(outcome(&octets).is_err() || octets == good_request(AeadAlgorithm::AesSivCmac256, 2));
    }
}
