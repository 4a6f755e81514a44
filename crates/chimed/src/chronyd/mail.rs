//! `mailonchange`: a mail about each large correction of the clock, by the machine's own sendmail.
//!
//! The program is started without a shell, with the same arguments and environment whatever happens, by a thread of its own
//! that waits for it: the time plane never does. It gets none of the daemon's capabilities. One mail at a time.

use chime_config::MailOnChange;
use chime_control::CivilDate;
use chime_sys::{clock, signals};
use chime_time::NtpDate;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, error, warn};

/// Where every mail system has it.
const PROGRAM: &str = "/usr/sbin/sendmail";
/// All that the program is told: who gets the mail stands in it.
const ARGUMENTS: [&str; 1] = ["-t"];
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// A program that takes longer hangs, and is ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Sends mails.
#[derive(Debug)]
pub(super) struct ChangeMail {
    settings: MailOnChange,
    program: PathBuf,
    /// Whether one is being sent.
    is_busy: Arc<AtomicBool>,
}

impl ChangeMail {
    /// `None`: in a simulator, whose time passes without any for other programs.
    pub(super) fn new(settings: MailOnChange) -> Option<Self> {
        if clock::suspended().is_none() {
            warn!("mailonchange: no mail is sent in a simulation");
            return None;
        }
        Some(Self { settings, program: PROGRAM.into(), is_busy: Arc::default() })
    }

    /// The clock, which showed `at`, is corrected by so many seconds, positive forward.
    pub(super) fn changed(&self, at: NtpDate, by: f64) {
        if by.abs() <= self.settings.threshold {
            return;
        }
        if self.is_busy.swap(true, Ordering::AcqRel) {
            warn!("no mail about a correction of {by:.6} seconds, as the last one is still being sent");
            return;
        }
        let text = message(&self.settings, &host_name(), at, by);
        let (program, is_busy, to) =
            (self.program.clone(), Arc::clone(&self.is_busy), self.settings.address.clone());
        let send = move || {
            // Signals are the time plane's.
            if let Err(error) = signals::block_in_this_thread() {
                debug!("signals cannot be blocked: {error}");
            }
            if let Err(reason) = send(&program, &text) {
                error!("Could not send mail notification to user {to} : {}: {reason}", program.display());
            }
            is_busy.store(false, Ordering::Release);
        };
        if let Err(error) = thread::Builder::new().name("mail".to_owned()).spawn(send) {
            error!("Could not send mail notification to user {} : {error}", self.settings.address);
            self.is_busy.store(false, Ordering::Release);
        }
    }
}

/// What is sent. The address is one word, so that it cannot add lines.
fn message(settings: &MailOnChange, host: &str, at: NtpDate, by: f64) -> String {
    let CivilDate { year, month, day, hour, minute, second } = CivilDate::from_unix(at.unix_seconds());
    let at = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC");
    format!(
        "To: {}\nSubject: chronyd reports change to system clock on node [{host}]\n\n\
         When the clock of {host} showed {at}, a correction by {by:+.3} seconds was begun.\n\
         Corrections by more than {:.3} seconds are reported (mailonchange).\n",
        settings.address, settings.threshold
    )
}

/// The name of this machine, as far as it may stand in a mail.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(64).collect();
    if name.is_empty() { "<UNKNOWN>".to_owned() } else { name }
}

fn send(program: &Path, text: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(ARGUMENTS).env_clear().env("PATH", SEARCH_PATH).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // Shorter than a pipe holds: it never waits. Closed, the mail has ended.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
    let ended = wait(&mut child, PATIENCE).map_err(|error| error.to_string());
    written.map_err(|error| error.to_string()).and(ended)
}

fn wait(child: &mut Child, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("it ended with {status}"))),
            None if Instant::now() < deadline => thread::sleep(LOOK_INTERVAL),
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end, and was killed"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn settings() -> MailOnChange {
        MailOnChange { address: "root@localhost".to_owned(), threshold: 0.5 }
    }

    /// A sendmail that writes what it gets, as a whole, into the file `mail`.
    fn fake(folder: &Path, last: &str) -> PathBuf {
        let path = folder.join("sendmail");
        let at = folder.display();
        let script =
            format!("#!/bin/sh\n(echo \"$@ $HOME\"; cat) > {at}/new\nmv {at}/new {at}/mail\n{last}\n");
        fs::write(&path, script).expect("it can be written");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("permissions");
        path
    }

    #[test]
    fn a_mail_says_who_is_to_know_what() {
        let folder = tempfile::tempdir().expect("a folder");
        let mail =
            ChangeMail { settings: settings(), program: fake(folder.path(), ""), is_busy: Arc::default() };
        let at = NtpDate::from_unix(1_800_000_000, 0);
        mail.changed(at, 0.5);
        assert!(!mail.is_busy.load(Ordering::Acquire), "it is not larger than the threshold");
        mail.changed(at, -0.75);
        let deadline = Instant::now() + Duration::from_secs(20);
        while mail.is_busy.load(Ordering::Acquire) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let sent = fs::read_to_string(folder.path().join("mail")).expect("a mail");
        assert!(sent.starts_with("-t \nTo: root@localhost\nSubject: chronyd reports change"), "{sent}");
        assert!(sent.contains("2027-01-15") && sent.contains("by -0.750 seconds"), "{sent}");
    }

    #[test]
    fn a_sendmail_that_fails_or_hangs_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let failed = send(&fake(folder.path(), "exit 75"), "text\n").expect_err("it failed");
        assert!(failed.contains("75"), "{failed}");
        assert!(send(Path::new("/nonexistent/sendmail"), "text\n").is_err());
        let mut sleeper = Command::new("sleep").arg("600").spawn().expect("it starts");
        let hung = wait(&mut sleeper, Duration::from_millis(1)).expect_err("it hangs");
        assert_eq!(hung.kind(), io::ErrorKind::TimedOut);
    }
}
