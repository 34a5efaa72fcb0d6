//! What is logged while something runs.
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tracing::Level;

/// What `run` returns, and what this thread logs meanwhile, of `level` and above.
///
/// # Panics
/// If `run` does.
pub fn logged<T>(level: Level, run: impl FnOnce() -> T) -> (T, String) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_max_level(level)
        .finish();
    let value = tracing::subscriber::with_default(subscriber, run);
    let text = log.0.lock().expect("nobody panicked with it").clone();
    (value, String::from_utf8(text).expect("it is text"))
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
