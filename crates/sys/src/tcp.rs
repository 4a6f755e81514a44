//! TCP, nonblocking, for key establishment.
//!
//! Reading and writing is by `recv` and `send` only, so that TLS can run over [`TcpStream`] wherever sockets are
//! simulated.

use crate::address::{RawAddress, family_of, name_of};
use crate::descriptor::{
    bind_to_device, check, check_octets, set_cloexec_and_nonblocking, set_option, socket, take_error,
};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Connections that the kernel completes for us before we accept them.
const BACKLOG: libc::c_int = 1024;

/// A listening socket.
#[derive(Debug)]
pub struct TcpListener(OwnedFd);

impl TcpListener {
    /// Listens on `local`. An IPv6 socket takes IPv6 only; `reuse_port` lets several listeners share the port.
    pub fn bind(local: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let fd = socket(family_of(&local), libc::SOCK_STREAM, 0)?;
        // So that a restart need not wait for the last connections' TIME_WAIT to pass; refusal is harmless.
        let _refused = set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
        if reuse_port {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        if local.is_ipv6() {
            set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        let raw = RawAddress::from(local);
        // SAFETY: the pointer and the length describe `raw`, alive during the call.
        check(unsafe { libc::bind(fd.as_raw_fd(), raw.as_ptr(), raw.octets) })?;
        // SAFETY: listen takes plain numbers.
        check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
        Ok(Self(fd))
    }

    /// The local address and port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        name_of(self.0.as_raw_fd(), libc::getsockname)
    }

    /// Accepts one connection. `WouldBlock` when there is none; other errors mostly concern that connection only,
    /// but for `EMFILE` and its like ([`is_out_of_resources`]), after which to pause.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut raw = RawAddress::empty();
        // SAFETY: the pointers are to storage of the length given, alive during the call.
        let fd = check(unsafe { libc::accept(self.0.as_raw_fd(), raw.as_mut_ptr(), &raw mut raw.octets) })?;
        // SAFETY: the descriptor was just opened and nobody else owns it.
        let stream = TcpStream(unsafe { OwnedFd::from_raw_fd(fd) });
        set_cloexec_and_nonblocking(fd);
        stream.set_no_delay();
        let peer = raw.to_socket_addr().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        Ok((stream, peer))
    }
}

/// Whether accepting failed because this process or the machine has no descriptor or memory left.
#[must_use]
pub fn is_out_of_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// A connection, or the attempt at one.
#[derive(Debug)]
pub struct TcpStream(OwnedFd);

impl TcpStream {
    /// Starts to connect, from the address `local` and through the `interface` if these are given. Wait until it is writable, then ask
    /// [`TcpStream::connect_result`].
    pub fn connect(remote: SocketAddr, local: Option<IpAddr>, interface: Option<&str>) -> io::Result<Self> {
        let fd = socket(family_of(&remote), libc::SOCK_STREAM, 0)?;
        if let Some(interface) = interface {
            bind_to_device(&fd, interface)?;
        }
        if let Some(local) = local {
            let raw = RawAddress::from(SocketAddr::new(local, 0));
            // SAFETY: the pointer and the length describe `raw`, alive during the call.
            check(unsafe { libc::bind(fd.as_raw_fd(), raw.as_ptr(), raw.octets) })?;
        }
        let raw = RawAddress::from(remote);
        // SAFETY: the pointer and the length describe `raw`, alive during the call.
        let result = check(unsafe { libc::connect(fd.as_raw_fd(), raw.as_ptr(), raw.octets) });
        match result {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => {
                let stream = Self(fd);
                stream.set_no_delay();
                Ok(stream)
            }
        }
    }

    /// How the attempt to connect ended; to be asked once, when the stream is writable.
    pub fn connect_result(&self) -> io::Result<()> {
        take_error(&self.0)?.map_or(Ok(()), Err)
    }

    /// The remote address and port.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        name_of(self.0.as_raw_fd(), libc::getpeername)
    }

    /// The local address and port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        name_of(self.0.as_raw_fd(), libc::getsockname)
    }

    /// Tells the peer that nothing more will be sent.
    pub fn shutdown_write(&self) -> io::Result<()> {
        // SAFETY: shutdown takes plain numbers.
        check(unsafe { libc::shutdown(self.0.as_raw_fd(), libc::SHUT_WR) }).map(drop)
    }

    /// Sends small records at once; a refusal costs a few milliseconds only.
    fn set_no_delay(&self) {
        let _refused = set_option(&self.0, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length describe the buffer.
        check_octets(unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })
    }
}

impl Write for TcpStream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        (&*self).write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &TcpStream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length describe the octets, which are only read.
        check_octets(unsafe {
            libc::send(self.0.as_raw_fd(), octets.as_ptr().cast(), octets.len(), libc::MSG_NOSIGNAL)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::poll::{Interest, PollSet, Wake};
    use std::time::Duration;

    fn wait_for(descriptor: &impl AsFd, interest: Interest) {
        let mut set = PollSet::new();
        set.add(descriptor, interest, ());
        let deadline = clock::mono_now().saturating_add(Duration::from_secs(5));
        while set.wait(Some(deadline)).unwrap() != Wake::Ready {
            assert!(clock::mono_now() < deadline, "nothing came");
        }
    }

    fn conversation(local: &str) {
        let listener = TcpListener::bind(local.parse().unwrap(), false).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut client = TcpStream::connect(listener.local_addr().unwrap(), None, None).unwrap();
        wait_for(&client, Interest::WRITE);
        client.connect_result().unwrap();
        wait_for(&listener, Interest::READ);
        let (mut server, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(server.peer_addr().unwrap(), peer);

        client.write_all(b"hello").unwrap();
        client.shutdown_write().unwrap();
        wait_for(&server, Interest::READ);
        let mut buffer = [0; 16];
        assert_eq!(server.read(&mut buffer).unwrap(), 5);
        wait_for(&server, Interest::READ);
        assert_eq!(server.read(&mut buffer).unwrap(), 0, "the end of the stream");
        assert_eq!(client.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_conversation_over_ipv4() {
        conversation("127.0.0.1:0");
    }

    #[test]
    fn a_conversation_over_ipv6() {
        conversation("[::1]:0");
    }

    #[test]
    fn a_refused_connection_says_so() {
        let address = TcpListener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap().local_addr().unwrap();
        let refused = match TcpStream::connect(address, None, None) {
            Err(error) => error,
            Ok(stream) => {
                wait_for(&stream, Interest::WRITE);
                stream.connect_result().unwrap_err()
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
