//! What of a configuration that is read again waits for a restart, so that no change is without effect in silence.

use chime_config::{Model, NtpServer, NtsKeServer, ReferenceClock};

/// The parts, in the words of the configuration file, that differ and are in force only after a restart.
#[must_use]
pub fn waiting(running: &Model, read: &Model) -> Vec<&'static str> {
    let ntp = |model: &Model| model.servers.iter().map(ntp_socket).collect::<Vec<_>>();
    let ke = |model: &Model| model.nts_ke_servers.iter().map(ke_settings).collect::<Vec<_>>();
    let clocks = |model: &Model| {
        let unplaced = |clock: &ReferenceClock| ReferenceClock { origin: None, ..clock.clone() };
        model.reference_clocks.iter().map(unplaced).collect::<Vec<_>>()
    };
    let parts = [
        (
            "addresses, interfaces, fast-path, ntp-signd-directory and rate-limiting-cache-size of [[server]], or that it has a rate limit",
            ntp(running) != ntp(read),
        ),
        (
            "the first source with mode \"peer\" beside a server",
            !running.servers.is_empty() && !running.has_peers() && read.has_peers(),
        ),
        ("[[nts-ke-server]]", ke(running) != ke(read)),
        ("[ntp-over-ptp]", running.ntp_over_ptp != read.ntp_over_ptp),
        ("[[broadcast]]", running.broadcasts != read.broadcasts),
        ("[[reference-clock]]", clocks(running) != clocks(read)),
        ("[keyset]", running.keyset != read.keyset),
        ("where requests leave from", running.client_sockets != read.client_sockets),
        (
            "real-time-clock and mark-kernel-synchronized",
            running.chrony.real_time_clock != read.chrony.real_time_clock
                || running.synchronization.marks_kernel != read.synchronization.marks_kernel,
        ),
        ("clock-precision", running.synchronization.precision != read.synchronization.precision),
        ("warn-on-jump", running.synchronization.warns_of_steps != read.synchronization.warns_of_steps),
        ("smooth-served-time", running.synchronization.smoothing != read.synchronization.smoothing),
        ("log file and statistics", running.ntpd != read.ntpd),
        ("[observability]", running.observability != read.observability),
        (
            "user, threads, cpus, busy-poll, real-time-priority, lock-memory or [state]",
            running.process != read.process,
        ),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// The policy-bearing part of `read` for each server of `running`, in that order: a server that is not configured any
/// more keeps what it had, as its socket stays open.
#[must_use]
pub fn servers_in_order(running: &Model, read: &Model) -> Vec<NtpServer> {
    let same = |server: &NtpServer| {
        let key = |one: &NtpServer| (one.listen, one.interface.clone());
        read.servers.iter().find(|other| key(other) == key(server)).unwrap_or(server).clone()
    };
    running.servers.iter().map(same).collect()
}

/// With a rate limit the kernel has each client always meet the same worker: that is set up with the sockets.
fn ntp_socket(server: &NtpServer) -> impl PartialEq + use<> {
    let has_rate_limit = server.policy().rate_limit.is_some();
    let signing = server.signing_directory.clone();
    (
        server.listen,
        server.interface.clone(),
        server.rate_limit_entries,
        has_rate_limit,
        server.fast_path,
        signing,
    )
}

/// All but where it is written and what is taken over at once.
fn ke_settings(server: &NtsKeServer) -> NtsKeServer {
    NtsKeServer { origin: None, rules: None, ..server.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_server::RequireNts;
    use std::time::Duration;

    fn serving(addresses: &[&str]) -> Model {
        let servers = addresses.iter().map(|one| NtpServer::new(one.parse().expect("an address")));
        Model { servers: servers.collect(), ..Model::default() }
    }

    #[test]
    fn what_is_taken_over_at_once_does_not_wait_and_the_rest_is_named() {
        let running = serving(&["0.0.0.0:123"]);
        let mut read = running.clone();
        read.sources = Model::built_in().sources;
        read.servers[0].require_nts = RequireNts::Deny;
        assert_eq!(waiting(&running, &read), [""; 0]);
        read.keyset.rotation_interval = Duration::from_secs(1);
        read.process.user = None;
        assert_eq!(
            waiting(&running, &read),
            ["[keyset]", "user, threads, cpus, busy-poll, real-time-priority, lock-memory or [state]"]
        );
        assert_eq!(waiting(&running, &serving(&["192.0.2.1:123"])).len(), 1);
        let mut limited = running.clone();
        limited.servers[0].rate_limit_entries = 32;
        let mut tighter = limited.clone();
        tighter.servers[0].rate_limit_cutoff = Duration::from_secs(1);
        assert_eq!(waiting(&limited, &tighter).len(), 1, "one client would meet several workers");
    }

    #[test]
    fn policies_go_to_the_server_with_the_address_whatever_the_order() {
        let running = serving(&["192.0.2.1:123", "192.0.2.2:123"]);
        let mut read = serving(&["192.0.2.3:123", "192.0.2.1:123"]);
        read.servers[0].require_nts = RequireNts::Deny;
        read.servers[1].require_nts = RequireNts::Ignore;
        let policies: Vec<_> =
            servers_in_order(&running, &read).iter().map(|server| server.require_nts).collect();
        assert_eq!(policies, [RequireNts::Ignore, RequireNts::No]);
    }
}
