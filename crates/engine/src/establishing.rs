//! Key establishment seen from outside: when, with which server, with which back-off, and what becomes of the result.
//! RFC 8915 §4.
//!
//! One establishment at a time for a source, and never two at once with one server. The keys that an association has are
//! used on while new ones cannot be had.

use crate::addressing::ADDRESS_AGE_SECONDS_MAX;
use crate::admission::BestTime;
use crate::association::Credentials;
use crate::back_off::Waits;
use crate::certificate_dates::{CertificateDates, judge_by_lower_bound};
use crate::engine::Engine;
use crate::nts_state::{Certificate, NtsState};
use crate::resolution::{families_in_turn, may_name, parse_literal};
use crate::source::{EstablishmentState, Negotiated};
use crate::timers::Timer;
use crate::{
    CertificateDatesPolicy, EstablishKeys, EstablishmentId, Event, KeFailure, LookupId, RemovalReason,
    Request, ResolveFailure, SourceKey,
};
use chime_discipline::SourceId;
use chime_ke::KeOutcome;
use chime_time::MonoTime;
use std::net::{IpAddr, SocketAddr};

/// How long an establishment may take before it counts as failed; seconds. The shell gives up much sooner.
const ESTABLISHMENT_SECONDS_MAX: f64 = 60.0;
/// After an authentic DENY or RSTR there is no new key establishment for this long; seconds.
pub(crate) const DENIED_SECONDS: f64 = 3600.0;
/// The wait when another source talks to the same server just now; seconds.
const SERVER_BUSY_SECONDS: f64 = 2.0;

impl Engine {
    /// Starts a key establishment when one is needed and allowed.
    pub(crate) fn drive_establishment(&mut self, now: MonoTime, index: usize) {
        let key = self.sources[index].key;
        if !self.sources[index].establishment.is_idle() {
            return;
        }
        let Some(target) = self.keys_wanted(now, index) else {
            self.timers.cancel(Timer::Establish(key));
            return;
        };
        if let Some(at) = self.establishment_not_before(now, index, target) {
            self.timers.set(Timer::Establish(key), at);
            return;
        }
        if !self.sources[index].resolution.is_fresh(now, ADDRESS_AGE_SECONDS_MAX) {
            return self.look_up(now, index);
        }
        if self.server_is_busy(index) {
            self.timers.set(Timer::Establish(key), now.add_secs_f64(SERVER_BUSY_SECONDS));
            return;
        }
        self.start_establishment(now, index, target);
    }

    /// Who needs keys: an association (the first that has no cookies left goes first), or one that is still to be made.
    fn keys_wanted(&self, now: MonoTime, index: usize) -> Option<Option<SourceId>> {
        let source = &self.sources[index];
        let needing = |association: &&crate::association::Association| {
            association.nts().is_some_and(NtsState::needs_keys) && !association.is_denied(now)
        };
        let empty = self
            .associations_of(source.key)
            .filter(needing)
            .min_by_key(|association| association.nts().map_or(0, |nts| nts.cookie_count()));
        if let Some(association) = empty {
            return Some(Some(association.id));
        }
        (self.associations_of(source.key).count() < source.config.wanted()).then_some(None)
    }

    fn establishment_not_before(
        &self,
        now: MonoTime,
        index: usize,
        target: Option<SourceId>,
    ) -> Option<MonoTime> {
        let of_source = self.sources[index].establishment.back_off.not_before(now);
        let association =
            target.and_then(|id| self.association_index(id)).map(|index| &self.associations[index]);
        let of_association = association.and_then(|association| association.keys_back_off.not_before(now));
        of_source.max(of_association)
    }

    /// Whether another source establishes keys with the same server: by name, or by an address.
    fn server_is_busy(&self, index: usize) -> bool {
        let source = &self.sources[index];
        let port = |index: usize| self.sources[index].config.nts_source().map(|nts| nts.port);
        let own_port = port(index);
        self.sources.iter().enumerate().any(|(other_index, other)| {
            let EstablishmentState::Running { addresses, .. } = &other.establishment.state else {
                return false;
            };
            let same_name = other.config.name.eq_ignore_ascii_case(&source.config.name);
            let shared = source.resolution.addresses().iter().any(|address| addresses.contains(address));
            other_index != index && port(other_index) == own_port && (same_name || shared)
        })
    }

    fn start_establishment(&mut self, now: MonoTime, index: usize, target: Option<SourceId>) {
        let choice = self.random.position(usize::MAX);
        let addresses = self.establishment_addresses(now, index, target, choice);
        let best = self.best_time(now);
        let policy = self.dates_policy(now, index);
        let establishment = EstablishmentId(self.number());
        let source = &mut self.sources[index];
        let key = source.key;
        let Some((nts, policy)) = source.config.nts_source().zip(policy) else { return };
        if addresses.is_empty() {
            // A pool with fewer addresses than wanted; it may have others later.
            let seconds = source.establishment.back_off.fail(now, Waits::NETWORK, &mut self.random);
            self.timers.set(Timer::Establish(key), now.add_secs_f64(seconds));
            return;
        }
        let (unix_now_lower_bound, check_dates) = handshake_time(policy, &best);
        let request = EstablishKeys {
            establishment,
            source: key,
            addresses: addresses.clone(),
            port: nts.port,
            server_name: source.config.name.clone(),
            aeads: nts.aeads.clone(),
            trust: nts.trust,
            unix_now_lower_bound,
            check_dates,
        };
        source.establishment.attempts = source.establishment.attempts.saturating_add(1);
        source.establishment.state = EstablishmentState::Running { id: establishment, target, addresses };
        self.timers.cancel(Timer::Establish(key));
        self.timers.set(Timer::EstablishmentOverdue(key), now.add_secs_f64(ESTABLISHMENT_SECONDS_MAX));
        self.requests.push_back(Request::EstablishKeys(request));
    }

    /// A server: all of its addresses, to be raced. A member of a pool: its own address, or one that no other has.
    fn establishment_addresses(
        &self,
        now: MonoTime,
        index: usize,
        target: Option<SourceId>,
        choice: usize,
    ) -> Vec<IpAddr> {
        let source = &self.sources[index];
        if !source.is_pool() {
            return families_in_turn(source.resolution.addresses());
        }
        let in_use = self.addresses_in_use(source.key);
        let own = target.and_then(|id| self.association_index(id)).and_then(|index| {
            let address = self.associations[index].nts().and_then(|nts| nts.ke_address)?;
            (!source.resolution.is_avoided(now, address)).then_some(address)
        });
        let fresh = || {
            let candidates = source.resolution.candidates(now, &in_use);
            candidates.get(choice % candidates.len().max(1)).copied()
        };
        let any = || source.resolution.addresses().iter().find(|address| !in_use.contains(address)).copied();
        own.or_else(fresh).or_else(any).into_iter().collect()
    }

    pub(crate) fn establishment_overdue(&mut self, now: MonoTime, key: SourceKey) {
        let Some(index) = self.source_index(key) else { return };
        if let EstablishmentState::Running { id, .. } = self.sources[index].establishment.state {
            self.requests.push_back(Request::CancelEstablishment(id));
            let failure =
                KeFailure { kind: "timeout".to_owned(), text: "no answer in time".to_owned(), network: true };
            self.handle_ke_finished(now, id, None, Err(failure));
        } else if let EstablishmentState::Negotiating { lookup, .. } = self.sources[index].establishment.state
        {
            self.handle_negotiated_name(now, lookup, Err(ResolveFailure::Temporary));
        }
    }

    pub(crate) fn handle_ke_finished(
        &mut self,
        now: MonoTime,
        establishment: EstablishmentId,
        address: Option<SocketAddr>,
        result: Result<KeOutcome, KeFailure>,
    ) {
        let is_this = |state: &EstablishmentState| matches!(state, EstablishmentState::Running { id, .. } if *id == establishment);
        let found = self.sources.iter().position(|source| is_this(&source.establishment.state));
        let Some(index) = found else { return };
        let state = std::mem::take(&mut self.sources[index].establishment.state);
        let EstablishmentState::Running { target, addresses, .. } = state else { return };
        self.timers.cancel(Timer::EstablishmentOverdue(self.sources[index].key));
        let tried = address.map(|address| address.ip()).or_else(|| addresses.first().copied());
        match result {
            Ok(outcome) => {
                let ntp_port = outcome.ntp_port.unwrap_or(self.sources[index].config.port);
                let negotiated = Negotiated { outcome, target, ke_address: address, ntp_port };
                self.find_ntp_server(now, index, negotiated);
            }
            Err(failure) => self.establishment_failed(now, index, failure, tried),
        }
    }

    /// Keys are there. The NTP server is the host itself, an address, or a name that is to be looked up.
    fn find_ntp_server(&mut self, now: MonoTime, index: usize, negotiated: Negotiated) {
        let dates = certificate_dates(&negotiated.outcome);
        let lower_bound = self.lower_bound(now);
        if self.dates_policy(now, index) == Some(CertificateDatesPolicy::Judged)
            && let Err(reason) = judge_by_lower_bound(dates, lower_bound)
        {
            let tried = negotiated.ke_address.map(|address| address.ip());
            return self.certificate_refused(now, index, reason, lower_bound, dates, tried);
        }
        let ke_address = negotiated.ke_address.map(|address| address.ip());
        let literal = match &negotiated.outcome.ntp_server {
            None => ke_address,
            Some(name) => parse_literal(name),
        };
        if let Some(address) = literal {
            if !may_name(ke_address, address) {
                let text = format!("the negotiated NTP server {address} is none that can be asked");
                return self.establishment_failed(
                    now,
                    index,
                    failure("ntp-server-address", text, false),
                    ke_address,
                );
            }
            return self.install_keys(now, index, negotiated, address);
        }
        let Some(name) = negotiated.outcome.ntp_server.clone() else {
            // The shell must say whom it reached; without that, and without a server record, there is nobody to ask.
            let failure =
                failure("no-address", "the address of the NTP server is not known".to_owned(), true);
            return self.establishment_failed(now, index, failure, None);
        };
        let lookup = LookupId(self.number());
        let source = &mut self.sources[index];
        let family = source.config.address_family;
        source.establishment.state =
            EstablishmentState::Negotiating { lookup, negotiated: Box::new(negotiated) };
        self.timers.set(Timer::EstablishmentOverdue(source.key), now.add_secs_f64(ESTABLISHMENT_SECONDS_MAX));
        self.requests.push_back(Request::Resolve { lookup, name, family });
    }

    /// The negotiated server's name was looked up. The family with which keys were established comes first: it works.
    pub(crate) fn handle_negotiated_name(
        &mut self,
        now: MonoTime,
        lookup: LookupId,
        result: Result<Vec<IpAddr>, ResolveFailure>,
    ) {
        let is_this = |state: &EstablishmentState| matches!(state, EstablishmentState::Negotiating { lookup: id, .. } if *id == lookup);
        let found = self.sources.iter().position(|source| is_this(&source.establishment.state));
        let Some(index) = found else { return };
        let state = std::mem::take(&mut self.sources[index].establishment.state);
        let EstablishmentState::Negotiating { negotiated, .. } = state else { return };
        let key = self.sources[index].key;
        self.timers.cancel(Timer::EstablishmentOverdue(key));
        let family = self.sources[index].config.address_family;
        let worked_v6 = negotiated.ke_address.is_some_and(|address| address.is_ipv6());
        let ke_address = negotiated.ke_address.map(|address| address.ip());
        let addresses = result.unwrap_or_default().into_iter().map(|address| address.to_canonical());
        let mut addresses: Vec<IpAddr> = addresses.collect();
        addresses.retain(|address| family.admits(*address) && may_name(ke_address, *address));
        addresses.sort_by_key(|address| address.is_ipv6() != worked_v6);
        let holder = |address: &IpAddr| {
            let remote = SocketAddr::new(*address, negotiated.ntp_port);
            let holder = self.associations.iter().find(|other| other.remote == remote);
            holder.filter(|holder| Some(holder.id) != negotiated.target)
        };
        let free = addresses.iter().find(|address| holder(address).is_none());
        let to_be_had = || {
            let gives_way = |address: &&IpAddr| {
                holder(address).is_some_and(|holder| self.gives_way_to(now, index, holder, ke_address))
            };
            addresses.iter().find(gives_way)
        };
        match free.or_else(to_be_had).or(addresses.first()).copied() {
            Some(address) => self.install_keys(now, index, *negotiated, address),
            None => {
                let name = negotiated.outcome.ntp_server.unwrap_or_default();
                let text = format!("the negotiated NTP server {name} has no address");
                let tried = negotiated.ke_address.map(|address| address.ip());
                self.establishment_failed(now, index, failure("ntp-server-name", text, true), tried);
            }
        }
    }

    /// Gives keys to the association that wanted them, or makes one.
    fn install_keys(&mut self, now: MonoTime, index: usize, negotiated: Negotiated, address: IpAddr) {
        let Negotiated { outcome, target, ke_address, ntp_port } = negotiated;
        let remote = SocketAddr::new(address, ntp_port);
        let mut state = self.new_nts_state(now, index, &outcome);
        state.ke_address = ke_address.map(|address| address.ip());
        let old = target.and_then(|id| self.association_index(id));
        let mut keys_back_off = old.map_or_else(Default::default, |old| self.associations[old].keys_back_off);
        keys_back_off.fail(now, Waits::PROTOCOL, &mut self.random);
        if let Some(older) = old.and_then(|old| self.associations[old].nts()) {
            state.inherit(older);
        }
        let same = old.filter(|old| self.associations[*old].remote == remote);
        let installed = if let Some(same) = same {
            self.associations[same].credentials = Credentials::Nts(Box::new(state));
            Ok(self.associations[same].id)
        } else {
            let credentials = Credentials::Nts(Box::new(state));
            let refused = self.refused_at(now, index, remote, &credentials).is_some();
            if let Some(id) = target.filter(|_| !refused) {
                self.remove_association(now, id, RemovalReason::ServerChanged);
            }
            self.add_association(now, index, remote, credentials)
        };
        match installed {
            Ok(id) => self.keys_installed(now, index, id, &outcome, keys_back_off),
            Err(reason) => {
                let failure = failure("address-in-use", reason.to_string(), false);
                self.establishment_failed(now, index, failure, ke_address.map(|address| address.ip()));
            }
        }
    }

    fn keys_installed(
        &mut self,
        now: MonoTime,
        index: usize,
        id: SourceId,
        outcome: &KeOutcome,
        keys_back_off: crate::back_off::BackOff,
    ) {
        if let Some(association) = self.association_index(id) {
            let association = &mut self.associations[association];
            association.keys_back_off = keys_back_off;
            association.claim = None;
            if association.exchange.is_none() {
                self.timers.set_no_later(Timer::Poll(id), now);
            }
        }
        let source = &mut self.sources[index];
        source.establishment.succeeded += 1;
        source.establishment.last_error = None;
        source.establishment.last_success = Some(now);
        if source.is_pool() {
            // Bad members are passed over by their addresses. A server's back-off lasts until its first sample.
            source.establishment.back_off.reset();
        }
        source.last_error = None;
        let (key, name) = (source.key, source.config.name.clone());
        self.event(Event::KeysEstablished {
            source: key,
            name,
            aead: outcome.keys.algorithm().id(),
            cookies: outcome.cookies.len(),
            ntp_server: outcome.ntp_server.clone(),
            ntp_port: outcome.ntp_port,
        });
        self.save_soon(now);
        self.drive_source(now, key);
    }

    fn new_nts_state(&self, now: MonoTime, index: usize, outcome: &KeOutcome) -> NtsState {
        let established = self.system_date(now).unix_seconds();
        let cookies = outcome.cookies.iter().cloned();
        let mut state =
            NtsState::new(outcome.keys.clone(), outcome.alternative_keys.clone(), cookies, established);
        state.established_at = Some(now);
        let judged = self.dates_policy(now, index) == Some(CertificateDatesPolicy::Judged);
        let provisional = judged && !self.best_time(now).trusted;
        state.certificate = Some(Certificate { dates: certificate_dates(outcome), provisional });
        state
    }

    /// An establishment failed: the next one waits, longer and longer. In a pool the next address comes first.
    pub(crate) fn establishment_failed(
        &mut self,
        now: MonoTime,
        index: usize,
        failure: KeFailure,
        tried: Option<IpAddr>,
    ) {
        let waits = if failure.network { Waits::NETWORK } else { Waits::PROTOCOL };
        let in_use = self.addresses_in_use(self.sources[index].key);
        let source = &mut self.sources[index];
        source.establishment.count_failure(&failure.kind);
        source.establishment.last_error = Some(failure.text.clone());
        source.last_error = Some(failure.text.clone());
        let mut others = false;
        if let Some(address) = tried.filter(|_| source.is_pool()) {
            source.resolution.avoid(now, address);
            others = !source.resolution.candidates(now, &in_use).is_empty();
        }
        let retry_seconds = if others {
            let seconds = Waits::NETWORK.first_seconds * self.random.jitter(0.9, 1.1);
            source.establishment.back_off.wait_at_least(now, seconds);
            seconds
        } else {
            source.establishment.back_off.fail(now, waits, &mut self.random)
        };
        let (key, name) = (source.key, source.config.name.clone());
        self.event(Event::EstablishmentFailed { source: key, name, failure, retry_seconds });
        self.drive_source(now, key);
    }

    /// Keys that are too old are replaced while there are still cookies.
    pub(crate) fn expire_old_keys(&mut self, now: MonoTime, index: usize) {
        let limit = f64::from(self.config.nts_refresh_seconds);
        let unix = self.system_date(now).unix_seconds();
        if let Some(nts) = self.associations[index].nts_mut() {
            nts.wants_keys |= limit > 0.0 && nts.age_seconds(now, unix) > limit;
        }
    }

    /// The world changed: back-offs are forgotten, except where the server itself asked to be left alone.
    pub(crate) fn reset_back_offs(&mut self) {
        for source in &mut self.sources {
            source.establishment.back_off.reset();
            source.resolution.reset();
        }
        for association in &mut self.associations {
            association.keys_back_off.reset();
        }
    }
}

/// The time for the handshake, and whether the certificate's dates are checked in it.
const fn handshake_time(policy: CertificateDatesPolicy, best: &BestTime) -> (i64, bool) {
    match policy {
        CertificateDatesPolicy::Judged => (best.unix_seconds, best.trusted),
        CertificateDatesPolicy::Always => (best.system_unix_seconds, true),
        CertificateDatesPolicy::Never => (best.unix_seconds, false),
    }
}

pub(crate) const fn certificate_dates(outcome: &KeOutcome) -> CertificateDates {
    CertificateDates { not_before: outcome.certificate_not_before, not_after: outcome.certificate_not_after }
}

pub(crate) fn failure(kind: &str, text: String, network: bool) -> KeFailure {
    KeFailure { kind: kind.to_owned(), text, network }
}
