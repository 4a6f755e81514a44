//! From state to [`EngineReport`]: what each command of chronyc's would show.

use crate::association::{Association, Credentials};
use crate::engine::Engine;
use crate::interleaved::AnswerMode;
use crate::packet_tests::reference_id;
use crate::reference_clock::ReferenceClock;
use crate::source::{EstablishmentState, Source};
use crate::{
    ActivityReport, AuthenticationMode, AuthenticationReport, BurstReport, DiscardCounters, DiscardReport,
    EngineReport, EstablishmentReport, LeapReport, LeapSecondReport, LeapSecondsReport, ManualEntryReport,
    ManualReport, NtpReport, SelectionOptionsReport, SelectionReport, SourceKind, SourceMode, SourceReport,
    StatisticsReport, TrackingReport,
};
use chime_discipline::{KnownLeap, Leap, LeapKnowledge, LeapMode, SourceOptions, SourceStatistics};
use chime_time::{ClockReading, MonoTime, NtpDate};
use chime_wire::LeapIndicator;
use chime_wire::mac::MacAlgorithm;
use std::net::IpAddr;

/// Marks the number of a report about an unresolved place, apart from those about associations.
pub(crate) const UNRESOLVED_ID_BASE: u32 = 0x8000_0000;

impl Engine {
    /// What reports show at `now`. Changes nothing.
    #[must_use]
    pub fn report(&self, now: ClockReading) -> EngineReport {
        let sources = self.source_reports(now);
        let in_use = self.associations.iter().filter(|association| {
            !association.is_authenticated() && self.is_in_use(now.mono, association.id)
        });
        EngineReport {
            unix_seconds: now.system.unix_seconds_f64(),
            tracking: self.tracking_report(now),
            activity: activity(&sources),
            sources,
            establishments: self
                .sources
                .iter()
                .filter_map(|source| establishment_report(now.mono, source))
                .collect(),
            leap_seconds: self.leap_seconds_report(now),
            manual: self.manual_report(now),
            authentication_policy: self.config.authentication,
            unauthenticated_in_use: in_use.map(|association| self.source_name(association)).collect(),
            discards: discards(&self.stray_discards),
        }
    }

    fn manual_report(&self, now: ClockReading) -> ManualReport {
        let unix = |at: MonoTime| now.system.unix_seconds_f64() + at.seconds_since(now.mono);
        let entries = self.discipline.entered_times(now.mono).into_iter();
        ManualReport {
            enabled: self.discipline.settings().manual,
            entries: entries
                .map(|entry| ManualEntryReport {
                    unix_seconds: unix(entry.at),
                    slewed_seconds: entry.slewed,
                    original_seconds: entry.original,
                    residual_seconds: entry.residual,
                })
                .collect(),
        }
    }

    fn source_name(&self, association: &Association) -> String {
        let source = self.source_index(association.source);
        source.map_or_else(String::new, |source| self.sources[source].config.name.clone())
    }

    fn tracking_report(&self, now: ClockReading) -> TrackingReport {
        let system = self.discipline.system(now.mono);
        let selected =
            system.selected.and_then(|id| self.association_index(id)).map(|at| &self.associations[at]);
        let selected = selected.filter(|_| system.synchronized);
        let clock = system.selected.filter(|_| system.synchronized);
        let clock = clock.and_then(|id| self.reference_clock_index(id));
        let clock = clock.map(|index| self.reference_clocks[index].name());
        let unix = |at: MonoTime| now.system.unix_seconds_f64() + at.seconds_since(now.mono);
        TrackingReport {
            synchronized: system.synchronized,
            reference_id: system.reference_id,
            address: selected.map(|association| association.remote.ip()),
            name: selected.map(|association| self.source_name(association)).or(clock),
            stratum: system.stratum,
            leap: leap(system.leap),
            reference_unix_seconds: match system.reference_at {
                _ if system.local_active => now.system.unix_seconds_f64(),
                at => at.map_or(0.0, unix),
            },
            system_offset_seconds: system.system_offset,
            last_offset_seconds: -system.last_offset,
            rms_offset_seconds: system.rms_offset,
            // A correction that speeds the clock up means that the oscillator is slow.
            frequency_ppm: -system.frequency_ppm,
            residual_frequency_ppm: -system.residual_frequency_ppm,
            skew_ppm: system.skew_ppm,
            root_delay_seconds: system.root_delay,
            root_dispersion_seconds: system.root_dispersion,
            update_interval_seconds: system.update_interval,
            authenticated: system.synchronized && self.only_authenticated_in_use(now.mono),
            refused_correction_seconds: system.refused_correction,
        }
    }

    fn leap_seconds_report(&self, now: ClockReading) -> LeapSecondsReport {
        let status = self.discipline.leap_status(now.system);
        let one = |known: KnownLeap| LeapSecondReport {
            unix_seconds: known.leap.midnight,
            insert: known.leap.insert,
            listed: known.knowledge == LeapKnowledge::Table,
        };
        LeapSecondsReport {
            mode: match self.discipline.settings().leap_mode {
                LeapMode::System => "system",
                LeapMode::Step => "step",
                LeapMode::Slew => "slew",
                LeapMode::Ignore => "ignore",
            }
            .to_owned(),
            next: status.next.map(one),
            last: status.last.map(one),
            tai_offset_seconds: status.tai_offset,
            listed: status.table.is_some(),
            list_expires_unix_seconds: status.table.flatten(),
            list_expires_in_seconds: status
                .table
                .flatten()
                .map(|at| at.saturating_sub(now.system.unix_seconds())),
            follows_smeared: status.follows_smeared,
        }
    }

    /// Reference clocks need no authentication: whoever could forge them is on this machine already.
    fn only_authenticated_in_use(&self, now: MonoTime) -> bool {
        let mut in_use =
            self.associations.iter().filter(|association| self.is_in_use(now, association.id)).peekable();
        let has_clock = self.reference_clocks.iter().any(|clock| self.is_in_use(now, clock.id));
        (has_clock || in_use.peek().is_some()) && in_use.all(Association::is_authenticated)
    }

    fn source_reports(&self, now: ClockReading) -> Vec<SourceReport> {
        let has_choice = self.has_choice();
        let clocks = self.reference_clocks.iter();
        let mut reports: Vec<SourceReport> =
            clocks.map(|clock| self.reference_clock_report(now, clock, has_choice)).collect();
        for source in &self.sources {
            let before = reports.len();
            let base = source_base(source, has_choice);
            reports.extend(self.associations_of(source.key).map(|one| {
                let mut report = self.association_report(now, (source, base.clone()), one);
                if !has_choice {
                    report.state = 'M';
                }
                report
            }));
            let (wanted, found) = (source.config.wanted(), reports.len() - before);
            let has_spares = self.config.spare_pool_places && found < wanted;
            let places = if has_spares { source.places() } else { wanted };
            for place in 0..places.saturating_sub(found) {
                let number = source.unresolved_number(u32::try_from(place).unwrap_or(0));
                let id = UNRESOLVED_ID_BASE | number;
                reports.push(unresolved_report(now.mono, source, id, base.clone()));
            }
        }
        reports
    }

    fn reference_clock_report(
        &self,
        now: ClockReading,
        clock: &ReferenceClock,
        has_choice: bool,
    ) -> SourceReport {
        let options = (&clock.config.options, &clock.effective);
        let base = SourceReport {
            id: clock.id.0,
            // Numbers of sources grow from below.
            source: u32::MAX - clock.id.0,
            name: clock.name(),
            kind: SourceKind::ReferenceClock,
            driver: clock.config.driver.clone(),
            device: clock.config.device.clone(),
            reference_id: clock.config.reference_id,
            online: true,
            poll: clock.config.poll,
            poll_min: clock.config.poll,
            poll_max: clock.config.poll,
            reach: clock.reach,
            state: state_without_samples(clock.effective.no_select, has_choice),
            statistics: unknown_statistics(),
            selection: SelectionReport { score: 1.0, ..selection(options) },
            ..SourceReport::default()
        };
        match self.discipline.source_report(now.mono, clock.id) {
            Some(statistics) => SourceReport {
                ntp: as_answer(&statistics, clock),
                ..with_statistics(base, &statistics, options)
            },
            None => base,
        }
    }

    fn association_report(
        &self,
        now: ClockReading,
        (source, base): (&Source, SourceReport),
        association: &Association,
    ) -> SourceReport {
        let statistics = self.discipline.source_report(now.mono, association.id);
        let polling = &association.polling;
        let burst = match (polling.burst(), polling.offline_after_burst) {
            (None, _) => BurstReport::None,
            (Some(_), false) => BurstReport::ReturnToOnline,
            (Some(_), true) => BurstReport::ReturnToOffline,
        };
        let base = SourceReport {
            id: association.id.0,
            remote: Some(association.remote),
            reference_id: reference_id(association.remote.ip()),
            burst,
            poll: polling.exponent().exponent(),
            poll_min: polling.limits().0.exponent(),
            poll_max: polling.limits().1.exponent(),
            reach: polling.reach(),
            authentication: self.authentication_report(now, source, association),
            ntp: ntp_report(now.system, association),
            discards: discards(&association.discards),
            last_error: association.last_error.clone().or_else(|| source.last_error.clone()),
            ..base
        };
        let mut report = match statistics {
            Some(statistics) => {
                with_statistics(base, &statistics, (&source.config.options, &source.effective.options))
            }
            None => base,
        };
        // An answer that made no sample is one of a synchronised server all the same.
        let announced = association.last.as_ref().map(|last| last.header.leap);
        if let Some(announced) = announced.filter(|leap| *leap != LeapIndicator::Unsynchronized) {
            report.selection.leap = leap(crate::answer::leap(announced));
        }
        report
    }

    /// Whether anybody has answered, so that there is something to select from: until then all sources miss samples, and those
    /// that the operator excluded are not told apart, as with chronyd.
    fn has_choice(&self) -> bool {
        let is_good = |association: &Association| {
            let last = association.last.as_ref();
            association.confirmed || last.is_some_and(|last| last.tests.failure().is_none())
        };
        self.associations.iter().any(is_good) || self.reference_clocks.iter().any(|clock| clock.reach != 0)
    }

    fn authentication_report(
        &self,
        now: ClockReading,
        source: &Source,
        association: &Association,
    ) -> AuthenticationReport {
        match &association.credentials {
            Credentials::None => AuthenticationReport::default(),
            Credentials::Key(number) => {
                let key = self.config.keys.iter().find(|key| key.id() == *number);
                AuthenticationReport {
                    mode: AuthenticationMode::Key,
                    key_id: *number,
                    key_type: key.map_or(0, |key| key_type(key.algorithm())),
                    key_bits: key.map_or(0, |key| u16::try_from(key.bits()).unwrap_or(u16::MAX)),
                    ..AuthenticationReport::default()
                }
            }
            Credentials::Nts(nts) => {
                let algorithm = nts.keys().algorithm();
                let cookie_octets = nts.cookies().next().map_or(0, |cookie| cookie.as_bytes().len());
                let age = nts.age_seconds(now.mono, now.system.unix_seconds());
                AuthenticationReport {
                    mode: AuthenticationMode::Nts,
                    key_id: nts.establishments,
                    key_type: algorithm.id(),
                    key_bits: u16::try_from(algorithm.key_octets() * 8).unwrap_or(u16::MAX),
                    last_establishment_age_seconds: Some(age.max(0.0)),
                    attempts: source.establishment.attempts,
                    nak: association.latest_was_nak(),
                    cookies: u8::try_from(nts.cookie_count()).unwrap_or(u8::MAX),
                    cookie_octets: u16::try_from(cookie_octets).unwrap_or(u16::MAX),
                    certificate_not_after: nts.certificate.map(|certificate| certificate.dates.not_after),
                    certificate_provisional: association.is_provisional(),
                }
            }
        }
    }
}

/// That of a source whose samples say nothing yet.
const fn state_without_samples(is_excluded: bool, has_choice: bool) -> char {
    if is_excluded && has_choice { 'N' } else { 'M' }
}

/// What all reports of one source have in common.
fn source_base(source: &Source, has_choice: bool) -> SourceReport {
    SourceReport {
        source: source.key.0,
        name: source.config.name.clone(),
        kind: match &source.config.mode {
            SourceMode::Server => SourceKind::Server,
            SourceMode::Symmetric { .. } => SourceKind::Peer,
            SourceMode::Pool { .. } => SourceKind::Pool,
        },
        online: source.online,
        state: state_without_samples(source.effective.options.no_select, has_choice),
        statistics: unknown_statistics(),
        selection: SelectionReport {
            score: 1.0,
            ..selection((&source.config.options, &source.effective.options))
        },
        last_error: source.last_error.clone(),
        ..SourceReport::default()
    }
}

fn unresolved_report(now: MonoTime, source: &Source, id: u32, base: SourceReport) -> SourceReport {
    let (mode, key_id) = match &source.config.authentication {
        crate::Authentication::None => (AuthenticationMode::None, 0),
        crate::Authentication::Key(number) => (AuthenticationMode::Key, *number),
        crate::Authentication::Nts(_) => (AuthenticationMode::Nts, 0),
    };
    let initial = source.config.poll_initial.unwrap_or(source.config.poll_min);
    let last = source.establishment.last_success.map(|at| now.seconds_since(at));
    SourceReport {
        id,
        poll: initial.exponent(),
        poll_min: source.config.poll_min.exponent(),
        poll_max: source.config.poll_max.exponent(),
        authentication: AuthenticationReport {
            mode,
            key_id,
            attempts: source.establishment.attempts,
            last_establishment_age_seconds: last,
            ..AuthenticationReport::default()
        },
        ..base
    }
}

/// What a source without samples shows, as chronyd: 2000 ppm and 4 s.
fn unknown_statistics() -> StatisticsReport {
    StatisticsReport { skew_ppm: 2000.0, standard_deviation_seconds: 4.0, ..StatisticsReport::default() }
}

/// Options as configured and after the policy.
type Options<'a> = (&'a SourceOptions, &'a SourceOptions);

fn selection((configured, effective): Options<'_>) -> SelectionReport {
    SelectionReport {
        configured: options(configured),
        effective: options(effective),
        ..SelectionReport::default()
    }
}

fn with_statistics(base: SourceReport, statistics: &SourceStatistics, options: Options<'_>) -> SourceReport {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    SourceReport {
        stratum: statistics.stratum,
        last_sample_age_seconds: statistics.last_sample_age,
        state: statistics.state.letter(),
        offset_seconds: -statistics.adjusted_offset,
        measured_offset_seconds: -statistics.measured_offset,
        error_seconds: statistics.sample_error,
        statistics: StatisticsReport {
            samples: count(statistics.samples),
            runs: count(statistics.runs),
            span_seconds: statistics.span,
            frequency_ppm: -statistics.frequency_ppm,
            skew_ppm: statistics.skew_ppm,
            offset_seconds: -statistics.offset,
            offset_error_seconds: statistics.offset_error,
            standard_deviation_seconds: statistics.standard_deviation,
        },
        selection: SelectionReport {
            leap: leap(statistics.leap),
            last_sample_age_seconds: statistics.sample_age_when_selected,
            score: statistics.score,
            // The sign changes, so the ends change places.
            low_seconds: -statistics.high,
            high_seconds: -statistics.low,
            ..selection(options)
        },
        ..base
    }
}

/// What a server would have answered that has this clock: some reports know servers only.
fn as_answer(statistics: &SourceStatistics, clock: &ReferenceClock) -> NtpReport {
    /// What each packet test says of itself when it was passed.
    const ALL_TESTS: u16 = 0x3ff;
    NtpReport {
        answered: statistics.last_sample_age.is_some(),
        leap: leap_bits(statistics.leap),
        version: 4,
        mode: 4,
        stratum: statistics.stratum,
        poll: clock.config.poll,
        root_delay_seconds: clock.config.delay,
        reference_id: clock.config.reference_id,
        offset_seconds: statistics.measured_offset,
        tests: ALL_TESTS,
        ..NtpReport::default()
    }
}

const fn leap_bits(leap: Leap) -> u8 {
    match leap {
        Leap::NoWarning => 0,
        Leap::Insert => 1,
        Leap::Delete => 2,
        Leap::Unsynchronized => 3,
    }
}

fn ntp_report(now: NtpDate, association: &Association) -> NtpReport {
    let counters = association.counters;
    let counted = NtpReport {
        authenticated: association.is_authenticated(),
        total_tx: counters.sent,
        total_rx: counters.received,
        total_valid_rx: counters.valid,
        total_good_rx: counters.good,
        total_kernel_tx: counters.kernel_sent,
        total_kernel_rx: counters.kernel_received,
        total_hardware_tx: counters.hardware_sent,
        total_hardware_rx: counters.hardware_received,
        total_interleaved_rx: counters.interleaved,
        ..NtpReport::default()
    };
    let Some(last) = &association.last else { return counted };
    let header = &last.header;
    let reference = if header.reference.is_zero() {
        0.0
    } else {
        // The era is that of the server's own clock, which our offset leads to.
        NtpDate::from_timestamp(header.reference, now + last.measurement.offset).unix_seconds_f64()
    };
    NtpReport {
        answered: true,
        local: last.local,
        leap: header.leap.to_bits(),
        version: header.version,
        mode: header.mode.to_bits(),
        stratum: header.stratum,
        poll: header.poll,
        precision: header.precision,
        root_delay_seconds: header.root_delay.to_duration().as_secs_f64(),
        root_dispersion_seconds: header.root_dispersion.to_duration().as_secs_f64(),
        reference_id: header.reference_id.0,
        reference_unix_seconds: reference,
        offset_seconds: last.measurement.offset.as_secs_f64(),
        delay_seconds: last.measurement.delay.as_secs_f64().max(0.0),
        dispersion_seconds: last.measurement.dispersion.as_secs_f64(),
        transmit_bits: header.transmit.to_bits(),
        received_bits: last.received.to_bits(),
        recent: association.recent.to_vec(),
        response_seconds: last.measurement.response.as_secs_f64(),
        tests: last.tests.bits(),
        interleaved: last.mode == AnswerMode::Interleaved,
        tx_timestamping: Some(last.transmitted_by),
        rx_timestamping: Some(last.received_by),
        ..counted
    }
}

fn establishment_report(now: MonoTime, source: &Source) -> Option<EstablishmentReport> {
    let port = source.config.nts_source()?.port;
    let establishment = &source.establishment;
    let not_before = establishment.back_off.not_before(now);
    Some(EstablishmentReport {
        source: source.key.0,
        name: source.config.name.clone(),
        port,
        succeeded: establishment.succeeded,
        failed: establishment.failed.iter().map(|(kind, count)| (kind.clone(), *count)).collect(),
        running: !matches!(establishment.state, EstablishmentState::Idle),
        retry_seconds: not_before.map(|at| at.seconds_since(now)),
        last_error: establishment.last_error.clone(),
    })
}

fn activity(sources: &[SourceReport]) -> ActivityReport {
    let mut activity = ActivityReport::default();
    for source in sources.iter().filter(|source| source.kind != SourceKind::ReferenceClock) {
        // One that is configured by its address needs no look-up, asked already or not.
        let is_known = source.remote.is_some()
            || (source.authentication.mode != AuthenticationMode::Nts
                && source.name.parse::<IpAddr>().is_ok());
        let counter = match (is_known, source.burst, source.online) {
            (false, ..) => &mut activity.unresolved,
            (_, BurstReport::ReturnToOnline, _) => &mut activity.burst_online,
            (_, BurstReport::ReturnToOffline, _) => &mut activity.burst_offline,
            (_, BurstReport::None, true) => &mut activity.online,
            (_, BurstReport::None, false) => &mut activity.offline,
        };
        *counter += 1;
    }
    activity
}

fn discards(counters: &DiscardCounters) -> Vec<DiscardReport> {
    counters.iter().map(|(reason, count)| DiscardReport { reason, count }).collect()
}

const fn options(options: &SourceOptions) -> SelectionOptionsReport {
    SelectionOptionsReport {
        no_select: options.no_select,
        prefer: options.prefer,
        trust: options.trust,
        require: options.require,
    }
}

const fn leap(leap: Leap) -> LeapReport {
    match leap {
        Leap::NoWarning => LeapReport::Normal,
        Leap::Insert => LeapReport::Insert,
        Leap::Delete => LeapReport::Delete,
        Leap::Unsynchronized => LeapReport::Unsynchronized,
    }
}

/// chrony's numbers of key algorithms, as `authdata` shows them.
const fn key_type(algorithm: MacAlgorithm) -> u16 {
    match algorithm {
        MacAlgorithm::Md5 => 1,
        MacAlgorithm::Sha1 => 2,
        MacAlgorithm::Sha256 => 3,
        MacAlgorithm::Sha384 => 4,
        MacAlgorithm::Sha512 => 5,
        MacAlgorithm::Aes128 => 13,
        MacAlgorithm::Aes256 => 14,
    }
}
