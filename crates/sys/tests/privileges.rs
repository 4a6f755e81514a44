//! Gives up this process's privileges, for which it must have one thread only: so there is no test harness here.

use chime_sys::privileges::{self, Capability, User};

fn main() {
    if !privileges::is_root() {
        println!("skipped: only root has privileges to give up");
        return;
    }
    if !privileges::has_capability(Capability::SysTime) {
        println!("skipped: this root lacks CAP_SYS_TIME");
        return;
    }
    let nobody = User { uid: 65_534, gid: 65_534 };
    privileges::drop_to(nobody, &[Capability::SysTime]).expect("privileges can be given up");

    assert!(!privileges::is_root());
    assert!(privileges::has_capability(Capability::SysTime), "the capability to keep");
    assert!(!privileges::has_capability(Capability::NetBindService), "one that was not to be kept");
    assert!(nix::unistd::getgroups().expect("groups").is_empty());
    assert!(nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_err(), "there is no way back");
    assert!(privileges::drop_to(nobody, &[Capability::NetBindService]).is_err(), "nor to more capabilities");
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    for line in ["NoNewPrivs:\t1", "CapBnd:\t0000000002000000", "CapInh:\t0000000000000000"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    println!("ok");
}
