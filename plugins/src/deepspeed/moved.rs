//! Defaults that moved over DeepSpeed's versions, or that are others here, and what was chosen.
use trainyard::Absent;
use trainyard::config::Weight;

/// Keys that are left out, and what then holds.
pub const MOVED: &[Absent] = &[
    Absent {
        weight: Weight::Result,
        ..of_any(
            "gradient_clipping",
            "nothing is clipped; DeepSpeed clips to a norm of 1 since June 2026, and did not before",
        )
    },
    of_any(
        "steps_per_print",
        "the engine prints nothing; DeepSpeed printed every 10 steps until October 2024",
    ),
    of_any(
        "bf16.check_grad_overflow",
        "the update of a step whose gradients are not finite is left out, as in DeepSpeed \
         since June 2026; before, it was not",
    ),
    Absent {
        path: "scheduler.params.warmup_max_lr",
        weight: Weight::Little,
        types: &["warmupdecaylr"],
        says: "the rate rises to 0.001, whatever optimizer.params.lr says, as in DeepSpeed; \"auto\" takes \
               the optimizer's",
    },
    Absent {
        path: "scheduler.params.warmup_type",
        weight: Weight::Little,
        types: &["warmuplr", "warmupdecaylr", "warmupcosinelr"],
        says: "the warm-up is logarithmic, as in DeepSpeed",
    },
    Absent {
        path: "optimizer.params.adam_w_mode",
        weight: Weight::Little,
        types: &["adam", "fusedadam", "deepspeedcpuadam"],
        says: "type Adam takes the weight decay off the weights (AdamW), as in DeepSpeed",
    },
    Absent {
        path: "optimizer.params.variant",
        weight: Weight::Result,
        types: &["lamb", "fusedlamb"],
        says: "the rule is the paper's, \"paper\"; DeepSpeed's, which corrects the bias in the rate, is \
               \"deepspeed\"",
    },
];

const fn of_any(path: &'static str, says: &'static str) -> Absent {
    Absent { path, types: &[], says, weight: Weight::Little }
}
