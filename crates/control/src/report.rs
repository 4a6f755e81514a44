//! The reports by name, each as text, comma-separated values or JSON.

use serde::Serialize;
use serde_json::{Map, Value, json};

use chime_engine::SourceReport;

use crate::text::{self, Layout, has_cookies};
use crate::{Snapshot, csv, visible};

/// A report that chronyc's users know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// The state of our clock.
    Tracking,
    /// The sources.
    Sources,
    /// The statistics of their samples.
    Sourcestats,
    /// How they are authenticated.
    Authdata,
    /// Their last answers, field by field.
    Ntpdata,
    /// What selection made of them.
    Selectdata,
    /// How many are polled.
    Activity,
    /// Counts of the servers.
    Serverstats,
    /// Clients of the NTP server.
    Clients,
    /// The cookies of the NTS sources.
    Ntsdatastats,
    /// The smoothing of the time that is served.
    Smoothing,
    /// The battery-backed clock.
    Rtcdata,
}

/// The forms in which a report is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// Columns as in chronyc.
    #[default]
    Text,
    /// Values as in `chronyc -c`.
    Csv,
    /// JSON.
    Json,
}

impl Report {
    /// All reports.
    pub const ALL: [Self; 12] = [
        Self::Tracking,
        Self::Sources,
        Self::Sourcestats,
        Self::Authdata,
        Self::Ntpdata,
        Self::Selectdata,
        Self::Activity,
        Self::Serverstats,
        Self::Clients,
        Self::Ntsdatastats,
        Self::Smoothing,
        Self::Rtcdata,
    ];

    /// The name, as in chronyc.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracking => "tracking",
            Self::Sources => "sources",
            Self::Sourcestats => "sourcestats",
            Self::Authdata => "authdata",
            Self::Ntpdata => "ntpdata",
            Self::Selectdata => "selectdata",
            Self::Activity => "activity",
            Self::Serverstats => "serverstats",
            Self::Clients => "clients",
            Self::Ntsdatastats => "ntsdatastats",
            Self::Smoothing => "smoothing",
            Self::Rtcdata => "rtcdata",
        }
    }

    /// The report of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|report| report.name() == name)
    }

    /// The report in a form; `only` limits `ntpdata` to the source of a name or address.
    #[must_use]
    pub fn show(self, snapshot: &Snapshot, form: Form, layout: Layout, only: Option<&str>) -> String {
        match form {
            Form::Text => self.text(snapshot, layout, only),
            Form::Csv => self.csv(snapshot, layout, only),
            Form::Json => {
                // Pretty, for people who look at it; programs do not mind.
                let value = self.json(snapshot, layout, only);
                format!("{value:#}\n")
            }
        }
    }

    fn text(self, snapshot: &Snapshot, layout: Layout, only: Option<&str>) -> String {
        match self {
            Self::Tracking => text::tracking(snapshot, layout),
            Self::Sources => text::sources(snapshot, layout),
            Self::Sourcestats => text::sourcestats(snapshot, layout),
            Self::Authdata => text::authdata(snapshot, layout),
            Self::Ntpdata => text::ntpdata(snapshot, only, layout),
            Self::Selectdata => text::selectdata(snapshot, layout),
            Self::Activity => text::activity(snapshot, layout),
            Self::Serverstats => text::serverstats(snapshot, layout),
            Self::Clients => text::clients(snapshot, layout),
            Self::Ntsdatastats => text::ntsdatastats(snapshot, layout),
            Self::Smoothing => text::smoothing(snapshot),
            Self::Rtcdata => text::rtcdata(snapshot),
        }
    }

    fn csv(self, snapshot: &Snapshot, layout: Layout, only: Option<&str>) -> String {
        match self {
            Self::Tracking => csv::tracking(snapshot, layout),
            Self::Sources => csv::sources(snapshot, layout),
            Self::Sourcestats => csv::sourcestats(snapshot, layout),
            Self::Authdata => csv::authdata(snapshot, layout),
            Self::Ntpdata => csv::ntpdata(snapshot, only, layout),
            Self::Selectdata => csv::selectdata(snapshot, layout),
            Self::Activity => csv::activity(snapshot, layout),
            Self::Serverstats => csv::serverstats(snapshot, layout),
            Self::Clients => csv::clients(snapshot, layout),
            Self::Ntsdatastats => csv::ntsdatastats(snapshot, layout),
            Self::Smoothing => csv::smoothing(snapshot),
            Self::Rtcdata => csv::rtcdata(snapshot),
        }
    }

    /// The report as a JSON value. Seconds are numbers; what is unknown is `null`.
    #[must_use]
    pub fn json(self, snapshot: &Snapshot, layout: Layout, only: Option<&str>) -> Value {
        let engine = &snapshot.engine;
        let each = |fields: fn(&SourceReport) -> Value| -> Value {
            let wanted = |s: &&SourceReport| only.is_none_or(|name| text::is_called(s, name));
            let listed = visible(&engine.sources, layout.all).into_iter().filter(wanted);
            listed.map(|source| with_source(source, fields(source))).collect()
        };
        match self {
            Self::Tracking => tracking(snapshot),
            Self::Sources => each(source_fields),
            Self::Sourcestats => each(|source| value(&source.statistics)),
            Self::Authdata => each(|source| value(&source.authentication)),
            Self::Ntpdata => each(|source| value(&source.ntp)),
            Self::Selectdata => each(|source| {
                let mut fields = value(&source.selection);
                fields["state"] = value(source.state);
                fields["last_sample_age_seconds"] = value(source.last_sample_age_seconds);
                fields
            }),
            Self::Activity => value(&engine.activity),
            Self::Serverstats => json!({
                "server": value(&snapshot.server),
                "ke_server": value(&snapshot.ke_server),
            }),
            Self::Clients => value(&snapshot.clients),
            Self::Ntsdatastats => {
                let listed = visible(&engine.sources, layout.all).into_iter().filter(|it| has_cookies(it));
                listed.map(|source| with_source(source, value(&source.authentication))).collect()
            }
            Self::Smoothing => json!({
                "smoothing": value(snapshot.program.smoothing),
                "smear": value(&snapshot.program.smear),
            }),
            Self::Rtcdata => json!({ "real_time_clock": value(snapshot.program.real_time_clock) }),
        }
    }
}

fn tracking(snapshot: &Snapshot) -> Value {
    let mut fields = value(&snapshot.engine.tracking);
    fields["error_bound_seconds"] = value(snapshot.error_bound_seconds());
    fields["unauthenticated_in_use"] = value(&snapshot.engine.unauthenticated_in_use);
    fields
}

fn source_fields(source: &SourceReport) -> Value {
    json!({
        "kind": value(source.kind),
        "online": source.online,
        "state": source.state,
        "stratum": source.stratum,
        "poll": source.poll,
        "reach": source.reach,
        "last_sample_age_seconds": source.last_sample_age_seconds,
        "offset_seconds": source.offset_seconds,
        "measured_offset_seconds": source.measured_offset_seconds,
        "error_seconds": source.error_seconds,
        "authentication": value(source.authentication.mode),
        "discards": value(&source.discards),
        "last_error": source.last_error,
    })
}

/// The name and address of a source before the fields of a report.
fn with_source(source: &SourceReport, fields: Value) -> Value {
    let mut out = Map::new();
    out.insert("name".to_owned(), Value::from(source.name.as_str()));
    out.insert("address".to_owned(), value(source.remote.map(|remote| remote.ip())));
    out.insert("port".to_owned(), value(source.remote.map(|remote| remote.port())));
    if let Value::Object(fields) = fields {
        out.extend(fields);
    }
    Value::Object(out)
}

/// Reports are plain data: strings as keys, nothing that could fail.
fn value(plain: impl Serialize) -> Value {
    serde_json::to_value(plain).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RealTimeClockReport, SmearReport, SmoothingReport};
    use chime_engine::AuthenticationMode;

    #[test]
    fn every_report_has_a_name_and_every_form_works_on_an_empty_snapshot() {
        let snapshot = Snapshot::default();
        for report in Report::ALL {
            assert_eq!(Report::from_name(report.name()), Some(report));
            for form in [Form::Text, Form::Csv, Form::Json] {
                let shown = report.show(&snapshot, form, Layout::default(), None);
                assert!(form != Form::Json || serde_json::from_str::<Value>(&shown).is_ok());
            }
        }
        assert_eq!(Report::from_name("manual"), None);
    }

    #[test]
    fn smoothing_is_as_in_chronyc() {
        let mut snapshot = Snapshot::default();
        let show =
            |snapshot: &Snapshot, form| Report::Smoothing.show(snapshot, form, Layout::default(), None);
        assert_eq!(show(&snapshot, Form::Text), "The time that is served is not smoothed.\n");
        assert_eq!(show(&snapshot, Form::Csv), "");
        snapshot.program.smoothing = Some(SmoothingReport {
            active: true,
            offset_seconds: 2e-9,
            rate: -6.574e-9,
            change: 1e-8,
            since_update_seconds: 7.61,
            remaining_seconds: 0.69,
        });
        let text = "Active         : Yes \nOffset         : +0.000000002 seconds\nFrequency      : -0.006574 ppm\n\
                    Wander         : +0.010000 ppm per second\nLast update    : 7.6 seconds ago\n\
                    Remaining time : 0.7 seconds\n";
        assert_eq!(show(&snapshot, Form::Text), text);
        assert_eq!(show(&snapshot, Form::Csv), "Yes,,0.000000002,-0.006574,0.010000,7.6,0.7\n");
        snapshot.program.smoothing = None;
        snapshot.program.smear = Some(SmearReport::default());
        assert!(show(&snapshot, Form::Text).starts_with("Active         : No (leap second only)\n"));
    }

    #[test]
    fn the_real_time_clock_is_as_in_chronyc() {
        let mut snapshot = Snapshot::default();
        let show = |snapshot: &Snapshot, form| Report::Rtcdata.show(snapshot, form, Layout::default(), None);
        assert_eq!(show(&snapshot, Form::Text), "The real-time clock is not looked at.\n");
        assert_eq!(show(&snapshot, Form::Csv), "");
        snapshot.program.real_time_clock = Some(RealTimeClockReport {
            known: true,
            reference_unix_seconds: 1_795_187_044,
            samples: 10,
            runs: 5,
            span_seconds: 549,
            fast_seconds: -1.632736,
            rate_ppm: -107.623,
        });
        let text = "RTC ref time (UTC) : Fri Nov 20 15:04:04 2026\nNumber of samples  : 10\nNumber of runs     : 5\n\
                    Sample span period :  549\nRTC is fast by     :    -1.632736 seconds\n\
                    RTC gains time at  :  -107.623 ppm\n";
        assert_eq!(show(&snapshot, Form::Text), text);
        assert_eq!(show(&snapshot, Form::Csv), "1795187044.000000000,10,5,549,-1.632736,-107.623\n");
    }

    #[test]
    fn who_has_no_cookies_is_not_among_those_who_have() {
        let mut snapshot = Snapshot::default();
        let show =
            |snapshot: &Snapshot, form| Report::Ntsdatastats.show(snapshot, form, Layout::default(), None);
        let mut source = SourceReport {
            name: "nts.example.net".to_owned(),
            remote: "192.0.2.1:123".parse().ok(),
            ..SourceReport::default()
        };
        source.authentication.mode = AuthenticationMode::Nts;
        snapshot.engine.sources.push(source.clone());
        assert_eq!((show(&snapshot, Form::Text), show(&snapshot, Form::Csv)), (String::new(), String::new()));
        source.authentication.cookies = 7;
        source.authentication.cookie_octets = 100;
        source.authentication.last_establishment_age_seconds = Some(2000.0);
        snapshot.engine.sources.push(source);
        let text = "Name/IP address             Cookies CLen Last Atmp  NAK\n\
                    =======================================================\n\
                    nts.example.net                   7  100  33m    0    0\n";
        assert_eq!(show(&snapshot, Form::Text), text);
        assert_eq!(show(&snapshot, Form::Csv), "nts.example.net,7,100,2000,0,0\n");
    }

    #[test]
    fn json_of_sources_names_them() {
        let mut snapshot = Snapshot::default();
        snapshot.engine.sources.push(SourceReport {
            name: "nts.example.net".to_owned(),
            remote: "192.0.2.1:123".parse().ok(),
            state: '*',
            ..SourceReport::default()
        });
        for report in [Report::Sources, Report::Selectdata] {
            let shown = report.json(&snapshot, Layout::default(), None);
            assert_eq!(shown[0]["name"], "nts.example.net");
            assert_eq!(shown[0]["address"], "192.0.2.1");
            assert_eq!(shown[0]["state"], "*");
        }
        let shown = Report::Authdata.json(&snapshot, Layout::default(), Some("other"));
        assert_eq!(shown, json!([]));
    }
}
