//! What the tests with real kernels and real peers share: programs of Debian's releases ([`debian`]), and what a daemon of
//! ours says of itself ([`snapshot`]).

pub mod debian;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a daemon may take to report.
const REPORT_WAIT: Duration = Duration::from_secs(5);

/// The root of the working tree.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Everything that a daemon shows of itself at its control socket. That is a file, so no network is in between.
///
/// # Errors
/// When nobody listens there, or the answer is no snapshot.
pub fn snapshot(socket: &Path) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).context("chimed has no control socket yet")?;
    stream.set_read_timeout(Some(REPORT_WAIT))?;
    // Version 1.0: the body ends with the connection.
    stream.write_all(b"GET /v1/snapshot HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.contains(" 200 "), "chimed answered: {head}");
    serde_json::from_str(body).with_context(|| format!("not JSON: {body}"))
}
