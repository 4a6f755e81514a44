//! truechimer-interop

fn main() {}
