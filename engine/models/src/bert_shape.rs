//! The blocks and parameters of a BERT, told without a tensor.
use crate::bert_config::{BertConfig, Norm};
use trainyard::BlockInfo;

/// Trainable parameters by name, with their sizes.
type Parameters = Vec<(String, Vec<i64>)>;

impl BertConfig {
    /// The blocks, in the order of the forward, and the trainable parameters, sorted by name, of the model
    /// that [`Bert::new`](crate::Bert::new) makes.
    pub fn shape(&self) -> (Vec<BlockInfo>, Parameters) {
        let (h, f, v) = (self.hidden, self.feed_forward(), self.vocabulary);
        let mut parameters = vec![
            ("tokens".to_owned(), vec![v, h]),
            ("positions".to_owned(), vec![self.max_positions, h]),
            ("bias".to_owned(), vec![v]),
        ];
        add_norm(&mut parameters, "norm", h);
        if self.norm == Norm::Pre {
            add_norm(&mut parameters, "last_norm", h);
        }
        add_linear(&mut parameters, "transform", h, h);
        add_norm(&mut parameters, "transform_norm", h);
        let mut blocks = Vec::new();
        for layer in 0..self.layers {
            let name = format!("layers.{layer}");
            let within = |part: &str| format!("{name}.{part}");
            add_linear(&mut parameters, &within("attention.query_key_value"), h, 3 * h);
            add_linear(&mut parameters, &within("attention.output"), h, h);
            add_linear(&mut parameters, &within("up"), h, f);
            add_linear(&mut parameters, &within("down"), f, h);
            let sublayers = ["attention_norm", "feed_forward_norm"];
            sublayers.iter().for_each(|norm| add_norm(&mut parameters, &within(norm), h));
            blocks.push(BlockInfo { name, sublayers: sublayers.map(str::to_owned).to_vec() });
        }
        parameters.sort();
        (blocks, parameters)
    }

    /// Numbers in all parameters, `u64::MAX` for more.
    pub fn numbers(&self) -> u64 {
        let (_, parameters) = self.shape();
        let numbers = |sizes: &[i64]| {
            let sizes = sizes.iter().map(|&size| u64::try_from(size).unwrap_or(0));
            sizes.fold(1, u64::saturating_mul)
        };
        parameters.iter().map(|(_, sizes)| numbers(sizes)).fold(0, u64::saturating_add)
    }
}

/// A linear map from `from` to `to` features, with a bias.
fn add_linear(parameters: &mut Parameters, name: &str, from: i64, to: i64) {
    parameters.push((format!("{name}.weight"), vec![to, from]));
    parameters.push((format!("{name}.bias"), vec![to]));
}

fn add_norm(parameters: &mut Parameters, name: &str, width: i64) {
    parameters.push((format!("{name}.weight"), vec![width]));
    parameters.push((format!("{name}.bias"), vec![width]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bert;
    use tch::nn::VarStore;
    use tch::{Device, Tensor};
    use trainyard::Layers;

    #[test]
    fn the_shape_is_that_of_the_model() {
        for norm in [Norm::Pre, Norm::Post] {
            let config = BertConfig {
                layers: 2,
                hidden: 8,
                intermediate: Some(20),
                vocabulary: 11,
                max_positions: 5,
                norm,
                ..BertConfig::default()
            };
            let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
            Bert::new(variables.root(), &config, &layers);
            let named = variables.variables().into_iter();
            let mut parameters: Parameters = named.map(|(n, tensor)| (n, tensor.size())).collect();
            parameters.sort();
            let made: usize = variables.variables().values().map(Tensor::numel).sum();
            assert_eq!(config.numbers(), made as u64);
            assert_eq!(config.shape(), (layers.blocks(), parameters));
        }
    }
}
