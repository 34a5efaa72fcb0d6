//! What is accepted here and is an error of DeepSpeed's, or passed over by both.
use serde_json::Value;
use trainyard::Remark;
use trainyard::Says::Plain;
use trainyard::config::Weight::{Little, Result};
use trainyard::config::whole_number;

const PASSED_OVER: &str = "has no `type`, so that all of it is passed over, as in DeepSpeed";
const NOT_SWITCHED: &str = "is off without `enabled`; DeepSpeed stops there";
const LEFT_OUT: &str = "DeepSpeed stops there";
const ONE_ITEM: &str = "is read as its one value, as DeepSpeed does for one group of parameters";
/// Steps of a warm-up whose length is left out.
const WARMUP_STEPS: u64 = 1000;
/// Optimizers in which no beta can be moved.
const WITHOUT_BETAS: &[&str] = &["SGD", "Adagrad", "DeepSpeedCPUAdagrad"];
/// Names that DeepSpeed takes letter by letter.
const SCHEDULERS: &[&str] =
    &["WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "LRRangeTest", "OneCycle"];

/// Notes on values that are accepted.
pub const REMARKS: &[Remark] = &[
    Remark { path: "optimizer", when: no_type, says: Plain(PASSED_OVER), weight: Result },
    Remark { path: "scheduler", when: no_type, says: Plain(PASSED_OVER), weight: Result },
    Remark {
        path: "gradient_clipping",
        when: |value, _| value.as_f64().is_some_and(|norm| norm < 0.0),
        says: Plain("nothing is clipped, as in DeepSpeed; 0 says so, too"),
        weight: Result,
    },
    Remark {
        path: "progressive_layer_drop",
        when: no_switch,
        says: Plain(NOT_SWITCHED),
        weight: Little,
    },
    Remark { path: "amp", when: no_switch, says: Plain(NOT_SWITCHED), weight: Little },
    Remark {
        path: "curriculum_learning",
        when: no_switch,
        says: Plain(NOT_SWITCHED),
        weight: Little,
    },
    Remark {
        path: "amp.enabled",
        when: is_auto,
        says: Plain(
            "is off; DeepSpeed takes any text for on, and stops where ZeRO, fp16 or bf16 is on, too",
        ),
        weight: Little,
    },
    Remark { path: "zero_optimization", when: is_null, says: Plain(LEFT_OUT), weight: Little },
    Remark { path: "wall_clock_breakdown", when: is_null, says: Plain(LEFT_OUT), weight: Little },
    Remark { path: "wall_clock_breakdown", when: is_auto, says: Plain(LEFT_OUT), weight: Little },
    Remark {
        path: "optimizer.type",
        when: |name, _| is_in_other_letters(name, &["SGD"]),
        says: Plain(
            "is read as \"SGD\"; DeepSpeed stops there, as it takes PyTorch's names letter by letter",
        ),
        weight: Little,
    },
    Remark {
        path: "scheduler.type",
        when: |name, _| is_in_other_letters(name, SCHEDULERS),
        says: Plain("is read whatever the case of its letters; DeepSpeed stops there"),
        weight: Little,
    },
    Remark {
        path: "fp16.loss_scale",
        when: |scale, whole| {
            scale.as_f64().is_some_and(|scale| scale != 0.0)
                && is_type(whole, "optimizer", &["Lamb"])
        },
        says: Plain("does not change; DeepSpeed stops there, as its Lamb wants a dynamic scale, 0"),
        weight: Result,
    },
    Remark {
        path: "optimizer.params.adam_w_mode",
        when: |mode, whole| mode == false && is_type(whole, "optimizer", &["AdamW"]),
        says: Plain(
            "changes nothing: AdamW takes the decay off the weights whatever it says, as in DeepSpeed",
        ),
        weight: Result,
    },
    Remark {
        path: "scheduler.params.warmup_min_lr",
        when: is_list,
        says: Plain(ONE_ITEM),
        weight: Little,
    },
    Remark {
        path: "scheduler.params.warmup_max_lr",
        when: is_list,
        says: Plain(ONE_ITEM),
        weight: Little,
    },
    Remark {
        path: "scheduler.params.lr_range_test_min_lr",
        when: is_list,
        says: Plain(ONE_ITEM),
        weight: Little,
    },
    Remark {
        path: "scheduler.type",
        when: |name, whole| {
            let momentum = whole.pointer("/scheduler/params/cycle_momentum");
            name.as_str().is_some_and(|name| name.eq_ignore_ascii_case("OneCycle"))
                && momentum != Some(&Value::Bool(false))
                && is_type(whole, "optimizer", WITHOUT_BETAS)
        },
        says: Plain(
            "moves the rate alone, as the optimizer has no betas; DeepSpeed warns of that, too",
        ),
        weight: Result,
    },
    Remark {
        path: "progressive_layer_drop.gamma",
        when: |_, whole| is_schedule_other_than("exponential", whole),
        says: Plain("changes nothing: it is of the exponential schedule"),
        weight: Result,
    },
    Remark {
        path: "progressive_layer_drop.ramp",
        when: |_, whole| is_schedule_other_than("linear", whole),
        says: Plain("changes nothing: it is of the linear schedule"),
        weight: Result,
    },
    Remark {
        path: "scheduler.params",
        when: ends_in_warmup,
        says: Plain(
            "the schedule ends before its warm-up does, so that the rate falls to its end at once; \
               DeepSpeed warns of that, too",
        ),
        weight: Result,
    },
];

fn is_auto(value: &Value, _: &Value) -> bool {
    value == "auto"
}

fn is_null(value: &Value, _: &Value) -> bool {
    value.is_null()
}

fn is_list(value: &Value, _: &Value) -> bool {
    value.is_array()
}

/// Whether the section has this type, in any case of letters.
pub(super) fn is_type(whole: &Value, section: &str, names: &[&str]) -> bool {
    let name = whole.get(section).and_then(|section| section.get("type")?.as_str());
    name.is_some_and(|name| names.iter().any(|of| name.eq_ignore_ascii_case(of)))
}

/// Whether a name is one of `names` but for the case of its letters.
fn is_in_other_letters(value: &Value, names: &[&str]) -> bool {
    let is = |name: &str| names.iter().any(|of| name.eq_ignore_ascii_case(of));
    value.as_str().is_some_and(|name| is(name) && !names.contains(&name))
}

/// Whether a schedule's last step, of the params or of the run, comes before the end of its warm-up.
fn ends_in_warmup(params: &Value, whole: &Value) -> bool {
    let of_run = || whole_number(whole.get("training")?.get("total_steps")?);
    let total = params.get("total_num_steps").and_then(whole_number).or_else(of_run);
    let warmup = params.get("warmup_num_steps").map_or(Some(WARMUP_STEPS), whole_number);
    let of_type = is_type(whole, "scheduler", &["WarmupDecayLR", "WarmupCosineLR"]);
    of_type && total.zip(warmup).is_some_and(|(total, warmup)| total < warmup)
}

/// Whether layers are dropped on another schedule; left out, it is exponential.
fn is_schedule_other_than(schedule: &str, whole: &Value) -> bool {
    let section = &whole["progressive_layer_drop"];
    let own = section.get("schedule").and_then(Value::as_str).unwrap_or("exponential");
    section["enabled"] == true && own != schedule
}

fn no_type(section: &Value, _: &Value) -> bool {
    section.is_object() && section.get("type").is_none_or(Value::is_null)
}

fn no_switch(section: &Value, _: &Value) -> bool {
    section.as_object().is_some_and(|keys| !keys.contains_key("enabled"))
}
