//! `[predecessor]`: files of another time daemon, from which its learning is taken over.

use super::table::TableReader;
use super::values::{boolean, path, word};
use crate::{CookieKeyFile, CookieKeyFormat, DriftFile, Predecessor};

pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>, predecessor: &mut Predecessor) {
    let fast = table.read("positive-drift-is-fast", boolean);
    if let Some(path) = table.read("drift-file", path) {
        predecessor.drift_file = Some(DriftFile { path, positive_is_fast: fast.unwrap_or(true) });
    }
    let format = word(&[
        ("chrony", CookieKeyFormat::Chrony),
        ("ntpsec", CookieKeyFormat::Ntpsec),
        ("ntpd-rs", CookieKeyFormat::NtpdRs),
    ]);
    let keys = table.read("cookie-keys", path);
    if keys.is_none() {
        let _ = table.read("cookie-key-format", format);
    } else if let Some((path, format)) = keys.zip(table.require("cookie-key-format", format)) {
        predecessor.cookie_keys = Some(CookieKeyFile { path, format });
    }
}
