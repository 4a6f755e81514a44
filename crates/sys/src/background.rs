//! Leaving the terminal: a daemon in the old way, for service managers that wait for the parent to end.

use crate::descriptor::check;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The line from the daemon to the parent that waits for it.
#[derive(Debug)]
pub struct Parent(File);

/// Goes to the background: gives the process that goes on, twice removed, in a session of its own. The parent waits for
/// [`Parent::ready`] and exits with success, or prints what [`Parent::failed`] tells it and exits with 1.
///
/// # Errors
/// When the system gives no process or pipe. Fails when there are other threads, which would be lost.
pub fn fork() -> io::Result<Parent> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::other("a daemon must go to the background before it starts threads"));
    }
    let (receiver, sender) = crate::descriptor::pipe()?;
    if fork_once()? {
        drop(sender);
        wait_for_child(receiver);
    }
    drop(receiver);
    // SAFETY: setsid takes nothing.
    check(unsafe { libc::setsid() })?;
    if fork_once()? {
        // SAFETY: _exit ends the process without running anything of ours twice.
        unsafe { libc::_exit(0) };
    }
    Ok(Parent(File::from(sender)))
}

impl Parent {
    /// Lets the parent end with success, and gives up the terminal: directory, standard input, output and error.
    pub fn ready(self) {
        let _nowhere = std::env::set_current_dir("/");
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            for standard in 0..=2 {
                // SAFETY: both are descriptors; the standard ones are not owned by any value.
                unsafe { libc::dup2(null.as_raw_fd(), standard) };
            }
        }
        drop(self);
    }

    /// Has the parent print `message` and end with exit status 1.
    pub fn failed(mut self, message: &str) {
        let _parent_gone = self.0.write_all(message.as_bytes());
    }
}

/// Whether this is the parent.
fn fork_once() -> io::Result<bool> {
    // SAFETY: there is only this thread, so that nothing is held by one that the child does not have.
    check(unsafe { libc::fork() }).map(|child| child != 0)
}

fn wait_for_child(receiver: OwnedFd) -> ! {
    let mut message = String::new();
    // SAFETY: the number is that of the descriptor whose ownership is given up here.
    let mut file = unsafe { File::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(receiver)) };
    let _garbled = file.read_to_string(&mut message);
    if !message.is_empty() {
        let _nobody_reads = writeln!(io::stderr(), "{message}");
    }
    // SAFETY: as above.
    unsafe { libc::_exit(i32::from(!message.is_empty())) }
}
