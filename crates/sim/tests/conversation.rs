//! What goes over the wire, as ladders that a change of behaviour shows up in.

use chime_sim::{Action, Scenario, minutes};

fn ladder(scenario: &Scenario, from: f64, to: f64, action: Option<Action>) -> String {
    let mut world = scenario.world(1);
    world.run(from, &mut |_| {});
    if let Some(action) = action {
        world.act(&action);
    }
    world.record_ladder();
    world.run(to, &mut |_| {});
    world.ladder.iter().map(|line| line.trim_start()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_first_requests_of_an_nts_client() {
    insta::assert_snapshot!(ladder(&Scenario::client_of(1).nts(), 0.0, 8.0, None), @r"
    0.028  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    0.030  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    2.012  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    2.014  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    3.989  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    3.991  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    6.010  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    6.012  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    ");
}

#[test]
fn a_server_that_lost_its_keys() {
    let scenario = Scenario::client_of(1).nts();
    insta::assert_snapshot!(ladder(&scenario, 100.0, minutes(2.5), Some(Action::LoseKeys(0))), @r"
    103.292  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    103.294  s>c  response  v4 kiss=NTSN unique-id  (84 octets)
    108.320  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    108.322  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    124.005  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    124.007  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    139.887  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    139.889  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    ");
}

#[test]
fn a_plain_client() {
    insta::assert_snapshot!(ladder(&Scenario::client_of(1), 0.0, 4.0, None), @r"
    0.072  c>s  request   v4  (48 octets)
    0.074  s>c  response  v4 stratum=1  (48 octets)
    2.109  c>s  request   v4  (48 octets)
    2.111  s>c  response  v4 stratum=1  (48 octets)
    ");
}
