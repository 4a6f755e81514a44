//! How often an address is answered: one table of fixed size that limits and, for reports, remembers.
//!
//! Each address has a bucket of credit that fills with time and that every answer draws from. Two things keep an
//! attacker who writes other people's addresses into packets from cutting those people off: a share of the requests
//! is answered without credit, at random; and when the table is full, the address that was silent for longest makes
//! room, so that a flood of invented addresses makes the limit weaker and never stronger.

use chime_time::MonoTime;
use core::net::IpAddr;
use core::time::Duration;

/// Records per bucket of the table: how many addresses whose hashes collide are told apart.
const WAYS: usize = 8;
/// The most records that a table has, whatever is asked for: 64 MiB.
pub const CLIENTS_MAX: usize = 1 << 20;

/// How often each address is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimitSettings {
    /// Time between answers in the long run.
    pub interval: Duration,
    /// How many answers may come at once; at least 1.
    pub burst: u8,
    /// Of the requests beyond the limit one in 2^`leak` is answered all the same, at random; `None`: none of them.
    pub leak: Option<u8>,
    /// Of the requests that stay unanswered one in 2^`kiss` is told so (kiss code RATE); `None`: none of them.
    pub kiss: Option<u8>,
}

impl RateLimitSettings {
    /// As in chrony's `ratelimit`: `interval` is log2 seconds (−19 to 12), `burst` 1 to 255, `leak` 1 to 4, `kod` 0
    /// (never) to 4; values beyond are brought to the limits.
    #[must_use]
    pub fn from_chrony(interval: i32, burst: i32, leak: i32, kod: i32) -> Self {
        let clamped =
            |value: i32, low: u8, high: u8| u8::try_from(value.max(0)).unwrap_or(u8::MAX).clamp(low, high);
        let kiss = clamped(kod, 0, 4);
        Self {
            interval: Duration::from_secs_f64(2f64.powi(interval.clamp(-19, 12))),
            burst: clamped(burst, 1, u8::MAX),
            leak: Some(clamped(leak, 1, 4)),
            kiss: (kiss > 0).then_some(kiss),
        }
    }

    /// As in ntpd-rs: answers to one address are at least `cutoff` apart; but one in four of the others still gets out.
    #[must_use]
    pub const fn from_cutoff(cutoff: Duration) -> Self {
        Self { interval: cutoff, burst: 1, leak: Some(2), kiss: None }
    }

    /// What an answer costs: the time in which as much credit comes together, nanoseconds.
    #[must_use]
    pub fn cost_nanos(&self) -> u64 {
        u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The most credit that anybody has, and what those begin with who are new, nanoseconds.
    #[must_use]
    pub fn credit_nanos_max(&self) -> u64 {
        self.cost_nanos().saturating_mul(u64::from(self.burst.max(1)))
    }
}

/// What the limit says about a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateDecision {
    /// Answer it.
    Answer,
    /// Tell the client that it asks too often.
    Kiss,
    /// Do not answer.
    Drop,
}

/// What is remembered of one client.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClientRecord {
    /// Its address; never an IPv4-mapped one.
    pub address: IpAddr,
    /// Requests.
    pub hits: u32,
    /// Requests beyond the rate limit that were not answered.
    pub drops: u32,
    /// Average time between an answered request and the next one; log2 seconds. `None` before the second request.
    pub interval_log2: Option<f32>,
    /// The same after requests that were dropped.
    pub dropped_interval_log2: Option<f32>,
    /// When it last asked.
    pub last: MonoTime,
}

/// The record of one address: 64 octets, a cache line.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// The address; IPv4 as IPv4-mapped IPv6. Zero (the unspecified address, which asks nobody) marks a free place.
    address: u128,
    last: u64,
    credit_nanos: u64,
    hits: u32,
    drops: u32,
    intervals: [Average; 2],
    dropped_last: bool,
}

impl Record {
    const FREE: Self = Self {
        address: 0,
        last: 0,
        credit_nanos: 0,
        hits: 0,
        drops: 0,
        intervals: [Average::UNKNOWN; 2],
        dropped_last: false,
    };

    fn report(&self) -> ClientRecord {
        ClientRecord {
            address: IpAddr::from(self.address.to_be_bytes()).to_canonical(),
            hits: self.hits,
            drops: self.drops,
            interval_log2: self.intervals[0].log2_seconds(),
            dropped_interval_log2: self.intervals[1].log2_seconds(),
            last: MonoTime::from_nanos(self.last),
        }
    }

    /// Whether the client asks more than twice as often when it is not answered.
    fn is_provoked_by_silence(&self) -> bool {
        matches!((self.intervals[0].0, self.intervals[1].0), (Some(answered), Some(dropped)) if dropped < answered - 1.0)
    }
}

/// A running average of log2 of intervals, seconds.
#[derive(Clone, Copy, Debug)]
struct Average(Option<f32>);

impl Average {
    const UNKNOWN: Self = Self(None);

    fn add(&mut self, interval_nanos: u64) {
        let sample = log2_approximate(interval_nanos) - 29.897_353;
        self.0 = Some(self.0.map_or(sample, |average| average + (sample - average) / 8.0));
    }

    const fn log2_seconds(self) -> Option<f32> {
        self.0
    }
}

/// Log2 within 0.09: a straight line between powers of two.
fn log2_approximate(value: u64) -> f32 {
    let value = value.max(1);
    let exponent = value.ilog2();
    let mantissa = value as f32 / (1u64 << exponent) as f32; // 1 to 2
    exponent as f32 + (mantissa - 1.0)
}

/// Limits and remembers clients by address. Memory is taken once, when it is made.
#[derive(Clone, Debug)]
pub struct ClientTable {
    settings: Option<RateLimitSettings>,
    /// A power of two times [`WAYS`] records.
    records: Box<[Record]>,
    hash_key: [u64; 2],
    replaced: u64,
}

impl ClientTable {
    /// A table of about `clients` records (rounded up to 8, 16, 32…, at most [`CLIENTS_MAX`]) that only remembers
    /// when there are no `settings`. `hash_key` is secret and random, so that nobody can choose addresses that collide.
    #[must_use]
    pub fn new(clients: usize, settings: Option<RateLimitSettings>, hash_key: [u64; 2]) -> Self {
        let records = clients.clamp(WAYS, CLIENTS_MAX).next_power_of_two();
        Self { settings, records: vec![Record::FREE; records].into_boxed_slice(), hash_key, replaced: 0 }
    }

    /// Changes the limit; the records stay.
    pub fn set_limit(&mut self, settings: Option<RateLimitSettings>) {
        self.settings = settings;
    }

    /// Counts a request from `address` at `now` and says whether it is to be answered. `random` fills octets; it is
    /// asked only for requests beyond the limit.
    pub fn check(
        &mut self,
        address: IpAddr,
        now: MonoTime,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> RateDecision {
        self.check_against(self.settings, address, now, random)
    }

    /// Counts a request from `address` at `now` that is answered whatever the limit says.
    pub fn count(&mut self, address: IpAddr, now: MonoTime) {
        self.check_against(None, address, now, &mut |_| ());
    }

    /// Has the counts of these clients begin again; when they came, and how often, is not forgotten.
    pub fn reset_counts(&mut self, addresses: &[IpAddr]) {
        for record in self.records.iter_mut().filter(|record| record.address != 0) {
            if addresses.contains(&record.report().address) {
                (record.hits, record.drops) = (0, 0);
            }
        }
    }

    /// As [`Self::check`], with another limit for this address; `None`: it has none, and is counted only.
    pub fn check_against(
        &mut self,
        settings: Option<RateLimitSettings>,
        address: IpAddr,
        now: MonoTime,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> RateDecision {
        let record = self.record(address, now);
        let now = now.as_nanos();
        let elapsed = now.saturating_sub(record.last);
        if record.hits > 0 {
            record.intervals[usize::from(record.dropped_last)].add(elapsed);
        }
        record.hits = record.hits.saturating_add(1);
        record.last = now.max(record.last);
        let decision =
            settings.map_or(RateDecision::Answer, |settings| decide(record, &settings, elapsed, random));
        record.dropped_last = decision != RateDecision::Answer;
        record.drops = record.drops.saturating_add(u32::from(record.dropped_last));
        decision
    }

    /// All clients that are remembered, in no particular order.
    pub fn clients(&self) -> impl Iterator<Item = ClientRecord> + '_ {
        self.records.iter().filter(|record| record.address != 0).map(Record::report)
    }

    /// How many clients were forgotten to make room for others.
    #[must_use]
    pub const fn replaced(&self) -> u64 {
        self.replaced
    }

    /// The record of `address`: its own, a free one, or that of the client that was silent for longest.
    fn record(&mut self, address: IpAddr, now: MonoTime) -> &mut Record {
        let key = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let start = self.bucket(key) * WAYS;
        let ways = &mut self.records[start..start + WAYS];
        let mut chosen = 0;
        for (at, record) in ways.iter().enumerate() {
            if record.address == key {
                return &mut ways[at];
            }
            // A free record was last used at 0.
            if record.last < ways[chosen].last {
                chosen = at;
            }
        }
        let record = &mut ways[chosen];
        self.replaced += u64::from(record.address != 0);
        let credit_nanos = self.settings.map_or(0, |settings| settings.credit_nanos_max());
        *record = Record { address: key, last: now.as_nanos(), credit_nanos, ..Record::FREE };
        record
    }

    /// Which group of [`WAYS`] records: a keyed hash by folded multiplication.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the product are what is folded")]
    fn bucket(&self, key: u128) -> usize {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product >> 64) as u64 ^ product as u64
        };
        let high = fold((key >> 64) as u64 ^ self.hash_key[0], 0x9e37_79b9_7f4a_7c15);
        let hash = fold(key as u64 ^ self.hash_key[1], high ^ self.hash_key[0] | 1);
        hash as usize & (self.records.len() / WAYS - 1)
    }
}

/// Token bucket in nanoseconds, then the exceptions.
fn decide(
    record: &mut Record,
    settings: &RateLimitSettings,
    elapsed_nanos: u64,
    random: &mut dyn FnMut(&mut [u8]),
) -> RateDecision {
    let cost = settings.cost_nanos();
    record.credit_nanos = record.credit_nanos.saturating_add(elapsed_nanos).min(settings.credit_nanos_max());
    if let Some(rest) = record.credit_nanos.checked_sub(cost) {
        record.credit_nanos = rest;
        return RateDecision::Answer;
    }
    let mut octets = [0; 2];
    random(&mut octets);
    let one_in = |octet: u8, exponent: u8| octet.trailing_zeros() >= u32::from(exponent);
    let leaks = settings.leak.is_some_and(|leak| one_in(octets[0], leak));
    // A client that asks even more often when it gets no answer is answered most of the time: that is less traffic.
    let answered = settings.leak.is_some() && leaks != record.is_provoked_by_silence();
    if answered {
        // It was on credit: what had come together for the next answer is spent.
        record.credit_nanos = 0;
        RateDecision::Answer
    } else if settings.kiss.is_some_and(|kiss| one_in(octets[1], kiss)) {
        RateDecision::Kiss
    } else {
        RateDecision::Drop
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const ALICE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// A generator for tests: reproducible, evenly spread.
    fn random() -> impl FnMut(&mut [u8]) {
        let mut state = 1u64;
        move |octets| {
            for octet in octets {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *octet = state.to_be_bytes()[0];
            }
        }
    }

    fn seconds(seconds: f64) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(1000.0 + seconds)
    }

    fn without_leak(interval: i32, burst: i32) -> RateLimitSettings {
        RateLimitSettings { leak: None, ..RateLimitSettings::from_chrony(interval, burst, 2, 0) }
    }

    fn answers(table: &mut ClientTable, count: usize, spacing: f64) -> usize {
        let mut random = random();
        (0..count)
            .filter(|n| table.check(ALICE, seconds(*n as f64 * spacing), &mut random) == RateDecision::Answer)
            .count()
    }

    #[test]
    fn a_burst_then_one_answer_per_interval() {
        let mut table = ClientTable::new(8, Some(without_leak(3, 4)), [1, 2]);
        assert_eq!(answers(&mut table, 100, 0.001), 4);
        let mut table = ClientTable::new(8, Some(without_leak(3, 4)), [1, 2]);
        assert_eq!(answers(&mut table, 800, 1.0), 4 - 1 + 100);
        let mut table = ClientTable::new(8, Some(without_leak(3, 1)), [1, 2]);
        assert_eq!(answers(&mut table, 100, 8.0), 100);
    }

    #[test]
    fn a_flood_in_a_victims_name_leaves_it_a_quarter_of_the_answers() {
        let mut table = ClientTable::new(8, Some(RateLimitSettings::from_chrony(3, 8, 2, 0)), [1, 2]);
        let answered = answers(&mut table, 10_000, 0.000_1);
        assert!((2_300..2_700).contains(&answered), "{answered}");
        let record = table.clients().next().expect("one client");
        assert_eq!((record.address, record.hits, record.drops as usize), (ALICE, 10_000, 10_000 - answered));
    }

    #[test]
    fn an_answer_beyond_the_limit_is_on_credit() {
        let mut table = ClientTable::new(8, Some(RateLimitSettings::from_chrony(6, 2, 4, 0)), [1, 2]);
        let answered = answers(&mut table, 10_000, 8.0);
        // One of eight has credit, one in sixteen of the others gets out, and takes half of a credit with it.
        assert!((1_400..1_700).contains(&answered), "{answered}");
    }

    #[test]
    fn kisses_come_instead_of_silence_when_asked_for() {
        let mut settings = RateLimitSettings::from_chrony(3, 1, 4, 1);
        settings.leak = None;
        let mut table = ClientTable::new(8, Some(settings), [1, 2]);
        let mut random = random();
        let kisses =
            (0..1000).filter(|_| table.check(ALICE, seconds(0.0), &mut random) == RateDecision::Kiss).count();
        assert!((430..570).contains(&kisses), "{kisses}");
    }

    #[test]
    fn a_client_that_silence_provokes_is_mostly_answered() {
        let mut table = ClientTable::new(8, Some(RateLimitSettings::from_chrony(6, 1, 2, 0)), [1, 2]);
        let mut random = random();
        let (mut now, mut answered) = (0.0, 0);
        for _ in 0..1000 {
            // Every 8 s after an answer, every second without one.
            let decision = table.check(ALICE, seconds(now), &mut random);
            answered += usize::from(decision == RateDecision::Answer);
            now += if decision == RateDecision::Answer { 8.0 } else { 1.0 };
        }
        assert!(answered > 600, "{answered}");
    }

    #[test]
    fn the_table_never_grows_and_forgets_the_longest_silent() {
        let mut table = ClientTable::new(16, Some(without_leak(3, 1)), [3, 4]);
        let mut random = random();
        for n in 0..10_000u32 {
            let stranger = IpAddr::V4(Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761) | 1));
            assert_eq!(table.check(stranger, seconds(f64::from(n)), &mut random), RateDecision::Answer);
            if n % 4 == 0 {
                table.check(ALICE, seconds(f64::from(n)), &mut random);
            }
        }
        assert_eq!(table.clients().count(), 16);
        assert!(table.clients().any(|client| client.address == ALICE && client.hits == 2_500));
        assert_eq!(table.replaced(), 10_001 - 16);
    }

    #[test]
    fn mapped_addresses_share_the_bucket_of_their_ipv4_address() {
        let mut table = ClientTable::new(8, Some(without_leak(3, 1)), [1, 2]);
        let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
        assert_eq!(table.check(ALICE, seconds(0.0), &mut random()), RateDecision::Answer);
        assert_eq!(table.check(mapped, seconds(0.0), &mut random()), RateDecision::Drop);
    }

    #[test]
    fn intervals_are_averaged_as_powers_of_two() {
        let mut table = ClientTable::new(8, None, [1, 2]);
        answers(&mut table, 20, 64.0);
        let record = table.clients().next().expect("one client");
        assert!((record.interval_log2.expect("20 requests") - 6.0).abs() < 0.1);
        assert_eq!((record.dropped_interval_log2, record.drops), (None, 0));
        assert_eq!(record.last, seconds(19.0 * 64.0));
    }

    #[test]
    fn time_that_runs_backwards_earns_nothing() {
        let mut table = ClientTable::new(8, Some(without_leak(0, 1)), [1, 2]);
        let mut random = random();
        assert_eq!(table.check(ALICE, seconds(10.0), &mut random), RateDecision::Answer);
        assert_eq!(table.check(ALICE, seconds(5.0), &mut random), RateDecision::Drop);
        assert_eq!(table.check(ALICE, seconds(10.5), &mut random), RateDecision::Drop);
        assert_eq!(table.check(ALICE, seconds(11.0), &mut random), RateDecision::Answer);
    }

    #[test]
    fn chronys_values_are_clamped_as_chrony_does() {
        let settings = RateLimitSettings::from_chrony(-32, 0, 9, 32);
        assert_eq!(settings.interval, Duration::from_secs_f64(1.0 / 524_288.0));
        assert_eq!((settings.burst, settings.leak, settings.kiss), (1, Some(4), Some(4)));
        assert_eq!(RateLimitSettings::from_chrony(32, 999, -3, 0).burst, 255);
        assert_eq!(RateLimitSettings::from_chrony(32, 999, -3, 0).interval, Duration::from_secs(4096));
    }
}
