//! What a program says on standard error when it fails.
use crate::RunError;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use trainyard::config::ConfigError;

/// Tells why the program failed: one sentence, or a configuration with the place underlined.
pub fn failure(error: &(dyn Error + 'static)) {
    tell(&told(error, colours(&io::stderr())));
}

/// Writes to standard error.
pub fn tell(text: &str) {
    // Where nobody reads standard error there is nobody to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The problems with the places in the text underlined.
pub fn underlined(error: &ConfigError, colours: bool) -> String {
    let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_links(false)
        .with_wrap_lines(false)
        .without_syntax_highlighting();
    let mut text = String::new();
    match handler.render_report(&mut text, error) {
        Ok(()) => text,
        Err(_) => format!("{error}\n"),
    }
}

/// Whether this stream shows colours: a terminal, unless NO_COLOR is set (<https://no-color.org>).
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn told(error: &(dyn Error + 'static), colours: bool) -> String {
    match configuration(error) {
        // Without a place to underline it is a sentence as any other.
        Some(error) if error.labels().is_some() => underlined(error, colours),
        _ => format!("error: {}\n", harmless(&error.to_string())),
    }
}

/// A text that may be somebody else's, such as a name in a file, without what would move a terminal's cursor.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !"\n\t".contains(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// The configuration error that `error` is, if it is one.
fn configuration<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e ConfigError> {
    let engine = match error.downcast_ref() {
        Some(RunError::Engine(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    match engine {
        Some(trainyard::Error::Config(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard::Registry;
    use trainyard::config::{Document, Layers, Source};

    fn wrong(text: &str) -> trainyard::Error {
        let document = Document::parse(Source::text("a.json", text)).expect("it is JSON");
        let plan = Registry::new().plan(Layers::new(document).overrides(["training.seed=-1"]));
        plan.map(drop).expect_err("the seed is wrong")
    }

    #[test]
    fn places_in_a_text_are_underlined() {
        let without = told(&wrong("{}"), false);
        assert!(without.starts_with("error: training.seed = -1 "), "{without}");
        assert_eq!(without.lines().count(), 1);
        let with = told(&wrong("{ \"training\": 3 }"), false);
        assert!(with.contains("a.json:1:15: training = 3 is a number"), "{with}");
        assert!(with.lines().count() > 3);
        assert_eq!(told(&RunError::from(wrong("{ \"training\": 3 }")), false), with);
    }

    #[test]
    fn names_of_others_do_not_command_the_terminal() {
        let error = RunError::Other("a\u{1b}[31m\tb\nc\u{9b}".to_owned());
        assert_eq!(told(&error, false), "error: a\u{fffd}[31m\tb\nc\u{fffd}\n");
    }
}
