//! One session of a client: TLS octets in, TLS octets out, an outcome at the end.

use super::{ClientConfig, ClientRequest, KeOutcome, KeResponse, read_response};
use crate::certificate::CertificateInfo;
use crate::tls::{GivenTime, export_keys};
use crate::trace::{KeStage, KeTrace, RecordTrace};
use crate::verifier::{Verdict, Verifier};
use crate::{KeError, ValidityPeriod};
use chime_nts::AeadAlgorithm;
use chime_nts::record::{ALPN_PROTOCOL, MessageReader, RESPONSE_OCTETS_MAX};
use rustls::client::Resumption;
use rustls::{AlertDescription, ClientConnection, Error as TlsError, InvalidMessage, PeerIncompatible};
use rustls_pki_types::ServerName;
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

/// A key establishment as a client. RFC 8915 §4.
///
/// Feed it with [`read`](Self::read) what the server sends and send what [`write`](Self::write) gives, also after an
/// outcome: there may be an alert or a close_notify to send.
#[derive(Debug)]
pub struct ClientSession {
    connection: ClientConnection,
    verdict: Arc<OnceLock<Verdict>>,
    offered: Vec<AeadAlgorithm>,
    request: Vec<u8>,
    stage: KeStage,
    answer: MessageReader,
    any_octets: bool,
    outcome: Option<Result<KeOutcome, KeError>>,
    finished: bool,
}

impl ClientSession {
    /// Begins a session; `unix_seconds_now` is the time at which certificates are judged.
    ///
    /// # Errors
    /// When the server's name cannot be one, or nothing is trusted.
    pub fn new(
        config: &ClientConfig,
        request: &ClientRequest,
        unix_seconds_now: i64,
    ) -> Result<Self, KeError> {
        let name = request.tls_name()?;
        if config.trust.is_empty() {
            return Err(KeError::NoTrustAnchors);
        }
        let verdict = Arc::new(OnceLock::new());
        let connection = connect(config, request, name, unix_seconds_now, &verdict)
            .map_err(|error| KeError::Tls(error.to_string()))?;
        Ok(Self {
            connection,
            verdict,
            offered: request.aeads.clone(),
            request: request.message(),
            stage: KeStage::Handshake,
            answer: MessageReader::new(RESPONSE_OCTETS_MAX),
            any_octets: false,
            outcome: None,
            finished: false,
        })
    }

    /// Takes octets that came over TCP, any number of them.
    pub fn read(&mut self, mut octets: &[u8]) {
        self.any_octets |= !octets.is_empty();
        while !octets.is_empty() && !self.finished {
            if let Err(error) = self.connection.read_tls(&mut octets) {
                return self.finish(Err(KeError::Tls(error.to_string())));
            }
            let processed = self.connection.process_new_packets();
            self.advance();
            match processed {
                Err(error) => return self.finish(Err(self.refusal(&error))),
                Ok(state) if state.peer_has_closed() => return self.end_of_answer(),
                Ok(_) => {}
            }
        }
    }

    /// Takes the end of the TCP stream.
    pub fn read_eof(&mut self) {
        if self.stage == KeStage::Handshake && !self.finished {
            let how = if self.any_octets { "" } else { ", before anything came" };
            self.finish(Err(KeError::ConnectionLost(how.to_owned())));
        }
        self.end_of_answer();
    }

    /// Takes the failure of the TCP connection, in the operating system's words.
    pub fn connection_failed(&mut self, reason: &str) {
        if self.stage == KeStage::Handshake && !self.finished {
            self.finish(Err(KeError::ConnectionLost(format!(": {reason}"))));
        }
        self.end_of_answer();
    }

    /// Appends the octets that are to be sent over TCP.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            if self.connection.write_tls(out).is_err() {
                return; // a Vec takes everything
            }
        }
    }

    /// Whether [`Self::write`] has something to send.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether there was an outcome, taken or not.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// How far the session has come.
    #[must_use]
    pub const fn stage(&self) -> KeStage {
        self.stage
    }

    /// Takes the outcome, once there is one.
    pub fn outcome(&mut self) -> Option<Result<KeOutcome, KeError>> {
        self.outcome.take()
    }

    /// What the session has seen so far.
    #[must_use]
    pub fn trace(&self) -> KeTrace {
        let name = |name: &dyn core::fmt::Debug| format!("{name:?}");
        let version = self.connection.protocol_version().map(|version| name(&version));
        let chain = self.verdict.get().map(|verdict| verdict.chain.as_slice()).unwrap_or_default();
        KeTrace {
            stage: self.stage,
            tls_version: version.map(|version| version.replace("TLSv1_", "TLS 1.")),
            cipher_suite: self.connection.negotiated_cipher_suite().map(|suite| name(&suite.suite())),
            key_exchange_group: self
                .connection
                .negotiated_key_exchange_group()
                .map(|group| name(&group.name())),
            alpn: self.connection.alpn_protocol().map(|protocol| protocol.escape_ascii().to_string()),
            certificates: chain.iter().filter_map(|der| CertificateInfo::read(der).ok()).collect(),
            request: RecordTrace::list(if self.stage == KeStage::Handshake { &[] } else { &self.request }),
            response: RecordTrace::list(self.answer.octets()),
        }
    }

    /// Goes on as far as what has come allows.
    fn advance(&mut self) {
        if self.stage == KeStage::Handshake && !self.connection.is_handshaking() {
            if self.connection.alpn_protocol() != Some(ALPN_PROTOCOL) {
                return self.finish(Err(KeError::NoAlpn));
            }
            self.stage = KeStage::Answer;
            if let Err(error) = self.connection.writer().write_all(&self.request) {
                return self.finish(Err(KeError::Tls(error.to_string())));
            }
        }
        let mut piece = [0; 4096];
        while !self.finished {
            // An error means that there is nothing now, or nothing any more: `read` and `read_eof` see to that.
            let Ok(octets @ 1..) = self.connection.reader().read(&mut piece) else { return };
            match self.answer.push(&piece[..octets]) {
                Ok(true) => self.end_of_answer(),
                Ok(false) => {}
                Err(_) => self.finish(Err(KeError::TooLong)),
            }
        }
    }

    /// Nothing more will come, or needs to.
    fn end_of_answer(&mut self) {
        if self.finished {
            return;
        }
        let outcome =
            read_response(self.answer.octets(), &self.offered).and_then(|answer| self.succeed(answer));
        self.finish(outcome);
    }

    fn succeed(&self, answer: KeResponse) -> Result<KeOutcome, KeError> {
        let verdict = self.verdict.get().ok_or_else(|| KeError::Tls("no certificate was sent".to_owned()))?;
        let ValidityPeriod { not_before, not_after } = verdict.judgement.clone()?;
        let keys = export_keys(&self.connection, answer.aead, answer.aead.id())?;
        let undecided = answer.aead == AeadAlgorithm::Aes128GcmSiv && !answer.compliant_export;
        let other_way = || export_keys(&self.connection, answer.aead, AeadAlgorithm::AesSivCmac256.id());
        Ok(KeOutcome {
            keys,
            alternative_keys: undecided.then(other_way).transpose()?,
            cookies: answer.cookies,
            ntp_server: answer.ntp_server,
            ntp_port: answer.ntp_port,
            certificate_not_before: not_before,
            certificate_not_after: not_after,
            certificate_chain: verdict.chain.clone(),
            warnings: answer.warnings,
        })
    }

    fn finish(&mut self, outcome: Result<KeOutcome, KeError>) {
        if outcome.is_ok() {
            self.stage = KeStage::Done;
        }
        self.connection.send_close_notify();
        self.outcome = Some(outcome);
        self.finished = true;
    }

    /// Rustls' error in our words; the verifier's own words go first.
    fn refusal(&self, error: &TlsError) -> KeError {
        if let Some(Verdict { judgement: Err(error), .. }) = self.verdict.get() {
            return error.clone();
        }
        match error {
            TlsError::AlertReceived(AlertDescription::ProtocolVersion)
            | TlsError::PeerIncompatible(
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            ) => KeError::Tls12Only,
            TlsError::AlertReceived(AlertDescription::NoApplicationProtocol)
            | TlsError::NoApplicationProtocol => KeError::NoAlpn,
            TlsError::AlertReceived(alert) => KeError::TlsAlert(format!("{alert:?}")),
            TlsError::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) if self.stage == KeStage::Handshake && self.connection.protocol_version().is_none() => {
                KeError::NotTls
            }
            other => KeError::Tls(other.to_string()),
        }
    }
}

/// Makes the TLS connection: TLS 1.3 only, one application protocol, nothing kept for later sessions.
fn connect(
    config: &ClientConfig,
    request: &ClientRequest,
    name: ServerName<'static>,
    unix_seconds_now: i64,
    verdict: &Arc<OnceLock<Verdict>>,
) -> Result<ClientConnection, TlsError> {
    let verifier = Verifier::new(config.trust.clone(), request.dates, &config.provider, verdict.clone());
    let time = GivenTime::new(unix_seconds_now);
    let mut tls = rustls::ClientConfig::builder_with_details(config.provider.clone(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous() // the verifier is ours, built on webpki
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
    tls.resumption = Resumption::disabled();
    ClientConnection::new(Arc::new(tls), name)
}
