//! Servers and their keys, written out.

use super::values::{access_rules, list, network_terms, networks, path, rate_limit};
use super::{Writer, quoted};
use crate::{FastPath, KeyFormat, Model, NtpOverPtp, NtpServer, Ntpq, NtsKeServer, RequireNts};

impl Writer {
    pub(super) fn server(&mut self, server: &NtpServer) {
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
        self.some("ntp-signd-directory", server.signing_directory.as_ref(), |directory| path(directory));
        self.set("fast-path", &server.fast_path, &default.fast_path, |wish| match wish {
            FastPath::None => quoted("none"),
            FastPath::Xdp => quoted("xdp"),
            FastPath::XdpDriver => quoted("xdp-driver"),
            FastPath::XdpGeneric => quoted("xdp-generic"),
        });
    }

    pub(super) fn ntp_over_ptp(&mut self, ptp: &NtpOverPtp) {
        let default = NtpOverPtp::default();
        self.item("[ntp-over-ptp]");
        self.set("port", &ptp.port, &default.port, ToString::to_string);
        self.set("domain", &ptp.domain, &default.domain, ToString::to_string);
    }

    pub(super) fn ke_server(&mut self, server: &NtsKeServer) {
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

    pub(super) fn keys(&mut self, model: &Model) {
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

    pub(super) fn ntpq(&mut self, ntpq: &Ntpq) {
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
}
