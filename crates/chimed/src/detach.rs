//! The way to the background, for those names under which the program goes there by itself.

use anyhow::Result;
use chime_sys::background::{self, Parent};
use std::io::{self, Write};
use std::process::ExitCode;
use tracing::error;

/// How a program says what went wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Complaints {
    /// What stands before the reason why it cannot go to the background.
    pub(crate) no_fork: &'static str,
    /// What stands before a fault in the log.
    pub(crate) logged: &'static str,
    /// What stands before a fault that the parent prints.
    pub(crate) printed: &'static str,
}

/// Runs `live`, in the background unless `foreground`. It is given the parent that waits until the daemon is ready, and
/// takes it to tell so; of a fault before that the parent is told here.
pub(crate) fn run(
    foreground: bool,
    complaints: Complaints,
    live: impl FnOnce(&mut Option<Parent>) -> Result<ExitCode>,
) -> ExitCode {
    let mut parent = None;
    if !foreground {
        match background::fork() {
            Ok(waiting) => parent = Some(waiting),
            Err(error) => {
                // Standard error may be gone, too.
                let _lost = writeln!(io::stderr(), "{}{error}", complaints.no_fork);
                return ExitCode::FAILURE;
            }
        }
    }
    live(&mut parent).unwrap_or_else(|fault| {
        error!("{}{fault:#}", complaints.logged);
        if let Some(parent) = parent {
            parent.failed(&format!("{}{fault:#}", complaints.printed));
        }
        ExitCode::FAILURE
    })
}
