//! A server of the world: the real responder on a clock that is right, or is not.

use crate::Chance;
use chime_engine::{EstablishKeys, KeFailure, KeOutcome};
use chime_nts::{AeadAlgorithm, AeadKey, CookieKey, KEYS_KEPT_DEFAULT, KeyRing, NtsKeys};
use chime_server::{
    Access, AccessList, Arrival, Environment, Policy, Published, RateLimitSettings, Refusal, Responder,
    ServerTime, Verdict,
};
use chime_time::{MonoTime, NtpDate, NtpDuration, NtpShort, NtpTimestamp};
use chime_wire::{LeapIndicator, ReferenceId};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Octets of the largest datagram that the responder is given room for.
const RESPONSE_OCTETS: usize = 2048;
/// Seconds that the responder takes from reading its clock to sending.
const PROCESSING_SECONDS: f64 = 2e-6;
/// Cookies that key establishment gives. RFC 8915 §4.1.6.
const COOKIES: usize = 8;
/// Validity of the servers' certificates around the start of the world, seconds.
const CERTIFICATE_SECONDS: i64 = 45 * 86_400;

/// A server, its NTS keys, and how its clock errs.
#[derive(Debug)]
pub struct SimulatedServer {
    /// Its address at the moment.
    pub address: IpAddr,
    /// Its clock minus true time, seconds.
    pub error: f64,
    /// How its clock errs beyond that.
    pub lie: Lie,
    /// Standard deviation of the error of its time stamps, seconds.
    pub stamp_noise: f64,
    /// Whether it answers at all.
    pub up: bool,
    /// What it claims to be.
    pub stratum: u8,
    /// Its leap indicator.
    pub leap: LeapIndicator,
    /// Whether it refuses to establish keys.
    pub establishment_fails: bool,
    /// How many keys it established.
    pub establishments: u32,
    responder: Responder,
    ring: KeyRing,
    certificate: (i64, i64),
}

/// How the clock of a server errs: the sum of these from [`Lie::at`] on.
#[derive(Clone, Copy, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lie {
    /// Its clock minus true time, seconds.
    pub offset: f64,
    /// What its clock gains, s per s.
    pub drift: f64,
    /// A clock that is now right and now not.
    pub jumps: Option<Jumps>,
    /// A leap second that is worked off little by little.
    pub smear: Option<Smear>,
    /// When it begins to be wrong, seconds after the start.
    pub at: f64,
}

/// A clock that goes wrong and right again.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jumps {
    /// By how much it is wrong for a while, seconds.
    pub by: f64,
    /// How long it is right, and then as long wrong; seconds.
    pub every: f64,
}

/// A clock that leaves true time linearly and stays away, as a leap second does that others have not had yet.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smear {
    /// By how much it is wrong in the end, seconds.
    pub by: f64,
    /// How long that takes, seconds.
    pub lasting: f64,
}

impl Lie {
    /// Server's clock minus true time at `time`, both in seconds.
    #[must_use]
    pub fn error_at(&self, time: f64) -> f64 {
        let since = time - self.at;
        if since < 0.0 {
            return 0.0;
        }
        let jumped = self.jumps.filter(|jumps| since.rem_euclid(2.0 * jumps.every) >= jumps.every);
        let smeared = self.smear.map_or(0.0, |smear| smear.by * (since / smear.lasting).min(1.0));
        self.offset + self.drift * since + jumped.map_or(0.0, |jumps| jumps.by) + smeared
    }

    /// Whether there is anything wrong at all.
    #[must_use]
    pub fn is_true(&self) -> bool {
        *self == Self { at: self.at, ..Self::default() }
    }

    /// What cannot be simulated, in words.
    ///
    /// # Errors
    /// When a number is impossible.
    pub fn check(&self) -> Result<(), String> {
        let ok = self.offset.abs() <= 1e9
            && self.drift.abs() <= 1e-2
            && (0.0..=1e8).contains(&self.at)
            && self.jumps.is_none_or(|jumps| jumps.by.abs() <= 1e9 && jumps.every > 0.0)
            && self.smear.is_none_or(|smear| smear.by.abs() <= 1e9 && smear.lasting > 0.0);
        let rule =
            "a lie: offset up to 1e9 s, drift up to 1e-2 s per s, every and lasting above 0 s, at 0 to 1e8 s";
        if ok { Ok(()) } else { Err(rule.to_owned()) }
    }
}

/// How a server treats its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Answers everybody.
    Open,
    /// Answers with the kiss code DENY.
    Deny,
    /// Answers one request a minute, and half of the others with the kiss code RATE.
    RateLimit,
}

impl Manner {
    fn policy(self) -> Policy {
        match self {
            Self::Open => Policy::open(),
            Self::Deny => Policy::new(AccessList::uniform(Access::Refuse(Refusal::Deny))),
            Self::RateLimit => {
                let interval = Duration::from_secs(60);
                let limit = RateLimitSettings { interval, burst: 1, leak: None, kiss: Some(1) };
                Policy { rate_limit: Some(limit), ..Policy::open() }
            }
        }
    }
}

/// What the responder takes from the world.
struct ServerEnvironment<'a> {
    transmit: NtpTimestamp,
    chance: &'a mut Chance,
}

impl Environment for ServerEnvironment<'_> {
    fn system_time(&mut self) -> NtpTimestamp {
        self.transmit
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        self.chance.fill(octets);
    }
}

impl SimulatedServer {
    /// A server with a right clock and fresh keys. `start`: true time at the start of the world.
    pub fn new(number: u8, start: NtpDate, chance: &mut Chance) -> Self {
        let start_unix = start.unix_seconds();
        Self {
            address: address(number, 0),
            error: 0.0,
            lie: Lie::default(),
            stamp_noise: 0.0,
            up: true,
            stratum: 1,
            leap: LeapIndicator::NoWarning,
            establishment_fails: false,
            establishments: 0,
            responder: Responder::new(Arc::new(Manner::Open.policy()), [1, 2]),
            ring: KeyRing::new(cookie_key(start, chance)),
            certificate: (start_unix - CERTIFICATE_SECONDS, start_unix + CERTIFICATE_SECONDS),
        }
    }

    /// Answers a request that arrives when true time is `now`, `time` seconds after the start. Gives the seconds that
    /// it takes and the answer.
    pub fn respond(
        &mut self,
        request: &[u8],
        from: IpAddr,
        (now, time): (NtpDate, f64),
        chance: &mut Chance,
    ) -> Option<(f64, Vec<u8>)> {
        if !self.up {
            return None;
        }
        let mut noise = || if self.stamp_noise > 0.0 { self.stamp_noise * chance.normal() } else { 0.0 };
        let (receive_noise, transmit_noise) = (noise(), noise());
        let shown = now + NtpDuration::from_secs_f64(self.error_at(time));
        let received = shown + NtpDuration::from_secs_f64(receive_noise);
        let mono = MonoTime::ZERO.add_secs_f64(time);
        let transmit = (shown + NtpDuration::from_secs_f64(PROCESSING_SECONDS + transmit_noise)).timestamp();
        let server_time = self.time(received, mono);
        let published = Published { time: &server_time, keys: Some(&self.ring) };
        let arrival = Arrival::new(from, received.timestamp(), mono);
        let mut environment = ServerEnvironment { transmit, chance };
        let mut response = vec![0; RESPONSE_OCTETS];
        match self.responder.respond(request, &arrival, &published, &mut environment, &mut response) {
            Verdict::Respond { octets, .. } => {
                assert!(octets <= request.len(), "an answer is never longer than its request");
                response.truncate(octets);
                Some((PROCESSING_SECONDS, response))
            }
            Verdict::Silence(_) => None,
        }
    }

    /// Its clock minus true time at `time`, both in seconds.
    #[must_use]
    pub fn error_at(&self, time: f64) -> f64 {
        self.error + self.lie.error_at(time)
    }

    fn time(&self, received: NtpDate, mono: MonoTime) -> ServerTime {
        ServerTime {
            leap: self.leap,
            stratum: self.stratum,
            root_delay: NtpShort::ZERO,
            root_dispersion: NtpDuration::from_secs_f64(2e-5),
            reference_id: ReferenceId(*b"GPS\0"),
            ..ServerTime::local(
                self.stratum,
                -24,
                mono,
                (received - NtpDuration::from_seconds(8)).timestamp(),
            )
        }
    }

    /// Establishes keys as a TLS session would have: with the checks whose outcome depends on time and name.
    ///
    /// # Errors
    /// When the certificate's dates are to be checked and do not hold at the time that the client knows.
    pub fn establish(
        &mut self,
        request: &EstablishKeys,
        chance: &mut Chance,
    ) -> Result<KeOutcome, KeFailure> {
        if self.establishment_fails {
            return Err(failure("tls", "the server ends the session", false));
        }
        let (not_before, not_after) = self.certificate;
        let now = request.unix_now_lower_bound;
        if request.check_dates && !(not_before..=not_after).contains(&now) {
            return Err(failure("certificate-dates", "the certificate is not valid at our time", false));
        }
        let aead = request.aeads.first().copied().unwrap_or(AeadAlgorithm::AesSivCmac256);
        let mut key = || {
            let octets: [u8; 64] = chance.octets();
            AeadKey::new(aead, &octets[..aead.key_octets()]).expect("the length is the algorithm's own")
        };
        let keys = NtsKeys { c2s: key(), s2c: key() };
        self.establishments += 1;
        Ok(KeOutcome {
            cookies: (0..COOKIES).map(|_| self.ring.seal_cookie(&keys, chance.octets())).collect(),
            keys,
            alternative_keys: None,
            ntp_server: None,
            ntp_port: None,
            certificate_not_before: not_before,
            certificate_not_after: not_after,
            certificate_chain: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// A new cookie key; old ones stay good.
    pub fn rotate_keys(&mut self, now: NtpDate, chance: &mut Chance) {
        self.ring.rotate(cookie_key(now, chance), KEYS_KEPT_DEFAULT);
    }

    /// The server restarts and has lost its cookie keys.
    pub fn lose_keys(&mut self, now: NtpDate, chance: &mut Chance) {
        self.ring = KeyRing::new(cookie_key(now, chance));
    }

    /// Whom it answers from now on.
    pub fn set_manner(&mut self, manner: Manner) {
        self.responder.set_policy(Arc::new(manner.policy()));
    }

    /// Its certificate is valid in these Unix seconds only.
    pub const fn set_certificate(&mut self, not_before: i64, not_after: i64) {
        self.certificate = (not_before, not_after);
    }
}

/// A failure of key establishment.
pub(crate) fn failure(kind: &str, text: &str, network: bool) -> KeFailure {
    KeFailure { kind: kind.to_owned(), text: text.to_owned(), network }
}

/// The address of a server after it moved `moves` times.
pub(crate) fn address(number: u8, moves: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2u8.wrapping_add(moves), 10u8.wrapping_add(number)).into()
}

fn cookie_key(now: NtpDate, chance: &mut Chance) -> CookieKey {
    CookieKey::new(u32::from_be_bytes(chance.octets()), chance.octets(), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_begin_in_their_time_and_add_up() {
        let lie = Lie {
            offset: 1.0,
            drift: 1e-3,
            jumps: Some(Jumps { by: 10.0, every: 50.0 }),
            smear: Some(Smear { by: -1.0, lasting: 100.0 }),
            at: 100.0,
        };
        let close = |time: f64, error: f64| assert!((lie.error_at(time) - error).abs() < 1e-9, "{time}");
        close(99.0, 0.0);
        close(100.0, 1.0);
        close(120.0, 1.0 + 0.02 - 0.2);
        close(150.0, 1.0 + 0.05 + 10.0 - 0.5);
        close(300.0, 1.0 + 0.2 - 1.0);
        assert!(Lie { at: 5.0, ..Lie::default() }.is_true() && !lie.is_true());
    }
}
