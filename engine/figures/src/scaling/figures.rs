//! What one rank takes, measured.
use crate::statistics::median;
use serde::{Deserialize, Serialize};
use std::path::Path;
use trainyard::BoxError;

/// What one rank takes for a step by itself, and what an exchange between ranks takes. All times are in
/// seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// What was measured, for people.
    pub about: String,
    /// Sequences that a rank trains on in a step.
    pub samples: u64,
    /// The forward pass outside the blocks.
    pub forward_seconds: f64,
    /// The update, outside the blocks.
    pub update_seconds: f64,
    /// Bytes of one element of a gradient.
    pub element_bytes: u64,
    /// Copying a byte of a gradient into its bucket.
    pub copy_seconds_per_byte: f64,
    /// The model, in the order in which a backward pass completes its gradients.
    pub units: Vec<Unit>,
    /// The way between the ranks that were measured; none if it was one.
    pub link: Option<Link>,
}

/// Parameters whose gradients go together: a block, or a parameter outside of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// The block, from 0 nearest the input; none for a parameter outside of all.
    pub block: Option<usize>,
    /// Elements of its parameters.
    pub elements: u64,
    /// Its forward; 0 outside the blocks.
    pub forward_seconds: f64,
    /// Of the backward pass, from the completion of the unit before to that of this one.
    pub backward_seconds: f64,
    /// Its part in the update; 0 outside the blocks.
    pub update_seconds: f64,
}

/// What an exchange takes between two neighbours of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Until a message is there, however short.
    pub hop_seconds: f64,
    /// Bytes a second, in each direction.
    pub bytes_per_second: f64,
    /// A rank's processor time for each byte that it sends; 0 where a network card or a GPU's copy
    /// engine does the work.
    pub processor_seconds_per_byte: f64,
}

/// A step with all blocks and one without any, in parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    /// Forward with all blocks, and without.
    pub forward: [f64; 2],
    /// Update with all blocks, and without.
    pub update: [f64; 2],
    /// Copying all gradients.
    pub copy: f64,
    /// Backward with all blocks, by unit.
    pub backward: Vec<f64>,
}

impl Pass {
    /// As a list, to go through a pipe.
    pub fn numbers(&self) -> Vec<f64> {
        let Pass { forward, update, copy, backward } = self;
        [forward.as_slice(), update, &[*copy], backward].concat()
    }

    /// The same from [`numbers`](Pass::numbers), of a model of so many units.
    pub fn from_numbers(numbers: &[f64], units: usize) -> Option<Pass> {
        match numbers {
            [f, f0, u, u0, copy, backward @ ..] if backward.len() == units => Some(Pass {
                forward: [*f, *f0],
                update: [*u, *u0],
                copy: *copy,
                backward: backward.to_vec(),
            }),
            _ => None,
        }
    }

    /// Of each number the median.
    pub fn median(passes: &[Pass]) -> Option<Pass> {
        let units = passes.first()?.backward.len();
        let lists: Vec<_> = passes.iter().map(Pass::numbers).collect();
        let middle = |i: usize| median(lists.iter().filter_map(|list| list.get(i).copied()));
        let numbers: Vec<_> = (0..units + 5).map(middle).collect();
        Pass::from_numbers(&numbers, units)
    }
}

impl Figures {
    /// From what was measured of a model of these `units`, whose blocks are alike.
    pub fn new(
        about: String,
        samples: u64,
        units: &[Unit],
        pass: &Pass,
        link: Option<Link>,
    ) -> Self {
        let element_bytes = 4;
        let blocks = units.iter().filter(|unit| unit.block.is_some()).count().max(1) as f64;
        let elements: u64 = units.iter().map(|unit| unit.elements).sum();
        // The difference of two measured times may be below 0, and no time is.
        let of_block = |[all, none]: [f64; 2]| ((all - none) / blocks).max(0.0);
        let (forward, update) = (of_block(pass.forward), of_block(pass.update));
        let unit = |(unit, &backward_seconds): (&Unit, &f64)| match unit.block {
            Some(_) => {
                Unit { forward_seconds: forward, backward_seconds, update_seconds: update, ..*unit }
            }
            None => Unit { backward_seconds, ..*unit },
        };
        Figures {
            about,
            samples,
            forward_seconds: pass.forward[0] - blocks * forward,
            update_seconds: pass.update[0] - blocks * update,
            element_bytes,
            copy_seconds_per_byte: pass.copy / (elements * element_bytes).max(1) as f64,
            units: units.iter().zip(&pass.backward).map(unit).collect(),
            link,
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.units.iter().filter_map(|unit| unit.block).max().map_or(0, |last| last + 1)
    }

    /// Elements of all parameters.
    pub fn elements(&self) -> u64 {
        self.units.iter().map(|unit| unit.elements).sum()
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, is not such a file, or has a number that cannot be; with the file's name.
    pub fn read(path: &Path) -> Result<Figures, BoxError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("cannot read the figures {shown}: {e}"))?;
        let figures: Figures = serde_json::from_str(&text).map_err(|e| {
            format!("{shown} is no file of figures ({e}); `trainyard plan --measure` writes one")
        })?;
        figures.check().map_err(|problem| format!("{shown}: {problem}"))?;
        Ok(figures)
    }

    /// Makes sure that every number is one that can be.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), String> {
        let time = |name: &str, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(format!("{name} = {value} is not a time in seconds, 0 or more")),
        };
        time("forward_seconds", self.forward_seconds)?;
        time("update_seconds", self.update_seconds)?;
        time("copy_seconds_per_byte", self.copy_seconds_per_byte)?;
        for (i, unit) in self.units.iter().enumerate() {
            time(&format!("units[{i}].forward_seconds"), unit.forward_seconds)?;
            time(&format!("units[{i}].backward_seconds"), unit.backward_seconds)?;
            time(&format!("units[{i}].update_seconds"), unit.update_seconds)?;
        }
        if let Some(link) = &self.link {
            time("link.hop_seconds", link.hop_seconds)?;
            time("link.processor_seconds_per_byte", link.processor_seconds_per_byte)?;
            let speed = link.bytes_per_second;
            if !(speed.is_finite() && speed > 0.0) {
                return Err(format!("link.bytes_per_second = {speed} is not above 0"));
            }
        }
        if self.samples == 0 {
            return Err("samples = 0 is not a batch: 1 or more".to_owned());
        }
        // Beyond these, sums of bytes would no longer fit.
        if !(1..=8).contains(&self.element_bytes) {
            return Err(format!("element_bytes = {} is not in 1 to 8", self.element_bytes));
        }
        if let Some(unit) = self.units.iter().find(|unit| unit.elements > 1 << 44) {
            return Err(format!("elements = {} is more than 2^44", unit.elements));
        }
        let mut blocks: Vec<_> = self.units.iter().filter_map(|unit| unit.block).collect();
        blocks.sort_unstable();
        match blocks.iter().enumerate().find(|(i, block)| i != *block) {
            Some((i, _)) => Err(format!("units: block {i} is not there just once")),
            None if self.units.is_empty() => {
                Err("units is empty: a model has parameters".to_owned())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units() -> [Unit; 3] {
        [None, Some(1), Some(0)].map(|block| Unit { block, elements: 5, ..Unit::default() })
    }

    fn pass() -> Pass {
        Pass {
            forward: [1.0, 0.2],
            update: [0.5, 0.1],
            copy: 0.06,
            backward: vec![0.25, 0.75, 1.25],
        }
    }

    #[test]
    fn a_step_in_parts() {
        let figures = Figures::new("x".to_owned(), 8, &units(), &pass(), None);
        assert_eq!(figures.check(), Ok(()));
        assert_eq!((figures.blocks(), figures.elements()), (2, 15));
        assert!((figures.forward_seconds - 0.2).abs() < 1e-12);
        assert!((figures.update_seconds - 0.1).abs() < 1e-12);
        assert!((figures.copy_seconds_per_byte - 0.001).abs() < 1e-12);
        assert_eq!(figures.units[0], Unit { backward_seconds: 0.25, ..units()[0] });
        let block = figures.units[2];
        assert!((block.forward_seconds - 0.4).abs() < 1e-12 && block.backward_seconds == 1.25);
        assert!((block.update_seconds - 0.2).abs() < 1e-12);
    }

    #[test]
    fn numbers_go_and_come() {
        assert_eq!(Pass::from_numbers(&pass().numbers(), 3), Some(pass()));
        assert_eq!(Pass::from_numbers(&pass().numbers(), 2), None);
        let slower = Pass { copy: 5.0, ..pass() };
        let middle = Pass::median(&[pass(), slower.clone(), Pass { copy: 0.07, ..slower }]);
        assert_eq!(middle, Some(Pass { copy: 0.07, ..pass() }));
        assert_eq!(Pass::median(&[]), None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let good = Figures::new("x".to_owned(), 8, &units(), &pass(), None);
        let link =
            Link { hop_seconds: 0.0, bytes_per_second: 0.0, processor_seconds_per_byte: 0.0 };
        let mut late = good.clone();
        late.units[1].backward_seconds = -0.5;
        let mut twice = good.clone();
        twice.units[1].block = Some(0);
        for (figures, message) in [
            (
                Figures { forward_seconds: f64::NAN, ..good.clone() },
                "forward_seconds = NaN is not a time in seconds, 0 or more",
            ),
            (late, "units[1].backward_seconds = -0.5 is not a time in seconds, 0 or more"),
            (twice, "units: block 1 is not there just once"),
            (
                Figures { link: Some(link), ..good.clone() },
                "link.bytes_per_second = 0 is not above 0",
            ),
            (Figures { samples: 0, ..good.clone() }, "samples = 0 is not a batch: 1 or more"),
            (Figures { element_bytes: 9, ..good.clone() }, "element_bytes = 9 is not in 1 to 8"),
            (Figures { units: vec![], ..good }, "units is empty: a model has parameters"),
        ] {
            assert_eq!(figures.check(), Err(message.to_owned()));
        }
    }
}
