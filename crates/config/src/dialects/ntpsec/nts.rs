//! `nts`: the site-wide settings of both roles.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chime_nts::AeadAlgorithm;

use super::Reader;
use super::line::{Fault, Line, Parsed, Word, unknown};
use crate::{
    AccessRule, CertificatePair, CookieKeyFile, CookieKeyFormat, Diagnostic, NtsKeServer, Origin, Severity,
};

const ITEMS: &[&str] = &[
    "aead",
    "ca",
    "cert",
    "cookie",
    "disable",
    "enable",
    "key",
    "maxtls",
    "mintls",
    "port",
    "tlscipherserverpreference",
    "tlsciphersuites",
    "tlsecdhcurves",
];
const TLS: &str = "TLS 1.3 with rustls's suites and groups is used, in the order that rustls has them";

/// What `nts` lines say.
pub(super) struct Nts {
    enabled: Option<Diagnostic>,
    chain: PathBuf,
    key: PathBuf,
    cookie: Option<PathBuf>,
    pub(super) authority: Option<PathBuf>,
    /// The only AEAD that clients offer.
    pub(super) aead: Option<AeadAlgorithm>,
    /// A TLS version that ntpd does not know: it stops a server.
    wrong_version: Option<Diagnostic>,
}

impl Default for Nts {
    fn default() -> Self {
        Self {
            enabled: None,
            chain: PathBuf::from("/etc/ntp/cert-chain.pem"),
            key: PathBuf::from("/etc/ntp/key.pem"),
            cookie: None,
            authority: None,
            aead: None,
            wrong_version: None,
        }
    }
}

/// One `nts` line with any number of items.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let mut item = Some(line.require("what is to be set")?);
    while let Some(word) = item {
        read_item(reader, line, &word)?;
        item = line.next();
    }
    Ok(())
}

fn read_item(reader: &mut Reader<'_>, line: &mut Line<'_>, word: &Word<'_>) -> Parsed<()> {
    match word.text {
        "enable" => {
            let place = Diagnostic::new(Severity::Warning, line.text, &line.command.span(), "", None);
            reader.nts.enabled = Some(place);
        }
        "disable" => reader.nts.enabled = None,
        "cert" => reader.nts.chain = path(line)?,
        "key" => reader.nts.key = path(line)?,
        "cookie" => reader.nts.cookie = Some(path(line)?),
        "ca" => reader.nts.authority = Some(path(line)?),
        "mintls" | "maxtls" => tls_version(reader, line, word)?,
        "tlsciphersuites" | "tlsecdhcurves" => {
            line.string("a list of names")?;
            reader.no_effect(line, word, TLS);
        }
        "tlscipherserverpreference" => reader.no_effect(line, word, TLS),
        "aead" => reader.nts.aead = read_aead(reader, line)?,
        "port" => reader.extra_port = Some(port(line)?),
        "tlsciphers" => {
            let fault = Fault::new(word, "`tlsciphers` is for TLS 1.2, which NTS does not allow");
            return Err(fault.with_help("remove it, or write `tlsciphersuites`"));
        }
        _ => return Err(unknown(word, "item", ITEMS)),
    }
    Ok(())
}

/// `extra port N` and `nts port N`.
pub(super) fn port(line: &mut Line<'_>) -> Parsed<u16> {
    line.integer_in(&(1..=65_535)).map(|port| u16::try_from(port).unwrap_or(u16::MAX))
}

fn path(line: &mut Line<'_>) -> Parsed<PathBuf> {
    line.string("a path").map(|word| PathBuf::from(word.text))
}

fn tls_version(reader: &mut Reader<'_>, line: &mut Line<'_>, word: &Word<'_>) -> Parsed<()> {
    let given = line.string("a TLS version such as TLS1.3")?;
    if given.text == "TLS1.3" {
        return Ok(());
    }
    let message = format!(
        "`{} {}` is not followed: NTS needs TLS 1.3 (RFC 8915), which is used; ntpd does without NTS then",
        word.text, given.text
    );
    reader.warn(line, &given, &message);
    let place = Diagnostic::new(
        Severity::Error,
        line.text,
        &given.span(),
        format!("`{}` is no TLS version that an NTS server may use", given.text),
        Some("write TLS1.3".to_owned()),
    );
    reader.nts.wrong_version = Some(place);
    Ok(())
}

/// `aead NAME`; the only one that is offered, if it is there.
pub(super) fn read_aead(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<Option<AeadAlgorithm>> {
    const KNOWN: &[&str] = &["AES_SIV_CMAC_256", "AES_SIV_CMAC_384", "AES_SIV_CMAC_512"];
    let word = line.string("the name of an AEAD")?;
    if !KNOWN.contains(&word.text) {
        let help = unknown(&word, "AEAD", KNOWN).help.map(|help| format!("; {help}")).unwrap_or_default();
        reader.no_effect(line, &word, &format!("there is no AEAD of that name{help}"));
    } else if word.text == KNOWN[0] {
        return Ok(Some(AeadAlgorithm::AesSivCmac256));
    } else {
        let why = "AES-128-GCM-SIV and AES-SIV-CMAC-256 are offered, in that order; a server answers both";
        reader.no_effect(line, &word, why);
    }
    Ok(None)
}

impl Nts {
    /// The key establishment servers: on every address of both families, for everybody.
    pub(super) fn servers(&self, port: Option<u16>, diagnostics: &mut Vec<Diagnostic>) -> Vec<NtsKeServer> {
        let Some(place) = &self.enabled else { return Vec::new() };
        diagnostics.extend(self.wrong_version.clone());
        let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let server = |address| NtsKeServer {
            aeads: AeadAlgorithm::OFFERED.to_vec(),
            rate_limit: None,
            listen: SocketAddr::new(address, 4460),
            certificates: vec![CertificatePair { chain: self.chain.clone(), key: self.key.clone() }],
            timeout: Duration::from_secs(5),
            connections_max: crate::KE_CONNECTIONS_MAX_DEFAULT,
            ntp_server: None,
            ntp_port: port,
            rules: Some(vec![AccessRule { allow: true, all: false, subnet: None }]),
            origin: Some(Origin { file: place.file.clone(), line: place.line }),
        };
        everywhere.map(server).to_vec()
    }

    /// The keys of the cookies that clients have: in the given file, or where ntpd keeps them.
    pub(super) fn cookie_keys(&self) -> Option<CookieKeyFile> {
        let usual = self.enabled.as_ref().map(|_| PathBuf::from("/var/lib/ntp/nts-keys"));
        let path = self.cookie.clone().or(usual)?;
        Some(CookieKeyFile { path, format: CookieKeyFormat::Ntpsec })
    }
}
