//! Who the daemon is: the user that it becomes, and the privileges that it keeps.

use crate::cli::{Habits, Options};
use crate::store::Store;
use anyhow::{Context, Result, bail};
use chime_config::Model;
use chime_sys::privileges;
use chime_sys::privileges::Capability;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use tracing::warn;

/// The user that is taken when it exists and nothing else is configured.
pub(super) const USUAL_USER: &str = "truechimer";

/// The user to become, if any. The usual one need not exist: then we stay, without most privileges, and say so.
pub(super) fn identity(options: &Options, model: &Model) -> Result<Option<privileges::User>> {
    let Some(name) = model.process.user.as_deref().filter(|_| privileges::is_root() && !options.keep_user)
    else {
        return Ok(None);
    };
    match privileges::find_user(name).with_context(|| format!("looking for the user {name}"))? {
        Some(user) => Ok(Some(user)),
        None if name == USUAL_USER && matches!(options.habits, Habits::Chronyd(_)) => {
            warn!("Running with root privileges");
            Ok(None)
        }
        None if name == USUAL_USER => {
            warn!("there is no user {name}: staying root, with only the privileges that are needed");
            Ok(None)
        }
        None => bail!("there is no user {name}: create it, or configure another one as user"),
    }
}

pub(super) fn give_up_privileges(
    options: &Options,
    user: Option<privileges::User>,
    store: Option<&Store>,
) -> Result<()> {
    if options.keep_user || !privileges::is_root() {
        return Ok(());
    }
    let wanted = [Capability::NetBindService, Capability::SysTime];
    let keep: Vec<Capability> = wanted
        .into_iter()
        .filter(|capability| *capability != Capability::SysTime || options.steers())
        .filter(|capability| privileges::has_capability(*capability))
        .collect();
    match user {
        Some(user) => {
            if let Some(store) = store {
                store
                    .give_to(user.uid, user.gid)
                    .context("the state directory cannot be given to the daemon's user")?;
            }
            privileges::drop_to(user, &keep).context("privileges cannot be given up")
        }
        None => privileges::keep_only(&keep)
            .and_then(|()| privileges::forbid_new_privileges())
            .context("privileges cannot be given up"),
    }
}

/// Says which files can only be read again by a restart, as they were read with privileges that are gone.
pub(super) fn warn_of_unreadable(model: &Model, config: Option<&Path>) {
    let pairs = model.nts_ke_servers.iter().flat_map(|server| &server.certificates);
    let files = pairs.flat_map(|pair| [pair.chain.as_path(), pair.key.as_path()]);
    let files: BTreeSet<&Path> = files.chain(model.key_file.as_deref()).chain(config).collect();
    for path in files {
        if let Err(error) = File::open(path) {
            warn!(
                "{}: {error}, now that privileges are given up: changes (a renewed certificate) need a restart",
                path.display()
            );
        }
    }
}
