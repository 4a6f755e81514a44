//! chime.

fn main() {}
