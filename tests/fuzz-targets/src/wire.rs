//! Targets for `chime-wire`.

use chime_wire::chrony_command::{CommandReply, CommandRequest};
use chime_wire::{
    ControlMessage, FieldWriter, HEADER_OCTETS, MacAlgorithm, Packet, PtpMessage, SymmetricKey, keyfile,
    write_ptp_prefix,
};

/// A datagram: header, fields and MAC account for every octet, and the header encodes to what it was read from.
pub fn packet(octets: &[u8]) {
    let Ok(packet) = Packet::parse(octets) else { return };
    assert_eq!(packet.header.encode(), octets[..HEADER_OCTETS]);
    let mut end = HEADER_OCTETS;
    for field in packet.fields() {
        let field = field.expect("parse has read every field");
        assert_eq!(field.offset, end);
        end = field.end();
    }
    assert_eq!(end, packet.fields_end());
    let mac = packet.mac().map_or(0, |mac| mac.digest.len() + 4);
    assert_eq!(end + mac, octets.len());
}

/// A PTP message: what is read of it is written again, but for what may vary.
pub fn ptp_message(octets: &[u8]) {
    let Some(domain) = octets.get(4) else { return };
    let Ok(message) = PtpMessage::parse(octets, *domain) else { return };
    assert!(PtpMessage::parse(octets, domain.wrapping_add(1)).is_err());
    let mut again = vec![0; octets.len()];
    let (layout, sequence) = (message.layout, message.sequence);
    let at =
        write_ptp_prefix(&mut again, layout, *domain, sequence, message.ntp.len()).expect("there is room");
    again[at..].copy_from_slice(message.ntp);
    let read = PtpMessage::parse(&again, *domain).expect("what is written is read");
    assert_eq!((read.layout, read.sequence, read.ntp), (layout, sequence, message.ntp));
    packet(read.ntp);
}

/// A datagram of mode 6.
pub fn control_message(octets: &[u8]) {
    let Ok(message) = ControlMessage::decode(octets) else { return };
    let mac = message.mac().map_or(0, |mac| mac.digest.len() + 4);
    assert_eq!(message.authenticated_octets().len() + mac, octets.len());
    assert!(message.data.len() + 12 <= message.authenticated_octets().len());
}

/// A datagram on chrony's command port, in either direction.
pub fn chrony_command(octets: &[u8]) {
    if let Ok(request) = CommandRequest::decode(octets) {
        assert_eq!(request.payload.len() + 20, octets.len());
    }
    if let Ok(reply) = CommandReply::decode(octets) {
        assert_eq!(reply.payload.len() + 28, octets.len());
    }
}

/// A key file: every line is a key, an error with its number, a comment or blank; no number is given twice.
pub fn key_file(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    for keys in [keyfile::parse(&text), keyfile::parse_ntpsec(&text)] {
        let mut ids = Vec::new();
        for key in keys {
            match key {
                Ok(key) => {
                    assert!(!ids.contains(&key.id()), "key {} twice", key.id());
                    ids.push(key.id());
                }
                Err(error) => assert!((1..=text.lines().count()).contains(&error.line)),
            }
        }
    }
}

/// A packet with a MAC of ours verifies, and with one octet changed it does not.
pub fn symmetric_mac(octets: &[u8]) {
    let (choice, packet) = crate::first(octets);
    let algorithm = MacAlgorithm::ALL[usize::from(choice) % MacAlgorithm::ALL.len()];
    let version = if choice & 0x80 == 0 { 4 } else { 3 };
    let secret = vec![choice; algorithm.secret_octets().unwrap_or(20)];
    let key = SymmetricKey::new(9, algorithm, &secret).expect("a secret of the right length");
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + 68, 0);
    let mut writer = FieldWriter::new(&mut buffer, packet.len());
    key.append_mac(&mut writer, version).expect("there is room");
    let octets = writer.len();
    let (covered, mac) = buffer[..octets].split_at_mut(packet.len());
    assert!(key.verify(covered, &mac[4..], version));
    mac[4] ^= 1;
    assert!(!key.verify(covered, &mac[4..], version));
}
