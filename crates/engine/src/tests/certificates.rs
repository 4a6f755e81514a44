//! Certificates when our own clock may be wrong. The rules are in `certificate_dates`.

use super::world::{
    Asked, BEGIN, BUILD, Changes, World, answer, config, good_nts, nts_answer, outcome_with, reached,
};
use crate::{Authentication, CertificateDatesPolicy, Config, DiscardReason, Event, NtsSource, SourceConfig};
use chime_time::{NtpDate, NtpDuration};
use chime_wire::Header;

const DAY: i64 = 86_400;
const YEAR: i64 = 31_557_600;

/// A server that offers a time `shift` seconds from the true one.
fn shifted(shift: i64) -> impl Fn(&Asked<'_>) -> Vec<super::world::Answer> {
    move |asked| {
        let change = |header: &mut Header| {
            let shift = NtpDuration::from_seconds(shift);
            header.receive = header.receive + shift;
            header.transmit = header.transmit + shift;
            header.reference = header.reference + shift;
        };
        vec![nts_answer(asked, &Changes { header: Some(&change), ..Changes::default() })]
    }
}

/// A world with one NTS server whose certificate has these dates, and a clock that is wrong by so many seconds.
fn world(dates: (i64, i64), clock_error: i64, shift: i64, change: impl Fn(&mut Config)) -> World {
    let mut settings = config(vec![SourceConfig::nts("nts.example")]);
    settings.discipline.step.startup_panic.backward = None;
    change(&mut settings);
    let mut world = World::with_config(settings, clock_error as f64);
    world.name("nts.example", &["192.0.2.1"]);
    world.server("192.0.2.1:123", shifted(shift));
    world.ke("nts.example", move |request, ring| {
        (reached(request), Ok(outcome_with(request, ring, dates.0, dates.1)))
    });
    world
}

fn refusals(world: &World) -> Vec<DiscardReason> {
    let reason = |event: &Event| match event {
        Event::CertificateRefused { reason, .. } => Some(*reason),
        _ => None,
    };
    world.events.iter().filter_map(reason).collect()
}

const VALID: (i64, i64) = (BEGIN - 30 * DAY, BEGIN + 60 * DAY);

#[test]
fn a_clock_of_1970_is_set_by_a_valid_certificate() {
    for error in [-BEGIN, -DAY, DAY, 400 * DAY] {
        let mut world = world(VALID, error, 0, |_| ());
        world.run_for(60.0);
        assert!(world.clock_error.as_secs_f64().abs() < 0.01, "{error}: {:?}", world.clock_error);
        let (_, request) = &world.establishments[0];
        assert!(!request.check_dates && request.unix_now_lower_bound >= BUILD, "{error}");
        assert!(!world.source().authentication.certificate_provisional, "judged once the clock is right");
        assert!(refusals(&world).is_empty());
    }
}

#[test]
fn with_a_clock_that_is_known_to_be_right_dates_are_checked_in_the_handshake() {
    let mut world = world(VALID, 0, 0, |_| ());
    world.run_for(60.0);
    world.engine.associations[0].nts_mut().expect("it is NTS").wants_keys = true;
    world.run_for(600.0);
    let (_, request) = &world.establishments[1];
    assert!(request.check_dates);
    let off = request.unix_now_lower_bound - world.reading().system.unix_seconds();
    assert!((-700..=0).contains(&off), "{off}");

    let mut trusted = self::world(VALID, 0, 0, |config| config.known_time.system_clock_trusted = true);
    trusted.run_for(1.0);
    assert!(trusted.establishments[0].1.check_dates);
}

#[test]
fn a_certificate_that_certainly_expired_is_refused_before_any_request() {
    let mut world = world((BUILD - YEAR, BUILD - 1), 0, 0, |_| ());
    world.run_for(100.0);
    assert_eq!(refusals(&world)[0], DiscardReason::CertificateExpired);
    assert!(world.sent.is_empty());
    let report = &world.report().establishments[0];
    assert_eq!(report.failed[0].0, "certificate-expired");
    assert!(report.last_error.as_ref().is_some_and(|error| error.contains("expired at the measured time")));
}

#[test]
fn a_certificate_that_expired_after_the_build_is_refused_at_the_measured_time() {
    for (dates, reason) in [
        ((BEGIN - YEAR, BEGIN - DAY), DiscardReason::CertificateExpired),
        ((BEGIN + DAY, BEGIN + YEAR), DiscardReason::CertificateNotYetValid),
    ] {
        let mut world = world(dates, -DAY * 5, 0, |_| ());
        world.run_for(600.0);
        assert_eq!(refusals(&world)[0], reason);
        assert_eq!((world.samples(), world.source().remote), (0, None));
        assert_eq!(world.clock_error, NtpDuration::from_seconds(-DAY * 5), "the clock is left alone");
        assert!(world.establishments.len() <= 5, "and the server is not asked all the time");
    }
}

/// The attacker has the key of a certificate that expired, and offers a time at which it was still valid.
#[test]
fn an_attacker_with_an_expired_certificate_does_not_win_by_offering_its_own_old_time() {
    let stolen = (BEGIN - 400 * DAY, BEGIN - 200 * DAY);
    for shift in [-300 * DAY, -201 * DAY, -200 * DAY + 1, 0] {
        let mut world = world(stolen, 0, shift, |config| {
            config.known_time.last_good_unix_seconds = Some(BEGIN - DAY);
        });
        world.run_for(600.0);
        assert_eq!(world.samples(), 0, "{shift}");
        assert_eq!(refusals(&world)[0], DiscardReason::CertificateExpired);
    }
    // The certificate was valid at the last good time, but the time that it offers is before that.
    let recent = (BEGIN - 400 * DAY, BEGIN - DAY);
    let mut world = world(recent, 0, -10 * DAY, |config| {
        config.known_time.last_good_unix_seconds = Some(BEGIN - 5 * DAY);
    });
    world.run_for(600.0);
    assert_eq!((world.samples(), refusals(&world)[0]), (0, DiscardReason::BeforeLowerBound));
    assert_eq!(world.clock_error, NtpDuration::ZERO);
}

fn many(honest: usize, liars: usize) -> World {
    let names: Vec<String> = (0..honest + liars).map(|at| format!("nts{at}.example")).collect();
    let mut settings = config(names.iter().map(|name| SourceConfig::nts(name)).collect());
    settings.discipline.step.startup_panic.backward = None;
    let mut world = World::with_config(settings, -3600.0);
    for (at, name) in names.iter().enumerate() {
        let address = format!("192.0.2.{at}");
        world.name(name, &[&address]);
        // The liars' stolen certificate expired a month ago, and they offer a time of two months ago: later than the
        // build date, which is all the lower bound that there is.
        let (dates, shift) =
            if at < liars { ((BEGIN - 300 * DAY, BEGIN - 30 * DAY), -60 * DAY) } else { (VALID, 0) };
        world.server(&format!("{address}:123"), shifted(shift));
        world.ke(name, move |request, ring| {
            (reached(request), Ok(outcome_with(request, ring, dates.0, dates.1)))
        });
    }
    world
}

#[test]
fn the_authenticated_majority_judges_certificates_that_a_lower_bound_cannot() {
    let mut world = many(3, 2);
    world.run_for(120.0);
    assert!(world.clock_error.as_secs_f64().abs() < 0.01, "{:?}", world.clock_error);
    let refused = refusals(&world);
    assert!(refused.len() >= 2 && refused.iter().all(|reason| *reason == DiscardReason::CertificateExpired));
    let liars = &world.report().sources[..2];
    assert!(liars.iter().all(|source| source.remote.is_none()), "{liars:?}");
    let steps: Vec<f64> = world
        .commands
        .iter()
        .filter_map(|command| match command {
            chime_discipline::ClockCommand::Step { by } => Some(by.as_secs_f64()),
            _ => None,
        })
        .collect();
    assert!(steps.iter().all(|step| step.abs() < 4000.0), "no step to the liars' time: {steps:?}");
}

#[test]
fn the_first_samples_wait_for_a_quorum_but_not_for_long() {
    let mut world = many(1, 0);
    world.run_for(0.5);
    assert_eq!((world.samples(), world.discarded(DiscardReason::AwaitingJudgement)), (1, 0));
    // Two of three never answer: the wait ends by itself.
    let mut world = many(3, 0);
    world.server("192.0.2.1:123", |_| Vec::new());
    world.server("192.0.2.2:123", |_| Vec::new());
    world.run_for(5.0);
    assert_eq!(world.samples(), 0);
    assert!(world.discarded(DiscardReason::AwaitingJudgement) >= 2);
    world.run_for(60.0);
    assert!(world.samples() >= 3);
}

#[test]
fn the_operators_exception_checks_no_dates_and_the_strict_policy_checks_them_at_once() {
    let with = |policy| {
        let nts = NtsSource { certificate_dates: policy, ..NtsSource::default() };
        let source =
            SourceConfig { authentication: Authentication::Nts(nts), ..SourceConfig::nts("nts.example") };
        let mut world =
            world((BEGIN - YEAR, BEGIN - DAY), 0, 0, |config| config.sources = vec![source.clone()]);
        world.run_for(60.0);
        world
    };
    let never = with(CertificateDatesPolicy::Never);
    assert!(never.samples() > 3 && !never.establishments[0].1.check_dates);
    let always = with(CertificateDatesPolicy::Always);
    assert!(always.establishments[0].1.check_dates);
    assert_eq!(always.establishments[0].1.unix_now_lower_bound, BEGIN);
}

/// chrony's `nocerttimecheck`: the keys that were established then stay, and the next ones are checked again.
#[test]
fn dates_are_not_looked_at_until_the_clock_was_updated_so_often() {
    let with = |updates| {
        let mut world = world((BEGIN - YEAR, BEGIN - DAY), 0, 0, |config| {
            config.unchecked_dates_updates = updates;
            // New keys every ten minutes.
            config.nts_refresh_seconds = 600;
        });
        world.run_for(3600.0);
        world
    };
    let checked = with(0);
    assert_eq!(checked.samples(), 0);
    assert!(refusals(&checked).contains(&DiscardReason::CertificateExpired), "{:?}", refusals(&checked));
    let excepted = with(1);
    assert!(excepted.samples() > 3 && !excepted.establishments[0].1.check_dates);
    let later = &excepted.establishments[1..];
    assert!(!later.is_empty() && later.iter().all(|(_, asked)| asked.check_dates), "{}", later.len());
}

#[test]
fn the_last_good_time_follows_authenticated_synchronisation_only() {
    let mut world = World::with_nts_server();
    assert_eq!(world.engine.clock_state().last_good_unix_seconds, None);
    world.run_for(600.0);
    let saved = world.engine.clock_state().last_good_unix_seconds.expect("it is synchronised");
    assert!((BEGIN + 300..=BEGIN + 600).contains(&saved), "{}", saved - BEGIN);

    let mut plain = World::new(vec![SourceConfig::server("192.0.2.1")]);
    plain.server("192.0.2.1:123", super::world::good_plain);
    plain.run_for(600.0);
    assert!(plain.report().tracking.synchronized);
    assert_eq!(plain.engine.clock_state().last_good_unix_seconds, None);
}

#[test]
fn what_unauthenticated_sources_say_judges_no_certificate() {
    // Plain sources set the clock two months back, to where a stolen certificate was valid.
    let mut settings = config(vec![SourceConfig::nts("nts.example"), SourceConfig::server("192.0.2.9")]);
    settings.known_time.last_good_unix_seconds = Some(BEGIN - DAY);
    let mut world = World::with_config(settings, 0.0);
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", |request, ring| {
        (reached(request), Ok(outcome_with(request, ring, BEGIN - YEAR, BEGIN - 30 * DAY)))
    });
    world.server("192.0.2.1:123", good_nts);
    world.server("192.0.2.9:123", |asked| {
        let mut header = super::world::good_header(asked);
        header.receive = header.receive - NtpDuration::from_seconds(60 * DAY);
        header.transmit = header.transmit - NtpDuration::from_seconds(60 * DAY);
        vec![answer(asked, header.encode().to_vec())]
    });
    world.run_for(600.0);
    assert!(world.establishments.iter().all(|(_, request)| !request.check_dates));
    assert!(world.sent.iter().all(|(_, to, _)| *to == super::world::at("192.0.2.9:123")));
}

#[test]
fn a_server_of_the_next_era_is_understood() {
    // 2040: era 1. The machine starts in 1980 with a build of 2039.
    let truth = 2_208_988_800;
    let mut settings = config(vec![SourceConfig::nts("nts.example")]);
    settings.known_time.build_unix_seconds = truth - YEAR;
    let error = NtpDuration::from_seconds(10 * YEAR - BEGIN).as_secs_f64();
    let mut world = World::with_config(settings, error);
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", move |request, ring| {
        (reached(request), Ok(outcome_with(request, ring, truth - YEAR, truth + YEAR)))
    });
    world.server("192.0.2.1:123", shifted(truth - BEGIN));
    world.run_for(120.0);
    let system = world.reading().system;
    let off = (system - NtpDate::from_unix(truth, 0)).as_secs_f64();
    assert!((119.0..121.0).contains(&off), "{off}");
    assert!(refusals(&world).is_empty(), "{:?}", refusals(&world));
}
