//! Reference clocks: chronyd and our daemon on the same file are told the same, and say the same; a receiver that talks over
//! a line is followed; ntpq shows them; gpsd tells both the same.

use super::PATIENCE;
use crate::install::Suite::{Bookworm, Trixie};
use crate::peers::chimed;
use crate::peers::chrony::{self, Chrony};
use crate::peers::ntpsec;
use crate::process::Daemon;
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use chime_refclock::{shm, sock};
use chime_sys::clock;
use chime_sys::shared_memory::SharedSegment;
use chime_time::{NtpDate, NtpDuration};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(super) const SCENARIOS: &[super::Entry] = &[
    ("reference-clocks/shm-and-sock-as-chronyd-has-them", as_chronyd),
    ("reference-clocks/a-receiver-on-a-line-is-followed", receiver),
    ("reference-clocks/shm-is-counted-as-ntpd-counts-it", counted_as_ntpd),
    ("reference-clocks/gpsd-tells-us-what-it-tells-chronyd", gpsd),
];

/// What the clocks of these tests say: our clock is that far ahead, nanoseconds.
const AHEAD_NANOS: i64 = 250_000_000;
/// And how much that varies from sample to sample.
const JITTER_NANOS: [i64; 5] = [-20_000, 10_000, 0, 15_000, -5_000];
/// Between two samples.
const INTERVAL: Duration = Duration::from_millis(200);

/// A thread that tells the time until it is dropped.
struct Talker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talker {
    fn start(interval: Duration, mut say: impl FnMut(u64) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let talk = move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                say(number);
                number += 1;
                thread::sleep(interval);
            }
        };
        Self { stop, thread: Some(thread::spawn(talk)) }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whatever it found out is in the daemons' reports.
            let _ended = thread.join();
        }
    }
}

/// Where the two daemons listen: their own socket and their own shared memory, as each clears what it has read.
struct Place {
    name: &'static str,
    unit: i32,
    folder: PathBuf,
}

impl Place {
    fn new(stage: &Stage, name: &'static str, unit: i32) -> Self {
        Self { name, unit, folder: stage.folder().join(name) }
    }

    fn configuration(&self) -> String {
        let at = self.folder.display();
        format!(
            "refclock SOCK {at}/time.sock refid SOCK poll 2 delay 1e-3 stratum 2\n\
             refclock SHM {} refid SHM poll 2 offset 0.125 noselect\n\
             refclock SOCK {at}/pulse.sock refid PULS poll 2 pps lock SOCK noselect\n\
             logdir {at}\nlog refclocks\nport 0\n",
            self.unit
        )
    }

    /// Tells one sample in all three ways.
    fn say(&self, segment: &SharedSegment, at: NtpDate, offset: i64) {
        let mut datagram = Vec::new();
        datagram.extend(at.unix_seconds().to_ne_bytes());
        datagram.extend(i64::from(at.subsec_nanos() / 1000).to_ne_bytes());
        datagram.extend((offset as f64 * 1e-9).to_ne_bytes());
        for word in [0, 0, 0, sock::MAGIC] {
            datagram.extend(word.to_ne_bytes());
        }
        for name in ["time.sock", "pulse.sock"] {
            // Not there yet, or its daemon has ended: the reports will show it.
            let _lost =
                UnixDatagram::unbound().and_then(|socket| socket.send_to(&datagram, self.folder.join(name)));
        }
        // Mode 0 has no guard but the order: the mark that it is new comes last.
        let sample = shm::encode(0, 0, at, at + NtpDuration::from_nanos(offset), 1);
        segment.set_int_at(shm::VALID_AT, 0);
        segment.write(0, &sample[..shm::VALID_AT]);
        segment.write(shm::VALID_AT + 4, &sample[shm::VALID_AT + 4..]);
        segment.set_int_at(shm::VALID_AT, 1);
    }
}

fn as_chronyd(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let places = [Place::new(stage, "chronyd", 90), Place::new(stage, "chimed", 91)];
    let start = |place: &Place, node, ours| {
        chrony::of_text(stage, node, Trixie, (place.name, &place.configuration()), ours)
    };
    let daemons = [start(&places[0], &one, false)?, start(&places[1], &two, true)?];
    let segments = [90, 91].map(|unit| SharedSegment::open(shm::KEY + unit, shm::OCTETS, 0o600));
    let [first, second] = segments;
    let segments = [first?, second?];
    ensure!(segments[1].access().is_some_and(|access| access.mode == 0o600), "the segment is private");
    let talking = [Place::new(stage, "chronyd", 90), Place::new(stage, "chimed", 91)];
    let talker = Talker::start(INTERVAL, move |number| {
        let at = clock::system_now();
        let jitter = JITTER_NANOS[usize::try_from(number % 5).unwrap_or(0)];
        for (place, segment) in talking.iter().zip(&segments) {
            place.say(segment, at, -AHEAD_NANOS + jitter);
        }
    });
    for report in ["sources", "sourcestats", "selectdata"] {
        stage.until(report, PATIENCE, || same_rows(report, &daemons))?;
    }
    let tracking = |daemon: &Chrony| -> Result<Vec<String>> {
        Ok(daemon.chronyc(&["-c", "tracking"])?.split(',').take(3).map(str::to_owned).collect())
    };
    stage.until("tracking", PATIENCE, || {
        let (theirs, ours) = (tracking(&daemons[0])?, tracking(&daemons[1])?);
        ensure!(theirs == ours && ours == ["534F434B", "SOCK", "3"], "{theirs:?} {ours:?}");
        Ok(())
    })?;
    drop(talker);
    same_log(&places)
}

/// Both show the same clocks in the same state, and the offsets that they were told.
fn same_rows(report: &str, daemons: &[Chrony; 2]) -> Result<()> {
    let rows = |daemon: &Chrony| -> Result<Vec<Vec<String>>> {
        let text = daemon.chronyc(&["-c", report])?;
        Ok(text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect())
    };
    let (theirs, ours) = (rows(&daemons[0])?, rows(&daemons[1])?);
    ensure!(theirs.len() == 3 && ours.len() == 3, "{theirs:?}\n{ours:?}");
    // Those whose values depend on nothing but the configuration and the state; and the one with the offset.
    let (equal, offset): (&[usize], usize) = match report {
        "sources" => (&[0, 1, 2, 3, 4], 8),
        "sourcestats" => (&[0], 6),
        _ => (&[0, 1, 2, 3, 8], 6),
    };
    for ((theirs, ours), told) in theirs.iter().zip(&ours).zip([0.25, 0.125, 0.25]) {
        for &field in equal {
            ensure!(theirs.get(field) == ours.get(field), "{report}, field {field}:\n{theirs:?}\n{ours:?}");
        }
        if report == "selectdata" {
            continue;
        }
        for row in [theirs, ours] {
            let value: f64 = row.get(offset).context("an offset")?.parse()?;
            ensure!((value - told).abs() < 1e-4, "{report}: {value}, told {told}:\n{row:?}");
        }
    }
    Ok(())
}

/// The same readings have the same lines in `refclocks.log`, but for what is known of their uncertainty.
fn same_log(places: &[Place; 2]) -> Result<()> {
    let lines = |place: &Place| -> Result<BTreeMap<String, String>> {
        let text = std::fs::read_to_string(place.folder.join("refclocks.log"))?;
        let reading = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Date, time, name; number; leap, pulse, raw and cooked offset; dispersion.
            (words.len() == 9 && words[3] != "-").then(|| (words[..3].join(" "), words[4..8].join(" ")))
        };
        Ok(text.lines().filter_map(reading).collect())
    };
    let (theirs, ours) = (lines(&places[0])?, lines(&places[1])?);
    let common: Vec<_> =
        ours.iter().filter_map(|(when, ours)| theirs.get(when).map(|theirs| (when, ours, theirs))).collect();
    for name in ["SOCK", "SHM", "PULS"] {
        let count = common.iter().filter(|(when, ..)| when.ends_with(name)).count();
        ensure!(count > 5, "{count} readings of {name} are in both logs:\n{ours:?}\n{theirs:?}");
    }
    for (when, ours, theirs) in common {
        let near = |(one, other): (&str, &str)| match (one.parse::<f64>(), other.parse::<f64>()) {
            // The cooked offset of pulses goes by what each of the daemons has measured.
            (Ok(one), Ok(other)) => (one - other).abs() < 1e-5,
            _ => one == other,
        };
        ensure!(ours.split(' ').zip(theirs.split(' ')).all(near), "{when}: {ours}, chronyd has {theirs}");
    }
    Ok(())
}

fn receiver(stage: &mut Stage) -> Result<()> {
    let node = stage.node(2)?;
    let line = nix::pty::openpty(None, None).context("no pseudo-terminal")?;
    let path = nix::unistd::ttyname(&line.slave)?;
    let text = format!(
        "ntpq-listen = [\"127.0.0.1:123\"]\n\n[[server]]\nlisten = \"0.0.0.0:123\"\n\n\
         [[reference-clock]]\ndriver = \"nmea\"\nparameter = \"{}\"\nreference-id = \"GPS\"\npoll-interval = 2\n\
         offset = 0.5\nbaud = 9600\n\n[ntpd]\nstatistics-directory = \"{}\"\n\n[[ntpd.statistics]]\nkind = \"clockstats\"\n",
        path.display(),
        stage.folder().display()
    );
    let daemon = chimed::client_of_sources(stage, &node, &text)?;
    let mut receiver = File::from(line.master);
    let talker = Talker::start(INTERVAL, move |_| {
        // A receiver that is 10.5 s ahead, half a second of which is configured.
        let text = sentence(clock::system_now() + NtpDuration::from_nanos(10_000_000_000 - 500_000_000));
        // A reader that is gone shows in its reports.
        let _lost = receiver.write_all(format!("$GPGSV,1,1,00*79\r\n{text}").as_bytes());
    });
    stage.until("it is followed", PATIENCE, || {
        let row = daemon.report_as("sources", true)?;
        let fields: Vec<&str> = row.trim().split(',').collect();
        ensure!(fields.len() == 10 && fields[..3] == ["#", "*", "GPS"], "{row}");
        let offset: f64 = fields[8].parse()?;
        ensure!((offset + 10.0).abs() < 0.2, "{row}");
        Ok(())
    })?;
    let mut command = ntpsec::python(Bookworm)?;
    command.arg(Bookworm.root().join("usr/bin/ntpq")).args(["-n", "-p", "127.0.0.1"]);
    command.env("TERM", "dumb").env("COLUMNS", "80");
    let output = node.wrap(&command).output().context("cannot run ntpq")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = text.lines().find(|line| line.starts_with("*NMEA(")).context(text.clone())?;
    let fields: Vec<&str> = row.split_whitespace().collect();
    ensure!(fields[1..4] == [".GPS.", "0", "l"], "{row}");
    drop(talker);
    let heard = fs::read_to_string(stage.folder().join("clockstats"))?;
    let is_line = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        fields.len() == 4 && fields[2].starts_with("NMEA(") && fields[3].starts_with("$GPRMC,")
    };
    ensure!(!heard.is_empty() && heard.lines().all(is_line), "clockstats: {heard}");
    Ok(())
}

/// `flag4` of ntpd's driver of shared memory: a line for each poll of how often it was looked at, and what came of that.
fn counted_as_ntpd(stage: &mut Stage) -> Result<()> {
    let nodes = [stage.node(1)?, stage.node(2)?];
    let places = [Place::new(stage, "ntpd", 92), Place::new(stage, "as-ntpd", 93)];
    let mut daemons = Vec::new();
    for ((place, node), ours) in places.iter().zip(&nodes).zip([false, true]) {
        fs::create_dir_all(&place.folder)?;
        let text = format!(
            "refclock shm unit {} minpoll 3 maxpoll 3 flag4 1 mode 1\nstatsdir {}\nstatistics clockstats\n",
            place.unit,
            place.folder.display()
        );
        daemons.push(ntpsec::of_text(stage, node, Trixie, (place.name, &text), ours)?);
    }
    let [first, second] = [92, 93].map(|unit| SharedSegment::open(shm::KEY + unit, shm::OCTETS, 0o600));
    let segments = [first?, second?];
    let talking = [Place::new(stage, "ntpd", 92), Place::new(stage, "as-ntpd", 93)];
    let talker = Talker::start(INTERVAL, move |_| {
        let at = clock::system_now();
        talking.iter().zip(&segments).for_each(|(place, segment)| place.say(segment, at, 1000));
    });
    let columns = |place: &Place| -> Result<Vec<String>> {
        let text = fs::read_to_string(place.folder.join("clockstats")).context("no clockstats yet")?;
        // The first two are of the start.
        let line = text.lines().nth(2).context(text.clone())?;
        Ok(line.split_whitespace().skip(2).map(str::to_owned).collect())
    };
    stage.until("clockstats", PATIENCE, || {
        for place in &places {
            let columns = columns(place)?;
            let counts: Vec<u32> = columns[1..].iter().filter_map(|count| count.parse().ok()).collect();
            let [looked, good, ..] = counts[..] else { anyhow::bail!("{}: {columns:?}", place.name) };
            ensure!(columns[0] == format!("SHM({})", place.unit), "{}: {columns:?}", place.name);
            // A poll is eight seconds long; ntpd's may be one more or less.
            ensure!(
                counts.len() == 5 && (6..=10).contains(&looked) && good > 0 && good <= looked,
                "{}: {columns:?}",
                place.name
            );
        }
        Ok(())
    })?;
    drop(talker);
    Ok(())
}

/// What a receiver says of this moment (NMEA 0183's RMC).
fn sentence(now: NtpDate) -> String {
    let (day, second) = (now.unix_seconds().div_euclid(86_400), now.unix_seconds().rem_euclid(86_400));
    let (year, month, day) = chime_time::date_of_day(day);
    let body = format!(
        "GPRMC,{:02}{:02}{:02}.{:03},A,4807.038,N,01131.000,E,0.0,0.0,{day:02}{month:02}{:02},,,A",
        second / 3600,
        second / 60 % 60,
        second % 60,
        now.subsec_nanos() / 1_000_000,
        year % 100
    );
    let sum = body.bytes().fold(0, |sum, octet| sum ^ octet);
    format!("${body}*{sum:02X}\r\n")
}

/// gpsd gives each receiver a segment of shared memory: chronyd reads the one, our daemon the other. Its receivers are
/// reached over TCP, as to those on a pseudo-terminal it gives none.
fn gpsd(stage: &mut Stage) -> Result<()> {
    let (one, two) = (stage.node(1)?, stage.node(2)?);
    let receivers = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let mut command = Bookworm.command("usr/sbin/gpsd", None)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    command.args(["-N", "-n", "-S", &port.to_string()]);
    for receiver in &receivers {
        command.arg(format!("tcp://{}", receiver.local_addr()?));
    }
    let mut gpsd = Daemon::spawn("gpsd", command, stage.folder())?;
    let mut lines = Vec::new();
    for receiver in &receivers {
        receiver.set_nonblocking(true)?;
        lines.push(stage.until("gpsd connects to its receivers", PATIENCE, || {
            gpsd.check_alive()?;
            Ok(receiver.accept()?.0)
        })?);
    }
    let talker = Talker::start(INTERVAL, move |_| {
        let text = sentence(clock::system_now() + NtpDuration::from_nanos(10_000_000_000));
        for line in &mut lines {
            // A gpsd that is gone shows in the reports.
            let _lost = line.write_all(text.as_bytes());
        }
    });
    let start = |name, node, unit, ours| {
        let text = format!("refclock SHM {unit} refid GPS precision 1e-1 delay 0.2 poll 2\nport 0\n");
        chrony::of_text(stage, node, Bookworm, (name, &text), ours)
    };
    let daemons = [start("chronyd", &one, 0, false)?, start("chimed", &two, 1, true)?];
    stage.until("both follow their receiver", PATIENCE, || {
        for daemon in &daemons {
            let row = daemon.chronyc(&["-c", "sources"])?;
            let fields: Vec<&str> = row.trim().split(',').collect();
            ensure!(fields.len() == 10 && fields[..3] == ["#", "*", "GPS"], "{row}");
            let offset: f64 = fields[8].parse()?;
            ensure!((offset + 10.0).abs() < 0.5, "{row}");
        }
        Ok(())
    })?;
    drop(talker);
    Ok(())
}
