//! The end of a container's set-up: finding its program, and becoming it.
//!
//! Runs in the container's first process, in its namespaces, as its user.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::execve;
use oci_spec::runtime::{Process, Spec};

use super::executable::{self, LookError, words};
use super::home::home_of;
use super::report::{Report, Reporter};
use crate::spec::HOME_OF_USER;

/// Exit status of a program that was found and could not be executed, as runc
/// has it.
const EXEC_FAILED: i32 = 255;

/// A program that cannot be run, in the words of runc.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("the spec has no program")]
    Missing,
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("exec {}: {}", program.display(), words(*errno))]
    Exec { program: PathBuf, errno: Errno },
}

/// Finds the program of `process` in the root directory of the caller.
pub fn find(process: &Process) -> Result<PathBuf, ProgramError> {
    let name =
        process.args().as_ref().and_then(|args| args.first()).ok_or(ProgramError::Missing)?;
    let env = environment(process);
    let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    Ok(executable::find(name, path)?)
}

/// Executes the program that [`find`] found.
pub fn become_program(program: &Path, process: &Process) -> Result<Infallible, ProgramError> {
    let failed = |errno| ProgramError::Exec { program: program.to_owned(), errno };
    execute(program, process).map_err(failed)
}

/// The end of a first process's set-up, for libcontainer.
#[derive(Clone)]
pub struct Workload {
    reporter: Rc<Reporter>,
    program: OnceCell<PathBuf>,
}

impl Workload {
    /// One that reports to the agent.
    pub fn new(reporter: Reporter) -> Self {
        Self { reporter: Rc::new(reporter), program: OnceCell::new() }
    }
}

impl Executor for Workload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let found = spec.process().as_ref().ok_or(ProgramError::Missing).and_then(find);
        let program = found.map_err(|error| {
            let why = error.to_string();
            self.reporter.send(&Report::Refused(why.clone()));
            ExecutorValidationError::ArgValidationError(why)
        })?;
        // Set once: libcontainer validates once.
        let _ = self.program.set(program);
        Ok(())
    }

    /// The environment goes to execve(2) as it is; this process keeps its own,
    /// which is empty.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let program = self.program.get().zip(spec.process().as_ref());
        let Err(error) = program
            .ok_or(ProgramError::Missing)
            .and_then(|(program, process)| become_program(program, process));
        // The container was created: the error has its stderr to go to alone.
        let _ = writeln!(std::io::stderr(), "{error}");
        std::process::exit(EXEC_FAILED);
    }
}

/// The environment, each variable once with its last value, and HOME filled in.
fn environment(process: &Process) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut last: HashMap<String, String> = HashMap::new();
    let mut order = Vec::new();
    for variable in process.env().iter().flatten() {
        if last.insert(name(variable), variable.clone()).is_none() {
            order.push(name(variable));
        }
    }
    let value = |name: String| last.remove(&name);
    let env = order.into_iter().filter_map(value);
    env.map(|variable| match variable.as_str() {
        HOME_OF_USER => format!("HOME={}", home_of(process.user().uid(), Path::new("/etc/passwd"))),
        _ => variable,
    })
    .collect()
}

fn execute(program: &Path, process: &Process) -> Result<Infallible, Errno> {
    let args = process.args().iter().flatten();
    let program = c_string(program.as_os_str())?;
    let args = args.map(c_string).collect::<Result<Vec<_>, _>>()?;
    let env = environment(process).iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    // SAFETY: the default action is no function of this process. Rust ignores
    // SIGPIPE in its programs, and execve(2) would pass that on.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    execve(&program, &args, &env)
}

fn c_string(text: impl AsRef<OsStr>) -> Result<CString, Errno> {
    CString::new(text.as_ref().as_encoded_bytes()).map_err(|_| Errno::EINVAL)
}
