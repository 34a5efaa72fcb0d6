//! Keys that may be `"auto"`: Hugging Face's trainer fills them in from its own arguments, and a program
//! does so with [`Registry::fill`](trainyard::Registry::fill).
use trainyard::{Auto, Otherwise};

const FROM_TRAINER: &str = "the default of Hugging Face's trainer";
const AS_DEEPSPEED: &str = "as if it were left out, as in DeepSpeed";

/// What only the program knows; `shown` stands for it where there is no program.
const fn program(path: &'static str, shown: &'static str, about: &'static str) -> Auto {
    Auto { path, otherwise: Otherwise::Program { shown, unless: "" }, about }
}

/// A value that is right for most programs.
const fn value(path: &'static str, value: &'static str, about: &'static str) -> Auto {
    Auto { path, otherwise: Otherwise::Value(value), about }
}

/// The key's own default.
const fn left_out(path: &'static str, about: &'static str) -> Auto {
    Auto { path, otherwise: Otherwise::LeftOut, about }
}

/// The keys that may be `"auto"`, beside the batch sizes and those whose plugin has a rule of its own
/// (`progressive_layer_drop.gamma`, `scheduler.params.total_num_steps`).
pub const AUTOS: &[Auto] = &[
    program("optimizer.params.lr", "5e-5", FROM_TRAINER),
    value("optimizer.params.betas", "[0.9, 0.999]", FROM_TRAINER),
    value("optimizer.params.eps", "1e-8", FROM_TRAINER),
    value("optimizer.params.weight_decay", "0", FROM_TRAINER),
    left_out("optimizer.params.momentum", AS_DEEPSPEED),
    left_out("optimizer.params.bias_correction", AS_DEEPSPEED),
    left_out("optimizer.params.adam_w_mode", AS_DEEPSPEED),
    left_out("optimizer.params.torch_adam", AS_DEEPSPEED),
    value("scheduler.params.warmup_min_lr", "0", FROM_TRAINER),
    value("scheduler.params.warmup_max_lr", "null", "the optimizer's rate"),
    program(
        "scheduler.params.warmup_num_steps",
        "1",
        "no warm-up, as Hugging Face's trainer by default",
    ),
    left_out("scheduler.params.warmup_min_ratio", AS_DEEPSPEED),
    left_out("scheduler.params.cos_min_ratio", AS_DEEPSPEED),
    value("gradient_clipping", "1", FROM_TRAINER),
    left_out("fp16.enabled", "off unless the program switches it on"),
    left_out("fp16.auto_cast", AS_DEEPSPEED),
    left_out("fp16.loss_scale", AS_DEEPSPEED),
    left_out("fp16.initial_scale_power", AS_DEEPSPEED),
    left_out("fp16.loss_scale_window", AS_DEEPSPEED),
    left_out("fp16.hysteresis", AS_DEEPSPEED),
    left_out("fp16.consecutive_hysteresis", AS_DEEPSPEED),
    left_out("fp16.min_loss_scale", AS_DEEPSPEED),
    left_out("fp16.fp16_master_weights_and_grads", AS_DEEPSPEED),
    left_out("bf16.enabled", "off unless the program switches it on"),
    left_out("bfloat16.enabled", "off unless the program switches it on"),
    left_out("bf16.immediate_grad_update", AS_DEEPSPEED),
    left_out("bf16.check_grad_overflow", AS_DEEPSPEED),
    left_out("bf16.bf16_master_weights_and_grads", AS_DEEPSPEED),
    left_out("bf16.bf16_optimizer_states", AS_DEEPSPEED),
];
