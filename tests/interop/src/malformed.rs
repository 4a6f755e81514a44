//! Asks a daemon what no client or tool asks, and says what it answered to each kind.

use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// One list for the tests of chime-control and for real chronyd.
#[path = "../../../crates/control/tests/malformed/chrony.rs"]
pub(crate) mod commands;
/// One list for the tests of chime-control and for real ntpd.
#[path = "../../../crates/control/tests/malformed/mode6.rs"]
pub(crate) mod questions;
/// One list for the tests of chime-server and for real servers.
#[path = "../../../crates/server/tests/malformed/kinds.rs"]
pub(crate) mod requests;

/// For the answer to a good request.
const PATIENCE: Duration = Duration::from_secs(30);

/// `malformed ntp`, `mode6` or `good`: asks the daemon of its own host, and prints one line for each kind:
/// its name, a tab, and the answer in words.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let protocol = arguments.first().map(String::as_str);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, 123))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let kinds: Vec<(&str, Vec<u8>)> = match protocol {
        Some("ntp") => requests::all().into_iter().map(|(name, datagram, _)| (name, datagram)).collect(),
        Some("mode6") => questions::all().into_iter().map(|(name, datagram, _)| (name, datagram)).collect(),
        Some("good") => vec![("a good request", next_request().datagram); 3],
        _ => bail!("malformed ntp | mode6 | good"),
    };
    let (next, words): (_, fn(&[u8]) -> String) = if protocol != Some("mode6") {
        (next_request(), ntp_in_words)
    } else {
        (next_question(), mode6_in_words)
    };
    for (name, datagram) in kinds {
        let answer = answer_to(&socket, &datagram, &next)?;
        println!("{name}\t{}", answer.map_or_else(|| "none".to_owned(), |answer| words(&answer)));
    }
    Ok(())
}

/// A good datagram, and whether an answer is that to it.
struct Next {
    datagram: Vec<u8>,
    is_its_answer: fn(&[u8]) -> bool,
}

fn next_request() -> Next {
    let mut datagram = vec![0; 48];
    datagram[0] = 0x23;
    datagram[40..].copy_from_slice(b"the next");
    Next { datagram, is_its_answer: |answer| answer.get(24..32) == Some(b"the next") }
}

fn next_question() -> Next {
    let datagram = [&[0xd6, 2, 0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 4][..], b"leap"].concat();
    Next { datagram, is_its_answer: |answer| answer.get(2..4) == Some(&[0xab, 0xcd]) }
}

/// The answer to a datagram; `None` when the next one is answered instead.
fn answer_to(socket: &UdpSocket, datagram: &[u8], next: &Next) -> Result<Option<Vec<u8>>> {
    socket.send(datagram)?;
    socket.send(&next.datagram)?;
    let mut room = [0; 1024];
    let mut answer = None;
    loop {
        let octets = socket.recv(&mut room).context("no answer to a good request")?;
        if (next.is_its_answer)(&room[..octets]) {
            return Ok(answer);
        }
        answer = Some(room[..octets].to_vec());
    }
}

fn ntp_in_words(answer: &[u8]) -> String {
    match (answer.first(), answer.get(1), answer.get(12..16)) {
        (Some(first), Some(0), Some(b"NTSN")) if first & 7 == 4 => "nak".to_owned(),
        (Some(first), Some(stratum), _) => {
            format!("{} octets of mode {} and stratum {stratum}", answer.len(), first & 7)
        }
        _ => format!("{answer:?}"),
    }
}

fn mode6_in_words(answer: &[u8]) -> String {
    match answer {
        [_, second, _, _, code, ..] if second & 0xc0 == 0xc0 => format!("error {code}"),
        _ => format!("{} octets", answer.len()),
    }
}
