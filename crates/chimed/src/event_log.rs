//! One log line for each thing that an operator must know, and none that a stranger can repeat without bound.

use crate::log_limit::LogLimits;
use crate::rivals;
use chime_discipline::{
    DisciplineEvent, Interference, KnownLeap, LeapKnowledge, LeapOutcome, SourceId, StepEvidence, StepRefusal,
};
use chime_engine::{Event, RemovalReason, SourceRefusal};
use chime_ke::utc;
use chime_time::{LeapSecond, MonoTime};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// What strangers can cause is logged at most this often for each association and kind; the counters know the rest.
const STRANGERS_INTERVAL: Duration = Duration::from_secs(600);

/// Kinds of such lines, times associations, that are remembered.
const STRANGERS_LINES_MAX: usize = 1024;

/// Remembers names, and what was said lately.
#[derive(Debug)]
pub struct EventLog {
    names: BTreeMap<SourceId, String>,
    strangers: LogLimits<(Option<SourceId>, &'static str)>,
    warns_of_steps: bool,
}

impl EventLog {
    /// One that has said nothing yet; `warns_of_steps`: those of the clock are warnings.
    #[must_use]
    pub fn new(warns_of_steps: bool) -> Self {
        let strangers = LogLimits::new(STRANGERS_INTERVAL, STRANGERS_LINES_MAX);
        Self { names: BTreeMap::new(), strangers, warns_of_steps }
    }

    /// Writes the line that `event` deserves.
    pub fn write(&mut self, event: &Event, now: MonoTime) {
        match event {
            Event::Discarded { association, from, reason, .. } => {
                self.strangers.admit((*association, reason.name()), now).write(|more| {
                    warn!("answer from {from} ignored: {reason}{}{more}", self.of(*association));
                });
            }
            Event::SendFailed { association, to, failure } => {
                self.strangers.admit((Some(*association), "send-failed"), now).write(|more| {
                    warn!("request to {to} failed: {failure}{}{more}", self.of(Some(*association)));
                });
            }
            // An NTSN is never authenticated, a kiss code only if the source is: whoever sees our requests can cause them.
            Event::Kiss { association, remote, code, .. } => {
                self.strangers.admit((Some(*association), "kiss"), now).write(|more| {
                    warn!("{remote} sent the kiss code {code:?}{more}");
                });
            }
            Event::NtsNak { association, remote, other_keys_tried } => {
                self.strangers.admit((Some(*association), "nts-nak"), now).write(|more| {
                    write_nts_nak(remote, *other_keys_tried, more);
                });
            }
            Event::Sampled { association, offset, delay, authenticated } => debug!(
                "{} offset {:+.9} s, round trip {:.9} s, {}",
                self.name(*association),
                offset.as_secs_f64(),
                delay.as_secs_f64(),
                if *authenticated { "authenticated" } else { "NOT authenticated" }
            ),
            Event::ReferenceClockAdded { clock, name } => {
                self.names.insert(*clock, format!("the reference clock {name}"));
                info!("reference clock {name} is read");
            }
            Event::ReferenceClockReachable { name, reachable: true, .. } => {
                info!("the reference clock {name} gives time");
            }
            Event::ReferenceClockReachable { name, reachable: false, .. } => {
                warn!("the reference clock {name} gives no time any more");
            }
            Event::ReadingRefused { clock, refusal } => {
                debug!("a reading of {} does not count: {refusal:?}", self.name(*clock));
            }
            Event::ReferenceClockRead { .. } => {}
            Event::ReferenceClockSampled { clock, offset, dispersion, .. } => {
                debug!("{} offset {:+.9} s ± {dispersion:.9} s", self.name(*clock), offset.as_secs_f64(),)
            }
            Event::AssociationAdded { association, name, remote, .. } => {
                self.names.insert(*association, format!("{name} ({remote})"));
                info!("new association with {name} at {remote}");
            }
            Event::AssociationRemoved { association, remote, reason } => {
                let name = self.names.remove(association);
                let name = name.unwrap_or_else(|| remote.to_string());
                info!("association with {name} given up: {}", removal_words(*reason));
            }
            Event::Discipline(event) => self.write_discipline(event),
            other => write_source(other),
        }
    }

    /// A step with its evidence.
    fn write_step(&self, evidence: &StepEvidence) {
        let sources = evidence
            .sources
            .iter()
            .map(|(id, offset, distance)| format!("{} {offset:+.6} s ±{distance:.6} s", self.name(*id)));
        let text = format!(
            "System clock was stepped by {:+.6} seconds (±{:.6}), because: {}",
            evidence.by,
            evidence.error,
            sources.collect::<Vec<_>>().join("; ")
        );
        if self.warns_of_steps {
            warn!("{text}");
        } else {
            info!("{text}");
        }
    }

    fn write_discipline(&self, event: &DisciplineEvent) {
        match event {
            DisciplineEvent::Selected(id) => info!("Selected source {}", self.name(*id)),
            DisciplineEvent::Falseticker(id) => {
                warn!("{} is a falseticker: it disagrees with the majority", self.name(*id));
            }
            DisciplineEvent::Truechimer(id) => info!("{} agrees with the majority again", self.name(*id)),
            DisciplineEvent::NoMajority { selectable } => {
                warn!(
                    "Can't synchronise: no majority among {selectable} selectable sources; the clock is left alone"
                );
            }
            DisciplineEvent::TooFewSources { agreeing, required } => warn!(
                "Can't synchronise: {agreeing} sources agree, {required} are required \
                 (minimum-agreeing-sources, require); the clock is left alone"
            ),
            DisciplineEvent::CannotSynchronise => warn!("Can't synchronise: no selectable sources"),
            DisciplineEvent::Synchronised => info!("the clock follows its sources"),
            DisciplineEvent::Stepped(evidence) => self.write_step(evidence),
            DisciplineEvent::StepRefused(refusal) => error!("{}", step_refused(refusal)),
            DisciplineEvent::QuarantineLifted => {
                info!("corrections are within the thresholds again: steering goes on")
            }
            DisciplineEvent::CommandFailed { command, failure } => {
                error!("the clock could not be steered: {failure} ({command:?})");
            }
            DisciplineEvent::Reset => {
                warn!("all measurements dropped: they say nothing about the clock any more")
            }
            DisciplineEvent::Interference(interference) => write_interference(interference),
            DisciplineEvent::SavedFrequencyRefuted { ppm } => warn!(
                "the saved frequency, {ppm:+.3} ppm, contradicts what is measured: forgotten (another machine's drift file?)"
            ),
            DisciplineEvent::SavedEstimateRefused(id) => warn!(
                "what the last run knew of {} beyond its measurements does not fit them, and is not used",
                self.name(*id)
            ),
            DisciplineEvent::FallbackFrequency { ppm, over } => info!(
                "no source for {over:.0} s: the clock goes on with the average frequency of that time, {ppm:+.3} ppm"
            ),
            DisciplineEvent::LeapSecondAnnounced(_)
            | DisciplineEvent::LeapSecondWithdrawn(_)
            | DisciplineEvent::LeapSecondContradicted(_)
            | DisciplineEvent::LeapSecondPassed { .. } => write_leap_second(event),
            DisciplineEvent::KernelLeapSecond(leap) => {
                debug!("the kernel was told of leap seconds: {leap:?}")
            }
            DisciplineEvent::TaiOffsetSet(seconds) => {
                info!("the kernel was told that TAI is {seconds} s ahead of UTC");
            }
            DisciplineEvent::SmearedSource(id) => {
                info!("{} smears leap seconds: it is not mixed with sources that do not", self.name(*id));
            }
            DisciplineEvent::FollowsSmeared(true) => {
                warn!("the clock follows sources that smear leap seconds: it is not UTC around them");
            }
            DisciplineEvent::FollowsSmeared(false) => {
                info!("the clock follows sources that do not smear leap seconds");
            }
            DisciplineEvent::LocalReference { active: true } => {
                warn!("no source to follow: serving the local clock")
            }
            DisciplineEvent::LocalReference { active: false } => {
                info!("the local clock is not served any more")
            }
        }
    }

    fn name(&self, id: SourceId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("source {}", id.0))
    }

    /// ` (name)`, for the end of a line.
    fn of(&self, id: Option<SourceId>) -> String {
        id.and_then(|id| self.names.get(&id)).map_or_else(String::new, |name| format!(" ({name})"))
    }
}

/// What others did to the clock, and who that may be.
fn write_interference(interference: &Interference) {
    let suspects = || match rivals::suspects() {
        list if list.is_empty() => "no other time daemon is seen running".to_owned(),
        list => format!("running here: {}", list.join(", ")),
    };
    match interference {
        Interference::Stepped { by } => {
            warn!("another program stepped the system clock by {by:+.6} s; {}", suspects());
        }
        Interference::Suspended { slept } => info!("the machine was suspended for {slept:.1} s"),
        Interference::Adjusted { found_ppm, set_ppm, slew } => warn!(
            "another program changed the pace of the system clock: found at {found_ppm:+.3} ppm instead of \
             {set_ppm:+.3} ppm, with {slew:+.6} s to slew; {}",
            suspects()
        ),
    }
}

/// Lines about leap seconds.
fn write_leap_second(event: &DisciplineEvent) {
    match event {
        DisciplineEvent::LeapSecondAnnounced(known) => {
            info!("{}, as {}", leap_words(known.leap), knowledge_words(known));
        }
        DisciplineEvent::LeapSecondWithdrawn(known) => {
            warn!(
                "no leap second any more at {}: {} no longer",
                utc(known.leap.midnight),
                knowledge_words(known)
            );
        }
        DisciplineEvent::LeapSecondContradicted(leap) => warn!(
            "most sources announce a leap second at {}, and the list of leap seconds has none: the list is believed",
            utc(leap.midnight)
        ),
        DisciplineEvent::LeapSecondPassed { leap, outcome } => write_leap_passed(*leap, *outcome),
        other => debug!("{other:?}"),
    }
}

fn leap_words(leap: LeapSecond) -> String {
    let midnight = utc(leap.midnight);
    if leap.insert {
        format!("a leap second is inserted before {midnight}")
    } else {
        format!("a second is left out before {midnight}")
    }
}

const fn knowledge_words(known: &KnownLeap) -> &'static str {
    match known.knowledge {
        LeapKnowledge::Sources => "most sources announce it",
        LeapKnowledge::Table => "the list of leap seconds has it",
    }
}

fn write_leap_passed(leap: LeapSecond, outcome: LeapOutcome) {
    let leap = leap_words(leap);
    match outcome {
        LeapOutcome::ByKernel => info!("{leap}: the kernel has made it"),
        LeapOutcome::NotByKernel => warn!(
            "{leap}: the clock has not passed it by itself; it is corrected as any other offset \
             (`mode` in [leap-seconds] can be `step` or `slew`)"
        ),
        LeapOutcome::Step => info!("{leap}: the clock is stepped"),
        LeapOutcome::Slew => info!("{leap}: the clock is slewed"),
        LeapOutcome::Ignored => info!("{leap}: ignored, as configured"),
    }
}

fn write_nts_nak(remote: &SocketAddr, other_keys_tried: bool, more: &str) {
    if other_keys_tried {
        info!(
            "{remote} does not accept our cookie or keys (NTSN): trying the keys of the other exporter context{more}"
        );
    } else {
        warn!("{remote} does not accept our cookie (NTSN): new keys will be established{more}");
    }
}

/// Lines about sources, names and keys.
fn write_source(event: &Event) {
    match event {
        Event::Reachable { remote, .. } => info!("{remote} answers"),
        Event::Unreachable { remote, .. } => warn!("{remote} does not answer any more"),
        Event::KeysEstablished { name, aead, cookies, ntp_server, ntp_port, .. } => {
            let server =
                ntp_server.as_ref().map_or_else(String::new, |server| format!(", NTP server {server}"));
            let port = ntp_port.map_or_else(String::new, |port| format!(", NTP port {port}"));
            info!("keys established with {name}: AEAD {aead}, {cookies} cookies{server}{port}");
        }
        Event::EstablishmentFailed { name, failure, retry_seconds, .. } => {
            warn!("key establishment with {name} failed: {failure}; next attempt in {retry_seconds:.0} s");
        }
        Event::CertificateRefused { name, reason, unix_seconds, not_before, not_after, .. } => error!(
            "{name} is not believed: {reason} (the time is {}, the certificate is valid from {} to {})",
            utc(*unix_seconds),
            utc(*not_before),
            utc(*not_after)
        ),
        Event::Resolved { name, addresses, .. } => debug!("{name} has the addresses {addresses:?}"),
        Event::ResolveFailed { name, failure, retry_seconds, .. } => {
            warn!("looking up {name}: {failure}; next attempt in {retry_seconds:.0} s");
        }
        Event::UnauthenticatedInUse { name, remote, .. } => {
            warn!("the clock follows an UNAUTHENTICATED source: {name} ({remote})");
        }
        Event::SourceRefused { name, reason, .. } => {
            error!("source {name} is not used: {}", refusal_words(*reason))
        }
        Event::Reconfigured { added, removed, kept } => {
            info!("configuration read again: {added} sources added, {removed} removed, {kept} unchanged");
        }
        other => debug!("{other:?}"),
    }
}

const fn removal_words(reason: RemovalReason) -> &'static str {
    match reason {
        RemovalReason::Configuration => "its source was removed or changed",
        RemovalReason::NotNeeded => "another address of the name answered sooner",
        RemovalReason::Unreachable => "it did not answer, and another address is tried",
        RemovalReason::Falseticker => "it disagrees with the majority, and another address is tried",
        RemovalReason::Denied => "the server refuses service",
        RemovalReason::ServerChanged => "key establishment led to another server",
        RemovalReason::AddressGone => "the name no longer has this address",
        RemovalReason::Certificate => "its certificate was refused",
        RemovalReason::AddressTaken => "another source has a better right to its address",
    }
}

fn step_refused(refusal: &StepRefusal) -> String {
    if refusal.is_last {
        return format!(
            "the sources want a correction of {:+.3} s, beyond {} s, once more than is allowed (exit-after-refusals): \
             the daemon ends",
            refusal.by, refusal.limit,
        );
    }
    format!(
        "the sources want a correction of {:+.3} s, beyond {}: refused. The clock is not steered until it is smaller, and \
         is served with a growing error bound; if the sources are right, accept the correction with `chime makestep`",
        refusal.by,
        match (refusal.accumulated, refusal.startup) {
            (true, _) => "accumulated-step-panic-threshold",
            (false, true) => "startup-step-panic-threshold",
            (false, false) => "single-step-panic-threshold",
        }
    )
}

fn refusal_words(reason: SourceRefusal) -> String {
    match reason {
        SourceRefusal::Unauthenticated => {
            "it is not authenticated, and authentication = \"required\"; add NTS or a key, or allow \"mixed\""
                .into()
        }
        SourceRefusal::UnknownKey(id) => format!("there is no key {id} in the key file"),
        SourceRefusal::AddressInUse(address) => format!("another source has the address {address}"),
        SourceRefusal::TooMany => "there are too many sources".into(),
    }
}
