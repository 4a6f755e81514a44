//! From request to response: a function of the request, the snapshot and the command queue.

use chime_control::status::status;
use chime_control::text::Layout;
use chime_control::{Command, Form, Paint, Report, Snapshot, metrics};
use hyper::{Method, StatusCode};

use crate::Refused;

/// Through which door a request came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// The Unix socket, whose permissions say who may come in.
    Unix,
    /// TCP: metrics only.
    Tcp,
}

/// A request whose body has been read.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) door: Door,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) body: &'a [u8],
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) media_type: &'static str,
    pub(crate) body: String,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

const HELP: &str = "\
GET  /v1/snapshot          everything, as JSON
GET  /v1/status            a summary for people
GET  /v1/REPORT            tracking sources sourcestats authdata ntpdata selectdata activity
                           serverstats clients; ?format=json (default), text or csv; &all;
                           &source=NAME for ntpdata
GET  /metrics              OpenMetrics
POST /v1/commands          {\"command\": \"refresh\"}; online offline burst (each with an optional
                           \"source\") make-step reselect reset-sources reload
";

/// Answers a request.
pub(crate) fn answer(
    request: &Request<'_>,
    snapshot: &Snapshot,
    queue: &dyn Fn(Command) -> Result<(), Refused>,
) -> Answer {
    let unix = request.door == Door::Unix;
    let reads = *request.method == Method::GET || *request.method == Method::HEAD;
    match request.path {
        "/metrics" if reads => ok(metrics::CONTENT_TYPE, metrics::openmetrics(snapshot)),
        "/" if reads && unix => ok(TEXT, HELP.to_owned()),
        "/v1/commands" if unix && *request.method == Method::POST => command(request.body, queue),
        "/v1/commands" if unix => error(StatusCode::METHOD_NOT_ALLOWED, "commands are sent with POST"),
        "/v1/snapshot" if reads && unix => whole(snapshot),
        "/v1/status" if reads && unix => ok(TEXT, status(snapshot, Paint::Plain, 80)),
        path if reads && unix => report(path, request.query, snapshot),
        _ => error(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

fn whole(snapshot: &Snapshot) -> Answer {
    match serde_json::to_string(snapshot) {
        Ok(json) => ok(JSON, json),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

fn report(path: &str, query: &str, snapshot: &Snapshot) -> Answer {
    let Some(report) = path.strip_prefix("/v1/").and_then(Report::from_name) else {
        return error(StatusCode::NOT_FOUND, "there is no such report; GET / lists them");
    };
    let parameter = |key: &str| {
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(name, _)| *name == key)
    };
    let form = match parameter("format").map(|(_, value)| value) {
        None | Some("json") => Form::Json,
        Some("text") => Form::Text,
        Some("csv") => Form::Csv,
        Some(_) => return error(StatusCode::BAD_REQUEST, "format is json, text or csv"),
    };
    let layout = Layout { all: parameter("all").is_some(), ..Layout::default() };
    let only = parameter("source").map(|(_, value)| value);
    let media_type = if form == Form::Json { JSON } else { TEXT };
    ok(media_type, report.show(snapshot, form, layout, only))
}

fn command(body: &[u8], queue: &dyn Fn(Command) -> Result<(), Refused>) -> Answer {
    let command: Command = match serde_json::from_slice(body) {
        Ok(command) => command,
        Err(reason) => return error(StatusCode::BAD_REQUEST, &reason.to_string()),
    };
    match queue(command) {
        Ok(()) => Answer {
            status: StatusCode::ACCEPTED,
            media_type: JSON,
            body: "{\"accepted\":true}\n".to_owned(),
        },
        Err(refused) => error(StatusCode::SERVICE_UNAVAILABLE, &refused.0),
    }
}

fn ok(media_type: &'static str, body: String) -> Answer {
    Answer { status: StatusCode::OK, media_type, body }
}

pub(crate) fn error(status: StatusCode, message: &str) -> Answer {
    let body = serde_json::json!({ "error": message });
    Answer { status, media_type: JSON, body: format!("{body}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn get(door: Door, target: &str) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request { door, method: &Method::GET, path, query, body: b"" };
        answer(&request, &Snapshot::default(), &|_| panic!("reading sends no command"))
    }

    fn post(door: Door, body: &str, result: Result<(), Refused>) -> (Answer, Option<Command>) {
        let sent = RefCell::new(None);
        let request =
            Request { door, method: &Method::POST, path: "/v1/commands", query: "", body: body.as_bytes() };
        let answer = answer(&request, &Snapshot::default(), &|command| {
            *sent.borrow_mut() = Some(command);
            result.clone()
        });
        (answer, sent.into_inner())
    }

    #[test]
    fn the_unix_socket_has_every_report_in_every_form() {
        for report in Report::ALL {
            for format in ["json", "text", "csv"] {
                let target = format!("/v1/{}?format={format}&all", report.name());
                assert_eq!(get(Door::Unix, &target).status, StatusCode::OK, "{target}");
            }
        }
        for path in ["/", "/v1/snapshot", "/v1/status", "/metrics"] {
            assert_eq!(get(Door::Unix, path).status, StatusCode::OK, "{path}");
        }
        assert_eq!(get(Door::Unix, "/v1/manual").status, StatusCode::NOT_FOUND);
        assert_eq!(get(Door::Unix, "/v1/sources?format=xml").status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn tcp_has_metrics_and_nothing_else() {
        assert_eq!(get(Door::Tcp, "/metrics").status, StatusCode::OK);
        for path in ["/", "/v1/snapshot", "/v1/status", "/v1/sources", "/v1/commands"] {
            assert_eq!(get(Door::Tcp, path).status, StatusCode::NOT_FOUND, "{path}");
        }
        let (refused, sent) = post(Door::Tcp, r#"{"command":"refresh"}"#, Ok(()));
        assert_eq!((refused.status, sent), (StatusCode::NOT_FOUND, None));
    }

    #[test]
    fn commands_are_queued_refused_or_not_understood() {
        let (taken, sent) = post(Door::Unix, r#"{"command":"refresh"}"#, Ok(()));
        assert_eq!((taken.status, sent), (StatusCode::ACCEPTED, Some(Command::Refresh)));
        let full = Err(Refused("the queue is full".to_owned()));
        let (refused, _) = post(Door::Unix, r#"{"command":"refresh"}"#, full);
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.body, "{\"error\":\"the queue is full\"}\n");
        let (wrong, sent) = post(Door::Unix, "refresh", Ok(()));
        assert_eq!((wrong.status, sent), (StatusCode::BAD_REQUEST, None));
        assert_eq!(get(Door::Unix, "/v1/commands").status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
