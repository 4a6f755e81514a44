//! The devices of reference clocks: opened while the daemon may, read when the engine asks or something comes.
//!
//! Decides nothing about time: what was read goes through `chime_refclock` to the engine. The same trouble with a device is
//! told now and then, not each second.

mod pulse_stamper;
mod second_teller;

use crate::log_limit::LogLimits;
use anyhow::{Context, Result, bail};
use chime_config::{Model, ReceiverSentence, ReferenceClock};
use chime_engine::{Reading, ReadingKind, ReferenceClockConfig, ReferenceClockId};
use chime_refclock::phc::{self, Bracket};
use chime_refclock::{ReadingError, nmea, shm, sock};
use chime_sys::clock;
use chime_sys::network_card;
use chime_sys::poll::{Interest, PollSet};
use chime_sys::pps::PulseDevice;
use chime_sys::ptp_clock::{PtpClock, PtpReading};
use chime_sys::pulse_input::{PulseInput, PulsePin};
use chime_sys::real_time_clock::RealTimeClockDevice;
use chime_sys::serial::SerialLine;
use chime_sys::shared_memory::SharedSegment;
use chime_sys::unix_datagram::UnixDatagram;
use chime_time::{ClockReading, Frequency, NtpDuration};
use pulse_stamper::PulseStamper;
use second_teller::SecondTeller;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::{debug, info, warn};

/// The same trouble is told at most this often.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(3600);
/// Datagrams, or reads of a line, that are taken at once; what there is more waits for the next turn.
const TURN: usize = 64;
/// Readings of a hardware clock at once: as many as the kernel makes, so that some were not interrupted.
const HARDWARE_READINGS: usize = 25;
/// Permissions of shared memory, and of a socket, that is made: whoever writes there sets the clock.
const PRIVATE: u32 = 0o600;
/// Those whose owner is trusted with the clock.
const ROOT: u32 = 0;

/// The devices, by the numbers of the engine.
#[derive(Debug)]
pub struct ReferenceClocks {
    devices: Vec<Device>,
    troubles: LogLimits<(usize, String)>,
}

#[derive(Debug)]
struct Device {
    name: String,
    driver: Driver,
}

/// What came of the times that something was looked for.
#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    looked: u32,
    good: u32,
    not_ready: u32,
    bad: u32,
    torn: u32,
}

impl Counts {
    fn note(&mut self, result: Result<&Reading, &Trouble>) {
        self.looked += 1;
        *match result {
            Ok(_) => &mut self.good,
            Err(Trouble::Reading(ReadingError::NotNew)) => &mut self.not_ready,
            Err(Trouble::Reading(ReadingError::Torn)) => &mut self.torn,
            Err(_) => &mut self.bad,
        } += 1;
    }

    /// As ntpd's driver of shared memory writes them.
    fn words(self) -> String {
        let Self { looked, good, not_ready, bad, torn } = self;
        format!("{looked:3} {good:3} {not_ready:3} {bad:3} {torn:3}")
    }
}

#[derive(Debug)]
enum Driver {
    SharedMemory {
        segment: SharedSegment,
        /// Since they were told last; `None`: nobody asks.
        counts: Option<Counts>,
    },
    Socket {
        path: PathBuf,
        socket: UnixDatagram,
    },
    Pulses(PulseDevice),
    Hardware {
        clock: PtpClock,
        usual: phc::UsualTime,
    },
    Line {
        line: SerialLine,
        receiver: nmea::Receiver,
        hides_position: bool,
    },
    /// A hardware clock of which the pulses count that it stamps.
    Stamper(PulseStamper),
    RealTime(SecondTeller),
    /// A device that cannot be read any more, such as a line whose other end is gone: it is not asked.
    Gone,
}

impl Default for ReferenceClocks {
    fn default() -> Self {
        const TROUBLES_MAX: usize = 64;
        Self { devices: Vec::new(), troubles: LogLimits::new(TROUBLE_INTERVAL, TROUBLES_MAX) }
    }
}

impl ReferenceClocks {
    /// Opens all devices of the model that have a driver.
    ///
    /// # Errors
    /// When one cannot be opened: a clock that the operator counts on must not be missing unnoticed.
    pub fn open(model: &Model) -> Result<Self> {
        let mut this = Self::default();
        for (index, clock) in supported(model) {
            let name = clock.name(index);
            let driver = Driver::open(&name, clock).with_context(|| {
                format!("the reference clock {name} ({} {}) cannot be used", clock.driver, clock.parameter)
            })?;
            this.devices.push(Device { name, driver });
        }
        Ok(this)
    }

    /// Adds what is to be waited for.
    pub fn register<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(ReferenceClockId) -> T) {
        for (index, device) in self.devices.iter().enumerate() {
            let token = token(ReferenceClockId(index));
            match &device.driver {
                Driver::Socket { socket, .. } => set.add(&socket.as_fd(), Interest::READ, token),
                Driver::Line { line, .. } => set.add(&line.as_fd(), Interest::READ, token),
                Driver::RealTime(clock) => {
                    if let Some(descriptor) = clock.descriptor() {
                        set.add(&descriptor, Interest::READ, token);
                    }
                }
                Driver::Stamper(stamper) => {
                    if let Some(descriptor) = stamper.descriptor() {
                        set.add(&descriptor, Interest::READ, token);
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads a device that has to be asked; others say by themselves what there is.
    pub fn read(&mut self, clock: ReferenceClockId) -> Vec<Reading> {
        let Some(device) = self.devices.get_mut(clock.0) else { return Vec::new() };
        let result = match &mut device.driver {
            Driver::SharedMemory { segment, counts } => {
                let result = read_segment(segment);
                if let Some(counts) = counts {
                    counts.note(result.as_ref());
                }
                result
            }
            Driver::Pulses(pulses) => match pulses.fetch() {
                Ok(Some(at)) => Ok(Reading::pulse(at)),
                Ok(None) => Err(Trouble::Reading(ReadingError::NotNew)),
                Err(error) => Err(Trouble::Device(error)),
            },
            Driver::Hardware { clock, usual } => read_hardware(clock, usual),
            Driver::Stamper(stamper) => match stamper.poll(HARDWARE_READINGS) {
                Ok(found) => return found,
                Err(error) => Err(Trouble::Device(error)),
            },
            Driver::RealTime(clock) => match clock.poll(clock::system_now) {
                Ok(Some(reading)) => Ok(reading),
                Ok(None) => return Vec::new(),
                Err(error) => Err(Trouble::Device(error)),
            },
            Driver::Socket { .. } | Driver::Line { .. } | Driver::Gone => return Vec::new(),
        };
        match result {
            Ok(reading) => vec![reading],
            Err(trouble) => {
                self.tell(clock.0, &trouble);
                Vec::new()
            }
        }
    }

    /// Takes what has come by itself.
    pub fn receive(&mut self, clock: ReferenceClockId) -> Vec<Reading> {
        let mut readings = Vec::new();
        for _ in 0..TURN {
            let Some(device) = self.devices.get_mut(clock.0) else { break };
            let results = match &mut device.driver {
                Driver::Socket { socket, .. } => receive_datagram(socket),
                Driver::Line { line, receiver, .. } => receive_octets(line, receiver),
                Driver::RealTime(_) => return self.receive_second(clock),
                Driver::Stamper(_) => return self.receive_pulses(clock),
                _ => break,
            };
            match results {
                Ok(results) => {
                    for result in results {
                        match result {
                            Ok(reading) => readings.push(reading),
                            Err(error) => self.tell(clock.0, &Trouble::Reading(error)),
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if let Driver::Line { .. } = device.driver {
                        device.driver = Driver::Gone;
                    }
                    self.tell(clock.0, &Trouble::Device(error));
                    break;
                }
            }
        }
        readings
    }

    /// What ntpd's `clockstats` has of a device since they were asked for last: what a receiver said in its own words, what
    /// came of looking at shared memory where that is counted, and of others nothing.
    pub fn words(&mut self, clock: ReferenceClockId) -> Option<String> {
        match &mut self.devices.get_mut(clock.0)?.driver {
            Driver::Line { receiver, hides_position, .. } => receiver
                .take_sentence()
                .map(|sentence| if *hides_position { nmea::without_position(&sentence) } else { sentence }),
            Driver::SharedMemory { counts, .. } => {
                counts.as_mut().map(|counts| std::mem::take(counts).words())
            }
            _ => None,
        }
    }

    fn receive_second(&mut self, clock: ReferenceClockId) -> Vec<Reading> {
        let Some(device) = self.devices.get_mut(clock.0) else { return Vec::new() };
        let Driver::RealTime(teller) = &mut device.driver else { return Vec::new() };
        match teller.receive(clock::system_now) {
            Ok(reading) => reading.into_iter().collect(),
            Err(error) => {
                device.driver = Driver::Gone;
                self.tell(clock.0, &Trouble::Device(error));
                Vec::new()
            }
        }
    }

    fn receive_pulses(&mut self, clock: ReferenceClockId) -> Vec<Reading> {
        let Some(Device { driver: Driver::Stamper(stamper), .. }) = self.devices.get(clock.0) else {
            return Vec::new();
        };
        match stamper.stamps() {
            Ok((path, stamps)) => {
                for stamp in stamps {
                    self.stampers().for_each(|stamper| stamper.note(&path, stamp));
                }
            }
            Err(error) => {
                self.devices[clock.0].driver = Driver::Gone;
                self.tell(clock.0, &Trouble::Device(error));
            }
        }
        match self.devices.get_mut(clock.0).map(|device| &mut device.driver) {
            Some(Driver::Stamper(stamper)) => stamper.take(),
            _ => Vec::new(),
        }
    }

    fn stampers(&mut self) -> impl Iterator<Item = &mut PulseStamper> {
        self.devices.iter_mut().filter_map(|device| match &mut device.driver {
            Driver::Stamper(stamper) => Some(stamper),
            _ => None,
        })
    }

    /// We stepped the system clock.
    pub fn system_stepped(&mut self, by: NtpDuration) {
        self.stampers().for_each(|stamper| stamper.system_stepped(by));
    }

    /// We changed the frequency of the system clock; `at` was just now.
    pub fn system_frequency_changed(&mut self, at: ClockReading, from: Frequency, to: Frequency) {
        self.stampers().for_each(|stamper| stamper.system_frequency_changed(at.system, from, to));
    }

    /// Somebody else moved the system clock: what was known is of no use.
    pub fn forget(&mut self) {
        self.stampers().for_each(PulseStamper::forget);
    }

    fn tell(&mut self, index: usize, trouble: &Trouble) {
        let Some(device) = self.devices.get(index) else { return };
        let text = match trouble {
            Trouble::Reading(ReadingError::NotNew | ReadingError::Torn) => return,
            Trouble::Reading(error) => format!("a sample is ignored: {error}"),
            Trouble::Device(error) => format!("it cannot be read: {error}"),
        };
        self.troubles.admit((index, text.clone()), clock::mono_now()).write(|more| {
            warn!("reference clock {}: {text}{more}", device.name);
        });
    }
}

/// Why there is no reading.
enum Trouble {
    Reading(ReadingError),
    Device(io::Error),
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Self::Socket { path, .. } = self
            && let Err(error) = fs::remove_file(&*path)
        {
            debug!("{}: {error}", path.display());
        }
    }
}

impl Driver {
    fn open(name: &str, clock: &ReferenceClock) -> Result<Self> {
        let device = clock.device();
        let option = |wanted: &str| clock.driver_options().find(|(name, _)| *name == wanted);
        Ok(match clock.driver.as_str() {
            "shm" => {
                let permissions =
                    option("perm").and_then(|(_, value)| value).map(parse_permissions).transpose()?;
                Self::SharedMemory {
                    segment: open_segment(name, device, permissions.unwrap_or(PRIVATE))?,
                    counts: clock.counts_readings.then(Counts::default),
                }
            }
            "sock" => {
                let path = PathBuf::from(device);
                Self::Socket { socket: open_socket(&path)?, path }
            }
            "pps" => Self::Pulses(PulseDevice::open(Path::new(device), option("clear").is_some())?),
            "phc" if clock.stamps_pulses() => {
                let (stamper, precision) = (open_stamper(device, clock)?, clock.precision);
                Self::Stamper(PulseStamper::new(
                    Box::new(stamper),
                    (device, clock.pulse_channel()),
                    precision,
                ))
            }
            "phc" => {
                let clock = open_hardware(device, option("nocrossts").is_none())?;
                info!("reference clock {name}: {device} is read by the method {:?}", clock.method());
                Self::Hardware { clock, usual: phc::UsualTime::default() }
            }
            "nmea" => {
                let line = SerialLine::open(Path::new(device), clock.baud)?;
                let receiver = nmea::Receiver::of_sentences(clock.sentence.map(ReceiverSentence::name));
                Self::Line { line, receiver, hides_position: clock.hides_position }
            }
            "rtc" => {
                let opened = RealTimeClockDevice::open(Path::new(device), option("utc").is_some())?;
                let teller = SecondTeller::new(Box::new(opened));
                if !teller.tells() {
                    info!(
                        "reference clock {name}: {device} does not tell when a second begins, and is read to the second"
                    );
                }
                Self::RealTime(teller)
            }
            other => bail!("there is no driver {other}"),
        })
    }
}

/// The reference clocks that have a driver, with their places among all.
fn supported(model: &Model) -> impl Iterator<Item = (usize, &ReferenceClock)> {
    model.reference_clocks.iter().enumerate().filter(|(_, clock)| clock.is_supported())
}

/// What the engine is told of them, in the order of [`ReferenceClocks::open`].
#[must_use]
pub fn engine_configs(model: &Model) -> Vec<ReferenceClockConfig> {
    supported(model).map(|(index, clock)| engine_config(clock, index)).collect()
}

fn engine_config(clock: &ReferenceClock, index: usize) -> ReferenceClockConfig {
    const POLL_DEFAULT: i8 = 4;
    let poll = clock.poll_exponent.unwrap_or(POLL_DEFAULT);
    ReferenceClockConfig {
        driver: clock.driver.clone(),
        device: clock.device().to_owned(),
        poll,
        driver_poll: clock.driver_poll_exponent,
        filter: usize::try_from(clock.filter).unwrap_or(usize::MAX),
        options: chime_engine::SourceOptions {
            prefer: clock.prefer,
            no_select: clock.no_select,
            trust: clock.trust,
            require: clock.require,
            offset_correction: clock.offset_correction,
            unreachable_polls_max: clock.max_unreachable_polls,
            samples_max: clock.max_samples,
            ..Default::default()
        },
        delay: clock.delay,
        precision: clock.precision,
        max_dispersion: clock.max_dispersion,
        max_offset: clock.max_offset,
        stratum: clock.stratum,
        lock: clock.lock.as_deref().map(reference_id),
        pulses: chime_engine::Pulses { rate: clock.rate, width: clock.pulse_width },
        max_lock_pulses: clock.max_lock_pulses,
        pps: clock.pps,
        tai: clock.tai,
        local: clock.local,
        ..ReferenceClockConfig::new(reference_id(&clock.name(index)))
    }
}

/// Up to four letters as octets.
fn reference_id(name: &str) -> [u8; 4] {
    let mut octets = name.bytes();
    std::array::from_fn(|_| octets.next().unwrap_or(0))
}

fn parse_permissions(text: &str) -> Result<u32> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777);
    bits.with_context(|| format!("`perm={text}` are no permissions: write them as chmod does, like 0600"))
}

/// Whoever may write the segment sets the clock: that nobody else may is checked, as it may be another program's.
fn open_segment(name: &str, unit: &str, permissions: u32) -> Result<SharedSegment> {
    let number: u16 = unit.parse().ok().filter(|unit| *unit <= shm::UNIT_MAX).with_context(|| {
        format!("the unit of a shared memory segment is a number from 0 to {}, not `{unit}`", shm::UNIT_MAX)
    })?;
    let segment = SharedSegment::open(shm::KEY + i32::from(number), shm::OCTETS, permissions).with_context(|| {
        format!(
            "the shared memory segment {:#x} cannot be opened (`ipcs -m` shows whose it is, `ipcrm -M` removes it)",
            shm::KEY + i32::from(number)
        )
    })?;
    if let Some(access) = segment.access() {
        let own =
            fs::metadata("/proc/self").map_or(ROOT, |process| std::os::unix::fs::MetadataExt::uid(&process));
        if ![ROOT, own].contains(&access.user) {
            warn!(
                "reference clock {name}: the user {} owns its shared memory, and can set the clock with it",
                access.user
            );
        } else if access.mode & 0o022 & !permissions != 0 {
            warn!(
                "reference clock {name}: its shared memory has the permissions {:04o}, so that others can set the \
                 clock with it; {:04o} was asked for",
                access.mode, permissions
            );
        }
    }
    Ok(segment)
}

fn open_socket(path: &Path) -> Result<UnixDatagram> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        // Of an earlier run; what is no socket is left alone.
        fs::remove_file(path).with_context(|| format!("{}: it is there already", path.display()))?;
    }
    let socket = UnixDatagram::bound_to(path).with_context(|| {
        format!("the socket {} cannot be made (its folder must exist, and be ours)", path.display())
    })?;
    fs::set_permissions(path, Permissions::from_mode(PRIVATE))
        .with_context(|| format!("{}: its permissions cannot be set", path.display()))?;
    Ok(socket)
}

fn read_segment(segment: &SharedSegment) -> Result<Reading, Trouble> {
    let mut copy = [0; shm::OCTETS];
    segment.read(&mut copy);
    let result = shm::decode(&copy, segment.int_at(shm::COUNT_AT));
    // What was written meanwhile is for the next time; everything else is done with.
    if !matches!(result, Err(ReadingError::NotNew | ReadingError::Torn)) {
        segment.set_int_at(shm::VALID_AT, 0);
    }
    result.map_err(Trouble::Reading)
}

fn open_hardware(device: &str, cross: bool) -> Result<PtpClock> {
    Ok(PtpClock::open_path(&hardware_path(device)?, cross)?)
}

/// The path of a clock, which may be named by the network interface that has it.
fn hardware_path(device: &str) -> Result<String> {
    if device.contains('/') {
        return Ok(device.to_owned());
    }
    let capabilities = network_card::capabilities(device)
        .with_context(|| format!("the network interface {device} cannot be asked for its clock"))?;
    let index = capabilities.clock.with_context(|| format!("the network interface {device} has no clock"))?;
    Ok(format!("/dev/ptp{index}"))
}

/// A clock that stamps pulses.
fn open_stamper(device: &str, clock: &ReferenceClock) -> Result<PulseInput> {
    let has = |wanted: &str| clock.driver_options().any(|(name, _)| name == wanted);
    let opened = PtpClock::open_writable(&hardware_path(device)?, !has("nocrossts"))?;
    let pin = PulsePin { pin: clock.pulse_pin(), channel: clock.pulse_channel(), falling: has("clear") };
    let stamps = PulseInput::new(opened, pin);
    stamps.with_context(|| {
        format!("it does not stamp pulses by channel {} (`pin=-1` leaves its pins as they are)", pin.channel)
    })
}

fn read_hardware(clock: &PtpClock, usual: &mut phc::UsualTime) -> Result<Reading, Trouble> {
    let readings = clock.read(HARDWARE_READINGS).map_err(Trouble::Device)?;
    let bracket = |one: &PtpReading| Bracket { before: one.before, device: one.hardware, after: one.after };
    let reading =
        phc::reading(&readings.iter().map(bracket).collect::<Vec<_>>()).map_err(Trouble::Reading)?;
    let kind = if usual.admits(&reading) { reading.kind } else { ReadingKind::Alive };
    Ok(Reading { kind, ..reading })
}

type Results = Vec<Result<Reading, ReadingError>>;

fn receive_datagram(socket: &UnixDatagram) -> io::Result<Results> {
    let mut room = [0; sock::ROOM];
    let (octets, _) = socket.recv_from(&mut room)?;
    Ok(vec![sock::decode(room.get(..octets).unwrap_or_default())])
}

fn receive_octets(line: &SerialLine, receiver: &mut nmea::Receiver) -> io::Result<Results> {
    let mut room = [0; 256];
    let octets = line.read(&mut room)?;
    if octets == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the line was hung up"));
    }
    Ok(receiver.push(room.get(..octets).unwrap_or_default(), clock::system_now()))
}
