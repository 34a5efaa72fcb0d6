//! What Hugging Face's trainer, Lightning, Megatron and others call a key, for the suggestion that an unknown one
//! gets.
use trainyard::config::Alias;

/// Words of other programs.
pub const ALIASES: &[Alias] = &[
    // Hugging Face's `TrainingArguments`.
    word("per_device_train_batch_size", MICRO),
    word("per_gpu_train_batch_size", MICRO),
    none("per_device_eval_batch_size", "an evaluation has batches of the training's size"),
    word("learning_rate", LR),
    word("lr", LR),
    word("weight_decay", "optimizer.params.weight_decay"),
    told("adam_beta1", "optimizer.params.betas", "a list of both"),
    told("adam_beta2", "optimizer.params.betas", "a list of both"),
    word("adam_epsilon", "optimizer.params.eps"),
    word("max_grad_norm", CLIP),
    word("num_train_epochs", "training.epochs"),
    word("max_steps", STEPS),
    told("optim", "optimizer.type", "\"AdamW\" for adamw_torch"),
    told(
        "lr_scheduler_type",
        "scheduler.type",
        "\"WarmupDecayLR\" for linear, \"WarmupCosineLR\" for cosine",
    ),
    word("warmup_steps", WARMUP),
    told("warmup_ratio", WARMUP, "in steps, the ratio times those of the run"),
    told(
        "warmup_min_lr",
        "scheduler.params.warmup_min_ratio",
        "it is a share of the optimizer's rate",
    ),
    none("label_smoothing", LOSS),
    none("label_smoothing_factor", LOSS),
    none("data_seed", "training.seed is the seed of everything"),
    word("eval_steps", EVALUATE),
    told("full_determinism", "training.deterministic", "true or false"),
    word("ddp_backend", "distributed.backend"),
    word("ddp_timeout", "distributed.timeout_seconds"),
    told("ddp_bucket_cap_mb", "distributed.reduce_bucket_size", "in elements"),
    none("gradient_checkpointing", MODEL),
    none("output_dir", "the folder is --output of `trainyard train`"),
    none("logging_steps", LOG),
    word("save_steps", SAVE),
    word("save_interval", SAVE),
    word("save_total_limit", "checkpoint.keep_last"),
    told(
        "resume_from_checkpoint",
        "checkpoint.resume",
        "\"auto\", or --resume DIR of `trainyard train`",
    ),
    none("deepspeed", "what it holds stands at the top level here"),
    // Lightning's `Trainer`.
    word("max_epochs", "training.epochs"),
    word("gradient_clip_val", CLIP),
    none("gradient_clip_algorithm", "gradient_clipping bounds the norm of all gradients"),
    word("accumulate_grad_batches", "gradient_accumulation_steps"),
    told("precision", "bf16.enabled", "true for bf16-mixed; fp16.enabled for 16-mixed"),
    told("val_check_interval", EVALUATE, "in steps"),
    told("check_val_every_n_epoch", EVALUATE, "in steps"),
    none("log_every_n_steps", LOG),
    word("detect_anomaly", "training.terminate_on_nan"),
    none("accelerator", "the device is --device of `trainyard train`"),
    none("devices", RANKS),
    none("num_nodes", RANKS),
    none("strategy", RANKS),
    none("default_root_dir", "the folder is --output of `trainyard train`"),
    // Megatron, nanoGPT and others.
    word("batch_size", TRAIN),
    word("global_batch_size", TRAIN),
    word("micro_batch_size", MICRO),
    word("clip_grad", CLIP),
    word("grad_clip", CLIP),
    word("train_iters", STEPS),
    word("max_iters", STEPS),
    word("total_steps", STEPS),
    word("epochs", "training.epochs"),
    word("lr_warmup_iters", WARMUP),
    word("warmup_iters", WARMUP),
    word("zero", "zero_optimization"),
];

const TRAIN: &str = "train_batch_size";
const MICRO: &str = "train_micro_batch_size_per_gpu";
const CLIP: &str = "gradient_clipping";
const LR: &str = "optimizer.params.lr";
const STEPS: &str = "training.total_steps";
const WARMUP: &str = "scheduler.params.warmup_num_steps";
const EVALUATE: &str = "training.evaluate_every";
const SAVE: &str = "checkpoint.every_steps";
const LOG: &str = "every step is in steps.jsonl";
const LOSS: &str = "the loss is the model's own; nothing here smooths labels";
const MODEL: &str = "activations are the model's to keep or to compute anew";
const RANKS: &str =
    "the launcher says how many ranks there are: `trainyard launch`, torchrun, srun or mpirun";

const fn word(word: &'static str, key: &'static str) -> Alias {
    Alias { word, key, how: "" }
}

const fn told(word: &'static str, key: &'static str, how: &'static str) -> Alias {
    Alias { word, key, how }
}

/// A word for what no key here sets.
const fn none(word: &'static str, how: &'static str) -> Alias {
    Alias { word, key: "", how }
}
