//! The last samples of a source as they were measured, for a restart: the next run measures with the same clock.

use crate::correction::ClockPoint;
use crate::{Lever, Sample};
use chime_time::{MonoTime, NtpDuration};
use std::collections::VecDeque;

/// Samples kept of one source.
const SAMPLES_MAX: usize = 64;

/// Samples with the state of the clock when they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<(Sample, ClockPoint)>,
}

impl History {
    pub(crate) fn note(&mut self, sample: Sample, clock: ClockPoint) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((sample, clock));
    }

    /// The newest sample.
    pub(crate) fn last(&self) -> Option<(Sample, ClockPoint)> {
        self.samples.back().copied()
    }

    pub(crate) fn clear(&mut self) {
        self.samples.clear();
    }

    /// The clock was stepped by so much.
    pub(crate) fn step(&mut self, by: NtpDuration) {
        for (sample, _) in &mut self.samples {
            sample.offset -= by;
        }
    }

    /// The samples, oldest first, as a clock would have measured them that had always run at `frequency`, s per s, and is
    /// at `clock` at `now`: so they are right for whoever knows nothing but that frequency.
    pub(crate) fn rebased(
        &self,
        now: MonoTime,
        clock: ClockPoint,
        frequency: f64,
        mono_is_slewed: bool,
    ) -> Vec<Sample> {
        let pace = if mono_is_slewed { 1.0 + frequency } else { 1.0 };
        self.samples
            .iter()
            .map(|(sample, then)| {
                let free = clock.free - then.free;
                let moved = clock.correction - then.correction;
                Sample {
                    at: now.add_secs_f64(-free * pace),
                    offset: sample.offset + NtpDuration::from_secs_f64(frequency * free - moved),
                    delay: NtpDuration::from_secs_f64(sample.delay_at(frequency)),
                    lever: Lever::default(),
                    ..*sample
                }
            })
            .collect()
    }
}
