//! A socket that tells what comes to it: for what is sent without being asked for.

use crate::network::Node;
use crate::process::Daemon;
use crate::stage::Stage;
use anyhow::Result;
use std::net::UdpSocket;
use std::process::Command;

/// Starts a listener on a node.
pub(crate) fn spawn(stage: &Stage, node: &Node, ports: &[u16]) -> Result<Daemon> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("listen").args(ports.iter().map(ToString::to_string));
    Daemon::spawn("listener", node.wrap(&command), stage.folder())
}

/// `listen PORT...`: prints a line for each datagram until it is killed.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let sockets: Result<Vec<(String, UdpSocket)>> = arguments
        .iter()
        .map(|port| Ok((port.clone(), UdpSocket::bind(format!("0.0.0.0:{port}"))?)))
        .collect();
    std::thread::scope(|scope| {
        for (port, socket) in sockets? {
            scope.spawn(move || {
                let mut buffer = [0; 2048];
                while let Ok((octets, from)) = socket.recv_from(&mut buffer) {
                    println!("{port} from {from}: {octets} octets, {}", describe(&buffer[..octets]));
                }
            });
        }
        Ok(())
    })
}

/// Mode, stratum, and the number of the key behind a header without extension fields.
fn describe(octets: &[u8]) -> String {
    let [first, stratum, ..] = octets else { return "no packet".to_owned() };
    let mac = octets.get(48..52).and_then(|number| number.try_into().ok());
    let key = mac.map_or_else(|| "no MAC".to_owned(), |number| format!("key {}", u32::from_be_bytes(number)));
    format!("mode {}, stratum {stratum}, {key}", first & 7)
}
