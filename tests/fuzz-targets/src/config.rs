//! Targets for what operators write: the configuration file and commands.

use chime_config::Text;
use chime_config::dialects::native;
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

/// A command as JSON: what is read is written to the same command.
pub fn control_command(octets: &[u8]) {
    let Ok(command) = serde_json::from_slice::<Command>(octets) else { return };
    let text = serde_json::to_vec(&command).expect("a command is JSON");
    assert_eq!(serde_json::from_slice::<Command>(&text).expect("what we wrote"), command);
}
