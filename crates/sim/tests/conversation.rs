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
    2.047  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    2.049  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    4.060  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    4.062  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    6.108  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    6.110  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    ");
}

#[test]
fn a_server_that_lost_its_keys() {
    let scenario = Scenario::client_of(1).nts();
    insta::assert_snapshot!(ladder(&scenario, 100.0, minutes(2.5), Some(Action::LoseKeys(0))), @r"
    133.253  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    133.255  s>c  response  v4 kiss=NTSN unique-id  (84 octets)
    138.281  c>s  request   v4 unique-id cookie authenticator  (196 octets)
    138.283  s>c  response  v4 stratum=1 unique-id authenticator  (196 octets)
    ");
}

#[test]
fn a_plain_client() {
    insta::assert_snapshot!(ladder(&Scenario::client_of(1), 0.0, 4.0, None), @r"
    0.072  c>s  request   v4  (48 octets)
    0.074  s>c  response  v4 stratum=1  (48 octets)
    2.132  c>s  request   v4  (48 octets)
    2.134  s>c  response  v4 stratum=1  (48 octets)
    ");
}
