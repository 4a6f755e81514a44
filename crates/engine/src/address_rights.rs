//! Which of two sources has the NTP server at an address, when both want it.
//!
//! One server is one association, as it has one voice however often it is configured. But who may name an address is not always
//! who owns it: a key establishment server names any NTP server it likes (RFC 8915 §4.1.7), and whoever answers lookups names
//! any address. None of them may keep another source from its server by that. So
//!
//! - who has authentic answers from there keeps it: both are the same server then, whatever they are called;
//! - otherwise the better right wins: one's own address before one that was named, and that before what nobody vouches for;
//! - among equals the later one gets it when the earlier one has asked several times for nothing; who was only named there
//!   gives way to anybody then.
//!
//! Who loses an address hears of it as of a failure, looks elsewhere, and is refused there for an hour, so that naming it
//! again and again helps nothing.

use crate::addressing::CANDIDATE_POLLS;
use crate::association::{Association, Credentials};
use crate::engine::Engine;
use crate::establishing::failure;
use crate::{Event, RemovalReason, SourceKey, SourceRefusal};
use chime_time::MonoTime;
use std::net::{IpAddr, SocketAddr};

/// How good the right to an address is, the best last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Right {
    /// Nothing that comes from there is authenticated, nor was how it was found.
    None,
    /// The key establishment server named it.
    Named,
    /// The keys were established there, or are shared with it.
    Own,
}

impl Right {
    fn of(credentials: &Credentials, remote: SocketAddr) -> Self {
        match credentials {
            Credentials::None => Self::None,
            Credentials::Key(_) => Self::Own,
            Credentials::Nts(nts) => Self::by_keys(nts.ke_address, remote),
        }
    }

    fn by_keys(ke_address: Option<IpAddr>, remote: SocketAddr) -> Self {
        if ke_address == Some(remote.ip()) { Self::Own } else { Self::Named }
    }
}

/// Whether who has an address gives way to somebody with that right.
fn gives_way(holder: &Association, newcomer: Right) -> bool {
    if holder.is_authenticated() && holder.polling.reach() != 0 {
        return false;
    }
    let had_its_chance = holder.polling.unanswered() >= CANDIDATE_POLLS;
    match Right::of(&holder.credentials, holder.remote) {
        Right::None => newcomer > Right::None,
        Right::Named => newcomer == Right::Own || had_its_chance,
        // To something without authentication it does not: whoever drops packets would choose by that who is asked.
        Right::Own => newcomer == Right::Own && had_its_chance,
    }
}

impl Engine {
    /// Why a source may not have an association with this address; `None` when it is free, or who has it gives way.
    pub(crate) fn refused_at(
        &self,
        now: MonoTime,
        index: usize,
        remote: SocketAddr,
        credentials: &Credentials,
    ) -> Option<SourceRefusal> {
        let holder = self.associations.iter().find(|association| association.remote == remote)?;
        let to_be_had = self.may_take(now, index, holder, Right::of(credentials, remote));
        (!to_be_had).then_some(SourceRefusal::AddressInUse(remote.ip()))
    }

    /// Whether who has an address gives way to a source with keys that were established at `ke_address`.
    pub(crate) fn gives_way_to(
        &self,
        now: MonoTime,
        index: usize,
        holder: &Association,
        ke_address: Option<IpAddr>,
    ) -> bool {
        self.may_take(now, index, holder, Right::by_keys(ke_address, holder.remote))
    }

    fn may_take(&self, now: MonoTime, index: usize, holder: &Association, right: Right) -> bool {
        let source = &self.sources[index];
        let lost_it = right == Right::Named && source.resolution.is_avoided(now, holder.remote.ip());
        holder.source != source.key && !lost_it && gives_way(holder, right)
    }

    /// Takes an address from the source that has it, which was found to give way; gives whose it was.
    pub(crate) fn take_address(&mut self, now: MonoTime, remote: SocketAddr) -> Option<SourceKey> {
        let holder = self.associations.iter().find(|association| association.remote == remote)?;
        let (id, key) = (holder.id, holder.source);
        self.discard_association(id, RemovalReason::AddressTaken);
        if let Some(source) = self.source_index(key) {
            self.sources[source].resolution.avoid(now, remote.ip());
        }
        Some(key)
    }

    /// The source that had the address looks elsewhere, later and later.
    pub(crate) fn lost_address(&mut self, now: MonoTime, key: SourceKey, remote: SocketAddr) {
        let Some(index) = self.source_index(key) else { return };
        let reason = SourceRefusal::AddressInUse(remote.ip());
        if self.sources[index].is_nts() {
            return self.establishment_failed(
                now,
                index,
                failure("address-taken", reason.to_string(), false),
                None,
            );
        }
        self.note_refused(index, reason);
        self.drive_source(now, key);
    }

    /// A source that is left without any association because of others says so, once until it has one again.
    pub(crate) fn note_refused(&mut self, index: usize, reason: SourceRefusal) {
        if self.associations_of(self.sources[index].key).next().is_some() {
            return;
        }
        let source = &mut self.sources[index];
        source.last_error = Some(reason.to_string());
        if !std::mem::replace(&mut source.refusal_told, true) {
            let (key, name) = (source.key, source.config.name.clone());
            self.event(Event::SourceRefused { source: key, name, reason });
        }
    }
}
