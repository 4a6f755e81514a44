//! A responder's environment that is the same in every run.

use chime_server::Environment;
use chime_time::NtpTimestamp;

pub(crate) struct Fixed;

impl Environment for Fixed {
    fn system_time(&mut self) -> NtpTimestamp {
        NtpTimestamp::from_bits(4_000_000_001 << 32)
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        octets.fill(7);
    }
}
