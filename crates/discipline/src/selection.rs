//! Which sources tell the truth: the intersection algorithm. RFC 5905 §11.2.1.

/// Where true time lies if a source is right, as offsets of our clock; seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct CorrectnessInterval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl CorrectnessInterval {
    /// All offsets within `distance` of `middle`.
    pub(crate) fn around(middle: f64, distance: f64) -> Self {
        Self { low: middle - distance, high: middle + distance }
    }

    /// Whether every offset of the other is one of this, too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.low <= other.low && other.high <= self.high
    }
}

/// The interval on which a majority agrees, or `None`: the smallest number of falsetickers is assumed, fewer than
/// half, for which all the remaining intervals have a point in common. Where several groups of the same size do, it reaches
/// from the first to the last such point, and only who covers all of it belongs to each of them. Two of five falsetickers are found; three of
/// five that do not agree with each other leave no majority.
///
/// Deviation: RFC 5905 also counts midpoints outside of the common interval as falsetickers. That rejects two
/// correct sources of which one is near and the other far (its midpoint lies outside of the narrow interval of the
/// near one) and is not needed for the guarantee, so it is left out.
pub(crate) fn intersect(intervals: &[CorrectnessInterval]) -> Option<CorrectnessInterval> {
    let edges = edges(intervals);
    let sources = intervals.len();
    (0..sources).take_while(|falsetickers| 2 * falsetickers < sources).find_map(|falsetickers| {
        let needed = sources - falsetickers;
        let low = scan(edges.iter(), Edge::Low, needed)?;
        let high = scan(edges.iter().rev(), Edge::High, needed)?;
        Some(CorrectnessInterval { low, high })
    })
}

/// From the first to the last offset that more than half of the intervals share: where true time lies if any majority of
/// them is right. `None` when no majority shares anything.
pub(crate) fn possible(intervals: &[CorrectnessInterval]) -> Option<CorrectnessInterval> {
    let edges = edges(intervals);
    let needed = intervals.len() / 2 + 1;
    let low = scan(edges.iter(), Edge::Low, needed)?;
    let high = scan(edges.iter().rev(), Edge::High, needed)?;
    Some(CorrectnessInterval { low, high })
}

/// All ends in their order. Where ends meet, lower ends come first: intervals that touch agree.
fn edges(intervals: &[CorrectnessInterval]) -> Vec<(f64, Edge)> {
    let mut edges: Vec<(f64, Edge)> =
        intervals.iter().flat_map(|i| [(i.low, Edge::Low), (i.high, Edge::High)]).collect();
    edges.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    edges
}

/// One end of an interval; the order is that of ends at the same place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Edge {
    Low,
    High,
}

/// Walks inward until `needed` intervals are open, and says where that is.
fn scan<'a>(edges: impl Iterator<Item = &'a (f64, Edge)>, opening: Edge, needed: usize) -> Option<f64> {
    let mut open = 0usize;
    for &(place, edge) in edges {
        if edge == opening {
            open += 1;
            if open >= needed {
                return Some(place);
            }
        } else {
            open -= 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(middles: &[f64], distance: f64) -> Vec<CorrectnessInterval> {
        middles.iter().map(|&middle| CorrectnessInterval::around(middle, distance)).collect()
    }

    #[test]
    fn one_source_is_its_own_majority_and_none_is_not() {
        assert_eq!(intersect(&around(&[0.5], 0.1)).unwrap(), CorrectnessInterval::around(0.5, 0.1));
        assert!(intersect(&[]).is_none());
    }

    #[test]
    fn an_interval_covers_itself_and_what_is_inside_but_not_what_sticks_out() {
        let wide = CorrectnessInterval::around(0.0, 1.0);
        assert!(wide.covers(&wide) && wide.covers(&CorrectnessInterval::around(0.4, 0.5)));
        assert!(!wide.covers(&CorrectnessInterval::around(0.6, 0.5)));
        assert!(!CorrectnessInterval::around(0.0, 0.1).covers(&wide));
    }

    #[test]
    fn two_that_disagree_have_no_majority() {
        assert!(intersect(&around(&[0.0, 1.0], 0.1)).is_none());
        assert!(intersect(&around(&[0.0, 0.15], 0.1)).is_some());
    }

    #[test]
    fn n_of_2n_plus_1_falsetickers_are_found_and_one_more_is_not() {
        for n in 1..10u32 {
            let truth = f64::from(n) / 100.0;
            let mut middles: Vec<f64> = (0..=n).map(|i| truth + 1e-3 * f64::from(i)).collect();
            middles.extend((1..=n).map(|i| truth + f64::from(i)));
            let agreed = intersect(&around(&middles, 0.05)).unwrap();
            assert!(agreed.low <= truth + 0.05 && agreed.high >= truth - 0.05);
            let false_one = CorrectnessInterval::around(truth + 1.0, 0.05);
            assert!(!false_one.covers(&agreed));
            middles[0] = truth - 2.0;
            assert!(intersect(&around(&middles, 0.05)).is_none(), "{n}");
        }
    }

    #[test]
    fn true_time_may_lie_wherever_a_majority_does() {
        // The third touches the others: all agree there, but the third may be the wrong one.
        let intervals = around(&[0.0, 0.0, 1.9], 1.0);
        assert!((intersect(&intervals).unwrap().low - 0.9).abs() < 1e-12);
        assert_eq!(possible(&intervals).unwrap(), CorrectnessInterval::around(0.0, 1.0));
        assert_eq!(possible(&intervals[2..]).unwrap(), intervals[2]);
        assert!(possible(&around(&[0.0, 5.0], 1.0)).is_none());
    }

    #[test]
    fn of_two_majorities_only_who_belongs_to_both_is_believed() {
        let intervals = around(&[0.0, 1.0, 2.0], 0.6);
        let agreed = intersect(&intervals).unwrap();
        let believed: Vec<bool> = intervals.iter().map(|one| one.covers(&agreed)).collect();
        assert_eq!(believed, [false, true, false]);
    }

    #[test]
    fn intervals_that_only_touch_agree() {
        let touching = [CorrectnessInterval::around(0.0, 1.0), CorrectnessInterval::around(2.0, 1.0)];
        assert_eq!(intersect(&touching).unwrap(), CorrectnessInterval { low: 1.0, high: 1.0 });
        assert!(touching.iter().all(|one| one.covers(&intersect(&touching).unwrap())));
    }

    #[test]
    fn a_wide_interval_does_not_hide_a_narrow_majority() {
        let mut intervals = around(&[0.0, 0.001, 0.002], 0.01);
        intervals.push(CorrectnessInterval::around(0.5, 1.0));
        let agreed = intersect(&intervals).unwrap();
        assert!(agreed.high <= 0.012 + 1e-12 && agreed.low >= -0.01);
        // Two that agree, one near and one far: the midpoint of the far one does not matter.
        assert!(intersect(&[intervals[0], intervals[3]]).is_some());
    }
}
