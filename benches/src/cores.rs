//! Two cores against one. The load has one of them, so what is compared is the processor time of an answer: workers that
//! hinder each other would each need more of it. One that shares its core with the load needs more anyway, and so two are
//! compared with one alone on either core, each of which has half of their requests.

use crate::Subject;
use crate::load::{self, Pace};
use crate::measure::{Figure, median};
use crate::sandbox::Network;
use crate::servers::{self, Identity, Program};
use anyhow::{Context, Result};
use std::time::Duration;

/// Requests per second and worker: few enough that the worker beside the load follows.
const OFFER_EACH: f64 = 50_000.0;

/// What an answer costs, and how many two cores give in the time of one by that; microseconds of processor time.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Cores {
    pub(crate) subject: Subject,
    /// One worker on a core of its own.
    pub(crate) one: f64,
    /// One worker on the core of the load.
    pub(crate) one_beside_load: f64,
    /// Both, with twice as many requests.
    pub(crate) two: f64,
    /// What two do by what one does.
    pub(crate) ratio: f64,
}

/// Measures our server in turn with one and two workers, `runs` times.
pub(crate) fn measure(
    network: &Network,
    identity: &Identity,
    (runs, time): (usize, Duration),
) -> Result<Vec<Cores>> {
    let one = Pace { rests: true, ..Pace::bursts(OFFER_EACH) };
    // Bursts twice as large as well, so that a worker finds as many requests whenever it is woken.
    let twice = Pace { offer: 2.0 * one.offer, at_once: 2 * one.at_once, ..one };
    let kinds = [(Program::Chimed, one), (Program::ChimedBeside, one), (Program::ChimedTwo, twice)];
    [Subject::Plain, Subject::Nts15]
        .into_iter()
        .map(|subject| {
            let mut figures: [Vec<Figure>; 3] = Default::default();
            for _ in 0..runs {
                for ((program, pace), figures) in kinds.iter().zip(&mut figures) {
                    let server = servers::start(*program, identity)?;
                    figures.push(load::measure(network, &server, (subject, *pace), time)?);
                }
            }
            let cost = |figures: &Vec<Figure>| median(figures).map(|figure| figure.cpu_microseconds);
            let [one, beside, two] =
                figures.each_ref().map(cost).map(|cost| cost.context("nothing was measured"));
            let (one, one_beside_load, two) = (one?, beside?, two?);
            Ok(Cores { subject, one, one_beside_load, two, ratio: (one + one_beside_load) / two })
        })
        .collect()
}
