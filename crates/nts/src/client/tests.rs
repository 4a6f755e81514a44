use super::*;
use crate::{AeadAlgorithm, write_nts_nak, write_nts_response};
use chime_wire::{HEADER_OCTETS, Header, LeapIndicator, ReferenceId};
use proptest::prelude::*;

const UNIQUE_IDENTIFIER: [u8; 32] = [0x1d; 32];

fn key() -> AeadKey {
    AeadKey::new(AeadAlgorithm::AesSivCmac256, &[2; 32]).expect("right length")
}

fn packet(header: Header, write: impl FnOnce(&mut FieldWriter<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; DATAGRAM_OCTETS_MAX];
    buffer[..HEADER_OCTETS].copy_from_slice(&header.encode());
    let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
    write(&mut writer);
    let octets = writer.len();
    buffer.truncate(octets);
    buffer
}

fn header(stratum: u8, code: &[u8; 4]) -> Header {
    let mut octets = [0; HEADER_OCTETS];
    octets[0] = 4 << 3 | 4;
    let mut header = Header::decode(&octets).expect("version 4");
    header.leap = LeapIndicator::NoWarning;
    header.stratum = stratum;
    header.reference_id = ReferenceId(*code);
    header
}

fn cookie(octet: u8) -> Cookie {
    Cookie::new(&[octet; 104]).expect("a good length")
}

fn good(cookies: &[Cookie]) -> Vec<u8> {
    packet(header(1, b"GPS\0"), |writer| {
        write_nts_response(writer, &UNIQUE_IDENTIFIER, &key(), &[6; 16], cookies).unwrap();
    })
}

fn verify(octets: &[u8]) -> Result<usize, NtsResponseError> {
    let mut cookies = ArrayVec::new();
    let result = verify_nts_response(octets, &UNIQUE_IDENTIFIER, &key(), &mut cookies);
    assert!(result.is_ok() || cookies.is_empty());
    result.map(|()| cookies.len())
}

#[test]
fn a_good_answer_is_believed_and_its_cookies_are_taken() {
    for count in [0, 1, 8] {
        let cookies: Vec<_> = (0..count).map(cookie).collect();
        assert_eq!(verify(&good(&cookies)), Ok(cookies.len()));
    }
    let twelve: Vec<_> = (0..12).map(cookie).collect();
    assert_eq!(verify(&good(&twelve)), Ok(COOKIES_MAX), "never more than there is room for");
}

#[test]
fn every_flipped_bit_of_an_answer_is_refused() {
    let good = good(&[cookie(1)]);
    for bit in 0..good.len() * 8 {
        let mut octets = good.clone();
        octets[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&octets).is_err(), "bit {bit}");
    }
    for octets in 0..good.len() {
        assert!(verify(&good[..octets]).is_err(), "{octets} octets");
    }
}

#[test]
fn each_fault_has_its_own_reason() {
    let sealed = |fields: &[(u16, &[u8])], inside: &[(u16, &[u8])]| {
        packet(header(1, b"GPS\0"), |writer| {
            for (field_type, body) in fields {
                writer.put_field(*field_type, body, 28).unwrap();
            }
            authenticator::write(writer, &key().expand(), &[6; 16], inside.iter().copied()).unwrap();
        })
    };
    let right = (0x0104, &UNIQUE_IDENTIFIER[..]);
    assert_eq!(verify(&sealed(&[], &[])), Err(NtsResponseError::NoUniqueIdentifier));
    assert_eq!(verify(&sealed(&[(0x0104, &[9; 32])], &[])), Err(NtsResponseError::UniqueIdentifierMismatch));
    assert_eq!(
        verify(&sealed(&[(0x0104, &[0x1d; 16])], &[])),
        Err(NtsResponseError::UniqueIdentifierMismatch)
    );
    assert_eq!(verify(&sealed(&[right, right], &[])), Ok(0), "the same twice says nothing else");
    assert_eq!(
        verify(&sealed(&[right, (0x0104, &[9; 32])], &[])),
        Err(NtsResponseError::UniqueIdentifierMismatch)
    );
    assert_eq!(verify(&sealed(&[(0x2f01, &[0; 24]), right], &[(0x2f02, &[0; 12])])), Ok(0));
    assert_eq!(
        verify(&sealed(&[right, (0x0204, &[1; 104])], &[])),
        Ok(0),
        "cookies in the clear are not taken"
    );
    let trailing = [good(&[]), [&[0x2f, 1, 0, 28][..], &[0; 24]].concat()].concat();
    assert_eq!(verify(&trailing), Err(NtsResponseError::AfterAuthenticator));
    assert_eq!(verify(&[good(&[]), vec![1; 20]].concat()), Err(NtsResponseError::AfterAuthenticator));
    assert_eq!(verify(&header(1, b"GPS\0").encode()), Err(NtsResponseError::NoUniqueIdentifier));
    let unauthenticated =
        packet(header(0, b"DENY"), |writer| writer.put_field(0x0104, &UNIQUE_IDENTIFIER, 0).unwrap());
    assert_eq!(verify(&unauthenticated), Err(NtsResponseError::NoAuthenticator));
    let mut mode = good(&[]);
    mode[0] = 4 << 3 | 2;
    assert_eq!(verify(&mode), Err(NtsResponseError::NotServerMode));
    let mut version = good(&[]);
    version[0] = 3 << 3 | 4;
    assert!(matches!(verify(&version), Err(NtsResponseError::Malformed(_))));
}

#[test]
fn an_answer_to_another_client_does_not_open() {
    let other = AeadKey::new(AeadAlgorithm::AesSivCmac256, &[3; 32]).expect("right length");
    let octets = packet(header(1, b"GPS\0"), |writer| {
        write_nts_response(writer, &UNIQUE_IDENTIFIER, &other, &[6; 16], &[]).unwrap();
    });
    assert_eq!(verify(&octets), Err(NtsResponseError::AuthenticatorFailed));
}

#[test]
fn a_nak_is_known_by_its_code_and_the_identifier() {
    let nak = |stratum, code, identifier: &[u8]| {
        packet(header(stratum, code), |writer| write_nts_nak(writer, identifier).unwrap())
    };
    assert!(is_nts_nak(&nak(0, b"NTSN", &UNIQUE_IDENTIFIER), &UNIQUE_IDENTIFIER));
    assert!(!is_nts_nak(&nak(1, b"NTSN", &UNIQUE_IDENTIFIER), &UNIQUE_IDENTIFIER));
    assert!(!is_nts_nak(&nak(0, b"DENY", &UNIQUE_IDENTIFIER), &UNIQUE_IDENTIFIER));
    assert!(!is_nts_nak(&nak(0, b"NTSN", &[9; 32]), &UNIQUE_IDENTIFIER));
    assert!(!is_nts_nak(&header(0, b"NTSN").encode(), &UNIQUE_IDENTIFIER));
    let authenticated = packet(header(0, b"NTSN"), |writer| {
        write_nts_response(writer, &UNIQUE_IDENTIFIER, &key(), &[6; 16], &[]).unwrap();
    });
    assert!(!is_nts_nak(&authenticated, &UNIQUE_IDENTIFIER), "a NAK has no authenticator");
}

#[test]
fn a_request_has_the_lengths_that_peers_send() {
    let mut buffer = [0; 1500];
    for (algorithm, nonce, octets) in
        [(AeadAlgorithm::AesSivCmac256, 16, 228), (AeadAlgorithm::Aes128GcmSiv, 12, 224)]
    {
        let key = AeadKey::new(algorithm, &vec![1; algorithm.key_octets()]).expect("right length");
        let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
        write_nts_request(&mut writer, &UNIQUE_IDENTIFIER, &[8; 100], 0, &key, &vec![2; nonce]).unwrap();
        assert_eq!(writer.len(), octets);
    }
    let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
    assert_eq!(
        write_nts_request(&mut writer, &UNIQUE_IDENTIFIER, &[8; 1000], 1, &key(), &[2; 16]),
        Err(DecodeError::BufferTooShort)
    );
}

proptest! {
    #[test]
    fn any_octets_are_refused(octets in prop::collection::vec(any::<u8>(), 0..400), at in 48usize..150, octet: u8) {
        prop_assert!(verify(&octets).is_err());
        prop_assert!(!is_nts_nak(&octets, &UNIQUE_IDENTIFIER));
        let mut spliced = good(&[cookie(2)]);
        let same = spliced[at] == octet;
        spliced[at] = octet;
        prop_assert_eq!(verify(&spliced).is_ok(), same);
    }
}
