//! Runs many worlds on all cores.

use super::{Accuracy, Conditions};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// For each world the median of each figure over the seeds 1 to `seeds`.
pub(super) fn medians(worlds: &[Conditions], seeds: u64) -> Vec<Accuracy> {
    by_seed(worlds, seeds).iter().map(|all| Accuracy::median(all)).collect()
}

/// For each world its figures with the seeds 1 to `seeds`, in the order of the seeds.
pub(super) fn by_seed(worlds: &[Conditions], seeds: u64) -> Vec<Vec<Accuracy>> {
    // The longest first, so that no core is left with one of them at the end.
    let mut jobs: Vec<(usize, u64)> =
        (0..worlds.len()).flat_map(|world| (1..=seeds).map(move |seed| (world, seed))).collect();
    jobs.sort_by_key(|&(world, _)| (std::cmp::Reverse(worlds[world].servers), worlds[world].poll_max));
    let results: Vec<Mutex<Vec<(u64, Accuracy)>>> = worlds.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&(world, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let accuracy = worlds[world].measure(seed);
            results[world].lock().expect("a world that panics ends everything").push((seed, accuracy));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let in_order = |mut all: Vec<(u64, Accuracy)>| {
        all.sort_by_key(|(seed, _)| *seed);
        all.into_iter().map(|(_, accuracy)| accuracy).collect()
    };
    results
        .into_iter()
        .map(|all| in_order(all.into_inner().expect("a world that panics ends everything")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::FrequencyStep;
    use crate::{Direction, SlowQueue};

    /// Variance just after a correction of the Kalman filter that knows this world, and the mean between two
    /// corrections: what no estimator that is linear in the offsets can beat.
    fn linear_bound(jitter: f64, wander: f64, interval: f64) -> f64 {
        let noise = jitter * jitter / 2.0;
        let (q, t) = (wander * wander, interval);
        let (mut xx, mut xy, mut yy) = (1e-2f64, 0.0f64, 1e-8f64);
        let predict = |(xx, xy, yy): (f64, f64, f64), t: f64| {
            (xx + 2.0 * t * xy + t * t * yy + q * t.powi(3) / 3.0, xy + t * yy + q * t * t / 2.0, yy + q * t)
        };
        for _ in 0..100_000 {
            (xx, xy, yy) = predict((xx, xy, yy), t);
            let gain = (xx / (xx + noise), xy / (xx + noise));
            (xx, xy, yy) = ((1.0 - gain.0) * xx, (1.0 - gain.0) * xy, yy - gain.1 * xy);
        }
        let steps = 64;
        let mean = (0..steps)
            .map(|i| predict((xx, xy, yy), t * (f64::from(i) + 0.5) / f64::from(steps)).0)
            .sum::<f64>();
        (mean / f64::from(steps)).sqrt()
    }

    #[test]
    fn the_linear_bound_of_this_world_is_the_recorded_one() {
        for cell in crate::accuracy::cell::table() {
            if let Some(recorded) = cell.others.linear_bound {
                let world = &cell.conditions;
                let bound = linear_bound(
                    world.back.jitter,
                    world.wander,
                    f64::from(1u32 << world.poll_min.unsigned_abs()),
                );
                assert!((bound / recorded - 1.0).abs() < 0.06, "{world:?}: {bound:e} and {recorded:e}");
            }
        }
    }

    #[test]
    fn without_queues_and_wander_the_clock_is_right() {
        let world = Conditions { wander: 0.0, from: 2_000.0, to: 3_000.0, ..Conditions::default() };
        let [accuracy] = medians(&[world.jitter(0.0, 0.0).poll(4)], 1)[..] else { panic!("one world") };
        assert!(accuracy.rms < 5e-9 && accuracy.frequency_rms < 1e-9, "{accuracy:?}");
        assert!((accuracy.mean_interval - 16.0).abs() < 1.0, "{accuracy:?}");
    }

    #[test]
    fn with_a_request_every_four_hours_and_a_half_three_answers_are_enough() {
        let interval = 16_384.0;
        let direction = Direction { base: 1e-4, jitter: 1e-6, ..Direction::default() };
        let world = Conditions {
            iburst: false,
            frequency: Some(1e-4),
            wander: 0.0,
            there: direction,
            back: direction,
            from: 2.1 * interval,
            to: 10.0 * interval,
            ..Conditions::default()
        };
        for accuracy in &by_seed(&[world.poll(14)], 7)[0] {
            assert!(accuracy.max < 8e-6 && accuracy.rms < 4e-6, "{accuracy:?}");
        }
    }

    #[test]
    fn a_jump_of_the_frequency_is_over_with_the_second_answer_after_it() {
        let step = |at, by| FrequencyStep { at, by };
        let world = Conditions {
            frequency_steps: vec![step(3_000.0, 1e-5), step(6_000.0, -2e-5)],
            from: 2_000.0,
            to: 9_000.0,
            ..Conditions::default()
        };
        for (jitter, max) in [(1e-5, 9e-4), (1e-4, 9e-4)] {
            for accuracy in &by_seed(&[world.clone().jitter(jitter, jitter).poll(4)], 5)[0] {
                // 20 ppm for twice 16 s, and queues.
                assert!(accuracy.max < max && accuracy.containment == 1.0, "{jitter:e}: {accuracy:?}");
            }
        }
    }

    #[test]
    fn a_slow_queue_on_one_way_leaves_the_other_way_to_tell_the_time() {
        let queue = Some(SlowQueue { mean: 2e-4, time: 600.0, shared: false });
        let world = Conditions {
            there: Direction { queue, ..Direction::default() },
            to: 60_000.0,
            ..Conditions::default()
        };
        // Not each: a queue that is there from the start is taken for the path.
        let accuracy = &medians(&[world.poll(4)], 9)[0];
        assert!(accuracy.rms < 1.2e-5, "{accuracy:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        let world = Conditions { from: 500.0, to: 1_000.0, ..Conditions::default() }.poll(4);
        assert_eq!(world.measure(3), world.measure(3));
        assert_ne!(world.measure(3), world.measure(4));
    }
}
