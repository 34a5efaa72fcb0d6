//! `bf16` and `fp16`: training in a number format of 16 bits.
//!
//! The forward runs under libtorch's autocast (Micikevicius et al. 2018, "Mixed Precision Training",
//! <https://arxiv.org/abs/1710.03740>): each operation takes the format that is right for it, and the
//! backward pass follows the forward. Parameters stay float32, and so do their gradients and the
//! optimizer's state: the parameters are the master weights, and a step casts each trainable one that
//! enters a product once, however many micro-batches it has; a frozen one, or a view, at each use.
//!
//! Which operations run in which format is libtorch's choice, and differs between devices:
//!
//! | operation | CPU | CUDA |
//! | --- | --- | --- |
//! | matrix products, linear layers, convolutions, `scaled_dot_product_attention` | 16 bits | 16 bits |
//! | recurrent cells | their products only | 16 bits |
//! | softmax, `log_softmax`, layer and group normalisation | format of the input | float32 |
//! | `exp`, `log`, `pow`, `sum`, `cumsum` | format of the input | float32 |
//! | batch normalisation, GELU, ReLU, tanh, sigmoid, dropout, `mean` | format of the input | format of the input |
//! | embedding | format of the weights, float32 | format of the weights, float32 |
//! | losses: squared and absolute error, cross-entropy, Kullback-Leibler, binary cross-entropy | float32 | float32 |
//! | arithmetic of two tensors, `cat`, `stack` | float32 if one of them is | float32 if one of them is |
//!
//! Format of the input means that of the result: a CPU sums up softmax and normalisations of 16-bit
//! numbers in float32. On a CPU the logarithms that enter a cross-entropy have the format of the scores,
//! so give it scores in float32 (`to_kind(Kind::Float)`).
mod bf16;
mod casting;
mod config;
mod fp16;
pub mod loss_scale;

pub use bf16::{BF16_EXAMPLE, Bf16};
pub use config::{Bf16Config, Bf16Keys, Fp16Config};
pub use fp16::{FP16_EXAMPLE, Fp16};
