//! The daemons under test, each behind the few things that scenarios ask of it.

pub(crate) mod chimed;
pub(crate) mod chrony;
pub(crate) mod ntpd_rs;
pub(crate) mod ntpsec;

use crate::install::run;
use crate::pki::Identity;
use crate::sandbox;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// How a client asks its server.
#[derive(Clone, Debug)]
pub(crate) struct ClientOf<'a> {
    /// Name or address literal of the server.
    pub(crate) server: &'a str,
    /// With NTS, key establishment on port 4460.
    pub(crate) nts: bool,
    /// A symmetric key's number, from [`KEYS_CHRONY`].
    pub(crate) key: Option<u32>,
    /// In interleaved mode (chimed and chronyd).
    pub(crate) interleaved: bool,
}

impl<'a> ClientOf<'a> {
    /// Plain NTP.
    pub(crate) fn plain(server: &'a str) -> Self {
        Self { server, nts: false, key: None, interleaved: false }
    }

    /// NTS.
    pub(crate) fn nts(server: &'a str) -> Self {
        Self { nts: true, ..Self::plain(server) }
    }

    /// The same in interleaved mode.
    pub(crate) fn interleaved(self) -> Self {
        Self { interleaved: true, ..self }
    }

    /// A symmetric key.
    pub(crate) fn keyed(server: &'a str, key: u32) -> Self {
        Self { key: Some(key), ..Self::plain(server) }
    }
}

/// How a server serves.
#[derive(Clone, Default, Debug)]
pub(crate) struct ServerOf<'a> {
    /// With NTS, by this certificate.
    pub(crate) identity: Option<&'a Identity>,
    /// Where clients are told to send their NTP requests, when not to the server itself.
    pub(crate) ntp_server: Option<&'a str>,
}

impl<'a> ServerOf<'a> {
    /// Plain NTP and symmetric keys.
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    /// NTS by this certificate, and plain NTP too.
    pub(crate) fn nts(identity: &'a Identity) -> Self {
        Self { identity: Some(identity), ntp_server: None }
    }
}

/// A client's view of its one server.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct View {
    /// The last eight polls, newest lowest: 0xff is all of them.
    pub(crate) reach: u8,
    /// True when the client takes its time from it.
    pub(crate) is_selected: bool,
}

impl View {
    /// An error that says what is missing, until the server is selected with this reach.
    pub(crate) fn expect_selected(self, reach: u8) -> Result<()> {
        ensure!(self.is_selected && self.reach & reach == reach, "{self:?}, wanted reach {reach:o}");
        Ok(())
    }
}

/// The symmetric keys that all peers know, in the format of chrony and NTPsec.
pub(crate) const KEYS_CHRONY: &str = "1 MD5 HEX:1B3B65C6A5E1F0127788990011223344\n\
    2 SHA1 HEX:2B3B65C6A5E1F0127788990011223344AABBCCDD\n\
    3 SHA256 HEX:3B3B65C6A5E1F0127788990011223344AABBCCDD3B3B65C6A5E1F01277889900\n\
    4 AES128 HEX:4B3B65C6A5E1F0127788990011223344\n";

/// A key more that only our daemon has.
const KEY_OF_OURS: &str = "5 SHA256 HEX:5B3B65C6A5E1F0127788990011223344AABBCCDD3B3B65C6A5E1F01277889900\n";

/// The same for NTPsec, which writes hexadecimal keys without a prefix.
pub(crate) const KEYS_NTPSEC: &str = "1 MD5 1B3B65C6A5E1F0127788990011223344\n\
    2 SHA1 2B3B65C6A5E1F0127788990011223344AABBCCDD\n\
    3 SHA256 3B3B65C6A5E1F0127788990011223344AABBCCDD3B3B65C6A5E1F01277889900\n\
    4 AES-128 4B3B65C6A5E1F0127788990011223344\n";

/// Answers the calls that would touch the clock, without effect.
fn harmless_clock() -> Result<PathBuf> {
    preloaded("shim", include_str!("peers/shim.c"))
}

/// A library to be preloaded into a daemon, compiled once per run.
fn preloaded(name: &str, source: &str) -> Result<PathBuf> {
    static ONCE: Mutex<()> = Mutex::new(());
    let _guard = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
    let library = sandbox::folder().join(name).with_extension("so");
    if !library.exists() {
        let file = library.with_extension("c");
        fs::write(&file, source)?;
        run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&file).arg("-lm"))
            .with_context(|| format!("the C compiler makes what {name} needs"))?;
    }
    Ok(library)
}

/// Runs a reporting tool and returns what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_good = output.status.success() && !text.trim().is_empty();
    ensure!(is_good, "{} {}", text.trim(), String::from_utf8_lossy(&output.stderr).trim());
    Ok(text)
}
