//! The OCI hooks of a container of the pod.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::hooks::{Hooks, Marker, Phase};
use crate::network::NetworkError;

/// A container's hooks, and whether poststop hooks are still to run. Where this
/// process cannot run them, the cleanup of the pod's directory does.
#[derive(Clone)]
pub(super) struct ContainerHooks {
    inner: Arc<Inner>,
}

struct Inner {
    hooks: Hooks,
    dir: PathBuf,
    /// Set from the first hook until the poststop hooks have run.
    marker: Mutex<Option<Marker>>,
}

impl ContainerHooks {
    /// Hooks of which none was run. `dir` is for markers.
    pub fn new(hooks: Hooks, dir: PathBuf) -> Self {
        Self { inner: Arc::new(Inner { hooks, dir, marker: Mutex::default() }) }
    }

    /// Whether any hook is run before the container is created.
    pub fn has_create(&self) -> bool {
        self.inner.hooks.has(Phase::Create)
    }

    /// Runs the hooks that come before the container. After a failure the
    /// poststop hooks run at once.
    pub async fn created(&self, pid: u32) -> Result<(), Error> {
        let created = self.blocking(move |inner| inner.created(pid)).await;
        if created.is_err() {
            self.stopped().await;
        }
        created
    }

    /// Runs the poststart hooks. A failure is logged: the container runs.
    pub async fn started(&self, pid: u32) {
        if self.inner.hooks.has(Phase::Poststart) {
            let _ =
                self.blocking(move |inner| Ok(inner.hooks.run(Phase::Poststart, pid, None)?)).await;
        }
    }

    /// Runs the poststop hooks, once.
    pub async fn stopped(&self) {
        let _ = self.blocking(Inner::stopped).await;
    }

    async fn blocking(
        &self,
        work: impl FnOnce(&Inner) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        spawn_blocking(move || work(&inner)).await.unwrap_or(Err(NetworkError::Cut.into()))
    }
}

impl Inner {
    fn created(&self, pid: u32) -> Result<(), Error> {
        if !self.hooks.has(Phase::Create) && !self.hooks.has(Phase::Poststop) {
            return Ok(());
        }
        let path = self.dir.join(self.hooks.container());
        let marker = Marker::set(&self.dir, self.hooks.container(), self.hooks.bundle());
        let failed = |source| NetworkError::File { what: "write", path, source };
        *self.marker.lock() = Some(marker.map_err(failed)?);
        Ok(self.hooks.run(Phase::Create, pid, None)?)
    }

    fn stopped(&self) -> Result<(), Error> {
        let marker = self.marker.lock().take();
        if let Some(marker) = marker {
            // What fails is logged.
            let _ = self.hooks.run(Phase::Poststop, 0, None);
            marker.remove();
        }
        Ok(())
    }
}
