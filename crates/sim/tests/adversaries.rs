//! Scenarios with somebody on the way: authenticated time must not move by what is forged.

use chime_engine::DiscardReason;
use chime_sim::{Action, Adversary, Attack, Limits, Path, Scenario, millis, minutes, seconds};
use chime_wire::KissCode;

fn attacked(attacks: &[Attack]) -> Scenario {
    Scenario::client_of(3).nts().adversary(Adversary::new(attacks.to_vec()))
}

#[test]
fn who_forges_answers_never_moves_the_clock() {
    for (attack, reason) in [
        (Attack::Forge { offset: 3600.0 }, DiscardReason::NoUniqueIdentifier),
        (Attack::ForgeAuthenticator { offset: -3600.0 }, DiscardReason::AuthenticatorFailed),
    ] {
        let outcomes =
            attacked(&[attack]).expect(Limits { steps_max: 0, ..Limits::default() }).run_seeds(0..5);
        for outcome in outcomes {
            let discarded = outcome.discarded(reason);
            assert!(discarded > 20, "{reason:?}: {discarded}");
        }
    }
}

#[test]
fn who_lets_nothing_genuine_through_keeps_the_clock_where_it_is() {
    for (attack, reason) in [
        (Attack::Strip { offset: 3600.0 }, DiscardReason::NoUniqueIdentifier),
        (Attack::Alter { offset: 3600.0 }, DiscardReason::AuthenticatorFailed),
    ] {
        let outcomes =
            attacked(&[attack]).clock(1e-3, 0.0).wander(0.0).expect_no_synchronisation().run_seeds(0..3);
        for outcome in outcomes {
            assert!((outcome.final_error - 1e-3).abs() < 1e-9, "{:e}", outcome.final_error);
            assert!(outcome.discarded(reason) > 10);
        }
    }
}

#[test]
fn who_comes_later_never_moves_the_clock() {
    let adversary = Adversary::new(vec![Attack::Alter { offset: -7200.0 }, Attack::Forge { offset: 7200.0 }]);
    Scenario::client_of(3)
        .nts()
        .at(minutes(10.0), Action::Adversary(Some(adversary)))
        .expect(Limits { recover_within: 0.0, steps_max: 0, ..Limits::default() })
        .run_seeds(0..5);
}

#[test]
fn replayed_answers_are_recognised() {
    let limits = Limits { steps_max: 0, ..Limits::default() };
    for outcome in attacked(&[Attack::Replay]).expect(limits).run_seeds(0..5) {
        assert!(
            outcome.discarded(DiscardReason::OriginMismatch)
                + outcome.discarded(DiscardReason::UniqueIdentifierMismatch)
                > 10
        );
    }
    // Without NTS the origin timestamp is what recognises them.
    let plain = Scenario::client_of(3).adversary(Adversary::new(vec![Attack::Replay]));
    for outcome in plain.expect(limits).run_seeds(0..5) {
        assert!(outcome.discarded(DiscardReason::OriginMismatch) > 10);
    }
}

#[test]
fn kiss_codes_that_nobody_vouches_for_change_nothing() {
    for code in [KissCode::DENY, KissCode::RSTR, KissCode::RATE, KissCode::NTSN] {
        let calm = Scenario::client_of(3).nts().expect(Limits::default()).run_seeds(0..2);
        let kissed = attacked(&[Attack::Kiss(code)])
            .expect(Limits { steps_max: 0, ..Limits::default() })
            .run_seeds(0..2);
        for (calm, kissed) in calm.iter().zip(&kissed) {
            assert_eq!(kissed.establishments, [1, 1, 1], "{code:?}");
            let (few, many) = (calm.requests * 9 / 10, calm.requests * 11 / 10);
            assert!(
                (few..=many).contains(&kissed.requests),
                "{code:?}: {} {}",
                calm.requests,
                kissed.requests
            );
        }
    }
}

#[test]
fn garbage_and_truncation_are_counted_and_harmless() {
    let limits = Limits { steps_max: 0, ..Limits::default() };
    attacked(&[Attack::Garbage]).expect(limits).run_seeds(0..5);
    let outcomes = attacked(&[Attack::Truncate]).clock(1e-3, 0.0).expect_no_synchronisation().run_seeds(0..3);
    assert!(outcomes.iter().all(|outcome| outcome.samples() == 0));
}

#[test]
fn flipped_bits_are_noticed() {
    let path = Path { bit_flips: 0.3, ..Path::default() };
    let outcomes = Scenario::client_of(3)
        .nts()
        .path(path)
        .expect(Limits { sync_by: minutes(3.0), ..Limits::default() })
        .run_seeds(0..10);
    for outcome in outcomes {
        assert!(outcome.discarded(DiscardReason::AuthenticatorFailed) > 0);
    }
}

#[test]
fn delaying_answers_moves_the_clock_by_no_more_than_the_bound_says() {
    // Holding back genuine answers cannot be seen, but it shows in the round trip.
    let slow = Path { back: chime_sim::Direction { base: 0.1, ..Default::default() }, ..Path::default() };
    Scenario::client_of(3)
        .nts()
        .at(minutes(10.0), Action::Paths(slow))
        .duration(minutes(60.0))
        .expect(Limits {
            offset_max: millis(55.0),
            offset_rms: millis(55.0),
            frequency_max: 1e-4,
            recover_within: seconds(0.0),
            ..Limits::default()
        })
        .run_seeds(0..5);
}
