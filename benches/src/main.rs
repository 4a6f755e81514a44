//! truechimer-benches

fn main() {}
