//! Float32 against float64 over some steps, for the optimizers' tests: what takes our loops against what
//! takes libtorch's operations.
use crate::Result;
use tch::{Device, Kind, Tensor};

/// What one step has to work on.
pub struct Case<'a> {
    pub w: &'a [Tensor],
    pub g: &'a [Tensor],
    pub slots: [&'a [Tensor]; 2],
    pub steps: &'a [i64],
    pub scale: Option<&'a Tensor>,
}

/// From a scalar to matrices that fill some pieces and a part of one.
const SHAPES: [&[i64]; 6] = [&[], &[1], &[7], &[5, 33], &[130, 257], &[3, 16384]];

/// Fifty steps in both kinds from the same start, with a scale and without: the weights must agree to 1e-6
/// over all. And some in float32 with one thread and with two: there they must be the same.
pub fn agree(step: impl Fn(Case<'_>) -> Result<()>) {
    let few = |threads| run(&step, Kind::Float, true, 5, threads);
    for (one, two) in few(1).iter().zip(&few(2)) {
        assert_eq!(one, two, "one thread and two differ");
    }
    for scaled in [false, true] {
        let [found, exact] =
            [Kind::Float, Kind::Double].map(|kind| run(&step, kind, scaled, 50, 1));
        let [mut apart, mut whole] = [0.0; 2];
        for (found, exact) in found.iter().zip(&exact) {
            let square = |t: Tensor| t.square().sum(Kind::Double).double_value(&[]);
            apart += square(found.to_kind(Kind::Double) - exact);
            whole += square(exact.shallow_clone());
        }
        let relative = f64::sqrt(apart / whole);
        assert!(relative < 1e-6, "scaled: {scaled}, relative error {relative}");
        assert!(relative > 0.0, "the two kinds took different ways");
    }
}

fn run(
    step: &impl Fn(Case<'_>) -> Result<()>,
    kind: Kind,
    scaled: bool,
    count: i64,
    threads: i32,
) -> Vec<Tensor> {
    tch::set_num_threads(threads);
    tch::manual_seed(1);
    let draw = || SHAPES.map(|s| Tensor::randn(s, (Kind::Float, Device::Cpu)).to_kind(kind));
    let w = draw();
    let [m, v] = [0, 1].map(|_| SHAPES.map(|s| Tensor::zeros(s, (kind, Device::Cpu))));
    // Every parameter has had another number of updates; a power of two scales exactly.
    let scale = Tensor::from(0.25f32);
    for t in 0..count {
        let g = draw();
        let steps: Vec<_> = (0..).map(|i| 1 + t + 2 * i).take(w.len()).collect();
        let scale = scaled.then_some(&scale);
        step(Case { w: &w, g: &g, slots: [&m, &v], steps: &steps, scale }).unwrap();
    }
    w.into()
}
