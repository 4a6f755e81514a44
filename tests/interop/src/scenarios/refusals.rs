//! Certificates that must be refused, each with its own message and counter.

use super::PATIENCE;
use crate::install::Suite::Trixie;
use crate::peers::{ClientOf, ServerOf, chimed, chrony};
use crate::pki::{Identity, Pki};
use crate::stage::Stage;
use anyhow::{Result, ensure};

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("refusals/wrong-host-name", |stage| refused(stage, |pki| &pki.wrong_name, "wrong-host-name")),
    ("refusals/unknown-issuer", |stage| refused(stage, |pki| &pki.unknown_issuer, "unknown-issuer")),
    ("refusals/expired", |stage| refused(stage, |pki| &pki.expired, "expired")),
    ("refusals/not-yet-valid", |stage| refused(stage, |pki| &pki.not_yet_valid, "not-yet-valid")),
    ("refusals/self-signed", |stage| refused(stage, |pki| &pki.self_signed, "self-signed")),
    ("refusals/no-key-establishment-server", no_server),
];

/// Our client never polls a server with this certificate, and says why: in the counter of that
/// kind, in the report's words, and in the log.
fn refused(stage: &mut Stage, identity: fn(&Pki) -> &Identity, kind: &str) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::nts(identity(stage.pki())))?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server.test"))?;
    check_refused(stage, &client, kind)
}

fn no_server(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let _server = chrony::server(stage, &one, Trixie, &ServerOf::plain())?;
    let client = chimed::client(stage, &two, &ClientOf::nts("server.test"))?;
    check_refused(stage, &client, "connect")
}

fn check_refused(stage: &Stage, client: &chimed::Chimed, kind: &str) -> Result<()> {
    stage.until("a refusal", PATIENCE, || {
        let failures = client.establishment_failures()?;
        ensure!(failures.iter().any(|(word, count)| word == kind && *count > 0), "failures: {failures:?}");
        ensure!(failures.iter().all(|(word, _)| word == kind), "other failures too: {failures:?}");
        Ok(())
    })?;
    let view = client.view()?;
    ensure!(view.reach == 0 && !view.is_selected, "the server was believed: {view:?}");
    ensure!(client.establishment_error()?.is_some(), "the report does not say what went wrong");
    ensure!(client.log().contains("server.test"), "the log does not name the server");
    Ok(())
}
