//! The ceilings: daemons that send back what they get, without a thought. Faster than these nobody is with sockets.

use anyhow::Result;
use chime_sys::batch::ServerBatch;
use chime_sys::poll::{Interest, PollSet};
use chime_sys::udp::{UdpOptions, UdpSocket};

/// Serves for ever: `at_once` datagrams to a system call, or one by one with the calls of old.
pub(crate) fn run(at_once: usize) -> Result<()> {
    if at_once <= 1 { one_by_one() } else { batches(at_once) }
}

fn one_by_one() -> Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:123")?;
    let mut buffer = [0; 2048];
    loop {
        let (octets, from) = socket.recv_from(&mut buffer)?;
        // A client that is gone is no reason to end.
        let _sent = socket.send_to(&buffer[..octets], from);
    }
}

fn batches(at_once: usize) -> Result<()> {
    let socket = UdpSocket::bound_to("0.0.0.0:123".parse()?, &UdpOptions::default())?;
    let mut set = PollSet::new();
    set.add(&socket, Interest::READ, ());
    let mut batch = ServerBatch::new(at_once, 2048);
    loop {
        set.wait(None)?;
        loop {
            let received = batch.receive(&socket)?;
            for number in 0..received {
                if let Some((request, room)) = batch.exchange(number) {
                    let octets = request.octets.len();
                    room[..octets].copy_from_slice(request.octets);
                    batch.answer(number, octets);
                }
            }
            batch.send(&socket);
            if received < at_once {
                break;
            }
        }
    }
}
