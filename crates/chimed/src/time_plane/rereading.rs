//! The configuration is read again on a thread of its own: names in it are looked up, and the clock waits for no name server.

use super::parts::{Read, ReadAgain};
use anyhow::{Context, Result, anyhow};
use chime_sys::poll::{self, WakeReceiver};
use chime_sys::signals;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

/// What becomes of the sources that were added while running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// They go.
    Go,
    /// They stay.
    Stay,
}

/// One reading at a time.
#[derive(Default)]
pub(super) struct Rereading {
    under_way: Option<UnderWay>,
    /// Asked for while another was under way, which may have read what was changed since.
    next: Option<Added>,
}

struct UnderWay {
    answer: mpsc::Receiver<Result<ReadAgain>>,
    wake: WakeReceiver,
    added: Added,
}

impl Rereading {
    /// Begins to read, unless that is under way: then once more after it.
    ///
    /// # Errors
    /// When the system has no pipe or no thread for it.
    pub(super) fn begin(&mut self, read: &Read, added: Added) -> io::Result<()> {
        if self.under_way.is_some() {
            self.next = Some(added);
            return Ok(());
        }
        let (waker, wake) = poll::waker()?;
        let (sender, answer) = mpsc::channel();
        let read = Arc::clone(read);
        thread::Builder::new().name("reload".to_owned()).spawn(move || {
            // Without this the signals of the daemon could come to rest here.
            let _unblocked = signals::block_in_this_thread();
            // The plane may be gone.
            let _nobody = sender.send(read());
            waker.wake();
        })?;
        self.under_way = Some(UnderWay { answer, wake, added });
        Ok(())
    }

    /// Readable when the reading is over; `None` while there is none.
    pub(super) fn descriptor(&self) -> Option<&WakeReceiver> {
        self.under_way.as_ref().map(|under_way| &under_way.wake)
    }

    /// What was read, when that is over; and what is to be read next.
    pub(super) fn take(&mut self) -> Option<(Result<ReadAgain>, Added)> {
        let answer = match self.under_way.as_ref()?.answer.try_recv() {
            Err(mpsc::TryRecvError::Empty) => return None,
            Err(mpsc::TryRecvError::Disconnected) => Err(anyhow!("the thread that reads it has ended")),
            Ok(read) => read.context("the configuration cannot be read"),
        };
        let UnderWay { added, .. } = self.under_way.take()?;
        Some((answer, added))
    }

    /// What was asked for while another reading was under way.
    pub(super) const fn take_next(&mut self) -> Option<Added> {
        self.next.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_sys::poll::{Interest, PollSet};
    use std::sync::Mutex;

    fn wait_for(rereading: &Rereading) {
        let mut set = PollSet::new();
        set.add(rereading.descriptor().expect("a reading is under way"), Interest::READ, ());
        let _interrupted = set.wait(None).expect("it can be waited for");
    }

    /// As when a name server does not answer.
    #[test]
    fn who_asks_for_a_reading_that_takes_long_goes_on_at_once() {
        let (go, wait) = mpsc::channel::<&str>();
        let wait = Mutex::new(wait);
        let read: Read = Arc::new(move || {
            let said = wait.lock().expect("unpoisoned").recv().expect("the test lets it go");
            Err(anyhow!(said))
        });
        let mut rereading = Rereading::default();
        assert!(rereading.take().is_none() && rereading.descriptor().is_none());
        rereading.begin(&read, Added::Go).expect("a thread");
        assert!(rereading.take().is_none(), "it is not over, and nobody waited for it");
        rereading.begin(&read, Added::Stay).expect("nothing new is started");
        rereading.begin(&read, Added::Stay).expect("nothing new is started");
        go.send("first").expect("it is waited for");
        let (result, added) = loop {
            wait_for(&rereading);
            if let Some(taken) = rereading.take() {
                break taken;
            }
        };
        assert!(format!("{:#}", result.err().expect("as the test says")).contains("first"));
        assert_eq!(
            (added, rereading.take_next(), rereading.take_next()),
            (Added::Go, Some(Added::Stay), None)
        );
        assert!(rereading.descriptor().is_none());
    }

    #[test]
    fn a_reading_that_panics_is_a_failure_and_no_end() {
        let read: Read = Arc::new(|| panic!("as the test says"));
        let mut rereading = Rereading::default();
        rereading.begin(&read, Added::Go).expect("a thread");
        let (result, _) = loop {
            wait_for(&rereading);
            if let Some(taken) = rereading.take() {
                break taken;
            }
        };
        assert!(result.is_err());
    }
}
