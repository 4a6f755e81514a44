//! The discipline in a small world.

mod leap_seconds;
mod steering;
mod voting;
mod world;
