//! Requests inside PTP messages, and the answers to them.

use chime_config::NtpOverPtp;
use chime_time::NtpDuration;
use chime_wire::{PTP_PREFIX_OCTETS_MAX, PtpLayout, PtpMessage, write_ptp_prefix};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Servers whose layout is remembered; there are hardly ever as many.
const REMOTES_MAX: usize = 1024;
/// Requests without an answer after which the other layout is tried.
const PATIENCE: u8 = 2;

/// Who is spoken to over PTP, and in which layout.
#[derive(Debug, Default)]
pub(super) struct OverPtp {
    settings: Option<NtpOverPtp>,
    /// The number of the next message.
    sequence: u16,
    layouts: BTreeMap<IpAddr, Known>,
}

/// What is known of a server.
#[derive(Clone, Copy, Debug)]
struct Known {
    layout: PtpLayout,
    /// Requests since something was heard.
    unanswered: u8,
}

impl OverPtp {
    pub(super) fn new(settings: Option<NtpOverPtp>) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The port from which what goes there leaves, if it goes in PTP messages: the same, as network cards look for it.
    pub(super) fn port_for(&self, to: SocketAddr) -> Option<u16> {
        self.settings.map(|settings| settings.port).filter(|port| *port == to.port())
    }

    /// The PTP message for a request; empty when that is too long for one, and then nobody answers.
    pub(super) fn wrap(&mut self, to: SocketAddr, ntp: &[u8]) -> Vec<u8> {
        let Some(settings) = self.settings else { return Vec::new() };
        let layout = self.layout_for(to.ip());
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = vec![0; PTP_PREFIX_OCTETS_MAX + ntp.len()];
        message.truncate(layout.prefix_octets() + ntp.len());
        match write_ptp_prefix(&mut message, layout, settings.domain, self.sequence, ntp.len()) {
            Ok(at) => message[at..].copy_from_slice(ntp),
            Err(_) => message.clear(),
        }
        message
    }

    /// That of the specification, unless the server has been heard with the other or answers nothing.
    fn layout_for(&mut self, to: IpAddr) -> PtpLayout {
        if self.layouts.len() >= REMOTES_MAX && !self.layouts.contains_key(&to) {
            self.layouts.clear();
        }
        let unknown = Known { layout: PtpLayout::Final, unanswered: 0 };
        let known = self.layouts.entry(to).or_insert(unknown);
        if known.unanswered >= PATIENCE {
            *known = Known { layout: known.layout.other(), unanswered: 0 };
        }
        known.unanswered += 1;
        known.layout
    }

    /// The NTP message of an answer, and how long transparent clocks say that they held it; none when it is no such message:
    /// then the octets are empty, which the engine refuses and counts.
    pub(super) fn unwrap<'a>(&mut self, from: SocketAddr, octets: &'a [u8]) -> (&'a [u8], NtpDuration) {
        let domain = self.settings.map_or(0, |settings| settings.domain);
        let Ok(message) = PtpMessage::parse(octets, domain) else { return (&[], NtpDuration::ZERO) };
        if let Some(known) = self.layouts.get_mut(&from.ip()) {
            *known = Known { layout: message.layout, unanswered: 0 };
        }
        (message.ntp, message.correction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 319);

    fn layout(message: &[u8]) -> PtpLayout {
        PtpMessage::parse(message, 123).expect("a PTP message").layout
    }

    #[test]
    fn only_its_own_port_is_spoken_at_over_ptp() {
        let port_for = |settings| OverPtp::new(settings).port_for(THERE);
        assert_eq!(port_for(None), None);
        assert_eq!(port_for(Some(NtpOverPtp::default())), Some(319));
        assert_eq!(port_for(Some(NtpOverPtp { port: 320, domain: 0 })), None);
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_in_the_other_layout_and_one_that_does_in_its_own() {
        use PtpLayout::{Experimental, Final};
        let mut ptp = OverPtp::new(Some(NtpOverPtp::default()));
        let asked: Vec<PtpLayout> = (0..6).map(|_| layout(&ptp.wrap(THERE, &[1; 48]))).collect();
        assert_eq!(asked, [Final, Final, Experimental, Experimental, Final, Final]);
        let mut answer = vec![1; 48 + 48];
        write_ptp_prefix(&mut answer, Experimental, 123, 9, 48).expect("there is room");
        assert_eq!(ptp.unwrap(THERE, &answer).0, &answer[48..]);
        assert_eq!(layout(&ptp.wrap(THERE, &[1; 48])), Experimental);
    }

    #[test]
    fn what_is_no_message_of_ours_is_nothing() {
        let mut ptp = OverPtp::new(Some(NtpOverPtp::default()));
        let message = ptp.wrap(THERE, b"answer");
        assert_eq!(ptp.unwrap(THERE, &message).0, b"answer");
        for octets in [&message[1..], &message[..50], &[0x24; 48], &[]] {
            assert_eq!(ptp.unwrap(THERE, octets).0, b"");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut ptp = OverPtp::new(Some(NtpOverPtp::default()));
        for number in 0..3 * u32::try_from(REMOTES_MAX).expect("a small number") {
            let _message = ptp.wrap(SocketAddr::new(IpAddr::V4(number.into()), 319), &[1]);
            assert!(ptp.layouts.len() <= REMOTES_MAX);
        }
    }
}
