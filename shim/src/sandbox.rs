//! The Sandbox service (containerd 2.x, `sandboxer = "shim"`): a pod that exists
//! before its containers and outlives them.

mod config;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
    PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
    SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest,
    StartSandboxResponse, StopSandboxRequest, StopSandboxResponse, WaitSandboxRequest,
    WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_async::Sandbox;
use containerd_shim_protos::types::platform::Platform;
use sandbox_runtime::Pod;
use tracing::{Instrument, info, instrument};
use ttrpc::Code;
use ttrpc::r#async::TtrpcContext;

use crate::error::{of_runtime, status};
use crate::event::timestamp;
use crate::metrics;
use crate::service::Service;
use crate::stage::{DIED, SandboxState, Stage};

/// Exit status of a sandbox that was stopped.
const STOPPED: u32 = 0;

/// The states of a sandbox in the CRI.
const READY: &str = "SANDBOX_READY";
const NOT_READY: &str = "SANDBOX_NOTREADY";

#[derive(Clone)]
pub struct SandboxService {
    service: Arc<Service>,
}

impl SandboxService {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    fn state(&self) -> &SandboxState {
        self.service.sandbox()
    }

    /// Refuses another sandbox's id: a shim has one.
    fn check(&self, id: &str) -> ttrpc::Result<()> {
        if self.service.is_sandbox(id) {
            return Ok(());
        }
        Err(status(Code::NOT_FOUND, format!("sandbox {id:?}: not found")))
    }

    fn pod(&self, id: &str) -> ttrpc::Result<&Pod> {
        self.check(id)?;
        self.service.pod().ok_or_else(|| {
            status(Code::FAILED_PRECONDITION, format!("sandbox {id:?}: it could not be made"))
        })
    }

    async fn make(self, request: CreateSandboxRequest) -> ttrpc::Result<()> {
        let id = &request.sandbox_id;
        let own = self.service.pod_id().id();
        if id != own {
            let text = format!("sandbox {id:?}: this is the shim of {own:?}");
            return Err(status(Code::INVALID_ARGUMENT, text));
        }
        let bundle = self.service.bundle();
        let spec = config::pod_spec(&request, bundle.dir(), bundle.has_spec())
            .map_err(|error| status(Code::INVALID_ARGUMENT, sandbox_runtime::chain(&error)))?;
        let is_first = |stage| (stage == Stage::None).then_some(Stage::Created);
        if !self.state().advance(is_first) {
            return Err(status(Code::ALREADY_EXISTS, format!("sandbox {id:?}: already exists")));
        }
        match self.service.boot_as(spec).await {
            Ok(pod) => {
                let (this, pod) = (self.clone(), pod.clone());
                tokio::spawn(async move {
                    pod.ended().await;
                    this.state().end(DIED);
                });
                Ok(())
            }
            Err(error) => {
                self.state().end(DIED);
                Err(of_runtime(&error))
            }
        }
    }

    async fn start(&self, id: &str) -> ttrpc::Result<StartSandboxResponse> {
        let pod = self.pod(id)?;
        if self.state().stage() != Stage::Created {
            let text = format!("sandbox {id:?}: it was started before");
            return Err(status(Code::FAILED_PRECONDITION, text));
        }
        pod.ready().await.map_err(|error| of_runtime(&error))?;
        let now = SystemTime::now();
        let is_created = |stage| (stage == Stage::Created).then_some(Stage::Started(now));
        if !self.state().advance(is_created) {
            let text = format!("sandbox {id:?}: it was started or ended meanwhile");
            return Err(status(Code::FAILED_PRECONDITION, text));
        }
        Ok(StartSandboxResponse {
            pid: pod.pid(),
            created_at: MessageField::some(timestamp(now)),
            ..Default::default()
        })
    }

    fn status(&self, id: &str, verbose: bool) -> ttrpc::Result<SandboxStatusResponse> {
        self.check(id)?;
        let (state, since, exit) = match self.state().stage() {
            Stage::Started(since) => (READY, Some(since), None),
            Stage::Ended(since, exit) => (NOT_READY, since, Some(exit)),
            Stage::None | Stage::Created => (NOT_READY, None, None),
        };
        let containers = self.service.pod().map(Pod::containers).unwrap_or_default();
        let info = [
            ("runtime", crate::info::RUNTIME.to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("containers", containers.join(" ")),
        ];
        let info = info.into_iter().map(|(name, value)| (name.to_owned(), value));
        Ok(SandboxStatusResponse {
            sandbox_id: id.to_owned(),
            pid: self.service.pod().map_or(0, Pod::pid),
            state: state.to_owned(),
            info: if verbose { info.collect() } else { HashMap::new() },
            created_at: since.map(timestamp).into(),
            exited_at: exit.map(|exit| timestamp(exit.at)).into(),
            ..Default::default()
        })
    }

    /// The sum of what the containers have used.
    async fn metrics(&self, id: &str) -> ttrpc::Result<SandboxMetricsResponse> {
        let pod = self.pod(id)?;
        let mut all = Vec::new();
        for container in pod.containers() {
            // One that goes away meanwhile has no part in it.
            if let Ok(files) = pod.stats(&container).await {
                all.push(files);
            }
        }
        let together = metrics::of(&metrics::sum(&all));
        let mut response = SandboxMetricsResponse::default();
        let metric = response.metrics.mut_or_insert_default();
        metric.timestamp = MessageField::some(timestamp(SystemTime::now()));
        metric.id = id.to_owned();
        metric.data = MessageField::some(metrics::any(&together));
        Ok(response)
    }
}

/// The guest's platform, named as containerd names it.
fn platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), ..Default::default() }
}

/// The file with a sandbox's DNS servers.
fn resolv_conf(bundle: &Path) -> std::path::PathBuf {
    bundle.join("resolv.conf")
}

#[async_trait]
impl Sandbox for SandboxService {
    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> ttrpc::Result<CreateSandboxResponse> {
        info!("create sandbox");
        // To its end even if its client goes away: see the Task service.
        let made = tokio::spawn(self.clone().make(request).in_current_span()).await;
        made.map_err(|error| status(Code::INTERNAL, error.to_string()))??;
        Ok(CreateSandboxResponse::default())
    }

    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> ttrpc::Result<StartSandboxResponse> {
        info!("start sandbox");
        self.start(&request.sandbox_id).await
    }

    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn platform(
        &self,
        _: &TtrpcContext,
        request: PlatformRequest,
    ) -> ttrpc::Result<PlatformResponse> {
        self.check(&request.sandbox_id)?;
        Ok(PlatformResponse { platform: MessageField::some(platform()), ..Default::default() })
    }

    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> ttrpc::Result<StopSandboxResponse> {
        let id = &request.sandbox_id;
        info!("stop sandbox");
        self.check(id)?;
        self.state().end(STOPPED);
        if let Some(pod) = self.service.pod() {
            // Bounded in time, whatever the guest does.
            pod.shutdown().await;
        }
        Ok(StopSandboxResponse::default())
    }

    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> ttrpc::Result<WaitSandboxResponse> {
        self.check(&request.sandbox_id)?;
        let exit = self.state().ended().await;
        Ok(WaitSandboxResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        })
    }

    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> ttrpc::Result<SandboxStatusResponse> {
        self.status(&request.sandbox_id, request.verbose)
    }

    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn ping_sandbox(
        &self,
        _: &TtrpcContext,
        request: PingRequest,
    ) -> ttrpc::Result<PingResponse> {
        let id = &request.sandbox_id;
        self.pod(id)?.ready().await.map_err(|error| of_runtime(&error))?;
        Ok(PingResponse::default())
    }

    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> ttrpc::Result<ShutdownSandboxResponse> {
        let id = &request.sandbox_id;
        info!("shut the sandbox down");
        // containerd calls it after a failed CreateSandbox, too.
        if *id != self.service.pod_id().id() {
            return Err(status(Code::NOT_FOUND, format!("sandbox {id:?}: not found")));
        }
        self.state().end(STOPPED);
        self.service.end().await;
        Ok(ShutdownSandboxResponse::default())
    }

    #[instrument(level = "error", skip_all, fields(sandbox = request.sandbox_id))]
    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> ttrpc::Result<SandboxMetricsResponse> {
        self.metrics(&request.sandbox_id).await
    }
}
