//! Certificates from files, read again when the files change.
//!
//! Changes are noticed by looking at the files now and then: that works with symbolic links, mounts and every tool that
//! renews certificates.

use crate::plain_file::{self, LARGE_OCTETS_MAX};
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use chime_ke::server::CertifiedChain;
use chime_ke::{CertificateInfo, ServerConfig, utc};
use chime_sys::clock;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// How often the files are looked at.
pub const CERTIFICATES_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// A certificate that ends sooner than this is warned of; seconds.
const EXPIRY_WARNING_SECONDS: i64 = 7 * 86_400;

/// The files of one certificate, both PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key of that certificate.
    pub key: PathBuf,
}

/// What is served with, and where it comes from.
#[derive(Debug)]
pub(super) struct Certificates {
    files: Vec<CertificateFiles>,
    current: ArcSwap<Loaded>,
    /// What the files looked like when they were last read, well or not.
    seen: Mutex<Vec<Fingerprint>>,
}

#[derive(Debug)]
struct Loaded {
    config: ServerConfig,
    /// When the first of the certificates ends; Unix seconds.
    not_after: Option<i64>,
}

/// What a file looks like from outside; `None` when it cannot be looked at.
type Fingerprint = Option<(SystemTime, u64)>;

impl Certificates {
    pub(super) fn read(files: &[CertificateFiles]) -> Result<Self> {
        let seen = Mutex::new(fingerprints(files));
        Ok(Self { files: files.to_vec(), current: ArcSwap::from_pointee(load(files)?), seen })
    }

    pub(super) fn config(&self) -> ServerConfig {
        self.current.load().config.clone()
    }

    /// When the first of the certificates ends; Unix seconds.
    pub(super) fn not_after(&self) -> Option<i64> {
        self.current.load().not_after
    }

    /// Reads the files again if they look different.
    pub(super) fn reload_if_changed(&self) {
        if *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != fingerprints(&self.files) {
            self.reload();
        }
    }

    /// Reads the files again. What cannot be used is not taken: the old ones go on being served.
    pub(super) fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = fingerprints(&self.files); // before reading: a change in between is seen the next time
        match load(&self.files) {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                info!("the certificates for NTS-KE were read again");
            }
            Err(error) => {
                warn!("the certificates for NTS-KE changed and cannot be used; the old ones stay: {error:#}")
            }
        }
    }
}

fn fingerprints(files: &[CertificateFiles]) -> Vec<Fingerprint> {
    let look = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().flat_map(|pair| [&pair.chain, &pair.key]).map(look).collect()
}

fn load(files: &[CertificateFiles]) -> Result<Loaded> {
    let chains = files.iter().map(read_pair).collect::<Result<Vec<_>>>()?;
    let leaves = chains.iter().zip(files).filter_map(|(chain, files)| {
        let info = CertificateInfo::read(chain.certificates.first()?).ok()?;
        warn_of_dates(&info, &files.chain);
        Some(info.not_after)
    });
    let not_after = leaves.min();
    let config = ServerConfig::new(&rustls::crypto::aws_lc_rs::default_provider(), chains)?;
    Ok(Loaded { config, not_after })
}

fn read_pair(files: &CertificateFiles) -> Result<CertifiedChain> {
    let read = |path: &Path| plain_file::read(path, LARGE_OCTETS_MAX);
    let certificates: Vec<CertificateDer<'static>> = read(&files.chain)
        .map_err(anyhow::Error::from)
        .and_then(|pem| Ok(CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>()?))
        .with_context(|| format!("cannot read certificates from {}", files.chain.display()))?;
    if certificates.is_empty() {
        bail!("{} has no certificates in PEM", files.chain.display());
    }
    let key = read(&files.key)
        .map_err(anyhow::Error::from)
        .and_then(|pem| Ok(PrivateKeyDer::from_pem_slice(&pem)?))
        .with_context(|| format!("cannot read a private key from {}", files.key.display()))?;
    let chain = CertifiedChain { certificates, key };
    // Alone first, so that the error names the files.
    let check = CertifiedChain { certificates: chain.certificates.clone(), key: chain.key.clone_key() };
    ServerConfig::new(&rustls::crypto::aws_lc_rs::default_provider(), vec![check])
        .with_context(|| format!("{} and {}", files.chain.display(), files.key.display()))?;
    Ok(chain)
}

/// Says so when clients will refuse the certificate now or soon, if our clock is right.
fn warn_of_dates(info: &CertificateInfo, path: &Path) {
    let (now, path) = (clock::system_now().unix_seconds(), path.display());
    if now > info.not_after {
        warn!("{path}: the certificate expired on {}; clients will refuse it", utc(info.not_after));
    } else if now < info.not_before {
        warn!("{path}: the certificate is not valid before {}; clients will refuse it", utc(info.not_before));
    } else if info.not_after - now < EXPIRY_WARNING_SECONDS {
        warn!("{path}: the certificate expires on {}", utc(info.not_after));
    }
}
