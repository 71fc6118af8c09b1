//! A pod that is made before its containers, as containerd 2 asks for it with
//! `sandboxer = "shim"`.

use std::path::PathBuf;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
    PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
    SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest,
    StartSandboxResponse, StopSandboxRequest, StopSandboxResponse, WaitSandboxRequest,
    WaitSandboxResponse,
};
use serde_json::Value;

use crate::{Bed, Rpc, Shim};

/// containerd's name for what the CRI says of a sandbox.
const CONFIG: &str = "runtime.v1.PodSandboxConfig";

/// A shim without containers of its own, and the calls of its sandbox.
pub struct Sandbox {
    shim: Shim,
    id: String,
}

/// What a sandbox is to be.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Path of its network namespace; a new one if empty.
    pub netns: String,
    /// Its host name.
    pub hostname: String,
    /// Its DNS servers.
    pub servers: Vec<String>,
    /// Its sysctls.
    pub sysctls: Vec<(String, String)>,
}

impl Wanted {
    /// As a message of the CRI (k8s.io/cri-api, `runtime/v1/api.proto`): the
    /// host name is field 2, the servers are fields 1 of field 4, the sysctls
    /// fields 3 of field 8, each with key and value.
    fn options(&self) -> Any {
        let field = |number: u8, bytes: &[u8]| {
            let length = u8::try_from(bytes.len()).unwrap();
            assert!(length < 128, "a length of one byte");
            [&[number << 3 | 2, length], bytes].concat()
        };
        let servers: Vec<u8> =
            self.servers.iter().flat_map(|server| field(1, server.as_bytes())).collect();
        let sysctls = self.sysctls.iter().flat_map(|(key, value)| {
            field(3, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
        });
        let linux = field(8, &sysctls.collect::<Vec<_>>());
        let value = [field(2, self.hostname.as_bytes()), field(4, &servers), linux].concat();
        Any { type_url: CONFIG.to_owned(), value, ..Default::default() }
    }
}

impl Sandbox {
    pub(crate) fn start(bed: &Bed, id: &str) -> Self {
        Self { shim: Shim::start_without_spec(bed, id), id: id.to_owned() }
    }

    /// The shim.
    pub fn shim(&self) -> &Shim {
        &self.shim
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn rpc(&self) -> &Rpc {
        self.shim.rpc()
    }

    /// The request to make it.
    pub fn request(&self, wanted: &Wanted) -> CreateSandboxRequest {
        CreateSandboxRequest {
            sandbox_id: self.id.clone(),
            netns_path: wanted.netns.clone(),
            options: Some(wanted.options()).into(),
            ..Default::default()
        }
    }

    /// Makes it.
    pub fn create(&self, request: &CreateSandboxRequest) -> ttrpc::Result<CreateSandboxResponse> {
        self.rpc().call_sandbox("CreateSandbox", request)
    }

    /// Has it run.
    pub fn begin(&self) -> ttrpc::Result<StartSandboxResponse> {
        let request = StartSandboxRequest { sandbox_id: self.id.clone(), ..Default::default() };
        self.rpc().call_sandbox("StartSandbox", &request)
    }

    /// Makes a container in it; the file is where its output goes.
    pub fn container(&self, bed: &Bed, name: &str, spec: Value) -> ttrpc::Result<(Rpc, PathBuf)> {
        self.shim.member(bed, &bed.id(name), spec)
    }

    /// What it runs on.
    pub fn platform(&self) -> ttrpc::Result<PlatformResponse> {
        let request = PlatformRequest { sandbox_id: self.id.clone(), ..Default::default() };
        self.rpc().call_sandbox("Platform", &request)
    }

    /// How it is.
    pub fn status(&self) -> ttrpc::Result<SandboxStatusResponse> {
        let request = SandboxStatusRequest {
            sandbox_id: self.id.clone(),
            verbose: true,
            ..Default::default()
        };
        self.rpc().call_sandbox("SandboxStatus", &request)
    }

    /// Whether it answers.
    pub fn ping(&self) -> ttrpc::Result<PingResponse> {
        let request = PingRequest { sandbox_id: self.id.clone(), ..Default::default() };
        self.rpc().call_sandbox("PingSandbox", &request)
    }

    /// What its containers have used.
    pub fn metrics(&self) -> ttrpc::Result<SandboxMetricsResponse> {
        let request = SandboxMetricsRequest { sandbox_id: self.id.clone(), ..Default::default() };
        self.rpc().call_sandbox("SandboxMetrics", &request)
    }

    /// Waits for its end.
    pub fn wait(&self) -> ttrpc::Result<WaitSandboxResponse> {
        let request = WaitSandboxRequest { sandbox_id: self.id.clone(), ..Default::default() };
        self.rpc().call_sandbox("WaitSandbox", &request)
    }

    /// Ends it.
    pub fn stop(&self) -> ttrpc::Result<StopSandboxResponse> {
        let request = StopSandboxRequest { sandbox_id: self.id.clone(), ..Default::default() };
        self.rpc().call_sandbox("StopSandbox", &request)
    }

    /// Ends its shim, too.
    pub fn shutdown(self) {
        // The answer may be lost with the process that gives it.
        let _ = self.end();
        self.shim.gone();
    }

    /// Asks for that.
    pub fn end(&self) -> ttrpc::Result<ShutdownSandboxResponse> {
        let request = ShutdownSandboxRequest { sandbox_id: self.id.clone(), ..Default::default() };
        self.rpc().call_sandbox("ShutdownSandbox", &request)
    }

    /// What containerd does when it has lost the shim.
    pub fn clean_up(self, bed: &Bed) {
        self.shim.clean_up(bed);
    }
}
