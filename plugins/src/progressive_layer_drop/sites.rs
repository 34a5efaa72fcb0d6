//! What gates are drawn for: which blocks, and which of their branches.
use super::config::{Patterns, Unit};
use super::gates::Gate;
use trainyard::{BlockInfo, Invalid, LayerCall, Pattern};

/// One thing that is drawn for: a block, or a branch of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// The gated block, from 1 = nearest the input to the number of gated blocks.
    pub block: usize,
    /// The branch within the block: 0 = attention, 1 = feed-forward in most models; 0 for a whole block.
    pub branch: usize,
    /// Share of the block that the draw decides on.
    pub share: f64,
}

/// All that is drawn for in one forward, and where each layer call finds its gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Sites {
    /// In the order of the forward.
    pub list: Vec<Site>,
    /// Number of gated blocks, at least 1.
    pub blocks: usize,
    /// Of the gated blocks, those whose residual branches are layer calls of their own; the others are
    /// wrapped whole.
    pub with_branches: usize,
    /// By block of the model and branch, an index into `list`; no branches for a block that is not gated.
    index: Vec<Vec<usize>>,
}

impl Sites {
    /// Draws for those of the model's `blocks` that a pattern matches, or all.
    ///
    /// # Errors
    /// If there is no block, or a pattern matches none.
    pub fn new(
        blocks: &[BlockInfo],
        patterns: Option<&Patterns>,
        unit: Unit,
    ) -> Result<Sites, Invalid> {
        if blocks.is_empty() {
            return Err(Invalid::at("", NO_BLOCKS));
        }
        let chosen = choose(blocks, patterns)?;
        let mut sites = Sites { list: vec![], blocks: 0, with_branches: 0, index: vec![] };
        for (info, chosen) in blocks.iter().zip(chosen) {
            let gated = if chosen { sites.add(info.sublayers.len(), unit) } else { vec![] };
            sites.index.push(gated);
        }
        Ok(sites)
    }

    /// Adds the draws of one more block; which of them each of its branches follows.
    fn add(&mut self, sublayers: usize, unit: Unit) -> Vec<usize> {
        self.blocks += 1;
        self.with_branches += usize::from(sublayers > 0);
        let branches = sublayers.max(1);
        let draws = match unit {
            Unit::Block => 1,
            Unit::Sublayer => branches,
        };
        let first = self.list.len();
        let (block, share) = (self.blocks, 1.0 / draws as f64);
        self.list.extend((0..draws).map(|branch| Site { block, branch, share }));
        (0..branches).map(|branch| first + branch.min(draws - 1)).collect()
    }

    /// Which gate a layer call follows: `None` for a block that is not gated.
    ///
    /// # Errors
    /// If there was no such block or branch when the draws were laid out.
    pub fn of(&self, call: &LayerCall<'_>) -> Result<Option<usize>, String> {
        match self.index.get(call.block) {
            Some(branches) if branches.is_empty() => Ok(None),
            Some(branches) if call.sublayer < branches.len() => Ok(Some(branches[call.sublayer])),
            _ => Err(format!(
                "layer `{}` was added to the model after its engine was built",
                call.name
            )),
        }
    }

    /// How many blocks run under these gates; one of which half the branches run counts a half.
    pub fn depth(&self, gates: &[Gate]) -> f64 {
        let kept = self.list.iter().zip(gates).filter(|(_, gate)| **gate != Gate::Drop);
        // Not `sum`, which of nothing is -0.
        kept.fold(0.0, |depth, (site, _)| depth + site.share)
    }
}

const NO_BLOCKS: &str = "the model offers no layer calls, so there is nothing to drop; make a handle for \
    each block with `layers.block(path)` and its residual additions with `sublayer(name).residual(..)`, or \
    wrap whole blocks with `layers.wrap(blocks)`; of a script, set `layers` here to the pattern that `trainyard \
    inspect` shows";

/// Which blocks are gated.
fn choose(blocks: &[BlockInfo], patterns: Option<&Patterns>) -> Result<Vec<bool>, Invalid> {
    let patterns = match patterns {
        None => return Ok(vec![true; blocks.len()]),
        Some(Patterns::One(pattern)) => vec![("layers".to_owned(), pattern)],
        Some(Patterns::Many(patterns)) => {
            patterns.iter().enumerate().map(|(i, p)| (format!("layers[{i}]"), p)).collect()
        }
    };
    let mut chosen = vec![false; blocks.len()];
    for (path, text) in patterns {
        let pattern = Pattern::new(text);
        let matched: Vec<_> = blocks.iter().map(|block| pattern.matches(&block.name)).collect();
        if !matched.contains(&true) {
            return Err(Invalid::at(&path, no_match(text, blocks)));
        }
        chosen.iter_mut().zip(matched).for_each(|(chosen, matched)| *chosen |= matched);
    }
    Ok(chosen)
}

fn no_match(pattern: &str, blocks: &[BlockInfo]) -> String {
    let quoted = |block: &BlockInfo| format!("`{}`", block.name);
    let names = match blocks {
        [first, second, third, _, .., last] => {
            format!(
                "{}, {}, {}, ..., {}",
                quoted(first),
                quoted(second),
                quoted(third),
                quoted(last)
            )
        }
        few => few.iter().map(quoted).collect::<Vec<_>>().join(", "),
    };
    let count = match blocks.len() {
        1 => "the model's one block".to_owned(),
        n => format!("any of the model's {n} blocks"),
    };
    format!("pattern {pattern:?} does not match {count}: {names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(names: &[&str], sublayers: &[&str]) -> Vec<BlockInfo> {
        let sublayers: Vec<_> = sublayers.iter().map(|s| (*s).to_owned()).collect();
        let block =
            |name: &&str| BlockInfo { name: (*name).to_owned(), sublayers: sublayers.clone() };
        names.iter().map(block).collect()
    }

    fn one(pattern: &str) -> Option<Patterns> {
        Some(Patterns::One(pattern.to_owned()))
    }

    fn call(block: usize, sublayer: usize) -> LayerCall<'static> {
        LayerCall { block, sublayer, name: "x", train: true }
    }

    const NAMES: [&str; 5] = ["embed", "encoder.0", "encoder.1", "encoder.2", "head"];

    #[test]
    fn a_pattern_chooses_and_only_gated_blocks_count() -> Result<(), Invalid> {
        let model = blocks(&NAMES, &["attention", "feed_forward"]);
        let sites = Sites::new(&model, one("encoder.*").as_ref(), Unit::Block)?;
        assert_eq!((sites.blocks, sites.with_branches, sites.list.len()), (3, 3, 3));
        assert_eq!(sites.list[2], Site { block: 3, branch: 0, share: 1.0 });
        let gate = |block, branch| sites.of(&call(block, branch)).expect("a layer of the model");
        assert_eq!(
            [gate(0, 0), gate(1, 0), gate(1, 1), gate(3, 1)],
            [None, Some(0), Some(0), Some(2)]
        );
        let many = Patterns::Many(vec!["encoder.0".to_owned(), "head".to_owned()]);
        assert_eq!(Sites::new(&model, Some(&many), Unit::Block)?.blocks, 2);
        assert_eq!(Sites::new(&model, None, Unit::Block)?.blocks, 5);
        Ok(())
    }

    #[test]
    fn sublayers_are_drawn_one_by_one() -> Result<(), Invalid> {
        let mut model = blocks(&["a", "b"], &["attention", "feed_forward"]);
        model.extend(blocks(&["c"], &[]));
        let sites = Sites::new(&model, None, Unit::Sublayer)?;
        let site = |block, branch, share| Site { block, branch, share };
        let expected =
            [site(1, 0, 0.5), site(1, 1, 0.5), site(2, 0, 0.5), site(2, 1, 0.5), site(3, 0, 1.0)];
        assert_eq!(sites.list, expected);
        assert_eq!((sites.blocks, sites.with_branches), (3, 2));
        assert_eq!(sites.of(&call(1, 1)), Ok(Some(3)));
        let keep = Gate::Keep { probability: 0.5 };
        assert_eq!(sites.depth(&[keep, Gate::Drop, keep, keep, Gate::Drop]), 1.5);
        assert!(sites.depth(&[Gate::Drop; 5]).is_sign_positive());
        Ok(())
    }

    #[test]
    fn a_layer_that_came_later_is_an_error() -> Result<(), Invalid> {
        let sites = Sites::new(&blocks(&["a"], &["attention"]), None, Unit::Sublayer)?;
        assert!(sites.of(&call(0, 1)).is_err());
        assert!(sites.of(&call(1, 0)).is_err());
        Ok(())
    }

    #[test]
    fn a_pattern_that_matches_nothing() {
        let find = |names: &[&str], patterns: Option<Patterns>| {
            let error =
                Sites::new(&blocks(names, &[]), patterns.as_ref(), Unit::Block).unwrap_err();
            (error.path, error.message)
        };
        let expected = "pattern \"encoder\" does not match any of the model's 5 blocks: `embed`, \
            `encoder.0`, `encoder.1`, ..., `head`";
        assert_eq!(find(&NAMES, one("encoder")), ("layers".into(), expected.into()));
        let many = Patterns::Many(vec!["a".to_owned(), "b".to_owned()]);
        let expected = "pattern \"b\" does not match the model's one block: `a`";
        assert_eq!(find(&["a"], Some(many)), ("layers[1]".into(), expected.into()));
        let (path, message) = find(&[], None);
        assert_eq!(path, "");
        assert!(message.starts_with("the model offers no layer calls"), "{message}");
    }
}
