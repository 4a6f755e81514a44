//! The daemon as a process (`user`, `threads`) and `[observability]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use chime_control::chrony::OpenReport;
use chime_control::mode6::Variable;
use toml::de::DeValue;

use super::server::read_rate_limit;
use super::table::{Parsed, TableReader, Value};
use super::values::{
    access_rule, boolean, fault, integer, list, one_or_list, socket_address, string, subnet, text, word,
    wrong_type,
};
use crate::model::ntpq_variable;
use crate::{LogLevel, Ntpq, NtpqRule, Observability, Process, Threads};

/// Keys at the top level.
pub(in crate::dialects) fn read_top(table: &mut TableReader<'_, '_, '_, '_>, process: &mut Process) {
    if let Some(user) = table.read("user", string_or_off) {
        process.user = user;
    }
    table.set("threads", threads, &mut process.threads);
    if let Some(cpus) = table.read("cpus", list(integer(0..=1023_u16))) {
        if process.threads == Threads::Single && !cpus.is_empty() {
            table.warn_at("cpus", "with threads = \"single\" no thread is pinned".to_owned());
        }
        process.cpus = cpus;
    }
    // A file that does not say it leaves what another one has said.
    let busy_poll = table.read("busy-poll", integer(1..=1_000_000_u32));
    process.busy_poll_micros = busy_poll.or(process.busy_poll_micros);
    let priority = table.read("real-time-priority", integer(1..=Process::REAL_TIME_PRIORITY_MAX));
    process.real_time_priority = priority.or(process.real_time_priority);
    table.set("lock-memory", boolean, &mut process.lock_memory);
    process.dscp = table.read("dscp", integer(0..=63_u8)).or(process.dscp);
}

/// `[observability]`.
pub(in crate::dialects) fn read_observability(
    table: &mut TableReader<'_, '_, '_, '_>,
    observability: &mut Observability,
) {
    let level = word(&[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ]);
    table.set("log-level", level, &mut observability.log_level);
    if let Some(socket) = table.read("observation-path", string_or_off) {
        observability.control_socket = socket.map(PathBuf::from);
    }
    read_permissions(table, observability);
    if let Some(listen) = table.read("metrics-exporter-listen", |value| off_or(value, socket_address)) {
        observability.metrics_listen = listen;
        if listen.is_some_and(|address| !address.ip().is_loopback()) {
            let message = "metrics are shown to everybody who reaches this address".to_owned();
            table.warn_at("metrics-exporter-listen", message);
        }
    }
    if let Some(socket) = table.read("chrony-command-path", string_or_off) {
        observability.chrony_socket = socket.map(PathBuf::from);
    }
    if let Some(rules) = table.read("chrony-command-rules", list(access_rule)) {
        observability.chrony_rules = rules;
    }
    if let Some(reports) = table.read("chrony-command-open", list(word(&OpenReport::NAMED))) {
        observability.chrony_open = reports.into_iter().collect();
    }
    table.table("chrony-command-rate-limit", "chrony-command-rate-limit", |limit| {
        observability.chrony_rate_limit = read_rate_limit(limit);
    });
    let interface = table.read("chrony-command-interface", text);
    observability.chrony_interface = interface.or(observability.chrony_interface.take());
    // Without rules nobody else is answered, and another address is a mistake.
    let address = if observability.chrony_rules.is_empty() { loopback } else { socket_address };
    if let Some(listen) =
        table.read("chrony-command-listen", |value| off_or(value, |value| one_or_list(address)(value)))
    {
        observability.chrony_listen = listen.unwrap_or_default();
    }
    read_ntpq(table, &mut observability.ntpq);
    if let Some(socket) = table.read("ntpd-rs-observation-path", string_or_off) {
        observability.ntpd_rs_socket = socket.map(PathBuf::from);
    }
    table.set("ntpd-rs-observation-permissions", permissions, &mut observability.ntpd_rs_socket_mode);
    let journal = "the log goes to standard error, for the journal";
    table.ignore(&["log-path", "log-path-metrics-exporter"], journal);
    table.ignore(&["ansi-colors"], "the log has no colours");
}

/// Mode 6.
fn read_ntpq(table: &mut TableReader<'_, '_, '_, '_>, ntpq: &mut Ntpq) {
    let listen = table.read("ntpq-listen", |value| off_or(value, |value| one_or_list(socket_address)(value)));
    if let Some(listen) = listen {
        ntpq.listen = listen.unwrap_or_default();
    }
    if let Some(subnets) = table.read("ntpq-allow", list(subnet)) {
        let rule = |subnet| NtpqRule { subnet, query: true, modify: true, clients: true };
        ntpq.rules = subnets.into_iter().map(rule).collect();
        if !ntpq.rules.is_empty() {
            let message = "answers to ntpq are longer than its questions, and senders can be forged: what other \
                           machines get is limited to 8 KiB per second";
            table.warn_at("ntpq-allow", message.to_owned());
        }
    }
    if let Some(rules) = table.read("ntpq-rules", list(ntpq_rule)) {
        ntpq.rules.extend(rules);
    }
    if let Some(key) = table.read("ntpq-control-key", integer(1..=u32::MAX)) {
        ntpq.control_key = Some(key);
    }
    for (key, is_default) in [("ntpq-variables", false), ("ntpq-default-variables", true)] {
        let variables = table.read(key, list(|value| variable(value, is_default)));
        variables.unwrap_or_default().into_iter().for_each(|one| ntpq.set_variable(one));
    }
}

/// `NAME=VALUE`.
fn variable(value: &Value<'_>, is_default: bool) -> Parsed<Variable> {
    let text = text(value)?;
    let variable = text.split_once('=').and_then(|(name, value)| ntpq_variable(name, value, is_default));
    variable
        .ok_or_else(|| fault(value, "a variable is written \"NAME=VALUE\", in one line and without a comma"))
}

/// An address and a port to listen on for this machine alone.
fn loopback(value: &Value<'_>) -> Parsed<SocketAddr> {
    let address = socket_address(value)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    let message = "chronyc is answered on this machine only: give \"127.0.0.1:323\" or \"[::1]:323\"";
    Err(fault(value, message))
}

/// `NETWORK [noquery] [nomodify] [nomrulist]`, as ntpd's `restrict` has it.
fn ntpq_rule(value: &Value<'_>) -> Parsed<NtpqRule> {
    let given = string(value)?;
    let mut words = given.split_ascii_whitespace();
    let wrong = || fault(value, format!("\"{given}\" is not \"NETWORK [noquery] [nomodify] [nomrulist]\""));
    let subnet = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
    let mut rule = NtpqRule { subnet, query: true, modify: true, clients: true };
    for word in words {
        match word {
            "noquery" => rule.query = false,
            "nomodify" => rule.modify = false,
            "nomrulist" => rule.clients = false,
            _ => return Err(wrong()),
        }
    }
    Ok(rule)
}

/// Octal permission bits; decimal ones are always a slip.
fn read_permissions(table: &mut TableReader<'_, '_, '_, '_>, observability: &mut Observability) {
    const KEY: &str = "observation-permissions";
    if let Some(mode) = table.read(KEY, permissions) {
        observability.control_socket_mode = mode;
        if mode & 0o002 != 0 {
            let message = "everybody on this machine may send commands".to_owned();
            table.warn_at(KEY, message);
        }
    }
}

pub(in crate::dialects) fn permissions(value: &Value<'_>) -> Parsed<u32> {
    let mode = integer(0..=0o777_u32)(value);
    match value.get_ref() {
        DeValue::Integer(digits) if digits.radix() == 10 => {
            let meant = digits.as_str();
            let is_octal = meant.bytes().all(|digit| digit < b'8');
            let message = if is_octal { format!(": write 0o{meant}") } else { ", such as 0o666".to_owned() };
            Err(fault(value, format!("permissions are octal{message}")))
        }
        _ => mode,
    }
}

fn threads(value: &Value<'_>) -> Parsed<Threads> {
    match value.get_ref() {
        DeValue::Integer(_) => integer(1..=1024_u16)(value).map(Threads::Count),
        DeValue::String(_) => word(&[("per-core", Threads::PerCore), ("single", Threads::Single)])(value),
        _ => Err(wrong_type(value, "\"per-core\", \"single\" or a number of threads")),
    }
}

/// A string, or `false` for none.
fn string_or_off(value: &Value<'_>) -> Parsed<Option<String>> {
    off_or(value, |value| match string(value)? {
        "" => Err(fault(value, "must not be empty; `false` turns it off")),
        text => Ok(text.to_owned()),
    })
}

/// `false` or "off" for none, or what `parse` reads.
fn off_or<T>(value: &Value<'_>, parse: impl Fn(&Value<'_>) -> Parsed<T>) -> Parsed<Option<T>> {
    match value.get_ref() {
        DeValue::Boolean(false) => Ok(None),
        DeValue::String(word) if word == "off" => Ok(None),
        _ => parse(value).map(Some),
    }
}
