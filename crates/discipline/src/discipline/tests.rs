//! The discipline in a small world.

mod steering;
mod voting;
mod world;
