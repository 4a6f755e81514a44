//! Conversations as ladders: what is said, when, and what follows, to be read and compared.

use super::world::{World, good_nts, nak};
use crate::Event;
use chime_nts::NtsRequest;

/// The whole conversation so far, in order of time.
fn ladder(world: &World) -> String {
    let mut rungs: Vec<(f64, String)> = Vec::new();
    for (at, name) in &world.lookups {
        rungs.push((*at, format!("lookup    {name}")));
    }
    for (at, request) in &world.establishments {
        let dates = if request.check_dates { "dates checked" } else { "dates judged later" };
        rungs.push((*at, format!("establish {}:{} {dates}", request.server_name, request.port)));
    }
    for (at, to, octets) in &world.sent {
        let placeholders = NtsRequest::parse(octets).map_or(0, |request| request.placeholders);
        rungs.push((*at, format!("request   {to} octets={} placeholders={placeholders}", octets.len())));
    }
    for (at, event) in &world.timed_events {
        let text = match event {
            Event::KeysEstablished { aead, cookies, .. } => {
                format!("keys      aead={aead} cookies={cookies}")
            }
            Event::Sampled { delay, .. } => format!("sample    delay={:.3}", delay.as_secs_f64()),
            Event::Discarded { reason, .. } => format!("discard   {reason}"),
            Event::NtsNak { other_keys_tried, .. } => {
                format!("nts nak   other keys tried: {other_keys_tried}")
            }
            Event::Reachable { .. } => "reachable".to_owned(),
            _ => continue,
        };
        rungs.push((*at, text));
    }
    rungs.sort_by(|one, other| one.0.total_cmp(&other.0));
    rungs.iter().map(|(at, text)| format!("{at:7.3}  {text}\n")).collect()
}

#[test]
fn a_start_with_one_nak() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| if asked.number == 2 { vec![nak(asked)] } else { good_nts(asked) });
    world.run_for(12.0);
    insta::assert_snapshot!(ladder(&world), @r"
    0.000  lookup    nts.example
    0.005  establish nts.example:4460 dates judged later
    0.055  request   192.0.2.1:123 octets=232 placeholders=0
    0.055  keys      aead=15 cookies=8
    0.075  reachable
    0.075  sample    delay=0.020
    2.115  request   192.0.2.1:123 octets=232 placeholders=0
    2.135  sample    delay=0.020
    4.152  request   192.0.2.1:123 octets=232 placeholders=0
    4.172  discard   NTS NAK: the server does not accept the cookie
    6.052  establish nts.example:4460 dates checked
    6.052  nts nak   other keys tried: false
    6.102  request   192.0.2.1:123 octets=232 placeholders=0
    6.102  keys      aead=15 cookies=8
    6.122  sample    delay=0.020
    8.143  request   192.0.2.1:123 octets=232 placeholders=0
    8.163  sample    delay=0.020
    ");
}
