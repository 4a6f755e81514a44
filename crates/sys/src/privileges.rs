//! Giving up privileges: an unprivileged user with the two capabilities that a time daemon goes on needing.
//!
//! Capabilities belong to threads, so [`drop_to`] must come before the first thread is started; it checks that.

use crate::descriptor::check;
use nix::unistd::{Gid, Uid, User as Account, setgroups, setresgid, setresuid};
use std::io;

/// A privilege that is kept. The numbers are those of linux/capability.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Capability {
    /// Listening on ports below 1024: sockets that are opened again after a change of the network.
    NetBindService = 10,
    /// Setting the clock.
    SysTime = 25,
}

/// A user of the system, and the user's own group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's group.
    pub gid: u32,
}

/// Finds a user by name; `None` when there is no such user.
pub fn find_user(name: &str) -> io::Result<Option<User>> {
    let account = Account::from_name(name)?;
    Ok(account.map(|account| User { uid: account.uid.as_raw(), gid: account.gid.as_raw() }))
}

/// Whether the process runs as root.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Becomes `user` with no groups but its own, keeping only the capabilities in `keep`, for good: neither the user
/// nor a program that is started can get anything back.
///
/// Fails when another thread exists, which would keep everything.
pub fn drop_to(user: User, keep: &[Capability]) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::other("privileges must be given up before threads are started"));
    }
    limit_bounding_set(keep)?;
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    keep_only(keep)?;
    prctl(libc::PR_SET_KEEPCAPS, 0, 0)?;
    forbid_new_privileges()
}

/// Gives up all capabilities of this thread but those in `keep`. It is an error to keep one that it does not have.
pub fn keep_only(keep: &[Capability]) -> io::Result<()> {
    let mask = mask_of(keep);
    set_capabilities(mask)?;
    // Kernels before 4.3 have no ambient set.
    let _absent = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0);
    Ok(())
}

/// Has the kernel refuse every gain of privilege from now on, for this thread and what it starts.
pub fn forbid_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// Whether this thread may do what `capability` allows.
#[must_use]
pub fn has_capability(capability: Capability) -> bool {
    let (mut header, mut data) = (CapabilityHeader::THIS_THREAD, [CapabilityData::default(); 2]);
    // SAFETY: version 3 of the interface writes two sets, for which there is room.
    let result = unsafe { capget(&raw mut header, data.as_mut_ptr()) };
    result == 0 && data[0].effective & mask_of(&[capability]) != 0
}

/// Bits of the first capability set; all that we keep are below 32.
fn mask_of(capabilities: &[Capability]) -> u32 {
    capabilities.iter().fold(0, |mask, capability| mask | 1 << (*capability as u32))
}

/// A second lock beside [`forbid_new_privileges`]: no program that is started gets back what was given up.
fn limit_bounding_set(keep: &[Capability]) -> io::Result<()> {
    for number in 0..64 {
        if number < 32 && mask_of(keep) & (1 << number) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, number, 0) {
            // The kernel knows no capability of that number; there are no more.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            // Containers may lack the privilege to give up privileges; the first lock holds alone.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
            result => result?,
        }
    }
    Ok(())
}

fn prctl(option: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> io::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: the options used here take plain numbers.
    check(unsafe { libc::prctl(option, first, second, NONE, NONE) }).map(drop)
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

impl CapabilityHeader {
    /// `_LINUX_CAPABILITY_VERSION_3`, and 0 for the calling thread.
    const THIS_THREAD: Self = Self { version: 0x2008_0522, pid: 0 };
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

// In every Linux libc, but in no header of them: linux/capability.h has the structures.
unsafe extern "C" {
    fn capset(header: *mut CapabilityHeader, data: *const CapabilityData) -> libc::c_int;
    fn capget(header: *mut CapabilityHeader, data: *mut CapabilityData) -> libc::c_int;
}

fn set_capabilities(mask: u32) -> io::Result<()> {
    let mut header = CapabilityHeader::THIS_THREAD;
    let low = CapabilityData { effective: mask, permitted: mask, inheritable: 0 };
    let data = [low, CapabilityData::default()];
    // SAFETY: version 3 of the interface reads two sets, which are there.
    check(unsafe { capset(&raw mut header, data.as_ptr()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_the_bits_of_linux() {
        assert_eq!(mask_of(&[Capability::SysTime, Capability::NetBindService]), 0x0200_0400);
        assert_eq!(mask_of(&[]), 0);
    }

    #[test]
    fn users_are_found_by_name() {
        assert_eq!(find_user("root").unwrap(), Some(User { uid: 0, gid: 0 }));
        assert_eq!(find_user("no-such-user-here").unwrap(), None);
    }

    #[test]
    fn with_threads_nothing_is_given_up() {
        std::thread::scope(|scope| {
            let (release, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || wait.recv());
            let error = drop_to(User { uid: 65_534, gid: 65_534 }, &[]).unwrap_err();
            assert!(error.to_string().contains("threads"), "{error}");
            drop(release);
        });
    }
}
