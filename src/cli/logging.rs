//! Where log lines go: JSON on stderr for the controller, words on stderr for everything else, both
//! filtered by `RUST_LOG`.

use std::{io, panic::PanicHookInfo};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::output::clean;

/// The exit code after a panic, as Rust's own.
const PANICKED: i32 = 101;

/// One JSON object a line, from `info` on.
pub(super) fn json() {
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_span_list(false);
    // Somebody else's subscriber, in a process that embeds this one, is as good.
    let _ = lines.with_env_filter(filter(LevelFilter::INFO)).with_writer(|| Lines(io::stderr())).try_init();
}

/// Words, only if `RUST_LOG` asks for them: a command tells its failures itself. Without colours.
pub(super) fn text() {
    let lines = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
    let _ = lines.with_env_filter(filter(LevelFilter::OFF)).with_writer(|| Lines(io::stderr())).try_init();
}

/// Makes each line harmless for a terminal, on which `kubectl logs` shows it too: what is logged may
/// hold what a remote said. The subscriber writes a line at once.
struct Lines<W>(W);

impl<W: io::Write> io::Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(format!("{}\n", clean(&text)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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

#[cfg(test)]
mod tests {
    use std::{
        process::Command,
        sync::{Arc, Mutex},
    };

    use super::*;

    const CANARY: &str = "canary-4f7a";
    const PANIC: &str = "HELIOSTAT_TEST_PANICS";

    /// In a process of its own, as a panic ends it.
    #[test]
    fn a14_a_panic_is_logged_without_what_it_says_of_data() {
        if std::env::var_os(PANIC).is_some() {
            json();
            end_on_panic();
            panic!("{CANARY} does not fit");
        }
        let test = "cli::logging::tests::a14_a_panic_is_logged_without_what_it_says_of_data";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(PANIC, "1").env("RUST_LOG", "trace");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(PANICKED), "{said}");
        assert!(said.contains("the program has a defect") && said.contains("logging.rs:"), "{said}");
        assert!(!said.contains(CANARY), "{said}");
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The same two ways to write a line as above, into memory.
    #[test]
    fn a11_no_line_of_a_log_steers_a_terminal_or_forges_another_line() {
        let evil = "x\u{1b}[2J\u{1b}]0;t\u{7}\n{\"level\":\"ERROR\"}\u{9b}1m";
        let log = Log::default();
        let writer = log.clone();
        let text = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
        tracing::subscriber::with_default(text.with_writer(move || Lines(writer.clone())).finish(), || {
            tracing::warn!(evil, %evil, "{evil}");
        });
        let writer = log.clone();
        let json = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || Lines(writer.clone()));
        tracing::subscriber::with_default(json.finish(), || tracing::warn!(evil, "{evil}"));
        let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
        let [text, json] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said:?}") };
        assert!(text.starts_with("WARN"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(json).unwrap()["level"], "WARN");
    }
}
