//! How the parameters of a model lie behind one another on their way to the other ranks.
use super::Unit;
use tch::nn::VarStore;
use trainyard::Layers;

/// The units in which a backward pass completes gradients, first one first: the blocks, and each parameter
/// outside of them on its own, in the reverse of the order in which the model made them. Their times are 0.
///
/// For each parameter, as `variables.trainable_variables()` has them, the index of its unit.
pub fn layout(variables: &VarStore, layers: &Layers) -> (Vec<Unit>, Vec<usize>) {
    let blocks = layers.blocks();
    let names = variables.variables();
    let made = variables.trainable_variables();
    let block = |place: *mut std::ffi::c_void| {
        let (name, _) = names.iter().find(|(_, tensor)| tensor.data_ptr() == place)?;
        blocks.iter().position(|block| {
            name.strip_prefix(&block.name).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let mut units: Vec<Unit> = Vec::new();
    let mut unit_of = vec![0; made.len()];
    for (i, tensor) in made.iter().enumerate().rev() {
        let (block, elements) = (block(tensor.data_ptr()), tensor.numel() as u64);
        match units.last_mut() {
            Some(unit) if block.is_some() && unit.block == block => unit.elements += elements,
            _ => units.push(Unit { block, elements, ..Unit::default() }),
        }
        unit_of[i] = units.len() - 1;
    }
    (units, unit_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;
    use trainyard_models::{Bert, BertConfig};

    #[test]
    fn the_head_then_the_blocks_then_the_embedding() {
        let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
        let sizes = BertConfig {
            layers: 2,
            hidden: 4,
            heads: 2,
            vocabulary: 7,
            max_positions: 3,
            ..BertConfig::default()
        };
        let _model = Bert::new(variables.root(), &sizes, &layers);
        let (units, unit_of) = layout(&variables, &layers);
        let found: Vec<_> = units.iter().map(|unit| (unit.block, unit.elements)).collect();
        // Two norms, query-key-value, output, up, down, each with a bias.
        let block = 2 * 8 + (4 * 12 + 12) + (16 + 4) + (64 + 16) + (64 + 4);
        // Bias, the transform's norm, transform, the last norm; below the blocks norm, positions, tokens.
        let expected = [7, 4, 4, 16, 4, 4, 4].map(|elements| (None, elements));
        assert_eq!(found[..7], expected);
        assert_eq!(found[7..9], [(Some(1), block), (Some(0), block)]);
        assert_eq!(found[9..], [4, 4, 12, 28].map(|elements| (None, elements)));
        assert_eq!((unit_of[0], unit_of[unit_of.len() - 1]), (12, 0));
    }
}
