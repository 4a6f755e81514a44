//! The first worlds of the sweep run with the tests; `cargo xtask sim --seeds N` runs more.

#[test]
fn fifty_drawn_worlds_hold() {
    let broken: Vec<String> = chime_sim::sweep::run(0..50)
        .into_iter()
        .map(|(seed, why)| format!("seed {seed}: {why}; replay: cargo xtask sim --seed {seed}"))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
