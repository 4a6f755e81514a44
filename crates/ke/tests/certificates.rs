//! Which certificates a client accepts, and how it names what is wrong with the others. RFC 8915 §3.

mod common;

use chime_ke::client::ClientRequest;
use chime_ke::server::{CertificateProblem, CertifiedChain};
use chime_ke::{CertificateInfo, ClientTrust, KeError, KeOutcome, PublicKeyPin, ServerConfig, TrustAnchors};
use common::{NOW, certificates, client, client_with, establish, ignoring_dates, server_config, trusting};
use rustls_pki_types::PrivateKeyDer;
use std::sync::Arc;

/// What a client that trusts the test CA says to a server with the given certificate.
fn judged(certificate: &str) -> Result<KeOutcome, KeError> {
    establish(client("nts.test"), &server_config(&[certificate]))
}

fn info(name: &str) -> CertificateInfo {
    CertificateInfo::read(&certificates(name)[0]).expect("readable")
}

#[test]
fn a_certificate_for_the_name_or_the_address_is_accepted() {
    let config = server_config(&["server"]);
    for name in ["nts.test", "NTS.test", "nts.test.", "127.0.0.1"] {
        let outcome = establish(client(name), &config).expect("good");
        assert_eq!(outcome.certificate_not_before, info("server").not_before);
        assert_eq!(outcome.certificate_not_after, info("server").not_after);
        assert_eq!(outcome.certificate_chain, certificates("server"));
    }
    let addresses = server_config(&["ip-san"]);
    for address in ["127.0.0.1", "::1", "[::1]"] {
        establish(client(address), &addresses).expect("good");
    }
}

#[test]
fn other_keys_and_chains_are_accepted() {
    judged("ed25519").expect("Ed25519");
    judged("rsa2048-by-ec-ca").expect("RSA");
    let through_intermediate = client_with(trusting(&["rsa-ca"]), &ClientRequest::new("nts.test"), NOW);
    establish(through_intermediate, &server_config(&["rsa-server-fullchain"]))
        .expect("with the intermediate");
}

#[test]
fn a_wrong_name_is_refused_with_both_names() {
    let Err(KeError::WrongHostName { expected, presented }) = judged("wrong-host") else {
        panic!("accepted")
    };
    assert_eq!((expected.as_str(), presented), ("nts.test", vec!["other.test".to_owned()]));
    assert!(matches!(judged("ip-san"), Err(KeError::WrongHostName { .. })), "addresses only");
    let other = establish(client("127.0.0.2"), &server_config(&["server"]));
    assert!(matches!(other, Err(KeError::WrongHostName { .. })), "another address");
    assert!(matches!(judged("wildcard"), Err(KeError::WrongHostName { .. })), "*.test is for a whole domain");
}

/// A certificate made for the test, trusted as it is.
fn self_made(name: &str, is_authority: bool) -> (ClientTrust, ServerConfig) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    if is_authority {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let certificate = params.self_signed(&key).expect("signed").der().clone();
    let (anchors, _) = TrustAnchors::from_certificates([certificate.clone()]);
    let trust = ClientTrust { extra_roots: Arc::new(anchors), ..ClientTrust::default() };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let chain = CertifiedChain { certificates: vec![certificate], key };
    (trust, ServerConfig::new(&common::provider(), vec![chain]).expect("usable"))
}

#[test]
fn a_wildcard_covers_exactly_one_label() {
    let (trust, config) = self_made("*.example.test", false);
    let asked =
        |name| establish(client_with(trust.clone(), &ClientRequest::new(name), NOW), &config).map(drop);
    assert_eq!(asked("nts.example.test"), Ok(()));
    for name in ["example.test", "a.nts.example.test", "nts.other.test"] {
        assert!(matches!(asked(name), Err(KeError::WrongHostName { .. })), "{name}");
    }
}

#[test]
fn a_self_signed_authority_may_be_the_server_itself() {
    let (trust, config) = self_made("nts.test", true);
    establish(client_with(trust, &ClientRequest::new("nts.test"), NOW), &config)
        .expect("as `openssl req -x509` makes them");
}

#[test]
fn a_common_name_does_not_count() {
    let expected = KeError::NoSubjectAlternativeName { expected: "nts.test".to_owned() };
    assert_eq!(judged("cn-only"), Err(expected));
}

#[test]
fn dates_are_judged_at_the_time_given() {
    assert_eq!(judged("expired"), Err(KeError::Expired { at: info("expired").not_after }));
    assert_eq!(judged("not-yet-valid"), Err(KeError::NotYetValid { at: info("not-yet-valid").not_before }));
    let at = |now| {
        let session = client_with(trusting(&["ca"]), &ClientRequest::new("nts.test"), now);
        establish(session, &server_config(&["server"])).map(drop)
    };
    let (first, last) = (info("server").not_before, info("server").not_after);
    assert_eq!(at(first), Ok(()));
    assert_eq!(at(first - 1), Err(KeError::NotYetValid { at: first }));
    assert_eq!(at(last), Ok(()));
    assert_eq!(at(last + 1), Err(KeError::Expired { at: last }));
    assert_eq!(at(0), Err(KeError::NotYetValid { at: first }), "a clock that starts in 1970");
    assert_eq!(at(i64::MIN), Err(KeError::NotYetValid { at: first }));
}

#[test]
fn ignored_dates_come_back_to_be_judged_later() {
    for name in ["expired", "not-yet-valid", "server"] {
        let session = client_with(trusting(&["ca"]), &ignoring_dates("nts.test"), 0);
        let outcome = establish(session, &server_config(&[name])).expect("dates do not matter now");
        assert_eq!(outcome.certificate_not_before, info(name).not_before);
        assert_eq!(outcome.certificate_not_after, info(name).not_after);
        assert_eq!(outcome.check_certificate_dates(NOW).is_ok(), name == "server");
    }
    let chain = client_with(trusting(&["rsa-ca"]), &ignoring_dates("nts.test"), 0);
    establish(chain, &server_config(&["rsa-server-fullchain"]))
        .expect("a chain has an instant of common validity");
}

#[test]
fn ignored_dates_excuse_nothing_else() {
    let refusal = |name| {
        let session = client_with(trusting(&["ca"]), &ignoring_dates("nts.test"), 0);
        establish(session, &server_config(&[name])).expect_err("refused").kind()
    };
    assert_eq!(refusal("wrong-host"), "wrong_host_name");
    assert_eq!(refusal("untrusted"), "unknown_issuer");
    assert_eq!(refusal("self-signed"), "self_signed");
    assert_eq!(refusal("client-eku"), "wrong_purpose");
}

#[test]
fn unknown_issuers_and_self_signed_certificates_are_told_apart() {
    let Err(KeError::UnknownIssuer { issuer }) = judged("untrusted") else { panic!("accepted") };
    assert!(issuer.contains("other root CA"), "{issuer}");
    assert_eq!(judged("self-signed"), Err(KeError::SelfSigned));
    let other = client_with(trusting(&["other-ca"]), &ClientRequest::new("nts.test"), NOW);
    assert_eq!(
        establish(other, &server_config(&["ca"])),
        Err(KeError::SelfSigned),
        "an unknown authority's own"
    );
    let lone = client_with(trusting(&["rsa-ca"]), &ClientRequest::new("nts.test"), NOW);
    let lone = establish(lone, &server_config(&["rsa-server"]));
    assert!(matches!(lone, Err(KeError::UnknownIssuer { .. })), "the intermediate is missing");
}

#[test]
fn an_authority_of_the_same_name_with_another_key_is_another_one() {
    let (old_trust, _) = self_made("nts.test", true);
    let (_, new_config) = self_made("nts.test", true);
    let session = client_with(old_trust, &ClientRequest::new("nts.test"), NOW);
    assert_eq!(establish(session, &new_config), Err(KeError::SelfSigned));
}

#[test]
fn certificates_for_clients_are_refused() {
    assert_eq!(judged("client-eku"), Err(KeError::WrongPurpose));
}

#[test]
fn system_authorities_count_beside_those_of_the_source() {
    let trust = ClientTrust { system_roots: Some(common::anchors(&["ca"])), ..trusting(&["other-ca"]) };
    let session = || client_with(trust.clone(), &ClientRequest::new("nts.test"), NOW);
    establish(session(), &server_config(&["server"])).expect("by the system's");
    establish(session(), &server_config(&["untrusted"])).expect("by the source's");
    let expired = establish(session(), &server_config(&["expired"]));
    assert!(matches!(expired, Err(KeError::Expired { .. })));
}

#[test]
fn a_self_signed_certificate_can_be_trusted_as_it_is() {
    let known = client_with(trusting(&["self-signed"]), &ClientRequest::new("nts.test"), NOW);
    establish(known, &server_config(&["self-signed"])).expect("among the authorities");
    let other_name = client_with(trusting(&["self-signed"]), &ClientRequest::new("a.test"), NOW);
    let refused = establish(other_name, &server_config(&["self-signed"]));
    assert!(matches!(refused, Err(KeError::WrongHostName { .. })), "its name counts");
}

#[test]
fn pins_stand_for_issuer_and_name_but_not_for_dates() {
    let by_key = |name| ClientTrust {
        pinned_keys: vec![PublicKeyPin([0; 32]), PublicKeyPin(info(name).public_key_sha256)],
        ..ClientTrust::default()
    };
    let by_certificate =
        |name| ClientTrust { pinned_certificates: certificates(name), ..ClientTrust::default() };
    for pin in [by_key, by_certificate] {
        for name in ["self-signed", "untrusted", "cn-only", "wrong-host"] {
            let session = client_with(pin(name), &ClientRequest::new("nts.test"), NOW);
            establish(session, &server_config(&[name])).expect("pinned");
        }
        let session = client_with(pin("expired"), &ClientRequest::new("nts.test"), NOW);
        assert!(matches!(establish(session, &server_config(&["expired"])), Err(KeError::Expired { .. })));
    }
}

#[test]
fn a_server_without_the_pinned_key_is_refused_even_with_a_good_certificate() {
    let trust = ClientTrust { pinned_keys: vec![PublicKeyPin([7; 32])], ..trusting(&["ca"]) };
    let session = client_with(trust, &ClientRequest::new("nts.test"), NOW);
    let public_key_sha256 = info("server").public_key_hex();
    assert_eq!(
        establish(session, &server_config(&["server"])),
        Err(KeError::PinMismatch { public_key_sha256 })
    );
}

#[test]
fn without_anything_to_trust_no_session_begins() {
    let config = chime_ke::ClientConfig::new(&common::provider(), ClientTrust::default());
    let session = chime_ke::ClientSession::new(&config, &ClientRequest::new("nts.test"), NOW);
    assert_eq!(session.err(), Some(KeError::NoTrustAnchors));
}

#[test]
fn the_server_refuses_chains_and_keys_that_do_not_fit() {
    let make = |chains| chime_ke::ServerConfig::new(&common::provider(), chains).err();
    assert_eq!(make(Vec::new()), Some(CertificateProblem::None));
    let mixed = CertifiedChain { certificates: certificates("server"), key: common::chain("expired").key };
    assert_eq!(make(vec![mixed]), Some(CertificateProblem::KeyMismatch));
    let empty = CertifiedChain { certificates: Vec::new(), key: common::chain("server").key };
    assert_eq!(make(vec![empty]), Some(CertificateProblem::EmptyChain));
}
