//! Exit codes; documented in docs/exit-codes.md and stable.

use std::process::ExitCode;

/// How a command ended. `check` has the codes of monitoring plug-ins instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// It was done, or the answer is yes.
    Success,
    /// It failed, or the answer is no: a measurement without answer, an unknown source.
    Failure,
    /// The daemon cannot be reached.
    NoDaemon,
    /// The configuration is wrong (`EX_CONFIG` of sysexits).
    Configuration,
    /// The verdict of `check`: 0 to 3.
    Plugin(u8),
}

/// Told in `--help`.
pub(crate) const HELP: &str = "\
Exit status:
  0   done, or the answer is yes
  1   failed, or the answer is no
  2   the command line is wrong
  3   the daemon cannot be reached
  78  the configuration is wrong
`chime check` has the codes of monitoring plug-ins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::NoDaemon => 3,
            Exit::Configuration => 78,
            Exit::Plugin(code) => code,
        })
    }
}
