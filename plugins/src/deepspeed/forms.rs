//! What DeepSpeed's sections take in another form than the documented one, and what not together.
use trainyard::Clash;

/// The sections that pydantic reads: `"true"`, `"on"` and 1 are true there, and `"128"` is 128.
pub const COERCED: &[&str] = &[
    "fp16",
    "bf16",
    "bfloat16",
    "zero_optimization",
    "zero_optimization.offload_param",
    "zero_optimization.offload_optimizer",
    "comms_logger",
    "tensorboard",
    "csv_monitor",
    "wandb",
    "comet",
    "compile",
    "timers.throughput",
];

/// Two precisions (`bf16` holds where `bfloat16` is there, too), and two names of one key.
pub const CLASHES: &[Clash] = &[
    Clash {
        section: "",
        keys: ["fp16", "bf16"],
        enabled: true,
        unless: "",
        why: "is on, and `bf16` too: both set the precision; keep one",
    },
    Clash {
        section: "",
        keys: ["fp16", "bfloat16"],
        enabled: true,
        unless: "bf16",
        why: "is on, and `bfloat16` too: both set the precision; keep one",
    },
    names("cpu_offload", "offload_optimizer", "is the old name of offload_optimizer; keep one"),
    names("cpu_offload_param", "offload_param", "is the old name of offload_param; keep one"),
    twin("prefetch_bucket_size", "stage3_prefetch_bucket_size"),
    twin("param_persistence_threshold", "stage3_param_persistence_threshold"),
    twin("model_persistence_threshold", "stage3_model_persistence_threshold"),
    twin("max_live_parameters", "stage3_max_live_parameters"),
    twin("max_reuse_distance", "stage3_max_reuse_distance"),
    twin("gather_16bit_weights_on_model_save", "stage3_gather_16bit_weights_on_model_save"),
    twin("module_granularity_threshold", "stage3_module_granularity_threshold"),
    twin("use_all_reduce_for_fetch_params", "stage3_use_all_reduce_for_fetch_params"),
    twin("allgather_sequential", "stage3_allgather_sequential"),
];

const fn twin(short: &'static str, long: &'static str) -> Clash {
    names(short, long, "stands beside its other name, with stage3_ before it; keep one")
}

const fn names(old: &'static str, new: &'static str, why: &'static str) -> Clash {
    Clash { section: "zero_optimization", keys: [old, new], enabled: false, unless: "", why }
}
