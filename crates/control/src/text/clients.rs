//! `activity`, `serverstats` and `clients`.

use std::fmt::Write as _;

use super::number::interval;
use super::{Layout, header};
use crate::{Handling, Snapshot};

/// `chronyc activity`.
#[must_use]
pub fn activity(snapshot: &Snapshot, _layout: Layout) -> String {
    let activity = &snapshot.engine.activity;
    format!(
        "200 OK\n{} sources online\n{} sources offline\n{} sources doing burst (return to \
         online)\n{} sources doing burst (return to offline)\n{} sources with unknown address\n",
        activity.online, activity.offline, activity.burst_online, activity.burst_offline, activity.unresolved,
    )
}

/// `chronyc serverstats`.
#[must_use]
pub fn serverstats(snapshot: &Snapshot, _layout: Layout) -> String {
    let mut out = String::new();
    for (label, count) in SERVER_LABELS.iter().zip(server_counts(snapshot)) {
        let _ = writeln!(out, "{label:<27}: {count}");
    }
    out
}

/// `chronyc clients`.
#[must_use]
pub fn clients(snapshot: &Snapshot, layout: Layout) -> String {
    let mut out = header("Hostname                      NTP   Drop Int IntL Last     Cmd   Drop Int  Last");
    let _ = layout;
    for client in &snapshot.clients {
        let _ = writeln!(
            out,
            "{:<25}  {:6}  {:5}  {}  {}  {}  {:6}  {:5}  {}  {}",
            client.address.to_string(),
            client.ntp.hits,
            client.ntp.drops,
            rate(client.ntp.interval_log2),
            rate(client.ntp.limited_interval_log2),
            interval(client.ntp.last_age_seconds),
            client.command.hits,
            client.command.drops,
            rate(client.command.interval_log2),
            interval(client.command.last_age_seconds),
        );
    }
    out
}

const SERVER_LABELS: [&str; 17] = [
    "NTP packets received",
    "NTP packets dropped",
    "Command packets received",
    "Command packets dropped",
    "Client log records dropped",
    "NTS-KE connections accepted",
    "NTS-KE connections dropped",
    "Authenticated NTP packets",
    "Interleaved NTP packets",
    "NTP timestamps held",
    "NTP timestamp span",
    "NTP daemon RX timestamps",
    "NTP daemon TX timestamps",
    "NTP kernel RX timestamps",
    "NTP kernel TX timestamps",
    "NTP hardware RX timestamps",
    "NTP hardware TX timestamps",
];

/// The counts of `serverstats` in their order. As with chronyd, what is no request is none of the command packets; the
/// table of interleaved mode has neither a number of entries nor a span, so those are zero.
pub(crate) fn server_counts(snapshot: &Snapshot) -> [u64; 17] {
    let server = &snapshot.server;
    let ke = &snapshot.ke_server;
    let stamps = &server.timestamps;
    [
        server.received,
        server.dropped,
        snapshot.control.chrony.requests(),
        snapshot.control.chrony.of(Handling::RateLimited),
        server.clients_forgotten,
        ke.accepted,
        ke.dropped,
        server.authenticated,
        server.interleaved,
        0,
        0,
        stamps.daemon_rx,
        stamps.daemon_tx,
        stamps.kernel_rx,
        stamps.kernel_tx,
        stamps.hardware_rx,
        stamps.hardware_tx,
    ]
}

/// An average interval in log2 seconds, two columns; `-` when it is unknown.
fn rate(log2: Option<f32>) -> String {
    log2.map_or_else(|| " -".to_owned(), |log2| format!("{log2:2.0}"))
}
