//! Every configuration that is read can be written as our own, and means the same then.

use std::path::{Path, PathBuf};

use chime_config::dialects::{chrony, native, ntpd_rs, ntpsec};
use chime_config::{Detail, Diagnostics, Dialect, Loaded, Model, Text, explain, rewrite, write};

fn parse(text: &Text, dialect: Dialect) -> Result<Loaded, Diagnostics> {
    match dialect {
        Dialect::Native => native::parse(text, &[]),
        Dialect::Chrony => chrony::parse(text, &|_| Ok(Vec::new())),
        Dialect::Ntpsec => {
            ntpsec::parse(text, &[], &|_| Ok(Vec::new()), &|_| Err("no names here".to_owned()))
        }
        Dialect::NtpdRs => ntpd_rs::parse(text),
    }
}

fn folder(dialect: Dialect) -> PathBuf {
    let name = match dialect {
        Dialect::Native => "native",
        Dialect::Chrony => "chrony",
        Dialect::Ntpsec => "ntpconf",
        Dialect::NtpdRs => "ntptoml",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// Every fixture that is read.
fn fixtures() -> Vec<(Text, Dialect, Loaded)> {
    let mut found = Vec::new();
    for dialect in [Dialect::Chrony, Dialect::Ntpsec, Dialect::NtpdRs] {
        for entry in std::fs::read_dir(folder(dialect)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let contents = std::fs::read_to_string(&path).expect("text");
            let text = Text::new(path.file_name().and_then(|it| it.to_str()).expect("a name"), contents);
            if let Ok(loaded) = parse(&text, dialect) {
                found.push((text, dialect, loaded));
            }
        }
    }
    assert!(found.len() > 60, "{} fixtures", found.len());
    found
}

/// The model as it is compared: without the places of the original.
fn shown(model: &Model) -> String {
    let mut model = model.clone();
    model.servers_in_waiting.clear();
    model.sources.iter_mut().for_each(|source| source.origin = None);
    model.reference_clocks.iter_mut().for_each(|clock| clock.origin = None);
    model.nts_ke_servers.iter_mut().for_each(|server| server.origin = None);
    format!("{model:#?}")
}

fn read_back(name: &str, text: &str) -> Model {
    let read = native::parse(&Text::new(name, text), &[]);
    read.unwrap_or_else(|errors| panic!("{name}: {errors}\n{text}")).model
}

#[test]
fn every_fixture_reads_back_from_what_is_converted_and_from_what_is_shown() {
    for (text, dialect, loaded) in fixtures() {
        let rewritten = rewrite(&loaded, std::slice::from_ref(&text), dialect);
        let model = read_back(&text.name, &rewritten.text);
        similar(&shown(&model), &shown(&loaded.model), &text.name);
        let complete = write(&loaded.model, Detail::Complete, &mut |_| Vec::new());
        similar(&shown(&read_back(&text.name, &complete)), &shown(&loaded.model), &text.name);
        assert_eq!(rewritten.lost.len(), loaded.warnings.0.len(), "{}: {:#?}", text.name, rewritten.lost);
    }
}

fn similar(got: &str, wanted: &str, name: &str) {
    for (got, wanted) in got.lines().zip(wanted.lines()) {
        assert_eq!(got, wanted, "{name}");
    }
    assert_eq!(got, wanted, "{name}");
}

#[test]
fn no_comment_of_a_fixture_is_lost() {
    for (text, dialect, loaded) in fixtures() {
        let rewritten = rewrite(&loaded, std::slice::from_ref(&text), dialect).text;
        let signs: &[char] = if dialect == Dialect::Chrony { &['#', '!', ';', '%'] } else { &['#'] };
        for line in text.contents.lines().filter(|line| line.trim_start().starts_with(signs)) {
            let comment = line.trim_start().trim_start_matches(signs).trim();
            assert!(rewritten.contains(comment), "{}: {comment}\n{rewritten}", text.name);
        }
    }
}

#[test]
fn comments_stay_with_their_source_and_losses_are_listed() {
    let text = Text::new(
        "chrony.conf",
        "# our upstream\nserver a.example nts iburst\n\n! keep steps small\nmakestep 0.5 3\nminsamples 9\nallow 10/8\n",
    );
    let loaded = parse(&text, Dialect::Chrony).expect("it loads");
    let rewritten = rewrite(&loaded, std::slice::from_ref(&text), Dialect::Chrony);
    assert!(rewritten.text.contains("# our upstream\n#\n[[source]]\nmode = \"nts\""), "{}", rewritten.text);
    assert!(rewritten.text.contains("# at `makestep 0.5 3`:\n# keep steps small\n"), "{}", rewritten.text);
    assert!(rewritten.text.contains("access-rules = [\"allow 10.0.0.0/8\"]"), "{}", rewritten.text);
    let [lost] = &rewritten.lost[..] else { panic!("{:?}", rewritten.lost) };
    assert!(lost.starts_with("chrony.conf:6: `minsamples`"), "{lost}");
    assert!(rewritten.text.ends_with(&format!("# - {lost}\n")), "{}", rewritten.text);
}

#[test]
fn what_only_ntpd_has_is_converted() {
    let text = Text::new(
        "ntp.conf",
        "logfile /var/log/ntp.log\nstatsdir /var/log/ntpstats/\nstatistics loopstats peerstats ntsstats\n\
         filegen loopstats file loops type week nolink enable\nfilegen rawstats type pid enable\n\
         filegen peerstats disable\nsetvar site = somewhere default\nsetvar rack = \"r 7\"\n\
         logconfig =peerall\ntinker freq -3.5\nrefclock shm unit 1 flag1 1 flag4 1\nrefclock nmea mode 1 flag4 1\n\
         leapsmearinterval 7200\nrestrict default version\ntos minclock 5 mindist 0.02 floor 1\n\
         tinker stepback 0\nrestrict 127.0.0.1\nrestrict 10.0.0.0/8 limited kod\n\
         restrict 2001:db8::/32 notrust limited version\n",
    );
    let loaded = parse(&text, Dialect::Ntpsec).expect("it loads");
    let files = &loaded.model.ntpd;
    assert!(files.log_file.is_some() && files.statistics_directory.is_some());
    assert_eq!(files.statistics.len(), 3, "{:?}", files.statistics);
    assert_eq!(loaded.model.observability.ntpq.variables.len(), 2);
    assert!(loaded.model.servers.iter().all(|server| server.terms.len() == 5));
    let rewritten = rewrite(&loaded, std::slice::from_ref(&text), Dialect::Ntpsec);
    let [lost, required] = &rewritten.lost[..] else { panic!("{:?}", rewritten.lost) };
    assert!(lost.starts_with("ntp.conf:13: leap seconds are smeared"), "{lost}");
    assert!(required.starts_with("ntp.conf:19: requests from there need authentication"), "{required}");
    let model = read_back("ntp.conf", &rewritten.text);
    similar(&shown(&model), &shown(&loaded.model), "ntp.conf");
}

#[test]
fn every_fixture_can_be_explained_source_by_source() {
    for (text, _, loaded) in fixtures() {
        let explanation = explain(&loaded.model);
        let sources = loaded.model.sources.len() + loaded.model.reference_clocks.len();
        assert_eq!(explanation.sources.len(), sources, "{}", text.name);
        assert!(!explanation.clock.is_empty() && !explanation.serving.is_empty(), "{}", text.name);
    }
}
