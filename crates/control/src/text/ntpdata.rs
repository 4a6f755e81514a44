//! `ntpdata`: the last answer of each source, field by field.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use chime_engine::{LeapReport, NtpReport, SourceReport};
use md5::{Digest, Md5};

use super::number::date;
use super::{Layout, leap_words, reference_id_hex, reference_id_letters, timestamping_words};
use crate::{Names, Snapshot};

/// `chronyc ntpdata`; of one source when its name or address is given, and then without the empty
/// line before it.
#[must_use]
pub fn ntpdata(snapshot: &Snapshot, only: Option<&str>, _layout: Layout) -> String {
    let mut out = String::new();
    for source in &snapshot.engine.sources {
        let Some(remote) = source.remote else { continue };
        if only.is_some_and(|wanted| !is_called(source, wanted)) {
            continue;
        }
        if only.is_none() {
            out.push('\n');
        }
        block(&mut out, source, remote);
    }
    out
}

/// Whether a source is meant by a name or an address.
pub(crate) fn is_called(source: &SourceReport, wanted: &str) -> bool {
    source.name == wanted || Names::Addresses.of(source) == wanted
}

/// The mode field in words. RFC 5905 §7.3.
pub(crate) const fn mode_words(mode: u8) -> &'static str {
    match mode {
        1 => "Symmetric active",
        2 => "Symmetric passive",
        4 => "Server",
        _ => "Invalid",
    }
}

/// The three groups of packet tests: 1 2 3, 5 6 7, A B C D.
pub(crate) fn test_groups(tests: u16) -> [String; 3] {
    let bits = format!("{:010b}", tests & 0x3ff);
    [bits[..3].to_owned(), bits[3..6].to_owned(), bits[6..].to_owned()]
}

/// The poll interval in seconds.
pub(crate) fn poll_seconds(exponent: i8) -> String {
    let seconds = 2_f64.powi(i32::from(exponent));
    if exponent >= 0 { format!("{seconds:.0}") } else { format!("{seconds:.7}") }
}

/// The leap indicator of a packet.
pub(crate) const fn leap_of(ntp: &NtpReport) -> LeapReport {
    match ntp.leap {
        0 => LeapReport::Normal,
        1 => LeapReport::Insert,
        2 => LeapReport::Delete,
        _ => LeapReport::Unsynchronized,
    }
}

/// The reference identifier of an address of ours: an IPv4 address itself, the first octets of the MD5 of an IPv6
/// address. RFC 5905 §7.3.
pub(crate) fn local_reference_id(local: Option<IpAddr>) -> [u8; 4] {
    match local.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = Md5::digest(address.octets()).0;
            [a, b, c, d]
        }
        None => [0; 4],
    }
}

/// The letters of a reference identifier, which it has at strata 0 and 1 only.
pub(crate) fn reference_letters(ntp: &NtpReport) -> String {
    if ntp.stratum <= 1 { reference_id_letters(ntp.reference_id) } else { String::new() }
}

fn block(out: &mut String, source: &SourceReport, remote: SocketAddr) {
    let ntp = &source.ntp;
    let mut line = |label: &str, value: String| {
        let _ = writeln!(out, "{label:<16}: {value}");
    };
    let local = ntp.local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    line("Remote address", format!("{} ({})", remote.ip(), reference_id_hex(source.reference_id)));
    line("Remote port", remote.port().to_string());
    line("Local address", format!("{local} ({})", reference_id_hex(local_reference_id(ntp.local))));
    line("Leap status", leap_words(leap_of(ntp)).to_owned());
    line("Version", ntp.version.to_string());
    line("Mode", mode_words(ntp.mode).to_owned());
    line("Stratum", ntp.stratum.to_string());
    line("Poll interval", format!("{} ({} seconds)", ntp.poll, poll_seconds(ntp.poll)));
    let precision = 2_f64.powi(i32::from(ntp.precision));
    line("Precision", format!("{} ({precision:.9} seconds)", ntp.precision));
    line("Root delay", format!("{:.6} seconds", ntp.root_delay_seconds));
    line("Root dispersion", format!("{:.6} seconds", ntp.root_dispersion_seconds));
    let id = reference_id_hex(ntp.reference_id);
    line("Reference ID", format!("{id} ({})", reference_letters(ntp)));
    line("Reference time", date(ntp.reference_unix_seconds));
    line("Offset", format!("{:+.9} seconds", ntp.offset_seconds));
    line("Peer delay", format!("{:.9} seconds", ntp.delay_seconds));
    line("Peer dispersion", format!("{:.9} seconds", ntp.dispersion_seconds));
    line("Response time", format!("{:.9} seconds", ntp.response_seconds));
    line("Jitter asymmetry", format!("{:+.2}", ntp.jitter_asymmetry));
    line("NTP tests", test_groups(ntp.tests).join(" "));
    counters(out, ntp);
}

fn counters(out: &mut String, ntp: &NtpReport) {
    let yes = |value| if value { "Yes" } else { "No" };
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(out, "{label:<16}: {value}");
    };
    line("Interleaved", yes(ntp.interleaved));
    line("Authenticated", yes(ntp.authenticated));
    line("TX timestamping", timestamping_words(ntp.tx_timestamping));
    line("RX timestamping", timestamping_words(ntp.rx_timestamping));
    for (label, count) in [
        ("Total TX", ntp.total_tx),
        ("Total RX", ntp.total_rx),
        ("Total valid RX", ntp.total_valid_rx),
        ("Total good RX", ntp.total_good_rx),
        ("Total kernel TX", ntp.total_kernel_tx),
        ("Total kernel RX", ntp.total_kernel_rx),
        ("Total HW TX", ntp.total_hardware_tx),
        ("Total HW RX", ntp.total_hardware_rx),
    ] {
        line(label, &count.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_ids_of_addresses_are_those_that_chrony_shows() {
        let id = |address: &str| reference_id_hex(local_reference_id(address.parse().ok()));
        assert_eq!(id("127.0.0.1"), "7F000001");
        assert_eq!(id("::ffff:127.0.0.1"), "7F000001");
        // From a capture of `sourcestats` over the command protocol: fd00::11 has 6E8F63DB.
        assert_eq!(id("fd00::11"), "6E8F63DB");
    }
}
