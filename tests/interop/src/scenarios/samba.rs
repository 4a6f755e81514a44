//! Answers that Samba signs for members of a Windows domain: real servers and ours say the same to it, and hand out what it
//! says. The Samba is the scenario's own, and signs for one key.

use super::PATIENCE;
use crate::install::Suite::Trixie;
use crate::network::Node;
use crate::peers::{chrony, ntpsec};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub(super) const SCENARIOS: &[super::Entry] = &[("our-server/samba-signs-as-for-chronyd", as_with_chronyd)];

/// A chronyd that serves.
const CHRONY: &str = "local stratum 8\nallow all\n";
/// The key that the scenario's Samba signs for, as it stands in packets.
const KEY: [u8; 4] = [0x51, 4, 0, 0x80];
/// Its signature.
const SIGNATURE: [u8; 16] = *b"signed by a test";
/// Octets of an NTP header.
const HEADER: usize = 48;

/// The messages that a Samba was sent.
type Messages = Arc<Mutex<Vec<Vec<u8>>>>;

/// A Samba by a name, and the line of a configuration that leads to it.
fn samba(stage: &Stage, name: &str) -> Result<(String, Messages)> {
    let directory = stage.folder().join(format!("samba-{name}"));
    // A second attempt finds what the first one has left.
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory)?;
    let listener = UnixListener::bind(directory.join("socket")).context("no socket for Samba")?;
    let messages = Messages::default();
    let noted = messages.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let noted = noted.clone();
            // Whoever hangs up wants no more.
            thread::spawn(move || while sign(&mut stream, &noted).is_ok() {});
        }
    });
    Ok((format!("ntpsigndsocket {}\n", directory.display()), messages))
}

fn sign(stream: &mut UnixStream, noted: &Messages) -> Result<()> {
    let mut first = [0; 4];
    stream.read_exact(&mut first)?;
    let mut message = vec![0; usize::try_from(u32::from_be_bytes(first))?.min(1024)];
    stream.read_exact(&mut message)?;
    let key = message.get(12..16).context("a short message")?.to_vec();
    let mut reply = vec![0, 0, 0, 0, 0, 0, 0, if key == KEY { 3 } else { 4 }];
    // The number has half a word in messages, and a whole one here.
    reply.extend([&[0; 2], &message[8..10]].concat());
    if key == KEY {
        reply.extend([&message[16..], &key, &SIGNATURE].concat());
    }
    stream.write_all(&u32::try_from(reply.len())?.to_be_bytes())?;
    stream.write_all(&reply)?;
    noted.lock().ok().context("a broken lock")?.push([first.to_vec(), message].concat());
    Ok(())
}

/// What is the same for every server of a message: all but its number, and what the answer says of the clock.
fn comparable(message: &[u8]) -> Result<Vec<u8>> {
    ensure!(message.len() == 20 + HEADER, "{} octets to Samba", message.len());
    let origin = 20 + 24..20 + 32;
    let version_and_mode = message[20] & 0x3f;
    let kept = [&message[..12], &message[16..20], &[version_and_mode], &message[origin]];
    Ok(kept.concat())
}

/// `samba`, in a node: asks the server of its own host as members of a domain do, and prints what comes back.
pub(crate) fn ask(_arguments: &[String]) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, 123))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut other = KEY;
    other[0] ^= 1;
    // Nobody signs for the other key; the answer to the one that is known comes behind it.
    for key in [other, KEY] {
        socket.send(&request(key))?;
    }
    let mut room = [0; 1024];
    let octets = socket.recv(&mut room).context("no answer")?;
    println!("{}", hex(&room[..octets]));
    Ok(())
}

fn request(key: [u8; 4]) -> Vec<u8> {
    let mut request = vec![0; HEADER];
    request[0] = 0x1b;
    request[40..48].copy_from_slice(b"a member");
    request.extend(key);
    request.extend([0; 16]);
    request
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Asks on a node, and checks the answer.
fn ask_on(node: &Node) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("samba");
    let output = node.wrap(&command).output().context("cannot ask")?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let end = hex(&[&KEY[..], &SIGNATURE].concat());
    let is_signed = text.len() == 2 * (HEADER + KEY.len() + SIGNATURE.len()) && text.ends_with(&end);
    ensure!(is_signed && text.get(48..64) == Some(&hex(b"a member")), "not the signed answer: {text}");
    Ok(())
}

fn as_with_chronyd(stage: &mut Stage) -> Result<()> {
    let (two, three, four) = (stage.node(2)?, stage.node(3)?, stage.node(4)?);
    let (ours, messages) = samba(stage, "ours")?;
    let ours = chrony::of_text(stage, &two, Trixie, ("ours", &(CHRONY.to_owned() + &ours)), true)?;
    let said = said_of(stage, "ours", &two, &messages)?;
    let (directory, messages) = samba(stage, "theirs")?;
    let theirs = chrony::of_text(stage, &four, Trixie, ("theirs", &(CHRONY.to_owned() + &directory)), false)?;
    let by_chronyd = said_of(stage, "chronyd", &four, &messages)?;
    ensure!(said == by_chronyd, "we say {said:02x?}, and chronyd {by_chronyd:02x?}");
    // The ntpd of neither Debian asks Samba in this network, whatever its restrictions say.
    let (directory, messages) = samba(stage, "ntpd")?;
    let text = format!("tos orphan 8 orphanwait 1\nrestrict 127.0.0.1 mssntp\n{directory}");
    let ntpd = ntpsec::of_text(stage, &three, Trixie, ("ntpd", &text), true)?;
    let as_ntpd = said_of(stage, "ours as ntpd", &three, &messages)?;
    ensure!(as_ntpd == said, "as ntpd we say {as_ntpd:02x?}, and as chronyd {said:02x?}");
    drop((ours, theirs, ntpd));
    Ok(())
}

/// What the server on a node said to its Samba, so that a member of the domain got a signed answer.
fn said_of(stage: &Stage, whose: &str, node: &Node, messages: &Messages) -> Result<Vec<u8>> {
    stage.until(&format!("a signed answer of {whose}"), PATIENCE, || ask_on(node))?;
    let messages = messages.lock().ok().context("a broken lock")?;
    let last = messages.iter().rfind(|message| message.get(16..20) == Some(&KEY[..]));
    comparable(last.with_context(|| format!("{whose} did not ask Samba"))?)
}
