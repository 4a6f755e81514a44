//! The HTTP side of the control plane: reports, metrics and commands.
//!
//! Owns the sockets, the routes and the limits. It decides nothing about time: it shows the
//! [`Snapshot`] that it is given, and hands commands to a function that queues
//! them. It runs on a thread of its own, so that a slow scraper or a stuck client cannot delay a
//! clock update.
//!
//! The Unix socket offers everything, since its permissions say who may; TCP offers `/metrics`
//! only. Start at [`Sockets::open`] and [`spawn`].
#![forbid(unsafe_code)]

mod listen;
mod route;
mod serve;

use std::sync::Arc;

use chime_control::{Command, Snapshot};

pub use listen::{OpenError, Settings, Sockets};
pub use serve::{Handle, spawn};

/// Gives the state of the daemon as it is now. It is called on the control thread for each request and
/// must not wait for the time plane: it takes what was published last, and lets it age
/// ([`Snapshot::aged`]).
pub type Snapshots = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// Queues a command for the time plane. It is called on the control thread and must not block.
pub type Commands = Arc<dyn Fn(Command) -> Result<(), Refused> + Send + Sync>;

/// Why a command was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);
