//! Who may use chronyc, and where: `bindcmdaddress`, `cmdport`, `cmdallow`, `opencommands`, `cmdratelimit`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use chime_control::chrony::{OpenReport, OpenReports};
use chime_server::{AccessRule, RateLimitSettings};

use super::Reader;
use super::directives::place;
use super::line::{Fault, Line, Parsed, unknown};
use super::serving::{numbers, rule};
use crate::Observability;

/// The Unix socket unless another is configured.
const SOCKET_DEFAULT: &str = "/run/chrony/chronyd.sock";
/// The UDP port unless another is configured.
const PORT_DEFAULT: u16 = 323;

/// What the directives about chronyc say.
pub(super) struct CommandAccess {
    pub(super) port: u16,
    v4: IpAddr,
    v6: IpAddr,
    socket: Option<PathBuf>,
    rules: Vec<AccessRule>,
    open: OpenReports,
    rate_limit: Option<RateLimitSettings>,
    pub(super) interface: Option<String>,
}

impl Default for CommandAccess {
    fn default() -> Self {
        Self {
            port: PORT_DEFAULT,
            v4: IpAddr::V4(Ipv4Addr::LOCALHOST),
            v6: IpAddr::V6(Ipv6Addr::LOCALHOST),
            socket: Some(PathBuf::from(SOCKET_DEFAULT)),
            rules: Vec::new(),
            open: OpenReports::default(),
            rate_limit: None,
            interface: None,
        }
    }
}

impl CommandAccess {
    pub(super) fn finish(self, observability: &mut Observability) {
        observability.chrony_socket = self.socket;
        observability.chrony_listen = [self.v4, self.v6]
            .into_iter()
            .filter(|_| self.port != 0)
            .map(|address| SocketAddr::new(address, self.port))
            .collect();
        observability.chrony_rules = self.rules;
        observability.chrony_open = self.open;
        observability.chrony_rate_limit = self.rate_limit;
        observability.chrony_interface = self.interface;
    }
}

/// `bindcmdaddress`: an address for its family, or a path; `/` is no socket.
pub(super) fn read_bind(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let word = line.only("an IP address or a path")?;
    let access = &mut reader.commands;
    if word.text.starts_with('/') {
        access.socket = (word.text != "/").then(|| PathBuf::from(word.text));
        return Ok(());
    }
    match word.text.parse() {
        Ok(address @ IpAddr::V4(_)) => access.v4 = address,
        Ok(address @ IpAddr::V6(_)) => access.v6 = address,
        Err(_) => {
            return Err(Fault::new(&word, format!("`{}` is neither an IP address nor a path", word.text)));
        }
    }
    Ok(())
}

/// `cmdallow` and `cmddeny`.
pub(super) fn read_rule(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let allow = line.directive.folded() == "cmdallow";
    if let Some(rule) = rule(reader, line, allow)? {
        reader.commands.rules.push(rule);
    }
    Ok(())
}

/// `opencommands`: the reports that take no Unix socket, instead of the usual ones; without a word none.
pub(super) fn read_open(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let mut open = Vec::new();
    while let Some(word) = line.next() {
        let known = OpenReport::named(&word.folded());
        open.push(known.ok_or_else(|| unknown(&word, "report", &OpenReport::NAMED.map(|(name, _)| name)))?);
    }
    reader.commands.open = open.into_iter().collect();
    Ok(())
}

/// `cmdratelimit`.
pub(super) fn read_rate_limit(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let [interval, burst, leak] = numbers(line, ["interval", "burst", "leak"], [-4, 8, 2])?;
    reader.serving.limits.push(place(line));
    reader.commands.rate_limit = Some(RateLimitSettings::from_chrony(interval, burst, leak, 0));
    Ok(())
}
