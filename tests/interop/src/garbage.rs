//! Throws garbage at a server: datagrams and TCP streams of every length.

use anyhow::{Result, bail, ensure};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Longest datagram that is tried: more than an Ethernet frame holds.
const DATAGRAM_OCTETS_MAX: usize = 1600;

/// Lengths of TCP garbage that are tried.
const STREAM_OCTETS: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 16, 64, 100, 255, 517, 1024, 4096, 16_384, 65_536];

/// How long a stream may stay open after we have said everything.
const STREAM_WAIT: Duration = Duration::from_millis(500);

/// `garbage ADDRESS`: the NTP port and the key establishment port of a host. Prints what it did;
/// fails when an answer is longer than what provoked it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(address) = arguments.first() else { bail!("garbage ADDRESS") };
    let address: IpAddr = address.parse()?;
    let answers = datagrams(SocketAddr::new(address, 123))?;
    let streams = streams(SocketAddr::new(address, 4460));
    println!("{answers} answers to datagrams, {streams} streams");
    Ok(())
}

/// For each length: noise, noise behind a good first octet, and a good header with noise as
/// extension fields. Returns the number of answers.
fn datagrams(to: SocketAddr) -> Result<usize> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut answers = 0;
    for length in 0..=DATAGRAM_OCTETS_MAX {
        for kind in 0..4 {
            let mut octets = noise.octets(length);
            shape(&mut octets, kind);
            // A refused datagram (ICMP from the one before) shows in the next scenario step.
            let _ = socket.send(&octets);
            answers += drain(&socket, length)?;
        }
        if length % 16 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    Ok(answers + drain(&socket, DATAGRAM_OCTETS_MAX)?)
}

/// 0: noise; 1: version 4, mode 3 and noise; 2: a whole header of zeros and noise as fields;
/// 3: the same with fields that begin like NTS.
fn shape(octets: &mut [u8], kind: u8) {
    if kind == 0 {
        return;
    }
    if kind >= 2 {
        octets.iter_mut().take(48).for_each(|octet| *octet = 0);
    }
    if kind == 3 && octets.len() >= 52 {
        octets[48..52].copy_from_slice(&[0x01, 0x04, 0x00, 0x24]);
    }
    if let Some(first) = octets.first_mut() {
        *first = 0x23;
    }
}

/// Reads the answers that are there; none may be longer than the longest request so far.
fn drain(socket: &UdpSocket, longest: usize) -> Result<usize> {
    let mut buffer = [0; 4096];
    let mut answers = 0;
    while let Ok(octets) = socket.recv(&mut buffer) {
        ensure!(octets <= longest, "an answer of {octets} octets to at most {longest}");
        answers += 1;
    }
    Ok(answers)
}

/// Noise, and noise that begins like a TLS handshake. Returns the number of streams.
fn streams(to: SocketAddr) -> usize {
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    let mut count = 0;
    for &length in STREAM_OCTETS {
        for looks_like_tls in [false, true] {
            let mut octets = noise.octets(length);
            if looks_like_tls && octets.len() >= 5 {
                octets[..3].copy_from_slice(&[22, 3, 1]);
            }
            let Ok(mut stream) = TcpStream::connect_timeout(&to, STREAM_WAIT) else { continue };
            count += 1;
            // The server may close at the first octet: that is a fine answer to garbage.
            let _ = stream.write_all(&octets);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.set_read_timeout(Some(STREAM_WAIT));
            let _ = stream.read(&mut [0; 4096]);
        }
    }
    count
}

/// xorshift64*: the same noise in every run.
struct Noise(u64);

impl Noise {
    fn octets(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> u8 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
    }
}
