//! The first worlds of the sweep run with the tests; `cargo xtask sim --seeds N` runs more.

#[test]
fn fifty_drawn_worlds_hold() {
    let broken: Vec<String> = (0..50)
        .filter_map(|seed| {
            chime_sim::sweep::draw(seed).check(seed).err().map(|why| format!("seed {seed}: {why}"))
        })
        .collect();
    assert!(broken.is_empty(), "replay with cargo xtask sim --seed S:\n{}", broken.join("\n"));
}
