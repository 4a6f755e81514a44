//! A configuration in sentences: what the daemon will do, source by source, and what is weak about it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::{
    AddressFamily, Authentication, AuthenticationPolicy, Model, NtpServer, NtsTrust, ReferenceClock,
    RequireNts, Source, SourceKind,
};

/// What a configuration means.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explanation {
    /// One paragraph for each source and reference clock.
    pub sources: Vec<String>,
    /// When and how the clock is touched.
    pub clock: Vec<String>,
    /// Who is served, and what.
    pub serving: Vec<String>,
    /// What could be better, most important first.
    pub weaknesses: Vec<String>,
}

/// Explains a model. Nothing is looked up: what files hold and who may read them is for the caller to add.
#[must_use]
pub fn explain(model: &Model) -> Explanation {
    let clocks = model.reference_clocks.iter().zip(0..).map(|(clock, index)| reference_clock(clock, index));
    Explanation {
        sources: model.sources.iter().map(source).chain(clocks).collect(),
        clock: clock(model),
        serving: serving(model),
        weaknesses: weaknesses(model),
    }
}

fn reference_clock(clock: &ReferenceClock, index: usize) -> String {
    let driver = clock.driver.to_uppercase();
    if !clock.is_supported() {
        let parameter = &clock.parameter;
        return format!(
            "Reference clock {driver} ({parameter}): not used, as there is no driver for it here."
        );
    }
    let what = match (clock.tells_pulses(), &clock.lock) {
        (true, Some(lock)) => format!("tells when seconds begin, and {lock} which"),
        (true, None) => {
            "tells when seconds begin, and our own clock which, once another source keeps it".to_owned()
        }
        (false, _) if clock.local => "is even, and knows no time".to_owned(),
        (false, _) => "tells the time".to_owned(),
    };
    let marks = [
        (clock.no_select, "watched, never followed"),
        (clock.prefer, "preferred"),
        (clock.trust, "trusted"),
        (clock.require, "required"),
    ];
    let marks: String = marks.iter().filter(|mark| mark.0).map(|mark| format!("; {}", mark.1)).collect();
    format!("Reference clock {} ({driver} {}): {what}{marks}.", clock.name(index), clock.parameter)
}

fn source(source: &Source) -> String {
    let mut text = match &source.kind {
        SourceKind::Server => source.name.clone(),
        SourceKind::Peer => format!("{}, a peer: either may follow the other", source.name),
        SourceKind::Pool { count: 1, .. } => format!("{}, one server of that name", source.name),
        SourceKind::Pool { count, .. } => format!("{}, up to {count} servers of that name", source.name),
    };
    if source.port != 123 {
        text.push_str(&format!(", UDP port {}", source.port));
    }
    if let Some(origin) = &source.origin {
        text.push_str(&format!(" ({}:{})", origin.file, origin.line));
    }
    text.push_str(": ");
    text.push_str(&authentication(source));
    text.push_str(&format!(
        " Asked every {} to {}{}.",
        interval(source.poll.min),
        interval(source.poll.max),
        if source.iburst { ", quickly at the start" } else { "" }
    ));
    let remarks = [
        (source.address_family == AddressFamily::V4, "Over IPv4 only."),
        (source.address_family == AddressFamily::V6, "Over IPv6 only."),
        (source.interleaved, "In interleaved mode where it knows that."),
        (
            source.frequency_transfer,
            "Its own corrections are told apart from our clock's errors, where it says them.",
        ),
        (
            source.network_correction,
            "Time in switches that are transparent clocks is taken off, where it says that.",
        ),
        (!source.online, "Only when it is told to go online."),
        (source.prefer, "Preferred over the others."),
        (source.no_select, "Measured and shown, never believed."),
        (source.trust, "Only other trusted sources can outvote it."),
        (source.require, "Without one like it the clock is not touched."),
    ];
    for (_, remark) in remarks.iter().filter(|(applies, _)| *applies) {
        text.push(' ');
        text.push_str(remark);
    }
    if source.smeared {
        text.push_str(" It smears leap seconds, and is not mixed with sources that do not.");
    }
    if source.offset_correction != 0.0 {
        text.push_str(&format!(" {} s are added to what is measured.", source.offset_correction));
    }
    text
}

fn authentication(source: &Source) -> String {
    match &source.authentication {
        Authentication::None if source.policy == AuthenticationPolicy::Required => {
            "not authenticated, and therefore measured but never believed.".to_owned()
        }
        Authentication::None if source.policy == AuthenticationPolicy::Preferred => {
            "not authenticated, and never believed while there is an authenticated source.".to_owned()
        }
        Authentication::None => "not authenticated: whoever is on the way can change the answers.".to_owned(),
        Authentication::Key(key) => format!("authenticated with symmetric key {key}."),
        Authentication::Nts(trust) => format!(
            "authenticated with NTS; keys are established on TCP port {}, and {}",
            trust.port,
            trusted(trust)
        ),
    }
}

fn trusted(trust: &NtsTrust) -> String {
    let mut whom = Vec::new();
    if trust.system_cas {
        whom.push("the system's authorities".to_owned());
    }
    whom.extend(trust.certificate_authorities.iter().map(|path| path.display().to_string()));
    whom.extend(trust.pinned_certificates.iter().map(|path| format!("the certificate {}", path.display())));
    if !trust.pinned_keys.is_empty() {
        whom.push(format!("{} pinned keys", trust.pinned_keys.len()));
    }
    if whom.is_empty() {
        return "nobody is trusted, so that it can never succeed.".to_owned();
    }
    format!("the certificate is judged by {}.", whom.join(", "))
}

/// The length of a poll interval.
fn interval(exponent: i8) -> String {
    let seconds = 2f64.powi(i32::from(exponent));
    if seconds < 120.0 { format!("{seconds} s") } else { format!("{} min", (seconds / 6.0).round() / 10.0) }
}

fn clock(model: &Model) -> Vec<String> {
    let tuning = &model.synchronization.tuning;
    if !tuning.steer {
        return vec!["The clock is left alone: time is measured and served only.".to_owned()];
    }
    let mut text = vec![format!(
        "The clock is touched when {} of {} agree.",
        match model.minimum_agreeing_sources() {
            1 => "at least 1".to_owned(),
            count => format!("at least {count}"),
        },
        sources(model.wanted_associations()),
    )];
    let forward = if tuning.step.backward_threshold.is_some() { " forward" } else { "" };
    text.push(match (tuning.step.threshold, tuning.step.updates_limit) {
        (None, _) | (_, Some(0)) => format!(
            "It is never stepped{forward}, only slewed by up to {} ppm: an hour takes {}.",
            tuning.max_slew.as_ppm().round(),
            duration(3600.0 / tuning.max_slew.as_ratio())
        ),
        (Some(threshold), None) => format!("Errors above {threshold} s are stepped{forward}, smaller ones slewed."),
        (Some(threshold), Some(updates)) => format!(
            "Errors above {threshold} s are stepped{forward} in the first {updates} updates; later, and below, the clock is slewed."
        ),
    });
    match tuning.step.backward_threshold {
        Some(threshold) if threshold.is_finite() => {
            text.push(format!("Backward it is stepped by more than {threshold} s."));
        }
        Some(_) => text.push("It is never stepped backward.".to_owned()),
        None => {}
    }
    let limits = [
        ("The first correction", tuning.step.startup_panic),
        ("A later correction", tuning.step.running_panic),
    ];
    for (what, limit) in limits {
        let limit = match (limit.forward, limit.backward) {
            (None, None) => continue,
            (Some(forward), Some(backward)) if (forward - backward).abs() < 1e-9 => format!("{forward} s"),
            (Some(forward), None) => format!("{forward} s forward"),
            (None, Some(backward)) => format!("{backward} s backward"),
            (Some(forward), Some(backward)) => format!("{forward} s forward and {backward} s backward"),
        };
        text.push(format!("{what} of more than {limit} is refused."));
    }
    if let Some(drift) = &model.predecessor.drift_file {
        text.push(format!(
            "The frequency is taken from {} until one is measured here.",
            drift.path.display()
        ));
    }
    text
}

fn duration(seconds: f64) -> String {
    match seconds {
        hours if hours < 2.0 * 86_400.0 => format!("{:.0} hours", hours / 3600.0),
        days => format!("{:.0} days", days / 86_400.0),
    }
}

fn sources(count: usize) -> String {
    if count == 1 { "1 source".to_owned() } else { format!("{count} sources") }
}

fn serving(model: &Model) -> Vec<String> {
    let is_silent = model.broadcasts.is_empty();
    if model.servers.is_empty() && model.nts_ke_servers.is_empty() && is_silent {
        return vec!["Nobody is served.".to_owned()];
    }
    let mut text: Vec<String> = model.servers.iter().map(ntp_server).collect();
    if let Some(ptp) =
        model.ntp_over_ptp.filter(|ptp| model.servers.iter().any(|server| server.listen.port() == ptp.port))
    {
        text.push(format!("Messages at port {} come and go over PTP, in domain {}.", ptp.port, ptp.domain));
    }
    text.extend(model.broadcasts.iter().map(|broadcast| {
        let seconds = broadcast.interval.as_secs();
        let key = broadcast.key.map_or_else(String::new, |key| format!(", with a MAC of key {key}"));
        format!("The time is sent to {} every {seconds} s without being asked for{key}.", broadcast.to)
    }));
    for server in &model.nts_ke_servers {
        text.push(format!(
            "Keys for NTS are established on {} with the certificate {}{}.",
            server.listen,
            server.certificates.first().map_or_else(String::new, |pair| pair.chain.display().to_string()),
            server
                .ntp_server
                .as_ref()
                .map_or_else(String::new, |name| format!(", for the NTP server {name}"))
        ));
    }
    if let Some(local) = model.synchronization.local_clock {
        text.push(format!("Without a source the own clock is served, as stratum {}.", local.stratum));
    }
    if !model.nts_ke_servers.is_empty() && model.keyset.rotation_interval.is_zero() {
        text.push(
            "The keys of cookies are not renewed here: that is left to whoever writes their files.".into(),
        );
    } else if !model.nts_ke_servers.is_empty() {
        text.push(format!(
            "Cookies are good for {} to {}: a new key every {}, {} old ones kept.",
            lifetime(model.keyset.rotation_interval, model.keyset.stale_keys),
            lifetime(model.keyset.rotation_interval, model.keyset.stale_keys + 1),
            lifetime(model.keyset.rotation_interval, 1),
            model.keyset.stale_keys
        ));
    }
    text
}

fn lifetime(interval: Duration, times: usize) -> String {
    let hours = interval.as_secs_f64() * times as f64 / 3600.0;
    if hours < 48.0 { format!("{hours:.0} hours") } else { format!("{:.0} days", hours / 24.0) }
}

fn ntp_server(server: &NtpServer) -> String {
    let whom = if is_open(server) { "everybody" } else { "those whom the rules let in" };
    let limit = match (server.rate_limit, server.rate_limit_cutoff) {
        (Some(limit), _) if server.rate_limit_entries > 0 => {
            format!("{} s apart in the long run", limit.interval.as_secs_f64())
        }
        (None, cutoff) if !cutoff.is_zero() && server.rate_limit_entries > 0 => {
            format!("{} s apart", cutoff.as_secs_f64())
        }
        _ => "as often as they ask".to_owned(),
    };
    let nts = match server.require_nts {
        RequireNts::No => "",
        RequireNts::Ignore | RequireNts::Deny => ", with NTS only",
    };
    let terms = match server.terms.len() {
        0 => String::new(),
        1 => "; other terms hold for one network".to_owned(),
        count => format!("; other terms hold for {count} networks"),
    };
    let signed = server.signing_directory.as_ref().map_or(String::new(), |directory| {
        format!(" Samba at {} signs the answers for members of its domain.", directory.display())
    });
    format!("NTP is served on {} to {whom}, {limit}{nts}{terms}.{signed}", server.listen)
}

/// Addresses of nobody in particular.
const ANYBODY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 9, 9, 9, 9))];

fn is_open(server: &NtpServer) -> bool {
    let policy = server.policy();
    let family = if server.listen.is_ipv4() { &ANYBODY[..1] } else { &ANYBODY[..] };
    family.iter().any(|address| policy.access.check(*address) == chime_server::Access::Allow)
}

/// What is weak, most important first.
fn weaknesses(model: &Model) -> Vec<String> {
    let mut weak = Vec::new();
    authentication_weaknesses(model, &mut weak);
    majority_weaknesses(model, &mut weak);
    clock_weaknesses(model, &mut weak);
    exposure_weaknesses(model, &mut weak);
    weak
}

fn authentication_weaknesses(model: &Model, weak: &mut Vec<String>) {
    let believed: Vec<&Source> = model.sources.iter().filter(|source| !source.options().no_select).collect();
    let plain = believed.iter().filter(|source| !source.is_authenticated()).count();
    if plain > 0 && plain == believed.len() {
        weak.push(
            "No authentication: whoever is on the way to the sources can set this clock. Choose servers with NTS."
                .to_owned(),
        );
    } else if plain > 0 && model.authentication != AuthenticationPolicy::Preferred {
        weak.push(match model.authentication {
            AuthenticationPolicy::Ignored => format!(
                "{} of {} are not authenticated, and count as much as the others.",
                plain,
                sources(believed.len())
            ),
            _ => format!("{} of {} are not authenticated and take part.", plain, sources(believed.len())),
        });
    }
    let unchecked = model.synchronization.unchecked_certificate_updates;
    let with_nts = believed.iter().any(|source| source.authentication.nts_trust().is_some());
    if unchecked > 0 && with_nts {
        weak.push(format!(
            "Up to update {unchecked} of the clock, certificates that have expired are accepted: whoever has the key of an \
             old one can set this clock. A wrong clock does not need that here."
        ));
    }
    let keyed = believed.iter().any(|source| matches!(source.authentication, Authentication::Key(_)));
    if keyed && model.key_file.is_none() {
        weak.push(
            "A source uses a symmetric key, and there is no key file: it can never be believed.".to_owned(),
        );
    }
    if plain > 0 && !model.nts_ke_servers.is_empty() {
        weak.push(
            "Clients get authenticated answers about a time that was not authenticated itself.".to_owned(),
        );
    }
}

fn majority_weaknesses(model: &Model, weak: &mut Vec<String>) {
    let (wanted, needed) = (model.wanted_associations(), model.minimum_agreeing_sources());
    if wanted == 0 {
        weak.push("There is no source to follow.".to_owned());
        return;
    }
    if wanted < needed {
        weak.push(format!(
            "{needed} sources must agree and there can be only {wanted}: the clock is never touched."
        ));
    }
    match wanted {
        1 => weak
            .push("One source: nothing contradicts it when it is wrong, and nothing replaces it.".to_owned()),
        2 => weak.push("Two sources: when they differ nobody can say which is wrong.".to_owned()),
        3 => weak.push("Three sources outvote one that is wrong only while all of them answer.".to_owned()),
        _ => {}
    }
    if wanted > 2 && needed == 1 {
        weak.push("A single source is enough to set the clock while the others are not heard: ask for more agreement.".to_owned());
    }
    let operators: BTreeSet<String> = model.sources.iter().map(|source| operator(&source.name)).collect();
    if let (1, Some(only)) = (operators.len(), operators.first())
        && wanted > 1
    {
        weak.push(format!("All sources are of one operator, as far as their names tell: {only}."));
    }
}

/// Who runs a server, as far as its name tells: the domain below a public suffix, by rule of thumb.
fn operator(name: &str) -> String {
    const SECOND_LEVELS: &[&str] = &["ac", "co", "com", "edu", "go", "gov", "net", "org", "or", "ne"];
    if name.parse::<IpAddr>().is_ok() {
        return name.to_owned();
    }
    let name = name.trim_end_matches('.').to_lowercase();
    let labels: Vec<&str> = name.rsplit('.').collect();
    let is_below_second = labels.first().is_some_and(|top| top.len() == 2)
        && labels.get(1).is_some_and(|second| SECOND_LEVELS.contains(second));
    let keep = if is_below_second { 3 } else { 2 };
    let kept: Vec<&str> = labels.into_iter().take(keep).rev().collect();
    kept.join(".")
}

fn clock_weaknesses(model: &Model, weak: &mut Vec<String>) {
    let step = &model.synchronization.tuning.step;
    if model.synchronization.tuning.steer && (step.threshold.is_none() || step.updates_limit == Some(0)) {
        weak.push(
            "The clock is never stepped: after a start with a wrong clock it stays wrong for long."
                .to_owned(),
        );
    }
    let plain = model.sources.iter().any(|source| !source.is_authenticated() && !source.options().no_select);
    if plain && step.running_panic.forward.is_none() && step.running_panic.backward.is_none() {
        weak.push("No correction is too large, although not all sources are authenticated.".to_owned());
    }
    let unusable = model.reference_clocks.iter().filter(|clock| !clock.is_supported()).count();
    if unusable > 0 {
        weak.push(format!("{unusable} of the configured reference clocks cannot be used."));
    }
    if model.synchronization.local_clock.is_some_and(|local| local.stratum < 8) && !model.servers.is_empty() {
        weak.push(
            "The own clock is served with a low stratum when nothing is known: clients may prefer it."
                .to_owned(),
        );
    }
}

fn exposure_weaknesses(model: &Model, weak: &mut Vec<String>) {
    let unlimited = |server: &NtpServer| {
        let policy = server.policy();
        let is_exempt = policy.terms.is_some_and(|terms| ANYBODY.iter().any(|it| !terms.find(*it).limited));
        is_open(server) && (policy.rate_limit.is_none() || is_exempt)
    };
    if model.servers.iter().any(unlimited) {
        weak.push("Everybody is served, as often as they like: a rate limit keeps single clients from taking it all.".to_owned());
    }
    if model.observability.metrics_listen.is_some_and(|address| !address.ip().is_loopback()) {
        weak.push("Metrics are shown to everybody who reaches their address.".to_owned());
    }
    if model.observability.control_socket_mode & 0o002 != 0 {
        weak.push("Everybody on this machine may command the daemon.".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Text;
    use crate::dialects::native::parse;

    fn explained(contents: &str) -> Explanation {
        explain(&parse(&Text::new("t.toml", contents), &[]).expect("the text is right").model)
    }

    fn weak(contents: &str) -> String {
        explained(contents).weaknesses.join("\n")
    }

    #[test]
    fn an_exception_for_certificates_is_weak_where_there_are_certificates() {
        let weak_of = |mode: &str, updates: u32| {
            weak(&format!(
                "[[source]]\nmode = \"{mode}\"\naddress = \"a\"\n[synchronization]\n\
                 unchecked-certificate-updates = {updates}\n"
            ))
        };
        const WORDS: &str = "Up to update 3 of the clock, certificates that have expired are accepted";
        assert!(weak_of("nts", 3).contains(WORDS), "{}", weak_of("nts", 3));
        assert!(!weak_of("nts", 0).contains("expired") && !weak_of("server", 3).contains("expired"));
    }

    #[test]
    fn the_built_in_configuration_has_no_weakness() {
        assert_eq!(explain(&Model::built_in()).weaknesses, [""; 0]);
        let text = explain(&Model::built_in());
        assert!(
            text.sources[0].contains(
                "time.cloudflare.com: authenticated with NTS; keys are established on TCP port 4460"
            )
        );
        assert_eq!(text.serving, ["Nobody is served."]);
        assert_eq!(text.clock[0], "The clock is touched when at least 3 of 5 sources agree.");
    }

    #[test]
    fn what_is_weak_is_said() {
        let one = weak("[[source]]\nmode = \"server\"\naddress = \"a.example.org\"\n");
        assert!(one.contains("No authentication") && one.contains("One source"), "{one}");
        let three = weak(
            "[[source]]\nmode = \"nts\"\naddress = \"a.example.org\"\n[[source]]\nmode = \"nts\"\n\
             address = \"b.example.org\"\n[[source]]\nmode = \"server\"\naddress = \"c.example.org\"\n\
             [synchronization]\nminimum-agreeing-sources = 1\nsingle-step-panic-threshold = \"inf\"\n\
             [synchronization.algorithm]\nstep-threshold = \"inf\"\n",
        );
        for part in
            ["1 of 3 sources", "one operator", "example.org", "never stepped", "too large", "A single source"]
        {
            assert!(three.contains(part), "{part}: {three}");
        }
        let keyed = weak("[[source]]\nmode = \"server\"\naddress = \"192.0.2.1\"\nkey = 5\n");
        assert!(keyed.contains("no key file"), "{keyed}");
        let served = weak("[[server]]\nlisten = \"0.0.0.0:123\"\n");
        assert!(served.contains("no source") && served.contains("as often as they like"), "{served}");
    }

    #[test]
    fn operators_are_told_by_their_domains() {
        assert_eq!(operator("time1.a.example.org"), "example.org");
        assert_eq!(operator("ntp.a.co.uk"), "a.co.uk");
        assert_ne!(operator("192.0.2.1"), operator("192.0.2.2"));
    }
}
