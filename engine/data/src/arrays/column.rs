//! One input of all samples: rows of equal size in mapped files.

use std::path::PathBuf;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::Dtype;
use tch::{Kind, TchError, Tensor};

/// Type of a number in a file, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    /// # Errors
    /// The end of a sentence on the tensor.
    pub fn of_safetensors(dtype: Dtype) -> Result<Self, String> {
        Ok(match dtype {
            Dtype::BOOL => Self::Bool,
            Dtype::U8 => Self::U8,
            Dtype::I8 => Self::I8,
            Dtype::U16 => Self::U16,
            Dtype::I16 => Self::I16,
            Dtype::U32 => Self::U32,
            Dtype::I32 => Self::I32,
            Dtype::I64 => Self::I64,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
            other => return Err(format!("has type {other:?}, which models do not take")),
        })
    }

    pub fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    pub fn is_integer(self) -> bool {
        !matches!(self, Self::Bool | Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// What it becomes in a batch.
    pub fn kind(self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::U8 => Kind::Uint8,
            Self::I8 => Kind::Int8,
            Self::U16 | Self::I16 | Self::U32 | Self::I32 | Self::I64 => Kind::Int64,
            Self::F16 => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
        }
    }

    /// `bytes`: as many numbers as `shape` has.
    fn tensor(self, bytes: &[u8], shape: &[i64]) -> Result<Tensor, TchError> {
        let as_it_is = |kind| Tensor::f_from_data_size(bytes, shape, kind);
        match self {
            // A byte that is neither 0 nor 1 is no bool to libtorch.
            Self::Bool => as_it_is(Kind::Uint8)?.f_ne(0),
            // Unsigned in the file, and signed to libtorch: the sign bit is the highest.
            Self::U16 => as_it_is(Kind::Int16)?.f_to_kind(Kind::Int64)?.f_bitwise_and(0xffff),
            Self::U32 => as_it_is(Kind::Int)?.f_to_kind(Kind::Int64)?.f_bitwise_and(0xffff_ffff),
            Self::I16 => as_it_is(Kind::Int16)?.f_to_kind(Kind::Int64),
            Self::I32 => as_it_is(Kind::Int)?.f_to_kind(Kind::Int64),
            _ => as_it_is(self.kind()),
        }
    }
}

/// Rows within one file.
#[derive(Clone)]
pub(super) struct Part {
    pub path: PathBuf,
    pub map: Arc<Mmap>,
    /// Where the rows begin, in bytes; they are known to lie within the file.
    pub offset: usize,
    pub rows: usize,
}

/// One input of all samples.
#[derive(Clone)]
pub(super) struct Column {
    pub name: String,
    pub element: Element,
    /// Sizes of one sample.
    pub item: Vec<i64>,
    pub parts: Vec<Part>,
}

impl Column {
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    pub fn row_bytes(&self) -> usize {
        self.element.bytes() * self.item.iter().product::<i64>() as usize
    }

    fn row(&self, mut row: usize) -> &[u8] {
        let bytes = self.row_bytes();
        for part in &self.parts {
            if row < part.rows {
                return &part.map[part.offset + row * bytes..][..bytes];
            }
            row -= part.rows;
        }
        unreachable!("a sample is below the number of rows")
    }

    /// The rows asked for: [rows, sizes of one sample...].
    ///
    /// # Errors
    /// If libtorch has no memory for them.
    pub fn gather(&self, rows: &[usize]) -> Result<Tensor, TchError> {
        let mut bytes = Vec::with_capacity(rows.len() * self.row_bytes());
        rows.iter().for_each(|&row| bytes.extend_from_slice(self.row(row)));
        let shape = [&[rows.len() as i64], &self.item[..]].concat();
        self.element.tensor(&bytes, &shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_what_models_take() {
        let tensor = |element: Element, bytes: &[u8]| {
            let count = bytes.len() / element.bytes();
            let tensor = element.tensor(bytes, &[count as i64]).unwrap();
            assert_eq!(tensor.kind(), element.kind());
            Vec::<f64>::try_from(tensor.to_kind(Kind::Double)).unwrap()
        };
        assert_eq!(tensor(Element::U16, &[1, 0, 0xff, 0xff]), [1.0, 65535.0]);
        assert_eq!(tensor(Element::I16, &[1, 0, 0xff, 0xff]), [1.0, -1.0]);
        assert_eq!(tensor(Element::U32, &u32::MAX.to_le_bytes()), [4294967295.0]);
        assert_eq!(tensor(Element::I32, &(-7i32).to_le_bytes()), [-7.0]);
        assert_eq!(tensor(Element::I64, &(-7i64).to_le_bytes()), [-7.0]);
        assert_eq!(tensor(Element::Bool, &[0, 1, 7]), [0.0, 1.0, 1.0]);
        assert_eq!(tensor(Element::U8, &[200]), [200.0]);
        assert_eq!(tensor(Element::I8, &[200]), [-56.0]);
        assert_eq!(tensor(Element::F16, &[0, 0x3c]), [1.0]);
        assert_eq!(tensor(Element::Bf16, &[0x80, 0x3f]), [1.0]);
        assert_eq!(tensor(Element::F32, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(tensor(Element::F64, &1.5f64.to_le_bytes()), [1.5]);
    }
}
