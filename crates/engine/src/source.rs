//! What is kept for each configured source.

use crate::back_off::BackOff;
use crate::policy::Effective;
use crate::resolution::Resolution;
use crate::{
    EstablishmentId, KeOutcome, LookupId, POOL_ASSOCIATIONS_MAX, SourceConfig, SourceKey, SourceMode,
    SourceRefusal,
};
use chime_discipline::SourceId;
use chime_time::MonoTime;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// One configured source.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) key: SourceKey,
    /// The number of its first place; see [`unresolved_number`](Self::unresolved_number).
    first_place: u32,
    pub(crate) config: SourceConfig,
    pub(crate) effective: Effective,
    pub(crate) online: bool,
    pub(crate) resolution: Resolution,
    pub(crate) establishment: Establishment,
    /// Until when no association is replaced, so that a name is not worn out in search of a better server.
    pub(crate) replace_not_before: Option<MonoTime>,
    pub(crate) refusal: Option<SourceRefusal>,
    /// Whether it was said that other sources leave it no address.
    pub(crate) refusal_told: bool,
    /// Whether the lookup under way is to find out if a server moved.
    pub(crate) refreshing: bool,
    pub(crate) last_error: Option<String>,
}

/// Key establishment for one source: one at a time.
#[derive(Debug, Default)]
pub(crate) struct Establishment {
    pub(crate) state: EstablishmentState,
    pub(crate) back_off: BackOff,
    /// Attempts since the last authentic answer.
    pub(crate) attempts: u32,
    pub(crate) succeeded: u64,
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_success: Option<MonoTime>,
}

/// How far the establishment under way is.
#[derive(Debug, Default)]
pub(crate) enum EstablishmentState {
    /// None is under way.
    #[default]
    Idle,
    /// The shell talks to the server.
    Running {
        id: EstablishmentId,
        /// The association that needs keys; `None` = a new one.
        target: Option<SourceId>,
        /// The addresses that are tried.
        addresses: Vec<IpAddr>,
    },
    /// Keys are there; the name of the negotiated NTP server is looked up.
    Negotiating { lookup: LookupId, negotiated: Box<Negotiated> },
}

/// The result of a key establishment while its NTP server's address is sought.
#[derive(Debug)]
pub(crate) struct Negotiated {
    pub(crate) outcome: KeOutcome,
    pub(crate) target: Option<SourceId>,
    pub(crate) ke_address: Option<SocketAddr>,
    pub(crate) ntp_port: u16,
}

/// Places whose address is configured are not counted, as nobody sees their numbers; those begin here.
const LITERAL_PLACES: u32 = 0x4000_0000;
/// Between the first places of two of them; no source has more.
const PLACES_MAX: u32 = 32;

/// How many kinds of failure are told apart; `KeError` has about thirty.
const FAILURE_KINDS_MAX: usize = 64;

impl Establishment {
    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self.state, EstablishmentState::Idle)
    }

    pub(crate) fn count_failure(&mut self, kind: &str) {
        if self.failed.len() < FAILURE_KINDS_MAX || self.failed.contains_key(kind) {
            *self.failed.entry(kind.to_owned()).or_default() += 1;
        }
    }
}

impl Source {
    /// `places`: how many places all sources with names have had so far; those of this one are added.
    pub(crate) fn new(key: SourceKey, config: SourceConfig, effective: Effective, places: &mut u32) -> Self {
        let ignore = match &config.mode {
            SourceMode::Server | SourceMode::Symmetric { .. } => &[][..],
            SourceMode::Pool { ignore, .. } => ignore,
        };
        let resolution = Resolution::new(&config.name, config.address_family, ignore);
        let first_place = if config.name.parse::<IpAddr>().is_ok() {
            LITERAL_PLACES | key.0.wrapping_mul(PLACES_MAX) & (LITERAL_PLACES - 1)
        } else {
            let first = places.wrapping_add(1);
            *places = places.wrapping_add(u32::try_from(places_of(&config)).unwrap_or(1));
            first
        };
        Self {
            key,
            first_place,
            effective,
            online: config.online,
            resolution,
            establishment: Establishment::default(),
            replace_not_before: None,
            refusal: None,
            refusal_told: false,
            refreshing: false,
            last_error: None,
            config,
        }
    }

    /// What stands for a place that has no address yet: the first one of those that are configured by a name is 1, as chronyd
    /// counts.
    pub(crate) const fn unresolved_number(&self, place: u32) -> u32 {
        self.first_place.wrapping_add(place)
    }

    /// How many places it may have.
    pub(crate) fn places(&self) -> usize {
        places_of(&self.config)
    }

    /// How many associations are still to come when there are so many. Those of a pool without NTS come all at once.
    pub(crate) fn missing(&self, associations: usize) -> usize {
        let found = match self.resolution.addresses().len() {
            0 => usize::MAX,
            found => found,
        };
        if associations == 0 || self.is_nts() {
            self.config.wanted().min(found).saturating_sub(associations)
        } else {
            0
        }
    }

    pub(crate) const fn is_peer(&self) -> bool {
        matches!(self.config.mode, SourceMode::Symmetric { .. })
    }

    pub(crate) const fn is_pool(&self) -> bool {
        matches!(self.config.mode, SourceMode::Pool { .. })
    }

    pub(crate) const fn is_nts(&self) -> bool {
        self.config.nts_source().is_some()
    }

    /// Whether anything should happen for this source now.
    pub(crate) const fn is_active(&self) -> bool {
        self.online && self.refusal.is_none()
    }
}

/// chronyd has spare places for a pool, which it gives up once it has found what it wants.
fn places_of(config: &SourceConfig) -> usize {
    match config.mode {
        SourceMode::Pool { .. } => (2 * config.wanted()).min(POOL_ASSOCIATIONS_MAX),
        SourceMode::Server | SourceMode::Symmetric { .. } => config.wanted(),
    }
}
