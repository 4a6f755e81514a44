//! `server`, `pool`, `peer` and their options.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use chime_nts::AeadAlgorithm;

use super::Reader;
use super::line::{Fault, Line, Parsed, Word, unknown};
use super::nts::{Nts, read_aead};
use super::reference_clock;
use crate::model::parse_address;
use crate::{
    AddressFamily, Authentication, Diagnostic, NtpVersion, NtsTrust, Origin, PollLimits, Severity, Source,
    SourceKind,
};

/// Associations there are unless `tos maxclock` says otherwise.
const ASSOCIATIONS_MAX_DEFAULT: usize = 10;
/// The most associations of a pool.
const POOL_MAX: usize = 16;
/// The longest poll interval, exponent of 2.
const POLL_MAX: i64 = 17;
/// Every option of an association.
pub(super) const OPTIONS: &[&str] = &[
    "aead", "bias", "burst", "ca", "iburst", "key", "maxpoll", "minpoll", "mode", "noselect", "noval", "nts",
    "prefer", "subtype", "true", "version",
];

/// An association whose site-wide defaults are not yet known.
pub(super) struct AssociationDraft {
    source: Source,
    is_pool: bool,
    min_poll: Option<i64>,
    max_poll: Option<i64>,
    nts: bool,
    nts_port: u16,
    authority: Option<PathBuf>,
    aead: Option<AeadAlgorithm>,
    key: Option<u32>,
    place: Diagnostic,
}

/// One association of any kind. A mistake ends the line, and what stood before it holds.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let family = family(line);
    let address = line.require("a host name or an address")?;
    if let Some((clock_type, unit)) = reference_clock::pseudo_address(address.text) {
        return reference_clock::read_classic(reader, line, &address, clock_type, unit);
    }
    let mut draft = AssociationDraft::new(line, family);
    let result = read_options(reader, line, &mut draft);
    if let Err(fault) = &result
        && fault.fatal
    {
        // A wrong value that costs the whole line, and stops nobody.
        let message = format!("{}; the whole line is ignored", fault.message);
        reader.push(Diagnostic::new(Severity::Warning, line.text, &fault.span, message, fault.help.clone()));
        return Ok(());
    }
    if result.is_err() {
        keep_authentication(reader, line, &mut draft);
    }
    if line.command.text == "peer" {
        reader.warn(line, &line.command, "ntpd has no symmetric mode: the peer is asked as a server");
    }
    if place(reader, line, &address, &mut draft)? {
        reader.associations.push(draft);
    }
    result
}

/// What `unpeer` takes away again once all files are read.
pub(super) enum Removal {
    /// A source with this host.
    Host(String),
    /// A reference clock, by its driver and unit.
    Clock(String, u8),
}

/// `unpeer ADDRESS` and `unpeer clock DRIVER [unit N]`.
pub(super) fn read_removal(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    family(line);
    let word = line.require("an address, or `clock` and a driver")?;
    let place = Diagnostic::new(Severity::Warning, line.text, &word.span(), "", None);
    let clock = reference_clock::pseudo_address(word.text).and_then(|(number, unit)| {
        reference_clock::driver_of(number).map(|driver| Removal::Clock(driver.to_owned(), unit))
    });
    let removal = if let Some(clock) = clock {
        clock
    } else if word.text == "clock" {
        let driver = line.require("the driver of a reference clock")?.text.to_owned();
        let has_unit = line.peek().is_some_and(|word| word.text == "unit");
        let unit = if has_unit {
            line.next();
            u8::try_from(line.integer_in(&(0..=255))?).unwrap_or(u8::MAX)
        } else {
            0
        };
        Removal::Clock(driver, unit)
    } else if word.text.parse::<u16>().is_ok() {
        reader.no_effect(line, &word, "numbers of associations are not known before they are there");
        return line.end();
    } else {
        let bare = word.text.trim_matches(['[', ']']);
        let host = parse_address(word.text).ok().filter(|_| bare.parse::<IpAddr>().is_err());
        Removal::Host(host.map_or_else(|| bare.to_owned(), |(host, _)| host))
    };
    line.end()?;
    reader.removals.push((removal, place));
    Ok(())
}

impl Reader<'_> {
    /// Takes away what `unpeer` says, wherever it stands: ntpd does it after all associations are there.
    pub(super) fn remove_associations(&mut self) {
        for (removal, place) in std::mem::take(&mut self.removals) {
            let before = self.associations.len() + self.clocks.len();
            match &removal {
                Removal::Host(host) => self.associations.retain(|draft| draft.source.name != *host),
                Removal::Clock(driver, unit) => self.clocks.retain(|draft| !draft.is(driver, *unit)),
            }
            if self.associations.len() + self.clocks.len() == before {
                let message = "nothing is taken away: no line has this source".to_owned();
                self.push(Diagnostic { message, ..place });
            }
        }
    }
}

/// `-4` or `-6` before an address.
pub(super) fn family(line: &mut Line<'_>) -> AddressFamily {
    let family = match line.peek().map(|word| word.text) {
        Some("-4") => AddressFamily::V4,
        Some("-6") => AddressFamily::V6,
        _ => return AddressFamily::Any,
    };
    line.next();
    family
}

fn read_options(reader: &mut Reader<'_>, line: &mut Line<'_>, draft: &mut AssociationDraft) -> Parsed<()> {
    while let Some(word) = line.next() {
        option(reader, line, &word, draft)?;
    }
    Ok(())
}

fn option(
    reader: &mut Reader<'_>,
    line: &mut Line<'_>,
    word: &Word<'_>,
    draft: &mut AssociationDraft,
) -> Parsed<()> {
    let source = &mut draft.source;
    match word.text {
        "iburst" => source.iburst = true,
        "prefer" => source.prefer = true,
        "noselect" => source.no_select = true,
        "true" => {
            source.trust = true;
            reader.warn(line, word, "`true` here means that only other such sources can outvote this one");
        }
        "burst" => source.burst = true,
        "minpoll" => draft.min_poll = Some(poll(reader, line)?),
        "maxpoll" => draft.max_poll = Some(poll(reader, line)?),
        "key" => draft.key = Some(key(line)?),
        "version" => version(reader, line, word, source)?,
        "bias" => source.offset_correction = line.number()?,
        "mode" | "subtype" => {
            line.integer()?;
            reader.no_effect(line, word, "it belongs to reference clocks");
        }
        "nts" => draft.nts = true,
        "noval" => reader.warn(
            line,
            word,
            "`noval` is not followed: the certificate is validated; to accept one that no authority has signed, use \
             `pinned-certificates` in Truechimer's own configuration",
        ),
        "ca" => draft.authority = Some(PathBuf::from(line.string("a path")?.text)),
        "aead" => draft.aead = read_aead(reader, line)?.or(draft.aead),
        "cert" => {
            let fault = Fault::new(word, "`cert` does not belong here: there are no client certificates");
            return Err(fault.with_help("for a certificate authority write `ca`").fatal());
        }
        "port" | "ntsport" | "tlsport" => {
            let fault = Fault::new(word, format!("unknown option `{}`", word.text));
            return Err(fault.with_help("with NTS write HOST:PORT; the port of NTP is always 123"));
        }
        _ => return Err(unknown(word, "option", OPTIONS)),
    }
    Ok(())
}

/// ntpd brings intervals into its range and says so.
fn poll(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<i64> {
    let word = line.peek();
    let exponent = line.integer()?;
    let used = exponent.clamp(0, POLL_MAX);
    if let Some(word) = word.filter(|_| used != exponent) {
        reader.warn(line, &word, &format!("poll intervals are from 0 to {POLL_MAX}; {used} is used"));
    }
    Ok(used)
}

fn key(line: &mut Line<'_>) -> Parsed<u32> {
    let number = line.integer_in(&(1..=65_535)).map_err(Fault::fatal)?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn version(reader: &mut Reader<'_>, line: &mut Line<'_>, word: &Word<'_>, source: &mut Source) -> Parsed<()> {
    source.version = match line.integer_in(&(1..=254))? {
        4 => NtpVersion::V4,
        3 => NtpVersion::V3,
        1 | 2 => {
            reader.warn(line, word, "requests have version 3, the oldest that is sent");
            NtpVersion::V3
        }
        _ => {
            reader.warn(line, word, "requests have version 4, the newest there is");
            NtpVersion::V4
        }
    };
    Ok(())
}

/// Authentication that was asked for behind a mistake. ntpd loses it, and asks without; here it is kept.
fn keep_authentication(reader: &mut Reader<'_>, line: &mut Line<'_>, draft: &mut AssociationDraft) {
    let rest = line.rest();
    for (at, word) in rest.iter().enumerate() {
        match word.text {
            "nts" if !draft.nts => {
                draft.nts = true;
                reader.warn(line, word, "`nts` behind a mistake is followed all the same; ntpd loses it");
            }
            "key" if draft.key.is_none() => {
                let Some(number) = rest.get(at + 1).and_then(|word| word.text.parse().ok()) else { continue };
                draft.key = Some(number);
                reader.warn(line, word, "`key` behind a mistake is followed all the same; ntpd loses it");
            }
            _ => {}
        }
    }
}

/// Fills in host and ports; `false` when nothing can be reached there.
fn place(
    reader: &mut Reader<'_>,
    line: &Line<'_>,
    word: &Word<'_>,
    draft: &mut AssociationDraft,
) -> Parsed<bool> {
    let bare = word.text.trim_matches(['[', ']']).split('%').next().unwrap_or("");
    let parsed = if bare.parse::<IpAddr>().is_ok() {
        Ok((word.text.trim_matches(['[', ']']).to_owned(), None))
    } else {
        parse_address(word.text)
    };
    let (host, port) = parsed.map_err(|message| Fault::new(word, message))?;
    match port {
        None => {}
        Some(_) if !draft.nts => {
            let message = "a port is understood with `nts` only; ntpd looks this up as a name and never finds it: the \
                           line is ignored";
            reader.warn(line, word, message);
            return Ok(false);
        }
        Some(port) if word.text.starts_with('[') => {
            let message = format!(
                "ntpd overlooks the port {port} behind an IPv6 address and uses 4460, as is done here"
            );
            reader.warn(line, word, &message);
        }
        Some(port) => draft.nts_port = port,
    }
    draft.source.name = host;
    Ok(true)
}

impl AssociationDraft {
    fn new(line: &Line<'_>, family: AddressFamily) -> Self {
        let place = Diagnostic::new(Severity::Warning, line.text, &line.command.span(), "", None);
        let source = Source {
            iburst: false,
            address_family: family,
            origin: Some(Origin { file: place.file.clone(), line: place.line }),
            ..Source::new("")
        };
        Self {
            source,
            is_pool: line.command.text == "pool",
            min_poll: None,
            max_poll: None,
            nts: false,
            nts_port: 4460,
            authority: None,
            aead: None,
            key: None,
            place,
        }
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.nts || self.key.is_some()
    }

    /// A warning about a key that `trustedkey` does not name.
    pub(super) fn untrusted_key(&self, trusted: &[RangeInclusive<u32>]) -> Option<Diagnostic> {
        let key = self.key.filter(|key| !trusted.iter().any(|range| range.contains(key)))?;
        let message =
            format!("key {key} is not among the `trustedkey`s: ntpd would not use it, and it is used here");
        Some(Diagnostic { message, ..self.place.clone() })
    }

    /// Fills in what depends on other lines; `count` is the size of a pool.
    pub(super) fn finish(mut self, site: &Nts, count: usize) -> Source {
        self.source.poll = poll_limits(self.min_poll, self.max_poll);
        if self.is_pool {
            self.source.kind = SourceKind::Pool { count, ignore: Vec::new() };
        }
        if self.nts {
            let authority = self.authority.or_else(|| site.authority.clone());
            self.source.authentication = Authentication::Nts(NtsTrust {
                port: self.nts_port,
                system_cas: authority.is_none(),
                aeads: self
                    .aead
                    .or(site.aead)
                    .map_or_else(|| AeadAlgorithm::OFFERED.to_vec(), |aead| vec![aead]),
                certificate_authorities: authority.into_iter().collect(),
                ..NtsTrust::default()
            });
            self.source.version = NtpVersion::V4;
        } else if let Some(key) = self.key {
            self.source.authentication = Authentication::Key(key);
        }
        self.source
    }
}

/// How many associations each pool keeps. ntpd fills up to `tos maxclock` associations, each line counting as one
/// itself; here the places are dealt out.
pub(super) fn pool_counts(drafts: &[AssociationDraft], wanted: Option<usize>) -> Vec<usize> {
    let pools = drafts.iter().filter(|draft| draft.is_pool).count();
    let places = wanted.unwrap_or(ASSOCIATIONS_MAX_DEFAULT).saturating_sub(drafts.len());
    let mut dealt = 0;
    let count = |draft: &AssociationDraft| {
        if !draft.is_pool {
            return 1;
        }
        let more = usize::from(dealt < places % pools);
        dealt += 1;
        (places / pools + more).clamp(1, POOL_MAX)
    };
    drafts.iter().map(count).collect()
}

/// 6 to 10 unless given, and the longest raised to the shortest.
fn poll_limits(min: Option<i64>, max: Option<i64>) -> PollLimits {
    let min = min.unwrap_or(6).min(max.unwrap_or(POLL_MAX));
    let max = max.unwrap_or(10).max(min);
    let exponent = |value: i64| i8::try_from(value).unwrap_or(i8::MAX);
    PollLimits { min: exponent(min), max: exponent(max), initial: exponent(min) }
}
