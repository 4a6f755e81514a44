//! What a misspelt word was meant to be.

/// The candidate that a misspelt word was meant to be: at most a third of its letters differ.
pub(crate) fn nearest<'k>(word: &str, candidates: &[&'k str]) -> Option<&'k str> {
    // Distances beyond any configuration word are not worth their quadratic work.
    const LETTERS_MAX: usize = 64;
    if word.len() > LETTERS_MAX {
        return None;
    }
    let folded = word.to_lowercase().replace('_', "-");
    candidates
        .iter()
        .map(|candidate| (edit_distance(&folded, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(folded.len()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours that make one word the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters_and_swapped_neighbours() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("adress", "address"), 1);
        assert_eq!(edit_distance("lisetn", "listen"), 1);
        assert_eq!(edit_distance("same", "same"), 0);
    }

    #[test]
    fn only_near_words_are_suggested() {
        let keys = ["address", "certificate-authority", "port"];
        assert_eq!(nearest("adress", &keys), Some("address"));
        assert_eq!(nearest("certificate_authority", &keys), Some("certificate-authority"));
        assert_eq!(nearest("Port", &keys), Some("port"));
        assert_eq!(nearest("minpoll", &keys), None);
        assert_eq!(nearest(&"x".repeat(10_000), &keys), None);
    }
}
