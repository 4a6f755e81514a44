//! Writing state on a thread of its own, so that a slow disk never holds up the clock.
//!
//! A slew that is to end at a certain moment cannot wait for a memory card to sync. What is written here is handed
//! over and forgotten; of several versions of one file that wait, the latest counts. Cookie keys do not go this way:
//! a key may be used only once it is known to be on the disk.

use crate::store::{Report, StateFile, Store};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use zeroize::Zeroizing;

/// What is asked of the thread.
enum Job {
    Save(StateFile, Zeroizing<Vec<u8>>),
    Retry,
}

/// A [`Store`] that is written in the background. Dropping it waits until everything is on the disk.
pub struct StoreWriter {
    jobs: Option<mpsc::Sender<Job>>,
    reports: mpsc::Receiver<Report>,
    /// Jobs whose outcome is not on the disk yet.
    behind: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl StoreWriter {
    /// Takes `store` to a thread. Call it after everything is loaded and privileges are given up.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(store: Store) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let (report_sender, reports) = mpsc::channel();
        let behind = Arc::new(AtomicUsize::new(0));
        let left = behind.clone();
        let thread = thread::Builder::new().name("state-writer".to_owned()).spawn(move || {
            let _unblocked = chime_sys::signals::block_in_this_thread();
            work(store, &queue, &report_sender, &left);
        })?;
        Ok(Self { jobs: Some(jobs), reports, behind, thread: Some(thread) })
    }

    /// Has a file replaced, soon.
    pub fn save(&self, file: StateFile, octets: Zeroizing<Vec<u8>>) {
        self.ask(Job::Save(file, octets));
    }

    /// Has what could not be written tried again.
    pub fn retry(&self) {
        self.ask(Job::Retry);
    }

    /// Whether anything that was asked for is not done: it waits, or it could not be written.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire) > 0
    }

    /// Takes the oldest report, if there is one.
    #[must_use]
    pub fn poll_report(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// Waits until everything is on the disk; returns what there is to report of that.
    #[must_use]
    pub fn finish(mut self) -> Vec<Report> {
        self.end();
        self.reports.try_iter().collect()
    }

    fn end(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }

    fn ask(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            self.behind.fetch_add(1, Ordering::Relaxed);
            // The thread ends only after the sender is gone.
            let _ended = jobs.send(job);
        }
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.end();
    }
}

/// Carries out jobs until nobody can ask for more.
fn work(mut store: Store, queue: &mpsc::Receiver<Job>, reports: &mpsc::Sender<Report>, behind: &AtomicUsize) {
    let mut taken = 0;
    while let Ok(first) = queue.recv() {
        // All that wait now: while the disk was slow, newer contents may have come.
        let mut wanted = BTreeMap::new();
        let mut retry = false;
        for job in std::iter::once(first).chain(queue.try_iter()) {
            taken += 1;
            match job {
                Job::Save(file, octets) => drop(wanted.insert(file, octets)),
                Job::Retry => retry = true,
            }
        }
        for (file, octets) in wanted {
            store.save(file, &octets);
        }
        if retry {
            store.retry();
        }
        while let Some(report) = store.poll_report() {
            let _nobody_listens = reports.send(report);
        }
        if !store.is_behind() {
            behind.fetch_sub(std::mem::take(&mut taken), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::fs;
    use tempfile::TempDir;

    fn octets(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    fn load(directory: &TempDir, file: StateFile) -> Option<Vec<u8>> {
        Store::open(directory.path(), None).load(file, |octets| Ok::<_, Infallible>(octets.to_vec()))
    }

    #[test]
    fn everything_is_on_the_disk_when_the_writer_is_gone() {
        let directory = TempDir::new().unwrap();
        let writer = StoreWriter::start(Store::open(directory.path(), None)).unwrap();
        for version in 0..100 {
            writer.save(StateFile::Drift, octets(&format!("version {version}")));
        }
        drop(writer);
        assert_eq!(load(&directory, StateFile::Drift).unwrap(), b"version 99");
    }

    #[test]
    fn failures_are_reported_and_retried() {
        let directory = TempDir::new().unwrap();
        let blocked = directory.path().join("state");
        fs::write(&blocked, b"not a folder").unwrap();
        let writer = StoreWriter::start(Store::open(&blocked, None)).unwrap();
        writer.save(StateFile::Drift, octets("drift"));
        let told = |writer: &StoreWriter| writer.reports.recv().unwrap();
        assert!(matches!(told(&writer), Report::NotWritten { .. }));
        assert!(writer.is_behind());
        fs::remove_file(&blocked).unwrap();
        fs::create_dir(&blocked).unwrap();
        writer.retry();
        assert!(told(&writer).is_recovery());
        while writer.is_behind() {
            thread::yield_now();
        }
        assert!(writer.poll_report().is_none() && writer.finish().is_empty());
        assert_eq!(fs::read(blocked.join("drift")).unwrap(), b"drift");
    }
}
