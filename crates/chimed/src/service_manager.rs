//! Telling systemd how things stand: ready, reloading, stopping, a line of status, and that we are alive.
//!
//! Without systemd (`NOTIFY_SOCKET` is not set) nothing is sent and nothing fails.

use chime_time::MonoTime;
use sd_notify::NotifyState;
use std::time::Duration;

/// The service manager that started us, if any.
#[derive(Debug)]
pub struct ServiceManager {
    watchdog_interval: Option<Duration>,
    next_ping: Option<MonoTime>,
    status: String,
}

impl ServiceManager {
    /// Looks at the environment: is a watchdog wanted, and how often?
    #[must_use]
    pub fn from_environment() -> Self {
        // Twice as often as asked, so that one late wake-up is not taken for death.
        let watchdog_interval = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Self { watchdog_interval, next_ping: None, status: String::new() }
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

    /// One line for `systemctl status`; sent when it differs from the last one.
    pub fn status(&mut self, line: &str) {
        if self.status != line {
            line.clone_into(&mut self.status);
            // A line break would start another assignment.
            let line = line.replace(|c: char| c.is_control(), " ");
            notify(&[NotifyState::Status(&line)]);
        }
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

    #[test]
    fn the_watchdog_is_fed_at_its_interval() {
        let interval = Some(Duration::from_secs(15));
        let mut manager =
            ServiceManager { watchdog_interval: interval, next_ping: None, status: String::new() };
        let start = MonoTime::from_nanos(7);
        let due = start.saturating_add(Duration::from_secs(15));
        assert_eq!(manager.keep_alive(start), Some(due));
        assert_eq!(manager.keep_alive(start.saturating_add(Duration::from_secs(14))), Some(due));
        assert_eq!(manager.keep_alive(due), Some(due.saturating_add(Duration::from_secs(15))));
    }

    #[test]
    fn without_a_watchdog_there_is_nothing_to_wait_for() {
        let mut manager = ServiceManager { watchdog_interval: None, next_ping: None, status: String::new() };
        assert_eq!(manager.keep_alive(MonoTime::ZERO), None);
        manager.status("all is well");
        assert_eq!(manager.status, "all is well");
    }
}
