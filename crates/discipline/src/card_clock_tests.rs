use super::*;

/// A card and a system clock over true time, each with a frequency of its own.
struct World {
    truth: f64,
    card_rate: f64,
    card_offset: f64,
    system_frequency: Frequency,
    system: NtpDate,
    random: u64,
}

const CARD_EPOCH: NtpDate = NtpDate::from_unix(37, 0);

impl World {
    fn new(card_ppm: f64, system_ppm: f64) -> Self {
        Self {
            truth: 0.0,
            card_rate: card_ppm * 1e-6,
            card_offset: 0.0,
            system_frequency: Frequency::from_ppm(system_ppm),
            system: NtpDate::from_unix(1_800_000_000, 0),
            random: 7,
        }
    }

    fn pass(&mut self, seconds: f64) {
        self.truth += seconds;
        self.card_offset += seconds * self.card_rate;
        self.system =
            self.system + NtpDuration::from_secs_f64(seconds * (1.0 + self.system_frequency.as_ratio()));
    }

    fn card(&self) -> NtpDate {
        CARD_EPOCH + NtpDuration::from_secs_f64(self.truth) + NtpDuration::from_secs_f64(self.card_offset)
    }

    /// From 0 to 1.
    fn random(&mut self) -> f64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as f64 / f64::from(1_u32 << 31)
    }

    /// Ten readings, each of which takes a microsecond and up to a tenth more.
    fn readings(&mut self) -> Vec<CardReading> {
        (0..10)
            .map(|_| {
                let before = self.system;
                let (there, back) = (0.5e-6 + 5e-8 * self.random(), 0.5e-6 + 5e-8 * self.random());
                self.pass(there);
                let card = self.card();
                self.pass(back);
                CardReading { before, card, after: self.system }
            })
            .collect()
    }

    fn miss(&self, clock: &CardClock) -> f64 {
        (clock.line().expect("a line").system_at(self.card()) - self.system).as_secs_f64().abs()
    }
}

fn known(world: &mut World, seconds: u32) -> CardClock {
    let mut clock = CardClock::new(CardSettings::default());
    for _ in 0..seconds {
        assert_eq!(clock.add(&world.readings()), CardVerdict::Stored);
        world.pass(1.0);
    }
    clock
}

#[test]
fn stamps_of_a_card_with_its_own_epoch_and_pace_become_our_time() {
    for (card_ppm, system_ppm) in [(0.0, 0.0), (37.0, -12.0), (-800.0, 83_333.0)] {
        let mut world = World::new(card_ppm, system_ppm);
        let clock = known(&mut world, 30);
        let miss = world.miss(&clock);
        assert!(miss < 3e-8, "{card_ppm} {system_ppm}: {miss:e}, a second after the last reading");
        let expected = (1.0 + system_ppm * 1e-6) / (1.0 + card_ppm * 1e-6) - 1.0;
        assert!((clock.line().unwrap().rate().as_ratio() - expected).abs() < 1e-8);
    }
}

#[test]
fn there_is_no_line_before_the_second_reading() {
    let mut world = World::new(5.0, 0.0);
    let mut clock = CardClock::new(CardSettings::default());
    assert_eq!(clock.add(&world.readings()), CardVerdict::Stored);
    assert_eq!(clock.line(), None);
    world.pass(1.0);
    clock.add(&world.readings());
    assert!(world.miss(&clock) < 1e-7);
    let mut patient = CardClock::new(CardSettings { samples_min: 4, ..CardSettings::default() });
    for reading in 1..=4 {
        world.pass(1.0);
        patient.add(&world.readings());
        assert_eq!(patient.line().is_some(), reading == 4, "{reading}");
    }
}

#[test]
fn slow_readings_do_not_count() {
    let mut world = World::new(5.0, 0.0);
    let mut clock = known(&mut world, 5);
    let mut readings = world.readings();
    let late = &mut readings[3];
    late.after = late.after + NtpDuration::from_secs_f64(0.003);
    readings[4].after = readings[4].before - NtpDuration::from_secs_f64(1.0);
    assert_eq!(clock.add(&readings), CardVerdict::Stored);
    assert!(world.miss(&clock) < 1e-7);
    assert_eq!(clock.add(&readings[4..5]), CardVerdict::Useless);
    assert_eq!(clock.add(&[]), CardVerdict::Useless);
}

#[test]
fn our_steps_and_slews_move_what_is_remembered() {
    let mut world = World::new(-20.0, 3.0);
    let mut clock = known(&mut world, 20);
    let by = NtpDuration::from_secs_f64(-3600.25);
    world.system = world.system + by;
    clock.system_stepped(by);
    assert!(world.miss(&clock) < 1e-7, "after a step");
    for ppm in [83_333.0, -500.0, 3.0] {
        let (from, to) = (world.system_frequency, Frequency::from_ppm(ppm));
        clock.system_frequency_changed(world.system, from, to);
        world.system_frequency = to;
        world.pass(0.4);
        let miss = world.miss(&clock);
        assert!(miss < 1e-7, "{ppm}: {miss:e} without a new reading");
        assert_eq!(clock.add(&world.readings()), CardVerdict::Stored);
        world.pass(0.6);
        assert!(world.miss(&clock) < 1e-7, "{ppm}");
    }
    assert!(clock.samples() > 10, "nothing was thrown away: {}", clock.samples());
}

#[test]
fn a_step_of_the_cards_clock_starts_over_with_the_pace_that_was_known() {
    let mut world = World::new(40.0, 0.0);
    let mut clock = known(&mut world, 20);
    for by in [37.0, -0.002] {
        world.card_offset += by;
        assert!(world.miss(&clock) > 1e-3);
        assert_eq!(clock.add(&world.readings()), CardVerdict::CardStepped);
        assert_eq!(clock.samples(), 1);
        world.pass(1.0);
        assert!(world.miss(&clock) < 2e-7, "by its old pace: {:e}", world.miss(&clock));
        assert_eq!(clock.add(&world.readings()), CardVerdict::Stored);
        world.pass(1.0);
        assert_eq!(clock.add(&world.readings()), CardVerdict::Stored);
    }
}

#[test]
fn another_pace_of_the_cards_clock_drops_the_pairs_of_the_old_one() {
    let mut world = World::new(0.0, 0.0);
    let mut clock = known(&mut world, 16);
    world.card_rate = 50e-6;
    for _ in 0..3 {
        world.pass(1.0);
        assert_eq!(clock.add(&world.readings()), CardVerdict::Stored);
        assert!(world.miss(&clock) < 1e-7);
    }
    assert!(clock.samples() < 6, "{}", clock.samples());
    world.pass(1.0);
    assert!(world.miss(&clock) < 3e-7);
}

#[test]
fn what_cannot_be_told_starts_over() {
    let mut world = World::new(0.0, 0.0);
    let mut clock = known(&mut world, 5);
    clock.forget();
    assert_eq!((clock.line(), clock.samples()), (None, 0));
}

#[test]
fn a_reading_made_at_once_by_hardware_is_one_pair() {
    let mut world = World::new(12.0, 0.0);
    let mut clock = CardClock::new(CardSettings::default());
    for _ in 0..4 {
        let at = world.system;
        clock.add(&[CardReading { before: at, card: world.card(), after: at }]);
        world.pass(1.0);
    }
    assert!(world.miss(&clock) < 2e-9, "{:e}", world.miss(&clock));
}
