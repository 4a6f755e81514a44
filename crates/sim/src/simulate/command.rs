//! What `chime simulate` does: read a file, run it, draw it, say how it went.

use super::{ScenarioFile, plot_png, plot_svg, simulate};
use std::path::{Path, PathBuf};

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SimulateOptions {
    /// The scenario.
    pub file: PathBuf,
    /// Another seed than the file's.
    pub seed: Option<u64>,
    /// Where to draw to; what the name ends in tells the format, `.svg` or `.png`.
    pub plot: Option<PathBuf>,
    /// An object instead of a summary.
    pub json: bool,
}

/// Runs a scenario file. Gives the text to print, and whether all limits were met.
///
/// # Errors
/// When the file cannot be read or is no scenario, or the picture cannot be written: file and reason.
pub fn run_file(options: &SimulateOptions) -> Result<(String, bool), String> {
    let with = |path: &Path, error: String| format!("{}: {error}", path.display());
    let format = options.plot.as_deref().map(Format::of).transpose()?;
    let text = std::fs::read_to_string(&options.file).map_err(|e| with(&options.file, e.to_string()))?;
    let file = ScenarioFile::parse(&text).map_err(|error| with(&options.file, error.to_string()))?;
    let seed = options.seed.unwrap_or(file.seed);
    let simulation = simulate(&file, seed);
    if let (Some(path), Some(format)) = (&options.plot, format) {
        let octets = match format {
            Format::Svg => plot_svg(&simulation)?.into_bytes(),
            Format::Png => plot_png(&simulation)?,
        };
        std::fs::write(path, octets).map_err(|error| with(path, error.to_string()))?;
    }
    let text = if options.json {
        serde_json::to_string_pretty(&simulation).map_err(|error| error.to_string())? + "\n"
    } else {
        simulation.text(&format!("chime simulate {} --seed {seed}", options.file.display()))
    };
    Ok((text, simulation.met))
}

/// Of a picture.
#[derive(Clone, Copy)]
enum Format {
    Svg,
    Png,
}

impl Format {
    fn of(path: &Path) -> Result<Self, String> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(format!("{}: the name of a plot ends in .svg or .png", path.display())),
        }
    }
}
