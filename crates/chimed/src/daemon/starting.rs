//! Threads are started here, and the ways between them laid.

use super::changes::ntp_access;
use super::view::{CLIENTS_PATIENCE, View};
use crate::desks::Desk;
use crate::ke_server::{KeServing, KeWorker};
use crate::serving::{Serving, Shared};
use crate::time_plane::{Inline, InlineDesks, PlaneCommand};
use crate::{chrony_host, desks, ke_server, serving, wiring};
use anyhow::{Context, Result};
use chime_config::{Model, Threads};
use chime_control::Command;
use chime_server::ClientRecord;
use chime_sys::poll::Waker;
use chime_web::Refused;
use chime_wire::mac::SymmetricKey;
use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use tracing::error;

/// The serving plane, as far as it is configured.
#[derive(Clone, Default)]
pub(super) struct Servers {
    pub(super) ntp: Option<Arc<Serving>>,
    pub(super) ke: Option<Arc<KeServing>>,
}

/// Starts the servers' threads; with `threads = "single"` the time plane gets the workers instead.
pub(super) fn start_servers(
    model: &Model,
    shared: &Arc<Shared>,
    workers: Vec<serving::Worker>,
    ke_workers: Vec<KeWorker>,
) -> Result<(Servers, Inline)> {
    let (mut servers, mut inline) = (Servers::default(), Inline::default());
    if model.process.threads == Threads::Single {
        if !workers.is_empty() {
            let (serving, worker) = serving::start_inline(workers, shared)?;
            (servers.ntp, inline.ntp) = (Some(Arc::new(serving)), Some(worker));
        }
        if !ke_workers.is_empty() {
            let (serving, worker) = ke_server::start_inline(ke_workers)?;
            (servers.ke, inline.ke) = (Some(Arc::new(serving)), Some(worker));
        }
    } else {
        servers.ntp =
            (!workers.is_empty()).then(|| serving::start(workers, shared)).transpose()?.map(Arc::new);
        servers.ke =
            (!ke_workers.is_empty()).then(|| ke_server::start(ke_workers)).transpose()?.map(Arc::new);
    }
    if !model.servers_in_waiting.is_empty() {
        servers.ntp.get_or_insert_with(|| Arc::new(Serving::none(shared)));
    }
    Ok((servers, inline))
}

/// Starts the thread of the control plane, when there is one.
pub(super) fn start_control(
    sockets: Option<chime_web::Sockets>,
    view: View,
    commands: chime_web::Commands,
) -> Result<Option<chime_web::Handle>> {
    let start = |sockets| chime_web::spawn(sockets, Arc::new(move || view.snapshot(true)), commands);
    sockets.map(start).transpose().context("the control plane cannot be started")
}

/// Starts the thread that hosts the desks; with `threads = "single"` the time plane gets them instead.
pub(super) fn start_desks(
    threads: Threads,
    desks: Vec<Box<dyn Desk>>,
    view: &View,
) -> Result<(Option<desks::Handle>, InlineDesks)> {
    let view = view.clone();
    if threads == Threads::Single {
        let serving = view.servers.ntp.clone();
        let view = Box::new(move |own: Option<&[ClientRecord]>| {
            let all = |own| serving.as_ref().map(|ntp| ntp.clients_beside(own, CLIENTS_PATIENCE));
            view.snapshot_with(own.map(|own| all(own).unwrap_or_default()).as_deref())
        });
        return Ok((None, InlineDesks { desks, view: Some(view) }));
    }
    let view = Box::new(move |with_clients| view.snapshot(with_clients));
    let handle =
        desks::spawn(desks, view).context("the thread for tools of other daemons cannot be started")?;
    Ok((handle, InlineDesks::default()))
}

/// The way of anything from a desk into the time plane; it gives whether that still takes any.
pub(super) fn tell(
    sender: mpsc::Sender<PlaneCommand>,
    waker: Waker,
) -> Box<dyn Fn(PlaneCommand) -> bool + Send> {
    Box::new(move |command| {
        let sent = sender.send(command).is_ok();
        waker.wake();
        sent
    })
}

/// The way of commands into the time plane.
pub(super) fn commands_to(sender: mpsc::Sender<PlaneCommand>, waker: Waker) -> chime_web::Commands {
    let sender = std::sync::Mutex::new(sender);
    Arc::new(move |command: Command| {
        let command = command.for_engine().map_or(PlaneCommand::Reload, PlaneCommand::Engine);
        let sent = sender.lock().is_ok_and(|sender| sender.send(command).is_ok());
        waker.wake();
        if sent { Ok(()) } else { Err(Refused("the daemon is stopping".to_owned())) }
    })
}

/// What commands of chronyc can do.
pub(super) fn chrony_ways(
    model: &Model,
    view: &View,
    tell: Box<dyn Fn(PlaneCommand) -> bool + Send>,
) -> Result<chrony_host::Ways> {
    let servers = view.servers.clone();
    let reset_clients = move |addresses: &[IpAddr]| {
        servers.ntp.iter().for_each(|serving| serving.reset_clients(addresses));
        servers.ke.iter().for_each(|serving| serving.reset_clients(addresses));
    };
    Ok(chrony_host::Ways {
        tell,
        tally: view.chrony.clone(),
        ntp_access: ntp_access(model, view.servers.clone()),
        clients: view.command_clients.clone(),
        reset_clients: Box::new(reset_clients),
        read_keys: key_reader(model),
    })
}

/// Reads the key file again.
pub(super) fn key_reader(model: &Model) -> Box<dyn Fn() -> Option<Vec<SymmetricKey>> + Send> {
    let model = model.clone();
    Box::new(move || {
        let keys = wiring::symmetric_keys(&model);
        keys.inspect_err(|error| error!("keys not read again, the old ones stay: {error:#}")).ok()
    })
}
