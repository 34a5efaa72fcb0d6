use super::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use trainyard::config::{Document, Layers, Source, Weight};
use trainyard::{Error, Plan, Registry, Remark};

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

/// Each word of another program is told what it is called here, at the top level or in its section, or what to do
/// without; and a key that is there already is not suggested.
#[test]
fn what_others_call_a_key() {
    for alias in ALIASES {
        let sentence = |config: &Value| {
            plan(config).err().unwrap_or_else(|| panic!("{} is a key", alias.word)).to_string()
        };
        let word = alias.word;
        let (section, last) = alias.key.rsplit_once('.').unwrap_or(("", alias.key));
        let error = sentence(&match section {
            // Where the names are those of one type.
            "scheduler.params" => json!({ "scheduler": {
                "type": "WarmupCosineLR", "params": { word: 1, "total_num_steps": 10 },
            } }),
            _ => json!({ word: 1 }),
        });
        match (alias.key, section) {
            ("", _) => assert!(error.ends_with(alias.how), "{error}"),
            (_, "" | "scheduler.params") => {
                assert!(error.contains(&format!("did you mean {last:?}?")), "{error}");
            }
            (key, _) => {
                // Unless one section inside has a key of that very name.
                let told = error.contains(&format!("it is {key} here"))
                    || error.contains(&format!("it belongs in {section}"));
                assert!(told, "{error}");
            }
        }
        assert!(error.contains(alias.how), "{error}");
    }
    for (config, hint) in [
        (
            json!({ "max_grad_norm": 1, "gradient_clipping": 1 }),
            "it is gradient_clipping here, which is there already: delete this one",
        ),
        (
            json!({ "learning_rate": 1, "optimizer": { "type": "SGD", "params": { "lr": 1 } } }),
            "it is optimizer.params.lr here, which is there already: delete this one",
        ),
        (
            json!({ "optimizer": { "type": "AdamW", "lr": 1, "params": { "lr": 1 } } }),
            "it belongs in optimizer.params, where it is already: delete this one",
        ),
        (
            json!({ "scheduler": { "type": "WarmupCosineLR", "params": { "warmup_min_lr": 0 } } }),
            "did you mean \"warmup_min_ratio\"? it is a share of the optimizer's rate",
        ),
        // Spelt alike, and there.
        (
            json!({ "gradient_clipp": 1, "gradient_clipping": 1 }),
            "it is like \"gradient_clipping\", which is there already",
        ),
    ] {
        let error = plan(&config).err().expect("an unknown key").to_string();
        assert!(error.contains(hint), "{error}");
    }
}

/// A key that explains is noted wherever keys are known, and is no key where it holds no text.
#[test]
fn keys_that_explain() {
    for key in ["_comment", "_read_the_docs", "//", "# lr", "Description", "note", "TODO"] {
        for (section, stops) in [
            ("", false),
            ("optimizer", false),
            ("optimizer.params", true),
            ("zero_optimization", true),
            ("fp16", true),
            ("progressive_layer_drop", false),
            ("training", false),
            ("flops_profiler", false),
        ] {
            let inside = |value: Value| match section {
                "" => json!({ key: value }),
                "optimizer" => json!({ "optimizer": { "type": "SGD", key: value } }),
                "optimizer.params" => {
                    json!({ "optimizer": { "type": "SGD", "params": { key: value } } })
                }
                _ => json!({ section: { key: value } }),
            };
            for text in [json!("for 8 GPUs"), json!(["for", "8 GPUs"])] {
                let config = inside(text);
                let plan = plan(&config).unwrap_or_else(|error| panic!("{config}: {error}"));
                let told: Vec<_> = plan.notes().iter().map(|n| n.says.as_str()).collect();
                let comments: Vec<_> =
                    told.iter().filter(|says| says.starts_with("is a comment")).collect();
                assert_eq!(comments.len(), 1, "{config}: {told:?}");
                assert_eq!(comments[0].ends_with("DeepSpeed stops at it"), stops, "{config}");
            }
            assert!(plan(&inside(json!({ "a": 1 }))).is_err(), "{key} in {section:?}");
            assert!(plan(&inside(json!(1))).is_err(), "{key} in {section:?}");
        }
    }
    // No key that means something is one that explains.
    let schema = REGISTRY.schema();
    for key in schema["properties"].as_object().expect("keys").keys() {
        let notes = plan(&json!({ key: "text" })).map(|plan| plan.notes().to_vec());
        let mut notes = notes.unwrap_or_default().into_iter();
        assert!(!notes.any(|note| note.says.starts_with("is a comment")), "{key}");
    }
}

/// A rate that a schedule takes the place of is told, for each schedule and each rate of the optimizer; one that
/// is used, or is the same, is not.
#[test]
fn rates_that_nobody_uses() {
    let notes = |optimizer: &Value, scheduler: Value| {
        let config = json!({
            "optimizer": optimizer, "scheduler": scheduler, "training": { "total_steps": 5000 },
        });
        let plan = plan(&config).unwrap_or_else(|error| panic!("{config}: {error}"));
        let unused = plan.notes().iter().filter(|note| note.says.contains("not used: "));
        let unused: Vec<_> = unused.cloned().collect();
        assert!(unused.iter().all(|note| note.weight == Weight::Result));
        unused.into_iter().map(|note| note.message).collect::<Vec<_>>()
    };
    let cycle = json!({ "cycle_min_lr": 1e-4, "cycle_max_lr": 1e-2 });
    for (name, params, used, says) in [
        ("WarmupLR", json!({}), true, ""),
        ("WarmupLR", json!({ "warmup_max_lr": null }), true, ""),
        ("WarmupLR", json!({ "warmup_max_lr": "auto" }), true, ""),
        ("WarmupLR", json!({ "warmup_max_lr": 2e-5 }), true, ""),
        ("WarmupLR", json!({ "warmup_max_lr": [2e-5] }), true, ""),
        (
            "WarmupLR",
            json!({ "warmup_max_lr": 0.5 }),
            false,
            "is not used: WarmupLR has its own warmup_max_lr 0.5, as in DeepSpeed; write \
             \"warmup_max_lr\": 2e-5, or null for it",
        ),
        (
            "WarmupDecayLR",
            json!({ "warmup_num_steps": 10 }),
            false,
            "is not used: WarmupDecayLR has its own warmup_max_lr 0.001, which holds where it is left \
             out, as in DeepSpeed; write \"warmup_max_lr\": 2e-5, or null for it",
        ),
        ("warmupdecaylr", json!({ "warmup_max_lr": 2e-5 }), true, ""),
        ("WarmupDecayLR", json!({ "warmup_max_lr": "auto" }), true, ""),
        ("WarmupCosineLR", json!({}), true, ""),
        (
            "LRRangeTest",
            json!({}),
            false,
            "is not used: LRRangeTest has its own lr_range_test_min_lr 0.001, which holds where it is \
             left out, as in DeepSpeed; leave it out, or write it as lr_range_test_min_lr",
        ),
        ("LRRangeTest", json!({ "lr_range_test_min_lr": [2e-5] }), true, ""),
        (
            "OneCycle",
            cycle,
            false,
            "is not used: OneCycle has its own cycle_max_lr 0.01, as in DeepSpeed; leave it out, or \
             write it as cycle_max_lr",
        ),
        ("OneCycle", json!({ "cycle_min_lr": 2e-5, "cycle_max_lr": 1 }), true, ""),
    ] {
        let scheduler = json!({ "type": name, "params": params });
        let adam = json!({ "type": "AdamW", "params": { "lr": 2e-5 } });
        let expected: Vec<_> =
            if used { vec![] } else { vec![format!("optimizer.params.lr = 0.00002: {says}")] };
        assert_eq!(notes(&adam, scheduler.clone()), expected, "{scheduler}");
        // And each other rate.
        let groups = json!({ "type": "SGD", "groups": [{ "match": ["a"], "lr": 2e-5 }] });
        let muon = json!({ "type": "Muon", "params": { "muon_lr": 2e-5, "adam_lr": 2e-5 } });
        assert_eq!(notes(&groups, scheduler.clone()).len(), usize::from(!used), "{scheduler}");
        assert_eq!(notes(&muon, scheduler.clone()).len(), 2 * usize::from(!used), "{scheduler}");
        // Without a rate of its own, the optimizer has none that is lost.
        assert!(notes(&json!({ "type": "SGD" }), scheduler).is_empty());
    }
    // Under `strict` it is an error.
    let strict = json!({ "strict": true, "optimizer": { "type": "SGD", "params": { "lr": 2e-5 } },
        "scheduler": { "type": "LRRangeTest", "params": {} } });
    assert!(plan(&strict).is_err());
}

/// What DeepSpeed itself no longer takes is told, whatever it holds; layer dropping only in its own files.
#[test]
fn keys_that_deepspeed_takes_no_longer() {
    let told = |config: &Value| match plan(config) {
        Ok(plan) => plan.notes().to_vec(),
        Err(_) => {
            let document = Document::parse(Source::text("run.json", config.to_string()));
            REGISTRY.catalog().notes(Layers::new(document.expect("JSON")))
        }
    };
    for Remark { path, .. } in REMOVED.iter().filter(|of| of.path != "progressive_layer_drop") {
        for value in [json!(null), json!(false), json!({})] {
            let config = with(path, value);
            let notes = told(&config);
            let since = notes.iter().filter(|note| note.says.contains("since 0.19.8"));
            assert_eq!(since.count(), 1, "{config}: {notes:?}");
        }
    }
    let own = json!({ "progressive_layer_drop": { "enabled": true } });
    assert_eq!(told(&own), []);
    let theirs = json!({ "progressive_layer_drop": { "enabled": true }, "steps_per_print": 0 });
    assert!(told(&theirs)[0].says.contains("since 0.19.8"));
}

/// What is off, or is what DeepSpeed does anyway, is idle.
#[test]
fn what_asks_for_nothing() {
    for config in [
        json!({ "zero_optimization": false }),
        json!({ "zero_optimization": { "compute_grad_norm": true } }),
        json!({ "wall_clock_breakdown": false }),
    ] {
        let document = Document::parse(Source::text("run.json", config.to_string()));
        let merged = Layers::new(document.expect("JSON")).merge();
        assert_eq!(REGISTRY.catalog().idle(&merged).len(), 1, "{config}");
        assert_eq!(plan(&config).unwrap().notes(), [], "{config}");
    }
    let on = plan(&json!({ "zero_optimization": true })).unwrap();
    assert!(on.notes()[0].says.starts_with("is the oldest form of"), "{:?}", on.notes());
    // No sentence says that a key would have been or done what it is or does.
    for known in [TOP, PARALLEL, SECTIONS, ZERO, PARAMS].into_iter().flatten() {
        if let trainyard::Answer::Noted { would, .. } = known.answer {
            assert!(!would.starts_with("been ") && !would.starts_with("done "), "{would}");
        }
    }
}

/// What is refused comes with what to do about it.
#[test]
fn what_is_refused_is_to_be_deleted() {
    for (config, sentence) in [
        (
            json!({ "amp": { "enabled": true } }),
            "amp asks for Apex's mixed precision, which is not supported: delete this section; use bf16 or \
             fp16",
        ),
        (
            json!({ "sequence_parallel_size": 2 }),
            "sequence_parallel_size = 2 asks for sequence parallelism, which is not supported: delete this key",
        ),
    ] {
        let error = plan(&config).err().expect("refused").to_string();
        assert!(error.ends_with(sentence), "{error}");
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
