use super::*;
use chime_time::NtpDuration;

const MIDNIGHT: i64 = 1_483_228_800; // 1 January 2017
const LEAP: LeapSecond = LeapSecond { midnight: MIDNIGHT, insert: true };

/// So many seconds from midnight, by a clock that is not stepped.
fn facts(seconds: f64) -> LeapFacts {
    LeapFacts {
        now: MonoTime::ZERO.add_secs_f64(1e6 + seconds),
        date: NtpDate::from_unix(MIDNIGHT, 0) + NtpDuration::from_secs_f64(seconds),
        vote: Leap::Insert,
        synchronized: true,
        smeared: false,
        by_kernel: true,
    }
}

fn table(expires: Option<i64>) -> LeapTable {
    LeapTable::new(vec![(MIDNIGHT - 100 * DAY_SECONDS, 36), (MIDNIGHT, 37)], expires).unwrap()
}

fn complete_without_it() -> LeapTable {
    LeapTable::new(vec![(MIDNIGHT - 100 * DAY_SECONDS, 36)], Some(MIDNIGHT + 1)).unwrap()
}

fn announced(knowledge: LeapKnowledge, seconds: i64) -> Option<LeapAction> {
    Some(LeapAction::Announced(KnownLeap { leap: LEAP, knowledge, known_since: MIDNIGHT + seconds }))
}

#[test]
fn it_is_known_early_announced_on_the_last_day_and_armed_a_little_later() {
    let mut watch = LeapWatch::default();
    assert_eq!(watch.tend(&facts(-200_000.0)), announced(LeapKnowledge::Sources, -200_000));
    assert_eq!((watch.announced(), watch.armed()), (Leap::NoWarning, Leap::NoWarning));
    for (seconds, announced, armed) in [
        (-86_400.5, Leap::NoWarning, Leap::NoWarning),
        (-86_400.0, Leap::Insert, Leap::NoWarning),
        (-82_800.5, Leap::Insert, Leap::NoWarning),
        (-82_800.0, Leap::Insert, Leap::Insert),
    ] {
        let before = watch.next_look().unwrap();
        assert_eq!(watch.tend(&facts(seconds)), None);
        assert_eq!((watch.announced(), watch.armed()), (announced, armed), "{seconds}");
        assert!(before >= watch.next_look().unwrap() || before <= facts(seconds).now);
    }
    let left = watch.next_look().unwrap().seconds_since(facts(-82_800.0).now);
    assert!((left - 82_800.0).abs() < 1e-3, "{left}");
}

#[test]
fn a_kernel_that_is_not_to_make_it_is_not_told() {
    let mut watch = LeapWatch::default();
    let ours = LeapFacts { by_kernel: false, ..facts(-100.0) };
    assert!(watch.tend(&ours).is_some());
    assert_eq!((watch.announced(), watch.armed()), (Leap::Insert, Leap::NoWarning));
    assert_eq!(watch.tend(&LeapFacts { by_kernel: false, ..facts(-0.001) }), None);
    assert_eq!(watch.tend(&LeapFacts { by_kernel: false, ..facts(0.001) }), Some(LeapAction::Happens(LEAP)));
    assert_eq!(watch.announced(), Leap::NoWarning);
}

#[test]
fn a_second_that_is_left_out_happens_a_second_before_midnight() {
    let mut watch = LeapWatch::default();
    let at = |seconds| LeapFacts { by_kernel: false, vote: Leap::Delete, ..facts(seconds) };
    assert!(watch.tend(&at(-100.0)).is_some());
    assert_eq!(watch.tend(&at(-1.001)), None);
    let left_out = LeapSecond { insert: false, ..LEAP };
    assert_eq!(watch.tend(&at(-0.999)), Some(LeapAction::Happens(left_out)));
}

#[test]
fn the_kernels_step_is_recognised_once_and_what_others_still_announce_is_over() {
    let mut watch = LeapWatch::default();
    watch.tend(&facts(-30.0));
    assert_eq!(watch.step_seen(facts(-10.0).now, facts(-10.0).date, -1.0), None, "too early");
    assert_eq!(watch.tend(&facts(0.01)), None);
    assert_eq!(watch.armed(), Leap::Insert);
    for other in [1.0, -0.89, -1.11, -2.0] {
        assert_eq!(watch.step_seen(facts(0.05).now, facts(0.05).date, other), None, "{other}");
    }
    assert_eq!(watch.step_seen(facts(0.05).now, facts(0.05).date, -1.0003), Some(LEAP));
    assert_eq!((watch.announced(), watch.armed(), watch.next()), (Leap::NoWarning, Leap::NoWarning, None));
    // The clock counts the second before midnight again, and all servers still announce.
    for seconds in [0.1, 0.9, 1.5, 100.0] {
        let again = LeapFacts { date: facts(seconds - 1.0).date, ..facts(seconds) };
        assert_eq!(watch.tend(&again), None, "{seconds}");
        assert_eq!(watch.armed(), Leap::NoWarning);
    }
    assert!(watch.is_close(facts(4.0).now) && watch.is_close(facts(-4.0).now));
    assert!(!watch.is_close(facts(5.1).now) && !watch.is_close(facts(-5.1).now));
}

#[test]
fn a_machine_that_was_busy_sees_the_step_late_and_after_a_minute_it_is_another_one() {
    for (seconds, seen) in [(59.0, Some(LEAP)), (62.0, None)] {
        let mut watch = LeapWatch::default();
        watch.tend(&facts(-30.0));
        assert_eq!(watch.step_seen(facts(seconds).now, facts(seconds).date, -1.0), seen);
    }
}

#[test]
fn a_kernel_that_does_not_make_it_is_given_up_after_two_seconds() {
    let mut watch = LeapWatch::default();
    watch.tend(&facts(-30.0));
    assert_eq!(watch.tend(&facts(0.001)), None);
    let look = watch.next_look().unwrap().seconds_since(facts(0.001).now);
    assert!((look - 0.1).abs() < 1e-6, "it is looked for often");
    assert_eq!(watch.tend(&facts(1.9)), None);
    assert_eq!(watch.tend(&facts(2.1)), Some(LeapAction::Missed(LEAP)));
    assert_eq!(watch.armed(), Leap::NoWarning);
}

#[test]
fn months_without_leap_seconds_and_late_announcements_are_not_believed() {
    let mut watch = LeapWatch::default();
    let november = LeapFacts { date: NtpDate::from_unix(MIDNIGHT - 40 * DAY_SECONDS, 0), ..facts(0.0) };
    assert_eq!(watch.tend(&november), None);
    assert_eq!(watch.tend(&facts(-0.5)), None, "no time left to prepare");
    assert_eq!(watch.tend(&facts(-1.5)), announced(LeapKnowledge::Sources, -2));
    let mut watch = LeapWatch::default();
    let lost = LeapFacts { synchronized: false, ..facts(-100.0) };
    assert_eq!(watch.tend(&lost), None, "nobody knows what time it is");
    let smeared = LeapFacts { smeared: true, ..facts(-100.0) };
    assert_eq!(watch.tend(&smeared), None);
}

#[test]
fn it_is_withdrawn_with_the_majority_but_not_in_the_last_minute_nor_with_the_sources() {
    let no_more = |seconds| LeapFacts { vote: Leap::NoWarning, ..facts(seconds) };
    let mut watch = LeapWatch::default();
    watch.tend(&facts(-100.0));
    assert_eq!(watch.tend(&LeapFacts { synchronized: false, ..no_more(-80.0) }), None);
    assert!(matches!(watch.tend(&no_more(-61.0)), Some(LeapAction::Withdrawn(_))));
    assert_eq!((watch.announced(), watch.next_look()), (Leap::NoWarning, None));
    watch.tend(&facts(-61.0));
    assert_eq!(watch.tend(&no_more(-60.0)), None);
    assert_eq!(watch.announced(), Leap::Insert);
}

#[test]
fn a_complete_table_decides_alone() {
    let mut watch = LeapWatch { table: Some(complete_without_it()), ..LeapWatch::default() };
    assert_eq!(watch.tend(&facts(-100.0)), Some(LeapAction::Contradicted(LEAP)));
    assert_eq!(watch.tend(&facts(-99.0)), None, "told once");
    let mut watch = LeapWatch { table: Some(table(Some(MIDNIGHT + 1))), ..LeapWatch::default() };
    let silent = LeapFacts { vote: Leap::NoWarning, ..facts(-1e6) };
    assert_eq!(watch.tend(&silent), announced(LeapKnowledge::Table, -1_000_000));
}

#[test]
fn an_expired_table_leaves_it_to_the_sources_but_what_it_lists_counts() {
    let expired = LeapTable::new(vec![(0, 36)], Some(MIDNIGHT - 100)).unwrap();
    let mut watch = LeapWatch { table: Some(expired), ..LeapWatch::default() };
    assert_eq!(watch.tend(&facts(-100.0)), announced(LeapKnowledge::Sources, -100));
    let mut watch = LeapWatch { table: Some(table(None)), ..LeapWatch::default() };
    let silent = LeapFacts { vote: Leap::NoWarning, ..facts(-100.0) };
    assert_eq!(watch.tend(&silent), announced(LeapKnowledge::Table, -100));
}

#[test]
fn tai_changes_when_the_clock_has_passed_it() {
    let mut watch = LeapWatch { table: Some(table(None)), ..LeapWatch::default() };
    watch.tend(&facts(-100.0));
    assert_eq!(watch.tai_offset(facts(-0.5).date), Some(36));
    assert_eq!(watch.tai_offset(facts(0.004).date), Some(36), "the kernel is late, and counts for itself");
    watch.step_seen(facts(0.01).now, facts(0.01).date, -1.0);
    assert_eq!(watch.tai_offset(facts(-0.9).date), Some(37), "the second is counted twice");
    assert_eq!(watch.tai_offset(facts(10.0).date), Some(37));
    let old = LeapTable::new(vec![(0, 36)], Some(MIDNIGHT - 100)).unwrap();
    let mut watch = LeapWatch { table: Some(old), ..LeapWatch::default() };
    watch.tend(&facts(-100.0));
    watch.step_seen(facts(0.01).now, facts(0.01).date, -1.0);
    assert_eq!(watch.tai_offset(facts(10.0).date), Some(37), "one that is not listed counts all the same");
    assert_eq!(LeapWatch::default().tai_offset(facts(0.0).date), None);
}

#[test]
fn a_clock_that_was_set_past_it_is_not_stepped() {
    let mut watch = LeapWatch::default();
    watch.tend(&facts(-100.0));
    assert_eq!(watch.tend(&facts(3600.0)), None);
    assert_eq!(watch.next(), None);
    assert_eq!(watch.last(facts(3600.0).date).map(|known| known.leap), Some(LEAP));
}
