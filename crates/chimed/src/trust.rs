//! Whom the sources trust: certificates from the system's store and from files, read once and again on SIGHUP.

use crate::plain_file::{self, LARGE_OCTETS_MAX};
use crate::state_files::check_of;
use anyhow::{Context, Result, bail};
use chime_config::{Model, NtsTrust};
use chime_ke::{ClientConfig, ClientTrust, PublicKeyPin, TrustAnchors};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

/// One configuration for each different way of trusting; the engine names them by number.
///
/// The number stands for whom a wish trusts, and is the same in each run: keys that were established while others were trusted
/// are not kept, neither when the configuration is read again nor over a restart.
#[derive(Clone, Debug, Default)]
pub struct Trusts(Vec<Trust>);

#[derive(Clone, Debug)]
struct Trust {
    wish: NtsTrust,
    number: u32,
    config: ClientConfig,
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
                trusts.0.push(Trust::read(wish, &mut system)?);
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
            self.0.push(Trust::read(wish, &mut None)?);
        }
        Ok(())
    }

    /// The number by which the engine names this way of trusting.
    #[must_use]
    pub fn number_of(&self, wish: &NtsTrust) -> Option<u32> {
        self.0.iter().find(|known| same_trust(&known.wish, wish)).map(|known| known.number)
    }

    /// The configuration of that number; one that trusts nobody when there is none.
    #[must_use]
    pub fn client_config(&self, number: u32) -> ClientConfig {
        let known = self.0.iter().find(|known| known.number == number);
        known
            .map(|known| known.config.clone())
            .unwrap_or_else(|| ClientConfig::new(&provider(), ClientTrust::default()))
    }
}

impl Trust {
    fn read(wish: &NtsTrust, system: &mut Option<Arc<TrustAnchors>>) -> Result<Self> {
        let authorities = wish.certificate_authorities.iter().map(|path| read_authorities(path));
        let authorities = authorities.collect::<Result<Vec<_>>>()?.concat();
        let pinned = wish.pinned_certificates.iter().map(|path| read_certificates(path));
        let pinned = pinned.collect::<Result<Vec<_>>>()?.concat();
        let number = number(wish, &authorities, &pinned);
        let config = ClientConfig::new(&provider(), trust_of(wish, (authorities, pinned), system));
        Ok(Self { wish: wish.clone(), number, config })
    }
}

/// Of whom a wish trusts. The system's authorities count as one whatever they are: others look after them.
fn number(
    wish: &NtsTrust,
    authorities: &[CertificateDer<'_>],
    pinned_certificates: &[CertificateDer<'_>],
) -> u32 {
    let mut trusted: Vec<(u8, &[u8])> = authorities.iter().map(|one| (1, &one[..])).collect();
    trusted.extend(pinned_certificates.iter().map(|one| (2, &one[..])));
    trusted.extend(wish.pinned_keys.iter().map(|one| (3, &one[..])));
    // The files of a directory come in any order.
    trusted.sort_unstable();
    let mut octets = vec![u8::from(wish.system_cas)];
    for (kind, one) in trusted {
        octets.push(kind);
        octets.extend((one.len() as u64).to_be_bytes());
        octets.extend(one);
    }
    let check = check_of(&octets);
    // The last number is nobody's.
    u32::try_from((check ^ check >> 32) & u64::from(u32::MAX)).unwrap_or(0).min(u32::MAX - 1)
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

fn trust_of(
    wish: &NtsTrust,
    (authorities, pinned_certificates): (Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>),
    system: &mut Option<Arc<TrustAnchors>>,
) -> ClientTrust {
    let (extra_roots, _) = TrustAnchors::from_certificates(authorities);
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
    trust
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
    let certificates = plain_file::read(path, LARGE_OCTETS_MAX)
        .map_err(anyhow::Error::from)
        .and_then(|pem| Ok(CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?))
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
    fn who_trusts_others_has_another_number() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| {
            let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
            let path = folder.path().join(name);
            std::fs::write(&path, certified.cert.pem()).expect("it can be written");
            path
        };
        let source = |trust: &NtsTrust| {
            let mut source = chime_config::Source::new("nts.example");
            source.authentication = chime_config::Authentication::Nts(trust.clone());
            let model = Model { sources: vec![source.clone()], ..Model::default() };
            let trusts = Trusts::load(&model).expect("the files can be read");
            crate::wiring::source_config(&source, &trusts, 123)
        };
        let (one, other) = (file("one"), file("other"));
        let own = |path: &Path| NtsTrust {
            system_cas: false,
            certificate_authorities: vec![path.to_owned()],
            ..NtsTrust::default()
        };
        let pinned = |key| NtsTrust { pinned_keys: vec![[key; 32]], ..NtsTrust::default() };
        let all = [own(&one), own(&other), pinned(1), pinned(2), NtsTrust::default()];
        for (number, trust) in all.iter().enumerate() {
            let same = all.iter().filter(|known| source(known) == source(trust)).count();
            assert_eq!(same, 1, "{number}: what changes is noticed when the configuration is read again");
        }
        let before = source(&own(&one));
        std::fs::copy(&other, &one).expect("it can be replaced");
        assert_ne!(source(&own(&one)), before, "the file is another one");
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
