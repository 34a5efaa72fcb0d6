//! `gradient_noise`: adds noise to the gradients, less of it as training goes on.
use schemars::JsonSchema;
use serde::Deserialize;
use trainyard::draw::{Purpose, generator, uniform};
use trainyard::{
    BoxError, BuildContext, Context, Gradients, Moment, Outline, Parts, Plugin, PluginSpec, Section,
};

/// Adds Gaussian noise to the gradients before each update, which can help a deep network out of a poor
/// start. After t steps its variance is eta / (1 + t)^gamma.
///
/// Paper: [Neelakantan et al. 2015](https://arxiv.org/abs/1511.06807).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "GradientNoise")]
pub struct Config {
    /// Variance of the noise in the first step; 0: no noise.
    #[schemars(range(min = 0))]
    pub eta: f64,
    /// How fast the variance falls, at least 0.
    #[schemars(range(min = 0))]
    pub gamma: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config { eta: 0.01, gamma: 0.55 }
    }
}

impl Config {
    /// Standard deviation of the noise after `step` completed steps.
    fn deviation(&self, step: u64) -> f64 {
        (self.eta / (1.0 + step as f64).powf(self.gamma)).sqrt()
    }
}

/// The section `gradient_noise`.
pub struct GradientNoise;

impl Section for GradientNoise {
    const KEYS: &'static [&'static str] = &["gradient_noise"];
    type Config = Config;

    fn outline(config: &Config, _: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        if config.eta > 0.0 {
            outline.describe(format!("variance {} / (1 + t)^{}", config.eta, config.gamma));
        }
        Ok(())
    }
}

impl PluginSpec for GradientNoise {
    fn build(config: &Config, context: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        if config.eta > 0.0 {
            parts.plugin(Noise { config: config.clone(), seed: context.run.seed });
        }
        Ok(())
    }
}

/// The running part.
struct Noise {
    config: Config,
    seed: u64,
}

impl Plugin for Noise {
    fn gradients(&mut self, now: Moment, gradients: &mut Gradients<'_>) -> Result<(), BoxError> {
        let deviation = self.config.deviation(now.step);
        // The same on every rank, and in a resumed run: the noise depends on the seed and the attempt
        // alone. The engine seeds libtorch's generator anew before the next forward.
        let mut draws = generator(self.seed, Purpose(1000), 0, [now.attempt, 0]);
        tch::manual_seed((uniform(&mut draws) * i64::MAX as f64) as i64);
        for mut gradient in gradients.active()? {
            let _ = gradient.f_add_(&(gradient.f_randn_like()? * deviation))?;
        }
        Ok(())
    }
}
