//! From the model back to the native dialect.

mod keeping;
mod reporting;
mod servers;
mod sources;
mod values;

use crate::{Model, Origin, Threads};
use chime_nts::AeadAlgorithm;
use chime_time::Frequency;
use std::fmt::Write as _;
use values::{float, list, or_off, policy};

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
    if let Some(ptp) = &model.ntp_over_ptp {
        out.ntp_over_ptp(ptp);
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

    fn aeads(&mut self, aeads: &[AeadAlgorithm]) {
        let numbers = |aeads: &Vec<AeadAlgorithm>| list(aeads.iter().map(|aead| aead.id().to_string()));
        self.set("aeads", &aeads.to_vec(), &AeadAlgorithm::OFFERED.to_vec(), numbers);
    }
}

/// A string as TOML has it.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
