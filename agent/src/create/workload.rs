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

use super::executable::{self, words};
use super::home::home_of;
use super::report::{Report, Reporter};
use crate::spec::HOME_OF_USER;

/// Exit status of a program that was found and could not be executed, as runc
/// has it.
const EXEC_FAILED: i32 = 255;

/// See the module.
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

    /// Executes the program that was found by [`Executor::validate`]; the error
    /// is in the words of runc.
    pub fn become_program(&self, spec: &Spec) -> Result<Infallible, String> {
        let program = self.program.get().ok_or("the program was not looked for")?;
        let failed = |errno| format!("exec {}: {}", program.display(), words(errno));
        become_program(program, spec).map_err(failed)
    }

    fn refuse(&self, why: String) -> ExecutorValidationError {
        self.reporter.send(&Report::Refused(why.clone()));
        ExecutorValidationError::ArgValidationError(why)
    }
}

impl Executor for Workload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let name = process(spec)
            .and_then(|p| p.args().as_ref()?.first().cloned())
            .ok_or_else(|| self.refuse("the spec has no program".to_owned()))?;
        let env = environment(spec);
        let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
        let program = executable::find(&name, path).map_err(|why| self.refuse(why.to_string()))?;
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
        let Err(error) = self.become_program(spec);
        // Nobody but the reader of stderr listens any more.
        let _ = writeln!(std::io::stderr(), "{error}");
        std::process::exit(EXEC_FAILED);
    }
}

fn process(spec: &Spec) -> Option<&Process> {
    spec.process().as_ref()
}

/// The environment, each variable once with its last value, and HOME filled in.
fn environment(spec: &Spec) -> Vec<String> {
    let Some(process) = process(spec) else { return Vec::new() };
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

fn become_program(program: &Path, spec: &Spec) -> Result<Infallible, Errno> {
    let args = process(spec).and_then(|p| p.args().clone()).unwrap_or_default();
    let program = c_string(program.as_os_str())?;
    let args = args.iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let env = environment(spec).iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    // SAFETY: the default action is no function of this process. Rust ignores
    // SIGPIPE in its programs, and execve(2) would pass that on.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    execve(&program, &args, &env)
}

fn c_string(text: impl AsRef<OsStr>) -> Result<CString, Errno> {
    CString::new(text.as_ref().as_encoded_bytes()).map_err(|_| Errno::EINVAL)
}
