//! What the operator wants, and what happens when the network changes.

use crate::engine::Engine;
use crate::polling::{Burst, initial_burst};
use crate::resolution::parse_literal;
use crate::source::{EstablishmentState, Source};
use crate::timers::Timer;
use crate::{
    Command, Config, Event, RemovalReason, Request, SourceConfig, SourceKey, SourceMatch, SourceRefusal,
    policy,
};
use chime_discipline::{Discipline, SourceId};
use chime_time::MonoTime;
use std::net::IpAddr;

/// After a change of the network, polls begin within this long; seconds. Machines that lose a network together must not
/// come back together.
const RESTART_SPREAD_SECONDS: f64 = 1.0;

impl Engine {
    /// How many sources and associations a command would be about; 0 = no such source.
    #[must_use]
    pub fn count_matching(&self, matching: &SourceMatch) -> usize {
        let associations =
            self.associations.iter().filter(|association| self.matches(matching, association.id)).count();
        let without = self.sources.iter().filter(|source| {
            self.associations_of(source.key).next().is_none() && matches_source(matching, source)
        });
        associations + without.count()
    }

    fn matches(&self, matching: &SourceMatch, id: SourceId) -> bool {
        let Some(index) = self.association_index(id) else { return false };
        let association = &self.associations[index];
        if let SourceMatch::Address { address, mask } = matching {
            return matches_address(association.remote.ip(), *address, *mask);
        }
        self.source_index(association.source)
            .is_some_and(|source| matches_source(matching, &self.sources[source]))
    }

    pub(crate) fn matching_sources(&self, matching: &SourceMatch) -> Vec<SourceKey> {
        let concerned = |source: &&Source| {
            matches_source(matching, source)
                || self.associations_of(source.key).any(|association| self.matches(matching, association.id))
        };
        self.sources.iter().filter(concerned).map(|source| source.key).collect()
    }

    pub(crate) fn handle_command(&mut self, now: MonoTime, command: Command) {
        match command {
            Command::Online(matching) => self.set_online(now, &matching, true),
            Command::Offline(matching) => self.set_online(now, &matching, false),
            Command::Burst { matching, good, total } => {
                self.burst(now, &matching, Burst { good, total, is_poll: false });
            }
            Command::Refresh => self.refresh(now),
            Command::MakeStep => {
                self.discipline.make_step(now);
            }
            Command::Reselect => self.discipline.reselect(now),
            Command::ResetSources => {
                for association in &self.associations {
                    self.discipline.reset_source(association.id);
                }
                for clock in &mut self.reference_clocks {
                    self.discipline.reset_source(clock.id);
                    clock.forget(now);
                }
                self.discipline.update(now);
                self.restart_polling(now);
            }
            Command::AddSource(source) => {
                self.config.sources.push((*source).clone());
                if self.add_source(now, *source).is_none() {
                    self.config.sources.pop();
                }
                self.apply_policy(now);
            }
            Command::ExchangeSources { gone, fresh } => self.exchange_sources(now, &gone, fresh),
            Command::RemoveSource(address) => self.remove_address(now, address),
            Command::RemoveByKey(key) => self.remove_by_key(now, key),
            Command::Modify { matching, change } => self.modify(now, &matching, change),
            Command::Tune(tuning) => self.tune(now, &tuning),
            Command::ManualMode(on) => {
                self.config.discipline.manual = on;
                self.discipline.set_settings(self.config.discipline);
            }
            Command::DeleteEnteredTime(place) => {
                self.discipline.delete_entered_time(now, place);
            }
            Command::ForgetEnteredTimes => self.discipline.forget_entered_times(),
            Command::SlewByHand(seconds) => {
                self.discipline.slew_by_hand(now, seconds);
            }
            Command::ChangeFrequencyByHand(faster) => {
                self.discipline.change_frequency_by_hand(now, faster);
            }
            Command::SetKeys(keys) => self.set_keys(now, keys),
            Command::Reconfigure(config) => self.reconfigure(now, *config),
        }
    }

    pub(crate) fn set_online(&mut self, now: MonoTime, matching: &SourceMatch, online: bool) {
        for key in self.matching_sources(matching) {
            let Some(index) = self.source_index(key) else { continue };
            let was_online = std::mem::replace(&mut self.sources[index].online, online);
            if !online {
                self.go_offline(now, key);
            } else if !was_online {
                self.sources[index].resolution.reset();
                self.sources[index].establishment.back_off.reset();
                self.restart_source(now, key);
            }
        }
        self.note_absent_sources();
    }

    /// Stops polling. What is under way ends by itself; its answer still counts.
    fn go_offline(&mut self, now: MonoTime, key: SourceKey) {
        let ids: Vec<SourceId> = self.associations_of(key).map(|association| association.id).collect();
        for id in ids {
            self.timers.cancel(Timer::Poll(id));
            if let Some(index) = self.association_index(id) {
                self.associations[index].polling.end_burst();
            }
        }
        self.timers.cancel(Timer::Resolve(key));
        self.timers.cancel(Timer::Establish(key));
        self.discipline.update(now);
    }

    /// A burst that was asked for while the source was offline is over.
    pub(crate) fn go_offline_after_burst(&mut self, now: MonoTime, id: SourceId) {
        let Some(index) = self.association_index(id) else { return };
        let key = self.associations[index].source;
        self.associations[index].polling.offline_after_burst = false;
        self.timers.cancel(Timer::Poll(id));
        let still = self.associations_of(key).any(|association| association.polling.offline_after_burst);
        if let Some(source) = self.source_index(key).filter(|_| !still) {
            self.sources[source].online = false;
            self.go_offline(now, key);
        }
    }

    fn burst(&mut self, now: MonoTime, matching: &SourceMatch, burst: Burst) {
        for key in self.matching_sources(matching) {
            let Some(source) = self.source_index(key) else { continue };
            self.take_place_by_address(now, source);
            if self.associations_of(key).next().is_none() {
                // Nobody to ask: it stays online or offline as it was.
                continue;
            }
            let was_online = std::mem::replace(&mut self.sources[source].online, true);
            for index in 0..self.associations.len() {
                let association = &mut self.associations[index];
                if association.source != key || association.polling.burst().is_some() {
                    continue;
                }
                association.polling.start_burst(burst);
                association.polling.offline_after_burst = !was_online;
                let id = association.id;
                if !association.is_denied(now) {
                    // Not on the heels of the command, as that may have been one of several.
                    let at = now.add_secs_f64(self.config.poll_separation_seconds);
                    self.timers.set_no_later(Timer::Poll(id), at);
                }
            }
            self.drive_source(now, key);
        }
    }

    fn refresh(&mut self, now: MonoTime) {
        for index in 0..self.sources.len() {
            self.sources[index].resolution.reset();
            self.sources[index].refreshing = true;
            self.look_up(now, index);
        }
    }

    /// Removes the source with this address, or the one member of a pool that has it.
    fn remove_address(&mut self, now: MonoTime, address: IpAddr) {
        let found = self.associations.iter().find(|association| association.remote.ip() == address);
        let Some((id, key)) = found.map(|association| (association.id, association.source)) else { return };
        let Some(index) = self.source_index(key) else { return };
        if self.sources[index].is_pool() {
            self.sources[index].resolution.avoid(now, address);
            self.remove_association(now, id, RemovalReason::Configuration);
            return self.drive_source(now, key);
        }
        self.remove_by_key(now, key);
    }

    /// What goes is gone before a selection is made without it, and that before anything new is asked.
    fn exchange_sources(&mut self, now: MonoTime, gone: &[SourceConfig], fresh: Vec<SourceConfig>) {
        let before = self.sources.len();
        for config in gone {
            let same = |source: &&Source| source.config == *config;
            // Its intervals and the like may have been changed by commands.
            let alike = |source: &&Source| {
                let one = &source.config;
                (&one.name, one.port, &one.mode) == (&config.name, config.port, &config.mode)
            };
            let found = self.sources.iter().find(same).or_else(|| self.sources.iter().find(alike));
            // What was deleted meanwhile stays so.
            if let Some(key) = found.map(|source| source.key) {
                self.forget_source(key);
            }
        }
        self.apply_policy(now);
        let kept = self.sources.len();
        for config in fresh {
            if let Some(address) = self.configured_already(&config) {
                let reason = SourceRefusal::AddressInUse(address);
                self.event(Event::SourceRefused {
                    source: SourceKey(self.next_source),
                    name: config.name,
                    reason,
                });
                continue;
            }
            self.handle_command(now, Command::AddSource(Box::new(config)));
        }
        self.event(Event::Reconfigured { added: self.sources.len() - kept, removed: before - kept, kept });
    }

    /// The address that a source is configured with, if another one is configured with it as well.
    fn configured_already(&self, config: &SourceConfig) -> Option<IpAddr> {
        let address = parse_literal(&config.name)?;
        let has_it = |source: &Source| {
            source.config.port == config.port && parse_literal(&source.config.name) == Some(address)
        };
        self.sources.iter().any(has_it).then_some(address)
    }

    /// Removes a source; the selection without it is for the caller to make.
    pub(crate) fn remove_source(&mut self, key: SourceKey) -> Option<SourceConfig> {
        let index = self.source_index(key)?;
        let remote = self.associations_of(key).next().map(|association| association.remote.ip());
        let ids: Vec<SourceId> = self.associations_of(key).map(|association| association.id).collect();
        for id in ids {
            self.discard_association(id, RemovalReason::Configuration);
        }
        let source = &self.sources[index];
        let (name, is_pool) = (source.config.name.clone(), source.is_pool());
        let number = source.unresolved_number(0);
        self.event(Event::SourceRemoved { name, is_pool, number, remote });
        for timer in [Timer::Resolve(key), Timer::Establish(key), Timer::EstablishmentOverdue(key)] {
            self.timers.cancel(timer);
        }
        let source = self.sources.remove(index);
        self.note_absent_sources();
        if let EstablishmentState::Running { id, .. } = source.establishment.state {
            self.requests.push_back(Request::CancelEstablishment(id));
        }
        Some(source.config)
    }

    /// Replaces the configuration. A source whose configuration is the same keeps its associations, samples and cookies.
    fn reconfigure(&mut self, now: MonoTime, config: Config) {
        let mut wanted: Vec<Option<SourceConfig>> = config.sources.iter().cloned().map(Some).collect();
        let mut obsolete = Vec::new();
        for source in &self.sources {
            let same = wanted.iter_mut().find(|candidate| candidate.as_ref() == Some(&source.config));
            match same {
                Some(candidate) => *candidate = None,
                None => obsolete.push(source.key),
            }
        }
        let kept = self.sources.len() - obsolete.len();
        let keys_changed = self.keys_changed(&config);
        self.config = config;
        // Their devices were opened when the daemon still might: a change waits for a restart.
        self.config.reference_clocks =
            self.reference_clocks.iter().map(|clock| clock.config.clone()).collect();
        for key in &obsolete {
            self.remove_source(*key);
        }
        let fresh: Vec<SourceConfig> = wanted.into_iter().flatten().collect();
        let added = fresh.len();
        for source in fresh {
            self.add_source(now, source);
        }
        if keys_changed {
            self.sources.iter_mut().for_each(|source| source.refusal = None);
        }
        self.discipline.set_settings(self.config.discipline);
        self.reset_back_offs();
        self.apply_policy(now);
        if keys_changed {
            self.restart_polling(now);
        }
        self.drive_all(now);
        self.event(Event::Reconfigured { added, removed: obsolete.len(), kept });
    }

    fn keys_changed(&self, config: &Config) -> bool {
        let ids = |config: &Config| config.keys.iter().map(|key| key.id()).collect::<Vec<u32>>();
        ids(&self.config) != ids(config)
    }

    /// Tells the discipline what each source may do, after the set of sources changed.
    pub(crate) fn apply_policy(&mut self, now: MonoTime) {
        for index in 0..self.sources.len() {
            let config = &self.sources[index].config;
            let effective = policy::effective(self.config.authentication, config, &self.config.sources);
            let (options, admitted) = (effective.options, effective.admitted);
            let was_admitted = self.sources[index].effective.admitted;
            self.sources[index].effective = effective;
            for association in self.associations.iter().filter(|one| one.source == self.sources[index].key) {
                self.discipline.set_source_options(association.id, options);
                if was_admitted && !admitted {
                    // Samples from before the change are as unauthenticated as those after it.
                    self.discipline.reset_source(association.id);
                }
            }
        }
        self.apply_policy_to_reference_clocks();
        self.note_absent_sources();
        self.discipline.update(now);
    }

    pub(crate) fn drive_all(&mut self, now: MonoTime) {
        let keys: Vec<SourceKey> = self.sources.iter().map(|source| source.key).collect();
        for key in keys {
            self.drive_source(now, key);
        }
    }

    /// An interface or route changed: nothing that was learnt from failures holds any more.
    pub(crate) fn handle_network_changed(&mut self, now: MonoTime) {
        self.network_changed_at = Some(now);
        self.timers.cancel(Timer::NetworkSettles);
        self.reset_back_offs();
        self.restart_polling(now);
    }

    /// Polls all sources soon, with the first burst again where it is configured.
    pub(crate) fn restart_polling(&mut self, now: MonoTime) {
        let keys: Vec<SourceKey> = self.sources.iter().map(|source| source.key).collect();
        for key in keys {
            self.restart_source(now, key);
        }
    }

    /// Where no majority agrees, a source counts that told its time long ago and may see things differently by now, as after a
    /// step of the clock that nobody told of: none is waited for longer than its shortest interval.
    pub(crate) fn ask_those_not_heard_lately(&mut self, now: MonoTime) {
        for association in &self.associations {
            let timer = Timer::Poll(association.id);
            // Who is not to be asked has no timer.
            if self.timers.get(timer).is_some() {
                self.timers.set_no_later(timer, now.add_secs_f64(association.polling.shortest_seconds()));
            }
        }
    }

    fn restart_source(&mut self, now: MonoTime, key: SourceKey) {
        let Some(source) = self.source_index(key) else { return };
        if !self.sources[source].is_active() {
            return;
        }
        let burst = self.sources[source].config.iburst.then(|| initial_burst(&self.sources[source].config));
        for index in 0..self.associations.len() {
            let association = &mut self.associations[index];
            if association.source != key || association.is_denied(now) {
                continue;
            }
            association.polling.restart(burst);
            let id = association.id;
            let first = self.config.poll_separation_seconds;
            let at = now.add_secs_f64(self.random.jitter(first, RESTART_SPREAD_SECONDS));
            // Not before the exchange that is open has had its chance.
            let at = self.timers.get(Timer::ExchangeDeadline(id)).map_or(at, |deadline| at.max(deadline));
            self.timers.set(Timer::Poll(id), at);
        }
        let at = now.add_secs_f64(self.random.jitter(0.0, RESTART_SPREAD_SECONDS));
        self.timers.set_no_later(Timer::Establish(key), at);
    }

    /// The discipline, for settings that the operator changes at run time.
    pub const fn discipline_mut(&mut self) -> &mut Discipline {
        &mut self.discipline
    }
}

fn matches_source(matching: &SourceMatch, source: &Source) -> bool {
    match matching {
        SourceMatch::All => true,
        SourceMatch::Name(name) => source.config.name.eq_ignore_ascii_case(name),
        SourceMatch::Key(key) => source.key == *key,
        SourceMatch::Address { .. } => false,
    }
}

/// Whether `address` equals `wanted` where `mask` has ones; a mask of another family means all of it.
fn matches_address(address: IpAddr, wanted: IpAddr, mask: IpAddr) -> bool {
    match (address, wanted, mask) {
        (IpAddr::V4(address), IpAddr::V4(wanted), IpAddr::V4(mask)) => {
            address.to_bits() & mask.to_bits() == wanted.to_bits() & mask.to_bits()
        }
        (IpAddr::V6(address), IpAddr::V6(wanted), IpAddr::V6(mask)) => {
            address.to_bits() & mask.to_bits() == wanted.to_bits() & mask.to_bits()
        }
        _ => address == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_another_family_mean_the_whole_address() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(matches_address(ip("10.1.2.3"), ip("10.1.0.0"), ip("255.255.0.0")));
        assert!(!matches_address(ip("10.2.2.3"), ip("10.1.0.0"), ip("255.255.0.0")));
        assert!(matches_address(ip("fd00::1"), ip("fd00::"), ip("ffff::")));
        assert!(matches_address(ip("10.1.2.3"), ip("10.1.2.3"), ip("ffff::")));
        assert!(!matches_address(ip("10.1.2.3"), ip("10.1.2.4"), ip("ffff::")));
    }
}
