//! Which truechimers are worth listening to: the cluster algorithm. RFC 5905 §11.2.2.

/// A truechimer as the cluster algorithm sees it; seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Survivor {
    /// Remote minus local.
    pub(crate) offset: f64,
    /// Scatter of its own samples.
    pub(crate) jitter: f64,
    /// Distance by which truechimers are ranked.
    pub(crate) distance: f64,
}

/// Cuts off, one by one, the survivor that is farthest from all others, until the scatter among them is no greater
/// than the scatter of their own samples: what is left cannot be improved by leaving out more. `selected` stays, and so do
/// `least` of them. RFC 5905 §7.2 (NMIN).
/// Returns which of `survivors` remain.
pub(crate) fn prune(survivors: &[Survivor], selected: usize, least: usize) -> Vec<bool> {
    let mut kept = vec![true; survivors.len()];
    loop {
        let members: Vec<usize> = (0..survivors.len()).filter(|&index| kept[index]).collect();
        if members.len() <= least.max(1) {
            return kept;
        }
        let worst = members
            .iter()
            .filter(|&&index| index != selected)
            .map(|&index| (index, selection_jitter(survivors, &members, index)))
            .max_by(|a, b| (a.1 * survivors[a.0].distance).total_cmp(&(b.1 * survivors[b.0].distance)));
        let jitter_min = members.iter().map(|&index| survivors[index].jitter).fold(f64::INFINITY, f64::min);
        match worst {
            Some((index, jitter)) if jitter > jitter_min.max(JITTER_FLOOR) => kept[index] = false,
            _ => return kept,
        }
    }
}

/// Scatter among sources that is not worth cutting off anyone for, seconds: asymmetries of paths are larger.
const JITTER_FLOOR: f64 = 5e-5;

/// Root mean square of the distances from one survivor to the others.
fn selection_jitter(survivors: &[Survivor], members: &[usize], index: usize) -> f64 {
    let sum: f64 =
        members.iter().map(|&other| (survivors[other].offset - survivors[index].offset).powi(2)).sum();
    (sum / (members.len() as f64 - 1.0).max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivors(offsets: &[f64], jitter: f64) -> Vec<Survivor> {
        offsets.iter().map(|&offset| Survivor { offset, jitter, distance: 0.01 }).collect()
    }

    #[test]
    fn the_outlier_is_cut_off_and_the_rest_stays() {
        let kept = prune(&survivors(&[0.0, 1e-5, 2e-5, 1e-5, 5e-3], 1e-4), 0, 3);
        assert_eq!(kept, [true, true, true, true, false]);
    }

    #[test]
    fn as_few_as_wished_are_never_thinned_out_and_the_selected_one_stays() {
        assert_eq!(prune(&survivors(&[0.0, 1e-5, 5e-3], 1e-6), 0, 3), [true; 3]);
        assert_eq!(prune(&survivors(&[0.0, 1e-5, 5e-3], 1e-6), 0, 2), [true, true, false]);
        assert_eq!(prune(&survivors(&[0.0, 1e-5, 5e-3, 1e-2], 1e-6), 0, 4), [true; 4]);
        assert!(prune(&survivors(&[0.0, 1e-5, 2e-5, 5e-3], 1e-6), 3, 3)[3]);
    }

    #[test]
    fn scatter_below_that_of_the_samples_is_left_alone() {
        assert_eq!(prune(&survivors(&[0.0, 1e-4, 2e-4, 3e-4], 1e-3), 0, 3), [true; 4]);
    }
}
