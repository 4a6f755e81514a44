//! What the control plane and the tools of other daemons are shown.

use super::opening::random_octets;
use super::starting::Servers;
use crate::chrony_host;
use crate::ke_server::KeServing;
use crate::publish::Dated;
use crate::serving::Shared;
use crate::tally::Tally;
use anyhow::Result;
use arc_swap::ArcSwap;
use chime_config::{Model, NtpServer};
use chime_control::{ClientReport, ControlReport, KeServerReport, SessionTimes, SmoothingReport, Snapshot};
use chime_server::{ClientRecord, ClientTable, Policy};
use chime_sys::clock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a report waits for the workers that remember clients.
pub(super) const CLIENTS_PATIENCE: Duration = Duration::from_millis(200);

/// What the control plane shows: the time plane's last report as it is now, and the serving plane's counts.
#[derive(Clone)]
pub(super) struct View {
    reports: Arc<ArcSwap<Dated>>,
    shared: Arc<Shared>,
    pub(super) servers: Servers,
    pub(super) chrony: Arc<Tally>,
    mode6: Arc<Tally>,
    clients_max: u64,
    pub(super) command_clients: Option<chrony_host::SharedClients>,
}

impl View {
    pub(super) fn new(
        model: &Model,
        (reports, shared): (Arc<ArcSwap<Dated>>, Arc<Shared>),
        servers: Servers,
        mode6: Arc<Tally>,
    ) -> Result<Self> {
        let (clients_max, command_clients) = (clients_max(model), command_clients(model)?);
        Ok(Self { reports, shared, servers, chrony: Arc::default(), mode6, clients_max, command_clients })
    }

    /// The state as it is now. Clients are collected from the workers, which may take a while, and so only on demand.
    pub(super) fn snapshot(&self, with_clients: bool) -> Snapshot {
        let ask =
            || self.servers.ntp.as_ref().map(|serving| serving.clients(CLIENTS_PATIENCE)).unwrap_or_default();
        self.snapshot_with(with_clients.then(ask).as_deref())
    }

    /// The same, with clients when those of the NTP server are given.
    pub(super) fn snapshot_with(&self, ntp_clients: Option<&[ClientRecord]>) -> Snapshot {
        let now = clock::mono_now();
        let dated = self.reports.load();
        let mut snapshot = dated.snapshot.clone().aged(now.saturating_since(dated.at).as_secs_f64());
        snapshot.control = ControlReport { chrony: self.chrony.read(), mode6: self.mode6.read() };
        snapshot.server.clients_max = self.clients_max;
        if let Some(smoothing) = &mut snapshot.program.smoothing {
            *smoothing = SmoothingReport::new(self.shared.time.load().smoothing, now);
        }
        if let Some(serving) = &self.servers.ntp {
            let stats = serving.stats();
            snapshot.server.add(&stats.requests);
            snapshot.server.listening = serving.addresses();
            snapshot.server.clients_forgotten = stats.clients_replaced;
            let stamps = &mut snapshot.server.timestamps;
            stamps.kernel_rx = stats.kernel_timestamps - stats.card_timestamps.min(stats.kernel_timestamps);
            stamps.hardware_rx = stats.card_timestamps;
            stamps.daemon_rx = stats.requests.received.saturating_sub(stats.kernel_timestamps);
            stamps.kernel_tx = stats.transmit_stamps - stats.card_transmit_stamps.min(stats.transmit_stamps);
            stamps.hardware_tx = stats.card_transmit_stamps;
            stamps.daemon_tx = stats.requests.answered().saturating_sub(stats.transmit_stamps);
            snapshot.server.fast_path = serving.fast().map(|fast| fast.report(&stats));
        }
        if let Some(ntp) = ntp_clients {
            let remembered = |table: &chrony_host::SharedClients| -> Vec<ClientRecord> {
                table.lock().unwrap_or_else(PoisonError::into_inner).clients().collect()
            };
            let command = self.command_clients.as_ref().map(remembered).unwrap_or_default();
            let ke = self.servers.ke.as_ref().map(|serving| serving.clients()).unwrap_or_default();
            snapshot.clients = ClientReport::of(ntp, &ke, &command, now);
        }
        if let Some(serving) = &self.servers.ke {
            snapshot.ke_server = ke_report(serving);
        }
        snapshot
    }
}

/// How many clients the servers remember in all.
pub(super) fn clients_max(model: &Model) -> u64 {
    let policies = model.possible_servers().map(NtpServer::policy);
    policies.filter(|policy| policy.client_records).map(|policy| policy.clients_max as u64).sum()
}

/// Who asks with chronyc over UDP; nobody is remembered where the server does not either.
pub(super) fn command_clients(model: &Model) -> Result<Option<chrony_host::SharedClients>> {
    /// Few have a reason to ask, and nobody who is not allowed to is remembered.
    const CLIENTS_WITHOUT_LIMIT: usize = 256;
    let mut servers = model.possible_servers().peekable();
    let forgets = servers.peek().is_some() && !servers.any(|server| server.client_records);
    if model.observability.chrony_listen.is_empty() || forgets {
        return Ok(None);
    }
    let limit = model.observability.chrony_rate_limit;
    let size = limit.map_or(CLIENTS_WITHOUT_LIMIT, |_| Policy::CLIENTS_DEFAULT);
    let hash_key = [u64::from_ne_bytes(random_octets()?), u64::from_ne_bytes(random_octets()?)];
    Ok(Some(Arc::new(Mutex::new(ClientTable::new(size, limit, hash_key)))))
}

pub(super) fn ke_report(serving: &KeServing) -> KeServerReport {
    let stats = serving.stats();
    let mut report = KeServerReport { listening: serving.addresses().to_vec(), ..KeServerReport::default() };
    report.results = stats.by_result().map(|(result, count)| (result.kind().to_owned(), count)).collect();
    let names = stats.by_result().map(|(result, _)| result.kind()).chain(["timed-out"]).zip(stats.times);
    report.times = names
        .filter(|(_, [wall, _])| *wall > 0)
        .map(|(name, [wall_micros, processor_micros])| {
            (name.to_owned(), SessionTimes { wall_micros, processor_micros })
        })
        .collect();
    let (refused, cut) = (stats.denied + stats.over_limit, stats.timed_out + stats.evicted);
    report.accepted = report.results.values().sum::<u64>() + cut;
    report.dropped = refused + stats.accept_failures;
    for (name, count) in [
        ("timed-out", stats.timed_out),
        ("evicted", stats.evicted),
        ("denied", stats.denied),
        ("over-limit", stats.over_limit),
    ] {
        report.results.insert(name.to_owned(), count);
    }
    report
}
