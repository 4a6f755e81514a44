//! docs/control.md names every metric.

use chime_control::{Snapshot, metrics};
use chime_engine::SourceReport;

#[test]
fn every_metric_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/control.md");
    let page = std::fs::read_to_string(path).expect("the page is in the tree");
    let mut snapshot = Snapshot::default();
    snapshot.engine.sources.push(SourceReport::default());
    snapshot.engine.tracking.synchronized = true;
    for line in metrics::openmetrics(&snapshot).lines() {
        let Some(rest) = line.strip_prefix("# TYPE truechimer_") else { continue };
        let name = rest.split(' ').next().expect("a name");
        let short = name.strip_prefix("source_").unwrap_or(name);
        let named = [name.to_owned(), format!("{name}_total"), format!("{name}_info"), short.to_owned()];
        let found = named
            .iter()
            .any(|name| page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}{{")));
        assert!(found, "{name} is missing in docs/control.md");
    }
}
