//! Logs, to standard error.
use std::io;
use tracing_subscriber::EnvFilter;
use trainyard_examples::progress::Screen;

/// Starts logging above the screen's progress bars: what RUST_LOG says, else information of our
/// crates and warnings of all others.
pub fn start(screen: &Screen, verbose: bool) {
    let level = if verbose { "debug" } else { "info" };
    let filter = match std::env::var_os(EnvFilter::DEFAULT_ENV) {
        Some(set) if !set.is_empty() => EnvFilter::from_default_env(),
        // A target begins with its crate's name, and the names of our crates with this.
        _ => EnvFilter::new(format!("warn,trainyard={level}")),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(screen.clone())
        .with_ansi(crate::output::colours(&io::stderr()))
        .log_internal_errors(false)
        .with_target(verbose);
    if verbose { log.init() } else { log.without_time().init() }
}
