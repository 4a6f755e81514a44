//! truechimer-guest

fn main() {}
