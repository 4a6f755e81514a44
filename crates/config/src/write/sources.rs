//! Sources, reference clocks and broadcasts, written out.

use super::values::{address, float, list, path, policy};
use super::{Writer, quoted};
use crate::{
    AddressFamily, Authentication, AuthenticationPolicy, Broadcast, CardWish, HardwareStamps, Model,
    NtpVersion, NtsTrust, PollLimits, ReferenceClock, Source, SourceKind,
};

impl Writer {
    pub(super) fn source(&mut self, source: &Source, global: AuthenticationPolicy) {
        let default = Source::new("");
        let trust = source.authentication.nts_trust();
        self.item("[[source]]");
        self.put(
            "mode",
            match (&source.kind, trust.is_some()) {
                (SourceKind::Peer, _) => "\"peer\"",
                (SourceKind::Server, false) => "\"server\"",
                (SourceKind::Server, true) => "\"nts\"",
                (SourceKind::Pool { .. }, false) => "\"pool\"",
                (SourceKind::Pool { .. }, true) => "\"nts-pool\"",
            },
        );
        let port = trust.map(|trust| trust.port).filter(|port| *port != 4460);
        self.put("address", &quoted(&address(&source.name, port)));
        self.set("port", &source.port, &default.port, ToString::to_string);
        if let SourceKind::Pool { count, ignore } = &source.kind {
            self.set("count", count, &4, ToString::to_string);
            self.set("ignore", ignore, &Vec::new(), |ignore| {
                list(ignore.iter().map(|ip| quoted(&ip.to_string())))
            });
        }
        self.set("authentication", &source.policy, &global, |own| quoted(policy(*own)));
        match &source.authentication {
            Authentication::None => {}
            Authentication::Key(key) => self.put("key", &key.to_string()),
            Authentication::Nts(trust) => self.trust(trust),
        }
        self.polls(source.poll);
        self.source_options(source, &default);
    }

    pub(super) fn trust(&mut self, trust: &NtsTrust) {
        let paths = |paths: &Vec<std::path::PathBuf>| list(paths.iter().map(|it| path(it)));
        self.set("certificate-authority", &trust.certificate_authorities, &Vec::new(), paths);
        self.flag("system-cas", trust.system_cas, true);
        self.aeads(&trust.aeads);
        self.set("pinned-certificates", &trust.pinned_certificates, &Vec::new(), paths);
        self.set("pinned-keys", &trust.pinned_keys, &Vec::new(), |keys| {
            list(
                keys.iter()
                    .map(|key| quoted(&key.iter().map(|octet| format!("{octet:02x}")).collect::<String>())),
            )
        });
    }

    pub(super) fn polls(&mut self, poll: PollLimits) {
        let PollLimits { min, max, initial } = poll;
        let default = PollLimits::default();
        self.set("poll-interval-limits", &(min, max), &(default.min, default.max), |(min, max)| {
            format!("{{ min = {min}, max = {max} }}")
        });
        // What is not said begins at the default, or at the limit next to it.
        let implied = default.initial.max(min).min(max);
        self.set("initial-poll-interval", &initial, &implied, ToString::to_string);
    }

    pub(super) fn source_options(&mut self, source: &Source, default: &Source) {
        self.flag("iburst", source.iburst, default.iburst);
        self.set("ntp-version", &source.version, &NtpVersion::V4, |version| version.number().to_string());
        self.flag("prefer", source.prefer, default.prefer);
        self.flag("noselect", source.no_select, default.no_select);
        self.flag("trust", source.trust, default.trust);
        self.flag("require", source.require, default.require);
        self.flag("interleaved", source.interleaved, default.interleaved);
        self.flag("frequency-transfer", source.frequency_transfer, default.frequency_transfer);
        self.flag("network-correction", source.network_correction, default.network_correction);
        self.flag("online", source.online, default.online);
        self.set("address-family", &source.address_family, &default.address_family, |family| {
            quoted(match family {
                AddressFamily::Any => "any",
                AddressFamily::V4 => "ipv4",
                AddressFamily::V6 => "ipv6",
            })
        });
        self.number("max-delay", source.max_delay, default.max_delay);
        self.number("max-delay-ratio", source.max_delay_ratio, default.max_delay_ratio);
        self.number(
            "max-delay-deviation-ratio",
            source.max_delay_deviation_ratio,
            default.max_delay_deviation_ratio,
        );
        self.number("max-delay-quantile", source.max_delay_quantile, default.max_delay_quantile);
        self.number("min-delay", source.min_delay, default.min_delay);
        self.number("jitter-asymmetry", source.jitter_asymmetry, default.jitter_asymmetry);
        self.flag("burst", source.burst, default.burst);
        self.some("presend", source.presend.as_ref(), ToString::to_string);
        self.set("median-filter", &source.median_filter, &default.median_filter, ToString::to_string);
        self.set("poll-target", &source.poll_target, &default.poll_target, ToString::to_string);
        self.set("min-stratum", &source.min_stratum, &default.min_stratum, ToString::to_string);
        self.set(
            "max-unreachable-polls",
            &source.max_unreachable_polls,
            &default.max_unreachable_polls,
            ToString::to_string,
        );
        self.some("max-samples", source.max_samples.as_ref(), ToString::to_string);
        self.flag("copy-reference", source.copy_reference, default.copy_reference);
        self.flag("offline-on-failure", source.offline_on_failure, default.offline_on_failure);
        self.number("offset", source.offset_correction, default.offset_correction);
        self.flag("smeared", source.smeared, default.smeared);
    }

    pub(super) fn reference_clock(&mut self, clock: &ReferenceClock) {
        let default = ReferenceClock::new("", "");
        self.item("[[reference-clock]]");
        self.put("driver", &quoted(&clock.driver));
        self.put("parameter", &quoted(&clock.parameter));
        self.some("reference-id", clock.reference_id.as_ref(), |name| quoted(name));
        self.some("poll-interval", clock.poll_exponent.as_ref(), ToString::to_string);
        self.some("precision", clock.precision.as_ref(), |precision| float(*precision));
        self.set(
            "driver-poll-interval",
            &clock.driver_poll_exponent,
            &default.driver_poll_exponent,
            ToString::to_string,
        );
        self.set("filter", &clock.filter, &default.filter, ToString::to_string);
        self.number("offset", clock.offset_correction, default.offset_correction);
        self.number("delay", clock.delay, default.delay);
        self.number("max-dispersion", clock.max_dispersion, default.max_dispersion);
        self.number("max-offset", clock.max_offset, default.max_offset);
        self.some("lock", clock.lock.as_ref(), |name| quoted(name));
        self.set("rate", &clock.rate, &default.rate, ToString::to_string);
        self.set("max-lock-pulses", &clock.max_lock_pulses, &default.max_lock_pulses, ToString::to_string);
        self.number("pulse-width", clock.pulse_width, default.pulse_width);
        self.flag("pps", clock.pps, default.pps);
        self.flag("tai", clock.tai, default.tai);
        self.flag("local", clock.local, default.local);
        self.set(
            "max-unreachable-polls",
            &clock.max_unreachable_polls,
            &default.max_unreachable_polls,
            ToString::to_string,
        );
        self.some("max-samples", clock.max_samples.as_ref(), ToString::to_string);
        self.some("baud", clock.baud.as_ref(), ToString::to_string);
        self.some("sentence", clock.sentence.as_ref(), |sentence| quoted(sentence.name()));
        self.flag("count-readings", clock.counts_readings, default.counts_readings);
        self.flag("hide-position", clock.hides_position, default.hides_position);
        self.set("stratum", &clock.stratum, &default.stratum, ToString::to_string);
        self.flag("prefer", clock.prefer, default.prefer);
        self.flag("noselect", clock.no_select, default.no_select);
        self.flag("trust", clock.trust, default.trust);
        self.flag("require", clock.require, default.require);
    }

    pub(super) fn source_defaults(&mut self, model: &Model) {
        self.table("[source-defaults]");
        let sockets = &model.client_sockets;
        let addresses = sockets.v4.map(|ip| quoted(&ip.to_string())).into_iter();
        let addresses = addresses.chain(sockets.v6.map(|ip| quoted(&ip.to_string()))).collect::<Vec<_>>();
        if !addresses.is_empty() {
            self.put("bind-address", &list(addresses.into_iter()));
        }
        self.some("interface", sockets.interface.as_ref(), |name| quoted(name));
        self.some("client-port", sockets.port.as_ref(), ToString::to_string);
        let default = Model::default().refresh;
        self.set("name-refresh", &model.refresh.names, &default.names, ToString::to_string);
        self.set("nts-key-refresh", &model.refresh.nts_keys, &default.nts_keys, ToString::to_string);
    }

    pub(super) fn hardware_stamps(&mut self, stamps: &HardwareStamps) {
        if stamps.cards.is_empty() && !stamps.automatic {
            self.item("[[hardware-timestamps]]");
            self.put("interface", &quoted("*"));
            self.put("enabled", "false");
        }
        for card in &stamps.cards {
            let usual = CardWish::new(None);
            self.item("[[hardware-timestamps]]");
            self.put("interface", &quoted(card.interface.as_deref().unwrap_or("*")));
            self.set("poll-min", &card.poll_min, &usual.poll_min, ToString::to_string);
            self.set("poll-max", &card.poll_max, &card.poll_min.saturating_add(1), ToString::to_string);
            let (relation, default) = (&card.relation, &usual.relation);
            self.set("samples-min", &relation.samples_min, &default.samples_min, ToString::to_string);
            self.set("samples-max", &relation.samples_max, &default.samples_max, ToString::to_string);
            self.number("precision", relation.precision, default.precision);
            self.number("transmit-compensation", card.transmit_compensation, 0.0);
            self.number("receive-compensation", card.receive_compensation, 0.0);
            self.flag("cross-timestamps", card.cross_timestamps, true);
            self.some("filter", card.filter.as_ref(), |filter| quoted(filter.name()));
            let timeout = stamps.timeout.as_millis();
            self.set("timeout-ms", &timeout, &1, ToString::to_string);
        }
    }

    pub(super) fn broadcast(&mut self, broadcast: &Broadcast) {
        let default = Broadcast::new(broadcast.to);
        self.item("[[broadcast]]");
        self.put("address", &quoted(&broadcast.to.to_string()));
        self.set("interval", &broadcast.interval, &default.interval, |it| it.as_secs().to_string());
        self.some("key", broadcast.key.as_ref(), ToString::to_string);
        self.set("ttl", &broadcast.ttl, &default.ttl, ToString::to_string);
        self.some("bind-address", broadcast.local.as_ref(), |local| quoted(&local.to_string()));
        self.some("interface", broadcast.interface.as_ref(), |name| quoted(name));
    }
}
