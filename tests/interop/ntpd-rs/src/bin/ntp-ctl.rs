//! ntpd-rs's `ntp-ctl`, as its crate has it.

use std::error::Error;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    Ok(ntpd::ctl_main()?)
}
