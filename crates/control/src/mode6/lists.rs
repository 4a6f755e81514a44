//! Lists for those who know the control key: where we listen, and whom we answer.

use super::Facts;
use super::reply::Items;

/// `ntpq -c ifstats`.
pub(super) fn interfaces(facts: &Facts<'_>) -> Items {
    let snapshot = facts.snapshot;
    let (server, uptime) = (&snapshot.server, snapshot.program.uptime_seconds.max(0.0));
    let mut items = Items::default();
    for (number, one) in facts.listening.iter().enumerate() {
        let ip = one.address.ip();
        // Up, loopback, wildcard, as NTPsec has them.
        let flags = 1 | u32::from(ip.is_loopback()) << 2 | u32::from(ip.is_unspecified()) << 7;
        let peers = snapshot.engine.sources.iter().filter(|source| source.ntp.local == Some(ip)).count();
        // The server counts over all its addresses, so that the first one has all.
        let (received, sent) =
            if number == 0 { (server.received, server.responses.values().sum()) } else { (0, 0) };
        items
            .add(&format!("addr.{number}"), one.address)
            .add_quoted(&format!("name.{number}"), &one.name)
            .add(&format!("en.{number}"), 1)
            .add(&format!("flags.{number}"), format_args!("{flags:#x}"))
            .add(&format!("rx.{number}"), received)
            .add(&format!("tx.{number}"), sent)
            .add(&format!("txerr.{number}"), 0)
            .add(&format!("pc.{number}"), peers)
            .add(&format!("up.{number}"), format_args!("{uptime:.0}"));
    }
    items
}

/// `ntpq -c reslist`.
pub(super) fn restrictions(facts: &Facts<'_>) -> Items {
    let mut items = Items::default();
    for (number, one) in facts.restrictions.iter().enumerate() {
        items
            .add(&format!("addr.{number}"), one.address)
            .add(&format!("mask.{number}"), one.mask)
            .add(&format!("hits.{number}"), 0)
            .add(&format!("flags.{number}"), &one.flags);
    }
    items
}
