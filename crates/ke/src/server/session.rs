//! One session of a server: TLS octets in, TLS octets out, one request to answer in between.

use super::{CloseReason, KeAccepted, KeDecision, KeServerResult, ServerConfig};
use super::{decide, write_refusal, write_response};
use crate::tls::export_keys;
use chime_nts::record::{ALPN_PROTOCOL, MessageReader, REQUEST_OCTETS_MAX, error_code};
use chime_nts::{AeadAlgorithm, Cookie, NtsKeys};
use rustls::server::{AcceptedAlert, Acceptor};
use rustls::{Error as TlsError, ServerConnection};
use std::io::{Read, Write};
use std::sync::Arc;

/// An accepted request: what cookies are to be made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeRequestInfo {
    /// The chosen algorithm.
    pub aead: AeadAlgorithm,
    /// The keys of this client.
    pub keys: NtsKeys,
}

/// A key establishment as a server. RFC 8915 §4.
///
/// Feed it with [`read`](Self::read) what the client sends; when [`take_request`](Self::take_request) gives a request,
/// make cookies and [`respond`](Self::respond). Refusals it writes by itself. Send what [`write`](Self::write) gives,
/// and close when [`is_finished`](Self::is_finished).
pub struct ServerSession {
    tls: Tls,
    request: MessageReader,
    stage: Stage,
    aeads: Arc<[AeadAlgorithm]>,
}

enum Tls {
    /// Before the client's hello is complete.
    Hello { acceptor: Acceptor, config: ServerConfig },
    /// From the hello on.
    Connected { connection: ServerConnection, offers_alpn: bool },
    /// The hello was not acceptable: an alert is to be sent.
    Refused { alert: Vec<u8> },
}

enum Stage {
    /// What the client sends matters.
    Reading,
    /// A request was accepted and not yet taken.
    Accepted(KeAccepted, KeRequestInfo),
    /// It was taken, and is to be answered.
    Answering(KeAccepted),
    /// Everything has been said.
    Finished(KeServerResult),
}

impl ServerSession {
    /// Begins a session.
    #[must_use]
    pub fn new(config: &ServerConfig) -> Self {
        Self {
            tls: Tls::Hello { acceptor: Acceptor::default(), config: config.clone() },
            request: MessageReader::new(REQUEST_OCTETS_MAX),
            stage: Stage::Reading,
            aeads: Arc::new(AeadAlgorithm::OFFERED),
        }
    }

    /// Of the algorithms that are served by default only these: AEADs 15 and 30.
    #[must_use]
    pub fn serving(self, aeads: Arc<[AeadAlgorithm]>) -> Self {
        Self { aeads, ..self }
    }

    /// Takes octets that came over TCP, any number of them.
    pub fn read(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() && self.is_reading() {
            match &mut self.tls {
                Tls::Hello { acceptor, .. } => match acceptor.read_tls(&mut octets) {
                    Ok(_) => self.take_hello(),
                    Err(_) => self.end(KeServerResult::TlsFailed),
                },
                Tls::Connected { connection, .. } => match connection.read_tls(&mut octets) {
                    Ok(_) => self.take_packets(),
                    Err(_) => self.end(KeServerResult::TlsFailed),
                },
                Tls::Refused { .. } => return,
            }
        }
    }

    /// Takes the end of what the client sends: a request that is not complete now never will be.
    pub fn read_eof(&mut self) {
        if !self.is_reading() {
            return;
        }
        match &self.tls {
            Tls::Connected { connection, .. } if !connection.is_handshaking() => self.decide(),
            _ => self.end(KeServerResult::Disconnected),
        }
    }

    /// Takes the accepted request, once; [`Self::respond`] or [`Self::refuse`] is due then.
    pub fn take_request(&mut self) -> Option<KeRequestInfo> {
        let Stage::Accepted(accepted, _) = self.stage else { return None };
        match core::mem::replace(&mut self.stage, Stage::Answering(accepted)) {
            Stage::Accepted(_, info) => Some(info),
            _ => None,
        }
    }

    /// Answers the request that was taken. `None` for server and port: this host, port 123.
    pub fn respond(&mut self, cookies: &[Cookie], ntp_server: Option<&str>, ntp_port: Option<u16>) {
        if let Stage::Answering(accepted) = self.stage {
            self.send(&write_response(accepted, cookies, ntp_server, ntp_port), KeServerResult::Accepted);
        }
    }

    /// Answers the request that was taken with error 2: no cookies can be made. RFC 8915 §4.1.3.
    pub fn refuse(&mut self) {
        if let Stage::Answering(_) = self.stage {
            let answer = write_refusal(KeDecision::Error(error_code::INTERNAL_SERVER_ERROR));
            self.send(&answer.unwrap_or_default(), KeServerResult::InternalError);
        }
    }

    /// Appends the octets that are to be sent over TCP.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        match &mut self.tls {
            Tls::Hello { .. } => {}
            Tls::Refused { alert } => out.append(alert),
            Tls::Connected { connection, .. } => {
                // A Vec takes everything, so that writing to it cannot fail.
                while connection.wants_write() && connection.write_tls(out).is_ok() {}
            }
        }
    }

    /// Whether [`Self::write`] has something to send.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        match &self.tls {
            Tls::Hello { .. } => false,
            Tls::Refused { alert } => !alert.is_empty(),
            Tls::Connected { connection, .. } => connection.wants_write(),
        }
    }

    /// Whether everything has been said: close the connection once [`Self::wants_write`] is false.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Finished(_))
    }

    /// How the session ended, once it has.
    #[must_use]
    pub const fn result(&self) -> Option<KeServerResult> {
        match self.stage {
            Stage::Finished(result) => Some(result),
            _ => None,
        }
    }

    /// The cipher suite, such as `TLS13_AES_128_GCM_SHA256`, once the handshake is over.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<String> {
        let Tls::Connected { connection, .. } = &self.tls else { return None };
        let suite = connection.negotiated_cipher_suite().filter(|_| !connection.is_handshaking());
        suite.map(|suite| format!("{:?}", suite.suite()))
    }

    const fn is_reading(&self) -> bool {
        matches!(self.stage, Stage::Reading)
    }

    /// Goes from the client's hello to the connection, when the hello is complete.
    fn take_hello(&mut self) {
        let Tls::Hello { acceptor, config } = &mut self.tls else { return };
        let accepted = match acceptor.accept() {
            Ok(None) => return,
            Ok(Some(accepted)) => accepted,
            Err((error, alert)) => return self.refuse_hello(KeServerResult::of(&error), alert),
        };
        let offers_alpn =
            accepted.client_hello().alpn().is_some_and(|mut offered| offered.any(|id| id == ALPN_PROTOCOL));
        match accepted.into_connection(config.tls.clone()) {
            Ok(connection) => self.tls = Tls::Connected { connection, offers_alpn },
            Err((error, alert)) => self.refuse_hello(handshake_result(&error, offers_alpn), alert),
        }
    }

    fn refuse_hello(&mut self, result: KeServerResult, mut alert: AcceptedAlert) {
        let mut octets = Vec::new();
        let _ = alert.write_all(&mut octets); // a Vec takes everything
        self.tls = Tls::Refused { alert: octets };
        self.end(result);
    }

    /// Takes what has come over the connection.
    fn take_packets(&mut self) {
        let Tls::Connected { connection, offers_alpn } = &mut self.tls else { return };
        let offers_alpn = *offers_alpn;
        let processed = connection.process_new_packets();
        self.take_request_octets();
        match processed {
            Ok(state) if state.peer_has_closed() => self.read_eof(),
            Err(error) if self.is_reading() => self.end(handshake_result(&error, offers_alpn)),
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes what TLS has decrypted.
    fn take_request_octets(&mut self) {
        let mut piece = [0; 4096];
        loop {
            let Tls::Connected { connection, .. } = &mut self.tls else { return };
            // An error means that there is nothing now, or nothing any more; `take_packets` sees to the latter.
            let Ok(octets @ 1..) = connection.reader().read(&mut piece) else { break };
            if self.request.push(&piece[..octets]).is_err() {
                return self.apply(KeDecision::Close(CloseReason::TooLong));
            }
        }
        // Not before everything at hand was read, so that octets behind the end are seen.
        if self.request.is_complete() {
            self.decide();
        }
    }

    fn decide(&mut self) {
        self.apply(decide(self.request.octets(), &self.aeads));
    }

    fn apply(&mut self, decision: KeDecision) {
        let result = match decision {
            KeDecision::Accept(accepted) => return self.accept(accepted),
            KeDecision::NoProtocol => KeServerResult::NoProtocol,
            KeDecision::NoAead => KeServerResult::NoAead,
            KeDecision::Error(error_code::UNRECOGNIZED_CRITICAL_RECORD) => {
                KeServerResult::UnknownCriticalRecord
            }
            KeDecision::Error(_) => KeServerResult::BadRequest,
            KeDecision::Close(CloseReason::Empty) => KeServerResult::Disconnected,
            KeDecision::Close(_) => KeServerResult::Malformed,
        };
        self.send(&write_refusal(decision).unwrap_or_default(), result);
    }

    fn accept(&mut self, accepted: KeAccepted) {
        let Tls::Connected { connection, .. } = &self.tls else { return };
        if let Ok(keys) = export_keys(connection, accepted.aead, accepted.aead.id()) {
            self.stage = Stage::Accepted(accepted, KeRequestInfo { aead: accepted.aead, keys });
        } else {
            self.stage = Stage::Answering(accepted);
            self.refuse();
        }
    }

    /// Sends an answer, possibly an empty one, and ends the session.
    fn send(&mut self, answer: &[u8], result: KeServerResult) {
        let Tls::Connected { connection, .. } = &mut self.tls else { return };
        let written = connection.writer().write_all(answer);
        self.end(if written.is_ok() { result } else { KeServerResult::TlsFailed });
    }

    fn end(&mut self, result: KeServerResult) {
        if let Tls::Connected { connection, .. } = &mut self.tls {
            connection.send_close_notify();
        }
        self.stage = Stage::Finished(result);
    }
}

impl core::fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ServerSession").field("result", &self.result()).finish_non_exhaustive()
    }
}

/// What a failed handshake means: without `ntske/1` it fails by our own decision.
const fn handshake_result(error: &TlsError, offers_alpn: bool) -> KeServerResult {
    match KeServerResult::of(error) {
        KeServerResult::OldTls => KeServerResult::OldTls,
        _ if !offers_alpn => KeServerResult::NoAlpn,
        result => result,
    }
}
