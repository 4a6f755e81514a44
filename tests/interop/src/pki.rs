//! A throw-away certificate authority, and certificates that are good or bad in one way each.

use crate::network::{v4, v6};
use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A certificate chain and its key, as files.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// Everything that scenarios need; node 1 is the server that the certificates are for.
#[derive(Debug)]
pub(crate) struct Pki {
    /// The authority that clients trust.
    pub(crate) ca: PathBuf,
    /// `server.test`, `server4.test`, `server6.test`, `half-dead.test`.
    pub(crate) by_name: Identity,
    /// The addresses of node 1, no name.
    pub(crate) by_address: Identity,
    /// Good in all but the name: `elsewhere.test`.
    pub(crate) wrong_name: Identity,
    /// Good in all but the issuer, whom nobody knows.
    pub(crate) unknown_issuer: Identity,
    /// Ended in 2020.
    pub(crate) expired: Identity,
    /// Begins in 2090.
    pub(crate) not_yet_valid: Identity,
    /// Signed by itself.
    pub(crate) self_signed: Identity,
}

type Authority = Issuer<'static, KeyPair>;

impl Pki {
    /// Makes all of it in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let names = ["server.test", "server4.test", "server6.test", "half-dead.test"].map(str::to_owned);
        let addresses = vec![v4(1).to_string(), v6(1).to_string()];
        let (authority, ca) = authority(folder, "ca")?;
        let (unknown, _) = authority_of_nobody(folder)?;
        let leaf = |name: &str, params: CertificateParams, issuer: &Authority| {
            issue(folder, name, params, Some(issuer))
        };
        let good = || leaf_params(&names);
        let mut expired = good()?;
        expired.not_before = rcgen::date_time_ymd(2019, 1, 1);
        expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let mut future = good()?;
        future.not_before = rcgen::date_time_ymd(2090, 1, 1);
        future.not_after = rcgen::date_time_ymd(2091, 1, 1);
        Ok(Self {
            ca,
            by_name: leaf("by-name", good()?, &authority)?,
            by_address: leaf("by-address", leaf_params(&addresses)?, &authority)?,
            wrong_name: leaf("wrong-name", leaf_params(&["elsewhere.test".to_owned()])?, &authority)?,
            unknown_issuer: leaf("unknown-issuer", good()?, &unknown)?,
            expired: leaf("expired", expired, &authority)?,
            not_yet_valid: leaf("not-yet-valid", future, &authority)?,
            self_signed: issue(folder, "self-signed", good()?, None)?,
        })
    }
}

fn authority_of_nobody(folder: &Path) -> Result<(Authority, PathBuf)> {
    authority(folder, "unknown-ca")
}

fn authority(folder: &Path, name: &str) -> Result<(Authority, PathBuf)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("interop test {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2018, 1, 1);
    params.not_after = rcgen::date_time_ymd(2095, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let path = folder.join(format!("{name}.pem"));
    fs::write(&path, certificate.pem())?;
    Ok((Issuer::new(params, key), path))
}

/// Valid from 2024 to 2090, for servers.
fn leaf_params(names: &[String]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "interop test server");
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn issue(
    folder: &Path,
    name: &str,
    params: CertificateParams,
    issuer: Option<&Authority>,
) -> Result<Identity> {
    let key = KeyPair::generate()?;
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer)?,
        None => params.self_signed(&key)?,
    };
    let identity =
        Identity { chain: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
    fs::write(&identity.chain, certificate.pem())?;
    fs::write(&identity.key, key.serialize_pem())?;
    Ok(identity)
}
