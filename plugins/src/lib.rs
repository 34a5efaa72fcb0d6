//! Trainyard's plugins: a folder for each section of the configuration, and the list of them.
//!
//! In a folder, `mod.rs` is what the plugin does, `config.rs` what one may set, and the other files are
//! the maths, free of the engine.
mod choice;
pub mod data_parallel;
pub mod deepspeed;
pub mod gradient_clipping;
pub mod monitors;
pub mod optimizer;
pub mod precision;
pub mod progressive_layer_drop;
pub mod scheduler;
mod words;

#[cfg(test)]
mod tests;

use data_parallel::DataParallel;
use gradient_clipping::GradientClipping;
use monitors::{CsvMonitor, Tensorboard};
use optimizer::Optimizer;
use precision::{Bf16, Fp16};
use progressive_layer_drop::ProgressiveLayerDrop;
use scheduler::Scheduler;
use trainyard::Registry;

/// Every plugin of this crate, in the order in which they run; a program may add its own behind them.
///
/// Layer dropping first: it wraps the layer calls outermost, and what it gives idle parameters has to be
/// there before clipping, which bounds what the optimizer sees. The precision, the optimizer, the
/// scheduler and data parallelism fill slots of the engine, and the monitors observe the run; their place is only that
/// of their lines in the plan.
///
/// Keys of DeepSpeed's that no plugin here owns are in [`deepspeed`].
pub fn registry() -> Registry {
    let plugins = Registry::new()
        .add::<Bf16>()
        .add::<Fp16>()
        .add::<ProgressiveLayerDrop>()
        .add::<GradientClipping>()
        .add::<Optimizer>()
        .add::<Scheduler>()
        .add::<DataParallel>()
        .add::<Tensorboard>()
        .add::<CsvMonitor>();
    plugins
        .dialect(deepspeed::DIALECT)
        .optimizer_line(r#""optimizer": { "type": "AdamW", "params": { "lr": 1e-4 } }"#)
}

/// A configuration with each plugin, by the plugin's first key, in the order of [`registry`].
pub const EXAMPLES: &[(&str, &str)] = &[
    ("bf16", precision::BF16_EXAMPLE),
    ("fp16", precision::FP16_EXAMPLE),
    ("progressive_layer_drop", progressive_layer_drop::EXAMPLE),
    ("gradient_clipping", gradient_clipping::EXAMPLE),
    ("optimizer", optimizer::EXAMPLE),
    ("scheduler", scheduler::EXAMPLE),
    ("distributed", data_parallel::EXAMPLE),
    ("tensorboard", monitors::TENSORBOARD_EXAMPLE),
    ("csv_monitor", monitors::CSV_EXAMPLE),
];
