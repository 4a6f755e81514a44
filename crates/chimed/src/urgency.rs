//! What the process asks of the kernel so that it is never late: to run before others, and to stay in memory.
//!
//! Asked for with the privileges of the start. A machine that refuses gets the time all the same, and is told so.

use chime_config::Process;
use chime_sys::limits;
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
