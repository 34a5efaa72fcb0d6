//! `optimizer`: the rule that turns gradients into updates, and its parameter groups.
//!
//! Adam, AdamW, LAMB, stochastic gradient descent, Lion, Adagrad and Muon by DeepSpeed's names. Biases and
//! the weights of normalisations can be spared decay and adaptation by patterns on their names
//! (`no_decay`), and any parameters can have options of their own (`groups`).
mod adagrad;
mod adam;
mod config;
mod describe;
mod groups;
mod lamb;
#[cfg(test)]
mod lamb_reference;
mod lion;
mod muon;
mod params;
mod sgd;
#[cfg(test)]
mod trial;

pub use adagrad::Adagrad;
pub use adam::Adam;
pub use config::{Config, GroupConfig, Rule};
pub use groups::assign;
pub use lamb::Lamb;
pub use lion::Lion;
pub use muon::{AdjustLr, Muon, MuonParams, NsDtype, NsMethod, orthogonal};
pub use params::{AdagradParams, AdamParams, LambParams, LambVariant, LionParams, SgdParams};
pub use sgd::Sgd;

use describe::describe;
use trainyard::{
    BoxError, BuildContext, Context, Group, GroupOptions, Invalid, Outline, Parts, PluginSpec,
    Section,
};

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

impl Section for Optimizer {
    const KEYS: &'static [&'static str] = &["optimizer"];
    type Config = Config;

    fn outline(config: &Config, context: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        let Some(rule) = &config.rule else {
            outline.describe("passed over: it has no `type`");
            return Ok(());
        };
        check(rule, &config.groups)?;
        let groups = groups(rule, config, context)?;
        for line in describe(rule, &groups) {
            outline.describe(line);
        }
        outline.optimizer(groups)
    }
}

impl PluginSpec for Optimizer {
    fn build(config: &Config, _: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        let Some(rule) = config.rule.clone() else { return Ok(()) };
        match rule {
            Rule::Adam(params) => {
                let decoupled = params.adam_w_mode;
                parts.optimizer(Adam { params, decoupled });
            }
            Rule::AdamW(params) => parts.optimizer(Adam { params, decoupled: true }),
            Rule::Lamb(params) => parts.optimizer(Lamb { params }),
            Rule::Sgd(params) => parts.optimizer(Sgd { params }),
            Rule::Lion(params) => parts.optimizer(Lion { params }),
            Rule::Adagrad(params) => parts.optimizer(Adagrad { params }),
            Rule::Muon(params) => parts.optimizer(Muon::new(params)),
        }
        Ok(())
    }
}

/// What no schema says.
fn check(rule: &Rule, groups: &[GroupConfig]) -> Result<(), Invalid> {
    match rule {
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
    match groups.iter().position(|group| group.adapt.is_some()) {
        Some(index) if kinds(rule).len() == 1 => Err(Invalid::at(
            &format!("groups[{index}].adapt"),
            "adapt is for types \"Lamb\" and \"Muon\"; other optimizers have nothing to adapt",
        )),
        _ => Ok(()),
    }
}

/// The options of parameters that no pattern takes: of those that the rule adapts, and, where there is a
/// difference, of the others.
fn kinds(rule: &Rule) -> Vec<GroupOptions> {
    let one = |lr, weight_decay| vec![GroupOptions { lr, weight_decay, adapt: false }];
    let two = |lrs: [f64; 2], weight_decay| {
        let kind = |lr, adapt| GroupOptions { lr, weight_decay, adapt };
        vec![kind(lrs[0], true), kind(lrs[1], false)]
    };
    match rule {
        Rule::Adam(p) | Rule::AdamW(p) => one(p.lr, p.weight_decay),
        Rule::Lamb(p) => two([p.lr, p.lr], p.weight_decay),
        Rule::Sgd(p) => one(p.lr, p.weight_decay),
        Rule::Lion(p) => one(p.lr, p.weight_decay),
        Rule::Adagrad(p) => one(p.lr, p.weight_decay),
        Rule::Muon(p) => two([p.muon_rate(), p.adam_rate()], p.weight_decay),
    }
}

/// The parameters in groups. A parameter whose shape is not known counts as a matrix.
fn groups(rule: &Rule, config: &Config, context: &Context) -> Result<Vec<Group>, Invalid> {
    let names = &context.parameters;
    let dimensions = |index: usize| context.shapes.get(index).map_or(2, Vec::len);
    let not_muons = match rule {
        // The defaults need not match anything.
        Rule::Muon(p) if p.adam_names == MuonParams::default().adam_names => {
            groups::patterns(&[], "", &p.adam_names)?
        }
        Rule::Muon(p) => groups::patterns(names, "params.adam_names", &p.adam_names)?,
        _ => Vec::new(),
    };
    let adapts = |index: usize, spared: bool| match rule {
        Rule::Lamb(_) => !spared,
        Rule::Muon(_) => dimensions(index) >= 2 && !groups::any(&not_muons, &names[index]),
        _ => false,
    };
    let groups = assign(names, &kinds(rule), adapts, &config.no_decay, &config.groups)?;
    let adapted = |name| groups.iter().any(|g| g.options.adapt && g.parameters.contains(name));
    let mut wrong =
        names.iter().enumerate().filter(|(i, name)| dimensions(*i) < 2 && adapted(name));
    match wrong.next() {
        Some((index, name)) if matches!(rule, Rule::Muon(_)) => Err(Invalid::at(
            "groups",
            format!("adapt = true needs 2 dimensions or more; `{name}` has {}", dimensions(index)),
        )),
        _ => Ok(groups),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn build(section: Value) -> Result<(), BoxError> {
        let config = serde_json::from_value(section)?;
        let (parameters, shapes) = (vec!["a.bias".into()], vec![vec![7]]);
        let context = Context { parameters, shapes, ..Context::default() };
        Optimizer::outline(&config, &context, &mut Outline::default())
    }

    #[test]
    fn every_name_of_the_schema_is_read_in_any_case() {
        let schema = schemars::schema_for!(Config).to_value();
        let names = schema.pointer("/properties/type/then/enum").unwrap().as_array().unwrap();
        assert_eq!(names.len(), 13);
        for name in names {
            let name = name.as_str().unwrap();
            for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                build(json!({ "type": name })).unwrap();
            }
        }
    }

    /// As DeepSpeed does: the type says it.
    #[test]
    fn adamw_is_decoupled_whatever_adam_w_mode_says() {
        build(json!({ "type": "AdamW", "params": { "adam_w_mode": false } })).unwrap();
    }

    #[test]
    fn what_no_schema_says() {
        for (section, path) in [
            (json!({"type": "Lamb", "params": {"max_coeff": 0.001}}), "params.min_coeff"),
            (json!({"type": "SGD", "params": {"nesterov": true}}), "params.nesterov"),
            (
                json!({"type": "SGD", "groups": [{"match": ["bias"], "adapt": true}]}),
                "groups[0].adapt",
            ),
            (json!({"type": "SGD", "no_decay": ["ln"]}), "no_decay[0]"),
            (json!({"type": "Muon", "params": {"adam_names": ["head"]}}), "params.adam_names[0]"),
            (json!({"type": "Muon", "groups": [{"match": ["bias"], "adapt": true}]}), "groups"),
        ] {
            let error = build(section).unwrap_err().downcast::<Invalid>().unwrap();
            assert_eq!(error.path, path, "{error}");
        }
    }
}
