//! A residual network from 8 numbers to one.
use tch::nn::{self, LinearConfig, Module, ModuleT, Path};
use tch::{Device, Kind, Tensor};
use trainyard::{Gated, Layers};

/// One block: `x + down(relu(up(x)))`.
#[derive(Debug)]
struct Block {
    up: nn::Linear,
    down: nn::Linear,
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, _train: bool) -> Tensor {
        x + self.down.forward(&self.up.forward(x).relu())
    }
}

#[derive(Debug)]
pub struct Model {
    embed: nn::Linear,
    blocks: Vec<Gated<Block>>,
    head: nn::Linear,
}

impl Model {
    pub fn new(path: Path, layers: &Layers) -> Self {
        let linear = |path: Path, from, to| nn::linear(path, from, to, LinearConfig::default());
        let block = |i: i64| {
            let path = &path / "blocks" / i;
            Block { up: linear(&path / "up", 32, 64), down: linear(&path / "down", 64, 32) }
        };
        Model {
            embed: linear(&path / "embed", 8, 32),
            blocks: layers.wrap((0..4).map(block)), // was: (0..4).map(block).collect()
            head: linear(&path / "head", 32, 1),
        }
    }

    /// `x`: [batch, 8]. Returns [batch, 1].
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x =
            self.blocks.iter().fold(self.embed.forward(x), |x, block| block.forward_t(&x, train));
        self.head.forward(&x)
    }
}

/// Inputs [32, 8] and what the model is to find: the sine of their sum, [32, 1].
pub fn batch(step: i64) -> (Tensor, Tensor) {
    tch::manual_seed(step);
    let x = Tensor::rand([32, 8], (Kind::Float, Device::Cpu)) - 0.5;
    let y = x.sum_dim_intlist(1, true, Kind::Float).sin();
    (x, y)
}
