//! Key establishment: what real clients sent is decided on by our server, what real servers sent is read by our client.

use crate::certificates;
use crate::checks::Checks;
use crate::ke_oracle::{self, Answer, Decision};
use crate::tls;
use crate::vector::{TlsOptions, Vector};
use crate::{answers, requests};
use chime_ke::client::read_response;
use chime_ke::server::{KeDecision, decide};
use chime_nts::AeadAlgorithm;
use chime_nts::record::{REQUEST_OCTETS_MAX, Records};

/// Kind `ke`: the recorder's requests to a real server.
pub(crate) fn check_server(vector: &Vector, checks: &mut Checks) {
    let request = vector.ke_request.as_deref().unwrap_or_default();
    let options = vector.client_options.clone().unwrap_or_default();
    check_decision(request, checks);
    check_session(request, &options, checks);
    check_recorded_response(vector, request, checks);
    let Some(Some(keys)) = vector.keys().map(|keys| checks.take(keys)) else { return };
    let Some(ntp_request) = vector.ntp_request.as_deref() else { return };
    requests::check_request(vector, ntp_request, &keys, checks);
    if let Some(response) = vector.ntp_response.as_deref() {
        answers::check_recorded(vector, ntp_request, response, &keys, checks);
    }
}

/// What our server decides about the records alone.
fn check_decision(request: &[u8], checks: &mut Checks) {
    let got = match decide(request, &AeadAlgorithm::OFFERED) {
        KeDecision::Accept(accepted) => {
            Decision::Accept { aead: accepted.aead.id(), echo: accepted.echo_compliant_export }
        }
        KeDecision::NoProtocol => Decision::NoProtocol,
        KeDecision::NoAead => Decision::NoAead,
        KeDecision::Error(code) => Decision::Error(code),
        KeDecision::Close(_) => Decision::Close,
    };
    checks.equal("our decision", &got, &ke_oracle::decide(request));
}

/// The same request within TLS, made as the recorder made it.
fn check_session(request: &[u8], options: &TlsOptions, checks: &mut Checks) {
    let Some(session) = checks.take(tls::ask_our_server(request, options)) else { return };
    let ntske_offered =
        options.alpn.as_ref().is_none_or(|offered| offered.iter().any(|protocol| protocol == "ntske/1"));
    if options.is_old() || !ntske_offered {
        checks.that(!session.established, || "a TLS session that should have failed".to_owned());
        return;
    }
    checks.that(session.established, || "no TLS session".to_owned());
    let read = |aead| read_response(&session.answer, &[aead]).map_err(|error| error.to_string());
    match ke_oracle::decide(request) {
        Decision::Accept { aead, .. } => {
            let Some(aead) = AeadAlgorithm::from_id(aead) else { return };
            let Some(response) = checks.take(read(aead)) else { return };
            checks.equal("cookies in our answer", &response.cookies.len(), &8);
            let keys = session.keys(aead);
            let lost = response
                .cookies
                .iter()
                .filter(|cookie| session.open(cookie).as_ref() != keys.as_ref())
                .count();
            checks.equal("cookies that do not carry the keys of the session", &lost, &0);
        }
        Decision::Close => checks.equal("octets of an answer", &session.answer.len(), &0),
        Decision::Error(code) => {
            let error = ke_oracle::read_answer(&session.answer, &[]);
            checks.equal("our answer", &error, &Answer::Refused(Some(code)));
        }
        Decision::NoProtocol => checks.equal("our answer", &session.records(), &vec![(1, 0), (0, 0)]),
        Decision::NoAead => checks.equal("our answer", &session.records(), &vec![(1, 2), (4, 0), (0, 0)]),
    }
}

/// A real server's answer, as our client reads it; what it offered is what the recorder did.
fn check_recorded_response(vector: &Vector, request: &[u8], checks: &mut Checks) {
    let response = vector.ke_response.as_deref().unwrap_or_default();
    if let Some(recorded) = &vector.ke_response_records {
        let read: Vec<_> = Records::new(response)
            .map_while(Result::ok)
            .map(|record| (record.record_type, record.critical, record.body.to_vec()))
            .collect();
        let recorded: Vec<_> = recorded
            .iter()
            .map(|record| (record.record_type, record.critical, record.body.0.clone()))
            .collect();
        checks.that(read == recorded, || "the records of the answer are read differently".to_owned());
    }
    let offered = ke_oracle::known_aeads(request);
    let answer = check_reading(response, &offered, checks);
    let verdict = vector.verdict();
    match &answer {
        Answer::Accepted { aead, cookies, server, port } => {
            let told = |what: &str, value: Option<String>| value.map(|value| format!(", {what} {value}"));
            for told in [told("server", server.clone()), told("port", port.map(|port| port.to_string()))] {
                checks.that(told.is_none_or(|told| verdict.contains(&told)), || format!("not in: {verdict}"));
            }
            checks.equal("a server", &server.is_some(), &verdict.contains(", server "));
            checks.equal("a port", &port.is_some(), &verdict.contains(", port "));
            checks.equal("AEAD", &Some(*aead), &vector.aead);
            checks.that(verdict.contains(&format!("aead {aead}, ")), || {
                format!("accepted, recorded: {verdict}")
            });
            let recorded: Vec<_> =
                vector.cookies.iter().flatten().take(8).map(|cookie| cookie.0.clone()).collect();
            checks.that(*cookies == recorded, || "other cookies than the recorder read".to_owned());
        }
        Answer::Refused(Some(code)) => checks.equal("verdict", &verdict, &format!("error [{code}]").as_str()),
        Answer::Refused(None) => {
            // NTPsec answers with 15 or 17 whatever was offered, which our client would not accept.
            let not_offered = vector.aead.is_some_and(|aead| !offered.contains(&aead));
            let nothing = verdict.starts_with("no ");
            checks.that(nothing || not_offered, || format!("refused, recorded: {verdict}"));
        }
    }
}

/// Our client's reading of an answer, compared with the oracle's.
fn check_reading(response: &[u8], offered: &[u16], checks: &mut Checks) -> Answer {
    let expected = ke_oracle::read_answer(response, offered);
    let aeads: Vec<_> = offered.iter().filter_map(|aead| AeadAlgorithm::from_id(*aead)).collect();
    let got = match read_response(response, &aeads) {
        Ok(read) => Answer::Accepted {
            aead: read.aead.id(),
            cookies: read.cookies.iter().map(|cookie| cookie.as_bytes().to_vec()).collect(),
            server: read.ntp_server,
            port: read.ntp_port,
        },
        Err(chime_ke::KeError::ServerError(code)) => Answer::Refused(Some(code)),
        Err(_) => Answer::Refused(None),
    };
    checks.equal("our reading of the answer", &got, &expected);
    got
}

/// A real client's key establishment with the recorder's server: our server must accept what it asks, and our client
/// must read what it was told. `refusal` is the kind of the error that the answer must give.
pub(crate) fn check_client_session(
    request: Option<&[u8]>,
    response: Option<&[u8]>,
    refusal: Option<&str>,
    checks: &mut Checks,
) {
    let Some(request) = request.filter(|request| !request.is_empty()) else { return };
    check_decision(request, checks);
    let accepted = matches!(ke_oracle::decide(request), Decision::Accept { .. });
    checks.that(accepted || request.len() > REQUEST_OCTETS_MAX, || {
        "a real client's request is refused".to_owned()
    });
    check_session(request, &TlsOptions::default(), checks);
    let response = response.unwrap_or_default();
    let offered = ke_oracle::known_aeads(request);
    check_reading(response, &offered, checks);
    let Some(refusal) = refusal else { return };
    let aeads: Vec<_> = offered.iter().filter_map(|aead| AeadAlgorithm::from_id(*aead)).collect();
    let kind = read_response(response, &aeads).err().map(|error| error.kind());
    checks.equal("the reason for refusing", &kind, &Some(refusal));
}

/// Kind `client-behaviour`: the course of a whole run, of which the key establishments are octets.
pub(crate) fn check_behaviour(vector: &Vector, checks: &mut Checks) {
    let Some(scenario) = checks.field("scenario", vector.scenario.as_deref()) else { return };
    let refusal = refusal(scenario);
    let sessions = vector.ke_sessions.as_deref().unwrap_or_default();
    for (index, session) in sessions.iter().enumerate() {
        // Later sessions of a run may be answered otherwise (`nak-then-ke-error`).
        let refusal = if index == 0 { refusal } else { None };
        check_client_session(session.request.as_deref(), session.response.as_deref(), refusal, checks);
        checks.that(
            session.end.is_some() || session.request.as_ref().is_none_or(|request| request.is_empty()),
            || "a session with a request and no end".to_owned(),
        );
    }
    if sessions.is_empty() {
        check_client_session(vector.ke_request.as_deref(), vector.ke_response.as_deref(), refusal, checks);
    }
    match scenario {
        "ke-refuse" | "ke-hang" => certificates::check_silence(checks),
        "ke-tls12" => certificates::check_old_tls(checks),
        "ke-no-alpn" => certificates::check_no_alpn(checks),
        _ => {}
    }
    if let Some(certificate) = scenario.strip_prefix("cert-") {
        certificates::check(certificate, checks);
    }
}

/// Why our client refuses the answers of the recorder's server, by the scenario; `None` where it accepts them, or where
/// the octets alone decide.
fn refusal(scenario: &str) -> Option<&'static str> {
    Some(match scenario {
        "ke-nothing" => "no_answer",
        "ke-error0" | "ke-error1" | "ke-error2" | "ke-error9" | "ke-error-with-all" => "server_error",
        "ke-warning" | "ke-warning-critical" => "server_warning",
        "ke-critical-unknown" => "unknown_critical_record",
        "ke-no-cookies" => "no_cookies",
        "ke-cookie-empty" | "cookie-len-101" | "cookie-len-8" => "unusable_cookies",
        "ke-server-bad" | "ke-server-empty" => "invalid_ntp_server",
        "ke-port-short" | "ke-aead-two" | "ke-proto-noncritical" | "ke-eom-noncritical" => "malformed_record",
        "ke-aead-unknown" | "ke-aead-not-offered" => "aead_not_offered",
        "ke-aead-empty" => "no_aead",
        "ke-aead-missing" | "ke-proto-missing" => "missing_record",
        "ke-dup-aead" => "duplicate_record",
        "ke-proto-unknown" => "protocol_not_offered",
        "ke-proto-empty" => "no_protocol",
        "ke-no-eom" | "ke-truncated" => "truncated",
        "ke-after-eom" => "data_after_end",
        _ => return None,
    })
}
