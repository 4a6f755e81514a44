//! A certificate authority that is forgotten when the demo ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The files of the authority and of the server.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The authority, for the client.
    pub(crate) authority: PathBuf,
    /// The server's certificate.
    pub(crate) chain: PathBuf,
    /// The server's key.
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// Makes them in a folder that only we can read.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let files = Self {
            authority: folder.join("authority.pem"),
            chain: folder.join("server.pem"),
            key: folder.join("server.key"),
        };
        let authority_key = KeyPair::generate()?;
        let mut authority = params(&[])?;
        authority.distinguished_name.push(DnType::CommonName, "chime demo authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        fs::write(&files.authority, authority.self_signed(&authority_key)?.pem())?;
        let issuer = Issuer::new(authority, authority_key);

        let server_key = KeyPair::generate()?;
        let mut server = params(&["127.0.0.1".to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "chime demo server");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        fs::write(&files.chain, server.signed_by(&server_key, &issuer)?.pem())?;
        fs::write(&files.key, server_key.serialize_pem())?;
        Ok(files)
    }
}

/// Valid from yesterday to tomorrow by this machine's clock, however wrong that is: both sides have the same one.
fn params(names: &[String]) -> Result<CertificateParams> {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut params = CertificateParams::new(names)?;
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY).into();
    Ok(params)
}
