//! The clock driver alone, on the guest's kernel: does the clock do what it is told, with the right sign and size?

use crate::lab::PROBE;
use crate::probe::compare;
use crate::report::Event;
use anyhow::Result;
use chime_sys::adjust::{ClockDriver, KernelClock, KernelStatus, LeapSecond, kernel_state};
use chime_sys::clock;
use chime_sys::udp::{UdpOptions, UdpSocket};
use chime_time::{Frequency, NtpDuration};
use std::thread;
use std::time::Duration;

/// How long a frequency is measured.
const MEASURING: Duration = Duration::from_secs(2);

/// What a comparison of clocks is good to, in seconds, on a loaded machine.
const COMPARISON_ERROR: f64 = 500e-6;

/// What a measured frequency is good to, in ppm.
pub(crate) const FREQUENCY_ERROR_PPM: f64 = COMPARISON_ERROR / 2.0 * 1e6;

/// Frequencies of every size: by `freq` alone, by the tick, and to the end of the range.
const FREQUENCIES_PPM: [f64; 7] = [-30.0, 480.0, -1_234.5, 83_333.0, -83_333.0, 100_000.0, -100_000.0];

/// Steps there and back, in seconds.
const STEPS: [f64; 4] = [1.5, -0.25, 86_400.0, -86_401.25];

/// Exercises the driver, and reports each result as a check.
pub(crate) fn run() -> Result<()> {
    let mut driver = KernelClock::take_over()?;
    check("unsynchronised once taken over", 0.0, f64::from(kernel_state()?.synchronized), 0.5);
    for seconds in STEPS {
        step(&mut driver, seconds)?;
    }
    let natural = measured_ppm(&mut driver, 0.0)?;
    for ppm in FREQUENCIES_PPM {
        let measured = measured_ppm(&mut driver, ppm)? - natural;
        check(&format!("frequency {ppm} ppm"), ppm, measured, FREQUENCY_ERROR_PPM);
        let shown = kernel_state()?.frequency.as_ppm();
        check(&format!("frequency {ppm} ppm, as the kernel shows it"), ppm, shown, 1e-4);
    }
    driver.set_frequency(Frequency::ZERO)?;
    status(&mut driver)?;
    driver.set_tai_offset(37)?;
    check("TAI minus UTC", 37.0, f64::from(kernel_state()?.tai_offset), 0.1);
    mono_and_system_agree(&mut driver)?;
    received_stamps()
}

fn step(driver: &mut KernelClock, seconds: f64) -> Result<()> {
    let before = compare(PROBE)?.error;
    let done = driver.step(NtpDuration::from_secs_f64(seconds))?.as_secs_f64();
    let moved = compare(PROBE)?.error - before;
    check(&format!("step by {seconds} s"), seconds, moved, COMPARISON_ERROR);
    check(&format!("step by {seconds} s, as returned"), seconds, done, 1e-9);
    Ok(())
}

/// Sets a frequency, and measures how fast the clock runs against the host's, in ppm.
fn measured_ppm(driver: &mut KernelClock, ppm: f64) -> Result<f64> {
    driver.set_frequency(Frequency::from_ppm(ppm))?;
    running_ppm()
}

/// How fast the clock runs against the host's, in ppm, good to [`FREQUENCY_ERROR_PPM`].
pub(crate) fn running_ppm() -> Result<f64> {
    // The kernel changes the pace at its next tick.
    thread::sleep(Duration::from_millis(50));
    let before = compare(PROBE)?;
    thread::sleep(MEASURING);
    let after = compare(PROBE)?;
    // By the instants of the two comparisons themselves: on a busy machine the best answer may be an early or a late one.
    let guest_seconds = (after.at - before.at) as f64 * 1e-9;
    let gained = after.error - before.error;
    Ok(gained / (guest_seconds - gained) * 1e6)
}

fn status(driver: &mut KernelClock) -> Result<()> {
    let good = KernelStatus {
        synchronized: true,
        leap: LeapSecond::None,
        max_error: 0.02,
        est_error: 0.001,
        offset: -0.01,
    };
    driver.set_status(&good)?;
    let state = kernel_state()?;
    check("synchronised", 1.0, f64::from(state.synchronized), 0.5);
    check("largest error", 0.03, state.max_error, 2e-3);
    check("expected error", 0.011, state.est_error, 1e-6);
    driver.set_status(&KernelStatus { synchronized: false, ..good })?;
    check("not synchronised", 0.0, f64::from(kernel_state()?.synchronized), 0.5);
    Ok(())
}

/// Slewing shows in both clocks alike: their difference stays.
fn mono_and_system_agree(driver: &mut KernelClock) -> Result<()> {
    driver.set_frequency(Frequency::from_ppm(100_000.0))?;
    let before = clock::read();
    thread::sleep(Duration::from_millis(500));
    let after = clock::read();
    driver.set_frequency(Frequency::ZERO)?;
    let apart = (after.system - before.system).as_secs_f64() - after.mono.seconds_since(before.mono);
    check("difference of the two clocks over a slew", 0.0, apart, 20e-6);
    Ok(())
}

/// Receive stamps are on the same clock, also after all those steps.
fn received_stamps() -> Result<()> {
    let _hold = chime_sys::udp::hold_timestamps()?;
    let options = UdpOptions { transmit_timestamps: true, ..UdpOptions::default() };
    let server = UdpSocket::bound_to(([127, 0, 0, 1], 0).into(), &options)?;
    let client = UdpSocket::connected_to(server.local_addr()?, None, &options)?;
    thread::sleep(Duration::from_millis(200));
    let sent = client.send(b"x")?;
    thread::sleep(Duration::from_millis(100));
    let received = server.recv(&mut [0; 8])?;
    let by_kernel = received.received.source == chime_sys::TimestampSource::Kernel;
    check("receive stamp by the kernel", 1.0, f64::from(by_kernel), 0.5);
    let travel = (received.received.at.system - sent.at.system).as_secs_f64();
    check("travel over loopback", 0.0, travel, 5e-3);
    Ok(())
}

/// Reports what was measured, and what it should be.
pub(crate) fn check(what: &str, expected: f64, measured: f64, tolerance: f64) {
    Event::Check { what: what.to_owned(), expected, measured, tolerance }.print();
}
