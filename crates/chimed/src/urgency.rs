//! What the process asks of the kernel so that it is never late: to run before others, and to stay in memory; and, where nobody
//! waits for it, what it gives back.
//!
//! Asked for with the privileges of the start. A machine that refuses gets the time all the same, and is told so.

use chime_config::{Model, Process};
use chime_sys::{limits, residence};
use chime_time::MonoTime;
use std::time::Duration;
use tracing::{debug, error};

/// Gives the calling thread, which keeps the time, its priority, and locks the process's memory, where that is configured. The
/// lines of a failure begin as chronyd's.
pub fn claim(process: &Process) {
    if let Some(priority) = process.real_time_priority {
        match limits::run_before_others(priority) {
            Ok(()) => debug!("the thread that keeps the time has the real-time priority {priority}"),
            Err(error) => error!(
                "pthread_setschedparam() failed : {error}: the daemon runs without the real-time priority \
                 {priority}, which takes CAP_SYS_NICE or RLIMIT_RTPRIO (LimitRTPRIO= and RestrictRealtime=no of its unit)"
            ),
        }
    }
    if process.lock_memory {
        match limits::lock_memory() {
            Ok(()) => debug!("memory is locked"),
            Err(error) => error!(
                "mlockall() failed : {error}: memory may be paged out; to lock it takes CAP_IPC_LOCK and \
                 CAP_SYS_RESOURCE, or RLIMIT_MEMLOCK without limit (LimitMEMLOCK=infinity of its unit)"
            ),
        }
    }
}

/// After the start, until which its code and tables are used no more.
const STARTED_AFTER: Duration = Duration::from_secs(60);

/// A daemon that serves nobody gives back, once, the memory of what only its start needed: more than half of the program.
#[derive(Clone, Copy, Debug)]
pub struct Thrift {
    due: Option<MonoTime>,
}

impl Thrift {
    /// Of a daemon that starts now. Clients of a server would wait for pages that come back, and locked memory stays.
    #[must_use]
    pub fn of(model: &Model, now: MonoTime) -> Self {
        let serves = !model.servers.is_empty() || !model.nts_ke_servers.is_empty();
        let due = (!serves && !model.process.lock_memory).then(|| now.saturating_add(STARTED_AFTER));
        Self { due }
    }

    /// Looks whether it is time; nobody need be woken for that.
    pub fn tend(&mut self, now: MonoTime) {
        if self.due.take_if(|due| now >= *due).is_some() {
            match residence::let_go_of_program() {
                Ok(octets) => {
                    debug!("{} KiB of the program are mapped again when they are needed", octets / 1024)
                }
                Err(error) => debug!("what only the start needed stays in memory: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_config::NtpServer;

    #[test]
    fn only_who_serves_nobody_gives_memory_back_and_once() {
        let client = Model::default();
        let mut thrift = Thrift::of(&client, MonoTime::ZERO);
        let after = |seconds| MonoTime::ZERO.saturating_add(Duration::from_secs(seconds));
        assert_eq!(thrift.due, Some(after(60)));
        thrift.tend(after(59));
        assert!(thrift.due.is_some());
        thrift.tend(after(61));
        assert_eq!(thrift.due, None);

        let mut locked = client.clone();
        locked.process.lock_memory = true;
        let mut server = client;
        server.servers.push(NtpServer::new("127.0.0.1:123".parse().unwrap()));
        for model in [locked, server] {
            assert_eq!(Thrift::of(&model, MonoTime::ZERO).due, None);
        }
    }
}
