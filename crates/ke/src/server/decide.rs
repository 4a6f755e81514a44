//! What a client's request deserves: a pure function from octets to a decision. RFC 8915 §4.
//!
//! Where the servers that are in use differ, this one takes the RFC's way or the safest: it never guesses what a
//! malformed request may have meant.

use chime_nts::record::{Record, RecordTruncated, RecordWriter, Records, error_code, record_type};
use chime_nts::{AeadAlgorithm, Cookie, NTP_PROTOCOL_ID};

/// What is done with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeDecision {
    /// Keys and cookies are given.
    Accept(KeAccepted),
    /// None of the protocols is known: an empty Next Protocol record is the answer.
    NoProtocol,
    /// None of the AEAD algorithms is known, or none was offered: an empty AEAD record is the answer.
    NoAead,
    /// An Error record with this code is the answer. RFC 8915 §4.1.3.
    Error(u16),
    /// No answer: the connection is closed.
    Close(CloseReason),
}

/// How keys are made for an accepted request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeAccepted {
    /// The chosen algorithm.
    pub aead: AeadAlgorithm,
    /// Whether the client announced record 1024 and the chosen algorithm is 30: the record is echoed then.
    pub echo_compliant_export: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Nothing came.
    Empty,
    /// There is no End of Message record, or the last record is cut.
    Truncated,
    /// The End of Message record is not critical, or has a body.
    MalformedEnd,
    /// Something follows the End of Message record.
    DataAfterEnd,
    /// More than 16 KiB.
    TooLong,
}

/// Decides what a client's whole request deserves, of a server that has these algorithms; of them 15 and 30 are served.
///
/// - A request that is not framed as one message of at most 16 KiB gets no answer.
/// - An unknown critical record is answered with error 0, whatever else is wrong.
/// - Mandatory records that are missing, repeated or malformed, and records that only a server may send, with error 1.
/// - AEAD 30 is chosen when it is the first known algorithm of the list and the client sent record 1024, so that both
///   sides are sure to export the same keys; else 15; else 30 with the keys that RFC 8915 §5.1 describes.
#[must_use]
pub fn decide(request: &[u8], served: &[AeadAlgorithm]) -> KeDecision {
    match read_request(request, served) {
        Ok(request) => request.decide(),
        Err(reason) => KeDecision::Close(reason),
    }
}

/// The answer to a request that was not accepted; `None` when there is none.
#[must_use]
pub fn write_refusal(decision: KeDecision) -> Option<Vec<u8>> {
    let mut writer = RecordWriter::new();
    match decision {
        KeDecision::Accept(_) | KeDecision::Close(_) => return None,
        KeDecision::NoProtocol => writer.empty(true, record_type::NEXT_PROTOCOL),
        KeDecision::NoAead => writer
            .number(true, record_type::NEXT_PROTOCOL, NTP_PROTOCOL_ID)
            .empty(true, record_type::AEAD_ALGORITHM),
        KeDecision::Error(code) => writer.number(true, record_type::ERROR, code),
    };
    Some(writer.finish())
}

/// The answer to an accepted request. An NTP server's name of more than 65535 octets is left out.
#[must_use]
pub fn write_response(
    accepted: KeAccepted,
    cookies: &[Cookie],
    ntp_server: Option<&str>,
    ntp_port: Option<u16>,
) -> Vec<u8> {
    let mut writer = RecordWriter::new();
    writer.number(true, record_type::NEXT_PROTOCOL, NTP_PROTOCOL_ID);
    writer.number(true, record_type::AEAD_ALGORITHM, accepted.aead.id());
    if accepted.echo_compliant_export {
        writer.empty(false, record_type::COMPLIANT_GCM_SIV_EXPORT);
    }
    // Critical, as chrony sends them: a client that skipped them would ask the wrong server for the time.
    if let Some(server) = ntp_server {
        let _ = writer.record(true, record_type::NTP_SERVER, server.as_bytes());
    }
    if let Some(port) = ntp_port {
        writer.number(true, record_type::NTP_PORT, port);
    }
    for cookie in cookies {
        let _ = writer.record(false, record_type::NEW_COOKIE, cookie.as_bytes()); // a cookie always fits
    }
    writer.finish()
}

/// What a request says, as far as it matters.
#[derive(Default)]
struct Request<'s> {
    served: &'s [AeadAlgorithm],
    protocol_records: usize,
    ntpv4_offered: bool,
    aead_records: usize,
    aeads: Aeads,
    compliant_export: bool,
    unknown_critical: bool,
    bad: bool,
}

/// The algorithms offered, of those that we serve.
#[derive(Default)]
struct Aeads {
    first: Option<AeadAlgorithm>,
    has_15: bool,
    has_30: bool,
}

fn read_request<'s>(octets: &[u8], served: &'s [AeadAlgorithm]) -> Result<Request<'s>, CloseReason> {
    if octets.len() > chime_nts::record::REQUEST_OCTETS_MAX {
        return Err(CloseReason::TooLong);
    }
    let mut request = Request { served, ..Request::default() };
    let mut records = Records::new(octets);
    while let Some(record) = records.next() {
        let record = record.map_err(|RecordTruncated| CloseReason::Truncated)?;
        if record.record_type != record_type::END_OF_MESSAGE {
            request.take(&record);
        } else if !record.critical || !record.body.is_empty() {
            return Err(CloseReason::MalformedEnd);
        } else if !records.rest().is_empty() {
            return Err(CloseReason::DataAfterEnd);
        } else {
            return Ok(request);
        }
    }
    Err(if octets.is_empty() { CloseReason::Empty } else { CloseReason::Truncated })
}

impl Request<'_> {
    fn take(&mut self, record: &Record<'_>) {
        match record.record_type {
            record_type::NEXT_PROTOCOL => {
                self.protocol_records += 1;
                // The critical bit MUST be set and at least one protocol be listed: RFC 8915 §4.1.2.
                self.bad |= !record.critical || record.body.is_empty();
                match record.numbers() {
                    Some(mut ids) => self.ntpv4_offered |= ids.any(|id| id == NTP_PROTOCOL_ID),
                    None => self.bad = true,
                }
            }
            record_type::AEAD_ALGORITHM => {
                self.aead_records += 1;
                match record.numbers() {
                    Some(ids) => {
                        let ids = ids.filter_map(AeadAlgorithm::from_id);
                        ids.filter(|aead| self.served.contains(aead)).for_each(|aead| self.aeads.take(aead));
                    }
                    None => self.bad = true,
                }
            }
            record_type::ERROR | record_type::WARNING | record_type::NEW_COOKIE => self.bad = true,
            record_type::NTP_SERVER | record_type::NTP_PORT => {} // wishes that we need not grant: §4.1.7, §4.1.8
            record_type::COMPLIANT_GCM_SIV_EXPORT => {
                self.compliant_export = true;
                self.bad |= !record.body.is_empty();
            }
            _ => self.unknown_critical |= record.critical,
        }
    }

    fn decide(&self) -> KeDecision {
        if self.unknown_critical {
            return KeDecision::Error(error_code::UNRECOGNIZED_CRITICAL_RECORD);
        }
        if self.bad || self.protocol_records != 1 || self.aead_records > 1 {
            return KeDecision::Error(error_code::BAD_REQUEST);
        }
        if !self.ntpv4_offered {
            return KeDecision::NoProtocol;
        }
        if self.aead_records == 0 {
            return KeDecision::Error(error_code::BAD_REQUEST);
        }
        self.aeads.choose(self.compliant_export).map_or(KeDecision::NoAead, |aead| {
            let echo_compliant_export = aead == AeadAlgorithm::Aes128GcmSiv && self.compliant_export;
            KeDecision::Accept(KeAccepted { aead, echo_compliant_export })
        })
    }
}

impl Aeads {
    fn take(&mut self, aead: AeadAlgorithm) {
        match aead {
            AeadAlgorithm::AesSivCmac256 => self.has_15 = true,
            AeadAlgorithm::Aes128GcmSiv => self.has_30 = true,
            _ => return,
        }
        self.first.get_or_insert(aead);
    }

    fn choose(&self, compliant_export: bool) -> Option<AeadAlgorithm> {
        if compliant_export && self.first == Some(AeadAlgorithm::Aes128GcmSiv) {
            Some(AeadAlgorithm::Aes128GcmSiv)
        } else if self.has_15 {
            Some(AeadAlgorithm::AesSivCmac256)
        } else {
            self.has_30.then_some(AeadAlgorithm::Aes128GcmSiv)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::read_response;
    use proptest::prelude::*;

    const PROTOCOL: &str = "8001 0002 0000";
    const AEAD: &str = "8004 0002 000f";
    const END: &str = "8000 0000";

    fn decide_all(request: &[u8]) -> KeDecision {
        decide(request, &AeadAlgorithm::OFFERED)
    }

    fn octets(hex: &str) -> Vec<u8> {
        let hex = hex.replace(' ', "");
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    /// The decision about records, given in hexadecimal, and End of Message.
    fn decision(records: &[&str]) -> KeDecision {
        decide_all(&octets(&(records.concat() + END)))
    }

    fn accept(id: u16, echo_compliant_export: bool) -> KeDecision {
        let aead = AeadAlgorithm::from_id(id).expect("known");
        KeDecision::Accept(KeAccepted { aead, echo_compliant_export })
    }

    #[test]
    fn an_algorithm_that_is_not_served_is_as_good_as_none() {
        let both = octets(&[PROTOCOL, "8004 0004 001e 000f", "0400 0000", END].concat());
        let alone = octets(&[PROTOCOL, "8004 0002 001e", END].concat());
        let chosen = |request: &[u8], served: &[AeadAlgorithm]| match decide(request, served) {
            KeDecision::Accept(accepted) => Some(accepted.aead),
            other => {
                assert_eq!(other, KeDecision::NoAead);
                None
            }
        };
        let (siv, gcm_siv) = (AeadAlgorithm::AesSivCmac256, AeadAlgorithm::Aes128GcmSiv);
        assert_eq!(chosen(&both, &[gcm_siv, siv]), Some(gcm_siv));
        assert_eq!(chosen(&both, &[siv]), Some(siv));
        assert_eq!(chosen(&both, &[gcm_siv]), Some(gcm_siv));
        assert_eq!((chosen(&alone, &[siv]), chosen(&alone, &[])), (None, None));
    }

    #[test]
    fn the_algorithm_is_chosen_as_documented() {
        assert_eq!(decision(&[PROTOCOL, AEAD]), accept(15, false));
        assert_eq!(decision(&[AEAD, PROTOCOL]), accept(15, false), "any order");
        assert_eq!(
            decision(&[PROTOCOL, "0004 0002 000f"]),
            accept(15, false),
            "the critical bit may be unset"
        );
        assert_eq!(
            decision(&[PROTOCOL, "8004 0006 270f 0001 000f"]),
            accept(15, false),
            "unknown ones are skipped"
        );
        assert_eq!(decision(&[PROTOCOL, "8004 0004 000f 000f"]), accept(15, false));
        let (both, compliant) = ("8004 0004 001e 000f", "0400 0000");
        assert_eq!(decision(&[PROTOCOL, both, compliant]), accept(30, true));
        assert_eq!(decision(&[PROTOCOL, "8004 0006 0011 001e 000f", compliant]), accept(30, true));
        assert_eq!(decision(&[PROTOCOL, both]), accept(15, false), "which context for 30 would be a guess");
        assert_eq!(decision(&[PROTOCOL, "8004 0004 000f 001e", compliant]), accept(15, false));
        assert_eq!(decision(&[PROTOCOL, "8004 0002 001e"]), accept(30, false));
        assert_eq!(decision(&[PROTOCOL, "8004 0002 001e", compliant]), accept(30, true));
        assert_eq!(decision(&[PROTOCOL, AEAD, compliant]), accept(15, false), "no echo without 30");
    }

    #[test]
    fn what_we_do_not_know_is_said_with_an_empty_record() {
        assert_eq!(decision(&[PROTOCOL, "8004 0002 270f"]), KeDecision::NoAead);
        assert_eq!(decision(&[PROTOCOL, "8004 0002 0011"]), KeDecision::NoAead);
        assert_eq!(decision(&[PROTOCOL, "8004 0000"]), KeDecision::NoAead);
        assert_eq!(decision(&["8001 0002 04d2", AEAD]), KeDecision::NoProtocol);
        assert_eq!(decision(&["8001 0004 04d2 0000", AEAD]), accept(15, false));
        assert_eq!(write_refusal(KeDecision::NoAead), Some(octets(&[PROTOCOL, "8004 0000", END].concat())));
        assert_eq!(write_refusal(KeDecision::NoProtocol), Some(octets(&["8001 0000", END].concat())));
    }

    #[test]
    fn bad_requests_get_error_1() {
        for records in [
            &[PROTOCOL][..],
            &[AEAD],
            &[],
            &[PROTOCOL, PROTOCOL, AEAD],
            &[PROTOCOL, AEAD, AEAD],
            &["8001 0000", AEAD],
            &["8001 0003 0000 00", AEAD],
            &["0001 0002 0000", AEAD],
            &[PROTOCOL, "8004 0003 000f 00"],
            &[PROTOCOL, AEAD, "0005 0004 aaaaaaaa"],
            &[PROTOCOL, AEAD, "8002 0002 0000"],
            &[PROTOCOL, AEAD, "0003 0002 0001"],
            &[PROTOCOL, AEAD, "0400 0002 0102"],
        ] {
            assert_eq!(decision(records), KeDecision::Error(1), "{records:?}");
        }
        assert_eq!(write_refusal(KeDecision::Error(1)), Some(octets(&["8002 0002 0001", END].concat())));
    }

    #[test]
    fn an_unknown_critical_record_gets_error_0_and_others_are_skipped() {
        assert_eq!(decision(&[PROTOCOL, AEAD, "a001 0005 68656c6c6f"]), KeDecision::Error(0));
        assert_eq!(decision(&["a001 0000"]), KeDecision::Error(0), "also when more is wrong");
        assert_eq!(decision(&[PROTOCOL, AEAD, "2001 0005 68656c6c6f", "4000 0000"]), accept(15, false));
        let wishes = ["8006 0004 74657374", "0006 0000", "8007 0002 007b", "0007 0003 000000"].concat();
        assert_eq!(decision(&[PROTOCOL, AEAD, &wishes]), accept(15, false));
    }

    #[test]
    fn what_is_not_one_message_gets_no_answer() {
        let close = KeDecision::Close;
        assert_eq!(decide_all(&[]), close(CloseReason::Empty));
        let good = octets(&[PROTOCOL, AEAD, END].concat());
        for length in 1..good.len() {
            assert_eq!(decide_all(&good[..length]), close(CloseReason::Truncated), "cut at {length}");
        }
        assert_eq!(decide_all(&[&good[..], &good].concat()), close(CloseReason::DataAfterEnd));
        assert_eq!(decide_all(&[&octets(END)[..], &good].concat()), close(CloseReason::DataAfterEnd));
        assert_eq!(
            decide_all(&octets(&[PROTOCOL, AEAD, "0000 0000"].concat())),
            close(CloseReason::MalformedEnd)
        );
        assert_eq!(
            decide_all(&octets(&[PROTOCOL, AEAD, "8000 0001 ff"].concat())),
            close(CloseReason::MalformedEnd)
        );
        assert_eq!(decide_all(b"GET / HTTP/1.1\r\nHost: nts.test\r\n\r\n"), close(CloseReason::Truncated));
        assert_eq!(write_refusal(close(CloseReason::Empty)), None);
    }

    #[test]
    fn requests_of_up_to_16_kib_are_read() {
        let of = |octets_total: usize| {
            let filling = octets_total - octets(&[PROTOCOL, AEAD, END].concat()).len() - 4;
            decision(&[PROTOCOL, AEAD, &format!("2100 {filling:04x}"), &"00".repeat(filling)])
        };
        assert_eq!(of(16 * 1024), accept(15, false));
        assert_eq!(of(16 * 1024 + 1), KeDecision::Close(CloseReason::TooLong));
    }

    #[test]
    fn our_client_reads_what_our_server_writes() {
        let cookies = vec![Cookie::new(&[1; 100]).expect("good length"); 8];
        let accepted = KeAccepted { aead: AeadAlgorithm::Aes128GcmSiv, echo_compliant_export: true };
        let written = write_response(accepted, &cookies, Some("ntp.test"), Some(11123));
        let read = read_response(&written, &AeadAlgorithm::OFFERED).expect("good");
        assert_eq!((read.aead, read.compliant_export), (accepted.aead, true));
        assert_eq!((read.ntp_server.as_deref(), read.ntp_port), (Some("ntp.test"), Some(11123)));
        assert_eq!(read.cookies, cookies);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decide_all(&octets);
        }
    }
}
