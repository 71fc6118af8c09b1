//! Log lines on stderr, which is the shim's log: those of `tracing`, and those
//! that libraries write by `log`.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Most lines in [`WINDOW`]: what a guest provokes must not fill the host's disk.
const MAX_LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);
/// Longest line, for the same reason.
const MAX_LINE: usize = 2048;
/// The variable of the level, which the shim passes: the only one.
const LEVEL: &str = "SANDBOX_LOG";

/// The sandbox's id, once the launch message has named it. A field of each
/// line and not a span: threads of libraries are in none.
static SANDBOX: OnceLock<String> = OnceLock::new();

/// Writes events of the level in `SANDBOX_LOG`, or else of level info, and
/// above to stderr, a line each, named after `process`.
pub fn install(process: &'static str) {
    let level = std::env::var(LEVEL).ok().and_then(|level| level.parse().ok());
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .event_format(Line { process })
        .with_writer(Bounded { process, window: Mutex::new(None) });
    // Fails only if there is a subscriber. Takes records of `log`, too.
    let _ = subscriber.try_init();
}

/// Adds the sandbox's id to all lines from now on.
pub fn name_sandbox(id: &str) {
    if !id.is_empty() {
        let _ = SANDBOX.set(id.to_owned());
    }
}

struct Line {
    process: &'static str,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        write!(writer, "sandbox-vmm {}: {level}: ", self.process)?;
        context.format_fields(writer.by_ref(), event)?;
        match SANDBOX.get() {
            Some(sandbox) => writeln!(writer, " sandbox={sandbox}"),
            None => writer.write_char('\n'),
        }
    }
}

/// stderr, with a bound.
struct Bounded {
    process: &'static str,
    window: Mutex<Option<Window>>,
}

struct Window {
    began: Instant,
    lines: u32,
    dropped: u64,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Write it, after a line with the number of those that were dropped.
    Write {
        dropped: u64,
    },
    Drop,
}

impl Window {
    fn admit(window: &mut Option<Window>, now: Instant) -> Verdict {
        match window {
            Some(open) if now.duration_since(open.began) < WINDOW => {
                if open.lines == MAX_LINES {
                    open.dropped += 1;
                    return Verdict::Drop;
                }
                open.lines += 1;
                Verdict::Write { dropped: 0 }
            }
            _ => {
                let dropped = window.as_ref().map_or(0, |w| w.dropped);
                *window = Some(Window { began: now, lines: 1, dropped: 0 });
                Verdict::Write { dropped }
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Bounded {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Bounded {
    /// Gets each event as a whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if let Verdict::Write { dropped } = Window::admit(&mut window, Instant::now()) {
            if dropped > 0 {
                let line = format!("sandbox-vmm {}: {dropped} lines dropped", self.process);
                io::stderr().write_all(&one_line(line.as_bytes()))?;
            }
            io::stderr().write_all(&one_line(event))?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For one write, so that lines of several processes do not mix.
fn one_line(event: &[u8]) -> Vec<u8> {
    let text = event.strip_suffix(b"\n").unwrap_or(event);
    let bytes = text.iter().take(MAX_LINE);
    let mut line: Vec<u8> =
        bytes.map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let (mut window, now) = (None, Instant::now());
        let written = (0..1000)
            .filter(|_| Window::admit(&mut window, now) == Verdict::Write { dropped: 0 })
            .count();
        assert_eq!(written, MAX_LINES as usize);
        let later = now + WINDOW;
        let dropped = 1000 - u64::from(MAX_LINES);
        assert_eq!(Window::admit(&mut window, later), Verdict::Write { dropped });
        assert_eq!(Window::admit(&mut window, later), Verdict::Write { dropped: 0 });
    }

    #[test]
    fn an_event_is_one_line_of_a_bounded_length() {
        assert_eq!(one_line(b"a\nb\r\n"), b"a b \n");
        assert_eq!(one_line(&[b'x'; 2 * MAX_LINE]).len(), MAX_LINE + 1);
    }

    /// Collects what is written.
    #[derive(Clone, Default)]
    struct Collected(std::sync::Arc<Mutex<Vec<u8>>>);

    impl Write for Collected {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn fields_follow_the_message() {
        let collected = Collected::default();
        let writer = collected.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Line { process: "io" })
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), || {
            tracing::warn!(device = "fs", "cannot answer");
        });
        let text = String::from_utf8(collected.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("sandbox-vmm io: warn: cannot answer device=\"fs\""), "{text}");
    }
}
