//! Keys at the top level, and those inside sections that a plugin owns.
use super::{noted, refused, said};
use trainyard::Holds::{Anything, Count, Flag, FlagOn, Number, OldSection, Text, Word};
use trainyard::Known;

/// Keys at the top level that hold one value.
pub const TOP: &[Known] = &[
    noted(
        "",
        &["steps_per_print"],
        Count { off: 0, max: u64::MAX },
        "printed step, rate and momentum every so many steps",
        "every step's report has them, and the program prints what it likes",
    ),
    noted(
        "",
        &["wall_clock_breakdown"],
        Flag,
        "timed the parts of each step, at the price of waiting for the device",
        "the report has the seconds of the whole step",
    ),
    noted(
        "",
        &["memory_breakdown"],
        Flag,
        "printed the memory in use at each milestone",
        "nothing of it is printed",
    ),
    noted(
        "",
        &["dump_state"],
        Flag,
        "printed the engine's state once it was built",
        "the plan is logged, line by line",
    ),
    noted(
        "",
        &["log_level"],
        Word(&["info", "debug", "warning", "error", "critical"]),
        "set what is logged",
        "RUST_LOG does so",
    ),
    noted(
        "",
        &["vocabulary_size"],
        Count { off: -1, max: u64::MAX },
        "warned of a vocabulary that is no multiple of 8",
        "nobody looks at it",
    ),
    noted(
        "",
        &["dataloader_drop_last"],
        Flag,
        "left out the last, short batch of DeepSpeed's own data loader",
        "the batches are the program's",
    ),
    noted(
        "",
        &["sparse_gradients"],
        Flag,
        "exchanged only the rows of embeddings that have a gradient",
        "gradients are dense, to the same result",
    ),
    said("", &["disable_allgather"], Flag, "does nothing, in DeepSpeed either"),
    noted(
        "",
        &["zero_allow_untested_optimizer"],
        Flag,
        "let ZeRO run with any optimizer",
        "nothing is partitioned, so that any may run anyway",
    ),
    noted(
        "",
        &["zero_force_ds_cpu_optimizer"],
        FlagOn,
        "let an offloaded optimizer be another than DeepSpeed's for the CPU",
        "there is one implementation of each optimizer",
    ),
    noted(
        "",
        &["allgather_size"],
        Number,
        "bounded a gathering of parameters under the oldest form of ZeRO",
        "parameters are not partitioned",
    ),
    noted(
        "",
        &["graph_harvesting"],
        Flag,
        "replayed short kernels from a CUDA graph",
        "each kernel is launched, to the same result",
    ),
    noted(
        "",
        &["disable_python_gc"],
        Flag,
        "switched off Python's garbage collector",
        "there is no Python",
    ),
    refused(
        "",
        &["gradient_allreduce_op"],
        Word(&["mean", "sum"]),
        "asks for sums over the ranks, which is not supported; gradients are averaged, and a larger \
         learning rate does the rest",
    ),
    refused(
        "",
        &["managed_gradient_accumulation"],
        FlagOn,
        "leaves the end of a step to the program, which is not supported; the engine updates after \
         gradient_accumulation_steps",
    ),
    refused(
        "",
        &["sequence_parallel_size"],
        Count { off: 1, max: u64::MAX },
        "asks for sequence parallelism, which is not supported",
    ),
    noted(
        "",
        &["data_parallel_size"],
        Count { off: -1, max: u64::MAX },
        "laid out the ranks together with sequence_parallel_size",
        "all ranks are data-parallel",
    ),
    noted(
        "",
        &["seq_parallel_communication_data_type"],
        Word(&["fp32", "fp16", "bf16"]),
        "set a number format for sequence parallelism, which is off",
        "nothing uses it",
    ),
    noted(
        "",
        &["use_data_before_expert_parallelism"],
        Flag,
        "laid out the ranks of a mixture of experts",
        "all ranks are data-parallel",
    ),
    said(
        "",
        &["bfloat16"],
        Anything,
        "is the old name of bf16, and read as such; bf16 holds where both are there",
    ),
    said(
        "",
        &["zero_optimization"],
        OldSection,
        "is the oldest form of zero_optimization.stage, 1 for true and 0 for false; nothing is \
         partitioned, to the same result",
    ),
];

/// Keys of the sections that a plugin owns and that change nothing there.
pub const PARAMS: &[Known] = &[
    noted(
        "optimizer",
        &["legacy_fusion"],
        Flag,
        "fused the optimizer in an older way",
        "there is one implementation of each optimizer",
    ),
    noted(
        "optimizer.params",
        &["torch_adam"],
        Flag,
        "taken PyTorch's Adam for DeepSpeed's",
        "there is one implementation, which agrees with both",
    ),
    noted(
        "optimizer.params",
        &["set_grad_none"],
        FlagOn,
        "kept the gradients' memory from step to step",
        "the engine sees to its memory",
    ),
    noted(
        "optimizer.params",
        &["foreach", "fused"],
        Flag,
        "chosen one of PyTorch's implementations",
        "there is one implementation of each optimizer",
    ),
    noted(
        "optimizer.params",
        &["capturable"],
        Flag,
        "let the update be recorded in a CUDA graph",
        "each kernel is launched, to the same result",
    ),
    noted(
        "optimizer.params",
        &["differentiable"],
        Flag,
        "let the update itself be differentiated",
        "nobody does, to the same result",
    ),
    noted(
        "optimizer.params",
        &["fp32_optimizer_states"],
        FlagOn,
        "kept the optimizer's state in 16 bits",
        "it is float32",
    ),
    noted(
        "optimizer.params",
        &["ns_method"],
        Text,
        "chosen a way to make Muon's updates orthogonal",
        "there is one, to the same result",
    ),
    noted(
        "fp16",
        &["auto_cast"],
        Flag,
        "cast the inputs of the forward to float16",
        "each operation that runs in float16 casts its own",
    ),
    noted(
        "bf16",
        &["immediate_grad_update"],
        Flag,
        "gathered gradients in float32 as they appear",
        "they always are",
    ),
];
