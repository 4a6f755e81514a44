//! What requests and answers are carried in: UDP, or PTP messages in UDP.

use chime_time::NtpDuration;
use chime_wire::{DecodeError, PtpLayout, PtpMessage, write_ptp_prefix};

/// What a request was carried in, and so is its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Carrier {
    /// A UDP datagram.
    #[default]
    Udp,
    /// A PTP message.
    Ptp {
        domain: u8,
        layout: PtpLayout,
        /// The request's number, repeated for whoever has to tell messages of a host apart, as network cards do.
        sequence: u16,
    },
}

/// A request, out of what it was carried in.
pub(super) struct Carried<'a> {
    pub(super) by: Carrier,
    pub(super) request: &'a [u8],
    /// How long transparent clocks say that they held it.
    pub(super) correction: NtpDuration,
}

impl Carrier {
    /// Opens a datagram, at a socket for PTP messages of this domain or for plain NTP.
    pub(super) fn open(domain: Option<u8>, datagram: &[u8]) -> Result<Carried<'_>, DecodeError> {
        let Some(domain) = domain else {
            return Ok(Carried { by: Self::Udp, request: datagram, correction: NtpDuration::ZERO });
        };
        let message = PtpMessage::parse(datagram, domain)?;
        let by = Self::Ptp { domain, layout: message.layout, sequence: message.sequence };
        Ok(Carried { by, request: message.ntp, correction: message.correction })
    }

    /// Octets before the NTP message: the same for request and answer, so that neither is longer for it.
    pub(super) const fn prefix_octets(self) -> usize {
        match self {
            Self::Udp => 0,
            Self::Ptp { layout, .. } => layout.prefix_octets(),
        }
    }

    /// Writes what stands before the NTP message into a whole answer; gives that message.
    pub(super) fn write(self, answer: &mut [u8]) -> &mut [u8] {
        let Self::Ptp { domain, layout, sequence } = self else { return answer };
        let octets = answer.len().saturating_sub(layout.prefix_octets());
        match write_ptp_prefix(answer, layout, domain, sequence, octets) {
            Ok(at) => &mut answer[at..],
            // It is as long as a request that had all that.
            Err(_) => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_carried_as_its_request_was() {
        for layout in [PtpLayout::Final, PtpLayout::Experimental] {
            let mut request = vec![7; layout.prefix_octets() + 48];
            write_ptp_prefix(&mut request, layout, 5, 77, 48).expect("there is room");
            let carried = Carrier::open(Some(5), &request).expect("a request");
            assert_eq!((carried.by.prefix_octets(), carried.request), (layout.prefix_octets(), &[7; 48][..]));
            let mut answer = vec![9; layout.prefix_octets() + 20];
            carried.by.write(&mut answer)[0] = 8;
            let read = PtpMessage::parse(&answer, 5).expect("a PTP message");
            assert_eq!((read.layout, read.sequence, read.ntp.len(), read.ntp[0]), (layout, 77, 20, 8));
        }
    }

    #[test]
    fn plain_requests_are_what_they_are_and_no_ptp() {
        let carried = Carrier::open(None, &[1, 2, 3]).expect("a request");
        assert_eq!((carried.by, carried.request), (Carrier::Udp, &[1, 2, 3][..]));
        assert_eq!(carried.by.write(&mut [4, 5]), [4, 5]);
        assert!(Carrier::open(Some(123), &[0x23; 48]).is_err());
    }
}
