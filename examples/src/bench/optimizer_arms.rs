//! What takes turns in the benchmarks of optimizers, and what it works on.
use super::setting::Setting;
use std::time::Instant;
use tch::{Device, Kind, Tensor};
use trainyard::{BoxError, GroupOptions, Optimizer, Update};
use trainyard_native::keep_freed_memory;
use trainyard_plugins::optimizer::{Adam, AdamParams, Lamb, LambParams};

/// The shapes of a BERT's parameters, those of `examples/peers` alike.
pub(super) struct Sizes {
    layers: i64,
    hidden: i64,
    vocabulary: i64,
    positions: i64,
}

impl Sizes {
    /// 11.8 million parameters.
    pub(super) fn small(setting: &Setting) -> Self {
        let whole = Sizes { layers: 12, hidden: 256, vocabulary: 8192, positions: 512 };
        let tiny = Sizes { layers: 1, hidden: 8, vocabulary: 64, positions: 8 };
        if *setting == Setting::quick() { tiny } else { whole }
    }

    /// Ten times as many: 118 million.
    pub(super) fn large(setting: &Setting) -> Self {
        let small = Self::small(setting);
        Sizes { hidden: 3 * small.hidden, vocabulary: 5 * small.vocabulary, ..small }
    }

    pub(super) fn shapes(&self) -> Vec<Vec<i64>> {
        let h = self.hidden;
        let linear = |from: i64, to: i64| [vec![to, from], vec![to]];
        let norm = || [vec![h], vec![h]];
        let layer = || {
            let branches = [linear(h, 3 * h), linear(h, h), linear(h, 4 * h), linear(4 * h, h)];
            [branches.concat(), norm().into(), norm().into()].concat()
        };
        let mut shapes = vec![vec![self.vocabulary, h], vec![self.positions, h]];
        (0..self.layers).for_each(|_| shapes.extend(layer()));
        shapes.extend([norm(), linear(h, h), norm()].concat());
        shapes.push(vec![self.vocabulary]);
        shapes
    }
}

/// One of the updates that take turns.
#[derive(Clone)]
pub(super) enum Arm {
    Adam(Adam),
    Lamb(Lamb),
    /// The peer's optimizer of this name.
    Peer(&'static str),
}

impl Arm {
    pub(super) fn adamw() -> Self {
        Arm::Adam(Adam { params: AdamParams::default(), decoupled: true })
    }

    pub(super) fn lamb() -> Self {
        Arm::Lamb(Lamb { params: LambParams::default() })
    }

    pub(super) fn peer(name: &'static str) -> Self {
        Arm::Peer(name)
    }

    pub(super) fn name(&self) -> String {
        match self {
            Arm::Adam(_) => "our AdamW".to_owned(),
            Arm::Lamb(_) => "our LAMB".to_owned(),
            Arm::Peer("adamw") => "PyTorch's fused AdamW".to_owned(),
            Arm::Peer(_) => "pytorch_optimizer's LAMB".to_owned(),
        }
    }

    /// Bytes that an update of one parameter moves, each array counted as often as it is passed over.
    pub(super) fn bytes(&self) -> f64 {
        match self {
            Arm::Lamb(_) | Arm::Peer("lamb") => 40.0,
            _ => 28.0,
        }
    }
}

/// Parameters, gradients and state of ours.
pub(super) struct Group {
    parameters: Vec<Tensor>,
    gradients: Vec<Tensor>,
    slots: Vec<Vec<Tensor>>,
    steps: Vec<i64>,
}

impl Group {
    pub(super) fn new(shapes: &[Vec<i64>]) -> Result<Self, BoxError> {
        // As the engine does, unless told not to.
        keep_freed_memory()?;
        tch::manual_seed(1);
        let all = |make: &dyn Fn(&Vec<i64>) -> Tensor| shapes.iter().map(make).collect::<Vec<_>>();
        let normal = |deviation: f64| {
            all(&|shape| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * deviation)
        };
        let zeros = || all(&|shape| Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
        Ok(Group {
            parameters: normal(0.02),
            gradients: normal(1e-3),
            slots: vec![zeros(), zeros()],
            steps: vec![0; shapes.len()],
        })
    }

    /// Seconds of each of `count` updates.
    pub(super) fn time(
        &mut self,
        optimizer: &mut impl Optimizer,
        count: usize,
    ) -> Result<Vec<f64>, BoxError> {
        let options = GroupOptions { lr: 1e-3, weight_decay: 0.01, adapt: true };
        let mut update = || {
            self.steps.iter_mut().for_each(|step| *step += 1);
            let began = Instant::now();
            optimizer.update(&Update {
                lr: options.lr,
                betas: None,
                options: &options,
                parameters: &self.parameters,
                gradients: &self.gradients,
                scale: None,
                slots: &self.slots,
                steps: &self.steps,
            })?;
            Ok(began.elapsed().as_secs_f64())
        };
        tch::no_grad(|| (0..count).map(|_| update()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_what_is_claimed() {
        let setting = Setting::bert().unwrap();
        let count = |sizes: Sizes| {
            let shapes = sizes.shapes();
            (shapes.iter().map(|s| s.iter().product::<i64>()).sum::<i64>(), shapes.len())
        };
        assert_eq!(count(Sizes::small(&setting)), (11_780_352, 153));
        assert_eq!(count(Sizes::large(&setting)), (117_539_584, 153));
    }
}
