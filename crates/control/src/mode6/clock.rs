//! Variables of reference clocks, with NTPsec's names and in its order.

use super::peer;
use super::reply::Items;
use super::{ErrorCode, names};
use crate::Snapshot;
use chime_engine::{SourceKind, SourceReport};

const VARIABLES: [&str; 13] = [
    "name",
    "timecode",
    "poll",
    "noreply",
    "badformat",
    "baddata",
    "fudgetime1",
    "fudgetime2",
    "stratum",
    "refid",
    "flags",
    "device",
    "clock_var_list",
];
/// Sent only when asked for: what `fudge` says is not known here, and 0 is what it does not say with ntpd, either.
const ON_REQUEST: [&str; 3] = ["fudgetime1", "fudgetime2", "clock_var_list"];

/// The reference clock with this association number; of number 0 the first one.
pub(super) fn find(snapshot: &Snapshot, wanted: u16) -> Option<&SourceReport> {
    let mut clocks = peer::visible(snapshot).filter(|source| source.kind == SourceKind::ReferenceClock);
    clocks.find(|clock| wanted == 0 || peer::id(clock) == wanted)
}

/// One event of none that came, or nothing to tell. RFC 9327 §2.4.
pub(super) fn status(clock: &SourceReport) -> u16 {
    const NO_REPLY: u16 = 1 << 4 | 1;
    if clock.reach == 0 { NO_REPLY } else { 0 }
}

/// The variables that `list` names, or the usual ones. What a device said, and how often in vain, is not kept.
pub(super) fn variables(clock: &SourceReport, list: &str) -> Result<Items, ErrorCode> {
    let wanted: Vec<&str> = names(list).collect();
    if wanted.iter().any(|name| !VARIABLES.contains(name)) {
        return Err(ErrorCode::Variable);
    }
    let is_wanted = |name: &&&str| match wanted.is_empty() {
        true => !ON_REQUEST.contains(name),
        false => wanted.contains(name),
    };
    let mut items = Items::default();
    for name in VARIABLES.iter().filter(is_wanted) {
        match *name {
            "name" => items.add_quoted(name, &clock.driver.to_ascii_uppercase()),
            "timecode" => items.add_quoted(name, ""),
            "stratum" => items.add(name, peer::clock_stratum(clock)),
            "refid" => items.add(name, &clock.name),
            "device" => items.add_quoted(name, &clock.device),
            "clock_var_list" => items.add_quoted(name, &VARIABLES.join(",")),
            _ => items.add(name, 0),
        };
    }
    Ok(items)
}
