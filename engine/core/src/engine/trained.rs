//! What is trained of a model, and whether it can be.
use super::Named;
use crate::error::{Error, Result};
use crate::strides::is_overlapping;
use tch::{Kind, Tensor};

/// Checks the parameters that are to be trained, before anything is. A model without parameters is none of its
/// business: what it has may be elsewhere.
///
/// # Errors
/// All are frozen; one is of a kind or a layout that cannot be trained.
pub(super) fn check(parameters: &Named) -> Result<()> {
    let trained = || parameters.iter().filter(|(_, tensor)| tensor.requires_grad());
    if !parameters.is_empty() && trained().next().is_none() {
        return Err(Error::Usage(format!(
            "there is nothing to train: of the model's {} parameters, `{}` the first, all are frozen (requires_grad is \
             false)",
            parameters.len(),
            parameters[0].0
        )));
    }
    trained().try_for_each(|(name, tensor)| {
        let wrong = wrong_kind(tensor.kind()).or_else(|| wrong_layout(tensor));
        wrong.map_or(Ok(()), |wrong| Err(Error::Usage(format!("parameter `{name}` {wrong}"))))
    })
}

/// No optimizer loses small steps to a short type, in which it would have to add them up.
fn wrong_kind(kind: Kind) -> Option<String> {
    let name = match kind {
        Kind::Float | Kind::Double => return None,
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        Kind::ComplexHalf | Kind::ComplexFloat | Kind::ComplexDouble => {
            return Some(format!(
                "is complex ({kind:?}), which no optimizer here trains; keep it as real numbers with a last axis of 2 \
                 and make it complex in the forward (`torch.view_as_complex`), or freeze it (`requires_grad_(False)`)"
            ));
        }
        other => {
            return Some(format!(
                "is {other:?}, which cannot be trained; make the model in float32"
            ));
        }
    };
    Some(format!(
        "is {name}, in which small steps are lost; make the model in float32 and switch on `bf16` or `fp16`"
    ))
}

/// No step can change each of several elements at one place.
fn wrong_layout(tensor: &Tensor) -> Option<String> {
    is_overlapping(tensor).then(|| {
        format!(
            "of shape {:?} and strides {:?} has several elements at one place of memory, as `expand` makes them, so \
             that no step can change each: make it with `.contiguous()`",
            tensor.size(),
            tensor.stride()
        )
    })
}

/// How many parameters train, in words.
pub(super) fn line(parameters: &Named) -> String {
    let trained: Vec<_> = parameters.iter().filter(|(_, tensor)| tensor.requires_grad()).collect();
    let numbers: usize = trained.iter().map(|(_, tensor)| tensor.numel()).sum();
    format!("model: {} of {} parameters train, {numbers} numbers", trained.len(), parameters.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn named(kind: Kind, trained: &[bool]) -> Named {
        let tensor = |(i, &trained): (usize, &bool)| {
            let tensor = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).to_kind(kind);
            (format!("p{i}"), tensor.set_requires_grad(trained))
        };
        trained.iter().enumerate().map(tensor).collect()
    }

    /// Every kind that can have a gradient is trained, or refused by the parameter's name; frozen, none matters.
    #[test]
    fn every_kind_is_trained_or_refused() {
        use Kind::{BFloat16, ComplexDouble, ComplexFloat, Double, Float, Half};
        for (kind, said) in [
            (Float, None),
            (Double, None),
            (BFloat16, Some("parameter `p1` is bfloat16, in which small steps are lost")),
            (Half, Some("parameter `p1` is float16, in which small steps are lost")),
            (
                ComplexFloat,
                Some("parameter `p1` is complex (ComplexFloat), which no optimizer here trains"),
            ),
            (
                ComplexDouble,
                Some("parameter `p1` is complex (ComplexDouble), which no optimizer here trains"),
            ),
        ] {
            let found = check(&named(kind, &[false, true])).err().map(|error| error.to_string());
            match (said, &found) {
                (None, None) => {}
                (Some(said), Some(found)) if found.starts_with(said) => {}
                _ => panic!("{kind:?}: {found:?}"),
            }
            let mut frozen = named(kind, &[false]);
            frozen.extend(named(Float, &[false, true]).pop());
            assert!(check(&frozen).is_ok(), "{kind:?}, frozen");
        }
    }

    #[test]
    fn nothing_to_train_is_said() {
        let error = check(&named(Kind::Float, &[false, false])).unwrap_err().to_string();
        let expected = "there is nothing to train: of the model's 2 parameters, `p0` the first, all are frozen";
        assert!(error.starts_with(expected), "{error}");
        assert!(check(&Vec::new()).is_ok());
        let some = "model: 1 of 2 parameters train, 6 numbers";
        assert_eq!(line(&named(Kind::Float, &[false, true])), some);
    }

    #[test]
    fn elements_at_one_place_cannot_be_trained() {
        let expanded = Tensor::ones([1], (Kind::Float, Device::Cpu))
            .expand([4], false)
            .set_requires_grad(true);
        let error = check(&vec![("w".to_owned(), expanded)]).unwrap_err().to_string();
        assert!(
            error.starts_with("parameter `w` of shape [4] and strides [0] has several elements"),
            "{error}"
        );
    }
}
