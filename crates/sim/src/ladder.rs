//! A conversation as lines that people can read and compare: time, way, what, decoded by `wire`.

use chime_wire::{Mode, Packet, field_type};
use std::fmt::Write;

/// One line: seconds since the start, way, and what the datagram is.
pub(crate) fn line(time: f64, way: &str, octets: &[u8]) -> String {
    let mut line = format!("{time:9.3}  {way}  ");
    match Packet::parse(octets) {
        Ok(packet) => describe(&packet, &mut line),
        Err(error) => line += &format!("not a packet: {error}"),
    }
    // Writing into a string cannot fail.
    let _ = write!(line, "  ({} octets)", octets.len());
    line
}

fn describe(packet: &Packet<'_>, line: &mut String) {
    let header = &packet.header;
    let kind = match header.mode {
        Mode::Client => "request ",
        Mode::Server => "response",
        _ => "packet  ",
    };
    let _ = write!(line, "{kind}  v{}", header.version);
    if header.mode == Mode::Server {
        if header.stratum == 0 {
            let _ = write!(line, " kiss={:?}", header.reference_id.kiss_code());
        } else {
            let _ = write!(line, " stratum={}", header.stratum);
        }
    }
    let count = |wanted: u16| packet.fields().flatten().filter(|field| field.field_type == wanted).count();
    for (name, wanted) in [
        ("unique-id", field_type::UNIQUE_IDENTIFIER),
        ("cookie", field_type::NTS_COOKIE),
        ("placeholders", field_type::NTS_COOKIE_PLACEHOLDER),
        ("authenticator", field_type::NTS_AUTHENTICATOR),
    ] {
        match count(wanted) {
            0 => {}
            1 => *line += &format!(" {name}"),
            several => *line += &format!(" {name}={several}"),
        }
    }
    if packet.mac().is_some() {
        *line += " mac";
    }
}
