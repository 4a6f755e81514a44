//! The sockets through which workers take requests with NTS: AF_XDP, one for each receive queue of an interface.

use chime_fast::QUEUES_MAX;
use chime_sys::bpf::{Map, XdpMode};
use chime_sys::frame_socket::FrameSocket;
use std::io;
use std::time::Duration;

/// Sockets of all interfaces; each has some three megabytes.
pub(super) const SOCKETS_MAX: usize = 64;

/// How often a queue is asked for that another socket has, and how long apart: two seconds in all.
const BUSY_ATTEMPTS: u32 = 41;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Opens them for an interface and enters them in its map; and says why there are none, or not for all queues.
pub(super) fn open(
    map: &Map,
    (name, interface): (&str, u32),
    mode: XdpMode,
    sockets_max: usize,
) -> (Vec<FrameSocket>, Option<String>) {
    let mut sockets = Vec::new();
    for queue in 0..QUEUES_MAX {
        if sockets.len() == sockets_max {
            return (
                sockets,
                Some(format!("receive queues of {name} beyond {SOCKETS_MAX} in all do without AF_XDP")),
            );
        }
        match open_queue(map, interface, queue, mode) {
            Ok(socket) => sockets.push(socket),
            // How many there are shows when there are no more.
            Err(error) if queue > 0 && error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return (sockets, Some(problem(name, &error))),
        }
    }
    (sockets, None)
}

fn open_queue(map: &Map, interface: u32, queue: u32, mode: XdpMode) -> io::Result<FrameSocket> {
    let socket = open_when_free(interface, queue, mode)?;
    map.insert(&queue.to_ne_bytes(), &socket.descriptor().to_ne_bytes())?;
    Ok(socket)
}

/// The kernel takes a queue back from a socket some time after that is closed, which a daemon that is started again meets.
fn open_when_free(interface: u32, queue: u32, mode: XdpMode) -> io::Result<FrameSocket> {
    for _ in 1..BUSY_ATTEMPTS {
        match FrameSocket::open(interface, queue, mode) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(BUSY_PAUSE),
            result => return result,
        }
    }
    FrameSocket::open(interface, queue, mode)
}

/// In words.
pub(super) fn problem(name: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::ResourceBusy => " (another program has the queue)",
        io::ErrorKind::PermissionDenied => " (CAP_NET_RAW is needed at the start)",
        io::ErrorKind::InvalidInput => " (this kernel or driver has none)",
        io::ErrorKind::Unsupported => " (under systemd it takes RestrictAddressFamilies=AF_XDP)",
        io::ErrorKind::OutOfMemory => " (it takes LimitMEMLOCK=infinity or CAP_IPC_LOCK at the start)",
        _ => "",
    };
    format!("requests with NTS cannot be handed over at {name} (AF_XDP): {error}{hint}")
}
