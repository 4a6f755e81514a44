//! Notes when the daemon was built: a time that is certainly past when it runs, for clocks that do not know better.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    // Distributions want builds that can be repeated to the bit, and say the time in this variable.
    let stated = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse::<u64>().ok());
    let seconds =
        stated.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
    println!("cargo::rustc-env=CHIMED_BUILD_UNIX_SECONDS={seconds}");
}
