//! What a model from PyTorch keeps: parameters and buffers by their own names.
use crate::error::Result;
use crate::strides::{distinct, is_overlapping};
use tch::Tensor;
use tch::nn::{Path, VarStore};
use trainyard_native as native;

/// A tensor of a model.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Dotted.
    pub name: String,
    pub tensor: Tensor,
    /// A parameter; else a buffer.
    pub parameter: bool,
}

impl Kept {
    /// That there are parameters (`none` says what may be behind it where there are not), that every one has memory of its own for each element, and is finite, and that no
    /// buffer is NaN.
    pub fn check(kept: &[Self], none: &str) -> std::result::Result<(), String> {
        if !kept.iter().any(|kept| kept.parameter) {
            return Err(format!("there is nothing to train: it has no parameters; {none}"));
        }
        for Kept { name, tensor, parameter, .. } in kept {
            // A buffer may repeat itself along whole axes, which `expand` makes of one item.
            let own = if *parameter { Ok(tensor.shallow_clone()) } else { distinct(tensor) };
            if is_overlapping(&own.map_err(|error| error.to_string())?) {
                let what = if *parameter { "parameter" } else { "buffer" };
                return Err(format!(
                    "{what} `{name}` of shape {:?} and strides {:?} has several elements at one place of memory, as \
                     `expand` makes them, so that no step can change each: export it after `.contiguous()`",
                    tensor.size(),
                    tensor.stride()
                ));
            }
        }
        let floating = |v: &&Kept| v.parameter && v.tensor.is_floating_point();
        let parameters: Vec<_> = kept.iter().filter(floating).collect();
        let tensors: Vec<_> = parameters.iter().map(|v| v.tensor.detach()).collect();
        if let Some(index) = native::first_non_finite(&tensors).map_err(|error| error.0)? {
            return Err(format!(
                "parameter `{}` has values that are not finite; a training that diverged may have \
                 written them",
                parameters[index].name
            ));
        }
        // Masks are infinite for good reason.
        let buffers = kept.iter().filter(|v| !v.parameter && v.tensor.is_floating_point());
        for buffer in buffers {
            let nan = buffer.tensor.f_isnan().and_then(|nan| nan.f_any()?.f_int64_value(&[]));
            if nan.map_err(|error| error.to_string())? != 0 {
                return Err(format!(
                    "buffer `{}` has values that are NaN; a training that diverged may have written them",
                    buffer.name
                ));
            }
        }
        Ok(())
    }

    /// Puts parameters and buffers into `variables`, sharing their memory.
    pub fn add_to(kept: &[Self], variables: &VarStore) -> Result<()> {
        for variable in kept {
            let (folder, name) = match variable.name.rsplit_once('.') {
                Some((folder, name)) => (below(variables.root(), folder), name),
                None => (variables.root(), variable.name.as_str()),
            };
            // Whole numbers have no gradient; complex ones have, and the engine says what it trains.
            let differentiable =
                variable.tensor.is_floating_point() || variable.tensor.f_is_complex()?;
            let trainable = variable.parameter && differentiable;
            let frozen = trainable && !variable.tensor.requires_grad();
            let added = folder.add(name, variable.tensor.shallow_clone(), trainable);
            if frozen {
                let _ = added.f_set_requires_grad(false)?;
            }
        }
        Ok(())
    }
}

fn below<'a>(root: Path<'a>, folder: &str) -> Path<'a> {
    folder.split('.').fold(root, |path, name| path / name)
}
