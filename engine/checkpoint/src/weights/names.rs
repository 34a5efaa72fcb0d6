//! Names of one model to names of another.
use std::collections::BTreeMap;

/// Patterns on names, and what becomes of a name that matches.
#[derive(Debug, Default)]
pub struct Names(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// What stands between its `*`.
    from: Vec<String>,
    to: Option<Vec<String>>,
}

/// What becomes of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renamed {
    /// It is this one.
    Name(String),
    /// Its tensor is left out.
    Nothing,
}

impl Names {
    /// See [`InitOptions::names`](super::InitOptions::names).
    ///
    /// # Errors
    /// A name has more `*` than its pattern.
    pub fn new(rules: &BTreeMap<String, Option<String>>) -> Result<Self, String> {
        let parts = |text: &str| text.split('*').map(str::to_owned).collect::<Vec<_>>();
        let rule = |(from, to): (&String, &Option<String>)| {
            let rule = Rule { from: parts(from), to: to.as_deref().map(parts) };
            match &rule.to {
                Some(to) if to.len() > rule.from.len() => {
                    Err(format!("names: `{}` has more `*` than its pattern `{from}`", to.join("*")))
                }
                _ => Ok(rule),
            }
        };
        rules.iter().map(rule).collect::<Result<_, _>>().map(Names)
    }

    /// What becomes of `name`.
    ///
    /// # Errors
    /// Two patterns match that say as much.
    pub fn of(&self, name: &str) -> Result<Renamed, String> {
        let matching = self.0.iter().filter_map(|rule| Some((rule, stars(&rule.from, name)?)));
        let mut matching: Vec<_> = matching.collect();
        let weight = |rule: &Rule| rule.from.iter().map(String::len).sum::<usize>();
        matching.sort_by_key(|(rule, _)| std::cmp::Reverse(weight(rule)));
        let Some((rule, stars)) = matching.first() else {
            return Ok(Renamed::Name(name.to_owned()));
        };
        if let Some((other, _)) = matching.get(1)
            && weight(other) == weight(rule)
        {
            let (a, b) = (rule.from.join("*"), other.from.join("*"));
            return Err(format!(
                "names: `{name}` matches `{a}` and `{b}`, and neither says more; name it by a longer pattern"
            ));
        }
        let Some(to) = &rule.to else { return Ok(Renamed::Nothing) };
        let mut renamed = to[0].clone();
        for (star, part) in stars.iter().zip(&to[1..]) {
            renamed.push_str(star);
            renamed.push_str(part);
        }
        Ok(Renamed::Name(renamed))
    }
}

/// What each `*` between `parts` stands for in `name`, the first ones for as little as can be.
fn stars<'a>(parts: &[String], name: &'a str) -> Option<Vec<&'a str>> {
    let (first, rest) = parts.split_first()?;
    let mut left = name.strip_prefix(first.as_str())?;
    let Some((last, middle)) = rest.split_last() else {
        return left.is_empty().then(Vec::new);
    };
    let mut stars = Vec::new();
    for part in middle {
        let at = left.find(part.as_str())?;
        stars.push(&left[..at]);
        left = &left[at + part.len()..];
    }
    stars.push(left.strip_suffix(last.as_str())?);
    Some(stars)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rules: &[(&str, Option<&str>)]) -> Result<Names, String> {
        let owned = rules.iter().map(|(from, to)| ((*from).to_owned(), to.map(str::to_owned)));
        Names::new(&owned.collect())
    }

    #[test]
    fn patterns_rename() {
        let cases: [(&[_], &str, Option<&str>); 11] = [
            (&[("bert.*", Some("*"))], "bert.a.b", Some("a.b")),
            (&[("bert.*", Some("*"))], "albert.a", Some("albert.a")),
            (&[("bert.*", Some("*"))], "bert", Some("bert")),
            (&[("*", Some("model.*"))], "a.b", Some("model.a.b")),
            (&[("a.*.b.*", Some("*/*"))], "a.1.b.2.b.3", Some("1/2.b.3")),
            (&[("*.gamma", Some("*.weight"))], "norm.gamma", Some("norm.weight")),
            (&[("pooler.*", None)], "pooler.weight", None),
            (&[("a*", None), ("a.b*", Some("c*"))], "a.b.d", Some("c.d")),
            (&[("a*", None), ("a.b*", Some("c*"))], "a.d", None),
            (&[("a", Some("b"))], "a", Some("b")),
            (&[("*", Some("all"))], "a", Some("all")),
        ];
        for (rules, name, expected) in cases {
            let renamed = names(rules).unwrap().of(name).unwrap();
            let expected = expected.map_or(Renamed::Nothing, |to| Renamed::Name(to.to_owned()));
            assert_eq!(renamed, expected, "{rules:?} on {name}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let error = names(&[("a.*", Some("*.*"))]).map(drop).unwrap_err();
        assert_eq!(error, "names: `*.*` has more `*` than its pattern `a.*`");
        let error = names(&[("a*", Some("c")), ("*b", Some("d"))]).unwrap().of("ab").unwrap_err();
        assert!(error.contains("`ab` matches") && error.contains("`a*`"), "{error}");
        assert!(error.contains("`*b`"), "{error}");
    }
}
