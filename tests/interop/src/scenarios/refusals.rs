//! Certificates that must be refused, each with its own message and counter.

use super::PATIENCE;
use crate::install::Suite::Trixie;
use crate::peers::{ClientOf, ServerOf, chimed, chrony};
use crate::pki::{Identity, Pki};
use crate::stage::Stage;
use anyhow::{Result, ensure};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("refusals/wrong-host-name", |stage| {
        refused(stage, |pki| &pki.wrong_name, "wrong_host_name", "is for elsewhere.test, not for server.test")
    }),
    ("refusals/unknown-issuer", |stage| {
        refused(stage, |pki| &pki.unknown_issuer, "unknown_issuer", "issued by an unknown authority")
    }),
    ("refusals/expired", |stage| {
        refused(stage, |pki| &pki.expired, "certificate-expired", "certificate expired")
    }),
    ("refusals/expired-is-accepted-for-as-long-as-by-chronyd", excepted),
    ("refusals/not-yet-valid", |stage| {
        refused(stage, |pki| &pki.not_yet_valid, "certificate-not-yet-valid", "certificate not yet valid")
    }),
    ("refusals/self-signed", |stage| refused(stage, |pki| &pki.self_signed, "self_signed", "is self-signed")),
    ("refusals/no-key-establishment-server", no_server),
    ("refusals/symmetric-key-that-the-server-does-not-have", wrong_key),
];

/// Our client never polls a server with this certificate, and says why: in the counter of that
/// kind, in the report's words, and in the log.
fn refused(stage: &mut Stage, identity: fn(&Pki) -> &Identity, kind: &str, words: &str) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(identity(stage.pki())))?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server.test"))?;
    check_refused(stage, &client, kind, words)
}

/// `nocerttimecheck 1`: before the first update of the clock an expired certificate is as good as another.
fn excepted(stage: &mut Stage) -> Result<()> {
    let (one, two, four) = (stage.node(1)?, stage.node(2)?, stage.node(4)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(&stage.pki().expired))?;
    let ca = stage.pki().ca.display();
    let text = |updates: u32| {
        let server = "server server.test nts iburst minpoll 0 maxpoll 0";
        format!("{server}\nnosystemcert\nntstrustedcerts {ca}\nport 0\nnocerttimecheck {updates}\n")
    };
    for (node, name, ours) in [(&two, "ours", true), (&four, "theirs", false)] {
        let checking = chrony::of_text(stage, node, Trixie, (&format!("{name}-0"), &text(0)), ours)?;
        stage.until("a refusal", PATIENCE, || {
            ensure!(checking.log().contains("expired"), "no refusal yet");
            Ok(())
        })?;
        checking.stop()?;
        let excepting = chrony::of_text(stage, node, Trixie, (&format!("{name}-1"), &text(1)), ours)?;
        stage.until("reach 377", PATIENCE, || excepting.view()?.expect_selected(0xff))?;
        excepting.stop()?;
    }
    Ok(())
}

fn no_server(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::plain())?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server.test"))?;
    check_refused(stage, &client, "connect", "cannot connect")
}

fn check_refused(stage: &Stage, client: &chimed::Chimed, kind: &str, words: &str) -> Result<()> {
    stage.until("a refusal", PATIENCE, || {
        let failures = client.establishment_failures()?;
        ensure!(failures.iter().any(|(word, count)| word == kind && *count > 0), "failures: {failures:?}");
        // A server that is not up yet refuses the first connection.
        let is_expected = |word: &str| word == kind || word == "connect";
        ensure!(failures.iter().all(|(word, _)| is_expected(word)), "other failures too: {failures:?}");
        Ok(())
    })?;
    let view = client.view()?;
    ensure!(view.reach == 0 && !view.is_selected, "the server was believed: {view:?}");
    let error = client.establishment_error()?.unwrap_or_default();
    ensure!(error.contains(words), "the report does not say what went wrong: {error}");
    let log = client.log();
    let is_logged = |line: &str| line.contains("server.test") && line.contains(words);
    ensure!(log.lines().any(is_logged), "the log does not say what went wrong, and where");
    Ok(())
}

/// Chrony does not have key 5: what it answers, if anything, proves nothing.
fn wrong_key(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::plain())?;
    let client = chimed::client(stage, &two, &ClientOf::keyed("server.test", 5))?;
    std::thread::sleep(std::time::Duration::from_secs(8));
    let view = client.view()?;
    ensure!(view.reach == 0 && !view.is_selected, "the server was believed: {view:?}");
    Ok(())
}
