//! A throw-away authority and one certificate, valid for hours only: a guest that believes its own wrong clock would
//! refuse it.

use crate::lab::HOST_ADDRESS;
use crate::probe;
use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long before now the certificate became valid, and how long after now it ends.
const VALID_AROUND_NOW: Duration = Duration::from_secs(3 * 3600);

/// Certificates, as files.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    /// The authority that the guest trusts.
    pub(crate) authority: PathBuf,
    /// The server's chain.
    pub(crate) chain: PathBuf,
    /// The server's private key.
    pub(crate) key: PathBuf,
}

/// Makes all of it in `folder`, for the server outside.
pub(crate) fn make(folder: &Path) -> Result<Pki> {
    make_for(vec![HOST_ADDRESS.to_string()], folder)
}

/// The same for a server with these addresses.
pub(crate) fn make_for(addresses: Vec<String>, folder: &Path) -> Result<Pki> {
    let pki = Pki {
        authority: folder.join("authority.pem"),
        chain: folder.join("server.pem"),
        key: folder.join("server.key"),
    };
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    fs::write(&pki.authority, authority.self_signed(&authority_key)?.pem())?;
    let authority = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(addresses)?;
    let now = Duration::from_nanos(u64::try_from(probe::now_nanos())?);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    server.not_before = epoch + now.saturating_sub(VALID_AROUND_NOW);
    server.not_after = epoch + now + VALID_AROUND_NOW;
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    fs::write(&pki.chain, server.signed_by(&key, &authority)?.pem())?;
    fs::write(&pki.key, key.serialize_pem())?;
    Ok(pki)
}
