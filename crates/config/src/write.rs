//! From the model back to the native dialect.

use std::fmt::Write as _;
use std::path::Path;

use chime_discipline::{CorrectionTime, LeapMode};
use chime_nts::AeadAlgorithm;
use chime_server::{RateLimitSettings, SmearPlace, SmearSettings, SmearShape, TermsRule};
use chime_time::Frequency;

use crate::model::TERMS_WORDS;
use crate::{
    AccessNetworks, AccessRule, AddressFamily, Authentication, AuthenticationPolicy, Broadcast, CardWish,
    FastPath, HardwareStamps, KeyFormat, Model, NtpServer, NtpVersion, Ntpq, NtsKeServer, NtsTrust, Origin,
    PanicThreshold, PollLimits, RealTimeClock, ReferenceClock, Refusal, RequireNts, Source, SourceKind,
    StatisticsFile, TemperatureCompensation, TemperatureCurve, Threads,
};

/// How much is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Every key, whether or not it has its default.
    Complete,
    /// What differs from the defaults of the native dialect.
    Differences,
}

/// Writes a model as the native dialect; `comments` gives the comments of what was configured at a place, without `#`.
#[must_use]
pub fn write(model: &Model, detail: Detail, comments: &mut dyn FnMut(&Origin) -> Vec<String>) -> String {
    let mut out = Writer { out: String::new(), detail, pending: None };
    out.top(model);
    for source in &model.sources {
        out.comments(source.origin.as_ref(), comments);
        out.source(source, model.authentication);
    }
    for clock in &model.reference_clocks {
        out.comments(clock.origin.as_ref(), comments);
        out.reference_clock(clock);
    }
    out.source_defaults(model);
    out.hardware_stamps(&model.hardware_stamps);
    for server in &model.servers {
        out.server(server);
    }
    for broadcast in &model.broadcasts {
        out.broadcast(broadcast);
    }
    for server in &model.nts_ke_servers {
        out.comments(server.origin.as_ref(), comments);
        out.ke_server(server);
    }
    out.keys(model);
    out.synchronization(model);
    out.algorithm(model);
    out.leap_seconds(model);
    out.observability(model);
    out.chrony_files(model);
    out.ntpd_files(model);
    out.predecessor(model);
    out.out
}

struct Writer {
    out: String,
    detail: Detail,
    /// Head of a table that is written with its first key.
    pending: Option<String>,
}

impl Writer {
    /// Begins a table that is left away when it stays empty.
    fn table(&mut self, head: &str) {
        self.pending = Some(head.to_owned());
    }

    /// Begins a table that is there, empty or not.
    fn item(&mut self, head: &str) {
        self.pending = None;
        let gap = if self.out.is_empty() || self.out.ends_with("#\n") { "" } else { "\n" };
        let _ = writeln!(self.out, "{gap}{head}");
    }

    fn comments(&mut self, origin: Option<&Origin>, comments: &mut dyn FnMut(&Origin) -> Vec<String>) {
        let lines = origin.map(comments).unwrap_or_default();
        if !lines.is_empty() {
            self.out.push('\n');
        }
        for line in &lines {
            let _ = writeln!(self.out, "# {line}");
        }
        if !lines.is_empty() {
            self.out.push_str("#\n");
        }
    }

    fn put(&mut self, key: &str, value: &str) {
        if let Some(head) = self.pending.take() {
            self.item(&head);
        }
        let _ = writeln!(self.out, "{key} = {value}");
    }

    /// A key that may have its default.
    fn set<T: PartialEq + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
        default: &T,
        shown: impl FnOnce(&T) -> String,
    ) {
        if self.detail == Detail::Complete || value != default {
            self.put(key, &shown(value));
        }
    }

    fn flag(&mut self, key: &str, value: bool, default: bool) {
        self.set(key, &value, &default, ToString::to_string);
    }

    fn number(&mut self, key: &str, value: f64, default: f64) {
        self.set(key, &value, &default, |value| float(*value));
    }

    fn ratio(&mut self, key: &str, value: Frequency, default: Frequency) {
        self.number(key, value.as_ratio(), default.as_ratio());
    }

    fn some<T>(&mut self, key: &str, value: Option<&T>, shown: impl FnOnce(&T) -> String) {
        if let Some(value) = value {
            self.put(key, &shown(value));
        }
    }

    fn top(&mut self, model: &Model) {
        self.put("authentication", &quoted(policy(model.authentication)));
        let default = Model::default().process;
        self.set("user", &model.process.user, &default.user, |user| or_off(user.as_deref()));
        self.set("threads", &model.process.threads, &default.threads, |threads| match threads {
            Threads::PerCore => quoted("per-core"),
            Threads::Single => quoted("single"),
            Threads::Count(count) => count.to_string(),
        });
        self.set("cpus", &model.process.cpus, &default.cpus, |cpus| {
            let cpus: Vec<String> = cpus.iter().map(u16::to_string).collect();
            format!("[{}]", cpus.join(", "))
        });
        self.some("busy-poll", model.process.busy_poll_micros.as_ref(), u32::to_string);
        self.some("real-time-priority", model.process.real_time_priority.as_ref(), u8::to_string);
        self.flag("lock-memory", model.process.lock_memory, default.lock_memory);
        self.some("dscp", model.process.dscp.as_ref(), u8::to_string);
    }

    fn ntpq(&mut self, ntpq: &Ntpq) {
        let addresses = |listen: &Vec<std::net::SocketAddr>| {
            if listen.is_empty() {
                "false".to_owned()
            } else {
                list(listen.iter().map(|it| quoted(&it.to_string())))
            }
        };
        self.set("ntpq-listen", &ntpq.listen, &Vec::new(), addresses);
        self.set("ntpq-rules", &ntpq.rules, &Vec::new(), |rules| {
            list(rules.iter().map(|rule| {
                let mut text = rule.subnet.to_string();
                for (allowed, word) in
                    [(rule.query, " noquery"), (rule.modify, " nomodify"), (rule.clients, " nomrulist")]
                {
                    text.push_str(if allowed { "" } else { word });
                }
                quoted(&text)
            }))
        });
        self.some("ntpq-control-key", ntpq.control_key.as_ref(), ToString::to_string);
        for (key, is_default) in [("ntpq-variables", false), ("ntpq-default-variables", true)] {
            let own = ntpq.variables.iter().filter(|one| one.is_default == is_default);
            let texts: Vec<String> = own.map(|one| quoted(&format!("{}={}", one.name, one.value))).collect();
            self.set(key, &texts, &Vec::new(), |texts| list(texts.iter().cloned()));
        }
    }

    fn source(&mut self, source: &Source, global: AuthenticationPolicy) {
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

    fn trust(&mut self, trust: &NtsTrust) {
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

    fn aeads(&mut self, aeads: &[AeadAlgorithm]) {
        let numbers = |aeads: &Vec<AeadAlgorithm>| list(aeads.iter().map(|aead| aead.id().to_string()));
        self.set("aeads", &aeads.to_vec(), &NtsTrust::AEADS.to_vec(), numbers);
    }

    fn polls(&mut self, poll: PollLimits) {
        let PollLimits { min, max, initial } = poll;
        let default = PollLimits::default();
        self.set("poll-interval-limits", &(min, max), &(default.min, default.max), |(min, max)| {
            format!("{{ min = {min}, max = {max} }}")
        });
        // What is not said begins at the default, or at the limit next to it.
        let implied = default.initial.max(min).min(max);
        self.set("initial-poll-interval", &initial, &implied, ToString::to_string);
    }

    fn source_options(&mut self, source: &Source, default: &Source) {
        self.flag("iburst", source.iburst, default.iburst);
        self.set("ntp-version", &source.version, &NtpVersion::V4, |version| version.number().to_string());
        self.flag("prefer", source.prefer, default.prefer);
        self.flag("noselect", source.no_select, default.no_select);
        self.flag("trust", source.trust, default.trust);
        self.flag("require", source.require, default.require);
        self.flag("interleaved", source.interleaved, default.interleaved);
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
        self.flag("copy-reference", source.copy_reference, default.copy_reference);
        self.flag("offline-on-failure", source.offline_on_failure, default.offline_on_failure);
        self.number("offset", source.offset_correction, default.offset_correction);
        self.flag("smeared", source.smeared, default.smeared);
    }

    fn reference_clock(&mut self, clock: &ReferenceClock) {
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
        self.some("baud", clock.baud.as_ref(), ToString::to_string);
        self.set("stratum", &clock.stratum, &default.stratum, ToString::to_string);
        self.flag("prefer", clock.prefer, default.prefer);
        self.flag("noselect", clock.no_select, default.no_select);
        self.flag("trust", clock.trust, default.trust);
        self.flag("require", clock.require, default.require);
    }

    fn source_defaults(&mut self, model: &Model) {
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

    fn hardware_stamps(&mut self, stamps: &HardwareStamps) {
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

    fn broadcast(&mut self, broadcast: &Broadcast) {
        let default = Broadcast::new(broadcast.to);
        self.item("[[broadcast]]");
        self.put("address", &quoted(&broadcast.to.to_string()));
        self.set("interval", &broadcast.interval, &default.interval, |it| it.as_secs().to_string());
        self.some("key", broadcast.key.as_ref(), ToString::to_string);
        self.set("ttl", &broadcast.ttl, &default.ttl, ToString::to_string);
        self.some("bind-address", broadcast.local.as_ref(), |local| quoted(&local.to_string()));
        self.some("interface", broadcast.interface.as_ref(), |name| quoted(name));
    }

    fn server(&mut self, server: &NtpServer) {
        let default = NtpServer::new(server.listen);
        self.item("[[server]]");
        self.put("listen", &quoted(&server.listen.to_string()));
        self.some("interface", server.interface.as_ref(), |name| quoted(name));
        self.some("allowlist", server.allow.as_ref(), networks);
        self.some("denylist", server.deny.as_ref(), networks);
        self.some("access-rules", server.rules.as_ref(), |rules| access_rules(rules));
        self.some("rate-limit", server.rate_limit.as_ref(), rate_limit);
        let entries = &server.rate_limit_entries;
        self.set("rate-limiting-cache-size", entries, &default.rate_limit_entries, ToString::to_string);
        self.set("rate-limiting-cutoff-ms", &server.rate_limit_cutoff.as_millis(), &0, ToString::to_string);
        self.flag("client-records", server.client_records, default.client_records);
        self.set("require-nts", &server.require_nts, &default.require_nts, |wish| match wish {
            RequireNts::No => "false".to_owned(),
            RequireNts::Ignore => quoted("ignore"),
            RequireNts::Deny => quoted("deny"),
        });
        self.set("accept-ntp-versions", &server.versions, &default.versions, |versions| {
            list(versions.iter().map(ToString::to_string))
        });
        self.set("network-terms", &server.terms, &default.terms, |rules| network_terms(rules));
        self.set("fast-path", &server.fast_path, &default.fast_path, |wish| match wish {
            FastPath::None => quoted("none"),
            FastPath::Xdp => quoted("xdp"),
            FastPath::XdpDriver => quoted("xdp-driver"),
            FastPath::XdpGeneric => quoted("xdp-generic"),
        });
    }

    fn ke_server(&mut self, server: &NtsKeServer) {
        self.item("[[nts-ke-server]]");
        self.put("listen", &quoted(&server.listen.to_string()));
        if let Some(pair) = server.certificates.first() {
            self.put("certificate-chain-path", &path(&pair.chain));
            self.put("private-key-path", &path(&pair.key));
        }
        self.set("key-exchange-timeout-ms", &server.timeout.as_millis(), &5000, ToString::to_string);
        self.set(
            "concurrent-connections",
            &server.connections_max,
            &crate::KE_CONNECTIONS_MAX_DEFAULT,
            ToString::to_string,
        );
        self.aeads(&server.aeads);
        self.some("rate-limit", server.rate_limit.as_ref(), rate_limit);
        self.some("ntp-server", server.ntp_server.as_ref(), |name| quoted(name));
        self.some("ntp-port", server.ntp_port.as_ref(), ToString::to_string);
        self.some("access-rules", server.rules.as_ref(), |rules| access_rules(rules));
        for pair in server.certificates.iter().skip(1) {
            self.item("[[nts-ke-server.certificate]]");
            self.put("certificate-chain-path", &path(&pair.chain));
            self.put("private-key-path", &path(&pair.key));
        }
    }

    fn keys(&mut self, model: &Model) {
        self.table("[keys]");
        self.some("key-file", model.key_file.as_ref(), |file| path(file));
        self.set("key-file-format", &model.key_format, &KeyFormat::Chrony, |format| quoted(format.name()));
        self.table("[keyset]");
        let default = Model::default().keyset;
        let seconds = model.keyset.rotation_interval.as_secs();
        self.set(
            "key-rotation-interval",
            &seconds,
            &default.rotation_interval.as_secs(),
            ToString::to_string,
        );
        self.set("stale-key-count", &model.keyset.stale_keys, &default.stale_keys, ToString::to_string);
        self.some("key-storage-path", model.keyset.storage_path.as_ref(), |file| path(file));
    }

    fn synchronization(&mut self, model: &Model) {
        let default = Model::default();
        let (step, usual) = (&model.synchronization.tuning.step, &default.synchronization.tuning.step);
        self.table("[synchronization]");
        let agreeing = model.synchronization.minimum_agreeing_sources;
        self.some(
            "minimum-agreeing-sources",
            agreeing.map(|count| count.min(255)).as_ref(),
            ToString::to_string,
        );
        self.set("single-step-panic-threshold", &step.running_panic, &usual.running_panic, threshold);
        self.set("startup-step-panic-threshold", &step.startup_panic, &usual.startup_panic, threshold);
        self.some("accumulated-step-panic-threshold", step.accumulated_panic.as_ref(), |limit| float(*limit));
        self.flag("steer-clock", model.synchronization.tuning.steer, true);
        let usual = !model.uses_real_time_clock();
        self.flag("mark-kernel-synchronized", model.synchronization.marks_kernel, usual);
        self.some("smooth-served-time", model.synchronization.smoothing.as_ref(), |limits| {
            format!("{{ rate = {}, rate-change = {} }}", float(limits.rate_max), float(limits.change))
        });
        let precision = model.synchronization.precision;
        self.some("clock-precision", precision.as_ref(), |precision| float(precision.seconds()));
        let unchecked = &model.synchronization.unchecked_certificate_updates;
        self.set("unchecked-certificate-updates", unchecked, &0, u32::to_string);
        if let Some(local) = model.synchronization.local_clock {
            self.item("[local-clock]");
            self.put("stratum", &local.stratum.to_string());
            self.put("distance", &float(local.distance));
            self.put("activate", &float(local.activate));
            self.flag("orphan", local.orphan, false);
            self.put("wait-synchronized", &float(local.wait_synchronized));
            self.put("wait-unsynchronized", &float(local.wait_unsynchronized));
        }
    }

    fn leap_seconds(&mut self, model: &Model) {
        self.table("[leap-seconds]");
        let mode = model.synchronization.tuning.leap_mode;
        self.set("mode", &mode, &LeapMode::System, |mode| {
            quoted(match mode {
                LeapMode::System => "system",
                LeapMode::Step => "step",
                LeapMode::Slew => "slew",
                LeapMode::Ignore => "ignore",
            })
        });
        self.some("file", model.leap_seconds.file.as_ref(), |file| path(file));
        self.some("zone", model.leap_seconds.zone.as_ref(), |zone| quoted(zone));
        let Some(smear) = model.leap_seconds.smear else { return };
        match smear.shape {
            SmearShape::Linear => self.put("smear", &quoted("linear")),
            SmearShape::Cosine => self.put("smear", &quoted("cosine")),
            SmearShape::Ramp { rate_max, change } => {
                self.put("smear", &quoted("ramp"));
                self.put("smear-rate", &float(rate_max));
                self.put("smear-rate-change", &float(change));
            }
        }
        let usual = SmearSettings::default();
        self.number("smear-seconds", smear.seconds, usual.seconds);
        self.set("smear-place", &smear.place, &usual.place, |place| {
            quoted(match place {
                SmearPlace::Around => "around",
                SmearPlace::Before => "before",
                SmearPlace::After => "after",
            })
        });
    }

    fn algorithm(&mut self, model: &Model) {
        let usual = &Model::default().synchronization.tuning;
        let tuning = &model.synchronization.tuning;
        self.table("[synchronization.algorithm]");
        self.set("step-threshold", &tuning.step.threshold, &usual.step.threshold, |limit| {
            limit_or_inf(*limit)
        });
        self.some("backward-step-threshold", tuning.step.backward_threshold.as_ref(), |limit| {
            limit_or_inf(Some(*limit).filter(|limit| limit.is_finite()))
        });
        self.set("step-updates-limit", &tuning.step.updates_limit, &usual.step.updates_limit, |limit| {
            limit.map_or_else(|| quoted("unlimited"), |limit| limit.to_string())
        });
        self.ratio("slew-maximum-frequency-offset", tuning.max_slew, usual.max_slew);
        self.ratio("maximum-frequency-steer", tuning.max_drift, usual.max_drift);
        self.number("holdover-distance", tuning.holdover_distance, usual.holdover_distance);
        self.number("maximum-source-distance", tuning.max_distance, usual.max_distance);
        self.number("maximum-source-jitter", tuning.max_jitter, usual.max_jitter);
        self.set("minimum-stratum", &tuning.strata.0, &usual.strata.0, ToString::to_string);
        self.set("maximum-stratum", &tuning.strata.1, &usual.strata.1, ToString::to_string);
        self.number("stratum-weight", tuning.stratum_weight, usual.stratum_weight);
        self.number("reselect-distance", tuning.reselect_distance, usual.reselect_distance);
        self.number("combine-limit", tuning.combine_limit, usual.combine_limit);
        self.number("minimum-source-distance", tuning.min_distance, usual.min_distance);
        self.set("minimum-survivors", &tuning.survivors_min, &usual.survivors_min, ToString::to_string);
        self.set("minimum-samples", &tuning.samples_min, &usual.samples_min, ToString::to_string);
        self.set(
            "first-correction-samples",
            &tuning.first_samples_min,
            &usual.first_samples_min,
            ToString::to_string,
        );
        self.flag("manual-time", tuning.manual, usual.manual);
        self.some("exit-after-refusals", tuning.step.refusals_max.as_ref(), ToString::to_string);
        self.set(
            "panic-after-updates",
            &tuning.step.panic_after,
            &usual.step.panic_after,
            ToString::to_string,
        );
        self.ratio("maximum-update-skew", tuning.max_update_skew, usual.max_update_skew);
        if let CorrectionTime::Ratio(ratio) = tuning.correction_time {
            self.put("correction-time-ratio", &float(ratio));
        }
        self.some("fallback-drift", tuning.fallback.as_ref(), |fallback| {
            format!("{{ min = {}, max = {} }}", fallback.min, fallback.max)
        });
        self.number("patience", tuning.patience, usual.patience);
        self.ratio("maximum-clock-error", tuning.max_clock_error, usual.max_clock_error);
    }

    fn observability(&mut self, model: &Model) {
        let (own, default) = (&model.observability, &Model::default().observability);
        self.table("[observability]");
        self.set("log-level", &own.log_level, &default.log_level, |level| quoted(level.name()));
        let socket = |socket: &Option<std::path::PathBuf>| or_off(socket.as_deref().and_then(Path::to_str));
        self.set("observation-path", &own.control_socket, &default.control_socket, socket);
        let octal = |mode: &u32| format!("0o{mode:o}");
        self.set("observation-permissions", &own.control_socket_mode, &default.control_socket_mode, octal);
        self.set("metrics-exporter-listen", &own.metrics_listen, &default.metrics_listen, |listen| {
            or_off(listen.map(|listen| listen.to_string()).as_deref())
        });
        self.set("chrony-command-path", &own.chrony_socket, &default.chrony_socket, socket);
        self.set("chrony-command-listen", &own.chrony_listen, &default.chrony_listen, |addresses| {
            if addresses.is_empty() {
                "false".to_owned()
            } else {
                list(addresses.iter().map(|it| quoted(&it.to_string())))
            }
        });
        self.set("chrony-command-rules", &own.chrony_rules, &default.chrony_rules, |rules| {
            access_rules(rules)
        });
        self.set("chrony-command-open", &own.chrony_open, &default.chrony_open, |reports| {
            list(reports.iter().map(|report| quoted(report.name())))
        });
        self.some("chrony-command-rate-limit", own.chrony_rate_limit.as_ref(), rate_limit);
        self.some("chrony-command-interface", own.chrony_interface.as_ref(), |name| quoted(name));
        self.ntpq(&own.ntpq);
        self.set("ntpd-rs-observation-path", &own.ntpd_rs_socket, &default.ntpd_rs_socket, socket);
        let (mode, usual) = (&own.ntpd_rs_socket_mode, &default.ntpd_rs_socket_mode);
        self.set("ntpd-rs-observation-permissions", mode, usual, octal);
        self.table("[state]");
        let (own, default) = (&model.process, &Model::default().process);
        self.set("directory", &own.state_directory, &default.state_directory, |it| path(it));
        self.flag("sample-history", own.sample_history, default.sample_history);
    }

    fn chrony_files(&mut self, model: &Model) {
        let (files, default) = (&model.chrony, &Model::default().chrony);
        self.table("[chrony]");
        self.some("pid-file", files.pid_file.as_ref(), |it| path(it));
        if let Some(drift) = &files.drift_file {
            self.put("drift-file", &path(&drift.path));
            self.set("drift-file-interval", &drift.interval.as_secs(), &3600, ToString::to_string);
        }
        self.some("dump-directory", files.dump_directory.as_ref(), |it| path(it));
        self.some("nts-directory", files.nts_directory.as_ref(), |it| path(it));
        self.some("log-directory", files.logs.directory.as_ref(), |it| path(it));
        self.set("logs", &files.logs.kinds, &default.logs.kinds, |kinds| {
            list(kinds.iter().map(|kind| quoted(kind.word())))
        });
        self.set("log-banner", &files.logs.banner, &default.logs.banner, ToString::to_string);
        let clock = &files.real_time_clock;
        self.some("real-time-clock", clock.file.as_ref(), |file| real_time_clock(file, clock));
        self.some("temperature-compensation", files.temperature.as_ref(), temperature);
        self.number("log-change", files.log_change.0, default.log_change.0);
    }

    fn ntpd_files(&mut self, model: &Model) {
        let files = &model.ntpd;
        self.table("[ntpd]");
        self.some("log-file", files.log_file.as_ref(), |it| path(it));
        self.some("statistics-directory", files.statistics_directory.as_ref(), |it| path(it));
        for (statistic, file) in &files.statistics {
            let usual = StatisticsFile::usual(*statistic);
            self.item("[[ntpd.statistics]]");
            self.put("kind", &quoted(statistic.word()));
            self.set("file", &file.name, &usual.name, |name| quoted(name));
            self.set("every", &file.every, &usual.every, |every| quoted(every.word()));
            self.flag("link", file.link, usual.link);
        }
    }

    fn predecessor(&mut self, model: &Model) {
        self.table("[predecessor]");
        if let Some(drift) = &model.predecessor.drift_file {
            self.put("drift-file", &path(&drift.path));
            self.flag("positive-drift-is-fast", drift.positive_is_fast, true);
        }
        if let Some(keys) = &model.predecessor.cookie_keys {
            self.put("cookie-keys", &path(&keys.path));
            self.put("cookie-key-format", &quoted(keys.format.name()));
        }
    }
}

fn real_time_clock(file: &Path, clock: &RealTimeClock) -> String {
    let usual = RealTimeClock::default();
    let mut entries = vec![format!("file = {}", path(file))];
    if clock.device != usual.device {
        entries.push(format!("device = {}", path(&clock.device)));
    }
    if clock.keeps_utc {
        entries.push("keeps-utc = true".to_owned());
    }
    entries.extend(clock.adjtime_file.iter().map(|file| format!("adjtime-file = {}", path(file))));
    entries.extend(clock.trim_threshold.map(|seconds| format!("trim-threshold = {}", float(seconds))));
    format!("{{ {} }}", entries.join(", "))
}

fn temperature(compensation: &TemperatureCompensation) -> String {
    let curve = match &compensation.curve {
        TemperatureCurve::PointsFile(file) => format!("points-file = {}", path(file)),
        TemperatureCurve::Points(points) => {
            let points = points.iter().map(|(t, ppm)| format!("[{}, {}]", float(*t), float(*ppm)));
            format!("points = {}", list(points))
        }
        TemperatureCurve::Quadratic { t0, k0, k1, k2 } => {
            let [t0, k0, k1, k2] = [t0, k0, k1, k2].map(|number| float(*number));
            format!("t0 = {t0}, k0 = {k0}, k1 = {k1}, k2 = {k2}")
        }
    };
    let interval = float(compensation.interval.as_secs_f64());
    format!("{{ sensor = {}, interval = {interval}, {curve} }}", path(&compensation.sensor))
}

/// A string as TOML has it.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn float(number: f64) -> String {
    toml::Value::Float(number).to_string()
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    format!("[{}]", items.join(", "))
}

fn or_off(text: Option<&str>) -> String {
    text.map_or_else(|| "false".to_owned(), quoted)
}

fn limit_or_inf(limit: Option<f64>) -> String {
    limit.map_or_else(|| quoted("inf"), float)
}

fn threshold(threshold: &PanicThreshold) -> String {
    if threshold.forward == threshold.backward {
        return limit_or_inf(threshold.forward);
    }
    let (forward, backward) = (limit_or_inf(threshold.forward), limit_or_inf(threshold.backward));
    format!("{{ forward = {forward}, backward = {backward} }}")
}

const fn policy(policy: AuthenticationPolicy) -> &'static str {
    match policy {
        AuthenticationPolicy::Required => "required",
        AuthenticationPolicy::Mixed => "mixed",
        AuthenticationPolicy::Ignored => "ignored",
    }
}

fn networks(networks: &AccessNetworks) -> String {
    let filter = list(networks.subnets.iter().map(|subnet| quoted(&subnet.to_string())));
    let action = match networks.refusal {
        Refusal::Ignore => "ignore",
        Refusal::Deny => "deny",
    };
    format!("{{ filter = {filter}, action = \"{action}\" }}")
}

fn rate_limit(limit: &RateLimitSettings) -> String {
    let mut text = format!("{{ interval = {}, burst = {}", float(limit.interval.as_secs_f64()), limit.burst);
    for (key, value) in [("leak", limit.leak), ("kiss", limit.kiss)] {
        if let Some(value) = value {
            let _ = write!(text, ", {key} = {value}");
        }
    }
    text + " }"
}

fn access_rules(rules: &[AccessRule]) -> String {
    list(rules.iter().map(|rule| {
        let mut text = if rule.allow { "allow" } else { "deny" }.to_owned();
        if rule.all {
            text.push_str(" all");
        }
        if let Some(subnet) = rule.subnet {
            let _ = write!(text, " {subnet}");
        }
        quoted(&text)
    }))
}

fn network_terms(rules: &[TermsRule]) -> String {
    list(rules.iter().map(|TermsRule { subnet, terms }| {
        let mut text = subnet.to_string();
        for (word, change) in TERMS_WORDS {
            let mut changed = *terms;
            change(&mut changed);
            if changed == *terms {
                let _ = write!(text, " {word}");
            }
        }
        quoted(&text)
    }))
}

/// A host with a port where it has one; an IPv6 address in brackets then.
fn address(name: &str, port: Option<u16>) -> String {
    match port {
        None => name.to_owned(),
        Some(port) if name.contains(':') => format!("[{name}]:{port}"),
        Some(port) => format!("{name}:{port}"),
    }
}
