//! What is shown and kept in files, written out.

use super::values::{access_rules, float, list, or_off, path, rate_limit, real_time_clock, temperature};
use super::{Writer, quoted};
use crate::{Model, StatisticsFile};
use std::path::Path;

impl Writer {
    pub(super) fn observability(&mut self, model: &Model) {
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

    pub(super) fn chrony_files(&mut self, model: &Model) {
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
        self.some("mail-on-change", files.mail_on_change.as_ref(), |mail| {
            let (address, threshold) = (quoted(&mail.address), float(mail.threshold));
            format!("{{ address = {address}, threshold = {threshold} }}")
        });
        self.number("log-change", files.log_change.0, default.log_change.0);
    }

    pub(super) fn ntpd_files(&mut self, model: &Model) {
        let files = &model.ntpd;
        self.table("[ntpd]");
        self.some("log-file", files.log_file.as_ref(), |it| path(it));
        self.flag("log-system-events", files.events.system, true);
        self.flag("log-peer-events", files.events.peers, true);
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

    pub(super) fn predecessor(&mut self, model: &Model) {
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
