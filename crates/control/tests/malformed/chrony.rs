//! Datagrams on chrony's command port that no chronyc sends: each kind by name, and what becomes of it. Real chronyd
//! is asked the same, by the interop tests.

use chime_control::Handling;

/// What chronyd does about a kind of datagram, and so do we.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fate {
    /// No reply, and not counted as a request.
    Ignored,
    /// A reply with this status, and nothing else.
    Refused(u8),
}
use Fate::{Ignored, Refused};

impl Fate {
    /// As what it is counted.
    pub(crate) const fn handling(self) -> Handling {
        match self {
            Self::Ignored => Handling::Malformed,
            // That is what was asked.
            Self::Refused(ACCESS_DENIED) => Handling::Answered,
            Self::Refused(_) => Handling::Refused,
        }
    }
}

const NO_SUCH_SOURCE: u8 = 4;
const INVALID: u8 = 3;
const BAD_SUBNET: u8 = 7;
const ACCESS_DENIED: u8 = 9;
const BAD_SAMPLE: u8 = 16;
const BAD_VERSION: u8 = 18;
const BAD_LENGTH: u8 = 19;
const INVALID_NAME: u8 = 21;

/// A request of `octets` with this payload and zeros behind it.
fn request(command: u16, payload: &[u8], octets: usize) -> Vec<u8> {
    let mut request = vec![6, 1, 0, 0];
    request.extend(command.to_be_bytes());
    request.extend([0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    request.extend(payload);
    request.resize(octets, 0);
    request
}

/// The report `tracking` as it should be asked for, with one octet changed.
fn with(at: usize, octet: u8) -> Vec<u8> {
    let mut request = request(33, &[], 104);
    request[at] = octet;
    request
}

/// An address of this family with 20 octets, and what follows it.
fn address(family: u8, more: &[u8]) -> Vec<u8> {
    let mut octets = vec![192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, family, 0, 0];
    octets.extend(more);
    octets
}

/// `add` of this kind of source, with this name.
fn addition(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 0, 0, kind];
    payload.extend(name);
    request(64, &payload, 372)
}

fn header_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    vec![
        ("nothing", Vec::new(), Ignored),
        ("one octet", vec![6], Ignored),
        ("a header cut at 20 octets", request(33, &[], 20), Ignored),
        ("a header cut at 27 octets", request(33, &[], 27), Ignored),
        ("one octet too many", request(33, &[], 861), Ignored),
        ("a whole jumbogram", request(33, &[], 65_535), Ignored),
        ("packet type 0", with(1, 0), Ignored),
        ("a reply", with(1, 2), Ignored),
        ("packet type 3", with(1, 3), Ignored),
        ("packet type 255", with(1, 255), Ignored),
        ("first reserved octet set", with(2, 1), Ignored),
        ("second reserved octet set", with(3, 128), Ignored),
        ("version 0", with(0, 0), Ignored),
        ("version 1", with(0, 1), Ignored),
        ("version 4", with(0, 4), Ignored),
        ("version 5", with(0, 5), Refused(BAD_VERSION)),
        ("version 7", with(0, 7), Refused(BAD_VERSION)),
        ("version 255", with(0, 255), Refused(BAD_VERSION)),
        ("an NTP request", [&[0x23][..], &[0; 47]].concat(), Ignored),
        ("a question of ntpq", [&[0x16, 2][..], &[0; 26]].concat(), Ignored),
        ("text", b"tracking please, and all of your sources\n".to_vec(), Ignored),
    ]
}

fn command_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    vec![
        ("command 0", request(0, &[], 104), Refused(INVALID)),
        ("a command that was dropped", request(10, &[], 104), Refused(INVALID)),
        ("a command from the future", request(75, &[], 104), Refused(INVALID)),
        ("command 65535", request(u16::MAX, &[], 104), Refused(INVALID)),
        ("tracking without room for its reply", request(33, &[], 103), Refused(BAD_LENGTH)),
        ("sourcestats without room for its reply", request(34, &[], 83), Refused(BAD_LENGTH)),
        ("clients without room for any", request(68, &[], 519), Refused(BAD_LENGTH)),
        ("online without its mask", request(1, &[], 28), Refused(BAD_LENGTH)),
        ("add without its options", request(64, &[], 371), Refused(BAD_LENGTH)),
    ]
}

fn payload_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    vec![
        ("a source behind the last", request(15, &[255; 4], 76), Refused(NO_SUCH_SOURCE)),
        ("a source without an address", request(57, &address(0, &[]), 172), Refused(NO_SUCH_SOURCE)),
        ("a source of an unknown family", request(57, &address(9, &[]), 172), Refused(NO_SUCH_SOURCE)),
        ("a name for nobody", request(65, &address(1, &[]), 284), Refused(NO_SUCH_SOURCE)),
        ("a limit for nobody", request(4, &address(1, &[0, 0, 0, 6]), 44), Refused(NO_SUCH_SOURCE)),
        ("delete without an address", request(29, &address(0, &[]), 40), Refused(NO_SUCH_SOURCE)),
        ("an IPv4 network of 33 bits", request(17, &address(1, &[0, 0, 0, 33]), 44), Refused(BAD_SUBNET)),
        ("an IPv6 network of 129 bits", request(17, &address(2, &[0, 0, 0, 129]), 44), Refused(BAD_SUBNET)),
        ("a negative prefix", request(17, &address(1, &[255; 4]), 44), Refused(BAD_SUBNET)),
        ("an access check without an address", request(25, &address(0, &[]), 40), Refused(ACCESS_DENIED)),
        ("a source of no kind", addition(0, b"a.example"), Refused(INVALID)),
        ("a source of an unknown kind", addition(200, b"a.example"), Refused(INVALID)),
        ("a source without a name", addition(1, b""), Refused(INVALID_NAME)),
        ("a name without an end", addition(1, &[b'a'; 256]), Refused(INVALID_NAME)),
        ("manual with an unknown option", request(13, &[0, 0, 0, 9], 28), Refused(INVALID)),
        ("a typed time that there is not", request(42, &[255; 4], 28), Refused(BAD_SAMPLE)),
    ]
}

/// All kinds: name, datagram, and what becomes of it.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>, Fate)> {
    [header_kinds(), command_kinds(), payload_kinds()].concat()
}
