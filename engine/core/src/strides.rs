//! How tensors lie in memory: any order of the axes, gaps, several elements at one place.
use crate::error::Result;
use tch::Tensor;

/// Whether a tensor fills one block of memory, each element at a place of its own. Its axes may lie in any order.
pub(crate) fn is_dense(tensor: &Tensor) -> bool {
    dense(&tensor.size(), &tensor.stride())
}

/// Whether several elements may lie at one place of memory.
pub(crate) fn is_overlapping(tensor: &Tensor) -> bool {
    overlapping(&tensor.size(), &tensor.stride())
}

/// The axes that reach beyond one item as (stride, size), the innermost first.
fn steps(sizes: &[i64], strides: &[i64]) -> Vec<(i64, i64)> {
    let axes = sizes.iter().zip(strides).filter(|(size, _)| **size > 1);
    let mut steps: Vec<_> = axes.map(|(&size, &stride)| (stride, size)).collect();
    steps.sort_unstable();
    steps
}

fn dense(sizes: &[i64], strides: &[i64]) -> bool {
    let mut filled = 1;
    sizes.contains(&0)
        || steps(sizes, strides).into_iter().all(|(stride, size)| {
            let next = stride == filled;
            filled *= size;
            next
        })
}

/// An axis' stride does not reach beyond the axes inside of it.
fn overlapping(sizes: &[i64], strides: &[i64]) -> bool {
    let mut reach = 0;
    !sizes.contains(&0)
        && steps(sizes, strides).into_iter().any(|(stride, size)| {
            let inside = stride <= reach;
            reach += stride * (size - 1);
            inside
        })
}

/// The part of a tensor that has memory of its own: the first item along each axis that only repeats it, as
/// `expand` makes them. It shares the tensor's memory.
pub(crate) fn distinct(tensor: &Tensor) -> Result<Tensor> {
    let strides = tensor.stride();
    let axes = tensor.size().into_iter().zip(strides).enumerate();
    let repeating = axes.filter(|(_, (size, stride))| *size > 1 && *stride == 0);
    repeating
        .map(|(axis, _)| axis as i64)
        .try_fold(tensor.shallow_clone(), |part, axis| Ok(part.f_narrow(axis, 0, 1)?))
}

/// A view of a flat tensor's elements from `offset` on, of the sizes of `like`, and laid out as `like` is where that
/// is dense.
pub(crate) fn view_like(flat: &Tensor, offset: i64, like: &Tensor) -> Result<Tensor> {
    let part = flat.f_narrow(0, offset, like.numel() as i64)?;
    Ok(match is_dense(like) && !like.is_contiguous() {
        true => part.f_as_strided(like.size(), like.stride(), None)?,
        false => part.f_view_as(like)?,
    })
}

/// A copy of `tensor` in one block of memory, its axes in the order that those of `like` have: as the state of an
/// optimizer lies for a parameter `like`.
pub(crate) fn copy_like(tensor: &Tensor, like: &Tensor) -> Result<Tensor> {
    let mut copy = like.detach().f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Sizes, strides; whether dense, whether overlapping.
    const LAYOUTS: [(&[i64], &[i64], bool, bool); 10] = [
        (&[], &[], true, false),
        (&[2, 3], &[3, 1], true, false),
        (&[2, 3], &[1, 2], true, false),
        // Channels last.
        (&[2, 3, 4, 5], &[60, 1, 15, 3], true, false),
        (&[2, 3], &[6, 2], false, false),
        (&[2, 3], &[1, 5], false, false),
        // The stride of an axis of one item is never used.
        (&[1, 3], &[0, 1], true, false),
        (&[2, 3], &[0, 1], false, true),
        (&[3, 3], &[1, 1], false, true),
        (&[0, 3], &[0, 0], true, false),
    ];

    #[test]
    fn layouts_by_hand() {
        for (sizes, strides, is_dense, is_overlapping) in LAYOUTS {
            let found = (dense(sizes, strides), overlapping(sizes, strides));
            assert_eq!(found, (is_dense, is_overlapping), "{sizes:?} {strides:?}");
        }
    }

    #[test]
    fn what_repeats_is_told_from_what_is_repeated() {
        let expanded = Tensor::from_slice(&[1f32, 2.0]).view([2, 1]).expand([3, 2, 4], false);
        let part = distinct(&expanded).unwrap();
        assert_eq!((part.size(), part.data_ptr()), (vec![1, 2, 1], expanded.data_ptr()));
        let plain = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        assert_eq!(distinct(&plain).unwrap().size(), [2, 3]);
    }

    #[test]
    fn views_and_copies_lie_as_their_pattern() {
        let flat = Tensor::arange(10, (Kind::Float, Device::Cpu));
        let turned = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)).tr();
        let view = view_like(&flat, 4, &turned).unwrap();
        assert_eq!((view.size(), view.stride()), (vec![2, 3], vec![1, 2]));
        assert_eq!(view, Tensor::from_slice(&[4f32, 6.0, 8.0, 5.0, 7.0, 9.0]).view([2, 3]));
        let gaps = Tensor::zeros([4, 6], (Kind::Float, Device::Cpu)).tr().slice(0, 0, 6, 2);
        assert_eq!(view_like(&flat, 0, &gaps.narrow(1, 0, 3)).unwrap().stride(), [3, 1]);
        let copy = copy_like(&gaps, &gaps).unwrap();
        assert_eq!(copy.stride(), gaps.zeros_like().stride());
        assert!(is_dense(&copy) && !is_dense(&gaps));
    }
}
