//! `freeze`: stops training some parameters from a step on.
use schemars::JsonSchema;
use serde::Deserialize;
use trainyard::{BoxError, BuildContext, Context, Gradients, Invalid, Moment, Outline, Parts, Pattern, Plugin, PluginSpec, Report, Section};

/// Stops training some parameters.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Freeze")]
pub struct Config {
    /// Which parameters: a pattern on their names, such as "embed.*".
    parameters: String,
    /// The first step that leaves them as they are.
    #[serde(default)]
    from_step: u64,
}

pub struct Freeze {
    names: Vec<String>,
    from_step: u64,
    frozen: usize,
}

impl Section for Freeze {
    const KEYS: &'static [&'static str] = &["freeze"];
    type Config = Config;

    fn outline(
        config: &Config,
        context: &Context,
        outline: &mut Outline,
    ) -> Result<(), BoxError> {
        let Config { parameters, from_step } = config;
        let names = config.names(context);
        if names.is_empty() {
            let message = format!("parameters = {parameters:?} matches no parameter");
            return Err(Invalid::at("parameters", message).into());
        }
        outline.describe(format!("{} parameters from step {from_step}", names.len()));
        Ok(())
    }
}

impl PluginSpec for Freeze {
    fn build(config: &Config, context: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        let (names, from_step) = (config.names(&context.run), config.from_step);
        parts.plugin(Freeze { names, from_step, frozen: 0 });
        Ok(())
    }
}

impl Config {
    /// The parameters that the pattern matches.
    fn names(&self, context: &Context) -> Vec<String> {
        let pattern = Pattern::new(&self.parameters);
        context.parameters.iter().filter(|name| pattern.matches(name)).cloned().collect()
    }
}

impl Plugin for Freeze {
    fn gradients(&mut self, now: Moment, gradients: &mut Gradients<'_>) -> Result<(), BoxError> {
        self.frozen = 0;
        if now.step >= self.from_step {
            self.frozen = self.names.iter().filter(|name| gradients.take_out(name)).count();
        }
        Ok(())
    }

    fn end_step(&mut self, report: &mut Report) -> Result<(), BoxError> {
        report.metrics.insert("frozen".to_owned(), self.frozen as f64);
        Ok(())
    }
}
