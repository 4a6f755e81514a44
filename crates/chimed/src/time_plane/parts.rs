//! What the time plane is made of.

use crate::broadcasts::Broadcasts;
use crate::card_clocks::CardClocks;
use crate::chronyd::shell::ChronyShell;
use crate::clock_shell::ClockShell;
use crate::desks::Desk;
use crate::event_log::EventLog;
use crate::exchanges::Exchanges;
use crate::ke_server::KeWorker;
use crate::leap_table::LeapTables;
use crate::ntpd::shell::NtpdShell;
use crate::publish::Publisher;
use crate::reference_clocks::ReferenceClocks;
use crate::serving::InlineWorker;
use crate::source_files::SourceFiles;
use crate::state::StateKeeper;
use crate::trust::Trusts;
use chime_config::{Model, Source};
use chime_control::Snapshot;
use chime_engine::Config;
use chime_server::ClientRecord;
use std::sync::Arc;

/// What a configuration that was read again changes.
pub struct Reloaded {
    /// For the engine.
    pub engine: Config,
    /// Whom its sources trust.
    pub trusts: Trusts,
    /// Where leap seconds are known from, and how they are served.
    pub leap_seconds: chime_config::LeapSeconds,
    /// Files with sources, if the configuration has any.
    pub source_files: Option<KeptSources>,
}

/// A configuration that was read again and is not in force yet.
pub struct ReadAgain {
    /// What it says.
    pub model: Model,
    /// What it changes for the time plane.
    pub changes: Reloaded,
}

/// Reads the configuration again, on any thread: it may take as long as names in it are looked up.
pub type Read = Arc<dyn Fn() -> anyhow::Result<ReadAgain> + Send + Sync>;

/// How the configuration is read again.
pub struct Reload {
    /// Reads it.
    pub read: Read,
    /// Puts in force what servers are told, and gives what the time plane is told.
    pub apply: Box<dyn FnMut(ReadAgain) -> anyhow::Result<Reloaded>>,
}

impl Reload {
    /// For who has no configuration that could be read again.
    #[must_use]
    pub fn never() -> Self {
        Self {
            read: Arc::new(|| anyhow::bail!("there is nothing to read")),
            apply: Box::new(|read| Ok(read.changes)),
        }
    }
}

/// Files with sources that can be read again by themselves, and what they said last.
pub struct KeptSources {
    /// The files.
    pub files: SourceFiles,
    /// Their sources.
    pub sources: Vec<Source>,
}

/// What the plane is made of beside the engine.
pub struct Parts {
    /// The clock.
    pub clock: ClockShell,
    /// Files.
    pub state: StateKeeper,
    /// What others read.
    pub publisher: Publisher,
    /// Sockets.
    pub exchanges: Exchanges,
    /// Network cards that stamp packets.
    pub cards: CardClocks,
    /// Devices of reference clocks.
    pub reference_clocks: ReferenceClocks,
    /// What is sent without being asked for.
    pub broadcasts: Broadcasts,
    /// Whom the sources trust.
    pub trusts: Trusts,
    /// Files with sources, if the configuration has any.
    pub source_files: Option<KeptSources>,
    /// The list of leap seconds.
    pub leap_tables: LeapTables,
    /// Servers that have no threads of their own (`threads = "single"`).
    pub inline: Inline,
    /// Protocols that have no thread of their own.
    pub desks: InlineDesks,
    /// What a chrony.conf asks for beside keeping time.
    pub chrony: Option<ChronyShell>,
    /// What an ntp.conf asks for beside keeping time.
    pub ntpd: Option<NtpdShell>,
    /// The lines of the log about what happens.
    pub log: EventLog,
    /// Whether there is no other thread that could send a command: then none is waited for.
    pub alone: bool,
}

/// Servers that live in this loop.
#[derive(Default)]
pub struct Inline {
    /// The NTP server.
    pub ntp: Option<InlineWorker>,
    /// The NTS key establishment server.
    pub ke: Option<KeWorker>,
}

/// The state; with clients when those of the server that lives in the loop are given.
pub type ViewOfLoop = Box<dyn Fn(Option<&[ClientRecord]>) -> Snapshot + Send>;

/// Protocols of other daemons' tools that live in this loop.
#[derive(Default)]
pub struct InlineDesks {
    /// The protocols.
    pub desks: Vec<Box<dyn Desk>>,
    /// The state; with clients when those of the server that lives in this loop are given.
    pub view: Option<ViewOfLoop>,
}
