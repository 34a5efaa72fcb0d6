//! `optimizer`: the rule that turns gradients into updates, and its parameter groups.
//!
//! Adam, AdamW, LAMB and stochastic gradient descent by DeepSpeed's names. Biases and the weights of
//! normalisations can be spared decay and adaptation by patterns on their names (`no_decay`), and any
//! parameters can have options of their own (`groups`).
mod adam;
mod config;
mod groups;
mod lamb;
#[cfg(test)]
mod lamb_reference;
mod params;
mod sgd;
#[cfg(test)]
mod trial;

pub use adam::Adam;
pub use config::{Config, GroupConfig, Rule};
pub use groups::assign;
pub use lamb::Lamb;
pub use params::{AdamParams, LambParams, LambVariant, SgdParams};
pub use sgd::Sgd;

use trainyard::{BoxError, BuildContext, Group, GroupOptions, Invalid, Parts, PluginSpec};

/// A configuration with this plugin.
pub const EXAMPLE: &str = r#"{
    "optimizer": {
        "type": "AdamW",
        "params": { "lr": 0.001, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.01 },
        "no_decay": ["bias"]
    }
}"#;

/// The section `optimizer`.
#[derive(Debug)]
pub struct Optimizer;

impl PluginSpec for Optimizer {
    const KEYS: &'static [&'static str] = &["optimizer"];
    type Config = Config;

    fn build(config: Config, context: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        check(&config)?;
        let base = base(&config.rule);
        let groups = assign(&context.parameters, base, &config.no_decay, &config.groups)?;
        parts.describe(describe(&config.rule));
        for group in groups.iter().skip(1) {
            parts.describe(describe_group(group, base));
        }
        match config.rule {
            Rule::Adam(params) => {
                let decoupled = params.adam_w_mode;
                parts.optimizer(Adam { params, decoupled }, groups)
            }
            Rule::AdamW(params) => parts.optimizer(Adam { params, decoupled: true }, groups),
            Rule::Lamb(params) => parts.optimizer(Lamb { params }, groups),
            Rule::Sgd(params) => parts.optimizer(Sgd { params }, groups),
        }
    }
}

/// What no schema says.
fn check(config: &Config) -> Result<(), Invalid> {
    match &config.rule {
        Rule::AdamW(p) if !p.adam_w_mode => {
            return Err(Invalid::at(
                "params.adam_w_mode",
                "adam_w_mode = false makes no AdamW; type \"Adam\" adds the decay to the gradient",
            ));
        }
        Rule::Lamb(p) if p.min_coeff > p.max_coeff => {
            let (min, max) = (p.min_coeff, p.max_coeff);
            return Err(Invalid::at(
                "params.min_coeff",
                format!("min_coeff = {min} is above max_coeff = {max}"),
            ));
        }
        Rule::Sgd(p) if p.nesterov && (p.momentum == 0.0 || p.dampening != 0.0) => {
            let (momentum, dampening) = (p.momentum, p.dampening);
            return Err(Invalid::at(
                "params.nesterov",
                format!(
                    "nesterov = true needs a momentum above 0 and dampening 0; \
                     they are {momentum} and {dampening}"
                ),
            ));
        }
        _ => {}
    }
    let adapts = matches!(config.rule, Rule::Lamb(_));
    match config.groups.iter().position(|group| group.adapt.is_some()) {
        Some(index) if !adapts => Err(Invalid::at(
            &format!("groups[{index}].adapt"),
            "adapt is for type \"Lamb\"; other optimizers have nothing to adapt",
        )),
        _ => Ok(()),
    }
}

/// The options of parameters that no pattern takes.
fn base(rule: &Rule) -> GroupOptions {
    let (lr, weight_decay) = match rule {
        Rule::Adam(p) | Rule::AdamW(p) => (p.lr, p.weight_decay),
        Rule::Lamb(p) => (p.lr, p.weight_decay),
        Rule::Sgd(p) => (p.lr, p.weight_decay),
    };
    GroupOptions { lr, weight_decay, adapt: matches!(rule, Rule::Lamb(_)) }
}

/// The rule in words.
fn describe(rule: &Rule) -> String {
    let GroupOptions { lr, weight_decay, .. } = base(rule);
    let (name, more) = match rule {
        Rule::Adam(p) | Rule::AdamW(p) => {
            let name = if p.adam_w_mode { "AdamW" } else { "Adam, decay in the gradient" };
            let torch = if p.torch_adam { "; torch_adam changes nothing here" } else { "" };
            (name, adam_like(p.betas, p.eps, p.bias_correction) + torch)
        }
        Rule::Lamb(p) => {
            let name = match p.variant {
                LambVariant::Paper => "LAMB",
                LambVariant::DeepSpeed => "LAMB as DeepSpeed has it",
            };
            let ratio = format!(", ratio in [{}, {}]", p.min_coeff, p.max_coeff);
            (name, adam_like(p.betas, p.eps, p.bias_correction) + &ratio)
        }
        Rule::Sgd(p) => {
            let nesterov = if p.nesterov { " (Nesterov)" } else { "" };
            ("SGD", format!(", momentum {}{nesterov}", p.momentum))
        }
    };
    format!("{name}: lr {lr}, weight decay {weight_decay}{more}")
}

fn adam_like((beta1, beta2): (f64, f64), eps: f64, bias_correction: bool) -> String {
    let correction = if bias_correction { "" } else { ", no bias correction" };
    format!(", betas {beta1} and {beta2}, eps {eps:e}{correction}")
}

/// A group in words: how many parameters, and how they differ from the `base`.
fn describe_group(group: &Group, base: GroupOptions) -> String {
    let GroupOptions { lr, weight_decay, adapt } = group.options;
    let differences = [
        (lr != base.lr).then(|| format!("lr {lr}")),
        (weight_decay != base.weight_decay).then(|| format!("weight decay {weight_decay}")),
        (adapt != base.adapt).then(|| "not adapted".to_owned()),
    ];
    let differences: Vec<_> = differences.into_iter().flatten().collect();
    let (count, first) = (group.parameters.len(), &group.parameters[0]);
    let s = if count == 1 { "" } else { "s" };
    format!("{count} parameter{s}, `{first}` the first: {}", differences.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn build(section: Value) -> Result<(), BoxError> {
        let config = serde_json::from_value(section)?;
        let context = BuildContext { parameters: vec!["a.bias".into()], ..BuildContext::default() };
        Optimizer::build(config, &context, &mut Parts::default())
    }

    #[test]
    fn every_name_of_the_schema_is_read_in_any_case() {
        let schema = schemars::schema_for!(Config).to_value();
        let names = schema.pointer("/properties/type/then/enum").unwrap().as_array().unwrap();
        assert_eq!(names.len(), 7);
        for name in names {
            let name = name.as_str().unwrap();
            for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                build(json!({ "type": name })).unwrap();
            }
        }
    }

    #[test]
    fn what_no_schema_says() {
        for (section, path) in [
            (json!({"type": "AdamW", "params": {"adam_w_mode": false}}), "params.adam_w_mode"),
            (json!({"type": "Lamb", "params": {"max_coeff": 0.001}}), "params.min_coeff"),
            (json!({"type": "SGD", "params": {"nesterov": true}}), "params.nesterov"),
            (
                json!({"type": "SGD", "groups": [{"match": ["bias"], "adapt": true}]}),
                "groups[0].adapt",
            ),
            (json!({"type": "SGD", "no_decay": ["ln"]}), "no_decay[0]"),
        ] {
            let error = build(section).unwrap_err().downcast::<Invalid>().unwrap();
            assert_eq!(error.path, path, "{error}");
        }
    }
}
