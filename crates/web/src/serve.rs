//! The thread, its connections, and their limits.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use crate::route::{self, Answer, Door, Request};
use crate::{Commands, Snapshots, Sockets};

/// Connections at a time; more are closed at once. An operator and a few scrapers need less.
const CONNECTIONS_MAX: usize = 64;
/// Longest a connection may last, however it spends its time.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the head of a request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// Octets of a request's head and of what is buffered of it.
const HEAD_OCTETS_MAX: usize = 16 * 1024;
/// Octets of a request's body: commands are small.
const BODY_OCTETS_MAX: usize = 4 * 1024;
/// Pause after a failed `accept`, which without it would repeat at once when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The running control plane; it ends when this is dropped.
#[derive(Debug)]
pub struct Handle {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Closes the sockets, removes the socket file and waits for the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Without a receiver the thread is gone already.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the control thread has panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Serves the sockets on a thread of their own.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn spawn(sockets: Sockets, snapshots: Snapshots, commands: Commands) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (stop, stopped) = watch::channel(false);
    let context = Context {
        snapshots,
        commands,
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        stopped: stopped.clone(),
    };
    let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(run(sockets, context, stopped)) {
            warn!(%error, "the control plane cannot serve");
        }
        // What hangs in a connection is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(Handle { stop, thread: Some(thread) })
}

/// What a connection needs.
#[derive(Clone)]
struct Context {
    snapshots: Snapshots,
    commands: Commands,
    connections: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

async fn run(sockets: Sockets, context: Context, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    let mut path: Option<PathBuf> = None;
    if let Some((at, listener)) = sockets.unix {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        path = Some(at);
        let context = context.clone();
        tokio::spawn(async move {
            loop {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                admit(accepted, Door::Unix, &context).await;
            }
        });
    }
    if let Some(listener) = sockets.tcp {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let context = context.clone();
        tokio::spawn(async move {
            loop {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                admit(accepted, Door::Tcp, &context).await;
            }
        });
    }
    // An error means that the handle is gone, which is the same wish.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    if let Some(path) = path
        && let Err(error) = fs::remove_file(&path)
    {
        debug!(%error, path = %path.display(), "the control socket cannot be removed");
    }
    Ok(())
}

/// Serves a connection if there is room, and closes it if not.
async fn admit<S>(accepted: io::Result<S>, door: Door, context: &Context)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match accepted {
        Ok(stream) => {
            if let Ok(permit) = Arc::clone(&context.connections).try_acquire_owned() {
                tokio::spawn(connection(stream, door, context.clone(), permit));
            }
        }
        Err(error) => {
            debug!(%error, "a control connection cannot be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn connection<S>(stream: S, door: Door, context: Context, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stopped = context.stopped.clone();
    let service = service_fn(move |request| respond(request, door, context.clone()));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_OCTETS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        result = tokio::time::timeout(CONNECTION_TIME_MAX, serving) => {
            if let Ok(Err(error)) = result {
                debug!(%error, "a control connection failed");
            }
        }
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    drop(permit);
}

async fn respond(
    request: hyper::Request<Incoming>,
    door: Door,
    context: Context,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, BODY_OCTETS_MAX).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let request = Request {
                door,
                method: &head.method,
                path: head.uri.path(),
                query: head.uri.query().unwrap_or(""),
                body: &body,
            };
            route::answer(&request, &(context.snapshots)(), &*context.commands)
        }
        Err(_) => route::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or broken off"),
    };
    Ok(response(answer))
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(answer.media_type));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}
