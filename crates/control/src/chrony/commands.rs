//! Commands that change something: what the engine or the shell is told, and what is wrong with a request.

use chime_engine::{
    AddressFamily, AskedFields, Authentication, Command, LocalReference, NtsSource, SourceChange,
    SourceConfig, SourceMatch, SourceMode, SourceOptions, SourceReport, Tuning,
};
use chime_server::{AccessRule, Subnet};
use chime_time::{Frequency, PollExponent};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::encode::{Address, address_at, float_at, signed_at, word_at};
use super::{Answer, Status, Table, Wish, code, find, matching};
use crate::Snapshot;

/// The stratum of a source that nobody follows.
const STRATUM_UNSYNCHRONIZED: i32 = 16;
/// Octets of a source's name in a request.
const NAME_OCTETS: usize = 256;
/// Polls for which a source is remembered that does not answer, unless the client says another number.
const UNREACHABLE_POLLS_MAX: u32 = 100_000;
/// The most measurements that become one.
const MEDIAN_FILTER_MAX: u32 = 1024;
/// Poll exponents that are taken.
const POLL_RANGE: std::ops::RangeInclusive<i32> = -7..=24;
/// Strata that our own clock can claim.
const STRATUM_MAX: u32 = 15;

/// `smoothtime reset` and `smoothtime activate`.
pub(super) fn smooth(payload: &[u8], snapshot: &Snapshot) -> Answer {
    if snapshot.program.smoothing.is_none() && snapshot.program.smear.is_none() {
        return Answer::Status(Status::NotEnabled);
    }
    match word_at(payload, 0) {
        0 => Answer::Wish(Wish::Smooth { begin: false }),
        1 => Answer::Wish(Wish::Smooth { begin: true }),
        _ => Answer::Status(Status::Invalid),
    }
}

/// What a command comes to. What this daemon has nothing for is a failure; what does not exist is invalid.
pub(super) fn execute(command: u16, payload: &[u8], snapshot: &Snapshot) -> Answer {
    let sources = &snapshot.engine.sources;
    match command {
        code::ONLINE => about(payload, sources, Command::Online),
        code::OFFLINE => about(payload, sources, Command::Offline),
        code::BURST => {
            let count = |at| u8::try_from(word_at(payload, at).clamp(1, 255)).unwrap_or(u8::MAX);
            let (good, total) = (count(40), count(44));
            about(payload, sources, |matching| Command::Burst { matching, good, total })
        }
        code::ONOFFLINE => Answer::Wish(Wish::OnOffline),
        code::REFRESH => Answer::Command(Command::Refresh),
        code::MAKESTEP if snapshot.program.steers_clock => Answer::Command(Command::MakeStep),
        code::RESELECT => Answer::Command(Command::Reselect),
        code::RESET_SOURCES => Answer::Command(Command::ResetSources),
        code::MODIFY_MINPOLL
        | code::MODIFY_MAXPOLL
        | code::MODIFY_MAXDELAY
        | code::MODIFY_MAXDELAYRATIO
        | code::MODIFY_MAXDELAYDEVRATIO
        | code::MODIFY_MINSTRATUM
        | code::MODIFY_POLLTARGET
        | code::MODIFY_OFFSET
        | code::MODIFY_SELECTOPTS => modify(command, payload, sources),
        code::MODIFY_MAKESTEP
        | code::MODIFY_MAXUPDATESKEW
        | code::RESELECTDISTANCE
        | code::LOCAL2
        | code::LOCAL3 => tune(command, payload),
        code::ADD_SOURCE => add(payload, sources),
        code::DEL_SOURCE => delete(payload, sources),
        code::ALLOW..=code::CMDDENYALL => access(command, payload),
        code::ACCHECK => check(payload, Table::Ntp),
        code::CMDACCHECK => check(payload, Table::Command),
        code::DUMP => Answer::Wish(Wish::Dump),
        code::REKEY => Answer::Wish(Wish::Rekey),
        code::CYCLELOGS => Answer::Wish(Wish::CycleLogs),
        code::RELOAD_SOURCES => Answer::Wish(Wish::ReloadSources),
        code::SHUTDOWN => Answer::Wish(Wish::Shutdown),
        // Taken where the clock is only watched too, as by chronyd: that nothing comes of it is said in the log.
        code::DFREQ | code::DOFFSET2 => {
            let value = float_at(payload, 0);
            // What is added to the error of the clock is taken from its pace.
            Answer::Command(if command == code::DFREQ {
                Command::ChangeFrequencyByHand(Frequency::from_ppm(-value))
            } else {
                Command::SlewByHand(-value)
            })
        }
        code::MAKESTEP => Answer::Status(Status::Failed),
        _ => Answer::Status(Status::Invalid),
    }
}

fn about(payload: &[u8], sources: &[SourceReport], command: impl FnOnce(SourceMatch) -> Command) -> Answer {
    match matching(payload, sources) {
        Some(matching) => Answer::Command(command(matching)),
        None => Answer::Status(Status::NoSuchSource),
    }
}

/// `manual`: whether the time may be typed in, and what is kept of it.
pub(super) fn manual(command: u16, payload: &[u8], snapshot: &Snapshot) -> Answer {
    let entries = snapshot.engine.manual.entries.len();
    match (command, word_at(payload, 0)) {
        (code::MANUAL, mode @ (0 | 1)) => Answer::Command(Command::ManualMode(mode == 1)),
        (code::MANUAL, 2) => Answer::Command(Command::ForgetEnteredTimes),
        (code::MANUAL, _) => Answer::Status(Status::Invalid),
        (_, place) => match usize::try_from(place).ok().filter(|place| *place < entries) {
            Some(place) => Answer::Command(Command::DeleteEnteredTime(place)),
            None => Answer::Status(Status::BadSample),
        },
    }
}

/// `settime`: seconds in two halves, and nanoseconds.
pub(super) fn set_time(payload: &[u8]) -> Answer {
    let seconds = u64::from(word_at(payload, 0)) << 32 | u64::from(word_at(payload, 4));
    let nanoseconds = word_at(payload, 8).min(999_999_999);
    Answer::Wish(Wish::SetTime { unix_seconds: seconds.cast_signed(), nanoseconds })
}

/// One source, by its address or `ID#`.
fn modify(command: u16, payload: &[u8], sources: &[SourceReport]) -> Answer {
    let Some(source) = find(sources, address_at(payload, 0)) else {
        return Answer::Status(Status::NoSuchSource);
    };
    let ratio = || float_at(payload, 20).clamp(0.0, 1e6);
    let poll = || i8::try_from(signed_at(payload, 20)).ok().map(PollExponent::new);
    let change = match command {
        // As chronyd: what is out of range has no effect.
        code::MODIFY_MINPOLL | code::MODIFY_MAXPOLL if !POLL_RANGE.contains(&signed_at(payload, 20)) => {
            return Answer::Status(Status::Success);
        }
        code::MODIFY_MINPOLL => poll().map(SourceChange::PollMin),
        code::MODIFY_MAXPOLL => poll().map(SourceChange::PollMax),
        code::MODIFY_MAXDELAY => Some(SourceChange::MaxDelay(float_at(payload, 20).clamp(0.0, 1e3))),
        code::MODIFY_MAXDELAYRATIO => Some(SourceChange::MaxDelayRatio(ratio())),
        code::MODIFY_MAXDELAYDEVRATIO => Some(SourceChange::MaxDelayDeviationRatio(ratio())),
        code::MODIFY_MINSTRATUM => {
            let stratum = signed_at(payload, 20).clamp(0, STRATUM_UNSYNCHRONIZED);
            Some(SourceChange::StratumMin(u8::try_from(stratum).unwrap_or(0)))
        }
        code::MODIFY_POLLTARGET => {
            Some(SourceChange::PollTarget(signed_at(payload, 20).max(1).unsigned_abs()))
        }
        code::MODIFY_OFFSET => Some(SourceChange::OffsetCorrection(float_at(payload, 24))),
        code::MODIFY_SELECTOPTS => Some(options(word_at(payload, 24), word_at(payload, 28))),
        _ => None,
    };
    match change {
        Some(change) => {
            Answer::Command(Command::Modify { matching: SourceMatch::Key(source.source_key()), change })
        }
        None => Answer::Status(Status::Failed),
    }
}

/// The two words have their options in different bits.
fn options(mask: u32, set: u32) -> SourceChange {
    let option = |in_mask: u32, in_set: u32| match (mask & in_mask != 0, set & in_set != 0) {
        (_, true) => Some(true),
        (true, false) => Some(false),
        (false, false) => None,
    };
    SourceChange::Options {
        no_select: option(1, flag::NO_SELECT),
        prefer: option(2, flag::PREFER),
        trust: option(4, flag::TRUST),
        require: option(8, flag::REQUIRE),
    }
}

fn tune(command: u16, payload: &[u8]) -> Answer {
    let tuning = match command {
        code::MODIFY_MAKESTEP => {
            let limit = signed_at(payload, 0);
            let threshold = float_at(payload, 4);
            Tuning::Step {
                threshold: (limit != 0 && threshold >= 0.0).then_some(threshold),
                updates: u32::try_from(limit).ok(),
            }
        }
        code::MODIFY_MAXUPDATESKEW => {
            Tuning::MaxUpdateSkew(Frequency::from_ppm(float_at(payload, 0).max(0.0)))
        }
        code::RESELECTDISTANCE => Tuning::ReselectDistance(float_at(payload, 0).max(0.0)),
        _ if word_at(payload, 0) == 0 => Tuning::Local(None),
        _ => Tuning::Local(Some(local(command == code::LOCAL3, payload))),
    };
    Answer::Command(Command::Tune(tuning))
}

/// Up to chronyc 4.5 some of it was not said.
fn local(is_new: bool, payload: &[u8]) -> LocalReference {
    let orphan = signed_at(payload, 12) != 0;
    let usual = if orphan { LocalReference::ORPHAN_WAIT_SECONDS } else { 0.0 };
    let seconds = |at: usize, otherwise: f64| if is_new { float_at(payload, at).max(0.0) } else { otherwise };
    LocalReference {
        stratum: u8::try_from(word_at(payload, 4).clamp(1, STRATUM_MAX)).unwrap_or(u8::MAX),
        reference_id: LocalReference::REFERENCE_ID,
        distance: float_at(payload, 8),
        activate: seconds(16, 0.0),
        orphan,
        wait_synchronized: seconds(20, 0.0),
        wait_unsynchronized: seconds(24, usual),
    }
}

fn delete(payload: &[u8], sources: &[SourceReport]) -> Answer {
    match find(sources, address_at(payload, 0)) {
        None => Answer::Status(Status::NoSuchSource),
        Some(source) => Answer::Command(match source.remote {
            Some(remote) => Command::RemoveSource(remote.ip()),
            None => Command::RemoveByKey(source.source_key()),
        }),
    }
}

/// Bits of a source that is added.
mod flag {
    pub(super) const ONLINE: u32 = 0x1;
    pub(super) const AUTO_OFFLINE: u32 = 0x2;
    pub(super) const IBURST: u32 = 0x4;
    pub(super) const PREFER: u32 = 0x8;
    pub(super) const NO_SELECT: u32 = 0x10;
    pub(super) const TRUST: u32 = 0x20;
    pub(super) const REQUIRE: u32 = 0x40;
    pub(super) const INTERLEAVED: u32 = 0x80;
    pub(super) const BURST: u32 = 0x100;
    pub(super) const NTS: u32 = 0x200;
    pub(super) const COPY: u32 = 0x400;
    pub(super) const MONOTONIC_FIELD: u32 = 0x800;
    pub(super) const CORRECTION_FIELD: u32 = 0x1000;
    pub(super) const V4: u32 = 0x2000;
    pub(super) const V6: u32 = 0x4000;
}

fn add(payload: &[u8], sources: &[SourceReport]) -> Answer {
    let flags = word_at(payload, 332);
    let has = |bit: u32| flags & bit != 0;
    let mode = match word_at(payload, 0) {
        1 => SourceMode::Server,
        // The port is the shell's to know.
        2 => SourceMode::Symmetric { local_port: 0 },
        3 => SourceMode::Pool {
            count: u8::try_from(word_at(payload, 288).clamp(1, 16)).unwrap_or(u8::MAX),
            ignore: Vec::new(),
        },
        _ => return Answer::Status(Status::Invalid),
    };
    let Some(name) = name_at(payload, 4) else { return Answer::Status(Status::InvalidName) };
    let address = name.parse::<IpAddr>().ok();
    let address_family = asked_family(flags);
    if address.is_some_and(|address| !address_family.admits(address)) {
        return Answer::Status(Status::InvalidFamily);
    }
    if address.is_some_and(|address| find(sources, Address::Ip(address.to_canonical())).is_some()) {
        return Answer::Status(Status::AlreadyPresent);
    }
    let (certificates, key) = (word_at(payload, 340), word_at(payload, 300));
    if certificates != 0 {
        // Sets of certificates have no numbers here.
        return Answer::Status(Status::Failed);
    }
    let (poll_min, poll_max) = poll_limits(payload);
    let port = |at| u16::try_from(word_at(payload, at)).unwrap_or(0);
    Answer::Wish(Wish::AddSource(Box::new(SourceConfig {
        port: port(260),
        mode,
        authentication: if has(flag::NTS) {
            Authentication::Nts(NtsSource { port: port(304), ..NtsSource::default() })
        } else if key != 0 {
            Authentication::Key(key)
        } else {
            Authentication::None
        },
        iburst: has(flag::IBURST),
        poll_min,
        poll_max,
        options: SourceOptions {
            no_select: has(flag::NO_SELECT),
            prefer: has(flag::PREFER),
            trust: has(flag::TRUST),
            require: has(flag::REQUIRE),
            offset_correction: float_at(payload, 328),
            smeared: false,
            stratum_min: u8::try_from(word_at(payload, 276).min(16)).unwrap_or(16),
            // 0 is what clients have there that are older than the option.
            unreachable_polls_max: match word_at(payload, 348) {
                0 => UNREACHABLE_POLLS_MAX,
                polls => polls,
            },
            copy_reference: has(flag::COPY),
            // -1 where nothing was said.
            samples_max: u32::try_from(signed_at(payload, 296)).ok(),
        },
        version: if word_at(payload, 284) == 3 { 3 } else { 4 },
        address_family,
        max_delay_seconds: float_at(payload, 308).clamp(0.0, 1e3),
        max_delay_ratio: float_at(payload, 312).clamp(0.0, 1e6),
        max_delay_deviation_ratio: float_at(payload, 316).clamp(0.0, 1e6),
        max_delay_quantile: match float_at(payload, 344) {
            share if share > 0.0 => share.clamp(0.05, 0.95),
            _ => 0.0,
        },
        min_delay_seconds: float_at(payload, 320).clamp(0.0, 1e3),
        jitter_asymmetry: Some(float_at(payload, 324)).filter(|it| it.abs() <= 0.5).unwrap_or(0.0),
        burst: has(flag::BURST),
        presend_from: i8::try_from(signed_at(payload, 272))
            .ok()
            .filter(|from| i32::from(*from) <= *POLL_RANGE.end())
            .map(PollExponent::new),
        median_filter: word_at(payload, 336).min(MEDIAN_FILTER_MAX),
        poll_target: word_at(payload, 280).max(1),
        offline_on_failure: has(flag::AUTO_OFFLINE),
        online: has(flag::ONLINE),
        interleaved: has(flag::INTERLEAVED),
        fields: asked_fields(flags),
        ..SourceConfig::server(&name)
    })))
}

fn asked_family(flags: u32) -> AddressFamily {
    match (flags & flag::V4 != 0, flags & flag::V6 != 0) {
        (true, false) => AddressFamily::V4,
        (false, true) => AddressFamily::V6,
        _ => AddressFamily::Any,
    }
}

fn asked_fields(flags: u32) -> AskedFields {
    let has = |bit: u32| flags & bit != 0;
    AskedFields { monotonic: has(flag::MONOTONIC_FIELD), correction: has(flag::CORRECTION_FIELD) }
}

fn poll_limits(payload: &[u8]) -> (PollExponent, PollExponent) {
    let exponent = |at| {
        let exponent = signed_at(payload, at).clamp(*POLL_RANGE.start(), *POLL_RANGE.end());
        PollExponent::new(i8::try_from(exponent).unwrap_or(6))
    };
    let min = exponent(264);
    (min, exponent(268).max(min))
}

/// A printable name that ends within its place.
fn name_at(payload: &[u8], at: usize) -> Option<String> {
    let octets = payload.get(at..at + NAME_OCTETS)?;
    let end = octets.iter().position(|octet| *octet == 0)?;
    let name = std::str::from_utf8(&octets[..end]).ok()?;
    let is_name = !name.is_empty()
        && octets[NAME_OCTETS - 1] == 0
        && name.bytes().all(|octet| octet.is_ascii_graphic());
    is_name.then(|| name.to_owned())
}

/// `allow`, `deny` and theirs for commands, in the order of their numbers.
fn access(command: u16, payload: &[u8]) -> Answer {
    let number = command - code::ALLOW;
    let Some(subnet) = subnet(payload) else { return Answer::Status(Status::BadSubnet) };
    let table = if number < 4 { Table::Ntp } else { Table::Command };
    let rule = AccessRule { allow: number % 4 < 2, all: number % 2 == 1, subnet };
    Answer::Wish(Wish::Access { table, rule })
}

/// `Some(None)` for every address.
fn subnet(payload: &[u8]) -> Option<Option<Subnet>> {
    let prefix = signed_at(payload, 20);
    match address_at(payload, 0) {
        Address::Unspecified => (prefix == 0).then_some(None),
        Address::Ip(address) => Some(Some(Subnet::new(address, u8::try_from(prefix).ok()?).ok()?)),
        Address::Id(_) => None,
    }
}

fn check(payload: &[u8], table: Table) -> Answer {
    match address_at(payload, 0) {
        Address::Ip(address) => Answer::Wish(Wish::CheckAccess { table, address }),
        Address::Unspecified | Address::Id(_) => Answer::Status(Status::AccessDenied),
    }
}

/// A mask with all bits.
pub(super) fn exact(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    }
}
