//! What a server's answer means: a pure function from octets to a decision. RFC 8915 §4.

use crate::KeError;
use chime_nts::record::{Record, Records, record_type};
use chime_nts::{AeadAlgorithm, COOKIES_MAX, Cookie, NTP_PROTOCOL_ID};
use core::fmt;
use std::net::IpAddr;

/// The longest host name, in characters without a trailing dot (RFC 1035 §2.3.4).
const HOST_NAME_OCTETS_MAX: usize = 253;

/// A server's answer that can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeResponse {
    /// The algorithm that the server chose, one of those offered.
    pub aead: AeadAlgorithm,
    /// Whether the server said that it puts 30 into the exporter context of AEAD 30 (record 1024).
    pub compliant_export: bool,
    /// The cookies, 1 to 8.
    pub cookies: Vec<Cookie>,
    /// The NTP server to ask, a name without trailing dot or an address literal; `None`: the same host.
    pub ntp_server: Option<String>,
    /// The UDP port to ask; `None`: 123.
    pub ntp_port: Option<u16>,
    /// What was odd, but no reason to refuse.
    pub warnings: Vec<KeWarning>,
}

/// Something odd in an answer that is used all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeWarning {
    /// More cookies than eight; the rest was dropped.
    CookiesDropped {
        /// How many were dropped.
        count: usize,
    },
    /// Cookies of a length that cannot be used were dropped.
    UnusableCookies {
        /// How many were dropped.
        count: usize,
    },
    /// Port 0 was negotiated; 123 is used.
    PortZero,
}

impl fmt::Display for KeWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CookiesDropped { count } => write!(f, "{count} cookies beyond the eighth were dropped"),
            Self::UnusableCookies { count } => write!(f, "{count} cookies of unusable length were dropped"),
            Self::PortZero => f.write_str("port 0 was negotiated; 123 is used"),
        }
    }
}

/// Reads a server's whole answer to a request that offered NTPv4 and the algorithms of `offered`.
///
/// # Errors
/// Every way in which an answer is refused; an Error record counts before anything else that may be wrong.
pub fn read_response(octets: &[u8], offered: &[AeadAlgorithm]) -> Result<KeResponse, KeError> {
    if octets.is_empty() {
        return Err(KeError::NoAnswer);
    }
    if let Some(record) =
        Records::new(octets).flatten().find(|record| record.record_type == record_type::ERROR)
    {
        return Err(record
            .number()
            .map_or(KeError::MalformedRecord(record_type::ERROR), KeError::ServerError));
    }
    let mut answer = Answer::default();
    let mut records = Records::new(octets);
    for record in &mut records {
        let record = record.map_err(|_| KeError::Truncated)?;
        if record.record_type == record_type::END_OF_MESSAGE {
            if !record.critical || !record.body.is_empty() {
                return Err(KeError::MalformedRecord(record_type::END_OF_MESSAGE));
            }
            if !records.rest().is_empty() {
                return Err(KeError::DataAfterEnd);
            }
            return answer.finish(offered);
        }
        answer.take(&record)?;
    }
    Err(KeError::Truncated)
}

/// What has been read so far; each field is set by its record.
#[derive(Default)]
struct Answer {
    /// The protocol chosen; `Some(None)` when the record is empty: none.
    protocol: Option<Option<u16>>,
    /// The algorithm chosen, likewise.
    aead: Option<Option<u16>>,
    compliant_export: bool,
    cookies: Vec<Cookie>,
    cookies_dropped: usize,
    /// Number of unusable cookies and the length of the first of them.
    unusable_cookies: Option<(usize, usize)>,
    ntp_server: Option<String>,
    ntp_port: Option<u16>,
}

impl Answer {
    fn take(&mut self, record: &Record<'_>) -> Result<(), KeError> {
        let malformed = KeError::MalformedRecord(record.record_type);
        match record.record_type {
            record_type::NEXT_PROTOCOL if !record.critical => Err(malformed),
            record_type::NEXT_PROTOCOL => set_once(&mut self.protocol, choice(record)?, record),
            // The critical bit may be unset: RFC 8915 §4.1.5, and NTPsec does so.
            record_type::AEAD_ALGORITHM => set_once(&mut self.aead, choice(record)?, record),
            record_type::WARNING => Err(record.number().map_or(malformed, KeError::ServerWarning)),
            record_type::NEW_COOKIE => {
                self.take_cookie(record.body);
                Ok(())
            }
            record_type::NTP_SERVER => {
                let server = read_server_name(record.body).ok_or(KeError::InvalidNtpServer)?;
                set_once(&mut self.ntp_server, server, record)
            }
            record_type::NTP_PORT => set_once(&mut self.ntp_port, record.number().ok_or(malformed)?, record),
            record_type::COMPLIANT_GCM_SIV_EXPORT if !record.body.is_empty() => Err(malformed),
            record_type::COMPLIANT_GCM_SIV_EXPORT => {
                self.compliant_export = true;
                Ok(())
            }
            unknown if record.critical => Err(KeError::UnknownCriticalRecord(unknown)),
            _ => Ok(()),
        }
    }

    fn take_cookie(&mut self, body: &[u8]) {
        match Cookie::new(body) {
            Ok(_) if self.cookies.len() >= COOKIES_MAX => self.cookies_dropped += 1,
            Ok(cookie) => self.cookies.push(cookie),
            Err(_) => self.unusable_cookies.get_or_insert((0, body.len())).0 += 1,
        }
    }

    fn finish(self, offered: &[AeadAlgorithm]) -> Result<KeResponse, KeError> {
        match self.protocol {
            None => return Err(KeError::MissingRecord(record_type::NEXT_PROTOCOL)),
            Some(None) => return Err(KeError::NoProtocol),
            Some(Some(NTP_PROTOCOL_ID)) => {}
            Some(Some(other)) => return Err(KeError::ProtocolNotOffered(other)),
        }
        let aead = match self.aead {
            None => return Err(KeError::MissingRecord(record_type::AEAD_ALGORITHM)),
            Some(None) => return Err(KeError::NoAead),
            Some(Some(id)) => {
                offered.iter().find(|aead| aead.id() == id).ok_or(KeError::AeadNotOffered(id))?
            }
        };
        if self.cookies.is_empty() {
            let unusable = self.unusable_cookies;
            return Err(
                unusable.map_or(KeError::NoCookies, |(_, octets)| KeError::UnusableCookies { octets })
            );
        }
        Ok(KeResponse {
            aead: *aead,
            compliant_export: self.compliant_export,
            warnings: self.warnings(),
            cookies: self.cookies,
            ntp_server: self.ntp_server,
            ntp_port: self.ntp_port.filter(|port| *port != 0),
        })
    }

    fn warnings(&self) -> Vec<KeWarning> {
        let dropped =
            (self.cookies_dropped > 0).then_some(KeWarning::CookiesDropped { count: self.cookies_dropped });
        let unusable = self.unusable_cookies.map(|(count, _)| KeWarning::UnusableCookies { count });
        let port_zero = (self.ntp_port == Some(0)).then_some(KeWarning::PortZero);
        [dropped, unusable, port_zero].into_iter().flatten().collect()
    }
}

/// The number that a server chose: at most one (RFC 8915 §4.1.2, §4.1.5); an empty body means none.
fn choice(record: &Record<'_>) -> Result<Option<u16>, KeError> {
    match record.body {
        [] => Ok(None),
        _ => record.number().map(Some).ok_or(KeError::MalformedRecord(record.record_type)),
    }
}

fn set_once<T>(place: &mut Option<T>, value: T, record: &Record<'_>) -> Result<(), KeError> {
    if place.is_some() {
        return Err(KeError::DuplicateRecord(record.record_type));
    }
    *place = Some(value);
    Ok(())
}

/// A host name (without its trailing dot) or an address literal; `None` when it can be neither. RFC 8915 §4.1.7.
fn read_server_name(body: &[u8]) -> Option<String> {
    let text = str::from_utf8(body).ok()?;
    if text.parse::<IpAddr>().is_ok() {
        return Some(text.to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
    };
    (name.len() <= HOST_NAME_OCTETS_MAX && name.split('.').all(label)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_nts::record::RecordWriter;
    use proptest::prelude::*;

    const OFFERED: [AeadAlgorithm; 2] = [AeadAlgorithm::Aes128GcmSiv, AeadAlgorithm::AesSivCmac256];

    /// Records as (critical, type, body), then End of Message.
    fn message(records: &[(bool, u16, &[u8])]) -> Vec<u8> {
        let mut writer = RecordWriter::new();
        for (critical, record_type, body) in records {
            writer.record(*critical, *record_type, body).expect("short");
        }
        writer.finish()
    }

    fn read(records: &[(bool, u16, &[u8])]) -> Result<KeResponse, KeError> {
        read_response(&message(records), &OFFERED)
    }

    const PROTOCOL: (bool, u16, &[u8]) = (true, 1, &[0, 0]);
    const AEAD_15: (bool, u16, &[u8]) = (true, 4, &[0, 15]);
    const COOKIE: (bool, u16, &[u8]) = (false, 5, &[7; 100]);

    /// A good answer and one more record.
    fn with(record: (bool, u16, &[u8])) -> Result<KeResponse, KeError> {
        read(&[PROTOCOL, AEAD_15, record, COOKIE])
    }

    #[test]
    fn a_good_answer_is_read_in_any_order() {
        let expected = read(&[PROTOCOL, AEAD_15, COOKIE, COOKIE]).expect("good");
        assert_eq!(expected.aead, AeadAlgorithm::AesSivCmac256);
        assert_eq!(expected.cookies.len(), 2);
        assert!(expected.warnings.is_empty() && !expected.compliant_export);
        assert_eq!(read(&[COOKIE, COOKIE, AEAD_15, PROTOCOL]).as_ref(), Ok(&expected));
        assert_eq!(
            read(&[COOKIE, (false, 4, &[0, 15]), PROTOCOL, COOKIE]).as_ref(),
            Ok(&expected),
            "as NTPsec"
        );
        assert_eq!(with((false, 0x2001, b"hello")).expect("unknown, not critical").cookies.len(), 1);
    }

    #[test]
    fn server_and_port_are_taken_whether_critical_or_not() {
        for critical in [false, true] {
            let negotiated = read(&[
                PROTOCOL,
                AEAD_15,
                COOKIE,
                (critical, 6, b"ntp2.test."),
                (critical, 7, &[0x2b, 0x73]),
            ]);
            let negotiated = negotiated.expect("good");
            assert_eq!(
                negotiated.ntp_server.as_deref(),
                Some("ntp2.test"),
                "the trailing dot is no part of the name"
            );
            assert_eq!(negotiated.ntp_port, Some(11123));
        }
        assert_eq!(with((true, 6, b"2001:db8::1")).expect("good").ntp_server.as_deref(), Some("2001:db8::1"));
        let zero = with((false, 7, &[0, 0])).expect("read as 123, as chrony does");
        assert_eq!((zero.ntp_port, zero.warnings), (None, vec![KeWarning::PortZero]));
        for name in [
            &b""[..],
            b".",
            b"a b",
            b"-a.test",
            b"a..test",
            b"\xff\x00",
            b"a/b",
            "n\u{e4}.test".as_bytes(),
            &[b'a'; 64],
        ] {
            assert_eq!(with((false, 6, name)), Err(KeError::InvalidNtpServer), "{name:?}");
        }
        assert_eq!(with((false, 7, &[0])), Err(KeError::MalformedRecord(7)));
    }

    #[test]
    fn record_1024_says_which_context_the_server_exports_with() {
        let aead_30 = (true, 4, &[0, 30][..]);
        assert!(!read(&[PROTOCOL, aead_30, COOKIE]).expect("good").compliant_export);
        assert!(read(&[PROTOCOL, aead_30, COOKIE, (false, 1024, &[])]).expect("good").compliant_export);
        assert_eq!(with((false, 1024, &[1])), Err(KeError::MalformedRecord(1024)));
    }

    #[test]
    fn what_the_server_did_not_accept_or_we_did_not_offer_is_refused() {
        assert_eq!(read(&[(true, 1, &[])]), Err(KeError::NoProtocol), "nothing else needs to be there");
        assert_eq!(read(&[(true, 1, &[4, 210]), AEAD_15, COOKIE]), Err(KeError::ProtocolNotOffered(1234)));
        assert_eq!(read(&[PROTOCOL, (true, 4, &[])]), Err(KeError::NoAead));
        assert_eq!(read(&[PROTOCOL, (true, 4, &[0, 17]), COOKIE]), Err(KeError::AeadNotOffered(17)));
        assert_eq!(read(&[AEAD_15, COOKIE]), Err(KeError::MissingRecord(1)));
        assert_eq!(read(&[PROTOCOL, COOKIE]), Err(KeError::MissingRecord(4)));
        assert_eq!(read(&[(false, 1, &[0, 0]), AEAD_15, COOKIE]), Err(KeError::MalformedRecord(1)));
        assert_eq!(read(&[PROTOCOL, (true, 4, &[0, 15, 0, 30]), COOKIE]), Err(KeError::MalformedRecord(4)));
        assert_eq!(with(AEAD_15), Err(KeError::DuplicateRecord(4)));
        assert_eq!(with(PROTOCOL), Err(KeError::DuplicateRecord(1)));
        assert_eq!(with((true, 0x2001, b"")), Err(KeError::UnknownCriticalRecord(0x2001)));
    }

    #[test]
    fn errors_and_warnings_of_the_server_are_refusals() {
        assert_eq!(read(&[(true, 2, &[0, 2])]), Err(KeError::ServerError(2)));
        assert_eq!(with((true, 2, &[0, 9])), Err(KeError::ServerError(9)), "amid a good answer");
        assert_eq!(with((true, 2, &[9])), Err(KeError::MalformedRecord(2)));
        for critical in [false, true] {
            assert_eq!(with((critical, 3, &[0, 7])), Err(KeError::ServerWarning(7)));
        }
    }

    #[test]
    fn cookies_are_bounded_in_number_and_length() {
        let mut records = vec![PROTOCOL, AEAD_15];
        records.extend([COOKIE; 20]);
        let many = read(&records).expect("good");
        assert_eq!((many.cookies.len(), many.warnings), (8, vec![KeWarning::CookiesDropped { count: 12 }]));
        assert_eq!(read(&[PROTOCOL, AEAD_15]), Err(KeError::NoCookies));
        assert_eq!(
            read(&[PROTOCOL, AEAD_15, (false, 5, &[0; 101])]),
            Err(KeError::UnusableCookies { octets: 101 })
        );
        assert_eq!(read(&[PROTOCOL, AEAD_15, (false, 5, &[])]), Err(KeError::UnusableCookies { octets: 0 }));
        let mixed =
            read(&[PROTOCOL, AEAD_15, (false, 5, &[0; 1028]), (true, 5, &[0; 1024])]).expect("one is good");
        assert_eq!((mixed.cookies.len(), mixed.warnings), (1, vec![KeWarning::UnusableCookies { count: 1 }]));
    }

    #[test]
    fn an_answer_ends_with_end_of_message_and_nothing_else() {
        let good = message(&[PROTOCOL, AEAD_15, COOKIE]);
        assert_eq!(read_response(&[], &OFFERED), Err(KeError::NoAnswer));
        for length in 1..good.len() {
            assert_eq!(read_response(&good[..length], &OFFERED), Err(KeError::Truncated), "cut at {length}");
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(read_response(&longer, &OFFERED), Err(KeError::DataAfterEnd));
        let not_critical = [&good[..good.len() - 4], &[0, 0, 0, 0]].concat();
        assert_eq!(read_response(&not_critical, &OFFERED), Err(KeError::MalformedRecord(0)));
        let not_empty = [&good[..good.len() - 4], &[0x80, 0, 0, 1, 0]].concat();
        assert_eq!(read_response(&not_empty, &OFFERED), Err(KeError::MalformedRecord(0)));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_response(&octets, &OFFERED);
        }

        #[test]
        fn a_flipped_bit_never_gives_an_algorithm_that_was_not_offered(bit in 0usize..(6 + 6 + 104 + 4) * 8) {
            let mut octets = message(&[PROTOCOL, AEAD_15, COOKIE]);
            octets[bit / 8] ^= 1 << (bit % 8);
            if let Ok(response) = read_response(&octets, &OFFERED) {
                prop_assert!(OFFERED.contains(&response.aead));
            }
        }
    }
}
