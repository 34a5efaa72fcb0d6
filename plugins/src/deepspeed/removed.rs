//! Keys that DeepSpeed read once and takes for an error today, whatever they hold.
use super::{SECTIONS, TOP, ZERO};
use serde_json::Value;
use trainyard::Says::Plain;
use trainyard::config::Weight;
use trainyard::{Known, Remark};

/// A note on each of the keys that DeepSpeed no longer takes.
pub const REMOVED: &[Remark] = &[
    removed("amp"),
    removed("compression_training"),
    removed("curriculum_learning"),
    removed("eigenvalue"),
    removed("elasticity"),
    removed("graph_harvesting"),
    removed("nebula"),
    // At home here: worth a word only in a file that is DeepSpeed's, too.
    Remark { when: of_deepspeed, ..removed("progressive_layer_drop") },
    removed("quantize_training"),
    removed("sparse_attention"),
    removed("sparse_gradients"),
    removed("zero_optimization.mics_hierarchical_params_gather"),
    removed("zero_optimization.mics_shard_size"),
    removed("zero_optimization.zeropp_loco_param"),
];

const fn removed(path: &'static str) -> Remark {
    Remark { path, when: there, says: Plain(SINCE), weight: Weight::Little }
}

/// Even null is an error there.
fn there(_: &Value, _: &Value) -> bool {
    true
}

/// Whether the file has keys that DeepSpeed alone reads.
fn of_deepspeed(_: &Value, whole: &Value) -> bool {
    let paths = [TOP, SECTIONS, ZERO].into_iter().flatten().flat_map(Known::paths);
    let mut sections = paths.map(|path| path.split('.').next().unwrap_or_default().to_owned());
    sections.any(|section| whole.get(section).is_some())
}

const SINCE: &str = "is an error to DeepSpeed since 0.19.8 (October 2026), whatever it holds";
