//! Who else on this machine sets clocks: so that an operator who has two daemons fighting learns the other one's name.

use std::fs;
use std::path::Path;

/// Programs that set or slew the system clock, as the kernel names their processes (at most 15 characters).
const CLOCK_SETTERS: &[&str] = &[
    "chronyd",
    "ntpd",
    "ntp-daemon",
    "openntpd",
    "systemd-timesyn",
    "timesyncd",
    "ntpdate",
    "sntp",
    "phc2sys",
    "timemaster",
    "chimed",
];

/// Tools of virtual machines, which set the clock now and then.
const GUEST_TOOLS: &[&str] = &["vmtoolsd", "VBoxService", "prltoolsd", "qemu-ga"];

/// Processes that are looked at; a machine with more has other worries.
const PROCESSES_MAX: usize = 100_000;

/// Time daemons beside this one, as `chronyd (process 812)`; empty where that cannot be seen.
#[must_use]
pub fn other_daemons() -> Vec<String> {
    find(Path::new("/proc"), std::process::id(), &[CLOCK_SETTERS])
}

/// Everybody who may have touched the clock.
#[must_use]
pub fn suspects() -> Vec<String> {
    find(Path::new("/proc"), std::process::id(), &[CLOCK_SETTERS, GUEST_TOOLS])
}

fn find(proc: &Path, own: u32, lists: &[&[&str]]) -> Vec<String> {
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    let mut found: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .take(PROCESSES_MAX)
        .filter(|process| *process != own)
        .filter_map(|process| {
            let name = fs::read_to_string(proc.join(process.to_string()).join("comm")).ok()?;
            let name = name.trim_end();
            lists.iter().any(|list| list.contains(&name)).then(|| (process, name.to_owned()))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(process, name)| format!("{name} (process {process})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_named_and_this_one_is_not() {
        let proc = tempfile::tempdir().expect("a folder");
        for (process, name) in [("7", "chimed"), ("12", "systemd-timesyn"), ("9", "sh"), ("11", "vmtoolsd")] {
            fs::create_dir(proc.path().join(process)).expect("made");
            fs::write(proc.path().join(process).join("comm"), format!("{name}\n")).expect("written");
        }
        fs::create_dir(proc.path().join("self")).expect("made");
        assert_eq!(find(proc.path(), 7, &[CLOCK_SETTERS]), ["systemd-timesyn (process 12)"]);
        assert_eq!(
            find(proc.path(), 7, &[CLOCK_SETTERS, GUEST_TOOLS]),
            ["vmtoolsd (process 11)", "systemd-timesyn (process 12)"]
        );
        assert!(find(Path::new("/nowhere"), 7, &[CLOCK_SETTERS]).is_empty());
    }
}
