//! What the programs share: how they start their log and how they end.
use crate::progress::Screen;
use crate::run::RunError;
use miette::{Diagnostic, GraphicalReportHandler};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;
use tracing::debug;
use trainyard::Error;

/// A program's `main`: runs `body` with the log started, and tells its error in one sentence, on
/// standard error, with exit status 1. A configuration is shown with the place underlined.
pub fn run(body: impl FnOnce(&Screen) -> Result<(), RunError>) -> ExitCode {
    let screen = Screen::default();
    screen.start_log();
    // The engine turns a panic of the forward into an error; its own words would come on top.
    set_hook(Box::new(|panic| debug!("{panic}")));
    let done = catch_unwind(AssertUnwindSafe(|| body(&screen)));
    let message = match done {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => rendered(&error),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_else(|| "no message".to_owned());
            format!("error: a fault in this program: {}", text.lines().next().unwrap_or_default())
        }
    };
    eprintln!("{message}");
    ExitCode::FAILURE
}

/// The error as a program prints it.
pub fn rendered(error: &RunError) -> String {
    let plain = format!("error: {error}");
    let RunError::Engine(Error::Config(config)) = error else { return plain };
    if config.labels().is_none() {
        return plain;
    }
    let mut text = String::new();
    let shown = GraphicalReportHandler::new().render_report(&mut text, config as &dyn Diagnostic);
    if shown.is_ok() { text.trim_end().to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::registry;
    use trainyard::config::{Document, Layers, Source};

    fn message(text: &str) -> String {
        let plan = Document::parse(Source::text("a.json", text)).map_err(Error::from).and_then(
            |document| registry().plan(Layers::new(document).overrides(["training.seed=-1"])),
        );
        plan.map(drop).map_err(|e| rendered(&e.into())).expect_err("the seed is wrong")
    }

    #[test]
    fn places_in_a_text_are_underlined() {
        let without = message("{}");
        assert!(without.starts_with("error: training.seed = -1 "), "{without}");
        assert_eq!(without.lines().count(), 1);
        let with = message("{ \"model\": 3 }");
        assert!(with.contains("a.json:1:12: model = 3 is a number"), "{with}");
        assert!(with.lines().count() > 3);
    }

    #[test]
    fn panics_and_errors_end_a_program_alike() {
        let failed = format!("{:?}", ExitCode::FAILURE);
        assert_eq!(format!("{:?}", run(|_| Err(RunError::Other("no".to_owned())))), failed);
        assert_eq!(format!("{:?}", run(|_| panic!("no"))), failed);
        assert_eq!(format!("{:?}", run(|_| Ok(()))), format!("{:?}", ExitCode::SUCCESS));
    }
}
