//! Drives an optimizer by hand, as the engine would, in float64.
use tch::Tensor;
use trainyard::{GroupOptions, Optimizer, Update};

/// One parameter group in training.
pub struct Trial<O> {
    optimizer: O,
    pub options: GroupOptions,
    pub betas: Option<(f64, f64)>,
    pub parameters: Vec<Tensor>,
    pub slots: Vec<Vec<Tensor>>,
    steps: Vec<i64>,
}

impl<O: Optimizer> Trial<O> {
    /// A group of one parameter.
    pub fn new(optimizer: O, weights: &[f64]) -> Self {
        Self::many(optimizer, &[weights])
    }

    /// A group of several.
    pub fn many(optimizer: O, weights: &[&[f64]]) -> Self {
        let options = GroupOptions { lr: 0.0, weight_decay: 0.0, adapt: true };
        Self::of(optimizer, options, weights.iter().map(|w| Tensor::from_slice(w)).collect())
    }

    /// A group of parameters of any shapes.
    pub fn of(optimizer: O, options: GroupOptions, parameters: Vec<Tensor>) -> Self {
        let zeros = |_: &&str| parameters.iter().map(Tensor::zeros_like).collect();
        Trial {
            slots: optimizer.slots(&options).iter().map(zeros).collect(),
            steps: vec![0; parameters.len()],
            options,
            betas: None,
            optimizer,
            parameters,
        }
    }

    /// One update of every parameter, each with the same gradient.
    pub fn step(&mut self, lr: f64, gradient: &[f64]) {
        self.step_of(lr, &vec![Some(gradient); self.parameters.len()]);
    }

    /// One update of the parameters that have a gradient.
    pub fn step_of(&mut self, lr: f64, gradients: &[Option<&[f64]>]) {
        let active: Vec<_> = (0..gradients.len()).filter(|&i| gradients[i].is_some()).collect();
        active.iter().for_each(|&i| self.steps[i] += 1);
        let pick = |from: &[Tensor]| active.iter().map(|&i| from[i].shallow_clone()).collect();
        let update = Update {
            lr,
            betas: self.betas,
            options: &self.options,
            parameters: &Vec::from_iter(Vec::<Tensor>::into_iter(pick(&self.parameters))),
            gradients: &gradients
                .iter()
                .zip(&self.parameters)
                .filter_map(|(g, w)| g.map(|g| Tensor::from_slice(g).view_as(w).to_kind(w.kind())))
                .collect::<Vec<_>>(),
            scale: None,
            slots: &self.slots.iter().map(|slot| pick(slot)).collect::<Vec<_>>(),
            steps: &active.iter().map(|&i| self.steps[i]).collect::<Vec<_>>(),
        };
        self.optimizer.update(&update).expect("the update is possible");
    }

    /// The elements of the first parameter.
    pub fn weights(&self) -> Vec<f64> {
        Vec::try_from(self.parameters[0].flatten(0, -1)).expect("it is a vector")
    }
}
