//! chimed.

fn main() {}
