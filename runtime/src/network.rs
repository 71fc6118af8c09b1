//! The network of a pod: its namespace, interface and policies, and their
//! transfer to the `io` process and to the guest.

mod client;
mod developer;
mod guest;
mod interface;
mod listeners;
mod namespace;
mod netlink;
mod plan;
mod policy;
mod resolv;
mod scan;
mod setting;
mod store;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sandbox_agent_protocol::agent::ConfigureNetworkRequest;
use sandbox_vm_spec::network::{Network as Setting, Request};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tracing::Instrument;

use crate::agent::{Agent, AgentError};
use crate::end::EndSignal;
use crate::failure::ErrorKind;

pub use client::{Client, ClientError};
pub use namespace::NamespaceError;
pub use policy::PolicyError;
pub(crate) use policy::names as policy_names;
pub use setting::{Set, SetError, set_policy};
pub use store::{Policies, pod_audit, pod_policies};

pub(crate) use plan::{AUDIT_MAX, Files, Plan, SetUpError};

/// How long the `io` process may take until it serves: it starts with the pod,
/// on a host that may start many at once.
const STARTING: Duration = Duration::from_secs(60);

/// A network that a pod cannot have.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(
        "the container asks for the host's network{how}; sandboxes get it only where the node's \
         configuration (/etc/sandbox/config.toml) has allow_host = true in its [network] section"
    )]
    Host { how: &'static str },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The kernel does not list the interfaces.
    #[error("cannot list the interfaces of the {0}'s network namespace")]
    Scan(&'static str, #[source] io::Error),
    #[error("cannot {what} {path}", path = path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A task of this process panicked or was cancelled.
    #[error("cannot set the network: the task was cancelled")]
    Cut,
}

impl NetworkError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Namespace(NamespaceError::Open { .. } | NamespaceError::NotOne { .. })
            | Self::Host { .. } => ErrorKind::FailedPrecondition,
            Self::Policy(e) => e.kind(),
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            _ => ErrorKind::Internal,
        }
    }
}

/// The settings of a guest with a network.
struct Configured {
    guest: ConfigureNetworkRequest,
    /// Whether the namespace gets the guest's listeners.
    listens: bool,
}

/// The network of a pod that runs.
pub(crate) struct Network {
    plan: Plan,
    socket: PathBuf,
    resolv_conf: PathBuf,
    configured: OnceCell<Option<Configured>>,
    guest: OnceCell<()>,
}

impl Network {
    /// Of a plan whose `io` process was started with a socket.
    pub fn new(plan: Plan, socket: PathBuf, resolv_conf: PathBuf) -> Self {
        let (configured, guest) = Default::default();
        Self { plan, socket, resolv_conf, configured, guest }
    }

    /// The resolv.conf of containers whose spec mounts none.
    pub fn resolv_conf(&self) -> Option<&PathBuf> {
        self.plan.has_resolv_conf().then_some(&self.resolv_conf)
    }

    /// Whether it is to be configured no earlier than when the first process is
    /// to run.
    pub fn is_set_up_later(&self) -> bool {
        self.plan.is_set_up_later()
    }

    /// Returns once the `io` process is in the pod's namespace.
    pub async fn entered(&self) -> Result<(), NetworkError> {
        let socket = self.socket.clone();
        blocking(move || Ok(Client::with_timeout(&socket, STARTING)?.tell(&Request::Ping)?)).await
    }

    /// Reads the interface of the namespace, which is set up by now, and sends
    /// it to the `io` process. Once for each pod.
    pub async fn configure(&self) -> Result<(), NetworkError> {
        let configured = self.configured.get_or_try_init(|| async {
            let (plan, socket) = (self.plan.clone(), self.socket.clone());
            blocking(move || {
                let Some((setting, guest)) = plan.settle()? else { return Ok(None) };
                let listens = !setting.outside;
                tell(&socket, setting)?;
                Ok(Some(Configured { guest, listens }))
            })
            .await
        });
        configured.await.map(drop)
    }

    /// Gives the guest its addresses, and lets the namespace have its
    /// listeners from then on. Once for each pod, after [`Self::configure`].
    pub async fn configure_guest(
        &self,
        agent: &Agent,
        ended: &EndSignal,
    ) -> Result<(), AgentError> {
        let Some(configured) = self.configured.get() else { return Ok(()) };
        // Without a network the guest detaches its device.
        let none = ConfigureNetworkRequest::default();
        let (guest, listens) =
            configured.as_ref().map_or((&none, false), |set| (&set.guest, set.listens));
        let set = self.guest.get_or_try_init(|| async {
            agent.configure_network(guest).await?;
            if listens {
                let (agent, socket) = (agent.clone(), self.socket.clone());
                let follow = listeners::follow(agent, socket, ended.clone());
                tokio::spawn(follow.in_current_span());
            }
            Ok(())
        });
        set.await.map(drop)
    }
}

fn tell(socket: &std::path::Path, setting: Setting) -> Result<(), NetworkError> {
    let mut client = Client::with_timeout(socket, STARTING)?;
    Ok(client.tell(&Request::Configure(Box::new(setting)))?)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    spawn_blocking(work).await.unwrap_or(Err(NetworkError::Cut))
}
