use super::*;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};
use trainyard::config::{Document, Source};
use trainyard::{
    BoxError, BuildContext, Gradients, Layers, Loss, Moment, Parts, Plan, Plugin, PluginSpec,
    Report, Result, Section, config,
};

fn plan(text: &str) -> Result<Plan> {
    let document = Document::parse(Source::text("run.json", text)).expect("it is JSON");
    registry().plan(config::Layers::new(document))
}

fn complaint(text: &str) -> Option<String> {
    plan(text).err().map(|error| error.to_string())
}

#[test]
fn examples_fit_the_schema() {
    for (key, example) in EXAMPLES {
        assert_eq!(complaint(example), None, "{key}");
        let value: serde_json::Value = serde_json::from_str(example).unwrap();
        assert!(value.get(key).is_some(), "{key}");
    }
}

/// A section that is read, written and read again is the same.
#[test]
fn sections_survive_writing() {
    fn check<P: PluginSpec>(example: &str)
    where
        P::Config: serde::Serialize + PartialEq + std::fmt::Debug,
    {
        let value: serde_json::Value = serde_json::from_str(example).unwrap();
        let section = if P::KEYS.len() == 1 { value[P::KEYS[0]].clone() } else { value };
        let read: P::Config = serde_json::from_value(section).unwrap();
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(serde_json::from_value::<P::Config>(written).unwrap(), read);
    }
    check::<Bf16>(precision::BF16_EXAMPLE);
    check::<Fp16>(precision::FP16_EXAMPLE);
    check::<GradientClipping>(gradient_clipping::EXAMPLE);
    check::<Optimizer>(optimizer::EXAMPLE);
    check::<Scheduler>(scheduler::EXAMPLE);
    check::<Tensorboard>(monitors::TENSORBOARD_EXAMPLE);
    check::<CsvMonitor>(monitors::CSV_EXAMPLE);
    check::<Optimizer>(
        r#"{"optimizer": {"type": "FusedLamb", "groups": [{"match": ["a"], "lr": 1}]}}"#,
    );
    for name in ["SGD", "DeepSpeedCPULion", "Adagrad", "Muon"] {
        check::<Optimizer>(&format!(r#"{{"optimizer": {{"type": "{name}"}}}}"#));
    }
    check::<Optimizer>(
        r#"{"optimizer": {"type": "Muon", "params": {
            "muon_lr": 0.1, "ns_method": "gram", "ns_dtype": "fp32",
            "adjust_lr_fn": "match_rms_adamw", "adam_names": ["head"]
        }}}"#,
    );
    check::<Scheduler>(r#"{"scheduler": {"type": "WarmupCosineLR"}}"#);
}

/// One mistake, one sentence, at its own place.
#[test]
fn mistakes_in_sections_of_a_type() {
    for (section, sentence) in [
        (
            r#"{"optimizer": {"type": "AdamX"}}"#,
            r#"run.json:1:24: optimizer.type = "AdamX" is not one of "AdamW", "Adam", "FusedAdam", "DeepSpeedCPUAdam", "Lamb", "FusedLamb", "SGD", "Lion", "FusedLion", "DeepSpeedCPULion", "Adagrad", "DeepSpeedCPUAdagrad", "Muon"; did you mean "Adam"?"#,
        ),
        (
            r#"{"optimizer": {"type": 1}}"#,
            r#"run.json:1:24: optimizer.type = 1 is a number; one of "AdamW", "Adam", "FusedAdam", "DeepSpeedCPUAdam", "Lamb", "FusedLamb", "SGD", "Lion", "FusedLion", "DeepSpeedCPULion", "Adagrad", "DeepSpeedCPUAdagrad", "Muon" is expected"#,
        ),
        (
            r#"{"optimizer": {"type": "adamw", "params": {"beta": [0.9, 0.999]}}}"#,
            r#"run.json:1:44: optimizer.params: unknown key "beta"; did you mean "betas"?"#,
        ),
        (
            r#"{"optimizer": {"type": "ADAM", "params": {"betas": [0.9, 1]}}}"#,
            "run.json:1:58: optimizer.params.betas[1] = 1 is not in [0, 1)",
        ),
        (
            r#"{"optimizer": {"type": "SGD", "params": {"eps": 1e-8}}}"#,
            r#"run.json:1:42: optimizer.params: unknown key "eps"; known keys: "dampening", "differentiable", "foreach", "fused", "lr", "maximize", "momentum", "nesterov", "weight_decay""#,
        ),
        (
            r#"{"optimizer": {"type": "Lamb", "params": {"max_grad_norm": 1.0}}}"#,
            r#"run.json:1:60: optimizer.params.max_grad_norm = 1.0 belongs to no optimizer; set "gradient_clipping" beside "optimizer""#,
        ),
        (
            r#"{"optimizer": {"type": "OnebitAdam", "params": {"freeze_step": 400}}}"#,
            r#"run.json:1:24: optimizer.type = "OnebitAdam" is Adam with compressed communication, which is not supported; use "Adam""#,
        ),
        (
            r#"{"optimizer": {"type": "ZeroOneAdam"}}"#,
            r#"run.json:1:24: optimizer.type = "ZeroOneAdam" is Adam with compressed communication, which is not supported; use "Adam""#,
        ),
        (
            r#"{"optimizer": {"type": "OneBitLamb"}}"#,
            r#"run.json:1:24: optimizer.type = "OneBitLamb" is LAMB with compressed communication, which is not supported; use "Lamb""#,
        ),
        (
            r#"{"optimizer": {"type": "Lion", "params": {"betas": [-0.1, 0.99]}}}"#,
            "run.json:1:53: optimizer.params.betas[0] = -0.1 is not in [0, 1)",
        ),
        (
            r#"{"optimizer": {"type": "Lion", "params": {"lr": -1e-4}}}"#,
            "run.json:1:49: optimizer.params.lr = -1e-4 is not >= 0",
        ),
        (
            r#"{"optimizer": {"type": "adagrad", "params": {"eps": -1, "lr_decay": -2}}}"#,
            "run.json:1:53: optimizer.params.eps = -1 is not >= 0\n\
             run.json:1:69: optimizer.params.lr_decay = -2 is not >= 0",
        ),
        (
            r#"{"optimizer": {"type": "Muon", "params": {"momentum": 1}}}"#,
            "run.json:1:55: optimizer.params.momentum = 1 is not in [0, 1)",
        ),
        (
            r#"{"optimizer": {"type": "Muon", "params": {"ns_steps": 0}}}"#,
            "run.json:1:55: optimizer.params.ns_steps = 0 is not in [1, 99]",
        ),
        (
            r#"{"optimizer": {"type": "Muon", "params": {"ns_dtype": "fp16"}}}"#,
            r#"run.json:1:55: optimizer.params.ns_dtype = "fp16" is neither "bf16" nor "fp32""#,
        ),
        (
            r#"{"optimizer": {"type": "Adam", "params": {"amsgrad": true}}}"#,
            "run.json:1:54: optimizer.params.amsgrad = true is not supported: updates divide by the running mean, not by its \
             largest value",
        ),
        (
            r#"{"optimizer": {"type": "Lamb", "params": {"variant": "nvlamb"}}}"#,
            r#"run.json:1:54: optimizer.params.variant = "nvlamb" is neither "paper" nor "deepspeed""#,
        ),
        (
            r#"{"optimizer": {"type": "Lamb", "groups": [{"match": [], "lr": 1}]}}"#,
            "run.json:1:53: optimizer.groups[0].match has 0 values; a list of at least 1 value (each a non-empty string) is expected",
        ),
        (
            r#"{"scheduler": {"type": "WarmupDecayLr", "params": {"total_num_steps": "all"}}}"#,
            r#"run.json:1:71: scheduler.params.total_num_steps = "all" is neither a whole number >= 1 nor "auto""#,
        ),
        (
            r#"{"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 0, "warmup_type": "cosine"}}}"#,
            "run.json:1:67: scheduler.params.warmup_num_steps = 0 is not >= 1\n\
             run.json:1:85: scheduler.params.warmup_type = \"cosine\" is neither \"log\" nor \"linear\"",
        ),
        (
            r#"{"scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0.1}}}"#,
            r#"run.json:1:46: scheduler.params: missing key "cycle_max_lr""#,
        ),
        (r#"{"fp16": {"loss_scale": -1}}"#, "run.json:1:25: fp16.loss_scale = -1 is not >= 0"),
        (
            r#"{"fp16": {"initial_scale_power": 100}}"#,
            "run.json:1:34: fp16.initial_scale_power = 100 is not in [-99, 99]",
        ),
        (
            r#"{"bf16": {"enable": true}}"#,
            r#"run.json:1:11: bf16: unknown key "enable"; did you mean "enabled"?"#,
        ),
        (
            r#"{"fp16": {"enabled": true, "min_loss_scale": 0, "hysteresis": 0}}"#,
            "run.json:1:46: fp16.min_loss_scale = 0 is not >= 1\n\
             run.json:1:63: fp16.hysteresis = 0 is not >= 1",
        ),
    ] {
        assert_eq!(complaint(section).as_deref(), Some(sentence), "{section}");
    }
}

/// Mistakes that show only once the model is known stand at their places too.
#[test]
fn patterns_that_match_no_parameter() {
    let text = r#"{"optimizer": {"type": "Lamb", "groups": [{"match": ["bais"], "lr": 1}]}}"#;
    let plan = plan(text).unwrap();
    let error =
        plan.explain(&Layers::new(), vec![("a.bias".into(), vec![1])]).err().expect("a mistake");
    assert_eq!(
        error.to_string(),
        "run.json:1:54: optimizer.groups[0].match[0]: \"bais\" matches no parameter; \
         there are `a.bias`"
    );
}

#[test]
fn the_plan_in_words() {
    let text = r#"{
        "scheduler": {"type": "WarmupCosineLR", "params": {"warmup_num_steps": 5}},
        "optimizer": {
            "type": "lamb", "params": {"lr": 2e-3, "weight_decay": 0.01}, "no_decay": ["bias"]
        },
        "gradient_clipping": 1.0,
        "training": {"total_steps": 20}
    }"#;
    let names = ["a.bias", "a.weight", "b.bias"].map(|n| (n.to_owned(), vec![2])).to_vec();
    let explanation = plan(text).unwrap().explain(&Layers::new(), names).unwrap();
    let lines: Vec<_> = explanation.lines.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "global gradient norm at most 1",
            "LAMB: lr 0.002, weight decay 0.01, betas 0.9 and 0.999, eps 1e-8, ratio in [0.01, 10]",
            "2 parameters, `a.bias` the first: weight decay 0, not adapted",
            "WarmupCosineLR: to the optimizer's rate in 5 steps, to 0.0001 of it at step 20",
        ]
    );
    let rate = explanation.curves.iter().find(|curve| curve.name == "learning rate").unwrap();
    assert_eq!([rate.value.at(0), rate.value.at(1)], [0.0, 0.0]);
    assert!(rate.value.at(5) > 0.0);
}

/// One step on w = (3, 4) with the loss |w|^2 / 2, so that the gradient is w and its norm 5.
fn step(text: &str) -> Result<(Report, Vec<f32>)> {
    step_of(&plan(text)?)
}

fn step_of(plan: &Plan) -> Result<(Report, Vec<f32>)> {
    let variables = VarStore::new(Device::Cpu);
    let mut w = variables.root().var("w", &[2], Init::Const(0.0));
    tch::no_grad(|| w.copy_(&Tensor::from_slice(&[3f32, 4.0])));
    let mut engine = plan.engine(w, &variables, &Layers::new())?;
    let report = engine.step(&[()], |w, ()| Loss::mean(w.square().sum(Kind::Float) / 2.0, 1))?;
    let weights = Vec::try_from(&engine.model().detach()).expect("it is a vector");
    Ok((report, weights))
}

type Done = std::result::Result<(), BoxError>;

/// The section `halve_in_place`: halves the gradients, in place or by a factor.
struct Halve(bool);

impl Section for Halve {
    const KEYS: &'static [&'static str] = &["halve_in_place"];
    type Config = bool;
}

impl PluginSpec for Halve {
    fn build(in_place: &bool, _: &BuildContext, parts: &mut Parts) -> Done {
        parts.plugin(Halve(*in_place));
        Ok(())
    }
}

impl Plugin for Halve {
    fn gradients(&mut self, _: Moment, gradients: &mut Gradients<'_>) -> Done {
        // As a precision does that looks at the gradients first.
        let _ = gradients.norm()?;
        if !self.0 {
            return Ok(gradients.scale_by(0.5)?);
        }
        for mut gradient in gradients.active()? {
            let _ = gradient.f_mul_scalar_(0.5)?;
        }
        Ok(())
    }
}

/// The gradient (3, 4) becomes (1.5, 2), of norm 2.5.
#[test]
fn clipping_sees_what_an_earlier_plugin_made_of_the_gradients() -> Done {
    for in_place in [true, false] {
        let text = format!(
            r#"{{ "halve_in_place": {in_place}, "gradient_clipping": 2.4,
                 "optimizer": {{"type": "SGD", "params": {{"lr": 1}}}} }}"#
        );
        let document = Document::parse(Source::text("run.json", text))?;
        let registry = registry().add_before::<Halve>("gradient_clipping");
        let plan = registry.plan(config::Layers::new(document))?;
        let (report, weights) = step_of(&plan)?;
        assert_eq!(report.grad_norm, Some(5.0));
        let kept = 0.5 * 2.4 / 2.500001;
        for (found, gradient) in weights.iter().zip([3.0, 4.0]) {
            assert!((f64::from(*found) - gradient * (1.0 - kept)).abs() < 1e-6, "{weights:?}");
        }
    }
    Ok(())
}

#[test]
fn clipping_bounds_the_update_and_reports_the_norm() {
    let sgd = r#""optimizer": {"type": "SGD", "params": {"lr": 1}}"#;
    let (report, weights) = step(&format!(r#"{{ {sgd}, "gradient_clipping": 0.5 }}"#)).unwrap();
    assert_eq!(report.grad_norm, Some(5.0));
    for (found, expected) in weights.iter().zip([3.0 - 0.3, 4.0 - 0.4]) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }
    for loose in ["100", "0"] {
        let text = format!(r#"{{ {sgd}, "gradient_clipping": {loose} }}"#);
        assert_eq!(step(&text).unwrap().1, [0.0, 0.0]);
    }
}
