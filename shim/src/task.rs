//! The Task service: parse, call the pod, push the event, reply.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::events::task::TaskCreate;
use containerd_shim_protos::protobuf::{EnumOrUnknown, MessageField};
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::types::task::{ProcessInfo, Status as TaskStatus};
use sandbox_runtime::{
    CreateContainer, Error, ErrorKind, ExecProcess, Exit, Pod, ProcessRef, RootfsMount, Status,
    Stdio,
};
use tracing::{Instrument, info, instrument};
use ttrpc::Code;
use ttrpc::r#async::TtrpcContext;

use crate::error::{of_options, of_runtime, status, unimplemented};
use crate::event::{self, Event, timestamp};
use crate::metrics;
use crate::options;
use crate::payload;
use crate::service::Service;

/// How long a Delete waits for the exit event of its container, which comes
/// before its own.
const EXIT_EVENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The calls of containerd, both as Task v2 and as v3: their messages are the
/// same on the wire.
#[derive(Clone)]
pub struct TaskService {
    service: Arc<Service>,
}

impl TaskService {
    /// Calls on this shim.
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    fn pod(&self, container: &str) -> ttrpc::Result<&Pod> {
        self.service.pod().ok_or_else(|| not_found(container))
    }

    async fn create_container(self, request: api::CreateTaskRequest) -> ttrpc::Result<u32> {
        let Some(_creating) = self.service.begin_create() else {
            return Err(status(Code::UNAVAILABLE, "the shim is ending"));
        };
        let id = request.id.clone();
        let pod = self.service.boot().await.map_err(|error| of_runtime(&error))?;
        let event = create_event(&request, pod.pid());
        let ledger = self.service.ledger();
        let process = ProcessRef::init(&id);
        ledger.hold(&process);
        match pod.create_container(create_container(request)).await {
            Ok(pid) => {
                ledger.release(&process, Some(Event::created(&event)));
                Ok(pid)
            }
            Err(error) => {
                match error.kind() {
                    // The container of that id goes on.
                    ErrorKind::AlreadyExists => ledger.release(&process, None),
                    _ => ledger.forget(&id),
                }
                Err(of_runtime(&error))
            }
        }
    }

    /// Awaits a call of the runtime. Events of the process that it is about wait
    /// for it, so that the call's own event comes before them.
    async fn ordered<T>(
        &self,
        process: &ProcessRef,
        call: impl Future<Output = Result<T, Error>>,
        event: impl FnOnce(&T) -> Event,
    ) -> ttrpc::Result<T> {
        let ledger = self.service.ledger();
        ledger.hold(process);
        let result = call.await;
        ledger.release(process, result.as_ref().ok().map(event));
        result.map_err(|error| of_runtime(&error))
    }

    async fn start_process(self, process: ProcessRef) -> ttrpc::Result<u32> {
        let call = self.pod(&process.container)?.start(&process);
        self.ordered(&process, call, |pid| Event::started(&process, *pid)).await
    }

    async fn add_exec(self, request: api::ExecProcessRequest) -> ttrpc::Result<()> {
        let spec = payload::process(request.spec.into_option()).map_err(|error| {
            status(Code::INVALID_ARGUMENT, format!("exec {:?}: {error}", request.exec_id))
        })?;
        let process = ProcessRef::named(request.id, request.exec_id);
        let exec = ExecProcess {
            process: process.clone(),
            spec,
            stdio: Stdio {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
        };
        let call = self.pod(&process.container)?.exec(exec);
        self.ordered(&process, call, |()| Event::exec_added(&process)).await
    }

    async fn pause_container(self, id: String) -> ttrpc::Result<()> {
        let call = self.pod(&id)?.pause(&id);
        self.ordered(&ProcessRef::init(&id), call, |()| Event::paused(&id)).await
    }

    async fn resume_container(self, id: String) -> ttrpc::Result<()> {
        let call = self.pod(&id)?.resume(&id);
        self.ordered(&ProcessRef::init(&id), call, |()| Event::resumed(&id)).await
    }

    async fn update_container(self, request: api::UpdateTaskRequest) -> ttrpc::Result<()> {
        let id = request.id;
        let resources = payload::resources(request.resources.into_option());
        let resources =
            resources.map_err(|error| status(Code::INVALID_ARGUMENT, error.to_string()))?;
        let updated = self.pod(&id)?.update(&id, resources).await;
        updated.map_err(|error| of_runtime(&error))
    }

    async fn delete_process(self, process: ProcessRef) -> ttrpc::Result<(u32, Exit)> {
        let id = &process.container;
        let pod = self.pod(id)?;
        let pid = pod.pid();
        let exit = pod.delete(&process).await.map_err(|error| of_runtime(&error))?;
        if process.exec.is_none() {
            let event = Event::deleted(id, pid, exit);
            self.service.ledger().deleted(id, event, EXIT_EVENT_TIMEOUT).await;
        }
        Ok((pid, exit))
    }
}

/// Runs a call to its end even if its client goes away: containerd may stop at
/// any time, and the next one must find the container created or not, and its
/// events.
async fn run_to_end<T: Send + 'static>(
    call: impl Future<Output = ttrpc::Result<T>> + Send + 'static,
) -> ttrpc::Result<T> {
    let done = tokio::spawn(call.in_current_span()).await;
    done.map_err(|error| status(Code::INTERNAL, error.to_string()))?
}

fn create_event(request: &api::CreateTaskRequest, pid: u32) -> TaskCreate {
    let io = event::io(&request.stdin, &request.stdout, &request.stderr, request.terminal);
    TaskCreate {
        container_id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: request.rootfs.clone(),
        io: MessageField::some(io),
        checkpoint: request.checkpoint.clone(),
        pid,
        ..Default::default()
    }
}

fn create_container(request: api::CreateTaskRequest) -> CreateContainer {
    let rootfs = request.rootfs.into_iter().map(|mount| RootfsMount {
        kind: mount.type_,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    });
    CreateContainer {
        id: request.id,
        bundle: request.bundle.into(),
        rootfs: rootfs.collect(),
        stdio: Stdio {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        },
    }
}

fn not_found(container: &str) -> ttrpc::Error {
    status(Code::NOT_FOUND, format!("container {container:?}: not found"))
}

fn task_status(status: Status) -> TaskStatus {
    match status {
        Status::Created => TaskStatus::CREATED,
        Status::Running => TaskStatus::RUNNING,
        Status::Paused => TaskStatus::PAUSED,
        Status::Stopped => TaskStatus::STOPPED,
    }
}

#[async_trait]
impl Task for TaskService {
    #[instrument(level = "error", skip_all, fields(container = request.id))]
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> ttrpc::Result<api::CreateTaskResponse> {
        info!("create");
        options::read(request.options.as_ref()).map_err(|error| of_options(&error))?;
        if !request.checkpoint.is_empty() {
            return Err(status(
                Code::INVALID_ARGUMENT,
                "io.sandbox.v1 does not restore containers from checkpoints",
            ));
        }
        let pid = run_to_end(self.clone().create_container(request)).await?;
        Ok(api::CreateTaskResponse { pid, ..Default::default() })
    }

    #[instrument(level = "error", skip_all, fields(container = request.id, exec = request.exec_id))]
    async fn start(
        &self,
        _: &TtrpcContext,
        request: api::StartRequest,
    ) -> ttrpc::Result<api::StartResponse> {
        info!("start");
        let process = ProcessRef::named(request.id, request.exec_id);
        let pid = run_to_end(self.clone().start_process(process)).await?;
        Ok(api::StartResponse { pid, ..Default::default() })
    }

    #[instrument(level = "error", skip_all, fields(container = request.id, exec = request.exec_id))]
    async fn state(
        &self,
        _: &TtrpcContext,
        request: api::StateRequest,
    ) -> ttrpc::Result<api::StateResponse> {
        let process = ProcessRef::named(request.id, request.exec_id);
        let state = self.pod(&process.container)?.state(&process).await;
        let state = state.map_err(|error| of_runtime(&error))?;
        Ok(api::StateResponse {
            exec_id: process.exec_id().to_owned(),
            id: process.container,
            bundle: state.bundle.to_string_lossy().into_owned(),
            pid: state.pid,
            status: EnumOrUnknown::new(task_status(state.status)),
            stdin: state.stdio.stdin,
            stdout: state.stdio.stdout,
            stderr: state.stdio.stderr,
            terminal: state.stdio.terminal,
            exit_status: state.exit.map_or(0, |exit| exit.status),
            exited_at: state.exit.map(|exit| timestamp(exit.at)).into(),
            ..Default::default()
        })
    }

    #[instrument(level = "error", skip_all, fields(container = request.id, exec = request.exec_id))]
    async fn wait(
        &self,
        _: &TtrpcContext,
        request: api::WaitRequest,
    ) -> ttrpc::Result<api::WaitResponse> {
        let process = ProcessRef::named(request.id, request.exec_id);
        let exit = self.pod(&process.container)?.wait(&process).await;
        let exit = exit.map_err(|error| of_runtime(&error))?;
        Ok(api::WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        })
    }

    #[instrument(level = "error", skip_all, fields(container = request.id, exec = request.exec_id))]
    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> ttrpc::Result<api::Empty> {
        info!(signal = request.signal, all = request.all, "kill");
        let process = ProcessRef::named(request.id, request.exec_id);
        let pod = self.pod(&process.container)?;
        let killed = pod.kill(&process, request.signal, request.all).await;
        killed.map_err(|error| of_runtime(&error))?;
        Ok(api::Empty::default())
    }

    #[instrument(level = "error", skip_all, fields(container = request.id, exec = request.exec_id))]
    async fn delete(
        &self,
        _: &TtrpcContext,
        request: api::DeleteRequest,
    ) -> ttrpc::Result<api::DeleteResponse> {
        info!("delete");
        let process = ProcessRef::named(request.id, request.exec_id);
        let (pid, exit) = run_to_end(self.clone().delete_process(process)).await?;
        Ok(api::DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        })
    }

    #[instrument(level = "error", skip_all, fields(container = request.id))]
    async fn pids(
        &self,
        _: &TtrpcContext,
        request: api::PidsRequest,
    ) -> ttrpc::Result<api::PidsResponse> {
        let id = request.id;
        let pids = self.pod(&id)?.pids(&id).await;
        let pids = pids.map_err(|error| of_runtime(&error))?;
        let processes = pids.into_iter().map(|pid| ProcessInfo {
            pid: pid.number,
            info: payload::details(pid.exec).into(),
            ..Default::default()
        });
        Ok(api::PidsResponse { processes: processes.collect(), ..Default::default() })
    }

    #[instrument(level = "error", skip_all, fields(container = request.id, exec = request.exec_id))]
    async fn close_io(
        &self,
        _: &TtrpcContext,
        request: api::CloseIORequest,
    ) -> ttrpc::Result<api::Empty> {
        let process = ProcessRef::named(request.id, request.exec_id);
        let pod = self.pod(&process.container)?;
        if request.stdin {
            pod.close_stdin(&process).await.map_err(|error| of_runtime(&error))?;
        }
        Ok(api::Empty::default())
    }

    #[instrument(level = "error", skip_all, fields(container = request.id, exec = request.exec_id))]
    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: api::ResizePtyRequest,
    ) -> ttrpc::Result<api::Empty> {
        let process = ProcessRef::named(request.id, request.exec_id);
        let pod = self.pod(&process.container)?;
        let resized = pod.resize(&process, request.width, request.height).await;
        resized.map_err(|error| of_runtime(&error))?;
        Ok(api::Empty::default())
    }

    #[instrument(level = "error", skip_all, fields(container = request.id))]
    async fn connect(
        &self,
        _: &TtrpcContext,
        request: api::ConnectRequest,
    ) -> ttrpc::Result<api::ConnectResponse> {
        let id = request.id;
        let pod = self.pod(&id)?;
        // containerd connects by the sandbox's own id after a restart; NotFound
        // makes it end the sandbox with all its containers.
        let task_pid = if self.service.is_sandbox(&id) {
            pod.pid()
        } else {
            let state = pod.state(&ProcessRef::init(&id)).await;
            state.map_err(|error| of_runtime(&error))?.pid
        };
        Ok(api::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    #[instrument(level = "error", skip_all)]
    async fn shutdown(
        &self,
        _: &TtrpcContext,
        request: api::ShutdownRequest,
    ) -> ttrpc::Result<api::Empty> {
        info!(container = request.id, "shutdown");
        // containerd calls it after each container. The shim ends with its last one,
        // or with its sandbox.
        if !self.service.sandbox().exists() {
            self.service.end_if_empty().await;
        }
        Ok(api::Empty::default())
    }

    #[instrument(level = "error", skip_all, fields(container = request.id, exec = request.exec_id))]
    async fn exec(
        &self,
        _: &TtrpcContext,
        request: api::ExecProcessRequest,
    ) -> ttrpc::Result<api::Empty> {
        info!("exec");
        run_to_end(self.clone().add_exec(request)).await?;
        Ok(api::Empty::default())
    }

    #[instrument(level = "error", skip_all, fields(container = request.id))]
    async fn pause(
        &self,
        _: &TtrpcContext,
        request: api::PauseRequest,
    ) -> ttrpc::Result<api::Empty> {
        info!("pause");
        run_to_end(self.clone().pause_container(request.id)).await?;
        Ok(api::Empty::default())
    }

    #[instrument(level = "error", skip_all, fields(container = request.id))]
    async fn resume(
        &self,
        _: &TtrpcContext,
        request: api::ResumeRequest,
    ) -> ttrpc::Result<api::Empty> {
        info!("resume");
        run_to_end(self.clone().resume_container(request.id)).await?;
        Ok(api::Empty::default())
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        _: api::CheckpointTaskRequest,
    ) -> ttrpc::Result<api::Empty> {
        Err(unimplemented("Checkpoint"))
    }

    #[instrument(level = "error", skip_all, fields(container = request.id))]
    async fn update(
        &self,
        _: &TtrpcContext,
        request: api::UpdateTaskRequest,
    ) -> ttrpc::Result<api::Empty> {
        info!("update");
        run_to_end(self.clone().update_container(request)).await?;
        Ok(api::Empty::default())
    }

    #[instrument(level = "error", skip_all, fields(container = request.id))]
    async fn stats(
        &self,
        _: &TtrpcContext,
        request: api::StatsRequest,
    ) -> ttrpc::Result<api::StatsResponse> {
        let id = request.id;
        let files = self.pod(&id)?.stats(&id).await;
        let files = files.map_err(|error| of_runtime(&error))?;
        let stats = MessageField::some(metrics::any(&metrics::of(&files)));
        Ok(api::StatsResponse { stats, ..Default::default() })
    }
}
