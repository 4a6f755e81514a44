//! The command line.

use std::path::PathBuf;

use chime_config::Dialect;
use chime_control::{Command as DaemonCommand, Report};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::exit;
use crate::ke::KeOptions;
use crate::query::QueryOptions;
use crate::terminal::Colour;

/// Shows what the time daemon chimed knows, and whether its time can be trusted.
#[derive(Parser, Debug)]
#[command(name = "chime", version, max_term_width = 100, after_help = exit::HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Everything as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Socket of the daemon; the one in its configuration unless given
    #[arg(long, global = true, value_name = "PATH", env = "CHIME_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", alias = "colour")]
    pub(crate) color: Colour,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Is the clock right, who says so, and what should be looked at? (the default)
    Status {
        /// Everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// State of the clock
    Tracking(ReportOptions),
    /// Sources and their last measurements
    Sources(ReportOptions),
    /// Statistics of the sources' measurements
    Sourcestats(ReportOptions),
    /// How sources are authenticated: NTS keys and cookies, symmetric keys
    Authdata(ReportOptions),
    /// Last answers, field by field
    Ntpdata {
        /// Only this source, by name or address
        source: Option<String>,
        #[command(flatten)]
        options: ReportOptions,
    },
    /// What selection made of the sources
    Selectdata(ReportOptions),
    /// How many sources are polled
    Activity(ReportOptions),
    /// Counts of the NTP server and the NTS-KE server
    Serverstats(ReportOptions),
    /// Clients of the NTP server
    Clients(ReportOptions),
    /// NTS sources that hold cookies, and how many; nothing where none does
    Ntsdatastats(ReportOptions),
    /// Smoothing of the time that is served
    Smoothing(ReportOptions),
    /// The battery-backed clock
    Rtcdata(ReportOptions),
    /// Monitoring plug-in: is the time synchronised, authenticated, near, and from enough sources?
    Check(CheckOptions),
    /// Establish keys with an NTS server once, step by step, without a daemon
    Ke(KeOptions),
    /// Measure servers once, without a daemon and without touching the clock
    Query(QueryOptions),
    /// Authenticated time end to end, on loopback and with nothing to install
    Demo,
    /// Run the daemon's own core in a simulated world, and say whether its clock met the scenario's limits
    Simulate(SimulateArgs),
    /// Look at configuration files
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Poll a source, or all of them
    Online {
        /// Name or address
        source: Option<String>,
    },
    /// Stop polling a source, or all of them
    Offline {
        /// Name or address
        source: Option<String>,
    },
    /// Poll a source quickly for a while, or all of them
    Burst {
        /// Name or address
        source: Option<String>,
    },
    /// Look the names of all sources up again
    Refresh,
    /// Step the clock by what is left to correct
    Makestep,
    /// Forget the selected source and select again
    Reselect,
    /// Drop all measurements and start again
    Reset,
    /// Read the configuration again
    Reload,
    /// The daemon, as the demo starts it
    #[command(hide = true)]
    Daemon(chimed::cli::Options),
    /// Write shell completions or manual pages
    #[command(hide = true)]
    Generate {
        #[command(subcommand)]
        what: Generate,
    },
}

/// How a report is shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReportOptions {
    /// As JSON
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Values separated by commas, as `chronyc -c`
    #[arg(short = 'c', long)]
    pub(crate) csv: bool,
    /// Addresses in place of names
    #[arg(short = 'n', long)]
    pub(crate) numeric: bool,
    /// Also the places of a pool that are still free
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
}

/// What `simulate` runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct SimulateArgs {
    /// The scenario, a TOML file: docs/simulation.md
    pub(crate) file: PathBuf,
    /// Another seed than the file's: another world of the same kind
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// Draw error, error bound, frequency and polls over time into this file, .svg or .png
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `check` expects.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckOptions {
    /// An offset above this is a warning
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = positive)]
    pub(crate) warning: Option<f64>,
    /// An offset above this is critical
    #[arg(short = 'c', long, value_name = "SECONDS", value_parser = positive)]
    pub(crate) critical: Option<f64>,
    /// An error bound above this is a warning
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub(crate) bound_warning: Option<f64>,
    /// An error bound above this is critical
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub(crate) bound_critical: Option<f64>,
    /// Fewer usable sources are a warning; as many as must agree unless given
    #[arg(short = 's', long, value_name = "COUNT")]
    pub(crate) sources: Option<usize>,
    /// Time that is not authenticated is critical, not just a warning
    #[arg(long, conflicts_with = "allow_unauthenticated")]
    pub(crate) require_authentication: bool,
    /// Time that is not authenticated is good enough
    #[arg(long)]
    pub(crate) allow_unauthenticated: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Say everything that is wrong with a configuration file and its drop-ins
    Check(ConfigFile),
    /// Show what a configuration comes to, with every default, in Truechimer's own format
    Show(ConfigFile),
    /// Write a configuration of another program in Truechimer's own format, with its comments; what is lost goes to
    /// standard error, too
    Convert {
        #[command(flatten)]
        file: ConfigFile,
        /// The format to write; there is only this one
        #[arg(long, value_name = "DIALECT", default_value = "native", value_parser = ["native"])]
        to: String,
    },
    /// Say in sentences what the daemon will do, source by source, and what is weak about it
    Explain(ConfigFile),
}

/// A configuration file.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigFile {
    /// The file; the daemon's own unless given
    pub(crate) file: Option<PathBuf>,
    /// Take it as written in DIALECT: native (TOML), chrony (chrony.conf), ntpsec (ntp.conf) or ntpd-rs (ntp.toml);
    /// seen from the file unless given
    #[arg(long, value_name = "DIALECT")]
    pub(crate) dialect: Option<Dialect>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Generate {
    /// Completions for a shell, on standard output
    Completions {
        /// For which
        shell: Shell,
    },
    /// Manual pages, into a directory
    Man {
        /// Where to
        directory: PathBuf,
    },
}

impl Command {
    /// The report that is asked for, if one is.
    pub(crate) fn report(&self) -> Option<(Report, &ReportOptions, Option<&str>)> {
        let (report, options) = match self {
            Self::Tracking(options) => (Report::Tracking, options),
            Self::Sources(options) => (Report::Sources, options),
            Self::Sourcestats(options) => (Report::Sourcestats, options),
            Self::Authdata(options) => (Report::Authdata, options),
            Self::Ntpdata { source, options } => {
                return Some((Report::Ntpdata, options, source.as_deref()));
            }
            Self::Selectdata(options) => (Report::Selectdata, options),
            Self::Activity(options) => (Report::Activity, options),
            Self::Serverstats(options) => (Report::Serverstats, options),
            Self::Clients(options) => (Report::Clients, options),
            Self::Ntsdatastats(options) => (Report::Ntsdatastats, options),
            Self::Smoothing(options) => (Report::Smoothing, options),
            Self::Rtcdata(options) => (Report::Rtcdata, options),
            _ => return None,
        };
        Some((report, options, None))
    }

    /// The command to the daemon that is asked for, if one is.
    pub(crate) fn for_daemon(&self) -> Option<DaemonCommand> {
        Some(match self {
            Self::Online { source } => DaemonCommand::Online { source: source.clone() },
            Self::Offline { source } => DaemonCommand::Offline { source: source.clone() },
            Self::Burst { source } => DaemonCommand::burst(source.clone()),
            Self::Refresh => DaemonCommand::Refresh,
            Self::Makestep => DaemonCommand::MakeStep,
            Self::Reselect => DaemonCommand::Reselect,
            Self::Reset => DaemonCommand::ResetSources,
            Self::Reload => DaemonCommand::Reload,
            _ => return None,
        })
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Ok(seconds),
        _ => Err("must be a number of seconds above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
