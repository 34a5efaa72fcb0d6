//! A model's tensors as safetensors.
use crate::files::Files;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::io::Write;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::BoxError;

/// Alignment of the tensors' bytes behind the header.
const ALIGNMENT: usize = 8;

/// The tensors of a model, parameters and buffers, by name.
#[derive(Debug)]
pub struct Weights {
    /// Sorted by name, sharing the model's memory.
    tensors: Vec<(String, Tensor)>,
}

impl Weights {
    /// All that `variables` hold.
    pub fn of(variables: &VarStore) -> Self {
        let mut tensors: Vec<_> = variables.variables().into_iter().collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Weights { tensors }
    }

    /// By name, sorted.
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }

    /// Writes `model.safetensors`, whatever the numbers: [`Engine::check_finite`](trainyard::Engine::check_finite) looks at
    /// them, and a [`Run`](crate::Run) calls it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, files: &mut dyn Files) -> Result<(), BoxError> {
        files.file("model.safetensors", &mut |to| write(&self.tensors, to))?;
        Ok(())
    }
}

/// Writes tensors in the format of safetensors, without metadata, one after the other.
///
/// # Errors
/// A tensor is of a type that the format has not; it cannot be written.
pub fn write<T: AsRef<Tensor>>(
    tensors: &[(String, T)],
    to: &mut dyn Write,
) -> Result<(), BoxError> {
    let mut infos = Vec::new();
    let mut end = 0;
    for (name, tensor) in tensors {
        let tensor = tensor.as_ref();
        let dtype = dtype(tensor.kind()).ok_or_else(|| {
            format!("`{name}` is of type {:?}, which safetensors has not", tensor.kind())
        })?;
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        let begin = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        infos.push((name.clone(), TensorInfo { dtype, shape, data_offsets: (begin, end) }));
    }
    let mut header = serde_json::to_vec(&Metadata::new(None, infos)?)?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    to.write_all(&(header.len() as u64).to_le_bytes())?;
    to.write_all(&header)?;
    let mut bytes = Vec::new();
    for (_, tensor) in tensors {
        // The format has no strides.
        let tensor = tensor.as_ref().detach().f_to_device(Device::Cpu)?.f_contiguous()?;
        let elements = tensor.numel();
        bytes.resize(elements * tensor.kind().elt_size_in_bytes(), 0);
        tensor.f_copy_data_u8(&mut bytes, elements)?;
        to.write_all(&bytes)?;
    }
    Ok(())
}

fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Bool => Dtype::BOOL,
        Kind::Uint8 => Dtype::U8,
        Kind::Int8 => Dtype::I8,
        Kind::Int16 => Dtype::I16,
        Kind::Int => Dtype::I32,
        Kind::Int64 => Dtype::I64,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::ComplexFloat => Dtype::C64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 11] = [
        Kind::Bool,
        Kind::Uint8,
        Kind::Int8,
        Kind::Int16,
        Kind::Int,
        Kind::Int64,
        Kind::BFloat16,
        Kind::Half,
        Kind::Float,
        Kind::Double,
        Kind::ComplexFloat,
    ];

    /// Every type, row by row and column by column, is what it was when it is read again.
    #[test]
    fn every_type_and_layout_comes_back() {
        for kind in KINDS {
            let rows = Tensor::arange(6, (Kind::Int64, Device::Cpu)).view([2, 3]).to_kind(kind);
            for tensor in
                [rows.shallow_clone(), rows.tr(), rows.narrow(1, 0, 0), rows.get(0).get(1)]
            {
                let mut file = Vec::new();
                write(&[("a".to_owned(), &tensor)], &mut file).unwrap();
                let read = safetensors::SafeTensors::deserialize(&file).unwrap();
                let view = read.tensor("a").unwrap();
                assert_eq!(Some(view.dtype()), dtype(kind));
                let again = Tensor::f_from_data_size(view.data(), &tensor.size(), kind).unwrap();
                assert!(again.equal(&tensor), "{kind:?} {tensor:?}");
            }
        }
    }

    #[test]
    fn what_the_format_lacks_is_named() {
        let tensor = Tensor::zeros([2], (Kind::ComplexDouble, Device::Cpu));
        let error = write(&[("a".to_owned(), &tensor)], &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "`a` is of type ComplexDouble, which safetensors has not");
    }
}
