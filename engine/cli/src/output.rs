//! What the program prints: results to standard output, what went wrong to standard error.
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use trainyard::config::ConfigError;
use trainyard_examples::run::RunError;

/// How a result is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For reading.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Writes to standard output. That a reader such as `head` left is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(io::Error::other(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Tells on standard error why the program failed.
pub fn failure(error: &(dyn Error + 'static)) {
    let stderr = io::stderr();
    let told = match configuration(error) {
        // Without a place to underline it is a sentence as any other.
        Some(error) if error.labels().is_some() => underlined(error, colours(&stderr)),
        _ => format!("error: {error}\n"),
    };
    // Where nobody reads standard error there is nobody to tell.
    let _ = stderr.lock().write_all(told.as_bytes());
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

/// Columns of the terminal; 72 where there is none.
pub fn width() -> usize {
    let columns = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
    columns.unwrap_or(72).clamp(40, 120)
}

/// `text` broken at spaces, with every line but the first behind `indent` spaces.
pub fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let room = width.saturating_sub(indent).max(20);
    let mut lines = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            let _ = write!(lines, "\n{:indent$}", "");
            used = 0;
        } else if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines
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

    #[test]
    fn long_text_is_broken_at_spaces() {
        assert_eq!(wrapped("one two three four five", 4, 24), "one two three four\n    five");
        assert_eq!(wrapped("one  two", 0, 72), "one two");
        assert_eq!(wrapped(&"x".repeat(50), 0, 40), "x".repeat(50), "a long word stays whole");
    }
}
