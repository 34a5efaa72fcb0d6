//! What is accepted here and is an error of DeepSpeed's, or passed over by both.
use serde_json::Value;
use trainyard::Remark;

const PASSED_OVER: &str = "has no `type`, so that all of it is passed over, as in DeepSpeed";
const NOT_SWITCHED: &str = "is off without `enabled`; DeepSpeed stops there";
const LEFT_OUT: &str = "DeepSpeed stops there";

/// Notes on values that are accepted.
pub const REMARKS: &[Remark] = &[
    Remark { path: "optimizer", when: no_type, says: PASSED_OVER },
    Remark { path: "scheduler", when: no_type, says: PASSED_OVER },
    Remark {
        path: "gradient_clipping",
        when: |value| value.as_f64().is_some_and(|norm| norm < 0.0),
        says: "nothing is clipped, as in DeepSpeed; 0 says so, too",
    },
    Remark { path: "progressive_layer_drop", when: no_switch, says: NOT_SWITCHED },
    Remark { path: "amp", when: no_switch, says: NOT_SWITCHED },
    Remark { path: "curriculum_learning", when: no_switch, says: NOT_SWITCHED },
    Remark {
        path: "amp.enabled",
        when: is_auto,
        says: "is off; DeepSpeed takes any text for on, and stops where ZeRO, fp16 or bf16 is on, too",
    },
    Remark { path: "zero_optimization", when: Value::is_null, says: LEFT_OUT },
    Remark { path: "wall_clock_breakdown", when: Value::is_null, says: LEFT_OUT },
    Remark { path: "wall_clock_breakdown", when: is_auto, says: LEFT_OUT },
];

fn is_auto(value: &Value) -> bool {
    value == "auto"
}

fn no_type(section: &Value) -> bool {
    section.is_object() && section.get("type").is_none_or(Value::is_null)
}

fn no_switch(section: &Value) -> bool {
    section.as_object().is_some_and(|keys| !keys.contains_key("enabled"))
}
