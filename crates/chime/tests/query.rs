//! `chime query` against a daemon of our own on loopback that serves this machine's time.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.local_addr().expect("it is bound").port()
}

fn server() -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let home = folder.path().display();
    let file = folder.path().join("truechimer.toml");
    let configuration = format!(
        "user = false\nthreads = 1\n[state]\ndirectory = \"{home}\"\n[local-clock]\nstratum = 3\n\
         [[server]]\nlisten = \"127.0.0.1:{port}\"\n[observability]\n\
         observation-path = \"{home}/control.sock\"\nmetrics-exporter-listen = \"off\"\n"
    );
    std::fs::write(&file, configuration).expect("it can be written");
    let child = Command::new(env!("CARGO_BIN_EXE_chime"))
        .args(["daemon", "-x", "--keep-user", "-t", "60", "-c"])
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    wait_for(&folder.path().join("control.sock"));
    Server { child, port, _folder: folder }
}

fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(10), "the daemon did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn query(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chime")).arg("query").args(arguments).output().expect("the binary runs")
}

#[test]
fn a_server_is_measured_without_a_daemon() {
    let server = server();
    let host = format!("127.0.0.1:{}", server.port);
    let output = query(&[&host]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with(&format!("127.0.0.1 ({host})\n  offset         ")), "{text}");
    assert!(text.contains("  stratum        3\n"), "{text}");
    assert!(text.contains("  authenticated  no\n"), "{text}");

    let output = query(&[&host, "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(value[0]["measured"], true);
    let offset = value[0]["offset_seconds"].as_f64().expect("a number");
    assert!(offset.abs() < 0.1, "this machine is compared with itself: {offset}");
}

#[test]
fn silence_is_a_failure_with_its_reason() {
    let host = format!("127.0.0.1:{}", free_port());
    let output = query(&["-t", "1.5", &host]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no time"), "{text}");
    let output = query(&["-t", "1.5", "--nts", &host]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no time") && text.to_lowercase().contains("refused"), "{text}");
}

#[test]
fn a_wrong_host_is_named() {
    let output = query(&["a:b:c"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("\"a:b:c\" is not HOST"));
}
