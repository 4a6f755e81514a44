use super::*;
use chime_time::ClockReading;
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

/// When the tests begin; Unix seconds.
const START: i64 = 1_795_771_119;

/// A clock of the test's, which shows what it shows in the test's time.
#[derive(Debug, Default)]
struct Simulated {
    /// Seconds since [`START`].
    now: Cell<f64>,
    /// By how much it is fast at the start, and what it gains, s per s.
    fast: Cell<f64>,
    rate: f64,
    without_updates: bool,
    broken: bool,
    ahead_when_set: f64,
    updates: Cell<bool>,
    /// The second of which it told last.
    told: Cell<i64>,
}

impl Simulated {
    fn shown(&self) -> f64 {
        self.now.get() * (1.0 + self.rate) + self.fast.get()
    }

    #[expect(clippy::cast_possible_truncation, reason = "seconds of a test are few")]
    fn second(&self) -> i64 {
        self.shown().floor() as i64
    }
}

/// The device of a shell, whose other end the test has.
#[derive(Debug)]
struct Device(Rc<Simulated>);

impl RtcDevice for Device {
    fn read(&self) -> io::Result<i64> {
        if self.0.broken { Err(io::Error::other("no battery")) } else { Ok(START + self.0.second()) }
    }

    fn set(&self, unix_seconds: i64) -> io::Result<()> {
        let shows = (unix_seconds - START) as f64 + self.0.ahead_when_set;
        self.0.fast.set(shows - self.0.now.get() * (1.0 + self.0.rate));
        Ok(())
    }

    fn ahead_when_set(&self) -> f64 {
        self.0.ahead_when_set
    }

    fn tell_updates(&self, on: bool) -> io::Result<()> {
        if self.0.without_updates {
            return Err(io::Error::from_raw_os_error(22));
        }
        self.0.updates.set(on);
        self.0.told.set(self.0.second());
        Ok(())
    }

    fn take_update(&self) -> io::Result<bool> {
        Ok(self.0.updates.get() && self.0.told.replace(self.0.second()) != self.0.second())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A shell, its device, and time that goes by in small steps.
struct Bench {
    device: Rc<Simulated>,
    shell: RtcShell,
    /// By how much the system clock is behind.
    behind: f64,
    /// By how much our best time is ahead of the true one.
    error: f64,
    is_right: bool,
    looks: Vec<RtcLook>,
    _folder: tempfile::TempDir,
    file: PathBuf,
}

const STEP: f64 = 1e-3;

fn bench(device: Simulated, trim_threshold: Option<f64>) -> Bench {
    let device = Rc::new(device);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rtc");
    let wish = Wish { file: Some(file.clone()), trim_threshold, ..Wish::default() };
    let shell =
        RtcShell::new(Box::new(Device(device.clone())), wish, MonoTime::ZERO).expect("it can be read");
    Bench { device, shell, behind: 0.0, error: 0.0, is_right: true, looks: Vec::new(), _folder: folder, file }
}

impl Bench {
    fn time(&self) -> OurTime {
        let seconds = self.device.now.get();
        let system =
            NtpDate::from_unix(START, 0) + NtpDuration::from_secs_f64(seconds + self.error - self.behind);
        let now = ClockReading { mono: MonoTime::ZERO.add_secs_f64(seconds), system };
        let best = BestTime { now, correction: self.behind, correction_rate: 0.0 };
        OurTime { best, is_right: self.is_right }
    }

    fn pass(&mut self, seconds: f64) {
        let end = self.device.now.get() + seconds;
        while self.device.now.get() < end {
            self.device.now.set(self.device.now.get() + STEP);
            let time = self.time();
            self.shell.follow(time);
            let ready = self.device.told.get() != self.device.second();
            let told = ready.then(|| self.shell.handle_ready(time)).flatten();
            self.looks.extend(told.or_else(|| self.shell.handle_timeout(time)));
        }
    }

    /// By how much it is taken to be fast.
    fn fast(&self) -> f64 {
        self.shell.report().fast_seconds
    }
}

#[test]
fn it_is_looked_at_every_quarter_of_a_minute_and_what_it_gains_is_found() {
    let mut bench = bench(Simulated { fast: Cell::new(2.25), rate: 5e-4, ..Simulated::default() }, None);
    bench.pass(70.0);
    let report = bench.shell.report();
    assert!((4..=5).contains(&bench.looks.len()) && report.samples == bench.looks.len(), "{report:?}");
    // As of the last look.
    let passed = (report.reference_unix_seconds - START) as f64;
    assert!((report.fast_seconds - 2.25 - passed * 5e-4).abs() < 4e-3, "{report:?}");
    assert!((report.rate_ppm - 500.0).abs() < 50.0, "{report:?}");
    assert!(!bench.device.updates.get(), "in between it is left alone");
    assert!(bench.shell.write());
    let text = fs::read_to_string(&bench.file).expect("it is written");
    assert!(text.starts_with("1 1795771") && text.ends_with('\n'), "{text}");
}

#[test]
fn what_is_left_to_correct_of_our_clock_counts_as_corrected() {
    let mut bench = bench(Simulated { fast: Cell::new(0.5), ..Simulated::default() }, None);
    bench.behind = 3.0;
    bench.pass(40.0);
    assert!((bench.fast() - 0.5).abs() < 4e-3, "{}", bench.fast());
    // A step of ours changes nothing of what is known, whatever the next measurement does.
    bench.behind = 0.0;
    bench.pass(1.0);
    assert!((bench.fast() - 0.5).abs() < 4e-3, "{}", bench.fast());
}

#[test]
fn a_time_that_was_wrong_is_put_right_for_earlier_looks_too() {
    let mut bench = bench(Simulated { fast: Cell::new(0.5), ..Simulated::default() }, None);
    bench.error = -4.0;
    bench.pass(40.0);
    assert!((bench.fast() - 4.5).abs() < 4e-3, "{}", bench.fast());
    bench.error = 0.0;
    bench.pass(1.0);
    assert!((bench.fast() - 0.5).abs() < 4e-3, "{}", bench.fast());
    let looks = bench.shell.report().samples;
    bench.pass(20.0);
    assert!(bench.shell.report().samples > looks, "none is lost");
    bench.shell.forget();
    bench.error = -4.0;
    bench.pass(0.01);
    assert!((bench.fast() - 0.5).abs() < 4e-3, "the machine slept, and the clock did not");
}

#[test]
fn a_clock_that_does_not_tell_its_seconds_is_read_until_it_shows_another() {
    let silent = Simulated { fast: Cell::new(-1.5), without_updates: true, ..Simulated::default() };
    let mut bench = bench(silent, None);
    bench.pass(60.0);
    assert!(bench.looks.len() >= 3);
    let worst = bench.looks.iter().map(|look| (look.fast + 1.5).abs()).fold(0.0, f64::max);
    assert!(worst < 7e-3, "half an interval of reading, and what a step takes: {worst}");
}

#[test]
fn interrupts_that_do_not_come_are_given_up() {
    let mut bench = bench(Simulated::default(), None);
    for _ in 0..UNTOLD_MAX {
        assert!(bench.shell.tells);
        bench.device.now.set(bench.device.now.get() + 16.0);
        let time = bench.time();
        assert!(bench.shell.handle_timeout(time).is_none());
        bench.device.now.set(bench.device.now.get() + 3.0);
        let time = bench.time();
        assert!(bench.shell.handle_timeout(time).is_none());
    }
    assert!(!bench.shell.tells);
    bench.pass(60.0);
    assert!(bench.looks.len() >= 2);
}

#[test]
fn a_clock_that_cannot_be_read_is_none() {
    let device = Device(Rc::new(Simulated { broken: true, ..Simulated::default() }));
    assert!(RtcShell::new(Box::new(device), Wish::default(), MonoTime::ZERO).is_none());
    assert!(RtcShell::open(&Wish::default(), MonoTime::ZERO).is_none(), "nobody wishes for it");
    let absent = Wish { file: Some("x".into()), device: "/dev/no-such-clock".into(), ..Wish::default() };
    assert!(RtcShell::open(&absent, MonoTime::ZERO).is_none());
}

#[test]
fn it_is_set_when_it_is_off_by_more_than_the_threshold_and_its_rate_is_kept() {
    let off = Simulated { fast: Cell::new(-7.75), rate: -3e-4, ..Simulated::default() };
    let mut bench = bench(off, Some(5.0));
    bench.pass(40.0);
    let shown = bench.device.shown() - bench.device.now.get();
    assert!(shown.abs() < 0.02, "set at the beginning of a second: {shown}");
    let report = bench.shell.report();
    assert!(
        (report.fast_seconds - shown).abs() < 0.01 && (report.rate_ppm + 300.0).abs() < 100.0,
        "{report:?}"
    );
    assert!(bench.file.exists(), "what the next start goes by");
    let in_a_row = bench.looks.iter().filter(|look| look.fast.abs() < 0.1).count();
    assert!(in_a_row >= 8, "{:?}", bench.looks);
}

#[test]
fn a_pcs_clock_is_set_half_a_second_later_and_is_right_then() {
    let off = Simulated { fast: Cell::new(-7.75), ahead_when_set: 0.5, ..Simulated::default() };
    let mut bench = bench(off, Some(5.0));
    bench.pass(40.0);
    let shown = bench.device.shown() - bench.device.now.get();
    assert!(shown.abs() < 0.01, "{shown}");
    assert!((bench.shell.report().fast_seconds - shown).abs() < 0.01);
}

#[test]
fn it_is_not_set_by_a_clock_that_may_be_wrong_nor_for_less_than_a_second() {
    let mut wrong = bench(Simulated { fast: Cell::new(7.0), ..Simulated::default() }, Some(5.0));
    wrong.is_right = false;
    wrong.pass(40.0);
    assert!((wrong.device.fast.get() - 7.0).abs() < 1e-9);
    let mut near = bench(Simulated { fast: Cell::new(0.9), ..Simulated::default() }, Some(0.1));
    near.pass(40.0);
    let time = near.time();
    near.shell.trim(time);
    near.pass(5.0);
    assert!((near.device.fast.get() - 0.9).abs() < 1e-9);
}

#[test]
fn on_request_it_is_set_whatever_the_threshold() {
    let mut bench = bench(Simulated { fast: Cell::new(2.25), ..Simulated::default() }, None);
    bench.pass(40.0);
    let time = bench.time();
    bench.shell.trim(time);
    bench.pass(12.0);
    assert!(bench.device.fast.get().abs() < 0.02 && bench.fast().abs() < 0.02);
}

#[test]
fn a_file_that_cannot_be_written_stays_what_it_was() {
    let mut bench = bench(Simulated { fast: Cell::new(2.25), ..Simulated::default() }, None);
    assert!(bench.shell.write() && !bench.file.exists(), "there is nothing to write yet");
    bench.pass(40.0);
    fs::create_dir(&bench.file).expect("it can be made");
    assert!(!bench.shell.write());
    assert!(bench.file.is_dir());
}

#[test]
fn the_file_of_hwclock_counts_and_without_a_word_of_it_the_configuration_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("adjtime");
    let wish = |keeps_utc| Wish { keeps_utc, adjtime_file: Some(path.clone()), ..Wish::default() };
    assert!(keeps_utc(&wish(true)) && !keeps_utc(&wish(false)), "it is not there");
    fs::write(&path, "0.0 0 0.0\n0\nUTC\n").expect("it can be written");
    assert!(keeps_utc(&wish(false)));
    fs::write(&path, "0.0 0 0.0\n0\nLOCAL\n").expect("it can be written");
    assert!(!keeps_utc(&wish(true)));
}
