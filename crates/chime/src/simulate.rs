//! `chime simulate`: a scenario file in the simulator.

use crate::cli::SimulateArgs;
use crate::exit::Exit;
use crate::terminal::print;
use anyhow::Result;
use chime_sim::simulate::{SimulateOptions, run_file};

/// Runs the scenario; broken limits are a failure, a file that cannot be simulated is a wrong configuration.
pub(crate) fn run(options: &SimulateArgs) -> Result<Exit> {
    let SimulateArgs { file, seed, plot, json } = options.clone();
    match run_file(&SimulateOptions { file, seed, plot, json }) {
        Ok((text, met)) => {
            print(&text)?;
            Ok(if met { Exit::Success } else { Exit::Failure })
        }
        Err(error) => {
            eprintln!("chime: {error}");
            Ok(Exit::Configuration)
        }
    }
}
