//! ntpd-rs's `ntp-metrics-exporter`, as its crate has it.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    ntpd::metrics_exporter_main()
}
