//! A panic of the program, told as what it is: a bug of ours.
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;

/// Exit status of a bug, as a panic has it.
const BUG: u8 = 101;

/// What the last panic said.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Runs the program. A panic is silent where somebody catches it, as the engine does with those of a
/// forward; one that comes up to here is told in one sentence.
pub fn run(program: impl FnOnce() -> ExitCode) -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("a panic without a message");
        let place = panic.location().map_or_else(String::new, |place| format!(" ({place})"));
        let mut told = format!("{}{place}", message.trim_end());
        // Captured only where RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            told += &format!("\n{backtrace}");
        }
        if let Ok(mut last) = LAST.lock() {
            *last = told;
        }
    }));
    panic::catch_unwind(AssertUnwindSafe(program)).unwrap_or_else(|_| {
        let told = LAST.lock().map_or_else(|_| String::new(), |last| last.clone());
        let version = env!("CARGO_PKG_VERSION");
        // Where nobody reads standard error there is nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "internal error of trainyard {version}, please report it: {told}"
        );
        ExitCode::from(BUG)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_exit_status() {
        assert_eq!(format!("{:?}", run(|| ExitCode::SUCCESS)), format!("{:?}", ExitCode::SUCCESS));
        let code = run(|| panic!("seven of {}", 9));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(101)));
        let _ = panic::take_hook();
        let told = LAST.lock().unwrap().clone();
        assert!(told.starts_with("seven of 9 (") && told.contains("guard.rs:"), "{told}");
    }
}
