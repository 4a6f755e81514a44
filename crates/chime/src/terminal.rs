//! What the output goes to: a terminal with its width, or a pipe.

use std::io::{self, IsTerminal, Write};

use chime_control::Paint;
use clap::ValueEnum;
use terminal_size::{Width, terminal_size};

/// Columns where there is no terminal to ask.
const WIDTH_DEFAULT: usize = 80;

/// When to use colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The standard output as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Colours, or none.
    pub(crate) paint: Paint,
    /// Columns.
    pub(crate) width: usize,
}

impl Terminal {
    /// Asks the standard output and the environment.
    pub(crate) fn detect(colour: Colour) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let paint = match colour {
            Colour::Always => Paint::Ansi,
            Colour::Auto if is_terminal && wanted => Paint::Ansi,
            Colour::Auto | Colour::Never => Paint::Plain,
        };
        let columns = terminal_size().map(|(Width(columns), _)| usize::from(columns));
        let width = if is_terminal { columns.unwrap_or(WIDTH_DEFAULT) } else { WIDTH_DEFAULT };
        Self { paint, width }
    }
}

/// Writes to the standard output. A reader that has seen enough (`chime sources | head -1`) is no
/// failure, which it would be for `println!`.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
