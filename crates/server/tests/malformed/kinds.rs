//! Datagrams on the NTP port that no client sends: each kind by name, and what becomes of it. Real chronyd and ntpd are
//! asked the same, by the interop tests.

/// What becomes of a kind of datagram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fate {
    /// No answer, for this reason.
    Silence(&'static str),
    /// An NTS NAK. RFC 8915 §5.7.
    Nak,
}
use Fate::{Nak, Silence};

const UNIQUE_IDENTIFIER: u16 = 0x0104;
const COOKIE: u16 = 0x0204;
const PLACEHOLDER: u16 = 0x0304;
const AUTHENTICATOR: u16 = 0x0404;

/// A request of a client with this first octet, in which only the transmit timestamp is set.
fn header(first: u8) -> Vec<u8> {
    let mut header = vec![0; 48];
    header[0] = first;
    header[40..].copy_from_slice(b"no ntp!!");
    header
}

/// A request of version 4 with octets behind its header.
fn followed_by(more: &[u8]) -> Vec<u8> {
    [&header(0x23)[..], more].concat()
}

/// An extension field; its body has a multiple of four octets.
fn field(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 4).unwrap_or(u16::MAX);
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
}

fn unique_identifier() -> Vec<u8> {
    field(UNIQUE_IDENTIFIER, &[0x5a; 32])
}

/// As long as a cookie, but nobody's.
fn cookie() -> Vec<u8> {
    field(COOKIE, &[0xc0; 100])
}

/// With lengths of the nonce and the ciphertext that are said and not said truly.
fn authenticator_with(nonce: u16, ciphertext: u16, body: &[u8]) -> Vec<u8> {
    field(AUTHENTICATOR, &[&nonce.to_be_bytes()[..], &ciphertext.to_be_bytes(), body].concat())
}

fn authenticator() -> Vec<u8> {
    authenticator_with(16, 16, &[0xaa; 32])
}

fn nts(fields: &[Vec<u8>]) -> Vec<u8> {
    followed_by(&fields.concat())
}

fn header_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    vec![
        ("nothing", Vec::new(), Silence("too_short")),
        ("one octet", vec![0x23], Silence("too_short")),
        ("a header cut at 47 octets", header(0x23)[..47].to_vec(), Silence("too_short")),
        ("version 0", header(0x03), Silence("version")),
        ("version 5", header(0x2b), Silence("version")),
        ("version 6", header(0x33), Silence("version")),
        ("version 7", header(0x3b), Silence("version")),
        ("mode 0", header(0x20), Silence("mode")),
        ("a symmetric passive packet", header(0x22), Silence("mode")),
        ("an answer of a server", header(0x24), Silence("mode")),
        ("a broadcast", header(0x25), Silence("mode")),
        ("a control message that is an answer", [&[0x26, 0x82][..], &[0; 10]].concat(), Silence("control")),
        ("a private message", [&[0x27, 0, 3, 42][..], &[0; 44]].concat(), Silence("private")),
        ("a request of monlist", [&[0x17, 0, 3, 42][..], &[0; 4]].concat(), Silence("private")),
    ]
}

fn trailer_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    vec![
        ("one octet too many", followed_by(&[0]), Silence("malformed")),
        ("three octets too many", followed_by(&[0; 3]), Silence("malformed")),
        ("a crypto-NAK", followed_by(&[0; 4]), Silence("unknown_key")),
        ("half a MAC", followed_by(&[0, 0, 0, 1, 9, 9, 9, 9]), Silence("malformed")),
        ("a MAC of a key that there is not", followed_by(&[9; 24]), Silence("unknown_key")),
        ("a wrong MAC", followed_by(&[&[0, 0, 0, 1][..], &[9; 16]].concat()), Silence("wrong_mac")),
        (
            "a field of no octets",
            followed_by(&[&[0x20, 5, 0, 0][..], &[0; 24]].concat()),
            Silence("malformed"),
        ),
        (
            "a field that is longer than the packet",
            followed_by(&[&[0x20, 5, 0, 200][..], &[0; 24]].concat()),
            Silence("malformed"),
        ),
        (
            "a field whose length is no multiple of four",
            followed_by(&[&[0x20, 5, 0, 27][..], &[0; 24]].concat()),
            Silence("malformed"),
        ),
        (
            "a field and a MAC of no key behind it",
            followed_by(&[field(0x2005, &[0; 24]), vec![9; 24]].concat()),
            Silence("unknown_key"),
        ),
    ]
}

fn nts_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let (id, cookie, seal) = (unique_identifier(), cookie(), authenticator());
    let malformed = Silence("nts_malformed");
    let all = |fields: &[&Vec<u8>]| nts(&fields.iter().map(|field| (*field).clone()).collect::<Vec<_>>());
    let mut symmetric = all(&[&id, &cookie, &seal]);
    symmetric[0] = 0x21;
    let long = |kind| field(kind, &[1; 600]);
    let mac = vec![0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    vec![
        ("a cookie of nobody", all(&[&id, &cookie, &seal]), Nak),
        ("a cookie of four octets", all(&[&id, &field(COOKIE, &[1; 4]), &seal]), Silence("malformed")),
        ("a unique identifier alone", all(&[&id]), malformed),
        ("a cookie alone", all(&[&cookie]), malformed),
        ("an authenticator alone", all(&[&seal]), malformed),
        ("no unique identifier", all(&[&cookie, &seal]), malformed),
        ("no cookie", all(&[&id, &seal]), malformed),
        ("no authenticator", all(&[&id, &cookie]), malformed),
        ("two unique identifiers", all(&[&id, &id, &cookie, &seal]), malformed),
        ("two cookies", all(&[&id, &cookie, &cookie, &seal]), malformed),
        ("two authenticators", all(&[&id, &cookie, &seal, &seal]), malformed),
        ("a unique identifier of 600 octets", all(&[&long(UNIQUE_IDENTIFIER), &cookie, &seal]), malformed),
        ("a cookie of 600 octets", all(&[&id, &long(COOKIE), &seal]), malformed),
        ("a placeholder longer than the cookie", all(&[&id, &cookie, &long(PLACEHOLDER), &seal]), malformed),
        (
            "a field behind the authenticator",
            all(&[&id, &cookie, &seal, &field(0x2005, &[0; 24])]),
            malformed,
        ),
        ("a MAC behind the authenticator", all(&[&id, &cookie, &seal, &mac]), malformed),
        ("NTS fields of a peer", symmetric, malformed),
        ("a nonce longer than its field", all(&[&id, &cookie, &authenticator_with(200, 16, &[0; 32])]), Nak),
        (
            "a ciphertext longer than its field",
            all(&[&id, &cookie, &authenticator_with(16, 999, &[0; 32])]),
            Nak,
        ),
        (
            "an authenticator without a nonce",
            all(&[&id, &cookie, &authenticator_with(0, 16, &[0; 16])]),
            malformed,
        ),
        ("NTS fields cut in the cookie", all(&[&id, &cookie])[..120].to_vec(), Silence("malformed")),
    ]
}

/// All kinds: name, datagram, and what becomes of it.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>, Fate)> {
    [header_kinds(), trailer_kinds(), nts_kinds()].concat()
}
