//! Today's names for the old ones of DeepSpeed's files.
use serde_json::{Value, json};
use trainyard::config::{Path, Rewrite};

/// A change of one key, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Path of the key as it was.
    pub path: Path,
    /// What became of it: follows the path in a sentence.
    pub says: String,
}

/// Keys of `zero_optimization` that are renamed and mean the same.
const RENAMED: &[(&str, &str)] = &[
    ("stage3_gather_fp16_weights_on_model_save", "stage3_gather_16bit_weights_on_model_save"),
    ("gather_16bit_weights_on_model_save", "stage3_gather_16bit_weights_on_model_save"),
    ("prefetch_bucket_size", "stage3_prefetch_bucket_size"),
    ("param_persistence_threshold", "stage3_param_persistence_threshold"),
    ("model_persistence_threshold", "stage3_model_persistence_threshold"),
    ("max_live_parameters", "stage3_max_live_parameters"),
    ("max_reuse_distance", "stage3_max_reuse_distance"),
    ("module_granularity_threshold", "stage3_module_granularity_threshold"),
    ("use_all_reduce_for_fetch_params", "stage3_use_all_reduce_for_fetch_params"),
    ("allgather_sequential", "stage3_allgather_sequential"),
];

/// Keys of `zero_optimization` that became sections.
const BECAME_SECTIONS: &[(&str, &str)] =
    &[("cpu_offload", "offload_optimizer"), ("cpu_offload_param", "offload_param")];

/// Names of types, in lower case, and today's spelling.
const TYPES: &[(&str, &str, &str)] = &[
    ("optimizer", "adamw", "AdamW"),
    ("optimizer", "fusedadam", "AdamW"),
    ("optimizer", "deepspeedcpuadam", "AdamW"),
    ("optimizer", "adam", "AdamW"),
    ("optimizer", "lamb", "Lamb"),
    ("optimizer", "fusedlamb", "Lamb"),
    ("optimizer", "sgd", "SGD"),
    ("optimizer", "lion", "Lion"),
    ("optimizer", "fusedlion", "Lion"),
    ("optimizer", "deepspeedcpulion", "Lion"),
    ("optimizer", "adagrad", "Adagrad"),
    ("optimizer", "deepspeedcpuadagrad", "Adagrad"),
    ("optimizer", "muon", "Muon"),
    ("scheduler", "warmuplr", "WarmupLR"),
    ("scheduler", "warmupdecaylr", "WarmupDecayLR"),
    ("scheduler", "warmupcosinelr", "WarmupCosineLR"),
    ("scheduler", "lrrangetest", "LRRangeTest"),
    ("scheduler", "onecycle", "OneCycle"),
];

/// Adds to `rewrite`, of a document with these values, what gives it today's names. Where an old name and
/// the new one are both there, which is an error, both stay.
pub fn migrate(values: &Value, rewrite: &mut Rewrite<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let root = Path::default();
    let mut say = |path: &Path, says: String| changes.push(Change { path: path.clone(), says });
    if values.get("bfloat16").is_some() {
        let (old, new) = (root.key("bfloat16"), root.key("bf16"));
        if values.get("bf16").is_some_and(|section| !section.is_null()) {
            rewrite.remove(old.clone());
            say(&old, "is taken out: bf16 beside it holds".to_owned());
        } else {
            if values.get("bf16").is_some() {
                rewrite.remove(new);
            }
            rewrite.rename(old.clone(), "bf16");
            say(&old, "is called bf16".to_owned());
        }
    }
    let zero = root.key("zero_optimization");
    match values.get("zero_optimization") {
        Some(Value::Bool(on)) => {
            let stage = json!({ "stage": i32::from(*on) });
            say(&zero, format!("= {on} is written {stage}"));
            rewrite.set(zero, stage);
        }
        Some(Value::Object(keys)) => {
            let there = |key: &str| keys.contains_key(key);
            for (old, new) in RENAMED.iter().filter(|(old, new)| there(old) && !there(new)) {
                let several = RENAMED.iter().filter(|(other, same)| same == new && there(other));
                if several.count() == 1 {
                    rewrite.rename(zero.key(*old), *new);
                    say(&zero.key(*old), format!("is called {new}"));
                }
            }
            for (old, new) in BECAME_SECTIONS.iter().filter(|(old, new)| there(old) && !there(new))
            {
                let path = zero.key(*old);
                match keys[*old] {
                    Value::Bool(true) => {
                        let section = json!({ "device": "cpu" });
                        say(&path, format!("= true is written {new} = {section}"));
                        rewrite.rename(path.clone(), *new);
                        rewrite.set(path, section);
                    }
                    Value::Bool(false) => {
                        say(&path, format!("= false is taken out: so is {new} without it"));
                        rewrite.remove(path);
                    }
                    _ => {}
                }
            }
            if there("cpu_offload_use_pin_memory") {
                let path = zero.key("cpu_offload_use_pin_memory");
                say(&path, "is taken out: it does nothing, in DeepSpeed either".to_owned());
                rewrite.remove(path);
            }
        }
        _ => {}
    }
    for section in ["optimizer", "scheduler"] {
        let Some(Value::String(name)) = values.get(section).and_then(|s| s.get("type")) else {
            continue;
        };
        let lower = name.to_lowercase();
        let known = TYPES.iter().find(|(of, known, _)| *of == section && *known == lower);
        let Some((.., mut today)) = known.copied() else { continue };
        let params = root.key(section).key("params");
        let mode = params.key("adam_w_mode");
        match mode.find(values) {
            // The decay is added to the gradient.
            Some(value) if today == "AdamW" && value != true => {
                today = if lower == "adamw" { "AdamW" } else { "Adam" };
            }
            Some(_) if today == "AdamW" => {
                say(&mode, "= true is taken out: it is what AdamW means".to_owned());
                rewrite.remove(mode);
            }
            _ => {}
        }
        if today != name {
            let path = root.key(section).key("type");
            let about = match lower.as_str() {
                "adam" if today == "AdamW" => ", which is what it means",
                _ => "",
            };
            say(&path, format!("= {name:?} is written {today:?}{about}"));
            rewrite.set(path, today.into());
        }
    }
    if values.get("gradient_clipping").and_then(Value::as_f64).is_some_and(|norm| norm < 0.0) {
        let path = root.key("gradient_clipping");
        say(&path, format!("= {} is written 0: nothing is clipped", values["gradient_clipping"]));
        rewrite.set(path, 0.into());
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard::config::{Document, Source};

    fn migrated(values: &Value) -> (Value, Vec<String>) {
        let document = Document::parse(Source::text("t", values.to_string())).expect("JSON");
        let mut rewrite = Rewrite::new(&document);
        let changes = migrate(document.value(), &mut rewrite);
        let text = rewrite.finish().text;
        let again = Document::parse(Source::text("t", &text)).expect("JSON");
        assert_eq!(again.problems(), []);
        let told = changes.iter().map(|change| format!("{} {}", change.path, change.says));
        (again.value().clone(), told.collect())
    }

    #[test]
    fn old_names_become_todays() {
        for (old, new, told) in [
            (
                json!({ "bfloat16": { "enabled": true } }),
                json!({ "bf16": { "enabled": true } }),
                &["bfloat16 is called bf16"][..],
            ),
            (
                json!({ "bfloat16": { "enabled": true }, "bf16": {} }),
                json!({ "bf16": {} }),
                &["bfloat16 is taken out: bf16 beside it holds"],
            ),
            (
                json!({ "bfloat16": { "enabled": true }, "bf16": null }),
                json!({ "bf16": { "enabled": true } }),
                &["bfloat16 is called bf16"],
            ),
            (
                json!({ "zero_optimization": true }),
                json!({ "zero_optimization": { "stage": 1 } }),
                &[r#"zero_optimization = true is written {"stage":1}"#],
            ),
            (
                json!({ "zero_optimization": {
                    "cpu_offload": true, "cpu_offload_param": false, "max_live_parameters": 1,
                    "cpu_offload_use_pin_memory": true,
                } }),
                json!({ "zero_optimization": {
                    "offload_optimizer": { "device": "cpu" }, "stage3_max_live_parameters": 1,
                } }),
                &[
                    "zero_optimization.max_live_parameters is called stage3_max_live_parameters",
                    r#"zero_optimization.cpu_offload = true is written offload_optimizer = {"device":"cpu"}"#,
                    "zero_optimization.cpu_offload_param = false is taken out: so is offload_param \
                     without it",
                    "zero_optimization.cpu_offload_use_pin_memory is taken out: it does nothing, in \
                     DeepSpeed either",
                ],
            ),
            (
                json!({ "optimizer": { "type": "adam", "params": { "lr": 1, "adam_w_mode": true } } }),
                json!({ "optimizer": { "type": "AdamW", "params": { "lr": 1 } } }),
                &[
                    "optimizer.params.adam_w_mode = true is taken out: it is what AdamW means",
                    r#"optimizer.type = "adam" is written "AdamW", which is what it means"#,
                ],
            ),
            (
                json!({ "optimizer": { "type": "FusedAdam", "params": { "adam_w_mode": false } } }),
                json!({ "optimizer": { "type": "Adam", "params": { "adam_w_mode": false } } }),
                &[r#"optimizer.type = "FusedAdam" is written "Adam""#],
            ),
            (
                json!({ "scheduler": { "type": "warmuplr" }, "gradient_clipping": -1.5 }),
                json!({ "scheduler": { "type": "WarmupLR" }, "gradient_clipping": 0 }),
                &[
                    r#"scheduler.type = "warmuplr" is written "WarmupLR""#,
                    "gradient_clipping = -1.5 is written 0: nothing is clipped",
                ],
            ),
        ] {
            assert_eq!(
                migrated(&old),
                (new.clone(), told.iter().map(|s| (*s).to_owned()).collect())
            );
            assert_eq!(migrated(&new), (new, Vec::new()), "nothing is left to change");
        }
        // Both names are an error, which is not for this program to decide.
        let both = json!({ "zero_optimization": { "cpu_offload": true, "offload_optimizer": {} } });
        assert_eq!(migrated(&both), (both, Vec::new()));
    }
}
