//! What the section does, in words.
use super::config::Rule;
use super::muon::{AdjustLr, MuonParams, NsDtype};
use super::params::LambVariant;
use crate::words::number;
use std::collections::BTreeSet;
use trainyard::{Group, GroupOptions};

/// The rule in words, with the options of the first of its `groups`, and a line for each of the others.
pub(super) fn describe(rule: &Rule, groups: &[Group]) -> Vec<String> {
    let base = groups[0].options;
    let taken = matches!(rule, Rule::Muon(_)).then(|| taken_by_muon(groups)).flatten();
    let others = groups[1..].iter().map(|group| describe_group(rule, group, base));
    std::iter::once(describe_rule(rule, base)).chain(taken).chain(others).collect()
}

/// Patterns that a line has room for.
const MOST_PATTERNS: usize = 8;

/// Which parameters Muon takes, with `*` for the numbers in their names; none where there is no model.
fn taken_by_muon(groups: &[Group]) -> Option<String> {
    let all: usize = groups.iter().map(|group| group.parameters.len()).sum();
    let taken: Vec<_> = groups
        .iter()
        .filter(|group| group.options.adapt)
        .flat_map(|group| &group.parameters)
        .collect();
    let patterns: BTreeSet<_> = taken.iter().map(|name| without_numbers(name)).collect();
    let named: Vec<_> =
        patterns.iter().take(MOST_PATTERNS).map(|name| format!("`{name}`")).collect();
    let more = match patterns.len().saturating_sub(MOST_PATTERNS) {
        0 => String::new(),
        more => format!(" and {more} more patterns"),
    };
    let named =
        if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(", ")) };
    (all > 0).then(|| format!("Muon takes {} of {all} parameters{named}", taken.len()))
}

fn without_numbers(name: &str) -> String {
    let part = |part: &str| match !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
    {
        true => "*".to_owned(),
        false => part.to_owned(),
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn describe_rule(rule: &Rule, GroupOptions { lr, weight_decay, .. }: GroupOptions) -> String {
    let (name, more) = match rule {
        Rule::Adam(p) | Rule::AdamW(p) => {
            let coupled = matches!(rule, Rule::Adam(_)) && !p.adam_w_mode;
            let name = if coupled { "Adam, decay in the gradient" } else { "AdamW" };
            let torch = if p.torch_adam { "; torch_adam changes nothing here" } else { "" };
            (name, adam_like(p.betas, p.eps, p.bias_correction) + torch)
        }
        Rule::Lamb(p) => {
            let name = match p.variant {
                LambVariant::Paper => "LAMB",
                LambVariant::DeepSpeed => "LAMB as DeepSpeed has it",
            };
            let ratio = format!(", ratio in [{}, {}]", number(p.min_coeff), number(p.max_coeff));
            (name, adam_like(p.betas, p.eps, p.bias_correction) + &ratio)
        }
        Rule::Sgd(p) => ("SGD", momentum(p.momentum, p.nesterov)),
        Rule::Lion(p) => ("Lion", betas(p.betas)),
        Rule::Adagrad(p) => {
            let set = |name: &str, value: f64| match value {
                0.0 => String::new(),
                _ => format!(", {name} {}", number(value)),
            };
            let start = set("sums from", p.initial_accumulator_value);
            ("Adagrad", set("lr decay", p.lr_decay) + &start + &format!(", eps {}", number(p.eps)))
        }
        Rule::Muon(p) => ("Muon", muon(p)),
    };
    format!("{name}: lr {}, weight decay {}{more}", number(lr), number(weight_decay))
}

fn muon(p: &MuonParams) -> String {
    let kind = match p.ns_dtype {
        NsDtype::Bf16 => "bfloat16",
        NsDtype::Fp32 => "float32",
    };
    let adjusted = match p.adjust_lr_fn {
        AdjustLr::Original => "",
        AdjustLr::MatchRmsAdamw => ", rate to AdamW's measure",
    };
    let momentum = momentum(p.momentum, p.nesterov);
    let steps = p.ns_steps;
    let rest = format!("lr {}{}", number(p.adam_rate()), adam_like(p.betas, p.eps, true));
    format!(
        "{momentum}, {steps} Newton-Schulz steps in {kind}{adjusted}; AdamW for the rest: {rest}"
    )
}

fn momentum(share: f64, nesterov: bool) -> String {
    format!(", momentum {}{}", number(share), if nesterov { " (Nesterov)" } else { "" })
}

fn betas((beta1, beta2): (f64, f64)) -> String {
    format!(", betas {} and {}", number(beta1), number(beta2))
}

fn adam_like(of: (f64, f64), eps: f64, bias_correction: bool) -> String {
    let correction = if bias_correction { "" } else { ", no bias correction" };
    format!("{}, eps {}{correction}", betas(of), number(eps))
}

/// A group in words: how many parameters, and how they differ from the `base`.
fn describe_group(rule: &Rule, group: &Group, base: GroupOptions) -> String {
    let GroupOptions { lr, weight_decay, adapt } = group.options;
    let not_adapted = if matches!(rule, Rule::Muon(_)) { "AdamW" } else { "not adapted" };
    let differences = [
        (lr != base.lr).then(|| format!("lr {}", number(lr))),
        (weight_decay != base.weight_decay)
            .then(|| format!("weight decay {}", number(weight_decay))),
        (adapt != base.adapt).then(|| not_adapted.to_owned()),
    ];
    let differences: Vec<_> = differences.into_iter().flatten().collect();
    let (count, first) = (group.parameters.len(), &group.parameters[0]);
    let s = if count == 1 { "" } else { "s" };
    format!("{count} parameter{s}, `{first}` the first: {}", differences.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trainyard::Context;

    /// What the tests of all plugins do not say: the newer rules, of a model whose parameters are a matrix,
    /// a bias and an embedding.
    #[test]
    fn rules_and_groups_in_words() {
        let context = Context {
            parameters: ["a.bias", "a.weight", "embedding.weight"].map(String::from).into(),
            shapes: vec![vec![2], vec![2, 3], vec![4, 2]],
            ..Context::default()
        };
        for (section, expected) in [
            (
                json!({"type": "SGD", "params": {"momentum": 0.9, "nesterov": true}}),
                &["SGD: lr 0.001, weight decay 0, momentum 0.9 (Nesterov)"][..],
            ),
            (
                json!({"type": "Adam", "params": {"adam_w_mode": false}}),
                &[
                    "Adam, decay in the gradient: lr 0.001, weight decay 0, betas 0.9 and 0.999, eps 1e-8",
                ],
            ),
            (
                json!({"type": "AdamW", "params": {"adam_w_mode": false}}),
                &["AdamW: lr 0.001, weight decay 0, betas 0.9 and 0.999, eps 1e-8"],
            ),
            (json!({"type": "Lion"}), &["Lion: lr 0.001, weight decay 0, betas 0.9 and 0.999"]),
            (
                json!({"type": "Adagrad", "params": {"lr_decay": 0.1}}),
                &["Adagrad: lr 0.01, weight decay 0, lr decay 0.1, eps 1e-10"],
            ),
            (
                json!({"type": "Muon", "params": {"weight_decay": 0.1}, "no_decay": ["bias"]}),
                &[
                    "Muon: lr 0.02, weight decay 0.1, momentum 0.95 (Nesterov), \
                     5 Newton-Schulz steps in bfloat16; \
                     AdamW for the rest: lr 0.0003, betas 0.9 and 0.95, eps 1e-10",
                    "Muon takes 1 of 3 parameters: `a.weight`",
                    "1 parameter, `a.bias` the first: lr 0.0003, weight decay 0, AdamW",
                    "1 parameter, `embedding.weight` the first: lr 0.0003, AdamW",
                ],
            ),
            (
                json!({"type": "Muon", "params": {
                    "lr": 1e-3, "ns_dtype": "fp32", "adjust_lr_fn": "match_rms_adamw",
                    "adam_names": ["a.weight"]
                }}),
                &[
                    "Muon: lr 0.001, weight decay 0, momentum 0.95 (Nesterov), \
                     5 Newton-Schulz steps in float32, rate to AdamW's measure; \
                     AdamW for the rest: lr 0.001, betas 0.9 and 0.95, eps 1e-10",
                    "Muon takes 1 of 3 parameters: `embedding.weight`",
                    "2 parameters, `a.bias` the first: AdamW",
                ],
            ),
        ] {
            let config: super::super::Config = serde_json::from_value(section).unwrap();
            let rule = config.rule.as_ref().expect("a type");
            let groups = super::super::groups(rule, &config, &context).unwrap();
            assert_eq!(describe(rule, &groups), expected);
        }
    }

    #[test]
    fn muons_parameters_are_named_without_their_numbers() {
        let names =
            |from: usize, to: usize| (from..to).map(|i| format!("layers.{i}.w2.weight")).collect();
        let options = |adapt| GroupOptions { lr: 0.1, weight_decay: 0.0, adapt };
        let group = |adapt, parameters| Group { options: options(adapt), parameters };
        let groups = [
            group(true, names(0, 12)),
            group(false, names(12, 15)),
            group(true, vec!["head".to_owned()]),
        ];
        let said = taken_by_muon(&groups).expect("there are parameters");
        assert_eq!(said, "Muon takes 13 of 16 parameters: `head`, `layers.*.w2.weight`");
        let many = (0..10).map(|i| format!("w{i}.weight")).collect();
        assert!(
            taken_by_muon(&[group(true, many)])
                .unwrap()
                .ends_with("`w7.weight` and 2 more patterns")
        );
        assert_eq!(
            taken_by_muon(&[group(false, names(0, 1))]).unwrap(),
            "Muon takes 0 of 1 parameters"
        );
        assert_eq!(taken_by_muon(&[group(true, vec![])]), None);
    }
}
