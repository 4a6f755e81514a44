//! The payloads of the reports, from the snapshot. Signs of offsets are those of the snapshot, which are chrony's.

use chime_discipline::MANUAL_ENTRIES_MAX;
use chime_engine::{
    ActivityReport, AuthenticationMode, LeapReport, ManualReport, NTP_PORT, SelectionOptionsReport,
    SourceKind, SourceReport, TimestampSource, TrackingReport,
};
use std::net::IpAddr;

use super::encode::{Address, Payload, word_at};
use super::{Answer, Status, Wish, code};
use crate::snapshot::SmoothingView;
use crate::text::{server_counts, sign};
use crate::{ClientReport, Snapshot};

/// Clients in one reply.
const CLIENTS_MAX: usize = 8;
/// Octets of a client in a reply.
const CLIENT_OCTETS: usize = 60;
/// Octets of a source's name in a reply.
const NAME_OCTETS: usize = 256;
/// An average interval that is not known.
const INTERVAL_UNKNOWN: i8 = 127;
/// Octets of a time that was typed in, in a reply.
const MANUAL_ENTRY_OCTETS: usize = 24;

pub(super) fn source_count(snapshot: &Snapshot) -> Answer {
    report(2, |out| {
        out.count(snapshot.engine.sources.len() as u64);
    })
}

pub(super) fn source_data(source: &SourceReport) -> Answer {
    let state = match sign(source.state) {
        '*' => 0,
        'x' => 2,
        '~' => 3,
        '+' => 4,
        '-' => 5,
        _ => 1,
    };
    report(3, |out| {
        out.address(if source.kind == SourceKind::ReferenceClock {
            // Where there is no field for it, the reference identifier is the address.
            Address::Ip(IpAddr::from(source.reference_id))
        } else {
            address_of(source)
        })
        .half(i16::from(source.poll).cast_unsigned())
        .half(u16::from(source.stratum))
        .half(state)
        .half(match source.kind {
            SourceKind::Server | SourceKind::Pool => 0,
            SourceKind::Peer => 1,
            SourceKind::ReferenceClock => 2,
        })
        .half(0)
        .half(u16::from(source.reach))
        .age(source.last_sample_age_seconds)
        .float(source.measured_offset_seconds)
        .float(source.offset_seconds)
        .float(source.error_seconds);
    })
}

pub(super) fn tracking(tracking: &TrackingReport) -> Answer {
    report(5, |out| {
        out.octets(&tracking.reference_id)
            .address(ip(tracking.address))
            .half(u16::from(tracking.stratum))
            .half(u16::from(leap(tracking.leap)))
            .time(tracking.reference_unix_seconds)
            .float(tracking.system_offset_seconds)
            .float(tracking.last_offset_seconds)
            .float(tracking.rms_offset_seconds)
            .float(tracking.frequency_ppm)
            .float(tracking.residual_frequency_ppm)
            .float(tracking.skew_ppm)
            .float(tracking.root_delay_seconds)
            .float(tracking.root_dispersion_seconds)
            .float(tracking.update_interval_seconds);
    })
}

pub(super) fn source_statistics(source: &SourceReport) -> Answer {
    let statistics = &source.statistics;
    report(6, |out| {
        out.octets(&source.reference_id)
            .address(address_of(source))
            .word(statistics.samples)
            .word(statistics.runs)
            .age(Some(statistics.span_seconds))
            .float(statistics.standard_deviation_seconds)
            .float(statistics.frequency_ppm)
            .float(statistics.skew_ppm)
            .float(statistics.offset_seconds)
            .float(statistics.offset_error_seconds);
    })
}

pub(super) fn activity(activity: &ActivityReport) -> Answer {
    report(12, |out| {
        out.word(activity.online)
            .word(activity.offline)
            .word(activity.burst_online)
            .word(activity.burst_offline)
            .word(activity.unresolved);
    })
}

pub(super) fn selection_data(source: &SourceReport) -> Answer {
    let selection = &source.selection;
    let options = |options: SelectionOptionsReport| {
        u16::from(options.no_select)
            | u16::from(options.prefer) << 1
            | u16::from(options.trust) << 2
            | u16::from(options.require) << 3
    };
    report(23, |out| {
        out.octets(&source.reference_id)
            .address(address_of(source))
            .octets(&[
                u8::try_from(source.state).unwrap_or(b'?'),
                u8::from(source.authentication.mode != AuthenticationMode::None),
                leap(selection.leap),
                0,
            ])
            .half(options(selection.configured))
            .half(options(selection.effective))
            .age(Some(selection.last_sample_age_seconds))
            .float(selection.score)
            .float(selection.low_seconds)
            .float(selection.high_seconds);
    })
}

/// Until chrony 4.5 there were no counts of kernel and hardware stamps, and until 4.2 none of good answers.
pub(super) fn ntp_data(source: &SourceReport, request_octets: usize) -> Answer {
    let ntp = &source.ntp;
    let is_long = request_octets >= 172;
    report(if is_long { 26 } else { 16 }, |out| {
        out.address(address_of(source))
            .address(ip(ntp.local))
            .half(source.remote.map_or(NTP_PORT, |remote| remote.port()))
            .octets(&[ntp.leap, ntp.version, ntp.mode, ntp.stratum])
            .octets(&ntp.poll.to_be_bytes())
            .octets(&ntp.precision.to_be_bytes())
            .float(ntp.root_delay_seconds)
            .float(ntp.root_dispersion_seconds)
            .octets(&ntp.reference_id)
            .time(ntp.reference_unix_seconds)
            .float(ntp.offset_seconds)
            .float(ntp.delay_seconds)
            .float(ntp.dispersion_seconds)
            .float(ntp.response_seconds)
            .float(ntp.jitter_asymmetry)
            .half(ntp.tests & 0x3ff | u16::from(ntp.interleaved) << 14 | u16::from(ntp.authenticated) << 15)
            .octets(&[stamped(ntp.tx_timestamping), stamped(ntp.rx_timestamping)]);
        for count in [ntp.total_tx, ntp.total_rx, ntp.total_valid_rx, ntp.total_good_rx] {
            out.count(count);
        }
        if is_long {
            out.count(ntp.total_kernel_tx)
                .count(ntp.total_kernel_rx)
                .count(ntp.total_hardware_tx)
                .count(ntp.total_hardware_rx)
                .fill(0xff, 16);
        } else {
            out.fill(0xff, 12);
        }
    })
}

pub(super) fn authentication_data(source: &SourceReport) -> Answer {
    let authentication = &source.authentication;
    let mode = match authentication.mode {
        AuthenticationMode::None => 0,
        AuthenticationMode::Key => 1,
        AuthenticationMode::Nts => 2,
    };
    report(20, |out| {
        out.half(mode)
            .half(authentication.key_type)
            .word(authentication.key_id)
            .half(authentication.key_bits)
            .half(u16::try_from(authentication.attempts).unwrap_or(u16::MAX))
            .age(authentication.last_establishment_age_seconds)
            .half(u16::from(authentication.cookies))
            .half(authentication.cookie_octets)
            .half(u16::from(authentication.nak))
            .half(0);
    })
}

/// The name as configured. chronyc wants the last octet to be zero; a name of more than 255 octets there is not in DNS.
pub(super) fn source_name(source: &SourceReport) -> Answer {
    let name = source.name.as_bytes();
    let name = &name[..name.len().min(NAME_OCTETS - 1)];
    report(19, |out| {
        out.octets(name).fill(0, NAME_OCTETS - name.len());
    })
}

/// Until chrony 4.3 the counts had 32 bits and were fewer: five, then eight, then eleven.
pub(super) fn server_statistics(snapshot: &Snapshot, request_octets: usize) -> Answer {
    let [
        received,
        dropped,
        commands,
        commands_dropped,
        log_dropped,
        ke,
        ke_dropped,
        authenticated,
        interleaved,
        held,
        span,
        stamps @ ..,
    ] = server_counts(snapshot);
    // The one that asks has been received as well.
    let commands = commands + 1;
    let eleven = [
        received,
        ke,
        commands,
        dropped,
        ke_dropped,
        commands_dropped,
        log_dropped,
        authenticated,
        interleaved,
        held,
        span,
    ];
    let short = |kind, counts: &[u64]| {
        report(kind, |out| {
            for count in counts {
                out.count(*count);
            }
        })
    };
    match request_octets {
        ..60 => short(14, &[received, commands, dropped, commands_dropped, log_dropped]),
        60..72 => short(22, &eleven[..8]),
        72..196 => short(24, &eleven),
        _ => report(25, |out| {
            for count in eleven.into_iter().chain(stamps) {
                out.long(count);
            }
            out.fill(0xff, 32);
        }),
    }
}

/// Up to eight clients from an index on; the counts of those that are reported may begin again after it.
pub(super) fn clients(clients: &[ClientReport], request: &[u8]) -> Answer {
    let [first, wanted, hits_min, reset] = [0, 4, 8, 12].map(|at| word_at(request, at));
    let [first, wanted] = [first, wanted].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let wanted = wanted.min(CLIENTS_MAX);
    let chosen: Vec<(usize, &ClientReport)> = clients
        .iter()
        .enumerate()
        .skip(first)
        .filter(|(_, client)| most_hits(client) >= hits_min)
        .take(wanted)
        .collect();
    let is_full = chosen.len() == wanted;
    let next = chosen.last().filter(|_| is_full).map_or(clients.len(), |(index, _)| index + 1);
    let answer = report(21, |out| {
        out.count(clients.len() as u64).count(next as u64).count(chosen.len() as u64);
        for (_, one) in &chosen {
            client(out, one);
        }
        out.fill(0, (CLIENTS_MAX - chosen.len()) * CLIENT_OCTETS);
    });
    match answer {
        Answer::Report(kind, payload) if reset != 0 => {
            let addresses = chosen.iter().map(|(_, client)| client.address).collect();
            Answer::Resetting { kind, payload, addresses }
        }
        answer => answer,
    }
}

/// The times that were typed in.
pub(super) fn manual_list(manual: &ManualReport) -> Answer {
    let entries = &manual.entries[..manual.entries.len().min(MANUAL_ENTRIES_MAX)];
    report(18, |out| {
        out.count(entries.len() as u64);
        for entry in entries {
            out.time(entry.unix_seconds)
                .float(entry.slewed_seconds)
                .float(entry.original_seconds)
                .float(entry.residual_seconds);
        }
        out.fill(0, (MANUAL_ENTRIES_MAX - entries.len()) * MANUAL_ENTRY_OCTETS);
    })
}

fn most_hits(client: &ClientReport) -> u32 {
    client.ntp.hits.max(client.ke.hits).max(client.command.hits)
}

fn client(out: &mut Payload, client: &ClientReport) {
    let ClientReport { address, ntp, ke, command } = client;
    out.address(ip(Some(*address))).word(ntp.hits).word(ke.hits).word(command.hits);
    out.word(ntp.drops).word(ke.drops).word(command.drops);
    for interval in [ntp.interval_log2, ke.interval_log2, command.interval_log2, ntp.limited_interval_log2] {
        out.octets(&rate(interval).to_be_bytes());
    }
    out.age(ntp.last_age_seconds).age(ke.last_age_seconds).age(command.last_age_seconds);
}

/// The real-time clock, or what is asked of it; the time of a report is what that clock showed.
pub(super) fn real_time_clock(command: u16, snapshot: &Snapshot) -> Answer {
    let Some(clock) = &snapshot.program.real_time_clock else { return Answer::Status(Status::NoRtc) };
    match command {
        code::WRITERTC => Answer::Wish(Wish::WriteRealTimeClock),
        code::TRIMRTC => Answer::Wish(Wish::TrimRealTimeClock),
        _ => report(7, |out| {
            let half = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
            out.time(clock.reference_unix_seconds as f64)
                .half(half(clock.samples))
                .half(half(clock.runs))
                .count(u64::try_from(clock.span_seconds).unwrap_or(0))
                .float(clock.fast_seconds)
                .float(clock.rate_ppm);
        }),
    }
}

/// The smoothing of everything, or that of leap seconds alone.
pub(super) fn smoothing(snapshot: &Snapshot) -> Answer {
    const ACTIVE: u32 = 1;
    const LEAP_SECONDS_ONLY: u32 = 2;
    let Some(view) = SmoothingView::of(snapshot) else { return Answer::Status(Status::NotEnabled) };
    let flag = |is: bool, flag: u32| if is { flag } else { 0 };
    report(13, |out| {
        out.word(flag(view.active, ACTIVE) | flag(view.leap_seconds_only, LEAP_SECONDS_ONLY))
            .float(view.offset_seconds)
            .float(view.rate_ppm)
            .float(view.change_ppm)
            .float(view.since_update_seconds)
            .float(view.remaining_seconds);
    })
}

/// An average interval in log2 seconds.
fn rate(log2: Option<f32>) -> i8 {
    #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
    log2.map_or(INTERVAL_UNKNOWN, |log2| log2.round_ties_even() as i8)
}

fn report(kind: u16, write: impl FnOnce(&mut Payload)) -> Answer {
    let mut payload = Payload::default();
    write(&mut payload);
    Answer::Report(kind, payload)
}

fn address_of(source: &SourceReport) -> Address {
    match (super::ip_of(source), source.kind) {
        (_, SourceKind::ReferenceClock) => Address::Unspecified,
        (Some(address), _) => ip(Some(address)),
        (None, _) => Address::Id(source.place_number()),
    }
}

fn ip(address: Option<IpAddr>) -> Address {
    address.map_or(Address::Unspecified, |address| Address::Ip(address.to_canonical()))
}

const fn leap(leap: LeapReport) -> u8 {
    match leap {
        LeapReport::Normal => 0,
        LeapReport::Insert => 1,
        LeapReport::Delete => 2,
        LeapReport::Unsynchronized => 3,
    }
}

const fn stamped(source: Option<TimestampSource>) -> u8 {
    match source {
        Some(TimestampSource::Daemon) => b'D',
        Some(TimestampSource::Kernel) => b'K',
        Some(TimestampSource::Hardware) => b'H',
        None => 0,
    }
}
