#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| truechimer_fuzz_targets::server::signing_reply(octets));
