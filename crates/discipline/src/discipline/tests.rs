//! The discipline in a small world.

mod first_samples;
mod leap_seconds;
mod steering;
mod voting;
mod world;
