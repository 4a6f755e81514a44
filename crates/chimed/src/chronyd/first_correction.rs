//! `initstepslew`: the clock is corrected by some servers before anything else begins.

use super::POLL_SEPARATION_SECONDS;
use crate::once;
use anyhow::{Context, Result};
use chime_config::{FirstCorrection, Model, Source};
use chime_sys::adjust::{ClockDriver, KernelClock};
use chime_time::NtpDuration;
use std::time::Duration;
use tracing::{info, warn};

/// How long the servers have.
const LIMIT: Duration = Duration::from_secs(200);
/// Measurements of each that are waited for.
const SAMPLES: u32 = 3;

/// Measures by the servers of `wish`. A great offset is stepped; gives what is left to slew, in seconds forward.
///
/// # Errors
/// When the files that the model names cannot be read, or the clock cannot be set.
pub fn correct(model: &Model, wish: &FirstCorrection) -> Result<Option<f64>> {
    let sources = wish.servers.iter().map(|name| Source { iburst: true, ..Source::new(name) });
    let measured = Model { sources: sources.collect(), ..model.clone() };
    let measurement = once::measure_until(&measured, LIMIT, false, (SAMPLES, POLL_SEPARATION_SECONDS))?;
    if !measurement.trustworthy {
        warn!("No suitable source for initstepslew");
        return Ok(None);
    }
    let forward = measurement.offset_seconds();
    let is_step = forward.abs() >= wish.step_threshold;
    let (way, how) = (if forward < 0.0 { "fast" } else { "slow" }, if is_step { "step" } else { "slew" });
    info!("System's initial offset : {:.6} seconds {way} of true ({how})", forward.abs());
    if !is_step {
        return Ok(Some(forward));
    }
    let mut clock = KernelClock::take_over().context("the clock cannot be set")?;
    clock.step(NtpDuration::from_secs_f64(forward)).context("the clock cannot be stepped")?;
    Ok(None)
}
