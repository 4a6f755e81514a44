//! Answers for members of a Windows domain: Samba signs them, and they leave when it has.
//!
//! Workers hand them over and go on. A thread of their own, started with the first of them, asks Samba for one signature
//! after the other; what it cannot keep up with is dropped, and a Samba that is not there costs nobody but those who ask
//! for signatures.

use chime_server::{SIGNING_REPLY_OCTETS_MAX, SigningError, Unsigned};
use chime_sys::clock;
use chime_sys::signals;
use chime_sys::udp::{LocalAddress, UdpSocket};
use chime_time::MonoTime;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// The socket in the directory of Samba's.
const SOCKET_NAME: &str = "socket";
/// Answers that wait for Samba: about as many as it signs in a tenth of a second.
const QUEUE_MAX: usize = 128;
/// How long Samba may take for one; it looks a password up.
const PATIENCE: Duration = Duration::from_secs(1);
/// What waited longer is not worth a signature: its client has given up.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Between two attempts to reach a Samba that is not there.
const PAUSE: Duration = Duration::from_secs(1);

/// Has answers signed by the Samba of one directory.
#[derive(Debug)]
pub(super) struct Signer {
    socket: PathBuf,
    /// The way into the thread; none when that could not be started.
    queue: OnceLock<Option<SyncSender<Job>>>,
}

/// An answer, and where it goes.
struct Job {
    unsigned: Unsigned,
    made: MonoTime,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    from: Option<LocalAddress>,
}

impl Signer {
    pub(super) fn new(directory: &Path) -> Self {
        Self { socket: directory.join(SOCKET_NAME), queue: OnceLock::new() }
    }

    /// Takes an answer to be signed and sent to `to`, from the local address `from`; `false` when there is no room for it.
    fn take(&self, job: Job) -> bool {
        let queue = self.queue.get_or_init(|| start(self.socket.clone()));
        queue.as_ref().is_some_and(|queue| queue.try_send(job).is_ok())
    }
}

/// A worker's way to a signer: by the socket that requests come in.
#[derive(Clone, Debug)]
pub(super) struct SigningDesk {
    signer: Arc<Signer>,
    socket: Arc<UdpSocket>,
}

impl SigningDesk {
    /// `None` when the socket cannot be shared with the thread that signs.
    pub(super) fn new(signer: Arc<Signer>, socket: &UdpSocket) -> Option<Self> {
        let shared = socket.try_clone();
        let shared =
            shared.inspect_err(|error| error!("answers are not signed: a socket cannot be shared: {error}"));
        Some(Self { signer, socket: Arc::new(shared.ok()?) })
    }

    /// As [`Signer::take`].
    pub(super) fn take(&self, unsigned: Unsigned, to: SocketAddr, from: Option<LocalAddress>) -> bool {
        self.signer.take(Job { unsigned, made: clock::mono_now(), socket: self.socket.clone(), to, from })
    }
}

fn start(socket: PathBuf) -> Option<SyncSender<Job>> {
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let thread = std::thread::Builder::new().name("signing".to_owned()).spawn(move || {
        // Signals are the time plane's.
        if let Err(error) = signals::block_in_this_thread() {
            debug!("signals cannot be blocked: {error}");
        }
        Line { socket, stream: None, number: 0, failing: None }.work(&receiver);
    });
    thread.inspect_err(|error| error!("answers are not signed: no thread can be started: {error}")).ok()?;
    Some(sender)
}

/// The line to Samba.
struct Line {
    socket: PathBuf,
    stream: Option<UnixStream>,
    /// Of the last message.
    number: u16,
    /// Since when Samba was not reached, and when that was last tried.
    failing: Option<MonoTime>,
}

impl Line {
    /// Signs until all workers have ended.
    fn work(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let now = clock::mono_now();
            let is_stale = now.saturating_since(job.made) > AGE_MAX;
            let is_paused = self.failing.is_some_and(|tried| now.saturating_since(tried) < PAUSE);
            if is_stale || is_paused {
                continue;
            }
            match self.sign(&job.unsigned) {
                Ok(Ok(signed)) => {
                    if let Err(error) = job.socket.send_to(&signed, job.to, job.from) {
                        debug!("a signed answer could not be sent to {}: {error}", job.to);
                    }
                }
                // What the network can cause at will is no line of the log.
                Ok(Err(why)) => debug!("no signed answer for {}: {why}", job.to),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.stream = None;
        if self.failing.is_none() {
            warn!("{}: {error}; answers for members of the domain are not signed", self.socket.display());
        }
        self.failing = Some(clock::mono_now());
    }

    /// The outer error is the line's, the inner one what Samba says.
    fn sign(
        &mut self,
        unsigned: &Unsigned,
    ) -> io::Result<Result<[u8; chime_server::SIGNED_OCTETS], SigningError>> {
        self.number = self.number.wrapping_add(1);
        let message = unsigned.message(self.number);
        let was_open = self.stream.is_some();
        let reply = match self.ask(&message) {
            // Samba may have been started anew since.
            Err(_) if was_open => {
                self.stream = None;
                self.ask(&message)?
            }
            reply => reply?,
        };
        if self.failing.take().is_some() {
            info!("{}: answers are signed again", self.socket.display());
        }
        let signed = unsigned.signed(self.number, &reply);
        if signed == Err(SigningError::Malformed) {
            // What comes next may belong to this one.
            self.stream = None;
        }
        Ok(signed)
    }

    fn ask(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(connect(&self.socket)?),
        };
        stream.write_all(message)?;
        let mut first = [0; 4];
        stream.read_exact(&mut first)?;
        let length = Unsigned::reply_length(first)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut reply = [0; SIGNING_REPLY_OCTETS_MAX];
        let reply = &mut reply[..length];
        stream.read_exact(reply)?;
        Ok(reply.to_vec())
    }
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
