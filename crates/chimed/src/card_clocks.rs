//! Network cards that stamp packets: turned on at the start, their clocks read again and again, their stamps made system
//! time.
//!
//! [`CardClocks`] belongs to the time plane, which reads the clocks and tells of every change of its own. What it finds out
//! is published in [`CardLines`], by which any thread that receives packets converts their stamps.

mod driver;
mod lines;

pub use driver::{CardDriver, KernelCards, ReadCard};
pub use lines::{CardLines, Convertible};

use anyhow::{Result, bail};
use chime_config::{CardFilter, CardWish, HardwareStamps};
use chime_discipline::{CardClock, CardReading, CardVerdict};
use chime_sys::network_card::{CardSetting, Interface, StampFilter};
use chime_time::{ClockReading, Frequency, MonoTime, NtpDuration};
use lines::Line;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Readings of a card's clock of which the quickest count; each takes some microseconds.
const READINGS: usize = 10;

/// Failures in a row after which a clock is given up: the card was removed.
const FAILURES_MAX: u32 = 10;

/// A card whose stamps are used.
struct Card {
    interface: Interface,
    setting: CardSetting,
    wish: CardWish,
    /// Its place in [`CardClocks::clocks`].
    clock: usize,
    /// Mbit/s.
    link_speed: Option<u32>,
}

/// A clock of one or more cards.
struct Clock {
    index: u32,
    device: Box<dyn ReadCard>,
    relation: CardClock,
    poll_min: Duration,
    poll_max: Duration,
    read_at: Option<MonoTime>,
    failures: u32,
}

/// The cards of this machine whose stamps are used.
pub struct CardClocks {
    driver: Box<dyn CardDriver>,
    cards: Vec<Card>,
    clocks: Vec<Clock>,
    lines: Arc<CardLines>,
}

impl std::fmt::Debug for CardClocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CardClocks({} cards, {} clocks)", self.cards.len(), self.clocks.len())
    }
}

impl CardClocks {
    /// No cards.
    #[must_use]
    pub fn none(lines: Arc<CardLines>) -> Self {
        Self { driver: Box::new(KernelCards), cards: Vec::new(), clocks: Vec::new(), lines }
    }

    /// Turns stamps on where that is wanted and possible, and says where and why not. Needs `CAP_NET_ADMIN` unless the
    /// cards are set up already.
    ///
    /// # Errors
    /// When an interface that was named cannot do it.
    pub fn open(wish: &HardwareStamps, driver: Box<dyn CardDriver>, lines: Arc<CardLines>) -> Result<Self> {
        let mut cards = Self { driver, ..Self::none(lines) };
        if wish.cards.is_empty() && !wish.automatic {
            return Ok(cards);
        }
        let mut refusals = Vec::new();
        for named in wish.cards.iter().filter(|card| card.interface.is_some()) {
            let name = named.interface.as_deref().unwrap_or_default();
            let interface = cards.driver.interface(name);
            if let Err(reason) = interface.and_then(|interface| cards.use_card(interface, named, true)) {
                bail!("Could not enable HW timestamping on {name}: {reason}");
            }
        }
        let all = wish.cards.iter().find(|card| card.interface.is_none()).cloned();
        if let Some(wish_of_all) = all.or_else(|| wish.automatic.then(|| CardWish::new(None))) {
            for interface in cards.driver.interfaces().into_iter().filter(|interface| !interface.loopback) {
                let name = interface.name.clone();
                if cards.cards.iter().any(|card| card.interface.name == name) {
                    continue;
                }
                if let Err(reason) = cards.use_card(interface, &wish_of_all, !wish.automatic) {
                    refusals.push(format!("{name}: {reason}"));
                }
            }
        }
        if cards.cards.is_empty() && !refusals.is_empty() {
            info!("no network card stamps packets, the kernel does ({})", refusals.join("; "));
        }
        cards.lines.set_active(!cards.cards.is_empty());
        Ok(cards)
    }

    /// Has a card stamp; `take_over` also one that somebody set up otherwise.
    fn use_card(&mut self, interface: Interface, wish: &CardWish, take_over: bool) -> Result<(), String> {
        let name = &interface.name;
        let can = self.driver.capabilities(name).map_err(|error| error.to_string())?;
        if !can.transmit && !can.receive {
            return Err("it cannot".to_owned());
        }
        let Some(index) = can.clock else { return Err("its clock cannot be read".to_owned()) };
        let filter = match wish.filter {
            Some(CardFilter::None) => StampFilter::None,
            Some(CardFilter::Ntp) => StampFilter::Ntp,
            Some(CardFilter::Ptp) => StampFilter::Ptp,
            Some(CardFilter::All) => StampFilter::All,
            None if can.has(StampFilter::Ntp) => StampFilter::Ntp,
            None if can.has(StampFilter::All) => StampFilter::All,
            None => StampFilter::None,
        };
        let before = self.driver.setting(name);
        let is_done =
            before.is_some_and(|now| now.transmit && (now.receive == filter || now.receive.stamps_ntp()));
        let of_others = before.is_some_and(|now| now.transmit || now.receive != StampFilter::None);
        let setting = match before {
            Some(setting) if is_done && !take_over => setting,
            Some(_) if of_others && !take_over => {
                return Err("another program has set it up for itself".to_owned());
            }
            // Who may not set it up can use what is.
            before => self.driver.enable(name, filter).or_else(|error| match before {
                Some(setting) if is_done => Ok(setting),
                _ => Err(error.to_string()),
            })?,
        };
        let clock = self.clock(index, wish)?;
        let link_speed = self.driver.link_speed(name);
        let stamped = match (setting.transmit, setting.receive.stamps_ntp()) {
            (true, true) => "packets",
            (true, false) => "packets that are sent (its filter does not take received NTP packets)",
            _ => "received packets",
        };
        info!(
            "{name} stamps {stamped}; its clock is /dev/ptp{index}, read by {}",
            self.clocks[clock].device.method()
        );
        self.cards.push(Card { interface, setting, wish: wish.clone(), clock, link_speed });
        Ok(())
    }

    /// The place of the clock with that number, which is opened when it is not yet.
    fn clock(&mut self, index: u32, wish: &CardWish) -> Result<usize, String> {
        if let Some(at) = self.clocks.iter().position(|clock| clock.index == index) {
            return Ok(at);
        }
        let device = self
            .driver
            .open_clock(index, wish.cross_timestamps)
            .map_err(|error| format!("/dev/ptp{index}: {error}"))?;
        self.clocks.push(Clock {
            index,
            device,
            relation: CardClock::new(wish.relation),
            poll_min: seconds_of(wish.poll_min),
            poll_max: seconds_of(wish.poll_max),
            read_at: None,
            failures: 0,
        });
        Ok(self.clocks.len() - 1)
    }

    /// Reads the clocks that were not read for their shortest interval: to be called when stamps come or are to come.
    pub fn refresh(&mut self, now: MonoTime) {
        self.read_clocks(now, |clock| clock.poll_min);
    }

    /// When clocks want to be read although nothing happens here: while other threads convert stamps.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let due =
            |clock: &Clock| clock.read_at.map_or(MonoTime::ZERO, |at| at.saturating_add(clock.poll_max));
        if !self.lines.is_used() {
            return None;
        }
        self.clocks.iter().map(due).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.lines.take_use();
            self.read_clocks(now, |clock| clock.poll_max);
        }
    }

    fn read_clocks(&mut self, now: MonoTime, interval: impl Fn(&Clock) -> Duration) {
        let mut changed = false;
        for clock in &mut self.clocks {
            let is_fresh =
                clock.read_at.is_some_and(|at| now.saturating_since(at) < interval(clock).mul_f64(0.99));
            if is_fresh || clock.failures == FAILURES_MAX {
                continue;
            }
            clock.read_at = Some(now);
            changed |= clock.read();
        }
        if changed {
            self.publish();
        }
    }

    /// We stepped the system clock.
    pub fn system_stepped(&mut self, by: NtpDuration) {
        self.clocks.iter_mut().for_each(|clock| clock.relation.system_stepped(by));
        self.publish();
    }

    /// We changed the frequency of the system clock; `at` was just now.
    pub fn system_frequency_changed(&mut self, at: ClockReading, from: Frequency, to: Frequency) {
        if from == to || self.clocks.is_empty() {
            return;
        }
        let changed = |clock: &mut Clock| clock.relation.system_frequency_changed(at.system, from, to);
        self.clocks.iter_mut().for_each(changed);
        self.publish();
    }

    /// Somebody else moved the system clock: what was known is of no use.
    pub fn forget(&mut self) {
        for clock in &mut self.clocks {
            clock.relation.forget();
            clock.read_at = None;
        }
        self.publish();
    }

    /// Links come and go, at other speeds.
    pub fn network_changed(&mut self) {
        for card in &mut self.cards {
            card.link_speed = self.driver.link_speed(&card.interface.name);
        }
        self.publish();
    }

    fn publish(&self) {
        if self.cards.is_empty() {
            return;
        }
        let line = |card: &Card| {
            let line = self.clocks.get(card.clock)?.relation.line()?;
            Some(Line {
                interface: card.interface.index,
                line,
                stamps_received: card.setting.receive.stamps_ntp(),
                transmit_compensation: NtpDuration::from_secs_f64(card.wish.transmit_compensation),
                receive_compensation: NtpDuration::from_secs_f64(card.wish.receive_compensation),
                link_speed: card.link_speed,
            })
        };
        self.lines.publish(self.cards.iter().filter_map(line).collect());
    }
}

impl Clock {
    /// Reads it; gives whether more is known now.
    fn read(&mut self) -> bool {
        let readings: Vec<CardReading> = match self.device.read(READINGS) {
            Ok(readings) => readings,
            Err(error) => {
                self.failures += 1;
                if self.failures == FAILURES_MAX {
                    warn!(
                        "/dev/ptp{} cannot be read ({error}): its cards' stamps are not used any more",
                        self.index
                    );
                    self.relation.forget();
                    return true;
                }
                return false;
            }
        };
        self.failures = 0;
        match self.relation.add(&readings) {
            CardVerdict::Stored => true,
            CardVerdict::CardStepped => {
                info!("/dev/ptp{} was stepped by somebody", self.index);
                true
            }
            CardVerdict::Useless => {
                debug!("/dev/ptp{}: the system clock went backwards while it was read", self.index);
                false
            }
        }
    }
}

/// 2 to that power, in seconds.
fn seconds_of(exponent: i8) -> Duration {
    Duration::from_secs_f64(f64::from(exponent).exp2())
}

#[cfg(test)]
mod tests;
