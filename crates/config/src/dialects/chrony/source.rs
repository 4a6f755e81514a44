//! `server`, `pool`, `peer` and their options.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chime_nts::AeadAlgorithm;

use super::Reader;
use super::line::{Fault, Line, Parsed, Word, unknown};
use super::unsupported::{MIN_SAMPLES, MIN_SAMPLES_USUAL};
use crate::model::parse_address;
use crate::{
    AddressFamily, Authentication, Diagnostic, NtpVersion, NtsTrust, Origin, PollLimits, Severity, Source,
    SourceKind,
};

/// The most associations of a pool.
const POOL_MAX: usize = 16;
/// The most measurements of which the median is taken.
const FILTER_MAX: u32 = 1024;

/// Every option of a source.
pub(super) const OPTIONS: &[&str] = &[
    "asymmetry",
    "auto_offline",
    "burst",
    "certset",
    "copy",
    "extfield",
    "filter",
    "iburst",
    "ipv4",
    "ipv6",
    "key",
    "maxdelay",
    "maxdelaydevratio",
    "maxdelayquant",
    "maxdelayratio",
    "maxpoll",
    "maxsamples",
    "maxsources",
    "maxunreach",
    "mindelay",
    "minpoll",
    "minsamples",
    "minstratum",
    "noselect",
    "nts",
    "ntsport",
    "offline",
    "offset",
    "polltarget",
    "port",
    "prefer",
    "presend",
    "require",
    "trust",
    "version",
    "xleave",
];

/// The poll exponent from which on no request is ever sent in advance.
const PRESEND_OFF: i8 = 25;

/// A source whose certificate set is not yet complete.
pub(super) struct SourceDraft {
    source: Source,
    min_poll: Option<i64>,
    max_poll: Option<i64>,
    nts: bool,
    nts_port: u16,
    key: Option<u32>,
    certificate_set: u32,
    count: usize,
    place: Diagnostic,
}

/// What the directives about certificates say.
#[derive(Default)]
pub(super) struct CertificateSets {
    pub(super) files: BTreeMap<u32, Vec<PathBuf>>,
    pub(super) no_system: bool,
}

/// One source of any kind.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let name = line.require("a host name or an address")?;
    let (host, port) = parse_address(name.text).map_err(|message| Fault::new(&name, message))?;
    if let Some(port) = port {
        let fault = Fault::new(&name, "a port is not a part of the name");
        return Err(fault.with_help(format!("write `{host} port {port}`")));
    }
    let kind = line.directive.folded();
    let place = Diagnostic::new(Severity::Warning, line.text, &line.directive.span(), "", None);
    let mut source = Source::new(&host);
    source.iburst = false;
    source.max_unreachable_polls = 100_000;
    source.origin = Some(Origin { file: place.file.clone(), line: place.line });
    let mut draft = SourceDraft {
        source,
        min_poll: None,
        max_poll: None,
        nts: false,
        nts_port: 4460,
        key: None,
        certificate_set: 0,
        count: 4,
        place,
    };
    while let Some(word) = line.next() {
        option(reader, line, &word, &mut draft)?;
    }
    if kind == "pool" {
        draft.source.kind = SourceKind::Pool { count: draft.count.min(POOL_MAX), ignore: Vec::new() };
    }
    if kind == "peer" {
        draft.source.kind = SourceKind::Peer;
        draft.source.iburst = false;
    }
    if kind == "peer" && draft.nts {
        return Err(Fault::new(&line.directive, "a peer cannot be authenticated with NTS"));
    }
    reader.sources.push(draft);
    Ok(())
}

fn option(
    reader: &mut Reader<'_>,
    line: &mut Line<'_>,
    word: &Word<'_>,
    draft: &mut SourceDraft,
) -> Parsed<()> {
    let name = word.folded();
    let source = &mut draft.source;
    match name.as_str() {
        "iburst" => source.iburst = true,
        "prefer" => source.prefer = true,
        "noselect" => source.no_select = true,
        "trust" => source.trust = true,
        "require" => source.require = true,
        "offline" => source.online = false,
        "ipv4" => source.address_family = AddressFamily::V4,
        "ipv6" => source.address_family = AddressFamily::V6,
        "nts" => draft.nts = true,
        "xleave" => source.interleaved = true,
        "ntsport" => draft.nts_port = line.integer(&(1..=u16::MAX))?,
        "certset" => draft.certificate_set = line.integer(&(0..=u32::MAX))?,
        "key" => draft.key = Some(line.integer(&(1..=u32::MAX))?),
        "port" => source.port = line.integer(&(1..=u16::MAX))?,
        "minpoll" => draft.min_poll = Some(line.integer(&(i64::from(i32::MIN)..=i64::from(i32::MAX)))?),
        "maxpoll" => draft.max_poll = Some(line.integer(&(-32..=32))?),
        "maxdelay" => source.max_delay = line.real()?.clamp(1e-6, 1000.0),
        "maxdelayratio" => source.max_delay_ratio = line.real()?.clamp(0.0, 1e6),
        "maxdelaydevratio" => source.max_delay_deviation_ratio = line.real()?.clamp(0.0, 1e6),
        "maxdelayquant" => source.max_delay_quantile = quantile(line)?,
        "mindelay" => source.min_delay = line.real_from_zero()?.min(1000.0),
        "asymmetry" => source.jitter_asymmetry = asymmetry(line)?,
        "auto_offline" => source.offline_on_failure = true,
        "burst" => source.burst = true,
        "copy" => source.copy_reference = true,
        "filter" => source.median_filter = line.integer(&(0..=i32::MAX))?.unsigned_abs().min(FILTER_MAX),
        "maxunreach" => source.max_unreachable_polls = line.integer(&(0..=i32::MAX))?.unsigned_abs(),
        "minstratum" => source.min_stratum = line.integer(&(0..=16_u8))?,
        "polltarget" => source.poll_target = line.integer(&(1..=i32::MAX))?.unsigned_abs(),
        "presend" => source.presend = Some(line.integer(&(-32..=32_i8))?).filter(|&at| at < PRESEND_OFF),
        "maxsamples" | "minsamples" => {
            let samples = line.integer(&(0..=i32::MAX))?.unsigned_abs();
            if name == "maxsamples" {
                source.max_samples = Some(samples);
            } else if samples > MIN_SAMPLES_USUAL {
                reader.no_effect(line, word, MIN_SAMPLES);
            }
        }
        "offset" => source.offset_correction = offset(line)?,
        "version" => version(reader, line, word, source)?,
        "maxsources" => {
            draft.count = usize::try_from(line.integer(&(1..=i32::MAX))?).unwrap_or(POOL_MAX);
            if line.directive.folded() != "pool" {
                reader.no_effect(line, word, "it belongs to `pool`");
            }
        }
        "extfield" => {
            let field = line.require("the type of an extension field")?;
            match field.text.to_ascii_uppercase().as_str() {
                "F323" => source.frequency_transfer = true,
                // The second is what chrony 4.5 to 4.8 called it.
                "10A" | "F324" => source.network_correction = true,
                _ => return Err(unknown(&field, "extension field", &["10A", "F323", "F324"])),
            }
        }
        _ => return Err(unknown(word, "option", OPTIONS)),
    }
    Ok(())
}

/// Where packets wait; what lies beyond the two ends is chronyd's word for not knowing.
fn asymmetry(line: &mut Line<'_>) -> Parsed<f64> {
    let share = line.real()?;
    Ok(if (-0.5..=0.5).contains(&share) { share } else { 0.0 })
}

/// 0 is off; chrony brings everything else into 0.05 to 0.95.
fn quantile(line: &mut Line<'_>) -> Parsed<f64> {
    let share = line.real_from_zero()?;
    Ok(if share > 0.0 { share.clamp(0.05, 0.95) } else { 0.0 })
}

fn offset(line: &mut Line<'_>) -> Parsed<f64> {
    let word = line.peek();
    let seconds = line.real()?;
    match word {
        Some(word) if !seconds.is_finite() => Err(Fault::new(&word, "must be a finite number of seconds")),
        _ => Ok(seconds),
    }
}

fn version(reader: &mut Reader<'_>, line: &mut Line<'_>, word: &Word<'_>, source: &mut Source) -> Parsed<()> {
    match line.integer(&(1..=4_u8))? {
        4 => source.version = NtpVersion::V4,
        3 => source.version = NtpVersion::V3,
        _ => {
            source.version = NtpVersion::V3;
            reader.warn(line, word, "requests have version 3, the oldest that is sent");
        }
    }
    Ok(())
}

impl SourceDraft {
    /// Whether the first answer is enough, as with `maxsamples 1`.
    pub(super) const fn takes_one_sample(&self) -> bool {
        matches!(self.source.max_samples, Some(1))
    }

    /// Fills in what depends on other lines.
    pub(super) fn finish(
        mut self,
        sets: &CertificateSets,
        aeads: &[AeadAlgorithm],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Source {
        self.source.poll = poll_limits(self.min_poll, self.max_poll);
        let mut warn = |message: String| {
            diagnostics.push(Diagnostic { message, ..self.place.clone() });
        };
        if self.nts {
            let trust = NtsTrust {
                port: self.nts_port,
                certificate_authorities: sets.files.get(&self.certificate_set).cloned().unwrap_or_default(),
                system_cas: self.certificate_set == 0 && !sets.no_system,
                aeads: aeads.to_vec(),
                ..NtsTrust::default()
            };
            if !trust.system_cas && trust.certificate_authorities.is_empty() {
                warn(format!(
                    "no certificate is trusted in set {}: NTS with {} cannot work",
                    self.certificate_set, self.source.name
                ));
            }
            if self.key.is_some() {
                warn("the symmetric key is not used, as the source is authenticated with NTS".to_owned());
            }
            if self.source.version != NtpVersion::V4 {
                warn("NTS needs NTP version 4, which is used".to_owned());
                self.source.version = NtpVersion::V4;
            }
            self.source.authentication = Authentication::Nts(trust);
        } else if let Some(key) = self.key {
            self.source.authentication = Authentication::Key(key);
        }
        self.source
    }
}

/// chrony's way with limits that are odd: 6 to 10 unless given, brought into -7 to 24, and the longest raised to the
/// shortest.
fn poll_limits(min: Option<i64>, max: Option<i64>) -> PollLimits {
    const LOWEST: i64 = -7;
    const HIGHEST: i64 = 24;
    let min = min.filter(|min| *min >= LOWEST).unwrap_or(6).min(HIGHEST);
    let max = max.unwrap_or(10).clamp(LOWEST, HIGHEST).max(min);
    let exponent = |value: i64| i8::try_from(value).unwrap_or(i8::MAX);
    PollLimits { min: exponent(min), max: exponent(max), initial: exponent(min) }
}
