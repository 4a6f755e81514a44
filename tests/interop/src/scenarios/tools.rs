//! The tools that ask a server once, without a daemon.

use super::PATIENCE;
use crate::install::Suite::{self, Bookworm, Trixie};
use crate::install::run;
use crate::network::Node;
use crate::peers::{KEYS_NTPSEC, ServerOf, chimed, chrony, ntpsec};
use crate::process::Daemon;
use crate::stage::Stage;
use crate::tree::own_program;
use anyhow::{Context, Result, ensure};
use std::process::{Command, Output};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("tools/chime-ke-shows-every-step", ke_shows),
    ("tools/chime-ke-says-what-is-wrong-with-a-certificate", ke_explains),
    ("tools/chime-ke-says-that-tls-is-too-old", ke_explains_tls),
    ("tools/chime-query-with-and-without-nts", query),
    ("tools/chimed-measures-once", measure_once),
    ("tools/ntpdig-1.2.2-asks-our-server", |stage| dig(stage, Bookworm)),
    ("tools/ntpdig-1.2.3-asks-our-server", |stage| dig(stage, Trixie)),
];

/// Runs `chime` with these words on a node.
fn chime(stage: &Stage, node: &Node, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(own_program("chime")?);
    command.args(words);
    if words.contains(&"ke") || words.contains(&"--nts") {
        command.arg("--ca").arg(&stage.pki().ca).arg("--no-system-cas");
    }
    node.wrap(&command).output().context("cannot run chime")
}

/// Runs `chime` until it succeeds, since the server may not be up at once.
fn chime_says(stage: &Stage, node: &Node, words: &[&str]) -> Result<String> {
    stage.until(&words.join(" "), PATIENCE, || {
        let output = chime(stage, node, words)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {text} {errors}", output.status);
        Ok(text)
    })
}

/// Runs `chime` until it fails for this reason, in these words, with an exit status that is not 0.
fn chime_complains(stage: &Stage, node: &Node, words: &[&str], complaint: &str) -> Result<()> {
    stage.until(complaint, PATIENCE, || {
        let output = chime(stage, node, words)?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(!output.status.success(), "it succeeded: {text}");
        ensure!(text.contains(complaint), "{text}");
        Ok(())
    })
}

fn ke_shows(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().by_name))?;
    let text = chime_says(stage, &two, &["ke", "server.test"])?;
    for word in ["fd77::1", "TLS 1.3", "interop test ca", "AES-128-GCM-SIV", "8"] {
        ensure!(text.contains(word), "no `{word}` in: {text}");
    }
    let json = chime_says(stage, &two, &["ke", "server.test", "--json"])?;
    let _: serde_json::Value = serde_json::from_str(&json).context("chime ke --json")?;
    Ok(())
}

fn ke_explains(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().wrong_name))?;
    chime_complains(stage, &two, &["ke", "server.test"], "the certificate is for elsewhere.test")
}

/// A server of TLS 1.2 alone: no peer can be told to be one, so Python is.
fn ke_explains_tls(stage: &mut Stage) -> Result<()> {
    const SERVER: &str = "import socket, ssl, sys\n\
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
        context.maximum_version = ssl.TLSVersion.TLSv1_2\n\
        context.load_cert_chain(sys.argv[1], sys.argv[2])\n\
        context.set_alpn_protocols(['ntske/1'])\n\
        listener = socket.create_server(('', 4460))\n\
        while True:\n    \
            try: context.wrap_socket(listener.accept()[0], server_side=True)\n    \
            except (ssl.SSLError, OSError) as error: print(error)\n";
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let identity = &stage.pki().by_name;
    let mut command = ntpsec::python(Trixie)?;
    command.args(["-c", SERVER]).arg(&identity.chain).arg(&identity.key);
    let _server = Daemon::spawn("tls-1.2", one.wrap(&command), stage.folder())?;
    chime_complains(stage, &two, &["ke", "server4.test"], "only speaks TLS 1.2")
}

fn query(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    chime_says(stage, &two, &["query", "--nts", "server.test"])?;
    chime_says(stage, &two, &["query", "server4.test"])?;
    chime_says(stage, &two, &["query", "-6", "server.test", "--json"])?;
    let output = chime(stage, &two, &["query", "-t", "2", "other4.test"])?;
    ensure!(!output.status.success(), "an answer from nobody");
    Ok(())
}

/// `chimed -Q`: prints an offset and ends with 0, or says that there is no time and ends with 1.
fn measure_once(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let server = chrony::server(stage, &one, Bookworm, &ServerOf::nts(&stage.pki().by_name))?;
    let text = format!(
        "[state]\ndirectory = \"{}\"\n[[source]]\nmode = \"nts\"\naddress = \"server.test\"\n\
         certificate-authority = \"{}\"\n",
        stage.folder().join("once").display(),
        stage.pki().ca.display()
    );
    let configuration = stage.write("once.toml", &text)?;
    let mut command = Command::new(own_program("chimed")?);
    command.args(["-Q", "-t", "8", "-c"]).arg(&configuration);
    stage.until("an offset", PATIENCE, || run(&mut two.wrap(&command)))?;
    server.stop()?;
    std::fs::remove_dir_all(stage.folder().join("once")).ok();
    let mut command = Command::new(own_program("chimed")?);
    command.args(["-Q", "-t", "3", "-c"]).arg(&configuration);
    let status = two.wrap(&command).output()?.status;
    ensure!(status.code() == Some(1), "without a server it ended with {status}");
    Ok(())
}

/// ntpdig of NTPsec, which only looks: plain and with a key.
fn dig(stage: &mut Stage, suite: Suite) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chimed::server(stage, &one, &ServerOf::plain())?;
    let measures = |words: &[&str]| {
        stage.until("ntpdig measures", PATIENCE, || {
            let arguments = [words, &["-t", "2", "10.77.0.1"]].concat();
            let (succeeded, text) = ntpsec::tool(suite, &two, "usr/bin/ntpdig", &arguments)?;
            // Time, offset, error, address, stratum.
            let is_measured = text.contains("+/-") && text.contains("10.77.0.1 s");
            ensure!(succeeded && is_measured, "ntpdig {words:?}: {text}");
            Ok(())
        })
    };
    let keys = stage.write("ntpdig.keys", KEYS_NTPSEC)?;
    let keys = keys.to_str().context("a path")?;
    measures(&[])?;
    measures(&["-a", "2", "-k", keys])
}
