//! Simulated worlds in which the engine, the server and the discipline meet everything that can happen to them.
//!
//! Owns virtual time, oscillators, the network and its faults, servers (the real responder on a simulated clock),
//! adversaries, and scenarios with limits. Everything follows from one seed: a failure is replayed by its number. Reads
//! no real clock and opens no socket. Key establishment is cut short: the outcome of a TLS session comes without one.
//! Start at [`Scenario`], [`Limits`] and [`World`]; how accurate the daemon is in steady state is [`accuracy`]'s.
#![forbid(unsafe_code)]

pub mod accuracy;
mod adversary;
mod clock;
mod disk;
mod fleet;
mod ladder;
mod limits;
mod network;
mod random;
mod scenario;
mod server;
pub mod simulate;
pub mod sweep;
mod watch;
mod world;

pub use adversary::{Adversary, Attack};
pub use clock::{Ramp, SimulatedClock, Sine};
pub use fleet::{Fleet, StratumReport};
pub use limits::{Limits, Outcome, Verdict};
pub use network::{Burst, Detour, Direction, Distribution, Path, REORDER_SECONDS_MAX, SlowQueue, Ways};
pub use random::Chance;
pub use scenario::{Expectation, START_UNIX_SECONDS, Scenario, before, micros, millis, minutes, seconds};
pub use server::{Jumps, Lie, Manner, SimulatedServer, Smear};
pub use watch::Point;
pub use world::{Action, World};
