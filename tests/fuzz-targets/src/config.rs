//! Targets for what operators write: the configuration file and commands.

use chime_config::dialects::{chrony, native, ntpd_rs, ntpsec};
use chime_config::{Diagnostics, Dialect, Loaded, Text, explain, recognise, rewrite};
use chime_control::Command;

/// A configuration file in TOML, with itself as a drop-in.
pub fn toml_config(octets: &[u8]) {
    let text = Text::new("truechimer.toml", String::from_utf8_lossy(octets));
    for drop_ins in [&[][..], std::slice::from_ref(&text)] {
        match native::parse(&text, drop_ins) {
            Ok(loaded) => drop(format!("{:?}", loaded.warnings)),
            Err(diagnostics) => assert!(!format!("{diagnostics}").is_empty()),
        }
    }
}

/// An ntp.conf, without what it includes.
pub fn ntp_conf(octets: &[u8]) {
    let text = Text::new("ntp.conf", String::from_utf8_lossy(octets));
    let names = |_: &str| Ok(vec![std::net::IpAddr::from([192, 0, 2, 1])]);
    converted(ntpsec::parse(&text, &[], &|_| Ok(Vec::new()), &names), &text, Dialect::Ntpsec);
}

/// An ntp.toml.
pub fn ntp_toml(octets: &[u8]) {
    let text = Text::new("ntp.toml", String::from_utf8_lossy(octets));
    converted(ntpd_rs::parse(&text), &text, Dialect::NtpdRs);
}

/// A chrony.conf, without what it includes.
pub fn chrony_conf(octets: &[u8]) {
    let text = Text::new("chrony.conf", String::from_utf8_lossy(octets));
    converted(chrony::parse(&text, &|_| Ok(Vec::new())), &text, Dialect::Chrony);
}

/// What was read can be explained and written as our own, and that is read again; a mistake has a message.
fn converted(result: Result<Loaded, Diagnostics>, text: &Text, dialect: Dialect) {
    let _ = recognise(text);
    match result {
        Ok(loaded) => {
            let _ = explain(&loaded.model);
            let rewritten = rewrite(&loaded, std::slice::from_ref(text), dialect);
            let unread = rewritten.lost.iter().find(|lost| lost.starts_with("this file is not read"));
            // Values that only the other program takes are said to be lost; nothing else may keep it from being read.
            let is_range = |lost: &String| {
                ["out of range", "must be", "nothing is trusted"].iter().any(|known| lost.contains(known))
            };
            assert!(unread.is_none_or(is_range), "{unread:?}");
        }
        Err(diagnostics) => assert!(!format!("{diagnostics}").is_empty()),
    }
}

/// A command as JSON: what is read is written to the same command.
pub fn control_command(octets: &[u8]) {
    let Ok(command) = serde_json::from_slice::<Command>(octets) else { return };
    let text = serde_json::to_vec(&command).expect("a command is JSON");
    assert_eq!(serde_json::from_slice::<Command>(&text).expect("what we wrote"), command);
}
