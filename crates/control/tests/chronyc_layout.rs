//! Our reports against output of chronyc: what it printed is read back into a snapshot, and the
//! snapshot must print the same, column for column.

use chime_control::text::{self, Layout};
use chime_control::{ClientReport, Names, Snapshot, UseReport, csv};
use chime_engine::{
    AuthenticationMode, LeapReport, NtpReport, SelectionOptionsReport, SourceReport, TimestampSource,
};

const LAYOUT: Layout = Layout { names: Names::Configured, all: true, paint: chime_control::Paint::Plain };

#[test]
fn sources_are_as_in_chronyc() {
    let mut snapshot = Snapshot::default();
    for row in rows("sources.txt", 2) {
        let state = row.as_bytes()[1] as char;
        let fields: Vec<&str> = row[3..].split(['[', ']', ' ']).filter(|f| !f.is_empty()).collect();
        snapshot.engine.sources.push(SourceReport {
            // Of the letters of `selectdata`, one that shows this sign.
            state: if state == '-' { 'P' } else { state },
            name: fields[0].to_owned(),
            stratum: number(fields[1]),
            poll: number(fields[2]),
            reach: u8::from_str_radix(fields[3], 8).expect("an octal number"),
            last_sample_age_seconds: fields[4].parse().ok(),
            offset_seconds: with_unit(fields[5]),
            measured_offset_seconds: with_unit(fields[6]),
            error_seconds: with_unit(fields[8]),
            ..SourceReport::default()
        });
    }
    assert_eq!(text::sources(&snapshot, LAYOUT), golden("sources.txt"));
}

#[test]
fn sourcestats_are_as_in_chronyc() {
    let mut snapshot = Snapshot::default();
    for row in rows("sourcestats.txt", 2) {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let mut source = SourceReport { name: fields[0].to_owned(), ..SourceReport::default() };
        let statistics = &mut source.statistics;
        statistics.samples = number(fields[1]);
        statistics.runs = number(fields[2]);
        statistics.span_seconds = number(fields[3]);
        statistics.frequency_ppm = number(fields[4]);
        statistics.skew_ppm = number(fields[5]);
        statistics.offset_seconds = with_unit(fields[6]);
        statistics.standard_deviation_seconds = with_unit(fields[7]);
        snapshot.engine.sources.push(source);
    }
    assert_eq!(text::sourcestats(&snapshot, LAYOUT), golden("sourcestats.txt"));
}

#[test]
fn authdata_is_as_in_chronyc() {
    let mut snapshot = Snapshot::default();
    for row in rows("authdata.txt", 2) {
        snapshot.engine.sources.push(authentication(&row.split_whitespace().collect::<Vec<_>>()));
    }
    assert_eq!(text::authdata(&snapshot, LAYOUT), golden("authdata.txt"));
}

#[test]
fn selectdata_is_as_in_chronyc() {
    let mut snapshot = Snapshot::default();
    for row in rows("selectdata.txt", 2) {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let mut source =
            SourceReport { state: letter(fields[0]), name: fields[1].to_owned(), ..SourceReport::default() };
        if fields[2] == "Y" {
            source.authentication.mode = AuthenticationMode::Nts;
        }
        source.selection.configured = options(fields[3]);
        source.selection.effective = options(fields[4]);
        source.selection.last_sample_age_seconds = number(fields[5]);
        source.selection.score = number(fields[6]);
        source.selection.low_seconds = with_unit(fields[7]);
        source.selection.high_seconds = with_unit(fields[8]);
        source.selection.leap =
            if fields[9] == "N" { LeapReport::Normal } else { LeapReport::Unsynchronized };
        snapshot.engine.sources.push(source);
    }
    assert_eq!(text::selectdata(&snapshot, LAYOUT), golden("selectdata.txt"));
}

#[test]
fn tracking_is_as_in_chronyc() {
    let mut snapshot = Snapshot::default();
    let tracking = &mut snapshot.engine.tracking;
    tracking.reference_id = [127, 0, 0, 3];
    tracking.name = Some("keyed.test".to_owned());
    tracking.stratum = 4;
    tracking.reference_unix_seconds = 1_795_189_133.5;
    tracking.system_offset_seconds = -2.560e-6;
    tracking.last_offset_seconds = 0.483e-6;
    tracking.rms_offset_seconds = 3.617e-6;
    tracking.frequency_ppm = 0.014;
    tracking.residual_frequency_ppm = 0.003;
    tracking.skew_ppm = 0.746;
    tracking.root_delay_seconds = 7.005e-6;
    tracking.root_dispersion_seconds = 7.678e-6;
    tracking.update_interval_seconds = 4.0;
    tracking.leap = LeapReport::Normal;
    assert_eq!(text::tracking(&snapshot, LAYOUT), golden("tracking.txt"));
}

#[test]
fn an_unsynchronised_clock_is_as_in_chronyc() {
    let mut snapshot = Snapshot::default();
    snapshot.engine.tracking.root_delay_seconds = 1.0;
    snapshot.engine.tracking.root_dispersion_seconds = 1.0;
    let shown = text::tracking(&snapshot, LAYOUT);
    for line in [
        "Reference ID    : 00000000 ()",
        "Stratum         : 0",
        "Ref time (UTC)  : Thu Jan 01 00:00:00 1970",
        "System time     : 0.000000000 seconds fast of NTP time",
        "Frequency       : 0.000 ppm slow",
        "Root delay      : 1.000000000 seconds",
        "Leap status     : Not synchronised",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}\n---\n{shown}");
    }
}

#[test]
fn ntpdata_is_as_in_chronyc() {
    let snapshot = snapshot_of_ntpdata(-0.631e-6, 7.005e-6, 0.018e-6, 187.033e-6, 8);
    let shown = text::ntpdata(&snapshot, Some("keyed.test"), LAYOUT);
    assert_eq!(shown, golden("ntpdata.txt"));
    let all = text::ntpdata(&snapshot, None, LAYOUT);
    assert_eq!(all, format!("\n{shown}"));
    assert_eq!(text::ntpdata(&snapshot, Some("127.0.0.3"), LAYOUT), shown);
    assert_eq!(text::ntpdata(&snapshot, Some("127.0.0.4"), LAYOUT), "");
}

#[test]
fn activity_serverstats_and_clients_are_as_in_chronyc() {
    let snapshot = server_snapshot("1");
    assert_eq!(text::activity(&snapshot, LAYOUT), golden("activity.txt"));
    let shown = text::clients(&snapshot, LAYOUT);
    assert_eq!(shown, golden("clients.txt").replace("nts.test ", "127.0.0.1"));
    // There is no command protocol over UDP, so that line is zero.
    let expected = golden("serverstats.txt").replace(": 146", ": 0");
    assert_eq!(text::serverstats(&snapshot, LAYOUT), expected);
}

#[test]
fn values_separated_by_commas_are_as_in_chronyc() {
    let mut snapshot = server_snapshot("7");
    assert_eq!(csv::activity(&snapshot, LAYOUT), golden("activity.csv"));
    assert_eq!(csv::clients(&snapshot, LAYOUT), golden("clients.csv"));
    assert_eq!(csv::serverstats(&snapshot, LAYOUT), golden("serverstats.csv").replace(",650,", ",0,"));
    for row in rows("authdata.csv", 0) {
        snapshot.engine.sources.push(authentication(&row.split(',').collect::<Vec<_>>()));
    }
    assert_eq!(csv::authdata(&snapshot, LAYOUT), golden("authdata.csv"));
    snapshot.engine.sources.clear();
    for row in rows("sources.csv", 0) {
        let fields: Vec<&str> = row.split(',').collect();
        let state = letter(fields[1]);
        snapshot.engine.sources.push(SourceReport {
            state: if state == '-' { 'P' } else { state },
            name: fields[2].to_owned(),
            stratum: number(fields[3]),
            poll: number(fields[4]),
            reach: u8::from_str_radix(fields[5], 8).expect("an octal number"),
            last_sample_age_seconds: age(fields[6]),
            offset_seconds: number(fields[7]),
            measured_offset_seconds: number(fields[8]),
            error_seconds: number(fields[9]),
            ..SourceReport::default()
        });
    }
    assert_eq!(csv::sources(&snapshot, LAYOUT), golden("sources.csv"));
}

#[test]
fn ntpdata_selectdata_and_tracking_separated_by_commas_are_as_in_chronyc() {
    let mut snapshot = snapshot_of_ntpdata(-0.396e-6, 10.014e-6, 0.017e-6, 64.036e-6, 10);
    // The report has dates as f64, whose steps are 238 ns in this century.
    let expected = golden("ntpdata.csv").replace(".990622739", ".990622759");
    assert_eq!(csv::ntpdata(&snapshot, None, LAYOUT), expected);
    snapshot.engine.sources.clear();
    for row in rows("selectdata.csv", 0) {
        let fields: Vec<&str> = row.split(',').collect();
        let mut source =
            SourceReport { state: letter(fields[0]), name: fields[1].to_owned(), ..SourceReport::default() };
        if fields[2] == "Y" {
            source.authentication.mode = AuthenticationMode::Key;
        }
        source.selection.configured = options(&fields[3..8].concat());
        source.selection.effective = options(&fields[8..13].concat());
        source.selection.last_sample_age_seconds = number(fields[13]);
        source.selection.score = number(fields[14]);
        source.selection.low_seconds = number(fields[15]);
        source.selection.high_seconds = number(fields[16]);
        source.selection.leap =
            if fields[17] == "Normal" { LeapReport::Normal } else { LeapReport::Unsynchronized };
        snapshot.engine.sources.push(source);
    }
    assert_eq!(csv::selectdata(&snapshot, LAYOUT), golden("selectdata.csv"));

    let tracking = &mut snapshot.engine.tracking;
    tracking.reference_id = [127, 0, 0, 3];
    tracking.address = "127.0.0.3".parse().ok();
    tracking.stratum = 4;
    tracking.system_offset_seconds = -3.945e-6;
    tracking.leap = LeapReport::Normal;
    let shown = csv::tracking(&snapshot, LAYOUT);
    assert!(shown.starts_with("7F000003,127.0.0.3,4,0.000000000,-0.000003945,"), "{shown}");
    let fields = |text: &str| text.matches(',').count();
    assert_eq!(fields(&shown), fields(&golden("tracking.csv")));
}

/// What chronyc printed, without its reference clock.
fn golden(name: &str) -> String {
    let path = format!("{}/testdata/chronyc/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("captures are in the tree");
    text.split_inclusive('\n').filter(|line| !line.contains("SHMX")).collect()
}

fn rows(name: &str, header_lines: usize) -> Vec<String> {
    golden(name).lines().skip(header_lines).map(str::to_owned).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.trim_start_matches('+').parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn letter(text: &str) -> char {
    text.chars().next().expect("a letter")
}

fn age(text: &str) -> Option<f64> {
    (text != "4294967295").then(|| number(text))
}

fn with_unit(text: &str) -> f64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        unit => panic!("unknown unit {unit}"),
    };
    number::<f64>(digits) * scale
}

fn options(letters: &str) -> SelectionOptionsReport {
    SelectionOptionsReport {
        no_select: letters.contains('N'),
        prefer: letters.contains('P'),
        trust: letters.contains('T'),
        require: letters.contains('R'),
    }
}

fn authentication(fields: &[&str]) -> SourceReport {
    let mut source = SourceReport { name: fields[0].to_owned(), ..SourceReport::default() };
    let authentication = &mut source.authentication;
    authentication.mode = match fields[1] {
        "NTS" => AuthenticationMode::Nts,
        "SK" => AuthenticationMode::Key,
        _ => AuthenticationMode::None,
    };
    authentication.key_id = number(fields[2]);
    authentication.key_type = number(fields[3]);
    authentication.key_bits = number(fields[4]);
    authentication.last_establishment_age_seconds = fields[5].parse().ok().and_then(|_: f64| age(fields[5]));
    authentication.attempts = number(fields[6]);
    authentication.nak = fields[7] == "1";
    authentication.cookies = number(fields[8]);
    authentication.cookie_octets = number(fields[9]);
    source
}

fn snapshot_of_ntpdata(offset: f64, delay: f64, dispersion: f64, response: f64, total: u64) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.engine.sources.push(SourceReport {
        name: "keyed.test".to_owned(),
        remote: Some("127.0.0.3:123".parse().expect("an address")),
        reference_id: [127, 0, 0, 3],
        ntp: NtpReport {
            answered: true,
            local: "127.0.0.1".parse().ok(),
            leap: 0,
            version: 4,
            mode: 4,
            stratum: 3,
            poll: 2,
            precision: -27,
            reference_id: [127, 127, 1, 1],
            reference_unix_seconds: 1_795_189_105.990_622_8,
            offset_seconds: offset,
            delay_seconds: delay,
            dispersion_seconds: dispersion,
            response_seconds: response,
            tests: 0x3ff,
            authenticated: true,
            tx_timestamping: Some(TimestampSource::Kernel),
            rx_timestamping: Some(TimestampSource::Kernel),
            total_tx: total,
            total_rx: total,
            total_valid_rx: total,
            total_good_rx: total,
            total_kernel_tx: total,
            total_kernel_rx: total,
            ..NtpReport::default()
        },
        ..SourceReport::default()
    });
    snapshot
}

fn server_snapshot(last: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.engine.activity.online = 5;
    snapshot.engine.activity.offline = 1;
    snapshot.server.received = 7;
    snapshot.server.authenticated = 2;
    snapshot.server.timestamps.daemon_tx = 7;
    snapshot.server.timestamps.kernel_rx = 7;
    snapshot.ke_server.accepted = 2;
    snapshot.clients.push(ClientReport {
        ntp: UseReport {
            hits: 2,
            interval_log2: Some(-4.0),
            last_age_seconds: Some(number(last)),
            ..UseReport::default()
        },
        ..ClientReport::new("127.0.0.1".parse().expect("an address"))
    });
    snapshot
}
