//! NTS state across restarts: what is given away to be saved, and what is taken back.

use crate::association::Credentials;
use crate::certificate_dates::{CertificateDates, judge_by_lower_bound};
use crate::engine::Engine;
use crate::nts_state::{Certificate, NtsState};
use crate::persistence::{SavedAssociation, SavedCertificate};
use crate::timers::Timer;
use chime_time::MonoTime;

impl Engine {
    /// The NTS state of all associations that have cookies, for [`crate::encode_nts_state`].
    #[must_use]
    pub fn nts_state(&self) -> Vec<SavedAssociation> {
        let saved = self.associations.iter().filter_map(|association| {
            let nts = association.nts().filter(|nts| !nts.cookies().is_empty())?;
            let source = &self.sources[self.source_index(association.source)?];
            let wish = source.config.nts_source()?;
            Some(SavedAssociation {
                name: source.config.name.clone(),
                ke_port: wish.port,
                trust: wish.trust,
                ke_address: nts.ke_address,
                remote: association.remote,
                keys: nts.keys().clone(),
                cookies: nts.cookies().to_vec(),
                established_unix_seconds: nts.established_unix,
                establishments: nts.establishments,
                certificate: nts.certificate.map(|certificate| SavedCertificate {
                    not_before: certificate.dates.not_before,
                    not_after: certificate.dates.not_after,
                    provisional: certificate.provisional,
                }),
            })
        });
        saved.collect()
    }

    /// Takes NTS state from before a restart, so that no key establishment is needed; call before the first `handle_*`.
    /// Gives how many associations were restored. What fits no configured source, or has certificates that have certainly
    /// expired, is left out.
    pub fn restore_nts_state(&mut self, now: MonoTime, saved: Vec<SavedAssociation>) -> usize {
        saved.into_iter().filter(|saved| self.restore(now, saved)).count()
    }

    fn restore(&mut self, now: MonoTime, saved: &SavedAssociation) -> bool {
        let fits = |source: &crate::source::Source| {
            let wish = source.config.nts_source().map(|nts| (nts.port, nts.trust));
            // Who trusts others now does not believe what was established with these.
            source.config.name.eq_ignore_ascii_case(&saved.name) && wish == Some((saved.ke_port, saved.trust))
        };
        let room = |source: &crate::source::Source| {
            self.associations_of(source.key).count() < source.config.wanted()
                && source.config.address_family.admits(saved.remote.ip())
        };
        let Some(index) = self.sources.iter().position(|source| fits(source) && room(source)) else {
            return false;
        };
        let offered =
            self.sources[index].config.nts_source().map(|nts| nts.aeads.as_slice()).unwrap_or_default();
        if saved.cookies.is_empty() || !offered.contains(&saved.keys.algorithm()) {
            return false;
        }
        let certificate = saved.certificate.map(|certificate| Certificate {
            dates: CertificateDates { not_before: certificate.not_before, not_after: certificate.not_after },
            provisional: certificate.provisional,
        });
        let lower_bound = self.lower_bound(now);
        if certificate.is_some_and(|certificate| {
            certificate.provisional && judge_by_lower_bound(certificate.dates, lower_bound).is_err()
        }) {
            return false;
        }
        let cookies = saved.cookies.iter().cloned();
        let mut state = NtsState::new(saved.keys.clone(), None, cookies, saved.established_unix_seconds);
        state.certificate = certificate;
        state.ke_address = saved.ke_address;
        state.establishments = saved.establishments;
        let credentials = Credentials::Nts(Box::new(state));
        let restored = self.add_association(now, index, saved.remote, credentials).is_ok();
        if restored
            && self.associations_of(self.sources[index].key).count() >= self.sources[index].config.wanted()
        {
            self.timers.cancel(Timer::Establish(self.sources[index].key));
        }
        restored
    }
}
