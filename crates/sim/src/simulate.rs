//! Scenarios as files: `chime simulate FILE`. docs/simulation.md has the keys.

mod canvas;
mod command;
mod event;
mod file;
mod plot;
mod report;
mod span;

pub use command::{SimulateOptions, run_file};
pub use file::{FileError, ScenarioFile};
pub use plot::{plot_png, plot_svg};
pub use report::{Simulation, simulate};
