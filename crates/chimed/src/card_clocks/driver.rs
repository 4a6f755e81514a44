//! What is asked of the kernel about cards; tests have others.

use chime_discipline::CardReading;
use chime_sys::network_card::{self, CardCapabilities, CardSetting, Interface, StampFilter};
use chime_sys::ptp_clock::{PtpClock, PtpReading, PtpReadingMethod};
use std::io;

/// A clock of a card.
pub trait ReadCard: Send {
    /// How it is read, in words.
    fn method(&self) -> &'static str;

    /// Reads it so many times, next to the system clock.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self, count: usize) -> io::Result<Vec<CardReading>>;
}

/// The cards of a machine.
pub trait CardDriver: Send {
    /// The interface of that name.
    ///
    /// # Errors
    /// Why there is none.
    fn interface(&mut self, name: &str) -> Result<Interface, String>;

    /// All interfaces.
    fn interfaces(&mut self) -> Vec<Interface>;

    /// What the card of an interface can do.
    ///
    /// # Errors
    /// When that cannot be told.
    fn capabilities(&mut self, name: &str) -> io::Result<CardCapabilities>;

    /// What it does now, if that can be told.
    fn setting(&mut self, name: &str) -> Option<CardSetting>;

    /// Has it stamp what it sends and what the filter takes; gives what it then does.
    ///
    /// # Errors
    /// When it does not.
    fn enable(&mut self, name: &str, receive: StampFilter) -> io::Result<CardSetting>;

    /// Mbit/s of its link.
    fn link_speed(&mut self, name: &str) -> Option<u32>;

    /// Opens a clock.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    fn open_clock(&mut self, index: u32, cross: bool) -> io::Result<Box<dyn ReadCard>>;
}

/// The kernel's.
#[derive(Clone, Copy, Debug)]
pub struct KernelCards;

impl CardDriver for KernelCards {
    fn interface(&mut self, name: &str) -> Result<Interface, String> {
        let index = network_card::index_of(name).map_err(|error| error.to_string())?;
        Ok(Interface { name: name.to_owned(), index, loopback: false })
    }

    fn interfaces(&mut self) -> Vec<Interface> {
        network_card::interfaces().unwrap_or_default()
    }

    fn capabilities(&mut self, name: &str) -> io::Result<CardCapabilities> {
        network_card::capabilities(name)
    }

    fn setting(&mut self, name: &str) -> Option<CardSetting> {
        network_card::setting(name).ok()
    }

    fn enable(&mut self, name: &str, receive: StampFilter) -> io::Result<CardSetting> {
        network_card::enable(name, receive)
    }

    fn link_speed(&mut self, name: &str) -> Option<u32> {
        network_card::link_speed(name)
    }

    fn open_clock(&mut self, index: u32, cross: bool) -> io::Result<Box<dyn ReadCard>> {
        Ok(Box::new(PtpClock::open(index, cross)?))
    }
}

impl ReadCard for PtpClock {
    fn method(&self) -> &'static str {
        match Self::method(self) {
            PtpReadingMethod::Cross => "hardware, together with the system clock",
            PtpReadingMethod::Extended => "the kernel, right between two readings of the system clock",
            PtpReadingMethod::Plain => "the kernel",
        }
    }

    fn read(&mut self, count: usize) -> io::Result<Vec<CardReading>> {
        let reading =
            |one: PtpReading| CardReading { before: one.before, card: one.hardware, after: one.after };
        Ok(Self::read(self, count)?.into_iter().map(reading).collect())
    }
}
