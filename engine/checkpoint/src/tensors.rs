//! Tensors in the format of safetensors.
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use tch::{Kind, Tensor};
use trainyard::BoxError;

/// Alignment of the tensors' bytes behind the header.
const ALIGNMENT: usize = 8;

/// What a file of tensors begins with: their names, types, shapes and places.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    /// The length and the text, as they are written.
    pub bytes: Vec<u8>,
    /// Bytes of all tensors, one behind the other.
    pub tensor_bytes: usize,
}

/// The header of `tensors`, which are written in this order, row by row.
///
/// # Errors
/// A tensor is of a type that the format has not.
pub fn header<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<Header, BoxError> {
    header_with(tensors, None)
}

/// The same with texts by name, of which the format makes no use.
///
/// # Errors
/// As [`header`].
pub fn header_with<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<Header, BoxError> {
    let mut infos = Vec::new();
    let mut end = 0;
    for (name, tensor) in tensors {
        let dtype = dtype(tensor.kind()).ok_or_else(|| {
            format!("`{name}` is of type {:?}, which safetensors has not", tensor.kind())
        })?;
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        let begin = end;
        end += bytes_of(tensor);
        infos.push((name.to_owned(), TensorInfo { dtype, shape, data_offsets: (begin, end) }));
    }
    let mut text = serde_json::to_vec(&Metadata::new(metadata, infos)?)?;
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    Ok(Header { bytes, tensor_bytes: end })
}

/// Bytes of a tensor's elements.
pub fn bytes_of(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// Copies a tensor's elements, row by row, from whatever device and layout, to `to`, which is as long.
///
/// # Errors
/// libtorch's.
pub fn copy_to(tensor: &Tensor, to: &mut [u8]) -> Result<(), BoxError> {
    Ok(tensor.detach().f_copy_data_u8(to, tensor.numel())?)
}

/// The tensors of a file that was read whole, on the CPU.
///
/// # Errors
/// It is no such file, or one that contradicts itself; a type that libtorch has not.
pub fn parse(file: &[u8]) -> Result<Vec<(String, Tensor)>, BoxError> {
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let tensor = from_bytes(&name, view.dtype(), view.shape(), view.data())?;
        Ok((name, tensor))
    };
    SafeTensors::deserialize(file)?.tensors().into_iter().map(tensor).collect()
}

/// The tensor called `name` of these elements, row by row, on the CPU.
///
/// # Errors
/// A type that libtorch has not, or values that are none of the type.
pub fn from_bytes(
    name: &str,
    dtype: Dtype,
    shape: &[usize],
    bytes: &[u8],
) -> Result<Tensor, BoxError> {
    let kind =
        kind(dtype).ok_or_else(|| format!("`{name}` is of type {dtype:?}, which is not read"))?;
    if kind == Kind::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err(format!("`{name}` has truth values other than 0 and 1").into());
    }
    let shape: Vec<_> = shape.iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_from_data_size(bytes, &shape, kind)?)
}

const TYPES: [(Kind, Dtype); 11] = [
    (Kind::Bool, Dtype::BOOL),
    (Kind::Uint8, Dtype::U8),
    (Kind::Int8, Dtype::I8),
    (Kind::Int16, Dtype::I16),
    (Kind::Int, Dtype::I32),
    (Kind::Int64, Dtype::I64),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Half, Dtype::F16),
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::ComplexFloat, Dtype::C64),
];

fn dtype(kind: Kind) -> Option<Dtype> {
    TYPES.iter().find(|(have, _)| *have == kind).map(|(_, dtype)| *dtype)
}

/// The type as libtorch has it.
pub fn kind(dtype: Dtype) -> Option<Kind> {
    TYPES.iter().find(|(_, have)| *have == dtype).map(|(kind, _)| *kind)
}
