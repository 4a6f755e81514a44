//! The shell around cards, with a machine that is made up.

use super::*;
use chime_sys::network_card::CardCapabilities;
use chime_sys::udp::HardwareStamp;
use chime_sys::{TimestampSource, Timestamped};
use chime_time::NtpDate;
use std::io;
use std::sync::{Arc, Mutex};

const OFF: CardSetting = CardSetting { transmit: false, receive: StampFilter::None };
const NTP: &[StampFilter] = &[StampFilter::None, StampFilter::Ntp, StampFilter::All];

/// A card of the machine.
#[derive(Clone)]
struct Fake {
    name: &'static str,
    index: u32,
    can: CardCapabilities,
    setting: CardSetting,
    may_set: bool,
}

impl Fake {
    fn new(name: &'static str, index: u32) -> Self {
        let can = CardCapabilities::new(true, NTP, Some(index));
        Self { name, index, can, setting: OFF, may_set: true }
    }
}

#[derive(Default)]
struct State {
    cards: Vec<Fake>,
    /// What was set, in order.
    set: Vec<(String, StampFilter)>,
    /// Seconds since the start, by every clock of the machine but the cards'.
    time: f64,
    broken: bool,
    reads: usize,
}

#[derive(Clone, Default)]
struct Machine(Arc<Mutex<State>>);

/// How much faster the cards' oscillators are, and where their clocks began.
const CARD_RATE: f64 = 30e-6;
const CARD_EPOCH: NtpDate = NtpDate::from_unix(1000, 0);
const START: NtpDate = NtpDate::from_unix(1_800_000_000, 0);

impl Machine {
    fn with(cards: &[Fake]) -> Self {
        let machine = Self::default();
        machine.state().cards = cards.to_vec();
        machine
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds it")
    }

    fn time(&self) -> f64 {
        self.state().time
    }

    fn reads(&self) -> usize {
        self.state().reads
    }

    fn system(&self) -> NtpDate {
        START + NtpDuration::from_secs_f64(self.time())
    }

    fn card_time(&self) -> NtpDate {
        CARD_EPOCH + NtpDuration::from_secs_f64(self.time() * (1.0 + CARD_RATE))
    }

    fn now(&self) -> ClockReading {
        ClockReading { mono: MonoTime::ZERO.add_secs_f64(self.time()), system: self.system() }
    }

    fn find(&self, name: &str) -> io::Result<Fake> {
        let state = self.state();
        let found = state.cards.iter().find(|card| card.name == name).cloned();
        found.ok_or_else(|| io::Error::from_raw_os_error(19))
    }
}

impl CardDriver for Machine {
    fn interface(&mut self, name: &str) -> Result<Interface, String> {
        let card = self.find(name).map_err(|error| error.to_string())?;
        Ok(Interface { name: name.to_owned(), index: card.index, loopback: false })
    }

    fn interfaces(&mut self) -> Vec<Interface> {
        let lo = Interface { name: "lo".to_owned(), index: 1, loopback: true };
        let state = self.state();
        let others = state.cards.iter().map(|card| Interface {
            name: card.name.to_owned(),
            index: card.index,
            loopback: false,
        });
        [lo].into_iter().chain(others).collect()
    }

    fn capabilities(&mut self, name: &str) -> io::Result<CardCapabilities> {
        Ok(self.find(name)?.can)
    }

    fn setting(&mut self, name: &str) -> Option<CardSetting> {
        Some(self.find(name).ok()?.setting)
    }

    fn enable(&mut self, name: &str, receive: StampFilter) -> io::Result<CardSetting> {
        if !self.find(name)?.may_set {
            return Err(io::Error::from_raw_os_error(1));
        }
        self.state().set.push((name.to_owned(), receive));
        Ok(CardSetting { transmit: true, receive })
    }

    fn link_speed(&mut self, _name: &str) -> Option<u32> {
        Some(100)
    }

    fn open_clock(&mut self, _index: u32, _cross: bool) -> io::Result<Box<dyn ReadCard>> {
        Ok(Box::new(self.clone()))
    }
}

impl ReadCard for Machine {
    fn method(&self) -> &'static str {
        "the test"
    }

    fn read(&mut self, count: usize) -> io::Result<Vec<CardReading>> {
        self.state().reads += 1;
        if self.state().broken {
            return Err(io::Error::from_raw_os_error(19));
        }
        let (system, card) = (self.system(), self.card_time());
        Ok(vec![CardReading { before: system, card, after: system }; count])
    }
}

fn open(wish: &HardwareStamps, machine: &Machine) -> Result<(CardClocks, Arc<CardLines>)> {
    let lines = Arc::new(CardLines::default());
    Ok((CardClocks::open(wish, Box::new(machine.clone()), lines.clone())?, lines))
}

fn named(name: &str) -> HardwareStamps {
    HardwareStamps { cards: vec![CardWish::new(Some(name.to_owned()))], ..HardwareStamps::named_only() }
}

#[test]
fn cards_are_found_and_turned_on_by_themselves() {
    let cannot = Fake { can: CardCapabilities::new(false, &[], None), ..Fake::new("veth0", 9) };
    let machine = Machine::with(&[Fake::new("eth0", 2), cannot, Fake::new("eth1", 3)]);
    let (cards, lines) = open(&HardwareStamps::default(), &machine).expect("nothing was named");
    assert_eq!(cards.cards.len(), 2);
    assert!(lines.is_active());
    let set = machine.state().set.clone();
    assert_eq!(set, [("eth0".to_owned(), StampFilter::Ntp), ("eth1".to_owned(), StampFilter::Ntp)]);
    let (cards, lines) = open(&HardwareStamps::named_only(), &machine).expect("nothing is wanted");
    assert!(cards.cards.is_empty() && !lines.is_active());
}

#[test]
fn what_another_program_set_up_is_taken_over_only_when_it_is_asked_for() {
    let ptp = CardSetting { transmit: true, receive: StampFilter::Ptp };
    let machine = Machine::with(&[Fake { setting: ptp, ..Fake::new("eth0", 2) }]);
    let (cards, lines) = open(&HardwareStamps::default(), &machine).expect("nothing was named");
    assert!(cards.cards.is_empty() && !lines.is_active() && machine.state().set.is_empty());
    let (cards, _) = open(&named("eth0"), &machine).expect("it can");
    assert_eq!((cards.cards.len(), machine.state().set.len()), (1, 1));
    // As it is wanted it is left alone, also where it may not be set.
    let all = CardSetting { transmit: true, receive: StampFilter::All };
    let machine = Machine::with(&[Fake { setting: all, may_set: false, ..Fake::new("eth0", 2) }]);
    for wish in [HardwareStamps::default(), named("eth0")] {
        let (cards, _) = open(&wish, &machine).expect("it is done");
        assert_eq!(cards.cards.len(), 1);
    }
    assert!(machine.state().set.is_empty());
}

#[test]
fn a_named_card_that_cannot_is_an_error_that_says_why() {
    let machine = Machine::with(&[
        Fake { can: CardCapabilities::new(false, &[], None), ..Fake::new("eth0", 2) },
        Fake { can: CardCapabilities::new(true, NTP, None), ..Fake::new("eth1", 3) },
        Fake { may_set: false, ..Fake::new("eth2", 4) },
    ]);
    for (name, reason) in [
        ("eth0", "it cannot"),
        ("eth1", "its clock cannot be read"),
        ("eth2", "not permitted"),
        ("eth3", "No such device"),
    ] {
        let error = open(&named(name), &machine).expect_err("it cannot").to_string();
        assert!(error.contains(name) && error.contains(reason), "{error}");
    }
    assert!(open(&HardwareStamps::default(), &machine).expect("none was named").0.cards.is_empty());
}

#[test]
fn filters_are_chosen_by_what_the_card_has() {
    for (filters, wanted, chosen) in [
        (NTP, None, StampFilter::Ntp),
        (&[StampFilter::All][..], None, StampFilter::All),
        (&[StampFilter::Ptp][..], None, StampFilter::None),
        (NTP, Some(CardFilter::All), StampFilter::All),
    ] {
        let can = CardCapabilities::new(true, filters, Some(0));
        let machine = Machine::with(&[Fake { can, ..Fake::new("eth0", 2) }]);
        let mut wish = named("eth0");
        wish.cards[0].filter = wanted;
        open(&wish, &machine).expect("it can");
        assert_eq!(machine.state().set[0].1, chosen);
    }
}

/// A card whose clock was read for some seconds.
fn running(wish: CardWish) -> (Machine, CardClocks, Arc<CardLines>) {
    let machine = Machine::with(&[Fake::new("eth0", 2)]);
    let wish = HardwareStamps { cards: vec![wish], ..HardwareStamps::named_only() };
    let (mut cards, lines) = open(&wish, &machine).expect("it can");
    for _ in 0..5 {
        cards.refresh(machine.now().mono);
        machine.state().time += 1.0;
    }
    (machine, cards, lines)
}

fn stamp(at: NtpDate) -> Option<HardwareStamp> {
    Some(HardwareStamp { at, interface: 2, frame_octets: 0 })
}

fn by_kernel(at: ClockReading) -> Timestamped {
    Timestamped { at, source: TimestampSource::Kernel }
}

/// Seconds from `system` to what a packet of 48 octets that the card stamped now is said to have come at.
fn received_late(machine: &Machine, lines: &CardLines, kernel: ClockReading, system: NtpDate) -> Option<f64> {
    let hardware = stamp(machine.card_time());
    let packet = Convertible { kernel: by_kernel(kernel), hardware, octets: 48, ipv6: false };
    let received = lines.received(&packet);
    let is_hardware = received.source == TimestampSource::Hardware;
    assert!(is_hardware || received == by_kernel(kernel), "one or the other");
    is_hardware.then(|| (received.at.system - system).as_secs_f64())
}

#[test]
fn received_packets_are_stamped_when_their_frame_has_ended() {
    let wish = CardWish { receive_compensation: 3e-7, ..CardWish::new(Some("eth0".to_owned())) };
    let (machine, _cards, lines) = running(wish);
    let began = machine.system();
    let mut kernel = machine.now();
    kernel.system = kernel.system + NtpDuration::from_secs_f64(50e-6);
    let late = received_late(&machine, &lines, kernel, began).expect("the card's is used");
    // 48 + 42 + 4 octets at 100 Mbit/s.
    assert!((late - (7.52e-6 - 3e-7)).abs() < 2e-9, "{late:e}");
    let packet = Convertible {
        kernel: by_kernel(kernel),
        hardware: stamp(machine.card_time()),
        octets: 48,
        ipv6: true,
    };
    let longer = (lines.received(&packet).at.system - began).as_secs_f64();
    assert!((longer - late - 1.6e-6).abs() < 1e-9, "a longer header");
    let mono = lines.received(&packet).at.mono.seconds_since(kernel.mono);
    assert!((mono - (longer - 50e-6)).abs() < 2e-9, "both scales");
}

#[test]
fn a_stamp_that_cannot_be_of_the_packet_is_not_used() {
    let (machine, _cards, lines) = running(CardWish::new(Some("eth0".to_owned())));
    let now = machine.system();
    let after = |seconds: f64| {
        let at = machine.now();
        ClockReading {
            system: at.system + NtpDuration::from_secs_f64(seconds),
            mono: at.mono.add_secs_f64(seconds),
        }
    };
    for (waited, used) in
        [(1e-5, true), (0.019, true), (0.021, false), (-1e-5, true), (-1e-4, false), (1.0, false)]
    {
        assert_eq!(received_late(&machine, &lines, after(waited), now).is_some(), used, "{waited}");
    }
    let sent = |interface| {
        let hardware = Some(HardwareStamp { at: machine.card_time(), interface, frame_octets: 0 });
        lines.transmitted(by_kernel(after(-1e-5)), hardware).source
    };
    assert_eq!(sent(2), TimestampSource::Hardware);
    assert_eq!(sent(0), TimestampSource::Hardware, "there is only one");
    assert_eq!(sent(3), TimestampSource::Kernel, "another card's clock");
    assert!(lines.may_stamp(2) && lines.may_stamp(0) && !lines.may_stamp(3));
}

#[test]
fn clocks_are_read_when_they_are_needed_and_no_oftener() {
    let (machine, mut cards, lines) = running(CardWish::new(Some("eth0".to_owned())));
    assert_eq!(machine.reads(), 5);
    for _ in 0..3 {
        cards.refresh(machine.now().mono);
    }
    assert_eq!(machine.reads(), 6, "once a second");
    assert_eq!(cards.poll_timeout(), None, "nobody converts stamps");
    received_late(&machine, &lines, machine.now(), machine.system());
    let due = cards.poll_timeout().expect("somebody does");
    assert_eq!(due, machine.now().mono.add_secs_f64(2.0));
    cards.handle_timeout(machine.now().mono);
    assert_eq!(machine.reads(), 6, "not yet");
    machine.state().time += 2.0;
    cards.handle_timeout(machine.now().mono);
    assert_eq!((machine.reads(), cards.poll_timeout()), (7, None));
}

#[test]
fn what_is_done_to_our_clock_is_told_to_the_lines_at_once() {
    let (machine, mut cards, lines) = running(CardWish::new(Some("eth0".to_owned())));
    cards.system_stepped(NtpDuration::from_seconds(5));
    let mut stepped = machine.now();
    stepped.system = stepped.system + NtpDuration::from_seconds(5);
    assert!(received_late(&machine, &lines, stepped, stepped.system).is_some());
    assert!(received_late(&machine, &lines, machine.now(), machine.system()).is_none());
    cards.forget();
    assert!(received_late(&machine, &lines, stepped, stepped.system).is_none(), "nothing is known");
}

#[test]
fn a_clock_that_cannot_be_read_any_more_is_given_up() {
    let (machine, mut cards, lines) = running(CardWish::new(Some("eth0".to_owned())));
    machine.state().broken = true;
    for _ in 0..20 {
        cards.refresh(machine.now().mono);
        machine.state().time += 1.0;
    }
    assert_eq!(machine.reads(), 15, "ten times");
    assert!(!lines.may_stamp(2));
    assert!(received_late(&machine, &lines, machine.now(), machine.system()).is_none());
}
