//! The table of operations in the documentation of `trainyard_plugins::precision`, found by running
//! them. `cuda.rs` has the test on a CUDA device.
use tch::{Device, Kind, Reduction, Tensor};
use trainyard_native::autocast;

/// The kind of the result of each operation under autocast, of float32 inputs and of 16-bit ones.
pub type Row = (&'static str, Format, fn(&Tensor) -> Tensor);

/// In which format an operation runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Format {
    /// 16 bits, whatever comes in.
    Low,
    /// Float32, whatever comes in.
    Float32,
    /// That of the input.
    Input,
}
use Format::{Float32, Input, Low};

fn softmax(x: &Tensor) -> Tensor {
    x.softmax(-1, None::<Kind>)
}

fn layer_norm(x: &Tensor) -> Tensor {
    let ones = Tensor::ones([8], (Kind::Float, x.device()));
    x.layer_norm([8], Some(&ones), Some(&ones), 1e-5, false)
}

fn batch_norm(x: &Tensor) -> Tensor {
    let ones = || Tensor::ones([8], (Kind::Float, x.device()));
    let (weight, mean, variance) = (ones(), ones(), ones());
    x.batch_norm(Some(&weight), Some(&weight), Some(&mean), Some(&variance), true, 0.1, 1e-5, false)
}

fn group_norm(x: &Tensor) -> Tensor {
    x.group_norm(2, None::<&Tensor>, None::<&Tensor>, 1e-5, false)
}

fn attention(x: &Tensor) -> Tensor {
    let x = x.view([1, 1, 8, 8]);
    Tensor::scaled_dot_product_attention(&x, &x, &x, None::<&Tensor>, 0.0, false, None, false)
}

fn lstm_cell(x: &Tensor) -> Tensor {
    let w = Tensor::ones([32, 8], (Kind::Float, x.device()));
    let h = Tensor::ones([8, 8], (Kind::Float, x.device()));
    x.lstm_cell(&[&h, &h], &w, &w, None::<&Tensor>, None::<&Tensor>).0
}

fn labels(x: &Tensor) -> Tensor {
    Tensor::zeros([8], (Kind::Int64, x.device()))
}

fn embedding(x: &Tensor) -> Tensor {
    Tensor::embedding(x, &labels(x), -1, false, false)
}

fn cross_entropy(x: &Tensor) -> Tensor {
    x.cross_entropy_loss(&labels(x), None::<Tensor>, Reduction::Mean, -100, 0.0)
}

/// Operations whose format is the same on both devices.
const BOTH: &[Row] = &[
    ("matmul", Low, |x| x.matmul(x)),
    ("linear", Low, |x| x.linear(x, None::<&Tensor>)),
    ("bmm", Low, |x| x.view([1, 8, 8]).bmm(&x.view([1, 8, 8]))),
    ("conv1d", Low, |x| x.view([1, 8, 8]).conv1d(&x.view([8, 8, 1]), None::<&Tensor>, 1, 0, 1, 1)),
    ("attention", Low, attention),
    ("batch_norm", Input, batch_norm),
    ("gelu", Input, |x| x.gelu("none")),
    ("relu", Input, Tensor::relu),
    ("tanh", Input, Tensor::tanh),
    ("sigmoid", Input, Tensor::sigmoid),
    ("dropout", Input, |x| x.dropout(0.5, true)),
    ("mean", Input, |x| x.mean(None::<Kind>)),
    ("embedding", Input, embedding),
    ("mse_loss", Float32, |x| x.mse_loss(x, Reduction::Mean)),
    ("l1_loss", Float32, |x| x.l1_loss(x, Reduction::Mean)),
    ("smooth_l1_loss", Float32, |x| x.smooth_l1_loss(x, Reduction::Mean, 1.0)),
    ("binary_cross_entropy_with_logits", Float32, |x| {
        x.binary_cross_entropy_with_logits(x, None::<&Tensor>, None::<&Tensor>, Reduction::Mean)
    }),
    ("cross_entropy", Float32, cross_entropy),
    ("kl_div", Float32, |x| x.kl_div(x, Reduction::Mean, false)),
    ("cat", Float32, |x| Tensor::cat(&[x, &x.to_kind(Kind::Float)], 0)),
    ("stack", Float32, |x| Tensor::stack(&[x, &x.to_kind(Kind::Float)], 0)),
    ("add", Float32, |x| x + x.to_kind(Kind::Float)),
];

const CPU: &[Row] = &[
    ("softmax", Input, softmax),
    ("log_softmax", Input, |x| x.log_softmax(-1, None::<Kind>)),
    ("layer_norm", Input, layer_norm),
    ("group_norm", Input, group_norm),
    ("exp", Input, Tensor::exp),
    ("log", Input, Tensor::log),
    ("pow", Input, |x| x.pow_tensor_scalar(2)),
    ("sum", Input, |x| x.sum(None::<Kind>)),
    ("cumsum", Input, |x| x.cumsum(0, None::<Kind>)),
];

pub const CUDA: &[Row] = &[
    ("lstm_cell", Low, lstm_cell),
    ("softmax", Float32, softmax),
    ("log_softmax", Float32, |x| x.log_softmax(-1, None::<Kind>)),
    ("layer_norm", Float32, layer_norm),
    ("group_norm", Float32, group_norm),
    ("exp", Float32, Tensor::exp),
    ("log", Float32, Tensor::log),
    ("pow", Float32, |x| x.pow_tensor_scalar(2)),
    ("sum", Float32, |x| x.sum(None::<Kind>)),
    ("cumsum", Float32, |x| x.cumsum(0, None::<Kind>)),
];

/// The operations that do not run in the format that the table says, with what they do.
pub fn surprises(device: Device, rows: &[Row]) -> Vec<String> {
    let mut out = Vec::new();
    for (name, format, run) in BOTH.iter().chain(rows) {
        for low in [Kind::BFloat16, Kind::Half] {
            for given in [Kind::Float, low] {
                let x = Tensor::full([8, 8], 0.5, (Kind::Float, device)).to_kind(given);
                let found = autocast(device, low, || run(&x)).unwrap().kind();
                let expected = match format {
                    Low => low,
                    Float32 => Kind::Float,
                    Input => given,
                };
                if found != expected {
                    out.push(format!("{name} of {given:?} under {low:?}: {found:?}"));
                }
            }
        }
    }
    out
}

#[test]
fn the_table_of_operations_on_cpu() {
    assert_eq!(surprises(Device::Cpu, CPU), [""; 0]);
}
