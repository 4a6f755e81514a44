//! Targets for `chime-nts`.

use arrayvec::ArrayVec;
use chime_nts::record::{MessageReader, Records};
use chime_nts::{
    AeadAlgorithm, AeadKey, COOKIES_MAX, CookieKey, KeyRing, NtsKeys, NtsRequest, NtsRequestError,
    PREDECESSOR_KEYS_MAX, PredecessorFormat, PredecessorKeys, is_nts_nak, verify_nts_response,
    write_nts_response,
};
use chime_time::NtpDate;
use chime_wire::{DATAGRAM_OCTETS_MAX, FieldWriter, HEADER_OCTETS, field_type};
use sha2::{Digest, Sha256};

const UNIQUE_IDENTIFIER: [u8; 32] = [0x1d; 32];

/// A ring with a key that is the same in every run.
pub(crate) fn ring() -> KeyRing {
    KeyRing::new(CookieKey::new(0x0102_0304, [0x5a; 32], NtpDate::from_unix(1_800_000_000, 0)))
}

/// Keys that are the same in every run.
pub(crate) fn keys(algorithm: AeadAlgorithm) -> NtsKeys {
    let key =
        |octet| AeadKey::new(algorithm, &vec![octet; algorithm.key_octets()]).expect("the right length");
    NtsKeys { c2s: key(1), s2c: key(2) }
}

fn algorithm(choice: u8) -> AeadAlgorithm {
    AeadAlgorithm::ALL[usize::from(choice) % AeadAlgorithm::ALL.len()]
}

/// Records, at once and in pieces: both readings find the same message.
pub fn ke_records(octets: &[u8]) {
    let (piece, octets) = crate::first(octets);
    for record in Records::new(octets).flatten() {
        let _ = (record.number(), record.numbers().map(Iterator::count));
    }
    let mut reader = MessageReader::new(4096);
    for chunk in octets.chunks(usize::from(piece).max(1)) {
        if reader.push(chunk).is_err() {
            return;
        }
    }
    assert!(octets.starts_with(reader.octets()) || reader.octets().starts_with(octets));
}

/// A datagram, as a server reads it.
pub fn nts_request(octets: &[u8]) {
    if let Ok(request) = NtsRequest::parse(octets) {
        assert!(request.accept(&ring()).is_err() || octets.len() > 200);
        let _ = request.verify(&keys(AeadAlgorithm::AesSivCmac256));
        let _ = request.verify(&keys(AeadAlgorithm::Aes128GcmSiv));
    }
}

/// A request whose clear and encrypted fields are any octets, with a good cookie and a good authenticator: what is
/// accepted can be answered with no more octets than it has.
pub fn nts_request_sealed(octets: &[u8]) {
    let (choice, octets) = crate::first(octets);
    let (clear_octets, octets) = crate::first(octets);
    let octets = &octets[..octets.len().min(2048)];
    let (clear, text) = octets.split_at(octets.len().min(usize::from(clear_octets) * 4));
    let keys = keys(algorithm(choice));
    let mut packet = vec![0; HEADER_OCTETS];
    packet[0] = 4 << 3 | 3;
    push_field(&mut packet, field_type::UNIQUE_IDENTIFIER, &UNIQUE_IDENTIFIER);
    push_field(&mut packet, field_type::NTS_COOKIE, ring().seal_cookie(&keys, [3; 16]).as_bytes());
    packet.extend_from_slice(clear);
    seal(&mut packet, &keys.c2s, text);
    let Ok((opened, cookies)) = NtsRequest::parse(&packet).and_then(|request| request.accept(&ring())) else {
        return;
    };
    assert_eq!(opened, keys);
    assert!(cookies <= COOKIES_MAX);
    let mut buffer = vec![0; packet.len()];
    let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
    let fresh: Vec<_> = (0..cookies).map(|_| ring().seal_cookie(&keys, [4; 16])).collect();
    let nonce = vec![5; keys.algorithm().nonce_octets()];
    write_nts_response(&mut writer, &UNIQUE_IDENTIFIER, &keys.s2c, &nonce, &fresh)
        .expect("no longer than the request");
}

/// A datagram, as a client reads it: nothing opens with a key that nobody has.
pub fn nts_response(octets: &[u8]) {
    let mut cookies = ArrayVec::new();
    let key = keys(AeadAlgorithm::AesSivCmac256).s2c;
    let result = verify_nts_response(octets, &UNIQUE_IDENTIFIER, &key, &mut cookies);
    assert!(result.is_ok() || cookies.is_empty());
    if is_nts_nak(octets, &UNIQUE_IDENTIFIER) {
        assert!(result.is_err());
    }
}

/// An answer whose encrypted fields are any octets: believed only if they are fields.
pub fn nts_response_sealed(octets: &[u8]) {
    let (choice, text) = crate::first(octets);
    let keys = keys(algorithm(choice));
    let mut packet = vec![0; HEADER_OCTETS];
    packet[0] = 4 << 3 | 4;
    push_field(&mut packet, field_type::UNIQUE_IDENTIFIER, &UNIQUE_IDENTIFIER);
    seal(&mut packet, &keys.s2c, &text[..text.len().min(3000)]);
    let mut cookies = ArrayVec::new();
    if verify_nts_response(&packet, &UNIQUE_IDENTIFIER, &keys.s2c, &mut cookies).is_err() {
        assert!(cookies.is_empty());
    }
}

/// A cookie from a stranger.
pub fn cookie(octets: &[u8]) {
    let _ = ring().open_cookie(octets);
    // The same octets as a cookie's sealed part, behind a key number that is known.
    let known = [&0x0102_0304_u32.to_be_bytes()[..], octets].concat();
    assert!(ring().open_cookie(&known).is_err(), "sealed by nobody");
}

/// A key ring file, as it is and with its checksum put right.
pub fn key_ring(octets: &[u8]) {
    let _ = KeyRing::decode(octets);
    let (keys, entries) = crate::first(octets);
    let mut file = b"chime key ring\n\0\0\x01\0".to_vec();
    file.push(keys);
    file.extend_from_slice(entries);
    let checksum = Sha256::digest(&file);
    file.extend_from_slice(&checksum);
    if let Ok(ring) = KeyRing::decode(&file) {
        assert_eq!(ring.encode()[..], file);
    }
}

fn push_field(packet: &mut Vec<u8>, kind: u16, body: &[u8]) {
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&u16::try_from(body.len() + 4).expect("short").to_be_bytes());
    packet.extend_from_slice(body);
}

/// Appends an authenticator that opens to `text`.
fn seal(packet: &mut Vec<u8>, key: &AeadKey, text: &[u8]) {
    let nonce = vec![6; key.algorithm().nonce_octets()];
    let mut sealed = vec![0; text.len() + 16];
    key.seal(&nonce, packet, text, &mut sealed).expect("the nonce has the right length");
    let length = |octets: usize| u16::try_from(octets).expect("short").to_be_bytes();
    let mut body = [&length(nonce.len())[..], &length(sealed.len()), &nonce, &sealed].concat();
    body.resize(body.len().next_multiple_of(4), 0);
    assert!(packet.len() + body.len() < DATAGRAM_OCTETS_MAX);
    push_field(packet, field_type::NTS_AUTHENTICATOR, &body);
}

/// What a request with NTS fields may come to.
pub(crate) fn is_plain(octets: &[u8]) -> bool {
    matches!(NtsRequest::parse(octets), Err(NtsRequestError::NotNts))
}

/// A file of another program's cookie keys, and a cookie: no octets are taken for a cookie that nobody made.
pub fn predecessor_keys(octets: &[u8]) {
    let (choice, octets) = crate::first(octets);
    let (cut, octets) = crate::first(octets);
    let format = [PredecessorFormat::Chrony, PredecessorFormat::Ntpsec, PredecessorFormat::NtpdRs];
    let (cookie, file) = octets.split_at(octets.len().min(usize::from(cut)));
    let written = NtpDate::from_unix(1_795_200_000, 0);
    let Ok(theirs) = PredecessorKeys::decode(format[usize::from(choice) % 3], file, written) else { return };
    assert!((1..=PREDECESSOR_KEYS_MAX).contains(&theirs.len()));
    let _ = theirs.open_cookie(cookie);
    let client = keys(algorithm(cut));
    let made = theirs.seal_cookie(&client, &[7; 16]);
    assert_eq!(made.as_bytes().len(), theirs.cookie_octets(client.algorithm()));
    let random = &mut |room: &mut [u8]| room.fill(3);
    if let Some(rotated) = theirs.rotated(random, written) {
        let text = rotated.encode_for_chrony(written).expect("only chronyd's are rotated");
        let read = PredecessorKeys::decode(PredecessorFormat::Chrony, text.as_bytes(), written);
        assert_eq!(read.map(|keys| keys.len()), Ok(rotated.len()));
    }
}
