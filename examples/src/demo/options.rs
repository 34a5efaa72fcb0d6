//! The demo's flags, and the configurations they stand for.
use super::completion::SENTENCES;
use super::probe::OpenAndClosed;
use clap::Parser;
use std::env::vars_os;
use std::path::PathBuf;
use trainyard::config::{Document, Layers, Source};
use trainyard::{Plan, Registry};
use trainyard_models::pretraining::{registry, shipped};
use trainyard_run::RunError;

const SECTION: &str = "progressive_layer_drop";

/// Trains a small BERT twice, with Progressive Layer Dropping and without, and compares.
#[derive(Debug, Clone, Parser)]
#[command(name = "demo", version, after_help = EXAMPLES)]
pub struct Options {
    /// Text to train on: UTF-8, one document on each line, plain or compressed with Zstandard
    /// [default: the State of the Union addresses that come with the examples]
    #[arg(long, value_name = "FILE")]
    pub text: Option<String>,

    /// Configuration of the run with layer dropping; the other one is the same without
    /// [default: examples/demo.json]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Optimizer steps of each training, in place of the configuration's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub steps: Option<u64>,

    /// Layers of the model, in place of the configuration's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub layers: Option<u64>,

    /// Sentence that both models complete after the training, with `[MASK]` for the word left out; may be given
    /// more than once [default: five that the addresses know]
    #[arg(long, value_name = "SENTENCE")]
    pub complete: Vec<String>,

    /// Sets any value of the configuration; may be given more than once
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub overrides: Vec<String>,

    /// Folder for summary.json and curves.svg
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    pub output: PathBuf,
}

/// Sections that write to folders.
const MONITORS: [&str; 2] = ["tensorboard", "csv_monitor"];

const EXAMPLES: &str = "Examples:
  demo
  demo --text my.txt.zst --steps 200 --complete 'once upon a [MASK]'
  demo --layers 6 --set progressive_layer_drop.theta=0.7 --output target/shallow";

/// Three configurations, the same but for one section and where monitors write.
pub struct Plans {
    /// Without layer dropping.
    pub off: Plan,
    /// With it.
    pub on: Plan,
    /// Without it, and with all layers opened and closed in turn.
    pub probe: Plan,
}

impl Options {
    /// Reads the configuration, under the flags and the environment.
    ///
    /// # Errors
    /// Every problem of the configuration; if it does not drop layers.
    pub fn plans(&self) -> Result<Plans, RunError> {
        let path = self.config.clone().unwrap_or_else(|| shipped("demo.json"));
        let document = Document::parse(Source::read(path)?)?;
        let plan = |registry: Registry, more: Vec<String>| {
            let layers = Layers::new(document.clone()).environment(vars_os());
            registry.plan(layers.overrides(self.values()).overrides(more))
        };
        let on = plan(registry(), Vec::new())?;
        let of = |key: &str| on.config().value().get(SECTION).and_then(|section| section.get(key));
        if of("enabled").and_then(|enabled| enabled.as_bool()) != Some(true) {
            let message = "it is not enabled, and the demo compares a run with it to one without";
            return Err(on.invalid(SECTION, message).into());
        }
        if of("layers").is_some_and(|layers| !layers.is_null()) {
            let message = "the demo's promise is for all layers gated: leave `layers` out";
            return Err(on.invalid(&format!("{SECTION}.layers"), message).into());
        }
        let monitors: Vec<_> =
            MONITORS.into_iter().filter(|key| on.config().value().get(key).is_some()).collect();
        let named = |arm: &str| -> Vec<String> {
            monitors.iter().map(|key| format!("{key}.job_name=\"demo/{arm}\"")).collect()
        };
        let disabled = [format!("{SECTION}.enabled=false")];
        let off = plan(registry(), [&disabled[..], &named("off")].concat())?;
        let silent = monitors.iter().map(|key| format!("{key}.enabled=false"));
        let probing = silent.chain(disabled).chain(["open_and_closed={}".to_owned()]);
        let probe = plan(registry().add::<OpenAndClosed>(), probing.collect())?;
        let on = plan(registry(), named("on"))?;
        Ok(Plans { off, on, probe })
    }

    /// The sentences to complete.
    pub fn sentences(&self) -> Vec<String> {
        match &self.complete[..] {
            [] => SENTENCES.map(str::to_owned).into(),
            given => given.to_vec(),
        }
    }

    /// What the flags set in the configuration; the last one wins.
    fn values(&self) -> Vec<String> {
        let text = match (&self.text, &self.config) {
            (None, None) => Some(shipped("data/sotu.txt.zst").display().to_string()),
            (text, _) => text.clone(),
        };
        // Quoted, since `123` may be the name of a file.
        let text = text.map(|text| format!("data.text={}", serde_json::Value::from(text)));
        let steps = |n| ["training.epochs=null".to_owned(), format!("training.total_steps={n}")];
        let steps = self.steps.map(steps).into_iter().flatten();
        let layers = self.layers.map(|n| format!("model.layers={n}"));
        let flags = text.into_iter().chain(steps).chain(layers);
        flags.chain(self.overrides.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::parse_from([&["demo"], arguments].concat())
    }

    #[test]
    fn flags_reach_the_configurations() -> Result<(), RunError> {
        let flags = ["--steps", "7", "--layers", "3", "--text", "123", "--set", "training.seed=5"];
        let plans = options(&flags).plans()?;
        for plan in [&plans.off, &plans.on, &plans.probe] {
            let value = |path: &str| plan.config().value().pointer(path).cloned();
            assert_eq!(value("/model/layers"), Some(3.into()));
            assert_eq!(value("/data/text"), Some("123".into()));
            assert_eq!(plan.settings().training.total_steps, Some(7));
            assert_eq!(plan.settings().training.seed, 5);
        }
        Ok(())
    }

    #[test]
    fn the_arms_differ_in_one_value() -> Result<(), RunError> {
        let Plans { off, on, .. } = options(&[]).plans()?;
        let (mut off, on) = (off.config().value().clone(), on.config().value());
        assert_ne!(off, *on);
        off[SECTION]["enabled"] = true.into();
        assert_eq!(off, *on);
        Ok(())
    }

    #[test]
    fn each_arm_has_a_folder_of_its_own() -> Result<(), RunError> {
        let Plans { off, on, probe } = options(&["--set", "tensorboard.enabled=true"]).plans()?;
        let value = |plan: &Plan, key| plan.config().value()["tensorboard"][key].clone();
        assert_eq!([&off, &on].map(|plan| value(plan, "job_name")), ["demo/off", "demo/on"]);
        assert_eq!(value(&probe, "enabled"), false);
        Ok(())
    }

    #[test]
    fn a_comparison_needs_layer_dropping() {
        let message = |set| options(&["--set", set]).plans().err().map(|e| e.to_string());
        let off = message("progressive_layer_drop.enabled=false").unwrap_or_default();
        assert!(off.contains("progressive_layer_drop: it is not enabled"), "{off}");
        let some = message("progressive_layer_drop.layers=\"layers.1\"").unwrap_or_default();
        assert!(some.contains("leave `layers` out"), "{some}");
    }
}
