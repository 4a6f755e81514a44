//! How well the client part of a daemon keeps time while its server part is saturated.

use crate::Subject;
use crate::footprint;
use crate::load::{Load, Pace};
use crate::sandbox::{LOAD_ADDRESS, Network};
use crate::servers::{self, Identity, Program, Server};
use anyhow::Result;
use std::thread::sleep;
use std::time::Duration;

/// From the start until it is looked at: estimates get better with each answer, which is not what this is about.
const SETTLING: Duration = Duration::from_secs(60);
/// From the begin of the load until it is looked at.
const LOADED: Duration = Duration::from_secs(20);
/// Looks at rest, and as many under load.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(700);

/// What a daemon believed of a clock that was right; microseconds, root mean square.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Clients {
    pub(crate) server: &'static str,
    pub(crate) error_at_rest: f64,
    pub(crate) error_saturated: f64,
}

/// Measures ours and chronyd, which ask a server of our own every second and never touch the clock.
pub(crate) fn measure(network: &Network, identity: &Identity, programs: &[Program]) -> Result<Vec<Clients>> {
    let _upstream = footprint::serve(LOAD_ADDRESS)?;
    let programs =
        [Program::Chimed, Program::Chronyd].into_iter().filter(|program| programs.contains(program));
    programs
        .map(|program| {
            let server = servers::start_following(program, identity, Some(LOAD_ADDRESS))?;
            sleep(SETTLING);
            let error_at_rest = errors(&server)?;
            let load = Load::new(network, &server, Subject::Plain)?;
            let pace = Pace::bursts(f64::INFINITY);
            let error_saturated = load.run(&pace, None, |_| {
                sleep(LOADED);
                errors(&server)
            })?;
            Ok(Clients { server: server.name(), error_at_rest, error_saturated })
        })
        .collect()
}

fn errors(server: &Server) -> Result<f64> {
    let mut squares = 0.0;
    for _ in 0..LOOKS {
        sleep(PAUSE);
        squares += (server.clock_error()? * 1e6).powi(2);
    }
    Ok((squares / f64::from(LOOKS)).sqrt())
}
