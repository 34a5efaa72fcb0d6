//! Which parameters share which options.
use super::config::GroupConfig;
use trainyard::{Group, GroupOptions, Invalid, Pattern};

/// Sorts the parameters into groups of equal options. The group with the options of `kinds[0]` comes
/// first, even if it is empty, the others in the order of their first parameter.
///
/// `kinds`: the options of parameters that the optimizer adapts, and of those that it does not; or one,
/// where it knows no difference. `adapts` says it of a parameter by its index, and of whether a pattern of
/// `no_decay` matches it. A parameter's options are those of its kind; without weight decay where a
/// pattern of `no_decay` matches; then with what the first of `rules` that matches sets. `names`: the
/// trainable parameters; empty where there is no model, and then no pattern is held against them.
///
/// # Errors
/// If a pattern matches no parameter, or earlier rules take all that a rule matches.
pub fn assign(
    names: &[String],
    kinds: &[GroupOptions],
    adapts: impl Fn(usize, bool) -> bool,
    no_decay: &[String],
    rules: &[GroupConfig],
) -> Result<Vec<Group>, Invalid> {
    let plain = patterns(names, "no_decay", no_decay)?;
    let rules = rules.iter().enumerate().map(|(index, rule)| {
        Ok((patterns(names, &format!("groups[{index}].match"), &rule.patterns)?, rule, false))
    });
    let mut rules = rules.collect::<Result<Vec<_>, Invalid>>()?;
    let mut groups = vec![Group { options: kinds[0], parameters: Vec::new() }];
    for (index, name) in names.iter().enumerate() {
        let found = rules.iter_mut().find(|(patterns, ..)| any(patterns, name));
        let rule = found.map(|(_, rule, used)| {
            *used = true;
            *rule
        });
        let spared = any(&plain, name);
        let adapt = rule.and_then(|rule| rule.adapt).unwrap_or_else(|| adapts(index, spared));
        let mut options = *kinds.iter().find(|kind| kind.adapt == adapt).unwrap_or(&kinds[0]);
        if spared {
            options.weight_decay = 0.0;
        }
        if let Some(rule) = rule {
            options.lr = rule.lr.unwrap_or(options.lr);
            options.weight_decay = rule.weight_decay.unwrap_or(options.weight_decay);
        }
        match groups.iter_mut().find(|group| group.options == options) {
            Some(group) => group.parameters.push(name.clone()),
            None => groups.push(Group { options, parameters: vec![name.clone()] }),
        }
    }
    match rules.iter().position(|(_, _, used)| !used) {
        Some(index) if !names.is_empty() => Err(Invalid::at(
            &format!("groups[{index}]"),
            "earlier groups take every parameter that this one matches; put it before them",
        )),
        _ => Ok(groups),
    }
}

pub(super) fn any(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches_within(name))
}

/// The patterns at `path`, each of which must match one of `names`.
pub(super) fn patterns(
    names: &[String],
    path: &str,
    texts: &[String],
) -> Result<Vec<Pattern>, Invalid> {
    let check = |(index, text): (usize, &String)| {
        let pattern = Pattern::new(text);
        if names.is_empty() || names.iter().any(|name| pattern.matches_within(name)) {
            return Ok(pattern);
        }
        let some = names.iter().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let more = if names.len() > some.len() { ", ..." } else { "" };
        Err(Invalid::at(
            &format!("{path}[{index}]"),
            format!("{text:?} matches no parameter; there are {}{more}", some.join(", ")),
        ))
    };
    texts.iter().enumerate().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: GroupOptions = GroupOptions { lr: 0.1, weight_decay: 0.01, adapt: true };

    /// As LAMB has it: what decays is adapted.
    fn assign(
        names: &[String],
        no_decay: &[String],
        rules: &[GroupConfig],
    ) -> Result<Vec<Group>, Invalid> {
        let kinds = [BASE, GroupOptions { adapt: false, ..BASE }];
        super::assign(names, &kinds, |_, spared| !spared, no_decay, rules)
    }

    fn names() -> Vec<String> {
        ["embed.weight", "h.0.bias", "h.0.ln.weight", "h.0.weight", "h.1.weight"]
            .map(String::from)
            .to_vec()
    }

    fn texts(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|&text| text.into()).collect()
    }

    fn rule(patterns: &[&str]) -> GroupConfig {
        GroupConfig { patterns: texts(patterns), lr: None, weight_decay: None, adapt: None }
    }

    #[test]
    fn no_decay_and_the_first_rule_combine() {
        let rules = [
            GroupConfig { lr: Some(0.5), ..rule(&["h.0"]) },
            GroupConfig { weight_decay: Some(0.3), lr: Some(9.0), ..rule(&["weight"]) },
        ];
        let groups = assign(&names(), &texts(&["bias", "ln"]), &rules).unwrap();
        let found: Vec<_> = groups.iter().map(|g| (g.options, g.parameters.join(" "))).collect();
        let options = |lr, weight_decay, adapt| GroupOptions { lr, weight_decay, adapt };
        let expected = [
            (BASE, ""),
            (options(9.0, 0.3, true), "embed.weight h.1.weight"),
            (options(0.5, 0.0, false), "h.0.bias h.0.ln.weight"),
            (options(0.5, 0.01, true), "h.0.weight"),
        ];
        assert_eq!(found, expected.map(|(o, names)| (o, names.to_owned())));
        let all: usize = groups.iter().map(|group| group.parameters.len()).sum();
        assert_eq!(all, names().len());
    }

    #[test]
    fn a_rule_may_give_decay_back() {
        let back = GroupConfig { weight_decay: Some(0.01), adapt: Some(true), ..rule(&["ln"]) };
        let groups = assign(&names(), &texts(&["bias", "ln"]), &[back]).unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[1].parameters, ["h.0.bias"]);
    }

    /// As Muon has it: kinds with rates of their own, which a rule may change as it may the rate.
    #[test]
    fn a_parameters_kind_decides_before_its_rule() {
        let rest = GroupOptions { lr: 0.5, weight_decay: 0.02, adapt: false };
        let rules = [
            GroupConfig { adapt: Some(false), ..rule(&["h.0.weight"]) },
            GroupConfig { lr: Some(7.0), ..rule(&["h.1"]) },
        ];
        let matrices = |index: usize, _| [0, 3, 4].contains(&index);
        let groups =
            super::assign(&names(), &[BASE, rest], matrices, &texts(&["bias"]), &rules).unwrap();
        let found: Vec<_> = groups.iter().map(|g| (g.options, g.parameters.join(" "))).collect();
        let expected = [
            (BASE, "embed.weight"),
            (GroupOptions { weight_decay: 0.0, ..rest }, "h.0.bias"),
            (rest, "h.0.ln.weight h.0.weight"),
            (GroupOptions { lr: 7.0, ..BASE }, "h.1.weight"),
        ];
        assert_eq!(found, expected.map(|(o, names)| (o, names.to_owned())));
    }

    #[test]
    fn patterns_that_match_nothing_are_named() {
        let error = assign(&names(), &texts(&["bias", "nrom"]), &[]).unwrap_err();
        assert_eq!(error.path, "no_decay[1]");
        assert_eq!(
            error.message,
            "\"nrom\" matches no parameter; \
             there are `embed.weight`, `h.0.bias`, `h.0.ln.weight`, ..."
        );
        let rules = [rule(&["h"]), rule(&["h.1"])];
        assert_eq!(assign(&names(), &[], &rules).unwrap_err().path, "groups[1]");
        let rules = [rule(&["h"]), rule(&["x"])];
        assert_eq!(assign(&names(), &[], &rules).unwrap_err().path, "groups[1].match[0]");
        assert!(assign(&[], &texts(&["nrom"]), &rules).is_ok(), "there is no model");
    }
}
