//! One input of all samples: rows of equal size in mapped files.

use std::path::PathBuf;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::Dtype;
use tch::{Kind, TchError, Tensor};

use crate::{Result, memory};

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
    pub fn of_safetensors(dtype: Dtype) -> std::result::Result<Self, String> {
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

    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// What holds the numbers of both: integers become int64 where they do not become the same anyway.
    pub fn joined(self, other: Self) -> Option<Self> {
        match self.kind() == other.kind() {
            true => Some(self),
            false => (self.is_integer() && other.is_integer()).then_some(Self::I64),
        }
    }

    /// Integers as int64.
    pub fn integers(self, bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
        let signed = matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64);
        let unused = 64 - 8 * self.bytes() as u32;
        bytes.chunks_exact(self.bytes()).map(move |number| {
            let bits = number.iter().rev().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
            match signed {
                true => (bits << unused) as i64 >> unused,
                false => bits as i64,
            }
        })
    }

    /// Whether each number is NaN or infinite; `false` for what is no floating point.
    pub fn not_finite(self, bytes: &[u8]) -> impl Iterator<Item = bool> + '_ {
        // All bits of the exponent are set.
        let exponent: u64 = match self {
            Self::F16 => 0x7c00,
            Self::Bf16 => 0x7f80,
            Self::F32 => 0x7f80_0000,
            Self::F64 => 0x7ff0_0000_0000_0000,
            _ => u64::MAX,
        };
        let float = self.is_float();
        bytes.chunks_exact(self.bytes()).map(move |number| {
            let bits = number.iter().rev().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
            float && bits & exponent == exponent
        })
    }

    /// `bytes`: as many numbers as `shape` has.
    fn tensor(self, bytes: &[u8], shape: &[i64]) -> std::result::Result<Tensor, TchError> {
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
    pub element: Element,
    /// Where the rows begin, in bytes; they are known to lie within the file.
    pub offset: usize,
    /// Index of the first row among those of all parts.
    pub first: usize,
    /// Number of rows, which may be 0.
    pub rows: usize,
}

/// One input of all samples.
#[derive(Clone)]
pub(super) struct Column {
    pub name: String,
    /// What holds the numbers of every part.
    pub element: Element,
    /// Sizes of one sample.
    pub item: Vec<i64>,
    /// In the order of their rows.
    pub parts: Vec<Part>,
}

/// Where a row lies.
pub(super) struct Place<'c> {
    pub part: &'c Part,
    /// Index of the row within the part.
    pub row: usize,
}

impl Column {
    pub fn rows(&self) -> usize {
        self.parts.last().map_or(0, |part| part.first + part.rows)
    }

    /// Numbers in a sample.
    pub fn numbers(&self) -> usize {
        self.item.iter().product::<i64>() as usize
    }

    /// Bytes of a sample in a batch.
    pub fn sample_bytes(&self) -> u64 {
        self.numbers() as u64 * self.element.kind().elt_size_in_bytes() as u64
    }

    /// `row` is below [`Column::rows`].
    pub fn place(&self, row: usize) -> Place<'_> {
        // Of parts that begin at the same row, the last is the one that has rows.
        let part = &self.parts[self.parts.partition_point(|part| part.first <= row) - 1];
        Place { part, row: row - part.first }
    }

    /// The numbers of a part, as they lie in the file.
    pub fn bytes<'c>(&self, part: &'c Part) -> &'c [u8] {
        &part.map[part.offset..][..part.rows * self.row_bytes(part)]
    }

    /// Bytes of a row of a part.
    pub fn row_bytes(&self, part: &Part) -> usize {
        self.numbers() * part.element.bytes()
    }

    fn row<'c>(&self, Place { part, row }: &Place<'c>) -> &'c [u8] {
        let bytes = self.row_bytes(part);
        &self.bytes(part)[row * bytes..][..bytes]
    }

    /// The rows asked for: [rows, sizes of one sample...].
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn gather(&self, rows: &[usize]) -> Result<Tensor> {
        let shape = [&[rows.len() as i64], &self.item[..]].concat();
        let places: Vec<_> = rows.iter().map(|&row| self.place(row)).collect();
        let what = || format!("{} samples of `{}`", rows.len(), self.name);
        let alike = |element| places.iter().all(|place| place.part.element == element);
        let Some(element) = places.first().map(|place| place.part.element).filter(|&e| alike(e))
        else {
            let mut numbers: Vec<i64> = memory::reserved(rows.len() * self.numbers(), what)?;
            for place in &places {
                numbers.extend(place.part.element.integers(self.row(place)));
            }
            return Ok(Tensor::f_from_slice(&numbers)?.f_view(shape.as_slice())?);
        };
        let bytes = rows.len() * self.numbers() * element.bytes();
        let mut bytes: Vec<u8> = memory::reserved(bytes, what)?;
        places.iter().for_each(|place| bytes.extend_from_slice(self.row(place)));
        let tensor = element.tensor(&bytes, &shape)?;
        drop(bytes);
        Ok(tensor.f_to_kind(self.element.kind())?)
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

    #[test]
    fn integers_of_all_widths_are_the_same_numbers() {
        let numbers = |element: Element, bytes: &[u8]| element.integers(bytes).collect::<Vec<_>>();
        assert_eq!(numbers(Element::U8, &[1, 0xff]), [1, 255]);
        assert_eq!(numbers(Element::I8, &[1, 0xff]), [1, -1]);
        assert_eq!(numbers(Element::U16, &[1, 0, 0xff, 0xff]), [1, 65535]);
        assert_eq!(numbers(Element::I16, &[1, 0, 0xff, 0xff]), [1, -1]);
        assert_eq!(numbers(Element::U32, &u32::MAX.to_le_bytes()), [4294967295]);
        assert_eq!(numbers(Element::I32, &(-7i32).to_le_bytes()), [-7]);
        assert_eq!(numbers(Element::I64, &i64::MIN.to_le_bytes()), [i64::MIN]);
    }

    #[test]
    fn nan_and_infinity_are_seen_in_every_type() {
        let seen = |element: Element, bytes: &[u8]| element.not_finite(bytes).collect::<Vec<_>>();
        // 1, infinity, NaN; bfloat16 is the upper half of float32.
        let floats = [1.0, f32::INFINITY, f32::NAN].map(f32::to_le_bytes);
        assert_eq!(seen(Element::F32, &floats.concat()), [false, true, true]);
        let halves = floats.map(|number| [number[2], number[3]]).concat();
        assert_eq!(seen(Element::Bf16, &halves), [false, true, true]);
        let doubles = [f64::MAX, f64::NEG_INFINITY, f64::NAN].map(f64::to_le_bytes).concat();
        assert_eq!(seen(Element::F64, &doubles), [false, true, true]);
        assert_eq!(seen(Element::F16, &[0, 0x3c, 0, 0x7c, 0, 0xfe]), [false, true, true]);
        assert_eq!(seen(Element::I64, &[0xff; 8]), [false]);
    }
}
