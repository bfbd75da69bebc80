//! Where log lines go: JSON on stderr for the controller, words on stderr for everything else, both
//! filtered by `RUST_LOG`.

use std::panic::PanicHookInfo;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// The exit code after a panic, as Rust's own.
const PANICKED: i32 = 101;

/// One JSON object a line, from `info` on.
pub(super) fn json() {
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_span_list(false);
    // Somebody else's subscriber, in a process that embeds this one, is as good.
    let _ = lines.with_env_filter(filter(LevelFilter::INFO)).with_writer(std::io::stderr).try_init();
}

/// Words, only if `RUST_LOG` asks for them: a command tells its failures itself. Without colours.
pub(super) fn text() {
    let lines = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
    let _ = lines.with_env_filter(filter(LevelFilter::OFF)).with_writer(std::io::stderr).try_init();
}

/// `RUST_LOG`, else `default`; directives in it that make no sense are left out.
fn filter(default: LevelFilter) -> EnvFilter {
    EnvFilter::builder().with_default_directive(default.into()).from_env_lossy()
}

/// From now on a panic in any task ends the program, logged by where it happened: a controller
/// that has lost one of its tasks must be restarted, not limp on.
pub(super) fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, message = literal(panic), "the program has a defect; please report this");
        std::process::exit(PANICKED);
    }));
}

/// The panic's message if the source has it word for word. One that was formatted may hold what
/// must not be logged.
fn literal<'a>(panic: &PanicHookInfo<'a>) -> &'a str {
    panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown: it may hold data)")
}
