//! Which gradients travel together.

/// What the layout has to know of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<K> {
    /// The block that it belongs to.
    pub block: Option<usize>,
    /// Its elements.
    pub elements: usize,
    /// Kind and device: a bucket has one.
    pub sort: K,
}

/// The buckets in the order in which they are sent, each with the indices of its parameters.
///
/// `parts`: the parameters in the order in which the model made them. A backward pass completes gradients
/// about in the reverse of it, so that is the order here. A bucket takes as many parameters as fit into
/// `limit` elements, and ends where a block does; a block beyond the limit has a bucket of its own. It
/// depends on the model alone: the same on every rank, in every step and after a resume, whatever was
/// dropped.
pub fn buckets<K: PartialEq + Copy>(parts: &[Part<K>], limit: usize) -> Vec<Vec<usize>> {
    let mut units: Vec<Vec<usize>> = Vec::new();
    for (i, part) in parts.iter().enumerate().rev() {
        match units.last_mut() {
            Some(unit) if part.block.is_some() && parts[unit[0]].block == part.block => {
                unit.push(i);
            }
            _ => units.push(vec![i]),
        }
    }
    let elements = |bucket: &[usize]| bucket.iter().map(|&i| parts[i].elements).sum::<usize>();
    let mut out: Vec<Vec<usize>> = Vec::new();
    for unit in units.into_iter().flat_map(|unit| by_sort(unit, parts)) {
        match out.last_mut() {
            Some(bucket)
                if elements(bucket) + elements(&unit) <= limit
                    && parts[bucket[0]].sort == parts[unit[0]].sort =>
            {
                bucket.extend(unit);
            }
            _ => out.push(unit),
        }
    }
    out
}

/// The unit in runs of one sort.
fn by_sort<K: PartialEq + Copy>(unit: Vec<usize>, parts: &[Part<K>]) -> Vec<Vec<usize>> {
    unit.chunk_by(|&a, &b| parts[a].sort == parts[b].sort).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(of: &[(Option<usize>, usize)]) -> Vec<Part<char>> {
        let part = |&(block, elements): &_| Part { block, elements, sort: 'f' };
        of.iter().map(part).collect()
    }

    /// Embedding, two blocks of two parameters, head.
    fn model() -> Vec<Part<char>> {
        parts(&[(None, 50), (Some(0), 10), (Some(0), 20), (Some(1), 10), (Some(1), 20), (None, 5)])
    }

    #[test]
    fn the_last_block_goes_first_and_no_bucket_ends_within_one() {
        assert_eq!(buckets(&model(), 30), [vec![5], vec![4, 3], vec![2, 1], vec![0]]);
        assert_eq!(buckets(&model(), 35), [vec![5, 4, 3], vec![2, 1], vec![0]]);
        assert_eq!(buckets(&model(), 65), [vec![5, 4, 3, 2, 1], vec![0]]);
        assert_eq!(buckets(&model(), 1), [vec![5], vec![4, 3], vec![2, 1], vec![0]]);
        assert_eq!(buckets(&model(), usize::MAX / 2), [vec![5, 4, 3, 2, 1, 0]]);
        assert_eq!(buckets::<char>(&[], 10), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_bucket_has_one_kind() {
        let mut parts = model();
        parts[3].sort = 'h';
        assert_eq!(buckets(&parts, 1000), [vec![5, 4], vec![3], vec![2, 1, 0]]);
    }
}
