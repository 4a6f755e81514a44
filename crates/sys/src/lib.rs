//! Sockets with time stamps, clock reading and steering, signals, privileges: the one crate with `unsafe`.
//!
//! Owns every call that leaves the process, made through libc's own symbols so that a simulator can replace them;
//! no raw system calls but [`bpf`]'s, no eventfd, and [`epoll`] only for threads that no simulator has. Takes no protocol
//! decision and never looks into a datagram.
//! Start at [`clock::read`], [`udp::UdpSocket`] and [`poll::PollSet`]; the clock is steered through
//! [`adjust::ClockDriver`].
#![deny(unsafe_op_in_unsafe_fn)]

pub mod adjust;
pub mod affinity;
pub mod background;
pub mod batch;
pub mod bpf;
pub mod clock;
pub mod clock_watch;
pub mod device;
pub mod epoll;
pub mod frame_socket;
pub mod limits;
pub mod local_time;
pub mod network;
pub mod network_card;
pub mod poll;
pub mod pps;
pub mod privileges;
pub mod ptp_clock;
pub mod pulse_input;
pub mod random;
pub mod real_time_clock;
pub mod residence;
pub mod resolver;
pub mod serial;
pub mod shared_memory;
pub mod signals;
pub mod syslog;
pub mod tcp;
pub mod udp;
pub mod unix_datagram;
pub mod usage;

mod address;
mod control_message;
mod descriptor;
mod ioctl;
mod tick;

pub use udp::{TimestampSource, Timestamped};
