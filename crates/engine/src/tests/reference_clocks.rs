//! Reference clocks: what they say becomes samples, pulses find their second, and nothing that they say moves the clock
//! against the policies.

use crate::{
    Config, Engine, EngineReport, Event, Input, Pulses, Reading, ReadingKind, ReadingRefusal,
    ReferenceClockConfig, ReferenceClockId, Request, SampleOwner, SavedSamples, SourceKind,
};
use chime_discipline::{ClockCommand, DisciplineEvent, Leap, Settings, SourceOptions};
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration};

/// Some day in 2026, by the system clock at the start.
const START: i64 = 1_795_187_000;

/// An engine, a clock that stands where commands put it, and devices that say what a function says.
struct Bench {
    engine: Engine,
    now: f64,
    /// By how much the system clock was moved since the start, seconds.
    moved: f64,
    steps: Vec<f64>,
    /// What was asked for last, s per s.
    compensation: f64,
    events: Vec<Event>,
}

impl Bench {
    fn new(clocks: Vec<ReferenceClockConfig>, steer: bool) -> Self {
        let discipline = Settings { steer, ..Settings::default() };
        let config = Config { reference_clocks: clocks, discipline, ..Config::default() };
        let now = ClockReading { mono: mono(0.0), system: NtpDate::from_unix(START, 0) };
        Self {
            engine: Engine::new(config, [3; 32], now),
            now: 0.0,
            moved: 0.0,
            steps: Vec::new(),
            compensation: 0.0,
            events: Vec::new(),
        }
    }

    /// Both clocks now; a slew is not simulated, only steps.
    fn clock(&self) -> ClockReading {
        ClockReading { mono: mono(self.now), system: date(self.now + self.moved) }
    }

    /// Runs for so many seconds; devices are told the time by the system clock and answer with readings.
    fn run(&mut self, seconds: f64, device: impl Fn(usize, NtpDate) -> Vec<Reading>) {
        let end = self.now + seconds;
        loop {
            self.settle(&device);
            let Some(next) = self.engine.poll_timeout() else { break };
            let next = next.seconds_since(mono(0.0));
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.engine.handle_timeout(mono(self.now));
        }
        self.now = end;
    }

    fn settle(&mut self, device: &impl Fn(usize, NtpDate) -> Vec<Reading>) {
        loop {
            let mut quiet = true;
            while let Some(command) = self.engine.poll_clock() {
                if let ClockCommand::Step { by } = command {
                    self.moved += by.as_secs_f64();
                    self.steps.push(by.as_secs_f64());
                }
                self.engine.handle_input(mono(self.now), Input::ClockApplied { result: Ok(command) });
                quiet = false;
            }
            while let Some(request) = self.engine.poll_request() {
                if let Request::Compensate(compensation) = &request {
                    self.compensation = compensation.as_ratio();
                }
                if let Request::ReadReferenceClock(clock) = request {
                    let now = self.clock();
                    let readings = device(clock.0, now.system);
                    let input = Input::ReferenceClock { clock, now, readings: &readings, polled: true };
                    self.engine.handle_input(now.mono, input);
                }
                quiet = false;
            }
            while let Some(event) = self.engine.poll_event() {
                self.events.push(event);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn report(&self) -> EngineReport {
        self.engine.report(self.clock())
    }

    fn refusals(&self, wanted: ReadingRefusal) -> usize {
        let is =
            |event: &&Event| matches!(event, Event::ReadingRefused { refusal, .. } if *refusal == wanted);
        self.events.iter().filter(is).count()
    }
}

fn mono(seconds: f64) -> MonoTime {
    MonoTime::ZERO.add_secs_f64(1000.0 + seconds)
}

fn date(seconds: f64) -> NtpDate {
    NtpDate::from_unix(START, 0) + NtpDuration::from_secs_f64(seconds)
}

fn offset(seconds: f64) -> NtpDuration {
    NtpDuration::from_secs_f64(seconds)
}

fn gps() -> ReferenceClockConfig {
    ReferenceClockConfig::new(*b"GPS\0")
}

fn time(at: NtpDate, seconds: f64) -> Vec<Reading> {
    vec![Reading::time(at, offset(seconds))]
}

#[test]
fn a_clock_is_followed_under_its_name_and_one_stratum_below_it() {
    let clock = ReferenceClockConfig { stratum: 3, delay: 1e-3, ..gps() };
    let mut bench = Bench::new(vec![clock], false);
    bench.run(100.0, |_, now| time(now, 0.25));
    let report = bench.report();
    assert!(report.tracking.synchronized && report.tracking.authenticated);
    assert_eq!((report.tracking.stratum, report.tracking.reference_id), (4, *b"GPS\0"));
    assert_eq!((report.tracking.name.as_deref(), report.tracking.address), (Some("GPS"), None));
    assert!((report.tracking.system_offset_seconds - 0.25).abs() < 1e-6);
    assert!((report.tracking.root_delay_seconds - 1e-3).abs() < 1e-6);
    let [source] = &report.sources[..] else { panic!("one source") };
    assert_eq!(
        (source.kind, source.state, source.poll, source.reach),
        (SourceKind::ReferenceClock, '*', 4, 0o77)
    );
    assert_eq!(report.activity.online, 0, "it is no server");
    let readings = bench.events.iter().filter(|event| matches!(event, Event::ReferenceClockRead { .. }));
    assert_eq!(readings.count(), 100);
}

#[test]
fn the_configured_offset_counts_and_silence_makes_unreachable() {
    let options = SourceOptions { offset_correction: 0.5, ..SourceOptions::default() };
    let mut bench = Bench::new(vec![ReferenceClockConfig { options, ..gps() }], false);
    bench.run(64.5, |_, now| time(now, -0.25));
    assert!((bench.report().tracking.system_offset_seconds - 0.25).abs() < 1e-6);
    bench.run(8.0 * 16.0, |_, _| Vec::new());
    assert_eq!(bench.report().sources[0].reach, 0);
    assert!(matches!(
        bench.events.iter().rev().find(|event| matches!(event, Event::ReferenceClockReachable { .. })),
        Some(Event::ReferenceClockReachable { reachable: false, .. })
    ));
}

#[test]
fn readings_that_are_further_from_our_clock_than_allowed_do_not_count() {
    let run = |max_offset: f64| {
        let mut bench = Bench::new(vec![ReferenceClockConfig { max_offset, ..gps() }], false);
        bench.run(100.0, |_, now| time(now, -7200.5));
        bench
    };
    assert_eq!(run(7200.0).refusals(ReadingRefusal::TooFar), 100);
    assert!(!run(7200.0).report().tracking.synchronized);
    assert!(run(7201.0).report().tracking.synchronized && run(0.0).report().tracking.synchronized);
}

#[test]
fn a_pulse_needs_the_clock_that_it_is_locked_to() {
    let pulses = ReferenceClockConfig { lock: Some(*b"GPS\0"), ..ReferenceClockConfig::new(*b"PPS\0") };
    let watched = SourceOptions { no_select: true, ..SourceOptions::default() };
    let clocks = || vec![ReferenceClockConfig { options: watched, ..gps() }, pulses.clone()];
    // Our clock is 7.2 s behind; the receiver's sentences come some tenths late and vary.
    let device = |sentence: f64| {
        move |clock: usize, now: NtpDate| match clock {
            0 => time(now, 7.2 + sentence),
            _ => {
                // The second began when our clock showed .8.
                let second = NtpDate::from_unix(now.unix_seconds() - 1, 800_000_000);
                vec![Reading::pulse(second)]
            }
        }
    };
    let mut bench = Bench::new(clocks(), false);
    bench.run(100.0, device(-0.3));
    let tracking = bench.report().tracking;
    assert_eq!((tracking.reference_id, tracking.stratum), (*b"PPS\0", 1));
    assert!((tracking.system_offset_seconds - 7.2).abs() < 1e-6, "{}", tracking.system_offset_seconds);
    let mut ambiguous = Bench::new(clocks(), false);
    ambiguous.run(100.0, device(-0.45));
    assert!(!ambiguous.report().tracking.synchronized);
    assert!(ambiguous.refusals(ReadingRefusal::Ambiguous) > 90);
    let mut alone = Bench::new(clocks(), false);
    alone.run(100.0, |clock, now| if clock == 0 { Vec::new() } else { device(0.0)(clock, now) });
    assert!(!alone.report().tracking.synchronized);
    assert!(alone.refusals(ReadingRefusal::NotLocked) > 90);
}

#[test]
fn a_pulse_without_a_lock_is_completed_by_our_clock_once_that_is_known() {
    let mut bench = Bench::new(vec![gps(), ReferenceClockConfig::new(*b"PPS\0")], false);
    let pulse = |now: NtpDate| vec![Reading::pulse(NtpDate::from_unix(now.unix_seconds() - 1, 990_000_000))];
    bench.run(30.0, |clock, now| if clock == 1 { pulse(now) } else { Vec::new() });
    assert!(bench.refusals(ReadingRefusal::NotLocked) > 25);
    bench.run(300.0, |clock, now| if clock == 1 { pulse(now) } else { time(now, 3.03) });
    let report = bench.report();
    assert!((report.sources[1].offset_seconds + 3.01).abs() < 1e-6, "{}", report.sources[1].offset_seconds);
    assert_eq!(report.sources[1].stratum, 0);
}

#[test]
fn nothing_that_a_device_says_moves_the_clock_beyond_the_policy() {
    let mut bench = Bench::new(vec![gps()], true);
    bench.run(100.0, |_, now| time(now, 0.0));
    assert!(bench.steps.is_empty());
    // A receiver whose weeks roll over: 19 years are refused, and the clock is left alone.
    bench.run(300.0, |_, now| time(now, -619_315_200.0));
    assert!(bench.steps.is_empty(), "{:?}", bench.steps);
    assert!(bench.report().tracking.refused_correction_seconds.is_some());
}

#[test]
fn readings_from_before_a_step_do_not_count() {
    let mut bench = Bench::new(vec![gps()], true);
    // Five seconds behind: stepped with the first sample. The device says it late, with stamps of the clock as it was.
    bench.run(20.0, |_, now| time(now, 5.0));
    assert_eq!(bench.steps.len(), 1, "{:?}", bench.steps);
    let stale = date(bench.now);
    bench.run(3.0, |_, _| time(stale, 5.0));
    assert!(bench.refusals(ReadingRefusal::Time) >= 3);
    assert_eq!(bench.steps.len(), 1);
}

#[test]
fn tai_needs_a_list_of_leap_seconds() {
    let mut bench = Bench::new(vec![ReferenceClockConfig { tai: true, ..gps() }], false);
    bench.run(100.0, |_, now| time(now, 37.0));
    assert!(!bench.report().tracking.synchronized && bench.refusals(ReadingRefusal::TaiUnknown) == 100);
}

#[test]
fn whatever_a_device_says_is_taken_without_a_panic() {
    let pulses = Pulses { rate: 7, width: 0.01 };
    let clocks = vec![
        ReferenceClockConfig { poll: -32, driver_poll: -32, filter: 0, ..gps() },
        ReferenceClockConfig {
            poll: 32,
            driver_poll: 32,
            pps: true,
            pulses,
            ..ReferenceClockConfig::new([0; 4])
        },
    ];
    let mut bench = Bench::new(clocks, true);
    let odd = |_: usize, now: NtpDate| {
        let kinds = [NtpDuration::MIN, NtpDuration::MAX, NtpDuration::ZERO];
        let times = kinds.map(|offset| Reading { leap: Leap::Insert, ..Reading::time(now, offset) });
        let pulses = kinds.map(|offset| Reading { kind: ReadingKind::Pulse(offset), ..times[0] });
        let far = [-1e18, 1e18, f64::NAN].map(|dispersion| Reading { dispersion, ..times[2] });
        [times, pulses, far].concat()
    };
    bench.run(20.0, odd);
    let input =
        Input::ReferenceClock { clock: ReferenceClockId(9), now: bench.clock(), readings: &[], polled: true };
    bench.engine.handle_input(mono(bench.now), input);
    bench.report();
}

#[test]
fn an_even_clock_keeps_the_pace_and_sets_nothing() {
    let mut bench = Bench::new(vec![ReferenceClockConfig { local: true, poll: 2, ..gps() }], true);
    // It runs 5 ppm faster than our oscillator from the start, 8 ppm after a minute: three of them are our oscillator's fault.
    let device = |rate: f64, from: f64| {
        move |_: usize, now: NtpDate| {
            let elapsed = (now - date(from)).as_secs_f64();
            time(now, 100.0 + 5e-6 * from + rate * elapsed)
        }
    };
    bench.run(60.0, device(5e-6, 0.0));
    assert!(bench.compensation.abs() < 1e-8, "{}", bench.compensation);
    bench.run(8.5, device(8e-6, 60.0));
    assert!((1.5e-6..6e-6).contains(&bench.compensation), "{}", bench.compensation);
    assert!(bench.steps.is_empty() && !bench.report().tracking.synchronized);
    let mut watched = Bench::new(vec![ReferenceClockConfig { local: true, poll: 2, ..gps() }], false);
    watched.run(60.0, device(5e-6, 0.0));
    watched.run(20.0, device(8e-6, 60.0));
    assert_eq!(watched.compensation, 0.0, "a clock that is only watched is left alone");
}

#[test]
fn samples_of_the_last_run_count_with_the_first_new_one() {
    let patient = |clock| {
        let mut bench = Bench::new(vec![clock], false);
        let settings = Settings { first_samples_min: 3, ..*bench.engine.discipline().settings() };
        bench.engine.discipline_mut().set_settings(settings);
        bench
    };
    let saved = {
        let mut bench = patient(gps());
        bench.run(40.0, |_, now| time(now, 0.25));
        assert!(!bench.report().tracking.synchronized, "two samples are not enough");
        bench.engine.samples(mono(bench.now))
    };
    let [saved] = &saved[..] else { panic!("one clock") };
    assert_eq!((saved.owner, saved.samples.len()), (SampleOwner::ReferenceClock(*b"GPS\0"), 2));
    for (reference_id, synchronized) in [(*b"GPS\0", true), (*b"PPS\0", false)] {
        let mut bench = patient(ReferenceClockConfig::new(reference_id));
        bench.now = 40.0;
        let saved = SavedSamples { reach: 0o3, ..saved.clone() };
        bench.engine.restore_samples(mono(40.0), vec![saved]);
        bench.run(20.0, |_, now| time(now, 0.25));
        assert_eq!(bench.report().tracking.synchronized, synchronized);
    }
}

#[test]
fn of_two_clocks_with_one_identifier_neither_is_given_the_others_samples() {
    let mut before = Bench::new(vec![gps(), gps()], false);
    before.run(500.0, |clock, now| time(now, if clock == 0 { 0.0 } else { 0.01 }));
    let saved = before.engine.samples(mono(before.now));
    assert_eq!(saved.len(), 2);
    let mut after = Bench::new(vec![gps(), gps()], false);
    (after.now, after.moved) = (before.now, before.moved);
    // One of them had nothing to be saved.
    after.engine.restore_samples(mono(after.now), vec![saved[1].clone()]);
    let samples = after.report().sources.iter().map(|source| source.statistics.samples).collect::<Vec<_>>();
    assert_eq!(samples, [0, 0]);
}

#[test]
fn what_was_learnt_of_a_clock_goes_on_in_the_next_run() {
    // Pulses that scatter by a microsecond, and readings that do by a tenth of a millisecond.
    for noise in [1e-6, 1e-4] {
        let device = |_: usize, now: NtpDate| {
            let number = i32::try_from(now.unix_seconds() * 7919 % 101).unwrap_or(0);
            time(now, noise * (f64::from(number) - 50.0) / 50.0)
        };
        let mut before = Bench::new(vec![gps()], false);
        before.run(5000.0, device);
        let saved = before.engine.samples(mono(before.now));
        assert!(saved[0].estimate.is_some(), "it has seen many more samples than are kept");
        let next_run = |saved: SavedSamples| {
            let mut bench = Bench::new(vec![gps()], false);
            (bench.now, bench.moved) = (before.now, before.moved);
            bench.engine.restore_samples(mono(bench.now), vec![saved]);
            bench.run(100.0, device);
            bench
        };
        let with_all = next_run(saved[0].clone());
        let with_samples = next_run(SavedSamples { estimate: None, ..saved[0].clone() });
        before.run(100.0, device);
        let is_refusal =
            |event: &Event| matches!(event, Event::Discipline(DisciplineEvent::SavedEstimateRefused(_)));
        assert!(!with_all.events.iter().any(is_refusal), "{noise}");
        let skew = |bench: &Bench| bench.report().sources[0].statistics.skew_ppm;
        assert!((skew(&with_all) / skew(&before) - 1.0).abs() < 0.05, "{noise}");
        assert!(skew(&with_samples) > 1.2 * skew(&before), "{noise}: there is something to be lost");
    }
}

#[test]
fn a_clock_that_jumps_between_two_readings_of_a_sample_is_followed_at_once() {
    let noise = |now: NtpDate| {
        let number = u16::try_from(now.unix_seconds() % 7).unwrap_or(0);
        1e-4 * (f64::from(number) - 3.0) / 3.0
    };
    let mut vague = 0;
    for before in [8.0, 24.0, 40.0, 56.0] {
        let clock = ReferenceClockConfig { poll: 6, driver_poll: 4, ..gps() };
        let mut bench = Bench::new(vec![clock], false);
        bench.run(1024.0, |_, now| time(now, noise(now)));
        let jump = date(1024.0 + before);
        bench.run(600.0, |_, now| time(now, if now < jump { 0.0 } else { 10.0 } + noise(now)));
        let is_vague = |event: &&Event| matches!(event, Event::ReferenceClockSampled { dispersion, .. } if *dispersion > 1.0);
        vague += bench.events.iter().filter(is_vague).count();
        let tracking = bench.report().tracking;
        let offset = tracking.system_offset_seconds;
        assert!((offset - 10.0).abs() < 5e-4, "{before}: {offset}");
        let dispersion = tracking.root_dispersion_seconds;
        assert!(dispersion < 0.01, "{before}: {dispersion}");
    }
    assert!(vague > 0, "a sample had readings from before and after");
}
