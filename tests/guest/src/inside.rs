//! The guest's first process: sets the clock wrong, starts the daemon, compares, and halts the machine.

use crate::lab::PROBE;
use crate::probe::{self, compare};
use crate::report::{Event, Meddling, Plan};
use crate::{exercise, killing};
use anyhow::{Context, Result, bail, ensure};
use chime_sys::adjust::{ClockDriver, KernelClock};
use chime_time::Frequency;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time between comparisons.
const COMPARISON_INTERVAL: Duration = Duration::from_millis(500);

/// How long the daemon may take to stop.
const STOP_WAIT: Duration = Duration::from_secs(8);

/// Does what the plan says, and halts the guest, whatever happens.
pub(crate) fn run(plan: &Path) -> Result<bool> {
    as_first_process(|| {
        let machine = fs::read_to_string("/proc/cpuinfo")?;
        ensure!(machine.contains("User Mode Linux"), "this machine is no user-mode Linux guest");
        Event::Booted.print();
        follow(&serde_json::from_slice(&fs::read(plan)?)?)
    })
}

/// Does the work of a guest's first process, and halts the guest, whatever happens.
pub(crate) fn as_first_process(work: impl FnOnce() -> Result<()>) -> Result<bool> {
    // Before anything else: this program sets the clock, and must not do that anywhere but in a guest.
    ensure!(std::process::id() == 1, "this is for the first process of a guest");
    if let Err(error) = mount_basics().and_then(|()| work()) {
        Event::Failed { message: format!("{error:#}") }.print();
    }
    Event::Done.print();
    reboot(RebootMode::RB_POWER_OFF)?;
    Ok(true)
}

fn mount_basics() -> Result<()> {
    let none: Option<&str> = None;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).context("mounting /proc")?;
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("mounting /run")?;
    Ok(())
}

fn follow(plan: &Plan) -> Result<()> {
    set_up_network(plan.address)?;
    for folder in &plan.folders {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    for (path, text) in &plan.files {
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    set_wrong(plan.wrong_by_seconds)?;
    if let Some(ppm) = plan.frequency_ppm {
        meddle(Meddling::Frequency(ppm))?;
    }
    if plan.daemon.is_empty() {
        return exercise::run();
    }
    let mut daemon = start(&plan.daemon)?;
    Event::DaemonStarted.print();
    if plan.is_killed {
        return killing::run(&plan.daemon, &mut daemon);
    }
    let watched = watch(plan, &mut daemon);
    print_kernel_state();
    print_privileges(&daemon);
    // Stopped in any case, so that its last words are heard.
    let stopped = stop(&mut daemon);
    watched.and(stopped)
}

fn set_up_network(address: Ipv4Addr) -> Result<()> {
    let address = format!("{address}/24");
    for words in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", &address, "dev", "vec0"],
        &["link", "set", "vec0", "up"],
    ] {
        let status = Command::new("/sbin/ip").args(words).status().context("running ip")?;
        ensure!(status.success(), "ip {} failed: {status}", words.join(" "));
    }
    // The first packets wait for address resolution; the probe is not to be blamed for that.
    for _ in 0..50 {
        if compare(PROBE).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("the host cannot be reached")
}

/// Sets the clock to the truth plus `seconds`.
fn set_wrong(seconds: f64) -> Result<()> {
    let error = compare(PROBE)?.error;
    let wanted = probe::now_nanos() as f64 * 1e-9 - error + seconds;
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(Duration::from_secs_f64(wanted)))
        .context("setting the guest's clock")?;
    Event::ClockSet { error: compare(PROBE)?.error }.print();
    Ok(())
}

/// Does to the clock what a program does that does not care who else steers it.
fn meddle(what: Meddling) -> Result<()> {
    match what {
        Meddling::Step(seconds) => {
            let wanted = probe::now_nanos() as f64 * 1e-9 + seconds;
            let wanted = TimeSpec::from_duration(Duration::from_secs_f64(wanted));
            clock_settime(ClockId::CLOCK_REALTIME, wanted).context("stepping the guest's clock")?;
        }
        Meddling::Frequency(ppm) => {
            KernelClock::take_over()?.set_frequency(Frequency::from_ppm(ppm))?;
        }
    }
    Event::Meddled { what }.print();
    Ok(())
}

pub(crate) fn start(words: &[String]) -> Result<Child> {
    let (program, arguments) = words.split_first().context("the plan names no daemon")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    if let Some(output) = child.stdout.take() {
        copy_lines(output);
    }
    if let Some(output) = child.stderr.take() {
        copy_lines(output);
    }
    Ok(child)
}

fn copy_lines(output: impl Read + Send + 'static) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            Event::Log { line }.print();
        }
    });
}

/// Compares the clocks again and again, until the time is over or the clock has settled.
fn watch(plan: &Plan, daemon: &mut Child) -> Result<()> {
    let started = Instant::now();
    let mut deeds = plan.deeds.iter().peekable();
    let mut good_since: Option<Instant> = None;
    while started.elapsed().as_secs_f64() < plan.watch_seconds {
        thread::sleep(COMPARISON_INTERVAL);
        if let Some(status) = daemon.try_wait()? {
            Event::DaemonExited { status: status.to_string(), clean: false }.print();
            bail!("the daemon ended by itself: {status}");
        }
        if let Some(deed) = deeds.next_if(|deed| started.elapsed().as_secs_f64() >= deed.at) {
            meddle(deed.what)?;
            continue;
        }
        let comparison = compare(PROBE)?;
        Event::Offset { error: comparison.error, round_trip: comparison.round_trip }.print();
        if let Some(settled) = plan.settled {
            let good = comparison.error.abs() <= settled.error_max;
            good_since = if good { good_since.or_else(|| Some(Instant::now())) } else { None };
            if good_since.is_some_and(|since| since.elapsed().as_secs_f64() >= settled.seconds) {
                break;
            }
        }
    }
    Ok(())
}

fn print_kernel_state() {
    match chime_sys::adjust::kernel_state() {
        Ok(state) => Event::Kernel {
            synchronized: state.synchronized,
            frequency_ppm: state.frequency.as_ppm(),
            max_error: state.max_error,
            tai_offset: state.tai_offset,
        },
        Err(error) => Event::Failed { message: format!("the kernel's state cannot be read: {error}") },
    }
    .print();
}

/// Tells as whom the daemon runs, and with which capabilities.
pub(crate) fn print_privileges(daemon: &Child) {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap_or_default();
    let field = |name: &str, base: u32| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.split_whitespace().next()?, base).ok()
    };
    Event::Privileges {
        user: field("Uid:", 10),
        effective: field("CapEff:", 16),
        bounding: field("CapBnd:", 16),
        no_new: field("NoNewPrivs:", 10) == Some(1),
    }
    .print();
}

pub(crate) fn stop(daemon: &mut Child) -> Result<()> {
    if daemon.try_wait()?.is_some() {
        return Ok(());
    }
    kill(Pid::from_raw(i32::try_from(daemon.id())?), Signal::SIGTERM)?;
    let asked = Instant::now();
    while asked.elapsed() < STOP_WAIT {
        if let Some(status) = daemon.try_wait()? {
            report_exit(status);
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("the daemon did not stop within {STOP_WAIT:?} of SIGTERM")
}

fn report_exit(status: ExitStatus) {
    // Its last lines are on their way through the threads that copy them.
    thread::sleep(Duration::from_millis(100));
    Event::DaemonExited { status: status.to_string(), clean: status.success() }.print();
}
