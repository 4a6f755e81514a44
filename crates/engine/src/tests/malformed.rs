//! Datagrams that no server sends in answer to us: each kind by name is counted as what it is and does nothing else. The
//! good answer behind it is taken as if nothing had come before.

use super::world::{
    Answer, Asked, Changes, World, answer, at, config, good_header, identifier, kiss, nts_answer,
    plain_answer,
};
use crate::{Authentication, DiscardReason, SourceConfig};
use DiscardReason::{
    AuthenticatorFailed, CryptoNak, MacFailed, Malformed, NoAuthenticator, NoMac, NoUniqueIdentifier,
    NtsMalformed, OriginMismatch, UnauthenticatedKiss, UniqueIdentifierMismatch, WrongMode, WrongSender,
    WrongVersion,
};
use chime_wire::mac::{MacAlgorithm, SymmetricKey};
use chime_wire::{FieldWriter, HEADER_OCTETS};
use std::sync::Arc;

/// By what a source is authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proof {
    Nothing,
    Key,
    Nts,
}
use Proof::{Key, Nothing, Nts};

/// What a server does to its good answer.
type Spoil = fn(&Asked<'_>, Answer) -> Answer;

/// Name, the sources that it is sent to, what it is, and what it is counted as.
type Kind = (&'static str, &'static [Proof], Spoil, DiscardReason);

const ALL: &[Proof] = &[Nothing, Key, Nts];

/// A good answer with other octets.
fn with(mut good: Answer, change: impl FnOnce(&mut Vec<u8>)) -> Answer {
    change(&mut good.octets);
    good
}

/// A good answer with another first octet: leap indicator, version and mode.
fn first(good: Answer, octet: u8) -> Answer {
    with(good, |octets| octets[0] = octet)
}

/// Where in a good NTS answer the second extension field begins: the authenticator, after header and unique identifier.
const AUTHENTICATOR_AT: usize = HEADER_OCTETS + 36;

const KINDS: &[Kind] = &[
    ("nothing", ALL, |_, good| with(good, |it| it.clear()), Malformed),
    ("one octet", ALL, |_, good| with(good, |it| it.truncate(1)), Malformed),
    ("half a header", ALL, |_, good| with(good, |it| it.truncate(24)), Malformed),
    ("a header without its last octet", ALL, |_, good| with(good, |it| it.truncate(47)), Malformed),
    ("version 0", ALL, |_, good| first(good, 0x04), Malformed),
    ("version 1", ALL, |_, good| first(good, 0x0c), WrongVersion),
    ("version 2", ALL, |_, good| first(good, 0x14), WrongVersion),
    ("version 3", ALL, |_, good| first(good, 0x1c), WrongVersion),
    ("version 5", ALL, |_, good| first(good, 0x2c), Malformed),
    ("version 7", ALL, |_, good| first(good, 0x3c), Malformed),
    ("the reserved mode", ALL, |_, good| first(good, 0x20), WrongMode),
    ("a symmetric active mode", ALL, |_, good| first(good, 0x21), WrongMode),
    ("a symmetric passive mode", ALL, |_, good| first(good, 0x22), WrongMode),
    ("the mode of a client", ALL, |_, good| first(good, 0x23), WrongMode),
    ("the mode of broadcasts", ALL, |_, good| first(good, 0x25), WrongMode),
    ("the mode of ntpq", ALL, |_, good| first(good, 0x26), WrongMode),
    ("the private mode", ALL, |_, good| first(good, 0x27), WrongMode),
    ("our own request", ALL, |asked, _| answer(asked, asked.octets.to_vec()), WrongMode),
    ("no origin", ALL, |_, good| with(good, |it| it[24..32].fill(0)), OriginMismatch),
    ("an origin with one bit wrong", ALL, |_, good| with(good, |it| it[31] ^= 1), OriginMismatch),
    (
        "the server's own time for an origin",
        ALL,
        |_, good| with(good, |it| it.copy_within(40..48, 24)),
        OriginMismatch,
    ),
    ("all ones", ALL, |_, good| with(good, |it| it[1..48].fill(0xff)), OriginMismatch),
    (
        "another port",
        ALL,
        |asked, good| Answer { from: at(&format!("{}:124", asked.address.ip())), ..good },
        WrongSender,
    ),
    ("another address", ALL, |_, good| Answer { from: at("192.0.2.2:123"), ..good }, WrongSender),
    ("another family", ALL, |_, good| Answer { from: at("[2001:db8::1]:123"), ..good }, WrongSender),
    ("no MAC", &[Key], |_, good| with(good, |it| it.truncate(HEADER_OCTETS)), NoMac),
    ("a MAC of another key", &[Key], |asked, _| keyed_answer(asked, 1), NoMac),
    ("a MAC under another number", &[Key], |_, good| with(good, |it| it[51] = 1), NoMac),
    ("a MAC with one bit wrong", &[Key], |_, good| with(good, |it| it[60] ^= 1), MacFailed),
    ("a MAC of zeros", &[Key], |_, good| with(good, |it| it[52..].fill(0)), MacFailed),
    ("a MAC of another header", &[Key], |_, good| with(good, |it| it[1] ^= 2), MacFailed),
    ("a MAC that is cut", &[Key], |_, good| with(good, |it| it.truncate(70)), Malformed),
    ("half a MAC", &[Key], |_, good| with(good, |it| it.truncate(60)), Malformed),
    ("a MAC that is too long", &[Key], |_, good| with(good, |it| it.extend([0; 61])), Malformed),
    (
        "a crypto-NAK",
        &[Key],
        |_, good| {
            with(good, |it| {
                it.truncate(52);
                it[48..].fill(0);
            })
        },
        CryptoNak,
    ),
    ("a kiss without a MAC", &[Key], |asked, _| kiss(asked, b"DENY", None), NoMac),
    ("an answer without NTS", &[Nts], |asked, _| plain_answer(asked, |_| ()), NoUniqueIdentifier),
    ("DENY without NTS", &[Nts], |asked, _| kiss(asked, b"DENY", None), UnauthenticatedKiss),
    ("RATE without NTS", &[Nts], |asked, _| kiss(asked, b"RATE", None), UnauthenticatedKiss),
    (
        "RSTR without an authenticator",
        &[Nts],
        |asked, _| kiss(asked, b"RSTR", Some(&identifier(asked))),
        UnauthenticatedKiss,
    ),
    ("NTSN without a unique identifier", &[Nts], |asked, _| kiss(asked, b"NTSN", None), UnauthenticatedKiss),
    (
        "NTSN to another request",
        &[Nts],
        |asked, _| kiss(asked, b"NTSN", Some(&[7; 32])),
        UniqueIdentifierMismatch,
    ),
    (
        "a unique identifier alone",
        &[Nts],
        |_, good| with(good, |it| it.truncate(AUTHENTICATOR_AT)),
        NoAuthenticator,
    ),
    (
        "an authenticator alone",
        &[Nts],
        |_, good| {
            with(good, |it| {
                it.drain(HEADER_OCTETS..AUTHENTICATOR_AT);
            })
        },
        NoUniqueIdentifier,
    ),
    (
        "a unique identifier with one bit wrong",
        &[Nts],
        |_, good| with(good, |it| it[60] ^= 1),
        UniqueIdentifierMismatch,
    ),
    (
        "a short unique identifier",
        &[Nts],
        |asked, _| {
            sealed(
                asked,
                Changes { unique_identifier: Some(identifier(asked)[..28].to_vec()), ..Changes::default() },
            )
        },
        UniqueIdentifierMismatch,
    ),
    (
        "a header changed after it was sealed",
        &[Nts],
        |_, good| with(good, |it| it[1] ^= 2),
        AuthenticatorFailed,
    ),
    (
        "a seal with one bit wrong",
        &[Nts],
        |_, good| with(good, |it| *it.last_mut().expect("octets") ^= 1),
        AuthenticatorFailed,
    ),
    (
        "a nonce with one bit wrong",
        &[Nts],
        |_, good| with(good, |it| it[AUTHENTICATOR_AT + 8] ^= 1),
        AuthenticatorFailed,
    ),
    (
        "sealed with the key of requests",
        &[Nts],
        |asked, _| sealed(asked, Changes { key: Some(&|keys| keys.c2s.clone()), ..Changes::default() }),
        AuthenticatorFailed,
    ),
    ("a field of length 0", &[Nts], |_, good| with(good, |it| it[50..52].fill(0)), Malformed),
    (
        "a field of length 2",
        &[Nts],
        |_, good| with(good, |it| it[50..52].copy_from_slice(&[0, 2])),
        Malformed,
    ),
    ("a field that ends between words", &[Nts], |_, good| with(good, |it| it[51] = 37), Malformed),
    ("a field beyond the end", &[Nts], |_, good| with(good, |it| it[50..52].fill(0xff)), Malformed),
    (
        "a field that is cut",
        &[Nts],
        |_, good| {
            with(good, |it| {
                it.pop();
            })
        },
        Malformed,
    ),
    (
        "a nonce beyond its field",
        &[Nts],
        |_, good| with(good, |it| it[AUTHENTICATOR_AT + 4..][..2].fill(0xff)),
        AuthenticatorFailed,
    ),
    (
        "a ciphertext beyond its field",
        &[Nts],
        |_, good| with(good, |it| it[AUTHENTICATOR_AT + 6..][..2].fill(0xff)),
        AuthenticatorFailed,
    ),
    (
        "no nonce",
        &[Nts],
        |_, good| with(good, |it| it[AUTHENTICATOR_AT + 4..][..2].fill(0)),
        AuthenticatorFailed,
    ),
    (
        "no ciphertext",
        &[Nts],
        |_, good| with(good, |it| it[AUTHENTICATOR_AT + 6..][..2].fill(0)),
        AuthenticatorFailed,
    ),
    (
        "a field behind the authenticator",
        &[Nts],
        |_, good| with(good, |it| it.extend([0x20, 0, 0, 28].into_iter().chain([0; 24]))),
        NtsMalformed,
    ),
];

const KEY_NUMBER: u32 = 2;

fn key(number: u32) -> SymmetricKey {
    let fill = number.to_be_bytes()[3];
    SymmetricKey::new(number, MacAlgorithm::Sha1, &[fill; 20]).expect("a key")
}

fn keyed_answer(asked: &Asked<'_>, number: u32) -> Answer {
    let mut buffer = [0; 128];
    buffer[..HEADER_OCTETS].copy_from_slice(&good_header(asked).encode());
    let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
    key(number).append_mac(&mut writer, 4).expect("there is room");
    answer(asked, writer.written().to_vec())
}

fn sealed(asked: &Asked<'_>, changes: Changes<'_>) -> Answer {
    nts_answer(asked, &changes)
}

fn good(asked: &Asked<'_>, proof: Proof) -> Answer {
    match proof {
        Nothing => plain_answer(asked, |_| ()),
        Key => keyed_answer(asked, KEY_NUMBER),
        Nts => nts_answer(asked, &Changes::default()),
    }
}

/// A world with one source, which sends each of its answers `behind` a spoilt one, if that is asked for.
fn world(proof: Proof, spoil: Option<Spoil>) -> World {
    let behaviour = move |asked: &Asked<'_>| {
        let real = good(asked, proof);
        let bad = spoil.map(|spoil| spoil(asked, good(asked, proof)));
        bad.into_iter().chain([Answer { after: 0.001, ..real }]).collect()
    };
    if proof == Nts {
        let mut world = World::with_nts_server();
        world.server("192.0.2.1:123", behaviour);
        return world;
    }
    let authentication = if proof == Key { Authentication::Key(KEY_NUMBER) } else { Authentication::None };
    let mut settings = config(vec![SourceConfig { authentication, ..SourceConfig::server("192.0.2.1") }]);
    settings.keys = Arc::new(vec![key(1), key(KEY_NUMBER)]);
    let mut world = World::with_config(settings, 0.0);
    world.server("192.0.2.1:123", behaviour);
    world
}

/// Everything that malformed datagrams must leave as it is; the clock to the microsecond, as the world itself rounds more
/// often when more happens.
fn trace(world: &World) -> String {
    let requests: Vec<f64> = world.sent.iter().map(|(at, ..)| *at).collect();
    let source = world.source();
    let seen = (source.reach, source.state, source.poll, world.samples(), world.commands.len());
    format!("{seen:?} {:.6} {requests:?}", world.clock_error.as_secs_f64())
}

#[test]
fn malformed_answers_are_counted_and_change_nothing() {
    const SECONDS: f64 = 60.0;
    assert!(KINDS.len() >= 37, "{}", KINDS.len());
    let mut complaints = Vec::new();
    for proof in ALL {
        let mut undisturbed = world(*proof, None);
        undisturbed.run_for(SECONDS);
        assert!(undisturbed.samples() > 5 && undisturbed.source().discards.is_empty());
        for (name, _, spoil, reason) in KINDS.iter().filter(|(_, proofs, ..)| proofs.contains(proof)) {
            let mut disturbed = world(*proof, Some(*spoil));
            disturbed.run_for(SECONDS);
            let counted: Vec<_> =
                disturbed.source().discards.iter().map(|one| (one.reason, one.count)).collect();
            let expected = [(*reason, disturbed.sent.len() as u64)];
            if counted != expected || trace(&disturbed) != trace(&undisturbed) {
                let (is, was) = (trace(&disturbed), trace(&undisturbed));
                complaints.push(format!(
                    "{name}, {proof:?}: {counted:?}, not {expected:?}; {is}, and without {was}"
                ));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// An answer that was good once: to the request before.
#[test]
fn answers_to_the_request_before_are_counted_and_change_nothing() {
    for proof in ALL.iter().copied() {
        let mut undisturbed = world(proof, None);
        undisturbed.run_for(60.0);
        let mut replayed = world(proof, None);
        let mut before: Option<Answer> = None;
        replayed.server("192.0.2.1:123", move |asked| {
            let real = Answer { after: 0.001, ..good(asked, proof) };
            let old = before.replace(Answer { after: 0.0, ..real.clone() });
            old.into_iter().chain([real]).collect()
        });
        replayed.run_for(60.0);
        assert_eq!(replayed.discarded(OriginMismatch), replayed.sent.len() - 1, "{proof:?}");
        assert_eq!(trace(&replayed), trace(&undisturbed), "{proof:?}");
    }
}
