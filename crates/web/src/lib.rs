//! The HTTP side of the control plane: reports, metrics and commands.
//!
//! Owns the sockets, the routes and the limits. It decides nothing about time: it shows the
//! [`Snapshot`] that the time plane published last, and hands commands to a function that queues
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

use arc_swap::ArcSwap;
use chime_control::{Command, Snapshot};

pub use listen::{OpenError, Settings, Sockets};
pub use serve::{Handle, spawn};

/// The snapshot that is shown; the time plane stores a new one whenever something changed.
pub type Published = Arc<ArcSwap<Snapshot>>;

/// Queues a command for the time plane. It is called on the control thread and must not block.
pub type Commands = Arc<dyn Fn(Command) -> Result<(), Refused> + Send + Sync>;

/// Why a command was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);
