//! Makes a container: the child's side, a process of one thread.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::Mode;
use rustix::process::umask;
use tracing_subscriber::fmt::MakeWriter;

use super::report::{Report, Reporter};
use super::workload::Workload;
use crate::paths;

/// Creates the container of `bundle` and reports to the agent how it went.
pub fn run(bundle: &Path) -> ExitCode {
    let reporter = match Reporter::connect(bundle) {
        Ok(reporter) => reporter,
        Err(error) => {
            eprintln!("sandbox-agent: reaching the agent from {bundle:?}: {error}");
            return ExitCode::FAILURE;
        }
    };
    match create(bundle, &reporter) {
        Ok(pid) => {
            reporter.send(&Report::Created(pid));
            ExitCode::SUCCESS
        }
        Err(error) => {
            reporter.send(&Report::Failed(error));
            ExitCode::FAILURE
        }
    }
}

fn create(bundle: &Path, reporter: &Reporter) -> Result<i32, String> {
    // What the kernel gives process 1, and runc its containers.
    umask(Mode::from_raw_mode(0o022));
    collect_log(reporter).map_err(|error| error.to_string())?;
    let workload = Workload::new(reporter.duplicate().map_err(|error| error.to_string())?);
    let built = build(bundle, workload).map_err(|error| with_sources(&error))?;
    built.ok_or_else(|| "libcontainer gave no process number".to_owned())
}

fn build(bundle: &Path, workload: Workload) -> Result<Option<i32>, LibcontainerError> {
    let id = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let console = bundle.join(paths::CONSOLE_SOCKET);
    let container = ContainerBuilder::new(id, SyscallType::default())
        .with_executor(workload)
        .with_root_path(paths::STATE_DIR)?
        .with_console_socket(console.exists().then_some(console))
        .validate_id()?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    Ok(container.pid().map(|pid| pid.as_raw()))
}

/// An error with its causes, each once.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Sends what libcontainer logs as an error to the agent. Errors lose their
/// causes on the way between libcontainer's processes; its log has them.
fn collect_log(reporter: &Reporter) -> io::Result<()> {
    let writer = LogWriter(reporter.duplicate()?);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)
}

struct LogWriter(Reporter);

struct LogLine<'a>(&'a Reporter);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine(&self.0)
    }
}

/// The subscriber writes each event at once.
impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(&Report::Logged(String::from_utf8_lossy(line).trim_end().to_owned()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
