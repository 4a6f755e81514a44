//! How accurate the daemon is in steady state, next to others in a world of the same model: `cargo xtask accuracy`.
//!
//! The world of the table: each datagram takes a base delay of 1 ms and an exponentially distributed queueing delay,
//! independent for each direction; the oscillator is 1e-5 to 1e-4 wrong and its frequency walks at random, once a
//! second; time stamps are exact. The whole engine runs in it, with its packets, its polling and real responders, in the
//! same [`World`](crate::World) as the scenarios. What counts is the system clock's *true* error once a second, from
//! 20,000 s to 120,000 s. docs/accuracy.md has the results and the keys of a world file.

mod cell;
mod command;
mod conditions;
mod measuring;
mod plot;
mod recorded;
mod report;
mod result;
mod speed;

pub use command::{Options, run};
pub use conditions::{Conditions, FrequencyStep, Route};
pub use result::Accuracy;
pub use speed::speed;
