//! The tests that an answer passes before it becomes a sample, in the counting that chrony's `ntpdata` shows.
//! RFC 5905 §8 (TEST1 to TEST7); A to D are chrony's.

use crate::DiscardReason;
use crate::frequency_transfer::Held;
use chime_discipline::Lever;
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration, Precision};
use chime_wire::{Header, LeapIndicator, MonotonicReceive};
use std::net::{IpAddr, SocketAddr};

/// Standard errors by which a delay may differ from what it was measured to be.
const DELAY_SIGMAS: f64 = 5.0;
/// The rate at which the error of a measurement grows; seconds per second. RFC 5905 §7.2, `PHI`.
const PHI: f64 = 15e-6;
/// Root distances from here on are impossible; seconds. RFC 5905 §7.2, `MAXDISP`.
const ROOT_DISTANCE_SECONDS_MAX: f64 = 16.0;
/// The highest stratum of a synchronised server. RFC 5905 §7.2, `MAXSTRAT`.
const STRATUM_MAX: u8 = 15;
/// A server that holds a request for longer is not measuring anything; seconds.
pub(crate) const RESPONSE_SECONDS_MAX: f64 = 4.0;

/// Results of the ten tests; bit 9 is test 1, bit 0 is test D; 1 = passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PacketTests(u16);

/// One of the tests, by its bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Test {
    /// TEST1: not a duplicate.
    NotDuplicate = 1 << 9,
    /// TEST2: the origin timestamp is ours.
    Origin = 1 << 8,
    /// TEST3: no timestamp is zero.
    Timestamps = 1 << 7,
    /// TEST5: authentic, where that is asked for.
    Authentic = 1 << 6,
    /// TEST6: the server is synchronised.
    Synchronized = 1 << 5,
    /// TEST7: the root distance is possible.
    RootDistance = 1 << 4,
    /// A: delay and response time are possible.
    Delay = 1 << 3,
    /// B: the delay is not too long compared with the shortest.
    DelayRatio = 1 << 2,
    /// C: the delay is not too long compared with the jitter.
    DelayDeviation = 1 << 1,
    /// D: the server does not follow us.
    NoLoop = 1,
}

impl PacketTests {
    /// The tests 1, 2, 3 and 5, which make an answer valid.
    const VALID: u16 =
        Test::NotDuplicate as u16 | Test::Origin as u16 | Test::Timestamps as u16 | Test::Authentic as u16;

    pub(crate) const fn pass(&mut self, test: Test) {
        self.0 |= test as u16;
    }

    pub(crate) const fn record(&mut self, test: Test, passed: bool) {
        if passed {
            self.pass(test);
        }
    }

    pub(crate) const fn fail(&mut self, test: Test) {
        self.0 &= !(test as u16);
    }

    pub(crate) const fn passed(self, test: Test) -> bool {
        self.0 & test as u16 != 0
    }

    pub(crate) const fn is_valid(self) -> bool {
        self.0 & Self::VALID == Self::VALID
    }

    /// Valid, from a synchronised server: what the reach register counts.
    pub(crate) const fn is_synchronized(self) -> bool {
        self.is_valid() && self.passed(Test::Synchronized) && self.passed(Test::RootDistance)
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    /// Why there is no sample: the first failed test of those behind authentication.
    pub(crate) fn failure(self) -> Option<DiscardReason> {
        [
            (Test::Timestamps, DiscardReason::ZeroTimestamp),
            (Test::Synchronized, DiscardReason::ServerUnsynchronized),
            (Test::RootDistance, DiscardReason::RootDistance),
            (Test::Delay, DiscardReason::Delay),
            (Test::DelayRatio, DiscardReason::DelayRatio),
            (Test::DelayDeviation, DiscardReason::DelayRatio),
            (Test::NoLoop, DiscardReason::Loop),
        ]
        .into_iter()
        .find(|(test, _)| !self.passed(*test))
        .map(|(_, reason)| reason)
    }
}

/// One measurement: the on-wire calculation of RFC 5905 §8.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Measurement {
    /// The middle between T1 and T4.
    pub(crate) at: MonoTime,
    /// Remote minus local; positive = our clock is behind.
    pub(crate) offset: NtpDuration,
    /// Round trip, at least the precision of our clock.
    pub(crate) delay: NtpDuration,
    /// Error bound: both precisions and the drift during the round trip.
    pub(crate) dispersion: NtpDuration,
    /// T3 − T2.
    pub(crate) response: NtpDuration,
    /// Our clock's error as the server sees it, without limit and to the second or so: for judging certificates by the
    /// server's own date; seconds, positive = our clock is behind.
    pub(crate) date_offset_seconds: f64,
    /// What was taken off the delay as transparent clocks said so: not authenticated, so it stays in the error bound.
    pub(crate) held: NtpDuration,
    /// Root delay and dispersion, where they are told finer than in the header.
    pub(crate) root: Option<(NtpDuration, NtpDuration)>,
    /// What the frequency that is not known yet does to the delay, which may even be negative then.
    pub(crate) lever: Lever,
    /// Standard error of the delay by that; seconds.
    pub(crate) delay_error: f64,
}

impl Measurement {
    /// The same with what a field says of the root.
    pub(crate) fn with_root(self, said: Option<MonotonicReceive>) -> Self {
        Self { root: said.map(|said| (said.root_delay, said.root_dispersion)), ..self }
    }

    /// The same without the time for which transparent clocks held the packets, where what they say can be true.
    pub(crate) fn without_held(self, held: Option<Held>) -> Self {
        let possible = self.delay + NtpDuration::from_secs_f64(DELAY_SIGMAS * self.delay_error);
        let Some((offset, held)) = held.and_then(|held| held.corrections(possible)) else { return self };
        Self { offset: self.offset + offset, delay: self.delay - held, held, ..self }
    }

    /// The same without what was waited on one of the two ways, where it is known which: `asymmetry` is the part of what a
    /// round trip is longer than the shortest (seconds) that is on the way back, less a half.
    pub(crate) fn without_waiting(&self, asymmetry: f64, shortest: f64) -> Self {
        let waited = (self.delay.as_secs_f64() - shortest).max(0.0);
        // Waiting on the way back makes the source look behind, by half of it.
        let offset = self.offset + NtpDuration::from_secs_f64(asymmetry * waited);
        let delay = self.delay - NtpDuration::from_secs_f64(2.0 * asymmetry.abs() * waited);
        Self { offset, delay, ..*self }
    }
}

/// The greatest offset of one measurement: a day less than what a duration can hold. A clock that is more than 68 years
/// wrong is set in two steps.
const OFFSET_MAX: NtpDuration = NtpDuration::from_seconds((1 << 31) - 86_400);

/// Computes offset, delay and dispersion from the four timestamps. T2 and T3 carry no era; `pivot` says which 136 years
/// they lie in: those that begin 68 years before it.
pub(crate) fn measure(
    header: &Header,
    (sent, received): (ClockReading, ClockReading),
    pivot: NtpDate,
    precision: Precision,
) -> Measurement {
    let receive = NtpDate::from_timestamp(header.receive, pivot);
    let response = header.transmit - header.receive;
    let transmit = receive + response;
    // Halved before they are added: with a clock that is 40 years off the sum would not fit.
    let offset = (receive - sent.system).half() + (transmit - received.system).half();
    let elapsed = received.system - sent.system;
    let shortest = NtpDuration::from_secs_f64(precision.seconds());
    let server_precision = Precision::new(header.precision).seconds();
    let drift = PHI * elapsed.as_secs_f64().abs();
    let half_way = received.mono.seconds_since(sent.mono) / 2.0;
    Measurement {
        at: sent.mono.add_secs_f64(half_way.max(0.0)),
        offset: offset.clamp(-OFFSET_MAX, OFFSET_MAX),
        delay: (elapsed - response).max(shortest),
        dispersion: NtpDuration::from_secs_f64(server_precision + precision.seconds() + drift),
        response,
        date_offset_seconds: transmit.unix_seconds_f64() - received.system.unix_seconds_f64(),
        held: NtpDuration::ZERO,
        root: None,
        lever: Lever::default(),
        delay_error: 0.0,
    }
}

/// The same for two packets that crossed the network at quite different times: ours, and one of the peer's before or after
/// it, or both with a long stay in transparent clocks. `change` says by how much the offset is expected to change from one
/// instant to another, in seconds: our clock was steered in between, and its frequency is known, or taken to be
/// `frequency`; and the standard error of that.
pub(crate) fn measure_apart(
    header: &Header,
    (sent, received): (ClockReading, ClockReading),
    pivot: NtpDate,
    precision: Precision,
    (change, frequency): (impl Fn(MonoTime, MonoTime) -> (f64, f64), f64),
) -> Measurement {
    let plain = measure(header, (sent, received), pivot, precision);
    let middle = sent.mono.add_secs_f64(received.mono.seconds_since(sent.mono) / 2.0);
    let (apart, error) = change(received.mono, sent.mono);
    let bend = (change(middle, sent.mono).0 + change(middle, received.mono).0) / 2.0;
    let delay = (received.system - sent.system) - plain.response - NtpDuration::from_secs_f64(apart);
    let resolution = Precision::new(header.precision).seconds() + precision.seconds();
    Measurement {
        at: middle,
        offset: (plain.offset - NtpDuration::from_secs_f64(bend)).clamp(-OFFSET_MAX, OFFSET_MAX),
        delay,
        dispersion: NtpDuration::from_secs_f64(resolution + error),
        lever: Lever { seconds: received.mono.seconds_since(sent.mono), frequency },
        delay_error: error,
        ..plain
    }
}

/// What the delay of one measurement is compared with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct DelayLimits {
    /// The longest delay; seconds.
    pub(crate) max: f64,
    /// The longest delay as a multiple of the shortest; 0 = no such test.
    pub(crate) ratio: f64,
    /// The greatest half increase of the delay over the shortest, in standard deviations; 0 = no such test.
    pub(crate) deviation_ratio: f64,
    /// How long the other side may hold our packet; seconds. Infinite for peers, whose timestamps need not even follow each
    /// other in this order.
    pub(crate) response_max: f64,
    /// The shortest and the median of the recent delays; seconds, `None` = there are none.
    pub(crate) recent: Option<(f64, f64)>,
    /// The shortest delay that is possible, where that is known; seconds, 0 = the shortest of the recent ones.
    pub(crate) known_shortest: f64,
    /// The longest delay, by the share of the recent ones that were longer; seconds.
    pub(crate) quantile: Option<f64>,
    /// Whether there is no test by the standard deviation, but only by [`Self::quantile`].
    pub(crate) without_deviation: bool,
    /// Standard deviation of the source's offsets; seconds, `None` = not known yet.
    pub(crate) standard_deviation: Option<f64>,
}

/// Records the tests 3, 6 and 7, which the header alone decides.
pub(crate) fn test_header(header: &Header, tests: &mut PacketTests) {
    tests.record(Test::Timestamps, !header.receive.is_zero() && !header.transmit.is_zero());
    let synchronized =
        header.leap != LeapIndicator::Unsynchronized && (1..=STRATUM_MAX).contains(&header.stratum);
    tests.record(Test::Synchronized, synchronized);
    let distance = header.root_delay.to_duration().as_secs_f64() / 2.0
        + header.root_dispersion.to_duration().as_secs_f64();
    tests.record(Test::RootDistance, distance < ROOT_DISTANCE_SECONDS_MAX);
}

/// Records the tests A, B and C.
pub(crate) fn test_delay(
    header: &Header,
    measured: &Measurement,
    limits: &DelayLimits,
    tests: &mut PacketTests,
) {
    let delay = measured.delay.as_secs_f64();
    let dispersion = measured.dispersion.as_secs_f64();
    let response = measured.response.as_secs_f64();
    // Servers fill the digits below their precision with noise, as they should: of two stamps of one moment the second may be
    // the earlier one by that much.
    let precision = Precision::new(header.precision).seconds();
    let possible = delay <= limits.max
        && (limits.response_max.is_infinite() || (-precision..=limits.response_max).contains(&response))
        && Precision::new(header.precision).seconds() <= limits.max
        && header.precision <= 0;
    tests.record(Test::Delay, possible);
    let Some((shortest, median)) = limits.recent else {
        tests.pass(Test::DelayRatio);
        tests.pass(Test::DelayDeviation);
        return;
    };
    let shortest = if limits.known_shortest > 0.0 { limits.known_shortest } else { shortest };
    tests.record(Test::DelayRatio, limits.ratio <= 0.0 || delay <= shortest * limits.ratio + dispersion);
    let increase = (delay - shortest) / 2.0;
    // The discipline's deviation is that of samples weighted by their delay; on a path where most round trips are longer
    // than the shortest, the usual increase is no reason to refuse one.
    let usual = (median - shortest) / 2.0;
    let allowed =
        limits.standard_deviation.filter(|_| limits.deviation_ratio > 0.0).map(|one| one.max(usual));
    if limits.without_deviation {
        return tests.record(Test::DelayDeviation, limits.quantile.is_none_or(|longest| delay <= longest));
    }
    tests.record(
        Test::DelayDeviation,
        allowed.is_none_or(|deviation| increase <= limits.deviation_ratio * deviation + dispersion),
    );
}

/// Records test D: a server of stratum 2 or more whose reference is one of our addresses follows us, and so does one that
/// we are ourselves (`is_self`). The reference identifier of stratum 1 is a code, not an address.
pub(crate) fn test_loop(
    header: &Header,
    is_self: bool,
    own: impl IntoIterator<Item = IpAddr>,
    tests: &mut PacketTests,
) {
    let follows_us =
        header.stratum > 1 && own.into_iter().any(|ip| reference_id(ip) == header.reference_id.0);
    tests.record(Test::NoLoop, !(is_self || follows_us));
}

/// Whether `remote`, whose answer came to our address `local`, is one of the places where we answer.
pub(crate) fn is_own_server(remote: SocketAddr, local: Option<IpAddr>, own: &[SocketAddr]) -> bool {
    let here = local.map(|local| local.to_canonical()) == Some(remote.ip().to_canonical());
    own.iter().any(|server| {
        let everywhere = server.ip().is_unspecified() && server.is_ipv4() == remote.is_ipv4();
        server.port() == remote.port() && here && (everywhere || server.ip() == remote.ip())
    })
}

/// The reference identifier for a server: its IPv4 address, or the first four octets of the MD5 of its IPv6 address.
/// RFC 5905 §7.3.
pub(crate) fn reference_id(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            use md5::Digest;
            let digest = md5::Md5::digest(address.octets());
            [digest[0], digest[1], digest[2], digest[3]]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::{NtpShort, NtpTimestamp};
    use chime_wire::{Mode, ReferenceId};

    fn header() -> Header {
        Header {
            leap: LeapIndicator::NoWarning,
            version: 4,
            mode: Mode::Server,
            stratum: 2,
            poll: 6,
            precision: -20,
            root_delay: NtpShort::from_bits(0x8000),
            root_dispersion: NtpShort::from_bits(0x100),
            reference_id: ReferenceId([10, 0, 0, 1]),
            reference: NtpTimestamp::from_bits(1 << 32),
            origin: NtpTimestamp::from_bits(1),
            receive: NtpTimestamp::from_bits(100 << 32),
            transmit: NtpTimestamp::from_bits(100 << 32 | 1 << 22),
        }
    }

    #[test]
    fn what_is_known_to_be_waited_on_one_way_is_taken_out() {
        let measured = |forth: f64, back: f64| Measurement {
            held: NtpDuration::ZERO,
            root: None,
            lever: Lever::default(),
            delay_error: 0.0,
            at: MonoTime::ZERO,
            offset: NtpDuration::from_secs_f64(1.0 + (forth - back) / 2.0),
            delay: NtpDuration::from_secs_f64(forth + back),
            dispersion: NtpDuration::ZERO,
            response: NtpDuration::ZERO,
            date_offset_seconds: 0.0,
        };
        let close = |one: Measurement, offset: f64, delay: f64| {
            (one.offset.as_secs_f64() - offset).abs() < 1e-9 && (one.delay.as_secs_f64() - delay).abs() < 1e-9
        };
        // Half of a round trip without waiting is 1 ms.
        assert!(close(measured(1e-3, 9e-3).without_waiting(0.5, 2e-3), 1.0, 2e-3));
        assert!(close(measured(9e-3, 1e-3).without_waiting(-0.5, 2e-3), 1.0, 2e-3));
        assert!(close(measured(3e-3, 7e-3).without_waiting(0.25, 2e-3), 1.0, 6e-3));
        let unknown = measured(3e-3, 7e-3);
        assert_eq!(unknown.without_waiting(0.0, 2e-3), unknown);
        let shorter = measured(1e-4, 1e-4);
        assert_eq!(shorter.without_waiting(0.5, 2e-3), shorter, "nothing was waited");
    }

    fn reading(seconds: f64) -> ClockReading {
        let system = NtpDate::new(0, 0) + NtpDuration::from_secs_f64(seconds);
        ClockReading { mono: MonoTime::ZERO.add_secs_f64(1000.0 + seconds), system }
    }

    const PRECISION: i8 = -25;

    fn measured(sent: f64, received: f64) -> Measurement {
        measure(&header(), (reading(sent), reading(received)), NtpDate::new(0, 0), Precision::new(PRECISION))
    }

    #[test]
    fn what_transparent_clocks_held_is_compared_with_what_the_delay_may_be() {
        // The peer's packet left half a second after ours came: with 100 ppm that are not known the delay is wrong by 50 µs.
        let header = Header { transmit: NtpTimestamp::from_bits(100 << 32 | 1 << 31), ..header() };
        let measured = |frequency_error: f64| {
            let (sent, received) = (reading(90.0), reading(90.0 + 0.5 + 20e-6));
            let change = |from: MonoTime, to: MonoTime| (0.0, frequency_error * to.seconds_since(from).abs());
            let precision = Precision::new(PRECISION);
            let pivot = NtpDate::new(0, 0);
            let measured = measure_apart(&header, (sent, received), pivot, precision, (change, 1e-5));
            assert_eq!(
                measured.lever,
                Lever { seconds: received.mono.seconds_since(sent.mono), frequency: 1e-5 }
            );
            assert!((measured.delay.as_secs_f64() - 20e-6).abs() < 1e-9);
            let held = |micros: i64| NtpDuration::from_nanos(micros * 1000);
            measured.without_held(Some(Held { there: held(10), back: held(40) }))
        };
        let known = measured(1e-6);
        assert!((known.delay.as_secs_f64() - 20e-6).abs() < 1e-9, "it cannot be true: {known:?}");
        let unknown = measured(1e-4);
        assert!((unknown.delay.as_secs_f64() + 30e-6).abs() < 1e-8, "{unknown:?}");
        assert!((unknown.offset - known.offset - NtpDuration::from_nanos(15_000)).as_secs_f64().abs() < 1e-9);
    }

    #[test]
    fn a_slew_while_transparent_clocks_hold_the_packets_is_not_in_the_delay() {
        // 1 ms under way, of which 0.96 ms were held, while our clock is slewed by 8 %.
        const SLEW: f64 = 0.08;
        let received = ClockReading { mono: reading(90.001).mono, ..reading(90.0 + 1e-3 * (1.0 + SLEW)) };
        let header = Header { transmit: header().receive, ..header() };
        let change = |from: MonoTime, to: MonoTime| (-SLEW * to.seconds_since(from), 0.0);
        let (pivot, precision) = (NtpDate::new(0, 0), Precision::new(PRECISION));
        let measured = measure_apart(&header, (reading(90.0), received), pivot, precision, (change, 0.0));
        let held = NtpDuration::from_nanos(480_000);
        let left = measured.without_held(Some(Held { there: held, back: held }));
        // But for the error that their clocks may have.
        assert!((left.delay.as_secs_f64() - 40e-6).abs() < 2e-7, "{left:?}");
    }

    #[test]
    fn the_four_timestamps_give_offset_and_delay() {
        // T1 = 90, T2 = 100, T3 = 100 + 2^-10, T4 = 90.1: both ways 50 ms, we are 10 s behind less half the trip.
        let measured = measured(90.0, 90.1 + 1.0 / 1024.0);
        assert!((measured.offset.as_secs_f64() - 9.95).abs() < 1e-6, "{:?}", measured.offset);
        assert!((measured.delay.as_secs_f64() - 0.1).abs() < 1e-6);
        assert!((measured.at.seconds_since(MonoTime::ZERO) - 1090.05).abs() < 1e-3);
        let dispersion = 2f64.powi(-20) + 2f64.powi(-25) + 15e-6 * (0.1 + 1.0 / 1024.0);
        assert!((measured.dispersion.as_secs_f64() - dispersion).abs() < 1e-9);
    }

    #[test]
    fn a_delay_is_never_shorter_than_the_clock_can_tell() {
        assert!((measured(90.0, 90.0).delay.as_secs_f64() - 2f64.powi(-25)).abs() < 1e-12);
    }

    #[test]
    fn an_era_change_between_request_and_answer_is_no_matter() {
        let mut header = header();
        header.receive = NtpTimestamp::from_bits(u64::MAX);
        header.transmit = NtpTimestamp::from_bits(1 << 22);
        let sent = ClockReading { mono: MonoTime::ZERO, system: NtpDate::new((1 << 32) - 1, 0) };
        let received =
            ClockReading { mono: MonoTime::ZERO.add_secs_f64(2.0), system: NtpDate::new((1 << 32) + 1, 0) };
        let measured = measure(&header, (sent, received), sent.system, Precision::new(PRECISION));
        assert!(measured.offset.as_secs_f64().abs() < 0.01, "{:?}", measured.offset);
    }

    #[test]
    fn the_pivot_says_in_which_era_a_server_lives() {
        let since_1970 = ClockReading { mono: MonoTime::ZERO, system: NtpDate::from_unix(0, 0) };
        let mut header = header();
        let truth = NtpDate::from_unix(2_208_988_800, 0); // 1 January 2040, in era 1
        header.receive = truth.timestamp();
        header.transmit = truth.timestamp();
        let pivot = NtpDate::from_unix(1_800_000_000, 0);
        let measured = measure(&header, (since_1970, since_1970), pivot, Precision::new(PRECISION));
        // The offset is what a duration can hold: 68 years. The second measurement finds the other two.
        assert!(measured.offset > NtpDuration::from_seconds(2_140_000_000));
    }

    fn tests_of(header: &Header, measured: &Measurement, limits: &DelayLimits) -> String {
        let mut tests = PacketTests::default();
        for test in [Test::NotDuplicate, Test::Origin, Test::Authentic] {
            tests.pass(test);
        }
        test_header(header, &mut tests);
        test_delay(header, measured, limits, &mut tests);
        test_loop(header, false, [address("192.0.2.1")], &mut tests);
        format!("{:010b}", tests.bits())
    }

    const LIMITS: DelayLimits = DelayLimits {
        max: 3.0,
        ratio: 0.0,
        deviation_ratio: 10.0,
        response_max: RESPONSE_SECONDS_MAX,
        recent: None,
        known_shortest: 0.0,
        quantile: None,
        without_deviation: false,
        standard_deviation: None,
    };

    #[test]
    fn a_good_answer_passes_every_test() {
        assert_eq!(tests_of(&header(), &measured(90.0, 90.1), &LIMITS), "1111111111");
    }

    #[test]
    fn a_server_may_seem_to_answer_before_it_was_asked_within_its_precision() {
        let header = Header { precision: -20, ..header() };
        let within = |seconds: f64| {
            let response = NtpDuration::from_secs_f64(seconds);
            tests_of(&header, &Measurement { response, ..measured(90.0, 90.1) }, &LIMITS)
        };
        assert_eq!(within(-0.9e-6), "1111111111");
        assert_eq!(within(-1.0e-6), "1111110111");
    }

    #[test]
    fn each_fault_fails_its_own_test() {
        let good = measured(90.0, 90.1);
        let with = |change: &dyn Fn(&mut Header)| {
            let mut header = header();
            change(&mut header);
            tests_of(&header, &good, &LIMITS)
        };
        assert_eq!(with(&|header| header.transmit = NtpTimestamp::ZERO), "1101111111");
        assert_eq!(with(&|header| header.leap = LeapIndicator::Unsynchronized), "1111011111");
        assert_eq!(with(&|header| header.stratum = 0), "1111011111");
        assert_eq!(with(&|header| header.stratum = 16), "1111011111");
        assert_eq!(with(&|header| header.root_dispersion = NtpShort::from_bits(16 << 16)), "1111101111");
        assert_eq!(with(&|header| header.precision = 3), "1111110111");
        assert_eq!(with(&|header| header.reference_id = ReferenceId([192, 0, 2, 1])), "1111111110");
        let slow = tests_of(&header(), &measured(90.0, 93.5), &LIMITS);
        assert_eq!(slow, "1111110111");
        let limits = DelayLimits { recent: Some((0.01, 0.01)), standard_deviation: Some(1e-3), ..LIMITS };
        assert_eq!(tests_of(&header(), &good, &limits), "1111111101");
        assert_eq!(tests_of(&header(), &good, &DelayLimits { deviation_ratio: 0.0, ..limits }), "1111111111");
        assert_eq!(
            tests_of(&header(), &good, &DelayLimits { ratio: 2.0, deviation_ratio: 0.0, ..limits }),
            "1111111011"
        );
    }

    #[test]
    fn a_code_of_stratum_1_is_no_address() {
        let mut tests = PacketTests::default();
        let header = Header { stratum: 1, ..header() };
        test_loop(&header, false, [address("10.0.0.1")], &mut tests);
        assert!(tests.passed(Test::NoLoop));
    }

    #[test]
    fn who_asks_itself_is_in_a_loop_but_not_who_asks_another_daemon_of_its_machine() {
        let is_own = |remote: &str, own: &str| {
            let remote: SocketAddr = remote.parse().expect("an address");
            is_own_server(remote, Some(address("192.0.2.1")), &[own.parse().expect("an address")])
        };
        assert!(is_own("192.0.2.1:123", "0.0.0.0:123") && is_own("192.0.2.1:123", "192.0.2.1:123"));
        assert!(!is_own("192.0.2.1:124", "0.0.0.0:123"), "another port");
        assert!(!is_own("192.0.2.2:123", "0.0.0.0:123"), "another machine");
        assert!(!is_own("192.0.2.1:123", "[::]:123") && !is_own("192.0.2.1:123", "192.0.2.2:123"));
        let mut tests = PacketTests::default();
        test_loop(&Header { stratum: 1, ..header() }, true, [], &mut tests);
        assert!(!tests.passed(Test::NoLoop));
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn reference_ids_are_addresses_or_their_digests() {
        assert_eq!(reference_id("127.0.0.11".parse().expect("an address")), [127, 0, 0, 11]);
        // MD5 of fifteen zero octets and a one.
        assert_eq!(reference_id("::1".parse().expect("an address")).len(), 4);
    }
}
