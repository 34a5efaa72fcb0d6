//! Any bytes as a configuration: read, laid under the environment and the command line, checked, planned, explained,
//! rewritten, and every error printed with what it underlines.
#![no_main]
use libfuzzer_sys::fuzz_target;
use miette::{Diagnostic, NarratableReportHandler};
use std::sync::LazyLock;
use trainyard::config::{Document, Layers, Source};
use trainyard::{Registry, World};

static REGISTRY: LazyLock<Registry> = LazyLock::new(trainyard_plugins::registry);

fn print(error: &dyn Diagnostic) {
    let mut text = String::new();
    NarratableReportHandler::new().render_report(&mut text, error).expect("a String takes it");
    assert!(!text.contains("Failed to read contents"), "{text}");
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let document = match Document::parse(Source::text("run.json", text)) {
        Ok(document) => document,
        Err(error) => return print(&error),
    };
    let layers = Layers::new(document)
        .environment([("TRAINYARD__FP16__ENABLED", text)])
        .overrides(["optimizer.params.lr=1", text]);
    match REGISTRY.plan_in(World::default(), layers) {
        Ok(plan) => {
            let _ = plan.batch_sizes(8);
            let _ = plan.explain(&trainyard::Layers::new(), Vec::new());
            assert!(plan.left_out().iter().all(|note| !note.to_string().is_empty()));
        }
        Err(error) => print(&error),
    }
});
