//! What the programs share: how they begin and how they end.
use crate::failure::{failure, tell};
use crate::progress::{OURS, Screen};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;
use std::sync::Mutex;
use tracing::debug;
use trainyard::{BoxError, panic_message};

/// An example's `main`: runs `body` with the log started, and tells its error in one sentence, on
/// standard error, with exit status 1. A configuration is shown with the place underlined.
pub fn run(body: impl FnOnce(&Screen) -> Result<(), BoxError>) -> ExitCode {
    // If it fails, the program only ends later.
    trainyard_native::skip_teardown().ok();
    let screen = Screen::default();
    screen.start_log(OURS, false);
    match guarded(|| body(&screen)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => failure(error.as_ref()),
        Err(panic) => {
            let line = panic.message.lines().next().unwrap_or_default();
            tell(&format!("error: a fault in this program: {line}\n"));
        }
    }
    ExitCode::FAILURE
}

/// A panic that came up to the program: a bug of ours. Shows where it was, and with a backtrace where
/// RUST_BACKTRACE asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// What it said.
    pub message: String,
    /// Where it was, and the backtrace.
    origin: String,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.message, self.origin)
    }
}

/// Where the last panic was.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Runs a program's body. From here on a panic is silent where somebody catches it, as the engine does
/// with those of a forward, for its own words would come on top of the error.
///
/// # Errors
/// A panic that nobody caught.
pub fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, Panic> {
    set_hook(Box::new(|panic| {
        debug!("{panic}");
        let mut origin = panic.location().map_or_else(String::new, |place| format!(" ({place})"));
        // Captured only where RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            origin += &format!("\n{backtrace}");
        }
        if let Ok(mut last) = LAST.lock() {
            *last = origin;
        }
    }));
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| Panic {
        message: panic_message(&*payload).trim_end().to_owned(),
        origin: LAST.lock().map_or_else(|_| String::new(), |last| last.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place() {
        assert_eq!(guarded(|| 3), Ok(3));
        let panic = guarded(|| panic!("seven of {}\n", 9)).map(drop).expect_err("it panics");
        assert_eq!(panic.message, "seven of 9");
        let told = panic.to_string();
        assert!(told.starts_with("seven of 9 (") && told.contains("program.rs:"), "{told}");
    }

    #[test]
    fn panics_and_errors_end_a_program_alike() {
        let failed = format!("{:?}", ExitCode::FAILURE);
        assert_eq!(format!("{:?}", run(|_| Err("no".into()))), failed);
        assert_eq!(format!("{:?}", run(|_| panic!("no"))), failed);
        assert_eq!(format!("{:?}", run(|_| Ok(()))), format!("{:?}", ExitCode::SUCCESS));
    }
}
