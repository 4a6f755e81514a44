//! Talking to the daemon: HTTP over its Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chime_config::Observability;
use chime_control::{Command, Snapshot};
use chimed::load::load;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Longest wait for an answer: the daemon answers from memory.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Octets of an answer: a report of the largest server is well below.
const ANSWER_OCTETS_MAX: usize = 64 << 20;

/// Why the daemon did not answer as hoped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("no daemon runs here: {} does not exist (is chimed running? --socket names another place)", .0.display())]
    NotRunning(PathBuf),
    #[error("no daemon runs here: nobody listens on {}", .0.display())]
    NotListening(PathBuf),
    #[error("you may not talk to the daemon: {} is not open to you (become root, or join its group)", .0.display())]
    Forbidden(PathBuf),
    #[error("the daemon does not answer on {}: {}", .0.display(), .1)]
    NoAnswer(PathBuf, String),
    #[error("the daemon answers with something else than expected: {0}")]
    Strange(String),
    #[error("the daemon refuses: {0}")]
    Refused(String),
}

/// A daemon, by its socket.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The daemon of a socket; without one, of the socket in the daemon's configuration. A configuration that cannot be
    /// read or is wrong has the usual socket: the daemon may have started with a better one.
    pub(crate) fn find(socket: Option<&Path>) -> Self {
        let configured =
            || load(None, None).ok().and_then(|(loaded, _)| loaded.model.observability.control_socket);
        let usual = || Observability::default().control_socket.unwrap_or_default();
        Self { socket: socket.map_or_else(|| configured().unwrap_or_else(usual), Path::to_owned) }
    }

    /// The state of the daemon.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, DaemonError> {
        let (status, body) = self.exchange(Method::GET, "/v1/snapshot", Bytes::new())?;
        if status != StatusCode::OK {
            return Err(DaemonError::Refused(reason(status, &body)));
        }
        serde_json::from_slice(&body).map_err(|error| DaemonError::Strange(error.to_string()))
    }

    /// Sends a command; it is carried out soon after.
    pub(crate) fn command(&self, command: &Command) -> Result<(), DaemonError> {
        let json = serde_json::to_vec(command).map_err(|error| DaemonError::Strange(error.to_string()))?;
        let (status, body) = self.exchange(Method::POST, "/v1/commands", json.into())?;
        if status.is_success() { Ok(()) } else { Err(DaemonError::Refused(reason(status, &body))) }
    }

    fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), DaemonError> {
        let no_answer =
            |error: &dyn std::fmt::Display| DaemonError::NoAnswer(self.socket.clone(), error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| no_answer(&error))?;
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
            talk(stream, method, path, body).await.map_err(|error| no_answer(&error))
        };
        runtime
            .block_on(async { tokio::time::timeout(TIME_MAX, exchange).await })
            .unwrap_or_else(|_| Err(no_answer(&"no answer within 5 seconds")))
    }

    fn unreachable(&self, error: &io::Error) -> DaemonError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound => DaemonError::NotRunning(socket),
            io::ErrorKind::ConnectionRefused => DaemonError::NotListening(socket),
            io::ErrorKind::PermissionDenied => DaemonError::Forbidden(socket),
            _ => DaemonError::NoAnswer(socket, error.to_string()),
        }
    }
}

type Talked = Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>>;

async fn talk(stream: UnixStream, method: Method, path: &str, body: Bytes) -> Talked {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_OCTETS_MAX).collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}

/// The daemon's own words, or the status when it has none.
fn reason(status: StatusCode, body: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()))
        .unwrap_or_else(|| status.to_string())
}
