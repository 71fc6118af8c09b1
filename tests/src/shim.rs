//! The shim without containerd: started and called as containerd does it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, KillRequest,
    Mount, StartRequest, StartResponse, StateRequest, StateResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_sync::{Events, create_events};
use protobuf::Message;
use serde_json::Value;

use crate::{Bed, exec, paths, patience};

/// containerd's namespace that the tests use.
const NAMESPACE: &str = "default";
/// The service that every shim of containerd 1.6 and later has.
const TASK: &str = "containerd.task.v2.Task";
/// The longest that one call may take before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Calls of the Task service, each on a connection of its own.
#[derive(Clone)]
pub struct Rpc {
    address: String,
    id: String,
}

/// A shim with one task, and the events that it sent.
pub struct Shim {
    rpc: Rpc,
    bundle: PathBuf,
    fifos: PathBuf,
    events: Arc<Recorder>,
    server: ttrpc::Server,
}

/// Takes the place of containerd's event service.
#[derive(Default)]
struct Recorder {
    topics: Mutex<Vec<String>>,
}

impl Events for Recorder {
    fn forward(&self, _: &ttrpc::TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        self.topics.lock().unwrap().push(request.envelope.topic.clone());
        Ok(Default::default())
    }
}

impl Rpc {
    /// Calls `method` of the Task service.
    pub fn call<Q: Message, R: Message>(&self, method: &str, request: &Q) -> ttrpc::Result<R> {
        let client = ttrpc::Client::connect(&self.address)?;
        let mut call = ttrpc::Request::new();
        call.service = TASK.to_owned();
        call.method = method.to_owned();
        call.payload = request.write_to_bytes().unwrap();
        call.timeout_nano = i64::try_from(patience(LIMIT).as_nanos()).unwrap();
        Ok(R::parse_from_bytes(&client.request(call)?.payload).unwrap())
    }

    /// Lets the task run.
    pub fn start(&self) -> ttrpc::Result<StartResponse> {
        self.call("Start", &StartRequest { id: self.id.clone(), ..Default::default() })
    }

    /// Asks for the task's state.
    pub fn state(&self) -> ttrpc::Result<StateResponse> {
        self.call("State", &StateRequest { id: self.id.clone(), ..Default::default() })
    }

    /// Waits for the task's end.
    pub fn wait(&self) -> ttrpc::Result<WaitResponse> {
        self.call("Wait", &WaitRequest { id: self.id.clone(), ..Default::default() })
    }

    /// Sends a signal to the task's first process, or to all.
    pub fn kill(&self, signal: u32, all: bool) -> ttrpc::Result<Empty> {
        self.call("Kill", &KillRequest { id: self.id.clone(), signal, all, ..Default::default() })
    }

    /// Removes the ended task.
    pub fn delete(&self) -> ttrpc::Result<DeleteResponse> {
        self.call("Delete", &DeleteRequest { id: self.id.clone(), ..Default::default() })
    }
}

impl Shim {
    /// Makes the bundle and starts the shim; no task yet.
    pub(crate) fn start(bed: &Bed, id: &str, spec: Value) -> Self {
        let bundle = bed.dir().join("bundles").join(id);
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();

        let events = Arc::new(Recorder::default());
        let events_socket = bed.dir().join(format!("{id}.events"));
        let mut server = ttrpc::Server::new()
            .bind(&format!("unix://{}", events_socket.display()))
            .unwrap()
            .register_service(create_events(Arc::clone(&events) as Arc<dyn Events + Send + Sync>));
        server.start().unwrap();

        let log = File::create(bundle.join("shim.log")).unwrap();
        let answer = exec(
            command(bed, id, &bundle, &events_socket).arg("start").stderr(Stdio::from(log)),
            &[],
        );
        let address = answer.ok().text();
        assert!(address.starts_with("unix://"), "start answered {address:?}");
        let fifos = bundle.join("fifos");
        fs::create_dir(&fifos).unwrap();
        Self { rpc: Rpc { address, id: id.to_owned() }, bundle, fifos, events, server }
    }

    /// The calls.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// A FIFO of the bundle, to be named in [`Shim::create_with`].
    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.fifos.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        path
    }

    /// The Create request of this bundle, with the image as the root.
    pub fn request(&self, root: PathBuf) -> CreateTaskRequest {
        let mut mount = Mount::new();
        mount.type_ = "bind".to_owned();
        mount.source = root.display().to_string();
        mount.options = vec!["rbind".to_owned(), "rw".to_owned()];
        CreateTaskRequest {
            id: self.rpc.id.clone(),
            bundle: self.bundle.display().to_string(),
            rootfs: vec![mount],
            ..Default::default()
        }
    }

    /// Creates the task.
    pub fn create(&self, request: &CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        self.rpc.call("Create", request)
    }

    /// Topics of the events so far, in the order in which they came.
    pub fn topics(&self) -> Vec<String> {
        self.events.topics.lock().unwrap().clone()
    }

    /// Asks the shim to end, and waits until its socket is closed.
    pub fn shutdown(self) {
        let request = containerd_shim_protos::api::ShutdownRequest {
            id: self.rpc.id.clone(),
            ..Default::default()
        };
        // The answer may be lost with the process that gives it.
        let _ = self.rpc.call::<_, Empty>("Shutdown", &request);
        crate::until("the shim is gone", Duration::from_secs(5), || {
            ttrpc::Client::connect(&self.rpc.address).err()
        });
        self.server.shutdown();
    }
}

/// The shim's binary with the flags and variables that containerd gives.
pub fn command(bed: &Bed, id: &str, bundle: &std::path::Path, events: &std::path::Path) -> Command {
    let runtime = paths::runtime();
    let mut parts = runtime.rsplit('.');
    let (version, name) = (parts.next().unwrap(), parts.next().unwrap());
    let binary = format!("containerd-shim-{name}-{version}");
    let ours = paths::binaries().join(&binary);
    let mut command = Command::new(if ours.exists() { ours } else { PathBuf::from(binary) });
    command
        .current_dir(bundle)
        .args(["-namespace", NAMESPACE, "-id", id, "-publish-binary", "containerd", "-address"])
        .arg(bed.dir().join("c.sock"))
        .env("TTRPC_ADDRESS", events)
        .env("SANDBOX_CONFIG", bed.config());
    command
}

/// The gRPC code of a refused call.
pub fn code(error: &ttrpc::Error) -> Option<ttrpc::Code> {
    match error {
        ttrpc::Error::RpcStatus(status) => Some(status.code()),
        _ => None,
    }
}
