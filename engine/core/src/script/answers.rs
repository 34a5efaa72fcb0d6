//! What libtorch says of numbers that do not go together, with the inputs that are behind it.
use std::borrow::Borrow;
use tch::{Kind, Tensor};

/// Words of libtorch's complaints that two operands are of different kinds.
const COMPLAINTS: [&str; 6] = [
    "same dtype",
    "should be the same",
    "to have the same dtype",
    "expected scalar type",
    "must match, got",
    "Expected object of scalar type",
];

/// What to add to a forward's `message`: the inputs of another kind than the `parameters`, and what to do. None if
/// the message is about something else, or all are of that kind.
pub(super) fn other_kinds<N: AsRef<str>, T: Borrow<Tensor>>(
    message: &str,
    inputs: &[(N, T)],
    parameters: Option<Kind>,
) -> Option<String> {
    let parameters =
        parameters.filter(|_| COMPLAINTS.iter().any(|words| message.contains(words)))?;
    let others = inputs.iter().map(|(name, tensor)| (name.as_ref(), tensor.borrow()));
    let others: Vec<_> = others.filter(|(_, tensor)| tensor.kind() != parameters).collect();
    // Whole numbers are indices as a rule, but for where there is nothing else.
    let real = |(_, tensor): &&(&str, &Tensor)| tensor.is_floating_point();
    let mut blamed: Vec<_> = others.iter().filter(real).collect();
    if blamed.is_empty() {
        blamed = others.iter().collect();
    }
    let named =
        blamed.iter().map(|(name, tensor)| format!("input `{name}` is {}", numpy(tensor.kind())));
    let named = named.collect::<Vec<_>>().join(", ");
    let (first, _) = blamed.first()?;
    let kind = numpy(parameters);
    Some(format!(
        "{named}, and the model's parameters are {kind}: save the data as {kind} (`{first}.astype(\"{kind}\")` in \
         numpy), or export a model that converts it"
    ))
}

/// A kind by numpy's name, as the files of samples have it.
pub(crate) fn numpy(kind: Kind) -> String {
    match kind {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Uint8 => "uint8",
        Kind::Int8 => "int8",
        Kind::Int16 => "int16",
        Kind::Int => "int32",
        Kind::Int64 => "int64",
        Kind::Bool => "bool",
        other => return format!("{other:?}"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_input_is_named_with_its_kind_and_the_remedy() {
        let of = |kind| Tensor::zeros([1], (kind, Device::Cpu));
        let inputs = |kinds: &[Kind]| -> Vec<(String, Tensor)> {
            kinds.iter().enumerate().map(|(i, &kind)| (format!("x{i}"), of(kind))).collect()
        };
        let said = "mat1 and mat2 must have the same dtype, but got Double and Float";
        for (kinds, message, expected) in [
            (
                &[Kind::Double][..],
                said,
                Some("input `x0` is float64, and the model's parameters are float32: "),
            ),
            (&[Kind::Int64, Kind::Half], said, Some("input `x1` is float16, and ")),
            (
                &[Kind::Uint8],
                "Input type (unsigned char) and bias type (float) should be the same",
                Some("input `x0` is uint8, and "),
            ),
            (&[Kind::Float], said, None),
            (&[Kind::Double], "index out of range in self", None),
        ] {
            let found = other_kinds(message, &inputs(kinds), Some(Kind::Float));
            match expected {
                Some(start) => {
                    let found = found.unwrap_or_default();
                    assert!(
                        found.starts_with(start) && found.contains(".astype(\"float32\")"),
                        "{kinds:?}: {found}"
                    );
                }
                None => assert_eq!(found, None, "{kinds:?}"),
            }
        }
        assert_eq!(other_kinds(said, &inputs(&[Kind::Double]), None), None);
    }
}
