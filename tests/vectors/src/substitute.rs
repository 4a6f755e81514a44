//! A recorded request with our cookies in place of those of the recorded server.
//!
//! Real servers' cookies are opaque to us. So that our server can be asked what theirs was asked, each of them is
//! replaced by one that our key ring makes of the same keys; what the recorder did to a cookie (a flipped bit, octets cut
//! or added) is done to ours; placeholders keep their difference in length; and what was sealed is sealed again.

use crate::harness::Harness;
use crate::oracle::{AUTHENTICATOR, Authenticator, COOKIE, Field, HEADER_OCTETS, PLACEHOLDER, fields};
use chime_nts::{AeadKey, KeyRing, NtsKeys};

/// Octets by which a garbled cookie may differ from a good one; more, and it counts as a random one.
const GARBLED_OCTETS_MAX: usize = 8;

/// Rewrites a request, and gives the good cookies that are in it now. Whatever cannot be read as fields stays as it is.
pub(crate) fn with_our_cookies(
    packet: &[u8],
    keys: &NtsKeys,
    genuine: &[&[u8]],
    harness: &mut Harness,
) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (found, end) = fields(packet, HEADER_OCTETS, 4);
    let Some(header) = packet.get(..HEADER_OCTETS) else { return (packet.to_vec(), Vec::new()) };
    let first_cookie = found.iter().find(|field| field.kind == COOKIE && !field.body.is_empty());
    let growth =
        first_cookie.map_or((0, 0), |field| (KeyRing::cookie_octets(keys.algorithm()), field.body.len()));
    let mut rewriter = Rewriter { keys, genuine, harness, growth, good: Vec::new() };
    let mut out = header.to_vec();
    for field in found {
        let body = match field.kind {
            AUTHENTICATOR => rewriter.reseal(packet, &field, &out),
            _ => rewriter.rewrite(&field),
        };
        push_field(&mut out, field.kind, &body);
    }
    out.extend_from_slice(&packet[end..]);
    (out, rewriter.good)
}

struct Rewriter<'a> {
    keys: &'a NtsKeys,
    genuine: &'a [&'a [u8]],
    harness: &'a mut Harness,
    /// Octets of our cookies, and of those of the recorded server.
    growth: (usize, usize),
    good: Vec<Vec<u8>>,
}

impl Rewriter<'_> {
    fn rewrite(&mut self, field: &Field<'_>) -> Vec<u8> {
        match field.kind {
            COOKIE => self.cookie(field.body),
            PLACEHOLDER => {
                let octets = (field.body.len() + self.growth.0).saturating_sub(self.growth.1).max(12);
                field
                    .body
                    .iter()
                    .copied()
                    .cycle()
                    .take(if field.body.is_empty() { 0 } else { octets })
                    .collect()
            }
            _ => field.body.to_vec(),
        }
    }

    /// One of ours, with what was done to the recorded one done to it.
    fn cookie(&mut self, body: &[u8]) -> Vec<u8> {
        let nonce = self.harness.nonce();
        let mut ours = self.harness.ring.seal_cookie(self.keys, nonce).as_bytes().to_vec();
        let differs = |cookie: &[u8]| cookie.iter().zip(body).filter(|(left, right)| left != right).count();
        let garbled = |cookie: &&&[u8]| cookie.len() == body.len() && differs(cookie) <= GARBLED_OCTETS_MAX;
        if self.genuine.contains(&body) {
            self.good.push(ours.clone());
            return ours;
        }
        if let Some(cookie) = self.genuine.iter().find(garbled) {
            for (at, (left, right)) in cookie.iter().zip(body).enumerate() {
                let at = at.min(ours.len() - 1);
                ours[at] ^= left ^ right;
            }
            return ours;
        }
        if let Some(cookie) = self.genuine.iter().find(|cookie| !body.is_empty() && cookie.starts_with(body))
        {
            ours.truncate((ours.len() + body.len()).saturating_sub(cookie.len()));
            return ours;
        }
        if let Some(cookie) = self.genuine.iter().find(|cookie| body.starts_with(cookie)) {
            ours.extend_from_slice(&body[cookie.len()..]);
            return ours;
        }
        body.to_vec()
    }

    /// The authenticator over `before`, with the key that the recorded one opens with; as it is if neither does.
    fn reseal(&mut self, packet: &[u8], field: &Field<'_>, before: &[u8]) -> Vec<u8> {
        let Some(recorded) = Authenticator::read(field.body) else { return field.body.to_vec() };
        let covered = &packet[..field.offset];
        let opened = |key: &AeadKey| recorded.open(key, covered).map(|plaintext| (key.clone(), plaintext));
        let Some((key, plaintext)) = opened(&self.keys.c2s).or_else(|| opened(&self.keys.s2c)) else {
            return field.body.to_vec();
        };
        let (inner, end) = fields(&plaintext, 0, 4);
        let mut text = Vec::new();
        for field in inner {
            let body = self.rewrite(&field);
            push_field(&mut text, field.kind, &body);
        }
        text.extend_from_slice(&plaintext[end..]);
        seal_body(&key, recorded.nonce, before, &text, recorded.octets_behind)
    }
}

fn push_field(out: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let octets = u16::try_from(body.len() + 4).expect("a field of a datagram");
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&octets.to_be_bytes());
    out.extend_from_slice(body);
}

fn seal_body(key: &AeadKey, nonce: &[u8], associated_data: &[u8], text: &[u8], padding: usize) -> Vec<u8> {
    let mut sealed = vec![0; text.len() + 16];
    key.seal(nonce, associated_data, text, &mut sealed).expect("the nonce served to open");
    let length = |octets: usize| u16::try_from(octets).expect("a field of a datagram").to_be_bytes();
    let mut body = [length(nonce.len()), length(sealed.len())].concat();
    for part in [nonce, &sealed] {
        body.extend_from_slice(part);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    body.resize(body.len() + padding, 0);
    body
}
