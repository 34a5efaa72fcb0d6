//! Defaults that moved over DeepSpeed's versions, or that are others here, and what was chosen.

/// Keys that are left out, and what then holds.
pub const MOVED: &[(&str, &str)] = &[
    (
        "gradient_clipping",
        "nothing is clipped; DeepSpeed clips to a norm of 1 since June 2026 and did not before",
    ),
    (
        "steps_per_print",
        "the engine prints nothing; DeepSpeed printed every 10 steps until October 2024",
    ),
    (
        "bf16.check_grad_overflow",
        "the update of a step whose gradients are not finite is left out, as in DeepSpeed \
         since June 2026; before, it was not",
    ),
    ("scheduler.params.warmup_type", "the warm-up is logarithmic, as in DeepSpeed"),
    (
        "optimizer.params.adam_w_mode",
        "type Adam takes the weight decay off the weights (AdamW), as in DeepSpeed",
    ),
];
