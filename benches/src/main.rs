//! Benchmarks: what one core of a server does in a second, ours and chronyd's in the same run.
//!
//! Server and load sit in network namespaces of their own with a veth pair between them, each pinned to a core; all of
//! it ends with the run, however that ends ([`sandbox`]). Load is made of raw frames from many addresses, more than is
//! served; answers are counted at the interface ([`load`]). Compare the servers of one run: absolute figures belong to
//! the machine. docs/performance.md says how to read them.

mod arithmetic;
mod clients;
mod cores;
mod echo;
mod flood;
mod footprint;
mod frames;
mod handshakes;
mod idle;
mod ke_flood;
mod key_establishment;
mod load;
mod measure;
mod report;
mod sandbox;
mod servers;
mod stamps;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use rustls::NamedGroup;
use servers::Program;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measures our server and chronyd on one core each.
#[derive(Parser, Clone, Debug)]
#[command(name = "truechimer-benches", max_term_width = 100)]
struct Options {
    /// What is measured; everything when nothing is named
    #[arg(value_enum)]
    topics: Vec<Topic>,
    /// Prints the figures as JSON
    #[arg(long)]
    json: bool,
    /// Writes the figures into the tables of this document, too, as in docs/performance.md
    #[arg(long)]
    write: Option<PathBuf>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measurements of which the median is taken
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Measures only this; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Subject>,
    /// Which cores pay for what
    #[arg(long, value_enum, default_value_t = Placement::Split)]
    placement: Placement,
    /// Measures only this server; may be given several times
    #[arg(long, value_enum)]
    server: Vec<Program>,
    /// Requests offered per second; otherwise 200000 with `--placement one`, and as many as can be made with `split`;
    /// during a flood of handshakes 50000 plain ones, 30000 with NTS
    #[arg(long)]
    offer: Option<f64>,
    /// Runs in namespaces that were made already
    #[arg(long, hide = true)]
    inside: bool,
    /// Is the ceiling: sends back what comes to UDP port 123, so many datagrams at a time
    #[arg(long, hide = true)]
    echo: Option<usize>,
}

/// What a run is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Topic {
    /// Plain NTP requests
    Ntp,
    /// NTS requests with both AEADs, and their arithmetic alone
    Nts,
    /// NTS key establishments
    Ke,
    /// 100,000 idle and slow connections to the NTS-KE server, and clients who want keys meanwhile
    KeIdle,
    /// Requests, and clients who want keys, during a flood of full handshakes
    KeFlood,
    /// How true the transmit timestamps are under load
    Stamps,
    /// Two cores against one
    Cores,
    /// How well a daemon keeps time while it is saturated with requests
    Clients,
    /// What a client takes of a machine: memory and wake-ups
    Footprint,
}

impl Topic {
    const fn subjects(self) -> &'static [Subject] {
        match self {
            Self::Ntp => &[Subject::Plain],
            Self::Nts => &[Subject::Nts15, Subject::Nts30],
            Self::Ke => &[Subject::Ke, Subject::KePostQuantum],
            Self::KeIdle | Self::KeFlood | Self::Stamps | Self::Cores | Self::Clients | Self::Footprint => {
                &[]
            }
        }
    }
}

impl Options {
    /// Whether a topic is asked for: by name, or because none is.
    fn is_about(&self, topic: Topic) -> bool {
        self.topics.contains(&topic) || (self.topics.is_empty() && self.only.is_empty())
    }

    /// What is measured against chronyd.
    fn subjects(&self) -> Vec<Subject> {
        let topics = Topic::value_variants().iter().filter(|topic| self.is_about(**topic));
        topics.flat_map(|topic| topic.subjects()).chain(&self.only).copied().collect()
    }

    /// Requests offered per second.
    fn offer(&self) -> f64 {
        self.offer.unwrap_or(match self.placement {
            Placement::Split => f64::INFINITY,
            // Far more would show nothing but the kernel dropping packets.
            Placement::One => 200_000.0,
        })
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Subject {
    /// Plain NTP requests
    Plain,
    /// NTS requests with AEAD 15 (AES-SIV-CMAC-256)
    Nts15,
    /// NTS requests with AEAD 30 (AES-128-GCM-SIV)
    Nts30,
    /// NTS key establishments with full TLS handshakes, X25519
    Ke,
    /// The same with X25519MLKEM768
    KePostQuantum,
}

impl Subject {
    const fn text(self) -> &'static str {
        match self {
            Self::Plain => "plain NTP",
            Self::Nts15 => "NTS, AEAD 15",
            Self::Nts30 => "NTS, AEAD 30",
            Self::Ke => "NTS-KE",
            Self::KePostQuantum => "NTS-KE, ML-KEM",
        }
    }
}

/// Who pays for the packets on their way into the server's sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Placement {
    /// The load's core, as veth does it: the server's core has the sockets, the daemon and the way out
    Split,
    /// The server's core pays for everything, as with a network card; overload shows
    One,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match options.echo {
        Some(at_once) => echo::run(at_once).map(|()| true),
        None if options.inside => run(&options).map(|()| true),
        None => sandbox::reenter(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    ensure!(options.seconds > 0.0 && options.seconds <= 600.0, "--seconds: more than 0, at most 600");
    ensure!(options.offer() > 0.0, "--offer: more than 0");
    ensure!((1..=99).contains(&options.runs), "--runs: 1 to 99");
    let programs = if options.server.is_empty() { Program::ALL.to_vec() } else { options.server.clone() };
    sandbox::go_before_others();
    let network = sandbox::Network::new(options.placement)?;
    let identity = servers::Identity::new(&sandbox::folder())?;
    let mut report = report::Report::new(options.placement);
    for subject in options.subjects() {
        let programs = programs.iter().filter(|program| program.can(subject));
        let mut figures: Vec<_> = programs.map(|program| (*program, Vec::new())).collect();
        // Turn by turn, so that whatever else the machine does hits all of them alike.
        for _ in 0..options.runs {
            for (program, figures) in &mut figures {
                let server = servers::start(*program, &identity)?;
                let time = Duration::from_secs_f64(options.seconds);
                figures.push(match subject {
                    Subject::Ke => key_establishment::measure(&server, NamedGroup::X25519, time)?,
                    Subject::KePostQuantum => {
                        key_establishment::measure(&server, NamedGroup::X25519MLKEM768, time)?
                    }
                    _ => load::measure(
                        &network,
                        &server,
                        (subject, load::Pace::bursts(options.offer())),
                        time,
                    )?,
                });
            }
        }
        for (program, figures) in figures {
            report.add(subject, program, &figures);
        }
    }
    if options.is_about(Topic::Nts) {
        report.arithmetic = arithmetic::measure()?;
    }
    if options.is_about(Topic::KeIdle) {
        for program in programs.iter().filter(|program| program.can(Subject::Ke)) {
            report.idle.push(idle::measure(&servers::start(*program, &identity)?)?);
        }
    }
    if options.is_about(Topic::KeFlood) {
        let time = Duration::from_secs_f64(options.seconds);
        let how = ke_flood::How { runs: options.runs, time, offer: options.offer };
        report.ke_flood = ke_flood::measure(&network, &identity, &programs, how)?;
    }
    if options.is_about(Topic::Stamps) {
        report.stamps = stamps::measure(&network, &identity, &programs, options.runs)?;
    }
    if options.is_about(Topic::Cores) {
        let time = Duration::from_secs_f64(options.seconds);
        report.cores = cores::measure(&network, &identity, (options.runs, time))?;
    }
    if options.is_about(Topic::Clients) {
        report.clients = clients::measure(&network, &identity, &programs)?;
    }
    if options.is_about(Topic::Footprint) {
        report.footprint = Some(footprint::measure()?);
    }
    report.print(options.json)?;
    let Some(path) = &options.write else { return Ok(()) };
    let read = || format!("cannot read {}", path.display());
    let document = report.written_into(&std::fs::read_to_string(path).with_context(read)?)?;
    std::fs::write(path, document).with_context(|| format!("cannot write {}", path.display()))
}
