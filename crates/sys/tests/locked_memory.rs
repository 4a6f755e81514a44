//! Locked memory, in a process of its own, as it stays locked.

use chime_sys::{limits, residence};
use std::io::ErrorKind;

fn locked_kibibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Whether it is permitted depends on who runs the tests.
#[test]
fn all_memory_is_locked_what_comes_later_too_and_none_is_given_back() {
    match limits::lock_memory() {
        Ok(()) => {
            let before = locked_kibibytes();
            assert!(before > 1000, "{before} KiB: the program and its libraries alone are more");
            // The allocator has nothing that large in store.
            let later = vec![1u8; 4 << 20];
            let after = locked_kibibytes();
            assert!(after >= before + 4096, "{before} KiB before, {after} after {} octets more", later.len());
            assert_eq!(residence::let_go_of_program().unwrap(), 0);
            assert!(locked_kibibytes() >= after);
        }
        Err(error) => {
            let refused = [ErrorKind::PermissionDenied, ErrorKind::OutOfMemory];
            assert!(refused.contains(&error.kind()), "{error}");
            assert_eq!(locked_kibibytes(), 0);
        }
    }
}
