//! Telling systemd how things stand: ready, reloading, stopping, a line of status, and that we are alive.
//!
//! Without systemd (`NOTIFY_SOCKET` is not set) nothing is sent and nothing fails.

use chime_time::MonoTime;
use sd_notify::NotifyState;
use std::time::Duration;

/// The service manager that started us, if any.
#[derive(Debug)]
pub struct ServiceManager {
    is_there: bool,
    watchdog_interval: Option<Duration>,
    next_ping: Option<MonoTime>,
    next_status: Option<MonoTime>,
}

/// Least time between two lines of status: they change with each look at the clock, and each is a message to the first
/// process of the machine.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

impl ServiceManager {
    /// Looks at the environment: is a watchdog wanted, and how often?
    #[must_use]
    pub fn from_environment() -> Self {
        // Twice as often as asked, so that one late wake-up is not taken for death.
        let watchdog_interval = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        Self { is_there, watchdog_interval, next_ping: None, next_status: None }
    }

    /// The sockets are open, the configuration is in force. Call it once, and again when a reload has ended.
    pub fn ready(&mut self) {
        notify(&[NotifyState::Ready]);
    }

    /// The configuration is being read again; ends with [`ServiceManager::ready`].
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
    }

    /// The daemon is about to stop.
    pub fn stopping(&mut self) {
        notify(&[NotifyState::Stopping]);
    }

    /// One line for `systemctl status`; asked for and sent now and then, however often this is called.
    pub fn status(&mut self, now: MonoTime, line: impl FnOnce() -> String) {
        if !self.is_there || self.next_status.is_some_and(|due| now < due) {
            return;
        }
        self.next_status = Some(now.saturating_add(STATUS_INTERVAL));
        // A line break would start another assignment.
        let line = line().replace(|c: char| c.is_control(), " ");
        notify(&[NotifyState::Status(&line)]);
    }

    /// Says that the loop is alive, when it is time to. Returns when to call again, if the watchdog is on.
    ///
    /// Call it from the loop that must not hang, and nowhere else.
    pub fn keep_alive(&mut self, now: MonoTime) -> Option<MonoTime> {
        let interval = self.watchdog_interval?;
        if self.next_ping.is_none_or(|due| now >= due) {
            notify(&[NotifyState::Watchdog]);
            self.next_ping = Some(now.saturating_add(interval));
        }
        self.next_ping
    }
}

/// A notification that fails is not worth a line: the service manager will say what it misses.
fn notify(state: &[NotifyState<'_>]) {
    let _lost = sd_notify::notify(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(watchdog_interval: Option<Duration>) -> ServiceManager {
        ServiceManager { is_there: true, watchdog_interval, next_ping: None, next_status: None }
    }

    #[test]
    fn the_watchdog_is_fed_at_its_interval() {
        let mut manager = manager(Some(Duration::from_secs(15)));
        let start = MonoTime::from_nanos(7);
        let due = start.saturating_add(Duration::from_secs(15));
        assert_eq!(manager.keep_alive(start), Some(due));
        assert_eq!(manager.keep_alive(start.saturating_add(Duration::from_secs(14))), Some(due));
        assert_eq!(manager.keep_alive(due), Some(due.saturating_add(Duration::from_secs(15))));
    }

    #[test]
    fn without_a_watchdog_there_is_nothing_to_wait_for() {
        assert_eq!(manager(None).keep_alive(MonoTime::ZERO), None);
    }

    #[test]
    fn a_loop_that_turns_often_does_not_send_a_status_each_time() {
        let mut manager = manager(None);
        let mut lines = 0;
        for milliseconds in 0..20_000 {
            manager.status(MonoTime::from_nanos(milliseconds * 1_000_000), || {
                lines += 1;
                "all is well".to_owned()
            });
        }
        assert_eq!(lines, 2);
        manager.is_there = false;
        manager.status(MonoTime::from_nanos(u64::MAX), || unreachable!("nobody listens"));
    }
}
