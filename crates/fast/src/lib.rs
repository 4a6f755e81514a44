//! NTP requests answered before they come to sockets: an XDP program, what is in its maps, and frames.
//!
//! Owns which requests the program answers, which it hands over to workers, its instructions, and the octets of its maps;
//! and the headers around what is handed over. Answers are those of
//! [`chime_server::Responder`], octet for octet; whatever is not quite ordinary is left to the sockets, where that
//! decides. Loads nothing and calls nobody: `sys` talks to the kernel. Start at [`build`], [`services()`],
//! [`TimeSlot`] and [`Datagram`].
#![forbid(unsafe_code)]

pub mod assembler;
mod checksum;
mod datagram;
mod layout;
mod program;
mod services;
mod time_slot;

pub use datagram::Datagram;
pub use layout::{
    ACCESS_KEY_OCTETS, CLIENT_KEY_OCTETS, CLIENT_OCTETS, COUNTERS_OCTETS, Counters, QUEUES_MAX,
    SERVICE_KEY_OCTETS, SERVICE_OCTETS, TIME_SLOT_OCTETS, TIME_SLOTS, access_key,
};
pub use program::{
    MapDescriptors, PORTS_MAX, Place, VERDICT_ANSWER, VERDICT_DROP, VERDICT_HAND_OVER, VERDICT_PASS, build,
};
pub use services::{
    Interface, Judgement, ListenerRules, NotServed, SERVICES_MAX, SUBNETS_MAX, Served, ServiceTable, judge,
    listener_of, services,
};
pub use time_slot::{FastReading, TimeSlot, VALID_NANOS};
