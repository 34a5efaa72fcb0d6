//! The section `bf16`.
use super::casting::Casting;
use super::config::Bf16Keys;
use tch::Kind;
use trainyard::{
    BoxError, BuildContext, Context, Error, Gradients, Loss, Outline, Parts, PluginSpec, Precision,
    Section,
};

/// A configuration with this plugin.
pub const BF16_EXAMPLE: &str = r#"{ "bf16": { "enabled": true } }"#;

/// The section `bf16`.
#[derive(Debug)]
pub struct Bf16;

impl Section for Bf16 {
    const KEYS: &'static [&'static str] = &["bf16", "bfloat16"];
    type Config = Bf16Keys;

    fn outline(keys: &Bf16Keys, _: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        let config = keys.config();
        if !config.enabled {
            outline.describe("off: `enabled` is not true");
            return Ok(());
        }
        let words = "products in bfloat16; parameters, gradients and optimizer in float32";
        outline.describe(match config.check_grad_overflow {
            true => words.to_owned(),
            false => format!("{words}; the norm of the gradients is not computed for the report"),
        });
        outline.precision()
    }
}

impl PluginSpec for Bf16 {
    fn build(keys: &Bf16Keys, context: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        let config = keys.config();
        if config.enabled {
            let casting = Casting::new(context.device, Kind::BFloat16)?;
            parts.precision(Running { casting, reports_norm: config.check_grad_overflow });
        }
        Ok(())
    }
}

/// The running part.
struct Running {
    casting: Casting,
    reports_norm: bool,
}

impl Precision for Running {
    fn forward(&mut self, forward: &mut dyn FnMut() -> Result<Loss, Error>) -> Result<Loss, Error> {
        self.casting.forward(forward)
    }

    fn unscale(&mut self, gradients: &mut Gradients<'_>) -> Result<bool, BoxError> {
        if self.reports_norm {
            // The engine reads a norm that somebody asked for together with the loss.
            let _ = gradients.norm()?;
        }
        Ok(true)
    }

    fn forget_casts(&mut self) -> Result<(), BoxError> {
        self.casting.forget_casts()
    }
}
