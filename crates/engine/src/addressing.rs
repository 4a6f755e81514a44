//! From names to associations: lookups, the race of the families, pools, and the replacement of bad servers.
//!
//! A plain source begins with several *candidates*: one address of each family for a server, twice as many as wanted for a
//! pool. The first ones that give good answers stay, the others are dropped; so a dead family costs nothing but a packet.

use crate::association::{Association, Credentials};
use crate::engine::Engine;
use crate::resolution::ADDRESSES_MAX;
use crate::source::Source;
use crate::symmetric::Peer;
use crate::timers::Timer;
use crate::{
    Authentication, Event, ExchangeId, LookupId, POOL_ASSOCIATIONS_MAX, RemovalReason, Request,
    ResolveFailure, SourceConfig, SourceKey, SourceRefusal, policy,
};
use chime_discipline::SourceId;
use chime_time::MonoTime;
use std::net::{IpAddr, SocketAddr};

/// The most configured sources.
const SOURCES_MAX: usize = 256;
/// The most associations of all sources together.
const ASSOCIATIONS_MAX: usize = 512;
/// Unanswered polls after which a candidate gives way to another address.
pub(crate) const CANDIDATE_POLLS: u32 = 4;
/// Samples in a row as a falseticker after which an association gives way to another address.
const FALSETICKER_SAMPLES: u32 = 4;
/// Between two replacements of one source; seconds, plus up to as much again. Small enough to leave a bad server the same
/// hour, long enough not to wear a pool out.
const REPLACEMENT_SECONDS: f64 = 600.0;
/// How long a lookup may take before it counts as failed; seconds.
const LOOKUP_SECONDS_MAX: f64 = 60.0;
/// Addresses older than this are looked up again before they are used for a new association; seconds.
pub(crate) const ADDRESS_AGE_SECONDS_MAX: f64 = 60.0;
/// The first requests of all sources spread over this long; seconds.
const START_SPREAD_SECONDS: f64 = 0.1;

impl Engine {
    /// Takes a source up and starts it.
    pub(crate) fn add_source(&mut self, now: MonoTime, config: SourceConfig) -> Option<SourceKey> {
        if self.sources.len() >= SOURCES_MAX {
            self.event(Event::SourceRefused {
                source: SourceKey(self.next_source),
                name: config.name,
                reason: SourceRefusal::TooMany,
            });
            return None;
        }
        let key = SourceKey(self.next_source);
        self.next_source = self.next_source.wrapping_add(1);
        let effective = policy::effective(self.config.authentication, &config, &self.config.sources);
        let admitted = effective.admitted;
        let unknown_key = match config.authentication {
            Authentication::Key(number) if !self.config.keys.iter().any(|key| key.id() == number) => {
                Some(number)
            }
            _ => None,
        };
        let source = Source::new(key, config, effective, &mut self.places);
        self.event(Event::SourceAdded {
            source: key,
            name: source.config.name.clone(),
            is_pool: source.is_pool(),
            number: source.unresolved_number(0),
        });
        self.sources.push(source);
        self.note_absent_sources();
        if let Some(number) = unknown_key {
            self.refuse_source(key, SourceRefusal::UnknownKey(number));
        } else if !admitted {
            // It is measured, so that the operator sees what it says; no sample of it enters the discipline.
            let name = self.sources.last().map_or_else(String::new, |source| source.config.name.clone());
            self.event(Event::SourceRefused { source: key, name, reason: SourceRefusal::Unauthenticated });
        }
        self.timers.set(Timer::Establish(key), now);
        Some(key)
    }

    /// Gives a source up for as long as it is configured as it is.
    pub(crate) fn refuse_source(&mut self, key: SourceKey, reason: SourceRefusal) {
        let Some(index) = self.source_index(key) else { return };
        let source = &mut self.sources[index];
        if source.refusal != Some(reason) {
            source.refusal = Some(reason);
            source.last_error = Some(reason.to_string());
            let name = source.config.name.clone();
            self.event(Event::SourceRefused { source: key, name, reason });
            self.note_absent_sources();
        }
    }

    /// Looks at a source and does what it needs next; harmless when it needs nothing.
    pub(crate) fn drive_source(&mut self, now: MonoTime, key: SourceKey) {
        let Some(index) = self.source_index(key) else { return };
        if !self.sources[index].is_active() {
            return;
        }
        if self.sources[index].is_nts() {
            self.drive_establishment(now, index);
        } else {
            self.drive_plain(now, index);
        }
    }

    /// Gives a source that is offline its association when it is configured by its address: there is nothing to ask for, and
    /// nothing to wait for.
    pub(crate) fn take_place_by_address(&mut self, now: MonoTime, index: usize) {
        let source = &self.sources[index];
        let is_ready = source.resolution.is_literal() && !source.is_nts() && source.refusal.is_none();
        if is_ready && self.associations_of(source.key).next().is_none() {
            let addresses = self.candidate_addresses(now, index, 1);
            self.add_candidates(now, index, &addresses);
        }
    }

    fn drive_plain(&mut self, now: MonoTime, index: usize) {
        let (key, wanted) = (self.sources[index].key, self.sources[index].config.wanted());
        let have = self.associations_of(key).count();
        let confirmed = self.associations_of(key).filter(|association| association.confirmed).count();
        if confirmed >= wanted {
            self.drop_candidates(now, key);
            return self.refresh_when_old(now, index);
        }
        let room = if self.sources[index].is_pool() {
            (wanted * 2).min(POOL_ASSOCIATIONS_MAX).saturating_sub(have)
        } else {
            2usize.saturating_sub(have)
        };
        if room == 0 {
            return;
        }
        let candidates = self.candidate_addresses(now, index, room);
        let age = if have == 0 { ADDRESS_AGE_SECONDS_MAX } else { 3600.0 };
        if !self.sources[index].resolution.is_fresh(now, age) {
            self.look_up(now, index);
        } else if !candidates.is_empty() {
            self.add_candidates(now, index, &candidates);
        }
    }

    /// The addresses to try next: for a server one of each family that is not tried already.
    fn candidate_addresses(&self, now: MonoTime, index: usize, room: usize) -> Vec<IpAddr> {
        let source = &self.sources[index];
        let in_use: Vec<IpAddr> =
            self.associations_of(source.key).map(|association| association.remote.ip()).collect();
        let mut candidates = source.resolution.candidates(now, &in_use);
        if candidates.is_empty() && in_use.is_empty() {
            // All of them were bad; a bad server may have recovered, no server at all has not.
            candidates = source.resolution.addresses().to_vec();
        }
        if source.is_pool() {
            candidates.truncate(room);
        } else {
            let mut families: Vec<bool> = in_use.iter().map(IpAddr::is_ipv6).collect();
            candidates.retain(|address| {
                let is_new = !families.contains(&address.is_ipv6());
                families.push(address.is_ipv6());
                is_new
            });
        }
        candidates
    }

    fn add_candidates(&mut self, now: MonoTime, index: usize, addresses: &[IpAddr]) {
        let (key, port) = (self.sources[index].key, self.sources[index].config.port);
        let mut refused = None;
        for address in addresses {
            let credentials = match self.sources[index].config.authentication {
                Authentication::Key(number) => Credentials::Key(number),
                Authentication::None | Authentication::Nts(_) => Credentials::None,
            };
            let remote = SocketAddr::new(*address, port);
            if let Err(reason) = self.add_association(now, index, remote, credentials) {
                self.sources[index].resolution.avoid(now, *address);
                refused = Some(reason);
            }
        }
        // Of a name's addresses there may have been others.
        if let Some(reason) = refused {
            self.note_refused(index, reason);
        }
        // All addresses taken by other sources: try again later, with what the name has then.
        if !addresses.is_empty() && self.associations_of(key).next().is_none() {
            self.timers.set(Timer::Resolve(key), now.add_secs_f64(LOOKUP_SECONDS_MAX));
        }
    }

    /// Makes an association and starts polling it.
    pub(crate) fn add_association(
        &mut self,
        now: MonoTime,
        index: usize,
        remote: SocketAddr,
        credentials: Credentials,
    ) -> Result<SourceId, SourceRefusal> {
        if let Some(refusal) = self.refused_at(now, index, remote, &credentials) {
            return Err(refusal);
        }
        let loser = self.take_address(now, remote);
        if self.associations.len() >= ASSOCIATIONS_MAX {
            return Err(SourceRefusal::TooMany);
        }
        let id = SourceId(self.next_association);
        self.next_association = self.next_association.wrapping_add(1);
        let socket = ExchangeId(self.number());
        let source = &self.sources[index];
        let mut association = Association::new(id, source.key, &source.config, remote, credentials);
        association.peer = source.is_peer().then(|| Peer::new(socket));
        let is_active = source.is_active();
        if !is_active {
            // The first burst is for when it goes online.
            association.polling.end_burst();
        }
        let (key, name) = (source.key, source.config.name.clone());
        self.discipline.add_source(id, source.effective.options);
        if source.config.is_peer() {
            self.discipline.set_peer(id);
        }
        self.associations.push(association);
        let source = &mut self.sources[index];
        (source.refusal_told, source.last_error) = (false, None);
        self.note_absent_sources();
        self.give_samples(now, self.associations.len() - 1);
        if is_active {
            // Not on the heels of whatever made us add it.
            let first = self.config.poll_separation_seconds;
            let start = now.add_secs_f64(first + self.random.jitter(0.0, START_SPREAD_SECONDS));
            self.timers.set(Timer::Poll(id), start);
        }
        self.event(Event::AssociationAdded { association: id, source: key, name, remote });
        if let Some(loser) = loser {
            self.discipline.update(now);
            self.lost_address(now, loser, remote);
        }
        Ok(id)
    }

    /// Gives an association up.
    pub(crate) fn remove_association(&mut self, now: MonoTime, id: SourceId, reason: RemovalReason) {
        self.discard_association(id, reason);
        self.discipline.update(now);
    }

    /// The same, before others of which none is to be selected in its place.
    pub(crate) fn discard_association(&mut self, id: SourceId, reason: RemovalReason) {
        let Some(index) = self.association_index(id) else { return };
        let association = self.associations.remove(index);
        if let Some(exchange) = association.exchange {
            self.requests.push_back(Request::CloseExchange(exchange.id));
        }
        if let Some(peer) = association.peer {
            self.requests.push_back(Request::CloseExchange(peer.socket));
        }
        self.timers.cancel(Timer::Poll(id));
        self.timers.cancel(Timer::ExchangeDeadline(id));
        self.discipline.remove_source(id);
        self.note_absent_sources();
        self.event(Event::AssociationRemoved { association: id, remote: association.remote, reason });
    }

    /// A good answer came: when enough servers answer, the other candidates are not needed.
    pub(crate) fn confirm(&mut self, now: MonoTime, index: usize) {
        if std::mem::replace(&mut self.associations[index].confirmed, true) {
            return;
        }
        let key = self.associations[index].source;
        self.drive_source(now, key);
    }

    fn drop_candidates(&mut self, now: MonoTime, key: SourceKey) {
        let candidates: Vec<SourceId> = self
            .associations_of(key)
            .filter(|association| !association.confirmed)
            .map(|association| association.id)
            .collect();
        for id in candidates {
            self.remove_association(now, id, RemovalReason::NotNeeded);
        }
    }

    /// Thinks about an association after a poll without answer: is there a better address?
    pub(crate) fn reconsider(&mut self, now: MonoTime, id: SourceId) {
        let Some(index) = self.association_index(id) else { return };
        let association = &self.associations[index];
        let Some(source) = self.source_index(association.source) else { return };
        if !association.confirmed && association.polling.unanswered() >= CANDIDATE_POLLS {
            self.associations[index].replace = true;
        } else if Self::ran_empty(association) {
            self.associations[index].replace = true;
            self.sources[source].resolution.expire();
        }
        if self.associations[index].replace {
            self.replace_association(now, id, RemovalReason::Unreachable);
        }
    }

    /// A sample came from a source that the discipline calls a falseticker, or not.
    pub(crate) fn note_falseticker(&mut self, now: MonoTime, id: SourceId, is_falseticker: bool) {
        let Some(index) = self.association_index(id) else { return };
        let association = &mut self.associations[index];
        association.falseticker_samples =
            if is_falseticker { association.falseticker_samples + 1 } else { 0 };
        if association.falseticker_samples >= FALSETICKER_SAMPLES {
            self.replace_association(now, id, RemovalReason::Falseticker);
        }
    }

    /// Replaces an association by one with another address of the same name, if there is one and the last replacement is
    /// long enough ago. Candidates give way at once.
    fn replace_association(&mut self, now: MonoTime, id: SourceId, reason: RemovalReason) {
        let Some(index) = self.association_index(id) else { return };
        let (confirmed, address) = (self.associations[index].confirmed, self.associations[index].remote.ip());
        let key = self.associations[index].source;
        let Some(source) = self.source_index(key) else { return };
        if self.sources[source].is_nts() && !self.sources[source].is_pool() {
            // One server, and its cookies are still being spent; establishment finds out where it went.
            return;
        }
        if confirmed && self.sources[source].replace_not_before.is_some_and(|until| until > now) {
            return;
        }
        if !self.sources[source].resolution.is_fresh(now, f64::MAX) {
            return self.look_up(now, source);
        }
        let avoid = if self.sources[source].is_nts() {
            self.associations[index].nts().and_then(|nts| nts.ke_address).unwrap_or(address)
        } else {
            address
        };
        let in_use = self.addresses_in_use(key);
        if self.sources[source].resolution.candidates(now, &in_use).is_empty() {
            if confirmed
                || self.sources[source].resolution.addresses().iter().all(|other| in_use.contains(other))
            {
                return;
            }
            // Every other address was found bad before; with this one bad as well they take turns.
            self.sources[source].resolution.forgive();
        }
        let pause = REPLACEMENT_SECONDS * self.random.jitter(1.0, 2.0);
        let source = &mut self.sources[source];
        source.resolution.avoid(now, avoid);
        if confirmed {
            source.replace_not_before = Some(now.add_secs_f64(pause));
        }
        self.remove_association(now, id, reason);
        self.drive_source(now, key);
    }

    /// The addresses by which a source's associations are known to its resolution: key establishment servers for NTS.
    pub(crate) fn addresses_in_use(&self, key: SourceKey) -> Vec<IpAddr> {
        self.associations_of(key)
            .map(|association| {
                association.nts().and_then(|nts| nts.ke_address).unwrap_or_else(|| association.remote.ip())
            })
            .collect()
    }

    pub(crate) fn associations_of(&self, key: SourceKey) -> impl Iterator<Item = &Association> {
        self.associations.iter().filter(move |association| association.source == key)
    }

    /// Asks for the addresses of a source's name, unless that is under way or has to wait.
    pub(crate) fn look_up(&mut self, now: MonoTime, index: usize) {
        let lookup = LookupId(self.number());
        let source = &mut self.sources[index];
        if source.resolution.in_flight().is_some() || source.resolution.is_literal() {
            return;
        }
        if let Some(at) = source.resolution.not_before(now) {
            self.timers.set(Timer::Resolve(source.key), at);
            return;
        }
        source.resolution.started(lookup);
        self.timers.set(Timer::Resolve(source.key), now.add_secs_f64(LOOKUP_SECONDS_MAX));
        let (name, family) = (source.config.name.clone(), source.config.address_family);
        self.requests.push_back(Request::Resolve { lookup, name, family });
    }

    /// The lookup timer of a source rang: a lookup is overdue, or allowed again, or old addresses are to be refreshed.
    pub(crate) fn resolve_due(&mut self, now: MonoTime, key: SourceKey) {
        let Some(index) = self.source_index(key) else { return };
        if let Some(lookup) = self.sources[index].resolution.in_flight() {
            return self.handle_resolved(now, lookup, Err(ResolveFailure::Temporary));
        }
        if self.sources[index].resolution.is_literal() {
            // There is nothing to look up: another source had its address, and may not any more.
            return self.drive_source(now, key);
        }
        if self.sources[index].is_active() {
            self.sources[index].refreshing = true;
            self.look_up(now, index);
        }
    }

    fn refresh_when_old(&mut self, now: MonoTime, index: usize) {
        let source = &self.sources[index];
        let refresh = f64::from(self.config.refresh_seconds);
        let timer = Timer::Resolve(source.key);
        if refresh > 0.0 && !source.resolution.is_literal() && self.timers.get(timer).is_none() {
            let at = now.add_secs_f64(refresh * self.random.jitter(0.9, 1.1));
            self.timers.set(timer, at);
        }
    }

    pub(crate) fn handle_resolved(
        &mut self,
        now: MonoTime,
        lookup: LookupId,
        result: Result<Vec<IpAddr>, ResolveFailure>,
    ) {
        let Some(index) =
            self.sources.iter().position(|source| source.resolution.in_flight() == Some(lookup))
        else {
            return self.handle_negotiated_name(now, lookup, result);
        };
        let key = self.sources[index].key;
        self.timers.cancel(Timer::Resolve(key));
        let refreshing = std::mem::take(&mut self.sources[index].refreshing);
        let usable = result.and_then(|mut addresses| {
            addresses.truncate(ADDRESSES_MAX * 2);
            let usable = self.sources[index].resolution.succeeded(now, &addresses).to_vec();
            if usable.is_empty() { Err(ResolveFailure::NotFound) } else { Ok(usable) }
        });
        match usable {
            Ok(addresses) => {
                self.sources[index].last_error = None;
                let name = self.sources[index].config.name.clone();
                if refreshing && !self.sources[index].is_pool() && !self.sources[index].is_nts() {
                    self.drop_gone(now, key, &addresses);
                }
                self.event(Event::Resolved { source: key, name, addresses });
                self.addresses_changed(now, key);
            }
            Err(failure) => self.resolution_failed(now, index, failure),
        }
    }

    /// A refreshed name no longer has the address of an association: the server moved. The names of pools have other
    /// addresses each time, so that this means nothing there.
    fn drop_gone(&mut self, now: MonoTime, key: SourceKey, addresses: &[IpAddr]) {
        let gone: Vec<SourceId> = self
            .associations_of(key)
            .filter(|association| !addresses.contains(&association.remote.ip()))
            .map(|association| association.id)
            .collect();
        for id in gone {
            self.remove_association(now, id, RemovalReason::AddressGone);
        }
    }

    fn resolution_failed(&mut self, now: MonoTime, index: usize, failure: ResolveFailure) {
        let source = &mut self.sources[index];
        let (key, name) = (source.key, source.config.name.clone());
        let retry_seconds = source.resolution.failed(now, &mut self.random);
        source.last_error = Some(format!("{name}: {failure}"));
        self.timers.set(Timer::Resolve(key), now.add_secs_f64(retry_seconds));
        self.event(Event::ResolveFailed { source: key, name, failure, retry_seconds });
    }

    /// Fresh addresses are there: associations that wait for a better one get it.
    fn addresses_changed(&mut self, now: MonoTime, key: SourceKey) {
        let waiting: Vec<SourceId> = self
            .associations_of(key)
            .filter(|association| association.replace)
            .map(|association| association.id)
            .collect();
        for id in waiting {
            self.replace_association(now, id, RemovalReason::Unreachable);
        }
        self.drive_source(now, key);
    }
}
