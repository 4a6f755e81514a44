//! Messages recorded with real daemons, read by our client and judged by our server.

use chime_ke::client::read_response;
use chime_ke::server::{KeAccepted, KeDecision, decide};
use chime_nts::AeadAlgorithm;

fn octets(hex: &str) -> Vec<u8> {
    let hex = hex.trim_start_matches('-');
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// The three columns of each line that is not a comment.
fn lines(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut columns = line.split(' ');
        let mut next = || columns.next().expect("three columns");
        (next(), next(), octets(next()))
    })
}

fn name(decision: KeDecision) -> String {
    match decision {
        KeDecision::Accept(KeAccepted { aead, echo_compliant_export: true }) => {
            format!("accept-{}-compliant", aead.id())
        }
        KeDecision::Accept(KeAccepted { aead, .. }) => format!("accept-{}", aead.id()),
        KeDecision::NoProtocol => "no-protocol".to_owned(),
        KeDecision::NoAead => "no-aead".to_owned(),
        KeDecision::Error(code) => format!("error-{code}"),
        KeDecision::Close(_) => "close".to_owned(),
    }
}

#[test]
fn recorded_requests_are_decided_as_documented() {
    let mut count = 0;
    for (case, expected, request) in lines(include_str!("../testdata/ke_requests.txt")) {
        assert_eq!(name(decide(&request, &AeadAlgorithm::OFFERED)), expected, "{case}");
        count += 1;
    }
    assert!(count > 50);
}

#[test]
fn recorded_answers_are_read_as_they_were_meant() {
    for (case, expected, answer) in lines(include_str!("../testdata/ke_responses.txt")) {
        let read = read_response(&answer, &AeadAlgorithm::OFFERED);
        let outcome = match &read {
            Ok(response) => {
                assert_eq!(response.cookies.len(), 8, "{case}");
                let negotiated = response.ntp_server.iter().map(|server| format!("-{server}"));
                let negotiated = negotiated.chain(response.ntp_port.map(|port| format!("-{port}")));
                format!("ok-{}{}", response.aead.id(), negotiated.collect::<String>())
            }
            Err(error) => error.kind().to_owned(),
        };
        assert_eq!(outcome, expected, "{case}");
        let everything = read_response(&answer, &AeadAlgorithm::ALL);
        assert_eq!(
            everything.is_ok(),
            expected.starts_with("ok") || expected == "aead_not_offered",
            "{case}"
        );
        for length in 0..answer.len() {
            let cut = read_response(&answer[..length], &AeadAlgorithm::OFFERED);
            assert!(cut.is_err(), "{case} cut at {length}");
        }
    }
}
