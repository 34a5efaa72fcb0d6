use super::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use trainyard::config::{Document, Layers, Source};
use trainyard::{Error, Plan, Registry};

mod sentences;

/// Every key of DeepSpeed's documentation and code, a value that asks for something, and the answer it is
/// to get. `section[Type].params.key` is a param of that type.
const SURFACE: &str = include_str!("surface.tsv");

/// One for all, so that its schema is compiled once.
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| crate::registry().assume());

fn plan(config: &Value) -> Result<Plan, Error> {
    let document = Document::parse(Source::text("run.json", config.to_string())).expect("JSON");
    REGISTRY.plan(Layers::new(document))
}

/// A configuration with `value` at the dotted `path`.
fn with(path: &str, value: Value) -> Value {
    let mut config = value;
    for part in path.rsplit('.') {
        config = match part.split_once('[') {
            Some((section, name)) => {
                let mut inside =
                    Map::from_iter([("type".to_owned(), json!(name.trim_end_matches(']')))]);
                inside.extend(config.as_object().expect("params").clone());
                json!({ section: inside })
            }
            None => json!({ part: config }),
        };
    }
    config
}

/// What `path` gets with `value`.
fn answer(path: &str, value: Value) -> &'static str {
    let mut config = with(path, value);
    if path == "gradient_accumulation_steps" {
        config["train_micro_batch_size_per_gpu"] = json!(1);
    }
    // Keys that must be there beside any other.
    if let Some(Value::Object(params)) = config.pointer_mut("/scheduler/params")
        && path.contains("[OneCycle]")
    {
        for key in ["cycle_min_lr", "cycle_max_lr"] {
            params.entry(key).or_insert(json!(0.01));
        }
    }
    let problems = match plan(&config) {
        Ok(plan) => {
            let plain = path.split('[').next().unwrap_or_default();
            let noted = plan.notes().iter().any(|note| {
                note.path == path
                    || path.contains('[') && note.path.starts_with(&format!("{plain}."))
            });
            return if noted { "noted" } else { "used" };
        }
        Err(Error::Config(error)) => error.into_problems(),
        Err(other) => panic!("{path}: {other}"),
    };
    assert_eq!(problems.len(), 1, "{path}: {problems:?}");
    match problems[0].kind {
        trainyard::config::ProblemKind::Refused => "refused",
        trainyard::config::ProblemKind::Unknown => "unknown",
        _ => panic!("{path}: {}", problems[0]),
    }
}

#[test]
fn every_key_has_its_answer() {
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for line in SURFACE.lines().skip(1) {
        let [path, value, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?} has not three cells");
        };
        let value: Value = serde_json::from_str(value).expect("JSON");
        let given = answer(path, value);
        if given != expected {
            wrong.push(format!("{path} is {given}, not {expected}"));
        }
        met.insert(path.to_owned());
        // Switched off, nothing is refused.
        if expected == "refused" && !path.contains('[') && !path.ends_with(".type") {
            assert_ne!(answer(path, json!("auto")), "refused", "{path}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And the tables have no key that the list lacks.
    let tables = [TOP, PARALLEL, SECTIONS, ZERO];
    let known = tables.iter().copied().flatten().flat_map(Known::paths);
    let more: Vec<_> = known.filter(|path| !met.contains(path)).collect();
    assert_eq!(
        more,
        [
            "tensor_parallel.replace_with_kernel_inject",
            "zero_optimization.use_all_reduce_for_fetch_params",
            "zero_optimization.allgather_sequential",
            "zero_optimization.offload_optimizer.pipeline"
        ]
    );
}

/// A table's path is that of a key in the schema, and an `"auto"` may stand there.
#[test]
fn what_may_be_auto() {
    for auto in AUTOS {
        let mut fits = 0;
        for name in ["AdamW", "SGD", "WarmupDecayLR", "WarmupCosineLR"] {
            let (section, rest) = auto.path.split_once('.').unwrap_or((auto.path, ""));
            let typed = rest.starts_with("params.");
            let path = if typed { format!("{section}[{name}].{rest}") } else { auto.path.into() };
            fits += usize::from(plan(&with(&path, json!("auto"))).is_ok());
        }
        assert!(fits > 0, "{}", auto.path);
    }
}

#[test]
fn what_a_program_fills_in() {
    let text = r#"{ "gradient_clipping": "auto", "train_micro_batch_size_per_gpu": "auto" }"#;
    let plan = |registry: Registry| {
        let document = Document::parse(Source::text("run.json", text)).expect("JSON");
        registry.plan(Layers::new(document))
    };
    let messages = |plan: &Plan| plan.notes().iter().map(|n| n.to_string()).collect::<Vec<_>>();
    let error = plan(crate::registry()).err().expect("nobody fills it in").to_string();
    assert_eq!(
        error,
        "run.json:1:66: train_micro_batch_size_per_gpu = \"auto\" is for the program to fill in, and it \
         does not; write a value"
    );
    let assumed = plan(crate::registry().assume()).unwrap();
    assert_eq!(assumed.settings().train_micro_batch_size_per_gpu, Some(8));
    assert_eq!(
        messages(&assumed),
        [
            "run.json:1:24: gradient_clipping = \"auto\": filled in with 1: the default of Hugging \
             Face's trainer",
            "run.json:1:66: train_micro_batch_size_per_gpu = \"auto\": filled in with 8: the default of \
             Hugging Face's trainer; a program that trains has to fill it in",
        ]
    );
    // Sizes that follow are told with their number, unless one of the others is not what was meant.
    for (size, says) in [("4", "filled in with 4: micro"), (r#""64""#, "micro"), ("-4", "micro")] {
        let text = format!(
            r#"{{ "train_batch_size": "auto", "train_micro_batch_size_per_gpu": {size}, "training": {{ "seed": -1 }} }}"#
        );
        let document = Document::parse(Source::text("run.json", &text)).expect("JSON");
        let notes = crate::registry().catalog().notes(Layers::new(document));
        let expected = format!("train_batch_size = \"auto\": {says}");
        assert!(notes[0].message.starts_with(&expected), "{notes:?}");
    }
    let filled =
        crate::registry().fill("train_micro_batch_size_per_gpu", 4).fill("gradient_clipping", 0.5);
    let filled = plan(filled).unwrap();
    assert_eq!(filled.settings().train_micro_batch_size_per_gpu, Some(4));
    assert!(messages(&filled)[0].ends_with("filled in with 0.5: from the program"));
    // What is filled in is checked like what is written.
    let wrong =
        crate::registry().fill("train_micro_batch_size_per_gpu", 0).fill("gradient_clipping", 1);
    let error = plan(wrong).err().expect("an empty batch").to_string();
    assert_eq!(error, "run.json:1:66: train_micro_batch_size_per_gpu = 0 is not >= 1");
}

/// What one of DeepSpeed's sections takes in another form means the same here, and is noted.
#[test]
fn other_forms_of_a_value() {
    let notes = |config: Value| {
        let plan = plan(&config).unwrap_or_else(|error| panic!("{config}: {error}"));
        plan.notes().iter().map(|note| note.message.clone()).collect::<Vec<_>>()
    };
    let fp16 = json!({ "fp16": {
        "enabled": "yes", "loss_scale": "128", "initial_scale_power": "-3", "hysteresis": "2",
    } });
    assert_eq!(
        notes(fp16.clone()),
        [
            "fp16.enabled = \"yes\": is read as true, as DeepSpeed does",
            "fp16.hysteresis = \"2\": is read as 2, as DeepSpeed does",
            "fp16.initial_scale_power = \"-3\": is read as -3, as DeepSpeed does",
            "fp16.loss_scale = \"128\": is read as 128, as DeepSpeed does",
        ]
    );
    let explained = plan(&fp16).unwrap();
    let explained = explained.explain(&trainyard::Layers::new(), Vec::new()).unwrap();
    assert!(explained.lines[0].1.ends_with("loss scale 128"), "{:?}", explained.lines);
    let zero = notes(json!({ "zero_optimization": { "stage": "2", "overlap_comm": 1 } }));
    assert!(zero[0].ends_with("is read as true, as DeepSpeed does"), "{zero:?}");
    assert!(zero[1].ends_with("they always are"), "{zero:?}");
    assert!(zero[2].ends_with("is read as 2, as DeepSpeed does"), "{zero:?}");
    assert!(zero[3].starts_with("zero_optimization.stage = 2: would have"), "{zero:?}");
    assert!(notes(json!({ "communication_data_type": "FP16" })).is_empty());
    for wrong in [
        json!({ "fp16": { "enabled": 2 } }),
        json!({ "fp16": { "enabled": "maybe" } }),
        json!({ "fp16": { "enabled": "true", "hysteresis": "0" } }),
        json!({ "zero_optimization": { "stage": "4" } }),
        json!({ "zero_optimization": { "reduce_bucket_size": "5e8" } }),
        json!({ "strict": "true" }),
    ] {
        assert!(plan(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn keys_that_do_not_go_together() {
    for (config, message) in [
        (
            json!({ "fp16": { "enabled": true }, "bf16": { "enabled": true } }),
            "fp16 is on, and `bf16` too: both set the precision; keep one",
        ),
        (
            json!({ "zero_optimization": { "cpu_offload": false, "offload_optimizer": {} } }),
            "zero_optimization.cpu_offload = false is the old name of offload_optimizer; keep one",
        ),
        (
            json!({ "zero_optimization": {
                "prefetch_bucket_size": 7, "stage3_prefetch_bucket_size": 8,
            } }),
            "zero_optimization.prefetch_bucket_size = 7 stands beside its other name, with stage3_ \
             before it; keep one",
        ),
        (
            json!({ "fp16": { "enabled": true }, "bfloat16": { "enabled": true }, "bf16": null }),
            "fp16 is on, and `bfloat16` too: both set the precision; keep one",
        ),
    ] {
        let Err(Error::Config(error)) = plan(&config) else { panic!("{config} is fine") };
        let problems = error.into_problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].message, message);
        assert_eq!(problems[0].kind, trainyard::config::ProblemKind::Invalid);
    }
    for fine in [
        json!({ "fp16": { "enabled": true }, "bf16": { "enabled": false } }),
        json!({ "fp16": { "enabled": true }, "bf16": {} }),
        json!({ "fp16": { "enabled": true }, "bf16": {}, "bfloat16": { "enabled": true } }),
        json!({ "zero_optimization": { "cpu_offload": true, "offload_param": {} } }),
    ] {
        assert!(plan(&fine).is_ok(), "{fine}");
    }
}

/// What does not show in one key alone is told together with what does.
#[test]
fn the_batch_is_looked_at_beside_other_errors() {
    let config = json!({ "train_batch_size": 3, "train_micro_batch_size_per_gpu": 2, "thta": 1 });
    let Err(Error::Config(error)) = plan(&config) else { panic!("fine") };
    let messages: Vec<_> = error.into_problems().into_iter().map(|p| p.message).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("unknown key \"thta\""), "{messages:?}");
    assert!(messages[1].starts_with("train_batch_size = 3 is not a multiple"), "{messages:?}");
}

#[test]
fn what_others_call_a_key() {
    for (word, key) in super::SYNONYMS {
        let config = match *key {
            "lr" => json!({ "optimizer": { "type": "SGD", "params": { *word: 1 } } }),
            _ => json!({ *word: 1 }),
        };
        let error = plan(&config).err().expect("an unknown key").to_string();
        assert!(error.contains(&format!("did you mean {key:?}?")), "{error}");
    }
}

#[test]
fn remarks_on_what_is_accepted() {
    let mut met = BTreeSet::new();
    for (config, message) in [
        (json!({ "optimizer": { "params": { "lr": 1 } } }), "optimizer: has no `type`"),
        (json!({ "optimizer": { "type": null } }), "optimizer: has no `type`"),
        (json!({ "scheduler": {} }), "scheduler: has no `type`"),
        (json!({ "gradient_clipping": -1 }), "gradient_clipping = -1: nothing is clipped"),
        (json!({ "progressive_layer_drop": {} }), "progressive_layer_drop: is off without"),
        (json!({ "amp": { "opt_level": "O1" } }), "amp: is off without"),
        (json!({ "amp": { "enabled": "auto" } }), "amp.enabled = \"auto\": is off"),
        (json!({ "curriculum_learning": {} }), "curriculum_learning: is off without"),
        (json!({ "zero_optimization": null }), "zero_optimization = null: DeepSpeed stops"),
        (json!({ "wall_clock_breakdown": null }), "wall_clock_breakdown = null: DeepSpeed stops"),
        (json!({ "wall_clock_breakdown": "auto" }), "wall_clock_breakdown = \"auto\": DeepSpeed"),
        (
            json!({ "optimizer": { "type": "sgd" } }),
            "optimizer.type = \"sgd\": is read as \"SGD\"; DeepSpeed stops",
        ),
        (
            json!({ "scheduler": { "type": "warmuplr" } }),
            "scheduler.type = \"warmuplr\": is read whatever",
        ),
        (
            json!({ "optimizer": { "type": "lamb" }, "fp16": { "enabled": true, "loss_scale": 128 } }),
            "fp16.loss_scale = 128: does not change; DeepSpeed stops",
        ),
        (
            json!({ "optimizer": { "type": "AdamW", "params": { "adam_w_mode": false } } }),
            "optimizer.params.adam_w_mode = false: changes nothing",
        ),
        (
            json!({ "scheduler": { "type": "WarmupLR", "params": { "warmup_min_lr": [0] } } }),
            "scheduler.params.warmup_min_lr: is read as its one value",
        ),
        (
            json!({ "scheduler": { "type": "WarmupLR", "params": { "warmup_max_lr": [0.001] } } }),
            "scheduler.params.warmup_max_lr: is read as its one value",
        ),
        (
            json!({ "scheduler": { "type": "LRRangeTest", "params": { "lr_range_test_min_lr": [1] } } }),
            "scheduler.params.lr_range_test_min_lr: is read as its one value",
        ),
        (
            json!({ "optimizer": { "type": "SGD" }, "scheduler": {
                "type": "OneCycle", "params": { "cycle_min_lr": 0.1, "cycle_max_lr": 1 },
            } }),
            "scheduler.type = \"OneCycle\": moves the rate alone",
        ),
        (
            json!({ "progressive_layer_drop": { "enabled": true, "schedule": "constant", "gamma": 1 } }),
            "progressive_layer_drop.gamma = 1: changes nothing",
        ),
        (
            json!({ "progressive_layer_drop": { "enabled": true, "ramp": 0.5 } }),
            "progressive_layer_drop.ramp = 0.5: changes nothing",
        ),
        (
            json!({ "scheduler": { "type": "WarmupDecayLR", "params": {
                "total_num_steps": 10, "warmup_num_steps": 100,
            } } }),
            "scheduler.params: the schedule ends before its warm-up does",
        ),
        // The warm-up's length is left out: 1000 steps.
        (
            json!({ "training": { "total_steps": 10 }, "scheduler": { "type": "WarmupCosineLR", "params": {} } }),
            "scheduler.params: the schedule ends before its warm-up does",
        ),
    ] {
        let plan = plan(&config).unwrap_or_else(|error| panic!("{config}: {error}"));
        let notes: Vec<_> = plan.notes().iter().map(|note| note.message.as_str()).collect();
        assert!(notes.iter().any(|note| note.starts_with(message)), "{config}: {notes:?}");
        let explained = plan.explain(&trainyard::Layers::new(), Vec::new());
        // Without layers, there is nothing to drop.
        assert!(explained.is_ok() || message.starts_with("progressive_layer_drop."), "{config}");
        met.insert(message.split([' ', ':']).next());
    }
    let paths: BTreeSet<_> = REMARKS.iter().map(|remark| Some(remark.path)).collect();
    assert_eq!(met, paths);
    // A section that is as it should be needs none.
    let fine = json!({
        "optimizer": { "type": "Lamb" },
        "scheduler": { "type": "WarmupDecayLR", "params": { "total_num_steps": 10, "warmup_num_steps": 2 } },
        "gradient_clipping": 0,
        "progressive_layer_drop": { "enabled": false, "ramp": 0.5 },
    });
    assert_eq!(plan(&fine).unwrap().notes(), []);
    let moved = json!({ "optimizer": { "type": "SGD" }, "scheduler": { "type": "OneCycle", "params": {
        "cycle_min_lr": 0.1, "cycle_max_lr": 1, "cycle_momentum": false,
    } } });
    assert_eq!(plan(&moved).unwrap().notes(), []);
}

#[test]
fn old_names() {
    for (config, line) in [
        (json!({ "bfloat16": { "enabled": true } }), "products in bfloat16"),
        (json!({ "bfloat16": { "enabled": true }, "bf16": { "enabled": false } }), "off"),
    ] {
        let explained = plan(&config).unwrap();
        let explained = explained.explain(&trainyard::Layers::new(), Vec::new()).unwrap();
        assert!(explained.lines[0].1.starts_with(line), "{:?}", explained.lines);
    }
    for (old, ok) in [(json!(true), true), (json!(false), true), (json!(1), false)] {
        assert_eq!(plan(&json!({ "zero_optimization": old })).is_ok(), ok);
    }
}
