//! The machine's battery-backed clock: looked at when one of its seconds begins, set on request, and known from a file.
//!
//! [`chime_discipline::RealTimeClock`] decides; this has the device, the file and the deadlines. chronyd's `rtcfile`.

use crate::replaced_file::{Disk, Mode, replace};
use chime_config::RealTimeClock as Wish;
use chime_control::RealTimeClockReport;
use chime_discipline::{RealTimeClock, hwclock_keeps_utc};
use chime_server::BestTime;
use chime_sys::real_time_clock::RealTimeClockDevice;
use chime_time::{MonoTime, NtpDate, NtpDuration};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use std::{fmt, fs, io};
use tracing::{error, info, warn};

/// A second that has not begun by then will not be told.
const SECOND_WAIT: Duration = Duration::from_millis(2500);
/// How often a clock that does not tell when a second begins is read while that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// After so many seconds in a row that were not told, they are looked for by reading.
const UNTOLD_MAX: u32 = 3;
/// How often the file is written at least, while something new is known.
const WRITE_INTERVAL: Duration = Duration::from_secs(3600);

/// The device, as tests can have one of their own.
pub trait RtcDevice: fmt::Debug {
    /// The second that it shows; Unix seconds.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self) -> io::Result<i64>;

    /// Has it show a second, from now on.
    ///
    /// # Errors
    /// When it cannot be set.
    fn set(&self, unix_seconds: i64) -> io::Result<()>;

    /// By how much it is ahead of the second that it was set to a moment ago, seconds.
    fn ahead_when_set(&self) -> f64 {
        0.0
    }

    /// Has it tell when a second begins, or not any more.
    ///
    /// # Errors
    /// When it cannot.
    fn tell_updates(&self, on: bool) -> io::Result<()>;

    /// Whether a second began since this was last asked.
    ///
    /// # Errors
    /// When the device is gone.
    fn take_update(&self) -> io::Result<bool>;

    /// What becomes readable when a second begins.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

impl RtcDevice for RealTimeClockDevice {
    fn read(&self) -> io::Result<i64> {
        Self::read(self)
    }

    fn set(&self, unix_seconds: i64) -> io::Result<()> {
        Self::set(self, unix_seconds)
    }

    fn ahead_when_set(&self) -> f64 {
        Self::ahead_when_set(self)
    }

    fn tell_updates(&self, on: bool) -> io::Result<()> {
        Self::tell_updates(self, on)
    }

    fn take_update(&self) -> io::Result<bool> {
        Self::take_update(self)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// Our own time, as well as we know it.
#[derive(Clone, Copy, Debug)]
pub struct OurTime {
    /// The clocks, and what is to be added to the system clock.
    pub best: BestTime,
    /// Whether that is good enough to set another clock by.
    pub is_right: bool,
}

impl OurTime {
    fn best(&self) -> NtpDate {
        self.best.now.system + NtpDuration::from_secs_f64(self.best.correction)
    }

    const fn mono(&self) -> MonoTime {
        self.best.now.mono
    }
}

/// One look, for the log.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RtcLook {
    /// When, by our best time; Unix seconds.
    pub unix_seconds: f64,
    /// By how much the real-time clock was seen to be fast, seconds.
    pub fast: f64,
    /// Seconds to the next look.
    pub period: u32,
}

/// What is being done.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing, until then.
    Resting(MonoTime),
    /// The next second is waited for. `skip`: the device may tell of one that is past.
    Listening { skip: bool, until: MonoTime },
    /// The same by reading: when it was last read, and what it showed.
    Polling { last: Option<(NtpDate, i64)>, next: MonoTime, until: MonoTime },
    /// It is set then: when it would begin its seconds with ours.
    Setting(MonoTime),
}

/// A real-time clock that is looked at.
#[derive(Debug)]
pub struct RtcShell {
    device: Box<dyn RtcDevice>,
    wish: Wish,
    clock: RealTimeClock,
    phase: Phase,
    /// Our time when it was last asked how far it went forward by corrections.
    last: Option<BestTime>,
    /// Whether the device tells when a second begins.
    tells: bool,
    /// Seconds in a row that it did not tell.
    untold: u32,
    write_due: MonoTime,
}

/// Whether the clock keeps UTC: as hwclock's file says, or as is configured.
#[must_use]
pub fn keeps_utc(wish: &Wish) -> bool {
    let Some(path) = &wish.adjtime_file else { return wish.keeps_utc };
    let said = fs::read_to_string(path).ok().and_then(|text| hwclock_keeps_utc(&text));
    said.unwrap_or_else(|| {
        warn!("Could not read RTC LOCAL/UTC setting from {}", path.display());
        wish.keeps_utc
    })
}

/// Opens the device of `wish`; says why where that is not possible.
#[must_use]
pub fn open_device(wish: &Wish) -> Option<RealTimeClockDevice> {
    let opened = RealTimeClockDevice::open(&wish.device, keeps_utc(wish));
    opened.inspect_err(|error| warn!("Could not open RTC device {} : {error}", wish.device.display())).ok()
}

impl RtcShell {
    /// Opens the clock where one is wished for; before privileges are given up. The daemon keeps time without.
    #[must_use]
    pub fn open(wish: &Wish, now: MonoTime) -> Option<Self> {
        wish.file.as_ref()?;
        let device = open_device(wish);
        let shell = device.and_then(|device| Self::new(Box::new(device), wish.clone(), now));
        if shell.is_none() {
            warn!("RTC driver could not be initialised");
        }
        shell
    }

    /// A clock that is looked at at once; `None` when it cannot be read.
    #[must_use]
    pub fn new(device: Box<dyn RtcDevice>, wish: Wish, now: MonoTime) -> Option<Self> {
        if let Err(error) = device.read() {
            warn!("Could not read RTC time from {} : {error}", wish.device.display());
            return None;
        }
        let tells = device.tell_updates(true).and_then(|()| device.tell_updates(false));
        if let Err(error) = &tells {
            info!("Could not enable RTC interrupt : {error}; its seconds are looked for by reading it");
        }
        Some(Self {
            device,
            wish,
            clock: RealTimeClock::default(),
            phase: Phase::Resting(now),
            last: None,
            tells: tells.is_ok(),
            untold: 0,
            write_due: now.saturating_add(WRITE_INTERVAL),
        })
    }

    /// What to wait for, while a second is waited for.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        matches!(self.phase, Phase::Listening { .. }).then(|| self.device.descriptor()).flatten()
    }

    /// When [`RtcShell::handle_timeout`] is to be called.
    #[must_use]
    pub const fn poll_timeout(&self) -> MonoTime {
        match self.phase {
            Phase::Resting(at) | Phase::Setting(at) => at,
            Phase::Listening { until, .. } => until,
            Phase::Polling { next, .. } => next,
        }
    }

    /// The device has something to tell.
    pub fn handle_ready(&mut self, time: OurTime) -> Option<RtcLook> {
        let Phase::Listening { skip, .. } = self.phase else { return None };
        match self.device.take_update() {
            Ok(false) => None,
            Ok(true) if skip => {
                self.listen(time.mono(), false);
                None
            }
            Ok(true) => {
                self.untold = 0;
                let shown = self.device.read();
                self.looked(time, time.best(), shown)
            }
            Err(error) => self.looked(time, time.best(), Err(error)),
        }
    }

    /// A deadline has come, or not: early calls are harmless.
    pub fn handle_timeout(&mut self, time: OurTime) -> Option<RtcLook> {
        let now = time.mono();
        if now < self.poll_timeout() {
            return None;
        }
        match self.phase {
            Phase::Resting(_) => {
                if now >= self.write_due {
                    self.write();
                    self.write_due = now.saturating_add(WRITE_INTERVAL);
                }
                self.listen(now, true);
            }
            Phase::Listening { .. } => {
                self.untold += 1;
                if self.untold == UNTOLD_MAX {
                    warn!("RTC interrupts do not come; its seconds are looked for by reading it");
                    self.tells = false;
                }
                self.rest(now);
            }
            Phase::Polling { last, until, .. } => return self.poll(time, last, until),
            Phase::Setting(_) => self.set(time),
        }
        None
    }

    /// The machine slept, and its real-time clock did not.
    pub const fn forget(&mut self) {
        self.last = None;
    }

    /// What went forward since this was last called is our time, and not the real-time clock. To be called before each look.
    pub fn follow(&mut self, time: OurTime) {
        if let Some(last) = self.last.replace(time.best) {
            self.clock.moved(time.best.gone_forward(&last));
        }
    }

    /// Has the clock set, when it is off by enough for that to make it better.
    pub fn trim(&mut self, time: OurTime) {
        if self.clock.is_off_by(0.0) && !matches!(self.phase, Phase::Setting(_)) {
            let fast = self.clock.estimate().map_or(0.0, |estimate| estimate.fast);
            info!("RTC wrong by {fast:.3} seconds (step)");
            self.end_listening();
            self.phase = Phase::Setting(next_second(time, self.device.ahead_when_set()));
        }
    }

    /// Writes what is known to the file; false when that was not possible.
    pub fn write(&self) -> bool {
        let (Some(estimate), Some(path)) = (self.clock.estimate(), &self.wish.file) else { return true };
        let written = replace(&Disk, path, estimate.line().as_bytes(), Mode::PUBLIC);
        if let Err(error) = &written {
            error!("Could not write {} : {error}", path.display());
        }
        written.is_ok()
    }

    /// The state of everything.
    #[must_use]
    pub fn report(&self) -> RealTimeClockReport {
        let summary = self.clock.summary();
        let estimate = summary.estimate;
        RealTimeClockReport {
            reference_unix_seconds: estimate.map_or(0, |estimate| estimate.at),
            known: estimate.is_some(),
            samples: summary.samples,
            runs: summary.runs,
            span_seconds: summary.span,
            fast_seconds: estimate.map_or(0.0, |estimate| estimate.fast),
            rate_ppm: estimate.map_or(0.0, |estimate| estimate.rate * 1e6),
        }
    }

    fn listen(&mut self, now: MonoTime, skip: bool) {
        let until = now.saturating_add(SECOND_WAIT);
        let was_off = !matches!(self.phase, Phase::Listening { .. });
        if self.tells
            && was_off
            && let Err(error) = self.device.tell_updates(true)
        {
            warn!("Could not enable RTC interrupt : {error}");
            self.tells = false;
        }
        self.phase = if self.tells {
            Phase::Listening { skip, until }
        } else {
            Phase::Polling { last: None, next: now, until }
        };
    }

    fn end_listening(&mut self) {
        if matches!(self.phase, Phase::Listening { .. })
            && let Err(error) = self.device.tell_updates(false)
        {
            warn!("Could not disable RTC interrupt : {error}");
        }
    }

    fn rest(&mut self, now: MonoTime) {
        self.end_listening();
        self.phase = Phase::Resting(now.saturating_add(Duration::from_secs(u64::from(self.clock.period()))));
    }

    /// A second has begun when the clock shows another one than before.
    fn poll(&mut self, time: OurTime, last: Option<(NtpDate, i64)>, until: MonoTime) -> Option<RtcLook> {
        let (now, best) = (time.mono(), time.best());
        match (self.device.read(), last) {
            (Ok(shown), Some((before, last))) if shown != last => {
                self.looked(time, middle(before, best), Ok(shown))
            }
            (Ok(shown), _) if now < until => {
                let next = now.saturating_add(POLL_INTERVAL);
                self.phase = Phase::Polling { last: Some((best, shown)), next, until };
                None
            }
            (Ok(_), _) => {
                self.rest(now);
                None
            }
            (Err(error), _) => self.looked(time, best, Err(error)),
        }
    }

    /// A second began at `at`, and the clock shows which, unless it cannot be read.
    fn looked(&mut self, time: OurTime, at: NtpDate, shown: io::Result<i64>) -> Option<RtcLook> {
        let now = time.mono();
        let shown = match shown {
            Ok(shown) => shown,
            Err(error) => {
                warn!("Could not read RTC : {error}");
                self.rest(now);
                return None;
            }
        };
        let fast = (NtpDate::from_unix(shown, 0) - at).as_secs_f64();
        let was_bursting = self.clock.is_bursting();
        self.clock.look(shown, fast);
        if self.clock.is_bursting() {
            self.listen(now, false);
        } else {
            self.rest(now);
            if was_bursting {
                self.write();
            }
        }
        if time.is_right && self.wish.trim_threshold.is_some_and(|threshold| self.clock.is_off_by(threshold))
        {
            self.trim(time);
        }
        Some(RtcLook { unix_seconds: at.unix_seconds_f64(), fast, period: self.clock.period() })
    }

    fn set(&mut self, time: OurTime) {
        let now = time.mono();
        let best = time.best();
        let ahead = NtpDuration::from_secs_f64(self.device.ahead_when_set());
        let second = (best - ahead + NtpDuration::from_nanos(500_000_000)).unix_seconds();
        if let Err(error) = self.device.set(second) {
            error!("Could not set RTC time : {error}");
            self.rest(now);
            return;
        }
        let fast = self.clock.estimate().map_or(0.0, |estimate| estimate.fast);
        self.clock.was_set((NtpDate::from_unix(second, 0) + ahead - best).as_secs_f64() - fast);
        self.phase = Phase::Resting(now);
        self.listen(now, true);
    }
}

impl Drop for RtcShell {
    fn drop(&mut self) {
        self.end_listening();
    }
}

/// When a second began that was not there `before` and is `after`, as nothing better is known.
pub(crate) fn middle(before: NtpDate, after: NtpDate) -> NtpDate {
    before + NtpDuration::from_secs_f64((after - before).as_secs_f64() / 2.0)
}

/// When our best time next shows a whole second, and `beyond` of the next one.
fn next_second(time: OurTime, beyond: f64) -> MonoTime {
    let rest = 1.0 - f64::from(time.best().subsec_nanos()) * 1e-9;
    time.mono().add_secs_f64((rest + beyond) % 1.0)
}

#[cfg(test)]
mod tests;
