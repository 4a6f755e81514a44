//! NTS state across restarts: what is given away to be saved, and what is taken back.

use crate::NtsSource;
use crate::association::{Association, Credentials};
use crate::certificate_dates::{CertificateDates, judge_by_lower_bound};
use crate::engine::Engine;
use crate::nts_state::{Certificate, NtsState};
use crate::persistence::{SavedAssociation, SavedCertificate};
use crate::source::Source;
use crate::timers::Timer;
use chime_nts::Cookie;
use chime_time::MonoTime;

impl Engine {
    /// The NTS state of all associations with all of their cookies, for [`crate::encode_nts_state`]: for the end, as nothing
    /// may be sent after that.
    #[must_use]
    pub fn nts_state(&self) -> Vec<SavedAssociation> {
        let all = |association: &Association| {
            let nts = association.nts()?;
            self.to_save(association, nts, nts.cookies().cloned().collect())
        };
        self.associations.iter().filter_map(all).collect()
    }

    /// The NTS state of all associations with some of their cookies, for [`crate::encode_nts_state`]: for a crash. These
    /// cookies are not sent from now on, nor are those of the calls before, until [`Engine::nts_state_saved`] says that
    /// nothing but these is on disk. RFC 8915 §5.7: a cookie is sent once.
    pub fn set_nts_state_aside(&mut self) -> Vec<SavedAssociation> {
        let mut associations = std::mem::take(&mut self.associations);
        let set_aside = |association: &mut Association| {
            let cookies = association.nts_mut()?.set_aside().to_vec();
            self.to_save(association, association.nts()?, cookies)
        };
        let saved = associations.iter_mut().filter_map(set_aside).collect();
        self.associations = associations;
        saved
    }

    /// What the last [`Engine::set_nts_state_aside`] gave is on disk and has replaced what was there.
    pub fn nts_state_saved(&mut self) {
        for nts in self.associations.iter_mut().filter_map(Association::nts_mut) {
            nts.saved();
        }
    }

    /// `None` when there are no cookies: keys alone are of no use.
    fn to_save(
        &self,
        association: &Association,
        nts: &NtsState,
        cookies: Vec<Cookie>,
    ) -> Option<SavedAssociation> {
        let source = &self.sources[self.source_index(association.source)?];
        let wish = source.config.nts_source().filter(|_| !cookies.is_empty())?;
        Some(SavedAssociation {
            name: source.config.name.clone(),
            ke_port: wish.port,
            trust: wish.trust,
            ke_address: nts.ke_address,
            remote: association.remote,
            keys: nts.keys().clone(),
            cookies,
            established_unix_seconds: nts.established_unix,
            establishments: nts.establishments,
            certificate: nts.certificate.map(|certificate| SavedCertificate {
                not_before: certificate.dates.not_before,
                not_after: certificate.dates.not_after,
                provisional: certificate.provisional,
            }),
        })
    }

    /// Takes NTS state from before a restart, so that no key establishment is needed; call before the first `handle_*`, and
    /// only with what is on no disk any more, as its cookies are sent. Gives how many associations were restored. What fits no
    /// configured source, or has certificates that have certainly expired, is left out.
    pub fn restore_nts_state(&mut self, now: MonoTime, saved: Vec<SavedAssociation>) -> usize {
        let (restored, left) = saved.into_iter().partition::<Vec<_>, _>(|saved| {
            self.restore(now, saved, |wish| (wish.port, wish.trust) == (saved.ke_port, saved.trust))
        });
        // The same server may establish keys at another port now. But whose port is as it was comes first.
        let moved = left.iter().filter(|saved| self.restore(now, saved, |wish| wish.trust == saved.trust));
        let restored = restored.len() + moved.count();
        if restored > 0 {
            self.save_soon(now);
        }
        restored
    }

    /// Gives the state to a source of its name with such a wish; false when there is none. Who trusts others now does not
    /// believe what was established with these.
    fn restore(
        &mut self,
        now: MonoTime,
        saved: &SavedAssociation,
        fits: impl Fn(&NtsSource) -> bool,
    ) -> bool {
        let fits = |source: &Source| {
            source.config.name.eq_ignore_ascii_case(&saved.name)
                && source.config.nts_source().is_some_and(&fits)
        };
        let room = |source: &Source| {
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
