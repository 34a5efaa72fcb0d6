//! The section `fp16`.
use super::casting::Casting;
use super::config::Fp16Config;
use super::loss_scale::{GIVE_UP_AFTER, LossScale, Rule};
use serde_json::Value;
use tch::Kind;
use tracing::warn;
use trainyard::{
    BoxError, BuildContext, Context, Error, Gradients, Invalid, Loss, Outline, Parts, PluginSpec,
    Precision, Section,
};

/// A configuration with this plugin.
pub const FP16_EXAMPLE: &str = r#"{
    "fp16": {
        "enabled": true, "loss_scale": 0, "initial_scale_power": 12, "loss_scale_window": 4,
        "hysteresis": 2, "min_loss_scale": 1
    }
}"#;

/// The section `fp16`.
#[derive(Debug)]
pub struct Fp16;

impl Section for Fp16 {
    const KEYS: &'static [&'static str] = &["fp16"];
    type Config = Fp16Config;

    fn outline(config: &Fp16Config, _: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        if !config.enabled {
            outline.describe("off: `enabled` is not true");
            return Ok(());
        }
        check(config)?;
        let (rule, start) = scale(config);
        let words = "products in float16; parameters, gradients and optimizer in float32";
        outline.describe(format!("{words}; {}", describe(&rule, &start)));
        outline.precision()
    }
}

impl PluginSpec for Fp16 {
    fn build(
        config: &Fp16Config,
        context: &BuildContext,
        parts: &mut Parts,
    ) -> Result<(), BoxError> {
        if config.enabled {
            let casting = Casting::new(context.device, Kind::Half)?;
            let (rule, start) = scale(config);
            parts.precision(Running { casting, rule, start, now: start });
        }
        Ok(())
    }
}

/// What no schema says.
fn check(config: &Fp16Config) -> Result<(), Invalid> {
    let (scale, power) = (config.loss_scale, config.initial_scale_power);
    if scale != 0.0 && !(1e-30..=1e30).contains(&scale) {
        let message = format!("loss_scale = {scale:e} is neither 0 (dynamic) nor in [1e-30, 1e30]");
        return Err(Invalid::at("loss_scale", message));
    }
    let (start, floor) = (2f64.powi(power), config.min_loss_scale);
    if scale == 0.0 && start < floor as f64 {
        let message = format!(
            "initial_scale_power = {power} starts the scale at {start}, below min_loss_scale = {floor}"
        );
        return Err(Invalid::at("initial_scale_power", message));
    }
    Ok(())
}

/// How the scale moves, and where it starts.
fn scale(config: &Fp16Config) -> (Rule, LossScale) {
    let (rule, start) = match config.loss_scale {
        0.0 => {
            let rule = Rule::Dynamic {
                window: config.loss_scale_window,
                hysteresis: config.hysteresis,
                consecutive_hysteresis: config.consecutive_hysteresis,
                floor: config.min_loss_scale as f64,
            };
            (rule, 2f64.powi(config.initial_scale_power))
        }
        scale => (Rule::Static, scale),
    };
    (rule, LossScale::new(start, &rule))
}

/// The scale in words.
fn describe(rule: &Rule, start: &LossScale) -> String {
    let s = start.scale;
    match rule {
        Rule::Static => format!("loss scale {s}"),
        Rule::Dynamic { window, hysteresis, consecutive_hysteresis, floor } => {
            let halved = match (hysteresis, consecutive_hysteresis) {
                (0 | 1, _) => "by each overflow".to_owned(),
                (n, false) => {
                    format!("by overflow {n} after a doubling or the start and each later one")
                }
                (n, true) => format!("by overflow {n} in a row and each later one"),
            };
            format!(
                "loss scale from {s} on, doubled after {window} good steps, halved {halved}, at least {floor}"
            )
        }
    }
}

/// The running part.
struct Running {
    casting: Casting,
    rule: Rule,
    start: LossScale,
    now: LossScale,
}

impl Precision for Running {
    fn forward(&mut self, forward: &mut dyn FnMut() -> Result<Loss, Error>) -> Result<Loss, Error> {
        self.casting.forward(forward)
    }

    fn loss_scale(&self) -> f64 {
        self.now.scale
    }

    fn unscale(&mut self, gradients: &mut Gradients<'_>) -> Result<bool, BoxError> {
        let scale = self.now.scale;
        gradients.scale_by(1.0 / scale)?;
        // One pass that only reads; the optimizer multiplies by the factor as it reads the gradients.
        let overflow = !gradients.norm()?.f_double_value(&[])?.is_finite();
        self.now = self.now.after(&self.rule, overflow);
        match self.now.overflows_at_floor {
            0 => {}
            GIVE_UP_AFTER.. => {
                return Err(format!(
                    "{GIVE_UP_AFTER} overflows in a row at a loss scale of {scale}, which goes no \
                     lower; the training has diverged, or float16 cannot hold this model: try bf16"
                )
                .into());
            }
            in_a_row => warn!(scale, in_a_row, "an overflow at a loss scale that goes no lower"),
        }
        Ok(!overflow)
    }

    fn forget_casts(&mut self) -> Result<(), BoxError> {
        self.casting.forget_casts()
    }

    /// The state of a dynamic scale; a static one is the configuration's.
    fn state(&self) -> Value {
        match self.rule {
            Rule::Static => Value::Null,
            Rule::Dynamic { .. } => {
                serde_json::to_value(self.now).expect("four numbers are a value")
            }
        }
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.now = match (self.rule, state) {
            (_, Value::Null) | (Rule::Static, _) => self.start,
            (Rule::Dynamic { .. }, state) => {
                let loaded: LossScale = serde_json::from_value(state)?;
                if !(1e-30..=1e30).contains(&loaded.scale) {
                    return Err(
                        format!("its scale = {:e} is not in [1e-30, 1e30]", loaded.scale).into()
                    );
                }
                loaded
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(section: Value) -> (String, String) {
        let config = serde_json::from_value(section).unwrap();
        let built = Fp16::outline(&config, &Context::default(), &mut Outline::default());
        let invalid = built.unwrap_err().downcast::<Invalid>().unwrap();
        (invalid.path, invalid.message)
    }

    #[test]
    fn in_words() {
        for (section, halved) in [
            (json!({"hysteresis": 1}), "by each overflow"),
            (json!({}), "by overflow 2 after a doubling or the start and each later one"),
            (
                json!({"hysteresis": 3, "consecutive_hysteresis": true}),
                "by overflow 3 in a row and each later one",
            ),
        ] {
            let (rule, start) = scale(&serde_json::from_value(section).unwrap());
            let expected = format!(
                "loss scale from 65536 on, doubled after 1000 good steps, halved {halved}, at least 1"
            );
            assert_eq!(describe(&rule, &start), expected);
        }
    }

    #[test]
    fn what_no_schema_says() {
        let sentence = |section: Value, path: &str, message: &str| {
            assert_eq!(refused(section), (path.to_owned(), message.to_owned()));
        };
        sentence(
            json!({"enabled": true, "loss_scale": 1e-50}),
            "loss_scale",
            "loss_scale = 1e-50 is neither 0 (dynamic) nor in [1e-30, 1e30]",
        );
        sentence(
            json!({"enabled": true, "initial_scale_power": 3, "min_loss_scale": 16}),
            "initial_scale_power",
            "initial_scale_power = 3 starts the scale at 8, below min_loss_scale = 16",
        );
    }

    #[test]
    fn defaults_are_deepspeeds() {
        let (rule, start) = scale(&Fp16Config::default());
        assert_eq!(start.scale, 65536.0);
        let expected = Rule::Dynamic {
            window: 1000,
            hysteresis: 2,
            consecutive_hysteresis: false,
            floor: 1.0,
        };
        assert_eq!(rule, expected);
    }
}
