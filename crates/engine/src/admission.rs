//! What may enter the discipline: the authentication policy, and certificates whose dates are judged afterwards.
//! The rules about dates are in [`crate::certificate_dates`].

use crate::back_off::Waits;
use crate::certificate_dates::{CertificateDates, Claim, judge, majority, quorum};
use crate::engine::Engine;
use crate::packet_tests::Measurement;
use crate::{CertificateDatesPolicy, DiscardReason, Event, RemovalReason};
use chime_discipline::{AbsentSources, SelectionState, SourceId};
use chime_time::{MonoTime, NtpDate};
use chime_wire::Header;
use std::net::IpAddr;

/// How long the first samples of provisional associations wait for a quorum; seconds. Four requests two seconds apart have
/// had their chance by then.
const QUORUM_SECONDS: f64 = 8.0;
/// How much earlier than the lower bound a server's timestamp may be before it is taken for one of the next era: 50 years,
/// as with chronyd. Servers in a laboratory or a simulation live in the past; 86 years are left for the future.
const PIVOT_SLACK_SECONDS: i64 = 50 * 365 * 86_400;
/// But not earlier than a year before 1970, from when on system clocks can count.
const ERA_FIRST_SECONDS: i64 = -31_557_600;

/// The best time that we have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BestTime {
    /// Whether the system clock is known to be right.
    pub(crate) trusted: bool,
    /// Unix seconds: the system clock, or the lower bound if that is later.
    pub(crate) unix_seconds: i64,
    /// What the system clock says, whether right or not; Unix seconds.
    pub(crate) system_unix_seconds: i64,
}

impl Engine {
    /// The true time is not before this: build date, last good time from disk, last time in this run at which
    /// authenticated sources kept the clock; Unix seconds.
    pub(crate) fn lower_bound(&self, _now: MonoTime) -> i64 {
        let known = self.config.known_time;
        known
            .build_unix_seconds
            .max(known.last_good_unix_seconds.unwrap_or(i64::MIN))
            .max(self.last_good_unix.unwrap_or(i64::MIN))
    }

    pub(crate) fn best_time(&self, now: MonoTime) -> BestTime {
        let system_unix_seconds = self.system_date(now).unix_seconds();
        let trusted = self.is_time_trusted(now);
        let unix_seconds = if trusted {
            self.date_with(now, self.remaining_correction(now))
        } else {
            system_unix_seconds.max(self.lower_bound(now))
        };
        BestTime { trusted, unix_seconds, system_unix_seconds }
    }

    /// The system clock is known to be right: authenticated sources whose certificates are judged keep it, or the operator
    /// said so and nothing contradicts. What unauthenticated sources made of the clock judges no certificate.
    fn is_time_trusted(&self, now: MonoTime) -> bool {
        self.is_synchronized_by_authenticated(now)
            || self.config.known_time.system_clock_trusted
                && self.system_date(now).unix_seconds() >= self.lower_bound(now)
    }

    /// Whether the clock is synchronised, with an authenticated association selected.
    pub(crate) fn is_synchronized_by_authenticated(&self, now: MonoTime) -> bool {
        let system = self.discipline.system(now);
        let selected = system.selected.and_then(|id| self.association_index(id));
        // Sources that are not followed vouch for nothing.
        let follows = system.synchronized && !system.quarantined;
        follows && selected.is_some_and(|index| self.associations[index].is_authenticated())
    }

    /// What the discipline knows of our clock's error but has not corrected (yet, or because it may not touch the clock);
    /// positive = our clock is behind.
    fn remaining_correction(&self, now: MonoTime) -> f64 {
        self.discipline.system(now).system_offset
    }

    /// The date that `offset` seconds make of our clock; Unix seconds.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "float to int casts saturate, far outside of any date"
    )]
    fn date_with(&self, now: MonoTime, offset: f64) -> i64 {
        (self.system_date(now).unix_seconds_f64() + offset).floor() as i64
    }

    /// The middle of the 136 years in which timestamps of servers lie: they begin 50 years before the lower bound.
    pub(crate) fn era_pivot(&self, now: MonoTime) -> NtpDate {
        let first = self.lower_bound(now).max(0).saturating_sub(PIVOT_SLACK_SECONDS).max(ERA_FIRST_SECONDS);
        NtpDate::from_unix(first.saturating_add(1 << 31), 0)
    }

    /// When the dates of this source's certificates are checked now; `None` without NTS.
    pub(crate) fn dates_policy(&self, now: MonoTime, index: usize) -> Option<CertificateDatesPolicy> {
        let configured = self.sources[index].config.nts_source()?.certificate_dates;
        let is_excepted =
            self.discipline.system(now).updates < u64::from(self.config.unchecked_dates_updates);
        Some(if is_excepted { CertificateDatesPolicy::Never } else { configured })
    }

    /// Tells the discipline which sources it cannot know of yet: without an address or keys there is no association. Who
    /// keeps one of them from being found must not decide by that whom else we follow.
    pub(crate) fn note_absent_sources(&mut self) {
        let mut absent = AbsentSources::default();
        for source in &self.sources {
            let options = source.effective.options;
            let missing = source.missing(self.associations_of(source.key).count());
            if options.no_select || missing == 0 {
                continue;
            }
            absent.required |= options.require;
            absent.voters += if source.is_active() { missing } else { 0 };
        }
        self.discipline.set_absent_sources(absent);
    }

    /// Whether a good measurement may enter the discipline.
    pub(crate) fn admit(
        &mut self,
        now: MonoTime,
        id: SourceId,
        measurement: &Measurement,
        header: &Header,
    ) -> Result<(), DiscardReason> {
        let index = self.association_index(id).ok_or(DiscardReason::NotStored)?;
        let key = self.associations[index].source;
        let source = self.source_index(key).ok_or(DiscardReason::NotStored)?;
        if !self.sources[source].effective.admitted {
            return Err(DiscardReason::Unauthenticated);
        }
        if !self.associations[index].is_provisional() {
            return Ok(());
        }
        self.judge_certificate(now, index, measurement.date_offset_seconds)?;
        if self.is_time_trusted(now) {
            self.judge_all(now, self.remaining_correction(now));
            return if self.association_index(id).is_some() {
                Ok(())
            } else {
                Err(DiscardReason::CertificateExpired)
            };
        }
        let root = header.root_delay.to_duration().half() + header.root_dispersion.to_duration();
        let error = (measurement.delay + measurement.dispersion + root).as_secs_f64();
        self.associations[index].claim = Some(Claim { offset: measurement.date_offset_seconds, error });
        self.settle_claims(now);
        match self.association_index(id) {
            None => Err(DiscardReason::CertificateExpired),
            Some(_) if self.claims_settled => Ok(()),
            Some(_) => Err(DiscardReason::AwaitingJudgement),
        }
    }

    /// Judges the certificate of one association by the time that `offset` makes of our clock, and draws the conclusion.
    fn judge_certificate(&mut self, now: MonoTime, index: usize, offset: f64) -> Result<(), DiscardReason> {
        let association = &self.associations[index];
        let Some(certificate) = association.nts().and_then(|nts| nts.certificate) else { return Ok(()) };
        let measured = self.date_with(now, offset);
        let judgement = judge(certificate.dates, measured, self.lower_bound(now));
        if let Err(reason) = judgement {
            let ke_address = association.nts().and_then(|nts| nts.ke_address);
            let (id, key) = (association.id, association.source);
            self.remove_association(now, id, RemovalReason::Certificate);
            if let Some(source) = self.source_index(key) {
                self.certificate_refused(now, source, reason, measured, certificate.dates, ke_address);
            }
        }
        judgement
    }

    /// Waits until more than half of the authenticated sources said what time it is, or long enough; then judges all
    /// provisional certificates by the time of the majority.
    fn settle_claims(&mut self, now: MonoTime) {
        if self.claims_settled {
            return;
        }
        let first = *self.first_claim_at.get_or_insert(now);
        let claims: Vec<Claim> =
            self.associations.iter().filter_map(|association| association.claim).collect();
        let judged = |index: &usize| {
            let policy = self.dates_policy(now, *index);
            policy == Some(CertificateDatesPolicy::Judged) && self.sources[*index].is_active()
        };
        let indices = (0..self.sources.len()).filter(judged);
        let expected = indices.map(|index| self.sources[index].config.wanted()).sum();
        if claims.len() < quorum(expected) && now.seconds_since(first) < QUORUM_SECONDS {
            return;
        }
        self.claims_settled = true;
        if let Some(offset) = majority(&claims) {
            self.refuse_invalid_at(now, offset);
        }
    }

    /// Refuses every provisional certificate that is not valid at the time that `offset` makes of our clock.
    fn refuse_invalid_at(&mut self, now: MonoTime, offset: f64) {
        let provisional: Vec<SourceId> = self
            .associations
            .iter()
            .filter(|association| association.is_provisional())
            .map(|association| association.id)
            .collect();
        for id in provisional {
            if let Some(index) = self.association_index(id) {
                // The verdict is carried out inside.
                let _ = self.judge_certificate(now, index, offset);
            }
        }
    }

    /// The clock is right now: what is still provisional is judged by it for good.
    fn judge_all(&mut self, now: MonoTime, offset: f64) {
        self.refuse_invalid_at(now, offset);
        for association in &mut self.associations {
            if let Some(certificate) = association.nts_mut().and_then(|nts| nts.certificate.as_mut()) {
                certificate.provisional = false;
            }
            association.claim = None;
        }
    }

    /// A certificate is refused: counted, told, and not asked for again too soon.
    pub(crate) fn certificate_refused(
        &mut self,
        now: MonoTime,
        source: usize,
        reason: DiscardReason,
        unix_seconds: i64,
        dates: CertificateDates,
        tried: Option<IpAddr>,
    ) {
        let CertificateDates { not_before, not_after } = dates;
        let config = &mut self.sources[source];
        let (key, name) = (config.key, config.config.name.clone());
        config.establishment.back_off.wait_at_least(now, Waits::PROTOCOL.first_seconds);
        self.event(Event::CertificateRefused {
            source: key,
            name,
            reason,
            unix_seconds,
            not_before,
            not_after,
        });
        let failure = crate::establishing::failure(reason.name(), reason.to_string(), false);
        self.establishment_failed(now, source, failure, tried);
    }

    /// When authenticated sources keep the clock, its time is a new lower bound and judges what was provisional.
    pub(crate) fn note_trusted_time(&mut self, now: MonoTime) {
        if !self.is_synchronized_by_authenticated(now) {
            return;
        }
        let correction = self.remaining_correction(now);
        let unix = self.date_with(now, correction);
        if self.associations.iter().any(crate::association::Association::is_provisional) {
            self.judge_all(now, correction);
        }
        if self.is_synchronized_by_authenticated(now) {
            self.last_good_unix = Some(unix);
        }
    }

    /// Says once that an unauthenticated source takes part in the time, and again when it does so anew.
    pub(crate) fn announce_unauthenticated(&mut self, now: MonoTime) {
        for index in 0..self.associations.len() {
            let association = &self.associations[index];
            let in_use = !association.is_authenticated() && self.is_in_use(now, association.id);
            let (id, key, remote) = (association.id, association.source, association.remote);
            let announced =
                std::mem::replace(&mut self.associations[index].unauthenticated_announced, in_use);
            if in_use && !announced {
                let name = self.source_index(key).map(|source| self.sources[source].config.name.clone());
                let name = name.unwrap_or_default();
                self.event(Event::UnauthenticatedInUse { association: id, name, remote });
            }
        }
    }

    /// Whether the discipline follows a source now.
    pub(crate) fn is_in_use(&self, now: MonoTime, id: SourceId) -> bool {
        let state = self.discipline.source_report(now, id).map(|report| report.state);
        matches!(state, Some(SelectionState::Selected | SelectionState::Combined))
    }
}
