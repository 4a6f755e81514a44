//! Reports as comma-separated values, field for field those of `chronyc -c`.

use std::fmt::Write as _;

use chime_engine::SourceReport;

use crate::snapshot::SmoothingView;
use crate::text::number::{positive_zero, whole_seconds};
use crate::text::{
    Layout, authenticated_letter, has_cookies, kind_letter, leap_of, leap_words, local_reference_id,
    mode_letters, mode_words, option_letters, poll_seconds, reference_id_hex, reference_letters,
    reference_name, server_counts, sign, test_groups, timestamping_words,
};
use crate::{Snapshot, visible};

/// `chronyc -c tracking`.
#[must_use]
pub fn tracking(snapshot: &Snapshot, layout: Layout) -> String {
    let tracking = &snapshot.engine.tracking;
    line(&[
        reference_id_hex(tracking.reference_id),
        reference_name(tracking, layout.names),
        tracking.stratum.to_string(),
        nine(tracking.reference_unix_seconds),
        nine(tracking.system_offset_seconds),
        nine(tracking.last_offset_seconds),
        nine(tracking.rms_offset_seconds),
        three(tracking.frequency_ppm),
        three(tracking.residual_frequency_ppm),
        three(tracking.skew_ppm),
        nine(tracking.root_delay_seconds),
        nine(tracking.root_dispersion_seconds),
        format!("{:.1}", tracking.update_interval_seconds),
        leap_words(tracking.leap).to_owned(),
    ])
}

/// `chronyc -c sources`.
#[must_use]
pub fn sources(snapshot: &Snapshot, layout: Layout) -> String {
    each(snapshot, layout, |source| {
        vec![
            kind_letter(source).to_string(),
            sign(source.state).to_string(),
            layout.names.of(source).into_owned(),
            source.stratum.to_string(),
            source.poll.to_string(),
            format!("{:o}", source.reach),
            age(source.last_sample_age_seconds),
            nine(source.offset_seconds),
            nine(source.measured_offset_seconds),
            nine(source.error_seconds),
        ]
    })
}

/// `chronyc -c sourcestats`.
#[must_use]
pub fn sourcestats(snapshot: &Snapshot, layout: Layout) -> String {
    each(snapshot, layout, |source| {
        let statistics = &source.statistics;
        vec![
            layout.names.of(source).into_owned(),
            statistics.samples.to_string(),
            statistics.runs.to_string(),
            age(Some(statistics.span_seconds)),
            three(statistics.frequency_ppm),
            three(statistics.skew_ppm),
            nine(statistics.offset_seconds),
            nine(statistics.standard_deviation_seconds),
        ]
    })
}

/// `chronyc -c authdata`.
#[must_use]
pub fn authdata(snapshot: &Snapshot, layout: Layout) -> String {
    each(snapshot, layout, |source| {
        let authentication = &source.authentication;
        vec![
            layout.names.of(source).into_owned(),
            mode_letters(authentication.mode).to_owned(),
            authentication.key_id.to_string(),
            authentication.key_type.to_string(),
            authentication.key_bits.to_string(),
            age(authentication.last_establishment_age_seconds),
            authentication.attempts.to_string(),
            u8::from(authentication.nak).to_string(),
            authentication.cookies.to_string(),
            authentication.cookie_octets.to_string(),
        ]
    })
}

/// Name, cookies, octets of one, age of the keys, attempts since, NAK: of the NTS sources that hold cookies.
#[must_use]
pub fn ntsdatastats(snapshot: &Snapshot, layout: Layout) -> String {
    let listed =
        visible(&snapshot.engine.sources, layout.all).into_iter().filter(|source| has_cookies(source));
    let fields = |source: &SourceReport| {
        let authentication = &source.authentication;
        line(&[
            layout.names.of(source).into_owned(),
            authentication.cookies.to_string(),
            authentication.cookie_octets.to_string(),
            age(authentication.last_establishment_age_seconds),
            authentication.attempts.to_string(),
            u8::from(authentication.nak).to_string(),
        ])
    };
    listed.map(fields).collect()
}

/// `chronyc -c smoothing`; nothing where nothing is smoothed.
#[must_use]
pub fn smoothing(snapshot: &Snapshot) -> String {
    let six = |value: f64| format!("{:.6}", positive_zero(value));
    let fields = |view: SmoothingView| {
        line(&[
            view.active_word().to_owned(),
            view.kind_words().to_owned(),
            nine(view.offset_seconds),
            six(view.rate_ppm),
            six(view.change_ppm),
            format!("{:.1}", view.since_update_seconds),
            format!("{:.1}", view.remaining_seconds),
        ])
    };
    SmoothingView::of(snapshot).map(fields).unwrap_or_default()
}

/// `chronyc -c rtcdata`; nothing where that clock is not looked at.
#[must_use]
pub fn rtcdata(snapshot: &Snapshot) -> String {
    let Some(clock) = &snapshot.program.real_time_clock else { return String::new() };
    line(&[
        nine(clock.reference_unix_seconds as f64),
        clock.samples.to_string(),
        clock.runs.to_string(),
        clock.span_seconds.to_string(),
        format!("{:.6}", positive_zero(clock.fast_seconds)),
        three(clock.rate_ppm),
    ])
}

/// `chronyc -c selectdata`.
#[must_use]
pub fn selectdata(snapshot: &Snapshot, layout: Layout) -> String {
    each(snapshot, layout, |source| {
        let selection = &source.selection;
        let mut fields = vec![
            source.state.to_string(),
            layout.names.of(source).into_owned(),
            authenticated_letter(source).to_string(),
        ];
        let options = [selection.configured, selection.effective].map(option_letters);
        fields.extend(options.as_flattened().iter().map(char::to_string));
        fields.extend([
            age(Some(selection.last_sample_age_seconds)),
            format!("{:.1}", selection.score),
            nine(selection.low_seconds),
            nine(selection.high_seconds),
            leap_words(selection.leap).to_owned(),
        ]);
        fields
    })
}

/// `chronyc -c ntpdata`.
#[must_use]
pub fn ntpdata(snapshot: &Snapshot, only: Option<&str>, _layout: Layout) -> String {
    let wanted = |source: &&SourceReport| only.is_none_or(|name| crate::text::is_called(source, name));
    snapshot
        .engine
        .sources
        .iter()
        .filter(|source| source.remote.is_some())
        .filter(wanted)
        .map(|source| line(&ntpdata_fields(source)))
        .collect()
}

/// `chronyc -c activity`.
#[must_use]
pub fn activity(snapshot: &Snapshot, _layout: Layout) -> String {
    let activity = &snapshot.engine.activity;
    let counts = [
        activity.online,
        activity.offline,
        activity.burst_online,
        activity.burst_offline,
        activity.unresolved,
    ];
    line(&counts.map(|count| count.to_string()))
}

/// `chronyc -c serverstats`.
#[must_use]
pub fn serverstats(snapshot: &Snapshot, _layout: Layout) -> String {
    line(&server_counts(snapshot).map(|count| count.to_string()))
}

/// `chronyc -c clients`.
#[must_use]
pub fn clients(snapshot: &Snapshot, _layout: Layout) -> String {
    const UNKNOWN_RATE: &str = "127";
    let rate = |log2: Option<f32>| log2.map_or_else(|| UNKNOWN_RATE.to_owned(), |log2| format!("{log2:.0}"));
    let mut out = String::new();
    for client in &snapshot.clients {
        out.push_str(&line(&[
            client.address.to_string(),
            client.ntp.hits.to_string(),
            client.ntp.drops.to_string(),
            rate(client.ntp.interval_log2),
            rate(client.ntp.limited_interval_log2),
            age(client.ntp.last_age_seconds),
            client.command.hits.to_string(),
            client.command.drops.to_string(),
            rate(client.command.interval_log2),
            age(client.command.last_age_seconds),
        ]));
    }
    out
}

fn ntpdata_fields(source: &SourceReport) -> Vec<String> {
    let ntp = &source.ntp;
    let yes = |value| if value { "Yes" } else { "No" }.to_owned();
    let remote = source.remote.map(|remote| (remote.ip().to_string(), remote.port()));
    let (address, port) = remote.unwrap_or_default();
    let mut fields = vec![
        address,
        reference_id_hex(source.reference_id),
        port.to_string(),
        ntp.local.map_or_else(|| "0.0.0.0".to_owned(), |local| local.to_string()),
        reference_id_hex(local_reference_id(ntp.local)),
        leap_words(leap_of(ntp)).to_owned(),
        ntp.version.to_string(),
        mode_words(ntp.mode).to_owned(),
        ntp.stratum.to_string(),
        ntp.poll.to_string(),
        poll_seconds(ntp.poll),
        ntp.precision.to_string(),
        nine(2_f64.powi(i32::from(ntp.precision))),
        format!("{:.6}", ntp.root_delay_seconds),
        format!("{:.6}", ntp.root_dispersion_seconds),
        reference_id_hex(ntp.reference_id),
        reference_letters(ntp),
        nine(ntp.reference_unix_seconds),
        nine(ntp.offset_seconds),
        nine(ntp.delay_seconds),
        nine(ntp.dispersion_seconds),
        nine(ntp.response_seconds),
        format!("{:.2}", positive_zero(ntp.jitter_asymmetry)),
    ];
    fields.extend(test_groups(ntp.tests));
    fields.extend([
        yes(ntp.interleaved),
        yes(ntp.authenticated),
        timestamping_words(ntp.tx_timestamping).to_owned(),
        timestamping_words(ntp.rx_timestamping).to_owned(),
    ]);
    let counts = [
        ntp.total_tx,
        ntp.total_rx,
        ntp.total_valid_rx,
        ntp.total_good_rx,
        ntp.total_kernel_tx,
        ntp.total_kernel_rx,
        ntp.total_hardware_tx,
        ntp.total_hardware_rx,
    ];
    fields.extend(counts.map(|count| count.to_string()));
    fields
}

fn each(snapshot: &Snapshot, layout: Layout, fields: impl Fn(&SourceReport) -> Vec<String>) -> String {
    let listed = visible(&snapshot.engine.sources, layout.all);
    listed.into_iter().map(|source| line(&fields(source))).collect()
}

fn line(fields: &[String]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", fields.join(","));
    out
}

fn nine(value: f64) -> String {
    format!("{:.9}", positive_zero(value))
}

fn three(value: f64) -> String {
    format!("{:.3}", positive_zero(value))
}

/// Whole seconds; never is the largest number of 32 bits.
fn age(seconds: Option<f64>) -> String {
    seconds.map_or(u64::from(u32::MAX), whole_seconds).to_string()
}
