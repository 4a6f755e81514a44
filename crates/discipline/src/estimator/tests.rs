//! Laws that the estimator keeps, in a small world of its own.

use super::*;
use proptest::prelude::*;

/// Draws exponential numbers with a mean of 1.
pub(super) fn exponential(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        -(((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64).ln()
    }
}

/// Exchanges in a world with exponential queues: an oscillator that lacks `frequency`, a clock that is `offset` behind.
pub(super) fn exchanges(
    seed: u64,
    count: u32,
    jitter: (f64, f64),
    (offset, frequency): (f64, f64),
) -> Vec<Exchange> {
    let mut exponential = exponential(seed);
    (0..count)
        .map(|number| {
            let free = 16.0 * f64::from(number);
            let (there, back) = (1e-2 + jitter.0 * exponential(), 1e-2 + jitter.1 * exponential());
            let point = ClockPoint { free, correction: 0.0 };
            Exchange {
                point,
                offset: offset + frequency * free + (there - back) / 2.0,
                delay: there + back,
                floor: 1e-9,
                lever: Lever::default(),
            }
        })
        .collect()
}

pub(super) fn estimate(exchanges: &[Exchange]) -> Estimator {
    let prior = FrequencyPrior { frequency: 0.0, variance: 1e-8 };
    let mut estimator = Estimator::new(exchanges[0], prior);
    exchanges[1..].iter().for_each(|exchange| estimator.add(*exchange, 1.0));
    estimator
}

fn error(estimator: &Estimator, truth: (f64, f64)) -> f64 {
    estimator.moments().offset - truth.0 - truth.1 * estimator.point().free
}

#[test]
fn edges_say_more_than_averages() {
    for (jitter, limit) in [((1e-4, 1e-4), 6e-6), ((1e-4, 0.0), 5e-7), ((0.0, 1e-3), 1e-5)] {
        let mut square = 0.0;
        for seed in 1..=10 {
            let estimator = estimate(&exchanges(seed, 400, jitter, (0.05, 2e-5)));
            square += error(&estimator, (0.05, 2e-5)).powi(2) / 10.0;
        }
        // Averages over the 100 samples for which an oscillator may be taken as steady: jitter / 14.
        assert!(square.sqrt() < limit, "{jitter:?}: {:e}", square.sqrt());
    }
}

/// The same as with a peer that sends by its own pace: a packet of it comes up to 15 s after ours, or before.
fn apart(exchanges: &[Exchange], frequency: f64) -> Vec<Exchange> {
    let apart = |(number, exchange): (usize, &Exchange)| {
        let lever = Lever { seconds: [12.0, -3.0, 7.0, 15.0, 1.0][number % 5], frequency: 0.0 };
        Exchange { delay: exchange.delay - frequency * lever.seconds, lever, ..*exchange }
    };
    exchanges.iter().enumerate().map(apart).collect()
}

#[test]
fn packets_that_are_apart_tell_as_much_as_round_trips() {
    const TRUTH: (f64, f64) = (0.01, 8e-5);
    for seed in 1..=50 {
        for count in [3, 5, 8, 12, 60] {
            let all = exchanges(seed, count, (1e-6, 1e-6), TRUTH);
            let [plain, apart] = [estimate(&all), estimate(&apart(&all, TRUTH.1))];
            let standard_error = apart.moments().offset_variance.sqrt();
            assert!(error(&apart, TRUTH).abs() < 4.0 * standard_error, "{seed} {count}");
            if count >= 8 {
                let errors =
                    [&plain, &apart].map(|it| error(it, TRUTH).abs().max((it.path().base.0 - 1e-2).abs()));
                assert!(errors[1] < 2.0 * errors[0] + 1e-6, "{seed} {count}: {errors:?}");
            }
        }
    }
}

#[test]
fn the_error_is_as_large_as_it_says() {
    let outside = (1..=100)
        .filter(|&seed| {
            let estimator = estimate(&exchanges(seed, 60, (1e-4, 1e-4), (0.0, 1e-5)));
            error(&estimator, (0.0, 1e-5)).abs() > 4.0 * estimator.moments().offset_variance.sqrt()
        })
        .count();
    assert!(outside <= 2, "{outside} of 100");
}

#[test]
fn an_exchange_that_says_how_vague_it_is_spoils_no_other() {
    // Measurements of a reference clock: no round trips, and one reading that was made while the clock jumped.
    let readings = |vague: Option<usize>| -> Vec<Exchange> {
        let like = |(number, exchange): (usize, Exchange)| {
            let is_vague = vague == Some(number);
            let (offset, floor) =
                if is_vague { (exchange.offset - 3.0, 4.0) } else { (exchange.offset, 1e-4) };
            Exchange { offset, floor, delay: 0.0, ..exchange }
        };
        exchanges(1, 40, (1e-4, 1e-4), (10.0, 2e-5)).into_iter().enumerate().map(like).collect()
    };
    let usual = error(&estimate(&readings(None)), (10.0, 2e-5)).abs();
    for number in [0, 1, 2, 7, 8, 30] {
        let estimator = estimate(&readings(Some(number)));
        let error = error(&estimator, (10.0, 2e-5)).abs();
        assert!(error < usual + 1e-4, "{number}: {error:e}, not {usual:e}");
        assert!(estimator.offset_deviation() < 2e-4, "{number}: {:e}", estimator.offset_deviation());
    }
}

#[test]
fn the_first_sharp_exchange_after_vague_ones_does_not_forget_the_frequency() {
    // A reference clock's readings scatter by the drift of a clock that nobody has corrected yet.
    let readings: Vec<Exchange> = exchanges(1, 8, (0.0, 0.0), (0.1, 1e-4))
        .into_iter()
        .enumerate()
        .map(|(number, exchange)| {
            let floor = if number < 3 { 1e-4 } else { 2e-6 };
            Exchange { floor, delay: 0.0, ..exchange }
        })
        .collect();
    for count in 3..=readings.len() {
        let frequency = estimate(&readings[..count]).moments().frequency;
        assert!((frequency - 1e-4).abs() < 1e-5, "{count}: {frequency:e}");
    }
}

#[test]
fn a_few_delays_that_are_alike_do_not_say_that_there_are_no_queues() {
    for count in 2..=4 {
        let outside = (1..=1000)
            .filter(|&seed| {
                let moments = estimate(&exchanges(seed, count, (1e-2, 1e-2), (0.0, 4e-5))).moments();
                (moments.frequency - 4e-5).abs() > 5.0 * moments.frequency_variance.sqrt()
            })
            .count();
        assert!(outside <= 10, "{outside} of 1000 after {count} exchanges");
    }
}

#[test]
fn a_long_way_does_not_make_queues_long() {
    for seed in 1..=100 {
        let mut all = exchanges(seed, 4, (1e-4, 1e-4), (0.0, 0.0));
        all.iter_mut().for_each(|exchange| exchange.delay += 10.0);
        let moments = estimate(&all).moments();
        let error = moments.offset_variance.sqrt();
        assert!(
            error < 1e-2 && moments.offset.abs() < 5.0 * error,
            "seed {seed}: {:e} of {error:e}",
            moments.offset
        );
    }
}

#[test]
fn after_a_long_silence_few_exchanges_do_not_say_how_long_queues_are() {
    // Of 2000: about 60 are allowed for by the error of the tails, and 140 would be outside without it.
    const OUTSIDE_MAX: usize = 95;
    let outside = |with_tails: bool| {
        let is_outside = |seed: &u64| {
            let mut all = exchanges(*seed, 6, (1e-3, 1e-3), (0.0, 0.0));
            all[5].point.free += 8000.0;
            let estimator = estimate(&all);
            let moments = estimator.moments();
            let tails = if with_tails { estimator.tail_error(&moments) } else { 0.0 };
            moments.offset.abs() > 3.0 * moments.offset_variance.sqrt().hypot(tails)
        };
        (1..=2000).filter(is_outside).count()
    };
    let (with_tails, without) = (outside(true), outside(false));
    assert!(with_tails <= OUTSIDE_MAX, "{with_tails} of 2000");
    assert!(
        without > OUTSIDE_MAX,
        "{without} of 2000: this test cannot tell the one from the other any more"
    );
}

#[test]
fn a_slow_answer_at_the_start_does_no_harm() {
    for place in 0..4 {
        for there in [true, false] {
            let mut all = exchanges(5, 12, (1e-6, 1e-6), (0.02, 0.0));
            all[place].delay += 1.5;
            all[place].offset += if there { 0.75 } else { -0.75 };
            for count in 3..all.len() {
                let moments = estimate(&all[..count]).moments();
                let error = (moments.offset - 0.02).abs();
                assert!(error < 1e-3, "{place} {there} {count}: {moments:?}");
                assert!(error < 8.0 * moments.offset_variance.sqrt(), "{place} {there} {count}: {moments:?}");
            }
        }
    }
}

#[test]
fn a_shorter_path_does_not_move_the_clock() {
    for jitter in [1e-5, 1e-4] {
        for there in [true, false] {
            let mut all = exchanges(7, 500, (jitter, jitter), (0.0, 0.0));
            for exchange in &mut all {
                // Until now this direction took 5 ms longer.
                if exchange.point.free < 4000.0 {
                    exchange.delay += 5e-3;
                    exchange.offset += if there { 2.5e-3 } else { -2.5e-3 };
                }
            }
            let before = estimate(&all[..250]).moments().offset;
            let moved = estimate(&all).moments().offset - before;
            assert!(moved.abs() < 1e-4, "{jitter:e} {there}: {moved:e}");
        }
    }
}

#[test]
fn a_longer_path_does_not_move_the_clock() {
    let mut all = exchanges(7, 500, (1e-4, 1e-4), (0.0, 0.0));
    for exchange in &mut all[250..] {
        exchange.delay += 5e-3;
        exchange.offset += 2.5e-3;
    }
    let offset = estimate(&all).moments().offset;
    assert!(offset.abs() < 1e-4, "{offset:e}");
}

#[test]
fn a_path_that_became_longer_both_ways_is_found_to_be() {
    for jitter in [1e-5, 1e-4, 5e-4] {
        let mut all = exchanges(7, 500, (jitter, jitter), (0.0, 0.0));
        for exchange in &mut all[250..] {
            exchange.delay += 1e-2;
        }
        let estimator = estimate(&all);
        let (offset, base) = (estimator.moments().offset, estimator.path().base.0);
        assert!(offset.abs() < jitter, "{jitter:e}: {offset:e}");
        assert!((base - 1.5e-2).abs() < 2.0 * jitter, "{jitter:e}: {base:e}");
    }
}

#[test]
fn congestion_on_one_way_moves_neither_clock_nor_path() {
    let mut all = exchanges(7, 400, (1e-4, 1e-4), (0.0, 0.0));
    for (exchange, slow) in all[250..350].iter_mut().zip(exchanges(8, 100, (1e-2, 0.0), (0.0, 0.0))) {
        exchange.delay += slow.delay - 2e-2;
        exchange.offset += slow.offset;
    }
    for count in 250..all.len() {
        let estimator = estimate(&all[..count]);
        let (moments, path) = (estimator.moments(), estimator.path());
        assert!(moments.offset.abs() < 6e-5, "{count}: {moments:?}");
        assert!((path.base.0 - 1e-2).abs() < 5e-5 && path.asymmetry.1 < 1e-12, "{count}: {path:?}");
    }
}

/// What it makes of a few worlds, so that a change of its figures is a decision: accept it with `cargo insta`, and measure
/// `cargo xtask accuracy` anew.
#[test]
fn its_figures_are_those_of_before() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (name, jitter) in [("both", (1e-4, 1e-4)), ("there", (1e-3, 0.0)), ("back", (1e-6, 1e-5))] {
        for count in [1, 2, 8, 9, 60, 600] {
            let estimator = estimate(&exchanges(11, count, jitter, (0.0, 1e-5)));
            let (moments, path) = (estimator.moments(), estimator.path());
            let _ = writeln!(
                text,
                "queues {name}, {count} exchanges: error {:.3e} of {:.3e}, frequency {:.3e} of {:.3e}, wander {:.2e}, base \
                 {:.5e}, queues {:.2e} and {:.2e}, softness {}",
                error(&estimator, (0.0, 1e-5)),
                moments.offset_variance.sqrt(),
                moments.frequency - 1e-5,
                moments.frequency_variance.sqrt(),
                moments.log_wander.exp(),
                path.base.0,
                path.queues.0.mean,
                path.queues.1.mean,
                estimator.softness_in_use(),
            );
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn years_do_not_wear_it_out() {
    // 4 years of exchanges every 1024 s, in which nothing happens.
    let mut estimator = estimate(&exchanges(3, 8, (1e-5, 1e-5), (0.0, 0.0)));
    for mut exchange in exchanges(4, 120_000, (1e-5, 1e-5), (0.0, 0.0)) {
        exchange.point.free = 1000.0 + exchange.point.free * 64.0;
        estimator.add(exchange, 1.0);
    }
    let moments = estimator.moments();
    assert!(moments.offset.abs() < 1e-5 && moments.offset_variance > 0.0, "{moments:?}");
}

/// Who forgets knows as much after hours as after a few exchanges, and is as sure as that.
#[test]
fn what_is_forgotten_makes_no_one_surer() {
    let all = exchanges(5, 400, (1e-4, 1e-4), (0.0, 0.0));
    let deviation = |exchanges: &[Exchange], fading: f64| {
        let mut estimator = estimate(&exchanges[..1]);
        exchanges[1..].iter().for_each(|exchange| estimator.add(*exchange, fading));
        estimator.moments().offset_variance.sqrt()
    };
    let (everything, few) = (deviation(&all, 1.0), deviation(&all[..16], 1.0));
    let forgetful = deviation(&all, 16.0 / 15.0);
    assert!(everything < few / 2.0, "{everything:e} {few:e}");
    assert!(forgetful > 1.5 * everything && forgetful < 2.0 * few, "{forgetful:e} {everything:e} {few:e}");
}

proptest! {
    #[test]
    fn another_zero_of_time_changes_nothing_else(seed in 1u64..1000, shift in -1.0f64..1.0) {
        let all = exchanges(seed, 40, (1e-4, 3e-5), (0.0, 1e-5));
        let shifted: Vec<Exchange> =
            all.iter().map(|exchange| Exchange { offset: exchange.offset + shift, ..*exchange }).collect();
        let (one, other) = (estimate(&all).moments(), estimate(&shifted).moments());
        prop_assert!((other.offset - one.offset - shift).abs() < 1e-9);
        prop_assert!((other.frequency - one.frequency).abs() < 1e-11);
        prop_assert!((other.offset_variance / one.offset_variance - 1.0).abs() < 1e-3);
    }

    #[test]
    fn ways_may_be_exchanged(seed in 1u64..1000) {
        let all = exchanges(seed, 60, (1e-4, 2e-5), (0.0, 0.0));
        let mirrored: Vec<Exchange> =
            all.iter().map(|exchange| Exchange { offset: -exchange.offset, ..*exchange }).collect();
        let (one, other) = (estimate(&all).moments(), estimate(&mirrored).moments());
        // Not exactly: one direction has to be taken first.
        prop_assert!((other.offset + one.offset).abs() < 4.0 * one.offset_variance.sqrt());
    }

    #[test]
    fn no_exchange_breaks_it(values in proptest::collection::vec((0.0f64..1e5, -1e6f64..1e6, 0.0f64..1e3), 1..60)) {
        let mut free = 0.0;
        let all: Vec<Exchange> = values
            .into_iter()
            .map(|(elapsed, offset, delay)| {
                free += elapsed;
                Exchange { point: ClockPoint { free, correction: 0.0 }, offset, delay, floor: 1e-9, lever: Lever::default() }
            })
            .collect();
        let moments = estimate(&all).moments();
        prop_assert!(moments.offset.is_finite() && moments.frequency.is_finite());
        prop_assert!(moments.offset_variance >= 0.0 && moments.frequency_variance >= 0.0);
    }
}

/// Offsets of a reference clock: normal noise, no round trip.
fn reference(count: u32, sigma: f64, frequency: f64, told: f64) -> Vec<Exchange> {
    let mut state = 88_172_645_463_325_252u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count)
        .map(|number| {
            let normal: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
            let free = 16.0 * f64::from(number);
            let point = ClockPoint { free, correction: 0.0 };
            Exchange {
                point,
                offset: frequency * free + sigma * normal,
                delay: 0.0,
                floor: 1.26 * told,
                lever: Lever::default(),
            }
        })
        .collect()
}

#[test]
fn a_reference_clock_without_round_trips_is_averaged_and_not_run_after() {
    // Also when it is three times better than it says.
    for told in [1e-6, 3e-6] {
        let exchanges = reference(200, 1e-6, 5e-6, told);
        let estimator = estimate(&exchanges);
        let moments = estimator.moments();
        let error = moments.offset - 5e-6 * 16.0 * 199.0;
        assert!(error.abs() < 0.6e-6, "{told}: {error}");
        assert!((moments.frequency - 5e-6).abs() < 5e-9, "{told}: {}", moments.frequency - 5e-6);
        let sure = moments.offset_variance.sqrt();
        assert!((0.1e-6..1e-6).contains(&sure) && error.abs() < 5.0 * sure, "{told}: {error} ± {sure}");
    }
}

#[test]
fn a_pulse_of_nanoseconds_is_followed_to_nanoseconds() {
    let exchanges = reference(200, 2e-9, -3e-6, 2e-9);
    let moments = estimate(&exchanges).moments();
    let error = moments.offset + 3e-6 * 16.0 * 199.0;
    assert!(error.abs() < 4e-9, "{error}");
}
