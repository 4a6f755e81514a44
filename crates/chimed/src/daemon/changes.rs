//! What changes while the daemon runs: the configuration is read again, access lists are edited.

use super::opening::{ke_access, listener, listeners, serving_settings};
use super::starting::Servers;
use super::with_habits;
use crate::cli::{Habits, Options};
use crate::load::{LoadError, Told};
use crate::runtime_access::RuntimeAccess;
use crate::serving::Serving;
use crate::source_files::SourceFiles;
use crate::time_plane::{ReadAgain, Reload, Reloaded};
use crate::trust::Trusts;
use crate::{load, restart_only, runtime_access, wiring};
use anyhow::Result;
use chime_config::{Model, NtpServer};
use chime_engine::{Config, KnownTime};
use chime_server::{AccessList, AccessRule};
use std::cell::RefCell;
use std::sync::Arc;
use tracing::{error, warn};

/// Reads the configuration again. Sources, trust, keys and the policies of servers change; what needs privileges
/// (addresses, user, clock) stays as it is until a restart.
pub(super) fn reload(options: Options, running: Model, known_time: KnownTime, servers: Servers) -> Reload {
    let habits = options.habits.clone();
    let read = move || {
        let Told { loaded, chrony, .. } =
            load::load_as_told(&options).map_err(|error: LoadError| anyhow::anyhow!("{error}"))?;
        if !loaded.warnings.is_empty() {
            warn!("{}", loaded.warnings.render(false));
        }
        let model = loaded.model;
        let trusts = Trusts::load(&model)?;
        // What was known of the time at the start is known still.
        let engine = wiring::engine_config(&model, &trusts, options.steers())?;
        let engine = Config { known_time, ..with_habits(engine, &options) };
        let source_files = chrony.map(|files| SourceFiles::keep(files, &options, &model));
        let leap_seconds = model.leap_seconds.clone();
        Ok(ReadAgain { model, changes: Reloaded { engine, trusts, leap_seconds, source_files } })
    };
    let apply = move |ReadAgain { model, changes }| {
        let waiting = restart_only::waiting(&running, &model);
        // chronyd reads files with sources again, and of nothing else is anything expected.
        if !waiting.is_empty() && habits == Habits::Ours {
            warn!("changed, and in force only after a restart: {}", waiting.join("; "));
        }
        if let Some(serving) = &servers.ntp {
            let in_order = restart_only::servers_in_order(&running, &model);
            let listeners = listeners(&Model { servers: in_order, ..model.clone() })?;
            let policies: Vec<_> = listeners.into_iter().map(|listener| listener.policy).collect();
            serving.set_policies(&policies);
        }
        if let Some(serving) = &servers.ke {
            // A server that is not configured any more keeps what it had, as its socket stays open.
            if let Some(server) = model.nts_ke_servers.first() {
                serving.set_access(std::iter::repeat(ke_access(&model, server)));
            }
            serving.reload_certificates();
        }
        Ok(changes)
    };
    Reload { read: Arc::new(read), apply: Box::new(apply) }
}

/// The access list of the NTP servers, which chronyc can change; those who establish keys follow where they have no
/// rules of their own.
pub(super) fn ntp_access(model: &Model, servers: Servers) -> Option<RuntimeAccess> {
    let rules = runtime_access::rules_of(model)?;
    // As chronyd does; who has a server by a table of its own wants it whoever is let in.
    let closes = model.possible_servers().all(|server| server.rules.is_some());
    // Those that serve come first, in the order in which they were opened.
    let model = RefCell::new(model.clone());
    let apply = move |rules: &[AccessRule]| {
        let mut model = model.borrow_mut();
        let mut wanted = model.clone();
        let Model { servers: open, servers_in_waiting: waiting, .. } = &mut wanted;
        open.iter_mut().chain(waiting).for_each(|server| server.rules = Some(rules.to_vec()));
        if let Some(ntp) = &servers.ntp {
            match listeners(&wanted) {
                Ok(listeners) => {
                    let policies: Vec<_> = listeners.into_iter().map(|one| one.policy).collect();
                    ntp.set_policies(&policies);
                    if closes {
                        let list = AccessList::from_rules(rules);
                        ntp.keep_open(|address| list.allows_any_of(address.is_ipv4()));
                    }
                    open_waiting(&mut wanted, ntp);
                }
                Err(error) => {
                    error!("the access list stays as it was: {error:#}");
                    return false;
                }
            }
        }
        *model = wanted;
        if let (Some(ke), Some(server)) = (&servers.ke, model.nts_ke_servers.first()) {
            ke.set_access(std::iter::repeat(ke_access(&model, server)));
        }
        true
    };
    Some(RuntimeAccess::new(rules, Box::new(apply)))
}

/// Opens the servers of whose family somebody is let in now. As with chronyd, one that cannot be opened is told, and the
/// next change of the list tries again.
pub(super) fn open_waiting(model: &mut Model, serving: &Serving) {
    let is_wanted = |server: &NtpServer| server.policy().access.allows_any_of(server.listen.is_ipv4());
    let (wanted, waiting): (Vec<NtpServer>, _) =
        std::mem::take(&mut model.servers_in_waiting).into_iter().partition(is_wanted);
    model.servers_in_waiting = waiting;
    for server in wanted {
        match open_later(model, &server, serving) {
            Ok(()) => model.servers.push(server),
            Err(error) => {
                error!("Could not open NTP socket on {} : {error:#}", server.listen);
                model.servers_in_waiting.push(server);
            }
        }
    }
}

pub(super) fn open_later(model: &Model, server: &NtpServer, serving: &Serving) -> Result<()> {
    let keys = chime_server::KeyTable::new(wiring::symmetric_keys(model)?);
    serving.open(&serving_settings(model, vec![listener(model, server, &keys)])?)
}
