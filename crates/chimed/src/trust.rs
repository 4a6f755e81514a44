//! Whom the sources trust: certificates from the system's store and from files, read once and again on SIGHUP.

use anyhow::{Context, Result, bail};
use chime_config::{Model, NtsTrust};
use chime_ke::{ClientConfig, ClientTrust, PublicKeyPin, TrustAnchors};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

/// One configuration for each different way of trusting; the engine names them by number.
#[derive(Clone, Debug, Default)]
pub struct Trusts {
    wishes: Vec<NtsTrust>,
    configs: Vec<ClientConfig>,
}

impl Trusts {
    /// Reads what the sources of `model` need.
    ///
    /// # Errors
    /// When a file cannot be read, or a source would trust nobody.
    pub fn load(model: &Model) -> Result<Self> {
        let mut trusts = Self::default();
        let mut system = None;
        for wish in model.sources.iter().filter_map(|source| source.authentication.nts_trust()) {
            if trusts.number_of(wish).is_none() {
                let trust = read_trust(wish, &mut system)?;
                trusts.configs.push(ClientConfig::new(&provider(), trust));
                trusts.wishes.push(wish.clone());
            }
        }
        Ok(trusts)
    }

    /// Reads what one more way of trusting needs, for a source that is added later.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn add(&mut self, wish: &NtsTrust) -> Result<()> {
        if self.number_of(wish).is_none() {
            self.configs.push(ClientConfig::new(&provider(), read_trust(wish, &mut None)?));
            self.wishes.push(wish.clone());
        }
        Ok(())
    }

    /// The number by which the engine names this way of trusting.
    #[must_use]
    pub fn number_of(&self, wish: &NtsTrust) -> Option<u32> {
        let position = self.wishes.iter().position(|known| same_trust(known, wish))?;
        u32::try_from(position).ok()
    }

    /// The configuration of that number; one that trusts nobody when there is none.
    #[must_use]
    pub fn client_config(&self, number: u32) -> ClientConfig {
        let known = usize::try_from(number).ok().and_then(|number| self.configs.get(number));
        known.cloned().unwrap_or_else(|| ClientConfig::new(&provider(), ClientTrust::default()))
    }
}

/// The cryptography of every TLS session.
#[must_use]
pub fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// Ports do not matter to trust.
fn same_trust(one: &NtsTrust, other: &NtsTrust) -> bool {
    *one == NtsTrust { port: one.port, ..other.clone() }
}

fn read_trust(wish: &NtsTrust, system: &mut Option<Arc<TrustAnchors>>) -> Result<ClientTrust> {
    let mut extra = Vec::new();
    for path in &wish.certificate_authorities {
        extra.extend(read_authorities(path)?);
    }
    let (extra_roots, _) = TrustAnchors::from_certificates(extra);
    let mut pinned_certificates = Vec::new();
    for path in &wish.pinned_certificates {
        pinned_certificates.extend(read_certificates(path)?);
    }
    let trust = ClientTrust {
        system_roots: wish.system_cas.then(|| system.get_or_insert_with(system_anchors).clone()),
        extra_roots: Arc::new(extra_roots),
        pinned_certificates,
        pinned_keys: wish.pinned_keys.iter().copied().map(PublicKeyPin).collect(),
    };
    if trust.is_empty() {
        // Not an error: plain sources may do, and the certificates may be installed while we run. Each attempt says so.
        warn!(
            "no certificate authority is trusted: NTS with these settings cannot work (install ca-certificates?)"
        );
    }
    Ok(trust)
}

/// The certificates of a PEM file, or of all PEM files of a directory. Some that cannot be used are not their user's
/// fault where there are others: bundles have them.
fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("{}", path.display()))?;
        let certificates = entries.filter_map(|entry| read_certificates(&entry.ok()?.path()).ok());
        return Ok(certificates.flatten().collect());
    }
    if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        // As chronyd: it trusts nobody. What it was meant to have is missed at the first handshake.
        warn!("{}: there is no certificate in this file", path.display());
        return Ok(Vec::new());
    }
    let certificates = read_certificates(path)?;
    let (all, unusable) =
        (certificates.len(), TrustAnchors::from_certificates(certificates.iter().cloned()).1);
    match unusable {
        0 => {}
        unusable if unusable == all => {
            bail!("{}: {unusable} certificates cannot be used as authorities", path.display())
        }
        unusable => warn!("{}: {unusable} of {all} certificates cannot be used", path.display()),
    }
    Ok(certificates)
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// When the file cannot be read, is no PEM, or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}: certificates cannot be read", path.display()))?;
    if certificates.is_empty() {
        bail!("{}: no certificate in this file (PEM is expected)", path.display());
    }
    Ok(certificates)
}

/// The system's authorities. Some stores have a certificate that cannot be used: that is not our operator's fault.
#[must_use]
pub fn system_anchors() -> Arc<TrustAnchors> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        warn!("the system's certificates: {error}");
    }
    Arc::new(TrustAnchors::from_certificates(found.certs).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_with_its_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ca.pem");
        assert!(read_certificates(&path).expect_err("missing").to_string().contains("ca.pem"));
        std::fs::write(&path, "no certificate here").expect("it can be written");
        assert!(read_certificates(&path).expect_err("empty").to_string().contains("no certificate"));
        assert!(read_authorities(&path).expect_err("no PEM").to_string().contains("no certificate"));
    }

    #[test]
    fn an_empty_file_of_authorities_trusts_nobody() {
        assert_eq!(read_authorities(Path::new("/dev/null")).expect("it is a warning"), []);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "").expect("it can be written");
        assert_eq!(read_authorities(&path).expect("it is a warning"), []);
        assert!(read_certificates(&path).is_err(), "who is pinned must be there");
    }
}
