//! Which input of the data each argument of forward gets, and which output the loss is.
use super::config::{ScriptConfig, Which};
use tch::{Device, Tensor};
use trainyard::BoxError;
use trainyard::script::{Argument, Outputs};
use trainyard_data::{ArrayBatch, Input};

/// Arguments of forward with their names in the data.
#[derive(Debug, PartialEq, Eq)]
pub struct Inputs(Vec<(String, String)>);

impl Inputs {
    /// Holds the arguments, the configuration and the data against each other.
    ///
    /// # Errors
    /// The key below `script`, and what is wrong.
    pub fn new(
        arguments: &[Argument],
        config: &ScriptConfig,
        data: &[Input],
    ) -> Result<Self, (&'static str, String)> {
        let has = |name: &str| data.iter().any(|input| input.name == name);
        let there = || listed(data.iter().map(|input| input.name.as_str()));
        let takes = || listed(arguments.iter().map(|argument| argument.name.as_str()));
        for (argument, name) in &config.inputs {
            if !arguments.iter().any(|have| have.name == *argument) {
                let message = format!("forward has no argument `{argument}`; it takes {}", takes());
                return Err(("inputs", message));
            }
            if !has(name) {
                let message = format!(
                    "the data has no `{name}`, which argument `{argument}` is to get; it has {}",
                    there()
                );
                return Err(("inputs", message));
            }
        }
        if let Some(labels) = config.loss.labels.as_deref().filter(|labels| !has(labels)) {
            let message = format!("the data has no `{labels}` for labels; it has {}", there());
            return Err(("loss.labels", message));
        }
        let mut inputs = Vec::new();
        for argument in arguments {
            let Argument { name, kind, optional, tensor } = argument;
            let given = config.inputs.get(name);
            let source = given.unwrap_or(name);
            match (has(source), *tensor, *optional) {
                (true, true, _) => inputs.push((name.clone(), source.clone())),
                (true, false, _) => {
                    let message = format!("argument `{name}` is {kind}, and data is tensors");
                    return Err(("inputs", message));
                }
                (false, _, true) => {
                    tracing::info!("argument `{name}` of forward keeps its default")
                }
                (false, _, false) => {
                    let message = format!(
                        "forward needs `{name}` ({kind}), which the data does not have; it has {}. \
                         script.inputs.{name} = \"...\" names another",
                        there()
                    );
                    return Err(("inputs", message));
                }
            }
        }
        for input in data {
            let used = inputs.iter().any(|(_, source)| *source == input.name)
                || config.loss.labels.as_ref() == Some(&input.name);
            if !used {
                tracing::warn!(
                    "`{}` of the data is not used: forward takes {}",
                    input.name,
                    takes()
                );
            }
        }
        Ok(Inputs(inputs))
    }

    /// Names in the data.
    pub fn sources(&self) -> Vec<&str> {
        self.0.iter().map(|(_, source)| source.as_str()).collect()
    }

    /// The arguments' tensors, on the device.
    ///
    /// # Errors
    /// The batch lacks one.
    pub fn of(
        &self,
        batch: &ArrayBatch,
        device: Device,
    ) -> Result<Vec<(String, Tensor)>, BoxError> {
        let tensor = |(argument, name): &'_ (String, String)| {
            let tensor = batch.get(name).ok_or_else(|| format!("the batch has no `{name}`"))?;
            Ok((argument.clone(), tensor.to_device(device)))
        };
        self.0.iter().map(tensor).collect()
    }
}

/// The output that the configuration names.
///
/// # Errors
/// There is none; which there are.
pub fn output<'a>(outputs: &'a Outputs, which: &Which) -> Result<&'a Tensor, BoxError> {
    let found = match which {
        Which::Index(index) => outputs.at(usize::from(*index)),
        Which::Name(name) => outputs.get(name),
    };
    found.ok_or_else(|| {
        let shown = outputs.names().enumerate().map(|(index, name)| match name {
            "" => index.to_string(),
            name => format!("{index} (`{name}`)"),
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        format!("script.loss.output: forward returned no {which}; it returned {shown}").into()
    })
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tch::Kind;

    fn argument(name: &str, kind: &str, optional: bool) -> Argument {
        let tensor = kind.contains("Tensor");
        Argument { name: name.to_owned(), kind: kind.to_owned(), tensor, optional }
    }

    fn made(config: Value, data: &[&str]) -> Result<Vec<(String, String)>, (&'static str, String)> {
        let arguments = [
            argument("ids", "Tensor", false),
            argument("mask", "Optional[Tensor]", true),
            argument("scale", "float", true),
        ];
        let config: ScriptConfig = serde_json::from_value(config).expect("a configuration");
        let input =
            |name: &&str| Input { name: (*name).to_owned(), kind: Kind::Int64, item: vec![] };
        let data: Vec<_> = data.iter().map(input).collect();
        Inputs::new(&arguments, &config, &data).map(|inputs| inputs.0)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn arguments_get_what_has_their_name_or_is_named_for_them() {
        assert_eq!(made(json!({}), &["ids", "other"]), Ok(pairs(&[("ids", "ids")])));
        let renamed = json!({ "inputs": { "ids": "tokens", "mask": "seen" } });
        let expected = pairs(&[("ids", "tokens"), ("mask", "seen")]);
        assert_eq!(made(renamed, &["seen", "tokens"]), Ok(expected));
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let error = |config, data: &[&str]| made(config, data).expect_err("it does not fit");
        let (key, message) = error(json!({}), &["tokens", "y"]);
        assert_eq!(key, "inputs");
        assert_eq!(
            message,
            "forward needs `ids` (Tensor), which the data does not have; it has `tokens`, `y`. \
             script.inputs.ids = \"...\" names another"
        );
        let (_, message) = error(json!({ "inputs": { "idz": "tokens" } }), &["tokens"]);
        assert_eq!(message, "forward has no argument `idz`; it takes `ids`, `mask`, `scale`");
        let (_, message) = error(json!({ "inputs": { "ids": "x" } }), &["tokens"]);
        assert_eq!(message, "the data has no `x`, which argument `ids` is to get; it has `tokens`");
        let (key, message) = error(json!({ "loss": { "labels": "y" } }), &["ids"]);
        assert_eq!(
            (key, &*message),
            ("loss.labels", "the data has no `y` for labels; it has `ids`")
        );
        let (_, message) = error(json!({}), &["ids", "scale"]);
        assert_eq!(message, "argument `scale` is float, and data is tensors");
    }
}
