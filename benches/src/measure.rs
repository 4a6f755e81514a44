//! Counters before and after: how much was done, and what it cost.

use anyhow::{Context, Result};
use std::fs;

/// What one measurement found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Figure {
    /// Answers, or key establishments, per second.
    pub(crate) per_second: f64,
    /// CPU time that the server's processes took for each; microseconds.
    pub(crate) cpu_microseconds: f64,
    /// Requests per second that were offered; none where clients wait for their answers.
    pub(crate) offered_per_second: Option<f64>,
}

/// The median of an odd number of figures, the upper one of an even number; each value for itself.
pub(crate) fn median(figures: &[Figure]) -> Option<Figure> {
    let middle = |value: fn(&Figure) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some(Figure {
        per_second: middle(|figure| figure.per_second)?,
        cpu_microseconds: middle(|figure| figure.cpu_microseconds)?,
        offered_per_second: middle(|figure| figure.offered_per_second.unwrap_or(0.0))
            .filter(|offered| *offered > 0.0),
    })
}

/// Median and 99th percentile; not a number of nothing.
pub(crate) fn percentiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [50, 99].map(|percent| values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN))
}

/// Nanoseconds that a process, its threads and its children have run; `schedstat` counts exactly, not by ticks.
pub(crate) fn cpu_nanoseconds(process: u32) -> Result<u64> {
    let mut sum = 0;
    let tasks = fs::read_dir(format!("/proc/{process}/task")).context("the server has ended")?;
    for task in tasks {
        let task = task?.path();
        let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        sum += schedstat.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            sum += cpu_nanoseconds(child.parse()?).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// Packets that an interface of our network has received.
pub(crate) fn received_packets(interface: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/net/dev")?;
    packets_of(&text, interface).with_context(|| format!("no interface {interface}"))
}

fn packets_of(text: &str, interface: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_taken_of_each_value() {
        let figure =
            |per_second, cpu_microseconds| Figure { per_second, cpu_microseconds, offered_per_second: None };
        let median = median(&[figure(3.0, 1.0), figure(1.0, 2.0), figure(2.0, 9.0)]);
        assert_eq!(median, Some(figure(2.0, 2.0)));
        assert_eq!(super::median(&[]), None);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(percentiles((1..=100).rev().map(f64::from).collect()), [51.0, 100.0]);
        assert_eq!(percentiles(vec![7.0]), [7.0, 7.0]);
        assert!(percentiles(Vec::new())[0].is_nan());
    }

    #[test]
    fn packets_are_read_from_the_second_column() {
        let text = "face |bytes packets errs\n    lo: 10 1 0\n load0: 4800 100 0 0 0\n";
        assert_eq!(packets_of(text, "load0"), Some(100));
        assert_eq!(packets_of(text, "load"), None);
    }
}
