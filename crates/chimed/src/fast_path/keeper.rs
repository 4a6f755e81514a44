//! The thread that keeps the program informed.

use crate::serving::Shared;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the time is told again: a quarter of how long it is believed ([`chime_fast::VALID_NANOS`]).
const TIME_INTERVAL: Duration = Duration::from_secs(1);
/// How many times it is told before the addresses of the machine are looked at.
const TIMES_PER_LOOK: u32 = 5;

/// Keeps the program informed until it is dropped.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, where there is a program.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(shared: Arc<Shared>) -> Result<Option<Self>> {
        if shared.fast.get().is_none_or(|fast| fast.kernel.is_none()) {
            return Ok(None);
        }
        let (stop, stopped) = channel::<()>();
        let keep = move || {
            for turn in 0u32.. {
                let Some(fast) = shared.fast.get() else { return };
                fast.repeat();
                if turn % TIMES_PER_LOOK == TIMES_PER_LOOK - 1 {
                    fast.tend();
                }
                if stopped.recv_timeout(TIME_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("fast-path".to_owned()).spawn(keep);
        let thread = thread.context("cannot start the thread that keeps the fast path informed")?;
        Ok(Some(Self { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that kept the fast path informed had ended by a panic");
        }
    }
}
