//! Plain NTP requests answered by the kernel: an XDP program and what is in its maps.
//!
//! Owns which requests the program answers, its instructions, and the octets of its maps. Answers are those of
//! [`chime_server::Responder`], octet for octet; whatever is not quite ordinary is left to the sockets, where that
//! decides. Loads nothing and calls nobody: `sys` talks to the kernel. Start at [`build`], [`services()`] and
//! [`TimeSlot`].
#![forbid(unsafe_code)]

pub mod assembler;
mod checksum;
mod layout;
mod program;
mod services;
mod time_slot;

pub use layout::{
    ACCESS_KEY_OCTETS, COUNTERS_OCTETS, Counters, SERVICE_KEY_OCTETS, SERVICE_OCTETS, TIME_SLOT_OCTETS,
    TIME_SLOTS, access_key,
};
pub use program::{MapDescriptors, PORTS_MAX, Place, VERDICT_ANSWER, VERDICT_DROP, VERDICT_PASS, build};
pub use services::{
    Interface, ListenerRules, NotServed, SERVICES_MAX, SUBNETS_MAX, Served, ServiceTable, judge, services,
};
pub use time_slot::{FastReading, TimeSlot, VALID_NANOS};
