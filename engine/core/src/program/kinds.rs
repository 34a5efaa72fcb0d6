//! The numbers by which the schema calls types, layouts and memory formats, and libtorch's own.
use tch::Kind;

/// The schema's number of a type with libtorch's, and tch's name where it has one.
const TYPES: [(u32, i64, Option<Kind>); 18] = [
    (1, 0, Some(Kind::Uint8)),
    (2, 1, Some(Kind::Int8)),
    (3, 2, Some(Kind::Int16)),
    (4, 3, Some(Kind::Int)),
    (5, 4, Some(Kind::Int64)),
    (6, 5, Some(Kind::Half)),
    (7, 6, Some(Kind::Float)),
    (8, 7, Some(Kind::Double)),
    (9, 8, Some(Kind::ComplexHalf)),
    (10, 9, Some(Kind::ComplexFloat)),
    (11, 10, Some(Kind::ComplexDouble)),
    (12, 11, Some(Kind::Bool)),
    (13, 15, Some(Kind::BFloat16)),
    (28, 27, None),
    (29, 24, Some(Kind::Float8e4m3fn)),
    (30, 23, Some(Kind::Float8e5m2)),
    (31, 26, Some(Kind::Float8e4m3fnuz)),
    (32, 25, Some(Kind::Float8e5m2fnuz)),
];

/// Libtorch's number of a type.
pub fn type_number(schema: u32) -> Option<i64> {
    TYPES.iter().find(|(number, ..)| *number == schema).map(|(_, number, _)| *number)
}

/// The type itself.
pub fn kind(schema: u32) -> Option<Kind> {
    TYPES.iter().find(|(number, ..)| *number == schema).and_then(|(.., kind)| *kind)
}

/// Libtorch's number of a memory format: contiguous, channels last in two and three dimensions, preserved.
pub fn memory_format(schema: u32) -> Option<i64> {
    [(1, 0), (2, 2), (3, 3), (4, 1)].iter().find(|(number, _)| *number == schema).map(|(_, n)| *n)
}

/// Libtorch's number of a layout: strided, the only one that is read.
pub fn layout(schema: u32) -> Option<i64> {
    (schema == 7).then_some(0)
}
