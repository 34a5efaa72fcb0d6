//! `zero_optimization`, whose stages save memory and leave the result as it is.
use super::{COUNT, noted, refused, said};
use trainyard::Holds::{Anything, Count, Flag, FlagOn, Number, Section, Text, Word};
use trainyard::Known;

/// The section `zero_optimization`. `reduce_bucket_size` is in [`PARALLEL`](super::PARALLEL).
pub const ZERO: &[Known] = &[
    noted(
        "zero_optimization",
        &["stage"],
        Count { off: 0, max: 3 },
        "partitioned the optimizer's state (1), gradients (2) and parameters (3) over the ranks",
        "every rank keeps them whole, to the same result",
    ),
    noted(
        "zero_optimization",
        &["contiguous_gradients"],
        Flag,
        "copied gradients into one buffer as they appear",
        "they stay where they are, to the same result",
    ),
    noted(
        "zero_optimization",
        &["reduce_scatter"],
        Flag,
        "reduced each gradient to the rank that keeps it",
        "all ranks get all gradients, to the same result",
    ),
    noted(
        "zero_optimization",
        &["overlap_comm"],
        Flag,
        "exchanged gradients during the backward pass",
        "they always are",
    ),
    noted(
        "zero_optimization",
        &["use_multi_rank_bucket_allreduce"],
        FlagOn,
        "reduced the buckets of each rank for itself",
        "all ranks get all gradients, to the same result",
    ),
    noted(
        "zero_optimization",
        &[
            "allgather_partitions",
            "stage3_use_all_reduce_for_fetch_params",
            "stage3_allgather_sequential",
            "use_all_reduce_for_fetch_params",
            "allgather_sequential",
        ],
        Flag,
        "chosen how partitioned parameters are brought together",
        "parameters are not partitioned, to the same result",
    ),
    sizes(
        &["allgather_bucket_size"],
        "set how many elements of updated parameters are gathered at once",
    ),
    sizes(&["sub_group_size"], "set how many parameters the optimizer updates at once"),
    sizes(
        &["stage3_prefetch_bucket_size", "prefetch_bucket_size"],
        "set how many elements of parameters are fetched ahead of their use",
    ),
    sizes(
        &["stage3_param_persistence_threshold", "param_persistence_threshold"],
        "kept parameters of fewer elements whole on every rank",
    ),
    sizes(
        &["stage3_model_persistence_threshold", "model_persistence_threshold"],
        "bounded how many elements are kept whole on every rank",
    ),
    sizes(
        &["stage3_max_live_parameters", "max_live_parameters"],
        "bounded how many parameters a rank has whole at once",
    ),
    sizes(
        &["stage3_max_reuse_distance", "max_reuse_distance"],
        "kept parameters whole that are soon used again",
    ),
    sizes(
        &["stage3_module_granularity_threshold", "module_granularity_threshold"],
        "fetched modules of small parts as one",
    ),
    sizes(
        &["stage3_partition_stream_chunk_size", "partition_stream_chunk_size"],
        "partitioned large parameters piece by piece",
    ),
    sizes(
        &["parameter_alignment"],
        "padded the buffers so that each parameter begins at a multiple of it",
    ),
    noted(
        "zero_optimization",
        &["compute_grad_norm"],
        FlagOn,
        "left out the norm of the gradients where nothing asks for it",
        "it is computed where something asks for it",
    ),
    noted(
        "zero_optimization",
        &["stage3_gather_16bit_weights_on_model_save", "gather_16bit_weights_on_model_save"],
        Flag,
        "gathered partitioned parameters before saving",
        "every rank has them whole",
    ),
    says(
        &["stage3_gather_fp16_weights_on_model_save"],
        "is the old name of stage3_gather_16bit_weights_on_model_save; every rank has the parameters whole",
    ),
    says(
        &["cpu_offload"],
        "is the old name of offload_optimizer with device cpu; the optimizer's state stays on the device, to \
         the same result",
    ),
    says(
        &["cpu_offload_param"],
        "is the old name of offload_param with device cpu; parameters stay on the device, to the same result",
    ),
    says(&["cpu_offload_use_pin_memory"], "does nothing, in DeepSpeed either"),
    noted(
        "zero_optimization",
        &[
            "round_robin_gradients",
            "ignore_unused_parameters",
            "load_from_fp32_weights",
            "elastic_checkpoint",
            "memory_efficient_linear",
            "pipeline_loading_checkpoint",
            "override_module_apply",
            "log_trace_cache_warnings",
            "enable_sanity_checks",
            "save_muon_momentum_buffer_in_memory",
        ],
        Flag,
        "set how ZeRO goes about its work",
        "nothing is partitioned, to the same result",
    ),
    noted(
        "zero_optimization",
        &["zero_hpz_partition_size"],
        Count { off: 1, max: u64::MAX },
        "kept a second partition of the parameters in each node",
        "parameters are not partitioned, to the same result",
    ),
    noted(
        "zero_optimization",
        &["leaf_module"],
        Section(&[("classes", Anything), ("names", Anything), ("name_suffixes", Anything)]),
        "set which modules ZeRO takes as one",
        "nothing is partitioned, to the same result",
    ),
    noted(
        "zero_optimization",
        &["mics_shard_size"],
        Anything,
        "partitioned parameters over groups of ranks",
        "nothing is partitioned, to the same result",
    ),
    noted(
        "zero_optimization",
        &["mics_hierarchical_params_gather"],
        Flag,
        "gathered parameters in two stages",
        "nothing is partitioned, to the same result",
    ),
    refused(
        "zero_optimization",
        &["legacy_stage1"],
        Flag,
        "asks for a first stage of ZeRO that DeepSpeed no longer has either",
    ),
    refused(
        "zero_optimization",
        &[
            "zero_quantized_weights",
            "zero_quantized_nontrainable_weights",
            "zero_quantized_gradients",
        ],
        Flag,
        "asks for rounded numbers between the ranks, which is not supported",
    ),
    refused(
        "zero_optimization",
        &["zeropp_loco_param"],
        Section(&[("err_beta", Number), ("reset_T", COUNT)]),
        "asks for rounded gradients between the ranks, which is not supported",
    ),
    refused(
        "zero_optimization",
        &["zenflow"],
        Section(&[
            ("topk_ratio", Number),
            ("select_strategy", Text),
            ("select_interval", COUNT),
            ("update_interval", COUNT),
            ("overlap_step", Flag),
            ("offload", Flag),
            ("auto_ratio", Number),
            ("full_warm_up_rounds", COUNT),
            ("pt_reserved_cores_perc", Number),
        ]),
        "asks for late updates of most parameters, which is not supported",
    ),
    noted(
        "zero_optimization.offload_param",
        &["device"],
        Word(&["none", "cpu", "nvme"]),
        "kept the parameters in the host's memory or on a disk",
        "they stay on the device, to the same result",
    ),
    noted(
        "zero_optimization.offload_param",
        &["nvme_path"],
        Text,
        "named the disk for parameters",
        "they stay on the device",
    ),
    noted(
        "zero_optimization.offload_param",
        &["buffer_count", "buffer_size", "max_in_cpu"],
        Count { off: -1, max: u64::MAX },
        "set the buffers of offloaded parameters",
        "they stay on the device",
    ),
    noted(
        "zero_optimization.offload_param",
        &["pin_memory"],
        Flag,
        "pinned the memory of offloaded parameters",
        "they stay on the device",
    ),
    noted(
        "zero_optimization.offload_optimizer",
        &["device"],
        Word(&["none", "cpu", "nvme"]),
        "kept the optimizer's state in the host's memory or on a disk",
        "it stays on the device, to the same result",
    ),
    noted(
        "zero_optimization.offload_optimizer",
        &["nvme_path"],
        Text,
        "named the disk for the optimizer's state",
        "it stays on the device",
    ),
    noted(
        "zero_optimization.offload_optimizer",
        &["buffer_count"],
        Count { off: -1, max: u64::MAX },
        "set the buffers of the offloaded optimizer",
        "its state stays on the device",
    ),
    noted(
        "zero_optimization.offload_optimizer",
        &[
            "pin_memory",
            "pipeline_read",
            "pipeline_write",
            "pipeline",
            "fast_init",
            "super_offload",
        ],
        Flag,
        "set how the offloaded optimizer's state is moved",
        "it stays on the device",
    ),
    noted(
        "zero_optimization.offload_optimizer",
        &["ratio"],
        Number,
        "set which share of the parameters the CPU updates",
        "the device updates all, to the same result",
    ),
    noted(
        "zero_optimization.offload_optimizer",
        &["cpuadam_cores_perc"],
        Number,
        "set which share of the CPU's cores the offloaded optimizer uses",
        "its state stays on the device",
    ),
];

/// Numbers about partitioned parameters.
const fn sizes(keys: &'static [&'static str], would: &'static str) -> Known {
    let any = Count { off: -1, max: u64::MAX };
    noted(
        "zero_optimization",
        keys,
        any,
        would,
        "parameters are not partitioned, to the same result",
    )
}

/// Flags that have a note in their own words.
const fn says(keys: &'static [&'static str], says: &'static str) -> Known {
    said("zero_optimization", keys, Flag, says)
}
