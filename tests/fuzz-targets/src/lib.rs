//! What the fuzzers of `fuzz/` call: one function for each decoder and each state machine that eats octets from outside.
//!
//! They are here, and not in `fuzz/`, so that the tests can replay the corpora without a fuzzer or a nightly compiler, and
//! so that they are compiled whenever the workspace is. A target takes any octets and must not panic; most of them also
//! check a law that must hold whatever the octets are. Start at [`TARGETS`].
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
pub mod engine;
pub mod ke;
pub mod nts;
pub mod refclock;
pub mod server;
pub mod wire;

/// A target: its name, which is that of its fuzzer and its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("packet", wire::packet),
    ("ptp_message", wire::ptp_message),
    ("control_message", wire::control_message),
    ("chrony_command", wire::chrony_command),
    ("mode6_answer", control::mode6_answer),
    ("chrony_answer", control::chrony_answer),
    ("key_file", wire::key_file),
    ("symmetric_mac", wire::symmetric_mac),
    ("ke_records", nts::ke_records),
    ("nts_request", nts::nts_request),
    ("nts_request_sealed", nts::nts_request_sealed),
    ("nts_response", nts::nts_response),
    ("nts_response_sealed", nts::nts_response_sealed),
    ("cookie", nts::cookie),
    ("key_ring", nts::key_ring),
    ("ke_request", ke::ke_request),
    ("ke_response", ke::ke_response),
    ("ke_server_session", ke::ke_server_session),
    ("ke_client_session", ke::ke_client_session),
    ("certificate", ke::certificate),
    ("shared_memory", refclock::shared_memory),
    ("sock_datagram", refclock::sock_datagram),
    ("nmea_line", refclock::nmea_line),
    ("responder", server::responder),
    ("frame", server::frame),
    ("signing_reply", server::signing_reply),
    ("saved_state", engine::saved_state),
    ("engine", engine::engine),
    ("toml_config", config::toml_config),
    ("ntp_conf", config::ntp_conf),
    ("ntp_toml", config::ntp_toml),
    ("chrony_conf", config::chrony_conf),
    ("predecessor_keys", nts::predecessor_keys),
    ("control_command", config::control_command),
];

/// Splits off the first octet; 0 when there is none.
const fn first(octets: &[u8]) -> (u8, &[u8]) {
    match octets {
        [first, rest @ ..] => (*first, rest),
        [] => (0, octets),
    }
}
