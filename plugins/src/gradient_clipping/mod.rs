//! `gradient_clipping`: bounds the global norm of the gradients.
//!
//! The norm spans all parameters that are not idle in the step (Pascanu et al. 2013,
//! <https://arxiv.org/abs/1211.5063>); it is what the report calls `grad_norm`.
mod config;
mod factor;

pub use config::Config;
pub use factor::factor;

use trainyard::{
    BoxError, BuildContext, Context, Gradients, Moment, Outline, Parts, Plugin, PluginSpec, Section,
};

/// A configuration with this plugin.
pub const EXAMPLE: &str = r#"{ "gradient_clipping": 1.0 }"#;

/// The section `gradient_clipping`.
#[derive(Debug)]
pub struct GradientClipping;

impl Section for GradientClipping {
    const KEYS: &'static [&'static str] = &["gradient_clipping"];
    type Config = Config;

    fn outline(Config(clip): &Config, _: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        if *clip > 0.0 {
            outline.describe(format!("global gradient norm at most {clip}"));
        }
        Ok(())
    }
}

impl PluginSpec for GradientClipping {
    fn build(Config(clip): &Config, _: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        if *clip > 0.0 {
            parts.plugin(Clip(*clip));
        }
        Ok(())
    }
}

/// The running part; holds the largest norm.
struct Clip(f64);

impl Plugin for Clip {
    fn gradients(&mut self, _: Moment, gradients: &mut Gradients<'_>) -> Result<(), BoxError> {
        let factor = factor(&gradients.norm()?, self.0)?;
        Ok(gradients.scale(&factor)?)
    }
}
