//! The clients of the server, for those who have just shown that packets to their address arrive.
//!
//! `ntpq` asks for a nonce and then for rows, oldest first; it goes on from the newest rows that it has, as long as one of
//! them is still in the list as it was.

use super::reply::Items;
use super::{ErrorCode, Facts};
use crate::ClientReport;
use chime_time::NtpTimestamp;
use md5::{Digest, Md5};
use std::net::SocketAddr;

/// How long a nonce is good for; seconds.
const NONCE_SECONDS_MAX: f64 = 16.0;
/// Datagrams that an answer may have.
const FRAGMENTS_MAX: usize = 128;
/// Rows that an answer may have.
const ROWS_MAX: usize = 256;
/// Rows that a client can go on from.
const RESUME_MAX: usize = 16;
/// Octets of a datagram that rows may fill.
const FRAGMENT_OCTETS: usize = 460;
/// A time of a row is the same when it differs by less; seconds. They are worked out from ages anew for each answer.
const SAME_SECONDS: f64 = 0.01;

/// What our clients send: version 4, client mode. It is not remembered which of them sends what.
const VERSION_AND_MODE: u8 = 4 << 3 | 3;

/// A nonce for `from`: when it was made, and what only we can make of that.
pub(super) fn nonce(facts: &Facts<'_>, from: SocketAddr) -> String {
    format!("{:016x}{}", facts.now.to_bits(), seal(facts, from, facts.now))
}

/// Whether this is a nonce of ours for `from` that is not too old.
pub(super) fn is_fresh(facts: &Facts<'_>, from: SocketAddr, nonce: &str) -> bool {
    let Some((made, sealed)) = nonce.split_at_checked(16) else { return false };
    let Ok(made) = u64::from_str_radix(made, 16) else { return false };
    let made = NtpTimestamp::from_bits(made);
    let age = (facts.now - made).as_secs_f64();
    (0.0..=NONCE_SECONDS_MAX).contains(&age) && sealed == seal(facts, from, made)
}

fn seal(facts: &Facts<'_>, from: SocketAddr, made: NtpTimestamp) -> String {
    let mut hash = Md5::new_with_prefix(facts.secret);
    hash.update(made.to_bits().to_be_bytes());
    hash.update(from.to_string());
    let hash = hash.finalize();
    format!("{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}

/// What a client asks for.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Request<'a> {
    pub(super) nonce: &'a str,
    fragments: Option<usize>,
    rows: Option<usize>,
    recent: Option<usize>,
    hits_min: u32,
    /// Only those whose last request is at most so old, and at least so old; seconds.
    age_max: Option<f64>,
    age_min: f64,
    /// Only those with some of these restrictions; we have none for clients.
    restricted: bool,
    /// Where the client goes on: address and time, newest first.
    resume: Vec<(Option<SocketAddr>, Option<NtpTimestamp>)>,
}

impl<'a> Request<'a> {
    /// Reads the items. Unknown ones are left out, as newer clients may have more.
    pub(super) fn read(text: &'a str) -> Result<Self, ErrorCode> {
        let mut request = Self::default();
        for item in text.split(',').map(|item| item.trim_matches([' ', '\r', '\n', '\0'])) {
            let Some((name, value)) = item.split_once('=') else { continue };
            let number = || value.parse::<u32>().map_err(|_| ErrorCode::Value);
            match name {
                "nonce" => request.nonce = value,
                "frags" => request.fragments = Some(limit(number()?, FRAGMENTS_MAX)?),
                "limit" => request.rows = Some(limit(number()?, ROWS_MAX)?),
                "recent" => request.recent = Some(number()?.try_into().unwrap_or(usize::MAX)),
                "mincount" => request.hits_min = number()?,
                "maxlstint" => request.age_max = Some(f64::from(number()?)),
                "minlstint" => request.age_min = f64::from(number()?),
                "resall" | "resany" => request.restricted |= hexadecimal(value).is_some_and(|bits| bits != 0),
                _ => request.read_resume(name, value)?,
            }
        }
        Ok(request)
    }

    fn read_resume(&mut self, name: &str, value: &str) -> Result<(), ErrorCode> {
        let Some((kind, number)) = name.split_once('.') else { return Ok(()) };
        let Ok(number) = number.parse::<usize>() else { return Ok(()) };
        if number >= RESUME_MAX || !matches!(kind, "addr" | "last") {
            return Ok(());
        }
        if self.resume.len() <= number {
            self.resume.resize(number + 1, (None, None));
        }
        let place = &mut self.resume[number];
        match kind {
            "addr" => place.0 = Some(value.parse().map_err(|_| ErrorCode::Value)?),
            _ => place.1 = Some(timestamp(value).ok_or(ErrorCode::Value)?),
        }
        Ok(())
    }
}

/// The rows that are asked for.
pub(super) fn list(facts: &Facts<'_>, from: SocketAddr, request: &Request<'_>) -> Result<Items, ErrorCode> {
    let mut clients: Vec<&ClientReport> =
        facts.snapshot.clients.iter().filter(|client| client.asked_for_time()).collect();
    clients.sort_by(|one, other| age(other).total_cmp(&age(one)));
    let mut items = Items::default();
    items.add("nonce", nonce(facts, from));
    let mut first = 0;
    if !request.resume.is_empty() {
        // Newest first: the first that is as it was is where the client is.
        let found = request.resume.iter().find_map(|place| position(facts, &clients, place));
        let (position, client) = found.ok_or(ErrorCode::Variable)?;
        items.add("last.older", hex(last(facts, client))).add("addr.older", address(client));
        first = position + 1;
    } else if let Some(recent) = request.recent {
        first = clients.len().saturating_sub(recent);
    }
    let rows_max = request.rows.unwrap_or(ROWS_MAX);
    let octets_max = request.fragments.unwrap_or(FRAGMENTS_MAX) * FRAGMENT_OCTETS;
    let wanted = clients.iter().skip(first).filter(|client| is_wanted(client, request));
    let mut complete = true;
    for (number, client) in wanted.enumerate() {
        if number == rows_max || items.octets() + ROW_OCTETS_MAX > octets_max {
            complete = false;
            break;
        }
        row(facts, &mut items, number, client);
    }
    if complete {
        let newest = clients.last().map_or(facts.now, |client| last(facts, client));
        items.add("now", hex(facts.now)).add("last.newest", hex(newest));
    }
    Ok(items)
}

/// More than the longest row has.
const ROW_OCTETS_MAX: usize = 240;

fn row(facts: &Facts<'_>, items: &mut Items, number: usize, client: &ClientReport) {
    // The first request is not remembered: so many intervals before the last one.
    let interval = client.ntp.interval_log2.map_or(0.0, |log2| f64::from(log2).exp2());
    let span = interval * f64::from(client.ntp.hits.saturating_sub(1));
    let first = before(facts.now, age(client) + span);
    // Only those whose requests come too fast have a limited interval.
    let score = if interval > 0.0 { 1.0 / interval } else { 0.05 };
    items
        .add(&format!("addr.{number}"), address(client))
        .add(&format!("last.{number}"), hex(last(facts, client)))
        .add(&format!("first.{number}"), hex(first))
        .add(&format!("ct.{number}"), client.ntp.hits)
        .add(&format!("mv.{number}"), VERSION_AND_MODE)
        .add(&format!("rs.{number}"), "0x0")
        .add(&format!("sc.{number}"), format_args!("{:.3}", score.min(9_999.0)))
        .add(&format!("dr.{number}"), client.ntp.drops);
}

fn is_wanted(client: &ClientReport, request: &Request<'_>) -> bool {
    !request.restricted
        && client.ntp.hits >= request.hits_min
        && age(client) >= request.age_min
        && request.age_max.is_none_or(|most| age(client) <= most)
}

fn position<'a>(
    facts: &Facts<'_>,
    clients: &[&'a ClientReport],
    (wanted, time): &(Option<SocketAddr>, Option<NtpTimestamp>),
) -> Option<(usize, &'a ClientReport)> {
    let (wanted, time) = ((*wanted)?, (*time)?);
    let found = clients.iter().enumerate().find(|(_, client)| client.address == wanted.ip());
    let (position, client) = found?;
    ((last(facts, client) - time).as_secs_f64().abs() < SAME_SECONDS).then_some((position, *client))
}

/// Since its last request; seconds.
fn age(client: &ClientReport) -> f64 {
    client.ntp.last_age_seconds.unwrap_or_default()
}

/// Ports are not remembered, since a client that guards itself has another one for each request (RFC 9109).
fn address(client: &ClientReport) -> SocketAddr {
    SocketAddr::new(client.address.to_canonical(), 0)
}

fn last(facts: &Facts<'_>, client: &ClientReport) -> NtpTimestamp {
    before(facts.now, age(client))
}

fn before(now: NtpTimestamp, seconds: f64) -> NtpTimestamp {
    now - chime_time::NtpDuration::from_secs_f64(seconds)
}

fn hex(time: NtpTimestamp) -> String {
    let bits = time.to_bits();
    format!("{:#010x}.{:08x}", bits >> 32, bits & 0xffff_ffff)
}

fn timestamp(text: &str) -> Option<NtpTimestamp> {
    let (seconds, fraction) = text.strip_prefix("0x")?.split_once('.')?;
    let half = |text| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(NtpTimestamp::from_bits(half(seconds)? << 32 | half(fraction)?))
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

fn limit(number: u32, most: usize) -> Result<usize, ErrorCode> {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    if (1..=most).contains(&number) { Ok(number) } else { Err(ErrorCode::Value) }
}
