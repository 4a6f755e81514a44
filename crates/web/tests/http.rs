//! The control plane over real sockets, on loopback and in a temporary directory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chime_control::{Command, Snapshot};
use chime_web::{Handle, Settings, Sockets, spawn};

struct Running {
    handle: Handle,
    socket: PathBuf,
    metrics: std::net::SocketAddr,
    commands: Arc<Mutex<Vec<Command>>>,
    _folder: tempfile::TempDir,
}

fn start() -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("control.sock");
    let settings = Settings {
        socket: Some(socket.clone()),
        socket_mode: 0o660,
        metrics: Some("127.0.0.1:0".parse().expect("an address")),
        ..Settings::default()
    };
    let sockets = Sockets::open(&settings).expect("the sockets open");
    let metrics = sockets.metrics_address().expect("there is a TCP socket");
    let mut snapshot = Snapshot::default();
    snapshot.program.version = "1.2.3".to_owned();
    let commands = Arc::new(Mutex::new(Vec::new()));
    let queue = Arc::clone(&commands);
    let handle = spawn(
        sockets,
        Arc::new(move || snapshot.clone()),
        Arc::new(move |command| {
            queue.lock().expect("nobody panics with it").push(command);
            Ok(())
        }),
    )
    .expect("the thread starts");
    Running { handle, socket, metrics, commands, _folder: folder }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    // A request that is refused half way is cut off: what was answered until then counts.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("answers are text")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn unix(running: &Running) -> UnixStream {
    let stream = UnixStream::connect(&running.socket).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it can be set");
    stream
}

#[test]
fn the_unix_socket_shows_reports_and_takes_commands() {
    let running = start();
    let answer = exchange(unix(&running), &get("/v1/snapshot"));
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\"version\":\"1.2.3\""), "{answer}");
    let body = "{\"command\":\"reselect\"}";
    let post = format!(
        "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(unix(&running), &post);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(*running.commands.lock().expect("nobody panics with it"), [Command::Reselect]);
}

#[test]
fn tcp_shows_metrics_only() {
    let running = start();
    let connect = || TcpStream::connect(running.metrics).expect("it listens");
    let answer = exchange(connect(), &get("/metrics"));
    assert!(answer.contains("application/openmetrics-text") && answer.ends_with("# EOF\n"), "{answer}");
    assert!(exchange(connect(), &get("/v1/snapshot")).starts_with("HTTP/1.1 404"));
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let running = start();
    let post =
        "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 8000\r\n\r\n";
    let answer = exchange(unix(&running), &format!("{post}{}", "x".repeat(8000)));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = exchange(unix(&running), &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)));
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[test]
fn too_many_connections_are_closed_and_the_next_ones_are_served_again() {
    let running = start();
    let held: Vec<UnixStream> = (0..80).map(|_| unix(&running)).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    // Those beyond the limit read the end at once.
    let mut last = &held[79];
    assert_eq!(last.read(&mut [0; 8]).expect("it is closed"), 0);
    drop(held);
    loop {
        let mut stream = unix(&running);
        let mut answer = String::new();
        let sent = stream.write_all(get("/").as_bytes());
        if sent.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("200 OK") {
            break;
        }
        assert!(Instant::now() < deadline, "no room was made");
    }
}

#[test]
fn garbage_is_answered_or_closed_and_harms_nothing() {
    let running = start();
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n"] {
        let mut stream = unix(&running);
        let _ = stream.write_all(garbage.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    assert!(exchange(unix(&running), &get("/v1/status")).contains("not synchronised"));
}

#[test]
fn stopping_removes_the_socket_even_with_open_connections() {
    let running = start();
    let _held = unix(&running);
    let before = Instant::now();
    running.handle.stop();
    assert!(before.elapsed() < Duration::from_secs(5));
    assert!(!running.socket.exists());
}
