//! Patterns on dotted names of parameters and layers.
use wildmatch::WildMatch;

/// A pattern on dotted names: components separated by dots, in which `*` stands for any run of
/// characters and `?` for one, within a component.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    text: String,
    components: Vec<WildMatch>,
}

impl Pattern {
    /// Every text is a pattern.
    pub fn new(text: &str) -> Self {
        let components = text.split('.').map(WildMatch::new).collect();
        Pattern { text: text.to_owned(), components }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Matches the whole name: `encoder.layer.*` takes `encoder.layer.3`, not
    /// `encoder.layer.3.attention`.
    pub fn matches(&self, name: &str) -> bool {
        let names: Vec<_> = name.split('.').collect();
        names.len() == self.components.len() && self.matches_run(&names)
    }

    /// Matches a run of components anywhere in the name: `bias` takes `encoder.0.query.bias`, `ln*`
    /// takes `encoder.0.ln_1.weight`.
    pub fn matches_within(&self, name: &str) -> bool {
        let names: Vec<_> = name.split('.').collect();
        names.windows(self.components.len()).any(|run| self.matches_run(run))
    }

    fn matches_run(&self, names: &[&str]) -> bool {
        self.components.iter().zip(names).all(|(pattern, name)| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn whole_and_within() {
        let layer = Pattern::new("encoder.layer.*");
        assert!(layer.matches("encoder.layer.11"));
        assert!(!layer.matches("encoder.layer.11.attention"));
        assert!(!layer.matches("bert.encoder.layer.11"));
        assert!(layer.matches_within("bert.encoder.layer.11.attention"));
        assert!(Pattern::new("bias").matches_within("a.b.bias"));
        assert!(!Pattern::new("bias").matches_within("a.unbiased.weight"));
        assert!(Pattern::new("ln*").matches_within("a.ln_1.weight"));
        assert!(!Pattern::new("a.b.c").matches_within("a.b"));
    }
}
