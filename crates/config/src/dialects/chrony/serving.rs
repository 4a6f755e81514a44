//! What is served: `allow` and `deny`, rate limits, the NTS server's certificates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chime_nts::AeadAlgorithm;
use chime_server::{AccessList, AccessRule, CLIENTS_MAX, Policy, RateLimitSettings, Subnet};

use super::directives::place;
use super::line::{Fault, Line, Parsed, Word, unknown};
use super::{Reader, Request};
use crate::{
    Broadcast, CertificatePair, Diagnostic, LocalReference, Model, NtpOverPtp, NtpServer, NtsKeServer,
    Origin, Severity,
};

/// What the directives about serving say.
pub(super) struct Serving {
    pub(super) rules: Vec<AccessRule>,
    pub(super) port: u16,
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
    pub(super) interface: Option<String>,
    /// With port 0: off.
    pub(super) ptp: NtpOverPtp,
    pub(super) rate_limit: Option<RateLimitSettings>,
    /// Where limits are set, of whatever service.
    pub(super) limits: Vec<Diagnostic>,
    pub(super) without_records: bool,
    pub(super) clients: usize,
    pub(super) chains: Vec<(PathBuf, Diagnostic)>,
    pub(super) keys: Vec<(PathBuf, Diagnostic)>,
    /// Where Samba signs answers.
    pub(super) signing_directory: Option<PathBuf>,
    pub(super) nts_port: u16,
    pub(super) nts_connections: usize,
    pub(super) nts_processes: usize,
    pub(super) nts_server: Option<String>,
    pub(super) nts_rate_limit: Option<RateLimitSettings>,
    /// Of both roles.
    pub(super) aeads: Vec<AeadAlgorithm>,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            port: 123,
            v4: None,
            v6: None,
            interface: None,
            ptp: NtpOverPtp { port: 0, ..NtpOverPtp::default() },
            rate_limit: None,
            limits: Vec::new(),
            without_records: false,
            clients: Policy::CLIENTS_DEFAULT,
            chains: Vec::new(),
            keys: Vec::new(),
            signing_directory: None,
            nts_port: 4460,
            nts_connections: 100,
            nts_processes: 1,
            nts_server: None,
            nts_rate_limit: None,
            aeads: AeadAlgorithm::OFFERED.to_vec(),
        }
    }
}

/// `allow` and `deny`.
pub(super) fn read_rule(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let allow = line.directive.folded() == "allow";
    if let Some(rule) = rule(reader, line, allow)? {
        reader.serving.rules.push(rule);
    }
    Ok(())
}

/// `[all] [SUBNET]` behind a directive that allows or denies; `None`: warned, and of no effect.
pub(super) fn rule(reader: &mut Reader<'_>, line: &mut Line<'_>, allow: bool) -> Parsed<Option<AccessRule>> {
    let all = line.peek().is_some_and(|word| word.text == "all");
    if all {
        line.next();
    }
    let Some(word) = line.next() else {
        return Ok(Some(AccessRule { allow, all, subnet: None }));
    };
    line.end()?;
    let subnet = subnet(&word)?;
    let found = subnet.map_or_else(|| address_of(reader, &word), Ok);
    match found {
        Ok(subnet) => Ok(Some(AccessRule { allow, all, subnet: Some(subnet) })),
        // Unlike chronyd we keep time without: nobody is let in by mistake.
        Err(fault) if allow => {
            let why = format!(
                "{}; whoever has this name is not let in until the daemon reads it again",
                fault.message
            );
            reader.no_effect(line, &word, &why);
            Ok(None)
        }
        // Who was to be kept out would be let in.
        Err(fault) => Err(fault.with_help("write the address or the network")),
    }
}

/// The address that a name stands for now.
fn address_of(reader: &Reader<'_>, name: &Word<'_>) -> Parsed<Subnet> {
    let unknown = |why: &str| Fault::new(name, format!("the name cannot be looked up: {why}"));
    let found = (reader.files)(&Request::Address(name.text.to_owned())).map_err(|why| unknown(&why))?;
    let address = found.first().and_then(|text| text.contents.parse().ok());
    Ok(Subnet::host(address.ok_or_else(|| unknown("it has no address"))?))
}

/// An address, a network, or one to three decimal numbers that begin an IPv4 address; `None`: a host name.
fn subnet(word: &Word<'_>) -> Parsed<Option<Subnet>> {
    let (address, prefix) = match word.text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (word.text, None),
    };
    let numbers: Option<Vec<u8>> = address.split('.').map(|part| part.parse().ok()).collect();
    let short = numbers.filter(|numbers| numbers.len() < 4);
    let (address, implied) = if let Ok(address) = address.parse::<IpAddr>() {
        (address, if address.is_ipv4() { 32 } else { 128 })
    } else if let Some(numbers) = short {
        let mut octets = [0; 4];
        octets[..numbers.len()].copy_from_slice(&numbers);
        (IpAddr::from(octets), u8::try_from(8 * numbers.len()).unwrap_or(32))
    } else if prefix.is_some() || address.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(Fault::new(word, format!("`{}` is not a network", word.text)));
    } else {
        return Ok(None);
    };
    let wrong = || Fault::new(word, "the prefix length is from 0 to 32 (IPv4) or 128 (IPv6)");
    let prefix = prefix.map_or(Ok(implied), |digits| digits.parse().map_err(|_| wrong()))?;
    Subnet::new(address, prefix).map(Some).map_err(|_| wrong())
}

/// `ratelimit`.
pub(super) fn read_rate_limit(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let [interval, burst, leak, kod] = numbers(line, ["interval", "burst", "leak", "kod"], [3, 8, 2, 0])?;
    reader.serving.limits.push(place(line));
    reader.serving.rate_limit = Some(RateLimitSettings::from_chrony(interval, burst, leak, kod));
    Ok(())
}

/// `ntsratelimit`.
pub(super) fn read_nts_rate_limit(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let [interval, burst, leak] = numbers(line, ["interval", "burst", "leak"], [6, 8, 2])?;
    reader.serving.limits.push(place(line));
    reader.serving.nts_rate_limit = Some(RateLimitSettings::from_chrony(interval, burst, leak, 0));
    Ok(())
}

/// Pairs of an option and its number, in any order; `values` are the defaults.
pub(super) fn numbers<const N: usize>(
    line: &mut Line<'_>,
    options: [&str; N],
    mut values: [i32; N],
) -> Parsed<[i32; N]> {
    while let Some(word) = line.next() {
        let at = options.iter().position(|option| *option == word.folded());
        let at = at.ok_or_else(|| unknown(&word, "option", &options))?;
        values[at] = line.integer(&(-32..=255))?;
    }
    Ok(values)
}

/// `broadcast INTERVAL ADDRESS [PORT]`.
pub(super) fn read_broadcast(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let interval: u64 = line.integer(&(1..=i32::MAX.unsigned_abs().into()))?;
    let word = line.require("an address")?;
    let address: IpAddr =
        word.text.parse().map_err(|_| Fault::new(&word, format!("`{}` is not an IP address", word.text)))?;
    let port = if line.peek().is_some() { line.integer(&(1..=u16::MAX))? } else { 123 };
    line.end()?;
    let interval = Duration::from_secs(interval);
    reader.model.broadcasts.push(Broadcast { interval, ..Broadcast::new(SocketAddr::new(address, port)) });
    Ok(())
}

/// `clientloglimit`: chrony needs 128 octets for a client.
pub(super) fn read_client_limit(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let octets = line.only_integer(&(0..=u64::MAX))?;
    let clients = usize::try_from(octets / 128).unwrap_or(CLIENTS_MAX);
    reader.serving.clients = clients.clamp(16, CLIENTS_MAX);
    Ok(())
}

/// `local`.
pub(super) fn read_local(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const OPTIONS: &[&str] = &["activate", "distance", "orphan", "stratum", "waitsynced", "waitunsynced"];
    let mut local = LocalReference::default();
    let mut unsynchronized = None;
    while let Some(word) = line.next() {
        match word.folded().as_str() {
            "stratum" => local.stratum = line.integer(&(1..=15))?,
            "distance" => local.distance = line.real_from_zero()?,
            "activate" => local.activate = line.real_from_zero()?,
            "orphan" => local.orphan = true,
            "waitsynced" => local.wait_synchronized = line.real_from_zero()?,
            "waitunsynced" => unsynchronized = Some(line.real_from_zero()?),
            _ => return Err(unknown(&word, "option", OPTIONS)),
        }
    }
    let usual = if local.orphan { LocalReference::ORPHAN_WAIT_SECONDS } else { 0.0 };
    local.wait_unsynchronized = unsynchronized.unwrap_or(usual);
    reader.model.synchronization.local_clock = Some(local);
    Ok(())
}

/// `bindaddress` and `bindacqaddress`: one address of each family.
pub(super) fn read_bind(
    line: &mut Line<'_>,
    v4: &mut Option<Ipv4Addr>,
    v6: &mut Option<Ipv6Addr>,
) -> Parsed<()> {
    let word = line.only("an IP address")?;
    match word.text.parse() {
        Ok(IpAddr::V4(address)) => *v4 = Some(address),
        Ok(IpAddr::V6(address)) => *v6 = Some(address),
        Err(_) => return Err(Fault::new(&word, format!("`{}` is not an IP address", word.text))),
    }
    Ok(())
}

impl Serving {
    /// The servers that these directives ask for: none without `allow`, and only over families of which somebody is
    /// allowed. Those of the other families wait.
    pub(super) fn finish(self, model: &mut Model, diagnostics: &mut Vec<Diagnostic>) {
        let forbidden = self.limits.iter().filter(|_| self.without_records);
        diagnostics.extend(forbidden.map(|place| Diagnostic {
            severity: Severity::Error,
            message: "a rate limit needs the client records that `noclientlog` forbids".to_owned(),
            ..place.clone()
        }));
        let certificates = self.certificates(diagnostics);
        let (addresses, waiting) = self.addresses();
        model.ntp_over_ptp = Some(self.ptp).filter(|ptp| ptp.port != 0);
        let ntp = |(address, port): (IpAddr, u16)| NtpServer {
            rules: Some(self.rules.clone()),
            rate_limit: self.rate_limit,
            rate_limit_entries: self.clients,
            client_records: !self.without_records,
            interface: self.interface.clone(),
            versions: vec![1, 2, 3, 4],
            signing_directory: self.signing_directory.clone(),
            ..NtpServer::new(SocketAddr::new(address, port))
        };
        // The usual port first: it is the one that peers see.
        let mut ports = vec![self.port, self.ptp.port];
        ports.dedup();
        let at_each_port = |addresses: &[IpAddr]| {
            let ports = ports.iter().filter(|port| **port != 0);
            ports.flat_map(|port| addresses.iter().map(move |address| (*address, *port))).map(ntp).collect()
        };
        model.servers = at_each_port(&addresses);
        model.servers_in_waiting = at_each_port(&waiting);
        let Some((_, place)) = self.chains.first().filter(|_| !certificates.is_empty()) else {
            return;
        };
        let mut warn = |message: &str| {
            diagnostics.push(Diagnostic { message: message.to_owned(), ..place.clone() });
        };
        if addresses.is_empty() {
            warn("nobody is let in by `allow`: neither NTP nor NTS key establishment is served");
        } else if model.servers.is_empty() && self.nts_server.is_none() {
            warn(
                "clients of the key establishment server are sent to this machine, which does not serve NTP",
            );
        }
        let ke = |address: &IpAddr| NtsKeServer {
            aeads: self.aeads.clone(),
            rate_limit: self.nts_rate_limit,
            listen: SocketAddr::new(*address, self.nts_port),
            certificates: certificates.clone(),
            timeout: Duration::from_secs(2),
            connections_max: self.nts_connections.saturating_mul(self.nts_processes.max(1)).min(65_536),
            ntp_server: self.nts_server.clone(),
            ntp_port: (![0, 123].contains(&self.port)).then_some(self.port),
            rules: Some(self.rules.clone()),
            origin: Some(Origin { file: place.file.clone(), line: place.line }),
        };
        model.nts_ke_servers = addresses.iter().map(ke).collect();
    }

    /// The addresses of the families of which somebody is allowed, and those of the others.
    fn addresses(&self) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let list = AccessList::from_rules(&self.rules);
        let v4 = IpAddr::V4(self.v4.unwrap_or(Ipv4Addr::UNSPECIFIED));
        let v6 = IpAddr::V6(self.v6.unwrap_or(Ipv6Addr::UNSPECIFIED));
        [v4, v6].into_iter().partition(|address| list.allows_any_of(address.is_ipv4()))
    }

    /// Certificates and keys in pairs, by their order.
    fn certificates(&self, diagnostics: &mut Vec<Diagnostic>) -> Vec<CertificatePair> {
        let (chains, keys) = (&self.chains, &self.keys);
        if chains.len() != keys.len() {
            let place = if chains.len() > keys.len() { chains.last() } else { keys.last() };
            if let Some((_, place)) = place {
                diagnostics.push(Diagnostic {
                    severity: Severity::Error,
                    message: format!(
                        "there are {} `ntsservercert` and {} `ntsserverkey`; they belong together in pairs",
                        chains.len(),
                        keys.len()
                    ),
                    ..place.clone()
                });
            }
        }
        let pairs = chains.iter().zip(keys);
        pairs
            .map(|((chain, _), (key, _))| CertificatePair { chain: chain.clone(), key: key.clone() })
            .collect()
    }
}
