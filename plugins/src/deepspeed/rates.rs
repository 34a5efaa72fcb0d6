//! Learning rates that another one takes the place of: a schedule with a rate of its own does not look at the
//! optimizer's.
use super::remarks::is_type;
use crate::words::number;
use serde_json::Value;
use trainyard::Remark;
use trainyard::Says::Of;
use trainyard::config::Weight;

/// Notes on rates that nobody uses.
pub const RATES: &[Remark] = &[
    unused("optimizer.params.lr", is_another),
    unused("optimizer.params.muon_lr", is_another),
    unused("optimizer.params.adam_lr", is_another),
    unused("optimizer.groups", |groups, whole| {
        let mut groups = groups.as_array().into_iter().flatten();
        groups.any(|group| group.get("lr").is_some_and(|lr| is_another(lr, whole)))
    }),
];

const fn unused(path: &'static str, when: fn(&Value, &Value) -> bool) -> Remark {
    Remark { path, when, says: Of(says), weight: Weight::Result }
}

/// The rate of its own that a schedule goes up to, or begins with.
struct Own<'c> {
    schedule: &'static str,
    /// The param that sets it.
    key: &'static str,
    /// None: not a number, such as "auto".
    rate: Option<f64>,
    /// Whether the file sets it.
    given: bool,
    /// Whether null in its place is the optimizer's rate.
    or_null: bool,
    params: &'c Value,
}

/// What of the schedule takes the place of the optimizer's rate, if anything does.
fn own(whole: &Value) -> Option<Own<'_>> {
    // A schedule's name, its param, the rate where that is left out, and whether null is the optimizer's.
    const SCHEDULES: [(&str, &str, Option<f64>, bool); 4] = [
        ("WarmupLR", "warmup_max_lr", None, true),
        ("WarmupDecayLR", "warmup_max_lr", Some(1e-3), true),
        ("LRRangeTest", "lr_range_test_min_lr", Some(1e-3), false),
        ("OneCycle", "cycle_max_lr", None, false),
    ];
    let (schedule, key, otherwise, or_null) =
        SCHEDULES.into_iter().find(|(name, ..)| is_type(whole, "scheduler", &[*name]))?;
    let params = &whole["scheduler"]["params"];
    // A list of one rate is that rate.
    let written = params.get(key).map(|value| value.get(0).unwrap_or(value));
    let rate = match written {
        None => otherwise,
        Some(value) => value.as_f64(),
    };
    // Null and "auto" are the optimizer's.
    let own = Own { schedule, key, rate, given: written.is_some(), or_null, params };
    (own.rate.is_some() || !or_null).then_some(own)
}

/// Whether a rate is one that the schedule has none of.
fn is_another(rate: &Value, whole: &Value) -> bool {
    let Some(own) = own(whole) else { return false };
    // The lower end of a cycle is one of its rates.
    let low = own.params.get("cycle_min_lr").and_then(Value::as_f64);
    (rate.is_number() || rate == "auto")
        && ![own.rate, low].into_iter().flatten().any(|of| Some(of) == rate.as_f64())
}

fn says(value: &Value, whole: &Value) -> String {
    let Some(Own { schedule, key, rate, given, or_null, .. }) = own(whole) else {
        return String::new();
    };
    let rate = rate.map_or(String::new(), |rate| format!(" {}", number(rate)));
    let default = if given { "" } else { ", which holds where it is left out" };
    let what = if value.is_array() { "lr in a group is" } else { "is" };
    let instead = match (or_null, value.as_f64()) {
        (false, _) => format!("leave it out, or write it as {key}"),
        (true, Some(wanted)) => format!("write \"{key}\": {}, or null for it", number(wanted)),
        (true, None) => format!("write \"{key}\": null for it"),
    };
    format!(
        "{what} not used: {schedule} has its own {key}{rate}{default}, as in DeepSpeed; {instead}"
    )
}
