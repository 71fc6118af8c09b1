//! The shim without containerd: started and called as containerd does it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, Mount, PauseRequest,
    PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, StartRequest, StartResponse,
    StateRequest, StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest,
    WaitResponse,
};
use containerd_shim_protos::cgroups_v2::metrics::Metrics;
use containerd_shim_protos::events::task::{TaskExecAdded, TaskExecStarted, TaskExit};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_sync::{Events, create_events};
use protobuf::Message;
use serde_json::Value;

use crate::leftovers::EVENTS;
use crate::{Bed, Output, Process, containerd, exec, paths, patience};

/// containerd's namespace that the tests use.
const NAMESPACE: &str = "default";
/// The service that every shim of containerd 1.6 and later has.
const TASK: &str = "containerd.task.v2.Task";
/// The one of pods, which containerd 2 knows.
const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";
/// The longest that one call may take before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Calls of the Task service, each on a connection of its own.
#[derive(Clone)]
pub struct Rpc {
    address: String,
    id: String,
}

/// Calls about one process of a task that is not its first.
#[derive(Clone)]
pub struct ExecRpc {
    rpc: Rpc,
    exec: String,
}

/// A shim with one task, and the events that it sent.
pub struct Shim {
    rpc: Rpc,
    bundle: PathBuf,
    fifos: PathBuf,
    events: Arc<Recorder>,
    events_socket: PathBuf,
    server: ttrpc::Server,
}

/// Takes the place of containerd's event service.
#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<(String, String)>>,
}

impl Events for Recorder {
    fn forward(&self, _: &ttrpc::TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let event = &request.envelope.event.value;
        let topic = request.envelope.topic.clone();
        let of = match topic.as_str() {
            "/tasks/exec-added" => TaskExecAdded::parse_from_bytes(event).unwrap().exec_id,
            "/tasks/exec-started" => TaskExecStarted::parse_from_bytes(event).unwrap().exec_id,
            "/tasks/exit" => TaskExit::parse_from_bytes(event).unwrap().id,
            _ => String::new(),
        };
        self.told.lock().unwrap().push((topic, of));
        Ok(Default::default())
    }
}

impl Rpc {
    /// Calls `method` of the Task service.
    pub fn call<Q: Message, R: Message>(&self, method: &str, request: &Q) -> ttrpc::Result<R> {
        self.call_of(TASK, method, request)
    }

    /// Calls `method` of the Sandbox service.
    pub fn call_sandbox<Q: Message, R: Message>(
        &self,
        method: &str,
        request: &Q,
    ) -> ttrpc::Result<R> {
        self.call_of(SANDBOX, method, request)
    }

    fn call_of<Q: Message, R: Message>(
        &self,
        service: &str,
        method: &str,
        request: &Q,
    ) -> ttrpc::Result<R> {
        let client = ttrpc::Client::connect(&self.address)?;
        let mut call = ttrpc::Request::new();
        call.service = service.to_owned();
        call.method = method.to_owned();
        call.payload = request.write_to_bytes().unwrap();
        call.timeout_nano = i64::try_from(patience(LIMIT).as_nanos()).unwrap();
        Ok(R::parse_from_bytes(&client.request(call)?.payload).unwrap())
    }

    /// Calls about the task `id` to the shim at `socket`.
    pub(crate) fn to(socket: PathBuf, id: &str) -> Self {
        Self { address: format!("unix://{}", socket.display()), id: id.to_owned() }
    }

    /// Calls about the process of this exec id.
    pub fn exec(&self, exec: &str) -> ExecRpc {
        ExecRpc { rpc: self.clone(), exec: exec.to_owned() }
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

    /// Stops the task's processes.
    pub fn pause(&self) -> ttrpc::Result<Empty> {
        self.call("Pause", &PauseRequest { id: self.id.clone(), ..Default::default() })
    }

    /// Lets them go on.
    pub fn resume(&self) -> ttrpc::Result<Empty> {
        self.call("Resume", &ResumeRequest { id: self.id.clone(), ..Default::default() })
    }

    /// Changes limits.
    pub fn update(&self, resources: &Value) -> ttrpc::Result<Empty> {
        self.call("Update", &self.update_request(resources))
    }

    /// A request to do so.
    pub fn update_request(&self, resources: &Value) -> UpdateTaskRequest {
        let resources = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
            value: serde_json::to_vec(resources).unwrap(),
            ..Default::default()
        };
        UpdateTaskRequest {
            id: self.id.clone(),
            resources: Some(resources).into(),
            ..Default::default()
        }
    }

    /// What the task has used.
    pub fn stats(&self) -> ttrpc::Result<Metrics> {
        let request = StatsRequest { id: self.id.clone(), ..Default::default() };
        let answer: StatsResponse = self.call("Stats", &request)?;
        assert_eq!(answer.stats.type_url, "io.containerd.cgroups.v2.Metrics");
        Ok(Metrics::parse_from_bytes(&answer.stats.value).unwrap())
    }

    /// Ends the task's standard input.
    pub fn close_stdin(&self) -> ttrpc::Result<Empty> {
        self.call(
            "CloseIO",
            &CloseIORequest { id: self.id.clone(), stdin: true, ..Default::default() },
        )
    }

    /// Asks for the task's processes.
    pub fn pids(&self) -> ttrpc::Result<PidsResponse> {
        self.call("Pids", &PidsRequest { id: self.id.clone(), ..Default::default() })
    }

    /// Asks for the shim's pid and the task's.
    pub fn connect(&self) -> ttrpc::Result<ConnectResponse> {
        self.call("Connect", &ConnectRequest { id: self.id.clone(), ..Default::default() })
    }

    /// Removes the ended task.
    pub fn delete(&self) -> ttrpc::Result<DeleteResponse> {
        self.call("Delete", &DeleteRequest { id: self.id.clone(), ..Default::default() })
    }
}

impl ExecRpc {
    /// A request to add the process, without streams.
    pub fn request(&self, process: &Value) -> ExecProcessRequest {
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
            value: serde_json::to_vec(process).unwrap(),
            ..Default::default()
        };
        ExecProcessRequest {
            id: self.rpc.id.clone(),
            exec_id: self.exec.clone(),
            spec: Some(spec).into(),
            ..Default::default()
        }
    }

    /// Adds it.
    pub fn add(&self, request: &ExecProcessRequest) -> ttrpc::Result<Empty> {
        self.rpc.call("Exec", request)
    }

    /// Adds it, without streams, and lets it run.
    pub fn run(&self, process: &Value) -> ttrpc::Result<StartResponse> {
        self.add(&self.request(process))?;
        self.start()
    }

    /// Lets it run.
    pub fn start(&self) -> ttrpc::Result<StartResponse> {
        let (id, exec_id) = self.names();
        self.rpc.call("Start", &StartRequest { id, exec_id, ..Default::default() })
    }

    /// Asks for its state.
    pub fn state(&self) -> ttrpc::Result<StateResponse> {
        let (id, exec_id) = self.names();
        self.rpc.call("State", &StateRequest { id, exec_id, ..Default::default() })
    }

    /// Waits for its end.
    pub fn wait(&self) -> ttrpc::Result<WaitResponse> {
        let (id, exec_id) = self.names();
        self.rpc.call("Wait", &WaitRequest { id, exec_id, ..Default::default() })
    }

    /// Sends it a signal.
    pub fn kill(&self, signal: u32) -> ttrpc::Result<Empty> {
        let (id, exec_id) = self.names();
        self.rpc.call("Kill", &KillRequest { id, exec_id, signal, ..Default::default() })
    }

    /// Ends its standard input.
    pub fn close_stdin(&self) -> ttrpc::Result<Empty> {
        let (id, exec_id) = self.names();
        let request = CloseIORequest { id, exec_id, stdin: true, ..Default::default() };
        self.rpc.call("CloseIO", &request)
    }

    /// Sets the size of its terminal.
    pub fn resize(&self, width: u32, height: u32) -> ttrpc::Result<Empty> {
        let (id, exec_id) = self.names();
        let request = ResizePtyRequest { id, exec_id, width, height, ..Default::default() };
        self.rpc.call("ResizePty", &request)
    }

    /// Removes it.
    pub fn delete(&self) -> ttrpc::Result<DeleteResponse> {
        let (id, exec_id) = self.names();
        self.rpc.call("Delete", &DeleteRequest { id, exec_id, ..Default::default() })
    }

    fn names(&self) -> (String, String) {
        (self.rpc.id.clone(), self.exec.clone())
    }
}

impl Shim {
    /// Makes the bundle and starts the shim; no task yet.
    pub(crate) fn start(bed: &Bed, id: &str, spec: Value) -> Self {
        Self::in_bundle(bed, id, make_bundle(bed, id, Some(spec)))
    }

    /// The same for a sandbox, whose bundle has no spec; no sandbox yet.
    pub(crate) fn start_without_spec(bed: &Bed, id: &str) -> Self {
        Self::in_bundle(bed, id, make_bundle(bed, id, None))
    }

    fn in_bundle(bed: &Bed, id: &str, bundle: PathBuf) -> Self {
        let events = Arc::new(Recorder::default());
        let events_socket = bed.dir().join(format!("{id}{EVENTS}"));
        let server = serve(&events, &events_socket);

        keep_log(&bundle);
        let answer = exec(command(bed, id, &bundle, &events_socket).arg("start"), &[]);
        let address = answer.ok().text();
        assert!(address.starts_with("unix://"), "start answered {address:?}");
        let fifos = bundle.join("fifos");
        fs::create_dir(&fifos).unwrap();
        let rpc = Rpc { address, id: id.to_owned() };
        Self { rpc, bundle, fifos, events, events_socket, server }
    }

    /// The calls.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// What the shim has written to its log.
    pub fn log(&self) -> PathBuf {
        self.bundle.join("shim.log")
    }

    /// A FIFO of the bundle, to be named in [`Shim::create_with`].
    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.fifos.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        path
    }

    /// The Create request of this bundle, with the image as the root.
    pub fn request(&self, root: PathBuf) -> CreateTaskRequest {
        self.request_on(vec![bind(&root)])
    }

    /// The same, with these mounts as the root.
    pub fn request_on(&self, rootfs: Vec<Mount>) -> CreateTaskRequest {
        request(&self.rpc.id, &self.bundle, rootfs)
    }

    /// Makes another task of the same pod, as containerd 2 does: no program is
    /// run for it. What it writes goes to the file that is the second answer.
    pub fn member(&self, bed: &Bed, id: &str, spec: Value) -> ttrpc::Result<(Rpc, PathBuf)> {
        self.member_on(bed, id, spec, vec![bind(&bed.rootfs(id))])
    }

    /// The same, with these mounts as its root.
    pub fn member_on(
        &self,
        bed: &Bed,
        id: &str,
        spec: Value,
        rootfs: Vec<Mount>,
    ) -> ttrpc::Result<(Rpc, PathBuf)> {
        let bundle = make_bundle(bed, id, Some(spec));
        let out = bundle.join("out");
        let rpc = Rpc { address: self.rpc.address.clone(), id: id.to_owned() };
        let mut request = request(id, &bundle, rootfs);
        request.stdout = format!("file://{}", out.display());
        rpc.call::<_, CreateTaskResponse>("Create", &request)?;
        Ok((rpc, out))
    }

    /// Creates the task.
    pub fn create(&self, request: &CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        self.rpc.call("Create", request)
    }

    /// Creates, starts, waits for and deletes the task, Delete at once after
    /// Wait; gives the exit code and what the streams held when Delete had
    /// returned. An error of Create is given as exit code 125 and its message
    /// as standard error, as `ctr` would show it.
    pub fn run(self, root: PathBuf, stdin: &[u8]) -> Output {
        self.run_on(vec![bind(&root)], stdin)
    }

    /// The same, with these mounts as the root.
    pub fn run_on(self, rootfs: Vec<Mount>, stdin: &[u8]) -> Output {
        let fifos = ["in", "out", "err"].map(|name| self.fifo(name));
        let mut request = self.request_on(rootfs);
        request.stdin = fifos[0].display().to_string();
        request.stdout = fifos[1].display().to_string();
        request.stderr = fifos[2].display().to_string();
        let readers = [&fifos[1], &fifos[2]].map(|path| open_reader(path));
        let mut writer = File::options().read(true).write(true).open(&fifos[0]).unwrap();
        if let Err(error) = self.create(&request) {
            self.shutdown();
            return Output { code: 125, stdout: vec![], stderr: error.to_string().into_bytes() };
        }
        let [out, err] = readers.map(|mut reader| {
            thread::spawn(move || {
                let mut data = vec![];
                reader.read_to_end(&mut data).unwrap();
                data
            })
        });
        self.rpc.start().unwrap();
        let (rpc, bytes) = (self.rpc.clone(), stdin.to_vec());
        let feeder = thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            // A process that has ended already has no input to close.
            let _ = rpc.close_stdin();
        });
        let code = self.rpc.wait().unwrap().exit_status;
        self.rpc.delete().unwrap();
        let (stdout, stderr) = (out.join().unwrap(), err.join().unwrap());
        feeder.join().unwrap();
        self.shutdown();
        Output { code: i32::try_from(code).unwrap(), stdout, stderr }
    }

    /// Processes of this shim: itself and what it started, but for guests'
    /// memory they are the cost of a pod.
    pub fn processes(&self) -> Vec<Process> {
        let me = std::process::id().try_into().unwrap();
        let all = Process::below(me);
        let id = &self.rpc.id;
        let Some(shim) = all.iter().find(|p| p.arguments().contains(id)) else { return vec![] };
        let mut found = Process::below(shim.pid);
        found.push(shim.clone());
        found
    }

    /// Topics of the events so far, in the order in which they came.
    pub fn topics(&self) -> Vec<String> {
        self.told().into_iter().map(|(topic, _)| topic).collect()
    }

    /// The same, each with the id of the process: for exits and of execs.
    pub fn told(&self) -> Vec<(String, String)> {
        self.events.told.lock().unwrap().clone()
    }

    /// Takes no events for that long, while `meanwhile` is done, as if containerd
    /// had ended and were started again.
    pub fn without_containerd(&mut self, time: Duration, meanwhile: impl FnOnce(&Self)) {
        let end = Instant::now() + time;
        let gone = std::mem::take(&mut self.server);
        gone.shutdown();
        fs::remove_file(&self.events_socket).unwrap();
        meanwhile(self);
        thread::sleep(end.saturating_duration_since(Instant::now()));
        self.server = serve(&self.events, &self.events_socket);
    }

    /// What containerd does when it has lost the shim: the shim's binary cleans
    /// up.
    pub fn clean_up(self, bed: &Bed) {
        let mut command = command(bed, &self.rpc.id, &self.bundle, &self.events_socket);
        exec(command.arg("delete"), &[]).ok();
        self.gone();
    }

    /// Asks the shim to end, and waits until its socket is closed.
    pub fn shutdown(self) {
        let request = containerd_shim_protos::api::ShutdownRequest {
            id: self.rpc.id.clone(),
            ..Default::default()
        };
        // The answer may be lost with the process that gives it.
        let _ = self.rpc.call::<_, Empty>("Shutdown", &request);
        self.gone();
    }

    /// Waits until its socket is closed.
    pub(crate) fn gone(self) {
        crate::until("the shim is gone", Duration::from_secs(5), || {
            ttrpc::Client::connect(&self.rpc.address).err()
        });
        self.server.shutdown();
    }
}

/// A bundle as containerd makes it.
fn make_bundle(bed: &Bed, id: &str, spec: Option<Value>) -> PathBuf {
    let bundle = bed.dir().join("bundles").join(id);
    fs::create_dir_all(bundle.join("rootfs")).unwrap();
    if let Some(spec) = spec {
        fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    }
    bundle
}

fn request(id: &str, bundle: &Path, rootfs: Vec<Mount>) -> CreateTaskRequest {
    CreateTaskRequest {
        id: id.to_owned(),
        bundle: bundle.display().to_string(),
        rootfs,
        ..Default::default()
    }
}

/// A mount as containerd's snapshotters name it.
pub fn rootfs_mount(kind: &str, source: &Path, options: &[&str]) -> Mount {
    Mount {
        type_: kind.to_owned(),
        source: source.display().to_string(),
        options: options.iter().map(|word| (*word).to_owned()).collect(),
        ..Default::default()
    }
}

fn bind(root: &Path) -> Mount {
    rootfs_mount("bind", root, &["rbind", "rw"])
}

/// Takes events at `socket`.
fn serve(events: &Arc<Recorder>, socket: &Path) -> ttrpc::Server {
    let mut server = ttrpc::Server::new()
        .bind(&format!("unix://{}", socket.display()))
        .unwrap()
        .register_service(create_events(Arc::clone(events) as Arc<dyn Events + Send + Sync>));
    server.start().unwrap();
    server
}

/// Makes the FIFO into which a shim writes its log, and keeps what comes.
fn keep_log(bundle: &Path) {
    let path = bundle.join("log");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    // Open for writing as well, so that it never ends.
    let mut fifo = File::options().read(true).write(true).open(path).unwrap();
    let mut log = File::create(bundle.join("shim.log")).unwrap();
    thread::spawn(move || std::io::copy(&mut fifo, &mut log));
}

/// The shim's binary with the flags and variables that containerd gives.
pub fn command(bed: &Bed, id: &str, bundle: &Path, events: &Path) -> Command {
    let runtime = paths::runtime();
    let mut parts = runtime.rsplit('.');
    let (version, name) = (parts.next().unwrap(), parts.next().unwrap());
    let binary = format!("containerd-shim-{name}-{version}");
    let ours = bed.shim_folder().join(&binary);
    let mut command = Command::new(if ours.exists() { ours } else { PathBuf::from(binary) });
    command
        .current_dir(bundle)
        .args(["-namespace", NAMESPACE, "-id", id, "-publish-binary", "containerd", "-address"])
        .arg(bed.dir().join("c.sock"))
        .env("TTRPC_ADDRESS", events)
        .env("SANDBOX_CONFIG", bed.config())
        .env("SANDBOX_KILL_AT", containerd::kill_at(bed.dir()));
    command
}

/// Opens the reading end of a FIFO before anyone writes to it. Reads see the
/// end only when there was a writer: open first, create the task, then read.
pub fn open_reader(fifo: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(fifo).unwrap();
    let flags = nix::fcntl::OFlag::empty();
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    file
}

/// The gRPC code of a refused call.
pub fn code(error: &ttrpc::Error) -> Option<ttrpc::Code> {
    match error {
        ttrpc::Error::RpcStatus(status) => Some(status.code()),
        _ => None,
    }
}
