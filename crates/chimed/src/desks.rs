//! Desks: the protocols of other daemons' tools, answered from what the time plane published.
//!
//! A desk has descriptors of its own and never waits. One thread hosts them all; with `threads = "single"` the time
//! plane's loop does.

use chime_control::Snapshot;
use chime_sys::poll::{self, Interest, PollSet, WakeReceiver, Waker};
use chime_sys::signals;
use std::io;
use std::os::fd::BorrowedFd;
use std::thread::JoinHandle;
use tracing::{debug, error};

/// The state as it is now; with the server's clients when the argument says so.
pub type View<'a> = &'a dyn Fn(bool) -> Snapshot;

/// One protocol.
pub trait Desk: Send {
    /// What to wait for, always in the same order.
    fn descriptors(&self) -> Vec<(BorrowedFd<'_>, Interest)>;

    /// Descriptor number `number` of the last [`Desk::descriptors`] is ready.
    fn handle_ready(&mut self, number: usize, view: View<'_>);
}

/// Ends the thread when dropped, and with it the desks.
#[derive(Debug)]
pub struct Handle {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread; `None` when there is no desk.
///
/// # Errors
/// When the system gives no pipe or thread.
pub fn spawn(
    desks: Vec<Box<dyn Desk>>,
    view: Box<dyn Fn(bool) -> Snapshot + Send>,
) -> io::Result<Option<Handle>> {
    if desks.is_empty() {
        return Ok(None);
    }
    let (waker, wake) = poll::waker()?;
    let run = move || {
        if let Err(error) = serve(desks, &view, &wake) {
            error!("tools of other daemons are not answered any more: {error}");
        }
    };
    let thread = std::thread::Builder::new().name("desks".to_owned()).spawn(run)?;
    Ok(Some(Handle { waker, thread: Some(thread) }))
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.waker.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the thread that answers tools of other daemons has panicked");
        }
    }
}

fn serve(mut desks: Vec<Box<dyn Desk>>, view: View<'_>, wake: &WakeReceiver) -> io::Result<()> {
    // Signals are the time plane's.
    if let Err(error) = signals::block_in_this_thread() {
        debug!("signals cannot be blocked: {error}");
    }
    let mut set = PollSet::new();
    loop {
        set.clear();
        set.add(wake, Interest::READ, None);
        for (desk, one) in desks.iter().enumerate() {
            for (number, (descriptor, interest)) in one.descriptors().into_iter().enumerate() {
                set.add(&descriptor, interest, Some((desk, number)));
            }
        }
        set.wait(None)?;
        let ready: Vec<Option<(usize, usize)>> = set.ready().map(|(token, _)| token).collect();
        // A desk may drop descriptors, so that later numbers of it mean others: one at a time.
        let mut last = None;
        for token in ready {
            let Some((desk, number)) = token else { return Ok(()) };
            if last != Some(desk) {
                desks[desk].handle_ready(number, view);
                last = Some(desk);
            }
        }
    }
}
